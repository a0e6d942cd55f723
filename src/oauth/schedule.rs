//! When a token is refreshed. Pure.
//!
//! Early enough for several attempts, late enough to be worth it, and spread: accounts that were
//! connected together must not be due together.

use std::time::{Duration, SystemTime};

use super::answer::Expiry;
use crate::catalog::{Auth, AuthKind, Strategy};
use crate::vault::Tokens;

/// Below this the share of a life that is left for a refresh is larger: attempts take their time.
const SHORT_LIFE: Duration = Duration::from_secs(300);
/// However long a token lives, a refresh needs no more than this.
const LONGEST_LEAD: Duration = Duration::from_secs(15 * 60);
/// A token that is born dead (`expires_in: 0`) must not be asked for without end.
const LEAST_INTERVAL: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When the tokens that came at `obtained_at` are due, or `None` if nothing is gained by renewing
/// them ahead of need. `random` is between 0 and 1, drawn once per generation.
pub fn next_refresh(
    auth: &Auth,
    obtained_at: SystemTime,
    expires: Expiry,
    random: f64,
) -> Option<SystemTime> {
    if !can_renew(auth) {
        return None;
    }
    let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 };
    let by_life = match expires {
        Expiry::At(end) => {
            Some(obtained_at.checked_add(within_life(auth, obtained_at, end, random))?)
        }
        Expiry::Never | Expiry::Unknown => None,
    };
    let keep_alive = keep_alive(auth, obtained_at, random);
    by_life.into_iter().chain(keep_alive).min()
}

/// The same for tokens of which it is not known yet whether anything can renew them.
pub fn of_new_tokens(
    auth: &Auth,
    tokens: &Tokens,
    obtained_at: SystemTime,
    expires: Expiry,
    random: f64,
) -> Option<SystemTime> {
    is_renewable(auth, Some(tokens)).then(|| next_refresh(auth, obtained_at, expires, random))?
}

/// When the refresh token has to be used so that it does not die of idleness, even if nobody uses
/// the account: at a third of what it may be idle, but once a day is enough.
pub fn keep_alive(auth: &Auth, obtained_at: SystemTime, random: f64) -> Option<SystemTime> {
    let idle_ttl = auth.oauth2.as_ref()?.refresh.idle_ttl?;
    let after = (idle_ttl / 3).min(DAY).mul_f64(0.9 + 0.1 * random.clamp(0.0, 1.0));
    obtained_at.checked_add(after)
}

fn within_life(auth: &Auth, obtained_at: SystemTime, end: SystemTime, random: f64) -> Duration {
    let life = end.duration_since(obtained_at).unwrap_or_default();
    let rules = auth.oauth2.as_ref().map(|oauth2| &oauth2.refresh);
    let share = match life < SHORT_LIFE {
        true => 0.5 + 0.15 * random,
        false => 0.65 + 0.15 * random,
    };
    let after = match rules.and_then(|rules| rules.lead) {
        Some(lead) => life.saturating_sub(lead),
        // The cap is spread too: its last third is drawn.
        None => {
            let lead = LONGEST_LEAD.mul_f64(1.0 - random / 3.0);
            life.mul_f64(share).max(life.saturating_sub(lead))
        }
    };
    let least = rules.and_then(|rules| rules.min_interval).unwrap_or_default();
    let floor = if life.is_zero() { LEAST_INTERVAL } else { Duration::ZERO };
    after.max(least).max(floor)
}

/// Whether there is anything to renew these tokens by. Keys are renewed by people, and what came
/// without a refresh token serves until it ends.
pub fn is_renewable(auth: &Auth, tokens: Option<&Tokens>) -> bool {
    let strategy = auth.oauth2.as_ref().and_then(|oauth2| oauth2.refresh.strategy);
    let held = match strategy {
        Some(Strategy::RefreshToken) => tokens.is_some_and(|tokens| tokens.refresh.is_some()),
        None if auth.kind == AuthKind::Oauth2 => {
            tokens.is_some_and(|tokens| tokens.refresh.is_some())
        }
        Some(Strategy::Exchange | Strategy::Extend) => tokens.is_some(),
        Some(Strategy::Reissue) | None => true,
    };
    held && can_renew(auth)
}

fn can_renew(auth: &Auth) -> bool {
    match (&auth.oauth2, auth.kind) {
        (Some(oauth2), kind) => {
            let by_grant = kind != AuthKind::Oauth2
                && oauth2.refresh.strategy.is_none_or(|s| s == Strategy::Reissue);
            by_grant || oauth2.refresh.supported || oauth2.refresh.strategy.is_some()
        }
        (None, kind) => kind == AuthKind::Jwt && auth.jwt.is_some(),
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
