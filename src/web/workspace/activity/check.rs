//! Checking the audit's chain from a page: one check at a time, in the background, with what it has
//! read so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::telemetry::{self, Report};

/// The last check, and the one that goes on.
#[derive(Default)]
pub struct Checker(Arc<Mutex<State>>);

/// For the thread that checks. It does not keep the rest: when the server has ended, so does the
/// check.
pub struct Finisher(Weak<Mutex<State>>);

#[derive(Default)]
struct State {
    running: Option<Arc<Progress>>,
    last: Option<Checked>,
}

#[derive(Default)]
pub struct Progress {
    read: AtomicU64,
    all: AtomicU64,
}

impl Progress {
    pub fn percent(&self) -> u64 {
        let all = self.all.load(Ordering::Relaxed).max(1);
        self.read.load(Ordering::Relaxed) * 100 / all
    }
}

/// How a check ended.
#[derive(Clone)]
pub struct Checked {
    pub at: SystemTime,
    pub report: Result<Report, String>,
}

impl Checked {
    pub fn is_sound(&self) -> bool {
        self.report.as_ref().is_ok_and(Report::is_sound)
    }
}

impl Checker {
    pub fn last(&self) -> Option<Checked> {
        self.0.lock().last.clone()
    }

    pub fn running(&self) -> Option<Arc<Progress>> {
        self.0.lock().running.clone()
    }

    /// `None` if one is running already.
    pub fn begin(&self) -> Option<Arc<Progress>> {
        let mut state = self.0.lock();
        if state.running.is_some() {
            return None;
        }
        let progress = Arc::new(Progress::default());
        state.running = Some(progress.clone());
        Some(progress)
    }

    pub fn finisher(&self) -> Finisher {
        Finisher(Arc::downgrade(&self.0))
    }
}

impl Finisher {
    pub fn finish(&self, checked: Checked) {
        let Some(state) = self.0.upgrade() else { return };
        let mut state = state.lock();
        state.running = None;
        state.last = Some(checked);
    }
}

/// Reads the whole file, on a thread that may wait. It ends with the server at the latest: each
/// piece asks whether `progress` is still wanted.
pub fn check(audit: &std::path::Path, progress: &Arc<Progress>) -> Result<Report, String> {
    let goes_on = |read, all| {
        progress.read.store(read, Ordering::Relaxed);
        progress.all.store(all, Ordering::Relaxed);
        // Nobody else holds it when the workspace has gone.
        Arc::strong_count(progress) > 1
    };
    telemetry::verify_live(audit, goes_on).map_err(|error| error.to_string())
}
