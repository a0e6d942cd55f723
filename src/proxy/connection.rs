//! One connection of a client: HTTP/1.1 or HTTP/2 served on it, and what it turns into when a
//! request switches protocols.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::Doors;
use super::aside::Aside;
use super::intercept::{Inside, Prefixed};
use super::tunnel::Opened;
use super::{door, intercept, tunnel};
use crate::forward::{
    Acquaintance, Activity, Body, Channel, Content, Identity, Inbound, Target, UpgradeSlot, Watched,
};
use crate::stream::Gate;
use crate::telemetry::{Door, TunnelMode};

/// Streams of one HTTP/2 connection at once. 100 is what RFC 9113 §6.5.2 recommends as the least.
const MAX_STREAMS: u32 = 256;
/// Windows that keep a fast upload moving without letting one connection hold much memory.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What is known of a connection before its first request.
pub struct Arrived {
    pub peer: SocketAddr,
    pub channel: Channel,
    pub activity: Arc<Activity>,
}

/// One connection, shared by its requests.
pub struct Connection {
    pub doors: Arc<Doors>,
    pub peer: SocketAddr,
    pub channel: Channel,
    pub activity: Arc<Activity>,
    pub stage: Stage,
    pub acquaintance: Acquaintance,
    /// A WebSocket that a request has opened.
    pub switched: UpgradeSlot,
    /// A tunnel that a CONNECT has opened.
    pub opened: Mutex<Option<Opened>>,
    http2: bool,
}

/// Which part of the way the connection's requests are on.
pub enum Stage {
    /// Spoken to as a proxy.
    Outside,
    /// Inside a CONNECT tunnel.
    Inside(Inside),
}

/// Serves a client of the proxy until it is done.
pub async fn serve<S>(doors: &Arc<Doors>, stream: S, arrived: Arrived, http2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Connection::new(doors, arrived, http2, Stage::Outside);
    if http2 {
        return Box::pin(connection.http2(stream)).await;
    }
    let Some(stream) = connection.http1(stream).await else { return };
    let opened = connection.opened.lock().take();
    match opened {
        Some(opened) => tunnel::run(&connection, opened, stream).await,
        None => Box::pin(connection.websocket(stream)).await,
    }
}

/// Serves what a client says inside an intercepted tunnel. Boxed, because it is the inner half of a
/// recursion: a connection holds a tunnel, which holds a connection.
pub fn serve_inside<S>(
    doors: Arc<Doors>,
    stream: S,
    arrived: Arrived,
    http2: bool,
    inside: Inside,
) -> Pin<Box<dyn Future<Output = ()> + Send>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(async move {
        let connection = Connection::new(&doors, arrived, http2, Stage::Inside(inside));
        if http2 {
            Box::pin(connection.http2(stream)).await;
        } else if let Some(stream) = connection.http1(stream).await {
            Box::pin(connection.websocket(stream)).await;
        }
    })
}

impl Connection {
    fn new(doors: &Arc<Doors>, arrived: Arrived, http2: bool, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            doors: doors.clone(),
            peer: arrived.peer,
            channel: arrived.channel,
            activity: arrived.activity,
            stage,
            acquaintance: Acquaintance::default(),
            switched: UpgradeSlot::default(),
            opened: Mutex::new(None),
            http2,
        })
    }

    /// Serves HTTP/1.1 until its end. Returns the stream if the last request asked to switch
    /// protocols on it.
    ///
    /// While nothing happens it rests: hyper, with its buffers, is let go, and comes back with the
    /// first byte of the next request. Half of what an idle connection costs is hyper's.
    async fn http1<S>(self: &Arc<Self>, stream: S) -> Option<Prefixed<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            // Heads have their deadline in the sweep, without a timer for each.
            .header_read_timeout(None)
            .max_buf_size(self.doors.limits.max_header_bytes.max(MIN_BUFFER_BYTES))
            .max_header_size(self.doors.limits.max_header_bytes)
            .half_close(matches!(self.stage, Stage::Outside));
        let (drain, killed) = (pin!(self.doors.draining.cancelled()), pin!(self.activity.killed()));
        let (mut drain, mut killed) = (Aside::new(drain), Aside::new(killed));
        let mut stream = Prefixed::new(Bytes::new(), stream);
        loop {
            let service = service_fn(|request| answer(self.clone(), request));
            // Boxed: its room is free again at rest, and while a tunnel that came of it is open.
            let mut served =
                Box::new(builder.serve_connection(TokioIo::new(Gate::new(stream)), service));
            let mut draining = false;
            let ended = loop {
                tokio::select! {
                    biased;
                    // Errors are the peer's: it broke off, or sent what is not HTTP and got a 400.
                    served = served.as_mut() => {
                        served.ok()?;
                        break true;
                    }
                    () = &mut drain, if !draining => {
                        draining = true;
                        Pin::new(served.as_mut()).graceful_shutdown();
                    }
                    () = &mut killed => return None,
                    // After hyper: it has just been asked, and had nothing to do.
                    () = at_rest(&self.activity), if !draining => break false,
                }
            };
            let parts = served.into_parts();
            stream = parts.io.into_inner().into_inner().preceded_by(parts.read_buf);
            if ended {
                return self.has_turned().then_some(stream);
            }
            let _resting = self.doors.forwarder.telemetry.metrics.resting();
            tokio::select! {
                biased;
                () = &mut killed => return None,
                awake = rest(&mut stream, &mut drain) => if !awake { return None },
            }
        }
    }

    /// Whether a request has made the connection a tunnel or a WebSocket.
    fn has_turned(&self) -> bool {
        self.opened.lock().is_some() || self.switched.lock().is_some()
    }

    async fn http2<S>(self: &Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| answer(self.clone(), request));
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(
                u32::try_from(self.doors.limits.max_header_bytes).unwrap_or(u32::MAX),
            );
        let served = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(served);
        let mut draining = false;
        loop {
            tokio::select! {
                _ = served.as_mut() => return,
                () = self.doors.draining.cancelled(), if !draining => {
                    draining = true;
                    served.as_mut().graceful_shutdown();
                }
                () = self.activity.killed() => return,
            }
        }
    }

    async fn websocket<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(mut switched) = self.switched.lock().take() else { return };
        self.activity.becomes_opaque();
        if let Some(claim) = switched.claim.take() {
            self.doors.forwarder.claim(&self.activity, claim);
        }
        let metrics = &self.doors.forwarder.telemetry.metrics;
        let _active = metrics.tunnel(TunnelMode::Intercept);
        let idle = self.doors.forwarder.settings.idle_timeout;
        switched.run(stream, &self.activity, idle).await;
    }

    /// A request of this connection at the start of its journey.
    pub fn inbound(
        &self,
        door: Door,
        identity: Identity,
        target: Target,
        parts: Parts,
        body: Incoming,
    ) -> Inbound {
        Inbound {
            id: self.doors.forwarder.next_id(),
            door,
            client: self.peer.ip(),
            identity,
            target,
            parts,
            body: Some(Content::Stream(body, Some(self.activity.busy()))),
            upgrade: self.switched.clone(),
        }
    }

    pub fn arrived(&self) -> Arrived {
        Arrived { peer: self.peer, channel: self.channel.clone(), activity: self.activity.clone() }
    }

    /// Leaves a tunnel for the connection to carry out. HTTP/2 has many at once, each on a stream
    /// of its own, so there it becomes a task.
    pub fn leave(self: &Arc<Self>, opened: Opened, on_upgrade: OnUpgrade) {
        if !self.http2 {
            *self.opened.lock() = Some(opened);
            return;
        }
        let doors = self.doors.clone();
        let (peer, channel) = (self.peer, self.channel.clone());
        self.doors.tasks.spawn(async move {
            let Ok(upgraded) = on_upgrade.await else { return };
            // Its own entry: it may belong to another caller than its neighbours, and be quiet
            // while they are not.
            let registered = doors.forwarder.registry.register();
            let activity = registered.activity.clone();
            let stream = Watched::new(TokioIo::new(upgraded), activity.clone());
            let arrived = Arrived { peer, channel, activity };
            let connection = Self::new(&doors, arrived, false, Stage::Outside);
            tunnel::run(&connection, opened, stream).await;
        });
    }
}

/// Resolves when there is nothing to do but wait for a next request.
async fn at_rest(activity: &Activity) {
    std::future::poll_fn(|_| match activity.takes_a_rest() && activity.is_between_requests() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// Waits for the next request; false when none will come.
async fn rest<S>(stream: &mut Prefixed<S>, drain: impl Future<Output = ()>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let awake = tokio::select! {
        awake = stream.has_more() => awake,
        () = drain => false,
    };
    if !awake {
        let _ = stream.shutdown().await;
    }
    awake
}

/// hyper needs room for at least this much.
const MIN_BUFFER_BYTES: usize = 8192;

/// One request of a connection. A panic costs that request, not its neighbours.
fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> {
    let busy = connection.activity.request_begins();
    let answer = async move {
        match &connection.stage {
            Stage::Outside => door::answer(&connection, request).await,
            Stage::Inside(inside) => intercept::answer(&connection, inside, request).await,
        }
    };
    AssertUnwindSafe(answer).catch_unwind().map(|answered| {
        let response = answered.unwrap_or_else(|_| broken());
        Ok(response.map(|body| body.busy(busy)))
    })
}

fn broken() -> Response<Body> {
    let mut response = Response::new(Body::from("countersign failed on this request\n".to_owned()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
