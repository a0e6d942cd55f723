//! Callers as the request path sees them: who they are, what they may, how much.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::refusal::Refusal;
use super::stored::{binding_of, whole};
use crate::config::Rate;
use crate::credentials::Slot;
use crate::ids::CallerId;
use crate::policy::{Binding, CallerPolicy, Effect, Kept, Mode, Rule};
use crate::secret::TokenDigest;
use crate::vault::Account;

/// One caller in a snapshot. Immutable but for its limits, which outlive reloads.
pub struct Caller {
    pub id: CallerId,
    pub policy: CallerPolicy,
    /// The credential of each binding, in the order of `policy.bindings`.
    pub slots: Vec<Arc<Slot>>,
    pub expires_at: Option<SystemTime>,
    pub limits: Arc<Limits>,
}

/// How a caller proved itself. Kept for the life of a tunnel and checked again on every use.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    Token(TokenDigest),
    /// A name in its client certificate.
    Certificate(Arc<str>),
    /// The loopback listener that `run` opened for it.
    Listener(CallerId),
}

/// A caller that proved itself, and the account that its user name chose.
#[derive(Clone)]
pub struct Identity {
    pub caller: Arc<Caller>,
    pub proof: Proof,
    /// From `caller~nickname`.
    pub selector: Option<Arc<str>>,
}

impl Identity {
    /// Of a door that has found out by itself whose account a request may use: it may use that one
    /// for everything, and no other. `rule` is what the audit says allowed it.
    pub fn of_account(
        name: CallerId,
        token: TokenDigest,
        account: &Account,
        slot: Arc<Slot>,
        rule: &str,
    ) -> Self {
        let binding = binding_of(account, &slot);
        Self::lent(name, token, binding, slot, rule)
    }

    /// The same for an account of the configuration.
    pub fn of_declared(name: CallerId, token: TokenDigest, slot: Arc<Slot>, rule: &str) -> Self {
        let names = (slot.account.clone(), slot.id.clone(), slot.app.id.clone());
        let binding = whole(names, slot.fields(), &slot);
        Self::lent(name, token, binding, slot, rule)
    }

    fn lent(
        name: CallerId,
        token: TokenDigest,
        binding: Binding,
        slot: Arc<Slot>,
        rule: &str,
    ) -> Self {
        let selector = Some(Arc::from(binding.id.as_str()));
        let rule = Rule {
            name: Arc::from(rule),
            effect: Effect::Allow,
            app: Some(binding.app.clone()),
            account: Some(binding.id.clone()),
            host: None,
            methods: Vec::new(),
            paths: Vec::new(),
        };
        let policy = CallerPolicy {
            caller: name.clone(),
            mode: Mode::Enforce,
            bindings: vec![binding],
            lapsed: Vec::new(),
            rules: vec![rule].into(),
            kept: Kept::InStore,
        };
        let caller = Arc::new(Caller {
            id: name,
            policy,
            slots: vec![slot],
            expires_at: None,
            limits: Arc::new(Limits::new(None, None)),
        });
        Self { caller, proof: Proof::Token(token), selector }
    }
}

/// How much a caller may do at once and over time.
pub struct Limits {
    pub rate: Option<Rate>,
    pub max_concurrent: Option<u32>,
    limiter: Option<DefaultDirectRateLimiter>,
    in_flight: AtomicU32,
    tunnels: AtomicU32,
}

impl Limits {
    pub fn new(rate: Option<Rate>, max_concurrent: Option<u32>) -> Self {
        let quota = |rate: Rate| Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            rate,
            max_concurrent,
            limiter: rate.map(|rate| RateLimiter::direct(quota(rate))),
            in_flight: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
        }
    }
}

/// A request or tunnel in flight; gives its place back when dropped.
pub struct Place {
    limits: Arc<Limits>,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Request,
    Tunnel,
}

impl Caller {
    /// Whether the store keeps it; the others are declared in the configuration.
    pub fn is_stored(&self) -> bool {
        self.policy.kept == Kept::InStore
    }

    /// Takes a place for one request.
    ///
    /// # Errors
    /// `RateLimited` or `Busy` when the caller's limits say no.
    pub fn admit(&self) -> Result<Place, Refusal> {
        self.check_rate()?;
        let most = self.limits.max_concurrent.unwrap_or(u32::MAX);
        self.take(Kind::Request, most)
    }

    /// Takes a place for one tunnel or WebSocket.
    ///
    /// # Errors
    /// `TooManyTunnels` when the caller has `most` open.
    pub fn admit_tunnel(&self, most: usize) -> Result<Place, Refusal> {
        self.take(Kind::Tunnel, u32::try_from(most).unwrap_or(u32::MAX))
    }

    pub fn has_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= SystemTime::now())
    }

    fn check_rate(&self) -> Result<(), Refusal> {
        let Some(limiter) = &self.limits.limiter else { return Ok(()) };
        limiter.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let retry_after_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Refusal::RateLimited { caller: self.id.clone(), retry_after_s }
        })
    }

    fn take(&self, kind: Kind, most: u32) -> Result<Place, Refusal> {
        let place = Place { limits: self.limits.clone(), kind };
        if place.counter().fetch_add(1, Ordering::Relaxed) < most {
            return Ok(place);
        }
        let caller = self.id.clone();
        Err(match kind {
            Kind::Request => Refusal::Busy { caller },
            Kind::Tunnel => Refusal::TooManyTunnels { caller },
        })
    }
}

impl Place {
    fn counter(&self) -> &AtomicU32 {
        match self.kind {
            Kind::Request => &self.limits.in_flight,
            Kind::Tunnel => &self.limits.tunnels,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counter().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wrong tokens per address: a few are a mistake, many are a search. Right tokens are never held
/// up, so nobody can lock out a neighbour behind the same address.
pub struct Guesses(DefaultKeyedRateLimiter<IpAddr>);

/// More addresses than this are swept at once: an IPv6 prefix holds many.
const MAX_ADDRESSES: usize = 10_000;

impl Guesses {
    pub fn new() -> Self {
        const PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("30 is not 0");
        Self(RateLimiter::keyed(Quota::per_minute(PER_MINUTE)))
    }

    /// Counts a wrong token; false when there were too many.
    pub fn allow(&self, from: IpAddr) -> bool {
        if self.0.len() > MAX_ADDRESSES {
            self.0.retain_recent();
        }
        self.0.check_key(&network(from)).is_ok()
    }
}

impl Default for Guesses {
    fn default() -> Self {
        Self::new()
    }
}

/// One household or server has a /64 of IPv6 addresses to guess from.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_counted_per_address_and_per_64() {
        let guesses = Guesses::new();
        let allowed = |ip: &str| guesses.allow(ip.parse().expect(ip));
        assert!((0..30).all(|_| allowed("192.0.2.1")));
        assert!(!allowed("192.0.2.1"));
        assert!(allowed("192.0.2.2"));
        assert!((0..30).all(|i| allowed(&format!("2001:db8::{i}"))));
        assert!(!allowed("2001:db8::ffff"));
    }
}
