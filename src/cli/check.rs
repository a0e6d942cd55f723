//! `check`: whether the configuration is right, and what it comes to.
//!
//! Touches nothing; the file and its mode are handed in.

use serde_json::json;

use super::policy::Output;
use crate::catalog::HostIndex;
use crate::config::{Config, Mistake};

/// Says what a finished configuration has, and its warnings. `mode` is that of the file.
pub fn check(config: &Config, index: &HostIndex, mode: Option<u32>, json: bool) -> Output {
    let warnings = config.warnings(mode);
    if json {
        return Output { text: report(&warnings, true), code: 0 };
    }
    let mut lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for account in &config.accounts {
        let origins = account.origins(&config.catalog);
        let owned = origins.iter().filter(|origin| !index.claims(&origin.host).is_empty());
        let hosts: Vec<String> =
            owned.map(|origin| format!("{}:{}", origin.host, origin.port)).collect();
        lines.push(format!("account {} ({}): {}", account.name, account.app, hosts.join(", ")));
    }
    for caller in &config.callers {
        let accounts: Vec<&str> =
            caller.policy.bindings.iter().map(|binding| binding.account.as_str()).collect();
        let accounts = if accounts.is_empty() { "none".to_owned() } else { accounts.join(", ") };
        let rules = counted(caller.policy.rules.len(), "rule");
        lines.push(format!("caller {}: accounts {accounts}; {rules}", caller.id));
    }
    lines.push(format!(
        "ok: {}, {}, {}, {}",
        counted(config.catalog.len(), "app"),
        counted(config.accounts.len(), "account"),
        counted(config.callers.len(), "caller"),
        counted(warnings.len(), "warning")
    ));
    Output { text: lines.join("\n"), code: 0 }
}

/// Says all that is wrong with a configuration that could not be finished.
pub fn mistakes(found: &[Mistake], json: bool) -> Output {
    if json {
        return Output { text: report(found, false), code: 1 };
    }
    let mut lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    lines.push(counted(found.len(), "mistake"));
    Output { text: lines.join("\n"), code: 1 }
}

/// `1 rule`, `2 rules`.
pub fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn report(found: &[Mistake], ok: bool) -> String {
    let one = |mistake: &Mistake| {
        json!({
            "file": mistake.file,
            "line": mistake.line,
            "key": mistake.key,
            "text": mistake.text,
            "severity": if mistake.is_error() { "error" } else { "warning" },
        })
    };
    format!("{:#}", json!({ "ok": ok, "found": found.iter().map(one).collect::<Vec<_>>() }))
}
