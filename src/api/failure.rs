//! What goes wrong, in the shape that the SDKs read: `{"error", "code", "details"}`.
//!
//! The SDKs repeat what ends in 5xx, POST included, so a failure that will not go away is a 4xx.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::scope::Scope;
use crate::credentials;
use crate::forward::{Body, SOURCE};
use crate::random::NoRandom;
use crate::vault;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Bad(String),
    #[error("{0}")]
    Unauthorized(&'static str),
    #[error("this token lacks the scope {0}")]
    Scope(Scope),
    #[error("{0}")]
    Forbidden(&'static str),
    /// Unknown, or not visible to who asks: nobody can tell which.
    #[error("record not found")]
    NotFound,
    /// What is not here and never will be.
    #[error("{0}")]
    Elsewhere(&'static str),
    #[error("use {allow}")]
    Method { allow: &'static str },
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("Throttled: try again in {retry_after_s} s")]
    Throttled { retry_after_s: u64 },
    #[error("the API did not answer within {} s", .0.as_secs_f64())]
    Timeout(std::time::Duration),
    #[error("the store is not available: try again")]
    Unavailable,
    #[error("something here is not as it should be; the server's log says what")]
    Internal,
    /// The journey's own refusal, in this API's shape.
    #[error("{text}")]
    Refused {
        status: StatusCode,
        code: String,
        text: String,
        details: Value,
        retry_after_s: Option<u64>,
    },
}

impl Failure {
    pub fn bad(what: impl Into<String>) -> Self {
        Self::Bad(what.into())
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Scope(_) | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::Elsewhere(_) => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Refused { status, .. } => *status,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Bad(_) => "bad_request",
            Self::Unauthorized(_) => "unauthorized",
            Self::Scope(_) => "insufficient_scope",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound => "not_found",
            Self::Elsewhere(_) => "not_offered",
            Self::Method { .. } => "method_not_allowed",
            Self::TooLarge(_) => "too_large",
            Self::Throttled { .. } => "throttled",
            Self::Timeout(_) => "timeout",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Refused { code, .. } => code,
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Throttled { retry_after_s } => Some(*retry_after_s),
            Self::Unavailable => Some(1),
            Self::Refused { retry_after_s, .. } => *retry_after_s,
            _ => None,
        }
    }

    pub fn into_response(self) -> Response<Body> {
        let mut body = json!({ "error": self.to_string(), "code": self.code() });
        if let Self::Refused { details, .. } = &self {
            body["details"] = details.clone();
        }
        let mut response = answer(self.status(), &body);
        let headers = response.headers_mut();
        headers.insert(SOURCE, HeaderValue::from_static("proxy"));
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::Method { allow } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// An answer that no cache keeps: most of them carry what is somebody's own.
pub fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

pub fn ok(body: &Value) -> Response<Body> {
    answer(StatusCode::OK, body)
}

pub fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl From<NoRandom> for Failure {
    fn from(error: NoRandom) -> Self {
        tracing::error!("{error}");
        Self::Internal
    }
}

impl From<vault::Error> for Failure {
    fn from(error: vault::Error) -> Self {
        if error.is_transient() {
            tracing::warn!(%error, "the API could not reach the store");
            return Self::Unavailable;
        }
        if let vault::Error::Conflict(what) = error {
            return Self::Bad(what);
        }
        tracing::error!(%error, "the API met an error of the store");
        Self::Internal
    }
}

impl From<credentials::Error> for Failure {
    fn from(error: credentials::Error) -> Self {
        match error {
            credentials::Error::Vault { source, .. } => source.into(),
            // The definition that the account was connected with is gone or another.
            other => Self::Bad(other.to_string()),
        }
    }
}
