//! An authorization server that misbehaves on demand, over plain HTTP on this machine.
//!
//! It issues codes, checks PKCE, rotates refresh tokens, and kills a whole grant when a replaced
//! one comes again, as strict servers do. What its answers look like, how long it takes and which
//! calls fail is set while it runs; every call is recorded.
#![allow(dead_code, reason = "each test binary that includes this uses its own part")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

pub const CLIENT_ID: &str = "cid";
pub const CLIENT_SECRET: &str = "client-secret-1";

/// One call as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub method: Method,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub body: String,
    /// Of a form or a flat JSON object.
    pub params: BTreeMap<String, String>,
}

/// What the token endpoint's good answers look like.
#[derive(Clone, Debug, Default)]
pub enum Shape {
    #[default]
    Json,
    Form,
    /// The JSON answer below this name.
    Below(&'static str),
    /// Whatever was to be said, this is.
    Raw(&'static str),
}

/// What the token endpoint does instead of answering, once.
#[derive(Clone, Debug)]
pub enum Failure {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The tokens are spent, and the connection closes without an answer.
    LostAfterwards,
}

#[derive(Clone, Debug)]
pub struct Behaviour {
    pub shape: Shape,
    /// A refresh gives a new refresh token.
    pub rotates: bool,
    /// A replaced refresh token ends the grant.
    pub reuse_kills: bool,
    /// `Null`: the answer says none.
    pub expires_in: Value,
    pub delay: Duration,
    /// The next calls to the token endpoint, one each.
    pub failures: VecDeque<Failure>,
    /// Every call to the token endpoint, while it is set.
    pub outage: Option<u16>,
    /// Who signs in, as `account` in the answer.
    pub identity: Option<&'static str>,
    /// Said by an outage.
    pub retry_after: Option<u64>,
    /// Between making the tokens and the answer that brings them.
    pub delay_after: Duration,
    /// There, each answer to a call that comes now waits for a permit.
    pub held: Option<Arc<Semaphore>>,
    /// Answers bring access tokens alone.
    pub no_refresh_token: bool,
    /// The refresh token that was replaced last is still taken.
    pub forgives: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            shape: Shape::Json,
            rotates: true,
            reuse_kills: true,
            expires_in: json!(3600),
            delay: Duration::ZERO,
            failures: VecDeque::new(),
            outage: None,
            identity: None,
            retry_after: None,
            delay_after: Duration::ZERO,
            held: None,
            no_refresh_token: false,
            forgives: false,
        }
    }
}

/// A running server; it ends with the test's runtime.
#[derive(Clone)]
pub struct Provider {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    served: Arc<Mutex<Option<AbortHandle>>>,
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    calls: Vec<Call>,
    grants: Vec<Grant>,
    /// Whose an access token is, and when it ends.
    access: HashMap<String, (usize, Option<Instant>)>,
    /// Whose a refresh token is, or was.
    refresh: HashMap<String, usize>,
    codes: BTreeMap<String, Option<String>>,
    devices: BTreeMap<String, bool>,
    count: u64,
}

/// One resource owner's consent.
#[derive(Default)]
struct Grant {
    refresh: Option<String>,
    replaced: Option<String>,
    dead: bool,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("a bound listener has an address");
        let provider = Self { address, state: Arc::default(), served: Arc::default() };
        provider.serve(listener);
        provider
    }

    /// Nothing listens any more, and all connections are cut.
    pub fn go_away(&self) {
        if let Some(served) = self.served.lock().expect("no holder panics").take() {
            served.abort();
        }
    }

    pub async fn come_back(&self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        self.serve(listener);
    }

    fn serve(&self, listener: TcpListener) {
        let task = tokio::spawn(self.clone().accept(listener));
        *self.served.lock().expect("no holder panics") = Some(task.abort_handle());
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().behaviour);
    }

    /// From now on answers to token calls wait, each for a permit.
    pub fn holds_answers(&self) -> Arc<Semaphore> {
        let held = Arc::new(Semaphore::new(0));
        self.behave(|behaviour| behaviour.held = Some(held.clone()));
        held
    }

    /// Calls to one path, oldest first.
    pub fn calls(&self, path: &str) -> Vec<Call> {
        self.lock().calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    /// Tokens of a consent that was given earlier.
    pub fn seed(&self) -> (String, String) {
        let mut state = self.lock();
        state.grants.push(Grant::default());
        let grant = state.grants.len() - 1;
        let (access, refresh) = state.issue(grant);
        (access, refresh.expect("the first answer has one"))
    }

    /// Whether an API would take this access token now.
    pub fn accepts(&self, access: &str) -> bool {
        let state = self.lock();
        let live = |(at, ends): &(usize, Option<Instant>)| {
            !state.grants[*at].dead && ends.is_none_or(|ends| Instant::now() < ends)
        };
        state.access.get(access).is_some_and(live)
    }

    /// Every token that was ever made.
    pub fn issued(&self) -> Vec<String> {
        let state = self.lock();
        state.access.keys().chain(state.refresh.keys()).cloned().collect()
    }

    /// An API takes none of the access tokens any more that were made until now.
    pub fn end_access_tokens(&self) {
        self.lock().access.values_mut().for_each(|(_, ends)| *ends = Some(Instant::now()));
    }

    /// The resource owner takes every consent back.
    pub fn kill_all(&self) {
        self.lock().grants.iter_mut().for_each(|grant| grant.dead = true);
    }

    pub fn confirm_device(&self, user_code: &str) {
        self.lock().devices.insert(user_code.to_owned(), true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Its connections end with it.
    async fn accept(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let provider = self.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| provider.clone().answer(request));
                // A lost answer is an error of the connection, on purpose.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
        let call = read(request).await;
        // With the call: whoever sees that it came may change how the next one is answered.
        let Behaviour { delay, delay_after, held, .. } = {
            let mut state = self.lock();
            state.calls.push(call.clone());
            state.behaviour.clone()
        };
        Ok(match call.path.as_str() {
            "/authorize" => self.lock().authorize(&call),
            "/token" => {
                tokio::time::sleep(delay).await;
                let answer = self.lock().token(&call);
                tokio::time::sleep(delay_after).await;
                if let Some(held) = held {
                    held.acquire().await.expect("it is never closed").forget();
                }
                answer?
            }
            "/device" => self.lock().device(),
            "/revoke" => self.lock().revoke(&call),
            "/redirected" => json_answer(200, &json!({ "access_token": "stolen" })),
            "/sites" => json_answer(200, &json!([{ "id": "s1" }, { "id": "s2" }])),
            _ => json_answer(404, &json!({})),
        })
    }
}

/// The answer that never comes.
#[derive(Debug)]
pub struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lost on purpose")
    }
}

impl std::error::Error for Lost {}

impl From<Infallible> for Lost {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn read(request: Request<Incoming>) -> Call {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let pairs = |text: &str| url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    let params = match serde_json::from_str::<BTreeMap<String, Value>>(&body) {
        Ok(map) => map
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or(value.to_string(), str::to_owned)))
            .collect(),
        Err(_) => pairs(&body),
    };
    Call {
        at: Instant::now(),
        method: head.method,
        path: head.uri.path().to_owned(),
        query: pairs(head.uri.query().unwrap_or_default()),
        headers: head.headers,
        body,
        params,
    }
}

impl State {
    /// Consents at once and sends the browser back.
    fn authorize(&mut self, call: &Call) -> Response<Full<Bytes>> {
        let code = self.fresh("code");
        self.codes.insert(code.clone(), call.query.get("code_challenge").cloned());
        let back = call.query.get("redirect_uri").cloned().unwrap_or_default();
        let state = call.query.get("state").cloned().unwrap_or_default();
        let mut answer = json_answer(302, &json!({}));
        let location = format!("{back}?code={code}&state={state}");
        answer.headers_mut().insert(LOCATION, location.parse().expect("a location"));
        answer
    }

    fn token(&mut self, call: &Call) -> Result<Response<Full<Bytes>>, Lost> {
        if let Some(status) = self.behaviour.outage {
            let mut answer = json_answer(status, &json!({}));
            if let Some(seconds) = self.behaviour.retry_after {
                answer.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            return Ok(answer);
        }
        let failure = self.behaviour.failures.pop_front();
        if let Some(Failure::Answer { status, headers, body }) = failure {
            let mut answer = raw(status, "text/plain", body);
            for (name, value) in headers {
                answer.headers_mut().insert(name, value.parse().expect("a header value"));
            }
            return Ok(answer);
        }
        let granted = if is_our_client(call) { self.granted(call) } else { Err("invalid_client") };
        match (granted, failure) {
            (Ok(_), Some(_)) => Err(Lost),
            (Ok((access, refresh)), None) => Ok(self.shaped(&access, refresh.as_deref())),
            (Err(code), _) => {
                let said = format!(
                    "{code} for {}",
                    call.params.get("refresh_token").map_or("", String::as_str)
                );
                Ok(json_answer(400, &json!({ "error": code, "error_description": said })))
            }
        }
    }

    fn granted(&mut self, call: &Call) -> Result<(String, Option<String>), &'static str> {
        let param = |name: &str| call.params.get(name).map_or("", String::as_str);
        match param("grant_type") {
            "authorization_code" => self.redeem(param("code"), param("code_verifier")),
            "refresh_token" => self.refresh(param("refresh_token")),
            "client_credentials" => {
                self.grants.push(Grant::default());
                let (access, _) = self.issue(self.grants.len() - 1);
                Ok((access, None))
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                let user_code = param("device_code").replace("device", "user");
                match self.devices.get(&user_code) {
                    Some(true) => {
                        self.grants.push(Grant::default());
                        Ok(self.issue(self.grants.len() - 1))
                    }
                    Some(false) => Err("authorization_pending"),
                    None => Err("expired_token"),
                }
            }
            _ => Err("unsupported_grant_type"),
        }
    }

    fn redeem(
        &mut self,
        code: &str,
        verifier: &str,
    ) -> Result<(String, Option<String>), &'static str> {
        let challenge = self.codes.remove(code).ok_or("invalid_grant")?;
        let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        if challenge.is_some_and(|challenge| challenge != digest) {
            return Err("invalid_grant");
        }
        self.grants.push(Grant::default());
        Ok(self.issue(self.grants.len() - 1))
    }

    fn refresh(&mut self, token: &str) -> Result<(String, Option<String>), &'static str> {
        let Behaviour { reuse_kills, forgives, .. } = self.behaviour;
        let at = *self.refresh.get(token).ok_or("invalid_grant")?;
        let grant = &mut self.grants[at];
        let is = |held: &Option<String>| held.as_deref() == Some(token);
        if grant.dead || !(is(&grant.refresh) || forgives && is(&grant.replaced)) {
            grant.dead |= reuse_kills;
            return Err("invalid_grant");
        }
        Ok(self.issue(at))
    }

    fn issue(&mut self, at: usize) -> (String, Option<String>) {
        let (access, refresh) = (self.fresh("access"), self.fresh("refresh"));
        let life = self.behaviour.expires_in.as_f64().filter(|life| *life >= 0.0);
        // More than a century is for ever.
        let ends = life.map(|life| Instant::now() + Duration::from_secs_f64(life.min(4e9)));
        self.access.insert(access.clone(), (at, ends));
        let grant = &mut self.grants[at];
        let kept = grant.refresh.is_some() && !self.behaviour.rotates;
        if kept || self.behaviour.no_refresh_token {
            return (access, None);
        }
        grant.replaced = grant.refresh.replace(refresh.clone());
        self.refresh.insert(refresh.clone(), at);
        (access, Some(refresh))
    }

    fn shaped(&self, access: &str, refresh: Option<&str>) -> Response<Full<Bytes>> {
        let mut answer = json!({ "access_token": access, "token_type": "bearer" });
        if let Some(refresh) = refresh {
            answer["refresh_token"] = refresh.into();
        }
        if let Some(identity) = self.behaviour.identity {
            answer["account"] = identity.into();
        }
        if !self.behaviour.expires_in.is_null() {
            answer["expires_in"] = self.behaviour.expires_in.clone();
        }
        match self.behaviour.shape {
            Shape::Json => json_answer(200, &answer),
            Shape::Below(name) => json_answer(200, &json!({ name: answer })),
            Shape::Raw(text) => raw(200, "text/html", text.to_owned()),
            Shape::Form => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, value) in answer.as_object().expect("is one") {
                    form.append_pair(name, value.as_str().unwrap_or(&value.to_string()));
                }
                raw(200, "application/json", form.finish())
            }
        }
    }

    fn device(&mut self) -> Response<Full<Bytes>> {
        let user_code = self.fresh("user");
        self.devices.insert(user_code.clone(), false);
        json_answer(
            200,
            &json!({
                "device_code": user_code.replace("user", "device"),
                "user_code": user_code,
                "verification_uri": "https://acme.example/device",
                "expires_in": "600",
            }),
        )
    }

    fn revoke(&mut self, call: &Call) -> Response<Full<Bytes>> {
        let token = call.params.get("token").cloned().unwrap_or_default();
        let of_access = self.access.get(&token).map(|(at, _)| *at);
        if let Some(at) = self.refresh.get(&token).copied().or(of_access) {
            self.grants[at].dead = true;
        }
        raw(200, "text/plain", String::new())
    }

    fn fresh(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}-token-{}", self.count)
    }
}

/// In the body or by Basic.
fn is_our_client(call: &Call) -> bool {
    let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}")));
    let by_basic = call.headers.get(AUTHORIZATION).is_some_and(|value| value == basic.as_str());
    by_basic || call.params.get("client_secret").is_some_and(|secret| secret == CLIENT_SECRET)
}

fn json_answer(status: u16, value: &Value) -> Response<Full<Bytes>> {
    raw(status, "application/json", value.to_string())
}

fn raw(status: u16, kind: &str, body: String) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).expect("a status");
    let answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
    answer.body(Full::from(body)).expect("a valid answer")
}
