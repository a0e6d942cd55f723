//! How tokens are had: the facts' keys in the definition's words, without what is usual anyway.

use serde_json::{Map, Value, json};

use crate::facts::{Way, flag, holes, list, text};
use countersign::catalog::write::Pairs;

/// # Errors
/// In words, what no definition can say or the live path cannot do.
pub fn oauth2(way: Way<'_>, tier: u64) -> Result<Pairs, String> {
    let Some(facts) = way.oauth2() else { return Ok(Vec::new()) };
    if flag(facts, "mtls") {
        return Err("its token endpoint wants a client certificate".to_owned());
    }
    if flag(facts, "additional_steps") {
        return Err("its sign-in has steps that are not known".to_owned());
    }
    if text(facts, "assertion") == "saml"
        || text(&facts["token_headers"], "content-type").ends_with("/xml")
    {
        return Err("its sign-in is not OAuth".to_owned());
    }
    let usual = |key: &str, usual: &str| {
        let value = text(facts, key);
        (!value.is_empty() && value != usual).then(|| Value::from(value))
    };
    let mut pairs: Pairs = Vec::new();
    let mut put =
        |key: &'static str, value: Option<Value>| pairs.extend(value.map(|value| (key, value)));
    put("authorize_url", usual("authorize_url", "").filter(|_| way.kind() == "oauth2"));
    put("authorize_params", params(facts, "authorize_params", way));
    let (token_url, in_url) = split_query(facts);
    put("token_url", token_url);
    put("refresh_url", usual("refresh_url", ""));
    put("revoke_url", usual("revoke_url", ""));
    put("token_method", usual("token_method", "POST"));
    put("token_content_type", usual("token_content_type", "form"));
    put("token_headers", params(facts, "token_headers", way));
    put("token_params", params(facts, "token_params", way).or(in_url));
    put("token_params_optional", params(facts, "token_params_optional", way));
    put("refresh_params", params(facts, "refresh_params", way));
    put("param_rename", object(facts, "param_rename"));
    put("grant_type", usual("grant_type", ""));
    put("audience", Some(facts["audience"].clone()).filter(Value::is_array));
    put("assertion", usual("assertion", ""));
    put("tenant_placeholder", usual("tenant_placeholder", ""));
    put("scope_param", usual("scope_param", "scope"));
    put("optional_scope_param", usual("optional_scope_param", ""));
    put("scopes_separator", separator(text(facts, "scopes_separator")));
    let suggested = scopes(facts, "suggested_scopes");
    let always = scopes(facts, "default_scopes");
    let asked: Vec<String> = suggested.iter().filter(|s| !always.contains(s)).cloned().collect();
    put("default_scopes", (!always.is_empty()).then(|| always.into()));
    put("suggested_scopes", (!asked.is_empty()).then(|| asked.clone().into()));
    put("scope_profiles", read_only(&asked).map(|scopes| json!({ "read only": scopes })));
    put("pkce", usual("pkce", ""));
    put("client_auth", usual("client_auth", ""));
    put("callback_code_param", usual("callback_code_param", "code"));
    put("callback_verify", object(facts, "callback_verify"));
    put("scope_is_array_in_reply", flag(facts, "scope_is_array_in_reply").then(|| true.into()));
    put("error_in_200", object(facts, "error_in_200").map(|error| with_pointers(&error)));
    put("expires_in", expires_in(facts));
    put("expires_as", usual("expires_as", "seconds"));
    let at = usual("expires_at_field", "").and_then(|at| pointer(at.as_str()?.split(' ').next()?));
    put("expires_at_field", at.map(Value::from));
    if facts["token_fields"]["access_token"] == "$." {
        return Err("its sign-in answers with a bare text".to_owned());
    }
    put("token_fields", object(facts, "token_fields").map(|fields| all_pointers(&fields)));
    put("capture", captures(facts, "capture"));
    put("refresh", refresh(way, facts, tier));
    put("revoke", object(facts, "revoke"));
    put("post_exchange", follow_ups(facts)?);
    Ok(pairs)
}

/// Of a GET, secrets in the query are parameters like any other.
fn split_query(facts: &Value) -> (Option<Value>, Option<Value>) {
    let url = text(facts, "token_url");
    let whole = || (!url.is_empty()).then(|| Value::from(url));
    let Some((plain, query)) = url.split_once('?').filter(|(_, query)| query.contains('{')) else {
        return (whole(), None);
    };
    if text(facts, "token_method") != "GET" {
        return (whole(), None);
    }
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let params: Map<String, Value> = pairs.map(|(n, v)| (n.to_owned(), v.into())).collect();
    (Some(plain.into()), Some(params.into()))
}

/// What answers bring, by the names of the properties.
pub fn captured(way: Way<'_>) -> Vec<String> {
    let Some(facts) = way.oauth2() else { return Vec::new() };
    let later = list(facts, "post_exchange").flat_map(|step| list(step, "capture"));
    list(facts, "capture").chain(later).map(|capture| text(capture, "as").to_owned()).collect()
}

/// Standard parameters, and those that the request has anyway, are not repeated.
fn params(facts: &Value, key: &str, way: Way<'_>) -> Option<Value> {
    let usual_grant = match way.kind() {
        "oauth2_client_credentials" => "client_credentials",
        "oauth2_password" => "password",
        _ => "authorization_code",
    };
    let brought = captured(way);
    let needless = |name: &str, value: &Value| {
        let value = value.as_str().unwrap_or_default();
        // What comes back later cannot be sent before.
        if key == "authorize_params" && holes(value).any(|hole| brought.iter().any(|b| b == hole)) {
            return true;
        }
        match name.to_ascii_lowercase().as_str() {
            "accept" => {
                value == "application/json"
                    && key == "token_headers"
                    && !text(facts, "token_url").contains("github")
            }
            "content-type" => true,
            "grant_type" => value == usual_grant,
            "response_type" => value == "code",
            "client_id" | "client_secret" | "code" | "redirect_uri" | "state" => {
                value == format!("{{{name}}}") && way.kind() != "token_exchange"
            }
            "username" | "password" => {
                value == format!("{{{name}}}") && way.kind() == "oauth2_password"
            }
            _ => false,
        }
    };
    let kept: Map<String, Value> = facts[key]
        .as_object()?
        .iter()
        .filter(|(name, value)| !needless(name, value))
        .map(|(name, value)| (name.clone(), with_nonce(value)))
        .collect();
    (!kept.is_empty()).then(|| kept.into())
}

fn with_nonce(value: &Value) -> Value {
    match value.as_str() {
        Some("{random}" | "AnotherRandomStringDatev") => "{nonce}".into(),
        _ => value.clone(),
    }
}

/// A plus is what a blank becomes in a form.
fn separator(told: &str) -> Option<Value> {
    match told {
        "" | " " | "+" => None,
        told if told.contains(',') => Some(",".into()),
        told => Some(told.into()),
    }
}

fn scopes(facts: &Value, key: &str) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in list(facts, key).filter_map(Value::as_str).flat_map(str::split_whitespace) {
        if !scope.is_empty() && !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

/// Those that only read, when there are others too.
fn read_only(scopes: &[String]) -> Option<Vec<String>> {
    let reads = |scope: &&String| {
        let scope = scope.to_lowercase();
        let words: Vec<&str> = scope.split(|c: char| !c.is_ascii_alphabetic()).collect();
        let writes = [
            "write",
            "readwrite",
            "manage",
            "send",
            "create",
            "edit",
            "delete",
            "all",
            "full",
            "admin",
        ];
        words.iter().any(|word| matches!(*word, "read" | "readonly" | "view" | "viewer"))
            && !words.iter().any(|word| writes.contains(word))
    };
    let found: Vec<String> = scopes.iter().filter(reads).cloned().collect();
    (!found.is_empty() && found.len() < scopes.len()).then_some(found)
}

fn expires_in(facts: &Value) -> Option<Value> {
    match facts.get("expires_in")? {
        Value::Null if flag(facts, "expires_unknown") => Some("unknown".into()),
        Value::Null => Some("never".into()),
        seconds => Some(seconds.clone()),
    }
}

/// What is not known of a refresh is not promised: a token that comes is used, one that does not is
/// no mistake.
fn refresh(way: Way<'_>, facts: &Value, tier: u64) -> Option<Value> {
    let known = facts.get("refresh").and_then(Value::as_object);
    if way.kind() != "oauth2" && known.is_none() {
        return None;
    }
    let mut out = Map::new();
    let supported = known.and_then(|refresh| refresh.get("supported")?.as_bool());
    match supported {
        Some(false) => drop(out.insert("supported".to_owned(), false.into())),
        Some(true) if tier == 1 => {}
        _ => drop(out.insert("optional".to_owned(), true.into())),
    }
    for key in ["rotates", "optional", "strategy", "method", "params", "grace_seconds", "token_in"]
    {
        if let Some(value) = known.and_then(|refresh| refresh.get(key)).filter(|v| !v.is_null()) {
            let header = value == "authorization_header";
            out.insert(key.to_owned(), if header { "header".into() } else { value.clone() });
        }
    }
    if let Some(requires) = known.and_then(|refresh| refresh.get("requires")?.as_str()) {
        out.insert(
            "requires".to_owned(),
            requires
                .replace(" scope", "")
                .replace("offline_access", "the scope offline_access")
                .into(),
        );
    }
    if let Some(url) = known.and_then(|refresh| refresh.get("url")) {
        out.insert("url".to_owned(), url.clone());
    }
    if let Some(at) = known.and_then(|refresh| pointer(refresh.get("lifetime_field")?.as_str()?)) {
        out.insert("lifetime_field".to_owned(), at.into());
    }
    if out.is_empty() {
        out.insert("supported".to_owned(), true.into());
    }
    Some(out.into())
}

fn captures(facts: &Value, key: &str) -> Option<Value> {
    let one = |capture: &Value| {
        let mut out = Map::new();
        match text(capture, "param") {
            "" => {
                out.insert("path".to_owned(), pointer(text(capture, "path"))?.into());
                if !text(capture, "from").is_empty() {
                    out.insert("from".to_owned(), "token".into());
                }
            }
            param => {
                out.insert("from".to_owned(), "callback".into());
                out.insert("param".to_owned(), param.into());
            }
        }
        out.insert("as".to_owned(), capture["as"].clone());
        for key in ["choose", "secret"] {
            if flag(capture, key) {
                out.insert(key.to_owned(), true.into());
            }
        }
        Some(Value::from(out))
    };
    let all: Vec<Value> = list(facts, key).filter_map(one).collect();
    (!all.is_empty()).then(|| all.into())
}

fn follow_ups(facts: &Value) -> Result<Option<Value>, String> {
    let mut steps = Vec::new();
    for step in list(facts, "post_exchange") {
        let capture = captures(step, "capture").ok_or("a step after the sign-in brings nothing")?;
        let mut out = Map::new();
        out.insert("method".to_owned(), step["method"].clone());
        out.insert("url".to_owned(), step["url"].clone());
        for key in ["headers", "body"] {
            if let Some(value) = object(step, key) {
                out.insert(key.to_owned(), value);
            }
        }
        out.insert("capture".to_owned(), capture);
        steps.push(Value::from(out));
    }
    Ok((!steps.is_empty()).then(|| steps.into()))
}

fn object(facts: &Value, key: &str) -> Option<Value> {
    Some(facts[key].clone()).filter(|value| value.as_object().is_some_and(|map| !map.is_empty()))
}

/// `$.accounts[0].id` as a JSON pointer. A filter means the first that comes.
pub fn pointer(path: &str) -> Option<String> {
    let rest = path.strip_prefix('$')?;
    if rest == "." || rest.is_empty() {
        return Some(String::new());
    }
    let mut out = String::new();
    let mut rest = rest;
    while !rest.is_empty() {
        if let Some(open) = rest.strip_prefix('[') {
            let (index, after) = open.split_once(']')?;
            let index = if index.starts_with('?') { "0" } else { index.trim_matches(['"', '\'']) };
            out.push('/');
            out.push_str(index);
            rest = after.trim_start_matches(')');
        } else {
            rest = rest.strip_prefix('.')?;
            let (name, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
            out.push('/');
            out.push_str(name);
            rest = after;
        }
    }
    Some(out)
}

fn all_pointers(fields: &Value) -> Value {
    let fields = fields.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, path)| Some((name.clone(), Value::from(pointer(path.as_str()?)?))))
        .collect::<Map<_, _>>()
        .into()
}

fn with_pointers(table: &Value) -> Value {
    let entry = |(name, value): (&String, &Value)| {
        let at = value.as_str().and_then(pointer).map(Value::from);
        (name.clone(), at.unwrap_or_else(|| value.clone()))
    };
    table.as_object().into_iter().flatten().map(entry).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_pointers() {
        for (path, expected) in [
            ("$.a.b", Some("/a/b")),
            ("$[0].id", Some("/0/id")),
            ("$.accounts[?(@.is_default==true)].base_uri", Some("/accounts/0/base_uri")),
            ("$.", Some("")),
            ("a.b", None),
        ] {
            assert_eq!(pointer(path).as_deref(), expected, "{path}");
        }
    }
}
