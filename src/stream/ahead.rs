//! The socket that TLS reads.
//!
//! rustls asks for 4 KiB at a time, five system calls for one full record. Here a stream that fills
//! what it is asked for is read further ahead, with a buffer that is there only while bytes stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::writes_through;

/// Two records of TLS.
const AHEAD_BYTES: usize = 32 * 1024;

pub struct Ahead<S> {
    stream: S,
    /// Read, but not asked for yet.
    held: BytesMut,
    /// The last read filled its buffer, so there is likely to be more.
    streams: bool,
}

impl<S> Ahead<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, held: BytesMut::new(), streams: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, held, streams } = &mut *self;
        if held.is_empty() {
            if !*streams {
                let room = buf.remaining();
                ready!(Pin::new(stream).poll_read(cx, buf))?;
                *streams = buf.remaining() == 0 && room > 0;
                return Poll::Ready(Ok(()));
            }
            held.reserve(AHEAD_BYTES);
            let read = poll_read_buf(Pin::new(stream), cx, held);
            if let Poll::Ready(Ok(read)) = read {
                *streams = read > buf.remaining();
            }
            if held.is_empty() {
                // A connection may wait for long.
                *held = BytesMut::new();
            }
            ready!(read)?;
        }
        let some = held.len().min(buf.remaining());
        buf.put_slice(&held[..some]);
        held.advance(some);
        if held.is_empty() && !*streams {
            *held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

writes_through!(Ahead);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Gives what it has in pieces of these sizes, and waits before each.
    struct Pieces {
        all: Bytes,
        sizes: Vec<usize>,
        waited: bool,
        asked: Arc<AtomicUsize>,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut self.waited, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let some = self.sizes.pop().unwrap_or(9000).min(self.all.len()).min(buf.remaining());
            buf.put_slice(&self.all.split_to(some));
            self.waited = false;
            Poll::Ready(Ok(()))
        }
    }

    fn pieces(bytes: usize, sizes: Vec<usize>) -> Pieces {
        let all = (0..bytes).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
        Pieces { all, sizes, waited: false, asked: Arc::default() }
    }

    /// Reads to the end in pieces of `most`, as rustls does.
    async fn read(ahead: &mut Ahead<Pieces>, most: usize) -> Vec<u8> {
        let (mut all, mut some) = (Vec::new(), vec![0; most]);
        loop {
            match ahead.read(&mut some).await.expect("no error") {
                0 => return all,
                read => all.extend_from_slice(&some[..read]),
            }
        }
    }

    proptest! {
        #[test]
        fn every_byte_comes_once_and_in_order(
            bytes in 0usize..200_000,
            sizes in prop::collection::vec(1usize..70_000, 0..40),
            most in 500usize..9000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let stream = pieces(bytes, sizes);
            let expected = stream.all.clone();
            let mut ahead = Ahead::new(stream);
            let read = runtime.block_on(read(&mut ahead, most));
            prop_assert!(read == expected);
            prop_assert_eq!(ahead.held.capacity(), 0, "no buffer is left");
        }
    }

    #[tokio::test]
    async fn a_stream_is_read_in_larger_pieces_than_it_is_asked_for() {
        let bytes = 100 * AHEAD_BYTES;
        let stream = pieces(bytes, vec![usize::MAX; 1000]);
        let asked = stream.asked.clone();
        assert_eq!(read(&mut Ahead::new(stream), 4096).await.len(), bytes);
        let reads = asked.load(Ordering::Relaxed) / 2;
        assert!(reads < bytes / AHEAD_BYTES + 10, "{reads} reads");
    }
}
