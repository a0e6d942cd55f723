//! *Callers*: who sends requests, with which accounts, and what they may.

mod attempt;
mod bind;
mod change;
mod howto;
mod new;
mod one;
mod rules;
mod suggest;
pub mod view;

use std::collections::HashMap;

use askama::Template;
use http::Response;

use super::Trouble;
use super::activity::history::{self, Sight};
use super::shell::{Moment, Paging, Section, Shell};
use super::visit::Visit;
use crate::forward::Body;
use crate::telemetry::trail::Search;
use view::{Ledger, Line};

const PER_PAGE: usize = 50;
/// How much of the audit a list looks at for who was there last.
const GLANCE_BYTES: u64 = 4 * 1024 * 1024;

/// No caller's name begins with `~`.
pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => list(visit).await,
        (["~new"], _) => new::create(visit).await,
        ([name], false) => one::show(visit, name).await,
        ([name, "try"], _) => attempt::answer(visit, name).await,
        ([name, "edit"], _) => change::edit(visit, name).await,
        ([name, "rotate"], _) => change::rotate(visit, name).await,
        ([name, "revoke"], _) => change::revoke(visit, name).await,
        ([name, "bind"], _) => bind::bind(visit, name).await,
        ([name, "bindings", account], _) => bind::rebind(visit, name, account).await,
        ([name, "unbind", account], _) => bind::unbind(visit, name, account).await,
        ([name, "swap", account], _) => bind::swap(visit, name, account).await,
        ([name, "rules", "~new"], _) => rules::add(visit, name).await,
        ([name, "rules", at], _) => rules::edit(visit, name, at).await,
        ([name, "rules", at, "remove"], true) => rules::remove(visit, name, at).await,
        ([name, "rules", at, "move"], true) => rules::shift(visit, name, at).await,
        ([name, "suggest"], _) => suggest::answer(visit, name).await,
        _ => Err(Trouble::NotFound),
    }
}

#[derive(Template)]
#[template(path = "workspace/callers.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    lines: Vec<Line>,
    paging: Paging,
    q: &'a str,
    /// There is no caller at all, whatever is searched for.
    none: bool,
}

async fn list(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let mut lines = ledger.lines();
    let none = lines.is_empty();
    let q = visit.query.text("q");
    lines.retain(|line| line.matches(q));
    let base: String =
        url::form_urlencoded::Serializer::new("/callers?".to_owned()).append_pair("q", q).finish();
    let (mut lines, paging) = Paging::cut(lines, PER_PAGE, visit.query.text("page"), &base);
    let mut used = last_used(visit, &ledger).await?;
    for line in &mut lines {
        line.last_used = used.remove(&line.name);
    }
    let shell = visit.shell(Section::Callers, "Callers");
    Ok(visit.page(&ListPage { shell, lines, paging, q, none }))
}

/// When each caller was last there, as far as the newest part of the audit tells.
async fn last_used(visit: &Visit<'_>, ledger: &Ledger) -> Result<HashMap<String, Moment>, Trouble> {
    let wanted = Search { want: usize::MAX, most_bytes: GLANCE_BYTES, ..Search::default() };
    let sight = Sight::of(ledger);
    let mut seen = HashMap::new();
    // Only the newest of each is kept.
    let mut met = std::collections::HashSet::new();
    let found = history::look(visit, wanted, move |entry| {
        let caller = entry.text("caller");
        entry.kind() == "request"
            && !met.contains(caller)
            && sight.sees(entry)
            && met.insert(caller.to_owned())
    });
    for entry in found.await?.unwrap_or_default().entries {
        let at = history::said(entry.text("ts"), ledger.now);
        seen.insert(entry.text("caller").to_owned(), at);
    }
    Ok(seen)
}
