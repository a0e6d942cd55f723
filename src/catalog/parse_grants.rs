//! The TOML shape of `oauth2`, `oauth1` and `jwt`: how tokens are obtained.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::Pattern;
use super::grants::{
    Assertion, CallbackCheck, Capture, ClientAssertion, ClientAuth, DeadSignal, ErrorFields,
    ErrorInReply, FailureSign, FollowUp, Jwt, Lifetime, OAuth1, OAuth2, Param, ParamPlace, Pkce,
    Pointer, Refresh, Revocation, RevocationAuth, Rotation, Site, Strategy, TimeUnit, TokenBody,
};
use super::parse::{method, needed_template, template};
use super::table::Section;
use crate::inject::{Template, TemplateError};

pub(super) const NO_POINTER: &str = "is not a JSON pointer such as /data/id (RFC 6901)";

pub(super) fn read_oauth2(s: Section<'_>) -> OAuth2 {
    let oauth2 = OAuth2 {
        authorize_url: template(&s, "authorize_url"),
        token_url: template(&s, "token_url"),
        refresh_url: template(&s, "refresh_url"),
        revoke_url: template(&s, "revoke_url"),
        revoke: s.section("revoke").and_then(read_revocation),
        device_authorization_url: template(&s, "device_authorization_url"),
        device_params: params(&s, "device_params"),
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
        client_auth: client_auth(&s).unwrap_or_default(),
        authorize_params: params(&s, "authorize_params"),
        authorize_params_drop: s.texts("authorize_params_drop"),
        token_params: params(&s, "token_params"),
        token_params_optional: params(&s, "token_params_optional"),
        token_params_drop: s.texts("token_params_drop"),
        refresh_params: params(&s, "refresh_params"),
        param_rename: texts_by_name(&s, "param_rename"),
        token_content_type: token_body(&s, "token_content_type"),
        token_method: method(&s, "token_method"),
        token_headers: params(&s, "token_headers"),
        audience: s.texts("audience"),
        assertion: s.word("assertion", &[("jwt", Assertion::Jwt), ("saml", Assertion::Saml)]),
        client_assertion: s.section("client_assertion").map(read_assertion).unwrap_or_default(),
        mtls: s.flag("mtls").unwrap_or(false),
        tenant_placeholder: s.text("tenant_placeholder"),
        callback_code_param: s.text("callback_code_param"),
        callback_code_encoded: s.flag("callback_code_encoded").unwrap_or(false),
        issuer: template(&s, "issuer"),
        issuer_in_callback: s.flag("issuer_in_callback").unwrap_or(false),
        callback_verify: s.section("callback_verify").and_then(read_callback_check),
        capture: captures(&s),
        post_exchange: s.sections("post_exchange").into_iter().filter_map(read_follow_up).collect(),
        post_exchange_hint: s.texts("post_exchange_hint"),
        token_fields: pointers(&s, "token_fields"),
        token_reply_format: s.text("token_reply_format"),
        scope_is_array_in_reply: s.flag("scope_is_array_in_reply").unwrap_or(false),
        error_in_200: s.section("error_in_200").and_then(read_error_in_reply),
        identity: pointer(&s, "identity"),
        token_types: s.texts("token_types"),
        error_fields: s.section("error_fields").map(read_error_fields).unwrap_or_default(),
        dead_codes: s.texts("dead_codes"),
        client_codes: s.texts("client_codes"),
        transient_codes: s.texts("transient_codes"),
        dead_signal: s.section("dead_signal").map(read_dead_signal),
        expires_in: lifetime(&s),
        expires_as: time_unit(&s),
        expires_at_field: pointer(&s, "expires_at_field"),
        zero_expires_never: s.flag("zero_expires_never").unwrap_or(false),
        refresh: s.section("refresh").map(read_refresh).unwrap_or_default(),
        max_concurrency: s.number("max_concurrency"),
    };
    s.finish();
    oauth2
}

fn client_auth(s: &Section<'_>) -> Option<ClientAuth> {
    let words = [
        ("basic", ClientAuth::Basic),
        ("basic_raw", ClientAuth::BasicRaw),
        ("secret_as_user", ClientAuth::SecretAsUser),
        ("none", ClientAuth::None),
        ("private_key_jwt", ClientAuth::PrivateKeyJwt),
        ("body", ClientAuth::Body),
        ("query", ClientAuth::Query),
        ("custom", ClientAuth::Custom),
    ];
    s.word("client_auth", &words)
}

fn read_assertion(s: Section<'_>) -> ClientAssertion {
    let usual = ClientAssertion::default();
    let assertion = ClientAssertion {
        alg: s.text("alg").unwrap_or(usual.alg),
        audience: template(&s, "audience"),
        ttl: duration(&s, "ttl").unwrap_or(usual.ttl),
    };
    s.finish();
    assertion
}

fn token_body(s: &Section<'_>, key: &'static str) -> TokenBody {
    let words = [("form", TokenBody::Form), ("json", TokenBody::Json), ("query", TokenBody::Query)];
    s.word(key, &words).unwrap_or_default()
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
    let strategies = [
        ("refresh_token", Strategy::RefreshToken),
        ("exchange", Strategy::Exchange),
        ("reissue", Strategy::Reissue),
        ("extend", Strategy::Extend),
    ];
    let refresh = Refresh {
        supported: s.flag("supported").unwrap_or(true),
        rotates: rotation(&s),
        requires: s.text("requires"),
        optional: s.flag("optional").unwrap_or(false),
        strategy: s.word("strategy", &strategies),
        url: template(&s, "url"),
        method: method(&s, "method"),
        params: params(&s, "params"),
        params_drop: s.texts("params_drop"),
        headers: params(&s, "headers"),
        client_auth: client_auth(&s),
        send_scope: s.flag("send_scope").unwrap_or(false),
        keep_token: s.flag("keep_token").unwrap_or(false),
        grace: s.number("grace_seconds").map(|seconds: u32| Duration::from_secs(seconds.into())),
        token_fields: pointers(&s, "token_fields"),
        lifetime_field: pointer(&s, "lifetime_field"),
        token_in: s.word("token_in", &places),
        min_interval: duration(&s, "min_interval"),
        lead: duration(&s, "lead"),
        idle_ttl: duration(&s, "idle_ttl"),
        absolute_ttl: duration(&s, "absolute_ttl"),
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
    let format = token_body(&s, "content_type");
    s.finish();
    Some(Revocation { method, url: url?, auth, headers, body, format })
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
    let (headers, body, capture) = (params(&s, "headers"), params(&s, "body"), captures(&s));
    let always = s.flag("always").unwrap_or(false);
    let replaces_tokens = s.flag("replaces_tokens").unwrap_or(false);
    s.finish();
    Some(FollowUp { method, url: url?, headers, body, capture, always, replaces_tokens })
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
    let present = s.flag("present").unwrap_or(false);
    let sign = match (present, s.value("equals"), s.value("unless")) {
        (true, None, None) => Some(FailureSign::Present),
        (false, Some(value), None) => Some(FailureSign::Equals(value)),
        (false, None, Some(value)) => Some(FailureSign::Unless(value)),
        _ => {
            s.mistake("", "say one of `equals`, `unless` and `present = true`");
            None
        }
    };
    let error_path = pointer(&s, "error_path");
    s.finish();
    Some(ErrorInReply { path: path?, sign: sign?, error_path })
}

fn read_error_fields(s: Section<'_>) -> ErrorFields {
    let fields = ErrorFields { code: pointer(&s, "code"), message: pointer(&s, "message") };
    s.finish();
    fields
}

fn read_dead_signal(s: Section<'_>) -> DeadSignal {
    let values = match s.value("values") {
        None => Vec::new(),
        Some(Value::Array(values)) => values,
        Some(_) => {
            s.mistake("values", "expected a list");
            Vec::new()
        }
    };
    let signal = DeadSignal {
        status: s.numbers("status"),
        www_authenticate: s.text("www_authenticate"),
        path: pointer(&s, "path"),
        values,
    };
    if signal.path.is_some() == signal.values.is_empty() {
        s.mistake("values", "`path` and `values` belong together");
    }
    s.finish();
    signal
}

pub(super) fn read_oauth1(s: Section<'_>) -> Option<OAuth1> {
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

pub(super) fn read_jwt(s: Section<'_>) -> Jwt {
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

pub(super) fn pointer(s: &Section<'_>, key: &'static str) -> Option<Pointer> {
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
        match param(value) {
            Ok(param) => drop(found.insert(name, param)),
            Err(error) => s.mistake(key, format!("\"{name}\": {error}")),
        }
    }
    found
}

fn param(value: Value) -> Result<Param, TemplateError> {
    Ok(match value {
        Value::String(text) => Param::Text(Template::parse(&text)?),
        Value::Object(map) => {
            let entry = |(name, value)| Ok((name, param(value)?));
            Param::Table(map.into_iter().map(entry).collect::<Result<_, TemplateError>>()?)
        }
        value => Param::Literal(value),
    })
}

/// Seconds, or a text such as `"90s"`, `"30m"`, `"12h"` and `"60d"`.
fn duration(s: &Section<'_>, key: &'static str) -> Option<Duration> {
    let value = s.value(key)?;
    let read = value.as_u64().or_else(|| value.as_str().and_then(seconds));
    if read.is_none() {
        s.mistake(key, "expected seconds or a text such as \"30m\" or \"60d\"");
    }
    read.map(Duration::from_secs)
}

fn seconds(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}
