//! What time it is, as a value that is handed in, so that tests set it instead of sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock, or one that a test moves.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// Milliseconds since the Unix epoch.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub fn manual(start: SystemTime) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(unix_ms(start))))
    }

    pub fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Manual(ms) => UNIX_EPOCH + Duration::from_millis(ms.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock on; the system's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(ms) = self {
            ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

/// Milliseconds since the Unix epoch; 0 for a time before it.
pub fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC with milliseconds, as logs and audit write it.
pub fn rfc3339(at: SystemTime) -> String {
    let ms = i64::try_from(unix_ms(at)).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(stamp) => format!("{stamp:.3}"),
        Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_until_it_is_moved() {
        let clock = Clock::manual(UNIX_EPOCH + Duration::from_secs(10));
        clock.advance(Duration::from_millis(1500));
        assert_eq!(unix_ms(clock.now()), 11_500);
        assert_eq!(rfc3339(clock.now()), "1970-01-01T00:00:11.500Z");
    }
}
