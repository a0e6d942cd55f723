//! *Activity*: the audit, newest first, filtered, a page at a time; one entry whole; and the proof
//! that nobody altered it.

mod case;
mod check;
pub mod history;
mod one;
mod proof;

use std::collections::BTreeSet;
use std::time::SystemTime;

use askama::Template;
use http::Response;

use super::Trouble;
use super::callers::view::Ledger;
use super::form::Form;
use super::shell::{Section, Shell};
use super::visit::Visit;
use crate::forward::Body;
use crate::policy::access::Operation;
use crate::telemetry::ACCOUNT_ID;
use crate::telemetry::trail::{Entry, Found, Rest, Search};
pub use check::Checker;
use history::{KINDS, Row, Sight, look, moment};
use proof::Proof;

const PER_PAGE: usize = 50;
/// How much one page looks through before it asks whether to go on.
const LOOK_BYTES: u64 = 32 * 1024 * 1024;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => list(visit).await,
        (["verify"], false) => proof::show(visit),
        (["verify"], true) => proof::begin(visit).await,
        ([seq], false) => one::show(visit, seq).await,
        _ => Err(Trouble::NotFound),
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
struct Filters {
    q: String,
    kind: String,
    /// The caller.
    who: String,
    account: String,
    /// Set by links from an account's page: nicknames change.
    account_id: String,
    app: String,
    outcome: String,
    method: String,
    from: String,
    to: String,
}

const OUTCOMES: [(&str, &str); 6] = [
    ("authenticated", "Signed"),
    ("passthrough", "Passed on"),
    ("denied", "Denied"),
    ("would_deny", "Would be denied"),
    ("blocked", "Blocked"),
    ("error", "Failed"),
];

impl Filters {
    fn of(query: &Form) -> Self {
        let text = |name: &str| query.text(name).to_owned();
        Self {
            q: text("q"),
            kind: text("kind"),
            who: text("caller"),
            account: text("account"),
            account_id: text(ACCOUNT_ID),
            app: text("app"),
            outcome: text("outcome"),
            method: text("method").to_uppercase(),
            from: text("from"),
            to: text("to"),
        }
    }

    fn pairs(&self) -> [(&'static str, &str); 10] {
        [
            ("q", &self.q),
            ("kind", &self.kind),
            ("caller", &self.who),
            ("account", &self.account),
            (ACCOUNT_ID, &self.account_id),
            ("app", &self.app),
            ("outcome", &self.outcome),
            ("method", &self.method),
            ("from", &self.from),
            ("to", &self.to),
        ]
    }

    fn are_empty(&self) -> bool {
        self.pairs().iter().all(|(_, value)| value.is_empty())
    }

    /// Whether those are set that stand behind "More filters".
    fn go_deep(&self) -> bool {
        [&self.app, &self.account, &self.account_id, &self.method, &self.from, &self.to]
            .iter()
            .any(|f| !f.is_empty())
    }

    /// Members that a line must have as they stand; the rest is asked of the parsed entry.
    fn members(&self) -> Vec<(&'static str, String)> {
        let outcome = if self.outcome == WOULD_DENY { "" } else { &self.outcome };
        let all = [
            ("type", &*self.kind),
            ("caller", &self.who),
            ("account", &self.account),
            (ACCOUNT_ID, &self.account_id),
            ("app", &self.app),
            ("outcome", outcome),
            ("method", &self.method),
        ];
        let said = all.into_iter().filter(|(_, value)| !value.is_empty());
        said.map(|(key, value)| (key, value.to_owned())).collect()
    }

    fn admit(&self, entry: &Entry) -> bool {
        let members = self.members();
        let exact = members.iter().all(|(key, value)| entry.text(key) == value);
        let would = self.outcome != WOULD_DENY || !entry.text("would_deny").is_empty();
        exact && would && self.words_fit(entry)
    }

    fn words_fit(&self, entry: &Entry) -> bool {
        if self.q.is_empty() {
            return true;
        }
        let keys = ["method", "host", "path", "what", "subject", "detail", "by", "error", "reason"];
        let text = keys.map(|key| entry.text(key)).join("\n").to_lowercase();
        self.q.split_whitespace().all(|word| text.contains(&word.to_lowercase()))
    }

    fn address(&self, before: Option<u64>) -> String {
        let path = "/activity?".to_owned();
        let start = path.len();
        let mut address = url::form_urlencoded::Serializer::for_suffix(path, start);
        for (name, value) in self.pairs().into_iter().filter(|(_, value)| !value.is_empty()) {
            address.append_pair(name, value);
        }
        if let Some(before) = before {
            address.append_pair("before", &before.to_string());
        }
        address.finish()
    }
}

const WOULD_DENY: &str = "would_deny";

#[derive(Template)]
#[template(path = "workspace/activity.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    filters: &'a Filters,
    rows: Vec<Row>,
    callers: Vec<String>,
    /// Nickname and id of those that may be seen.
    accounts: Vec<(String, String)>,
    apps: Vec<(String, String)>,
    /// Nothing is recorded.
    unaudited: bool,
    /// A field that was not understood.
    error: Option<&'static str>,
    newest: Option<String>,
    older: Option<String>,
    further: Option<Further>,
    all: bool,
    proof: Proof,
}

/// Where a search stopped before it had found a page full.
struct Further {
    href: String,
    back_to: super::shell::Moment,
}

impl ListPage<'_> {
    fn kinds(&self) -> &'static [(&'static str, &'static str)] {
        &KINDS
    }

    fn outcomes(&self) -> &'static [(&'static str, &'static str)] {
        &OUTCOMES
    }
}

async fn list(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let filters = Filters::of(&visit.query);
    let before: Option<u64> = visit.query.text("before").parse().ok();
    let (since, until) = (instant(&filters.from), instant(&filters.to));
    let error = (since.is_err() || until.is_err())
        .then_some("A moment is written as 2026-01-31T14:00, in UTC. It was left out.");
    let search = Search {
        before,
        since: since.unwrap_or_default(),
        until: until.unwrap_or_default(),
        members: filters.members(),
        want: PER_PAGE,
        most_bytes: LOOK_BYTES,
    };
    let sight = Sight::of(&ledger);
    let asked = filters.clone();
    let found = look(visit, search, move |entry| asked.admit(entry) && sight.sees(entry)).await?;
    let unaudited = found.is_none();
    let Found { entries, rest } = found.unwrap_or_default();
    let (older, further) = match rest {
        Rest::Nothing => (None, None),
        Rest::Before(seq) => (Some(filters.address(Some(seq))), None),
        Rest::Unread { before, older_than } => {
            let href = filters.address(Some(before));
            let back_to = history::said(&older_than, ledger.now);
            (None, Some(Further { href, back_to }))
        }
    };
    let page = ListPage {
        shell: visit.shell(Section::Activity, "Activity"),
        rows: entries.iter().map(|entry| Row::of(entry, &ledger)).collect(),
        callers: ledger.lines().into_iter().map(|line| line.name).collect(),
        accounts: account_names(&ledger),
        apps: apps(&ledger),
        unaudited,
        error,
        newest: before.map(|_| filters.address(None)),
        older,
        further,
        all: ledger.me.role.administers(),
        proof: Proof::of(visit),
        filters: &filters,
    };
    Ok(visit.page(&page))
}

/// As a browser's field for a moment writes it, or whole.
fn instant(text: &str) -> Result<Option<SystemTime>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    let candidates =
        [text.to_owned(), format!("{text}:00Z"), format!("{text}Z"), format!("{text}T00:00:00Z")];
    candidates.iter().find_map(|text| moment(text)).map(Some).ok_or(())
}

fn account_names(ledger: &Ledger) -> Vec<(String, String)> {
    let seen = ledger.accounts.values();
    let seen = seen.filter(|account| ledger.may_account(&account.id, Operation::See));
    let mut names: Vec<(String, String)> =
        seen.map(|account| (account.nickname.to_string(), account.id.to_string())).collect();
    names.sort_by_key(|(name, _)| name.to_lowercase());
    names
}

/// Apps that are in use, by name.
fn apps(ledger: &Ledger) -> Vec<(String, String)> {
    let declared = ledger.world.callers().flat_map(|caller| &caller.policy.bindings);
    let ids: BTreeSet<String> = ledger
        .accounts
        .values()
        .map(|account| account.app.to_string())
        .chain(declared.map(|binding| binding.app.to_string()))
        .collect();
    let mut apps: Vec<(String, String)> =
        ids.into_iter().map(|id| (ledger.app_name(&id), id)).collect();
    apps.sort_by_key(|(name, _)| name.to_lowercase());
    apps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_taken_as_a_browser_or_the_audit_writes_it() {
        let noon = moment("2026-01-31T12:00:00Z");
        assert!(noon.is_some());
        for text in ["2026-01-31T12:00", "2026-01-31T12:00:00", "2026-01-31T12:00:00.000Z"] {
            assert_eq!(instant(text), Ok(noon), "{text}");
        }
        assert_eq!(instant(""), Ok(None));
        assert!(instant("2026-01-31").is_ok() && instant("yesterday").is_err());
    }

    #[test]
    fn filters_survive_in_the_address_of_the_next_page() {
        let query = b"q=a%26b&caller=flow&method=post&before=7";
        let filters = Filters::of(&Form::parse(query));
        let address = filters.address(Some(3));
        assert_eq!(address, "/activity?q=a%26b&caller=flow&method=POST&before=3");
        assert!(!filters.are_empty() && Filters::default().are_empty());
    }
}
