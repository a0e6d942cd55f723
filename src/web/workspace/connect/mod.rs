//! Connecting an account of the member's own, and reconnecting one: a form for keys, a consent at
//! the provider for OAuth. How a consent goes its way and comes back is `web::flow`'s; here is what
//! is a member's: whose the account is, what it is called, and who may reconnect it.

mod access;
mod arrival;
mod device;
mod pick;

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use http::{Response, StatusCode};

use access::Access;
pub use arrival::OfMember;
pub(super) use arrival::{finish, is_our_callback};
pub(super) use pick::{PickPage, found};

use super::form::Form;
use super::shell::{Section, Shell};
use super::visit::{Flash, Visit};
use super::{Trouble, Workspace, redirect_uri};
use crate::catalog::{App, Auth};
use crate::connect::{self, Checked, Connected, SameIdentity, Way, Wish};
use crate::forward::Body;
use crate::ids::{AccountId, OAuthClientId};
use crate::policy::access::Operation;
use crate::secret::Secret;
use crate::vault::{self, Account, OAuthClientRecord, Owner};
use crate::web::fields::{self, Input, Wrong};
use crate::web::flow::{Departure, Flows, Purpose, provider_of};
use crate::web::html::{Policy, monogram};
use crate::web::words::capitalised;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => Ok(pick::pick(visit)),
        (["code", token], _) => device::page(visit, token).await,
        ([app], _) => {
            let catalog = visit.workspace.keeper.catalog();
            let app = catalog.app(app).cloned().ok_or(Trouble::NotFound)?;
            connect(visit, Target { app, reconnect: None }).await
        }
        _ => Err(Trouble::NotFound),
    }
}

pub(super) async fn reconnect(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let account = visit.account(id, Operation::Reconnect).await?;
    let catalog = visit.workspace.keeper.catalog();
    let app = catalog.app(account.app.as_str()).cloned();
    let app =
        app.ok_or_else(|| Trouble::Bad(format!("There is no app {} any more.", account.app)))?;
    connect(visit, Target { app, reconnect: Some(account) }).await
}

/// What is to be connected.
struct Target {
    app: Arc<App>,
    reconnect: Option<Account>,
}

impl Target {
    fn auth(&self, asked: &str) -> Result<&Auth, Trouble> {
        match (&self.reconnect, asked) {
            (Some(account), _) => self.app.auth(&account.auth).ok_or(Trouble::NotFound),
            (None, "") => self.app.auths.first().ok_or(Trouble::NotFound),
            (None, id) => self.app.auth(id).ok_or(Trouble::NotFound),
        }
    }

    fn address(&self) -> String {
        match &self.reconnect {
            Some(account) => format!("/accounts/{}/reconnect", account.id),
            None => format!("/accounts/connect/{}", self.app.id),
        }
    }

    /// What the account has of its fields. That a secret is there is all that a form knows of it.
    fn held(&self, auth: &Auth) -> BTreeMap<String, Secret> {
        let Some(account) = &self.reconnect else { return BTreeMap::new() };
        let plain = account.fields.iter();
        let plain = plain.map(|(name, value)| (name.clone(), Secret::from(value.clone())));
        let secrets = auth.fields.iter().filter(|field| field.secret);
        let secrets = secrets.map(|field| (field.name.clone(), Secret::from(String::new())));
        plain.chain(secrets).collect()
    }
}

#[derive(Template)]
#[template(path = "workspace/connect.html")]
struct ConnectPage<'a> {
    shell: Shell<'a>,
    app: &'a App,
    letter: String,
    hue: u8,
    auth: &'a Auth,
    by_browser: bool,
    /// A code may be entered on another device, and nothing else can be done.
    by_code: bool,
    only_by_code: bool,
    access: Option<Access>,
    needs_client: bool,
    action: String,
    account: Option<&'a Account>,
    inputs: Vec<Input>,
    clients: Vec<OAuthClientRecord>,
    client: &'a str,
    nickname: &'a str,
    redirect_uri: String,
    wrong: Wrong,
    /// The test request was refused: whoever knows better may store the keys all the same.
    may_insist: bool,
}

async fn connect(visit: &Visit<'_>, target: Target) -> Result<Response<Body>, Trouble> {
    let form = if visit.is_post() { &visit.form } else { &visit.query };
    let auth = target.auth(form.text("auth"))?;
    let clients = clients_of(visit, &target, auth).await?;
    let attempt = Attempt { visit, target: &target, auth, clients: &clients, form };
    if !visit.is_post() {
        return Ok(attempt.page(Wrong::default(), false));
    }
    match attempt.make().await {
        Ok(response) => Ok(response),
        Err(Failed::Form { wrong, may_insist }) => Ok(attempt.page(wrong, may_insist)),
        Err(Failed::End(trouble)) => Err(trouble),
    }
}

/// Errors begin with a small letter, because they stand behind a colon elsewhere.
fn sentence(error: &connect::Error) -> String {
    capitalised(&error.to_string())
}

async fn clients_of(
    visit: &Visit<'_>,
    target: &Target,
    auth: &Auth,
) -> Result<Vec<OAuthClientRecord>, Trouble> {
    let mut clients = visit.vault().oauth_clients().await?;
    clients.retain(|client| client.details.app == target.app.id && client.details.auth == auth.id);
    Ok(clients)
}

/// One sending of the form.
struct Attempt<'a> {
    visit: &'a Visit<'a>,
    target: &'a Target,
    auth: &'a Auth,
    clients: &'a [OAuthClientRecord],
    form: &'a Form,
}

/// Why a form led to nothing: it may be mended, or it is the end.
enum Failed {
    Form { wrong: Wrong, may_insist: bool },
    End(Trouble),
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Connect(error) => Self::mendable(Wrong::whole(sentence(&error))),
            Trouble::Bad(text) | Trouble::Store(vault::Error::Conflict(text)) => {
                Self::mendable(Wrong::whole(text))
            }
            other => Self::End(other),
        }
    }
}

impl Failed {
    fn mendable(wrong: Wrong) -> Self {
        Self::Form { wrong, may_insist: false }
    }

    fn of(auth: &Auth, error: connect::Error) -> Self {
        match fields::of_error(auth, &error) {
            Some(wrong) => Self::mendable(wrong),
            None => Trouble::from(error).into(),
        }
    }
}

impl Attempt<'_> {
    fn page(&self, wrong: Wrong, may_insist: bool) -> Response<Body> {
        let Self { visit, target, auth, clients, form } = *self;
        let (letter, hue) = monogram(&target.app.name);
        let title = match &target.reconnect {
            Some(account) => format!("Reconnect {}", account.nickname),
            None => format!("Connect {}", target.app.name),
        };
        let section = if target.reconnect.is_some() { Section::Accounts } else { Section::Connect };
        let mut entered = target.held(auth);
        entered.extend(self.entered().unwrap_or_default());
        let status =
            if wrong.is_nothing() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        let page = ConnectPage {
            shell: visit.shell(section, &title),
            app: &target.app,
            letter,
            hue,
            auth,
            by_browser: Way::of(auth) == Way::Browser,
            by_code: by_code(auth),
            only_by_code: only_by_code(auth),
            access: access::offered(auth, self.fitting(), target.reconnect.as_ref(), form),
            needs_client: Way::of(auth) != Way::Keys && clients.is_empty(),
            action: target.address(),
            account: target.reconnect.as_ref(),
            inputs: fields::inputs(auth, &entered, None, &wrong),
            clients: clients.to_vec(),
            client: form.text("client"),
            nickname: form.text("nickname"),
            redirect_uri: redirect_uri(visit.workspace),
            wrong,
            may_insist,
        };
        // The form leads here, from here to the provider, and from there wherever it asks people
        // to log in.
        let leads = ["https:".to_owned(), "http://127.0.0.1:*".to_owned()];
        let leads = leads.into_iter().chain(provider_of(auth));
        let forms = if page.by_browser { leads.collect() } else { Vec::new() };
        visit.page_with(status, &page, Policy { forms, ..Policy::default() })
    }

    fn entered(&self) -> Result<BTreeMap<String, Secret>, Wrong> {
        fields::entered(self.auth, |name| self.form.said(name))
    }

    async fn make(&self) -> Result<Response<Body>, Failed> {
        let wish = self.wish().await?;
        let connector = &self.visit.workspace.connector;
        let failed = |error| Failed::of(self.auth, error);
        match Way::of(self.auth) {
            Way::Keys => {
                self.try_keys(&wish).await?;
                let connected = connector.keys(&wish).await.map_err(failed)?;
                Ok(done(self.visit, &wish, &connected))
            }
            Way::Grant => {
                let connected = connector.obtain(&wish).await.map_err(failed)?;
                Ok(done(self.visit, &wish, &connected))
            }
            Way::Browser if self.form.text("by") == "code" || only_by_code(self.auth) => {
                device::begin(self.visit, &wish).await.map_err(failed)
            }
            Way::Browser => self.leave(&wish).await.map_err(failed),
        }
    }

    async fn wish(&self) -> Result<Wish, Failed> {
        let keeper = &self.visit.workspace.keeper;
        let entered = self.entered().map_err(Failed::mendable)?;
        let client = self.client()?;
        if let Some(account) = &self.target.reconnect {
            let again = connect::again(keeper, account, SameIdentity::IfKnown).await;
            let mut wish = again.map_err(Trouble::from)?;
            wish.entered.extend(entered);
            if Way::of(self.auth) == Way::Browser {
                wish.scopes = self.scopes()?;
            }
            if let Some(id) = client {
                wish.client = keeper.client(id).await.map_err(Trouble::from)?;
            }
            return Ok(wish);
        }
        let nickname = self.form.said("nickname").map(str::parse::<AccountId>).transpose();
        let client = match client {
            Some(id) => keeper.client(id).await.map_err(Trouble::from)?,
            None => None,
        };
        Ok(Wish {
            app: self.target.app.clone(),
            auth: self.auth.id.clone(),
            client,
            preset: None,
            entered,
            scopes: self.scopes()?,
            owner: Owner::Member(self.visit.member().id.clone()),
            nickname: nickname.map_err(|invalid| Trouble::Bad(invalid.to_string()))?,
            reconnect: None,
            same_identity: SameIdentity::IfKnown,
        })
    }

    /// The client whose scopes are the usual ones: the one that was chosen, else the account's, else
    /// the first.
    fn fitting(&self) -> Option<&OAuthClientRecord> {
        let account = self.target.reconnect.as_ref();
        let before = account.and_then(|account| Some(account.oauth_client.as_ref()?.as_str()));
        let named = self.form.said("client").or(before);
        let named = self.clients.iter().find(|client| Some(client.id.as_str()) == named);
        named.or_else(|| self.clients.first())
    }

    fn scopes(&self) -> Result<Vec<String>, Trouble> {
        match Way::of(self.auth) {
            Way::Browser => {
                let account = self.target.reconnect.as_ref();
                access::chosen(self.auth, self.fitting(), account, self.form)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The OAuth client that was chosen, or the only one there is.
    fn client(&self) -> Result<Option<&OAuthClientId>, Trouble> {
        let chosen = self.form.said("client");
        let fits =
            |client: &&OAuthClientRecord| chosen.is_none_or(|chosen| client.id.as_str() == chosen);
        let reconnects = self.target.reconnect.is_some();
        match (Way::of(self.auth), self.clients.iter().find(fits), chosen) {
            (Way::Keys, ..) => Ok(None),
            (_, Some(_), None) if reconnects => Ok(None),
            (_, Some(client), _) => Ok(Some(&client.id)),
            (_, None, Some(_)) => Err(Trouble::Bad("That OAuth client has gone.".to_owned())),
            (_, None, None) => Ok(None),
        }
    }

    /// Keys that do not work are better found out now.
    async fn try_keys(&self, wish: &Wish) -> Result<(), Failed> {
        if self.auth.test.is_none() || self.form.has("insist") {
            return Ok(());
        }
        let trial = self.visit.workspace.connector.trial(wish).await;
        let slot = trial.map_err(|error| Failed::of(self.auth, error))?;
        let checked = connect::check(&self.visit.workspace.forwarder.upstream, &slot).await;
        if !checked.is_bad() {
            return Ok(());
        }
        let app = &self.target.app.name;
        let why = match &checked {
            Checked::Refused { .. } => {
                format!("{app} did not take these values. {}", told(&checked))
            }
            _ => format!("These values could not be tried. {}", told(&checked)),
        };
        Err(Failed::Form { wrong: Wrong::whole(why), may_insist: true })
    }

    /// Off to the provider.
    async fn leave(&self, wish: &Wish) -> Result<Response<Body>, connect::Error> {
        let workspace = self.visit.workspace;
        let purpose = Purpose::Member(OfMember::of(self.visit.member(), wish));
        let redirect_uri = redirect_uri(workspace);
        let departure = Departure { wish, purpose, token: None, redirect_uri };
        workspace.flows().depart(&self.visit.headers, departure).await
    }
}

impl Workspace {
    fn flows(&self) -> Flows<'_> {
        Flows { keeper: &self.keeper, connector: &self.connector }
    }
}

fn by_code(auth: &Auth) -> bool {
    let oauth2 = auth.oauth2.as_ref();
    oauth2.is_some_and(|oauth2| oauth2.device_authorization_url.is_some())
}

fn only_by_code(auth: &Auth) -> bool {
    let oauth2 = auth.oauth2.as_ref();
    by_code(auth) && oauth2.is_some_and(|oauth2| oauth2.authorize_url.is_none())
}

fn done(visit: &Visit<'_>, wish: &Wish, connected: &Connected) -> Response<Body> {
    let account = &connected.account;
    let (what, said) = match wish.reconnect {
        Some(_) => ("account_reconnected", "is connected again"),
        None => ("account_connected", "is connected"),
    };
    visit.audit_of(&account.id, what, account.nickname.as_str(), account.id.as_str());
    let text = format!("{} {said} as “{}”.", wish.app.name, account.nickname);
    let flash = match connected.warning {
        Some(warning) => Flash::warning(format!("{text} But {warning}.")),
        None => Flash::done(text),
    };
    visit.go(&format!("/accounts/{}", account.id), Some(flash))
}

/// Does a stored account work?
pub(super) async fn check_account(workspace: &Workspace, account: &Account) -> Checked {
    match workspace.keeper.slot(account).await {
        Ok(slot) => connect::check(&workspace.forwarder.upstream, &slot).await,
        Err(error) => Checked::Unavailable { why: error.to_string() },
    }
}

/// What a check found, as a sentence.
pub(super) fn told(checked: &Checked) -> String {
    match checked {
        Checked::Works { status } => format!("It works: the test request was answered {status}."),
        Checked::Refused { status, why, said } if said.is_empty() => {
            format!("The test request was answered {status}: {why}.")
        }
        Checked::Refused { status, why, said } => {
            format!("The test request was answered {status}: {why}. It said: {said}")
        }
        Checked::Unavailable { why } => format!("There is no credential to try: {why}."),
        Checked::Unreachable { why } => format!("The service was not reached: {why}."),
        Checked::NotOffered => "This app has no test request.".to_owned(),
    }
}

/// A way to authenticate, as a tab says it.
pub(super) fn way_label(auth: &Auth) -> String {
    let id = auth.id.replace(['_', '-'], " ").replace("api", "API");
    match Way::of(auth) {
        Way::Browser if id.to_lowercase().contains("oauth") => "OAuth".to_owned(),
        _ => capitalised(&id),
    }
}
