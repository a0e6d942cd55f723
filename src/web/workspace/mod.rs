//! The workspace: what members do in the browser, behind a login.
//!
//! [`Workspace::answer`] takes every request for it: session, origin and token of a form, then the
//! one function of the page. Pages are forms and links and work without scripts. Whether a member
//! may do something is asked of `policy::access`, on every request, by whoever does it
//! ([`Visit::account`]). Rules: DESIGN.md §9 and §10.

mod accounts;
mod activity;
mod apps;
mod attached;
mod callers;
mod connect;
mod form;
mod guard;
mod login;
mod machine;
mod members;
mod oauth_clients;
mod oidc;
mod password;
mod projects;
mod requests;
mod session;
mod settings;
mod shell;
mod trouble;
mod upload;
mod visit;
mod welcome;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;

pub use connect::OfMember;
pub use form::Form;
pub use shell::{Confirm, Moment, Paging, Section, Shell, counted};
pub use trouble::Trouble;
pub use visit::{Flash, Visit};

use super::browser::{Unread, append_cookie, is_from_here, see_other};
use super::flow::CALLBACK;
use crate::config::Login;
use crate::connect::Connector;
use crate::credentials::Keeper;
use crate::forward::{Body, Forwarder};
use crate::random;
use crate::secret::{Secret, TokenDigest};
use crate::vault::{self, InvitationDetails, InvitationKind, Role, Vault};
use form::local_path;
use guard::Guard;
use oidc::Provider;
use password::Hasher;
use shell::Theme;
use upload::Upload;

pub struct Workspace {
    forwarder: Arc<Forwarder>,
    keeper: Arc<Keeper>,
    connector: Connector,
    /// How people reach this server, without a slash at the end.
    base: String,
    /// They reach it over https.
    secure: bool,
    login: Login,
    /// Seals what goes through browsers.
    key: hmac::Key,
    guard: Guard,
    hasher: Hasher,
    /// Where members log in beside here.
    oidc: Option<Provider>,
    around: Surroundings,
    /// Checks the audit's chain.
    checker: activity::Checker,
}

/// What pages tell of the server, beside what the store holds.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Where clients find the proxy.
    pub proxy: Option<SocketAddr>,
    /// Where this server records what it does; `None`: it does not.
    pub audit: Option<PathBuf>,
    /// Definitions of apps in files.
    pub apps_dir: Option<PathBuf>,
    /// Where declared callers are written.
    pub config_file: Option<PathBuf>,
}

/// The name of the workspace's key among the store's sealed items.
const KEY_ITEM: &str = "workspace";
/// The first owner's link is good until it is used; this is only for the column.
const FIRST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// A choice of colours is kept this long.
const THEME_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Workspace {
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(
        forwarder: Arc<Forwarder>,
        keeper: Arc<Keeper>,
        base: &str,
        login: Login,
        oidc_secret: Option<Secret>,
        around: Surroundings,
    ) -> Result<Self, vault::Error> {
        let fresh = random::token("", 32).map_err(|_| vault::Error::no_random())?;
        let key = keeper.vault().sealed_item_or(KEY_ITEM, &fresh).await?;
        let (upstream, clock) = (forwarder.upstream.clone(), keeper.clock().clone());
        let oidc = login.oidc.clone();
        Ok(Self {
            oidc: oidc.map(|config| Provider::new(config, oidc_secret, upstream, clock)),
            connector: Connector::new(keeper.clone()),
            forwarder,
            keeper,
            secure: base.starts_with("https:"),
            base: base.trim_end_matches('/').to_owned(),
            login,
            key: hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes()),
            guard: Guard::default(),
            hasher: Hasher::default(),
            around,
            checker: activity::Checker::default(),
        })
    }

    /// The link by which the first owner comes in, while there is no member. A new one each time:
    /// only its digest is kept.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn first_owner_link(&self) -> Result<Option<String>, vault::Error> {
        if !self.vault().members().await?.is_empty() {
            return Ok(None);
        }
        let token = random::token("", 32).map_err(|_| vault::Error::no_random())?;
        let details = InvitationDetails {
            kind: InvitationKind::First,
            email: None,
            role: Role::Owner,
            member: None,
            invited_by: None,
            expires_at: self.now() + FIRST_LIFE,
        };
        let digest = TokenDigest::of(token.expose().as_bytes());
        self.vault().create_invitation(digest, &details).await?;
        Ok(Some(format!("{}/welcome?token={}", self.base, token.expose())))
    }

    fn vault(&self) -> &Vault {
        self.keeper.vault()
    }

    fn now(&self) -> SystemTime {
        self.keeper.clock().now()
    }

    /// The answer, or the request back if it is another room's.
    ///
    /// # Errors
    /// The request, untouched.
    pub async fn answer(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Request<Incoming>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let owned =
            self.owns(&request) || connect::is_our_callback(self, &method, &path, &query).await;
        if !owned {
            return Err(request);
        }
        let (parts, body) = request.into_parts();
        if parts.uri.path().starts_with(machine::PREFIX) {
            return Ok(Box::pin(self.answer_program(peer, parts, body)).await);
        }
        Ok(Box::pin(self.take(peer, parts, body)).await)
    }

    fn owns(&self, request: &Request<Incoming>) -> bool {
        let path = request.uri().path();
        match first_segment(path) {
            "" => path == "/" && super::wants_a_page(request),
            "v1" => path.starts_with(machine::PREFIX),
            first => {
                let is_of = |section: &Section| first_segment(section.href()) == first;
                BESIDE.contains(&first) || Section::ALL.iter().any(is_of)
            }
        }
    }

    async fn take(&self, peer: IpAddr, parts: Parts, body: Incoming) -> Response<Body> {
        if self.forwarder.check(&parts).is_err() {
            return Trouble::Bad("This request is malformed.".to_owned()).told();
        }
        let who = match self.logged_in(&parts.headers).await {
            Ok(who) => who,
            Err(error) => return Trouble::from(error).told(),
        };
        let (form, uploads) = match self.form(&parts, body, who.is_some()).await {
            Ok(form) => form,
            Err(trouble) => return trouble.told(),
        };
        let visitor = Visitor { workspace: self, peer, parts: &parts, form: &form };
        if let Some(answer) = visitor.without_login(who.is_some()).await {
            return answer.unwrap_or_else(|trouble| trouble.told());
        }
        let Some(who) = who else { return ask_to_log_in(&parts) };
        if parts.method == Method::POST && !session::same(form.raw("csrf"), &who.csrf) {
            return Trouble::Forged.told();
        }
        let visit = Visit::new(self, who, peer, &parts, form).bringing(uploads);
        let path: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
        let answer = route(&visit, &path).await;
        answer.unwrap_or_else(|trouble| trouble.told_to(&visit))
    }

    /// What a POST brings. Files are only for somebody who is logged in.
    async fn form(
        &self,
        parts: &Parts,
        body: Incoming,
        logged_in: bool,
    ) -> Result<(Form, Vec<Upload>), Trouble> {
        match parts.method {
            Method::GET | Method::HEAD => return Ok(Default::default()),
            Method::POST => {}
            _ => return Err(Trouble::Method),
        }
        if !is_from_here(&parts.headers, Some(&self.base)) {
            return Err(Trouble::Forged);
        }
        let read = match logged_in && upload::is_one(&parts.headers) {
            true => upload::read(&parts.headers, body).await,
            false => form::read(&parts.headers, body).await.map(|form| (form, Vec::new())),
        };
        read.map_err(|unread| {
            Trouble::Bad(match unread {
                Unread::NotAForm => "That is not a form of this page.".to_owned(),
                Unread::TooLong => "That is too long to be taken.".to_owned(),
                Unread::Broken => "The form did not arrive whole; send it again.".to_owned(),
            })
        })
    }
}

/// First segments of paths of the workspace that are in no navigation.
const BESIDE: [&str; 5] = ["invitation", "login", "logout", "theme", "welcome"];

/// A page for each path; each says itself what it does with GET and POST.
async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match path {
        [""] => Ok(see_other(Section::Accounts.href())),
        ["accounts", "connect", rest @ ..] => connect::route(visit, rest).await,
        ["accounts", rest @ ..] => accounts::route(visit, rest).await,
        ["activity", rest @ ..] => activity::route(visit, rest).await,
        ["callers", rest @ ..] => callers::route(visit, rest).await,
        ["members", rest @ ..] => members::route(visit, rest).await,
        ["oauth-clients", rest @ ..] => oauth_clients::route(visit, rest).await,
        ["projects", rest @ ..] => projects::route(visit, rest).await,
        ["apps", rest @ ..] => apps::route(visit, rest).await,
        ["requests", rest @ ..] => requests::route(visit, rest).await,
        ["settings", rest @ ..] => settings::route(visit, rest).await,
        ["connect", "callback"] => connect::finish(visit).await,
        ["logout"] => login::log_out(visit).await,
        _ => Err(Trouble::NotFound),
    }
}

/// Somebody of whom it does not matter yet who they are.
struct Visitor<'w> {
    workspace: &'w Workspace,
    peer: IpAddr,
    parts: &'w Parts,
    form: &'w Form,
}

impl Visitor<'_> {
    /// The answer for a path that needs no login.
    async fn without_login(&self, logged_in: bool) -> Option<Result<Response<Body>, Trouble>> {
        Some(match self.parts.uri.path() {
            "/login" if logged_in && self.parts.method == Method::GET => {
                Ok(see_other(&login::next_of(&self.query())))
            }
            "/login" => login::log_in(self).await,
            "/login/oidc" => oidc::answer(self, "oidc").await,
            "/login/callback" => oidc::answer(self, "callback").await,
            "/welcome" | "/invitation" => welcome::answer(self).await,
            "/theme" => self.choose_theme(),
            _ => return None,
        })
    }

    fn query(&self) -> Form {
        Form::parse(self.parts.uri.query().unwrap_or_default().as_bytes())
    }

    fn theme(&self) -> Theme {
        Theme::of(self.workspace, &self.parts.headers)
    }

    fn choose_theme(&self) -> Result<Response<Body>, Trouble> {
        if self.parts.method != Method::POST {
            return Err(Trouble::NotFound);
        }
        let theme = Theme::named(self.form.text("theme")).ok_or(Trouble::NotFound)?;
        let mut response = see_other(local_path(self.form.text("back")).unwrap_or("/"));
        let cookie = self.workspace.set_cookie("theme", theme.name(), Some(THEME_LIFE));
        append_cookie(&mut response, &cookie);
        Ok(response)
    }
}

/// Where providers send browsers back to: what operators register with them.
fn redirect_uri(workspace: &Workspace) -> String {
    format!("{}{CALLBACK}", workspace.base)
}

/// A form cannot be sent again after a login, a page can be shown.
fn ask_to_log_in(parts: &Parts) -> Response<Body> {
    if parts.method == Method::POST {
        return Trouble::Forged.told();
    }
    let address = parts.uri.path_and_query().map_or("/", |address| address.as_str());
    let next: String = url::form_urlencoded::byte_serialize(address.as_bytes()).collect();
    see_other(&format!("/login?next={next}"))
}

fn first_segment(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}
