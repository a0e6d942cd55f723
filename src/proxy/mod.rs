//! The doors of the proxy: listeners, the forward proxy's two forms, interception, the gateway and
//! the magic host. Each turns what a client sent into one target and one identity, and hands the
//! request to `forward`.

mod aside;
pub mod ca;
mod connection;
mod door;
mod gateway;
mod intercept;
mod listener;
mod magic;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use gateway::{aim, answer as answer_gateway, join};
pub use listener::{Listener, Protocol};
pub use magic::{HOST as MAGIC_HOST, certificate as ca_certificate, landing as landing_page};

use crate::forward::{Forwarder, Patience};
use ca::CertificateAuthority;

/// What every connection needs.
pub struct Doors {
    pub forwarder: Arc<Forwarder>,
    pub ca: Arc<CertificateAuthority>,
    pub limits: Limits,
    /// Cancelled when no new requests are taken.
    pub draining: CancellationToken,
    /// Connections and tunnels, so that a drain can wait for them.
    pub tasks: TaskTracker,
}

/// Bounds on what a peer may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_connections: usize,
    pub max_header_bytes: usize,
    pub handshake_timeout: Duration,
    pub patience: Patience,
}
