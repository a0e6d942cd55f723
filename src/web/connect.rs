//! Connecting a dead account anew in the browser: the page that a refusal leads to, the way to the
//! provider, and the way back.
//!
//! The flow is bound to the browser that began it by a cookie, its state is used once (RFC 6749
//! §10.12), and the account takes only a grant of the identity that it had.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, COOKIE, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::json;
use url::form_urlencoded;

use super::page::Page;
use crate::connect::{self, Connector, SameIdentity, Way};
use crate::credentials::{Keeper, Links};
use crate::forward::Body;
use crate::inject::Properties;
use crate::oauth::Callback;
use crate::secret::TokenDigest;
use crate::vault::{Account, PendingFlow};

const PREFIX: &str = "/connect/";
const COOKIE_NAME: &str = "countersign_flow";
/// How long a person may take to agree.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Codes are far shorter.
const MAX_QUERY_BYTES: usize = 16 * 1024;

/// The pages below `/connect/`.
pub struct Reconnect {
    pub keeper: Arc<Keeper>,
    pub links: Arc<Links>,
}

/// What the person is told.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("This link is not valid, or has ended. The next refused request has a fresh one.")]
    Link,
    #[error("This account was deleted.")]
    Gone,
    #[error("This account is connected from the terminal: countersign accounts reconnect {name}")]
    Terminal { name: String },
    #[error(
        "This page was opened twice, took too long, or was not opened from here. Nothing was \
         connected; open the link again."
    )]
    State,
    #[error("{0}")]
    Connect(#[from] connect::Error),
    #[error("The store is not available at the moment; try again.")]
    Store(#[from] crate::vault::Error),
}

impl Reconnect {
    /// `None` where no refusal has a link.
    pub fn of(keeper: Arc<Keeper>) -> Option<Self> {
        let links = keeper.links()?.clone();
        Some(Self { keeper, links })
    }

    /// The answer, or nothing for a path that is not below `/connect/`.
    pub async fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Response<Body>> {
        let step = uri.path().strip_prefix(PREFIX)?;
        let query = uri.query().unwrap_or_default();
        if method != Method::GET || query.len() > MAX_QUERY_BYTES {
            return Some(
                Page::new("Not found").text("Nothing is here.").answer(StatusCode::NOT_FOUND),
            );
        }
        let params: BTreeMap<String, String> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let ticket = params.get("ticket").map(String::as_str).unwrap_or_default();
        let answered = match step {
            "reconnect" => self.ask(ticket).await,
            "start" => self.start(ticket).await,
            "callback" => self.finish(params, headers).await,
            _ => return None,
        };
        Some(answered.unwrap_or_else(|trouble| told(&trouble)))
    }

    async fn account(&self, ticket: &str) -> Result<Account, Trouble> {
        let id = self.links.account(ticket, self.now()).ok_or(Trouble::Link)?;
        self.keeper.vault().account(&id).await?.ok_or(Trouble::Gone)
    }

    fn now(&self) -> SystemTime {
        self.keeper.clock().now()
    }

    async fn ask(&self, ticket: &str) -> Result<Response<Body>, Trouble> {
        let account = self.account(ticket).await?;
        let app = self.keeper.catalog().app(account.app.as_str()).map(|app| app.name.clone());
        let app = app.unwrap_or_else(|| account.app.to_string());
        let who = account.identity.as_deref().unwrap_or_default();
        let text = format!(
            "The account “{}” does not work any more. Connect it anew, signed in at {app} as {who}.",
            account.nickname
        );
        let page = Page::new(&format!("Connect {app} anew")).text(&text);
        Ok(page
            .button("start", "ticket", ticket, &format!("Continue to {app}"))
            .answer(StatusCode::OK))
    }

    /// Off to the provider.
    async fn start(&self, ticket: &str) -> Result<Response<Body>, Trouble> {
        let account = self.account(ticket).await?;
        let wish = connect::again(&self.keeper, &account, SameIdentity::Required).await?;
        let auth = wish.app.auth(&wish.auth).map(Way::of);
        if auth != Some(Way::Browser) {
            return Err(Trouble::Terminal { name: account.nickname.to_string() });
        }
        let redirect_uri = self.redirect_uri();
        let connector = Connector::new(self.keeper.clone());
        let authorization = connector.authorize(&wish, &redirect_uri)?;
        // As unguessable as the state, and known to this browser only.
        let browser = connect::unguessable().map_err(|_| Trouble::State)?;
        let digest = TokenDigest::of(browser.expose().as_bytes()).to_hex();
        let verifier = authorization.verifier.map(|verifier| ("verifier".to_owned(), verifier));
        let flow = PendingFlow {
            details: json!({ "account": account.id, "browser": digest }).to_string(),
            secrets: verifier.into_iter().collect::<Properties>(),
            expires_at: self.now() + PATIENCE,
        };
        let state = TokenDigest::of(authorization.state.expose().as_bytes());
        self.keeper.vault().begin_flow(state, &flow).await?;
        let secure = if redirect_uri.starts_with("https:") { "; Secure" } else { "" };
        let cookie = format!(
            "{COOKIE_NAME}={}; Path=/connect/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
            browser.expose(),
            PATIENCE.as_secs()
        );
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SEE_OTHER;
        let headers = response.headers_mut();
        headers.insert(LOCATION, value(&authorization.url).ok_or(Trouble::State)?);
        headers.insert(SET_COOKIE, value(&cookie).ok_or(Trouble::State)?);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(response)
    }

    /// Back from the provider.
    async fn finish(
        &self,
        params: BTreeMap<String, String>,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Trouble> {
        let state = self.state_of(&params).ok_or(Trouble::State)?;
        let flow = self.keeper.vault().take_flow(state).await?.ok_or(Trouble::State)?;
        let details: serde_json::Value =
            serde_json::from_str(&flow.details).map_err(|_| Trouble::State)?;
        let browser = cookie(headers).map(|value| TokenDigest::of(value.as_bytes()).to_hex());
        if browser.as_deref() != details["browser"].as_str() {
            return Err(Trouble::State);
        }
        let id =
            details["account"].as_str().and_then(|id| id.parse().ok()).ok_or(Trouble::State)?;
        let account = self.keeper.vault().account(&id).await?.ok_or(Trouble::Gone)?;
        let wish = connect::again(&self.keeper, &account, SameIdentity::Required).await?;
        let verifier = flow.secrets.get("verifier").cloned();
        let callback = Callback { params, verifier, redirect_uri: self.redirect_uri() };
        let connected = Connector::new(self.keeper.clone()).exchange(&wish, &callback).await?;
        let (vault, account) = (self.keeper.vault(), &connected.account);
        let (name, id) = (account.nickname.as_str(), account.id.as_str());
        vault.note("account_reconnected", name, id, "browser, by a refusal's link").await?;
        let text = format!("{} works again as “{name}”. You may close this page.", wish.app.name);
        Ok(Page::new("Connected").text(&text).clean_address().answer(StatusCode::OK))
    }

    /// By whatever name the provider sends it back.
    fn state_of(&self, params: &BTreeMap<String, String>) -> Option<TokenDigest> {
        let catalog = self.keeper.catalog();
        let names = catalog.cards().flat_map(|card| card.state_params());
        let value = std::iter::once("state").chain(names).find_map(|name| params.get(name))?;
        Some(TokenDigest::of(value.as_bytes()))
    }

    fn redirect_uri(&self) -> String {
        format!("{}{PREFIX}callback", self.links.base())
    }
}

fn told(trouble: &Trouble) -> Response<Body> {
    let status = match trouble {
        Trouble::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        Trouble::Gone => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    Page::new("Not connected").text(&trouble.to_string()).clean_address().answer(status)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    })
}

fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}
