//! The connect page itself: the list of apps, one app, and every end.

use http::{Response, StatusCode};

use super::Connect;
use super::keys::{OWN_ID, Sent, UNPROCESSABLE};
use super::params::Params;
use super::problem::{Kind, Problem};
use super::request::Asking;
use super::view::{
    AppMark, AppPage, Choose, Details, End, Listed, OwnClient, Scope, Shell, WayLink, back,
};
use crate::catalog::{App, Auth, Card};
use crate::connect::{MOST_ACCOUNTS, Offer, OfferedWay, Standing, Visit, Way, Wish};
use crate::forward::Body;
use crate::random;
use crate::vault::Outcome;
use crate::web::fields::{self, Wrong, in_map};
use crate::web::flow::provider_of;
use crate::web::html::{Policy, page};
use crate::web::words::spoken;

/// Shown of a search at once.
const MOST_LISTED: usize = 40;

impl Connect {
    pub(super) async fn page(&self, asking: &Asking) -> Response<Body> {
        let params = Params::of(&asking.pairs);
        match self.visited(asking, &params).await {
            Ok((_, Ok(response))) => response,
            Ok((visit, Err(problem))) => self.problem_page(Some(&visit), &params, problem).await,
            Err(problem) => self.problem_page(None, &params, problem).await,
        }
    }

    async fn visited(
        &self,
        asking: &Asking,
        params: &Params,
    ) -> Result<(Visit, Result<Response<Body>, Problem>), Problem> {
        let Some(visit) = self.connector.visit(params.digest()).await? else {
            let allowed = self.forwarder.guesses.allow(asking.client);
            let kind = if allowed { Kind::Unknown } else { Kind::Throttled };
            return Err(Problem::new(kind, None));
        };
        let shown = self.shown(asking, params, &visit).await;
        Ok((visit, shown))
    }

    async fn shown(
        &self,
        asking: &Asking,
        params: &Params,
        visit: &Visit,
    ) -> Result<Response<Body>, Problem> {
        if let Some(attempt) = &params.attempt
            && let Some(outcome) = self.vault().outcome(visit.token.digest, attempt).await?
        {
            return Ok(self.outcome_page(visit, params, outcome).await);
        }
        match visit.standing {
            Standing::Open => {}
            Standing::Spent => return Err(Problem::new(Kind::Spent, None)),
            Standing::Expired => return Err(Problem::new(Kind::Expired, None)),
        }
        let asked = &params.asked;
        let named = asked.app.is_some() || asked.account.is_some() || asked.app_override.is_some();
        if !named && visit.token.details.app.is_none() {
            return self.choose(visit, params).await;
        }
        let offer = self.connector.offer(visit, &params.asked).await?;
        let named = params.auth.as_deref();
        let chosen = offer.ways.iter().find(|way| named.is_none_or(|named| way.auth == named));
        let chosen = chosen.unwrap_or(&offer.ways[0]);
        let wish = self.connector.wish(visit, &offer, chosen).await?;
        let wrong = Wrong::default();
        self.app_page(asking, visit, params, &offer, chosen, &wish, wrong).await
    }

    async fn shell(&self, visit: Option<&Visit>, params: &Params) -> Shell {
        let logo = match visit {
            Some(visit) => self.vault().project_logo(&visit.project.id).await.ok().flatten(),
            None => None,
        };
        Shell::of(visit, logo, params)
    }

    async fn choose(&self, visit: &Visit, params: &Params) -> Result<Response<Body>, Problem> {
        let clients = self.vault().oauth_clients().await?;
        let possible = |card: &&Card| {
            card.auths().filter_map(|(_, kind)| Way::of_kind(kind)).any(|way| {
                match (way, params.asked.own_client) {
                    (Way::Browser, true) => true,
                    (Way::Browser, false) => clients.iter().any(|c| c.details.app == card.id),
                    (_, own_client) => !own_client,
                }
            })
        };
        let words = params.words.clone().unwrap_or_default();
        let catalog = self.keeper.catalog();
        let found: Vec<&Card> = match words.trim() {
            "" => catalog.cards().filter(possible).collect(),
            words => catalog.ranked(words).into_iter().filter(possible).collect(),
        };
        let more = found.len().saturating_sub(MOST_LISTED);
        let listed = |card: &&Card| Listed {
            app: AppMark::of(&card.name),
            description: card.description.to_string(),
            address: params.with_app(Some(card.id.as_str())).address(),
        };
        let mut hidden = params.pairs();
        hidden.retain(|(name, _)| *name != "q");
        let shell = self.shell(Some(visit), params).await;
        let apps = found.iter().take(MOST_LISTED).map(listed).collect();
        let choose = Choose { shell, hidden, words, apps, more };
        Ok(page(StatusCode::OK, &choose, &policy(Some(visit), &[])))
    }

    /// The form once more, with what is wrong about it.
    pub(super) async fn form_again(
        &self,
        asking: &Asking,
        sent: Sent,
        wrong: Wrong,
    ) -> Response<Body> {
        let Sent { visit, offer, params, .. } = &sent;
        let named = params.auth.as_deref();
        let chosen = offer.ways.iter().find(|way| named.is_none_or(|named| way.auth == named));
        let shown = match chosen {
            None => Err(Problem::new(Kind::Stale, None)),
            Some(chosen) => match self.connector.wish(visit, offer, chosen).await {
                Ok(mut wish) => {
                    let auth = offer.app.auth(&chosen.auth);
                    let entered =
                        auth.and_then(|auth| fields::entered(auth, in_map(&asking.pairs)).ok());
                    wish.entered.extend(entered.unwrap_or_default());
                    self.app_page(asking, visit, params, offer, chosen, &wish, wrong).await
                }
                Err(error) => Err(error.into()),
            },
        };
        match shown {
            Ok(response) => response,
            Err(problem) => self.problem_page(Some(visit), params, problem).await,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one page's parts, named at its two calls")]
    async fn app_page(
        &self,
        asking: &Asking,
        visit: &Visit,
        params: &Params,
        offer: &Offer,
        chosen: &OfferedWay,
        wish: &Wish,
        wrong: Wrong,
    ) -> Result<Response<Body>, Problem> {
        let gone = || Problem::new(Kind::Stale, None);
        let auth = offer.app.auth(&chosen.auth).ok_or_else(gone)?;
        let attempt = match &params.attempt {
            Some(attempt) => attempt.clone(),
            None => {
                let fresh = random::token("", 16).map_err(|_| gone())?;
                fresh.expose().to_owned()
            }
        };
        let params = Params { auth: Some(auth.id.clone()), ..params.with_attempt(Some(&attempt)) };
        let by_browser = chosen.way == Way::Browser;
        let bad = !wrong.is_nothing();
        let shown = AppPage {
            shell: self.shell(Some(visit), &params).await,
            app: AppMark::of(&offer.app.name),
            hidden: params.pairs(),
            action: if by_browser { "/connect/begin" } else { "/connect/keys" },
            by_browser,
            reconnect: offer
                .reconnect
                .as_ref()
                .map(|account| crate::api::clean(account.identity.as_deref().unwrap_or_default())),
            ways: ways(offer, chosen, &params),
            scopes: scopes(auth, wish),
            pick: visit.token.details.progressive_scopes,
            inputs: fields::inputs(auth, &wish.entered, offer.preset.as_ref(), &wrong),
            own_client: chosen.brings_client.then(|| OwnClient {
                redirect_uri: self.redirect_uri(asking),
                id: asking.pairs.get(OWN_ID).cloned().unwrap_or_default(),
                error: wrong.client,
            }),
            named: chosen.way == Way::Keys && offer.reconnect.is_none(),
            name: asking.pairs.get("name").cloned().unwrap_or_default(),
            wrong: wrong.whole,
            docs: offer.app.docs_url.clone().filter(|url| url.starts_with("https://")),
            back: self.list_of(visit, &params),
            result: params.address(),
        };
        let status = if bad { UNPROCESSABLE } else { StatusCode::OK };
        let forms: Vec<String> =
            if by_browser { provider_of(auth).into_iter().collect() } else { Vec::new() };
        Ok(page(status, &shown, &policy(Some(visit), &forms)))
    }

    /// Back to the list, where the person chose from it: only then the address says nothing else.
    fn list_of(&self, visit: &Visit, params: &Params) -> Option<String> {
        let asked = &params.asked;
        let free = visit.token.details.app.is_none() && asked.account.is_none() && params.link;
        (free && asked.oauth_client.is_none() && asked.app_override.is_none())
            .then(|| params.with_app(None).address())
    }

    pub(super) async fn outcome_page(
        &self,
        visit: &Visit,
        params: &Params,
        outcome: Outcome,
    ) -> Response<Body> {
        let id = match outcome.result {
            Ok(id) => id,
            Err(written) => {
                let problem = Problem::read(&written);
                return self.problem_page(Some(visit), params, problem).await;
            }
        };
        let account = match self.vault().account(&id).await {
            Ok(account) => account,
            Err(error) => return self.problem_page(Some(visit), params, error.into()).await,
        };
        let app = account.as_ref().and_then(|account| self.connector.app(account.app.as_str()));
        let shell = self.shell(Some(visit), params).await;
        let name = app.as_ref().map_or("The account", |app| &app.name);
        let who = account.and_then(|account| account.identity);
        let back = back(visit.token.details.success_redirect_uri.as_ref());
        let end = End {
            good: true,
            title: format!("{name} is connected"),
            text: format!("{} can use it for you from now on.", shell.product_name()),
            details: None,
            again: None,
            returns: back.is_some() && !shell.framed,
            back: back.filter(|_| !shell.framed),
            account: Some(id.to_string()),
            error: None,
            extra: who.map(|who| crate::api::clean(&who)).filter(|who| !who.is_empty()),
            app: app.map(|app| AppMark::of(&app.name)),
            shell,
        };
        page(StatusCode::OK, &end, &policy(Some(visit), &[]))
    }

    pub(super) async fn problem_page(
        &self,
        visit: Option<&Visit>,
        params: &Params,
        problem: Problem,
    ) -> Response<Body> {
        let shell = self.shell(visit, params).await;
        let named = params.asked.app.as_deref();
        let named =
            named.or(visit.and_then(|visit| Some(visit.token.details.app.as_ref()?.as_str())));
        let app = named.and_then(|app| self.connector.app(app));
        let app_name = app.as_ref().map(|app| app.name.as_str());
        let product = shell.product.as_ref().map(|product| product.name.as_str());
        let told = problem.told(app_name, product);
        let open = visit.is_some_and(|visit| visit.standing == Standing::Open);
        let again = (told.again && open).then(|| params.with_attempt(None).address());
        let details = visit.map(|visit| &visit.token.details);
        let to = back(details.and_then(|details| details.error_redirect_uri.as_ref()));
        let end = End {
            good: false,
            details: (!problem.id.is_empty())
                .then(|| Details { said: problem.said.clone(), id: problem.id.clone() }),
            again,
            // Whoever declined has nothing more to do here.
            returns: problem.kind == Kind::Denied && to.is_some() && !shell.framed,
            back: to.filter(|_| !shell.framed),
            account: None,
            error: Some(problem.line(app_name, product)),
            extra: (problem.kind == Kind::TooMany).then(|| format!("The most is {MOST_ACCOUNTS}.")),
            app: app.map(|app| AppMark::of(&app.name)),
            title: told.title,
            text: told.text,
            shell,
        };
        let status = StatusCode::from_u16(told.status).unwrap_or(StatusCode::BAD_REQUEST);
        page(status, &end, &policy(visit, &[]))
    }
}

/// A page of nobody's token has nothing to press, so it may be seen in any frame; every other one
/// only in those of its token's origins.
fn policy(visit: Option<&Visit>, forms: &[String]) -> Policy {
    let framed_by = match visit {
        Some(visit) => visit.token.details.allowed_origins.clone(),
        None => vec!["*".to_owned()],
    };
    Policy {
        forms: forms.to_vec(),
        framed_by,
        images: Vec::new(),
        opens_windows: true,
        tells_origin: true,
    }
}

fn ways(offer: &Offer, chosen: &OfferedWay, params: &Params) -> Vec<WayLink> {
    let link = |way: &OfferedWay| {
        let auth = offer.app.auth(&way.auth)?;
        let label = label(&offer.app, auth, way);
        let address = params.with_auth(&way.auth).address();
        Some(WayLink { label, address, current: way.auth == chosen.auth })
    };
    offer.ways.iter().filter_map(link).collect()
}

/// Definitions have no names for their ways: what a person brings is one.
fn label(app: &App, auth: &Auth, way: &OfferedWay) -> String {
    let secret = auth.fields.iter().find(|field| field.secret && field.is_asked());
    match (way.way, secret) {
        (Way::Browser, _) => {
            let alone = app.auths.iter().filter(|auth| Way::of(auth) == Way::Browser).count() == 1;
            let as_what = auth.id.replace('_', " ");
            if alone { format!("Sign in to {}", app.name) } else { format!("Sign in: {as_what}") }
        }
        (_, Some(field)) => field.label.clone(),
        (_, None) => auth.id.replace('_', " "),
    }
}

fn scopes(auth: &Auth, wish: &Wish) -> Vec<Scope> {
    let Some(oauth2) = auth.oauth2.as_ref().filter(|_| Way::of(auth) == Way::Browser) else {
        return Vec::new();
    };
    let fixed = oauth2.default_scopes.iter().map(|scope| (scope, true));
    let asked = wish.scopes.iter().filter(|scope| !oauth2.default_scopes.contains(scope));
    let all = fixed.chain(asked.map(|scope| (scope, false)));
    all.map(|(scope, fixed)| Scope { spoken: spoken(scope), fixed }).collect()
}
