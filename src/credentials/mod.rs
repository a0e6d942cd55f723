//! The credentials in memory, ready to attach, and the one place that renews them.
//!
//! A [`Slot`] holds one account's credential. Requests read it without a lock; it is swapped whole
//! when the account's values change. A value is read again when its `ttl` runs out (in the
//! background, never while a request waits) and when an origin answers 401 (at most one read per
//! account and interval, whatever the number of requests).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::catalog::{App, Auth, Choice};
use crate::config::{Account, SecretRef};
use crate::ids::AccountId;
use crate::inject::{self, Prepared, Properties};
use crate::secret::Secret;
use crate::sources;
use crate::telemetry::{AuditEvent, Refresh, Telemetry};

/// An origin that answers 401 to everything may not make us run a command for each request.
const MIN_BETWEEN_FORCED_READS: Duration = Duration::from_secs(10);

/// One account's credential and where it comes from.
pub struct Slot {
    pub account: AccountId,
    pub app: Arc<App>,
    auth: usize,
    /// Where the account's requests go when only a path is given: scheme, host and base path.
    base: http::Uri,
    fields: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretRef>,
    current: ArcSwap<Current>,
    renewal: tokio::sync::Mutex<Option<Instant>>,
    versions: AtomicU64,
}

/// What a request finds: the credential, or why there is none.
pub struct Current {
    pub version: u64,
    pub state: State,
    read_at: Instant,
}

pub enum State {
    Ready(Attachable),
    /// The sentence that a refused caller is told.
    Unavailable(String),
}

/// Finished credentials by place: the app's own, and the exceptions that it makes.
pub struct Attachable {
    usual: Prepared,
    /// In the order of [`Auth::exceptions`].
    exceptions: Vec<Prepared>,
}

/// Why an account cannot be used at all, found at start or on reload.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("accounts.{account}: {source}")]
    Source { account: AccountId, source: sources::Error },
    #[error("accounts.{account}: {source}")]
    Attach { account: AccountId, source: inject::Error },
    #[error("accounts.{account}: {text}")]
    Definition { account: AccountId, text: String },
}

impl Slot {
    /// Reads the account's secrets and renders its credential.
    ///
    /// # Errors
    /// When a secret cannot be read or the result cannot be sent.
    pub async fn open(account: &Account, app: &Arc<App>) -> Result<Self, Error> {
        let undefined = |text: String| Error::Definition { account: account.name.clone(), text };
        let auth = app.auths.iter().position(|auth| auth.id == account.auth);
        let auth = auth.ok_or_else(|| undefined(format!("no auth \"{}\"", account.auth)))?;
        let slot = Self {
            account: account.name.clone(),
            app: app.clone(),
            auth,
            base: base_of(&app.auths[auth], &account.fields).map_err(undefined)?,
            fields: account.fields.clone(),
            secrets: account.secrets.clone(),
            current: ArcSwap::from_pointee(Current::unavailable("not read yet")),
            renewal: tokio::sync::Mutex::new(None),
            versions: AtomicU64::new(1),
        };
        let attachable = slot.read().await?;
        slot.store(State::Ready(attachable));
        Ok(slot)
    }

    pub fn auth(&self) -> &Auth {
        &self.app.auths[self.auth]
    }

    pub fn base(&self) -> &http::Uri {
        &self.base
    }

    pub fn current(&self) -> arc_swap::Guard<Arc<Current>> {
        self.current.load()
    }

    /// Whether reading again could help: an inline value or a variable stays what it is.
    pub fn renewable(&self) -> bool {
        self.secrets.values().any(sources::can_change)
    }

    /// The origin refused `version`. Reads again unless somebody did since; true when there is
    /// another version now.
    pub async fn renew_after_refusal(&self, version: u64, telemetry: &Telemetry) -> bool {
        if !self.renewable() {
            return false;
        }
        let mut last = self.renewal.lock().await;
        if self.current().version != version {
            return true;
        }
        if last.is_some_and(|at| at.elapsed() < MIN_BETWEEN_FORCED_READS) {
            return false;
        }
        *last = Some(Instant::now());
        let Ok(fresh) = self.read_and_tell(telemetry).await else { return false };
        let changed = !fresh.same_as(&self.current());
        if changed {
            self.store(State::Ready(fresh));
        }
        changed
    }

    async fn read_and_tell(&self, telemetry: &Telemetry) -> Result<Attachable, Error> {
        let begun = Instant::now();
        let read = self.read().await;
        let (app, account, took) = (&self.app.id, &self.account, begun.elapsed());
        match &read {
            Ok(_) => telemetry.event(&AuditEvent::CredentialRefreshed { app, account, took }),
            Err(error) => {
                let text = error.to_string();
                let (result, error) = (Refresh::Transient, text.as_str());
                telemetry.event(&AuditEvent::CredentialFailed {
                    app,
                    account,
                    result,
                    took,
                    error,
                });
                tracing::warn!(%account, %error, "credential could not be read again");
            }
        }
        read
    }

    /// When the values want to be read again; `None` when they need not.
    pub fn due(&self) -> Option<Instant> {
        let ttl = self.secrets.values().filter_map(|secret| secret.ttl).min()?;
        Some(self.current().read_at + ttl)
    }

    /// The background's read. The old value serves on for `failure_ttl` when this fails.
    async fn renew(&self, telemetry: &Telemetry) {
        match self.read_and_tell(telemetry).await {
            Ok(fresh) => self.store(State::Ready(fresh)),
            Err(error) => self.keep_or_drop(&error),
        }
    }

    fn keep_or_drop(&self, error: &Error) {
        let patience = self.secrets.values().map(|secret| secret.failure_ttl).max();
        let deadline = self.due().map(|due| due + patience.unwrap_or_default());
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            self.store(State::Unavailable(error.to_string()));
        }
    }

    async fn read(&self) -> Result<Attachable, Error> {
        let mut properties: Properties =
            self.fields.iter().map(|(k, v)| (k.clone(), Secret::from(v.clone()))).collect();
        for (name, reference) in &self.secrets {
            let value = sources::read(reference).await;
            let value =
                value.map_err(|source| Error::Source { account: self.account.clone(), source })?;
            properties.insert(name.clone(), value);
        }
        self.render(&properties)
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

    fn store(&self, state: State) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        self.current.store(Arc::new(Current { version, state, read_at: Instant::now() }));
    }
}

impl Current {
    fn unavailable(text: &str) -> Self {
        Self { version: 0, state: State::Unavailable(text.to_owned()), read_at: Instant::now() }
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

/// Reads every slot again when it is due, until the future is dropped. A source that fails is
/// asked again once a second.
pub async fn keep_fresh(slots: Vec<Arc<Slot>>, telemetry: Arc<Telemetry>) {
    loop {
        let Some(next) = slots.iter().filter_map(|slot| slot.due()).min() else {
            return std::future::pending().await;
        };
        let earliest = Instant::now() + Duration::from_secs(1);
        tokio::time::sleep_until(next.max(earliest).into()).await;
        let now = Instant::now();
        for slot in slots.iter().filter(|slot| slot.due().is_some_and(|due| due <= now)) {
            slot.renew(&telemetry).await;
        }
    }
}
