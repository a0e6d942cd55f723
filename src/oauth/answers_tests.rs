//! Answers that no server should give, and what errors say.

use http::HeaderMap;
use http::header::{DATE, HeaderValue, RETRY_AFTER};
use proptest::prelude::*;

use super::trial::{
    ACCESS, Definition, REFRESH, SECRET, answered, answered_with, assert_lines, read,
};

const PLAIN: Definition = Definition { kind: "oauth2", auth: "", oauth2: "", properties: &[] };

#[test]
fn a_lifetime_is_never_more_than_was_said() {
    for (told, line) in [
        ("3600", "expires in 3600"),
        ("\"3600\"", "expires in 3600"),
        ("\" 3600 \"", "expires in 3600"),
        ("3600.5", "expires in 3600"),
        ("0", "expires in 0"),
        ("-1", "expires in 0"),
        ("null", "expiry unknown"),
        ("{}", "expiry unknown"),
        ("\"soon\"", "expiry unknown"),
        ("\"NaN\"", "expiry unknown"),
        ("\"inf\"", "expiry unknown"),
        ("1e30", "never expires"),
        ("9999999999", "never expires"),
        ("\"2027-01-15T09:00:00Z\"", "expires in 3600"),
        ("\"2027-01-15 09:00:00\"", "expires in 3600"),
        ("\"90m\"", "expires in 5400"),
    ] {
        let body = format!(r#"{{"access_token":"at","expires_in":{told}}}"#);
        assert_lines(told, &answered(&PLAIN, 200, &body), &[line]);
    }
    assert_lines(
        "missing",
        &answered(&PLAIN, 200, r#"{"access_token":"at"}"#),
        &["expiry unknown"],
    );
    let large = r#"{"access_token":"at","expires_in":1e400}"#;
    assert_lines("no number", &answered(&PLAIN, 200, large), &["transient unreadable"]);
}

#[test]
fn an_absolute_end_is_set_by_the_servers_own_clock() {
    let definition = Definition { oauth2: "expires_at_field = \"/end\"", ..PLAIN };
    let body = br#"{"access_token":"at","end":1800003600}"#;
    for (date, line) in [
        ("Fri, 15 Jan 2027 08:00:10 GMT", "expires in 3600"),
        // An hour ahead of us: what it calls 3600 seconds from 1,800,000,000 is now.
        ("Fri, 15 Jan 2027 09:00:00 GMT", "expires in 0"),
        ("Fri, 15 Jan 2027 07:00:00 GMT", "expires in 7200"),
        ("garbage", "expires in 3600"),
    ] {
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static(date))]);
        assert_lines(date, &answered_with(&definition, 200, &headers, body), &[line]);
    }
}

#[test]
fn only_token_types_that_are_understood_are_used() {
    for (kind, line) in [
        ("\"bearer\"", "access=at"),
        ("\"BEARER\"", "access=at"),
        ("\"\"", "access=at"),
        ("null", "access=at"),
        ("\"mac\"", "client unsupported_token_type"),
        ("\"DPoP\"", "client unsupported_token_type"),
        ("\"bot\"", "client unsupported_token_type"),
    ] {
        let body = format!(r#"{{"access_token":"at","token_type":{kind}}}"#);
        assert_lines(kind, &answered(&PLAIN, 200, &body), &[line]);
    }
    let slack = Definition { oauth2: "token_types = [\"bot\"]", ..PLAIN };
    let body = r#"{"access_token":"at","token_type":"bot"}"#;
    assert_lines("listed", &answered(&slack, 200, body), &["access=at"]);
}

#[test]
fn a_failure_has_the_class_that_its_code_and_status_prove() {
    let definition = Definition {
        oauth2: "dead_codes = [\"gone\"]\nclient_codes = [\"bad_app\"]\ntransient_codes = [\"invalid_request\"]",
        ..PLAIN
    };
    for (status, code, class) in [
        (400, "invalid_grant", "dead"),
        (401, "INVALID_GRANT", "dead"),
        (200, "invalid_grant", "dead"),
        (400, "consent_required", "dead"),
        (400, "gone", "dead"),
        (400, "invalid_client", "client"),
        (400, "unauthorized_client", "client"),
        (400, "bad_app", "client"),
        (400, "invalid_request", "transient"),
        (400, "temporarily_unavailable", "transient"),
        (400, "never_heard_of", "transient"),
        (503, "invalid_grant", "transient"),
        (429, "invalid_client", "transient"),
    ] {
        let found = answered(&definition, status, &format!(r#"{{"error":"{code}"}}"#));
        assert_eq!(found[0], format!("{class} {code}"), "{status}");
    }
    for (status, code) in
        [(302, "redirect"), (404, "unreadable"), (500, "server_error"), (429, "rate_limited")]
    {
        assert_eq!(answered(&definition, status, "<html>")[0], format!("transient {code}"));
    }
}

#[test]
fn an_error_is_looked_for_before_a_token() {
    let body = r#"{"access_token":"at","error":"invalid_grant"}"#;
    assert_eq!(answered(&PLAIN, 200, body)[0], "dead invalid_grant");
    for none in ["null", "\"\"", "false", "0", "[]", "{}"] {
        let body = format!(r#"{{"access_token":"at","error":{none}}}"#);
        assert_eq!(answered(&PLAIN, 200, &body)[0], "access=at", "{none}");
    }
}

#[test]
fn what_a_server_says_is_one_short_line_without_secrets() {
    let long = "x".repeat(100_000);
    let said = format!("<script>\\r\\n\\u001b[31m\\u202e {SECRET} and {REFRESH}, {ACCESS} {long}");
    let body = format!(r#"{{"error":"invalid_grant\r\n{REFRESH}","error_description":"{said}"}}"#)
        .replace("grant\r\n", "grant\\r\\n");
    let found = answered(&PLAIN, 400, &body);
    assert_eq!(found.len(), 2);
    assert!(found[1].starts_with("<script> [31m … and …, … xxx"), "{}", found[1]);
    for line in &found {
        assert!(line.chars().count() <= 300 && !line.chars().any(char::is_control), "{line}");
        for secret in [SECRET, REFRESH, ACCESS] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn a_wait_is_read_in_both_forms_and_bounded() {
    for (told, seconds) in [
        ("120", Some(120)),
        ("Fri, 15 Jan 2027 08:10:00 GMT", Some(600)),
        ("Fri, 15 Jan 2021 08:10:00 GMT", None),
        ("99999999999", Some(86_400)),
        ("-5", None),
        ("soon", None),
    ] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(told))]);
        let error = read(&PLAIN, 429, &headers, b"").err().expect("is a failure");
        assert_eq!(error.retry_after.map(|wait| wait.as_secs()), seconds, "{told}");
    }
}

#[test]
fn an_id_token_says_who_it_is_only_if_it_is_ours() {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let definition = Definition { oauth2: "issuer = \"https://acme.example\"", ..PLAIN };
    for (claims, identity) in [
        (
            r#"{"iss":"https://acme.example","aud":"cid","sub":"1","email":"a@b.example"}"#,
            Some("identity a@b.example"),
        ),
        (r#"{"iss":"https://acme.example","aud":["x","cid"],"sub":"1"}"#, Some("identity 1")),
        (r#"{"iss":"https://acme.example","aud":"other","sub":"1"}"#, None),
        (r#"{"iss":"https://evil.example","aud":"cid","sub":"1"}"#, None),
        ("garbage", None),
    ] {
        let token = format!("e30.{}.x", encode(claims));
        let found =
            answered(&definition, 200, &format!(r#"{{"access_token":"at","id_token":"{token}"}}"#));
        let said = found.iter().find(|line| line.starts_with("identity")).map(String::as_str);
        assert_eq!(said, identity, "{claims}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_can_do_harm(body in prop::collection::vec(any::<u8>(), 0..200), status in 200u16..600) {
        let _ = read(&PLAIN, status, &HeaderMap::new(), &body);
    }

    #[test]
    fn no_json_can_do_harm(value in json(), status in prop_oneof![Just(200u16), Just(400)]) {
        let body = format!(r#"{{"access_token":{value},"expires_in":{value},"scope":{value},"error":{value},"refresh_expires_in":{value}}}"#);
        let _ = read(&PLAIN, status, &HeaderMap::new(), body.as_bytes());
    }

    #[test]
    fn no_error_repeats_what_was_sent(before in "\\PC{0,20}", after in "\\PC{0,20}") {
        let said = serde_json::json!({
            "error": format!("{before}{REFRESH}{after}"),
            "error_description": format!("{before}{SECRET}{after}"),
        });
        let found = answered(&PLAIN, 400, &said.to_string()).join(" ");
        prop_assert!(!found.contains(REFRESH) && !found.contains(SECRET), "{}", found);
    }
}

fn json() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<f64>()
            .prop_filter("JSON has no others", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        any::<i64>().prop_map(|n| n.to_string()),
        "[a-z0-9:. +-]{0,30}".prop_map(|text| format!("\"{text}\"")),
        Just("[[1,{\"a\":[]}],\"x\"]".to_owned()),
        Just("{\"code\":{\"code\":1}}".to_owned()),
    ]
}
