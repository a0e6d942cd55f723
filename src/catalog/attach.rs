//! `attach`: the list of places where an app wants a value.

use http::{HeaderName, HeaderValue};

use super::table::Section;
use crate::inject::{
    Algorithm, Attachment, AwsSigV4, Encoding, Hmac, KeyEncoding, OAuth1, OAuth1Method, Place,
    Signature, Template, Unit, When,
};

pub fn list(section: &Section<'_>) -> Vec<Attachment> {
    let entry = |entry: Section<'_>| {
        let found = one(&entry);
        entry.finish();
        found
    };
    section.sections("attach").into_iter().filter_map(entry).collect()
}

type Read = fn(&Section<'_>) -> Option<Attachment>;

/// Each entry has one key that says what it is.
const PLACES: [(&str, Read); 11] = [
    ("header", header),
    ("query", query),
    ("cookie", cookie),
    ("basic", basic),
    ("path", path),
    ("body", body),
    ("static", companion),
    ("aws_sigv4", aws),
    ("oauth1", oauth1),
    ("hmac", hmac),
    ("digest", digest),
];

fn one(entry: &Section<'_>) -> Option<Attachment> {
    let mut found = PLACES.iter().filter(|(key, _)| entry.has(key));
    match (found.next(), found.next()) {
        (Some((_, read)), None) => read(entry),
        _ => {
            let places: Vec<_> = PLACES.iter().map(|(key, _)| *key).collect();
            entry.mistake("", format!("needs exactly one of {}", places.join(", ")));
            None
        }
    }
}

fn header(entry: &Section<'_>) -> Option<Attachment> {
    let optional = entry.flag("optional").unwrap_or(false);
    let (name, value) = (header_name(entry, "header"), value(entry));
    Some(Attachment::Header { name: name?, value: value?, optional })
}

fn query(entry: &Section<'_>) -> Option<Attachment> {
    let optional = entry.flag("optional").unwrap_or(false);
    let (name, value) = (token(entry, "query"), value(entry));
    Some(Attachment::Query { name: name?, value: value?, optional })
}

fn cookie(entry: &Section<'_>) -> Option<Attachment> {
    let (name, value) = (token(entry, "cookie"), value(entry));
    Some(Attachment::Cookie { name: name?, value: value? })
}

fn basic(entry: &Section<'_>) -> Option<Attachment> {
    let section = entry.section("basic")?;
    let username = template(&section, "username");
    let password = template(&section, "password");
    section.finish();
    Some(Attachment::Basic { username: username?, password: password? })
}

fn path(entry: &Section<'_>) -> Option<Attachment> {
    let segment = entry.parsed("path", |text| match text.starts_with('/') {
        true => Template::parse(text).map_err(|e| e.to_string()),
        false => Err("a path segment starts with /".to_owned()),
    });
    let under = entry.text("under");
    if under.as_ref().is_some_and(|u| !u.starts_with('/') || u.ends_with('/')) {
        entry.mistake("under", "starts with / and does not end with it, as in \"/file\"");
    }
    Some(Attachment::Path { segment: segment?, under })
}

fn body(entry: &Section<'_>) -> Option<Attachment> {
    let (name, value) = (entry.text("body"), value(entry));
    Some(Attachment::Body { name: name?, value: value? })
}

fn companion(entry: &Section<'_>) -> Option<Attachment> {
    let name = header_name(entry, "static");
    let value = entry.parsed("value", |text| match text.contains(['{', '}']) {
        true => Err("is sent as it is; for a value with holes use `header`".to_owned()),
        false => HeaderValue::from_str(text).map_err(|e| e.to_string()),
    });
    let when = entry.word("when", &[("absent", When::Absent), ("always", When::Always)]);
    Some(Attachment::Static { name: name?, value: value?, when: when.unwrap_or(When::Absent) })
}

/// The template under `key`, or else the field of that name.
fn or_field(section: &Section<'_>, key: &'static str) -> Option<Template> {
    match section.has(key) {
        true => section.parsed(key, Template::parse),
        false => Template::parse(&format!("{{{key}}}")).ok(),
    }
}

fn aws(entry: &Section<'_>) -> Option<Attachment> {
    let section = entry.section("aws_sigv4")?;
    let access_key_id = or_field(&section, "access_key_id");
    let secret_access_key = or_field(&section, "secret_access_key");
    let optional = |key| section.parsed(key, Template::parse);
    let (session_token, service) = (optional("session_token"), optional("service"));
    let region = optional("region");
    section.finish();
    Some(Attachment::Signature(Signature::AwsSigV4(Box::new(AwsSigV4 {
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        session_token,
        service,
        region,
    }))))
}

fn oauth1(entry: &Section<'_>) -> Option<Attachment> {
    let section = entry.section("oauth1")?;
    if !section.has("method") {
        section.missing("method");
    }
    let method = section.word("method", &OAuth1Method::ALL);
    let consumer_key = or_field(&section, "consumer_key");
    let consumer_secret = or_field(&section, "consumer_secret");
    let optional = |key| section.parsed(key, Template::parse);
    let (token, token_secret) = (optional("token"), optional("token_secret"));
    if section.has("token") != section.has("token_secret") {
        section.mistake("token", "`token` and `token_secret` go together");
    }
    let realm = section.text("realm");
    section.finish();
    Some(Attachment::Signature(Signature::OAuth1(Box::new(OAuth1 {
        method: method?,
        consumer_key: consumer_key?,
        consumer_secret: consumer_secret?,
        token: token.zip(token_secret),
        realm,
    }))))
}

fn hmac(entry: &Section<'_>) -> Option<Attachment> {
    let section = entry.section("hmac")?;
    if !section.has("algorithm") {
        section.missing("algorithm");
    }
    let algorithm = section.word("algorithm", &Algorithm::ALL);
    let (key, over) = (template(&section, "key"), template(&section, "over"));
    let place = place(&section, "header", "query");
    if place.is_none() {
        section.mistake("header", "the signature needs a `header` or a `query`, and one of them");
    }
    let value = match section.has("value") {
        true => section.parsed("value", Template::parse),
        false => Template::parse("{signature}").ok(),
    };
    if value.as_ref().is_some_and(|value| !value.holes().contains(&"signature")) {
        section.mistake("value", "has no {signature} in it");
    }
    let keys =
        [("text", KeyEncoding::Text), ("base64", KeyEncoding::Base64), ("hex", KeyEncoding::Hex)];
    let key_encoding = section.word("key_encoding", &keys).unwrap_or(KeyEncoding::Text);
    let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    let encoding = section.word("encoding", &encodings).unwrap_or(Encoding::Hex);
    let timestamp = self::place(&section, "timestamp_header", "timestamp_query");
    let units = [("s", Unit::Seconds), ("ms", Unit::Milliseconds)];
    let unit = section.word("timestamp_unit", &units).unwrap_or(Unit::Seconds);
    section.finish();
    Some(Attachment::Signature(Signature::Hmac(Box::new(Hmac {
        algorithm: algorithm?,
        key: key?,
        key_encoding,
        over: over?,
        encoding,
        place: place?,
        value: value?,
        timestamp,
        unit,
    }))))
}

/// `None` where neither is said, or both.
fn place(section: &Section<'_>, header: &'static str, query: &'static str) -> Option<Place> {
    match (section.has(header), section.has(query)) {
        (true, false) => header_name(section, header).map(Place::Header),
        (false, true) => token(section, query).map(Place::Query),
        (true, true) => {
            section.mistake(query, format!("`{header}` is said, too"));
            None
        }
        (false, false) => None,
    }
}

fn digest(entry: &Section<'_>) -> Option<Attachment> {
    match entry.flag("digest")? {
        true => Some(Attachment::Signature(Signature::Digest)),
        false => None,
    }
}

fn value(entry: &Section<'_>) -> Option<Template> {
    if !entry.has("value") {
        entry.missing("value");
    }
    template(entry, "value")
}

fn template(section: &Section<'_>, key: &'static str) -> Option<Template> {
    if !section.has(key) {
        section.missing(key);
    }
    section.parsed(key, Template::parse)
}

fn header_name(entry: &Section<'_>, key: &'static str) -> Option<HeaderName> {
    entry.parsed(key, |text| HeaderName::try_from(text).map_err(|e| e.to_string()))
}

/// A name that needs no escaping in a query or a cookie.
fn token(entry: &Section<'_>, key: &'static str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$'()*+,:@[]".contains(c);
    entry.parsed(key, |text| match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("is not a plain parameter name"),
    })
}
