//! One request from its head to its last byte: what is known about it, told once when it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::Either;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::caller::Place;
use super::refusal::Refusal;
use crate::credentials::Slot;
use crate::host::Host;
use crate::ids::{AccountId, AppId, CallerId, RequestId};
use crate::telemetry::{
    AccountRef, Active, AuditEvent, Door, Metrics, Outcome, RequestRecord, Scope, Telemetry,
    Tunnel, TunnelMode, UNAUTHENTICATED, UpstreamErrorKind,
};
use crate::upstream::ErrorKind;

/// Reports itself when dropped, so that no way of ending is missed: an answer, a refusal, a client
/// that left, a panic, a shutdown.
pub struct Exchange {
    telemetry: Arc<Telemetry>,
    pub id: RequestId,
    at: SystemTime,
    started: Instant,
    door: Door,
    client: IpAddr,
    caller: Option<CallerId>,
    app: Option<AppId>,
    account: Option<Named>,
    rule: Option<Arc<str>>,
    would_deny: Option<&'static str>,
    method: Method,
    host: Option<Host>,
    port: u16,
    path: Path,
    status: u16,
    outcome: Outcome,
    reason: Option<&'static str>,
    received: Option<Arc<AtomicU64>>,
    bytes_out: u64,
    upstream: Option<Duration>,
    overhead: Option<Duration>,
    error: Option<String>,
    ended: bool,
    /// Counts as in flight until dropped.
    _active: Active,
    place: Option<Place>,
}

/// An account, as it was called when it was chosen.
struct Named {
    nickname: AccountId,
    id: AccountId,
}

impl Named {
    fn of(slot: &Slot) -> Self {
        Self { nickname: slot.account.clone(), id: slot.id.clone() }
    }

    fn as_ref(&self) -> AccountRef<'_> {
        AccountRef { nickname: &self.nickname, id: &self.id }
    }
}

/// Kept as the client sent it, without copying; an own text where a credential had to be cut out.
enum Path {
    Sent(PathAndQuery),
    Cut(String),
}

/// What the door knows when a request's head has been read.
pub struct Opening<'a> {
    pub id: RequestId,
    pub door: Door,
    pub client: IpAddr,
    pub caller: Option<&'a CallerId>,
    pub method: &'a Method,
    /// `None` when the request named none that is valid.
    pub host: Option<&'a Host>,
    pub port: u16,
    pub target: &'a PathAndQuery,
}

impl Exchange {
    pub fn open(telemetry: &Arc<Telemetry>, opening: &Opening<'_>) -> Box<Self> {
        Box::new(Self {
            telemetry: telemetry.clone(),
            id: opening.id,
            at: SystemTime::now(),
            started: Instant::now(),
            door: opening.door,
            client: opening.client,
            caller: opening.caller.cloned(),
            app: None,
            account: None,
            rule: None,
            would_deny: None,
            method: opening.method.clone(),
            host: opening.host.cloned(),
            port: opening.port,
            path: Path::Sent(opening.target.clone()),
            status: 0,
            outcome: Outcome::Error,
            reason: None,
            received: None,
            bytes_out: 0,
            upstream: None,
            overhead: None,
            error: None,
            ended: false,
            _active: telemetry.metrics.in_flight(),
            place: None,
        })
    }

    /// The path that rules and logs see, where it is not the one that was sent.
    pub fn cut_path(&mut self, path: String) {
        self.path = Path::Cut(path);
    }

    pub fn decided(
        &mut self,
        app: Option<&AppId>,
        account: Option<&Slot>,
        rule: Option<Arc<str>>,
        would_deny: Option<&'static str>,
    ) {
        self.app = app.cloned();
        self.account = account.map(Named::of);
        self.rule = rule;
        self.would_deny = would_deny;
        self.outcome =
            if account.is_some() { Outcome::Authenticated } else { Outcome::Passthrough };
    }

    pub fn of_app(&mut self, app: &AppId) {
        self.app = Some(app.clone());
    }

    pub fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Where the request body's bytes are counted.
    pub fn receives(&mut self, counter: Arc<AtomicU64>) {
        self.received = Some(counter);
    }

    /// The head of the answer of an origin that was asked at `asked` is here.
    pub fn answered(&mut self, status: StatusCode, asked: Instant) {
        self.status = status.as_u16();
        self.upstream = Some(asked.elapsed());
        self.overhead = Some(asked.duration_since(self.started));
    }

    pub fn waited(&self) -> Option<Duration> {
        self.upstream
    }

    pub fn refused(&mut self, refusal: &Refusal) {
        refusal.count(&self.telemetry.metrics, self.app.as_ref());
        self.status = refusal.status().as_u16();
        self.ended = true;
        self.overhead =
            Some(self.started.elapsed().saturating_sub(self.upstream.unwrap_or_default()));
        self.reason = refusal.reason();
        if matches!(refusal, Refusal::Denied(_))
            && let Some(rule) = refusal.rule()
        {
            self.rule = Some(rule);
        }
        self.outcome = refusal.outcome();
        if self.outcome == Outcome::Error {
            self.error = Some(refusal.to_string());
        }
    }

    pub fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// It was answered here, without an origin.
    pub fn answered_here(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.overhead = Some(self.started.elapsed());
        self.outcome = Outcome::Passthrough;
        self.ended = true;
    }

    pub fn complete(&mut self) {
        self.ended = true;
    }

    pub fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.ended = true;
        self.error = Some(error.to_string());
    }

    /// A blind tunnel is open. It may stay so for days, so this is recorded now and its end later.
    pub fn tunnel_opened(&self) {
        self.telemetry.event(&AuditEvent::TunnelOpened(Tunnel {
            id: self.id,
            client: Some(self.client),
            caller: self.caller.as_ref(),
            host: self.host.as_ref().map_or("", Host::as_str),
            port: self.port,
            mode: TunnelMode::Blind,
        }));
    }

    /// A WebSocket or tunnel has ended with these bytes from and to the client.
    pub fn spliced(&mut self, from_client: u64, to_client: u64) {
        self.ended = true;
        self.bytes_out = to_client;
        self.received = Some(Arc::new(AtomicU64::new(from_client)));
    }

    /// What a strict audit writes before bytes leave.
    ///
    /// # Errors
    /// When it cannot be written; nothing may be sent then.
    pub fn record_first(&self) -> impl Future<Output = Result<(), Refusal>> {
        match self.telemetry.is_strict() {
            false => Either::Left(std::future::ready(Ok(()))),
            true => Either::Right(Box::pin(self.record_start())),
        }
    }

    async fn record_start(&self) -> Result<(), Refusal> {
        let record = self.record();
        let event = AuditEvent::RequestStarted(&record);
        self.telemetry.strict(&event).await.map_err(|_| Refusal::Unrecorded)
    }

    fn record(&self) -> RequestRecord<'_> {
        RequestRecord {
            id: self.id,
            at: self.at,
            door: self.door,
            client: Some(self.client),
            caller: self.caller.as_ref(),
            app: self.app.as_ref(),
            account: self.account.as_ref().map(Named::as_ref),
            rule: self.rule.as_deref(),
            would_deny: self.would_deny,
            method: &self.method,
            host: self.host.as_ref().map_or("", Host::as_str),
            port: self.port,
            path: match &self.path {
                Path::Sent(target) => target.path(),
                Path::Cut(path) => path,
            },
            status: self.status,
            outcome: self.outcome,
            reason: self.reason,
            bytes_in: self.received.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed)),
            bytes_out: self.bytes_out,
            duration: self.started.elapsed(),
            upstream: self.upstream,
            overhead: self.overhead,
            error: self.error.as_deref(),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended && self.error.is_none() && self.status == 0 {
            self.error = Some("the client left before the answer".to_owned());
            self.outcome = Outcome::Error;
        }
        self.telemetry.request(&self.record());
    }
}

impl Refusal {
    fn count(&self, metrics: &Metrics, app: Option<&AppId>) {
        match self {
            Self::RateLimited { .. } => metrics.rate_limited(Scope::Caller),
            Self::TooManyGuesses => metrics.rate_limited(Scope::Address),
            Self::Busy { .. } => metrics.rate_limited(Scope::Concurrency),
            Self::TooManyTunnels { .. } => metrics.rate_limited(Scope::Tunnels),
            Self::Upstream(error) => {
                if let Some(kind) = error_kind(error.kind()) {
                    metrics.upstream_error(app, kind);
                }
            }
            _ => {}
        }
    }

    /// The metric's and the log's reason, for a denial.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::NoCaller | Self::UnknownCaller | Self::TooManyGuesses => Some(UNAUTHENTICATED),
            Self::Denied(denial) => Some(denial.reason()),
            Self::Unmatched { .. } => Some("unmatched"),
            Self::RateLimited { .. } => Some("rate_limited"),
            Self::Busy { .. } | Self::TooManyTunnels { .. } => Some("too_many"),
            Self::Port { .. } | Self::ClearText { .. } => Some("port"),
            Self::Trace => Some("method"),
            Self::Misdirected { .. } | Self::Authority(_) | Self::Malformed(_) | Self::Loop => {
                Some("authority")
            }
            Self::Upstream(error) if error.kind() == ErrorKind::Refused => Some("address"),
            Self::Credential { .. } | Self::Attach { .. } | Self::Unsignable { .. } => {
                Some("no_credential")
            }
            Self::Unrecorded => Some("audit_unavailable"),
            _ => None,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Malformed(_)
            | Self::Authority(_)
            | Self::Misdirected { .. }
            | Self::Loop
            | Self::NotForwarded(_)
            | Self::ExpectationFailed
            | Self::Trace => Outcome::Blocked,
            Self::Upstream(error) if error.kind() == ErrorKind::Refused => Outcome::Blocked,
            Self::Upstream(_)
            | Self::Credential { .. }
            | Self::Attach { .. }
            | Self::Unrecorded
            | Self::OriginSaid407
            | Self::BadUpgrade => Outcome::Error,
            _ => Outcome::Denied,
        }
    }

    fn rule(&self) -> Option<Arc<str>> {
        match self {
            Self::Denied(denial) => denial.rule().cloned(),
            _ => None,
        }
    }
}

/// The metric's name for what went wrong upstream; nothing where the client did it.
fn error_kind(kind: ErrorKind) -> Option<UpstreamErrorKind> {
    Some(match kind {
        ErrorKind::Dns => UpstreamErrorKind::Dns,
        ErrorKind::Refused => UpstreamErrorKind::Guard,
        ErrorKind::Connect | ErrorKind::Parent => UpstreamErrorKind::Connect,
        ErrorKind::Tls => UpstreamErrorKind::Tls,
        ErrorKind::Timeout | ErrorKind::Busy => UpstreamErrorKind::Timeout,
        ErrorKind::Reset => UpstreamErrorKind::Reset,
        ErrorKind::Protocol => UpstreamErrorKind::Protocol,
        ErrorKind::RequestBody => return None,
    })
}
