//! How the API authenticates: security schemes as ways, requirements as what belongs together.

use std::collections::BTreeMap;

use serde_json::Value;

use super::servers::{Server, label, snake};
use super::{Document, Version, operations};
use crate::catalog::write::{Auth, Pairs};

/// Documents that list every permission of a large vendor help nobody with the list.
const MOST_SCOPES: usize = 12;
const MOST_WAYS: usize = 5;

/// What one scheme contributes to a way.
#[derive(Debug, Clone, Default)]
struct Part {
    kind: &'static str,
    attach: Vec<Pairs>,
    fields: Vec<Pairs>,
    oauth2: Pairs,
}

/// Every way that the document lets a request be made in, the most used first.
pub(super) fn ways(
    document: &Document,
    servers: &[Server],
    remarks: &mut Vec<String>,
) -> Vec<Auth> {
    let schemes = schemes(document);
    let mut ways: Vec<Auth> = Vec::new();
    for names in requirements(document, &schemes) {
        let mut parts = Vec::new();
        for name in &names {
            let Some(scheme) = schemes.get(name) else { continue };
            parts.push(read(document, servers, name, document.resolved(scheme), remarks));
        }
        for way in combined(&parts) {
            push(&mut ways, way, servers);
        }
    }
    if ways.iter().any(|way| !in_query(way)) {
        // Access logs keep query strings; where there is a choice, the header is the better one.
        ways.retain(|way| !in_query(way) || way.kind.starts_with("oauth2"));
    }
    if ways.is_empty() {
        remarks.push(
            "the document does not say how requests are authenticated: add what the service wants \
             to `attach`"
                .to_owned(),
        );
        push(&mut ways, Part { kind: "none", ..Part::default() }, servers);
    }
    ways.truncate(MOST_WAYS);
    ways
}

fn schemes(document: &Document) -> BTreeMap<String, &Value> {
    let all = match document.version {
        Version::Two => &document.root["securityDefinitions"],
        Version::Three => &document.root["components"]["securitySchemes"],
    };
    let all = all.as_object().into_iter().flatten();
    all.map(|(name, scheme)| (name.clone(), scheme)).collect()
}

/// The sets of schemes that satisfy a request, the most frequent first. Without any, each alone.
fn requirements(document: &Document, schemes: &BTreeMap<String, &Value>) -> Vec<Vec<String>> {
    let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let mut note = |security: &Value| {
        for requirement in security.as_array().into_iter().flatten() {
            let names = requirement.as_object().into_iter().flatten().map(|(name, _)| name.clone());
            let names: Vec<String> = names.filter(|name| schemes.contains_key(name)).collect();
            if !names.is_empty() {
                *counts.entry(names).or_default() += 1;
            }
        }
    };
    note(&document.root["security"]);
    operations::all(document).for_each(|operation| note(&operation.value["security"]));
    if counts.is_empty() {
        return schemes.keys().map(|name| vec![name.clone()]).collect();
    }
    let mut found: Vec<_> = counts.into_iter().collect();
    found.sort_by_key(|(names, count)| (std::cmp::Reverse(*count), names.len()));
    found.into_iter().map(|(names, _)| names).collect()
}

/// One scheme. Several parts are several grants, of which each is a way.
fn read(
    document: &Document,
    servers: &[Server],
    name: &str,
    scheme: &Value,
    remarks: &mut Vec<String>,
) -> Vec<Part> {
    let kind = scheme["type"].as_str().unwrap_or_default().to_ascii_lowercase();
    let word = scheme["scheme"].as_str().unwrap_or_default().to_ascii_lowercase();
    match (kind.as_str(), word.as_str()) {
        ("apikey", _) => api_key(name, scheme, remarks).into_iter().collect(),
        ("basic", _) | ("http", "basic") => vec![basic()],
        ("http", "bearer") => vec![bearer(name)],
        ("http", "digest" | "negotiate" | "mutual" | "hoba") => {
            remarks.push(format!("\"{name}\" is HTTP {word}, which is not supported"));
            Vec::new()
        }
        ("http", word) => {
            remarks.push(format!("\"{name}\" sends `{word}` before its key: check it"));
            vec![in_header(
                "Authorization",
                &format!("{} ", scheme["scheme"].as_str().unwrap_or(word)),
                "token",
            )]
        }
        ("oauth2", _) => oauth2(document, servers, name, scheme, remarks),
        ("openidconnect", _) => {
            remarks.push(format!(
                "\"{name}\" is OpenID Connect: look up authorization_endpoint and token_endpoint in \
                 {} and add an oauth2 way",
                scheme["openIdConnectUrl"].as_str().unwrap_or("the provider's configuration")
            ));
            Vec::new()
        }
        (other, _) => {
            remarks.push(format!("\"{name}\" is of the type {other}, which is not supported"));
            Vec::new()
        }
    }
}

fn secret_field(name: &str) -> Pairs {
    vec![("name", name.into()), ("label", label(name).into()), ("secret", true.into())]
}

fn in_header(header: &str, before: &str, field: &str) -> Part {
    let value = format!("{before}{{{field}}}");
    let kind = if before.eq_ignore_ascii_case("Bearer ") { "bearer" } else { "api_key" };
    let attach = vec![vec![("header", header.into()), ("value", value.into())]];
    Part { kind, attach, fields: vec![secret_field(field)], oauth2: Vec::new() }
}

fn bearer(name: &str) -> Part {
    let field = match snake(name).as_str() {
        name if name.contains("key") => "api_key",
        _ => "access_token",
    };
    in_header("Authorization", "Bearer ", field)
}

fn basic() -> Part {
    let pair = serde_json::json!({ "username": "{username}", "password": "{password}" });
    let mut user = secret_field("username");
    user[1].1 = "User name".into();
    user[2].1 = false.into();
    Part {
        kind: "basic",
        attach: vec![vec![("basic", pair)]],
        fields: vec![user, secret_field("password")],
        oauth2: Vec::new(),
    }
}

fn api_key(name: &str, scheme: &Value, remarks: &mut Vec<String>) -> Option<Part> {
    let key = scheme["name"].as_str().map(str::trim).filter(|key| !key.is_empty())?;
    let field = field_name(name, key);
    let place = scheme["in"].as_str().unwrap_or("header");
    let part = |pairs: Pairs| Part {
        kind: "api_key",
        attach: vec![pairs],
        fields: vec![secret_field(&field)],
        oauth2: Vec::new(),
    };
    let value = || format!("{{{field}}}").into();
    // Gateways want to be told their own host beside the key.
    if place == "header" && key.to_ascii_lowercase().ends_with("-host") {
        remarks.push(format!(
            "\"{name}\" is a host and no credential: if the service wants it, add \
             {{ static = \"{key}\", value = \"…\", when = \"absent\" }} to `attach`"
        ));
        return None;
    }
    Some(match place {
        "query" => part(vec![("query", key.into()), ("value", value())]),
        "cookie" => part(vec![("cookie", key.into()), ("value", value())]),
        _ if key.eq_ignore_ascii_case("authorization") => {
            let before = word_before(scheme);
            if before.is_empty() {
                remarks.push(format!(
                    "\"{name}\" goes into Authorization as it is; if the service wants a word before \
                     it (Bearer, Token), add it to `value`"
                ));
            }
            in_header("Authorization", before, &field)
        }
        _ => part(vec![("header", key.into()), ("value", value())]),
    })
}

/// What a description says in passing about `Authorization`.
fn word_before(scheme: &Value) -> &'static str {
    let told = scheme["description"].as_str().unwrap_or_default();
    let known = ["Bearer ", "Token ", "ApiKey ", "Api-Key ", "Key ", "Basic "];
    let said = |word: &&&str| {
        told.find(**word).is_some_and(|at| {
            let after = &told[at + word.len()..];
            after.starts_with(['<', '{', '[', '"', '\'', 'Y', 'y', 'X', 'x', '$'])
        })
    };
    known.iter().find(said).copied().unwrap_or_default()
}

/// `api_key` for what every service calls differently.
fn field_name(scheme: &str, key: &str) -> String {
    let spelled = snake(scheme);
    let telling = ["token", "secret", "user", "app", "client", "application", "subscription"];
    let parts = snake(key);
    match () {
        () if telling.iter().any(|word| parts.contains(word)) && parts.len() <= 24 => {
            parts.trim_start_matches("x_").to_owned()
        }
        () if spelled.contains("token") => "access_token".to_owned(),
        () => "api_key".to_owned(),
    }
}

/// Every grant that can be had without the browser keeping a token.
fn oauth2(
    document: &Document,
    servers: &[Server],
    name: &str,
    scheme: &Value,
    remarks: &mut Vec<String>,
) -> Vec<Part> {
    let flows: Vec<(String, &Value)> = match document.version {
        Version::Two => vec![(scheme["flow"].as_str().unwrap_or_default().to_owned(), scheme)],
        Version::Three => scheme["flows"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(flow, value)| (flow.clone(), value))
            .collect(),
    };
    let mut parts = Vec::new();
    let mut browser_only = false;
    for (flow, value) in &flows {
        let kind = match flow.as_str() {
            "authorizationCode" | "accessCode" => "oauth2",
            "clientCredentials" | "application" => "oauth2_client_credentials",
            "password" => "oauth2_password",
            _ => {
                browser_only = true;
                continue;
            }
        };
        match grant(document, servers, kind, value, remarks) {
            Some(part) => parts.push(part),
            None => remarks.push(format!("\"{name}\" lacks the URLs of its {flow} flow")),
        }
    }
    if parts.is_empty() && browser_only {
        remarks.push(format!(
            "\"{name}\" knows the implicit flow only, which gives tokens to browsers: the definition \
             takes a token from elsewhere; look for an authorization code flow in the documentation"
        ));
        parts.push(in_header("Authorization", "Bearer ", "access_token"));
    }
    // The browser's way first.
    parts.sort_by_key(|part| part.kind != "oauth2");
    parts
}

fn grant(
    document: &Document,
    servers: &[Server],
    kind: &'static str,
    flow: &Value,
    remarks: &mut Vec<String>,
) -> Option<Part> {
    let url = |key: &str| flow[key].as_str().and_then(|url| secure(document, servers, url.trim()));
    let mut pairs: Pairs = Vec::new();
    if kind == "oauth2" {
        pairs.push(("authorize_url", url("authorizationUrl")?.into()));
    }
    let token_url = url("tokenUrl")?;
    pairs.push(("token_url", token_url.clone().into()));
    if let Some(refresh) = url("refreshUrl").filter(|refresh| *refresh != token_url) {
        pairs.push(("refresh_url", refresh.into()));
    }
    let scopes: Vec<&String> =
        flow["scopes"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
    match scopes.len() {
        0 => {}
        1..=MOST_SCOPES => {
            let scopes: Vec<String> = scopes.into_iter().cloned().collect();
            pairs.push(("suggested_scopes", scopes.into()));
        }
        many => {
            remarks.push(format!("there are {many} scopes; add those you need to suggested_scopes"))
        }
    }
    if kind == "oauth2" {
        pairs.push(("refresh", serde_json::json!({ "optional": true })));
    }
    let value = "Bearer {oauth_access_token}";
    let attach = vec![vec![("header", "Authorization".into()), ("value", value.into())]];
    let mut fields = Vec::new();
    if kind == "oauth2_password" {
        fields = basic().fields;
    }
    Some(Part { kind, attach, fields, oauth2: pairs })
}

/// Relative to the document, or else to the API.
fn secure(document: &Document, servers: &[Server], url: &str) -> Option<String> {
    let base = || servers.first()?.base_url().parse().ok();
    let absolute = match url.contains("://") {
        true => url.to_owned(),
        false => document.url.clone().or_else(base)?.join(url).ok()?.to_string(),
    };
    let rest = absolute.strip_prefix("https://").or_else(|| absolute.strip_prefix("http://"))?;
    let plain = !rest.contains(['{', '}', ' ']) && !rest.is_empty();
    plain.then(|| format!("https://{rest}"))
}

/// Schemes that are needed together, as one way; a scheme with several grants gives several.
fn combined(parts: &[Vec<Part>]) -> Vec<Part> {
    let mut ways = vec![Part::default()];
    for choices in parts {
        if choices.is_empty() {
            return Vec::new();
        }
        let with =
            |way: &Part| choices.iter().map(|choice| joined(way, choice)).collect::<Vec<_>>();
        ways = ways.iter().flat_map(with).collect();
    }
    ways.retain(|way| !way.attach.is_empty());
    ways
}

fn joined(one: &Part, other: &Part) -> Part {
    let mut way = one.clone();
    if way.kind.is_empty() || other.kind.starts_with("oauth2") {
        way.kind = other.kind;
    }
    let mut other = other.clone();
    // Two keys of one name are two fields.
    for field in &mut other.fields {
        let name = field[0].1.as_str().unwrap_or_default().to_owned();
        if way.fields.iter().any(|known| known[0] == field[0]) {
            let second = format!("second_{name}");
            for (_, value) in other.attach.iter_mut().flatten() {
                if let Some(text) = value.as_str() {
                    *value = text.replace(&format!("{{{name}}}"), &format!("{{{second}}}")).into();
                }
            }
            field[1].1 = label(&second).into();
            field[0].1 = second.into();
        }
    }
    way.attach.extend(other.attach);
    way.fields.extend(other.fields);
    way.oauth2.extend(other.oauth2);
    way
}

fn push(ways: &mut Vec<Auth>, part: Part, servers: &[Server]) {
    let same = |known: &Auth| known.attach == part.attach && known.kind == part.kind;
    if ways.iter().any(same) {
        return;
    }
    let base = match part.kind {
        "oauth2" => "oauth".to_owned(),
        "oauth2_client_credentials" => "client_credentials".to_owned(),
        "oauth2_password" => "password".to_owned(),
        "none" => "open".to_owned(),
        "basic" => "basic".to_owned(),
        _ => part.fields.first().and_then(|f| f[0].1.as_str()).unwrap_or("api_key").to_owned(),
    };
    let taken = |id: &str| ways.iter().any(|known| known.id == id);
    let numbered =
        || (2..).map(|n| format!("{base}_{n}")).find(|id| !taken(id)).unwrap_or_default();
    let id = if taken(&base) { numbered() } else { base.clone() };
    let mut fields = part.fields;
    for field in servers.iter().flat_map(|server| &server.fields) {
        if !fields.iter().any(|known| known[0] == field[0]) {
            fields.push(field.clone());
        }
    }
    ways.push(Auth {
        id,
        kind: part.kind.to_owned(),
        hosts: servers.iter().map(|server| server.host.clone()).collect(),
        base_url: servers.first().map(Server::base_url).unwrap_or_default(),
        attach: part.attach,
        fields,
        oauth2: part.oauth2,
        ..Auth::default()
    });
}

fn in_query(way: &Auth) -> bool {
    way.attach.iter().any(|pairs| pairs[0].0 == "query")
}
