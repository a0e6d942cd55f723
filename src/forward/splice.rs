//! Two byte streams joined until both have ended: blind tunnels and WebSockets.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::registry::Activity;
use crate::stream::writes_through;

/// Large enough that a busy tunnel is not bound by system calls, small enough for many idle ones.
const BUFFER_BYTES: usize = 16 * 1024;
/// After one side has ended its half, the other may go on for as long as bytes move.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Bytes that passed.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Passed {
    pub from_client: u64,
    pub to_client: u64,
}

/// Joins the two until both have ended, an error, `idle` without a byte, or the end of `activity`.
/// A half-close is passed on.
pub async fn splice<C, O>(client: C, origin: O, activity: &Arc<Activity>, idle: Duration) -> Passed
where
    C: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client, mut origin) = (Counted::new(client), Counted::new(origin));
    {
        let joined = tokio::io::copy_bidirectional_with_sizes(
            &mut client,
            &mut origin,
            BUFFER_BYTES,
            BUFFER_BYTES,
        );
        tokio::pin!(joined);
        let quiet = quiet_for(activity, idle);
        tokio::select! {
            _ = &mut joined => {}
            () = activity.killed() => {}
            () = quiet => {}
        }
    }
    Passed { from_client: client.read, to_client: origin.read }
}

/// Resolves when nothing moved for `idle`.
async fn quiet_for(activity: &Activity, idle: Duration) {
    loop {
        tokio::time::sleep(CHECK_EVERY.min(idle)).await;
        if activity.quiet() > idle {
            return;
        }
    }
}

/// Counts what is read, so that bytes are known however the copy ends.
struct Counted<S> {
    stream: S,
    read: u64,
}

impl<S> Counted<S> {
    fn new(stream: S) -> Self {
        Self { stream, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read += (buf.filled().len() - before) as u64;
        polled
    }
}

writes_through!(Counted);
