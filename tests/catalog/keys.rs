//! Every way of every app to attach a credential, through the real proxy: what arrives at the
//! origin is what the definition promises, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use countersign::catalog::{App, Auth, Catalog, FieldOrigin, Origin as Place};
use countersign::config::Draft;
use countersign::inject::{Attachment, Signature, When};
use countersign::serve::{self, Options, Sink};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::server::Origin;
use crate::values::{filled, made_up};
use crate::{apps, assert_none, catalog};

const TOKEN: &str = "catalog-token-0123456789abcdefghijklmnopqrstuv";
/// Requests under way at one time.
const LANES: usize = 4;
/// What tells one request's arrival from the others'.
const PROBE: &str = "x-probe";

/// An account of one way to authenticate, with made-up values.
struct Account {
    name: String,
    app: Arc<App>,
    auth: Auth,
    values: BTreeMap<String, String>,
    places: Vec<Place>,
}

/// One request, and what has to arrive.
#[derive(Clone)]
struct Probe {
    what: String,
    account: String,
    url: String,
    headers: BTreeMap<String, String>,
    /// Headers of which only the beginning is known.
    begins: BTreeMap<String, String>,
    query: BTreeSet<(String, String)>,
    path: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_app_gets_exactly_what_its_definition_promises() {
    let catalog = catalog();
    let accounts = accounts(&catalog);
    let seen: Arc<Mutex<HashMap<String, Parts>>> = Arc::default();
    let kept = seen.clone();
    let origin = Origin::start(Arc::new(move |head: &Parts, _: &[u8]| {
        let probe = head.headers.get(PROBE).and_then(|value| value.to_str().ok());
        let probe = probe.unwrap_or_default().to_owned();
        kept.lock().expect("no holder panics").insert(probe, head.clone());
        Response::new(Full::new(Bytes::from_static(b"ok")))
    }))
    .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("origin.pem"), &origin.root_pem).expect("it is writable");
    let text = config(&accounts, origin.address, folder.path());
    let file = folder.path().join("countersign.toml");
    std::fs::write(&file, &text).expect("it is writable");
    let config = Draft::parse(&text, Some(&file), &[])
        .finish(catalog)
        .unwrap_or_else(|found| panic!("{}", crate::shown(&found)));
    let options = Options { sink: Sink::Memory(Arc::default()), ..Options::default() };
    let running = serve::bind(config, options).await.expect("it starts");

    let probes: Vec<Probe> = accounts.iter().flat_map(probes_of).collect();
    let statuses = send_all(running.proxy[0], &probes).await;
    running.drain().await;

    let seen = seen.lock().expect("no holder panics");
    let mut wrong = Vec::new();
    for (at, probe) in probes.iter().enumerate() {
        match seen.get(&at.to_string()) {
            Some(head) => wrong.extend(differences(probe, head)),
            None => wrong.push(format!("{}: did not arrive: {}", probe.what, statuses[at])),
        }
    }
    assert!(probes.len() > 3_000, "{} requests", probes.len());
    assert_none("requests that arrived otherwise", &wrong);
}

/// Of every app, every way that the proxy can attach.
fn accounts(catalog: &Catalog) -> Vec<Account> {
    let mut accounts = Vec::new();
    for app in apps(catalog) {
        for auth in app.auths.iter().filter(|auth| is_attachable(auth)) {
            let values = made_up(app.id.as_str(), auth);
            let value_of = |name: &str| values.get(name).map(String::as_str);
            let render = |pattern: &countersign::catalog::HostPattern| {
                pattern
                    .render(value_of)
                    .unwrap_or_else(|error| panic!("{} {pattern}: {error}", app.id))
            };
            let places = auth.hosts.iter().filter(|host| !host.is_open()).map(render).collect();
            let name = format!("a{}", accounts.len());
            accounts.push(Account { name, app: app.clone(), auth: auth.clone(), values, places });
        }
    }
    accounts
}

fn is_attachable(auth: &Auth) -> bool {
    let exceptions = auth.exceptions.iter().flat_map(|exception| &exception.attach);
    let later = |one: &Attachment| match one {
        Attachment::Signature(signature) => !matches!(signature, Signature::AwsSigV4(_)),
        Attachment::Body { .. } => true,
        _ => false,
    };
    !auth.attach.iter().chain(exceptions).any(later)
}

/// One server for all of them.
fn config(accounts: &[Account], origin: SocketAddr, folder: &std::path::Path) -> String {
    let folder = folder.display();
    let mut text = format!(
        "data_dir = \"{folder}/data\"\n[proxy]\nlisten = [\"127.0.0.1:0\"]\n\
         [web]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nrequests = false\n[upstream]\nroots = [\"origin.pem\"]\n[upstream.resolve]\n"
    );
    let hosts: BTreeSet<String> = accounts
        .iter()
        .flat_map(|account| &account.places)
        .map(|place| format!("{}:{}", place.host, place.port))
        .collect();
    for host in hosts {
        writeln!(text, "\"{host}\" = \"{origin}\"").expect("a String takes everything");
    }
    for account in accounts {
        writeln!(text, "{}", table(account)).expect("a String takes everything");
    }
    let names: Vec<String> =
        accounts.iter().map(|account| format!("\"{}\"", account.name)).collect();
    writeln!(
        text,
        "[callers.all]\ntoken = {{ value = \"{TOKEN}\" }}\naccounts = [{}]\n\
         rules = [{{ effect = \"allow\" }}]",
        names.join(", ")
    )
    .expect("a String takes everything");
    text
}

fn table(account: &Account) -> String {
    let Account { name, app, auth, values, .. } = account;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let in_host: BTreeSet<&str> =
        auth.hosts.iter().filter(|host| !host.is_open()).flat_map(|p| p.host.holes()).collect();
    let mut fields = Vec::new();
    let mut secrets = Vec::new();
    for name in used(auth) {
        let Some(value) = values.get(name) else { continue };
        let open = in_host.contains(name) || auth.field(name).is_some_and(|field| !field.secret);
        match open {
            true => fields.push(format!("{name} = {}", quoted(value))),
            false => secrets.push(format!("{name} = {{ value = {} }}", quoted(value))),
        }
    }
    format!(
        "[accounts.{name}]\napp = \"{}\"\nauth = \"{}\"\nfields = {{ {} }}\nsecrets = {{ {} }}",
        app.id,
        auth.id,
        fields.join(", "),
        secrets.join(", ")
    )
}

/// Fields, and tokens that only attachments name.
fn used(auth: &Auth) -> BTreeSet<&str> {
    let exceptions = auth.exceptions.iter().flat_map(|exception| &exception.attach);
    let attached = auth.attach.iter().chain(exceptions).flat_map(holes);
    let attached = attached.map(|hole| match hole.strip_suffix(".host") {
        Some(field) if auth.field(field).is_some() => field,
        _ => hole,
    });
    let fields = auth.fields.iter().filter(|field| field.origin != FieldOrigin::Request);
    fields.map(|field| field.name.as_str()).chain(attached).collect()
}

fn holes(attachment: &Attachment) -> Vec<&str> {
    match attachment {
        Attachment::Header { value, .. }
        | Attachment::Query { value, .. }
        | Attachment::Cookie { value, .. } => value.holes(),
        Attachment::Basic { username, password } => [username.holes(), password.holes()].concat(),
        Attachment::Path { segment, .. } => segment.holes(),
        Attachment::Signature(_) => {
            attachment.fields().into_iter().map(|(field, _)| field).collect()
        }
        _ => Vec::new(),
    }
}

/// A request to each of the account's own hosts, below its prefix.
fn probes_of(account: &Account) -> Vec<Probe> {
    let one = |place: &Place| {
        let path = format!("{}probe", place.prefix.as_deref().unwrap_or("/"));
        let choice = account.auth.choice(&place.host, place.port, &path);
        let port = if place.port == 443 { String::new() } else { format!(":{}", place.port) };
        let mut probe = Probe {
            what: format!("{} [{}] at {place}", account.app.id, account.auth.id),
            account: account.name.clone(),
            url: format!("http://{}{port}{path}", place.host),
            headers: BTreeMap::new(),
            begins: BTreeMap::new(),
            query: BTreeSet::new(),
            path,
        };
        for attachment in account.auth.attachments(choice) {
            promise(&mut probe, attachment, &account.values);
        }
        probe
    };
    account.places.iter().map(one).collect()
}

fn promise(probe: &mut Probe, attachment: &Attachment, values: &BTreeMap<String, String>) {
    match attachment {
        Attachment::Header { name, value, .. } => {
            probe.headers.insert(name.to_string(), filled(value.source(), values));
        }
        Attachment::Static { name, value, when: When::Absent | When::Always } => {
            let text = value.to_str().expect("a definition's text").to_owned();
            probe.headers.insert(name.to_string(), text);
        }
        Attachment::Basic { username, password } => {
            let (user, password) =
                (filled(username.source(), values), filled(password.source(), values));
            let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            probe.headers.insert("authorization".to_owned(), value);
        }
        Attachment::Cookie { name, value } => {
            let value = format!("{name}={}", filled(value.source(), values));
            probe.headers.insert("cookie".to_owned(), value);
        }
        Attachment::Query { name, value, .. } => {
            probe.query.insert((name.clone(), filled(value.source(), values)));
        }
        Attachment::Path { segment, under: None } => {
            probe.path = format!("{}{}", filled(segment.source(), values), probe.path);
        }
        // Only below a path that this probe does not ask for.
        Attachment::Path { under: Some(_), .. } => {}
        // That the signature is right is proved where its key is known to another signer.
        Attachment::Signature(Signature::AwsSigV4(aws)) => {
            let key = filled(aws.access_key_id.source(), values);
            let begin = format!("AWS4-HMAC-SHA256 Credential={key}/");
            probe.begins.insert("authorization".to_owned(), begin);
            probe.begins.insert("x-amz-date".to_owned(), "20".to_owned());
            if let Some(token) = &aws.session_token {
                let token = filled(token.source(), values);
                probe.headers.insert("x-amz-security-token".to_owned(), token);
            }
            // Only S3 is told what was signed of the body.
            probe.begins.insert("x-amz-content-sha256".to_owned(), String::new());
        }
        Attachment::Body { .. } | Attachment::Signature(_) => unreachable!("not attachable"),
    }
}

async fn send_all(proxy: SocketAddr, probes: &[Probe]) -> Vec<String> {
    let probes: Arc<[Probe]> = probes.into();
    let lane = |lane: usize| {
        let probes = probes.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            let mut sender = None;
            for (at, probe) in probes.iter().enumerate().filter(|(at, _)| at % LANES == lane) {
                answers.push((at, send(proxy, &mut sender, at, probe).await));
            }
            answers
        })
    };
    let mut all = vec![String::new(); probes.len()];
    for lane in (0..LANES).map(lane).collect::<Vec<_>>() {
        for (at, answer) in lane.await.expect("a lane ends") {
            all[at] = answer;
        }
    }
    all
}

type Sender = http1::SendRequest<Full<Bytes>>;

/// Over one connection as long as it lasts.
async fn send(proxy: SocketAddr, held: &mut Option<Sender>, at: usize, probe: &Probe) -> String {
    let basic = STANDARD.encode(format!("all:{TOKEN}"));
    let host = probe.url.split('/').nth(2).unwrap_or_default();
    let request = Request::get(&probe.url)
        .header("host", host)
        .header("proxy-authorization", format!("Basic {basic}"))
        .header("countersign-account", &probe.account)
        .header(PROBE, at.to_string())
        .body(Full::new(Bytes::new()))
        .expect("a request");
    let mut sender = match held.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => connected(proxy).await,
    };
    if sender.ready().await.is_err() {
        sender = connected(proxy).await;
    }
    let sent = tokio::time::timeout(Duration::from_secs(20), sender.send_request(request)).await;
    match sent {
        Ok(Ok(response)) => {
            use http_body_util::BodyExt as _;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            *held = Some(sender);
            format!("{} {}", head.status, String::from_utf8_lossy(&body))
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    }
}

async fn connected(proxy: SocketAddr) -> Sender {
    let stream = TcpStream::connect(proxy).await.expect("the proxy listens");
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    tokio::spawn(connection);
    sender
}

/// What a request has anyway.
const USUAL: [&str; 3] = ["host", PROBE, "via"];

fn differences(probe: &Probe, head: &Parts) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, expected) in &probe.headers {
        let found: Vec<_> = head.headers.get_all(name).iter().collect();
        if found.len() != 1 || found[0].as_bytes() != expected.as_bytes() {
            wrong.push(format!("{}: {name} is {found:?}, not {expected:?}", probe.what));
        }
    }
    for (name, begin) in &probe.begins {
        let value = head.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        if !value.starts_with(begin.as_bytes()) {
            wrong.push(format!("{}: {name} does not begin with {begin}", probe.what));
        }
    }
    for name in strangers(probe, &head.headers) {
        wrong.push(format!("{}: {name} was not promised", probe.what));
    }
    let query = head.uri.query().unwrap_or_default();
    let query: BTreeSet<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    if query != probe.query {
        wrong.push(format!("{}: the query is {query:?}, not {:?}", probe.what, probe.query));
    }
    if head.uri.path() != probe.path {
        wrong.push(format!("{}: the path is {}, not {}", probe.what, head.uri.path(), probe.path));
    }
    wrong
}

fn strangers<'h>(probe: &Probe, headers: &'h HeaderMap) -> Vec<&'h str> {
    let known = |name: &&str| {
        USUAL.contains(name)
            || probe.headers.contains_key(*name)
            || probe.begins.contains_key(*name)
    };
    headers.keys().map(http::HeaderName::as_str).filter(|name| !known(name)).collect()
}
