//! The credentials in memory, ready to attach, and the one place that renews them.
//!
//! A [`Slot`] holds one account's credential. Requests read it without a lock; it is swapped whole
//! when the account's values change. Where it comes from makes no difference to a request:
//! [`declared`] accounts are read from references in the configuration, [`stored`] ones from the
//! vault, and [`Keeper`] refreshes those exactly once, whoever asks.

mod background;
mod declared;
mod faults;
mod flight;
mod keeper;
mod links;
mod news;
mod refused;
mod registered;
mod retry;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use declared::keep_fresh;
pub use keeper::{Keeper, Record, Settings};
pub use links::Links;
pub use registered::Registered;
pub use retry::retry_wait;
pub use stored::{properties, try_out};

use crate::catalog::{App, Auth, Choice};
use crate::clock::Clock;
use crate::config;
use crate::ids::AccountId;
use crate::inject::{self, Prepared, Properties};
use crate::sources;
use crate::telemetry::Telemetry;
use crate::vault;
use declared::Declared;
use stored::Stored;

/// One account's credential and where it comes from.
pub struct Slot {
    /// By which name people know it.
    pub account: AccountId,
    /// `apn_…`.
    pub id: AccountId,
    pub app: Arc<App>,
    auth: usize,
    /// Where the account's requests go when only a path is given: scheme, host and base path.
    base: http::Uri,
    fields: BTreeMap<String, String>,
    clock: Clock,
    current: ArcSwap<Current>,
    versions: AtomicU64,
    origin: Origin,
}

enum Origin {
    Declared(Declared),
    Stored(Stored),
}

/// What a request finds: the credential, or why there is none.
pub struct Current {
    pub version: u64,
    pub state: State,
    /// From this [uptime](Clock::uptime) on it is not used any more: the token has expired, or what
    /// kept it from being renewed may have passed.
    until: Option<Duration>,
    /// When it was read, as uptime.
    read_at: Duration,
}

pub enum State {
    Ready(Attachable),
    Unavailable(Unavailable),
}

/// Why there is no credential, as a refused caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    pub why: String,
    pub remedy: Remedy,
    /// Where the owner connects the account anew in a browser.
    pub link: Option<String>,
}

impl Unavailable {
    pub(super) fn for_now(why: String, seconds: u64) -> Self {
        Self { why, remedy: Remedy::Wait { seconds }, link: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Another try may do.
    Wait { seconds: u64 },
    /// Only the owner can help, by connecting the account anew.
    Reconnect,
}

/// Finished credentials by place: the app's own, and the exceptions that it makes.
pub struct Attachable {
    usual: Prepared,
    /// In the order of [`Auth::exceptions`].
    exceptions: Vec<Prepared>,
}

/// Why an account cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("accounts.{account}: {source}")]
    Source { account: AccountId, source: sources::Error },
    #[error("accounts.{account}: {source}")]
    Attach { account: AccountId, source: inject::Error },
    #[error("accounts.{account}: {text}")]
    Definition { account: AccountId, text: String },
    #[error("the account {account}: {source}")]
    Vault { account: AccountId, source: vault::Error },
}

impl Slot {
    /// An account of the configuration: reads its secrets and renders its credential.
    ///
    /// # Errors
    /// When a secret cannot be read or the result cannot be sent.
    pub async fn declared(
        account: &config::Account,
        app: &Arc<App>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let names = Names { account: account.name.clone(), id: account.id.clone() };
        let origin = Origin::Declared(Declared::new(account.secrets.clone()));
        let slot = Self::new(names, app, &account.auth, &account.fields, clock, origin)?;
        let attachable = slot.read_declared().await?;
        slot.store(State::Ready(attachable), None);
        Ok(slot)
    }

    fn new(
        names: Names,
        app: &Arc<App>,
        auth: &str,
        fields: &BTreeMap<String, String>,
        clock: Clock,
        origin: Origin,
    ) -> Result<Self, Error> {
        let undefined = |text| Error::Definition { account: names.account.clone(), text };
        let at = app.auths.iter().position(|candidate| candidate.id == auth);
        let at = at.ok_or_else(|| undefined(format!("{} has no auth \"{auth}\"", app.id)))?;
        let base = base_of(&app.auths[at], fields).map_err(undefined)?;
        Ok(Self {
            account: names.account,
            id: names.id,
            app: app.clone(),
            auth: at,
            base,
            fields: fields.clone(),
            clock,
            current: ArcSwap::from_pointee(Current::not_read()),
            versions: AtomicU64::new(1),
            origin,
        })
    }

    pub fn auth(&self) -> &Auth {
        &self.app.auths[self.auth]
    }

    pub fn is_stored(&self) -> bool {
        matches!(self.origin, Origin::Stored(_))
    }

    pub fn fields(&self) -> &BTreeMap<String, String> {
        &self.fields
    }

    pub fn base(&self) -> &http::Uri {
        &self.base
    }

    pub fn current(&self) -> arc_swap::Guard<Arc<Current>> {
        self.current.load()
    }

    /// Whether the origin's 401 could be answered with another credential.
    pub fn renewable(&self) -> bool {
        match &self.origin {
            Origin::Declared(declared) => declared.renewable(),
            Origin::Stored(stored) => stored.is_renewable(),
        }
    }

    /// Whether a request has to [`wait`](Self::renewed) before it reads [`Self::current`]: what is
    /// there has expired. Also notes that the account is used.
    pub fn must_wait(&self) -> bool {
        if let Origin::Stored(stored) = &self.origin {
            stored.used(&self.clock);
        }
        self.current.load().has_ended(&self.clock)
    }

    /// Waits, for a bounded time, until what had expired was renewed or could not be.
    pub async fn renewed(&self) {
        if let Origin::Stored(stored) = &self.origin {
            stored.keeper.renew_on_demand(self).await;
        }
    }

    /// The origin refused `version`. Renews the credential unless somebody did since; true when
    /// there is another version now.
    pub async fn renew_after_refusal(&self, version: u64, telemetry: &Telemetry) -> bool {
        match &self.origin {
            Origin::Declared(_) => self.read_after_refusal(version, telemetry).await,
            Origin::Stored(stored) => stored.keeper.renew_after_refusal(self, version).await,
        }
    }

    fn render(&self, properties: &Properties) -> Result<Attachable, Error> {
        let attach = |source| Error::Attach { account: self.account.clone(), source };
        let auth = self.auth();
        let usual = inject::prepare(&auth.attach, properties).map_err(attach)?;
        let exceptions = auth.exceptions.iter();
        let exceptions = exceptions.map(|exception| inject::prepare(&exception.attach, properties));
        let exceptions = exceptions.collect::<Result<_, _>>().map_err(attach)?;
        Ok(Attachable { usual, exceptions })
    }

    /// For values without a generation of their own.
    fn store(&self, state: State, until: Option<Duration>) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        self.current.store(Arc::new(Current {
            version,
            state,
            until,
            read_at: self.clock.uptime(),
        }));
    }
}

struct Names {
    account: AccountId,
    id: AccountId,
}

impl Current {
    fn not_read() -> Self {
        Self {
            version: 0,
            state: State::Unavailable(Unavailable::for_now("it was not read yet".to_owned(), 1)),
            until: None,
            read_at: Duration::ZERO,
        }
    }

    fn has_ended(&self, clock: &Clock) -> bool {
        self.until.is_some_and(|until| clock.uptime() >= until)
    }
}

impl Attachable {
    /// What goes to this place; nothing where the definition does not say clearly.
    pub fn of(&self, choice: Choice) -> Option<&Prepared> {
        match choice {
            Choice::Usual => Some(&self.usual),
            Choice::Exception(at) => self.exceptions.get(at),
            Choice::Unclear => None,
        }
    }

    /// Masks the credential where somebody repeats it.
    pub fn cover(&self, text: &mut [u8]) {
        for prepared in std::iter::once(&self.usual).chain(&self.exceptions) {
            prepared.mask().cover(text, text.len());
        }
    }

    fn same_as(&self, current: &Current) -> bool {
        match &current.state {
            State::Ready(held) => held.usual.same_as(&self.usual),
            State::Unavailable(_) => false,
        }
    }
}

fn base_of(auth: &Auth, fields: &BTreeMap<String, String>) -> Result<http::Uri, String> {
    let text = auth.base_url.render_with(|name| fields.get(name).map(String::as_str));
    let text = text.map_err(|error| format!("base_url: {error}"))?;
    text.expose()
        .parse()
        .map_err(|_| format!("base_url: \"{}\" is not a URL", auth.base_url.source()))
}
