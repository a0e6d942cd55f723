//! What a person is asked for, and what an answer brings.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::facts::{Way, flag, holes, list, text};
use crate::words;
use countersign::catalog::write::Pairs;

/// One label of a host name (RFC 1123 §2.1).
pub const LABEL: &str = "^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$";
/// One segment of a path, or the value of a parameter, that needs no escape.
const SEGMENT: &str = "^[A-Za-z0-9_][A-Za-z0-9_.:@~-]*$";

/// Where a property is needed.
#[derive(Default)]
pub struct Needs {
    /// Inside a host name: `{subdomain}.acme.example`.
    pub label: BTreeSet<String>,
    /// The host as a whole.
    pub whole: BTreeSet<String>,
    /// Elsewhere in a URL.
    pub url: BTreeSet<String>,
    /// In what is attached or sent to a token endpoint.
    pub secret_place: BTreeSet<String>,
    /// In what is attached only if it is there.
    pub optional: BTreeSet<String>,
    /// Before the browser is sent anywhere.
    pub early: BTreeSet<String>,
    /// The user name of HTTP Basic, beside a password of its own.
    pub user_name: BTreeSet<String>,
}

impl Needs {
    fn names(&self) -> BTreeSet<&String> {
        let sets = [
            &self.label,
            &self.whole,
            &self.url,
            &self.secret_place,
            &self.optional,
            &self.user_name,
        ];
        sets.into_iter().flatten().collect()
    }

    pub fn in_url(&self, name: &str) -> bool {
        self.label.contains(name) || self.whole.contains(name) || self.url.contains(name)
    }

    fn is_needed(&self, name: &str) -> bool {
        self.in_url(name) || self.secret_place.contains(name) || self.user_name.contains(name)
    }
}

/// Which tokens are made from is no field of an account.
fn is_of_the_client(kind: &str, name: &str) -> bool {
    let by_client = matches!(kind, "oauth2" | "oauth2_client_credentials");
    matches!(name, "oauth_access_token" | "oauth_client_id" | "jwt" | "oauth_refresh_token")
        || (by_client && matches!(name, "client_id" | "client_secret"))
}

/// Where Zoho's data centres have their APIs.
const ZOHO: [&str; 9] = [
    "zohoapis.com",
    "zohoapis.eu",
    "zohoapis.in",
    "zohoapis.com.au",
    "zohoapis.jp",
    "zohoapis.ca",
    "zohoapis.sa",
    "zohoapis.uk",
    "zohoapis.com.cn",
];

/// The fields, in the order of the facts; asked ones first.
///
/// # Errors
/// In words, when no careful field can be made of what is known.
pub fn of(
    way: Way<'_>,
    needs: &Needs,
    hosts: &[String],
    captured: &[String],
    family: &str,
) -> Result<Vec<Pairs>, String> {
    let facts = way.fields();
    let known: Vec<&str> = facts.iter().map(|field| text(field, "name")).collect();
    let mut fields = Vec::new();
    for field in &facts {
        let name = text(field, "name");
        let derived_from = |other: &&&Value| other["derive"]["from"].as_str() == Some(name);
        let is_source =
            facts.iter().any(|other| derived_from(&other) && needs.is_needed(text(other, "name")));
        let wanted = needs.names().iter().any(|needed| *needed == name) || is_source;
        if wanted && !is_of_the_client(way.kind(), name) {
            fields.push(one(way, field, needs, hosts, captured, family)?);
        }
    }
    for name in needs.names() {
        let brought = captured.contains(name) && !needs.early.contains(name);
        let declared = known.contains(&name.as_str()) || brought;
        if !declared && !is_of_the_client(way.kind(), name) {
            let made = serde_json::json!({ "name": name });
            fields.push(one(way, &made, needs, hosts, captured, family)?);
        }
    }
    fields.sort_by_key(|field| place_in_form(field, needs));
    Ok(fields)
}

/// As a sign-in form asks: where, who, the secret, and last what may be missing or comes by itself.
fn place_in_form(field: &Pairs, needs: &Needs) -> u8 {
    let has = |key: &str| field.iter().any(|(known, _)| *known == key);
    let name = field[0].1.as_str().unwrap_or_default();
    match () {
        () if has("from") || has("derive") => 4,
        () if has("optional") => 3,
        () if field.contains(&("secret", true.into())) => 2,
        () if needs.in_url(name) => 0,
        () => 1,
    }
}

fn one(
    way: Way<'_>,
    field: &Value,
    needs: &Needs,
    hosts: &[String],
    captured: &[String],
    family: &str,
) -> Result<Pairs, String> {
    let name = text(field, "name");
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!("a field is called \"{name}\""));
    }
    let choices: Vec<&str> = list(field, "enum").filter_map(Value::as_str).collect();
    let dynamic = way.dynamic_host().filter(|host| text(host, "field") == name);
    let mut label = words::label(text(field, "label"), name);
    if dynamic.is_some() && matches!(name, "domain" | "host" | "hostname") {
        label = "Host".to_owned();
    }
    if needs.in_url(name)
        && (flag(field, "secret") || name.contains("password") || name == "secret")
    {
        return Err("a secret would go into a URL, which is logged".to_owned());
    }
    let secret = is_secret(field, needs);
    let mut pairs: Pairs = vec![("name", name.into()), ("label", label.into())];
    if let Some((help, placeholder)) = address_help(name, needs, hosts, &choices, dynamic) {
        pairs.push(("help", help.into()));
        pairs.push(("placeholder", placeholder.into()));
    }
    pairs.push(("secret", secret.into()));
    if needs.optional.contains(name) && !needs.is_needed(name) {
        pairs.push(("optional", true.into()));
    }
    if let Some(dynamic) = dynamic.filter(|_| choices.is_empty()) {
        pairs.push(("kind", text(dynamic, "kind").into()));
        let known = list(dynamic, "allowed_suffixes").filter_map(Value::as_str);
        let mut suffixes: Vec<&str> = known.map(|s| s.trim_start_matches('.')).collect();
        if suffixes.is_empty() && name == "api_domain" && family == "zoho" {
            suffixes = ZOHO.to_vec();
        }
        if !suffixes.is_empty() {
            pairs.push(("suffixes", suffixes.into()));
        }
    }
    if let Some(pattern) = pattern(field, needs, dynamic.is_some(), &choices) {
        pairs.push(("pattern", pattern.into()));
    }
    let default = field["default"].as_str().or_else(|| dynamic.and_then(|d| d["default"].as_str()));
    if let Some(default) =
        default.filter(|value| !secret && !value.is_empty() && !value.contains('{'))
    {
        pairs.push(("default", default.into()));
    }
    if !choices.is_empty() {
        pairs.push(("enum", choices.into()));
    }
    let from = text(field, "from");
    let from = if from.is_empty() { dynamic.map_or("", |d| text(d, "from")) } else { from };
    // What no answer brings, or what is needed before any, a person has to know.
    if !from.is_empty() && captured.iter().any(|c| c == name) && !needs.early.contains(name) {
        pairs.push(("from", from.into()));
    }
    if field["derive"].is_object() {
        let (from, regex) = (&field["derive"]["from"], &field["derive"]["regex"]);
        pairs.push(("derive", serde_json::json!({ "from": from, "regex": regex })));
    }
    Ok(pairs)
}

/// A part of a URL is seen in logs, so it is no secret; what looks like a key is one.
fn is_secret(field: &Value, needs: &Needs) -> bool {
    let name = text(field, "name");
    if needs.in_url(name) {
        return false;
    }
    let spelled = format!("{name} {}", text(field, "label")).to_lowercase();
    let is_id = spelled.contains(" id") || spelled.contains("_id") || name.ends_with("id");
    let tells = ["key", "token", "secret", "password", "passphrase", "credential", "pin", "hash"];
    let harmless = [
        "user_agent",
        "username",
        "user name",
        "email",
        "e-mail",
        "region",
        "version",
        "public key",
    ];
    match () {
        () if harmless.iter().any(|word| spelled.contains(word)) && !spelled.contains("key") => {
            false
        }
        () if is_id && !spelled.contains("secret") && !flag(field, "secret") => false,
        () if tells.iter().any(|word| spelled.split(['_', ' ']).any(|w| w.contains(word))) => true,
        () => field["secret"].as_bool().unwrap_or_else(|| !needs.user_name.contains(name)),
    }
}

/// `acme, for acme.zendesk.com.`
fn address_help(
    name: &str,
    needs: &Needs,
    hosts: &[String],
    choices: &[&str],
    dynamic: Option<&Value>,
) -> Option<(String, &'static str)> {
    if !choices.is_empty() {
        return None;
    }
    if let Some(dynamic) = dynamic.filter(|d| text(d, "from").is_empty()) {
        return match text(dynamic, "kind") {
            "url" => Some((
                "The address of your own server or account, with https://.".to_owned(),
                "https://acme.example",
            )),
            _ => Some((
                "The host of your own server or account, without https://.".to_owned(),
                "acme.example",
            )),
        };
    }
    if !needs.label.contains(name) || name.contains("region") || name.contains("environment") {
        return None;
    }
    let hole = format!("{{{name}}}");
    let host =
        hosts.iter().find(|host| host.starts_with(&hole) && host.matches('{').count() == 1)?;
    let host = host.split('/').next().unwrap_or_default().replace(&hole, "acme");
    Some((format!("acme, for {host}."), "acme"))
}

/// Anchored, whatever the facts say: a value decides where a credential goes.
fn pattern(field: &Value, needs: &Needs, is_whole: bool, choices: &[&str]) -> Option<String> {
    let name = text(field, "name");
    let theirs = text(field, "pattern");
    let anchored = theirs.starts_with('^') && theirs.ends_with('$') && !theirs.contains('|');
    // Lookarounds and the like are not for a linear-time engine.
    let readable =
        anchored && !theirs.contains("(?=") && !theirs.contains("(?!") && !theirs.contains("(?<");
    match () {
        () if !choices.is_empty() || is_whole => None,
        () if needs.label.contains(name) => match readable && is_label_like(theirs) {
            true => Some(theirs.to_owned()),
            false => Some(LABEL.to_owned()),
        },
        () if needs.url.contains(name) => {
            match readable && !theirs.contains(".*") && !theirs.contains(".+") {
                true => Some(theirs.to_owned()),
                false => Some(SEGMENT.to_owned()),
            }
        }
        // A pattern for a secret that one source guessed would refuse good keys one day.
        () => None,
    }
}

/// Letters, digits and hyphens: what one label of a host can be.
fn is_label_like(pattern: &str) -> bool {
    !pattern.contains(['_', '.', '\\', '/', '%', '@', ':'])
}

/// Sorts the holes of a URL into those of its host and the others.
pub fn note_url(url: &str, needs: &mut Needs) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    note_host(host, needs);
    needs.url.extend(holes(path).map(str::to_owned));
}

pub fn note_host(host: &str, needs: &mut Needs) {
    let host = host.split('/').next().unwrap_or_default();
    let is_whole = host.starts_with('{') && host.ends_with('}') && host.matches('{').count() == 1;
    let names = holes(host).map(str::to_owned);
    if is_whole { needs.whole.extend(names) } else { needs.label.extend(names) }
}
