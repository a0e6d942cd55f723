//! Reading the audit for a member: who may see which entry, and how one is said in a line.
//!
//! Owners and admins see everything. A member sees what happened with accounts that they may see,
//! with callers that they may change, and what they did themselves.

use std::collections::{HashMap, HashSet};
use std::io;

use super::super::Trouble;
use super::super::callers::view::{Face, Ledger};
use super::super::shell::Moment;
use super::super::visit::Visit;
use crate::clock::rfc3339;
use crate::policy::access::{CallerOperation, Operation, may};
use crate::telemetry::trail::{self, Entry, Found, Search};

/// What a member may see of the audit.
pub struct Sight {
    all: bool,
    /// By nickname, since when they have it: what an earlier account of that name did is another's.
    accounts: HashMap<String, String>,
    callers: HashSet<String>,
    /// As `by` ends where they did something.
    me: String,
}

impl Sight {
    pub fn of(ledger: &Ledger) -> Self {
        let seen = ledger.accounts.values();
        let seen = seen.filter(|account| may(ledger.standing(account), Operation::See));
        let since = seen.map(|account| (account.nickname.to_string(), rfc3339(account.created_at)));
        let callers = ledger.callers.iter().map(|caller| &caller.name);
        let callers = callers.filter(|name| ledger.may(name, CallerOperation::Change));
        Self {
            all: ledger.me.role.administers(),
            accounts: since.collect(),
            callers: callers.map(ToString::to_string).collect(),
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
            | "account_changed" => match entry.text("account") {
                "" => self.callers.contains(entry.text("caller")),
                account => self.sees_account(account, entry),
            },
            _ => false,
        }
    }

    fn sees_deed(&self, entry: &Entry) -> bool {
        let (what, subject) = (entry.text("what"), entry.text("subject"));
        let theirs = entry.text("by").ends_with(&self.me);
        // A caller's accounts are named in the detail of what was bound to it.
        let about_accounts =
            matches!(what, "account_bound" | "account_unbound" | "account_swapped");
        theirs
            || match what.split_once('_') {
                _ if about_accounts => self.callers.contains(subject),
                Some(("account", _)) => self.sees_account(subject, entry),
                Some(("caller", _)) => self.callers.contains(subject),
                _ => false,
            }
    }

    fn sees_account(&self, nickname: &str, entry: &Entry) -> bool {
        let since = self.accounts.get(nickname);
        since.is_some_and(|since| entry.text("ts") >= since.as_str())
    }
}

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
            caller: entry.text("caller").to_owned(),
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
pub const KINDS: [(&str, &str); 17] = [
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
