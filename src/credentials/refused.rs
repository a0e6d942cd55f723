//! What an origin's 401 leads to: at most one refresh per version, and none at all while fresh
//! tokens are refused too. Pure: one such origin once made 66 refreshes where one would do.

use std::time::Duration;

/// Between two refreshes that a 401 forced.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// What was refused of one account.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// The version that a forced refresh brought.
    forced: Option<u64>,
    /// Refusals until this uptime are not about the token.
    ignored_until: Option<Duration>,
    pause: Option<Duration>,
}

/// What to do about a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// A newer token is there: use that.
    UseNewer,
    Refresh,
    /// It is not about the token, or was tried a moment ago: the client gets the 401.
    PassOn,
}

impl Refused {
    /// The origin refused `used` while `current` is held.
    pub(super) fn react(&mut self, used: u64, current: u64, uptime: Duration) -> Reaction {
        if used < current {
            return Reaction::UseNewer;
        }
        if self.ignored_until.is_some_and(|until| uptime < until) {
            return Reaction::PassOn;
        }
        if self.forced == Some(used) {
            let pause = self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
            self.pause = Some(pause);
            self.ignored_until = Some(uptime + pause);
            return Reaction::PassOn;
        }
        Reaction::Refresh
    }

    /// A refresh that a 401 forced brought this version.
    pub(super) fn refreshed(&mut self, version: u64, uptime: Duration) {
        self.forced = Some(version);
        // Until then no other is forced, whatever comes back of the requests under way.
        self.ignored_until = Some(uptime + FIRST_PAUSE);
    }

    /// A refresh that a 401 forced failed: the next one is not tried at once.
    pub(super) fn failed(&mut self, uptime: Duration) {
        self.ignored_until = Some(uptime + FIRST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn an_older_token_than_the_one_held_needs_no_refresh() {
        assert_eq!(Refused::default().react(1, 2, S(0)), Reaction::UseNewer);
    }

    #[test]
    fn a_fresh_token_that_is_refused_too_stops_refreshing_for_longer_each_time() {
        let mut refused = Refused::default();
        assert_eq!(refused.react(1, 1, S(0)), Reaction::Refresh);
        refused.refreshed(2, S(0));
        assert_eq!(refused.react(1, 2, S(1)), Reaction::UseNewer);
        // The same version is refused for ever: each look at it is further away.
        for seconds in [1, 29, 30, 59, 60, 119, 120, 10_000] {
            assert_eq!(refused.react(2, 2, S(seconds)), Reaction::PassOn, "{seconds}");
        }
        // A refresh in due course brings another version, which may be tried once.
        assert_eq!(refused.react(3, 3, S(20_000)), Reaction::Refresh);
    }

    #[test]
    fn a_failed_refresh_is_not_forced_again_at_once() {
        let mut refused = Refused::default();
        assert_eq!(refused.react(1, 1, S(0)), Reaction::Refresh);
        refused.failed(S(0));
        assert_eq!(refused.react(1, 1, S(29)), Reaction::PassOn);
        assert_eq!(refused.react(1, 1, S(30)), Reaction::Refresh);
    }
}
