//! The journey of a request, whatever door it came through: find the app by host, choose the
//! account, decide, attach the credential, send, record. `ARCHITECTURE.md` follows one.
//!
//! On the way nothing is locked that another request can hold, and no database is asked: the
//! [`World`] is an immutable snapshot, credentials are rendered already. Bodies stream.

mod authenticate;
mod body;
mod caller;
mod decode;
mod errand;
mod exchange;
mod explain;
mod head;
mod plan;
mod refusal;
mod registry;
mod scrub;
mod signing;
mod splice;
mod stored;
mod websocket;
mod world;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, UPGRADE, VIA};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

pub use authenticate::{Acquaintance, Channel, authenticate, by_bearer};
pub use body::Body;
pub use caller::{Caller, Guesses, Identity, Place, Proof};
pub use exchange::{Exchange, Opening};
pub use explain::{Ground, explain};
pub use head::{ACCOUNT, SOURCE};
pub use plan::{Located, Plan, Target, locate, plan};
pub use refusal::Refusal;
pub use registry::{Activity, Claim, InFlight, Patience, Registered, Registry, Watched};
pub use splice::{Passed, splice};
pub use stored::Stored;
pub use websocket::{Switched, UpgradeSlot};
pub use world::{Error as WorldError, World};

use crate::ids::RequestId;
use crate::inject::Mask;
use crate::random;
use crate::telemetry::{Door, Telemetry};
use crate::upstream::{Client, ResponseBody};
use errand::Errand;
use head::Wish;
use scrub::Scrub;
use signing::Room;
use websocket::{Pending, Ready};

/// What all doors share.
pub struct Forwarder {
    world: ArcSwap<World>,
    pub upstream: Client,
    pub telemetry: Arc<Telemetry>,
    pub guesses: Guesses,
    pub registry: Arc<Registry>,
    pub settings: Settings,
    room: Room,
    seed: u64,
    count: AtomicU64,
}

/// What cannot change while running.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub max_tunnels_per_caller: usize,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
}

/// A request at the start of its journey: its caller is known.
pub struct Inbound {
    pub id: RequestId,
    pub door: Door,
    pub client: IpAddr,
    pub identity: Identity,
    pub target: Target,
    pub parts: Parts,
    /// `None`: there is none.
    pub body: Option<Content>,
    /// Where a switch of protocols is left for the connection to carry out.
    pub upgrade: UpgradeSlot,
}

/// What a request carries.
pub enum Content {
    /// As it comes in. The connection that it comes in on is busy until it is gone, which may be
    /// after the answer to it.
    Stream(Incoming, Option<InFlight>),
    /// Of a door that made the request itself.
    Whole(Bytes),
}

impl Forwarder {
    pub fn new(
        world: World,
        upstream: Client,
        telemetry: Arc<Telemetry>,
        settings: Settings,
    ) -> Self {
        Self {
            world: ArcSwap::from_pointee(world),
            upstream,
            telemetry,
            guesses: Guesses::new(),
            registry: Arc::default(),
            settings,
            room: Room::default(),
            // Makes the ids of two processes differ.
            seed: random::bits(),
            count: AtomicU64::new(0),
        }
    }

    pub fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Puts a new snapshot into use; what it would not have let open is closed.
    pub fn replace(&self, world: World) {
        self.world.store(Arc::new(world));
        self.registry.recheck(&self.world.load());
    }

    /// Ends what callers opened whose time is over.
    pub fn end_expired(&self) {
        let world = self.world.load();
        if world.any_expired() {
            self.registry.recheck(&world);
        }
    }

    /// Notes on whose behalf something stays open. What it rests on may have gone since its request
    /// was decided, when dialling took its time; then it ends at once.
    pub fn claim(&self, activity: &Activity, claim: Claim) {
        activity.claimed(claim);
        activity.recheck(&self.world.load());
    }

    pub fn next_id(&self) -> RequestId {
        RequestId::of(self.seed, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes one request to its origin and brings the answer back.
    ///
    /// Whatever can be is decided before there is a future, which is copied with every request and
    /// therefore small.
    pub fn forward<'a>(
        &'a self,
        world: &World,
        inbound: Inbound,
    ) -> impl Future<Output = Response<Body>> + use<'a> {
        let (mut exchange, decided) = self.open(world, inbound);
        async move {
            let arrival = match decided {
                Ok(decided) => self.journey(decided, &mut exchange).await,
                Err(refusal) => Err(refusal),
            };
            respond(arrival, exchange)
        }
    }

    /// Records a request that was refused before its journey began.
    pub fn refuse(&self, opening: &Opening<'_>, refusal: Refusal) -> Response<Body> {
        let mut exchange = Exchange::open(&self.telemetry, opening);
        exchange.refused(&refusal);
        refusal.into_response(exchange.id)
    }

    /// Records a request that was answered here.
    pub fn answered_here(&self, opening: &Opening<'_>, response: Response<Body>) -> Response<Body> {
        let mut exchange = Exchange::open(&self.telemetry, opening);
        exchange.answered_here(response.status());
        response
    }

    fn open(
        &self,
        world: &World,
        inbound: Inbound,
    ) -> (Box<Exchange>, Result<Box<Decided>, Refusal>) {
        let target = inbound.parts.uri.path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut exchange = Exchange::open(
            &self.telemetry,
            &Opening {
                id: inbound.id,
                door: inbound.door,
                client: inbound.client,
                caller: Some(&inbound.identity.caller.id),
                method: &inbound.parts.method,
                host: Some(&inbound.target.host),
                port: inbound.target.port,
                target: &target,
            },
        );
        let decided = decide(world, inbound, target, &mut exchange);
        (exchange, decided)
    }

    async fn journey(
        &self,
        mut decided: Box<Decided>,
        exchange: &mut Exchange,
    ) -> Result<Arrival, Refusal> {
        if let Some(answer) = answer_for_last_hop(&mut decided.parts) {
            return Ok(Arrival::Own(answer));
        }
        if let Some(slot) = decided.plan.slot.as_ref().filter(|slot| slot.must_wait()) {
            let _waiting = self.telemetry.metrics.accounts.waiting();
            Box::pin(slot.renewed()).await;
        }
        let (mut errand, pending) = self.set_out(decided, exchange)?;
        if errand.unfinished.is_some() {
            Box::pin(errand.finish(&self.room, self.settings.idle_timeout)).await?;
        }
        exchange.record_first().await?;
        if let Some(pending) = pending {
            return Box::pin(self.switch(errand, exchange, pending)).await;
        }
        let response = self.send(&mut errand, exchange).await?;
        if !errand.is_refused_by(&response) {
            return errand.arrive(response);
        }
        let response = Box::pin(self.once_more(response, &mut errand, exchange)).await?;
        errand.arrive(response)
    }

    /// Makes the request ready for its origin; also what becomes of its connection, if it asks to
    /// switch protocols.
    fn set_out(
        &self,
        decided: Box<Decided>,
        exchange: &mut Exchange,
    ) -> Result<(Box<Errand>, Option<Box<Pending>>), Refusal> {
        let Decided { identity, plan, mut parts, target, body, upgrade } = *decided;
        let wish = head::strip_request(&mut parts);
        if self.upstream.is_chained() {
            head::add_via(&mut parts, self.upstream.pseudonym());
        }
        if wish != Wish::WebSocket {
            return Ok((Errand::new(plan, parts, target, body, exchange)?, None));
        }
        let place = identity.caller.admit_tunnel(self.settings.max_tunnels_per_caller)?;
        let claim = Claim { identity, account: plan.slot.as_ref().map(|slot| slot.id.clone()) };
        let errand = Errand::new(plan, parts, target, body, exchange)?;
        Ok((errand, Some(Box::new(Pending { upgrade, claim, place }))))
    }

    /// What every door checks first: a head that can be read in one way, and that this proxy has
    /// not sent itself. A parent proxy that leads back here would multiply every request.
    ///
    /// # Errors
    /// `Malformed`, `ExpectationFailed` or `Loop`.
    pub fn check(&self, parts: &Parts) -> Result<(), Refusal> {
        let marks = head::check(parts)?;
        if !marks.via {
            return Ok(());
        }
        let pseudonym = self.upstream.pseudonym();
        let ours = |value: &HeaderValue| value.to_str().is_ok_and(|via| via.contains(pseudonym));
        match parts.headers.get_all(VIA).iter().any(ours) {
            true => Err(Refusal::Loop),
            false => Ok(()),
        }
    }

    async fn send(
        &self,
        errand: &mut Errand,
        exchange: &mut Exchange,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let request = errand.request()?;
        let asked = Instant::now();
        let response = self.upstream.send(&errand.destination, request).await?;
        exchange.answered(response.status(), asked);
        Ok(response)
    }

    /// DESIGN.md §3 rule 7: a 401 renews the credential, and a request that can safely be repeated
    /// is repeated once.
    async fn once_more(
        &self,
        refused: Response<ResponseBody>,
        errand: &mut Errand,
        exchange: &mut Exchange,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let Some(credential) = &errand.credential else { return Ok(refused) };
        let version = credential.current.version;
        let renewed = credential.slot.renew_after_refusal(version, &self.telemetry).await;
        if !renewed || !errand.rewind()? {
            return Ok(refused);
        }
        drop(refused);
        self.send(errand, exchange).await
    }

    /// A WebSocket handshake: HTTP/1.1 to the origin, then bytes.
    async fn switch(
        &self,
        mut errand: Box<Errand>,
        exchange: &mut Exchange,
        pending: Box<Pending>,
    ) -> Result<Arrival, Refusal> {
        errand.destination.http1_only = true;
        let mut response = self.send(&mut errand, exchange).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return errand.arrive(response);
        }
        let agreed = response.headers().get(UPGRADE);
        if !agreed.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Err(Refusal::BadUpgrade);
        }
        let origin = hyper::upgrade::on(&mut response);
        let mut response = errand.undress(response)?.map(|_| Body::empty());
        let headers = response.headers_mut();
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        Ok(Arrival::Switch { response, pending: pending.with(origin) })
    }
}

/// A request that may be sent.
struct Decided {
    identity: Identity,
    plan: Plan,
    parts: Parts,
    target: PathAndQuery,
    body: Option<Content>,
    upgrade: UpgradeSlot,
}

/// Finds the app, chooses the account, decides, and takes a place among the caller's requests.
fn decide(
    world: &World,
    inbound: Inbound,
    target: PathAndQuery,
    exchange: &mut Exchange,
) -> Result<Box<Decided>, Refusal> {
    let Inbound { identity, target: to, mut parts, body, upgrade, .. } = inbound;
    let selector = take_selector(&mut parts, &identity)?;
    let caller = &identity.caller;
    let plan = plan(world, caller, &to, &parts.method, target.path(), selector.as_deref());
    let plan = plan.inspect_err(|_| note_app(world, &to, target.path(), exchange))?;
    note(&plan, exchange);
    exchange.hold(caller.admit()?);
    Ok(Box::new(Decided { identity, plan, parts, target, body, upgrade }))
}

/// How a journey ends well.
enum Arrival {
    Answer {
        response: Response<ResponseBody>,
        mask: Option<Mask>,
        signed: bool,
    },
    /// Answered here, on the origin's behalf.
    Own(Response<Body>),
    Switch {
        response: Response<Body>,
        pending: Ready,
    },
}

/// What the client gets.
fn respond(arrival: Result<Arrival, Refusal>, mut exchange: Box<Exchange>) -> Response<Body> {
    match arrival {
        Ok(Arrival::Answer { response, mask, signed }) => {
            let (mut head, body) = response.into_parts();
            let empty = body.is_end_stream();
            let scrub = mask.and_then(|mask| match signed {
                false => Scrub::of(&mask, &mut head, empty),
                true => Scrub::of_signed(&mask, &mut head, empty),
            });
            Response::from_parts(head, Body::origin(body, exchange, scrub))
        }
        Ok(Arrival::Switch { response, pending }) => {
            pending.leave(exchange);
            response
        }
        Ok(Arrival::Own(response)) => {
            exchange.answered_here(response.status());
            response
        }
        Err(refusal) => {
            exchange.refused(&refusal);
            refusal.into_response(exchange.id)
        }
    }
}

/// The account that this request names: by header, else in the proxy user name.
fn take_selector(parts: &mut Parts, identity: &Identity) -> Result<Option<Arc<str>>, Refusal> {
    // Nearly nobody does: comparing names is cheaper than hashing one of ours.
    if !parts.headers.keys().any(|name| name == ACCOUNT) {
        return Ok(identity.selector.clone());
    }
    let mut named = parts.headers.get_all(ACCOUNT).iter();
    let Some(value) = named.next() else { return Ok(identity.selector.clone()) };
    if named.next().is_some() {
        return Err(Refusal::Malformed("more than one countersign-account"));
    }
    let text = value.to_str().map_err(|_| Refusal::Malformed("countersign-account is not text"))?;
    Ok(Some(Arc::from(text.trim())))
}

fn note(plan: &Plan, exchange: &mut Exchange) {
    exchange.decided(
        plan.app.as_deref().map(|app| &app.id),
        plan.slot.as_deref(),
        plan.rule.clone(),
        plan.would_deny.as_ref().map(crate::policy::Denial::reason),
    );
    if let Some(path) = &plan.cut_path {
        exchange.cut_path(path.clone());
    }
}

/// A refused request is still told apart by app.
fn note_app(world: &World, target: &Target, path: &str, exchange: &mut Exchange) {
    let claims = world.index.claims(&target.host);
    if let Some(app) = claims.owner(target.port, path).or_else(|| claims.owner(443, path)) {
        exchange.of_app(&app.id);
    }
}

/// RFC 9110 §7.6.2: OPTIONS and TRACE count their hops; at 0 the answer is ours.
fn answer_for_last_hop(parts: &mut Parts) -> Option<Response<Body>> {
    const MAX_FORWARDS: HeaderName = HeaderName::from_static("max-forwards");
    if parts.method != Method::OPTIONS && parts.method != Method::TRACE {
        return None;
    }
    let left: u64 = parts.headers.get(MAX_FORWARDS)?.to_str().ok()?.parse().ok()?;
    if left > 0 {
        parts.headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
        return None;
    }
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("OPTIONS"));
    response.headers_mut().insert(SOURCE, HeaderValue::from_static("proxy"));
    Some(response)
}
