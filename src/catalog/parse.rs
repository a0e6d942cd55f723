//! The TOML shape of an app. Every mistake is reported at once, with its line; unknown keys are
//! refused, because a mistyped `exceptions` would send a credential where it does not belong.

use std::collections::BTreeMap;

use http::{HeaderName, Method};
use serde_json::Value;
use toml::de::DeTable;

use super::grants::Pointer;
use super::hosts::HostPattern;
use super::parse_grants::{NO_POINTER, read_jwt, read_oauth1, read_oauth2};
use super::path::PathGlob;
use super::table::{Section, Sheet};
use super::{
    App, Auth, AuthKind, Confidence, Exception, Expect, Expected, Field, FieldKind, FieldOrigin,
    HostRule, Mistake, Pattern, TestRequest, attach,
};
use crate::inject::Template;

/// Reads one file.
///
/// # Errors
/// Every mistake in it.
pub fn app(file: &str, text: &str) -> Result<App, Vec<Mistake>> {
    let sheet = Sheet::new(file, text);
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| sheet.line(span.start));
        vec![Mistake::new(file, line, "", error.message())]
    })?;
    let read = read_app(file, sheet.root(&table));
    match (read, sheet.into_mistakes()) {
        (Some(app), mistakes) if mistakes.is_empty() => Ok(app),
        (_, mistakes) => Err(mistakes),
    }
}

fn read_app(file: &str, root: Section<'_>) -> Option<App> {
    if !root.has("id") {
        root.missing("id");
    }
    let id = root.parsed("id", str::parse);
    let (name, description) = (root.needed("name"), root.needed("description"));
    let (categories, docs_url) = (root.texts("categories"), root.text("docs_url"));
    let (tier, confidence) = (root.number("tier"), confidence(&root));
    let shares_hosts_with = root.texts("shares_hosts_with");
    let auths: Vec<_> =
        root.named_sections("auth").into_iter().filter_map(|(id, s)| read_auth(id, s)).collect();
    if auths.is_empty() && !root.has("auth") {
        root.missing("auth");
    }
    root.finish();
    let file = file.to_owned();
    let id = id.filter(|_| !auths.is_empty())?;
    Some(App {
        id,
        name,
        description,
        categories,
        docs_url,
        tier,
        confidence,
        shares_hosts_with,
        auths,
        file,
    })
}

fn confidence(section: &Section<'_>) -> Confidence {
    let words = [("verified", Confidence::Verified), ("single", Confidence::Single)];
    section.word("confidence", &words).unwrap_or_default()
}

const KINDS: [(&str, AuthKind); 12] = [
    ("oauth2", AuthKind::Oauth2),
    ("oauth2_client_credentials", AuthKind::Oauth2ClientCredentials),
    ("oauth2_password", AuthKind::Oauth2Password),
    ("oauth1", AuthKind::Oauth1),
    ("api_key", AuthKind::ApiKey),
    ("bearer", AuthKind::Bearer),
    ("basic", AuthKind::Basic),
    ("jwt", AuthKind::Jwt),
    ("token_exchange", AuthKind::TokenExchange),
    ("aws_sigv4", AuthKind::AwsSigv4),
    ("signature", AuthKind::Signature),
    ("none", AuthKind::None),
];

fn read_auth(id: String, section: Section<'_>) -> Option<Auth> {
    let line = Some(section.line());
    if !section.has("kind") {
        section.missing("kind");
    }
    let (kind, confidence) = (section.word("kind", &KINDS), confidence(&section));
    let fields: Vec<_> = section.sections("fields").into_iter().map(read_field).collect();
    if !section.has("hosts") {
        section.missing("hosts");
    }
    let hosts = hosts(&section, &fields);
    let base_url = needed_template(&section, "base_url");
    let attach = attach::list(&section);
    let exceptions = section
        .sections("exceptions")
        .into_iter()
        .filter_map(|entry| read_exception(entry, &fields))
        .collect();
    let oauth2 = section.section("oauth2").map(read_oauth2);
    let oauth1 = section.section("oauth1").and_then(read_oauth1);
    let jwt = section.section("jwt").map(read_jwt);
    let test = section.section("test").and_then(read_test);
    let clear_text = section.flag("clear_text").unwrap_or(false);
    let scrub = section.flag("scrub").unwrap_or(true);
    section.finish();
    Some(Auth {
        id,
        kind: kind?,
        confidence,
        hosts,
        base_url: base_url?,
        attach,
        exceptions,
        fields,
        oauth2,
        oauth1,
        jwt,
        test,
        clear_text,
        scrub,
        line,
    })
}

fn hosts(section: &Section<'_>, fields: &[Field]) -> Vec<HostPattern> {
    let pattern = |text: String| match HostPattern::parse(&text, fields) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            section.mistake("hosts", format!("\"{text}\": {error}"));
            None
        }
    };
    section.texts("hosts").into_iter().filter_map(pattern).collect()
}

fn read_exception(section: Section<'_>, fields: &[Field]) -> Option<Exception> {
    if !section.has("host") {
        section.missing("host");
    }
    let host = section.parsed("host", |text| HostPattern::parse(text, fields));
    let glob = |text: String| {
        let glob = PathGlob::new(&text);
        if glob.is_none() {
            section.mistake("paths", format!("\"{text}\" is not a pattern such as /*/*/info/refs"));
        }
        glob
    };
    let paths: Vec<_> = section.texts("paths").into_iter().filter_map(glob).collect();
    if !section.has("attach") {
        // Leaving it out by mistake would mean "no credential", so nothing has to be said: `[]`.
        section.missing("attach");
    }
    let attach = attach::list(&section);
    section.finish();
    Some(Exception { host: host?, paths, attach })
}

fn read_field(section: Section<'_>) -> Field {
    let name = section.needed("name");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if section.has("name") && (name.is_empty() || !name.bytes().all(plain)) {
        section.mistake("name", "use a-z, A-Z, 0-9 and _");
    }
    let field = Field {
        label: section.needed("label"),
        help: section.text("help"),
        placeholder: section.text("placeholder"),
        // Forgetting to say so must not show a secret.
        secret: section.flag("secret").unwrap_or(true),
        optional: section.flag("optional").unwrap_or(false),
        kind: field_kind(&section),
        pattern: section.parsed("pattern", Pattern::new),
        default: section.text("default"),
        choices: section.texts("enum"),
        origin: field_origin(&section),
        name,
    };
    if let Some(Err(error)) = field.default.as_deref().map(|value| field.check(value)) {
        section.mistake("default", error.to_string());
    }
    section.finish();
    field
}

fn field_kind(section: &Section<'_>) -> FieldKind {
    let suffixes = section.texts("suffixes");
    let rule = HostRule { suffixes, addresses: section.flag("addresses").unwrap_or(false) };
    let words = [("text", 't'), ("host", 'h'), ("url", 'u')];
    match section.word("kind", &words) {
        Some('h') => FieldKind::Host(rule),
        Some('u') => FieldKind::Url(rule),
        _ => {
            if rule != HostRule::default() {
                section
                    .mistake("kind", "`suffixes` and `addresses` need kind = \"host\" or \"url\"");
            }
            FieldKind::Text
        }
    }
}

fn field_origin(section: &Section<'_>) -> FieldOrigin {
    let derived = section.section("derive").and_then(|derive| {
        let field = derive.needed("from");
        let pattern = derive.parsed("regex", Pattern::new);
        derive.finish();
        Some(FieldOrigin::Derived { field, pattern: pattern? })
    });
    let words =
        [("token_response", 't'), ("callback", 'c'), ("post_exchange", 'p'), ("request", 'r')];
    match (section.word("from", &words), derived) {
        (_, Some(derived)) => derived,
        (Some('t'), _) => FieldOrigin::TokenResponse,
        (Some('c'), _) => FieldOrigin::Callback,
        (Some('p'), _) => FieldOrigin::PostExchange,
        (Some('r'), _) => FieldOrigin::Request,
        _ => FieldOrigin::Asked,
    }
}

fn read_test(section: Section<'_>) -> Option<TestRequest> {
    let method = method(&section, "method").unwrap_or(Method::GET);
    let url = needed_template(&section, "url");
    let headers = section
        .map("headers")
        .into_iter()
        .filter_map(|(name, value)| {
            let header = HeaderName::try_from(&name).ok().zip(value.as_str().map(str::to_owned));
            if header.is_none() {
                section.mistake("headers", format!("\"{name}\" is not a header with a text"));
            }
            header
        })
        .collect();
    let body = section.value("body");
    let expect = section.section("expect").map(read_expect).unwrap_or_default();
    section.finish();
    Some(TestRequest { method, url: url?, headers, body, expect })
}

fn read_expect(section: Section<'_>) -> Expect {
    let (status, status_not) = (section.numbers("status"), section.numbers("status_not"));
    let mut json = BTreeMap::new();
    for (path, value) in section.map("json") {
        let expected = match value {
            Value::String(word) if word == "present" => Expected::Present,
            value => Expected::Equal(value),
        };
        match Pointer::new(&path) {
            Some(pointer) => drop(json.insert(pointer, expected)),
            None => section.mistake("json", format!("\"{path}\" {NO_POINTER}")),
        }
    }
    section.finish();
    Expect { status, status_not, json }
}

pub(super) fn template(s: &Section<'_>, key: &'static str) -> Option<Template> {
    s.parsed(key, Template::parse)
}

pub(super) fn needed_template(s: &Section<'_>, key: &'static str) -> Option<Template> {
    if !s.has(key) {
        s.missing(key);
    }
    template(s, key)
}

pub(super) fn method(s: &Section<'_>, key: &'static str) -> Option<Method> {
    s.parsed(key, str::parse)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
