//! What a browser sends: forms and queries, cookies, and where it comes from. Bounded, and strict.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use url::form_urlencoded;

use crate::secret::Secret;

/// Room for a pasted app definition.
const MAX_BODY_BYTES: usize = 512 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_FIELDS: usize = 2000;

/// The pairs of a query or a form.
#[derive(Debug, Default, Clone)]
pub struct Form(Vec<(String, String)>);

impl Form {
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().take(MAX_FIELDS).collect())
    }

    /// The first value of `name` without blanks around it; empty if it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// As it was entered.
    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The same if it says something.
    pub fn said(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// A password, as it was entered.
    pub fn secret(&self, name: &str) -> Secret {
        Secret::from(self.raw(name).to_owned())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// Why a form is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    NotAForm,
    TooLong,
    Broken,
}

/// # Errors
/// When it is no form, too long, or broken off.
pub async fn read(headers: &HeaderMap, body: Incoming) -> Result<Form, Unread> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Unread::NotAForm);
    }
    let reading = Limited::new(body, MAX_BODY_BYTES).collect();
    let read = tokio::time::timeout(PATIENCE, reading).await.map_err(|_| Unread::Broken)?;
    let read = read.map_err(|error| {
        let long = error.is::<http_body_util::LengthLimitError>();
        if long { Unread::TooLong } else { Unread::Broken }
    })?;
    Ok(Form::parse(&read.to_bytes()))
}

/// Whether a form was sent from a page of ours. Browsers say so in `Sec-Fetch-Site`, and where they
/// do not (plain `http`), in `Origin`; whoever says neither is no browser that we serve.
pub fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = text(ORIGIN.as_str()) else { return false };
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    authority.is_some() && authority == text(HOST.as_str())
}

pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

/// A path of ours to go on with; anything else would be an open redirect.
pub fn local_path(text: &str) -> Option<&str> {
    let begins = text.starts_with('/') && !text.starts_with("//");
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    (begins && plain && text.len() <= 2000).then_some(text)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_page_of_ours_may_send_a_form() {
        let (site, origin) = ("sec-fetch-site", "origin");
        for (fields, expected) in [
            (vec![(site, "same-origin")], true),
            (vec![(site, "same-origin"), (origin, "null")], true),
            (vec![(site, "cross-site"), (origin, "http://cs.test:8080")], false),
            (vec![(site, "same-site")], false),
            (vec![(site, "none")], false),
            (vec![(origin, "http://cs.test:8080")], true),
            (vec![(origin, "https://cs.test:8080")], true),
            (vec![(origin, "http://cs.test")], false),
            (vec![(origin, "http://evil.test")], false),
            (vec![(origin, "http://cs.test:8080.evil.test")], false),
            (vec![(origin, "null")], false),
            (vec![], false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("cs.test:8080"));
            for (name, value) in &fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_from_here(&headers), expected, "{fields:?}");
        }
    }

    #[test]
    fn only_a_path_of_ours_is_gone_on_with() {
        for (text, expected) in [
            ("/accounts", true),
            ("/accounts?q=a%20b", true),
            ("//evil.test", false),
            ("/\\evil.test", false),
            ("https://evil.test", false),
            ("accounts", false),
            ("/a\r\nSet-Cookie: x", false),
            ("", false),
        ] {
            assert_eq!(local_path(text).is_some(), expected, "{text:?}");
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
