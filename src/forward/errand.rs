//! One request made ready for its origin: stripped, addressed, dressed with the credential, and kept
//! so that it can go once more. And the answer made fit for the client.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::exchange::Exchange;
use super::head::{self, SOURCE};
use super::plan::Plan;
use super::refusal::Refusal;
use super::signing::Reserved;
use super::{Arrival, Content};
use crate::catalog::Choice;
use crate::credentials::{Current, Slot, State};
use crate::inject::Mask;
use crate::upstream::{Destination, RequestBody, ResponseBody};
use http::header::{EXPECT, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body as _;

/// A request that is ready to go, and what is needed to send it once more.
pub(super) struct Errand {
    pub destination: Destination,
    pub(super) parts: Parts,
    pub(super) target: PathAndQuery,
    pub(super) body: Option<RequestBody>,
    pub credential: Option<Credential>,
    /// What is attached here is not all: a body or a signature is still to come.
    pub(super) unfinished: Option<Choice>,
    only_signed: bool,
    /// The head before anything was attached, kept only where a second try is possible.
    undressed: Option<Box<(Parts, PathAndQuery)>>,
    pub mask: Option<Mask>,
    /// Held for as long as the body is in memory for its signature.
    pub(super) room: Option<Reserved>,
}

pub(super) struct Credential {
    pub slot: Arc<Slot>,
    pub current: Arc<Current>,
}

impl Errand {
    pub(super) fn new(
        plan: Plan,
        mut parts: Parts,
        target: PathAndQuery,
        body: Option<Content>,
        exchange: &mut Exchange,
    ) -> Result<Box<Self>, Refusal> {
        let Plan { destination, slot, .. } = plan;
        address(&mut parts.headers, &destination);
        let repeatable = parts.method.is_safe() && body.as_ref().is_none_or(Content::is_empty);
        let body = body.map(|body| request_body(body, &parts, exchange));
        let body = body.unwrap_or_else(RequestBody::empty);
        let undressed = (repeatable && slot.as_ref().is_some_and(|slot| slot.renewable()))
            .then(|| Box::new((parts.clone(), target.clone())));
        let credential = slot.map(|slot| Credential { current: slot.current().clone(), slot });
        let mut errand = Box::new(Self {
            destination,
            parts,
            target,
            body: Some(body),
            credential,
            unfinished: None,
            only_signed: false,
            undressed,
            mask: None,
            room: None,
        });
        errand.dress()?;
        Ok(errand)
    }

    /// Attaches the credential. What the client had in that place was its own and goes.
    fn dress(&mut self) -> Result<(), Refusal> {
        let Some(Credential { slot, current }) = &self.credential else { return Ok(()) };
        let account = || slot.account.clone();
        let attachable = match &current.state {
            State::Ready(attachable) => attachable,
            State::Unavailable(reason) => {
                return Err(Refusal::Credential { account: account(), reason: reason.clone() });
            }
        };
        let Destination { host, port, .. } = &self.destination;
        let choice = slot.auth().choice(host, *port, self.target.path());
        let Some(prepared) = attachable.of(choice) else { return Ok(()) };
        prepared
            .attach(&mut self.parts.headers, &mut self.target)
            .map_err(|_| Refusal::Attach { account: account() })?;
        self.unfinished = prepared.has_more().then_some(choice);
        self.only_signed = prepared.only_signs();
        self.mask = slot.auth().scrub.then(|| prepared.mask().clone());
        Ok(())
    }

    /// Ready for a second try with the credential as it is now; false when there can be none.
    pub(super) fn rewind(&mut self) -> Result<bool, Refusal> {
        let Some(undressed) = self.undressed.take() else { return Ok(false) };
        (self.parts, self.target) = *undressed;
        self.body = Some(RequestBody::empty());
        if let Some(credential) = &mut self.credential {
            credential.current = credential.slot.current().clone();
        }
        self.dress()?;
        // Only what has no body is sent twice.
        self.finish_with(&[])?;
        Ok(true)
    }

    pub(super) fn request(&mut self) -> Result<Request<RequestBody>, Refusal> {
        let body = self.body.take().unwrap_or_else(RequestBody::empty);
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = std::mem::take(&mut self.parts.headers);
        Ok(request)
    }

    /// Whether the origin said no to the credential: a 401, or what the app's definition says
    /// instead. Bodies are not looked at: they are streamed.
    pub(super) fn is_refused_by<B>(&self, response: &Response<B>) -> bool {
        let Some(credential) = &self.credential else { return false };
        let oauth2 = credential.slot.auth().oauth2.as_ref();
        let signal = oauth2.and_then(|oauth2| oauth2.dead_signal.as_ref());
        let Some(signal) = signal.filter(|signal| !signal.needs_body()) else {
            return response.status() == StatusCode::UNAUTHORIZED;
        };
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<_> = challenges.filter_map(|value| value.to_str().ok()).collect();
        signal.is_met(response.status().as_u16(), &challenges.join(", "), None)
    }

    pub(super) fn arrive(
        self: Box<Self>,
        response: Response<ResponseBody>,
    ) -> Result<Arrival, Refusal> {
        let response = self.undress(response)?;
        Ok(Arrival::Answer { response, mask: self.mask, signed: self.only_signed })
    }

    /// Makes the origin's answer fit for the client.
    pub(super) fn undress(
        &self,
        mut response: Response<ResponseBody>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(Refusal::OriginSaid407);
        }
        head::strip_response(response.headers_mut());
        if let Some(mask) = &self.mask {
            mask.headers(response.headers_mut());
        }
        response.headers_mut().insert(SOURCE, HeaderValue::from_static("upstream"));
        Ok(response)
    }
}

impl Content {
    fn is_empty(&self) -> bool {
        match self {
            Self::Stream(body, _) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }
}

/// An empty body needs no counting and no deadline.
fn request_body(body: Content, parts: &Parts, exchange: &mut Exchange) -> RequestBody {
    let (body, busy) = match body {
        _ if body.is_empty() => return RequestBody::empty(),
        Content::Stream(body, busy) => (body, busy),
        Content::Whole(bytes) => {
            exchange.receives(Arc::new(AtomicU64::new(bytes.len() as u64)));
            return RequestBody::full(bytes);
        }
    };
    let received = Arc::new(AtomicU64::new(0));
    exchange.receives(received.clone());
    let body = RequestBody::stream(body).counted(received).keeping(busy);
    if parts.headers.contains_key(EXPECT) { body.after_continue() } else { body }
}

/// `Host` says where the request goes. Most clients have written just that.
fn address(headers: &mut HeaderMap, to: &Destination) {
    let default = if to.tls { 443 } else { 80 };
    let text: Cow<'_, str> = match to.port == default {
        true if to.host.ip().is_none() => to.host.as_str().into(),
        true => to.host.to_string().into(),
        false => format!("{}:{}", to.host, to.port).into(),
    };
    let mut there = headers.get_all(HOST).iter();
    let says_so = there.next().is_some_and(|value| value == &*text) && there.next().is_none();
    if !says_so {
        let value = HeaderValue::from_str(&text);
        headers.insert(HOST, value.expect("a host is visible ASCII by construction"));
    }
}
