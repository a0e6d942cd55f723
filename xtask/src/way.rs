//! One way to authenticate, from the facts to a definition's `[auth.<id>]`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::facts::{Way, flag, holes, list, text};
use crate::fields::{self, Needs, note_host, note_url};
use crate::oauth;
use countersign::catalog::write::{Auth, Pairs};

/// # Errors
/// In words, why no definition of it could work.
pub fn auth(record: Way<'_>, way: Way<'_>, tier: u64) -> Result<Auth, String> {
    supported(way)?;
    let (attach, mut needs) = attachments(way)?;
    let exceptions = exceptions(way, &mut needs)?;
    let hosts = hosts(record, way, &exceptions);
    hosts.iter().for_each(|host| note_host(host, &mut needs));
    let base_url = base_url(record, way, &hosts);
    note_url(&base_url, &mut needs);
    let oauth2 = oauth::oauth2(way, tier)?;
    note_oauth(way, &oauth2, &mut needs);
    let jwt = jwt(way, &mut needs)?;
    let test = test(way);
    if let Some(url) = test.iter().find(|(key, _)| *key == "url").and_then(|(_, url)| url.as_str())
    {
        note_url(url, &mut needs);
    }
    let fields = fields::of(way, &needs, &hosts, &oauth::captured(way), text(record.0, "family"))?;
    let kind = kind(way, &attach, &oauth2);
    let fields = with_a_secret(fields, &kind, &needs);
    let id = id(way, &kind, &fields);
    Ok(Auth {
        id,
        kind,
        single: false,
        comment: String::new(),
        hosts,
        base_url,
        attach,
        exceptions,
        fields,
        oauth2,
        jwt,
        test,
    })
}

/// What is attached alone is the credential, whatever it is called.
fn with_a_secret(mut fields: Vec<Pairs>, kind: &str, needs: &Needs) -> Vec<Pairs> {
    let secret: (&str, Value) = ("secret", true.into());
    let by_key = matches!(kind, "api_key" | "bearer" | "basic");
    if !by_key || fields.iter().any(|field| field.contains(&secret)) {
        return fields;
    }
    for field in &mut fields {
        let attached = field[0].1.as_str().is_some_and(|name| needs.secret_place.contains(name));
        let open = field[0].1.as_str().is_none_or(|name| needs.in_url(name));
        if attached && !open {
            field
                .iter_mut()
                .filter(|(key, _)| *key == "secret")
                .for_each(|pair| *pair = secret.clone());
            field.retain(|(key, _)| *key != "default");
        }
    }
    fields
}

fn supported(way: Way<'_>) -> Result<(), String> {
    for entry in way.injection() {
        match text(entry, "in") {
            "body" => return Err("the key goes into the body, which is written by hand".into()),
            "aws_sigv4" => return Err("requests are signed (AWS), which is written by hand".into()),
            "oauth1" => {
                return Err("requests are signed (OAuth 1), which is written by hand".into());
            }
            _ => {}
        }
    }
    let has_token_url = way.oauth2().is_some_and(|oauth2| !text(oauth2, "token_url").is_empty());
    let has_jwt = way.0["jwt"].is_object();
    match way.kind() {
        "signature" => Err("requests are signed, which is written by hand".into()),
        "token_exchange" | "oauth2_password" if !has_token_url => {
            Err("it wants a sign-in first, and where is not known".into())
        }
        "jwt" if !has_jwt => Err("it wants a signed token, and what is in it is not known".into()),
        "oauth1" => Err("requests are signed (OAuth 1), which is written by hand".into()),
        _ if way.injection().is_empty() => Err("where the credential goes is not known".into()),
        _ => Ok(()),
    }
}

fn attachments(way: Way<'_>) -> Result<(Vec<Pairs>, Needs), String> {
    let mut needs = Needs::default();
    let mut out = Vec::new();
    for entry in way.injection() {
        out.extend(attachment(way, entry, &mut needs)?);
    }
    for header in list(way.0, "static_headers") {
        out.extend(companion(header));
    }
    if out.is_empty() {
        return Err("where the credential goes is not known".into());
    }
    Ok((out, needs))
}

fn attachment(way: Way<'_>, entry: &Value, needs: &mut Needs) -> Result<Option<Pairs>, String> {
    let template = own_template(way, text(entry, "template"));
    let name = text(entry, "name");
    if name.eq_ignore_ascii_case("user-agent") {
        return Ok(None);
    }
    // `{version} || 2025-01-20`: what everybody sends who does not choose.
    if let Some((_, usual)) = template.split_once(" || ").filter(|(_, usual)| !usual.contains(' '))
    {
        return Ok(Some(vec![
            ("static", name.into()),
            ("value", usual.into()),
            ("when", "absent".into()),
        ]));
    }
    if template.contains("||") || template.contains('|') || template.contains("nango") {
        return Err(format!("\"{template}\" cannot be filled in"));
    }
    let optional = flag(entry, "optional");
    let mut note = |template: &str| {
        let set = if optional { &mut needs.optional } else { &mut needs.secret_place };
        set.extend(holes(template).map(str::to_owned));
    };
    let mut pairs: Pairs = match text(entry, "in") {
        "header" if name.eq_ignore_ascii_case("cookie") => cookie(&template)?,
        "header" => match basic_inside(&template) {
            Some((user, password)) => {
                note(&user);
                note(&password);
                return Ok(Some(basic(&user, &password)));
            }
            None => vec![("header", header_name(name).into()), ("value", template.clone().into())],
        },
        // How an answer should look is the caller's business.
        "query" if !template.contains('{') && matches!(name, "format" | "output" | "type") => {
            return Ok(None);
        }
        "query" => vec![("query", name.into()), ("value", template.clone().into())],
        "path" => vec![("path", template.clone().into())],
        "basic" => {
            let user = own_template(way, text(entry, "username"));
            let password = own_template(way, text(entry, "password"));
            // `api:{api_key}` and nothing: both halves in one (RFC 7617 §2).
            let (user, password) = match user.split_once(':') {
                Some((user, rest)) if password.is_empty() => (user.to_owned(), rest.to_owned()),
                _ => (user, password),
            };
            needs.secret_place.extend(holes(&password).map(str::to_owned));
            let beside = holes(&password).next().is_some();
            let set = if beside { &mut needs.user_name } else { &mut needs.secret_place };
            set.extend(holes(&user).map(str::to_owned));
            return Ok(Some(basic(&user, &password)));
        }
        other => return Err(format!("\"{other}\" is no place for a credential")),
    };
    note(&template);
    if optional {
        pairs.push(("optional", true.into()));
    }
    Ok(Some(pairs))
}

/// The OAuth client's id is a property of its own in what is attached.
fn own_template(way: Way<'_>, template: &str) -> String {
    let by_client = matches!(way.kind(), "oauth2" | "oauth2_client_credentials");
    match by_client {
        true => template.replace("{client_id}", "{oauth_client_id}"),
        false => template.to_owned(),
    }
}

/// `Basic base64({user}:{password})` says in a header what `basic` says better.
fn basic_inside(template: &str) -> Option<(String, String)> {
    let inner = template
        .strip_prefix("Basic base64(")
        .or_else(|| template.strip_prefix("basic base64("))?;
    let (user, password) = inner.strip_suffix(')')?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn basic(user: &str, password: &str) -> Pairs {
    vec![("basic", json!({ "username": user, "password": password }))]
}

fn cookie(template: &str) -> Result<Pairs, String> {
    match template.split_once('=') {
        Some((name, value)) if !template.contains(';') => {
            Ok(vec![("cookie", name.into()), ("value", value.into())])
        }
        _ => Err("the cookie has no name that is known".into()),
    }
}

/// `authorization` as everybody writes it.
fn header_name(name: &str) -> &str {
    if name.eq_ignore_ascii_case("authorization") { "Authorization" } else { name }
}

fn companion(header: &Value) -> Option<Pairs> {
    let (name, value) = (text(header, "name"), text(header, "value"));
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    // What a client says about its own request.
    let needless = is("content-type")
        || is("user-agent")
        || is("authorization")
        || (is("accept") && (value == "application/json" || value == "*/*"));
    let when = if text(header, "when") == "always" { "always" } else { "absent" };
    (!needless && !value.contains('{'))
        .then(|| vec![("static", name.into()), ("value", value.into()), ("when", when.into())])
}

/// The record's limits hold for its alternatives too.
fn hosts(record: Way<'_>, way: Way<'_>, exceptions: &[Pairs]) -> Vec<String> {
    let own = way.hosts();
    let whole = record.hosts();
    let dynamic = way.dynamic_host().or_else(|| record.dynamic_host().filter(|_| own.is_empty()));
    let within = !own.is_empty()
        && own.iter().all(|host| whole.contains(host))
        && way.dynamic_host().is_none();
    let listed = if within { whole } else { own };
    let mut hosts = Vec::new();
    for host in listed {
        // A label that nobody knows is no address when the answer names it.
        if host.starts_with("{label}.") && dynamic.is_some() {
            continue;
        }
        let prefixes: Vec<&str> = limits(record, way, host);
        match prefixes[..] {
            [] => hosts.push(host.to_owned()),
            _ => hosts.extend(prefixes.iter().map(|prefix| format!("{host}{prefix}"))),
        }
    }
    if let Some(dynamic) = dynamic {
        hosts.push(format!("{{{}}}", text(dynamic, "field")));
    }
    for host in exceptions.iter().filter_map(|exception| exception[0].1.as_str()) {
        if !hosts.iter().any(|known| known == host || known.starts_with(&format!("{host}/"))) {
            hosts.push(host.to_owned());
        }
    }
    hosts.dedup();
    hosts
}

fn limits<'a>(record: Way<'a>, way: Way<'a>, host: &str) -> Vec<&'a str> {
    let of = |way: Way<'a>| -> Vec<&'a str> {
        let limits = way.0.get("path_prefixes").and_then(|all| all.get(host));
        limits.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let own = of(way);
    if own.is_empty() { of(record) } else { own }
}

fn base_url(record: Way<'_>, way: Way<'_>, hosts: &[String]) -> String {
    let of_record = record.base_url();
    let same_place = |url: &str| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = rest.split('/').next().unwrap_or_default();
        hosts.iter().any(|known| known.split('/').next() == Some(host))
    };
    let usable = |url: &&str| !url.is_empty() && same_place(url) && !url.contains('?');
    let constant = |url: &str| !url.contains('{');
    let found = match (way.base_url(), of_record) {
        (own, whole)
            if usable(&whole) && whole.starts_with(own) && (constant(whole) || own == whole) =>
        {
            whole
        }
        (own, _) if usable(&own) => own,
        _ => "",
    };
    let first = || {
        let host = hosts.first().map(|host| host.trim_end_matches('/')).unwrap_or_default();
        if host.starts_with('{') && !host.contains('.') {
            host.to_owned()
        } else {
            format!("https://{host}")
        }
    };
    match found {
        "" => first(),
        url => url.trim_end_matches('/').to_owned(),
    }
}

/// Other hosts of the same house that take the credential in another way. Where they want another
/// credential, it is optional; what cannot be left out is not listed at all.
fn exceptions(way: Way<'_>, needs: &mut Needs) -> Result<Vec<Pairs>, String> {
    let mut out = Vec::new();
    for rule in list(way.0, "host_rules").filter(|rule| text(rule, "path_prefix").is_empty()) {
        if list(rule, "injection").any(|entry| text(entry, "in") == "body") {
            continue;
        }
        let mut attach = Vec::new();
        let mut own = Needs::default();
        for entry in list(rule, "injection") {
            attach.extend(attachment(way, entry, &mut own)?);
        }
        let wanted: Vec<String> = own.secret_place.into_iter().chain(own.user_name).collect();
        let others =
            |name: &String| !needs.secret_place.contains(name) && !needs.user_name.contains(name);
        if wanted.iter().any(others) {
            if attach.iter().any(|pairs| pairs[0].0 == "basic") {
                continue;
            }
            attach.iter_mut().for_each(|pairs| pairs.push(("optional", true.into())));
            needs.optional.extend(wanted);
        }
        let attach: Vec<Value> = attach.iter().map(as_table).collect();
        out.push(vec![("host", text(rule, "host").into()), ("attach", attach.into())]);
    }
    Ok(out)
}

pub fn as_table(pairs: &Pairs) -> Value {
    let entry = |(key, value): &(&str, Value)| ((*key).to_owned(), value.clone());
    pairs.iter().map(entry).collect::<Map<_, _>>().into()
}

fn note_oauth(way: Way<'_>, oauth2: &Pairs, needs: &mut Needs) {
    // A sign-in with fields of the account needs no OAuth client, and has none.
    let by_client =
        matches!(way.kind(), "oauth2" | "oauth2_client_credentials" | "oauth2_password");
    for (key, value) in oauth2 {
        match value {
            Value::String(url) if key.ends_with("_url") => {
                if *key == "authorize_url" {
                    needs.early.extend(holes(url).map(str::to_owned));
                }
                note_url(url, needs);
            }
            Value::Object(_) if key.ends_with("_params") || key.ends_with("_headers") => {
                let texts = value.as_object().into_iter().flatten().filter_map(|(_, v)| v.as_str());
                needs.secret_place.extend(
                    texts
                        .flat_map(holes)
                        .filter(|hole| !is_of_request(hole, by_client))
                        .map(str::to_owned),
                );
            }
            Value::Object(table) => {
                if let Some(url) = table.get("url").and_then(Value::as_str) {
                    note_url(url, needs);
                }
            }
            _ => {}
        }
    }
}

fn is_of_request(hole: &str, by_client: bool) -> bool {
    (by_client && matches!(hole, "client_id" | "client_secret"))
        || matches!(
            hole,
            "nonce"
                | "timestamp"
                | "code"
                | "state"
                | "redirect_uri"
                | "code_verifier"
                | "assertion"
                | "oauth_access_token"
                | "oauth_refresh_token"
        )
}

fn jwt(way: Way<'_>, needs: &mut Needs) -> Result<Pairs, String> {
    let Some(facts) = way.0.get("jwt").filter(|jwt| jwt.is_object()) else { return Ok(Vec::new()) };
    // What the facts call derived values are filters here.
    let shown = facts.to_string().replace("_upper}", "|upper}");
    let shown = shown.replace("{public_key_fingerprint}", "{private_key|fingerprint}");
    let facts: Value = serde_json::from_str(&shown).map_err(|error| error.to_string())?;
    let mut pairs: Pairs = vec![("alg", facts["alg"].clone()), ("key", facts["key"].clone())];
    for key in ["header", "claims"] {
        if facts[key].is_object() {
            pairs.push((if key == "header" { "header" } else { "claims" }, facts[key].clone()));
        }
    }
    pairs.push(("ttl", facts["ttl"].clone()));
    needs.secret_place.extend(holes(&shown).filter(|name| is_name(name)).map(str::to_owned));
    Ok(pairs)
}

fn is_name(hole: &str) -> bool {
    !hole.is_empty() && hole.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Only what can be sent as it stands.
fn test(way: Way<'_>) -> Pairs {
    let facts = &way.0["test"];
    let url = text(facts, "url");
    let fields = way.fields();
    let secret = |hole: &str| fields.iter().any(|f| text(f, "name") == hole && flag(f, "secret"));
    if url.is_empty() || url.contains(' ') || holes(url).any(secret) {
        return Vec::new();
    }
    let method = if text(facts, "method").is_empty() { "GET" } else { text(facts, "method") };
    let mut pairs: Pairs = vec![("method", method.into()), ("url", url.into())];
    let headers: Map<String, Value> = facts["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !headers.is_empty() {
        pairs.push(("headers", headers.into()));
    }
    if !facts["body"].is_null() {
        pairs.push(("body", facts["body"].clone()));
    }
    pairs.push(("expect", expect(&facts["expect"])));
    pairs
}

fn expect(facts: &Value) -> Value {
    let mut out = Map::new();
    for key in ["status", "status_not"] {
        if !facts[key].is_null() {
            out.insert(key.to_owned(), facts[key].clone());
        }
    }
    let json = facts["json"].as_object().into_iter().flatten();
    let json: Map<String, Value> =
        json.filter_map(|(path, value)| Some((oauth::pointer(path)?, value.clone()))).collect();
    if !json.is_empty() {
        out.insert("json".to_owned(), json.into());
    }
    if out.is_empty() {
        out.insert("status".to_owned(), 200.into());
    }
    out.into()
}

/// What is attached says more than the source's word for it.
fn kind(way: Way<'_>, attach: &[Pairs], oauth2: &Pairs) -> String {
    let bearer = |pairs: &Pairs| {
        let value = pairs.iter().find(|(key, _)| *key == "value").and_then(|(_, v)| v.as_str());
        pairs[0] == ("header", "Authorization".into())
            && value.is_some_and(|v| v.starts_with("Bearer {"))
    };
    let is_basic = |pairs: &Pairs| pairs[0].0 == "basic";
    match way.kind() {
        "token_exchange" if oauth2.is_empty() => "bearer".to_owned(),
        "api_key" | "bearer" | "basic" => match () {
            () if attach.iter().any(is_basic) => "basic",
            () if attach.iter().any(bearer) => "bearer",
            () => "api_key",
        }
        .to_owned(),
        other => other.to_owned(),
    }
}

fn id(way: Way<'_>, kind: &str, fields: &[Pairs]) -> String {
    let secrets: Vec<String> = fields
        .iter()
        .filter(|field| field.contains(&("secret", true.into())))
        .filter_map(|field| field[0].1.as_str().map(snake))
        .collect();
    let given = way.id();
    let generic = matches!(given, "" | "api_key" | "oauth2" | "exchange" | "basic");
    let fixed: BTreeMap<&str, &str> = BTreeMap::from([
        ("oauth2", "oauth"),
        ("oauth2_client_credentials", "client_credentials"),
        ("oauth2_password", "password"),
        ("token_exchange", "sign_in"),
        ("jwt", "signed_token"),
    ]);
    match (fixed.get(kind), &secrets[..]) {
        _ if !generic && fixed.get(kind).is_none_or(|_| given == "server_to_server") => {
            given.to_owned()
        }
        (Some(id), _) => (*id).to_owned(),
        (None, [only]) if only.len() <= 24 => only.clone(),
        (None, []) if kind == "basic" => "basic".to_owned(),
        (None, _) if kind == "basic" => "basic".to_owned(),
        _ => "api_key".to_owned(),
    }
}

/// `apiKey` and `ApiKey` as `api_key`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase()
            && !out.is_empty()
            && !out.ends_with('_')
            && !out.ends_with(|l: char| l.is_ascii_uppercase())
        {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out.trim_matches('_').to_owned()
}
