//! The stream that hyper reads.
//!
//! hyper asks for bytes whenever its task runs, several times per request and mostly for nothing;
//! with TLS below, each time costs as much as parsing a head. Here what has said that it has nothing
//! is asked again only when it has rung.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::bell::Bell;
use super::writes_through;

pub struct Gate<S> {
    stream: S,
    bell: Bell,
    /// There was nothing the last time.
    waits: bool,
}

impl<S> Gate<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, bell: Bell::new(), waits: false }
    }

    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.bell.has_rung(cx) && this.waits {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.stream).poll_read(&mut this.bell.context(), buf);
        this.waits = polled.is_pending();
        polled
    }
}

writes_through!(Gate);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Counts how often it is asked.
    struct Counted<S>(S, Arc<AtomicUsize>);

    impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    #[tokio::test]
    async fn what_has_nothing_is_asked_again_when_it_has_rung() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let asked = Arc::<AtomicUsize>::default();
        let mut gate = Gate::new(Counted(stream, asked.clone()));
        let mut some = [0; 8];
        let mut reading = std::pin::pin!(gate.read(&mut some));
        for _ in 0..5 {
            assert!(futures_util::poll!(reading.as_mut()).is_pending());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let (read, written) = tokio::join!(reading, peer.write_all(b"abc"));
        assert_eq!((read.expect("bytes"), written.is_ok()), (3, true));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        drop(peer);
        assert_eq!(gate.read(&mut some).await.expect("the end"), 0);
    }

    #[tokio::test]
    async fn another_task_may_take_it_over() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let mut gate = Gate::new(stream);
        assert!(futures_util::poll!(std::pin::pin!(gate.read_u8())).is_pending());
        let reading = tokio::spawn(async move { gate.read_u8().await });
        tokio::task::yield_now().await;
        peer.write_all(b"x").await.expect("room");
        assert_eq!(reading.await.expect("no panic").expect("a byte"), b'x');
    }
}
