//! How long something may live, as options say it.

use std::time::{Duration, SystemTime};

use crate::config::duration;

/// `90d`, or `never` for until it is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life(Option<Duration>);

impl Life {
    /// When it ends, of what begins now.
    pub fn ends_at(self, now: SystemTime) -> Option<SystemTime> {
        self.0.and_then(|life| now.checked_add(life))
    }
}

/// # Errors
/// When it is neither.
pub fn life(text: &str) -> Result<Life, String> {
    match text {
        "never" => Ok(Life(None)),
        text => duration(text).map(|life| Life(Some(life))),
    }
}
