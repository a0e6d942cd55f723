//! One account, whole.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::activity::history::{self, Row, Sight};
use super::super::callers::view::Ledger;
use super::super::shell::{Moment, Section, Shell};
use super::super::visit::Visit;
use super::view::{Book, Line};
use crate::catalog::Auth;
use crate::config;
use crate::connect::Way;
use crate::forward::Body;
use crate::policy::access::{Operation, may};
use crate::telemetry::ACCOUNT_ID;
use crate::telemetry::trail::Search;
use crate::vault::{Account, OAuthClientDetails};

/// How much of the audit the page looks at.
const LOOK_BYTES: u64 = 16 * 1024 * 1024;
const LAST_REQUESTS: usize = 8;

#[derive(Template)]
#[template(path = "workspace/account.html")]
struct AccountPage<'a> {
    shell: Shell<'a>,
    line: Line,
    account: &'a Account,
    /// How it authenticates, in words.
    way: &'static str,
    client: Option<String>,
    hosts: Vec<String>,
    expires: Option<Moment>,
    refreshed: Option<Moment>,
    next_refresh: Option<Moment>,
    created: Moment,
    error_at: Option<Moment>,
    /// Asked for when it is connected, and not among those that were granted.
    missing: Vec<String>,
    /// Keys have none.
    has_scopes: bool,
    /// The last requests with it that the member may see.
    last: Vec<Row>,
    unaudited: bool,
    has_test: bool,
    may_manage: bool,
    may_reconnect: bool,
    may_delete: bool,
}

pub(super) async fn show(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let account = visit.account(id, Operation::See).await?;
    let book = Book::read(visit).await?;
    let line = book.line(&account);
    let (standing, now) = (line.standing, visit.now());
    let catalog = visit.workspace.keeper.catalog();
    let auth = catalog.app(account.app.as_str()).and_then(|app| app.auth(&account.auth));
    let health = &account.health;
    let client = match &account.oauth_client {
        Some(id) => visit.vault().oauth_client(id).await?.map(|client| client.details),
        None => None,
    };
    let missing = missing(auth, client.as_ref(), &account.scopes);
    let nickname = line.nickname.clone();
    let page = AccountPage {
        shell: visit.shell(Section::Accounts, &nickname),
        way: match auth.map(Way::of) {
            Some(Way::Browser) => "OAuth, agreed to in the browser",
            Some(Way::Grant) => "OAuth, without a person",
            Some(Way::Keys) => "Keys",
            None => "unknown: the app's definition has gone",
        },
        client: client.map(|client| client.name),
        missing,
        has_scopes: !account.scopes.is_empty() || auth.is_some_and(|auth| auth.oauth2.is_some()),
        last: last(visit, &account).await?,
        unaudited: visit.workspace.around.audit.is_none(),
        hosts: auth.map(|auth| hosts(auth, &account)).unwrap_or_default(),
        expires: Moment::maybe(health.expires_at, now),
        refreshed: Moment::maybe(health.last_refreshed_at, now),
        next_refresh: Moment::maybe(health.next_refresh_at.filter(|_| !health.dead), now),
        created: Moment::of(account.created_at, now),
        error_at: Moment::maybe(health.error.as_ref().map(|error| error.at), now),
        has_test: auth.is_some_and(|auth| auth.test.is_some()),
        may_manage: may(standing, Operation::ManageAccess),
        may_reconnect: may(standing, Operation::Reconnect),
        may_delete: may(standing, Operation::Delete),
        account: &account,
        line,
    };
    Ok(visit.page(&page))
}

/// Scopes that the OAuth client or the app's definition asks for and the provider did not tell to
/// have granted. Where it told of none, nothing is known.
fn missing(
    auth: Option<&Auth>,
    client: Option<&OAuthClientDetails>,
    granted: &[String],
) -> Vec<String> {
    let own = client.map(|client| &client.scopes).filter(|scopes| !scopes.is_empty());
    let usual = auth.and_then(|auth| auth.oauth2.as_ref()).map(|oauth2| &oauth2.default_scopes);
    let asked = own.or(usual).filter(|_| !granted.is_empty());
    let asked = asked.into_iter().flatten();
    asked.filter(|scope| !granted.contains(scope)).cloned().collect()
}

async fn last(visit: &Visit<'_>, account: &Account) -> Result<Vec<Row>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let id = account.id.to_string();
    let wanted = Search {
        members: vec![("type", "request".to_owned()), (ACCOUNT_ID, id.clone())],
        want: LAST_REQUESTS,
        most_bytes: LOOK_BYTES,
        ..Search::default()
    };
    let sight = Sight::of(&ledger);
    let found = history::look(visit, wanted, move |entry| {
        entry.kind() == "request" && entry.text(ACCOUNT_ID) == id && sight.sees(entry)
    });
    let found = found.await?.unwrap_or_default();
    Ok(found.entries.iter().map(|entry| Row::of(entry, &ledger)).collect())
}

fn hosts(auth: &Auth, account: &Account) -> Vec<String> {
    let origins = config::origins(auth, &account.fields).unwrap_or_default();
    let mut hosts: Vec<String> = origins.iter().map(|origin| origin.host.to_string()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}
