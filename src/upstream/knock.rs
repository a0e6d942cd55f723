//! Who is woken when a connection can go on.
//!
//! hyper's halves of a connection wake each other: who takes a piece of a body wakes whoever reads
//! it from the socket, and who sends a request wakes whoever writes it. Here both are one task, and
//! it drives the connection itself before it waits. Such a wake would poll that task, and all that
//! is in it, once more for nothing: one poll in three.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The waker of one connection.
pub(super) struct Knock {
    door: Arc<Door>,
    waker: Waker,
}

/// Wakes the task that drives the connection, unless it stands at the door itself.
#[derive(Default)]
struct Door {
    task: AtomicWaker,
    state: AtomicU8,
}

/// The task is here and will look for itself.
const ATTENDED: u8 = 1;
const KNOCKED: u8 = 2;

impl Wake for Door {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(KNOCKED, Ordering::AcqRel) & ATTENDED == 0 {
            self.task.wake();
        }
    }
}

impl Default for Knock {
    fn default() -> Self {
        let door = Arc::<Door>::default();
        Self { waker: Waker::from(door.clone()), door }
    }
}

impl Knock {
    /// For polling the connection: from now on it is the task of `cx` that is woken.
    pub(super) fn context(&self, cx: &Context<'_>) -> Context<'_> {
        self.door.task.register(cx.waker());
        Context::from_waker(&self.waker)
    }

    /// Does something that knocks, by the task that would be woken. Where it comes to nothing the
    /// task may wait next, so a knock from elsewhere is passed on.
    pub(super) fn attend<T>(&self, cx: &Context<'_>, act: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let (result, knocked) = self.listen(act);
        if knocked && result.is_pending() {
            cx.waker().wake_by_ref();
        }
        result
    }

    /// Does something that knocks, right before the connection is driven.
    pub(super) fn unheard<T>(&self, act: impl FnOnce() -> T) -> T {
        self.listen(act).0
    }

    fn listen<T>(&self, act: impl FnOnce() -> T) -> (T, bool) {
        self.door.state.store(ATTENDED, Ordering::Release);
        let result = act();
        (result, self.door.state.swap(0, Ordering::AcqRel) & KNOCKED != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Count;

    #[test]
    fn only_a_knock_that_nobody_looked_after_wakes_the_task() {
        let count = Arc::<Count>::default();
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let woken = || count.0.swap(0, Ordering::Relaxed);
        let knock = Knock::default();
        let connection = knock.context(&cx).waker().clone();

        connection.wake_by_ref();
        assert_eq!(woken(), 1, "from elsewhere, while the task waits");
        let act = |result| {
            knock.attend(&cx, || {
                connection.wake_by_ref();
                result
            })
        };
        assert!(act(Poll::Ready(())).is_ready() && woken() == 0, "the task goes on by itself");
        assert!(act(Poll::Pending).is_pending() && woken() == 1, "the task may wait now");
        assert!(knock.attend(&cx, || Poll::<()>::Pending).is_pending() && woken() == 0);
        knock.context(&cx);
        connection.wake_by_ref();
        assert_eq!(woken(), 1, "again from elsewhere");
    }
}
