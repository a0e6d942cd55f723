//! What time it is, as a value that is handed in, so that tests set it instead of sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The system's clocks, or ones that a test moves.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    Manual(Arc<Manual>),
}

/// Both in milliseconds.
#[derive(Debug, Default)]
pub struct Manual {
    since_epoch: AtomicU64,
    uptime: AtomicU64,
}

impl Clock {
    pub fn manual(start: SystemTime) -> Self {
        let since_epoch = AtomicU64::new(unix_ms(start));
        Self::Manual(Arc::new(Manual { since_epoch, uptime: AtomicU64::default() }))
    }

    pub fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Manual(manual) => {
                UNIX_EPOCH + Duration::from_millis(manual.since_epoch.load(Ordering::Relaxed))
            }
        }
    }

    /// Time since the machine started, sleep included: no step of the wall clock moves it, and a
    /// token that expired while the machine slept is seen to have expired.
    pub fn uptime(&self) -> Duration {
        match self {
            Self::System => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
            }
            Self::Manual(manual) => Duration::from_millis(manual.uptime.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock on; the system's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(manual) = self {
            let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            manual.since_epoch.fetch_add(ms, Ordering::Relaxed);
            manual.uptime.fetch_add(ms, Ordering::Relaxed);
        }
    }

    /// Sets a manual wall clock, as an operator or NTP may; time since the start goes on.
    pub fn step_to(&self, at: SystemTime) {
        if let Self::Manual(manual) = self {
            manual.since_epoch.store(unix_ms(at), Ordering::Relaxed);
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
        clock.step_to(UNIX_EPOCH);
        assert_eq!((unix_ms(clock.now()), clock.uptime()), (0, Duration::from_millis(1500)));
    }
}
