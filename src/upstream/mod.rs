//! The way to an origin: resolve, guard, dial, TLS, pool, send.
//!
//! One [`Client`] for the whole process. The address that was checked is the address that is
//! dialled, TLS is always verified, and a connection serves one (host, port, TLS, ALPN) only: an
//! HTTP/2 connection is never shared between names, even if its certificate would allow it.
//! Sources: RFC 9112 §6 and §9, RFC 9113 §8, RFC 8305 (happy eyeballs), RFC 9110 §9.2.2 (what may
//! be sent twice).

mod body;
mod deadline;
mod dial;
mod error;
mod guard;
mod http1;
mod http2;
mod io;
mod knock;
mod message;
mod pool;
mod resolve;
mod send;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryFutureExt as _;
use http::{Request, Response};
use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use crate::host::{Authority, Host};
use crate::random;
use crate::secret::Secret;

use self::dial::Dialer;
use self::guard::Guard;
use self::pool::Pool;
use self::resolve::Resolver;
use self::tls::Tls;

pub use crate::config::Override;
pub use body::{CollectError, RequestBody, ResponseBody};
pub use error::{BodyError, Error, ErrorKind, Phase};
pub use guard::{OwnAddresses, Refusal};

/// Idle connections are looked at this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// How origins are reached: `[upstream]` of the config with its files and secrets read.
#[derive(Clone)]
pub struct Settings {
    pub resolve: Vec<Override>,
    /// Trusted beside the system's roots.
    pub roots: Vec<CertificateDer<'static>>,
    /// Private ranges that may be dialled. Metadata addresses and our own ports never.
    pub allow: Vec<IpNet>,
    /// The local address to send from.
    pub bind: Option<IpAddr>,
    pub proxy: Option<Parent>,
    pub http2: bool,
    pub connect_timeout: Duration,
    pub tls_timeout: Duration,
    /// From the request's end to the answer's head.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// How long an idle connection is kept for the next request.
    pub keep_alive: Duration,
    pub max_idle_per_host: usize,
    pub max_connections_per_host: usize,
}

/// A proxy to chain to, with CONNECT.
#[derive(Clone)]
pub struct Parent {
    pub authority: Authority,
    /// `user:password`.
    pub credentials: Option<Secret>,
    /// Names are resolved and guarded here. Off: the parent resolves, and the guard sees names and
    /// literal addresses only.
    pub resolve_locally: bool,
}

/// Where a request goes; the key of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub host: Host,
    pub port: u16,
    pub tls: bool,
    /// Offer no HTTP/2, because the request needs HTTP/1.1 (an upgrade).
    pub http1_only: bool,
}

/// What telemetry reads. Plain counters, so that this floor needs nothing of it.
#[derive(Debug, Default)]
pub struct Stats {
    pub opened: AtomicU64,
    pub closed: AtomicU64,
    /// Requests that found a connection ready.
    pub reused: AtomicU64,
    /// Requests sent a second time because a kept connection died under them, or because their origin
    /// said that it had not looked at them.
    pub retried: AtomicU64,
    errors: [AtomicU64; ErrorKind::ALL.len()],
}

impl Stats {
    pub fn open(&self) -> u64 {
        let closed = self.closed.load(Ordering::Relaxed);
        self.opened.load(Ordering::Relaxed).saturating_sub(closed)
    }

    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize].load(Ordering::Relaxed)
    }

    fn count(&self, error: &Error) {
        self.errors[error.kind() as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("a certificate of [upstream] roots cannot be a trust anchor")]
    Root(#[source] rustls::Error),
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
}

/// What holds for every exchange.
struct Limits {
    http2: bool,
    connect_timeout: Duration,
    tls_timeout: Duration,
    first_byte_timeout: Duration,
    idle_timeout: Duration,
    keep_alive: Duration,
    max_idle_per_host: usize,
    max_connections_per_host: usize,
}

/// Sends requests to origins. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Arc<Pool>,
    dialer: Dialer,
    tls: Tls,
    limits: Arc<Limits>,
    stats: Arc<Stats>,
    tracker: TaskTracker,
    sweep: AbortHandle,
    warnings: Vec<String>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.sweep.abort();
    }
}

impl Client {
    /// Must be called inside a Tokio runtime: it starts the sweep of idle connections.
    pub fn new(settings: Settings, own: OwnAddresses) -> Result<Self, SetupError> {
        let limits = Arc::new(settings.limits());
        let (tls, warnings) = Tls::new(&settings.roots, settings.http2)?;
        let pool = Arc::new(Pool::new(limits.clone()));
        let resolver = Resolver::new(settings.resolve, Guard::new(settings.allow, own));
        let dialer = Dialer::new(
            resolver,
            settings.proxy,
            settings.bind,
            settings.connect_timeout,
            format!("countersign-{:016x}", random::bits()),
        );
        let sweep = tokio::spawn(sweep(pool.clone())).abort_handle();
        let (stats, tracker) = (Arc::default(), TaskTracker::new());
        let inner = Inner { pool, dialer, tls, limits, stats, tracker, sweep, warnings };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What is odd about the system's root certificates, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    pub fn stats(&self) -> &Arc<Stats> {
        &self.inner.stats
    }

    /// `countersign-<random>`: what a parent proxy sees of us in `Via`. A request that comes in
    /// with it has gone in a circle.
    pub fn pseudonym(&self) -> &str {
        self.inner.dialer.pseudonym()
    }

    /// Whether requests go through a parent proxy.
    pub fn is_chained(&self) -> bool {
        self.inner.dialer.is_chained()
    }

    /// Kept open for the next request. Asked at scrape time: it looks at every destination.
    pub fn idle_connections(&self) -> u64 {
        self.inner.pool.idle_connections()
    }

    /// Sends a request in origin-form and returns the head of its answer, with the body to come.
    pub fn send<'a>(
        &'a self,
        to: &Destination,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Error>> + use<'a> {
        let answer = self.inner.send(to, request);
        answer.inspect_err(|error| self.inner.stats.count(error))
    }

    /// A bare connection, for a blind tunnel.
    pub async fn dial(&self, to: &Authority) -> Result<TcpStream, Error> {
        self.dial_onwards(to, "").await
    }

    /// The same for a tunnel that came through the proxies of `via`: a parent finds itself in it if
    /// two of them lead to each other.
    pub async fn dial_onwards(&self, to: &Authority, via: &str) -> Result<TcpStream, Error> {
        let result = self.inner.dialer.dial(to, via).await;
        result.inspect_err(|error| self.inner.stats.count(error))
    }

    /// Closes what is idle and waits for the tasks of HTTP/2 connections and uploads to end. An
    /// answer whose body is still read holds its own connection and is not waited for.
    pub async fn close(&self) {
        self.inner.sweep.abort();
        self.inner.pool.clear();
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }
}

impl Settings {
    fn limits(&self) -> Limits {
        Limits {
            http2: self.http2,
            connect_timeout: self.connect_timeout,
            tls_timeout: self.tls_timeout,
            first_byte_timeout: self.first_byte_timeout,
            idle_timeout: self.idle_timeout,
            keep_alive: self.keep_alive,
            max_idle_per_host: self.max_idle_per_host,
            max_connections_per_host: self.max_connections_per_host.max(1),
        }
    }
}

async fn sweep(pool: Arc<Pool>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        pool.sweep();
    }
}

#[cfg(test)]
mod tests;
