//! An entry of the audit as a recorded case, for `countersign policy test FILE`. Pure.

use std::fmt::Write as _;

use crate::telemetry::trail::Entry;

/// A `[[case]]` that wants what was decided then. `None` for what no caller decided.
pub fn case_of(entry: &Entry) -> Option<String> {
    let caller = Some(entry.text("caller")).filter(|caller| !caller.is_empty())?;
    let (method, url) = match entry.kind() {
        "request" => (entry.text("method"), url_of(entry)),
        "tunnel_opened" => ("CONNECT", format!("https://{}", authority(entry, 443))),
        _ => return None,
    };
    let mut text = "[[case]]\n".to_owned();
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{key} = {}", toml::Value::String(value.to_owned()));
        }
    };
    line("caller", caller);
    line("method", method);
    line("url", &url);
    let expect = expected(entry)?;
    line("expect", expect);
    line("account", if expect == "deny" { "" } else { entry.text("account") });
    line("rule", entry.text("rule"));
    line("reason", if expect == "deny" { entry.text("reason") } else { entry.text("would_deny") });
    Some(text)
}

/// What policy said; what failed elsewhere proves nothing about it.
fn expected(entry: &Entry) -> Option<&'static str> {
    match (entry.kind(), entry.text("outcome")) {
        ("tunnel_opened", _) => (entry.text("mode") == "blind").then_some("tunnel"),
        _ if !entry.text("would_deny").is_empty() => Some("would_deny"),
        (_, "authenticated") => Some("allow"),
        (_, "passthrough") => Some("tunnel"),
        (_, "error") if !entry.text("account").is_empty() => Some("allow"),
        (_, "denied") if POLICY_REASONS.contains(&entry.text("reason")) => Some("deny"),
        _ => None,
    }
}

/// The reasons that the rules and bindings give; others come from limits and tokens.
const POLICY_REASONS: [&str; 7] =
    ["not_bound", "lapsed", "unknown_account", "other_host", "ambiguous", "no_rule", "rule"];

fn url_of(entry: &Entry) -> String {
    let (scheme, usual) = match (entry.number("port"), entry.text("door")) {
        (Some(80), _) => ("http", 80),
        (_, "plain") if entry.text("outcome") == "passthrough" => ("http", 80),
        _ => ("https", 443),
    };
    format!("{scheme}://{}{}", authority(entry, usual), entry.text("path"))
}

fn authority(entry: &Entry, usual: u64) -> String {
    let host = entry.text("host");
    match entry.number("port") {
        Some(port) if port != usual => format!("{host}:{port}"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cases;

    fn entry(members: serde_json::Value) -> Entry {
        let serde_json::Value::Object(members) = members else { panic!("an object") };
        Entry { seq: 1, members, line: String::new() }
    }

    #[test]
    fn an_entry_becomes_a_case_that_policy_test_takes() {
        let request = |more: serde_json::Value| {
            let mut all = serde_json::json!({
                "type": "request", "caller": "flow", "method": "POST", "host": "slack.com",
                "port": 443, "path": "/api/chat.postMessage",
            });
            let members = all.as_object_mut().expect("an object");
            members.extend(more.as_object().expect("an object").clone());
            all
        };
        for (members, parts) in [
            (
                serde_json::json!({ "outcome": "authenticated", "account": "team", "rule": "callers.flow.rules[0]" }),
                &[
                    "expect = \"allow\"",
                    "account = \"team\"",
                    "rule = \"callers.flow.rules[0]\"",
                    "\"https://slack.com/api/chat.postMessage\"",
                ][..],
            ),
            (
                serde_json::json!({ "outcome": "denied", "reason": "no_rule" }),
                &["expect = \"deny\"", "reason = \"no_rule\""],
            ),
            (
                serde_json::json!({ "outcome": "authenticated", "account": "team", "would_deny": "rule" }),
                &["expect = \"would_deny\"", "reason = \"rule\""],
            ),
            (
                serde_json::json!({ "outcome": "passthrough", "port": 80, "host": "x.test" }),
                &["expect = \"tunnel\"", "\"http://x.test/api"],
            ),
            (
                serde_json::json!({ "outcome": "authenticated", "account": "t", "port": 8443 }),
                &["\"https://slack.com:8443/api"],
            ),
            (
                serde_json::json!({ "outcome": "denied", "reason": "rule", "path": "/a\"b\\c" }),
                &["a\"b"],
            ),
        ] {
            let text = case_of(&entry(request(members))).expect("a case");
            assert_eq!(cases::parse(&text).expect(&text).len(), 1);
            let shown = text.replace('\'', "\"");
            for part in parts {
                assert!(shown.contains(part), "{text} lacks {part}");
            }
        }
    }

    #[test]
    fn what_policy_did_not_decide_is_no_case() {
        for members in [
            serde_json::json!({ "type": "administered", "caller": "flow" }),
            serde_json::json!({ "type": "request", "outcome": "denied", "caller": "", "reason": "no_rule" }),
            serde_json::json!({ "type": "request", "outcome": "denied", "caller": "flow", "reason": "rate_limited" }),
            serde_json::json!({ "type": "tunnel_opened", "caller": "flow", "mode": "intercept" }),
        ] {
            assert_eq!(case_of(&entry(members.clone())), None, "{members}");
        }
    }
}
