//! The audit: a closed set of events, one chained line each, in a file that only grows until it is
//! full and the next goes on.
//!
//! Events are formatted where they happen and numbered, hashed and written by one thread. When the
//! disk fails, unsynced lines are cut off again, so that the file always ends with a whole line,
//! ordinary events wait in the bounded queue, and those that somebody waits for fail. It is tried
//! again until it works; nobody has to restart anything. What the queue could not hold is recorded
//! as `events_lost`.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::accounts::AccountChange;
use super::chain::AUDIT_CONTINUED;
use super::journal::Journal;
use super::lines::{Batch, Notice, Queue, Take, Writer};
use super::metrics::{AuthFailure, Metrics, Refresh, TunnelMode};
use super::text::{self, Fields, Stamp};
use super::{ACCOUNT_ID, AccountRef, RequestRecord, SetupError, Style};
use crate::clock::{Clock, unix_ms};
use crate::ids::{AccountId, AppId, CallerId, RequestId};

#[derive(Clone, Debug)]
pub struct AuditSettings {
    pub file: PathBuf,
    /// Requests wait until they are recorded, and are refused if they cannot be.
    pub strict: bool,
    /// Events that may wait for the disk.
    pub queue: usize,
    /// A file with more is full, and the chain goes on in a new one; 0 is no limit.
    pub max_file_bytes: u64,
}

/// Everything that is audited. A request that has ended is recorded by
/// [`Telemetry::request`](super::Telemetry::request).
#[derive(Clone)]
pub enum AuditEvent<'a> {
    /// In strict mode: before the first byte leaves.
    RequestStarted(&'a RequestRecord<'a>),
    /// Bounded per second: then `count` says how many went the same way.
    AuthFailed {
        reason: AuthFailure,
        /// The name that the client gave; anything.
        claimed: Option<&'a str>,
        client: Option<IpAddr>,
        count: u64,
    },
    TunnelOpened(Tunnel<'a>),
    TunnelClosed {
        tunnel: Tunnel<'a>,
        bytes_in: u64,
        bytes_out: u64,
        duration: Duration,
    },
    /// The client did not finish TLS inside its tunnel. Bounded like `AuthFailed`.
    HandshakeFailed {
        caller: Option<&'a CallerId>,
        host: &'a str,
        error: &'a str,
    },
    CredentialRefreshed {
        app: &'a AppId,
        account: AccountRef<'a>,
        took: Duration,
    },
    CredentialFailed {
        app: &'a AppId,
        account: AccountRef<'a>,
        result: Refresh,
        took: Duration,
        error: &'a str,
    },
    /// `detail` is an error's code, or what was done.
    AccountChanged {
        app: &'a AppId,
        account: AccountRef<'a>,
        change: AccountChange,
        detail: &'a str,
    },
    /// Somebody changed who may use what, or how it is kept: `what` from a closed set, such as
    /// `caller_added`; `subject` by name. It was done `since` ago, by a command perhaps, while no
    /// server ran. `account` is the one that it was about, if it was about one.
    Administered {
        what: &'a str,
        subject: &'a str,
        account: Option<&'a AccountId>,
        detail: &'a str,
        by: &'a str,
        since: Duration,
    },
    ConfigReloaded {
        apps: usize,
        accounts: usize,
        callers: usize,
    },
    ConfigRefused {
        mistakes: usize,
        first: &'a str,
    },
    ServerStarted {
        version: &'a str,
    },
    ServerStopped {
        reason: &'a str,
    },
    /// `fingerprint` is the certificate's SHA-256 in hexadecimal.
    CaCreated {
        fingerprint: &'a str,
    },
    /// The queue was full, or there were too many failures in one second to name each.
    EventsLost {
        count: u64,
    },
    /// The last line was not whole after a crash; it was moved to `kept`.
    TornLine {
        bytes: u64,
        kept: &'a str,
    },
    /// The head names a later line than the file had at start.
    TailMissing {
        expected: u64,
        found: u64,
    },
    /// The first line of a new file: the one before was full and has this name now.
    AuditContinued {
        after: &'a str,
    },
}

/// A CONNECT tunnel.
#[derive(Clone, Copy)]
pub struct Tunnel<'a> {
    pub id: RequestId,
    pub client: Option<IpAddr>,
    pub caller: Option<&'a CallerId>,
    pub host: &'a str,
    pub port: u16,
    pub mode: TunnelMode,
}

impl AuditEvent<'_> {
    /// The `type` member.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RequestStarted(_) => "request_started",
            Self::AuthFailed { .. } => "auth_failed",
            Self::TunnelOpened(_) => "tunnel_opened",
            Self::TunnelClosed { .. } => "tunnel_closed",
            Self::HandshakeFailed { .. } => "handshake_failed",
            Self::CredentialRefreshed { .. } => "credential_refreshed",
            Self::CredentialFailed { .. } => "credential_failed",
            Self::AccountChanged { .. } => "account_changed",
            Self::Administered { .. } => "administered",
            Self::ConfigReloaded { .. } => "config_reloaded",
            Self::ConfigRefused { .. } => "config_refused",
            Self::ServerStarted { .. } => "server_started",
            Self::ServerStopped { .. } => "server_stopped",
            Self::CaCreated { .. } => "ca_created",
            Self::EventsLost { .. } => "events_lost",
            Self::TornLine { .. } => "torn_line",
            Self::TailMissing { .. } => "tail_missing",
            Self::AuditContinued { .. } => AUDIT_CONTINUED,
        }
    }

    fn write_fields(&self, out: &mut Fields<'_>) {
        match self {
            Self::RequestStarted(record) => record.write_question(out),
            Self::AuthFailed { reason, claimed, client, count } => {
                out.name("reason", reason.as_str());
                out.optional("claimed", *claimed);
                if let Some(client) = client {
                    out.address("client", *client);
                }
                out.number("count", *count);
            }
            Self::TunnelOpened(tunnel) => tunnel.write_fields(out),
            Self::TunnelClosed { tunnel, bytes_in, bytes_out, duration } => {
                tunnel.write_fields(out);
                out.number("bytes_in", *bytes_in);
                out.number("bytes_out", *bytes_out);
                out.millis("dur_ms", *duration);
            }
            Self::HandshakeFailed { caller, host, error } => {
                out.optional_name("caller", caller.map(CallerId::as_str));
                out.text("host", host);
                out.text("error", error);
            }
            Self::CredentialRefreshed { app, account, took } => {
                out.name("app", app.as_str());
                account.write_fields(out);
                out.millis("dur_ms", *took);
            }
            Self::CredentialFailed { app, account, result, took, error } => {
                out.name("app", app.as_str());
                account.write_fields(out);
                out.name("result", result.as_str());
                out.millis("dur_ms", *took);
                out.text("error", error);
            }
            Self::AccountChanged { app, account, change, detail } => {
                out.name("app", app.as_str());
                account.write_fields(out);
                out.name("change", change.as_str());
                out.text("detail", detail);
            }
            Self::Administered { what, subject, account, detail, by, since } => {
                out.text("what", what);
                out.text("subject", subject);
                out.optional_name(ACCOUNT_ID, account.map(AccountId::as_str));
                out.text("detail", detail);
                out.text("by", by);
                out.millis("since_ms", *since);
            }
            Self::ConfigReloaded { apps, accounts, callers } => {
                out.number("apps", *apps as u64);
                out.number("accounts", *accounts as u64);
                out.number("callers", *callers as u64);
            }
            Self::ConfigRefused { mistakes, first } => {
                out.number("mistakes", *mistakes as u64);
                out.text("first", first);
            }
            Self::ServerStarted { version } => out.text("version", version),
            Self::ServerStopped { reason } => out.text("reason", reason),
            Self::CaCreated { fingerprint } => out.text("fingerprint", fingerprint),
            Self::EventsLost { count } => out.number("count", *count),
            Self::TornLine { bytes, kept } => {
                out.number("bytes", *bytes);
                out.text("kept", kept);
            }
            Self::TailMissing { expected, found } => {
                out.number("expected", *expected);
                out.number("found", *found);
            }
            Self::AuditContinued { after } => out.text("after", after),
        }
    }

    pub(super) fn append_body(&self, now: SystemTime, out: &mut Vec<u8>) {
        let stamp = text::stamp(now);
        let name = self.name().as_bytes();
        text::put(out, &[b"\"ts\":\"", &stamp, b"\",\"type\":\"", name, b"\""]);
        self.write_fields(&mut Fields::new(out, Style::Json));
        out.push(b'\n');
    }
}

impl Tunnel<'_> {
    fn write_fields(&self, out: &mut Fields<'_>) {
        out.id("req_id", self.id);
        if let Some(client) = self.client {
            out.address("client", client);
        }
        out.optional_name("caller", self.caller.map(CallerId::as_str));
        out.text("host", self.host);
        out.number("port", u64::from(self.port));
        out.name("mode", self.mode.as_str());
    }
}

/// Why an event is not on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditUnavailable {
    #[error("the audit file could not be written: {0}")]
    Disk(Arc<str>),
    #[error("too many audit events wait for the disk")]
    Full,
    #[error("the audit is closed")]
    Closed,
}

pub(super) struct Audit {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    strict: bool,
    _writer: Writer,
}

/// What the writer and those who ask share, besides the queue.
#[derive(Default)]
struct Shared {
    failing: AtomicBool,
    throttle: Throttle,
}

impl Audit {
    pub(super) fn open(
        settings: AuditSettings,
        clock: Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, SetupError> {
        let AuditSettings { file, strict, queue, max_file_bytes } = settings;
        let queue = Queue::new(queue, queue.saturating_mul(MEAN_LINE).max(MIN_QUEUE_BYTES));
        let shared = Arc::new(Shared::default());
        let journal = Journal::open(&file, max_file_bytes, clock.now())?;
        let mut keeper = Keeper {
            journal,
            clock,
            strict,
            queue: queue.clone(),
            shared: shared.clone(),
            metrics: metrics.clone(),
            backlog: Vec::new(),
            failed_at: None,
            ticked_at: Instant::now(),
        };
        let writer = Writer::start("audit", queue.clone(), move || keeper.run())
            .map_err(SetupError::Thread)?;
        Ok(Self { queue, shared, strict, _writer: writer })
    }

    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }

    pub(super) fn is_well(&self) -> bool {
        !self.shared.failing.load(Ordering::Relaxed)
    }

    /// `fields` are the JSON members after `type`.
    pub(super) fn push(&self, stamp: &Stamp, event: &str, fields: &[u8]) {
        let event = event.as_bytes();
        self.queue.push(&[b"\"ts\":\"", stamp, b"\",\"type\":\"", event, b"\"", fields]);
    }

    pub(super) fn event(&self, event: &AuditEvent<'_>, now: SystemTime) {
        if !self.shared.throttle.admits(event, now) {
            return;
        }
        text::with_buffer(|fields| {
            event.write_fields(&mut Fields::new(fields, Style::Json));
            self.push(&text::stamp(now), event.name(), fields);
        });
    }

    pub(super) async fn strict(
        &self,
        event: &AuditEvent<'_>,
        now: SystemTime,
    ) -> Result<(), AuditUnavailable> {
        let (waiter, written) = oneshot::channel();
        text::with_buffer(|line| {
            event.append_body(now, line);
            line.pop();
            self.queue.push_urgent(&[line], waiter)
        })?;
        written.await.unwrap_or(Err(AuditUnavailable::Closed))
    }

    pub(super) async fn flush(&self) {
        self.queue.flush().await;
    }
}

/// Names the first failures of a second one by one and counts the rest, so that a stranger who
/// fails a million times writes a few lines.
#[derive(Default)]
struct Throttle {
    second: AtomicU64,
    named: AtomicU64,
    auth: [AtomicU64; AuthFailure::ALL.len()],
    handshakes: AtomicU64,
}

impl Throttle {
    fn admits(&self, event: &AuditEvent<'_>, now: SystemTime) -> bool {
        let (held, count) = match event {
            AuditEvent::AuthFailed { reason, count, .. } => (&self.auth[*reason as usize], *count),
            AuditEvent::HandshakeFailed { .. } => (&self.handshakes, 1),
            _ => return true,
        };
        let second = unix_ms(now) / 1000;
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.named.store(0, Ordering::Relaxed);
        }
        if self.named.fetch_add(1, Ordering::Relaxed) < NAMED_PER_SECOND {
            return true;
        }
        held.fetch_add(count, Ordering::Relaxed);
        false
    }

    /// Appends what was only counted since the last time.
    fn append_held(&self, now: SystemTime, out: &mut Vec<u8>) {
        for (reason, held) in AuthFailure::ALL.iter().zip(&self.auth) {
            let count = held.swap(0, Ordering::Relaxed);
            if count > 0 {
                let (claimed, client) = (None, None);
                let event = AuditEvent::AuthFailed { reason: *reason, claimed, client, count };
                event.append_body(now, out);
            }
        }
        let count = self.handshakes.swap(0, Ordering::Relaxed);
        if count > 0 {
            let error = format!("{count} more in the last second");
            let event = AuditEvent::HandshakeFailed { caller: None, host: "", error: &error };
            event.append_body(now, out);
        }
    }
}

/// The writer thread's state.
struct Keeper {
    journal: Journal,
    clock: Clock,
    strict: bool,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    /// Lines that were taken from the queue and are not written yet.
    backlog: Vec<u8>,
    failed_at: Option<Instant>,
    ticked_at: Instant,
}

impl Keeper {
    fn run(&mut self) {
        let mut batch = Batch::default();
        loop {
            // While the disk fails the queue is left alone, so that its bound holds.
            let take = if self.backlog.is_empty() { Take::All } else { Take::Urgent };
            let notice = self.queue.next(&mut batch, take, TICK.saturating_sub(self.since_tick()));
            self.take(&mut batch, notice);
            let due = notice.closed || self.since_tick() >= TICK;
            if due {
                self.shared.throttle.append_held(self.clock.now(), &mut self.backlog);
            }
            let result = self.write(&mut batch, due);
            // What waited behind a backlog is still in the queue and comes in the next round.
            let ended = notice.closed && (take == Take::All || result.is_err());
            for waiter in batch.waiters.drain(..) {
                let _ = waiter.send(result.clone());
            }
            if due {
                self.ticked_at = Instant::now();
            }
            if ended {
                return;
            }
        }
    }

    fn since_tick(&self) -> Duration {
        self.ticked_at.elapsed()
    }

    fn take(&mut self, batch: &mut Batch, notice: Notice) {
        if self.backlog.is_empty() {
            std::mem::swap(&mut self.backlog, &mut batch.lines);
        }
        if notice.lost > 0 {
            self.metrics.audit_dropped.inc_by(notice.lost);
            let event = AuditEvent::EventsLost { count: notice.lost };
            event.append_body(self.clock.now(), &mut self.backlog);
        }
    }

    /// Writes the backlog and the urgent lines, and syncs if somebody waits or it is time.
    fn write(&mut self, batch: &mut Batch, due: bool) -> Result<(), AuditUnavailable> {
        let just_failed = self.failed_at.is_some_and(|at| at.elapsed() < RETRY);
        if just_failed && !due {
            batch.urgent.clear();
            return Err(AuditUnavailable::Disk(Arc::from("it has just failed")));
        }
        let sync = due || self.strict || !batch.waiters.is_empty();
        let result = self.journal.append(&[&self.backlog, &batch.urgent], sync);
        // An urgent line that was not written belongs to a request that will not be sent.
        batch.urgent.clear();
        self.note(&result);
        match result {
            Ok(()) => {
                self.backlog.clear();
                self.journal.turn_if_full(self.clock.now());
                Ok(())
            }
            Err(error) => Err(AuditUnavailable::Disk(Arc::from(error.to_string()))),
        }
    }

    fn note(&mut self, result: &io::Result<()>) {
        let was_failing = self.failed_at.is_some();
        self.failed_at = result.is_err().then(Instant::now);
        self.shared.failing.store(result.is_err(), Ordering::Relaxed);
        self.metrics.audit_well.set(i64::from(result.is_ok()));
        match result {
            Ok(()) if was_failing => tracing::info!("the audit is written again"),
            Ok(()) => {}
            Err(error) => {
                self.metrics.audit_failed.inc();
                if !was_failing {
                    tracing::error!(%error, "the audit cannot be written");
                }
            }
        }
    }
}

const TICK: Duration = Duration::from_secs(1);
/// While the disk fails, it is not asked more often than this.
const RETRY: Duration = Duration::from_millis(100);
const NAMED_PER_SECOND: u64 = 20;
const MEAN_LINE: usize = 1024;
const MIN_QUEUE_BYTES: usize = 64 * 1024;

#[cfg(test)]
#[path = "audit_tests.rs"]
pub(super) mod tests;
