//! The demo's authorization server: asks for consent in the browser, and gives tokens that live for
//! seconds. A refresh token works once, and a second use ends the grant, as strict providers do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::json;
use url::{Url, form_urlencoded};

use crate::cli::token;
use crate::markup::escape;
use crate::secret::Secret;

pub const CLIENT_ID: &str = "countersign-demo";
/// Short, so that it can be watched.
pub const TOKEN_LIFE: Duration = Duration::from_secs(5);

/// What was given out.
pub struct Provider {
    pub client_secret: Secret,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    /// Codes that wait to be traded, with their PKCE challenges.
    codes: BTreeMap<String, String>,
    access: Vec<Access>,
    refresh: BTreeSet<String>,
    spent: BTreeSet<String>,
    given: u32,
}

struct Access {
    token: String,
    number: u32,
    until: Instant,
}

impl Provider {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { client_secret: token::fresh()?, desk: Mutex::default() })
    }

    /// Which of the tokens this is, if it is alive.
    pub fn number_of(&self, bearer: &str) -> Option<u32> {
        let desk = self.desk.lock();
        let found = desk.access.iter().find(|access| access.token == bearer)?;
        (Instant::now() < found.until).then_some(found.number)
    }

    /// The page in the browser: consent, and then back to the redirect URI.
    pub fn authorize(&self, url: &Url) -> Response<Full<Bytes>> {
        let params: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let get = |name: &str| params.get(name).map(String::as_str).unwrap_or_default();
        let Ok(mut back) = Url::parse(get("redirect_uri")) else {
            return page(StatusCode::BAD_REQUEST, "The redirect URI is missing.");
        };
        if get("client_id") != CLIENT_ID || back.host_str() != Some("127.0.0.1") {
            return page(StatusCode::BAD_REQUEST, "This client is not registered here.");
        }
        match get("decision") {
            "allow" => {
                let code = random();
                self.desk.lock().codes.insert(code.clone(), get("code_challenge").to_owned());
                back.query_pairs_mut().append_pair("code", &code);
            }
            "deny" => drop(back.query_pairs_mut().append_pair("error", "access_denied")),
            _ => return consent(&params),
        }
        back.query_pairs_mut().append_pair("state", get("state"));
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::FOUND;
        if let Ok(location) = back.as_str().parse() {
            response.headers_mut().insert(http::header::LOCATION, location);
        }
        response
    }

    /// RFC 6749 §3.2, for codes and refresh tokens.
    pub fn token(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let params: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        let get = |name: &str| params.get(name).map(String::as_str).unwrap_or_default();
        let secret = Secret::from(get("client_secret").to_owned());
        if get("client_id") != CLIENT_ID || !secret.same_as(&self.client_secret) {
            return json(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_client" }));
        }
        let mut desk = self.desk.lock();
        let granted = match get("grant_type") {
            "authorization_code" => desk.trade(get("code"), get("code_verifier")),
            "refresh_token" => desk.rotate(get("refresh_token")),
            _ => false,
        };
        if granted {
            json(StatusCode::OK, &desk.give())
        } else {
            json(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_grant" }))
        }
    }
}

impl Desk {
    fn trade(&mut self, code: &str, verifier: &str) -> bool {
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        self.codes.remove(code).is_some_and(|expected| expected == challenge)
    }

    fn rotate(&mut self, refresh: &str) -> bool {
        if self.spent.contains(refresh) {
            self.refresh.clear();
        }
        let known = self.refresh.remove(refresh);
        if known {
            self.spent.insert(refresh.to_owned());
        }
        known
    }

    fn give(&mut self) -> serde_json::Value {
        self.given += 1;
        let (access, refresh) = (random(), random());
        let until = Instant::now() + TOKEN_LIFE;
        self.access.retain(|old| Instant::now() < old.until);
        self.access.push(Access { token: access.clone(), number: self.given, until });
        self.refresh.insert(refresh.clone());
        json!({
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE.as_secs(),
            "refresh_token": refresh,
        })
    }
}

fn random() -> String {
    // The system gave random bytes a moment ago, when the demo's own tokens were made.
    token::fresh().map(|token| token.expose().to_owned()).unwrap_or_default()
}

fn consent(params: &BTreeMap<String, String>) -> Response<Full<Bytes>> {
    let hidden = params.iter().map(|(name, value)| {
        let (name, value) = (escape(name), escape(value));
        format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
    });
    let form = format!(
        "<p>countersign asks to read your orders at Acme, the demo's provider.</p><form>{}\
         <button name=\"decision\" value=\"allow\">Allow</button> \
         <button name=\"decision\" value=\"deny\">Deny</button></form>",
        hidden.collect::<String>()
    );
    html(StatusCode::OK, &form)
}

fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    html(status, &format!("<p>{}</p>", escape(text)))
}

fn html(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><link rel=\"icon\" href=\"data:,\"><title>Acme</title><style>body{{font:16px/1.5 system-ui;\
         max-width:32rem;margin:15vh auto;padding:0 1.5rem}}button{{font:inherit;padding:.5rem \
         1.25rem}}</style><h1>Acme</h1>{body}</html>"
    );
    answer(status, "text/html; charset=utf-8", page)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    answer(status, "application/json", value.to_string())
}

fn answer(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static(media_type));
    headers.insert("cache-control", http::HeaderValue::from_static("no-store"));
    response
}
