//! Inside a tunnel to an app's host: TLS with a leaf of ours (or plain HTTP, which some clients
//! tunnel too), and requests whose authority must be the tunnel's.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use http::header::HOST;
use http::request::Parts;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{self, Connection};
use super::{door, magic};
use crate::forward::{Body, Identity, Refusal, Target, World};
use crate::host::{Authority, Host};
use crate::ids::CallerId;
use crate::stream::{Ahead, writes_through};
use crate::telemetry::{AuditEvent, Door};

/// What holds for every request inside one tunnel.
pub struct Inside {
    pub authority: Authority,
    pub identity: Identity,
    pub secure: bool,
}

/// The first byte of a TLS record that carries a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// A fatal alert `unrecognized_name` as a record (RFC 6066 §3, RFC 8446 §6).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// Serves the inside of a tunnel, whichever of the two the client speaks in it.
pub async fn run<S>(connection: &Connection, authority: Authority, identity: Identity, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let timeout = connection.doors.limits.handshake_timeout;
    // Boxed: a handshake is short, and its room would be held for as long as the tunnel is open.
    let begun = Box::pin(begin(connection, &authority, stream));
    let begun = tokio::time::timeout(timeout, begun);
    let begun = tokio::select! {
        begun = begun => begun,
        () = connection.activity.killed() => return,
    };
    let arrived = connection.arrived();
    let doors = connection.doors.clone();
    let caller = identity.caller.id.clone();
    let inside = |secure| Inside { authority: authority.clone(), identity, secure };
    match begun {
        Ok(Ok(Begun::Tls(tls))) => {
            let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            if !http2 {
                connection.activity.reads_heads();
            }
            connection::serve_inside(doors, tls, arrived, http2, inside(true)).await;
        }
        Ok(Ok(Begun::Clear(stream))) => {
            connection.activity.reads_heads();
            connection::serve_inside(doors, stream, arrived, false, inside(false)).await;
        }
        Ok(Err(why)) => note_failure(connection, &caller, &authority, &why),
        Err(_) => note_failure(connection, &caller, &authority, "the handshake took too long"),
    }
}

enum Begun<S> {
    Tls(Box<TlsStream<Ahead<Prefixed<S>>>>),
    Clear(Prefixed<S>),
}

async fn begin<S>(
    connection: &Connection,
    authority: &Authority,
    stream: S,
) -> Result<Begun<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Not one byte alone: nearly always the whole hello comes at once.
    let mut stream = Prefixed::new(Bytes::new(), stream);
    stream.has_more().await;
    match stream.prefix.first() {
        Some(&TLS_HANDSHAKE) => {
            accept(connection, authority, stream).await.map(|tls| Begun::Tls(Box::new(tls)))
        }
        Some(letter) if letter.is_ascii_alphabetic() => Ok(Begun::Clear(stream)),
        Some(_) => Err("neither TLS nor HTTP came in the tunnel".to_owned()),
        None => Err("the client closed the tunnel without a word".to_owned()),
    }
}

/// A leaf is made for the CONNECT host and no other, whatever name the client says in TLS.
async fn accept<S>(
    connection: &Connection,
    authority: &Authority,
    stream: Prefixed<S>,
) -> Result<TlsStream<Ahead<Prefixed<S>>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), Ahead::new(stream)).await;
    let mut start = start.map_err(|error| error.to_string())?;
    if !names(start.client_hello().server_name(), &authority.host) {
        let _ = start.io.write_all(&UNRECOGNIZED_NAME).await;
        let _ = start.io.shutdown().await;
        return Err("the TLS server name is not the host of the CONNECT".to_owned());
    }
    let config = connection.doors.ca.server_config(&authority.host);
    let config = config.map_err(|error| error.to_string())?;
    start.into_stream(config).await.map_err(|error| error.to_string())
}

/// No name at all is fine: the CONNECT has said it.
fn names(server_name: Option<&str>, host: &Host) -> bool {
    server_name.is_none_or(|name| name.parse::<Host>().is_ok_and(|name| name == *host))
}

fn note_failure(connection: &Connection, caller: &CallerId, authority: &Authority, why: &str) {
    let host = authority.host.as_str();
    let event = AuditEvent::HandshakeFailed { caller: Some(caller), host, error: why };
    connection.doors.forwarder.telemetry.event(&event);
}

/// Answers one request inside a tunnel.
pub fn answer(
    connection: &Arc<Connection>,
    inside: &Inside,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Body>> {
    let (parts, body) = request.into_parts();
    let forwarder = &connection.doors.forwarder;
    let world = forwarder.world();
    let response = match enter(connection, inside, &world, &parts) {
        Ok(Entered::Request { identity, target }) => {
            let inbound = connection.inbound(Door::Intercept, identity, target, parts, body);
            return Either::Left(forwarder.forward(&world, inbound));
        }
        Ok(Entered::Magic(identity)) => door::answer_magic(connection, &world, &identity, &parts),
        Err(refusal) => {
            let caller = Some(&inside.identity.caller.id);
            door::refuse(connection, Door::Intercept, &parts, caller, refusal)
        }
    };
    Either::Right(std::future::ready(response).boxed())
}

/// What a request inside a tunnel is.
enum Entered {
    Magic(Identity),
    Request { identity: Identity, target: Target },
}

fn enter(
    connection: &Connection,
    inside: &Inside,
    world: &World,
    parts: &Parts,
) -> Result<Entered, Refusal> {
    connection.doors.forwarder.check(parts)?;
    check(parts, inside)?;
    // Whoever proved itself at CONNECT must still be who it was: tokens are revoked while tunnels
    // are open.
    let identity = world.renewed(&inside.identity).ok_or(Refusal::UnknownCaller)?;
    let Authority { host, port } = inside.authority.clone();
    if host.as_str() == magic::HOST {
        return Ok(Entered::Magic(identity));
    }
    Ok(Entered::Request { identity, target: Target { host, port, secure: inside.secure } })
}

/// One authority: the tunnel's, the URL's, `:authority` and `Host` must be the same, and so must
/// the scheme.
fn check(parts: &Parts, inside: &Inside) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::NotForwarded("a tunnel inside a tunnel is not opened"));
    }
    let scheme = if inside.secure { "https" } else { "http" };
    if parts.uri.scheme_str().is_some_and(|said| said != scheme) {
        return Err(misdirected(inside, "another scheme"));
    }
    let named = parts.uri.authority().map(http::uri::Authority::as_str);
    let field = parts.headers.get(HOST);
    let field =
        field.map(|value| value.to_str().map_err(|_| Refusal::Malformed("Host is not text")));
    let field = field.transpose()?;
    if named.is_none() && field.is_none() && parts.version != Version::HTTP_10 {
        return Err(Refusal::Malformed("no Host"));
    }
    for text in named.into_iter().chain(field) {
        agree(text, inside)?;
    }
    Ok(())
}

fn agree(text: &str, inside: &Inside) -> Result<(), Refusal> {
    // As nearly every client writes it, and then there is nothing to parse.
    let host = &inside.authority.host;
    if host.ip().is_none() && text == host.as_str() {
        return Ok(());
    }
    // `Host: a.test` inside `CONNECT a.test:8443` leaves the port out: it means the tunnel's.
    let authority = Authority::parse(text, inside.authority.port)?;
    if authority != inside.authority {
        return Err(misdirected(inside, &authority.to_string()));
    }
    Ok(())
}

fn misdirected(inside: &Inside, found: &str) -> Refusal {
    Refusal::Misdirected { expected: inside.authority.to_string(), found: found.to_owned() }
}

/// A stream with bytes that were already read from it.
pub struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    pub fn new(prefix: Bytes, stream: S) -> Self {
        // An empty slice of a read buffer would keep the whole buffer.
        let prefix = if prefix.is_empty() { Bytes::new() } else { prefix };
        Self { prefix, stream }
    }

    /// With bytes that were read from it and are to be read again.
    pub fn preceded_by(self, bytes: Bytes) -> Self {
        if self.prefix.is_empty() {
            return Self::new(bytes, self.stream);
        }
        Self::new([bytes, self.prefix].concat().into(), self.stream)
    }
}

impl<S: AsyncRead + Unpin> Prefixed<S> {
    /// Waits for the next bytes, which are kept; false at the end. Holds no buffer while it waits.
    pub async fn has_more(&mut self) -> bool {
        if !self.prefix.is_empty() {
            return true;
        }
        std::future::poll_fn(|cx| {
            let mut room = [MaybeUninit::uninit(); SOME_BYTES];
            let mut first = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut first));
            self.prefix = Bytes::copy_from_slice(first.filled());
            Poll::Ready(read.is_ok() && !self.prefix.is_empty())
        })
        .await
    }
}

/// Most heads are shorter, and TLS hellos with a post-quantum key share (1.2 KiB of it).
const SOME_BYTES: usize = 2048;

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.has_remaining() {
            let take = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(take));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

writes_through!(Prefixed);
