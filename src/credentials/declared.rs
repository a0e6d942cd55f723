//! Accounts of the configuration: secrets by reference, read again when their `ttl` runs out (in
//! the background, never while a request waits) and when an origin answers 401 (at most one read
//! per account and interval, whatever the number of requests).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Attachable, Error, Origin, Slot, State, Unavailable};
use crate::config::SecretRef;
use crate::inject::Properties;
use crate::secret::Secret;
use crate::sources;
use crate::telemetry::{AccountRef, AuditEvent, Refresh, Telemetry};

/// An origin that answers 401 to everything may not make us run a command for each request.
const MIN_BETWEEN_FORCED_READS: Duration = Duration::from_secs(10);

pub(super) struct Declared {
    secrets: BTreeMap<String, SecretRef>,
    /// When it was last read because of a 401, as uptime.
    forced: tokio::sync::Mutex<Option<Duration>>,
}

impl Declared {
    pub(super) fn new(secrets: BTreeMap<String, SecretRef>) -> Self {
        Self { secrets, forced: tokio::sync::Mutex::new(None) }
    }

    /// Whether reading again could help: an inline value or a variable stays what it is.
    pub(super) fn renewable(&self) -> bool {
        self.secrets.values().any(sources::can_change)
    }

    fn ttl(&self) -> Option<Duration> {
        self.secrets.values().filter_map(|secret| secret.ttl).min()
    }

    fn patience(&self) -> Duration {
        self.secrets.values().map(|secret| secret.failure_ttl).max().unwrap_or_default()
    }
}

impl Slot {
    fn as_declared(&self) -> Option<&Declared> {
        match &self.origin {
            Origin::Declared(declared) => Some(declared),
            Origin::Stored(_) => None,
        }
    }

    pub(super) async fn read_after_refusal(&self, version: u64, telemetry: &Telemetry) -> bool {
        let Some(declared) = self.as_declared().filter(|declared| declared.renewable()) else {
            return false;
        };
        let mut last = declared.forced.lock().await;
        if self.current().version != version {
            return true;
        }
        let now = self.clock.uptime();
        if last.is_some_and(|at| now.saturating_sub(at) < MIN_BETWEEN_FORCED_READS) {
            return false;
        }
        *last = Some(now);
        let Ok(fresh) = self.read_and_tell(telemetry).await else { return false };
        let changed = !fresh.same_as(&self.current());
        if changed {
            self.store(State::Ready(fresh), None);
        }
        changed
    }

    async fn read_and_tell(&self, telemetry: &Telemetry) -> Result<Attachable, Error> {
        let begun = Instant::now();
        let read = self.read_declared().await;
        let (app, took) = (&self.app.id, begun.elapsed());
        let account = AccountRef { nickname: &self.account, id: &self.id };
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
                tracing::warn!(account = %self.account, %error, "credential could not be read again");
            }
        }
        read
    }

    /// The uptime at which the values want to be read again; `None` when they need not.
    fn due(&self) -> Option<Duration> {
        Some(self.current().read_at + self.as_declared()?.ttl()?)
    }

    /// The background's read. The old value serves on for `failure_ttl` when this fails.
    async fn read_again(&self, telemetry: &Telemetry) {
        match self.read_and_tell(telemetry).await {
            Ok(fresh) => self.store(State::Ready(fresh), None),
            Err(error) => self.keep_or_drop(&error),
        }
    }

    fn keep_or_drop(&self, error: &Error) {
        let patience = self.as_declared().map(Declared::patience).unwrap_or_default();
        if self.due().is_some_and(|due| self.clock.uptime() > due + patience) {
            self.store(State::Unavailable(Unavailable::for_now(error.to_string(), 1)), None);
        }
    }

    pub(super) async fn read_declared(&self) -> Result<Attachable, Error> {
        let mut properties: Properties =
            self.fields.iter().map(|(k, v)| (k.clone(), Secret::from(v.clone()))).collect();
        let secrets = self.as_declared().map(|declared| &declared.secrets);
        for (name, reference) in secrets.into_iter().flatten() {
            let value = sources::read(reference).await;
            let value =
                value.map_err(|source| Error::Source { account: self.account.clone(), source })?;
            properties.insert(name.clone(), value);
        }
        self.render(&properties)
    }
}

/// Reads every declared account again when it is due, until the future is dropped. A source that
/// fails is asked again once a second.
pub async fn keep_fresh(slots: Vec<Arc<Slot>>, telemetry: Arc<Telemetry>) {
    loop {
        let Some(wait) = slots.iter().filter_map(|slot| wait_for(slot)).min() else {
            return std::future::pending().await;
        };
        tokio::time::sleep(wait.max(Duration::from_secs(1))).await;
        for slot in slots.iter().filter(|slot| wait_for(slot).is_some_and(|wait| wait.is_zero())) {
            slot.read_again(&telemetry).await;
        }
    }
}

fn wait_for(slot: &Slot) -> Option<Duration> {
    Some(slot.due()?.saturating_sub(slot.clock.uptime()))
}
