//! A request to the connect pages, read whole and bounded: its parameters, where it comes from, and
//! which browser sent it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, COOKIE, HOST, HeaderName, HeaderValue, LOCATION, ORIGIN, REFERRER_POLICY,
    SET_COOKIE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use url::form_urlencoded;

use crate::forward::Body;
use crate::random;
use crate::secret::{Secret, TokenDigest};
use crate::web::html::{Message, Policy};

/// Codes are far shorter.
const MAX_QUERY_BYTES: usize = 16 * 1024;
/// Certificates and their keys.
const MAX_FORM_BYTES: usize = 128 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Asking {
    pub client: IpAddr,
    pub head: Parts,
    /// Of the query, or of the form.
    pub pairs: BTreeMap<String, String>,
}

impl Asking {
    /// # Errors
    /// The answer to what cannot be read.
    pub async fn read(client: IpAddr, request: Request<Incoming>) -> Result<Self, Response<Body>> {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let text = match head.method {
            Method::GET => query,
            Method::POST => form(body).await.ok_or_else(nothing_here)?,
            _ => return Err(nothing_here()),
        };
        if head.method == Method::GET && text.len() > MAX_QUERY_BYTES {
            return Err(nothing_here());
        }
        let pairs = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Ok(Self { client, head, pairs })
    }

    pub fn host(&self) -> Option<&str> {
        self.head.headers.get(HOST)?.to_str().ok()
    }

    /// Browsers say where a form comes from; what says nothing is refused. Otherwise another site
    /// could begin a flow with a token of its own, and a provider that does not ask again would
    /// connect this person's account to somebody else's.
    pub fn is_from_here(&self, url: Option<&str>) -> bool {
        const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
        if let Some(site) = self.head.headers.get(SITE) {
            return site == "same-origin";
        }
        let origin = self.head.headers.get(ORIGIN).and_then(|value| value.to_str().ok());
        let Some(origin) = origin else { return false };
        let (_, named) = origin.split_once("://").unwrap_or_default();
        let own = self.host().is_some_and(|host| host.eq_ignore_ascii_case(named));
        own || url.is_some_and(|url| url.trim_end_matches('/').eq_ignore_ascii_case(origin))
    }

    /// What this browser was given when it first began a flow.
    pub fn browser(&self) -> Option<Secret> {
        let all = self.head.headers.get_all(COOKIE).iter();
        let all = all.filter_map(|value| value.to_str().ok());
        let value = all.flat_map(|line| line.split(';')).find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE_NAME || name == SECURE_COOKIE_NAME).then_some(value)
        })?;
        Some(Secret::from(value.to_owned())).filter(|_| value.len() == BROWSER_CHARS)
    }

    /// The same as a digest, which is what flows are stored with.
    pub fn browser_digest(&self) -> Option<String> {
        self.browser().map(|browser| digest(&browser))
    }
}

pub fn digest(browser: &Secret) -> String {
    TokenDigest::of(browser.expose().as_bytes()).to_hex()
}

/// The browser's own mark, or a new one: two flows at a time in two tabs have the same.
pub fn browser_or_new(asking: &Asking) -> Option<Secret> {
    asking.browser().or_else(|| random::token("", 32).ok())
}

async fn form(body: Incoming) -> Option<String> {
    let read = Limited::new(body, MAX_FORM_BYTES).collect();
    let read = tokio::time::timeout(PATIENCE, read).await.ok()?.ok()?;
    String::from_utf8(read.to_bytes().to_vec()).ok()
}

const COOKIE_NAME: &str = "countersign_flow";
/// Browsers take a cookie of this name only over TLS and from this very host.
const SECURE_COOKIE_NAME: &str = "__Host-countersign_flow";
/// Two times 128 bits in hexadecimal.
const BROWSER_CHARS: usize = 64;

/// Off to a provider, with the cookie that binds the flow to this browser.
pub fn off_to(url: &str, browser: &Secret, secure: bool, life: Duration) -> Option<Response<Body>> {
    let (name, secure) = match secure {
        true => (SECURE_COOKIE_NAME, "; Secure"),
        false => (COOKIE_NAME, ""),
    };
    let cookie = format!(
        "{name}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
        browser.expose(),
        life.as_secs()
    );
    let mut response = see_other(url)?;
    response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
    Some(response)
}

/// To another page, by GET, and without saying from where.
pub fn see_other(url: &str) -> Option<Response<Body>> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(url).ok()?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(response)
}

pub fn nothing_here() -> Response<Body> {
    let page =
        Message { title: "Not found", text: "Nothing is here.", button: None, clean_address: true };
    page.answer(StatusCode::NOT_FOUND, &Policy::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(headers: &[(&'static str, &str)]) -> Asking {
        let mut request = Request::builder().uri("/connect/begin").method("POST");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        Asking { client: [127, 0, 0, 1].into(), head, pairs: BTreeMap::new() }
    }

    #[test]
    fn a_form_of_another_site_is_known_for_one() {
        let public = Some("https://cs.example");
        let host = ("host", "127.0.0.1:8080");
        for (headers, here) in [
            (vec![host, ("sec-fetch-site", "same-origin")], true),
            (
                vec![host, ("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8080")],
                false,
            ),
            (vec![host, ("sec-fetch-site", "same-site")], false),
            (vec![host, ("sec-fetch-site", "none")], false),
            (vec![host, ("origin", "http://127.0.0.1:8080")], true),
            (vec![host, ("origin", "https://cs.example")], true),
            (vec![host, ("origin", "https://cs.example.evil.test")], false),
            (vec![host, ("origin", "null")], false),
            (vec![host], false),
        ] {
            assert_eq!(asking(&headers).is_from_here(public), here, "{headers:?}");
        }
    }

    #[test]
    fn a_browser_is_known_by_a_whole_cookie_only() {
        let mark = "a".repeat(64);
        let cookie = format!("x=1; countersign_flow={mark}; y=2");
        let known = asking(&[("cookie", &cookie)]).browser().expect("it is there");
        assert_eq!(known.expose(), mark);
        for other in ["countersign_flow=short", "xcountersign_flow=1", ""] {
            assert!(asking(&[("cookie", other)]).browser().is_none(), "{other}");
        }
    }
}
