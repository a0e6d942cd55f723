//! Accepting connections, and going on when the machine runs short.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::Doors;
use super::ca::certificate_names;
use super::connection::{self, Arrived};
use crate::forward::{Channel, Watched};
use crate::ids::CallerId;
use crate::stream::Ahead;
use crate::telemetry;

/// After `accept` failed for want of descriptors or memory: long enough for some to come back.
const BACK_OFF: Duration = Duration::from_millis(100);

/// One bound address of the proxy.
pub struct Listener {
    pub socket: TcpListener,
    pub protocol: Protocol,
}

/// What a listener speaks, and whom it knows.
#[derive(Clone)]
pub enum Protocol {
    Clear,
    /// Renewed while it listens.
    Tls(Arc<ArcSwap<ServerConfig>>),
    /// A loopback listener of one caller, for one user's processes.
    Own {
        caller: CallerId,
        admits: fn(SocketAddr, SocketAddr) -> bool,
    },
}

impl Listener {
    /// Accepts until the drain begins. Never ends because of an error: a full descriptor table is
    /// waited out.
    pub async fn run(self, doors: Arc<Doors>, places: Arc<Semaphore>) {
        loop {
            // A place first: beyond the limit, clients wait in the kernel's queue.
            // The drain is looked for in both waits: a place may be held by a tunnel for hours.
            let accepting = async {
                let place = places.clone().acquire_owned().await.ok()?;
                Some((place, self.socket.accept().await))
            };
            let accepted = tokio::select! {
                accepted = accepting => accepted,
                () = doors.draining.cancelled() => return,
            };
            let Some((place, accepted)) = accepted else { return };
            match accepted {
                Ok((stream, peer)) => {
                    let protocol = self.protocol.clone();
                    doors.tasks.spawn(admit(doors.clone(), stream, peer, protocol, place));
                }
                Err(error) => wait_out(&error).await,
            }
        }
    }
}

async fn wait_out(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !of_one_connection {
        tracing::error!(%error, "accept failed; trying again");
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// Serves one connection; its place is free again when it has ended.
async fn admit(
    doors: Arc<Doors>,
    stream: TcpStream,
    peer: SocketAddr,
    protocol: Protocol,
    _place: OwnedSemaphorePermit,
) {
    // Small writes are heads and SSE events: waiting to fill a segment would delay them.
    let _ = stream.set_nodelay(true);
    let _active = doors.forwarder.telemetry.metrics.connection(telemetry::Listener::Proxy);
    let registered = doors.forwarder.registry.register();
    let activity = registered.activity.clone();
    let local = stream.local_addr();
    let stream = Watched::new(stream, activity.clone());
    let channel = match protocol {
        Protocol::Clear => Channel::Anonymous,
        Protocol::Own { caller, admits } if local.is_ok_and(|local| admits(local, peer)) => {
            Channel::Listener(caller)
        }
        Protocol::Own { .. } => return,
        // Boxed: most listeners are not of this kind, and every connection would have its room.
        Protocol::Tls(config) => {
            let arrived = Arrived { peer, channel: Channel::Anonymous, activity };
            return Box::pin(admit_tls(&doors, stream, arrived, config.load_full())).await;
        }
    };
    connection::serve(&doors, stream, Arrived { peer, channel, activity }, false).await;
}

/// One that speaks TLS with the proxy itself.
async fn admit_tls(
    doors: &Arc<Doors>,
    stream: Watched<TcpStream>,
    arrived: Arrived,
    config: Arc<ServerConfig>,
) {
    arrived.activity.becomes_opaque();
    let handshake = Box::pin(TlsAcceptor::from(config).accept(Ahead::new(stream)));
    let timed = tokio::time::timeout(doors.limits.handshake_timeout, handshake).await;
    // A failed handshake with the proxy itself is the client's to report.
    let Ok(Ok(tls)) = timed else { return };
    let (_, session) = tls.get_ref();
    let channel = match session.peer_certificates().and_then(<[_]>::first) {
        Some(certificate) => Channel::Certificate(certificate_names(certificate)),
        None => Channel::Anonymous,
    };
    let http2 = session.alpn_protocol() == Some(b"h2");
    if !http2 {
        arrived.activity.reads_heads();
    }
    connection::serve(doors, Box::new(tls), Arrived { channel, ..arrived }, http2).await;
}
