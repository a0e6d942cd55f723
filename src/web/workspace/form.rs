//! Forms and queries, read once and bounded.

use http::HeaderMap;
use hyper::body::Incoming;
use url::form_urlencoded;

use crate::secret::Secret;
use crate::web::browser::{self, Unread};

/// Room for a pasted app definition.
const MAX_BODY_BYTES: usize = 512 * 1024;
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

/// # Errors
/// When it is no form, too long, or broken off.
pub async fn read(headers: &HeaderMap, body: Incoming) -> Result<Form, Unread> {
    browser::form(headers, body, MAX_BODY_BYTES).await.map(|text| Form::parse(&text))
}

/// A path of ours to go on with; anything else would be an open redirect.
pub fn local_path(text: &str) -> Option<&str> {
    let begins = text.starts_with('/') && !text.starts_with("//");
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    (begins && plain && text.len() <= 2000).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
