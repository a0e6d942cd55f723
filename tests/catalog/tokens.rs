//! Every way to get tokens: where the browser is sent, the exchange, and a refresh, against an
//! authorization server that speaks each app's own dialect.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use countersign::catalog::{
    App, Auth, AuthKind, ClientAuth, FailureSign, Lifetime, OAuth2, Pkce, Pointer, Site, Strategy,
    TimeUnit, TokenBody,
};
use countersign::clock::Clock;
use countersign::config::Override;
use countersign::host::Host;
use countersign::inject::{Properties, Template};
use countersign::oauth::{Callback, Engine, Expiry, OAuthClient, Terms, TokenSet};
use countersign::secret::Secret;
use countersign::upstream::{Client, OwnAddresses, Settings};
use countersign::vault::Tokens;
use http::request::Parts;
use http::{Method, Response};
use http_body_util::Full;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::server::Origin;
use crate::values::{filled, made_up};
use crate::{apps, assert_none, catalog};

const ID: &str = "client-id-1";
const SECRET: &str = "client-secret-1";
const CODE: &str = "code-1";
const REDIRECT: &str = "https://cs.example/callback";
/// Each has a server and an engine of its own.
const LANES: usize = 4;

/// What the server knows of the app at hand, and what it was asked.
#[derive(Default)]
struct Desk {
    token: Value,
    later: Value,
    token_places: Vec<String>,
    seen: Vec<Seen>,
}

#[derive(Clone)]
struct Seen {
    method: Method,
    /// Host and path.
    place: String,
    query: BTreeMap<String, String>,
    head: Parts,
    body: String,
    params: BTreeMap<String, String>,
}

/// One way to authenticate, with made-up values.
struct Case {
    app: Arc<App>,
    auth: Auth,
    values: BTreeMap<String, String>,
}

impl Case {
    fn oauth2(&self) -> &OAuth2 {
        self.auth.oauth2.as_ref().expect("only such ways are here")
    }

    fn url(&self, template: &Template) -> String {
        let mut values = self.values.clone();
        values.entry("client_id".to_owned()).or_insert_with(|| ID.to_owned());
        filled(template.source(), &values)
    }

    fn urls(&self) -> Vec<String> {
        let o = self.oauth2();
        let plain = [&o.token_url, &o.refresh_url, &o.refresh.url];
        let steps = o.post_exchange.iter().map(|step| &step.url);
        plain.into_iter().flatten().chain(steps).map(|url| self.url(url)).collect()
    }

    fn token_urls(&self) -> Vec<String> {
        let o = self.oauth2();
        [&o.token_url, &o.refresh_url, &o.refresh.url]
            .into_iter()
            .flatten()
            .map(|url| self.url(url))
            .collect()
    }

    fn needs_person(&self) -> bool {
        self.auth.kind == AuthKind::Oauth2
    }
}

fn place_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_oauth_app_connects_and_refreshes_in_its_own_dialect() {
    let cases: Arc<Vec<Case>> = Arc::new(cases());
    assert!(cases.len() > 500, "{}", cases.len());
    let lane = |lane: usize| {
        let cases = cases.clone();
        tokio::spawn(async move {
            let mut wrong = Vec::new();
            let (desk, origin) = server().await;
            let engine = engine(&cases, &origin);
            for case in cases.iter().skip(lane).step_by(LANES) {
                let name = format!("{} [{}]", case.app.id, case.auth.id);
                let found = run(&engine, &desk, case).await;
                wrong.extend(found.err().map(|error| format!("{name}: {error}")));
            }
            wrong
        })
    };
    let mut wrong = Vec::new();
    for lane in (0..LANES).map(lane).collect::<Vec<_>>() {
        wrong.extend(lane.await.expect("a lane ends"));
    }
    assert_none("apps whose dialect is not spoken", &wrong);
}

/// Everything but what needs a key that is made for it: signed assertions.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for app in apps(&catalog()) {
        for auth in &app.auths {
            let Some(oauth2) = &auth.oauth2 else { continue };
            let signs = oauth2.assertion.is_some()
                || auth.jwt.is_some()
                || oauth2.client_auth == ClientAuth::PrivateKeyJwt;
            if !signs {
                cases.push(Case {
                    app: app.clone(),
                    auth: auth.clone(),
                    values: made_up(app.id.as_str(), auth),
                });
            }
        }
    }
    cases
}

async fn server() -> (Arc<Mutex<Desk>>, Origin) {
    let desk: Arc<Mutex<Desk>> = Arc::default();
    let kept = desk.clone();
    let origin = Origin::start(Arc::new(move |head: &Parts, body: &[u8]| {
        let seen = seen(head, body);
        let mut desk = kept.lock().expect("no holder panics");
        let is_token = desk.token_places.contains(&seen.place);
        let answer = if is_token { desk.token.to_string() } else { desk.later.to_string() };
        desk.seen.push(seen);
        Response::builder()
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(answer)))
            .expect("an answer")
    }))
    .await;
    (desk, origin)
}

fn seen(head: &Parts, body: &[u8]) -> Seen {
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let body = String::from_utf8_lossy(body).into_owned();
    let pairs = |text: &str| -> BTreeMap<String, String> {
        url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
    };
    let params = match serde_json::from_str::<Value>(&body) {
        Ok(Value::Object(map)) => map
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or(value.to_string(), str::to_owned)))
            .collect(),
        _ => pairs(&body),
    };
    Seen {
        method: head.method.clone(),
        place: format!("{host}{}", head.uri.path()).trim_end_matches('/').to_owned(),
        query: pairs(head.uri.query().unwrap_or_default()),
        head: head.clone(),
        body,
        params,
    }
}

fn engine(cases: &[Case], origin: &Origin) -> Engine {
    let mut hosts: Vec<String> = cases
        .iter()
        .flat_map(Case::urls)
        .map(|url| place_of(&url).split(['/', ':']).next().unwrap_or_default().to_owned())
        .collect();
    hosts.sort();
    hosts.dedup();
    let to: SocketAddr = origin.address;
    let named = |host: &String| {
        let host: Host = host.parse().unwrap_or_else(|error| panic!("{host}: {error}"));
        Override { host, port: None, to }
    };
    let limit = Duration::from_secs(10);
    let settings = Settings {
        resolve: hosts.iter().map(named).collect(),
        roots: CertificateDer::pem_slice_iter(origin.root_pem.as_bytes())
            .collect::<Result<_, _>>()
            .expect("a certificate"),
        allow: Vec::new(),
        bind: None,
        proxy: None,
        http2: false,
        connect_timeout: limit,
        tls_timeout: limit,
        first_byte_timeout: limit,
        idle_timeout: limit,
        keep_alive: limit,
        max_idle_per_host: 1,
        max_connections_per_host: 20,
    };
    Engine::new(Client::new(settings, OwnAddresses::default()).expect("sets up"), Clock::System)
}

/// The whole life of one grant. `Err` says what is not as the definition promises.
async fn run(engine: &Engine, desk: &Mutex<Desk>, case: &Case) -> Result<(), String> {
    let client = OAuthClient {
        client_id: ID.to_owned(),
        secret: Some(Secret::from(SECRET.to_owned())),
        private_key: None,
        key_id: None,
    };
    let properties = properties(case);
    let terms = Terms {
        app: &case.app,
        auth: &case.auth,
        client: Some(&client),
        properties: &properties,
        scopes: &[],
    };
    set(desk, case, 1, false);
    let first = match case.needs_person() {
        true => {
            let verifier = authorized(engine, &terms, case)?;
            let callback = callback(case, verifier);
            engine
                .exchange(&terms, &callback)
                .await
                .map_err(|error| format!("exchange: {error}"))?
        }
        false => engine.obtain(&terms).await.map_err(|error| format!("obtain: {error}"))?,
    };
    check_request(desk, case, false)?;
    check_tokens(case, &first, 1)?;
    let mut complete = properties.clone();
    for (name, value) in &first.fields {
        complete.insert(name.clone(), Secret::from(value.clone()));
    }
    let strategy = case.oauth2().refresh.strategy;
    if !case.needs_person() || !(case.oauth2().refresh.supported || strategy.is_some()) {
        return Ok(());
    }
    set(desk, case, 2, true);
    let held = Tokens { access: first.access.clone(), refresh: first.refresh.clone() };
    let terms = Terms { properties: &complete, ..terms };
    let second =
        engine.renew(&terms, Some(&held)).await.map_err(|error| format!("refresh: {error}"))?;
    check_request(desk, case, true)?;
    if strategy == Some(Strategy::Extend) {
        return Ok(());
    }
    check_tokens(case, &second, 2)
}

fn properties(case: &Case) -> Properties {
    let asked = case.auth.fields.iter().filter(|field| field.is_asked());
    let value = |name: &String| Secret::from(case.values[name].clone());
    asked.map(|field| (field.name.clone(), value(&field.name))).collect()
}

/// Where the browser goes, held against the definition.
fn authorized(engine: &Engine, terms: &Terms<'_>, case: &Case) -> Result<Option<Secret>, String> {
    let o = case.oauth2();
    let scopes: Vec<String> = o.default_scopes.iter().chain(&o.suggested_scopes).cloned().collect();
    let found = engine
        .authorize(terms, REDIRECT, &scopes)
        .map_err(|error| format!("authorize: {error}"))?;
    let expected = case.url(o.authorize_url.as_ref().ok_or("no authorize_url")?);
    if place_of(&found.url) != place_of(&expected) || !found.url.starts_with("https://") {
        return Err(format!("the browser goes to {}, not {expected}", found.url));
    }
    let query = found.url.split_once('?').map_or("", |(_, query)| query);
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let renamed = |name: &str| o.param_rename.get(name).cloned().unwrap_or_else(|| name.to_owned());
    let wanted = [("client_id", ID), ("redirect_uri", REDIRECT)];
    for (name, value) in wanted {
        let dropped = o.authorize_params_drop.iter().any(|dropped| dropped == name);
        let own = o.authorize_params.contains_key(&renamed(name));
        if !dropped && !own && query.get(&renamed(name)).map(String::as_str) != Some(value) {
            return Err(format!("the authorize URL lacks {name}: {}", found.url));
        }
    }
    if let (Some(scope), false) = (scopes.first(), o.authorize_params.contains_key("scope")) {
        let given =
            query.get(o.scope_param.as_deref().unwrap_or("scope")).cloned().unwrap_or_default();
        let separator = o.scopes_separator.as_deref().unwrap_or(" ");
        if given.split(separator).next() != Some(filled(scope, &case.values).as_str()) {
            return Err(format!("the scopes are \"{given}\""));
        }
    }
    let challenged = query.contains_key("code_challenge");
    if challenged == (o.pkce == Some(Pkce::Unsupported)) {
        return Err(format!("PKCE is {:?}, and the URL is {}", o.pkce, found.url));
    }
    Ok(found.verifier)
}

fn callback(case: &Case, verifier: Option<Secret>) -> Callback {
    let o = case.oauth2();
    let usual = o.param_rename.get("code").map_or("code", String::as_str);
    let code = o.callback_code_param.as_deref().unwrap_or(usual);
    let mut params = BTreeMap::from([
        (code.to_owned(), CODE.to_owned()),
        (countersign::oauth::state_param(o).to_owned(), "state-1".to_owned()),
    ]);
    for capture in &o.capture {
        if let Site::CallbackParam(name) = &capture.site {
            params.insert(name.clone(), captured(case, &capture.name));
        }
    }
    if let Some(issuer) = &o.issuer {
        params.insert("iss".to_owned(), case.url(issuer));
    }
    if let Some(check) = &o.callback_verify {
        let signed: Vec<String> =
            params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        params.insert(check.param.clone(), signature(&signed.join("&")));
    }
    Callback { params, verifier, redirect_uri: REDIRECT.to_owned() }
}

fn signature(text: &str) -> String {
    use aws_lc_rs::hmac;
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::sign(&key, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn captured(case: &Case, name: &str) -> String {
    case.values.get(name).cloned().unwrap_or_else(|| format!("made-up-{name}"))
}

/// Lays the answers out for the app at hand: its tokens where its definition looks for them.
fn set(desk: &Mutex<Desk>, case: &Case, generation: u32, renewed: bool) {
    let o = case.oauth2();
    let own = Some(&o.refresh.token_fields).filter(|fields| renewed && !fields.is_empty());
    let fields = own.unwrap_or(&o.token_fields);
    let mut token = json!({ "token_type": "Bearer" });
    let mut put = |name: &str, value: Value| match fields.get(name) {
        Some(pointer) => put_at(&mut token, pointer.as_str(), value),
        None => put_at(&mut token, &format!("/{name}"), value),
    };
    // In this order: where both are one and the same, it is the access token.
    put("refresh_token", format!("refresh-{generation}").into());
    put("access_token", format!("access-{generation}").into());
    if o.expires_at_field.is_none() && o.expires_in != Lifetime::Never {
        put("expires_in", expires_in(o.expires_as));
    }
    if let Some(pointer) = &o.expires_at_field {
        put_at(&mut token, pointer.as_str(), (now() + 3600).into());
    }
    if let Some(error) = &o.error_in_200
        && let FailureSign::Unless(good) = &error.sign
    {
        put_at(&mut token, error.path.as_str(), good.clone());
    }
    for capture in &o.capture {
        if let Site::Reply(pointer) = &capture.site {
            put_at(&mut token, pointer.as_str(), captured(case, &capture.name).into());
        }
    }
    let mut later = Value::Null;
    for capture in o.post_exchange.iter().flat_map(|step| &step.capture) {
        if let Site::Reply(pointer) = &capture.site {
            put_at(&mut later, pointer.as_str(), captured(case, &capture.name).into());
        }
    }
    let token_places = case.token_urls().iter().map(|url| place_of(url)).collect();
    *desk.lock().expect("no holder panics") = Desk { token, later, token_places, seen: Vec::new() };
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn expires_in(unit: TimeUnit) -> Value {
    match unit {
        TimeUnit::Seconds => 3600.into(),
        TimeUnit::Milliseconds => 3_600_000.into(),
        TimeUnit::Timestamp => (now() + 3600).into(),
    }
}

/// A JSON pointer's place, made if it is not there; numbers are places in lists.
fn put_at(root: &mut Value, pointer: &str, value: Value) {
    let mut here = root;
    for part in pointer.split('/').skip(1) {
        here = match part.parse::<usize>() {
            Ok(at) => {
                if !here.is_array() {
                    *here = Value::Array(Vec::new());
                }
                let list = here.as_array_mut().expect("it is one now");
                while list.len() <= at {
                    list.push(Value::Null);
                }
                &mut list[at]
            }
            Err(_) => {
                if !here.is_object() {
                    *here = json!({});
                }
                &mut here[part]
            }
        };
    }
    *here = value;
}

/// What the token endpoint was sent.
fn check_request(desk: &Mutex<Desk>, case: &Case, renewed: bool) -> Result<(), String> {
    let desk = desk.lock().expect("no holder panics");
    let o = case.oauth2();
    let call = desk.seen.iter().find(|seen| desk.token_places.contains(&seen.place));
    let call = call.ok_or("the token endpoint was not asked")?;
    let url = match renewed {
        true => o.refresh.url.as_ref().or(o.refresh_url.as_ref()).or(o.token_url.as_ref()),
        false => o.token_url.as_ref(),
    };
    let url = case.url(url.ok_or("no token_url")?);
    if call.place != place_of(&url) {
        return Err(format!("{} was asked, not {url}", call.place));
    }
    let all: Vec<&String> = call.params.values().chain(call.query.values()).collect();
    let is_sent = |value: &str| all.iter().any(|sent| sent.as_str() == value);
    let by_token = matches!(o.refresh.strategy, Some(Strategy::Exchange | Strategy::Extend));
    if case.needs_person() && !renewed && !is_sent(CODE) {
        return Err(format!("no code was sent: {}", call.body));
    }
    if renewed && !by_token && !is_sent("refresh-1") && !in_headers(call, "refresh-1") {
        return Err(format!("no refresh token was sent: {}", call.body));
    }
    if o.token_content_type == TokenBody::Json
        && call.method == Method::POST
        && !call.body.is_empty()
    {
        serde_json::from_str::<Value>(&call.body)
            .map_err(|_| format!("not JSON: {}", call.body))?;
    }
    let by_client = case.needs_person() || case.auth.kind == AuthKind::Oauth2ClientCredentials;
    match by_client && !(renewed && (by_token || o.refresh.client_auth.is_some())) {
        true => check_client(o, call, &is_sent),
        false => Ok(()),
    }
}

fn in_headers(call: &Seen, text: &str) -> bool {
    call.head.headers.values().any(|value| value.to_str().is_ok_and(|value| value.contains(text)))
}

/// How countersign proved itself.
fn check_client(o: &OAuth2, call: &Seen, is_sent: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let given = call.head.headers.get("authorization").and_then(|value| value.to_str().ok());
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    let fits = match o.client_auth {
        ClientAuth::Basic | ClientAuth::BasicRaw => {
            given == Some(&*basic(&format!("{ID}:{SECRET}")))
        }
        ClientAuth::SecretAsUser => given == Some(&*basic(&format!("{SECRET}:"))),
        ClientAuth::Body => {
            let dropped = |name: &str| o.token_params_drop.iter().any(|dropped| dropped == name);
            given.is_none_or(|value| !value.starts_with("Basic ") || !o.token_headers.is_empty())
                && (is_sent(SECRET) || dropped("client_secret"))
        }
        ClientAuth::Query => call.query.values().any(|value| value == SECRET),
        ClientAuth::None => !is_sent(SECRET),
        ClientAuth::PrivateKeyJwt | ClientAuth::Custom => true,
    };
    match fits {
        true => Ok(()),
        false => Err(format!(
            "the client did not prove itself by {:?}: {} {given:?}",
            o.client_auth, call.body
        )),
    }
}

fn check_tokens(case: &Case, found: &TokenSet, generation: u32) -> Result<(), String> {
    let o = case.oauth2();
    if found.access.expose() != format!("access-{generation}") {
        return Err("the access token is another one".to_owned());
    }
    let refresh = found.refresh.as_ref().map(Secret::expose);
    let same_place = |a: &Option<&Pointer>, b: &Option<&Pointer>| a.is_some() && a == b;
    let shared =
        same_place(&o.token_fields.get("access_token"), &o.token_fields.get("refresh_token"));
    if case.needs_person()
        && !shared
        && refresh.is_some_and(|token| !token.ends_with(&generation.to_string()))
    {
        return Err("the refresh token is another one".to_owned());
    }
    let ends = matches!(found.expires, Expiry::At(_));
    let told = o.expires_in != Lifetime::Never && o.expires_in != Lifetime::Unknown;
    if told && !ends {
        return Err(format!("the tokens' end is {:?}", found.expires));
    }
    for field in case.auth.fields.iter().filter(|field| !field.is_asked()) {
        let derived = matches!(field.origin, countersign::catalog::FieldOrigin::Derived { .. });
        if generation == 1
            && !derived
            && !found.fields.contains_key(&field.name)
            && !found.secrets.contains_key(&field.name)
        {
            return Err(format!("\"{}\" was not brought", field.name));
        }
    }
    Ok(())
}
