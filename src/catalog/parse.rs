//! The TOML shape of an app. Every mistake is reported at once, with its line; unknown keys are
//! refused, because a mistyped `exceptions` would send a credential where it does not belong.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::Value;
use toml::de::DeTable;

use super::grants::{
    Assertion, CallbackCheck, Capture, ClientAuth, ErrorInReply, FollowUp, Jwt, Lifetime, OAuth1,
    OAuth2, Param, ParamPlace, Pkce, Pointer, Refresh, Revocation, RevocationAuth, Rotation, Site,
    TimeUnit, TokenBody,
};
use super::hosts::HostPattern;
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
    let words = [("verified", Confidence::Verified), ("single", Confidence::Single)];
    let confidence = root.word("confidence", &words).unwrap_or_default();
    let auths: Vec<_> =
        root.named_sections("auth").into_iter().filter_map(|(id, s)| read_auth(id, s)).collect();
    if auths.is_empty() && !root.has("auth") {
        root.missing("auth");
    }
    root.finish();
    let file = file.to_owned();
    let id = id.filter(|_| !auths.is_empty())?;
    Some(App { id, name, description, categories, docs_url, confidence, auths, file })
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
    let kind = section.word("kind", &KINDS);
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
    let words = [("token_response", 't'), ("callback", 'c'), ("post_exchange", 'p')];
    match (section.word("from", &words), derived) {
        (_, Some(derived)) => derived,
        (Some('t'), _) => FieldOrigin::TokenResponse,
        (Some('c'), _) => FieldOrigin::Callback,
        (Some('p'), _) => FieldOrigin::PostExchange,
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

const NO_POINTER: &str = "is not a JSON pointer such as /data/id (RFC 6901)";

fn read_oauth2(s: Section<'_>) -> OAuth2 {
    let oauth2 = OAuth2 {
        authorize_url: template(&s, "authorize_url"),
        token_url: template(&s, "token_url"),
        refresh_url: template(&s, "refresh_url"),
        revoke_url: template(&s, "revoke_url"),
        revoke: s.section("revoke").and_then(read_revocation),
        registration_url: template(&s, "registration_url"),
        grant_type: s.text("grant_type"),
        scopes_separator: s.text("scopes_separator"),
        scope_param: s.text("scope_param"),
        extra_scope_params: texts_by_name(&s, "extra_scope_params"),
        optional_scope_param: s.text("optional_scope_param"),
        default_scopes: s.texts("default_scopes"),
        suggested_scopes: s.texts("suggested_scopes"),
        scope_profiles: scope_profiles(&s),
        pkce: s.word(
            "pkce",
            &[
                ("required", Pkce::Required),
                ("supported", Pkce::Supported),
                ("unsupported", Pkce::Unsupported),
            ],
        ),
        client_auth: client_auth(&s),
        authorize_params: params(&s, "authorize_params"),
        authorize_params_drop: s.texts("authorize_params_drop"),
        token_params: params(&s, "token_params"),
        token_params_optional: params(&s, "token_params_optional"),
        refresh_params: params(&s, "refresh_params"),
        param_rename: texts_by_name(&s, "param_rename"),
        token_content_type: token_body(&s),
        token_method: method(&s, "token_method"),
        token_headers: params(&s, "token_headers"),
        audience: s.texts("audience"),
        assertion: s.word("assertion", &[("jwt", Assertion::Jwt), ("saml", Assertion::Saml)]),
        mtls: s.flag("mtls").unwrap_or(false),
        tenant_placeholder: s.text("tenant_placeholder"),
        callback_code_param: s.text("callback_code_param"),
        callback_verify: s.section("callback_verify").and_then(read_callback_check),
        capture: captures(&s),
        post_exchange: s.sections("post_exchange").into_iter().filter_map(read_follow_up).collect(),
        post_exchange_hint: s.texts("post_exchange_hint"),
        token_fields: pointers(&s, "token_fields"),
        token_reply_format: s.text("token_reply_format"),
        scope_is_array_in_reply: s.flag("scope_is_array_in_reply").unwrap_or(false),
        error_in_200: s.section("error_in_200").and_then(read_error_in_reply),
        expires_in: lifetime(&s),
        expires_as: time_unit(&s),
        expires_at_field: pointer(&s, "expires_at_field"),
        refresh: s.section("refresh").map(read_refresh).unwrap_or_default(),
    };
    s.finish();
    oauth2
}

fn client_auth(s: &Section<'_>) -> ClientAuth {
    let words = [
        ("basic", ClientAuth::Basic),
        ("body", ClientAuth::Body),
        ("query", ClientAuth::Query),
        ("custom", ClientAuth::Custom),
    ];
    s.word("client_auth", &words).unwrap_or_default()
}

fn token_body(s: &Section<'_>) -> TokenBody {
    let words = [("form", TokenBody::Form), ("json", TokenBody::Json), ("query", TokenBody::Query)];
    s.word("token_content_type", &words).unwrap_or_default()
}

fn time_unit(s: &Section<'_>) -> TimeUnit {
    let words = [
        ("seconds", TimeUnit::Seconds),
        ("milliseconds", TimeUnit::Milliseconds),
        ("timestamp", TimeUnit::Timestamp),
    ];
    s.word("expires_as", &words).unwrap_or_default()
}

/// `expires_in = 3600`, `"never"` or `"unknown"`. TOML has no null, and the words say more.
fn lifetime(s: &Section<'_>) -> Lifetime {
    match s.value("expires_in") {
        None => Lifetime::Reply,
        Some(Value::String(word)) if word == "never" => Lifetime::Never,
        Some(Value::String(word)) if word == "unknown" => Lifetime::Unknown,
        Some(value) => match value.as_u64() {
            Some(seconds) => Lifetime::Typical(Duration::from_secs(seconds)),
            None => {
                s.mistake("expires_in", "expected seconds, \"never\" or \"unknown\"");
                Lifetime::Reply
            }
        },
    }
}

fn scope_profiles(s: &Section<'_>) -> BTreeMap<String, Vec<String>> {
    let mut profiles = BTreeMap::new();
    for (name, value) in s.map("scope_profiles") {
        match serde_json::from_value(value) {
            Ok(scopes) => drop(profiles.insert(name, scopes)),
            Err(_) => s.mistake("scope_profiles", format!("\"{name}\" is not a list of scopes")),
        }
    }
    profiles
}

fn read_refresh(s: Section<'_>) -> Refresh {
    let places =
        [("body", ParamPlace::Body), ("query", ParamPlace::Query), ("header", ParamPlace::Header)];
    let refresh = Refresh {
        supported: s.flag("supported").unwrap_or(true),
        rotates: rotation(&s),
        requires: s.text("requires"),
        optional: s.flag("optional").unwrap_or(false),
        strategy: s.text("strategy"),
        url: template(&s, "url"),
        method: method(&s, "method"),
        params: params(&s, "params"),
        grace: s.number("grace_seconds").map(|seconds: u32| Duration::from_secs(seconds.into())),
        lifetime_field: pointer(&s, "lifetime_field"),
        token_in: s.word("token_in", &places),
    };
    s.finish();
    refresh
}

/// `true`, `false` or `"may"`.
fn rotation(s: &Section<'_>) -> Rotation {
    match s.value("rotates") {
        Some(Value::Bool(true)) => Rotation::Always,
        Some(Value::Bool(false)) => Rotation::Never,
        None => Rotation::May,
        Some(Value::String(word)) if word == "may" => Rotation::May,
        Some(_) => {
            s.mistake("rotates", "expected true, false or \"may\"");
            Rotation::May
        }
    }
}

fn read_revocation(s: Section<'_>) -> Option<Revocation> {
    let words = [
        ("none", RevocationAuth::None),
        ("bearer", RevocationAuth::Bearer),
        ("client_basic", RevocationAuth::ClientBasic),
    ];
    let method = method(&s, "method").unwrap_or(Method::POST);
    let url = needed_template(&s, "url");
    let auth = s.word("auth", &words).unwrap_or_default();
    let (headers, body) = (params(&s, "headers"), params(&s, "body"));
    s.finish();
    Some(Revocation { method, url: url?, auth, headers, body })
}

fn read_callback_check(s: Section<'_>) -> Option<CallbackCheck> {
    let (method, param, over) = (s.needed("method"), s.needed("param"), s.needed("over"));
    let key = needed_template(&s, "key");
    s.finish();
    Some(CallbackCheck { method, param, key: key?, over })
}

fn read_follow_up(s: Section<'_>) -> Option<FollowUp> {
    let method = method(&s, "method").unwrap_or(Method::GET);
    let url = needed_template(&s, "url");
    let (headers, capture) = (params(&s, "headers"), captures(&s));
    s.finish();
    Some(FollowUp { method, url: url?, headers, capture })
}

fn captures(s: &Section<'_>) -> Vec<Capture> {
    s.sections("capture").into_iter().filter_map(read_capture).collect()
}

/// `from = "callback"` has a `param`, everything else a `path` into the reply.
fn read_capture(s: Section<'_>) -> Option<Capture> {
    let from_callback = s.word("from", &[("callback", true), ("token", false)]).unwrap_or(false);
    let site = match from_callback {
        true => Some(Site::CallbackParam(s.needed("param"))),
        false => {
            if !s.has("path") {
                s.missing("path");
            }
            pointer(&s, "path").map(Site::Reply)
        }
    };
    let name = s.needed("as");
    let secret = s.flag("secret").unwrap_or(false);
    let choose = s.flag("choose").unwrap_or(false);
    s.finish();
    Some(Capture { site: site?, name, secret, choose })
}

fn read_error_in_reply(s: Section<'_>) -> Option<ErrorInReply> {
    if !s.has("path") {
        s.missing("path");
    }
    let path = pointer(&s, "path");
    let equals = s.value("equals");
    if equals.is_some() == s.flag("present").unwrap_or(false) {
        s.mistake("equals", "say either `equals` or `present = true`");
    }
    let error_path = pointer(&s, "error_path");
    s.finish();
    Some(ErrorInReply { path: path?, equals, error_path })
}

fn read_oauth1(s: Section<'_>) -> Option<OAuth1> {
    let request_token_url = needed_template(&s, "request_token_url");
    let authorize_url = needed_template(&s, "authorize_url");
    let access_token_url = needed_template(&s, "access_token_url");
    let (signature_method, authorize_params) =
        (s.needed("signature_method"), params(&s, "authorize_params"));
    s.finish();
    Some(OAuth1 {
        request_token_url: request_token_url?,
        authorize_url: authorize_url?,
        access_token_url: access_token_url?,
        signature_method,
        authorize_params,
    })
}

fn read_jwt(s: Section<'_>) -> Jwt {
    let ttl = s.number("ttl").unwrap_or(300_u32);
    let jwt = Jwt {
        alg: s.needed("alg"),
        key: s.needed("key"),
        header: s.map("header"),
        claims: s.map("claims"),
        ttl: Duration::from_secs(ttl.into()),
        key_pattern: s.parsed("key_pattern", Pattern::new),
    };
    s.finish();
    jwt
}

fn template(s: &Section<'_>, key: &'static str) -> Option<Template> {
    s.parsed(key, Template::parse)
}

fn needed_template(s: &Section<'_>, key: &'static str) -> Option<Template> {
    if !s.has(key) {
        s.missing(key);
    }
    template(s, key)
}

fn method(s: &Section<'_>, key: &'static str) -> Option<Method> {
    s.parsed(key, str::parse)
}

fn pointer(s: &Section<'_>, key: &'static str) -> Option<Pointer> {
    s.parsed(key, |text| Pointer::new(text).ok_or(NO_POINTER))
}

fn pointers(s: &Section<'_>, key: &'static str) -> BTreeMap<String, Pointer> {
    let mut found = BTreeMap::new();
    for (name, value) in s.map(key) {
        match value.as_str().and_then(Pointer::new) {
            Some(pointer) => drop(found.insert(name, pointer)),
            None => s.mistake(key, format!("the value of \"{name}\" {NO_POINTER}")),
        }
    }
    found
}

fn texts_by_name(s: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in s.map(key) {
        match value {
            Value::String(text) => drop(found.insert(name, text)),
            _ => s.mistake(key, format!("the value of \"{name}\" is not a text")),
        }
    }
    found
}

fn params(s: &Section<'_>, key: &'static str) -> BTreeMap<String, Param> {
    let mut found = BTreeMap::new();
    for (name, value) in s.map(key) {
        let param = match value {
            Value::String(text) => Template::parse(&text).map(Param::Text),
            value => Ok(Param::Literal(value)),
        };
        match param {
            Ok(param) => drop(found.insert(name, param)),
            Err(error) => s.mistake(key, format!("\"{name}\": {error}")),
        }
    }
    found
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
