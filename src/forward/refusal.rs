//! Why a request was not forwarded, and what the client is told: the only table from error to
//! status. Every body is `application/problem+json` (RFC 9457) and says how to mend it; none
//! repeats a field of the request.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER};
use http::{HeaderName, Response, StatusCode};
use serde_json::json;

use super::body::Body;
use super::head::SOURCE;
use crate::credentials::{Remedy, Unavailable};
use crate::host::{Host, Invalid};
use crate::ids::{AccountId, CallerId, RequestId};
use crate::inject::SignError;
use crate::policy::Denial;
use crate::upstream;

/// A problem type is this and the refusal's [`code`](Refusal::code).
const TYPE_PREFIX: &str = "urn:countersign:problem:";

/// Why a request was not forwarded. A variant is something a caller or operator acts on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("this request is malformed: {0}")]
    Malformed(&'static str),
    #[error("this request names no valid host: {0}")]
    Authority(#[from] Invalid),
    #[error("this request's authority, {found}, is not the one of its connection, {expected}")]
    Misdirected { expected: String, found: String },
    #[error(
        "who is asking is not known: no Proxy-Authorization was sent. Set HTTP_PROXY and \
             HTTPS_PROXY to http://<caller>:<token>@<this proxy>"
    )]
    NoCaller,
    #[error("the caller's name or token is not known, or it has expired or been revoked")]
    UnknownCaller,
    #[error("too many wrong tokens from this address; try again in a minute")]
    TooManyGuesses,
    #[error(
        "{caller} sends more requests than its rate allows; try again in {retry_after_s} s, or \
             raise callers.{caller}.rate"
    )]
    RateLimited { caller: CallerId, retry_after_s: u64 },
    #[error(
        "{caller} has as many requests in flight as it may; wait for one to end, or raise \
         callers.{caller}.max_concurrent"
    )]
    Busy { caller: CallerId },
    #[error(
        "{caller} has as many tunnels and WebSockets open as it may; close one, or raise \
         proxy.max_tunnels_per_caller"
    )]
    TooManyTunnels { caller: CallerId },
    #[error("{0}")]
    Denied(Denial),
    #[error(
        "{host} belongs to no app, and proxy.unmatched is \"deny\"; add an app for it, or a rule \
             with host = \"{host}\""
    )]
    Unmatched { host: Host },
    #[error("{host} belongs to an app, but not on port {port}; its ports: {ports}")]
    Port { host: Host, port: u16, ports: String },
    #[error("{host} takes its credential over TLS only; use https://{host}/")]
    ClearText { host: Host },
    #[error("TRACE is not forwarded to an app's host: it would echo the credential")]
    Trace,
    #[error("no expectation but 100-continue is met")]
    ExpectationFailed,
    #[error("the credential of {account} is not available: {}", .reason.why)]
    Credential { account: AccountId, reason: Unavailable },
    #[error("the credential of {account} cannot be attached to this URL")]
    Attach { account: AccountId },
    #[error("this request cannot be signed for {account}: {source}")]
    Unsignable { account: AccountId, source: SignError },
    #[error(
        "the signature that {account} needs covers the body, and this one is larger than the {} MiB \
             that are read for that. A body whose SHA-256 the request names in x-amz-content-sha256 \
             is streamed, whatever its size", max_bytes >> 20
    )]
    BodyTooLarge { account: AccountId, max_bytes: usize },
    #[error("the body stopped coming before it could be signed")]
    BodyLate,
    #[error("too many bodies are being read to be signed; try again")]
    BodiesBusy,
    #[error("no app is called \"{app}\"; see `countersign apps list`")]
    NoSuchApp { app: String },
    #[error("this use could not be recorded, and audit.strict is on; nothing was sent")]
    Unrecorded,
    #[error("this request came back to the proxy that sent it; look at upstream.proxy")]
    Loop,
    #[error("{0}")]
    Upstream(#[from] upstream::Error),
    #[error("the origin demanded credentials for a proxy (407), which only a proxy may")]
    OriginSaid407,
    #[error("the origin's answer to the upgrade was not one")]
    BadUpgrade,
    #[error("{0}")]
    NotForwarded(&'static str),
}

impl Refusal {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Authority(_) | Self::NotForwarded(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Misdirected { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::NoCaller | Self::UnknownCaller => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Self::TooManyGuesses
            | Self::RateLimited { .. }
            | Self::Busy { .. }
            | Self::TooManyTunnels { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Denied(Denial::Ambiguous { .. }) => StatusCode::CONFLICT,
            Self::Denied(_)
            | Self::Unmatched { .. }
            | Self::Port { .. }
            | Self::ClearText { .. } => StatusCode::FORBIDDEN,
            Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::NoSuchApp { .. } => StatusCode::NOT_FOUND,
            Self::Credential { reason, .. } => match reason.remedy {
                Remedy::Wait { .. } => StatusCode::SERVICE_UNAVAILABLE,
                // Not 503: clients repeat that, and nothing will come of it.
                Remedy::Reconnect => StatusCode::FAILED_DEPENDENCY,
            },
            Self::Unrecorded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Unsignable { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyLate => StatusCode::REQUEST_TIMEOUT,
            Self::BodiesBusy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Attach { .. } | Self::OriginSaid407 | Self::BadUpgrade => StatusCode::BAD_GATEWAY,
            Self::Upstream(error) => upstream_status(error),
        }
    }

    /// A short stable name, from a closed set: in `type`, in metrics, in logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Authority(_) => "bad_authority",
            Self::Misdirected { .. } => "misdirected",
            Self::NoCaller => "no_caller",
            Self::UnknownCaller => "unknown_caller",
            Self::TooManyGuesses => "too_many_guesses",
            Self::RateLimited { .. } => "rate_limited",
            Self::Busy { .. } => "busy",
            Self::TooManyTunnels { .. } => "too_many_tunnels",
            Self::Denied(denial) => denial.reason(),
            Self::Unmatched { .. } => "unmatched",
            Self::Port { .. } => "port",
            Self::ClearText { .. } => "clear_text",
            Self::Trace => "trace",
            Self::ExpectationFailed => "expectation",
            Self::Credential { reason, .. } => match reason.remedy {
                Remedy::Wait { .. } => "credential_unavailable",
                Remedy::Reconnect => "account_dead",
            },
            Self::Attach { .. } => "attach",
            Self::Unsignable { .. } => "unsignable",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyLate => "body_late",
            Self::BodiesBusy => "bodies_busy",
            Self::NoSuchApp { .. } => "no_such_app",
            Self::Unrecorded => "unrecorded",
            Self::Loop => "loop",
            Self::Upstream(error) => error.kind().as_str(),
            Self::OriginSaid407 => "origin_407",
            Self::BadUpgrade => "bad_upgrade",
            Self::NotForwarded(_) => "not_forwarded",
        }
    }

    /// What follows this answer on the same connection could be read in two ways.
    pub fn poisons_connection(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::Authority(_) | Self::Misdirected { .. })
    }

    pub fn into_response(self, id: RequestId) -> Response<Body> {
        let status = self.status();
        let mut problem = json!({
            "type": format!("{TYPE_PREFIX}{}", self.code()),
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.to_string(),
            "request_id": id.to_string(),
        });
        self.add_particulars(&mut problem);
        let mut response = Response::new(Body::from(problem.to_string() + "\n"));
        *response.status_mut() = status;
        self.add_fields(response.headers_mut());
        response
    }

    fn add_particulars(&self, problem: &mut serde_json::Value) {
        match self {
            Self::Denied(denial) => {
                if let Some(rule) = denial.rule() {
                    problem["rule"] = json!(**rule);
                }
                let choices = denial.choices();
                if !choices.is_empty() {
                    problem["choices"] = json!(choices);
                }
            }
            Self::Credential { account, reason } => {
                problem["account"] = json!(account);
                if reason.remedy == Remedy::Reconnect {
                    let command = format!("countersign accounts reconnect {account}");
                    problem["reconnect"] = json!(reason.link.as_ref().unwrap_or(&command));
                }
            }
            Self::Attach { account }
            | Self::Unsignable { account, .. }
            | Self::BodyTooLarge { account, .. } => problem["account"] = json!(account),
            _ => {}
        }
    }

    fn add_fields(&self, headers: &mut http::HeaderMap) {
        const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
        headers.insert(SOURCE, HeaderValue::from_static("proxy"));
        if self.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let challenge = HeaderValue::from_static("Basic realm=\"countersign\"");
            headers.insert(PROXY_AUTHENTICATE, challenge);
        }
        if matches!(self, Self::Trace) {
            let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            headers.insert(http::header::ALLOW, allow);
        }
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.poisons_connection() {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_s, .. } => Some(*retry_after_s),
            Self::TooManyGuesses => Some(60),
            Self::Busy { .. } | Self::TooManyTunnels { .. } | Self::Unrecorded => Some(1),
            Self::BodiesBusy => Some(1),
            Self::Credential { reason, .. } => match reason.remedy {
                Remedy::Wait { seconds } => Some(seconds),
                Remedy::Reconnect => None,
            },
            _ => None,
        }
    }
}

fn upstream_status(error: &upstream::Error) -> StatusCode {
    use upstream::ErrorKind;
    match error.kind() {
        ErrorKind::Refused => StatusCode::FORBIDDEN,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::RequestBody => body_status(error),
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// A chunk that does not parse and a body that ends early are malformed; one that stops coming is
/// late.
fn body_status(error: &upstream::Error) -> StatusCode {
    match error {
        upstream::Error::Timeout { .. } => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    }
}
