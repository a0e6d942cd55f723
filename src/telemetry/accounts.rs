//! What is counted of stored accounts and their tokens.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use prometheus::{GaugeVec, Histogram, IntCounter, IntGauge};

use super::metrics::{Registrar, unix_seconds};

label! {
    /// How an account fares.
    AccountState { Healthy = "healthy", Unhealthy = "unhealthy", Dead = "dead" }
}

label! {
    /// What happened to an account.
    AccountChange {
        Connected = "connected",
        Reconnected = "reconnected",
        Renamed = "renamed",
        Deleted = "deleted",
        /// Its secrets were handed out to a person or program.
        Exported = "exported",
        /// It works again.
        Recovered = "recovered",
        /// It cannot be renewed at present.
        Unhealthy = "unhealthy",
        /// Only connecting it anew helps.
        Dead = "dead",
    }
}

/// The accounts of one app in one state.
#[derive(Debug, Clone)]
pub struct Census {
    pub app: Box<str>,
    pub state: AccountState,
    pub accounts: u64,
    pub next_expiry: Option<SystemTime>,
}

/// Metrics of stored accounts.
pub struct AccountMetrics {
    accounts: GaugeVec,
    next_expiry: GaugeVec,
    lead: Histogram,
    waiters: IntGauge,
    unpersisted: IntGauge,
    fenced: IntCounter,
    reported: Mutex<Vec<Census>>,
}

impl AccountMetrics {
    pub(super) fn new(to: &Registrar) -> Self {
        Self {
            accounts: to.gauges("accounts", "Accounts in the store.", &["app", "state"]),
            next_expiry: to.gauges(
                "account_next_expiry_timestamp_seconds",
                "When the first access token of an app's accounts ends.",
                &["app"],
            ),
            lead: to.histogram(
                "token_refresh_lead_seconds",
                "Time that a token still had when its successor was there.",
                LEAD_BUCKETS,
            ),
            waiters: to.gauge("token_refresh_waiters", "Requests that wait for a token."),
            unpersisted: to.gauge(
                "token_rotations_unpersisted",
                "New tokens that are kept in memory because the store did not take them.",
            ),
            fenced: to.counter(
                "token_refreshes_superseded_total",
                "Refreshes that came after a reconnection or deletion and were not used.",
            ),
            reported: Mutex::default(),
        }
    }

    /// Replaces what was last said about how many accounts there are.
    pub(super) fn count(&self, census: impl Iterator<Item = Census>) {
        let mut reported = self.reported.lock();
        for Census { app, state, .. } in reported.drain(..) {
            let _ = self.accounts.remove_label_values(&[&*app, state.as_str()]);
            let _ = self.next_expiry.remove_label_values(&[&*app]);
        }
        for one in census {
            let accounts = self.accounts.with_label_values(&[&*one.app, one.state.as_str()]);
            accounts.add(one.accounts as f64);
            if let Some(at) = one.next_expiry.map(unix_seconds) {
                let first = self.next_expiry.with_label_values(&[&*one.app]);
                first.set(if first.get() == 0.0 { at } else { first.get().min(at) });
            }
            reported.push(one);
        }
    }

    /// A token was renewed when the old one had this long to live; nothing when it had ended.
    pub fn renewed(&self, lead: Duration) {
        self.lead.observe(lead.as_secs_f64());
    }

    /// A request that waits, until dropped.
    pub fn waiting(&self) -> Waiting {
        self.waiters.inc();
        Waiting(self.waiters.clone())
    }

    pub fn rotation_unpersisted(&self) {
        self.unpersisted.inc();
    }

    pub fn rotation_persisted(&self) {
        self.unpersisted.dec();
    }

    pub fn superseded(&self) {
        self.fenced.inc();
    }
}

#[must_use]
pub struct Waiting(IntGauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

const LEAD_BUCKETS: &[f64] = &[0.0, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0];
