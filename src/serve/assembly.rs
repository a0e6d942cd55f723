//! What the snapshot of a server is made of, and its making anew: on a reload of the configuration,
//! and when the store changed. One at a time, so that no older reading replaces a newer one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::own_apps::{self, OwnApps};
use super::upkeep::know;
use super::{MayCreate, master_keys};
use crate::config::Config;
use crate::credentials::{self, Keeper};
use crate::forward::{Forwarder, Stored, World, WorldError};
use crate::vault::Vault;

pub(super) struct Assembly {
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) keeper: Option<Arc<Keeper>>,
    parts: Mutex<Parts>,
}

struct Parts {
    /// As the files have it.
    config: Arc<Config>,
    /// As the store was last read.
    own_apps: OwnApps,
    /// Both together.
    in_use: Arc<Config>,
    /// As it was last read; a store that is away changes nothing.
    stored: Arc<Stored>,
    /// Reads declared credentials again.
    fresh: JoinHandle<()>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.fresh.abort();
    }
}

/// A burst of changes, as `callers bind` in a loop makes it, is taken in together.
const SETTLE: Duration = Duration::from_millis(20);

impl Assembly {
    pub(super) fn new(
        forwarder: Arc<Forwarder>,
        keeper: Option<Arc<Keeper>>,
        config: Arc<Config>,
        own_apps: OwnApps,
        in_use: Arc<Config>,
        stored: Arc<Stored>,
    ) -> Arc<Self> {
        let fresh = keep_fresh(&forwarder);
        let parts = Mutex::new(Parts { config, own_apps, in_use, stored, fresh });
        Arc::new(Self { forwarder, keeper, parts })
    }

    pub(super) async fn reload(&self, config: &Config) -> Result<(), Vec<WorldError>> {
        let mut parts = self.parts.lock().await;
        let own_apps = self.read_own_apps(&parts.own_apps).await;
        let in_use = Arc::new(own_apps::on_top(config, &own_apps));
        if let Some(keeper) = &self.keeper {
            keeper.use_catalog(in_use.catalog.clone());
            if let Err(error) = take_keys(keeper.vault(), config).await {
                tracing::error!("the master key stays as it was: {error}");
            }
        }
        let stored = self.read_store(&parts.stored).await;
        let before = self.forwarder.world();
        let built = World::build(&in_use, &stored, Some(&before)).await;
        let built = built.map(|world| {
            parts.config = Arc::new(config.clone());
            (parts.own_apps, parts.in_use) = (own_apps, in_use);
            self.put(&mut parts, world, stored);
        });
        if let (Err(_), Some(keeper)) = (&built, &self.keeper) {
            keeper.use_catalog(parts.in_use.catalog.clone());
        }
        built
    }

    /// Takes in what this and other nodes and commands change in the store, until dropped.
    pub(super) async fn follow_store(self: Arc<Self>) {
        let Some(keeper) = &self.keeper else { return };
        let mut changes = keeper.vault().changes();
        loop {
            let mut anew = false;
            for change in changes.next().await {
                anew |= keeper.take_in(&change).await;
            }
            if anew {
                tokio::time::sleep(SETTLE).await;
                self.rebuild().await;
            }
        }
    }

    async fn rebuild(&self) {
        let mut parts = self.parts.lock().await;
        let own_apps = self.read_own_apps(&parts.own_apps).await;
        if own_apps != parts.own_apps {
            return self.rebuild_with(&mut parts, own_apps).await;
        }
        let stored = self.read_store(&parts.stored).await;
        match self.forwarder.world().with(&parts.in_use, &stored).await {
            Ok(world) => self.put(&mut parts, world, stored),
            Err(errors) => not_in_use(&errors),
        }
    }

    /// Apps are what accounts rest on: everything is made anew.
    async fn rebuild_with(&self, parts: &mut Parts, own_apps: OwnApps) {
        let Some(keeper) = &self.keeper else { return };
        let in_use = Arc::new(own_apps::on_top(&parts.config, &own_apps));
        keeper.use_catalog(in_use.catalog.clone());
        let stored = self.read_store(&parts.stored).await;
        let before = self.forwarder.world();
        match World::build(&in_use, &stored, Some(&before)).await {
            Ok(world) => {
                (parts.own_apps, parts.in_use) = (own_apps, in_use);
                self.put(parts, world, stored);
            }
            Err(errors) => {
                keeper.use_catalog(parts.in_use.catalog.clone());
                not_in_use(&errors);
            }
        }
    }

    async fn read_own_apps(&self, last: &OwnApps) -> OwnApps {
        let Some(keeper) = &self.keeper else { return Vec::new() };
        own_apps::read(keeper.vault()).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the workspace's own apps stay as they were");
            last.clone()
        })
    }

    async fn read_store(&self, last: &Arc<Stored>) -> Arc<Stored> {
        let Some(keeper) = &self.keeper else { return last.clone() };
        match Stored::read(keeper).await {
            Ok(stored) => Arc::new(stored),
            Err(error) => {
                tracing::warn!(%error, "accounts and callers of the store stay as they were");
                last.clone()
            }
        }
    }

    fn put(&self, parts: &mut Parts, world: World, stored: Arc<Stored>) {
        know(&self.forwarder.telemetry, &world);
        self.forwarder.replace(world);
        parts.fresh.abort();
        parts.fresh = keep_fresh(&self.forwarder);
        parts.stored = stored;
    }
}

fn not_in_use(errors: &[WorldError]) {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    tracing::error!("what changed in the store is not in use: {}", errors.join("; "));
}

async fn take_keys(vault: &Vault, config: &Config) -> Result<(), super::Error> {
    let keys = master_keys(config, MayCreate::No).await?;
    vault.use_keys(keys).await.map_err(super::Error::Store)
}

fn keep_fresh(forwarder: &Forwarder) -> JoinHandle<()> {
    let slots = forwarder.world().slots.clone();
    tokio::spawn(credentials::keep_fresh(slots, forwarder.telemetry.clone()))
}
