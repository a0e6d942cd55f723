use super::*;
use crate::catalog::parse;

const GOOD: &str = r#"
id = "x"
name = "X"
description = "for a test"
[auth.key]
kind = "api_key"
hosts = ["api.acme.test", "{sub}.acme.test/v1/"]
base_url = "https://api.acme.test/v1"
attach = [{ header = "x-key", value = "{key}" }]
[[auth.key.fields]]
name = "key"
label = "Key"
[[auth.key.fields]]
name = "sub"
label = "Subdomain"
secret = false
[auth.key.oauth2]
authorize_url = "https://acme.test/authorize"
token_url = "https://{sub}.acme.test/token"
[auth.key.test]
url = "https://{sub}.acme.test/v1/me?x={sub}"
"#;

fn found(text: &str) -> Vec<Mistake> {
    lint(&parse::app("x.toml", text).unwrap_or_else(|found| panic!("{found:?}")))
}

#[test]
fn a_careful_definition_has_no_mistakes() {
    assert_eq!(found(GOOD), []);
}

#[test]
fn a_dangerous_definition_is_refused() {
    let hosts = r#"["api.acme.test", "{sub}.acme.test/v1/"]"#;
    let base = "https://api.acme.test/v1";
    let test = "https://{sub}.acme.test/v1/me?x={sub}";
    let token = "https://{sub}.acme.test/token";
    for (from, to, part) in [
        (hosts, "[]", "is empty"),
        (hosts, r#"["{sub}.com"]"#, "anyone can register a name below \"com\""),
        (hosts, r#"["{sub}.co.uk"]"#, "anyone can register"),
        (hosts, r#"["x-{sub}.com"]"#, "anyone can register"),
        (hosts, r#"["{sub}.test"]"#, "anyone can register"),
        (hosts, r#"["api.{sub}"]"#, "anyone can register"),
        (hosts, r#"["{sub}{key}"]"#, "anyone can register"),
        (hosts, r#"["co.uk"]"#, "is a public suffix"),
        (hosts, r#"["{key}.acme.test"]"#, "is a secret"),
        (hosts, r#"["http://api.acme.example"]"#, "clear text"),
        (base, "http://api.acme.test/v1", "is not among the hosts"),
        (base, "https://other.test", "is not among the hosts"),
        (base, "https://{sub}.acme.test/v2", "is not among the hosts"),
        (base, "https://api.acme.test:8443", "is not among the hosts"),
        (base, "https://api.acme.test@evil.test/", "user information"),
        (base, "https://api.acme.test/{key}", "is a secret"),
        (base, "/v1", "must start with https://"),
        (test, "https://evil.test/me", "is not among the hosts"),
        (test, "https://{sub}.acme.test/v1/../me", "is not among the hosts"),
        (token, "http://acme.test/token", "must start with https://"),
        (token, "https://127.0.0.1/token", "not an address"),
        (token, "https://{sub}.com/token", "anyone can register"),
        (token, "https://{other}.acme.test/token", "is not a declared field"),
        ("{key}\" }", "{other}\" }", "\"{other}\" is not a declared field"),
        ("x-key", "Host", "belongs to the connection"),
        ("x-key", "transfer-encoding", "belongs to the connection"),
        ("x-key", "Proxy-Authorization", "belongs to the connection"),
        (
            r#"header = "x-key", value = "{key}""#,
            r#"static = "Connection", value = "close""#,
            "belongs to the connection",
        ),
        ("name = \"sub\"", "name = \"key\"", "declared twice"),
        ("label = \"Key\"", "label = \"Key\"\ndefault = \"x\"", "secret with a default"),
        ("kind = \"api_key\"", "kind = \"jwt\"", "jwt: is missing"),
        (
            "[[auth.key.fields]]\nname = \"key\"",
            "exceptions = [{ host = \"evil.test\", attach = [] }]\n[[auth.key.fields]]\nname = \"key\"",
            "\"evil.test\" is not among the hosts",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        let text = if to.contains("name = \"key\"") && part == "declared twice" {
            text.replace("{sub}", "api")
        } else {
            text
        };
        match parse::app("x.toml", &text) {
            Ok(app) => {
                let shown: Vec<_> = lint(&app).iter().map(ToString::to_string).collect();
                assert!(shown.iter().any(|line| line.contains(part)), "{to}: {shown:?}");
            }
            Err(mistakes) => {
                let shown: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
                assert!(shown.iter().any(|line| line.contains(part)), "{to}: {shown:?}");
            }
        }
    }
}

#[test]
fn clear_text_is_for_this_machine_unless_the_file_insists() {
    let with = |host: &str, more: &str| {
        let hosts = format!("[\"http://{host}\"]{more}");
        let text = GOOD.replacen(r#"["api.acme.test", "{sub}.acme.test/v1/"]"#, &hosts, 1);
        found(&text).iter().any(|mistake| mistake.text.contains("clear text"))
    };
    for host in ["127.0.0.1:8080", "localhost", "[::1]", "api.acme.test", "a.corp.internal"] {
        assert!(!with(host, ""), "{host}");
    }
    assert!(with("api.acme.example", ""));
    assert!(with("127.0.0.1.acme.example", ""));
    assert!(!with("api.acme.example", "\nclear_text = true"));
}

#[test]
fn a_key_in_the_query_beside_a_header_is_worth_a_warning() {
    let query = GOOD
        .split_once("[auth.key]")
        .expect("has one")
        .1
        .replace("auth.key", "auth.query")
        .replace(r#"header = "x-key""#, r#"query = "key""#);
    let found = found(&format!("{GOOD}\n[auth.query]{query}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].is_error() && found[0].text.contains("\"key\" has a header"), "{found:?}");
}

#[test]
fn only_a_signature_goes_where_the_request_leads() {
    let open = |attach: &str, hosts: &str| {
        format!(
            r#"
id = "cloud"
name = "Cloud"
description = "for a test"
[auth.key]
kind = "aws_sigv4"
hosts = ["api.cloud.test", {hosts}]
base_url = "https://api.cloud.test"
attach = [{attach}]
[[auth.key.fields]]
name = "access_key_id"
label = "Key"
[[auth.key.fields]]
name = "secret_access_key"
label = "Key"
[[auth.key.fields]]
name = "sub"
label = "Subdomain"
secret = false
[[auth.key.fields]]
name = "service"
label = "Service"
from = "request"
pattern = "^[a-z]+$"
secret = false
"#
        )
    };
    let signature = "{ aws_sigv4 = {} }";
    assert_eq!(found(&open(signature, r#""{service}.cloud.test""#)), []);
    for (attach, host, part) in [
        (r#"{ header = "x-key", value = "{access_key_id}" }"#, "{service}.cloud.test", "only aws"),
        (
            r#"{ aws_sigv4 = {} }, { query = "k", value = "{access_key_id}" }"#,
            "{service}.cloud.test",
            "only aws_sigv4",
        ),
        (signature, "{sub}.{service}.cloud.test", "or none"),
        (signature, "http://{service}.cloud.test", "https"),
        (signature, "{service}.com", "anyone can register"),
    ] {
        let found = found(&open(attach, &format!("\"{host}\"")));
        assert!(found.iter().any(|m| m.to_string().contains(part)), "{host} {attach}: {found:?}");
    }
}
