//! CONNECT: whether a tunnel is opened, and whether it is looked into.
//!
//! A host of an app is intercepted and a refusal is answered inside, because no client shows the
//! body of a refused CONNECT. Anything else is a blind tunnel to a checked address, or a 403.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::connection::Connection;
use super::{door, intercept, magic};
use crate::config::Untouched;
use crate::forward::{
    Body, Claim, Exchange, Identity, Opening, Place, Refusal, Target, World, plan, splice,
};
use crate::host::Authority;
use crate::telemetry::{Door, TunnelMode};

/// A tunnel that was agreed to.
pub enum Opened {
    Intercepted { authority: Authority, identity: Identity },
    Blind { origin: TcpStream, exchange: Box<Exchange>, identity: Identity, _place: Place },
}

/// Answers a CONNECT. Only a caller that is not known, a request that does not parse and a host of
/// no app are refused here; everything else is refused inside, where clients can see why.
pub async fn connect(
    connection: &Arc<Connection>,
    world: &World,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let (authority, identity) = match enter(connection, world, &parts) {
        Ok(entered) => entered,
        Err(refusal) => {
            return closing(door::refuse(connection, Door::Connect, &parts, None, refusal));
        }
    };
    let opened = match wants_interception(world, &identity, &authority) {
        true => Opened::Intercepted { authority, identity },
        false => {
            match Box::pin(dial(connection, world, &identity, &authority, &via_of(&parts))).await {
                Ok(opened) => opened,
                Err(response) => return response,
            }
        }
    };
    connection.leave(opened, on_upgrade);
    Response::new(Body::empty())
}

fn enter(
    connection: &Connection,
    world: &World,
    parts: &Parts,
) -> Result<(Authority, Identity), Refusal> {
    connection.doors.forwarder.check(parts)?;
    check_no_content(parts)?;
    let authority =
        parts.uri.authority().ok_or(Refusal::Malformed("CONNECT without an authority"))?;
    let authority = Authority::parse_connect(authority.as_str());
    let identity = door::identify(connection, world, &parts.headers)?;
    Ok((authority?, identity))
}

/// A CONNECT has no content (RFC 9110 §9.3.6); what follows it is the tunnel's.
fn check_no_content(parts: &Parts) -> Result<(), Refusal> {
    let framed = parts.headers.contains_key(TRANSFER_ENCODING)
        || parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if framed {
        return Err(Refusal::Malformed("CONNECT with content"));
    }
    // RFC 9112 §3.2.3: host and port, and nothing else. hyper takes a whole URL.
    if parts.uri.scheme().is_some() {
        return Err(Refusal::Malformed("CONNECT names a host and a port, not a URL"));
    }
    Ok(())
}

/// Hosts of apps, unless the config leaves alone those of which the caller has no account. A port
/// that the app does not list is intercepted too, to refuse it there: never a blind tunnel to an
/// app's host.
fn wants_interception(world: &World, identity: &Identity, authority: &Authority) -> bool {
    if authority.host.as_str() == magic::HOST {
        return true;
    }
    let policy = &identity.caller.policy;
    let claims = world.index.claims_for(&authority.host, |app| policy.holds(app));
    if claims.is_empty() {
        return false;
    }
    let bound = || claims.ids().any(|app| policy.holds(app));
    let listed = claims.ports().any(|port| port == authority.port);
    world.unbound == Untouched::Deny || !listed || bound()
}

fn via_of(parts: &Parts) -> String {
    let fields = parts.headers.get_all(http::header::VIA).iter();
    fields.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ")
}

/// Opens a blind tunnel, or says why not.
async fn dial(
    connection: &Connection,
    world: &World,
    identity: &Identity,
    authority: &Authority,
    via: &str,
) -> Result<Opened, Response<Body>> {
    let forwarder = &connection.doors.forwarder;
    let mut exchange = Exchange::open(
        &forwarder.telemetry,
        &Opening {
            id: forwarder.next_id(),
            door: Door::Connect,
            client: connection.peer.ip(),
            caller: Some(&identity.caller.id),
            method: &Method::CONNECT,
            host: Some(&authority.host),
            port: authority.port,
            target: &PathAndQuery::from_static("/"),
        },
    );
    let dialled = async {
        let place = identity.caller.admit_tunnel(forwarder.settings.max_tunnels_per_caller)?;
        exchange.hold(identity.caller.admit()?);
        may_tunnel(world, identity, authority, &mut exchange)?;
        exchange.record_first().await?;
        let asked = std::time::Instant::now();
        let origin = forwarder.upstream.dial_onwards(authority, via).await?;
        exchange.answered(StatusCode::OK, asked);
        Ok((origin, place))
    };
    match dialled.await {
        Ok((origin, _place)) => {
            Ok(Opened::Blind { origin, exchange, identity: identity.clone(), _place })
        }
        Err(refusal) => Err(refuse(exchange, refusal)),
    }
}

fn refuse(mut exchange: Box<Exchange>, refusal: Refusal) -> Response<Body> {
    exchange.refused(&refusal);
    closing(refusal.into_response(exchange.id))
}

/// Node's process does not end while a connection stays open after a refused CONNECT. Clients that
/// send their password only when asked (git) open another.
fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn may_tunnel(
    world: &World,
    identity: &Identity,
    authority: &Authority,
    exchange: &mut Exchange,
) -> Result<(), Refusal> {
    let Authority { host, port } = authority.clone();
    let target = Target { host, port, secure: true };
    let plan = plan(world, &identity.caller, &target, &Method::CONNECT, "/", None)?;
    let would_deny = plan.would_deny.as_ref().map(crate::policy::Denial::reason);
    exchange.decided(None, None, plan.rule, would_deny);
    Ok(())
}

/// Carries out a tunnel on the client's stream.
pub async fn run<S>(connection: &Connection, opened: Opened, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connection.activity.becomes_opaque();
    let forwarder = &connection.doors.forwarder;
    match opened {
        Opened::Intercepted { authority, identity } => {
            let claim = Claim { identity: identity.clone(), account: None };
            forwarder.claim(&connection.activity, claim);
            let _active = forwarder.telemetry.metrics.tunnel(TunnelMode::Intercept);
            intercept::run(connection, authority, identity, stream).await;
        }
        Opened::Blind { origin, mut exchange, identity, _place } => {
            forwarder.claim(&connection.activity, Claim { identity, account: None });
            let _active = forwarder.telemetry.metrics.tunnel(TunnelMode::Blind);
            exchange.tunnel_opened();
            let idle = forwarder.settings.idle_timeout;
            let passed = Box::pin(splice(stream, origin, &connection.activity, idle)).await;
            exchange.spliced(passed.from_client, passed.to_client);
        }
    }
}
