//! One caller, whole: what it uses, what it may, what it did.

use std::collections::BTreeMap;

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::activity::history::{self, Row, Sight};
use super::super::shell::{Moment, Section, Shell};
use super::super::visit::Visit;
use super::attempt::Verdict;
use super::rules::as_of;
use super::view::{Ledger, Line, RuleLine};
use crate::forward::Body;
use crate::ids::CallerId;
use crate::policy::access::CallerOperation;
use crate::telemetry::trail::{Entry, Found, Rest, Search};
use crate::vault::StoredCaller;

/// How much of the audit the page looks at.
const LOOK_BYTES: u64 = 16 * 1024 * 1024;
const LAST_REQUESTS: usize = 8;
const MAX_FINDINGS: usize = 12;
const LOOKED_AT: usize = 20_000;

#[derive(Template)]
#[template(path = "workspace/caller.html")]
struct CallerPage<'a> {
    shell: Shell<'a>,
    line: Line,
    rules: Vec<RuleLine>,
    as_of: String,
    tokens: Vec<Token>,
    created: Option<Moment>,
    source: Option<String>,
    last: Vec<Row>,
    findings: Vec<Finding>,
    /// The audit is off.
    unaudited: bool,
    /// Only the newest part of the audit was looked at.
    in_part: bool,
    may_change: bool,
    may_revoke: bool,
    /// Of the empty "would this be allowed?" box.
    method: &'a str,
    url: &'a str,
    selector: &'a str,
    verdict: Option<Verdict>,
}

/// A token, without the token.
struct Token {
    since: Moment,
    ends: Option<Moment>,
    ended: bool,
}

/// Requests that report mode let through and `enforce` would not have.
pub struct Finding {
    pub method: String,
    pub host: String,
    pub path: String,
    pub app: String,
    pub reason: &'static str,
    pub count: usize,
    pub last: Moment,
    /// A rule of the caller says no; an allowing rule would not help.
    pub by_rule: bool,
    /// The form of a rule that allows it.
    pub mend: String,
}

pub(super) async fn show(visit: &Visit<'_>, name: &str) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let stored = ledger.caller(name);
    let declared = ledger.world.caller(name).filter(|caller| !caller.is_stored());
    let mut line = match (stored, declared) {
        (Some(caller), _) => ledger.line(caller),
        (None, Some(caller)) => ledger.declared(caller),
        (None, None) => return Err(Trouble::NotFound),
    };
    let rules = match (stored, declared) {
        (Some(caller), _) => ledger.rules(caller)?,
        (None, Some(caller)) => {
            let rules = caller.policy.rules.iter().enumerate();
            rules.map(|(at, rule)| RuleLine::declared(&ledger, at, rule)).collect()
        }
        (None, None) => Vec::new(),
    };
    let past = past(visit, &ledger, name).await?;
    line.last_used = past.last.first().map(|row| row.at.clone());
    let may = |operation| stored.is_some_and(|caller| ledger.may(&caller.name, operation));
    let page = CallerPage {
        shell: visit.shell(Section::Callers, name),
        rules,
        as_of: stored.map(as_of).unwrap_or_default(),
        tokens: match stored {
            Some(caller) => tokens(visit, &caller.name).await?,
            None => Vec::new(),
        },
        created: stored.map(|caller| Moment::of(caller.created_at, ledger.now)),
        source: source(visit, stored),
        last: past.last,
        findings: past.findings,
        unaudited: visit.workspace.around.audit.is_none(),
        in_part: past.in_part,
        may_change: may(CallerOperation::Change),
        may_revoke: may(CallerOperation::Revoke),
        method: "GET",
        url: "",
        selector: "",
        verdict: None,
        line,
    };
    Ok(visit.page(&page))
}

/// Where a declared caller is written.
fn source(visit: &Visit<'_>, stored: Option<&StoredCaller>) -> Option<String> {
    if stored.is_some() {
        return None;
    }
    let file = visit.workspace.around.config_file.as_ref();
    Some(file.map_or_else(|| "the environment".to_owned(), |file| file.display().to_string()))
}

async fn tokens(visit: &Visit<'_>, name: &CallerId) -> Result<Vec<Token>, Trouble> {
    let now = visit.now();
    let tokens = visit.vault().caller_tokens(Some(name)).await?;
    let shown = tokens.iter().map(|token| Token {
        since: Moment::of(token.created_at, now),
        ends: Moment::maybe(token.expires_at, now),
        ended: token.expires_at.is_some_and(|at| at <= now),
    });
    Ok(shown.collect())
}

/// What the audit tells of a caller.
struct Past {
    last: Vec<Row>,
    findings: Vec<Finding>,
    in_part: bool,
}

async fn past(visit: &Visit<'_>, ledger: &Ledger, name: &str) -> Result<Past, Trouble> {
    let wanted = Search {
        members: vec![("caller", name.to_owned())],
        want: LOOKED_AT,
        most_bytes: LOOK_BYTES,
        ..Search::default()
    };
    let (sight, caller) = (Sight::of(ledger), name.to_owned());
    let mut others = 0;
    let found = history::look(visit, wanted, move |entry| {
        let theirs = entry.kind() == "request" && entry.text("caller") == caller;
        let kept = theirs && sight.sees(entry);
        // Of what is not a finding, the newest are enough.
        let finding = !entry.text("would_deny").is_empty();
        others += usize::from(kept && !finding);
        kept && (finding || others <= LAST_REQUESTS)
    });
    let Found { entries, rest } = found.await?.unwrap_or_default();
    let last = entries.iter().take(LAST_REQUESTS).map(|entry| Row::of(entry, ledger));
    Ok(Past {
        last: last.collect(),
        findings: findings(&entries, ledger, name),
        in_part: matches!(rest, Rest::Unread { .. } | Rest::Before(_)),
    })
}

fn findings(entries: &[Entry], ledger: &Ledger, caller: &str) -> Vec<Finding> {
    // Newest first, so the first of each is its last.
    let mut met: BTreeMap<[&str; 4], (usize, &Entry)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.text("would_deny").is_empty()) {
        let key = ["method", "host", "path", "would_deny"].map(|key| entry.text(key));
        met.entry(key).or_insert((0, entry)).0 += 1;
    }
    let mut findings: Vec<Finding> = met
        .into_iter()
        .map(|([method, host, path, reason], (count, entry))| Finding {
            method: method.to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
            app: ledger.app_name(entry.text("app")),
            reason: reason_said(reason),
            count,
            last: history::said(entry.text("ts"), ledger.now),
            by_rule: reason == "rule",
            mend: mend(caller, entry),
        })
        .collect();
    findings.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.path.cmp(&b.path)));
    findings.truncate(MAX_FINDINGS);
    findings
}

fn mend(caller: &str, entry: &Entry) -> String {
    url::form_urlencoded::Serializer::new(format!("/callers/{caller}/rules/~new?"))
        .append_pair("effect", "allow")
        .append_pair("app", entry.text("app"))
        .append_pair("methods", entry.text("method"))
        .append_pair("paths", entry.text("path"))
        .finish()
}

pub fn reason_said(reason: &str) -> &'static str {
    match reason {
        "no_rule" => "no rule allows it",
        "rule" => "a rule denies it",
        "odd_path" => "its path can be read in two ways",
        "not_bound" => "no account of the app is bound",
        "lapsed" => "the binding of its account holds no more",
        "unknown_account" => "the account that it named is not bound",
        "other_host" => "the account is for another host",
        "ambiguous" => "several accounts fit and none was named",
        _ => "it is not allowed",
    }
}
