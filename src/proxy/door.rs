//! The forward proxy's own door: CONNECT, absolute-form, and the magic host. What names no target
//! that way (`GET /x`) is never forwarded. RFC 9112 §3.2.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::Either;
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;

use super::connection::Connection;
use super::{Doors, magic, tunnel};
use crate::forward::{Body, Identity, Opening, Refusal, Target, World};
use crate::host::{Authority, Host};
use crate::ids::CallerId;
use crate::telemetry::{AuditEvent, AuthFailure, Door};

/// Answers one request of a client that speaks to us as a proxy.
pub fn answer(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Body>> {
    let forwarder = &connection.doors.forwarder;
    let world = forwarder.world();
    if request.method() == Method::CONNECT {
        let connected = async move { tunnel::connect(connection, &world, request).await };
        return Either::Right(connected.boxed());
    }
    let (parts, body) = request.into_parts();
    let response = match enter(connection, &world, &parts) {
        Ok(Entered::Request { identity, target }) => {
            let inbound = connection.inbound(Door::Plain, identity, target, parts, body);
            return Either::Left(forwarder.forward(&world, inbound));
        }
        Ok(Entered::Directly) => magic::spoken_to_directly(),
        Ok(Entered::Magic(identity)) => answer_magic(connection, &world, &identity, &parts),
        Err(refusal) => refuse(connection, Door::Plain, &parts, None, refusal),
    };
    Either::Right(std::future::ready(response).boxed())
}

/// What a request on the proxy port is.
enum Entered {
    /// Origin-form: somebody took the proxy for a web server.
    Directly,
    Magic(Identity),
    Request {
        identity: Identity,
        target: Target,
    },
}

fn enter(connection: &Connection, world: &World, parts: &Parts) -> Result<Entered, Refusal> {
    connection.doors.forwarder.check(parts)?;
    let Some(authority) = parts.uri.authority() else { return Ok(Entered::Directly) };
    let secure = match parts.uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(Refusal::NotForwarded("only http and https are forwarded")),
    };
    let default_port = if secure { 443 } else { 80 };
    let text = authority.as_str();
    let authority = Authority::parse(text, default_port);
    // Nearly every client writes both alike, and then one is as good as the other.
    let alike = || parts.headers.get(HOST).is_some_and(|host| host.as_bytes() == text.as_bytes());
    if authority.is_err() || !alike() {
        check_host_field(parts, default_port, authority.as_ref().ok())?;
    }
    let identity = identify(connection, world, &parts.headers)?;
    let Authority { host, port } = authority?;
    if host.as_str() == magic::HOST {
        return Ok(Entered::Magic(identity));
    }
    Ok(Entered::Request { identity, target: Target { host, port, secure } })
}

/// RFC 9112 §3.2: HTTP/1.1 has exactly one valid `Host`, even where absolute-form overrides it. In
/// HTTP/2 one that differs from `:authority` makes the request malformed (RFC 9113 §8.3.1).
fn check_host_field(
    parts: &Parts,
    default_port: u16,
    authority: Option<&Authority>,
) -> Result<(), Refusal> {
    match parts.headers.get(HOST) {
        Some(value) => {
            let text = value.to_str().map_err(|_| Refusal::Malformed("Host is not text"))?;
            let named = Authority::parse(text, default_port)?;
            if parts.version == Version::HTTP_2 && authority != Some(&named) {
                return Err(Refusal::Malformed("Host and :authority differ"));
            }
            Ok(())
        }
        None if parts.version == Version::HTTP_11 => Err(Refusal::Malformed("no Host")),
        None => Ok(()),
    }
}

/// The caller, or a refusal that is counted and recorded. Wrong tokens are limited per address.
pub fn identify(
    connection: &Connection,
    world: &World,
    headers: &http::HeaderMap,
) -> Result<Identity, Refusal> {
    connection
        .acquaintance
        .authenticate(world, &connection.channel, headers)
        .map_err(|refusal| note_stranger(&connection.doors, connection.peer.ip(), refusal))
}

/// Counts and records somebody who is not known; too many wrong tokens get a slower answer.
pub fn note_stranger(doors: &Doors, client: IpAddr, refusal: Refusal) -> Refusal {
    let forwarder = &doors.forwarder;
    let reason = match refusal {
        Refusal::NoCaller => AuthFailure::Missing,
        _ => AuthFailure::Invalid,
    };
    let event = AuditEvent::AuthFailed { reason, claimed: None, client: Some(client), count: 1 };
    forwarder.telemetry.event(&event);
    let guessed = matches!(refusal, Refusal::UnknownCaller);
    if guessed && !forwarder.guesses.allow(client) {
        return Refusal::TooManyGuesses;
    }
    refusal
}

/// Answers for the magic host, wherever it was asked for.
pub fn answer_magic(
    connection: &Connection,
    world: &World,
    identity: &Identity,
    parts: &Parts,
) -> Response<Body> {
    let page = magic::Page { world, identity, ca: &connection.doors.ca };
    let response = magic::answer(&page, parts.uri.path());
    let caller = Some(&identity.caller.id);
    about(connection, Door::Magic, parts, caller, |opening| {
        connection.doors.forwarder.answered_here(opening, response)
    })
}

/// Answers, counts and records a refusal at a door.
pub fn refuse(
    connection: &Connection,
    door: Door,
    parts: &Parts,
    caller: Option<&CallerId>,
    refusal: Refusal,
) -> Response<Body> {
    about(connection, door, parts, caller, |opening| {
        connection.doors.forwarder.refuse(opening, refusal)
    })
}

/// What a record says of a request that has no journey: its host as far as it can be read.
fn about<T>(
    connection: &Connection,
    door: Door,
    parts: &Parts,
    caller: Option<&CallerId>,
    tell: impl FnOnce(&Opening<'_>) -> T,
) -> T {
    let field = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    let named = parts.uri.authority().map(http::uri::Authority::as_str).or(field);
    let authority = named.and_then(|text| Authority::parse(text, 443).ok());
    let target = parts.uri.path_and_query().cloned();
    tell(&Opening {
        id: connection.doors.forwarder.next_id(),
        door,
        client: connection.peer.ip(),
        caller,
        method: &parts.method,
        host: authority.as_ref().map(|authority: &Authority| -> &Host { &authority.host }),
        port: authority.as_ref().map_or(0, |authority| authority.port),
        target: &target.unwrap_or_else(|| PathAndQuery::from_static("/")),
    })
}
