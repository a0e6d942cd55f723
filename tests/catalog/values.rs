//! Made-up values for an account of any app.

use std::collections::BTreeMap;

use countersign::catalog::{Auth, Field, FieldKind, FieldOrigin, HostPattern};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

/// A value for every name that the hosts, URLs and attachments of `auth` mention.
pub fn made_up(app: &str, auth: &Auth) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let asked_for = |field: &&Field| field.origin != FieldOrigin::Request;
    for field in auth.fields.iter().filter(asked_for) {
        let names = |pattern: &&HostPattern| pattern.host.holes().any(|hole| hole == field.name);
        let of_host = auth.hosts.iter().find(names);
        values.insert(field.name.clone(), value_of(app, field, of_host));
    }
    for token in ["oauth_access_token", "oauth_client_id", "jwt"] {
        values.entry(token.to_owned()).or_insert_with(|| format!("made-up-{token}"));
    }
    // Of a host that an answer brings as a part of itself: `{api_domain.host}`.
    values
}

/// `of_host`: a host in which it stands, and which it must not spoil.
fn value_of(app: &str, field: &Field, of_host: Option<&HostPattern>) -> String {
    // Two apps whose host is a field must not get the same one.
    let usual = field.default.as_ref().filter(|_| field.kind == FieldKind::Text);
    if let Some(value) = field.choices.first().or(usual) {
        return value.clone();
    }
    let host = |suffixes: &[String]| match suffixes.first() {
        Some(suffix) => format!("acme.{}", suffix.trim_start_matches('.')),
        None => format!("{}.acme.example", app.trim_matches('_').replace('_', "-")),
    };
    let usual = match &field.kind {
        FieldKind::Host(rule) => host(&rule.suffixes),
        FieldKind::Url(rule) => format!("https://{}", host(&rule.suffixes)),
        FieldKind::Text => format!("made-up-{}", field.name.replace('_', "-")),
    };
    let candidates = [usual, "acme".to_owned(), "us21".to_owned(), "1234".to_owned()];
    let fits = |value: &String| {
        let is_label = value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !value.starts_with('-')
            && !value.ends_with('-');
        let fits_host = |pattern: &HostPattern| is_label || pattern.host.is_whole();
        !value.is_empty() && field.check(value).is_ok() && of_host.is_none_or(fits_host)
    };
    candidates
        .iter()
        .find(|value| fits(value))
        .cloned()
        .unwrap_or_else(|| from_pattern(field, fits))
}

fn from_pattern(field: &Field, fits: impl Fn(&String) -> bool) -> String {
    let pattern = field.pattern.as_ref().expect("only a pattern refuses plain values").as_str();
    // There, a digit is one of any script; in a definition it is ASCII.
    let ascii =
        pattern.trim_matches(['^', '$']).replace("\\d", "[0-9]").replace("\\w", "[A-Za-z0-9_]");
    let strategy = proptest::string::string_regex(&ascii)
        .unwrap_or_else(|error| panic!("{}: {pattern}: {error}", field.name));
    let mut runner = TestRunner::deterministic();
    let tree = std::iter::repeat_with(|| strategy.new_tree(&mut runner).expect("a value"));
    tree.map(|tree| tree.current())
        .take(500)
        .find(fits)
        .unwrap_or_else(|| panic!("no value of {} matches {pattern}", field.name))
}

/// The template's text with the values in it. Written once more here, so that the proxy's own
/// rendering is held against another one.
pub fn filled(template: &str, values: &BTreeMap<String, String>) -> String {
    if let Some((before, rest)) = template.split_once("base64(")
        && let Some((inner, after)) = rest.split_once(')')
    {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(filled(inner, values));
        return format!("{}{encoded}{}", filled(before, values), filled(after, values));
    }
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, hole_and_after)) = rest.split_once('{') {
        let (hole, after) = hole_and_after.split_once('}').expect("definitions parse");
        out.push_str(before);
        let name = hole.strip_suffix(".host").unwrap_or(hole);
        out.push_str(values.get(name).unwrap_or_else(|| panic!("{template}: no {name}")));
        rest = after;
    }
    out.push_str(rest);
    out
}
