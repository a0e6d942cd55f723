//! What happened: metrics, the canonical log and the audit.
//!
//! One value, three sinks. [`Telemetry::request`] is called once per request, when its last byte has
//! left; it counts, formats the shared fields once, and hands two lines to bounded queues. Only the
//! two writer threads behind the queues touch a file, so neither a full disk nor a stuck terminal
//! holds up a request (except in strict mode, where it must).
//!
//! Never in any of the three: a secret, a header, a query string. Text that a peer chose is escaped
//! so that one event is one line (CVE-2024-45808).

#[macro_use]
mod label;
mod accounts;
mod audit;
mod chain;
mod journal;
mod lines;
mod log;
mod metrics;
mod process;
mod text;
pub mod trail;
mod volumes;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;

use crate::clock::Clock;
use crate::ids::{AccountId, AppId, CallerId, RequestId};

pub use accounts::{AccountChange, AccountMetrics, AccountState, Census, Waiting};
pub use audit::{AuditEvent, AuditSettings, AuditUnavailable, Tunnel};
pub use chain::{Finding, Flaw, Head, Report, is_intact, verify, verify_live};
pub use journal::OpenError;
pub use log::{LogSettings, Sink, Style};
pub use metrics::{
    Active, AuthFailure, CONTENT_TYPE, LABELS, Listener, Lookup, Metrics, Pool, Refresh, Reload,
    Scope, TunnelMode, UpstreamErrorKind, Values,
};
pub(crate) use text::plain;

use audit::Audit;
use log::Log;

/// Metrics, log and audit of one instance. Several may live in one process, as in tests.
pub struct Telemetry {
    pub metrics: Arc<Metrics>,
    log: Log,
    audit: Option<Audit>,
    clock: Clock,
}

/// What [`Telemetry::open`] needs to know.
pub struct Settings {
    pub log: LogSettings,
    /// `None`: nothing is audited.
    pub audit: Option<AuditSettings>,
    pub clock: Clock,
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Audit(#[from] OpenError),
    #[error("the log filter \"{filter}\" is not valid")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("a writer thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// One request that has ended, by whatever door it came. Borrowed: nothing is copied to report it.
#[derive(Clone)]
pub struct RequestRecord<'a> {
    pub id: RequestId,
    /// When its head had been read.
    pub at: SystemTime,
    pub door: Door,
    /// The peer's address.
    pub client: Option<IpAddr>,
    pub caller: Option<&'a CallerId>,
    pub app: Option<&'a AppId>,
    pub account: Option<AccountRef<'a>>,
    /// The rule that decided.
    pub rule: Option<&'a str>,
    /// In report mode: the reason for which it would have been denied, one of [`REASONS`].
    pub would_deny: Option<&'static str>,
    pub method: &'a Method,
    pub host: &'a str,
    pub port: u16,
    /// As the client sent it, before any credential was attached. A query is cut off here too.
    pub path: &'a str,
    /// What the client was answered; 0 if it left before the answer.
    pub status: u16,
    pub outcome: Outcome,
    /// Why it was denied, one of [`REASONS`].
    pub reason: Option<&'static str>,
    /// Body bytes from the client, and to it.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// From its head read to the last byte of the answer written.
    pub duration: Duration,
    /// From the request handed to the upstream connection to the head of its answer.
    pub upstream: Option<Duration>,
    /// Countersign's own part: from head read to head sent, and from the answer's head to handing
    /// it on. Not `duration - upstream`, which would count the streaming of bodies.
    pub overhead: Option<Duration>,
    /// What went wrong, without a secret.
    pub error: Option<&'a str>,
}

/// An account as events name it: people read the nickname, which may be another account's tomorrow,
/// so whoever decides by an event decides by the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountRef<'a> {
    pub nickname: &'a AccountId,
    /// `apn_…`, never used again.
    pub id: &'a AccountId,
}

impl AccountRef<'_> {
    fn write_fields(self, fields: &mut text::Fields<'_>) {
        fields.name("account", self.nickname.as_str());
        fields.name(ACCOUNT_ID, self.id.as_str());
    }
}

/// The member of an entry that says which account it is about. Entries of older versions have none.
pub const ACCOUNT_ID: &str = "account_id";

/// Why a request was denied: the values of the `reason` label. Anything else counts as `other`.
pub const REASONS: &[&str] = &[
    "not_bound",
    "lapsed",
    "unknown_account",
    "other_host",
    "ambiguous",
    "no_rule",
    "rule",
    "odd_path",
    "unmatched",
    "unauthenticated",
    "expired",
    "rate_limited",
    "too_many",
    "port",
    "method",
    "authority",
    "address",
    "no_credential",
    "audit_unavailable",
    "other",
];

/// The reason of a request whose caller is not known. It is audited as [`AuditEvent::AuthFailed`],
/// which is bounded per second, and not once per request: a stranger must not fill the disk.
pub const UNAUTHENTICATED: &str = "unauthenticated";

label! {
    /// How a request came in.
    Door {
        Plain = "plain",
        Connect = "connect",
        Intercept = "intercept",
        Gateway = "gateway",
        Api = "api",
        Builder = "builder",
        Magic = "magic",
    }
}

label! {
    /// How it ended.
    Outcome {
        /// A credential was attached and the request sent.
        Authenticated = "authenticated",
        /// Sent, or tunnelled, untouched.
        Passthrough = "passthrough",
        /// Not a request that may be made: malformed, or to an address that is guarded.
        Blocked = "blocked",
        /// Policy said no, or nobody knows the caller.
        Denied = "denied",
        /// Allowed, but it failed here or upstream.
        Error = "error",
    }
}

impl Telemetry {
    /// Opens the audit file and starts the writer threads.
    pub fn open(settings: Settings) -> Result<Self, SetupError> {
        let metrics = Arc::new(Metrics::new());
        let log = Log::open(settings.log, &metrics)?;
        let audit = match settings.audit {
            Some(audit) => Some(Audit::open(audit, settings.clock.clone(), &metrics)?),
            None => None,
        };
        Ok(Self { metrics, log, audit, clock: settings.clock })
    }

    /// Counts and records a request that has ended.
    pub fn request(&self, record: &RequestRecord<'_>) {
        self.metrics.request(record);
        let audit = self.audit.as_ref().filter(|_| record.reason != Some(UNAUTHENTICATED));
        if audit.is_none() && !self.log.requests() {
            return;
        }
        text::with_buffer(|fields| {
            let stamp = text::stamp(record.at);
            if audit.is_some() || self.log.style() == Style::Json {
                record.write_fields(&mut text::Fields::new(fields, Style::Json));
            }
            if let Some(audit) = audit {
                audit.push(&stamp, "request", fields);
            }
            if self.log.requests() {
                self.log.request(record, &stamp, fields);
            }
        });
    }

    /// Counts and records anything else. Never waits: what the queue cannot take is counted, and
    /// the gap is recorded.
    pub fn event(&self, event: &AuditEvent<'_>) {
        self.metrics.event(event, self.clock.now());
        if let Some(audit) = &self.audit {
            audit.event(event, self.clock.now());
        }
    }

    /// Records an event and returns when it is on the disk. Of no effect when auditing is off.
    pub async fn strict(&self, event: &AuditEvent<'_>) -> Result<(), AuditUnavailable> {
        self.metrics.event(event, self.clock.now());
        match &self.audit {
            Some(audit) => audit.strict(event, self.clock.now()).await,
            None => Ok(()),
        }
    }

    /// Whether requests must be recorded before bytes leave ([`AuditEvent::RequestStarted`]).
    pub fn is_strict(&self) -> bool {
        self.audit.as_ref().is_some_and(Audit::is_strict)
    }

    /// Whether the audit could be written the last time that it was tried.
    pub fn audit_is_well(&self) -> bool {
        self.audit.as_ref().is_none_or(Audit::is_well)
    }

    /// Makes `tracing` events of the whole process go to this log.
    pub fn install(&self) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
        tracing::subscriber::set_global_default(self.subscriber())
    }

    /// The same for a scope: `tracing::subscriber::with_default`.
    pub fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        self.log.subscriber()
    }

    /// Returns when everything queued so far was written, or could not be.
    pub async fn flush(&self) {
        self.log.flush().await;
        if let Some(audit) = &self.audit {
            audit.flush().await;
        }
    }
}

impl RequestRecord<'_> {
    fn write_fields(&self, fields: &mut text::Fields<'_>) {
        self.write_question(fields);
        fields.optional("would_deny", self.would_deny);
        fields.number("status", u64::from(self.status));
        fields.number("bytes_in", self.bytes_in);
        fields.number("bytes_out", self.bytes_out);
        fields.millis("dur_ms", self.duration);
        if let Some(upstream) = self.upstream {
            fields.millis("upstream_ms", upstream);
        }
        fields.name("outcome", self.outcome.as_str());
        fields.optional("reason", self.reason);
        fields.optional("error", self.error);
    }

    /// What was known before the request was sent.
    fn write_question(&self, fields: &mut text::Fields<'_>) {
        fields.id("req_id", self.id);
        fields.name("door", self.door.as_str());
        if let Some(client) = self.client {
            fields.address("client", client);
        }
        fields.optional_name("caller", self.caller.map(CallerId::as_str));
        fields.name("method", self.method.as_str());
        fields.text("host", self.host);
        fields.number("port", u64::from(self.port));
        fields.path("path", self.path);
        fields.optional_name("app", self.app.map(AppId::as_str));
        if let Some(account) = self.account {
            account.write_fields(fields);
        }
        fields.optional("rule", self.rule);
    }
}

#[cfg(test)]
mod tests;
