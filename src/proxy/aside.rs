//! A signal that waits beside something busy.
//!
//! Waiting for a `Notify` or a cancellation takes its lock at every poll, and a connection is polled
//! several times per request, by every worker. Here the signal is polled only when it has rung, and
//! a poll for nothing costs an atomic or two of this connection's own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::stream::Bell;

/// Resolves as `signal` does.
pub(super) struct Aside<F> {
    signal: F,
    bell: Bell,
}

impl<F: Future + Unpin> Aside<F> {
    pub(super) fn new(signal: F) -> Self {
        Self { signal, bell: Bell::new() }
    }
}

impl<F: Future + Unpin> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.bell.has_rung(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut this.signal).poll(&mut this.bell.context())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_signal_is_heard_from_another_task() {
        let notify = Arc::new(Notify::new());
        let mut aside = Aside::new(Box::pin({
            let notify = notify.clone();
            async move { notify.notified().await }
        }));
        assert!(futures_util::poll!(&mut aside).is_pending());
        assert!(futures_util::poll!(&mut aside).is_pending());
        let heard = tokio::spawn(aside);
        tokio::task::yield_now().await;
        notify.notify_one();
        heard.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_signal_that_came_before_the_first_poll_is_heard() {
        let notify = Notify::new();
        notify.notify_one();
        Aside::new(pin!(notify.notified())).await;
    }
}
