//! Browsers that call from a page of another origin. Pure.
//!
//! A preflight carries no token, so it cannot be judged and is answered to anybody; the request
//! itself is, against its token's origins. An access token belongs on a server: answers to it are
//! shown to no page.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response};

use super::failure::{Failure, no_content};
use super::principal::Principal;
use crate::forward::Body;
use crate::vault::ConnectTokenDetails;

pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

pub fn preflight(headers: &HeaderMap) -> Response<Body> {
    let mut response = no_content();
    let answer = response.headers_mut();
    if let Some(origin) = headers.get(ORIGIN) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    let vary = "origin, access-control-request-headers";
    answer.insert(VARY, HeaderValue::from_static(vary));
    response
}

/// The origin whose page may read the answer, if the request came from one.
///
/// # Errors
/// When a connect token is used from a page that it is not for.
pub fn judge(principal: &Principal, headers: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
    let Principal::User(user) = principal else { return Ok(None) };
    judge_token(&user.token.details, headers)
}

/// The same for whoever has nothing but a connect token.
///
/// # Errors
/// When it is used from a page that it is not for.
pub fn judge_token(
    details: &ConnectTokenDetails,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, Failure> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
    let text = origin.to_str().unwrap_or_default();
    let listed = details.allowed_origins.iter().any(|allowed| allowed == text);
    if listed || is_own(text, headers) {
        return Ok(Some(origin.clone()));
    }
    Err(Failure::Forbidden("this page's origin is not among the token's allowed_origins"))
}

/// A page of this very server.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let named = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    !host.is_empty() && named.is_some_and(|named| named.eq_ignore_ascii_case(host))
}

/// Lets a page of `origin` read the answer.
pub fn allow(mut response: Response<Body>, origin: Option<HeaderValue>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    }
    response
}
