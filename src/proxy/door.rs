//! The forward proxy's own door: CONNECT, absolute-form, and the magic host. What names no target
//! that way (`GET /x`) is never forwarded. RFC 9112 §3.2.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;

use super::connection::Connection;
use super::{Doors, magic, tunnel};
use crate::forward::{self, Body, Identity, Inbound, Refusal, Target, World, authenticate};
use crate::host::Authority;
use crate::telemetry::{AuditEvent, AuthFailure, Door};

/// Answers one request of a client that speaks to us as a proxy.
pub async fn answer(connection: &Arc<Connection>, request: Request<Incoming>) -> Response<Body> {
    let world = connection.doors.forwarder.world();
    let answered = if request.method() == Method::CONNECT {
        tunnel::connect(connection, &world, request).await
    } else {
        absolute(connection, &world, request).await
    };
    answered.unwrap_or_else(|refusal| refusal.into_response(connection.doors.forwarder.next_id()))
}

async fn absolute(
    connection: &Connection,
    world: &World,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    forward::check_head(&parts)?;
    let Some(authority) = parts.uri.authority() else { return Ok(magic::spoken_to_directly()) };
    let secure = match parts.uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(Refusal::NotForwarded("only http and https are forwarded")),
    };
    check_host_field(&parts)?;
    let authority = Authority::parse(authority.as_str(), if secure { 443 } else { 80 });
    let identity = identify(connection, world, &parts.headers)?;
    let Authority { host, port } = authority?;
    if host.as_str() == magic::HOST {
        let page = magic::Page { world, identity: &identity, ca: &connection.doors.ca };
        return Ok(magic::answer(&page, parts.uri.path()));
    }
    let forwarder = &connection.doors.forwarder;
    let inbound = Inbound {
        id: forwarder.next_id(),
        door: Door::Plain,
        client: connection.peer.ip(),
        identity,
        target: Target { host, port, secure },
        parts,
        body,
        upgrade: connection.switched.clone(),
    };
    Ok(forwarder.forward(world, inbound).await)
}

/// RFC 9112 §3.2: HTTP/1.1 has exactly one valid `Host`, even where absolute-form overrides it.
fn check_host_field(parts: &http::request::Parts) -> Result<(), Refusal> {
    match parts.headers.get(HOST) {
        Some(value) => {
            let text = value.to_str().map_err(|_| Refusal::Malformed("Host is not text"))?;
            Authority::parse(text, 80)?;
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
    authenticate(world, &connection.channel, headers)
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

/// A CONNECT carries no content (RFC 9110 §9.3.6); what follows it is the tunnel's.
pub fn check_connect(parts: &http::request::Parts) -> Result<(), Refusal> {
    let framed = parts.headers.contains_key(TRANSFER_ENCODING)
        || parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if framed {
        Err(Refusal::Malformed("CONNECT with content"))
    } else {
        forward::check_head(parts)
    }
}
