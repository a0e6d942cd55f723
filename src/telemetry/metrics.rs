//! What is counted, for Prometheus.
//!
//! Every label takes its value from a closed set: an enum of ours, or the apps and callers of the
//! configuration ([`LABELS`], which a test compares with what is rendered). Hosts, paths, accounts
//! and addresses are for the log: as labels they would let a stranger fill the memory of two
//! servers. Handles are resolved once per app and caller and then are plain atomics: counting a
//! request hashes two short names and touches no lock.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use http::Method;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::accounts::{AccountMetrics, AccountState, Census};
use super::process::Process;
use super::{AuditEvent, Outcome, REASONS, RequestRecord};
use crate::clock::unix_ms;
use crate::ids::{AppId, CallerId};

label! {
    /// Why a caller could not prove who it is.
    AuthFailure { Missing = "missing", Invalid = "invalid", Expired = "expired", Forbidden = "forbidden" }
}

label! {
    /// How a tunnel is carried.
    TunnelMode { Intercept = "intercept", Blind = "blind" }
}

label! {
    /// Which listener a connection came to.
    Listener { Proxy = "proxy", Web = "web", Admin = "admin" }
}

label! {
    /// What went wrong on the way to the origin.
    UpstreamErrorKind {
        Dns = "dns",
        Guard = "guard",
        Connect = "connect",
        Tls = "tls",
        Timeout = "timeout",
        Reset = "reset",
        Protocol = "protocol",
    }
}

label! {
    /// How fetching or refreshing a credential ended.
    Refresh { Ok = "ok", Denied = "denied", Transient = "transient" }
}

label! {
    /// Which limit was hit.
    Scope {
        Caller = "caller",
        /// Wrong tokens from one address.
        Address = "address",
        Concurrency = "concurrency",
        Tunnels = "tunnels",
    }
}

label! {
    /// Whether a leaf certificate was at hand.
    Lookup { Hit = "hit", Miss = "miss" }
}

label! {
    /// How reading a changed configuration ended.
    Reload { Ok = "ok", Refused = "refused" }
}

/// What the upstream pool says of itself when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    pub active: u64,
    pub idle: u64,
    /// Connections opened, and requests that found one open, since the start.
    pub opened: u64,
    pub reused: u64,
}

/// Counts as long as it lives.
#[must_use]
pub struct Active(IntGauge);

impl Active {
    fn of(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Every metric of one instance, with its own registry.
pub struct Metrics {
    registry: Registry,
    series: ArcSwap<Series>,
    families: Families,
    in_flight: IntGauge,
    overhead: Histogram,
    connections_active: Vec<IntGauge>,
    connections_resting: IntGauge,
    connections: Vec<IntCounter>,
    tunnels: Vec<IntGauge>,
    auth_failures: Vec<IntCounter>,
    rate_limited: Vec<IntCounter>,
    lookups: Vec<IntCounter>,
    reloads: Vec<IntCounter>,
    reload_succeeded: IntGauge,
    reload_at: Gauge,
    /// Leaf certificates minted.
    certificates_issued: IntCounter,
    /// Leaf certificates held.
    certificate_cache_entries: IntGauge,
    ca_expiry: Gauge,
    pub(super) log_dropped: IntCounter,
    pub(super) audit_dropped: IntCounter,
    pub(super) audit_failed: IntCounter,
    pub(super) audit_well: IntGauge,
    pool: PoolMetrics,
    pub accounts: AccountMetrics,
    process: Process,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let to = Registrar(Registry::new());
        let families = Families::new(&to);
        let series = ArcSwap::from_pointee(Series::default());
        let info = to.gauges("build_info", "1, with the version that runs.", &["version"]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let reload_succeeded = to.gauge(
            "config_last_reload_successful",
            "Whether the configuration was last read without a mistake.",
        );
        reload_succeeded.set(1);
        let audit_well = to.gauge("audit_writable", "Whether the audit could be written last.");
        audit_well.set(1);
        Self {
            in_flight: to.gauge("proxy_requests_in_flight", "Requests being served."),
            overhead: to.histogram(
                "proxy_overhead_seconds",
                "Time that countersign itself adds to a request.",
                OWN_COST_BUCKETS,
            ),
            connections_active: each(
                &to.int_gauges("connections_active", "Open client connections.", &["listener"]),
                Listener::TEXTS,
            ),
            connections_resting: to.gauge(
                "connections_resting",
                "Client connections that wait for a next request without buffers.",
            ),
            connections: each(
                &to.counters("connections_total", "Client connections accepted.", &["listener"]),
                Listener::TEXTS,
            ),
            tunnels: each(
                &to.int_gauges("tunnels_active", "Open CONNECT tunnels.", &["mode"]),
                TunnelMode::TEXTS,
            ),
            auth_failures: each(
                &to.counters(
                    "proxy_auth_failures_total",
                    "Requests whose caller is not known.",
                    &["reason"],
                ),
                AuthFailure::TEXTS,
            ),
            rate_limited: each(
                &to.counters("rate_limited_total", "Requests refused by a limit.", &["scope"]),
                Scope::TEXTS,
            ),
            lookups: each(
                &to.counters(
                    "certificate_cache_lookups_total",
                    "Searches for a leaf certificate.",
                    &["result"],
                ),
                Lookup::TEXTS,
            ),
            reloads: each(
                &to.counters("config_reloads_total", "Readings of the configuration.", &["result"]),
                Reload::TEXTS,
            ),
            reload_succeeded,
            reload_at: to.float(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in use was read.",
            ),
            certificates_issued: to
                .counter("certificates_issued_total", "Leaf certificates minted."),
            certificate_cache_entries: to
                .gauge("certificate_cache_entries", "Leaf certificates held."),
            ca_expiry: to.float(
                "ca_certificate_expiry_timestamp_seconds",
                "When the certificate of the local CA ends.",
            ),
            log_dropped: to
                .counter("log_lines_dropped_total", "Log lines for which the queue had no room."),
            audit_dropped: to.counter("audit_events_dropped_total", "Audit events that were lost."),
            audit_failed: to.counter("audit_write_failures_total", "Failed writes of the audit."),
            audit_well,
            pool: PoolMetrics::new(&to),
            accounts: AccountMetrics::new(&to),
            process: Process::new(&to.0),
            registry: to.0,
            series,
            families,
        }
    }

    /// Says which apps and callers exist now. What was counted for one that stays is kept.
    pub fn know<'a>(
        &self,
        apps: impl IntoIterator<Item = &'a AppId>,
        callers: impl IntoIterator<Item = &'a CallerId>,
    ) {
        let before = self.series.load();
        let kept = |app: &AppId| before.apps.get(app).cloned().unwrap_or_default();
        let apps = apps.into_iter().map(|app| (app.clone(), kept(app))).collect();
        let kept = |caller: &CallerId| before.callers.get(caller).cloned().unwrap_or_default();
        let callers = callers.into_iter().map(|id| (id.clone(), kept(id))).collect();
        let (no_app, no_caller) = (before.no_app.clone(), before.no_caller.clone());
        self.series.store(Arc::new(Series { apps, callers, no_app, no_caller }));
    }

    pub(super) fn request(&self, record: &RequestRecord<'_>) {
        let class = class_of(record.status);
        let series = self.series.load();
        series.app(record.app, &self.families).count(record, class, &self.families);
        series.caller(record.caller, &self.families).count(class, &self.families);
        if let Some(overhead) = record.overhead {
            self.overhead.observe(overhead.as_secs_f64());
        }
    }

    pub(super) fn event(&self, event: &AuditEvent<'_>, now: SystemTime) {
        match event {
            AuditEvent::AuthFailed { reason, count, .. } => {
                self.auth_failures[*reason as usize].inc_by(*count);
            }
            AuditEvent::CredentialRefreshed { app, took, .. } => {
                self.refreshed(app, Refresh::Ok, *took);
            }
            AuditEvent::CredentialFailed { app, result, took, .. } => {
                self.refreshed(app, *result, *took);
            }
            AuditEvent::ServerStarted { .. } => self.reload_at.set(unix_seconds(now)),
            AuditEvent::ConfigReloaded { .. } => {
                self.reloads[Reload::Ok as usize].inc();
                self.reload_succeeded.set(1);
                self.reload_at.set(unix_seconds(now));
            }
            AuditEvent::ConfigRefused { .. } => {
                self.reloads[Reload::Refused as usize].inc();
                self.reload_succeeded.set(0);
            }
            _ => {}
        }
    }

    fn refreshed(&self, app: &AppId, result: Refresh, took: Duration) {
        let series = self.series.load();
        let name = series.app(Some(app), &self.families).name.clone();
        self.families.refreshes.with_label_values(&[&name, result.as_str()]).inc();
        self.families.refresh_durations.with_label_values(&[&name]).observe(took.as_secs_f64());
    }

    /// A request that is being served, until dropped.
    pub fn in_flight(&self) -> Active {
        Active::of(&self.in_flight)
    }

    /// A client connection that was accepted, open until dropped.
    pub fn connection(&self, listener: Listener) -> Active {
        self.connections[listener as usize].inc();
        Active::of(&self.connections_active[listener as usize])
    }

    /// A connection that rests until dropped.
    pub fn resting(&self) -> Active {
        Active::of(&self.connections_resting)
    }

    /// A tunnel, open until dropped.
    pub fn tunnel(&self, mode: TunnelMode) -> Active {
        Active::of(&self.tunnels[mode as usize])
    }

    pub fn upstream_error(&self, app: Option<&AppId>, kind: UpstreamErrorKind) {
        let series = self.series.load();
        let name = &series.app(app, &self.families).name;
        self.families.upstream_errors.with_label_values(&[&**name, kind.as_str()]).inc();
    }

    pub fn rate_limited(&self, scope: Scope) {
        self.rate_limited[scope as usize].inc();
    }

    /// What the leaf cache counts of itself: entries now, hits and leaves minted since the start.
    pub fn leaves(&self, entries: usize, hits: u64, minted: u64) {
        let catch_up = |counter: &IntCounter, to: u64| {
            counter.inc_by(to.saturating_sub(counter.get()));
        };
        self.certificate_cache_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        catch_up(&self.certificates_issued, minted);
        catch_up(&self.lookups[Lookup::Hit as usize], hits);
        catch_up(&self.lookups[Lookup::Miss as usize], minted);
    }

    /// How many accounts there are now. Apps that are not configured are counted together.
    pub fn accounts_are(&self, census: Vec<Census>) {
        let series = self.series.load();
        let known = |app: &str| series.apps.contains_key(app);
        let named = census.into_iter().map(|one| match known(&one.app) {
            true => one,
            false => Census { app: NOBODY.into(), ..one },
        });
        self.accounts.count(named);
    }

    pub fn ca_expires(&self, at: SystemTime) {
        self.ca_expiry.set(unix_seconds(at));
    }

    /// Asks `pool` at every scrape. Only the first pool counts.
    pub fn watch_pool(&self, pool: impl Fn() -> Pool + Send + Sync + 'static) {
        let _ = self.pool.source.set(Box::new(pool));
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        self.pool.read();
        self.process.read();
        let mut out = Vec::with_capacity(16 * 1024);
        // Fails only on a family without a metric, and `gather` leaves those out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        out
    }
}

/// The `Content-Type` of what [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Families whose series depend on the configuration.
struct Families {
    requests: IntCounterVec,
    durations: HistogramVec,
    upstream: HistogramVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    denials: IntCounterVec,
    would_deny: IntCounterVec,
    by_caller: IntCounterVec,
    upstream_errors: IntCounterVec,
    refreshes: IntCounterVec,
    refresh_durations: HistogramVec,
}

impl Families {
    fn new(to: &Registrar) -> Self {
        Self {
            requests: to.counters(
                "proxy_requests_total",
                "Requests answered.",
                &["app", "method", "code", "outcome"],
            ),
            durations: to.histograms(
                "proxy_request_duration_seconds",
                "From the request's head to the last byte of its answer.",
                &["app", "code"],
            ),
            upstream: to.histograms(
                "upstream_duration_seconds",
                "From the request sent to the head of the origin's answer.",
                &["app"],
            ),
            request_bytes: to.counters(
                "proxy_request_bytes_total",
                "Body bytes from clients.",
                &["app"],
            ),
            response_bytes: to.counters(
                "proxy_response_bytes_total",
                "Body bytes to clients.",
                &["app"],
            ),
            denials: to.counters("denials_total", "Requests refused.", &["app", "reason"]),
            would_deny: to.counters(
                "would_deny_total",
                "Requests let through in report mode that enforcing would refuse.",
                &["app", "reason"],
            ),
            by_caller: to.counters(
                "caller_requests_total",
                "Requests answered, by caller.",
                &["caller", "code"],
            ),
            upstream_errors: to.counters(
                "upstream_errors_total",
                "Failures on the way to the origin.",
                &["app", "kind"],
            ),
            refreshes: to.counters(
                "token_refreshes_total",
                "Credentials fetched or refreshed.",
                &["app", "result"],
            ),
            refresh_durations: to.histograms(
                "token_refresh_duration_seconds",
                "Time to fetch or refresh a credential.",
                &["app"],
            ),
        }
    }
}

/// The handles of every app and caller. One that was never used costs an empty cell.
#[derive(Default)]
struct Series {
    apps: HashMap<AppId, Arc<OnceLock<AppSeries>>>,
    callers: HashMap<CallerId, Arc<OnceLock<CallerSeries>>>,
    no_app: Arc<OnceLock<AppSeries>>,
    no_caller: Arc<OnceLock<CallerSeries>>,
}

impl Series {
    fn app(&self, app: Option<&AppId>, families: &Families) -> &AppSeries {
        match app.and_then(|app| Some((app, self.apps.get(app)?))) {
            Some((app, cell)) => cell.get_or_init(|| AppSeries::new(app.as_str(), families)),
            None => self.no_app.get_or_init(|| AppSeries::new(NOBODY, families)),
        }
    }

    fn caller(&self, caller: Option<&CallerId>, _: &Families) -> &CallerSeries {
        match caller.and_then(|caller| Some((caller, self.callers.get(caller)?))) {
            Some((caller, cell)) => cell.get_or_init(|| CallerSeries::new(caller.as_str())),
            None => self.no_caller.get_or_init(|| CallerSeries::new(NOBODY)),
        }
    }
}

/// The handles of one app. Combinations that never happen are never made.
struct AppSeries {
    name: Box<str>,
    requests: Cells<IntCounter>,
    durations: Cells<Histogram>,
    denials: Cells<IntCounter>,
    would_deny: Cells<IntCounter>,
    upstream: Histogram,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
}

impl AppSeries {
    fn new(name: &str, families: &Families) -> Self {
        Self {
            requests: cells(METHODS.len() * CLASSES.len() * Outcome::ALL.len()),
            durations: cells(CLASSES.len()),
            denials: cells(REASONS.len()),
            would_deny: cells(REASONS.len()),
            upstream: families.upstream.with_label_values(&[name]),
            request_bytes: families.request_bytes.with_label_values(&[name]),
            response_bytes: families.response_bytes.with_label_values(&[name]),
            name: name.into(),
        }
    }

    fn count(&self, record: &RequestRecord<'_>, class: usize, families: &Families) {
        self.requests(record, class, families).inc();
        let name = &*self.name;
        self.durations[class]
            .get_or_init(|| families.durations.with_label_values(&[name, CLASSES[class]]))
            .observe(record.duration.as_secs_f64());
        if let Some(upstream) = record.upstream {
            self.upstream.observe(upstream.as_secs_f64());
        }
        self.request_bytes.inc_by(record.bytes_in);
        self.response_bytes.inc_by(record.bytes_out);
        if let Some(reason) = record.reason {
            by_reason(&self.denials, &families.denials, name, reason).inc();
        }
        if let Some(reason) = record.would_deny {
            by_reason(&self.would_deny, &families.would_deny, name, reason).inc();
        }
    }

    fn requests(
        &self,
        record: &RequestRecord<'_>,
        class: usize,
        families: &Families,
    ) -> &IntCounter {
        let method = method_index(record.method);
        let outcome = record.outcome as usize;
        let index = (method * CLASSES.len() + class) * Outcome::ALL.len() + outcome;
        self.requests[index].get_or_init(|| {
            let labels = [&self.name, METHODS[method], CLASSES[class], record.outcome.as_str()];
            families.requests.with_label_values(&labels)
        })
    }
}

struct CallerSeries {
    name: Box<str>,
    requests: Cells<IntCounter>,
}

impl CallerSeries {
    fn new(name: &str) -> Self {
        Self { name: name.into(), requests: cells(CLASSES.len()) }
    }

    fn count(&self, class: usize, families: &Families) {
        let family = &families.by_caller;
        self.requests[class]
            .get_or_init(|| family.with_label_values(&[&self.name, CLASSES[class]]))
            .inc();
    }
}

type Cells<T> = Box<[OnceLock<T>]>;

fn cells<T>(count: usize) -> Cells<T> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

fn by_reason<'a>(
    cells: &'a Cells<IntCounter>,
    family: &IntCounterVec,
    app: &str,
    reason: &str,
) -> &'a IntCounter {
    let index = REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len() - 1);
    cells[index].get_or_init(|| family.with_label_values(&[app, REASONS[index]]))
}

fn method_index(method: &Method) -> usize {
    let known = METHODS.iter().position(|known| *known == method.as_str());
    known.unwrap_or(METHODS.len() - 1)
}

/// `-` is a client that left before it was answered.
fn class_of(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}

pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    // Exact until the year 287,396: milliseconds fit the 53 bits of a double.
    unix_ms(at) as f64 / 1000.0
}

/// Stands for an app or caller that is not configured.
const NOBODY: &str = "-";
const METHODS: &[&str] =
    &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "other"];
const CLASSES: &[&str] = &["-", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// OpenTelemetry's advice for HTTP, and 30 s for slow APIs.
const DURATION_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0];
/// From 10 µs to 100 ms: a proxy that is worth its place lives in the first few.
const OWN_COST_BUCKETS: &[f64] =
    &[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1];

struct PoolMetrics {
    source: OnceLock<Box<dyn Fn() -> Pool + Send + Sync>>,
    active: IntGauge,
    idle: IntGauge,
    opened: IntCounter,
    reused: IntCounter,
}

impl PoolMetrics {
    fn new(to: &Registrar) -> Self {
        Self {
            source: OnceLock::new(),
            active: to
                .gauge("upstream_connections_active", "Upstream connections that carry a request."),
            idle: to.gauge(
                "upstream_connections_idle",
                "Upstream connections kept for a next request.",
            ),
            opened: to.counter("upstream_connections_opened_total", "Upstream connections opened."),
            reused: to.counter(
                "upstream_connections_reused_total",
                "Requests that found an upstream connection open.",
            ),
        }
    }

    fn read(&self) {
        let Some(source) = self.source.get() else { return };
        let now = source();
        self.active.set(i64::try_from(now.active).unwrap_or(i64::MAX));
        self.idle.set(i64::try_from(now.idle).unwrap_or(i64::MAX));
        self.opened.inc_by(now.opened.saturating_sub(self.opened.get()));
        self.reused.inc_by(now.reused.saturating_sub(self.reused.get()));
    }
}

/// Makes metrics and registers them, under our prefix.
pub(super) struct Registrar(Registry);

impl Registrar {
    fn register<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: prometheus::Result<M>,
    ) -> M {
        let metric = metric.expect("names and labels are constants that are valid");
        self.0.register(Box::new(metric.clone())).expect("no name is used twice");
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(options(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(options(name, help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(options(name, help)))
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(options(name, help), labels))
    }

    fn float(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(options(name, help)))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(options(name, help), labels))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::from(options(name, help)).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::from(options(name, help)).buckets(DURATION_BUCKETS.to_vec());
        self.register(HistogramVec::new(options, labels))
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("countersign_{name}"), help)
}

/// One handle per value, in the order of the enum. Made now, so that a rate starts at 0 and not
/// with its first increment.
fn each<M>(family: &prometheus::core::MetricVec<M>, values: &[&str]) -> Vec<M::M>
where
    M: prometheus::core::MetricVecBuilder,
{
    values.iter().map(|value| family.with_label_values(&[value])).collect()
}

/// Where a label's values come from.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// The configuration's apps, and `-`.
    Apps,
    /// The configuration's callers, and `-`.
    Callers,
    Of(&'static [&'static str]),
}

/// Every label of every metric, and what it may say.
pub const LABELS: &[(&str, &str, Values)] = &[
    ("countersign_build_info", "version", Values::Of(&[env!("CARGO_PKG_VERSION")])),
    ("countersign_proxy_requests_total", "app", Values::Apps),
    ("countersign_proxy_requests_total", "method", Values::Of(METHODS)),
    ("countersign_proxy_requests_total", "code", Values::Of(CLASSES)),
    ("countersign_proxy_requests_total", "outcome", Values::Of(Outcome::TEXTS)),
    ("countersign_proxy_request_duration_seconds", "app", Values::Apps),
    ("countersign_proxy_request_duration_seconds", "code", Values::Of(CLASSES)),
    ("countersign_upstream_duration_seconds", "app", Values::Apps),
    ("countersign_proxy_request_bytes_total", "app", Values::Apps),
    ("countersign_proxy_response_bytes_total", "app", Values::Apps),
    ("countersign_denials_total", "app", Values::Apps),
    ("countersign_denials_total", "reason", Values::Of(REASONS)),
    ("countersign_would_deny_total", "app", Values::Apps),
    ("countersign_would_deny_total", "reason", Values::Of(REASONS)),
    ("countersign_caller_requests_total", "caller", Values::Callers),
    ("countersign_caller_requests_total", "code", Values::Of(CLASSES)),
    ("countersign_connections_active", "listener", Values::Of(Listener::TEXTS)),
    ("countersign_connections_total", "listener", Values::Of(Listener::TEXTS)),
    ("countersign_tunnels_active", "mode", Values::Of(TunnelMode::TEXTS)),
    ("countersign_proxy_auth_failures_total", "reason", Values::Of(AuthFailure::TEXTS)),
    ("countersign_upstream_errors_total", "app", Values::Apps),
    ("countersign_upstream_errors_total", "kind", Values::Of(UpstreamErrorKind::TEXTS)),
    ("countersign_token_refreshes_total", "app", Values::Apps),
    ("countersign_token_refreshes_total", "result", Values::Of(Refresh::TEXTS)),
    ("countersign_token_refresh_duration_seconds", "app", Values::Apps),
    ("countersign_accounts", "app", Values::Apps),
    ("countersign_accounts", "state", Values::Of(AccountState::TEXTS)),
    ("countersign_account_next_expiry_timestamp_seconds", "app", Values::Apps),
    ("countersign_certificate_cache_lookups_total", "result", Values::Of(Lookup::TEXTS)),
    ("countersign_config_reloads_total", "result", Values::Of(Reload::TEXTS)),
    ("countersign_rate_limited_total", "scope", Values::Of(Scope::TEXTS)),
];
