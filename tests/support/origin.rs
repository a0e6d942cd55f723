//! The APIs that the tests call: one TLS server, HTTP/1.1 and HTTP/2 by ALPN, which plays a JSON
//! API, Slack, a git host and a gRPC service, told apart by host. It keeps every request it saw and
//! serves nobody who does not bring the right credential.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// A JSON API behind a bearer key.
pub const API: &str = "api.acme.test";
/// Slack's own host.
pub const SLACK: &str = "slack.com";
/// A git host behind HTTP Basic.
pub const FORGE: &str = "git.acme.test";
/// A gRPC service behind a bearer key.
pub const GRPC: &str = "grpc.acme.test";
/// A host that wants no credential and belongs to no app.
pub const OPEN: &str = "open.test";

const HOSTS: [&str; 5] = [API, SLACK, FORGE, GRPC, OPEN];

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a request must bring, per host.
pub struct Expected {
    pub api_key: String,
    pub slack_token: String,
    pub forge_token: String,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub host: String,
    pub method: Method,
    pub path: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// Every value of a header, as text.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

/// A running origin; it ends with the test's runtime.
pub struct Origin {
    pub address: SocketAddr,
    /// The CA that signed the origin's certificate.
    pub root_pem: String,
    state: Arc<State>,
}

struct State {
    expected: Expected,
    /// Bare repositories live here.
    repositories: PathBuf,
    seen: Mutex<Vec<Seen>>,
    /// One permit lets one more server-sent event out.
    events: Arc<Semaphore>,
}

impl Origin {
    pub async fn start(expected: Expected, repositories: &Path) -> Self {
        let (root_pem, tls) = certificates();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(State {
            expected,
            repositories: repositories.to_owned(),
            seen: Mutex::default(),
            events: Arc::new(Semaphore::new(0)),
        });
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), state.clone()));
        Self { address, root_pem, state }
    }

    /// `[upstream.resolve]` lines that lead every name here.
    pub fn resolve_lines(&self) -> String {
        let line = |host: &&str| format!("\"{host}:443\" = \"{}\"\n", self.address);
        HOSTS.iter().map(line).collect()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no holder panics").clone()
    }

    /// Lets one more event of `/sse` out.
    pub fn release_event(&self) {
        self.state.events.add_permits(1);
    }
}

/// A CA of this test's own, and a server certificate for every host.
fn certificates() -> (String, rustls::ServerConfig) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Test origin CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = ca.self_signed(&ca_key).expect("a CA signs itself");
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().expect("a key");
    let names = HOSTS.map(str::to_owned).to_vec();
    let mut leaf = CertificateParams::new(names).expect("valid names");
    leaf.distinguished_name.push(DnType::CommonName, API);
    let leaf = leaf.signed_by(&key, &issuer).expect("the CA signs");
    (root.pem(), server_config(leaf.der().clone(), &key))
}

fn server_config(leaf: CertificateDer<'static>, key: &KeyPair) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key of rcgen's");
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .expect("key and certificate match");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answer(request, state.clone()));
            // A client that hangs up in the middle is its own business.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let host = host_of(&head);
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    state.seen.lock().expect("no holder panics").push(Seen {
        host: host.clone(),
        method: head.method.clone(),
        path: head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        version: head.version,
        headers: head.headers.clone(),
        body: body.clone(),
    });
    Ok(match host.as_str() {
        API => api(&head, &body, &state),
        SLACK => slack(&head, &state),
        FORGE => forge(&head, body, &state).await,
        GRPC => grpc(&head, &body, &state),
        OPEN => json_answer(StatusCode::OK, &json!({ "open": true })),
        _ => json_answer(StatusCode::MISDIRECTED_REQUEST, &json!({ "unknown host": host })),
    })
}

fn host_of(head: &Parts) -> String {
    let header = head.headers.get("host").and_then(|host| host.to_str().ok());
    let authority = head.uri.authority().map(http::uri::Authority::as_str).or(header);
    let name = authority.and_then(|authority| authority.split(':').next());
    name.unwrap_or_default().to_owned()
}

fn authorized(head: &Parts, wanted: &str) -> bool {
    let mut given = head.headers.get_all(AUTHORIZATION).iter();
    given.next().is_some_and(|value| value.as_bytes() == wanted.as_bytes())
        && given.next().is_none()
}

fn api(head: &Parts, body: &Bytes, state: &State) -> Response<Body> {
    if !authorized(head, &format!("Bearer {}", state.expected.api_key)) {
        return json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "no credential" }));
    }
    if head.uri.path() == "/sse" {
        return events(state);
    }
    let echo = json!({
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map(|target| target.as_str()),
        "body": String::from_utf8_lossy(body),
    });
    json_answer(StatusCode::OK, &echo)
}

/// Two server-sent events: one at once, one when the test has seen the first.
fn events(state: &State) -> Response<Body> {
    let gate = state.events.clone();
    let stream = futures_util::stream::unfold(0, move |sent| {
        let gate = gate.clone();
        async move {
            let piece: &'static [u8] = match sent {
                0 => b"data: first\n\n",
                1 => {
                    gate.acquire().await.ok()?.forget();
                    b"data: second\n\n"
                }
                _ => return None,
            };
            Some((Ok(Frame::data(Bytes::from_static(piece))), sent + 1))
        }
    });
    Response::builder()
        .header(CONTENT_TYPE, "text/event-stream")
        .body(StreamBody::new(stream).boxed_unsync())
        .expect("a valid answer")
}

/// The two methods that a first Slack program calls. Slack answers 200 whatever goes wrong.
fn slack(head: &Parts, state: &State) -> Response<Body> {
    let answer = if !authorized(head, &format!("Bearer {}", state.expected.slack_token)) {
        json!({ "ok": false, "error": "not_authed" })
    } else {
        match head.uri.path() {
            "/api/chat.postMessage" => {
                json!({ "ok": true, "channel": "C1", "ts": "1763720000.000100", "message": {} })
            }
            "/api/auth.test" => json!({ "ok": true, "team": "Acme", "user": "bot" }),
            _ => json!({ "ok": false, "error": "unknown_method" }),
        }
    };
    json_answer(StatusCode::OK, &answer)
}

/// Git's own smart HTTP server, run as the CGI program that it is (RFC 3875).
async fn forge(head: &Parts, body: Bytes, state: &State) -> Response<Body> {
    let basic = STANDARD.encode(format!("x-access-token:{}", state.expected.forge_token));
    if !authorized(head, &format!("Basic {basic}")) {
        let mut refusal =
            json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "no credential" }));
        let challenge = HeaderValue::from_static("Basic realm=\"git\"");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return refusal;
    }
    let header = |name: &str| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut backend = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &state.repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "x-access-token")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("git is installed: make deps");
    let mut stdin = backend.stdin.take().expect("stdin is piped");
    // Written beside reading: the backend answers while it still reads.
    let feed = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = backend.wait_with_output().await.expect("git http-backend ran");
    // A backend that refused early leaves its input unread.
    let _ = feed.await;
    cgi_answer(&output.stdout)
}

fn cgi_answer(output: &[u8]) -> Response<Body> {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("a CGI head ends");
    let mut answer = Response::new(full(output[end + 4..].to_vec()));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a CGI header");
        if name == "Status" {
            *answer.status_mut() = value[..3].parse().expect("a CGI status");
        } else {
            let name: HeaderName = name.parse().expect("a header name");
            answer.headers_mut().append(name, value.parse().expect("a header value"));
        }
    }
    answer
}

/// Answers a gRPC call with the message it got: once for `Say`, three times for `Repeat`.
fn grpc(head: &Parts, message: &Bytes, state: &State) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    if authorized(head, &format!("Bearer {}", state.expected.api_key)) {
        let times = if head.uri.path().ends_with("/Repeat") { 3 } else { 1 };
        frames.extend(std::iter::repeat_n(message.clone(), times).map(Frame::data));
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("echo-trailer", HeaderValue::from_static("kept"));
    } else {
        trailers.insert("grpc-status", HeaderValue::from_static("16"));
    }
    frames.push(Frame::trailers(trailers));
    let stream = futures_util::stream::iter(frames.into_iter().map(Ok));
    Response::builder()
        .header(CONTENT_TYPE, "application/grpc")
        .body(StreamBody::new(stream).boxed_unsync())
        .expect("a valid answer")
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .body(full(value.to_string()))
        .expect("a valid answer")
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}
