//! `make bench`: what a request costs through countersign, and through whatever else there is.
//!
//! The proxy has one core for itself, client and origin share the other. The figure to trust on a
//! noisy machine is the CPU time of the proxy's process per request; rates and percentiles only
//! compare within one run, whose rounds are interleaved. The origin answers 401 without the
//! credential, so a subject that does not do the job fails instead of winning.
//!
//! `BENCH_SECONDS` (0.5) is the length of one measurement, `BENCH_ROUNDS` (3) how many there are of
//! each, `BENCH_IDLE` (5000) how many idle connections are held, `BENCH_ONLY` a subject's name.
//! `BENCH_PART` is `idle`, `requests`, `bodies` or `decisions`, to measure only that, or a part of a
//! table's title, such as `TLS intercepted, 32`.
//! `BENCH_BINARY` another build of countersign, to compare two.
//! `BENCH_INSTRUCTIONS=1` counts instructions under valgrind instead, which repeats on any machine.

mod bare;
mod client;
mod instructions;
mod micro;
mod origin;
mod subject;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use client::{Load, Route, load};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use subject::{Ground, LOAD_CORE, Subject, Usage};
use tls::Identity;

/// The origin's name behind TLS.
const NAME: &str = "bench.test";
/// Its name in clear text, which an app has to allow explicitly.
const PLAIN_NAME: &str = "plain.bench.test";
const BODY_BYTES: usize = 256 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "--bare-proxy") {
        run_bare(&arguments[2..]);
        return;
    }
    raise_file_limit();
    if pins() {
        let own = std::process::id().to_string();
        let mut taskset = Command::new("taskset");
        taskset.args(["-a", "-p", "-c", LOAD_CORE, &own]).stdout(Stdio::null());
        taskset.status().expect("taskset starts");
    } else {
        println!("one core or no taskset: nothing is pinned, and the figures say little");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(bench());
}

/// Whether there are two cores to tell apart.
fn pins() -> bool {
    // Asked of the machine: this process itself is pinned to one core by now.
    let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cores.matches("processor\t").count() > 1 && Path::new("/usr/bin/taskset").exists()
}

fn run_bare(arguments: &[String]) {
    let identity = Identity::load(Path::new(&arguments[0]));
    let address = |at: usize| SocketAddr::from_str(&arguments[at]).expect("an address");
    let settings = bare::Settings {
        listen: address(1),
        plain_origin: address(2),
        tls_origin: address(3),
        server: identity.server(),
        client: identity.client(),
    };
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(bare::serve(settings)).expect("the bare proxy runs");
}

fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If it cannot be raised, the idle measurement says so by failing.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn bench() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identity = Identity::create(folder.path());
    let plain_origin = origin::listen(None).await;
    let tls_origin = origin::listen(Some(identity.server())).await;
    let folder = folder.path();
    let ground = Ground { folder, identity: &identity, plain_origin, tls_origin, callgrind: None };
    let only: String = setting("BENCH_ONLY", String::new());
    if setting("BENCH_INSTRUCTIONS", 0) > 0 {
        return instructions::print(ground, &only).await;
    }
    let subjects = Subject::all(&ground, &only);
    let part: String = setting("BENCH_PART", String::new());
    let wanted = |name: &str| part.is_empty() || part == name;

    // First, while no allocator has freed memory to hand out again.
    if wanted("idle") {
        idle(&subjects).await;
    }
    for (title, scenario) in SCENARIOS {
        if !wanted("requests") && !title.contains(&part) {
            continue;
        }
        table(title, &subjects, scenario).await;
    }
    if wanted("bodies") {
        bodies(&subjects).await;
    }
    drop(subjects);
    if wanted("decisions") {
        micro::print();
    }
}

/// What a load does.
#[derive(Clone, Copy)]
struct Scenario {
    tls: bool,
    connections: usize,
    /// A new connection per request, with TLS sessions resumed or not.
    renew: Option<Resume>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resume {
    Never,
    Always,
}

const fn kept(tls: bool, connections: usize) -> Scenario {
    Scenario { tls, connections, renew: None }
}

const fn renewed(resume: Resume) -> Scenario {
    Scenario { tls: true, connections: 8, renew: Some(resume) }
}

const SCENARIOS: [(&str, Scenario); 8] = [
    ("plain HTTP, 1 connection", kept(false, 1)),
    ("plain HTTP, 32 connections", kept(false, 32)),
    ("plain HTTP, 256 connections", kept(false, 256)),
    ("TLS intercepted, 1 connection", kept(true, 1)),
    ("TLS intercepted, 32 connections", kept(true, 32)),
    ("TLS intercepted, 256 connections", kept(true, 256)),
    ("new CONNECT and TLS for every request", renewed(Resume::Never)),
    ("new CONNECT and resumed TLS for every request", renewed(Resume::Always)),
];

impl Scenario {
    fn route(self, subject: &Subject) -> Route {
        let mut route = if self.tls { subject.tls.clone() } else { subject.plain.clone() };
        if self.renew == Some(Resume::Never) {
            route.tls = route.tls.as_deref().map(tls::forgetful);
        }
        route
    }
}

/// One measurement.
struct Round {
    load: Load,
    usage: Option<(Usage, Usage)>,
}

impl Round {
    fn rate(&self) -> f64 {
        self.load.requests as f64 / self.load.elapsed.as_secs_f64()
    }

    fn cpu_micros(&self) -> Option<f64> {
        let (before, after) = self.usage?;
        Some((after.cpu - before.cpu).as_secs_f64() * 1e6 / self.load.requests as f64)
    }
}

async fn measure(subject: &Subject, scenario: Scenario) -> io::Result<Round> {
    let route = scenario.route(subject);
    let time = Duration::from_secs_f64(setting("BENCH_SECONDS", 0.5));
    let renew = scenario.renew.is_some();
    load(&route, scenario.connections, renew, time.min(Duration::from_millis(100))).await?;
    let before = subject.usage();
    let load = load(&route, scenario.connections, renew, time).await?;
    Ok(Round { usage: before.zip(subject.usage()), load })
}

/// All subjects in turn, several times over, and the medians of what was measured.
async fn table(title: &str, subjects: &[Subject], scenario: Scenario) {
    let mut rounds: Vec<Vec<Round>> = subjects.iter().map(|_| Vec::new()).collect();
    for _ in 0..setting("BENCH_ROUNDS", 3) {
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            match measure(subject, scenario).await {
                Ok(round) => rounds.push(round),
                Err(error) => eprintln!("{}: {title}: {error}", subject.name),
            }
        }
    }
    println!("\n{title}");
    println!(
        "  {:<16} {:>9} {:>10} {:>10} {:>12} {:>9}",
        "", "req/s", "p50 µs", "p99 µs", "CPU µs/req", "RSS MiB"
    );
    for (subject, rounds) in subjects.iter().zip(&rounds).filter(|(_, rounds)| !rounds.is_empty()) {
        let micros = |of: fn(&Load) -> Duration| {
            median(rounds.iter().map(|round| of(&round.load).as_secs_f64() * 1e6))
        };
        let resident = rounds.last().and_then(|round| round.usage).map(|(_, after)| after);
        println!(
            "  {:<16} {:>9.0} {:>10.0} {:>10.0} {:>12} {:>9}",
            subject.name,
            median(rounds.iter().map(Round::rate)),
            micros(|load| load.p50),
            micros(|load| load.p99),
            or_dash(resident.map(|_| median(rounds.iter().filter_map(Round::cpu_micros)))),
            or_dash(resident.map(|usage| usage.resident_kib as f64 / 1024.0)),
        );
    }
}

fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.1}"))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Large bodies through intercepted TLS, one at a time, the subjects in turns.
async fn bodies(subjects: &[Subject]) {
    println!(
        "\n{} MiB bodies, TLS intercepted: MiB/s of content\n  {:<16} {:>8} {:>8} {:>11} {:>11}",
        BODY_BYTES >> 20,
        "",
        "down",
        "up",
        "JSON down",
        "gzip down"
    );
    let mut rounds: Vec<Vec<[f64; 4]>> = subjects.iter().map(|_| Vec::new()).collect();
    for _ in 0..setting("BENCH_ROUNDS", 3) {
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            match transfer(&subject.tls).await {
                Ok(rates) => rounds.push(rates),
                Err(error) => eprintln!("{}: bodies: {error}", subject.name),
            }
        }
    }
    for (subject, rounds) in subjects.iter().zip(&rounds) {
        let [down, up, json, gzip] = [0, 1, 2, 3].map(|at| median(rounds.iter().map(|r| r[at])));
        println!("  {:<16} {down:>8.0} {up:>8.0} {json:>11.0} {gzip:>11.0}", subject.name);
    }
}

/// MiB of content per second: down, up, JSON that countersign searches, and JSON that it decodes first.
/// The others pass the last as it is.
async fn transfer(route: &Route) -> io::Result<[f64; 4]> {
    let rate = |start: Instant| (BODY_BYTES >> 20) as f64 / start.elapsed().as_secs_f64();
    let mut connection = route.open().await?;
    connection.exchange(&route.get("/")).await?;
    let mut rates = [0.0; 4];
    for (at, kind) in [(0, "bytes"), (2, "json"), (3, "gzip")] {
        let start = Instant::now();
        connection.exchange(&route.get(&format!("/{kind}/{BODY_BYTES}"))).await?;
        rates[at] = rate(start);
    }
    let start = Instant::now();
    connection.upload(&route.post("/upload", BODY_BYTES), BODY_BYTES).await?;
    rates[1] = rate(start);
    Ok(rates)
}

/// What an intercepted connection costs while it waits for its next request, after some seconds.
async fn idle(subjects: &[Subject]) {
    let count: usize = setting("BENCH_IDLE", 5000);
    println!("\n{count} idle intercepted connections\n  {:<16} {:>15}", "", "KiB/connection");
    for subject in subjects.iter().filter(|subject| subject.usage().is_some()) {
        match hold(subject, count).await {
            Ok(kib) => println!("  {:<16} {kib:>15.1}", subject.name),
            Err(error) => eprintln!("{}: idle: {error}", subject.name),
        }
    }
}

/// Long enough for a subject that gives up what an idle connection does not need.
const REST: Duration = Duration::from_secs(5);

async fn hold(subject: &Subject, count: usize) -> io::Result<f64> {
    let resident = || subject.usage().map_or(0, |usage| usage.resident_kib) as f64;
    let before = resident();
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = subject.tls.open().await?;
        connection.exchange(&subject.tls.get("/")).await?;
        open.push(connection);
    }
    tokio::time::sleep(REST).await;
    Ok((resident() - before) / open.len() as f64)
}
