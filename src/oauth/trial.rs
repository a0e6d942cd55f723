//! Tries one definition without a network: what the server would see, and what its answer comes to.
//! Both are lists of lines, so that a table of quirks reads like one.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::HeaderMap;
use serde_json::Value;
use url::form_urlencoded;

use super::grant::{self, Code};
use super::reply::Reply;
use super::request::Call;
use super::{
    Callback, Expiry, OAuthClient, Terms, TokenError, TokenSet, authorize, engine, revoke, tokens,
};
use crate::catalog::{App, Catalog};
use crate::inject::Properties;
use crate::secret::Secret;
use crate::vault::Tokens;

pub(super) const SECRET: &str = "client-secret-1";
pub(super) const ACCESS: &str = "old-access-1";
pub(super) const REFRESH: &str = "old-refresh-1";
const REDIRECT: &str = "https://cs.example/callback";

/// What is done with a definition.
#[derive(Clone, Copy)]
pub(super) enum Act {
    Authorize,
    /// With these parameters of the callback, beside `code=c0de-123` and `state=st4te-123`.
    Exchange(&'static [(&'static str, &'static str)]),
    Refresh,
    Obtain,
    Revoke,
}

/// A definition, cut down to what the test is about.
#[derive(Clone, Copy)]
pub(super) struct Definition {
    pub(super) kind: &'static str,
    /// Lines of `[auth.a]`.
    pub(super) auth: &'static str,
    /// Lines of `[auth.a.oauth2]`.
    pub(super) oauth2: &'static str,
    pub(super) properties: &'static [(&'static str, &'static str)],
}

pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(super) fn app(definition: &Definition) -> App {
    let Definition { kind, auth, oauth2, .. } = definition;
    let url = |key: &str, path: &str| match oauth2.lines().any(|line| line.starts_with(key)) {
        true => String::new(),
        false => format!("{key} = \"https://acme.example/{path}\"\n"),
    };
    let urls = url("authorize_url", "authorize") + &url("token_url", "token");
    let hosts = match auth.contains("hosts =") {
        true => "",
        false => "hosts = [\"api.acme.example\"]\nbase_url = \"https://api.acme.example\"",
    };
    let attach = match auth.contains("attach =") {
        true => "",
        false => {
            r#"attach = [{ header = "Authorization", value = "Bearer {oauth_access_token}" }]"#
        }
    };
    let text = format!(
        "id = \"acme\"\nname = \"Acme\"\ndescription = \"for a test\"\n[auth.a]\nkind = \"{kind}\"\n\
         {hosts}\n{attach}\n{auth}\n[auth.a.oauth2]\n{urls}{oauth2}\n"
    );
    let catalog = Catalog::build([("acme.toml".to_owned(), text.clone())]);
    let shown = |found: Vec<crate::catalog::Mistake>| {
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let catalog = catalog.unwrap_or_else(|found| panic!("{text}\n{}", shown(found)));
    catalog.app("acme").expect("it is there").as_ref().clone()
}

pub(super) fn client() -> OAuthClient {
    OAuthClient {
        client_id: "cid".to_owned(),
        secret: Some(Secret::from(SECRET.to_owned())),
        private_key: None,
        key_id: None,
    }
}

pub(super) fn properties(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::from((*v).to_owned()))).collect()
}

pub(super) fn held() -> Tokens {
    let secret = |text: &str| Secret::from(text.to_owned());
    Tokens { access: secret(ACCESS), refresh: Some(secret(REFRESH)) }
}

/// What the server sees, or the error before it sees anything.
pub(super) fn seen(definition: &Definition, act: Act) -> Result<Vec<String>, String> {
    let (app, client) = (app(definition), client());
    let properties = properties(definition.properties);
    let terms = terms(&app, &client, &properties);
    match act {
        Act::Authorize => {
            let oauth2 = terms.auth.oauth2.as_ref().expect("has one");
            let scopes = ["read".to_owned(), "write".to_owned()];
            let authorization = authorize::authorization(&terms, oauth2, REDIRECT, &scopes, now());
            Ok(url_lines(&authorization.map_err(|error| error.to_string())?.url))
        }
        act => call(&terms, act).map(|call| lines(&call)).map_err(|error| error.message),
    }
}

pub(super) fn terms<'a>(
    app: &'a App,
    client: &'a OAuthClient,
    properties: &'a Properties,
) -> Terms<'a> {
    Terms { app, auth: app.default_auth(), client: Some(client), properties, scopes: &[] }
}

fn call(terms: &Terms<'_>, act: Act) -> Result<Call, TokenError> {
    let oauth2 = terms.auth.oauth2.as_ref().expect("has one");
    match act {
        Act::Authorize => unreachable!("has no call"),
        Act::Exchange(params) => {
            let callback = callback(params);
            let code = authorize::code(terms, oauth2, &callback, now())?;
            let (fields, _) = engine::captured_of_callback(terms, oauth2, &callback)?;
            let mut all = terms.properties.clone();
            all.extend(fields.into_iter().map(|(name, value)| (name, Secret::from(value))));
            let verifier = callback.verifier.as_ref();
            let code = Code { code, state: Some("st4te-123"), redirect_uri: REDIRECT, verifier };
            Ok(grant::code(&Terms { properties: &all, ..*terms }, oauth2, &code, now())?)
        }
        Act::Refresh => grant::renewal(terms, oauth2, Some(&held()), now()),
        Act::Obtain => Ok(grant::without_person(terms, oauth2, now())?),
        Act::Revoke => Ok(revoke::calls(terms, oauth2, &held(), now())?.remove(0)),
    }
}

pub(super) fn callback(more: &[(&str, &str)]) -> Callback {
    let mut params: BTreeMap<String, String> =
        more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    params.entry("code".to_owned()).or_insert_with(|| "c0de-123".to_owned());
    params.insert("state".to_owned(), "st4te-123".to_owned());
    let verifier = Some(Secret::from("verifier-123".to_owned()));
    Callback { params, verifier, redirect_uri: REDIRECT.to_owned() }
}

/// `POST https://…`, then `name: value` per header, `?name=value` per query parameter, and
/// `name=value` per parameter of the body, or `json {…}`.
fn lines(call: &Call) -> Vec<String> {
    let mut lines = url_lines(&call.endpoint.url());
    lines[0] = format!("{} {}", call.method, lines[0]);
    for (name, value) in &call.headers {
        lines.push(format!("{name}: {}", value.to_str().expect("is text")));
    }
    match call.headers.get("content-type").map(|kind| kind.as_bytes()) {
        Some(b"application/json") => {
            let json: Value = serde_json::from_slice(&call.body).expect("is JSON");
            lines.push(format!("json {json}"));
        }
        _ => lines.extend(pairs(&call.body).map(|(name, value)| format!("{name}={value}"))),
    }
    lines
}

fn url_lines(url: &str) -> Vec<String> {
    let (plain, query) = url.split_once('?').unwrap_or((url, ""));
    let query = pairs(query.as_bytes()).map(|(name, value)| format!("?{name}={value}"));
    std::iter::once(plain.to_owned()).chain(query).collect()
}

fn pairs(form: &[u8]) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(form).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// What an answer comes to: `access=…`, `refresh=…`, `expires in 3600`, `never expires`, `expiry
/// unknown`, `scopes a b`, `field name=value`, `secret name=value`; or `dead code: message`.
pub(super) fn answered(definition: &Definition, status: u16, body: &str) -> Vec<String> {
    answered_with(definition, status, &HeaderMap::new(), body.as_bytes())
}

pub(super) fn answered_with(
    definition: &Definition,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
) -> Vec<String> {
    match read(definition, status, headers, body) {
        Ok(tokens) => told(&tokens),
        Err(error) => {
            let class = format!("{:?}", error.class).to_lowercase();
            vec![format!("{class} {}", error.code), error.message]
        }
    }
}

pub(super) fn read(
    definition: &Definition,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<TokenSet, TokenError> {
    let (app, client) = (app(definition), client());
    let properties = properties(definition.properties);
    let terms = terms(&app, &client, &properties);
    let oauth2 = terms.auth.oauth2.as_ref().expect("has one");
    let reply = Reply::new(status, headers, body, now(), now());
    let secrets = [SECRET, ACCESS, REFRESH].map(|text| Secret::from(text.to_owned()));
    let held = Secret::from(ACCESS.to_owned());
    tokens::read(&terms, oauth2, &reply, Some(&held), &secrets)
}

fn told(tokens: &TokenSet) -> Vec<String> {
    let mut lines = vec![format!("access={}", tokens.access.expose())];
    lines.extend(tokens.refresh.iter().map(|token| format!("refresh={}", token.expose())));
    lines.push(match tokens.expires {
        Expiry::At(at) => format!("expires in {}", seconds(at)),
        Expiry::Never => "never expires".to_owned(),
        Expiry::Unknown => "expiry unknown".to_owned(),
    });
    let ends = tokens.refresh_expires_at;
    lines.extend(ends.map(|at| format!("refresh expires in {}", seconds(at))));
    lines.extend(tokens.scopes.iter().map(|scopes| format!("scopes {}", scopes.join(" "))));
    lines.extend(tokens.fields.iter().map(|(name, value)| format!("field {name}={value}")));
    let secrets = tokens.secrets.iter();
    lines.extend(secrets.map(|(name, value)| format!("secret {name}={}", value.expose())));
    lines.extend(tokens.identity.iter().map(|identity| format!("identity {identity}")));
    lines
}

fn seconds(at: SystemTime) -> i64 {
    let at = at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(at).expect("fits") - 1_800_000_000
}

/// Every wanted line is there; one that starts with `!` is the beginning of none.
pub(super) fn assert_lines(what: &str, found: &[String], wanted: &[&str]) {
    for line in wanted {
        let good = match line.strip_prefix('!') {
            Some(unwanted) => !found.iter().any(|found| found.starts_with(unwanted)),
            None => found.iter().any(|found| found == line),
        };
        assert!(good, "{what}: \"{line}\" in\n{}", found.join("\n"));
    }
}
