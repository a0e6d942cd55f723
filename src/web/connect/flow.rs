//! By way of a provider: off with a state that is used once and a cookie that names the browser, and
//! back with a code. One engine for the connect page and for the links of refusals.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Response;
use serde::{Deserialize, Serialize};

use super::Connect;
use super::params::Params;
use super::problem::{Kind, Problem};
use super::request::{Asking, browser_or_new, digest, off_to, see_other};
use super::ticket::Trouble;
use crate::catalog::Card;
use crate::connect::{self, Asked, Connected, News, Standing, Visit, Wish};
use crate::forward::Body;
use crate::inject::Properties;
use crate::oauth::Callback;
use crate::random::NoRandom;
use crate::secret::{Secret, TokenDigest};
use crate::telemetry::{AuditEvent, AuthFailure};
use crate::vault::{Outcome, PendingFlow};

/// How long a person may take to agree.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Names of what is kept sealed.
const VERIFIER: &str = "verifier";
const TOKEN: &str = "token";
const FIELD: &str = "field.";

/// What a flow is for.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A refusal's link.
    Ticket { account: String },
    /// A connect token, which is kept sealed.
    Page(OfPage),
}

/// What the connect page has to find again.
#[derive(Serialize, Deserialize)]
pub struct OfPage {
    attempt: String,
    app: String,
    auth: String,
    oauth_client: Option<String>,
    account: Option<String>,
    profile: Option<String>,
    app_override: Option<String>,
    scopes: Vec<String>,
    link: bool,
    hide_close: bool,
    window: bool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    purpose: Purpose,
    browser: String,
    redirect_uri: String,
}

/// A flow that came back.
pub struct Flow {
    pub callback: Callback,
    state: TokenDigest,
    browser: String,
    secrets: Properties,
}

impl Connect {
    /// Off to the provider. `token` is the connect token, if the purpose has one.
    pub(super) async fn depart(
        &self,
        asking: &Asking,
        wish: &Wish,
        purpose: Purpose,
        token: Option<&Secret>,
    ) -> Result<Response<Body>, connect::Error> {
        let registered = wish.client.as_ref().and_then(|c| c.record.details.redirect_uri.clone());
        let own = self.redirect_uri(asking);
        // One that leads to a terminal's port is for the terminal.
        let redirect_uri = registered.filter(|uri| uri.ends_with("/connect/callback"));
        let redirect_uri = redirect_uri.unwrap_or(own);
        let authorization = self.connector.authorize(wish, &redirect_uri)?;
        let browser = browser_or_new(asking).ok_or(NoRandom)?;
        let secure = redirect_uri.starts_with("https:");
        let kept = Kept { purpose, browser: digest(&browser), redirect_uri };
        let fields =
            wish.entered.iter().map(|(name, value)| (format!("{FIELD}{name}"), value.clone()));
        let mut secrets: Properties = fields.collect();
        secrets.extend(authorization.verifier.map(|verifier| (VERIFIER.to_owned(), verifier)));
        secrets.extend(token.map(|token| (TOKEN.to_owned(), token.clone())));
        let flow = PendingFlow {
            details: serde_json::to_string(&kept).unwrap_or_default(),
            secrets,
            expires_at: self.now() + PATIENCE,
        };
        let state = TokenDigest::of(authorization.state.expose().as_bytes());
        self.vault().begin_flow(state, &flow).await?;
        let off = off_to(&authorization.url, &browser, secure, PATIENCE);
        Ok(off.ok_or(crate::oauth::Error::Url(authorization.url))?)
    }

    /// Back from a provider. Who comes from another browser does not end the flow of its owner.
    pub(super) async fn callback(&self, asking: &Asking) -> Response<Body> {
        match self.arrived(asking).await {
            Ok(response) => response,
            Err(problem) => self.problem_page(None, &Params::of(&BTreeMap::new()), problem).await,
        }
    }

    async fn arrived(&self, asking: &Asking) -> Result<Response<Body>, Problem> {
        let stale = || Problem::new(Kind::Stale, None);
        let state = self.state_of(&asking.pairs).ok_or_else(stale)?;
        let Some(details) = self.vault().flow_details(state).await? else {
            self.note_stranger(asking);
            return self.arrived_again(asking, state).await;
        };
        let kept: Kept = serde_json::from_str(&details).map_err(|_| stale())?;
        if asking.browser_digest().as_ref() != Some(&kept.browser) {
            self.note_stranger(asking);
            return Err(Problem::new(Kind::WrongBrowser, None));
        }
        let Some(taken) = self.vault().take_flow(state).await? else {
            return self.arrived_again(asking, state).await;
        };
        let verifier = taken.secrets.get(VERIFIER).cloned();
        let (params, redirect_uri) = (asking.pairs.clone(), kept.redirect_uri);
        let callback = Callback { params, verifier, redirect_uri };
        let flow = Flow { callback, state, browser: kept.browser, secrets: taken.secrets };
        match kept.purpose {
            Purpose::Ticket { account } => {
                let done = self.finish_by_ticket(&account, &flow).await;
                Ok(done.unwrap_or_else(|trouble: Trouble| trouble.told()))
            }
            Purpose::Page(page) => self.finish(page, &flow).await,
        }
    }

    /// The same callback twice: a double click, the back button, a reload. The code was sent once;
    /// the browser that began is told what came of it.
    async fn arrived_again(
        &self,
        asking: &Asking,
        state: TokenDigest,
    ) -> Result<Response<Body>, Problem> {
        let stale = || Problem::new(Kind::Stale, None);
        let browser = asking.browser_digest().ok_or_else(stale)?;
        let (token, outcome) = self.await_flow(state, &browser).await?.ok_or_else(stale)?;
        let visit = self.connector.visit(token).await?.ok_or_else(stale)?;
        let params = Params { link: true, ..Params::of(&BTreeMap::new()) };
        Ok(self.outcome_page(&visit, &params, outcome).await)
    }

    /// The first of two may still be at it.
    async fn await_flow(
        &self,
        state: TokenDigest,
        browser: &str,
    ) -> Result<Option<(TokenDigest, Outcome)>, Problem> {
        for _ in 0..LOOKS {
            let found = self.vault().outcome_of_flow(state).await?;
            let own = |(_, outcome): &(_, Outcome)| {
                outcome.flow.as_ref().is_some_and(|(_, began)| began == browser)
            };
            if let Some(found) = found.filter(own) {
                return Ok(Some(found));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }

    /// A connect token's flow: spends the token, stores the account, tells the product, and leads to
    /// a clean address. The window that waits finds the outcome by its attempt.
    async fn finish(&self, page: OfPage, flow: &Flow) -> Result<Response<Body>, Problem> {
        let stale = || Problem::new(Kind::Stale, None);
        let token = flow.secrets.get(TOKEN).ok_or_else(stale)?.clone();
        let params = page.params(&token);
        let visit = self.connector.visit(params.digest()).await?.ok_or_else(stale)?;
        let result = self.exchange(&visit, &page, &params, flow).await;
        let origin = Some((flow.state, flow.browser.clone()));
        self.conclude(&visit, &params, &page.attempt, origin, result).await;
        see_other(&params.address()).ok_or_else(stale)
    }

    async fn exchange(
        &self,
        visit: &Visit,
        page: &OfPage,
        params: &Params,
        flow: &Flow,
    ) -> Result<Connected, Problem> {
        match visit.standing {
            Standing::Open => {}
            Standing::Spent => return Err(Problem::new(Kind::Spent, None)),
            Standing::Expired => return Err(Problem::new(Kind::Expired, None)),
        }
        let offer = self.connector.offer(visit, &params.asked).await?;
        let chosen = offer.ways.iter().find(|way| way.auth == page.auth);
        let chosen = chosen.ok_or_else(|| Problem::new(Kind::Stale, None))?;
        let mut wish = self.connector.wish(visit, &offer, chosen).await?;
        let fields = flow.secrets.iter();
        let fields = fields.filter_map(|(name, value)| {
            Some((name.strip_prefix(FIELD)?.to_owned(), value.clone()))
        });
        wish.entered = fields.collect();
        wish.scopes.clone_from(&page.scopes);
        let exchanged = self.connector.exchange(&wish, &flow.callback);
        Ok(self.connector.spend(params.digest(), exchanged).await?)
    }

    /// Writes down what came of an attempt, and tells the product's server.
    pub(super) async fn conclude(
        &self,
        visit: &Visit,
        params: &Params,
        attempt: &str,
        flow: Option<(TokenDigest, String)>,
        result: Result<Connected, Problem>,
    ) {
        let result = match result {
            Ok(connected) => {
                let app = self.connector.app(connected.account.app.as_str());
                let shown = crate::api::shown(&connected.account, &visit.user, app.as_deref());
                self.connector.tell(visit, &params.token, News::Connected(&shown)).await;
                Ok(connected.account.id)
            }
            Err(problem) => {
                let app = params.asked.app.as_deref().and_then(|app| self.connector.app(app));
                let line = problem.line(app.as_ref().map(|app| &*app.name), None);
                self.connector.tell(visit, &params.token, News::Failed(&line)).await;
                Err(problem.written())
            }
        };
        let outcome = Outcome { attempt: attempt.to_owned(), flow, result };
        if let Err(error) = self.vault().put_outcome(visit.token.digest, &outcome).await {
            tracing::error!(%error, "the outcome of connecting could not be written");
        }
    }

    /// By whatever name the provider sends it back.
    fn state_of(&self, params: &BTreeMap<String, String>) -> Option<TokenDigest> {
        let catalog = self.keeper.catalog();
        let names = catalog.cards().flat_map(Card::state_params);
        let value = std::iter::once("state").chain(names).find_map(|name| params.get(name))?;
        Some(TokenDigest::of(value.as_bytes()))
    }

    fn note_stranger(&self, asking: &Asking) {
        self.forwarder.telemetry.event(&AuditEvent::AuthFailed {
            reason: AuthFailure::Invalid,
            claimed: Some("a flow that this browser did not begin"),
            client: Some(asking.client),
            count: 1,
        });
    }
}

const LOOK: Duration = Duration::from_millis(250);
/// As long as a provider may take to answer.
const LOOKS: u32 = 40;

impl OfPage {
    pub fn of(params: &Params, attempt: &str, wish: &Wish) -> Self {
        let asked = &params.asked;
        Self {
            attempt: attempt.to_owned(),
            app: wish.app.id.to_string(),
            auth: wish.auth.clone(),
            oauth_client: asked.oauth_client.clone(),
            account: asked.account.clone(),
            profile: asked.profile.clone(),
            app_override: asked.app_override.clone(),
            scopes: wish.scopes.clone(),
            link: params.link,
            hide_close: params.hide_close,
            window: params.window,
        }
    }

    fn params(&self, token: &Secret) -> Params {
        Params {
            token: token.clone(),
            asked: Asked {
                app: Some(self.app.clone()),
                oauth_client: self.oauth_client.clone(),
                account: self.account.clone(),
                profile: self.profile.clone(),
                app_override: self.app_override.clone(),
            },
            auth: None,
            attempt: Some(self.attempt.clone()),
            words: None,
            link: self.link,
            hide_close: self.hide_close,
            window: self.window,
        }
    }
}
