//! The API that is proxied to: it serves only who brings the right key, and tells what it was sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::site::KEY;

#[derive(Clone)]
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    hooks: Arc<Mutex<Vec<(http::HeaderMap, String)>>>,
    /// Webhooks are not taken at present.
    away: Arc<AtomicBool>,
    /// Lets the second piece of `/stream` out.
    pub go_on: Arc<Notify>,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Self {
            address,
            seen: Arc::default(),
            hooks: Arc::default(),
            away: Arc::default(),
            go_on: Arc::default(),
        };
        let served = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let origin = served.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| origin.answer(request));
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        origin
    }

    /// `METHOD host path`, in the order in which they came.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// From now on webhooks are refused, or taken again.
    pub fn takes_hooks(&self, takes: bool) {
        self.away.store(!takes, Ordering::Relaxed);
    }

    /// Webhooks, in the order in which they came.
    pub fn hooks(&self) -> Vec<(http::HeaderMap, String)> {
        self.hooks.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        let host = parts.headers["host"].to_str().unwrap().to_owned();
        let name = host.split(':').next().unwrap().to_owned();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        self.seen.lock().unwrap().push(format!("{method} {name} {uri}"));
        let expected = format!("Bearer {KEY}");
        let key = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        let query = uri.query().unwrap_or_default();
        match uri.path() {
            "/token" => return Ok(tokens(&text_of(body).await)),
            "/authorize" => return Ok(consent(query)),
            "/hook" if self.away.load(Ordering::Relaxed) => {
                return Ok(reply(503, "{}".into()));
            }
            "/hook" => {
                let hook = (parts.headers, text_of(body).await);
                self.hooks.lock().unwrap().push(hook);
                return Ok(reply(200, "{}".into()));
            }
            _ => {}
        }
        if key != Some(&*expected) {
            return Ok(reply(401, r#"{"error":"wrong key"}"#.into()));
        }
        Ok(match uri.path() {
            "/redirect" => redirect(302, query),
            "/circle" => redirect(302, "/circle"),
            "/redirect303" => redirect(303, query),
            "/redirect307" => redirect(307, query),
            "/api/chat.postMessage" => reply(200, r#"{"ok":true}"#.into()),
            "/teapot" => reply(418, r#"{"error":"teapot"}"#.into()),
            "/cookie" => {
                let mut response = reply(200, "{}".into());
                let headers = response.headers_mut();
                headers.insert("set-cookie", "a=b".parse().unwrap());
                headers.insert("access-control-allow-origin", "*".parse().unwrap());
                headers.insert("x-api-version", "7".parse().unwrap());
                response
            }
            "/echo-key" => reply(200, json!({ "key": KEY }).to_string()),
            "/hang" => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                reply(200, String::new())
            }
            "/stream" => self.stream(),
            _ => {
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let headers: BTreeMap<&str, &str> = parts
                    .headers
                    .iter()
                    .filter(|(name, _)| *name != "authorization")
                    .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
                    .collect();
                let told = json!({
                    "method": method.as_str(),
                    "host": name,
                    "path": uri.to_string(),
                    "headers": headers,
                    "body": String::from_utf8_lossy(&body),
                });
                reply(200, told.to_string())
            }
        })
    }

    fn stream(&self) -> Response<Body> {
        let go_on = self.go_on.clone();
        let first = futures_util::stream::once(async { Bytes::from_static(b"first\n") });
        let second = futures_util::stream::once(async move {
            go_on.notified().await;
            Bytes::from_static(b"second\n")
        });
        let frames = first.chain(second).map(|bytes| Ok(Frame::data(bytes)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

async fn text_of(body: Incoming) -> String {
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    String::from_utf8_lossy(&body).into_owned()
}

/// The code says what the token endpoint does with it, and who signed in.
fn tokens(form: &str) -> Response<Body> {
    let form: BTreeMap<_, _> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    let code = form.get("code").map(String::as_str).unwrap_or_default();
    if code == "broken" {
        let error = json!({ "error": "invalid_grant", "error_description": "<b>no such code</b>" });
        return reply(400, error.to_string());
    }
    let who = code.strip_prefix("of-").unwrap_or("ann@acme.test");
    let tokens = json!({
        "access_token": KEY, "expires_in": 3600, "token_type": "bearer", "account": who,
        "refresh_token": "refresh-1",
    });
    reply(200, tokens.to_string())
}

/// A consent page, as a person sees one.
fn consent(query: &str) -> Response<Body> {
    let asked: BTreeMap<_, _> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let link = |label: &str, answer: &[(&str, &str)]| {
        let mut back = url::Url::parse(&asked["redirect_uri"]).unwrap();
        back.query_pairs_mut().extend_pairs(answer).append_pair("state", &asked["state"]);
        let back = back.as_str().replace('&', "&amp;");
        format!("<p><a href=\"{back}\">{label}</a></p>")
    };
    let denial = [("error", "access_denied"), ("error_description", "<script>alert(1)</script>")];
    let links = [
        link("Allow", &[("code", "good")]),
        link("Allow as somebody else", &[("code", "of-bob@acme.test")]),
        link("Deny", &denial),
        link("Break", &[("code", "broken")]),
    ];
    let page = format!(
        "<!doctype html><html lang=en><title>The cloud</title><link rel=icon href=data:,><h1>The \
         cloud</h1>{}",
        links.concat()
    );
    let mut response = reply(200, page);
    response.headers_mut().insert("content-type", "text/html".parse().unwrap());
    response
}

fn redirect(status: u16, to: &str) -> Response<Body> {
    let mut response = reply(status, String::new());
    response.headers_mut().insert("location", to.parse().unwrap());
    response
}

fn reply(status: u16, body: String) -> Response<Body> {
    let mut response = Response::new(Full::from(body).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
