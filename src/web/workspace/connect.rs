//! Connecting an account of the member's own, and reconnecting one: a form for keys, a consent at
//! the provider for OAuth.
//!
//! A consent is bound to the browser that began it by a cookie, to the member by the store, and its
//! state is used once (RFC 6749 §10.12). The way back is the one address that operators register
//! with providers, `/connect/callback`; the cookie tells whose flow it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::form::{Form, cookie};
use super::shell::{Section, Shell};
use super::visit::{Flash, Visit, append_cookie, see_other};
use super::{Trouble, Workspace, redirect_uri};
use crate::catalog::{App, Auth, Card, Field};
use crate::connect::{self, Checked, Connected, SameIdentity, Way, Wish};
use crate::credentials::Registered;
use crate::forward::Body;
use crate::ids::{AccountId, OAuthClientId};
use crate::inject::Properties;
use crate::oauth::Callback;
use crate::policy::access::Operation;
use crate::random;
use crate::secret::{Secret, TokenDigest};
use crate::vault::{self, Account, OAuthClientRecord, Owner, PendingFlow};
use crate::web::html::{Policy, monogram};

/// How long a person may take to agree.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Apps that are shown at once.
const MOST_FOUND: usize = 60;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => Ok(pick(visit)),
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

#[derive(Template)]
#[template(path = "workspace/pick.html")]
pub(super) struct PickPage<'a> {
    pub shell: Shell<'a>,
    pub lead: &'static str,
    /// Where the apps are, without a slash at the end.
    pub base: &'static str,
    pub q: &'a str,
    pub found: Vec<Found>,
    /// How many fit, beside those that are shown.
    pub more: usize,
    pub total: usize,
}

pub(super) struct Found {
    id: String,
    name: String,
    letter: String,
    hue: u8,
    description: String,
}

fn pick(visit: &Visit<'_>) -> Response<Body> {
    let catalog = visit.workspace.keeper.catalog();
    let q = visit.query.text("q");
    let all = catalog.ranked(q);
    visit.page(&PickPage {
        shell: visit.shell(Section::Connect, "Connect an app"),
        lead: "",
        base: "/accounts/connect",
        q,
        found: all.iter().take(MOST_FOUND).map(|card| found(card)).collect(),
        more: all.len().saturating_sub(MOST_FOUND),
        total: catalog.len(),
    })
}

pub(super) fn found(card: &Card) -> Found {
    let (letter, hue) = monogram(&card.name);
    let (id, name) = (card.id.to_string(), card.name.to_string());
    Found { id, name, letter, hue, description: card.description.to_string() }
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
    needs_client: bool,
    action: String,
    account: Option<&'a Account>,
    fields: Vec<Input<'a>>,
    clients: Vec<OAuthClientRecord>,
    client: &'a str,
    nickname: &'a str,
    redirect_uri: String,
    error: Option<String>,
    /// The test request was refused: whoever knows better may store the keys all the same.
    may_insist: bool,
}

/// A field of the form.
struct Input<'a> {
    field: &'a Field,
    /// Never a secret.
    value: String,
}

async fn connect(visit: &Visit<'_>, target: Target) -> Result<Response<Body>, Trouble> {
    let form = if visit.is_post() { &visit.form } else { &visit.query };
    let auth = target.auth(form.text("auth"))?;
    let clients = clients_of(visit, &target, auth).await?;
    let attempt = Attempt { visit, target: &target, auth, clients: &clients };
    if !visit.is_post() {
        return Ok(attempt.page(None, false));
    }
    match attempt.make().await {
        Ok(response) => Ok(response),
        Err(Failed { why, may_insist }) => match why {
            Trouble::Connect(error) => Ok(attempt.page(Some(sentence(&error)), may_insist)),
            Trouble::Bad(error) => Ok(attempt.page(Some(error), may_insist)),
            Trouble::Store(vault::Error::Conflict(error)) => {
                Ok(attempt.page(Some(error), may_insist))
            }
            other => Err(other),
        },
    }
}

/// Errors begin with a small letter, because they stand behind a colon elsewhere.
fn sentence(error: &connect::Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(chars).collect()
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
}

struct Failed {
    why: Trouble,
    may_insist: bool,
}

impl<T: Into<Trouble>> From<T> for Failed {
    fn from(why: T) -> Self {
        Self { why: why.into(), may_insist: false }
    }
}

impl Attempt<'_> {
    fn page(&self, error: Option<String>, may_insist: bool) -> Response<Body> {
        let Self { visit, target, auth, clients } = *self;
        let form = if visit.is_post() { &visit.form } else { &visit.query };
        let (letter, hue) = monogram(&target.app.name);
        let title = match &target.reconnect {
            Some(account) => format!("Reconnect {}", account.nickname),
            None => format!("Connect {}", target.app.name),
        };
        let section = if target.reconnect.is_some() { Section::Accounts } else { Section::Connect };
        let asked = auth.fields.iter().filter(|field| field.is_asked());
        let status =
            if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let page = ConnectPage {
            shell: visit.shell(section, &title),
            app: &target.app,
            letter,
            hue,
            auth,
            by_browser: Way::of(auth) == Way::Browser,
            needs_client: Way::of(auth) != Way::Keys && clients.is_empty(),
            action: target.address(),
            account: target.reconnect.as_ref(),
            fields: asked.map(|field| self.input(field, form)).collect(),
            clients: clients.to_vec(),
            client: form.text("client"),
            nickname: form.text("nickname"),
            redirect_uri: redirect_uri(visit.workspace),
            error,
            may_insist,
        };
        // The form leads here, from here to the provider, and from there wherever it asks people
        // to log in.
        let leads = ["https:".to_owned(), "http://127.0.0.1:*".to_owned()];
        let leads = leads.into_iter().chain(provider_of(auth));
        let forms = if page.by_browser { leads.collect() } else { Vec::new() };
        visit.page_with(status, &page, Policy { forms, ..Policy::default() })
    }

    fn input<'f>(&self, field: &'f Field, form: &Form) -> Input<'f> {
        let name = format!("field.{}", field.name);
        let before = self.target.reconnect.as_ref().and_then(|a| a.fields.get(&field.name));
        let value = match form.has(&name) {
            _ if field.secret => String::new(),
            true => form.text(&name).to_owned(),
            false => before.or(field.default.as_ref()).cloned().unwrap_or_default(),
        };
        Input { field, value }
    }

    async fn make(&self) -> Result<Response<Body>, Failed> {
        let wish = self.wish().await?;
        match Way::of(self.auth) {
            Way::Keys => {
                self.try_keys(&wish).await?;
                let connected = self.visit.workspace.connector.keys(&wish).await?;
                Ok(done(self.visit, &wish, &connected))
            }
            Way::Grant => {
                let connected = self.visit.workspace.connector.obtain(&wish).await?;
                Ok(done(self.visit, &wish, &connected))
            }
            Way::Browser => Ok(self.leave(&wish).await?),
        }
    }

    async fn wish(&self) -> Result<Wish, Trouble> {
        let (form, keeper) = (&self.visit.form, &self.visit.workspace.keeper);
        let asked = self.auth.fields.iter().filter(|field| field.is_asked());
        let entered = asked.filter_map(|field| {
            let value = form.said(&format!("field.{}", field.name))?;
            Some((field.name.clone(), Secret::from(value.to_owned())))
        });
        let client = self.client(form)?;
        if let Some(account) = &self.target.reconnect {
            let mut wish = connect::again(keeper, account, SameIdentity::IfKnown).await?;
            wish.entered.extend(entered);
            if let Some(id) = client {
                wish.client = keeper.client(id).await?;
            }
            return Ok(wish);
        }
        let nickname = form.said("nickname").map(str::parse::<AccountId>).transpose();
        Ok(Wish {
            app: self.target.app.clone(),
            auth: self.auth.id.clone(),
            client: registered(self.visit, client).await?,
            entered: entered.collect(),
            scopes: Vec::new(),
            owner: Owner::Member(self.visit.member().id.clone()),
            nickname: nickname.map_err(|invalid| Trouble::Bad(invalid.to_string()))?,
            reconnect: None,
            same_identity: SameIdentity::IfKnown,
        })
    }

    /// The OAuth client that was chosen, or the only one there is.
    fn client(&self, form: &Form) -> Result<Option<&OAuthClientId>, Trouble> {
        let chosen = form.said("client");
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
        if self.auth.test.is_none() || self.visit.form.has("insist") {
            return Ok(());
        }
        let slot = self.visit.workspace.connector.trial(wish).await?;
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
        Err(Failed { why: Trouble::Bad(why), may_insist: true })
    }

    /// Off to the provider.
    async fn leave(&self, wish: &Wish) -> Result<Response<Body>, Trouble> {
        let workspace = self.visit.workspace;
        let authorization = workspace.connector.authorize(wish, &redirect_uri(workspace))?;
        let browser = random::token("", 32)?;
        let state = TokenDigest::of(authorization.state.expose().as_bytes());
        let entered =
            wish.entered.iter().map(|(name, value)| (format!("field.{name}"), value.clone()));
        let verifier = authorization.verifier.map(|verifier| ("verifier".to_owned(), verifier));
        let flow = PendingFlow {
            details: json!({
                "member": self.visit.member().id,
                "browser": TokenDigest::of(browser.expose().as_bytes()).to_hex(),
                "app": wish.app.id,
                "auth": wish.auth,
                "client": wish.client.as_ref().map(|client| &client.record.id),
                "nickname": wish.nickname,
                "account": wish.reconnect.as_ref().map(|account| &account.id),
            })
            .to_string(),
            secrets: entered.chain(verifier).collect::<Properties>(),
            expires_at: workspace.now() + PATIENCE,
        };
        workspace.vault().begin_flow(state, &flow).await?;
        let mut response = see_other(&authorization.url);
        let name = flow_cookie(state);
        append_cookie(
            &mut response,
            &workspace.set_cookie(&name, browser.expose(), Some(PATIENCE)),
        );
        Ok(response)
    }
}

/// The client that the member chose: any that an operator registered may be used.
async fn registered(
    visit: &Visit<'_>,
    id: Option<&OAuthClientId>,
) -> Result<Option<Arc<Registered>>, Trouble> {
    match id {
        Some(id) => Ok(visit.workspace.keeper.client(id).await?),
        None => Ok(None),
    }
}

/// Each flow has a cookie of its own, so that several may be under way.
fn flow_cookie(state: TokenDigest) -> String {
    format!("flow_{}", &state.to_hex()[..16])
}

/// By whatever name the provider sends it back.
fn state_of(workspace: &Workspace, query: &Form) -> Option<TokenDigest> {
    let catalog = workspace.keeper.catalog();
    let names = catalog.cards().flat_map(Card::state_params);
    let value = std::iter::once("state").chain(names).find_map(|name| query.said(name))?;
    Some(TokenDigest::of(value.as_bytes()))
}

/// Whether a callback ends a flow that began in this room.
pub(super) fn is_our_callback(workspace: &Workspace, request: &Request<Incoming>) -> bool {
    if request.uri().path() != "/connect/callback" || request.method() != Method::GET {
        return false;
    }
    let query = Form::parse(request.uri().query().unwrap_or_default().as_bytes());
    let state = state_of(workspace, &query);
    let name = state.map(|state| workspace.cookie_name(&flow_cookie(state)));
    name.is_some_and(|name| cookie(request.headers(), &name).is_some())
}

/// Back from the provider.
pub(super) async fn finish(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let workspace = visit.workspace;
    let stale = || {
        Trouble::Bad(
            "This page was opened twice, took too long, or was not opened from here. Nothing was \
             connected; begin again."
                .to_owned(),
        )
    };
    let state = state_of(workspace, &visit.query).ok_or_else(stale)?;
    let name = flow_cookie(state);
    let browser = cookie(&visit.headers, &workspace.cookie_name(&name)).ok_or_else(stale)?;
    let flow = visit.vault().take_flow(state).await?.ok_or_else(stale)?;
    let details: Value = serde_json::from_str(&flow.details).map_err(|_| stale())?;
    let digest = TokenDigest::of(browser.as_bytes()).to_hex();
    let same_browser = details["browser"].as_str().is_some_and(|known| known == digest);
    let same_member = details["member"].as_str() == Some(visit.member().id.as_str());
    if !(same_browser && same_member) {
        return Err(stale());
    }
    let wish = wish_of(visit, &details, &flow.secrets).await?;
    let again = match &wish.reconnect {
        Some(account) => format!("/accounts/{}/reconnect", account.id),
        None => format!("/accounts/connect/{}?auth={}", wish.app.id, wish.auth),
    };
    let params: BTreeMap<String, String> =
        visit.query.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let verifier = flow.secrets.get("verifier").cloned();
    let callback = Callback { params, verifier, redirect_uri: redirect_uri(workspace) };
    let mut response = match workspace.connector.exchange(&wish, &callback).await {
        Ok(connected) => done(visit, &wish, &connected),
        Err(error @ connect::Error::Store(_)) => return Err(error.into()),
        Err(error) => {
            let said = match &error {
                connect::Error::Provider(said) => format!("{} says: {said}", wish.app.name),
                other => sentence(other),
            };
            let text = format!("Nothing was connected. {said}");
            visit.go(&again, Some(Flash::warning(text)))
        }
    };
    append_cookie(&mut response, &workspace.set_cookie(&name, "", Some(Duration::ZERO)));
    Ok(response)
}

async fn wish_of(
    visit: &Visit<'_>,
    details: &Value,
    secrets: &Properties,
) -> Result<Wish, Trouble> {
    let keeper = &visit.workspace.keeper;
    let entered: BTreeMap<String, Secret> = secrets
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("field.")?.to_owned(), value.clone())))
        .collect();
    let text = |name: &str| details[name].as_str().unwrap_or_default();
    let client: Option<OAuthClientId> = text("client").parse().ok();
    if let Some(id) = details["account"].as_str() {
        // Asked again: the account may have been given away meanwhile.
        let account = visit.account(id, Operation::Reconnect).await?;
        let mut wish = connect::again(keeper, &account, SameIdentity::IfKnown).await?;
        wish.entered = entered;
        wish.client = registered(visit, client.as_ref()).await?;
        return Ok(wish);
    }
    let app = keeper.catalog().app(text("app")).cloned().ok_or(Trouble::NotFound)?;
    Ok(Wish {
        app,
        auth: text("auth").to_owned(),
        client: registered(visit, client.as_ref()).await?,
        entered,
        scopes: Vec::new(),
        owner: Owner::Member(visit.member().id.clone()),
        nickname: text("nickname").parse().ok(),
        reconnect: None,
        same_identity: SameIdentity::IfKnown,
    })
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

/// The origin at which people consent, where the definition says it whole.
fn provider_of(auth: &Auth) -> Option<String> {
    let url = auth.oauth2.as_ref()?.authorize_url.as_ref()?;
    let url = url::Url::parse(url.source()).ok()?;
    let is_plain = url.host_str().is_some_and(|host| !host.contains('{'));
    is_plain.then(|| url.origin().ascii_serialization())
}

/// A way to authenticate, as a tab says it.
pub(super) fn way_label(auth: &Auth) -> String {
    let id = auth.id.replace(['_', '-'], " ").replace("api", "API");
    match Way::of(auth) {
        Way::Browser if id.to_lowercase().contains("oauth") => "OAuth".to_owned(),
        _ => {
            let mut chars = id.chars();
            let first = chars.next().map(char::to_uppercase);
            first.into_iter().flatten().chain(chars).collect()
        }
    }
}
