//! What browsers send, and how they are sent on: where a form comes from, cookies, forms of bounded
//! size, and the way to another page. One place for the connect pages and the workspace.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    ORIGIN, REFERRER_POLICY, SET_COOKIE,
};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::forward::Body;

const PATIENCE: Duration = Duration::from_secs(30);
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a form was sent from a page of ours. Browsers say so in `Sec-Fetch-Site`, and where they
/// do not (plain `http`, old ones), in `Origin`; whoever says neither is no browser that we serve.
///
/// A front may name another `Host` than people see, so `url`, where people find this server, counts
/// beside it. Of that name only a page of that scheme is ours: what comes in clear text from the
/// same name may be somebody's on the way.
pub fn is_from_here(headers: &HeaderMap, url: Option<&str>) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text(SITE) {
        return site == "same-origin";
    }
    let Some((scheme, authority)) = text(ORIGIN).and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let is = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    match url.and_then(origin_of) {
        Some((own_scheme, own)) if is(own, authority) => is(own_scheme, scheme),
        _ => {
            let spoken = is(scheme, "http") || is(scheme, "https");
            spoken && text(HOST).is_some_and(|host| is(host, authority))
        }
    }
}

/// Scheme and authority.
fn origin_of(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    Some((scheme, rest.split('/').next().unwrap_or_default()))
}

/// The value of the cookie of this very name.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

pub fn append_cookie(response: &mut Response<Body>, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}

/// To another page, by GET, and without saying from where. What is no address leads to `/`.
pub fn see_other(url: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(url).unwrap_or(HeaderValue::from_static("/")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Why a form is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    NotAForm,
    TooLong,
    Broken,
}

/// The whole of a form.
///
/// # Errors
/// When it is no form, longer than `max_bytes`, or broken off.
pub async fn form(headers: &HeaderMap, body: Incoming, max_bytes: usize) -> Result<Bytes, Unread> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Unread::NotAForm);
    }
    whole(body, max_bytes, PATIENCE).await
}

/// The whole of a body.
///
/// # Errors
/// When it is longer than `max_bytes`, or broken off.
pub async fn whole(body: Incoming, max_bytes: usize, patience: Duration) -> Result<Bytes, Unread> {
    let reading = Limited::new(body, max_bytes).collect();
    let read = tokio::time::timeout(patience, reading).await.map_err(|_| Unread::Broken)?;
    let read = read.map_err(|error| match error.is::<LengthLimitError>() {
        true => Unread::TooLong,
        false => Unread::Broken,
    })?;
    Ok(read.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "origin";
    const BY: &str = "sec-fetch-site";

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let value = |text| HeaderValue::from_static(text);
        fields.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    #[test]
    fn only_a_page_of_ours_may_send_a_form() {
        for (fields, expected) in [
            (vec![(BY, "same-origin")], true),
            (vec![(BY, "same-origin"), (FROM, "null")], true),
            (vec![(BY, "cross-site"), (FROM, "http://cs.test:8080")], false),
            (vec![(BY, "same-site")], false),
            (vec![(BY, "none")], false),
            (vec![(FROM, "http://cs.test:8080")], true),
            (vec![(FROM, "https://cs.test:8080")], true),
            (vec![(FROM, "HTTP://CS.test:8080")], true),
            (vec![(FROM, "ftp://cs.test:8080")], false),
            (vec![(FROM, "http://cs.test")], false),
            (vec![(FROM, "http://evil.test")], false),
            (vec![(FROM, "http://cs.test:8080.evil.test")], false),
            (vec![(FROM, "null")], false),
            (vec![], false),
        ] {
            let mut headers = headers(&fields);
            headers.insert(HOST, HeaderValue::from_static("cs.test:8080"));
            assert_eq!(is_from_here(&headers, None), expected, "{fields:?}");
        }
    }

    #[test]
    fn behind_a_front_the_public_name_counts_beside_the_host() {
        let public = Some("https://cs.example/");
        let host = ("host", "127.0.0.1:8080");
        for (fields, here) in [
            (vec![host, (BY, "same-origin")], true),
            (vec![host, (BY, "cross-site"), (FROM, "http://127.0.0.1:8080")], false),
            (vec![host, (BY, "same-site")], false),
            (vec![host, (BY, "none")], false),
            (vec![host, (FROM, "http://127.0.0.1:8080")], true),
            (vec![host, (FROM, "https://cs.example")], true),
            (vec![host, (FROM, "https://CS.example")], true),
            (vec![host, (FROM, "https://cs.example.evil.test")], false),
            (vec![host, (FROM, "null")], false),
            (vec![host], false),
            // Of the public name in clear text: somebody on the way.
            (vec![("host", "cs.example"), (FROM, "http://cs.example")], false),
            (vec![host, (FROM, "http://cs.example")], false),
        ] {
            assert_eq!(is_from_here(&headers(&fields), public), here, "{fields:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; session=2"));
        headers.append(COOKIE, HeaderValue::from_static("sess=3"));
        assert_eq!(cookie(&headers, "session"), Some("2"));
        assert_eq!(cookie(&headers, "sess"), Some("3"));
        assert_eq!(cookie(&headers, "ses"), None);
    }
}
