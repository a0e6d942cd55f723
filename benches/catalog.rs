//! What the catalog costs: at start, in memory, per lookup and per search.
//!
//! `cargo bench --profile profiling --bench catalog`

use std::hint::black_box;
use std::time::{Duration, Instant};

use countersign::catalog::Catalog;
use countersign::host::Host;

fn main() {
    // Cargo passes `--bench`, test runners ask for a list.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    start();
    let large = four_thousand();
    lookups(&large);
    searches(&large);
    everything();
}

/// An empty catalog against the whole one.
fn start() {
    let empty = least(20, || Catalog::build([]).expect("nothing is wrong with nothing"));
    let before = resident();
    let began = Instant::now();
    let catalog = Catalog::embedded().expect("it has no mistakes");
    let first = began.elapsed();
    let grown = resident().saturating_sub(before);
    let full = least(20, || Catalog::embedded().expect("it has no mistakes"));
    println!("apps                       {:>10}", catalog.len());
    println!("start, empty               {:>10.3} ms", ms(empty));
    println!("start, whole, first time   {:>10.3} ms", ms(first));
    println!("start, whole, best of 20   {:>10.3} ms", ms(full));
    println!("memory of the whole        {:>10.2} MB", grown as f64 / 1e6);
    let began = Instant::now();
    black_box(catalog.app("slack"));
    println!("reading one definition     {:>10.3} ms", ms(began.elapsed()));
}

/// The catalog, and made-up apps up to 4,000.
fn four_thousand() -> Catalog {
    let missing = 4_000_usize.saturating_sub(Catalog::embedded().expect("loads").len());
    let own = (0..missing).map(|n| {
        let host = if n % 4 == 0 { "{tenant}" } else { "api" };
        let text = format!(
            "id = \"made{n}\"\nname = \"Made {n}\"\ndescription = \"x\"\n[auth.key]\nkind = \"api_key\"\n\
             hosts = [\"{host}.made{n}.example\"]\nbase_url = \"https://{host}.made{n}.example\"\n\
             attach = [{{ header = \"x-key\", value = \"{{key}}\" }}]\nfields = [\
             {{ name = \"key\", label = \"Key\" }}, {{ name = \"tenant\", label = \"T\", secret = false }}]\n"
        );
        (format!("made{n}.toml"), text)
    });
    Catalog::embedded_with(own).expect("they load")
}

fn lookups(catalog: &Catalog) {
    println!("apps                       {:>10}", catalog.len());
    for (what, host) in [
        ("a listed host", "api.notion.com"),
        ("a tenant's host", "acme.zendesk.com"),
        ("a host of nobody", "a.b.c.d.unknown.example"),
    ] {
        let host: Host = host.parse().expect("a host");
        let index = catalog.index();
        black_box(index.claims(&host).owner(443, "/x"));
        let rounds = 1_000_000_u32;
        let began = Instant::now();
        for _ in 0..rounds {
            black_box(index.claims(black_box(&host)).owner(443, black_box("/api/x")));
        }
        println!(
            "lookup, {what:<18} {:>10.0} ns",
            began.elapsed().as_nanos() as f64 / f64::from(rounds)
        );
    }
}

fn searches(catalog: &Catalog) {
    for query in ["slack", "gihtub", "google sheets", "api.stripe.com", "weather"] {
        let took = least(20, || catalog.ranked(query));
        println!("search, {query:<18} {:>10.3} ms", ms(took));
    }
}

/// What nothing does but the lint and the tests.
fn everything() {
    let catalog = Catalog::embedded().expect("it has no mistakes");
    let before = resident();
    let began = Instant::now();
    let count = catalog.apps().count();
    println!("reading all {count:<14} {:>10.1} ms", ms(began.elapsed()));
    println!(
        "memory of all definitions  {:>10.2} MB",
        resident().saturating_sub(before) as f64 / 1e6
    );
}

fn least<T>(times: u32, mut work: impl FnMut() -> T) -> Duration {
    let once = |_| {
        let began = Instant::now();
        black_box(work());
        began.elapsed()
    };
    (0..times).map(once).min().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Bytes; 0 where there is no `/proc`.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
