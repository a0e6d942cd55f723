//! Sending what a member made: the same journey as every other request, as an identity that may use
//! this one account. Policy, guard, injection, masking and audit are those of the journey.
//!
//! Redirects are followed only where the member says so, by the rule of the API's proxy call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use tokio::time::timeout_at;

use super::draft::Ready;
use super::pick::Candidate;
use crate::api::redirect::{self, Asked, MAX_HOPS, Next};
use crate::credentials::Slot;
use crate::forward::{Body, Content, Identity, Inbound, SOURCE, UpgradeSlot, World, plan};
use crate::ids::CallerId;
use crate::secret::TokenDigest;
use crate::telemetry::Door;
use crate::web::workspace::{Trouble, Visit};

/// From the first byte to the last.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of an answer, so much is shown.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How a sending ended.
pub enum Sent {
    /// The origin's answer, or a refusal of countersign's own.
    Answered(Raw),
    /// It was not sent, for a reason that the member can mend.
    Withheld(String),
    /// Nothing came in time.
    TimedOut,
}

/// An answer as it came.
pub struct Raw {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub ending: Ending,
    /// It is countersign's own.
    pub ours: bool,
    pub total: Duration,
    /// How long the origin took to begin.
    pub waited: Option<Duration>,
    /// What was asked before, and redirected.
    pub hops: Vec<String>,
}

/// How the body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// There was more than is shown.
    Cut,
    /// It broke off.
    Broken,
    /// It went on for too long.
    Late,
}

/// What one request is sent with.
struct Errand<'v> {
    visit: &'v Visit<'v>,
    world: Arc<World>,
    identity: Identity,
    nickname: &'v str,
}

/// Sends it with an account that the member may use; whoever calls this has asked. A redirect is
/// followed where the member wants it and the credential may go there; any other is shown.
pub async fn send(
    visit: &Visit<'_>,
    account: &Candidate,
    slot: Arc<Slot>,
    mut ready: Ready,
    follows: bool,
) -> Result<Sent, Trouble> {
    // The audit tells the member by the id that no other person ever has.
    let name: CallerId = visit.member().id.as_str().parse().map_err(|_| Trouble::NotFound)?;
    let proof = TokenDigest::of(visit.who.csrf.as_bytes());
    let identity = match account.stored() {
        Some(account) => Identity::of_account(name, proof, account, slot, RULE),
        None => Identity::of_declared(name, proof, slot, RULE),
    };
    let world = visit.workspace.forwarder.world();
    let errand = Errand { visit, world, identity, nickname: &account.nickname };
    if let Err(why) = errand.goes_along(&ready) {
        return Ok(Sent::Withheld(why));
    }
    let began = Instant::now();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut hops = Vec::new();
    loop {
        let sending = visit.workspace.forwarder.forward(&errand.world, errand.inbound(&ready));
        let Ok(response) = timeout_at(deadline, sending).await else { return Ok(Sent::TimedOut) };
        match errand.next(&response, &ready).filter(|_| follows && hops.len() < MAX_HOPS) {
            Some(next) => {
                hops.push(format!("{} {}", ready.method, ready.url()));
                ready = next;
            }
            None => {
                let raw = read(response, deadline, began).await;
                return Ok(Sent::Answered(Raw { hops, ..raw }));
            }
        }
    }
}

/// What the audit says allowed it.
const RULE: &str = "builder";

/// The answer's beginning, as much as is shown.
async fn read(response: Response<Body>, deadline: tokio::time::Instant, began: Instant) -> Raw {
    let (head, mut body) = response.into_parts();
    let waited = body.waited();
    let (mut kept, mut ending) = (BytesMut::new(), Ending::Whole);
    loop {
        let Ok(frame) = timeout_at(deadline, body.frame()).await else {
            ending = Ending::Late;
            break;
        };
        match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            None => break,
            Some(Err(_)) => {
                ending = Ending::Broken;
                break;
            }
            Some(Ok(Err(_trailers))) => {}
            Some(Ok(Ok(data))) => {
                let room = MAX_BODY_BYTES - kept.len();
                kept.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    ending = Ending::Cut;
                    break;
                }
            }
        }
    }
    let ours = head.headers.get(SOURCE).is_some_and(|source| source == "proxy");
    Raw {
        status: head.status,
        headers: head.headers,
        body: kept.freeze(),
        ending,
        ours,
        total: began.elapsed(),
        waited,
        hops: Vec::new(),
    }
}

impl Errand<'_> {
    fn inbound(&self, ready: &Ready) -> Inbound {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = ready.method.clone();
        head.uri = Uri::from(ready.path.clone());
        head.headers = ready.headers.clone();
        Inbound {
            id: self.visit.workspace.forwarder.next_id(),
            door: Door::Builder,
            client: self.visit.peer,
            identity: self.identity.clone(),
            target: ready.target.clone(),
            parts: head,
            body: (!ready.body.is_empty()).then(|| Content::Whole(ready.body.clone())),
            upgrade: UpgradeSlot::default(),
        }
    }

    /// Where an answer of the origin's redirects to, if the credential may go there.
    fn next(&self, response: &Response<Body>, ready: &Ready) -> Option<Ready> {
        let asked = Asked {
            method: ready.method.clone(),
            target: ready.target.clone(),
            path: ready.path.clone(),
            headers: ready.headers.clone(),
            had_body: !ready.body.is_empty(),
        };
        let Next { method, target, path, headers } =
            redirect::next(response.status(), response.headers(), asked)?;
        let (body, parts) = (Bytes::new(), Vec::new());
        let next = Ready { method, target, path, headers, body, parts };
        self.goes_along(&next).is_ok().then_some(next)
    }

    /// The account's credential goes to its own hosts only, and a request without it is not what
    /// the builder is for. What the journey refuses at one of these hosts is for the journey to say.
    fn goes_along(&self, ready: &Ready) -> Result<(), String> {
        let caller = &self.identity.caller;
        let (selector, path) = (self.identity.selector.as_deref(), ready.path.path());
        let planned = plan(&self.world, caller, &ready.target, &ready.method, path, selector);
        let hosts = hosts_of(&self.identity);
        let host = ready.target.host.to_string();
        match planned {
            Ok(plan) if plan.slot.is_some() => Ok(()),
            Err(_) if hosts.contains(&host) => Ok(()),
            _ if hosts.contains(&host) => {
                Err(format!("This path of {host} is not one of the app's. Nothing was sent."))
            }
            _ => Err(format!(
                "{host} is not a host of this account, so it does not get its credential. Requests \
                 with {} go to {}. Nothing was sent.",
                self.nickname,
                hosts.join(", "),
            )),
        }
    }
}

fn hosts_of(identity: &Identity) -> Vec<String> {
    let bindings = &identity.caller.policy.bindings;
    let hosts = bindings.iter().flat_map(|binding| &binding.hosts);
    let mut hosts: Vec<String> = hosts.map(|(host, _)| host.to_string()).collect();
    hosts.dedup();
    hosts
}
