//! Does an account work? Its app's own test request says.

use bytes::Bytes;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};

use crate::catalog::TestRequest;
use crate::config;
use crate::credentials::{Slot, State};
use crate::host::Authority;
use crate::inject::Template;
use crate::upstream::{self, Client, Destination, RequestBody};

/// More than any test request's answer, and nothing that hurts.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
const AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// What the test request found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The origin took the credential.
    Works { status: u16 },
    /// The origin answered, and not as a good answer looks.
    Refused { status: u16, why: String, said: String },
    /// There is no credential to try.
    Unavailable { why: String },
    /// The origin was not reached.
    Unreachable { why: String },
    /// The app has no test request.
    NotOffered,
}

impl Checked {
    /// Whether the account is known not to work.
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unavailable { .. } | Self::Unreachable { .. })
    }
}

/// Sends the test request with the account's credential, to the account's own hosts only.
pub async fn check(upstream: &Client, slot: &Slot) -> Checked {
    let Some(test) = &slot.auth().test else { return Checked::NotOffered };
    if slot.must_wait() {
        slot.renewed().await;
    }
    let prepared = match prepare(test, slot) {
        Ok(prepared) => prepared,
        Err(why) => return Checked::Unavailable { why },
    };
    match send(upstream, prepared).await {
        Ok((status, body)) => judge(test, slot, status, &body),
        Err(error) => Checked::Unreachable { why: error.to_string() },
    }
}

fn prepare(test: &TestRequest, slot: &Slot) -> Result<(Destination, Request<RequestBody>), String> {
    let url = render(&test.url, slot)?;
    let uri: Uri = url.parse().map_err(|_| "the test URL is not a URL".to_owned())?;
    let authority = uri.authority().ok_or("the test URL has no host")?;
    let port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    let Authority { host, port } =
        Authority::parse(authority.as_str(), port).map_err(|error| error.to_string())?;
    let origins = config::origins(slot.auth(), slot.fields())?;
    let own = origins.iter().find(|origin| origin.host == host && origin.port == port);
    let own = own.ok_or("the test URL is none of the account's own hosts")?;
    let tls = !own.clear_text || uri.scheme_str() == Some("https");
    let mut target = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let mut request = Request::new(body_of(test));
    *request.method_mut() = test.method.clone();
    let headers = request.headers_mut();
    let host_value = HeaderValue::from_str(authority.as_str());
    headers.insert(HOST, host_value.map_err(|_| "the test URL's host is no header value")?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in &test.headers {
        let value = HeaderValue::from_str(value).map_err(|_| format!("{name} cannot be sent"))?;
        headers.insert(name.clone(), value);
    }
    attach(slot, &host, port, headers, &mut target)?;
    *request.uri_mut() = target.into();
    Ok((Destination { host, port, tls, http1_only: false }, request))
}

fn attach(
    slot: &Slot,
    host: &crate::host::Host,
    port: u16,
    headers: &mut http::HeaderMap,
    target: &mut PathAndQuery,
) -> Result<(), String> {
    let current = slot.current();
    let attachable = match &current.state {
        State::Ready(attachable) => attachable,
        State::Unavailable(reason) => return Err(reason.why.clone()),
    };
    let choice = slot.auth().choice(host, port, target.path());
    let Some(prepared) = attachable.of(choice) else { return Ok(()) };
    prepared.attach(headers, target).map_err(|error| error.to_string())
}

fn render(url: &Template, slot: &Slot) -> Result<String, String> {
    let value_of = |name: &str| slot.fields().get(name).map(String::as_str);
    let rendered = url.render_with(value_of).map_err(|error| error.to_string())?;
    Ok(rendered.expose().to_owned())
}

fn body_of(test: &TestRequest) -> RequestBody {
    match &test.body {
        None => RequestBody::empty(),
        Some(serde_json::Value::String(text)) => RequestBody::full(Bytes::from(text.clone())),
        Some(json) => RequestBody::full(Bytes::from(json.to_string())),
    }
}

async fn send(
    upstream: &Client,
    (destination, request): (Destination, Request<RequestBody>),
) -> Result<(StatusCode, Bytes), upstream::Error> {
    let response = upstream.send(&destination, request).await?;
    let status = response.status();
    // An answer that is too long or breaks off is judged by what it cannot prove.
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    Ok((status, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
}

fn judge(test: &TestRequest, slot: &Slot, status: StatusCode, body: &[u8]) -> Checked {
    let status = status.as_u16();
    match test.expect.met(status, body) {
        Ok(()) => Checked::Works { status },
        Err(why) => Checked::Refused { status, why: why.to_string(), said: shown(slot, body) },
    }
}

/// The start of an answer, for a terminal or a page: without control characters, and without the
/// credential that an origin may echo.
fn shown(slot: &Slot, body: &[u8]) -> String {
    let mut body = body[..body.len().min(4096)].to_vec();
    if let State::Ready(attachable) = &slot.current().state {
        attachable.cover(&mut body);
    }
    let text = String::from_utf8_lossy(&body);
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
