//! One app, whole: what it is, where its credentials go, and its definition.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::attached::{self, Attached};
use super::super::shell::{Section, Shell};
use super::super::visit::Visit;
use super::shelf::{Entry, way};
use crate::catalog::samples::{Language, first_request};
use crate::catalog::{App, Auth, Card, Catalog, Field};
use crate::forward::Body;
use crate::policy::access::{Operation, may};
use crate::vault::{Account, AppDefinition, Filter, Shares};
use crate::web::html::monogram;
use crate::web::words::label;

#[derive(Template)]
#[template(path = "workspace/app.html")]
struct AppPage<'a> {
    shell: Shell<'a>,
    app: &'a App,
    entry: Entry,
    categories: Vec<String>,
    ways: Vec<WayView<'a>>,
    accounts: Vec<AccountView>,
    definition: Option<String>,
    codes: [(&'static str, &'static str, String); 3],
    may_change: bool,
}

/// A way to authenticate, in words.
struct WayView<'a> {
    auth: &'a Auth,
    label: &'static str,
    hosts: Vec<String>,
    base: &'a str,
    fields: Vec<&'a Field>,
    scopes: Vec<String>,
    attached: Vec<Attached>,
    test: Option<(String, &'a str)>,
}

struct AccountView {
    id: String,
    nickname: String,
    identity: String,
    letter: String,
    hue: u8,
    may_use: bool,
}

pub(super) async fn show(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let catalog = visit.workspace.keeper.catalog();
    let app = catalog.app(id).ok_or(Trouble::NotFound)?;
    let own = visit.vault().app_definition(&app.id).await?;
    let page = AppPage {
        shell: visit.shell(Section::Apps, &app.name),
        entry: Entry::of(&Card::of(app), own.is_some()),
        categories: app.categories.iter().map(|name| label(name)).collect(),
        ways: app.auths.iter().map(WayView::of).collect(),
        accounts: accounts(visit, app).await?,
        codes: codes(app),
        may_change: visit.member().role.administers(),
        definition: definition(app, own),
        app,
    };
    Ok(visit.page(&page))
}

impl<'a> WayView<'a> {
    fn of(auth: &'a Auth) -> Self {
        let mut scopes: Vec<String> = Vec::new();
        if let Some(oauth2) = &auth.oauth2 {
            scopes.extend(oauth2.default_scopes.iter().chain(&oauth2.suggested_scopes).cloned());
        }
        scopes.sort();
        scopes.dedup();
        Self {
            label: way(auth.kind),
            hosts: auth.hosts.iter().map(ToString::to_string).collect(),
            base: auth.base_url.source(),
            fields: auth.fields.iter().filter(|field| field.is_asked()).collect(),
            scopes,
            attached: attached::usual(auth),
            test: auth.test.as_ref().map(|test| (test.method.to_string(), test.url.source())),
            auth,
        }
    }
}

/// Those of the app that the member may see.
async fn accounts(visit: &Visit<'_>, app: &App) -> Result<Vec<AccountView>, Trouble> {
    let filter = Filter { app: Some(app.id.clone()), no_external_users: true, ..Filter::default() };
    let shares: Shares = visit.vault().shares().await?.into_iter().collect();
    let all = visit.vault().accounts(&filter).await?;
    let view = |account: &Account| {
        let standing = shares.standing(visit.member(), account);
        let (letter, hue) = monogram(&app.name);
        may(standing, Operation::See).then(|| AccountView {
            id: account.id.to_string(),
            nickname: account.nickname.to_string(),
            identity: account.identity.clone().unwrap_or_default(),
            letter,
            hue,
            may_use: may(standing, Operation::Bind),
        })
    };
    Ok(all.iter().filter_map(view).collect())
}

/// The text that the app was read from: the store's, the binary's, or a file's of this server.
fn definition(app: &App, own: Option<AppDefinition>) -> Option<String> {
    if let Some(own) = own {
        return Some(own.definition);
    }
    let embedded = Catalog::embedded_text(app.id.as_str()).filter(|(file, _)| *file == app.file);
    embedded.map(|(_, text)| text).or_else(|| std::fs::read_to_string(&app.file).ok())
}

/// A first request, through the proxy and without a secret.
fn codes(app: &App) -> [(&'static str, &'static str, String); 3] {
    Language::ALL
        .map(|language| (language.as_str(), language.label(), first_request(app, language)))
}
