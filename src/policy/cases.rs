//! Recorded questions with the answers that are wanted: what `policy test FILE` runs.
//!
//! ```toml
//! [[case]]
//! caller = "flow"
//! method = "POST"                          # GET unless said
//! url = "https://slack.com/api/chat.postMessage"
//! selector = "team-slack"                  # the account that the request names, if any
//! expect = "allow"                         # or "deny", "would_deny", "tunnel"
//! account = "team-slack"                   # the account that must have been chosen
//! rule = "callers.flow.rules[0]"           # the rule that must have decided
//! reason = "no_rule"                       # why it must have been refused
//! ```
//! Pure: the file is handed in as text, and who owns a URL is told by the closure.

use std::fmt;
use std::sync::Arc;

use http::Method;
use serde::Deserialize;

use super::{CallerPolicy, Decision};
use crate::ids::{AccountId, CallerId};

/// One recorded question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Where it stands in the file.
    pub line: usize,
    pub caller: CallerId,
    pub method: Method,
    pub url: String,
    pub selector: Option<String>,
    wanted: Wanted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    expect: Answer,
    account: Option<String>,
    rule: Option<String>,
    reason: Option<String>,
}

/// What may become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Allow,
    Deny,
    /// Let through in report mode.
    WouldDeny,
    /// Passed on untouched: a host of no app.
    Tunnel,
}

/// The answer to a case, with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub answer: Answer,
    pub account: Option<AccountId>,
    pub rule: Option<Arc<str>>,
    pub reason: Option<&'static str>,
    /// In words, for a case that failed.
    pub text: String,
}

/// Why a file of cases cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct InvalidCase {
    pub line: usize,
    pub text: String,
}

/// A case that did not get the answer that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub line: usize,
    pub what: String,
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<toml::Spanned<Written>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    caller: String,
    #[serde(default = "get")]
    method: String,
    url: String,
    selector: Option<String>,
    expect: Answer,
    account: Option<String>,
    rule: Option<String>,
    reason: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// Reads a file of cases.
///
/// # Errors
/// At the first thing that is no case, with its line.
pub fn parse(text: &str) -> Result<Vec<Case>, InvalidCase> {
    let file: File = toml::from_str(text).map_err(|error| InvalidCase {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        text: error.message().to_owned(),
    })?;
    file.case
        .into_iter()
        .map(|case| {
            let line = line_of(text, case.span().start);
            Case::read(line, case.into_inner()).map_err(|text| InvalidCase { line, text })
        })
        .collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Asks every case and returns those that failed. `ask` finds the caller and the app of the URL.
pub fn run(cases: &[Case], ask: impl Fn(&Case) -> Result<Outcome, String>) -> Vec<Failure> {
    let check = |case: &Case| match ask(case) {
        Ok(outcome) => case.wanted.problem(&outcome),
        Err(problem) => Some(problem),
    };
    let failure = |case: &Case, problem: String| Failure {
        line: case.line,
        what: format!("{} {} {}", case.caller, case.method, case.url),
        problem,
    };
    cases.iter().filter_map(|case| check(case).map(|problem| failure(case, problem))).collect()
}

impl Case {
    fn read(line: usize, written: Written) -> Result<Self, String> {
        let method = Method::from_bytes(written.method.as_bytes());
        Ok(Self {
            line,
            caller: written.caller.parse().map_err(|error| format!("{error}"))?,
            method: method.map_err(|_| format!("\"{}\" is no method", written.method))?,
            url: written.url,
            selector: written.selector,
            wanted: Wanted {
                expect: written.expect,
                account: written.account,
                rule: written.rule,
                reason: written.reason,
            },
        })
    }
}

impl Wanted {
    fn problem(&self, got: &Outcome) -> Option<String> {
        let differs = |wanted: &Option<String>, got: Option<&str>| {
            wanted.as_deref().is_some_and(|wanted| got != Some(wanted))
        };
        let what = if self.expect != got.answer {
            format!("expected {}, got {}", self.expect, got.answer)
        } else if differs(&self.account, got.account.as_ref().map(AccountId::as_str)) {
            format!("expected another account than {}", shown(got.account.as_ref()))
        } else if differs(&self.rule, got.rule.as_deref()) {
            format!("expected another rule than {}", shown(got.rule.as_ref()))
        } else if differs(&self.reason, got.reason) {
            format!("expected another reason than {}", shown(got.reason.as_ref()))
        } else {
            return None;
        };
        Some(format!("{what}: {}", got.text))
    }
}

fn shown<T: fmt::Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("\"{value}\""))
}

impl Outcome {
    /// What a decision comes to.
    pub fn of(policy: &CallerPolicy, decision: &Decision) -> Self {
        let text = decision.to_string();
        match decision {
            Decision::Deny(denial) => Self {
                answer: Answer::Deny,
                account: None,
                rule: denial.rule().cloned(),
                reason: Some(denial.reason()),
                text,
            },
            Decision::Permit(permit) => {
                let would_deny = permit.would_deny.as_ref();
                let binding = permit.binding.and_then(|index| policy.bindings.get(index));
                Self {
                    answer: match (would_deny, binding) {
                        (Some(_), _) => Answer::WouldDeny,
                        (None, Some(_)) => Answer::Allow,
                        (None, None) => Answer::Tunnel,
                    },
                    account: binding.map(|binding| binding.account.clone()),
                    rule: permit.rule.clone().or_else(|| would_deny?.rule().cloned()),
                    reason: would_deny.map(|denial| denial.reason()),
                    text,
                }
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::WouldDeny => "would_deny",
            Self::Tunnel => "tunnel",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.what, self.problem)
    }
}
