//! A deadline that is moved often and seldom reached.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Moving it is one store. The timer itself is touched only when it fires too early, or would
/// fire too late: twice per period, not twice per request.
#[derive(Default)]
pub(super) struct Deadline {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(super) fn start(&mut self, after: Duration) {
        self.at = Some(Instant::now() + after);
    }

    pub(super) fn start_unless_running(&mut self, after: Duration) {
        if self.at.is_none() {
            self.start(after);
        }
    }

    pub(super) fn stop(&mut self) {
        self.at = None;
    }

    /// Ready when the deadline has passed; never while it is stopped.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_that_moves_is_reached_where_it_stands_last() {
        let mut deadline = Deadline::default();
        let start = Instant::now();
        for ms in [60_000, 10, 50] {
            deadline.start(Duration::from_millis(ms));
            let passed = futures_util::poll!(std::future::poll_fn(|cx| deadline.poll(cx)));
            assert!(passed.is_pending());
        }
        std::future::poll_fn(|cx| deadline.poll(cx)).await;
        let elapsed = start.elapsed();
        assert!((Duration::from_millis(50)..Duration::from_secs(5)).contains(&elapsed));
    }
}
