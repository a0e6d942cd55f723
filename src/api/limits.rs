//! How often something may be asked. Per process: a bound on what one token can cost, not an
//! account of it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use super::failure::Failure;
use super::principal::{Principal, Tenancy};
use crate::secret::TokenDigest;

/// Connect tokens for one external user: as Pipedream's.
const TOKENS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(100).expect("it is not 0");
/// What a browser may ask with one connect token.
const BROWSER_PER_MINUTE: NonZeroU32 = NonZeroU32::new(300).expect("it is not 0");
/// More keys than this are looked through for those that have rested.
const MAX_KEYS: usize = 10_000;

pub struct Limits {
    tokens: DefaultKeyedRateLimiter<TokenDigest>,
    browsers: DefaultKeyedRateLimiter<TokenDigest>,
    /// Those that clients set for themselves, with how they were set.
    own: Mutex<HashMap<TokenDigest, (Quota, Arc<DefaultDirectRateLimiter>)>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tokens: RateLimiter::keyed(Quota::per_minute(TOKENS_PER_MINUTE)),
            browsers: RateLimiter::keyed(Quota::per_minute(BROWSER_PER_MINUTE)),
            own: Mutex::default(),
        }
    }
}

impl Limits {
    /// # Errors
    /// `Throttled`.
    pub fn token_for(&self, tenancy: &Tenancy, user: &str) -> Result<(), Failure> {
        let key = format!("{}\n{}\n{user}", tenancy.project, tenancy.environment);
        check(&self.tokens, TokenDigest::of(key.as_bytes()))
    }

    /// Of a limit that was named before in this process.
    pub fn known_quota(&self, digest: TokenDigest) -> Option<Quota> {
        self.own.lock().get(&digest).map(|(quota, _)| *quota)
    }

    /// # Errors
    /// `Throttled`.
    pub fn own(&self, digest: TokenDigest, quota: Quota) -> Result<(), Failure> {
        let limiter = {
            let mut own = self.own.lock();
            if own.len() > MAX_KEYS {
                own.clear();
            }
            own.entry(digest)
                .or_insert_with(|| (quota, Arc::new(RateLimiter::direct(quota))))
                .1
                .clone()
        };
        limiter.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            Failure::Throttled { retry_after_s: wait.as_secs() + 1 }
        })
    }

    /// The operator's own programs are not held up: they have what they need elsewhere.
    ///
    /// # Errors
    /// `Throttled`.
    pub fn request_of(&self, principal: &Principal) -> Result<(), Failure> {
        match principal {
            Principal::Client(_) => Ok(()),
            Principal::User(_) => check(&self.browsers, principal.digest()),
        }
    }
}

fn check(limiter: &DefaultKeyedRateLimiter<TokenDigest>, key: TokenDigest) -> Result<(), Failure> {
    if limiter.len() > MAX_KEYS {
        limiter.retain_recent();
    }
    limiter.check_key(&key).map_err(|not_until| {
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        Failure::Throttled { retry_after_s: wait.as_secs() + 1 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Environment;

    #[test]
    fn one_users_tokens_do_not_use_up_anothers() {
        let limits = Limits::default();
        let project = "proj_1".parse().expect("an id");
        let tenancy = Tenancy { project, environment: Environment::Production };
        assert!((0..100).all(|_| limits.token_for(&tenancy, "a").is_ok()));
        let refused = limits.token_for(&tenancy, "a").expect_err("the hundred and first");
        assert_eq!(refused.status().as_u16(), 429);
        assert!(limits.token_for(&tenancy, "b").is_ok());
        let elsewhere = Tenancy { environment: Environment::Development, ..tenancy };
        assert!(limits.token_for(&elsewhere, "a").is_ok());
    }
}
