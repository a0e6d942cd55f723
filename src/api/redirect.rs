//! What a redirect asks for, where it may be followed. Pure.
//!
//! Doors that send a request for somebody follow redirects themselves, because an HTTP client would
//! go there with whatever it has. Whether the next request may be sent is decided anew by whoever
//! sends it: the account's credential goes to its own hosts only.

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, LOCATION, TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::target::{self, Named};
use crate::forward::Target;

/// More hops than this are a circle.
pub const MAX_HOPS: usize = 5;

/// What was asked where a redirect came from.
pub struct Asked {
    pub method: Method,
    pub target: Target,
    pub path: PathAndQuery,
    pub headers: HeaderMap,
    pub had_body: bool,
}

/// What is asked next. It has no body.
pub struct Next {
    pub method: Method,
    pub target: Target,
    pub path: PathAndQuery,
    pub headers: HeaderMap,
}

/// The next request; `None` where the answer is no redirect, leads nowhere that can be asked, or
/// where a body that has gone would have to go again.
pub fn next(status: StatusCode, answer: &HeaderMap, asked: Asked) -> Option<Next> {
    let location = answer.get(LOCATION)?.to_str().ok()?;
    let method = redirected(status, &asked)?;
    let scheme = if asked.target.secure { "https" } else { "http" };
    let here = format!("{scheme}://{}:{}{}", asked.target.host, asked.target.port, asked.path);
    let there = url::Url::parse(&here).ok()?.join(location).ok()?;
    let Ok(Named::Absolute { target, path }) = target::parse(there.as_str()) else {
        return None;
    };
    let mut headers = asked.headers;
    for framing in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT] {
        headers.remove(framing);
    }
    Some(Next { method, target, path, headers })
}

/// The method of the next request (Fetch, HTTP-redirect fetch).
fn redirected(status: StatusCode, asked: &Asked) -> Option<Method> {
    let post = asked.method == Method::POST;
    match status.as_u16() {
        303 => Some(Method::GET),
        301 | 302 if post => Some(Method::GET),
        301 | 302 | 307 | 308 if !asked.had_body => Some(asked.method.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, had_body: bool) -> Asked {
        let Ok(Named::Absolute { target, path }) = target::parse("https://api.test/v1/x?a=1")
        else {
            panic!("a URL")
        };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, "text/plain".parse().expect("text"))]);
        Asked { method: method.parse().expect("a method"), target, path, headers, had_body }
    }

    #[test]
    fn a_redirect_is_followed_as_browsers_do_and_never_with_a_body() {
        for (status, method, had_body, location, next_is) in [
            (302, "GET", false, "/v2", Some("GET api.test /v2")),
            (302, "POST", true, "/v2", Some("GET api.test /v2")),
            (303, "PUT", true, "y?b=2", Some("GET api.test /v1/y?b=2")),
            (307, "POST", false, "https://other.test/z", Some("POST other.test /z")),
            (307, "POST", true, "/v2", None),
            (308, "DELETE", false, "/v2", Some("DELETE api.test /v2")),
            (304, "GET", false, "/v2", None),
            (200, "GET", false, "/v2", None),
            (302, "GET", false, "http://api.test/v2", Some("GET api.test /v2")),
            (302, "GET", false, "file:///etc/passwd", None),
            (302, "GET", false, "https://api.test@evil.test/", None),
        ] {
            let answer = HeaderMap::from_iter([(LOCATION, location.parse().expect("text"))]);
            let status = StatusCode::from_u16(status).expect("a status");
            let found = next(status, &answer, asked(method, had_body));
            assert!(found.as_ref().is_none_or(|next| next.headers.is_empty()));
            let said = found.map(|n| format!("{} {} {}", n.method, n.target.host, n.path));
            assert_eq!(said.as_deref(), next_is, "{status} {method} {location}");
        }
    }
}
