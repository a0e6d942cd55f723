//! Sending a [`Call`] and collecting its answer.
//!
//! Bounded in every way: one deadline for all of it, a cap on the body, so many calls at a time per
//! endpoint and OAuth client, and a pause where the server asked for one. No redirect is followed:
//! a secret goes where the definition says (security list G18). Addresses are guarded by
//! [`upstream::Client`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::answer::{Class, TokenError};
use super::reply::Reply;
use super::request::Call;
use crate::clock::Clock;
use crate::upstream::{self, Client, Phase, RequestBody};

/// Of one call, from its turn to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long a call waits for its turn.
const PATIENCE: Duration = Duration::from_secs(15);
const LARGEST_ANSWER: usize = 1024 * 1024;
const CALLS_AT_ONCE: u16 = 8;
/// Endpoints with a gate; the idle ones beyond are forgotten.
const GATES: usize = 1024;

/// Whether a call waits where the server asked for a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A code lives for a minute, and a person waits.
    Once,
    /// A refresh comes again.
    Again,
}

pub(super) struct Wire {
    upstream: Client,
    clock: Clock,
    gates: Mutex<HashMap<String, Arc<Gate>>>,
}

/// One endpoint, as one OAuth client sees it.
struct Gate {
    turns: Semaphore,
    paused_until: Mutex<Option<SystemTime>>,
}

impl Wire {
    pub(super) fn new(upstream: Client, clock: Clock) -> Self {
        Self { upstream, clock, gates: Mutex::default() }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    pub(super) async fn send(
        &self,
        call: Call,
        at_once: Option<u16>,
        urgency: Urgency,
    ) -> Result<Reply, TokenError> {
        let gate = self.gate(&call, at_once);
        if urgency == Urgency::Again {
            gate.check(self.clock.now())?;
        }
        let turn = tokio::time::timeout(PATIENCE, gate.turns.acquire());
        // Only a closed semaphore fails, and none is ever closed.
        let _turn = turn.await.map_err(|_| busy())?;
        let reply = tokio::time::timeout(DEADLINE, self.exchange(call)).await.map_err(|_| {
            let message = format!("the server took longer than {} s", DEADLINE.as_secs());
            TokenError::sent(Class::Transient, "timeout", message)
        })??;
        gate.note(&reply, self.clock.now());
        Ok(reply)
    }

    async fn exchange(&self, call: Call) -> Result<Reply, TokenError> {
        let sent_at = self.clock.now();
        let to = call.endpoint.to.clone();
        let response = self.upstream.send(&to, request(call)?).await;
        let (head, body) = response.map_err(|error| failed(&error))?.into_parts();
        let body = collect(body).await?;
        let status = head.status.as_u16();
        Ok(Reply::new(status, &head.headers, &body, sent_at, self.clock.now()))
    }

    fn gate(&self, call: &Call, at_once: Option<u16>) -> Arc<Gate> {
        let key = format!("{} {}", call.endpoint.origin(), call.client_id);
        let mut gates = self.gates.lock();
        if gates.len() >= GATES {
            let now = self.clock.now();
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.check(now).is_err());
        }
        let turns = usize::from(at_once.unwrap_or(CALLS_AT_ONCE).max(1));
        let new =
            || Arc::new(Gate { turns: Semaphore::new(turns), paused_until: Mutex::default() });
        gates.entry(key).or_insert_with(new).clone()
    }
}

impl Gate {
    fn check(&self, now: SystemTime) -> Result<(), TokenError> {
        let left = self.paused_until.lock().and_then(|until| until.duration_since(now).ok());
        match left.filter(|left| !left.is_zero()) {
            Some(left) => {
                let message = "the server asked for a pause, which is not over yet";
                let error = TokenError::unsent(Class::Transient, "rate_limited", message);
                Err(TokenError { retry_after: Some(left), ..error })
            }
            None => Ok(()),
        }
    }

    /// `Retry-After` is for the endpoint and the OAuth client, not for one account.
    fn note(&self, reply: &Reply, now: SystemTime) {
        if matches!(reply.status, 429 | 503) {
            *self.paused_until.lock() = reply.retry_after.and_then(|wait| now.checked_add(wait));
        }
    }
}

fn request(call: Call) -> Result<Request<RequestBody>, TokenError> {
    let built = Request::builder().method(call.method).uri(call.endpoint.target());
    let mut request = built
        .body(RequestBody::full(call.body))
        .map_err(|_| TokenError::from(super::Error::Url(call.endpoint.url_without_query())))?;
    *request.headers_mut() = call.headers;
    Ok(request)
}

async fn collect(body: upstream::ResponseBody) -> Result<Bytes, TokenError> {
    let collected = Limited::new(body, LARGEST_ANSWER).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        let (code, message) = match error.is::<LengthLimitError>() {
            true => ("unreadable", "the server's answer is larger than 1 MiB"),
            false => ("unreachable", "the server's answer broke off"),
        };
        TokenError::sent(Class::Transient, code, message)
    })
}

fn busy() -> TokenError {
    let message = "too many calls to this server are under way";
    TokenError::unsent(Class::Transient, "busy", message)
}

/// What is known of a request that got no answer: a one-time refresh token may be spent by one that
/// was written, never by one that was not.
fn failed(error: &upstream::Error) -> TokenError {
    use upstream::Error as E;
    let unsent = |code| TokenError::unsent(Class::Transient, code, error.to_string());
    match error {
        E::Dns { .. } | E::Connect { .. } | E::Parent { .. } | E::Tls { .. } => {
            unsent("unreachable")
        }
        E::Refused { .. } => TokenError::unsent(Class::Client, "refused", error.to_string()),
        E::Busy { .. } => unsent("busy"),
        E::Timeout { phase: Phase::Connect | Phase::Tls, .. } => unsent("timeout"),
        E::Timeout { .. } => TokenError::sent(Class::Transient, "timeout", error.to_string()),
        _ => TokenError::sent(Class::Transient, "unreachable", error.to_string()),
    }
}
