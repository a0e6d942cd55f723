use std::time::Duration;

use super::*;
use crate::catalog::{Lifetime, Param, Strategy};
use crate::inject::{Attachment, Signature};

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = app("x.toml", text).expect_err("broken");
    mistakes.iter().map(ToString::to_string).collect()
}

const SMALL: &str = r#"id = "x"
name = "X"
description = "for a test"
[auth.key]
kind = "api_key"
hosts = ["api.acme.test"]
base_url = "https://api.acme.test"
attach = [{ header = "x-key", value = "{key}" }]
[[auth.key.fields]]
name = "key"
label = "Key"
"#;

#[test]
fn a_small_file_is_an_app() {
    let app = app("x.toml", SMALL).expect("parses");
    assert_eq!((app.id.as_str(), app.auths.len(), app.auths[0].line), ("x", 1, Some(4)));
    assert!(app.auths[0].fields[0].secret, "a field that says nothing is a secret");
}

#[test]
fn mistakes_come_all_at_once_with_line_and_key() {
    let text = SMALL
        .replace("id = \"x\"", "id = \"X Y\"")
        .replace("attach =", "atach =")
        .replace("label", "labell")
        .replace("api_key", "apikey");
    let found = mistakes(&text).join("\n");
    for part in [
        "x.toml:1: id: \"X Y\" is not a valid app",
        "x.toml:5: auth.key.kind: \"apikey\" is not one of oauth2",
        "x.toml:8: auth.key.atach: unknown key; did you mean \"attach\"?",
        "auth.key.fields[0].label: is missing",
        "x.toml:11: auth.key.fields[0].labell: unknown key; did you mean \"label\"?",
    ] {
        assert!(found.contains(part), "{part} in\n{found}");
    }
}

#[test]
fn broken_values_are_refused() {
    for (from, to, part) in [
        ("[\"api.acme.test\"]", "\"api.acme.test\"", "expected a list of texts, found string"),
        ("[\"api.acme.test\"]", "[\"*.acme.test\"]", "wildcards are not accepted"),
        ("[\"api.acme.test\"]", "[\"{sub}.acme.test\"]", "\"sub\" is not a declared field"),
        ("header = \"x-key\"", "header = \"x key\"", "invalid HTTP header name"),
        ("header = \"x-key\"", "header = \"x\", query = \"y\"", "needs exactly one of"),
        ("\"{key}\"", "\"{key\"", "without a matching"),
        ("value = \"{key}\"", "valu = \"{key}\"", "value: is missing"),
        ("label = \"Key\"", "label = \"Key\"\npattern = \"(\"", "pattern"),
        ("label = \"Key\"", "label = \"Key\"\nenum = [\"a\"]\ndefault = \"b\"", "must be one of a"),
        ("label = \"Key\"", "label = \"Key\"\nsuffixes = [\"a.test\"]", "need kind"),
        ("label = \"Key\"", "label = 1", "expected a text in quotes, found integer"),
        ("[auth.key]", "[auth.key", "x.toml:4:"),
    ] {
        let found = mistakes(&SMALL.replace(from, to)).join("\n");
        assert!(found.contains(part), "{part} in\n{found}");
    }
}

#[test]
fn the_first_auth_of_the_file_is_the_default() {
    let second = SMALL.replace("auth.key", "auth.zzz");
    let first = SMALL.split_once("[auth.key]").expect("has one").1.replace("auth.key", "auth.aaa");
    let app = app("x.toml", &format!("{second}\n[auth.aaa]{first}")).expect("parses");
    assert_eq!(app.default_auth().id, "zzz");
}

#[test]
fn every_attachment_can_be_said() {
    for text in [
        r#"{ query = "k", value = "{key}", optional = true }"#,
        r#"{ cookie = "sid", value = "{key}" }"#,
        r#"{ basic = { username = "{key}", password = "" } }"#,
        r#"{ path = "/bot{key}", under = "/file" }"#,
        r#"{ body = "token", value = "{key}" }"#,
        r#"{ static = "X-Version", value = "1", when = "always" }"#,
        r#"{ aws_sigv4 = { service = "s3", region = "eu-1" } }"#,
        r#"{ oauth1 = { method = "HMAC-SHA1" } }"#,
        r#"{ hmac = { algorithm = "sha256", key = "{key}", over = "{timestamp}{body}", header = "X-Sign", key_encoding = "base64", encoding = "base64", value = "v1={signature}", timestamp_header = "X-Time", timestamp_unit = "ms" } }"#,
        "{ digest = true }",
    ] {
        let file = SMALL.replace(r#"{ header = "x-key", value = "{key}" }"#, text);
        let app = app("x.toml", &file).unwrap_or_else(|found| panic!("{text}: {found:?}"));
        assert_eq!(app.auths[0].attach.len(), 1, "{text}");
    }
    let file = SMALL.replace(r#"header = "x-key", value = "{key}""#, "digest = true");
    let app = app("x.toml", &file).expect("parses");
    assert_eq!(app.auths[0].attach, [Attachment::Signature(Signature::Digest)]);
}

#[test]
fn every_key_of_oauth_can_be_said() {
    let oauth = r#"
[auth.key.oauth2]
authorize_url = "https://a.test/authorize"
token_url = "https://a.test/token"
refresh_url = "https://a.test/refresh"
revoke_url = "https://a.test/revoke"
registration_url = "https://a.test/register"
revoke = { method = "POST", url = "https://a.test/x", auth = "bearer", headers = { A = "b" }, body = { c = "{oauth_access_token}" } }
grant_type = "account_credentials"
scopes_separator = ","
scope_param = "user_scope"
extra_scope_params = { scope = "bot scopes" }
optional_scope_param = "optional_scope"
default_scopes = ["offline_access"]
suggested_scopes = ["read"]
scope_profiles = { small = ["read"] }
pkce = "required"
client_auth = "query"
authorize_params = { audience = "a" }
authorize_params_drop = ["response_type"]
token_params = { expires_in = 1800, flag = true }
token_params_optional = { expiring = "1" }
refresh_params = { type = "refresh" }
param_rename = { client_id = "client_key" }
token_content_type = "json"
token_method = "GET"
token_headers = { authorization = "Basic base64({client_id}:{client_secret})" }
audience = ["https://a.test/"]
assertion = "jwt"
mtls = true
tenant_placeholder = "common"
callback_code_param = "spapi_oauth_code"
callback_verify = { method = "hmac-sha256", param = "hmac", key = "{client_secret}", over = "query" }
capture = [{ from = "callback", param = "realm", as = "realm" }, { from = "token", path = "/team/id", as = "team", secret = true }]
post_exchange = [{ method = "GET", url = "https://a.test/me", headers = { A = "b" }, capture = [{ path = "/0/id", as = "id", choose = true }] }]
post_exchange_hint = ["https://a.test/hint"]
token_fields = { access_token = "/jwt" }
token_reply_format = "form"
scope_is_array_in_reply = true
error_in_200 = { path = "/error", present = true, error_path = "/error" }
expires_in = "unknown"
expires_as = "timestamp"
expires_at_field = "/expires_at"
refresh = { supported = true, rotates = "may", requires = "x", optional = true, strategy = "exchange", url = "https://a.test/r", method = "POST", params = { a = "b" }, grace_seconds = 60, lifetime_field = "/x", token_in = "header", params_drop = ["x"], headers = { X = "y" }, client_auth = "none", send_scope = true, keep_token = true, min_interval = "9m", lead = 30, idle_ttl = "60d", absolute_ttl = "365d" }
device_authorization_url = "https://a.test/device"
device_params = { a = "b" }
token_params_drop = ["grant_type"]
client_assertion = { alg = "ES256", audience = "https://a.test", ttl = "5m" }
callback_code_encoded = true
issuer = "https://a.test"
issuer_in_callback = true
identity = "/user/id"
token_types = ["bot"]
error_fields = { code = "/status", message = "/message" }
dead_codes = ["gone"]
client_codes = ["bad_app"]
transient_codes = ["busy"]
dead_signal = { status = [403], www_authenticate = "invalid", path = "/error", values = ["token_expired"] }
zero_expires_never = true
max_concurrency = 2
[auth.key.oauth1]
request_token_url = "https://a.test/1"
authorize_url = "https://a.test/2"
access_token_url = "https://a.test/3"
signature_method = "HMAC-SHA1"
authorize_params = { name = "{app_name}" }
[auth.key.jwt]
alg = "HS256"
key = 'hex({key|after ":"})'
header = { kid = '{key|before ":"}' }
claims = { aud = "/admin/" }
ttl = 300
[auth.key.test]
method = "POST"
url = "https://api.acme.test/me"
headers = { Accept = "application/json" }
body = { query = "{me{id}}" }
expect = { status = [200, 201], status_not = 401, json = { "/data/me/id" = "present", "/ok" = true } }
"#;
    let app = app("x.toml", &format!("{SMALL}{oauth}")).unwrap_or_else(|found| {
        panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    let auth = &app.auths[0];
    let oauth2 = auth.oauth2.as_ref().expect("has oauth2");
    assert_eq!(oauth2.expires_in, Lifetime::Unknown);
    assert_eq!(oauth2.token_params["expires_in"], Param::Literal(1800.into()));
    assert_eq!(oauth2.refresh.grace, Some(Duration::from_secs(60)));
    assert_eq!(oauth2.refresh.idle_ttl, Some(Duration::from_secs(60 * 86_400)));
    assert_eq!(oauth2.refresh.lead, Some(Duration::from_secs(30)));
    assert_eq!(oauth2.refresh.strategy, Some(Strategy::Exchange));
    assert_eq!(oauth2.capture.len(), 2);
    assert_eq!(auth.test.as_ref().map(|test| test.expect.status.clone()), Some(vec![200, 201]));
}
