//! The two decisions on every request's way, alone: which app owns a host, and may this caller.
//! What they cost must not grow with what is held.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use countersign::catalog::Catalog;
use countersign::config::Draft;
use countersign::host::Host;
use countersign::ids::AppId;
use countersign::policy::{CallerPolicy, Decision, Question, decide};
use http::Method;

const APPS: usize = 4000;
const RULES: usize = 100;

pub fn print() {
    let catalog = Arc::new(catalog());
    println!("\ndecisions{:>24}", "ns");
    for (what, host) in [
        ("a listed name", "api.app-3999.test"),
        ("a tenant's name", "acme.tenants-3998.test"),
        ("a name of no app", "www.some.where.test"),
    ] {
        let host: Host = host.parse().expect("a valid host");
        let nanos = time(|| {
            let claims = catalog.index().claims(black_box(&host));
            black_box(claims.owner(443, "/v1/items").is_some());
        });
        println!("  {what:<22} {nanos:>8.0}   {APPS} apps");
    }
    println!("  {:<22} {:>8.0}   {RULES} rules", "a caller's request", decision(&catalog));
}

fn decision(catalog: &Arc<Catalog>) -> f64 {
    let policy = policy(catalog);
    let host: Host = "api.app-1.test".parse().expect("a valid host");
    let app: AppId = "app-1".parse().expect("a valid id");
    let question = Question {
        method: &Method::POST,
        host: &host,
        port: 443,
        // Only the last rule allows this.
        path: "/v1/items-99/7",
        app: Some(&app),
        selector: None,
    };
    assert!(matches!(decide(&policy, &question), Decision::Permit(_)), "the last rule allows it");
    time(|| {
        black_box(decide(&policy, black_box(&question)));
    })
}

/// Every second app has a host per tenant.
fn catalog() -> Catalog {
    let files = (0..APPS).map(|number| {
        let (host, field) = match number % 2 {
            0 => (
                format!("{{subdomain}}.tenants-{number}.test"),
                "[[auth.key.fields]]\nname = \"subdomain\"\nlabel = \"Subdomain\"\nsecret = false\n",
            ),
            _ => (format!("api.app-{number}.test"), ""),
        };
        (format!("app-{number}.toml"), app(number, &host, field))
    });
    Catalog::build(files).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]))
}

fn app(number: usize, host: &str, field: &str) -> String {
    format!(
        r#"
id = "app-{number}"
name = "App {number}"
description = "One of many"
categories = ["testing"]
docs_url = "https://app-{number}.test/docs"
confidence = "verified"
[auth.key]
kind = "bearer"
hosts = ["{host}"]
base_url = "https://{host}"
attach = [ {{ header = "Authorization", value = "Bearer {{api_key}}" }} ]
{field}
[[auth.key.fields]]
name = "api_key"
label = "API key"
secret = true
"#
    )
}

fn policy(catalog: &Arc<Catalog>) -> CallerPolicy {
    let mut text = String::from(
        r#"
[accounts.one]
app = "app-1"
secrets = { api_key = { value = "k" } }
[callers.bench]
token = { value = "bench-caller-token-0123456789" }
accounts = ["one"]
"#,
    );
    for number in 0..RULES {
        writeln!(
            text,
            "[[callers.bench.rules]]\neffect = \"allow\"\napp = \"app-1\"\nmethods = [\"POST\"]\npaths = [\"/v1/items-{number}/*\"]"
        )
        .expect("a String takes everything");
    }
    let config = Draft::parse(&text, None, &[]).finish(catalog.clone());
    let config = config.unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    config.callers.into_iter().next().expect("one caller").policy
}

/// Nanoseconds per call: the best of several batches, since noise only ever adds.
fn time(mut call: impl FnMut()) -> f64 {
    const CALLS: u32 = 20_000;
    let mut batch = || {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    (0..20).map(|_| batch()).fold(f64::INFINITY, f64::min)
}
