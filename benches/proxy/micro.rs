//! What is decided and attached on every request's way, alone: which app owns a host, may this
//! caller, and the credential. What the first two cost must not grow with what is held.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use countersign::catalog::Catalog;
use countersign::config::Draft;
use countersign::host::Host;
use countersign::ids::AppId;
use countersign::inject::{
    Attachment, AwsSigV4, Head, Moment, OAuth1, OAuth1Method, Signature, Template, prepare,
};
use countersign::policy::{CallerPolicy, Decision, Question, decide};
use countersign::secret::Secret;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

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
    println!("\nattaching to a GET{:>15}", "ns");
    let template = |text: &str| Template::parse(text).expect("a valid template");
    let aws = AwsSigV4 {
        access_key_id: template("{id}"),
        secret_access_key: template("{secret}"),
        session_token: None,
        service: None,
        region: None,
    };
    let oauth1 = OAuth1 {
        method: OAuth1Method::HmacSha1,
        consumer_key: template("{id}"),
        consumer_secret: template("{secret}"),
        token: Some((template("{id}"), template("{secret}"))),
        realm: None,
    };
    let bearer = Attachment::Header {
        name: http::header::AUTHORIZATION,
        value: template("Bearer {secret}"),
        optional: false,
    };
    let aws = Attachment::Signature(Signature::AwsSigV4(Box::new(aws)));
    let oauth1 = Attachment::Signature(Signature::OAuth1(Box::new(oauth1)));
    for (what, attachment) in
        [("a header", bearer), ("AWS Signature V4", aws), ("OAuth 1.0a, HMAC-SHA1", oauth1)]
    {
        println!("  {what:<22} {:>8.0}", attaching(attachment));
    }
}

/// Puts it into the head of a request, which is copied first for each.
fn attaching(attachment: Attachment) -> f64 {
    let value = |text: &str| Secret::from(text.to_owned());
    let secret = value("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let values = [("id".to_owned(), value("AKIDEXAMPLE")), ("secret".to_owned(), secret)];
    let prepared = prepare(&[attachment], &values.into()).expect("values that can be sent");
    let host: Host = "s3.eu-central-1.amazonaws.com".parse().expect("a valid host");
    let head: HeaderMap = [(HOST, host.as_str()), (ACCEPT, "*/*"), (USER_AGENT, "bench/1.0")]
        .map(|(name, value)| (name, HeaderValue::from_str(value).expect("visible")))
        .into_iter()
        .collect();
    let path = PathAndQuery::from_static("/bucket/key.json?list-type=2&prefix=a%2Fb");
    let moment = || Moment { now: SystemTime::now(), nonce: "n0nce4n0nce4n0nce4n0".to_owned() };
    time(|| {
        let (mut headers, mut target) = (head.clone(), path.clone());
        prepared.attach(&mut headers, &mut target).expect("a valid target");
        if prepared.has_more() {
            let (headers, target) = (&mut headers, &mut target);
            let mut head =
                Head { method: &Method::GET, host: &host, headers, target, secure: true };
            prepared.finish(&mut head, &[], &moment()).expect("it can be signed");
        }
        black_box((headers, target));
    })
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
