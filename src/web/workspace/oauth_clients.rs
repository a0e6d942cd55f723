//! *OAuth clients*: the applications that the operator registered with providers. Members see which
//! there are; owners and admins add, change and remove them. A secret goes in and never comes out.

use std::sync::Arc;

use askama::Template;
use http::Response;

use super::connect::{PickPage, found};
use super::shell::{Confirm, Section, Shell};
use super::visit::Visit;
use super::{Trouble, redirect_uri};
use crate::catalog::{App, Auth, AuthKind};
use crate::connect::Way;
use crate::credentials::Registered;
use crate::forward::Body;
use crate::ids::OAuthClientId;
use crate::inject::Properties;
use crate::vault::{Account, Filter, OAuthClientDetails, OAuthClientRecord};
use crate::web::html::monogram;

const MOST_FOUND: usize = 60;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    let administers = visit.member().role.administers();
    if matches!(path, [] | [""]) && !visit.is_post() {
        return list(visit).await;
    }
    if !administers {
        return Err(Trouble::Forbidden(
            "Owners and admins look after OAuth clients. Ask one of them.",
        ));
    }
    match (path, visit.is_post()) {
        (["new"], false) => Ok(pick(visit)),
        (["new", app], _) => new(visit, app).await,
        ([id], _) => change(visit, id).await,
        ([id, "remove"], _) => remove(visit, id).await,
        _ => Err(Trouble::NotFound),
    }
}

#[derive(Template)]
#[template(path = "workspace/oauth_clients.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    lines: Vec<Line>,
    administers: bool,
}

struct Line {
    id: String,
    name: String,
    app_name: String,
    letter: String,
    hue: u8,
    client_id: String,
    accounts: usize,
}

async fn list(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let catalog = visit.workspace.keeper.catalog();
    let mut lines = Vec::new();
    for client in visit.vault().oauth_clients().await? {
        let details = &client.details;
        let app = catalog.app(details.app.as_str());
        let app_name = app.map_or_else(|| details.app.to_string(), |app| app.name.clone());
        let (letter, hue) = monogram(&app_name);
        let filter = Filter { oauth_client: Some(client.id.clone()), ..Filter::default() };
        lines.push(Line {
            id: client.id.to_string(),
            name: details.name.clone(),
            app_name,
            letter,
            hue,
            client_id: details.client_id.clone(),
            accounts: usize::try_from(visit.vault().count_accounts(&filter).await?).unwrap_or(0),
        });
    }
    lines.sort_by(|a, b| (&a.app_name, &a.name).cmp(&(&b.app_name, &b.name)));
    Ok(visit.page(&ListPage {
        shell: visit.shell(Section::OAuthClients, "OAuth clients"),
        lines,
        administers: visit.member().role.administers(),
    }))
}

/// A way to authenticate for which one registers an application.
fn takes_client(auth: &&Auth) -> bool {
    Way::of(auth) != Way::Keys && auth.kind != AuthKind::Oauth2Password
}

fn pick(visit: &Visit<'_>) -> Response<Body> {
    let catalog = visit.workspace.keeper.catalog();
    let q = visit.query.text("q");
    let takes = |app: &&Arc<App>| app.auths.iter().any(|auth| takes_client(&auth));
    let all: Vec<_> = catalog.search(q).into_iter().filter(takes).collect();
    visit.page(&PickPage {
        shell: visit.shell(Section::OAuthClients, "Register an OAuth client"),
        lead: "For which app did you register an application with its provider?",
        base: "/oauth-clients/new",
        q,
        found: all.iter().take(MOST_FOUND).map(|app| found(app)).collect(),
        more: all.len().saturating_sub(MOST_FOUND),
        total: catalog.apps().filter(takes).count(),
    })
}

#[derive(Template)]
#[template(path = "workspace/oauth_client.html")]
struct ClientPage<'a> {
    shell: Shell<'a>,
    action: String,
    app_name: &'a str,
    app: &'a str,
    docs_url: Option<&'a str>,
    letter: String,
    hue: u8,
    /// To choose from, when it is new.
    auths: Vec<(String, String)>,
    entered: Entered,
    /// It has these already.
    has_secret: bool,
    has_key: bool,
    is_new: bool,
    /// Accounts that were connected with it.
    accounts: usize,
    redirect_uri: String,
    error: Option<String>,
}

/// What the form says, secrets left out.
#[derive(Default)]
struct Entered {
    auth: String,
    name: String,
    client_id: String,
    key_id: String,
    redirect_uri: String,
    scopes: String,
}

impl Entered {
    fn of_form(visit: &Visit<'_>) -> Self {
        let text = |name: &str| visit.form.text(name).to_owned();
        Self {
            auth: text("auth"),
            name: text("name"),
            client_id: text("client_id"),
            key_id: text("key_id"),
            redirect_uri: text("redirect_uri"),
            scopes: text("scopes"),
        }
    }

    fn of_record(record: &OAuthClientRecord) -> Self {
        let details = &record.details;
        Self {
            auth: details.auth.clone(),
            name: details.name.clone(),
            client_id: details.client_id.clone(),
            key_id: details.fields.get(Registered::KEY_ID).cloned().unwrap_or_default(),
            redirect_uri: details.redirect_uri.clone().unwrap_or_default(),
            scopes: details.scopes.join(" "),
        }
    }

    /// # Errors
    /// What is wrong, in words.
    fn finish(
        &self,
        app: &App,
        before: Option<&OAuthClientDetails>,
    ) -> Result<OAuthClientDetails, String> {
        let auth = before.map_or(&*self.auth, |before| &before.auth);
        let auth = app.auth(auth).filter(|auth| before.is_some() || takes_client(auth));
        let auth = auth.ok_or("Choose the way to authenticate that you registered for.")?;
        if self.client_id.is_empty() {
            return Err("Enter the client id that the provider gave you.".to_owned());
        }
        let redirect_uri = Some(self.redirect_uri.clone()).filter(|uri| !uri.is_empty());
        if let Some(uri) = &redirect_uri
            && url::Url::parse(uri).is_err()
        {
            return Err("The redirect URI is not a URL.".to_owned());
        }
        let mut fields = before.map(|before| before.fields.clone()).unwrap_or_default();
        match self.key_id.is_empty() {
            true => fields.remove(Registered::KEY_ID),
            false => fields.insert(Registered::KEY_ID.to_owned(), self.key_id.clone()),
        };
        let name = if self.name.is_empty() { app.id.to_string() } else { self.name.clone() };
        Ok(OAuthClientDetails {
            app: app.id.clone(),
            auth: auth.id.clone(),
            name: name.chars().take(200).collect(),
            client_id: self.client_id.clone(),
            redirect_uri,
            scopes: self.scopes.split_whitespace().map(str::to_owned).collect(),
            fields,
        })
    }
}

/// The secrets that were entered, into those that are there.
fn take_secrets(visit: &Visit<'_>, secrets: &mut Properties) {
    for name in [Registered::SECRET, Registered::PRIVATE_KEY] {
        if let Some(value) = visit.form.said(name) {
            secrets.insert(name.to_owned(), value.to_owned().into());
        }
    }
}

async fn new(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let app = visit.workspace.keeper.catalog().app(id).cloned().ok_or(Trouble::NotFound)?;
    let mut entered = Entered::default();
    let mut error = None;
    if visit.is_post() {
        entered = Entered::of_form(visit);
        match entered.finish(&app, None) {
            Ok(details) => {
                let mut secrets = Properties::new();
                take_secrets(visit, &mut secrets);
                let client = visit.vault().create_oauth_client(&details, &secrets).await?;
                visit.audit("oauth_client_added", &details.name, client.id.as_str());
                let text = format!("Accounts of {} can be connected by OAuth now.", app.name);
                return Ok(visit.done("/oauth-clients", text));
            }
            Err(why) => error = Some(why),
        }
    }
    let title = format!("OAuth client for {}", app.name);
    Ok(form(
        visit,
        &title,
        Shown { app: &app, entered, record: None, secrets: None, accounts: 0, error },
    ))
}

struct Shown<'a> {
    app: &'a App,
    entered: Entered,
    record: Option<&'a OAuthClientRecord>,
    secrets: Option<&'a Properties>,
    accounts: usize,
    error: Option<String>,
}

fn form(visit: &Visit<'_>, title: &str, shown: Shown<'_>) -> Response<Body> {
    let Shown { app, entered, record, secrets, accounts, error } = shown;
    let (letter, hue) = monogram(&app.name);
    let auths = app.auths.iter().filter(takes_client);
    let auths = auths.map(|auth| (auth.id.clone(), super::connect::way_label(auth)));
    let has = |name| secrets.is_some_and(|secrets| secrets.contains_key(name));
    let refused = error.is_some();
    let page = ClientPage {
        shell: visit.shell(Section::OAuthClients, title),
        action: match record {
            Some(record) => format!("/oauth-clients/{}", record.id),
            None => format!("/oauth-clients/new/{}", app.id),
        },
        app_name: &app.name,
        app: app.id.as_str(),
        docs_url: app.docs_url.as_deref(),
        letter,
        hue,
        auths: auths.collect(),
        entered,
        has_secret: has(Registered::SECRET),
        has_key: has(Registered::PRIVATE_KEY),
        is_new: record.is_none(),
        accounts,
        redirect_uri: redirect_uri(visit.workspace),
        error,
    };
    if refused { visit.refused(&page) } else { visit.page(&page) }
}

async fn find(
    visit: &Visit<'_>,
    id: &str,
) -> Result<(OAuthClientRecord, Properties, Vec<Account>), Trouble> {
    let id: OAuthClientId = id.parse().map_err(|_| Trouble::NotFound)?;
    let opened = visit.vault().open_oauth_client(&id).await?;
    let (record, secrets) = opened.ok_or(Trouble::NotFound)?;
    let filter = Filter { oauth_client: Some(id), ..Filter::default() };
    Ok((record, secrets, visit.vault().accounts(&filter).await?))
}

async fn change(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let (record, mut secrets, accounts) = find(visit, id).await?;
    let catalog = visit.workspace.keeper.catalog();
    let app = catalog.app(record.details.app.as_str()).cloned().ok_or(Trouble::NotFound)?;
    let mut entered = Entered::of_record(&record);
    let mut error = None;
    if visit.is_post() {
        entered = Entered::of_form(visit);
        match entered.finish(&app, Some(&record.details)) {
            Ok(details) => {
                take_secrets(visit, &mut secrets);
                visit.vault().update_oauth_client(&record.id, &details, Some(&secrets)).await?;
                visit.audit("oauth_client_updated", &details.name, record.id.as_str());
                let text = format!("{} is saved; it is in use within a second.", details.name);
                return Ok(visit.done("/oauth-clients", text));
            }
            Err(why) => error = Some(why),
        }
    }
    let shown = Shown {
        app: &app,
        entered,
        record: Some(&record),
        secrets: Some(&secrets),
        accounts: accounts.len(),
        error,
    };
    Ok(form(visit, &record.details.name, shown))
}

async fn remove(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let (record, _, accounts) = find(visit, id).await?;
    let name = &record.details.name;
    let back = format!("/oauth-clients/{id}");
    if !accounts.is_empty() {
        let why = format!(
            "{name} renews the tokens of {}. Delete these accounts first, or reconnect them with \
             another OAuth client.",
            super::counted(accounts.len(), "account")
        );
        return Err(Trouble::Bad(why));
    }
    if visit.is_post() {
        visit.vault().delete_oauth_client(&record.id).await?;
        visit.audit("oauth_client_removed", name, record.id.as_str());
        return Ok(visit.done("/oauth-clients", format!("{name} is removed.")));
    }
    let title = format!("Remove {name}?");
    let text = "Its secret is deleted here. No account was connected with it, so nothing stops \
                working; the application at the provider stays.";
    let action = format!("/oauth-clients/{id}/remove");
    Ok(visit.page(&Confirm {
        shell: visit.shell(Section::OAuthClients, &title),
        text,
        stops: &[],
        action: &action,
        fields: &[],
        tick: None,
        label: "Remove",
        back: &back,
        error: None,
    }))
}
