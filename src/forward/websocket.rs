//! What a connection turns into when the origin agrees to a WebSocket: two streams of bytes, joined.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use super::caller::Place;
use super::exchange::Exchange;
use super::registry::{Activity, Claim};
use super::splice::splice;

/// What a connection becomes when its HTTP has ended: a WebSocket joined to the origin's.
pub type UpgradeSlot = Arc<Mutex<Option<Switched>>>;

/// Both halves of a WebSocket but the client's stream, which its connection still holds.
pub struct Switched {
    origin: hyper::upgrade::OnUpgrade,
    exchange: Box<Exchange>,
    /// For the registry, once the connection has switched.
    pub claim: Option<Claim>,
    _place: Place,
}

/// A handshake that the origin has not answered yet.
pub(super) struct Pending {
    pub upgrade: UpgradeSlot,
    pub claim: Claim,
    pub place: Place,
}

/// A handshake that the origin agreed to.
pub(super) struct Ready {
    pending: Box<Pending>,
    origin: hyper::upgrade::OnUpgrade,
}

impl Pending {
    pub(super) fn with(self: Box<Self>, origin: hyper::upgrade::OnUpgrade) -> Ready {
        Ready { pending: self, origin }
    }
}

impl Ready {
    pub(super) fn leave(self, exchange: Box<Exchange>) {
        let Pending { upgrade, claim, place } = *self.pending;
        *upgrade.lock() =
            Some(Switched { origin: self.origin, exchange, claim: Some(claim), _place: place });
    }
}

impl Switched {
    /// Joins the client's stream to the origin's until both have ended.
    pub async fn run<C>(mut self, client: C, activity: &Arc<Activity>, idle: Duration)
    where
        C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        match self.origin.await {
            Ok(origin) => {
                let passed = splice(client, TokioIo::new(origin), activity, idle).await;
                self.exchange.spliced(passed.from_client, passed.to_client);
            }
            Err(error) => self.exchange.failed(&error),
        }
    }
}
