//! How long to wait after a refresh that failed. Pure but for chance.

use std::time::Duration;

use crate::random;

const FIRST: Duration = Duration::from_secs(1);
/// While the access token still serves.
const MOST_WHILE_VALID: Duration = Duration::from_secs(5 * 60);
const MOST_AFTERWARDS: Duration = Duration::from_secs(15 * 60);

/// The wait after the `failures`th failure in a row, with full jitter: `random` is in 0..1. As long
/// as the token has `left` to live, two more tries fit into that time.
pub(super) fn backoff(failures: u32, left: Option<Duration>, random: f64) -> Duration {
    let left = left.filter(|left| !left.is_zero());
    let most = left.map_or(MOST_AFTERWARDS, |left| MOST_WHILE_VALID.min(left / 3).max(FIRST));
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let spread = doubled.min(most).mul_f64(random.clamp(0.0, 1.0));
    spread.max(FIRST / 2)
}

/// The wait before something is tried again that has no deadline, as [`backoff`] has it.
pub fn retry_wait(failures: u32) -> Duration {
    backoff(failures, None, random::share())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_that_the_tokens_life_sets() {
        let s = Duration::from_secs;
        for (failures, left, expected) in [
            (1, Some(s(3600)), s(1)),
            (4, Some(s(3600)), s(8)),
            (30, Some(s(3600)), s(300)),
            (30, Some(s(60)), s(20)),
            (30, Some(s(1)), s(1)),
            (30, None, s(900)),
            (u32::MAX, Some(Duration::ZERO), s(900)),
        ] {
            assert_eq!(backoff(failures, left, 1.0), expected, "{failures} {left:?}");
        }
    }

    #[test]
    fn waits_are_spread_and_never_nothing() {
        assert_eq!(backoff(5, None, 0.5), Duration::from_secs(8));
        assert_eq!(backoff(5, None, 0.0), Duration::from_millis(500));
    }
}
