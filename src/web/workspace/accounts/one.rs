//! One account, whole.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::shell::{Moment, Section, Shell};
use super::super::visit::Visit;
use super::view::{Book, Line};
use crate::config;
use crate::connect::Way;
use crate::forward::Body;
use crate::policy::access::{Operation, may};
use crate::vault::Account;

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
        Some(id) => visit.vault().oauth_client(id).await?.map(|client| client.details.name),
        None => None,
    };
    let nickname = line.nickname.clone();
    let page = AccountPage {
        shell: visit.shell(Section::Accounts, &nickname),
        way: match auth.map(Way::of) {
            Some(Way::Browser) => "OAuth, agreed to in the browser",
            Some(Way::Grant) => "OAuth, without a person",
            Some(Way::Keys) => "Keys",
            None => "unknown: the app's definition has gone",
        },
        client,
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

fn hosts(auth: &crate::catalog::Auth, account: &Account) -> Vec<String> {
    let origins = config::origins(auth, &account.fields).unwrap_or_default();
    let mut hosts: Vec<String> = origins.iter().map(|origin| origin.host.to_string()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}
