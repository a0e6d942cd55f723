//! Reading the audit for a member: who may see which entry, and how one is said in a line.
//!
//! Owners and admins see everything. A member sees what happened with accounts that they may see,
//! with callers that they may change, and what they did themselves. Accounts are told apart by id:
//! their nicknames change, and are used again.

use std::collections::{HashMap, HashSet};
use std::io;

use super::super::Trouble;
use super::super::callers::view::{Face, Ledger};
use super::super::shell::Moment;
use super::super::visit::Visit;
use crate::clock::rfc3339;
use crate::policy::access::{CallerOperation, Operation, may};
use crate::telemetry::ACCOUNT_ID;
use crate::telemetry::trail::{self, Entry, Found, Search};

/// What a member may see of the audit.
pub struct Sight {
    all: bool,
    /// By id.
    accounts: HashSet<String>,
    /// By name, and since when there is this caller: what an earlier one of that name did is
    /// another's.
    callers: HashMap<String, String>,
    /// As `by` ends where they did something.
    me: String,
}

/// Which account an entry is about.
enum About<'e> {
    /// `apn_…`.
    Account(&'e str),
    /// Some account, named only by a nickname, by a version that wrote no ids.
    Unclear,
    None,
}

impl<'e> About<'e> {
    fn of(entry: &'e Entry) -> Self {
        let deed_of_old = || {
            entry.text("what").starts_with("account_")
                || entry.text("what").starts_with("credential_")
        };
        match (entry.text(ACCOUNT_ID), entry.text("account")) {
            ("", "") if deed_of_old() => Self::Unclear,
            ("", "") => Self::None,
            ("", _) => Self::Unclear,
            (id, _) => Self::Account(id),
        }
    }
}

impl Sight {
    pub fn of(ledger: &Ledger) -> Self {
        let seen = ledger.accounts.values();
        let seen = seen.filter(|account| may(ledger.standing(account), Operation::See));
        let callers = ledger.callers.iter();
        let callers = callers.filter(|caller| ledger.may(&caller.name, CallerOperation::Change));
        let since = callers.map(|caller| (caller.name.to_string(), rfc3339(caller.created_at)));
        Self {
            all: ledger.me.role.administers(),
            accounts: seen.map(|account| account.id.to_string()).collect(),
            callers: since.collect(),
            me: format!("({})", ledger.me.id),
        }
    }

    pub fn sees(&self, entry: &Entry) -> bool {
        if self.all {
            return true;
        }
        match entry.kind() {
            "administered" => self.sees_deed(entry),
            "request"
            | "request_started"
            | "tunnel_opened"
            | "tunnel_closed"
            | "handshake_failed"
            | "credential_refreshed"
            | "credential_failed"
            | "account_changed" => match About::of(entry) {
                About::Account(id) => self.accounts.contains(id),
                About::Unclear => false,
                About::None => self.sees_caller(entry.text("caller"), entry),
            },
            _ => false,
        }
    }

    /// What they did themselves they know, but for the name of an account that they took from a
    /// caller and never could see.
    fn sees_deed(&self, entry: &Entry) -> bool {
        let (what, subject) = (entry.text("what"), entry.text("subject"));
        let theirs = entry.text("by").ends_with(&self.me);
        match About::of(entry) {
            About::Account(id) if self.accounts.contains(id) => {
                // A caller's name is the subject of what was bound to it.
                !BINDINGS.contains(&what) || theirs || self.sees_caller(subject, entry)
            }
            About::Account(_) | About::Unclear => theirs && !BINDINGS.contains(&what),
            About::None if what.starts_with("caller_") => {
                theirs || self.sees_caller(subject, entry)
            }
            About::None => theirs,
        }
    }

    fn sees_caller(&self, name: &str, entry: &Entry) -> bool {
        self.callers.get(name).is_some_and(|since| entry.text("ts") >= since.as_str())
    }
}

const BINDINGS: [&str; 3] = ["account_bound", "account_unbound", "account_swapped"];

/// Looks into the audit, away from the threads that serve. `None` when nothing is recorded.
///
/// # Errors
/// When the file cannot be read.
pub async fn look(
    visit: &Visit<'_>,
    search: Search,
    accepts: impl FnMut(&Entry) -> bool + Send + 'static,
) -> Result<Option<Found>, Trouble> {
    let Some(file) = visit.workspace.around.audit.clone() else { return Ok(None) };
    // What was just done is in the file before it is looked for.
    visit.workspace.forwarder.telemetry.flush().await;
    let looked = tokio::task::spawn_blocking(move || trail::search(&file, &search, accepts)).await;
    match looked {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(_) => Err(Trouble::Busy),
    }
}

pub fn unreadable(error: &io::Error) -> Trouble {
    tracing::error!(%error, "the audit file could not be read");
    Trouble::Bad(format!("The audit file could not be read: {error}"))
}

/// An entry in a list.
pub struct Row {
    pub seq: u64,
    pub at: Moment,
    pub kind: &'static str,
    /// What happened, in a line.
    pub what: String,
    pub caller: String,
    pub account: String,
    pub face: Option<Face>,
    pub state: &'static str,
    pub badge: &'static str,
    /// What the client was answered.
    pub status: Option<u64>,
}

impl Row {
    pub fn of(entry: &Entry, ledger: &Ledger) -> Self {
        let app = entry.text("app");
        let (state, badge) = state_of(entry);
        Self {
            seq: entry.seq,
            at: said(entry.text("ts"), ledger.now),
            kind: label(entry.kind()),
            what: what(entry),
            caller: match entry.text("door") {
                "builder" => format!("{}, in the builder", ledger.person(entry.text("caller"))),
                _ => entry.text("caller").to_owned(),
            },
            account: entry.text("account").to_owned(),
            face: (!app.is_empty()).then(|| Face::of(app, ledger.app_name(app))),
            state,
            badge,
            status: entry.number("status").filter(|status| *status > 0),
        }
    }
}

/// A moment of the file, as people say it.
pub fn said(ts: &str, now: std::time::SystemTime) -> Moment {
    match moment(ts) {
        Some(at) => Moment { exact: ts.to_owned(), said: Moment::of(at, now).said },
        None => Moment { exact: ts.to_owned(), said: ts.to_owned() },
    }
}

pub fn moment(ts: &str) -> Option<std::time::SystemTime> {
    ts.parse::<jiff::Timestamp>().ok().map(std::time::SystemTime::from)
}

/// The events that a filter may name.
pub const KINDS: [(&str, &str); 18] = [
    ("request", "Request"),
    ("tunnel_opened", "Tunnel opened"),
    ("tunnel_closed", "Tunnel closed"),
    ("administered", "Change"),
    ("account_changed", "Account"),
    ("credential_refreshed", "Credential renewed"),
    ("credential_failed", "Credential failed"),
    ("auth_failed", "Wrong token"),
    ("handshake_failed", "TLS not finished"),
    ("request_started", "Request begun"),
    ("config_reloaded", "Configuration reloaded"),
    ("config_refused", "Configuration refused"),
    ("server_started", "Server started"),
    ("server_stopped", "Server stopped"),
    ("ca_created", "CA created"),
    ("events_lost", "Events lost"),
    ("tail_missing", "Audit cut"),
    ("audit_continued", "Next audit file"),
];

pub fn label(kind: &str) -> &'static str {
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    known.map_or("Other", |(_, label)| label)
}

fn what(entry: &Entry) -> String {
    let text = |key: &str| entry.text(key);
    match entry.kind() {
        "request" | "request_started" => {
            format!("{} {}{}", text("method"), text("host"), text("path"))
        }
        "tunnel_opened" | "tunnel_closed" => {
            format!("{}:{}", text("host"), entry.number("port").unwrap_or(443))
        }
        "administered" => {
            let detail = text("detail");
            let deed = deed(text("what"));
            let about = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            format!("{deed}: {}{about}", text("subject"))
        }
        "account_changed" => format!("{} {}", text("change"), text("detail")),
        "credential_failed" | "handshake_failed" => text("error").to_owned(),
        "auth_failed" => match text("claimed") {
            "" => format!("{}, from {}", text("reason"), text("client")),
            claimed => format!("{} as “{claimed}”, from {}", text("reason"), text("client")),
        },
        "config_refused" => text("first").to_owned(),
        "server_started" => format!("version {}", text("version")),
        "server_stopped" => text("reason").to_owned(),
        "ca_created" => text("fingerprint").to_owned(),
        "events_lost" => format!("{} events", entry.number("count").unwrap_or(0)),
        "audit_continued" => format!("after {}", text("after")),
        _ => String::new(),
    }
}

/// `caller_rules_changed`: "Caller rules changed".
fn deed(what: &str) -> String {
    let words = what.replace('_', " ");
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn state_of(entry: &Entry) -> (&'static str, &'static str) {
    match (entry.kind(), entry.text("outcome")) {
        ("request", _) if !entry.text("would_deny").is_empty() => ("Would be denied", "badge-warn"),
        ("request", "authenticated") => ("Signed", "badge-ok"),
        ("request", "passthrough") => ("Passed on", ""),
        ("request", "denied") => ("Denied", "badge-danger"),
        ("request", "blocked") => ("Blocked", "badge-danger"),
        ("request", "error") => ("Failed", "badge-warn"),
        ("credential_failed" | "auth_failed" | "config_refused" | "events_lost", _) => {
            ("Failed", "badge-danger")
        }
        ("tail_missing" | "torn_line", _) => ("Damaged", "badge-danger"),
        ("handshake_failed", _) => ("Failed", "badge-warn"),
        _ => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A member who may see one account and change one caller.
    fn sight() -> Sight {
        Sight {
            all: false,
            accounts: HashSet::from(["apn_mine".to_owned()]),
            callers: HashMap::from([("flow".to_owned(), "2026-02-01T00:00:00.000Z".to_owned())]),
            me: "(mem_me)".to_owned(),
        }
    }

    #[test]
    fn a_member_sees_what_concerns_their_accounts_callers_and_deeds_and_nothing_by_a_nickname() {
        let (old, new) = ("2026-01-01T00:00:00.000Z", "2026-03-01T00:00:00.000Z");
        let me = "member: me@acme.test (mem_me)";
        for (members, seen) in [
            (json!({ "type": "request", "account": "team", "account_id": "apn_mine" }), true),
            (json!({ "type": "request", "account": "team", "account_id": "apn_other" }), false),
            (json!({ "type": "request", "account": "team", "caller": "flow", "ts": new }), false),
            (json!({ "type": "request", "caller": "flow", "ts": new }), true),
            (json!({ "type": "request", "caller": "flow", "ts": old }), false),
            (json!({ "type": "credential_failed", "account": "team" }), false),
            (json!({ "type": "account_changed", "account_id": "apn_mine" }), true),
            (json!({ "type": "server_started" }), false),
            (json!({ "type": "administered", "what": "logged_in", "by": me }), true),
            (json!({ "type": "administered", "what": "logged_in", "by": "x (mem_x)" }), false),
            (json!({ "type": "administered", "what": "account_deleted", "by": me }), true),
            (json!({ "type": "administered", "what": "account_shared", "subject": "team" }), false),
            (
                json!({ "type": "administered", "what": "account_shared", "account_id": "apn_mine" }),
                true,
            ),
            (
                json!({ "type": "administered", "what": "account_bound", "subject": "flow",
                        "account_id": "apn_mine", "ts": new }),
                true,
            ),
            (
                json!({ "type": "administered", "what": "account_bound", "subject": "flow",
                        "account_id": "apn_other", "ts": new }),
                false,
            ),
            (
                json!({ "type": "administered", "what": "account_unbound", "subject": "flow",
                        "account_id": "apn_other", "ts": new, "by": me }),
                false,
            ),
            (
                json!({ "type": "administered", "what": "caller_changed", "subject": "flow", "ts": new }),
                true,
            ),
            (
                json!({ "type": "administered", "what": "caller_changed", "subject": "flow", "ts": old }),
                false,
            ),
        ] {
            let serde_json::Value::Object(members) = members else { panic!("an object") };
            let entry = Entry { seq: 1, members, line: String::new() };
            assert_eq!(sight().sees(&entry), seen, "{entry:?}");
            assert!(Sight { all: true, ..sight() }.sees(&entry));
        }
    }
}
