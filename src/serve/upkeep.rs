//! What goes on beside the requests: ending what is over, and bringing numbers up to date.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::forward::{Forwarder, World};
use crate::proxy::Doors;
use crate::proxy::ca::CertificateAuthority;
use crate::telemetry::{Pool, Telemetry};
use crate::vault::Vault;

pub(super) fn watch_metrics(
    telemetry: &Telemetry,
    forwarder: &Forwarder,
    ca: &Arc<CertificateAuthority>,
) {
    let upstream = forwarder.upstream.clone();
    let stats = upstream.stats().clone();
    telemetry.metrics.watch_pool(move || Pool {
        active: stats.open(),
        idle: upstream.idle_connections(),
        opened: stats.opened.load(Ordering::Relaxed),
        reused: stats.reused.load(Ordering::Relaxed),
    });
    telemetry.metrics.ca_expires(ca.not_after());
    know(telemetry, &forwarder.world());
}

/// Metrics have a series for what is configured, and one for everything else.
pub(super) fn know(telemetry: &Telemetry, world: &World) {
    telemetry
        .metrics
        .know(world.catalog.cards().map(|card| &card.id), world.callers().map(|caller| &caller.id));
}

/// Sessions, connect tokens and flows that have expired go; every node may do it.
pub(super) async fn tidy(vault: Vault) {
    let mut tick = tokio::time::interval(TIDY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = vault.sweep().await {
            tracing::debug!(%error, "what has expired is still in the store");
        }
    }
}

const TIDY: Duration = Duration::from_secs(10 * 60);

/// Ends what has been quiet for too long, and brings the numbers up to date that others count.
pub(super) async fn sweep(doors: Arc<Doors>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        doors.forwarder.registry.sweep(doors.limits.patience);
        doors.forwarder.end_expired();
        count_leaves(&doors);
    }
}

fn count_leaves(doors: &Doors) {
    let (metrics, leaves) = (&doors.forwarder.telemetry.metrics, doors.ca.cache_stats());
    metrics.leaves(leaves.entries, leaves.hits, leaves.minted);
}
