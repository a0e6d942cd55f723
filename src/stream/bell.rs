//! A waker that remembers that it was woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

/// Something that rings when it wants to be looked at, seen from the task that looks.
///
/// Asking it costs an atomic load; most of what a busy task polls has not rung.
pub struct Bell {
    shared: Arc<Shared>,
    waker: Waker,
    /// Who is woken, to tell without the lock.
    task: Option<Waker>,
}

struct Shared {
    rung: AtomicBool,
    /// Stays when it is woken, unlike in an `AtomicWaker`: nobody has to be told again.
    task: Mutex<Option<Waker>>,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Bell {
    /// Rung already: what has never been looked at does not know whom to wake.
    pub fn new() -> Self {
        let shared = Arc::new(Shared { rung: AtomicBool::new(true), task: Mutex::new(None) });
        Self { waker: Waker::from(shared.clone()), shared, task: None }
    }

    /// Whether it has rung since the last time. From now on it wakes the task of `cx`.
    pub fn has_rung(&mut self, cx: &Context<'_>) -> bool {
        // Registered before the look, so that a ring in between is not missed.
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *self.shared.task.lock() = Some(cx.waker().clone());
            self.task = Some(cx.waker().clone());
        }
        self.shared.rung.load(Ordering::Acquire) && self.shared.rung.swap(false, Ordering::AcqRel)
    }

    /// What rings it.
    pub fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    pub struct Count(pub AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_ring_wakes_whoever_looked_last() {
        let (first, second) = (Arc::<Count>::default(), Arc::<Count>::default());
        let (one, two) = (Waker::from(first.clone()), Waker::from(second.clone()));
        let mut bell = Bell::new();
        assert!(bell.has_rung(&Context::from_waker(&one)), "it has rung before the first look");
        assert!(!bell.has_rung(&Context::from_waker(&one)));
        let ringer = bell.context().waker().clone();
        for _ in 0..3 {
            ringer.wake_by_ref();
            assert!(bell.has_rung(&Context::from_waker(&one)));
            assert!(!bell.has_rung(&Context::from_waker(&one)));
        }
        // Also when nobody has looked in between.
        ringer.wake_by_ref();
        ringer.wake_by_ref();
        assert!(bell.has_rung(&Context::from_waker(&two)));
        ringer.wake_by_ref();
        let woken = [&first, &second].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [5, 1]);
    }
}
