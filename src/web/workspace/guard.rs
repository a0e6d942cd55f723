//! How often somebody may try a password.
//!
//! A try is taken from several purses at once: the address it comes from, the e-mail address it is
//! for, and the pair of both. One peer can therefore use up its own tries only, and what many peers
//! use up together comes back by itself. A browser in which a member has logged in before has a
//! purse of its own, so that strangers cannot keep the member out, however many they are. In
//! memory, per process: a restart forgives, and an attacker cannot cause one.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

use crate::secret::TokenDigest;

/// Who tries.
#[derive(Debug, Clone, Copy)]
pub struct Try<'a> {
    pub email: &'a str,
    pub address: IpAddr,
    /// The mark of a browser in which this member has logged in before.
    pub known_browser: Option<&'a str>,
}

/// So many tries at first, and one more after each `again`.
#[derive(Debug, Clone, Copy)]
struct Purse {
    tries: f64,
    again: Duration,
}

const OF_ADDRESS: Purse = Purse { tries: 30.0, again: Duration::from_secs(5) };
const OF_PAIR: Purse = Purse { tries: 5.0, again: Duration::from_secs(60) };
/// Ten peers at the pace of [`OF_PAIR`] do not empty it.
const OF_EMAIL: Purse = Purse { tries: 50.0, again: Duration::from_secs(6) };
const OF_BROWSER: Purse = Purse { tries: 10.0, again: Duration::from_secs(60) };
/// Purses that are remembered; those that rested longest go first.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(50_000).expect("it is not 0");

#[derive(Debug, Clone, Copy)]
struct Spent {
    tries: f64,
    at: Duration,
}

pub struct Guard {
    spent: Mutex<LruCache<TokenDigest, Spent>>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { spent: Mutex::new(LruCache::new(REMEMBERED)) }
    }
}

impl Guard {
    /// Takes the try before it is made, so that a thousand at the same time are no exception.
    ///
    /// # Errors
    /// How long to wait.
    pub fn admit(&self, attempt: &Try<'_>, now: Duration) -> Result<(), Duration> {
        let mut spent = self.spent.lock();
        let purses = attempt.purses();
        let longest = purses.iter().map(|(key, purse)| wait(&spent.get(key).copied(), purse, now));
        let longest = longest.max().unwrap_or_default();
        if longest > Duration::ZERO {
            return Err(longest);
        }
        for (key, purse) in purses {
            let tries = left_over(&spent.get(&key).copied(), &purse, now) + 1.0;
            spent.put(key, Spent { tries, at: now });
        }
        Ok(())
    }

    /// Gives the try back: the password was right.
    pub fn forgive(&self, attempt: &Try<'_>) {
        let mut spent = self.spent.lock();
        for (key, _) in attempt.purses() {
            if let Some(held) = spent.get_mut(&key) {
                held.tries = (held.tries - 1.0).max(0.0);
            }
        }
    }
}

impl Try<'_> {
    fn purses(&self) -> Vec<(TokenDigest, Purse)> {
        let key = |parts: &[&str]| TokenDigest::of(parts.join("\n").as_bytes());
        let (email, address) = (self.email.to_lowercase(), network(self.address).to_string());
        match self.known_browser {
            Some(mark) => vec![(key(&["browser", &email, mark]), OF_BROWSER)],
            None => vec![
                (key(&["address", &address]), OF_ADDRESS),
                (key(&["pair", &email, &address]), OF_PAIR),
                (key(&["email", &email]), OF_EMAIL),
            ],
        }
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let s = v6.segments();
            Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

fn left_over(spent: &Option<Spent>, purse: &Purse, now: Duration) -> f64 {
    spent.map_or(0.0, |spent| {
        let back = now.saturating_sub(spent.at).as_secs_f64() / purse.again.as_secs_f64();
        (spent.tries - back).max(0.0)
    })
}

fn wait(spent: &Option<Spent>, purse: &Purse, now: Duration) -> Duration {
    let over = left_over(spent, purse, now) + 1.0 - purse.tries;
    if over <= 0.0 { Duration::ZERO } else { purse.again.mul_f64(over) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(email: &str, last: u8) -> Try<'_> {
        Try { email, address: IpAddr::from([192, 0, 2, last]), known_browser: None }
    }

    fn fail(guard: &Guard, attempt: &Try<'_>, times: usize, now: Duration) -> usize {
        (0..times).filter(|_| guard.admit(attempt, now).is_ok()).count()
    }

    #[test]
    fn a_thousand_guesses_from_one_place_are_five_and_then_one_a_minute() {
        let (guard, start) = (Guard::default(), Duration::from_secs(1000));
        let guesses = attempt("ann@acme.test", 1);
        assert_eq!(fail(&guard, &guesses, 1000, start), 5);
        let wait = guard.admit(&guesses, start).expect_err("used up");
        assert!(wait <= Duration::from_secs(60) && wait > Duration::from_secs(50), "{wait:?}");
        assert_eq!(fail(&guard, &guesses, 1000, start + Duration::from_secs(61)), 1);
    }

    #[test]
    fn one_peer_that_guesses_for_ever_does_not_keep_the_member_out_elsewhere() {
        let guard = Guard::default();
        for minute in 0..1000u64 {
            let now = Duration::from_secs(minute * 60);
            fail(&guard, &attempt("ann@acme.test", 1), 50, now);
        }
        let now = Duration::from_secs(1000 * 60);
        assert!(guard.admit(&attempt("Ann@acme.test", 2), now).is_ok());
    }

    #[test]
    fn many_peers_that_guess_do_not_keep_the_member_out_of_a_known_browser() {
        let (guard, now) = (Guard::default(), Duration::from_secs(1000));
        for peer in 0..=255 {
            fail(&guard, &attempt("ann@acme.test", peer), 50, now);
        }
        assert!(guard.admit(&attempt("ann@acme.test", 3), now).is_err());
        let known = Try { known_browser: Some("mark"), ..attempt("ann@acme.test", 3) };
        assert!(guard.admit(&known, now).is_ok());
        // A stolen mark is no way around the limit either.
        assert_eq!(fail(&guard, &known, 1000, now), 9);
    }

    #[test]
    fn one_address_guesses_for_thirty_members_at_most() {
        let (guard, now) = (Guard::default(), Duration::from_secs(1000));
        let emails: Vec<String> = (0..100).map(|at| format!("m{at}@acme.test")).collect();
        let admitted = emails.iter().filter(|email| guard.admit(&attempt(email, 1), now).is_ok());
        assert_eq!(admitted.count(), 30);
    }

    #[test]
    fn neighbours_of_one_ipv6_network_share_a_purse() {
        let (guard, now) = (Guard::default(), Duration::from_secs(1000));
        let from = |last: u16| Try {
            email: "ann@acme.test",
            address: Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, last).into(),
            known_browser: None,
        };
        assert_eq!((0..50).filter(|last| guard.admit(&from(*last), now).is_ok()).count(), 5);
    }

    #[test]
    fn a_right_password_costs_nothing() {
        let (guard, now) = (Guard::default(), Duration::from_secs(1000));
        let good = attempt("ann@acme.test", 1);
        for _ in 0..1000 {
            assert!(guard.admit(&good, now).is_ok());
            guard.forgive(&good);
        }
    }
}
