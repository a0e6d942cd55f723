//! `policy explain`, `policy test` and `policy suggest`: the live decision, asked from a terminal,
//! and the rules that would have been enough.
//!
//! Everything is handed in and given back as text, so that the commands only print. Only `suggest`
//! reads something: the audit.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use crate::catalog::HostIndex;
use crate::config::{Caller, Config, RuleText};
use crate::forward::{self, Ground};
use crate::ids::AppId;
use crate::policy::cases::{self, Case, Outcome};
use crate::policy::suggest::{Proposal, Suggestion};
use crate::policy::{Decision, Explanation};
use crate::telemetry::trail::{self, Search};

/// What a command says, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub text: String,
    pub code: u8,
}

/// What `policy explain` is asked.
#[derive(Debug, Clone)]
pub struct Explain<'a> {
    pub caller: &'a str,
    pub method: Method,
    pub url: &'a str,
    /// The account that the request would name.
    pub account: Option<&'a str>,
    pub json: bool,
}

/// Explains one request. The exit code is 0 when it would be let through.
pub fn explain(config: &Config, index: &HostIndex, asked: &Explain<'_>) -> Output {
    let answer = caller(config, asked.caller)
        .and_then(|caller| answer(config, index, caller, &asked.method, asked.url, asked.account));
    match answer {
        Ok(explanation) => {
            let code = u8::from(matches!(explanation.decision, Decision::Deny(_)));
            let text = match asked.json {
                true => format!("{:#}", as_json(&explanation)),
                false => explanation.to_string(),
            };
            Output { text, code }
        }
        Err(text) => Output { text, code: USAGE },
    }
}

/// Runs a file of cases. The exit code is 0 when all of them got the answer that they want.
pub fn test(config: &Config, index: &HostIndex, text: &str) -> Output {
    let cases = match cases::parse(text) {
        Ok(cases) => cases,
        Err(error) => return Output { text: error.to_string(), code: USAGE },
    };
    let failures = cases::run(&cases, |case| outcome(config, index, case));
    let mut lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
    lines.push(format!("{} cases, {} failed", cases.len(), failures.len()));
    Output { text: lines.join("\n"), code: u8::from(!failures.is_empty()) }
}

/// Proposes rules from what a caller did, as TOML for the configuration or as JSON for the store.
/// The exit code is 1 when there is nothing to go by.
///
/// # Errors
/// When the audit cannot be read.
pub fn suggest(
    audit: &Path,
    caller: &str,
    since: Option<SystemTime>,
    json: bool,
) -> anyhow::Result<Output> {
    let members = vec![("caller", caller.to_owned())];
    let search =
        Search { since, members, want: usize::MAX, most_bytes: u64::MAX, ..Search::default() };
    let found = trail::search(audit, &search, |entry| entry.text("caller") == caller)
        .with_context(|| format!("the audit file {} could not be read", audit.display()))?;
    let suggestion = trail::suggest(&found.entries);
    let code = u8::from(suggestion.rules.is_empty());
    let text = match json {
        true => {
            let rules: Vec<RuleText> = suggestion.rules.iter().map(rule_text).collect();
            serde_json::to_string_pretty(&rules)?
        }
        false => as_toml(caller, &suggestion),
    };
    Ok(Output { text, code })
}

fn rule_text(rule: &Proposal) -> RuleText {
    RuleText {
        app: Some(rule.app.clone()),
        account: Some(rule.account.clone()),
        methods: rule.methods.clone(),
        paths: rule.paths.clone(),
        ..RuleText::default()
    }
}

fn as_toml(caller: &str, suggestion: &Suggestion) -> String {
    let mut text = format!(
        "# The least that would have allowed the {} requests that {caller} sent.\n",
        suggestion.requests
    );
    if suggestion.left_out > 0 {
        text += &format!(
            "# {} more had paths that can be read in two ways: only a rule for every path allows them.\n",
            suggestion.left_out
        );
    }
    let list = |texts: &[String]| {
        toml::Value::Array(texts.iter().cloned().map(toml::Value::String).collect())
    };
    // Unquoted, a dot would divide the key.
    let key = toml::Value::String(caller.to_owned());
    for rule in &suggestion.rules {
        text += &format!(
            "\n[[callers.{key}.rules]]  # {} requests\napp = \"{}\"\naccount = \"{}\"\nmethods = {}\npaths = {}\n",
            rule.requests,
            rule.app,
            rule.account,
            list(&rule.methods),
            list(&rule.paths)
        );
    }
    text
}

/// What the shell sees when the question itself was wrong.
const USAGE: u8 = 2;

fn outcome(config: &Config, index: &HostIndex, case: &Case) -> Result<Outcome, String> {
    let caller = caller(config, case.caller.as_str())?;
    let selector = case.selector.as_deref();
    let explanation = answer(config, index, caller, &case.method, &case.url, selector)?;
    Ok(Outcome::of(&caller.policy, &explanation.decision))
}

fn caller<'c>(config: &'c Config, name: &str) -> Result<&'c Caller, String> {
    let found = config.callers.iter().find(|caller| caller.id.as_str() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = config.callers.iter().map(|caller| caller.id.as_str()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("there is no caller \"{}\"; there is {there}", name.escape_debug())
    })
}

fn answer(
    config: &Config,
    index: &HostIndex,
    caller: &Caller,
    method: &Method,
    url: &str,
    selector: Option<&str>,
) -> Result<Explanation, String> {
    forward::explain(&Ground::of_config(config, index), &caller.policy, method, url, selector)
}

fn as_json(explanation: &Explanation) -> Value {
    let Explanation { asked, decision, account, odd, rules } = explanation;
    let rules = rules.iter().map(|rule| {
        json!({
            "rule": &*rule.name,
            "effect": rule.effect.to_string(),
            "fit": rule.fit.to_string(),
        })
    });
    let (permitted, rule, denial) = match decision {
        Decision::Permit(permit) => (true, permit.rule.as_deref(), permit.would_deny.as_ref()),
        Decision::Deny(denial) => (false, denial.rule().map(|rule| &**rule), Some(denial)),
    };
    json!({
        "caller": asked.caller.as_str(),
        "method": asked.method.as_str(),
        "host": asked.host.as_str(),
        "port": asked.port,
        "path": asked.path,
        "app": asked.app.as_ref().map(AppId::as_str),
        "account": account.as_ref().map(|account| account.as_str()),
        "odd": odd.map(|odd| odd.to_string()),
        "permitted": permitted,
        "rule": rule,
        "reason": denial.map(|denial| denial.reason()),
        "detail": denial.map(ToString::to_string),
        "rules": rules.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use super::*;
    use crate::catalog::Catalog;
    use crate::config::Draft;

    const CONFIG: &str = "
[accounts.team]
app = 'slack'
auth = 'bot_token'
secrets = { bot_token = { env = 'T' } }
[callers.flow]
token = { env = 'F' }
accounts = ['team']
[[callers.flow.rules]]
app = 'slack'
methods = ['POST']
paths = ['/api/chat.*']
";

    fn config() -> (Config, HostIndex) {
        let two = |(file, _): &(String, String)| file == "s/slack.toml" || file == "g/github.toml";
        let files = Catalog::embedded_files().filter(two);
        let catalog = Arc::new(Catalog::build(files).expect("the apps"));
        let config = Draft::parse(CONFIG, None, &[]).finish(catalog).expect("a config");
        let index = config.host_index().expect("an index");
        (config, index)
    }

    #[test]
    fn an_explanation_ends_with_the_decision_and_its_code() {
        let (config, index) = config();
        for (caller, method, url, code, part) in [
            ("flow", "POST", "https://slack.com/api/chat.postMessage?a=b", 0, "allowed by callers"),
            ("flow", "POST", "http://slack.com/api/chat.postMessage", 0, "allowed by callers"),
            ("flow", "GET", "https://slack.com/api/chat.postMessage", 1, "denied (no_rule)"),
            ("flow", "GET", "https://api.github.com/user", 1, "denied (not_bound)"),
            ("flow", "GET", "https://example.test", 0, "allowed untouched"),
            ("flow", "GET", "https://slack.com:8443/api/x", 2, "but not on port 8443"),
            ("flow", "GET", "slack.com", 2, "is no URL"),
            ("flow", "GET", "https://u@slack.com/", 2, "user information"),
            ("other", "GET", "https://slack.com/", 2, "there is flow"),
        ] {
            let method = method.parse().expect(method);
            let asked = Explain { caller, method, url, account: None, json: false };
            let output = explain(&config, &index, &asked);
            assert_eq!(output.code, code, "{url}: {}", output.text);
            assert!(output.text.contains(part), "{url}: {}", output.text);
            let json = explain(&config, &index, &Explain { json: true, ..asked });
            assert_eq!((json.code, json.text.starts_with('{')), (code, code < 2), "{url}");
        }
    }

    #[test]
    fn cases_run_against_the_config() {
        let (config, index) = config();
        let good = "[[case]]
caller = 'flow'
method = 'POST'
url = 'https://slack.com/api/chat.postMessage'
expect = 'allow'
account = 'team'
rule = 'callers.flow.rules[0]'
[[case]]
caller = 'flow'
url = 'https://example.test'
expect = 'tunnel'
";
        let output = test(&config, &index, good);
        assert_eq!(output, Output { text: "2 cases, 0 failed".to_owned(), code: 0 });
        let output = test(&config, &index, &good.replace("'tunnel'", "'deny'"));
        assert_eq!(output.code, 1, "{}", output.text);
        assert_eq!(test(&config, &index, "[[cases]]").code, 2);
    }

    #[test]
    fn what_is_suggested_is_a_config_that_allows_what_was_done() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        for (seq, path) in
            ["/api/chat.postMessage", "/api/chat.update", "/api/x/123"].iter().enumerate()
        {
            writeln!(
                file,
                "{{\"seq\":{},\"ts\":\"2026-01-02T03:04:05.678Z\",\"type\":\"request\",\"caller\":\"flow\",\
                 \"method\":\"POST\",\"path\":\"{path}\",\"app\":\"slack\",\"account\":\"team\",\
                 \"outcome\":\"authenticated\"}}",
                seq + 1
            )
            .expect("room");
        }
        let said = suggest(file.path(), "flow", None, false).expect("readable");
        assert_eq!(said.code, 0);
        let (head, _) = CONFIG.split_once("[[callers").expect("rules");
        let catalog = config().0.catalog;
        let config = Draft::parse(&format!("{head}{}", said.text), None, &[]).finish(catalog);
        let config = config.unwrap_or_else(|wrong| panic!("{wrong:?}: {}", said.text));
        let index = config.host_index().expect("an index");
        for (path, code) in [("chat.update", 0), ("x/77", 0), ("chat.delete", 1)] {
            let url = format!("https://slack.com/api/{path}");
            let asked = Explain {
                caller: "flow",
                method: Method::POST,
                url: &url,
                account: None,
                json: false,
            };
            assert_eq!(explain(&config, &index, &asked).code, code, "{url}");
        }
        assert_eq!(suggest(file.path(), "other", None, false).expect("readable").code, 1);
        let json = suggest(file.path(), "flow", None, true).expect("readable").text;
        assert!(
            crate::config::rules_from_json(&json).is_ok_and(|rules| !rules.is_empty()),
            "{json}"
        );
    }

    #[test]
    fn check_says_what_there_is() {
        let (config, index) = config();
        let output = crate::cli::check::check(&config, &index, None, false);
        for part in ["account team (slack): slack.com:443", "caller flow: accounts team; 1 rule"] {
            assert!(output.text.contains(part), "{}", output.text);
        }
    }
}
