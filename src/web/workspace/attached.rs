//! What countersign attaches to requests, as pages show it: the places, never the values.

use crate::catalog::Auth;
use crate::inject::{Attachment, Signature, Template};

/// Stands for a value that nobody is shown.
const HIDDEN: &str = "••••••••";

/// One thing that is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// `Authorization`, `?api_key`.
    pub place: String,
    pub shown: String,
    /// Part of it is a secret.
    pub hidden: bool,
}

/// What an account of this kind gets attached where nothing else is said.
pub fn usual(auth: &Auth) -> Vec<Attached> {
    auth.attach.iter().map(attached).collect()
}

pub fn all(attachments: &[Attachment]) -> Vec<Attached> {
    attachments.iter().map(attached).collect()
}

fn attached(attachment: &Attachment) -> Attached {
    let (place, shown) = match attachment {
        Attachment::Header { name, value, .. } => (field(name.as_str()), covered(value)),
        Attachment::Query { name, value, .. } => (format!("?{name}"), covered(value)),
        Attachment::Cookie { name, value } => (format!("Cookie {name}"), covered(value)),
        Attachment::Basic { .. } => ("Authorization".to_owned(), format!("Basic {HIDDEN}")),
        Attachment::Path { segment, .. } => ("Path begins with".to_owned(), covered(segment)),
        Attachment::Body { name, value } => (format!("Body {name}"), covered(value)),
        Attachment::Static { name, value, .. } => {
            let shown = String::from_utf8_lossy(value.as_bytes()).into_owned();
            return Attached { place: field(name.as_str()), shown, hidden: false };
        }
        Attachment::Signature(signature) => ("Signature".to_owned(), scheme(signature)),
    };
    Attached { hidden: shown.contains(HIDDEN), place, shown }
}

fn scheme(signature: &Signature) -> String {
    match signature {
        Signature::AwsSigV4(_) => "AWS Signature Version 4".to_owned(),
        Signature::OAuth1(oauth1) => format!("OAuth 1.0a, {}", oauth1.method.as_str()),
        Signature::Hmac(hmac) => format!("HMAC, {}", hmac.algorithm.as_str()),
        Signature::Digest => "HTTP Digest".to_owned(),
    }
}

/// What stands around a value.
fn covered(template: &Template) -> String {
    if template.is_constant() {
        return template.source().to_owned();
    }
    let (before, after) = template.ends();
    format!("{before}{HIDDEN}{after}")
}

/// As people write the name of a header: `X-Api-Key`.
fn field(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shown_and_values_are_not() {
        let template = |text: &str| Template::parse(text).expect("a template");
        let header = |name: &'static str, value: &str| Attachment::Header {
            name: http::HeaderName::from_static(name),
            value: template(value),
            optional: false,
        };
        for (attachment, place, shown, hidden) in [
            (header("authorization", "Bearer {token}"), "Authorization", "Bearer ••••••••", true),
            (header("x-api-key", "{key}"), "X-Api-Key", "••••••••", true),
            (header("x-version", "2"), "X-Version", "2", false),
            (
                Attachment::Path { segment: template("/bot{token}"), under: None },
                "Path begins with",
                "/bot••••••••",
                true,
            ),
        ] {
            let expected = Attached { place: place.into(), shown: shown.into(), hidden };
            assert_eq!(attached(&attachment), expected);
        }
    }
}
