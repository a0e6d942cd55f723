//! *Accounts*: those that the member may see, and what may be done with each.

mod access;
mod change;
mod one;
mod view;

use std::collections::BTreeSet;

use askama::Template;
use http::Response;

use super::shell::{Paging, Section, Shell};
use super::visit::Visit;
use super::{Trouble, connect};
use crate::forward::Body;
use crate::policy::access::{Operation, may};
use crate::vault::{Account, Filter};
use view::{Book, Line};

const PER_PAGE: usize = 50;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => list(visit).await,
        ([id], false) => one::show(visit, id).await,
        ([id, "rename"], _) => change::rename(visit, id).await,
        ([id, "access"], _) => access::manage(visit, id).await,
        ([id, "give"], _) => access::give(visit, id).await,
        ([id, "reconnect"], _) => connect::reconnect(visit, id).await,
        ([id, "delete"], _) => change::delete(visit, id).await,
        ([id, "check"], true) => change::check(visit, id).await,
        _ => Err(Trouble::NotFound),
    }
}

#[derive(Template)]
#[template(path = "workspace/accounts.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    lines: Vec<Line>,
    paging: Paging,
    q: &'a str,
    show: Show,
    app: &'a str,
    /// Apps of the accounts that may be seen, for the filter.
    apps: Vec<(String, String)>,
    /// There is no account at all, whatever is searched for.
    none: bool,
}

/// Which of the accounts are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    All,
    Mine,
    Shared,
    Attention,
}

impl Show {
    const ALL: [Self; 4] = [Self::All, Self::Mine, Self::Shared, Self::Attention];

    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|show| show.name() == name).unwrap_or(Self::All)
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Mine => "mine",
            Self::Shared => "shared",
            Self::Attention => "attention",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::All => "All accounts",
            Self::Mine => "Mine",
            Self::Shared => "Shared with me",
            Self::Attention => "Need attention",
        }
    }

    fn admits(self, line: &Line) -> bool {
        match self {
            Self::All => true,
            Self::Mine => line.standing.owns,
            Self::Shared => line.standing.shared && !line.standing.owns,
            Self::Attention => !line.health.is_good(),
        }
    }
}

impl ListPage<'_> {
    fn choices(&self) -> &'static [Show] {
        &Show::ALL
    }
}

async fn list(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let book = Book::read(visit).await?;
    let filter = Filter { no_external_users: true, ..Filter::default() };
    let accounts = visit.vault().accounts(&filter).await?;
    let sees = |account: &Account| may(book.standing(account), Operation::See);
    let mut lines: Vec<Line> =
        accounts.iter().filter(|account| sees(account)).map(|account| book.line(account)).collect();
    lines.sort_by_key(|line| line.nickname.to_lowercase());
    let apps: BTreeSet<(String, String)> =
        lines.iter().map(|line| (line.app_name.clone(), line.app.clone())).collect();
    let (q, app) = (visit.query.text("q"), visit.query.text("app"));
    let show = Show::named(visit.query.text("show"));
    let none = lines.is_empty();
    lines
        .retain(|line| line.matches(q) && (app.is_empty() || line.app == app) && show.admits(line));
    let base: String = url::form_urlencoded::Serializer::new("/accounts?".to_owned())
        .append_pair("q", q)
        .append_pair("app", app)
        .append_pair("show", show.name())
        .finish();
    let (lines, paging) = Paging::cut(lines, PER_PAGE, visit.query.text("page"), &base);
    let page = ListPage {
        shell: visit.shell(Section::Accounts, "Accounts"),
        lines,
        paging,
        q,
        show,
        app,
        apps: apps.into_iter().collect(),
        none,
    };
    Ok(visit.page(&page))
}
