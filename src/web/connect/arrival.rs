//! Back from a provider: with a connect token's flow, or with a refusal's. Who comes back twice is
//! told what came of it the first time.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Response;
use serde::{Deserialize, Serialize};

use super::Connect;
use super::params::Params;
use super::problem::{Kind, Problem};
use super::request::Asking;
use super::ticket::Trouble;
use crate::connect::{Asked, Connected, News, Standing, Visit, Wish};
use crate::forward::Body;
use crate::secret::{Secret, TokenDigest};
use crate::telemetry::{AuditEvent, AuthFailure};
use crate::vault::Outcome;
use crate::web::browser::see_other;
use crate::web::flow::{self, Flow, Purpose, Stray};

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
    /// One that the visitor brought.
    own_client: Option<String>,
    scopes: Vec<String>,
    link: bool,
    hide_close: bool,
    window: bool,
}

impl Connect {
    /// Back from a provider. Who comes from another browser does not end the flow of its owner.
    pub(super) async fn callback(&self, asking: &Asking) -> Response<Body> {
        match self.arrived(asking).await {
            Ok(response) => response,
            Err(problem) => {
                let params = Params { link: true, ..Params::of(&BTreeMap::new()) };
                self.problem_page(None, &params, problem).await
            }
        }
    }

    async fn arrived(&self, asking: &Asking) -> Result<Response<Body>, Problem> {
        let flow = match self.returned(asking).await {
            Ok(flow) => flow,
            Err(Stray::Over(state)) => return self.arrived_again(asking, state).await,
            Err(Stray::NoState) => return Err(Problem::new(Kind::Stale, None)),
            Err(Stray::OtherBrowser) => return Err(Problem::new(Kind::WrongBrowser, None)),
            Err(Stray::Store(error)) => return Err(error.into()),
        };
        match &flow.purpose {
            Purpose::Ticket { account } => {
                let done = self.finish_by_ticket(account, &flow).await;
                Ok(done.unwrap_or_else(|trouble: Trouble| trouble.told()))
            }
            Purpose::Page(page) => self.finish(page, &flow).await,
            // The workspace takes those before they come here.
            Purpose::Member(_) => Err(Problem::new(Kind::Stale, None)),
        }
    }

    async fn returned(&self, asking: &Asking) -> Result<Flow, Stray> {
        let flows = self.flows();
        let waiting = flows.waiting(&asking.pairs).await;
        if matches!(waiting, Err(Stray::Over(_))) {
            self.note_stranger(asking);
        }
        let taken = flows.take(waiting?, &asking.head.headers, &asking.pairs).await;
        if matches!(taken, Err(Stray::OtherBrowser)) {
            self.note_stranger(asking);
        }
        taken
    }

    /// The same callback twice: a double click, the back button, a reload. The code was sent once;
    /// the browser that began is told what came of it.
    async fn arrived_again(
        &self,
        asking: &Asking,
        state: TokenDigest,
    ) -> Result<Response<Body>, Problem> {
        let stale = || Problem::new(Kind::Stale, None);
        let browser = flow::browser(&asking.head.headers).ok_or_else(stale)?;
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
    async fn finish(&self, page: &OfPage, flow: &Flow) -> Result<Response<Body>, Problem> {
        let stale = || Problem::new(Kind::Stale, None);
        let token = flow.token().ok_or_else(stale)?.clone();
        let params = page.params(&token);
        let visit = self.connector.visit(params.digest()).await?.ok_or_else(stale)?;
        let result = self.exchange(&visit, page, &params, flow).await;
        let origin = Some((flow.state, flow.browser.clone()));
        self.conclude(&visit, &params, &page.attempt, origin, result).await;
        Ok(see_other(&params.address()))
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
        if chosen.brings_client {
            let client = page.own_client.as_deref().unwrap_or_default();
            wish.client = Some(self.connector.own_client(visit, client).await?);
        }
        wish.entered = flow.entered();
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
            own_client: wish
                .client
                .as_ref()
                .filter(|_| asked.own_client)
                .map(|client| client.record.id.to_string()),
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
                own_client: self.own_client.is_some(),
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
