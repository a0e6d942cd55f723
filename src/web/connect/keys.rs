//! What a person enters and sends: keys are tried with the app's test request before they are stored,
//! and a way to a provider begins.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::json;

use super::Connect;
use super::arrival::OfPage;
use super::params::Params;
use super::problem::{Kind, Problem};
use super::request::Asking;
use crate::catalog::Auth;
use crate::connect::{
    self, Checked, Connected, Error, Offer, OfferedWay, Standing, Visit, Way, Wish,
};
use crate::credentials::Registered;
use crate::forward::Body;
use crate::secret::Secret;
use crate::telemetry::AuditEvent;
use crate::vault::Outcome;
use crate::web::browser::{is_from_here, see_other};
use crate::web::fields::{self, Said, Wrong, in_map};
use crate::web::flow::Purpose;

const MAX_NAME_CHARS: usize = 100;

/// A form as it was sent.
pub struct Sent {
    pub visit: Visit,
    pub offer: Offer,
    pub params: Params,
    pub attempt: String,
}

/// Why a form led to nothing: it may be mended, or it is the end.
pub enum Failed {
    Form(Wrong),
    End(Problem),
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::End(problem)
    }
}

impl Sent {
    fn chosen(&self) -> Result<(&OfferedWay, &Auth), Problem> {
        let named = self.params.auth.as_deref();
        let ways = &self.offer.ways;
        let way = ways.iter().find(|way| named.is_none_or(|named| way.auth == named));
        let found = way.and_then(|way| Some((way, self.offer.app.auth(&way.auth)?)));
        found.ok_or_else(|| Problem::new(Kind::Stale, None))
    }
}

impl Connect {
    /// Who sends a form, and with what token.
    async fn sent(&self, asking: &Asking) -> Result<Result<Sent, Response<Body>>, Problem> {
        let params = Params::of(&asking.pairs);
        self.admit(asking, params.digest())?;
        let unknown = || Problem::new(Kind::Unknown, None);
        let visit = self.connector.visit(params.digest()).await?.ok_or_else(unknown)?;
        let attempt = params.attempt.clone().ok_or_else(|| Problem::new(Kind::Stale, None))?;
        if visit.standing == Standing::Spent
            && let Some(outcome) = self.await_outcome(&visit, &attempt).await?
        {
            // The same form twice: both are told what came of the first.
            let page = self.outcome_page(&visit, &params, outcome).await;
            return Ok(Err(page));
        }
        match visit.standing {
            Standing::Open => {}
            Standing::Spent => return Err(Problem::new(Kind::Spent, None)),
            Standing::Expired => return Err(Problem::new(Kind::Expired, None)),
        }
        let offer = self.connector.offer(&visit, &params.asked).await?;
        Ok(Ok(Sent { visit, offer, params, attempt }))
    }

    /// The first of two forms may still be at it.
    async fn await_outcome(
        &self,
        visit: &Visit,
        attempt: &str,
    ) -> Result<Option<Outcome>, Problem> {
        for _ in 0..LOOKS {
            if let Some(outcome) = self.vault().outcome(visit.token.digest, attempt).await? {
                return Ok(Some(outcome));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }

    pub(super) async fn begin(&self, asking: &Asking) -> Response<Body> {
        match self.sent(asking).await {
            Ok(Ok(sent)) => {
                let begun = Box::pin(self.begun(asking, &sent)).await;
                self.told(asking, sent, begun).await
            }
            Ok(Err(page)) => page,
            Err(problem) => self.problem_of(asking, problem).await,
        }
    }

    pub(super) async fn keys(&self, asking: &Asking) -> Response<Body> {
        match self.sent(asking).await {
            Ok(Ok(sent)) => {
                let kept = Box::pin(self.kept(asking, &sent)).await;
                self.told(asking, sent, kept).await
            }
            Ok(Err(page)) => page,
            Err(problem) => self.problem_of(asking, problem).await,
        }
    }

    async fn told(
        &self,
        asking: &Asking,
        sent: Sent,
        done: Result<Response<Body>, Failed>,
    ) -> Response<Body> {
        match done {
            Ok(response) => response,
            Err(Failed::Form(wrong)) => self.form_again(asking, sent, wrong).await,
            Err(Failed::End(problem)) if problem.kind == Kind::Spent => {
                // Two forms at the same time: the other one was faster.
                match self.await_outcome(&sent.visit, &sent.attempt).await {
                    Ok(Some(outcome)) => {
                        self.outcome_page(&sent.visit, &sent.params, outcome).await
                    }
                    _ => self.problem_page(Some(&sent.visit), &sent.params, problem).await,
                }
            }
            Err(Failed::End(problem)) => {
                self.problem_page(Some(&sent.visit), &sent.params, problem).await
            }
        }
    }

    /// Off to the provider.
    async fn begun(&self, asking: &Asking, sent: &Sent) -> Result<Response<Body>, Failed> {
        let (way, auth) = sent.chosen()?;
        if way.way != Way::Browser {
            return Err(Problem::new(Kind::Stale, None).into());
        }
        let mut wish = self.entered(asking, sent, way, auth).await?;
        if way.brings_client {
            let (id, secret) = brought(asking)?;
            let kept = self.connector.keep_own_client(&sent.visit, &wish, &id, secret).await;
            let kept = kept.map_err(Problem::from)?;
            self.note_brought(&sent.visit, &kept);
            wish.client = Some(kept);
        }
        if sent.visit.token.details.progressive_scopes {
            let granted = |scope: &String| asking.pairs.contains_key(&format!("scope.{scope}"));
            wish.scopes.retain(granted);
        }
        let page = Purpose::Page(OfPage::of(&sent.params, &sent.attempt, &wish));
        let departed = self.depart(asking, &wish, page, Some(&sent.params.token)).await;
        departed.map_err(|error| failed(sent, auth, error))
    }

    fn note_brought(&self, visit: &Visit, client: &Registered) {
        self.forwarder.telemetry.event(&AuditEvent::Administered {
            what: "oauth_client_brought",
            subject: &client.record.details.name,
            detail: client.record.id.as_str(),
            by: &format!("connect page: {}", visit.user.id),
            account: None,
            since: Duration::ZERO,
        });
    }

    /// Tried, then stored.
    async fn kept(&self, asking: &Asking, sent: &Sent) -> Result<Response<Body>, Failed> {
        let (way, auth) = sent.chosen()?;
        let wish = self.entered(asking, sent, way, auth).await?;
        let name = name_of(asking)?;
        let connected = match way.way {
            Way::Browser => return Err(Problem::new(Kind::Stale, None).into()),
            Way::Keys => {
                self.connector.examine(&wish).map_err(|error| failed(sent, auth, error))?;
                self.check(&wish, sent, auth).await?;
                self.spent(sent, self.connector.keys_as(&wish, name)).await
            }
            Way::Grant => Box::pin(self.spent(sent, self.connector.obtain(&wish))).await,
        };
        let connected = connected.map_err(|error| refused_grant(sent, auth, error))?;
        let (visit, params) = (&sent.visit, &sent.params);
        self.conclude(visit, params, &sent.attempt, None, Ok(connected)).await;
        Ok(see_other(&params.address()))
    }

    async fn spent(
        &self,
        sent: &Sent,
        connecting: impl Future<Output = Result<Connected, Error>>,
    ) -> Result<Connected, Error> {
        self.connector.spend(sent.params.digest(), connecting).await
    }

    async fn entered(
        &self,
        asking: &Asking,
        sent: &Sent,
        way: &OfferedWay,
        auth: &Auth,
    ) -> Result<Wish, Failed> {
        let wish = self.connector.wish(&sent.visit, &sent.offer, way).await;
        let mut wish = wish.map_err(Problem::from)?;
        let entered = fields::entered(auth, in_map(&asking.pairs)).map_err(Failed::Form)?;
        wish.entered.extend(entered);
        Ok(wish)
    }

    /// The app's own test request.
    async fn check(&self, wish: &Wish, sent: &Sent, auth: &Auth) -> Result<(), Failed> {
        let slot = self.connector.trial(wish).await.map_err(|error| failed(sent, auth, error))?;
        let app = &wish.app.name;
        let whole = match connect::check(&self.forwarder.upstream, &slot).await {
            Checked::Works { .. } | Checked::NotOffered => return Ok(()),
            Checked::Refused { status, said, .. } => Said {
                text: format!("{app} did not accept this. Check what you entered and try again."),
                details: Some(format!("Status {status}. {said}").trim_end().to_owned()),
            },
            Checked::Unavailable { why } => Said {
                text: "This could not be tried. Check what you entered and try again.".to_owned(),
                details: Some(why),
            },
            Checked::Unreachable { why } => Said {
                text: format!("{app} did not answer. Check the address, or try again in a moment."),
                details: Some(why),
            },
        };
        Err(Failed::Form(Wrong { whole: Some(whole), ..Wrong::default() }))
    }

    /// For the window that waits: whether there is an outcome to show.
    pub(super) async fn state(&self, asking: &Asking) -> Response<Body> {
        let state = self.state_now(asking).await.unwrap_or("ended");
        let mut response = Response::new(Body::from(json!({ "state": state }).to_string()));
        let headers = response.headers_mut();
        let json = http::HeaderValue::from_static("application/json");
        headers.insert(http::header::CONTENT_TYPE, json);
        let no_store = http::HeaderValue::from_static("no-store");
        headers.insert(http::header::CACHE_CONTROL, no_store);
        response
    }

    async fn state_now(&self, asking: &Asking) -> Option<&'static str> {
        let params = Params::of(&asking.pairs);
        if !is_from_here(&asking.head.headers, self.url.as_deref()) {
            return None;
        }
        let visit = match self.connector.visit(params.digest()).await {
            Ok(visit) => visit?,
            // Asked again soon.
            Err(_) => return Some("waiting"),
        };
        let outcome = self.vault().outcome(visit.token.digest, params.attempt.as_deref()?).await;
        match (outcome, visit.standing) {
            (Ok(Some(_)), _) => Some("done"),
            (_, Standing::Expired) => None,
            _ => Some("waiting"),
        }
    }

    async fn problem_of(&self, asking: &Asking, problem: Problem) -> Response<Body> {
        let params = Params::of(&asking.pairs);
        // A form of another site learns nothing of the token that it brought.
        let visit = match problem.kind {
            Kind::Foreign => None,
            _ => self.connector.visit(params.digest()).await.ok().flatten(),
        };
        self.problem_page(visit.as_ref(), &params, problem).await
    }
}

const LOOK: Duration = Duration::from_millis(250);
/// As long as a test request may take.
const LOOKS: u32 = 40;

/// The client that a person brings.
pub const OWN_ID: &str = "client.id";
const OWN_SECRET: &str = "client.secret";
const MAX_CLIENT_BYTES: usize = 2000;

/// Its id, and its secret if it has one (RFC 6749 §2.3.1).
fn brought(asking: &Asking) -> Result<(String, Option<Secret>), Failed> {
    let text = |name: &str| asking.pairs.get(name).map(|text| text.trim()).unwrap_or_default();
    let (id, secret) = (text(OWN_ID), text(OWN_SECRET));
    let visible = |b: u8| (0x20..=0x7e).contains(&b);
    let fits = |text: &str| text.len() <= MAX_CLIENT_BYTES && text.bytes().all(visible);
    if id.is_empty() || !fits(id) || !fits(secret) {
        let said = if id.is_empty() { "This is needed." } else { "This does not look right." };
        let client = Some(said.to_owned());
        return Err(Failed::Form(Wrong { client, ..Wrong::default() }));
    }
    let secret = (!secret.is_empty()).then(|| Secret::from(secret.to_owned()));
    Ok((id.to_owned(), secret))
}

fn name_of(asking: &Asking) -> Result<Option<String>, Failed> {
    let name = asking.pairs.get("name").map(|name| name.trim()).filter(|name| !name.is_empty());
    let Some(name) = name else { return Ok(None) };
    if name.chars().count() > MAX_NAME_CHARS {
        let text = format!("The name has at most {MAX_NAME_CHARS} characters.");
        let whole = Some(Said { text, details: None });
        return Err(Failed::Form(Wrong { whole, ..Wrong::default() }));
    }
    Ok(Some(crate::api::clean(name)))
}

fn failed(sent: &Sent, auth: &Auth, error: Error) -> Failed {
    let decided = |name: &String| sent.offer.preset.as_ref().is_some_and(|p| p.has(name));
    match fields::of_error(auth, &error) {
        // Whoever connects can neither see nor mend what was decided beforehand.
        Some(wrong) if wrong.fields.keys().any(decided) => {
            Failed::End(Problem::new(Kind::Misconfigured, Some(error.to_string())))
        }
        Some(wrong) => Failed::Form(wrong),
        None => Failed::End(error.into()),
    }
}

/// A grant without a person fails on what the person entered.
fn refused_grant(sent: &Sent, auth: &Auth, error: Error) -> Failed {
    match error {
        Error::Provider(error) => {
            let text = "These were not accepted. Check what you entered and try again.".to_owned();
            let details = Some(format!("{}: {}", error.code, error.message));
            Failed::Form(Wrong { whole: Some(Said { text, details }), ..Wrong::default() })
        }
        error => failed(sent, auth, error),
    }
}

/// The status of a form that is shown again.
pub const UNPROCESSABLE: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
