//! Accounts of the vault, as slots: what a row comes to for a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::keeper::Keeper;
use super::refused::Refused;
use super::{Current, Error, Names, Origin, Remedy, Slot, State, Unavailable};
use crate::catalog::{App, Auth};
use crate::clock::{Clock, unix_ms};
use crate::inject::{self, Properties};
use crate::oauth::schedule;
use crate::secret::Secret;
use crate::vault::{Account, Credentials};

/// Clocks differ and requests take time on their way: a token is not used to its very end.
const GUARD: Duration = Duration::from_secs(2);

/// The names by which definitions attach what a token answer brought.
const ACCESS_TOKEN: &str = "oauth_access_token";
const REFRESH_TOKEN: &str = "oauth_refresh_token";

pub(super) struct Stored {
    pub(super) keeper: Arc<Keeper>,
    /// Milliseconds since 1970; 0: not since it was last written to the vault.
    used_at: AtomicU64,
    /// There is something to renew the credential by.
    renewable: AtomicBool,
    pub(super) refused: Mutex<Refused>,
}

impl Stored {
    /// One store to memory per request; the vault is told about once a minute.
    pub(super) fn used(&self, clock: &Clock) {
        self.used_at.store(unix_ms(clock.now()), Ordering::Relaxed);
    }

    pub(super) fn is_renewable(&self) -> bool {
        self.renewable.load(Ordering::Relaxed)
    }

    pub(super) fn take_used(&self) -> Option<SystemTime> {
        match self.used_at.swap(0, Ordering::Relaxed) {
            0 => None,
            ms => Some(UNIX_EPOCH + Duration::from_millis(ms)),
        }
    }
}

impl Slot {
    /// An account of the vault. That its credential cannot be used is told to those who use it.
    ///
    /// # Errors
    /// When the app has no such way to authenticate any more.
    pub(super) fn stored(
        account: &Account,
        credentials: &Credentials,
        app: &Arc<App>,
        keeper: &Arc<Keeper>,
    ) -> Result<Self, Error> {
        let names = Names { account: account.nickname.clone(), id: account.id.clone() };
        let origin = Origin::Stored(Stored {
            keeper: keeper.clone(),
            used_at: AtomicU64::new(0),
            renewable: AtomicBool::new(false),
            refused: Mutex::default(),
        });
        let clock = keeper.clock().clone();
        let slot = Self::new(names, app, &account.auth, &account.fields, clock, origin)?;
        slot.adopt(account, credentials);
        Ok(slot)
    }

    pub(super) fn as_stored(&self) -> Option<&Stored> {
        match &self.origin {
            Origin::Stored(stored) => Some(stored),
            Origin::Declared(_) => None,
        }
    }

    /// Whether this slot is what the row says, but for the credential itself.
    pub fn describes(&self, account: &Account) -> bool {
        self.account == account.nickname
            && self.app.id == account.app
            && self.auth().id == account.auth
            && self.fields == account.fields
    }

    /// Takes over the row's credential, unless a newer one is held.
    pub(super) fn adopt(&self, account: &Account, credentials: &Credentials) {
        let version = version_of(account);
        if let Some(stored) = self.as_stored() {
            let renewable = schedule::is_renewable(self.auth(), credentials.tokens.as_ref());
            stored.renewable.store(renewable, Ordering::Relaxed);
        }
        let state = match self.render(&properties(&account.fields, credentials)) {
            Ok(attachable) => State::Ready(attachable),
            Err(error) => State::Unavailable(not_renderable(account, &error)),
        };
        let ready = matches!(state, State::Ready(_));
        let until = if ready { self.usable_until(account) } else { None };
        self.put(Current { version, state, until, read_at: self.clock.uptime() });
    }

    /// The token has expired, and could not be renewed: told until `for_now` has passed.
    pub(super) fn withhold(&self, version: u64, reason: Unavailable, for_now: Duration) {
        let now = self.clock.uptime();
        self.put(Current {
            version,
            state: State::Unavailable(reason),
            until: Some(now + for_now),
            read_at: now,
        });
    }

    /// What kept the token from being renewed has changed: the next request tries again.
    pub(super) fn look_again(&self) {
        let held = self.current();
        if let State::Unavailable(reason) = &held.state
            && matches!(reason.remedy, Remedy::Wait { .. })
        {
            self.withhold(held.version, reason.clone(), Duration::ZERO);
        }
    }

    /// Only forwards: a late reader never puts an older credential back.
    fn put(&self, new: Current) {
        let new = Arc::new(new);
        self.current
            .rcu(|held| if held.version > new.version { held.clone() } else { new.clone() });
    }

    /// As uptime, so that a step of the wall clock makes no token live longer.
    fn usable_until(&self, account: &Account) -> Option<Duration> {
        let expires_at = account.health.expires_at?;
        let left = expires_at.duration_since(self.clock.now()).unwrap_or_default();
        let life = account.health.obtained_at.and_then(|at| expires_at.duration_since(at).ok());
        let left = life.map_or(left, |life| left.min(life));
        let guard = life.map_or(GUARD, |life| GUARD.min(life / 20));
        Some(self.clock.uptime() + left.saturating_sub(guard))
    }
}

pub(super) fn version_of(account: &Account) -> u64 {
    account.version.unsigned_abs()
}

/// Everything that an account's attachments and token requests are rendered from.
pub fn properties(fields: &BTreeMap<String, String>, credentials: &Credentials) -> Properties {
    let fields = fields.iter();
    let mut all: Properties =
        fields.map(|(name, value)| (name.clone(), Secret::from(value.clone()))).collect();
    all.extend(credentials.secrets.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Some(tokens) = &credentials.tokens {
        all.insert(ACCESS_TOKEN.to_owned(), tokens.access.clone());
        if let Some(refresh) = &tokens.refresh {
            all.insert(REFRESH_TOKEN.to_owned(), refresh.clone());
        }
    }
    all
}

/// Whether requests could be given this credential, before it is stored.
///
/// # Errors
/// When it does not fit the app's definition.
pub fn try_out(
    auth: &Auth,
    fields: &BTreeMap<String, String>,
    credentials: &Credentials,
) -> Result<(), inject::Error> {
    let properties = properties(fields, credentials);
    inject::prepare(&auth.attach, &properties)?;
    for exception in &auth.exceptions {
        inject::prepare(&exception.attach, &properties)?;
    }
    Ok(())
}

fn not_renderable(account: &Account, error: &Error) -> Unavailable {
    let why = format!("it does not fit the app's definition any more: {error}");
    tracing::warn!(account = %account.nickname, %error, "credential cannot be attached");
    Unavailable { why, remedy: Remedy::Reconnect, link: None }
}

/// What callers of a dead account are told.
pub(super) fn gone(account: &Account, link: Option<String>) -> Unavailable {
    let said = account.health.error.as_ref();
    let said = said.map_or("it is no longer valid", |error| error.message.as_str());
    let name = &account.nickname;
    let why = format!(
        "the provider no longer accepts it ({said}). Its owner connects it anew with `countersign \
         accounts reconnect {name}`"
    );
    Unavailable { why, remedy: Remedy::Reconnect, link }
}
