//! What the snapshot of a server is made of, and its making anew: on a reload of the configuration,
//! and when the store changed. One at a time, so that no older reading replaces a newer one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{MayCreate, know, master_keys};
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
    config: Arc<Config>,
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
        stored: Arc<Stored>,
    ) -> Arc<Self> {
        let fresh = keep_fresh(&forwarder);
        let parts = Mutex::new(Parts { config, stored, fresh });
        Arc::new(Self { forwarder, keeper, parts })
    }

    pub(super) async fn reload(&self, config: &Config) -> Result<(), Vec<WorldError>> {
        let mut parts = self.parts.lock().await;
        if let Some(keeper) = &self.keeper {
            keeper.use_catalog(config.catalog.clone());
            if let Err(error) = take_keys(keeper.vault(), config).await {
                tracing::error!("the master key stays as it was: {error}");
            }
        }
        let stored = self.read_store(&parts.stored).await;
        let config = Arc::new(config.clone());
        let before = self.forwarder.world();
        let built = World::build(&config, &stored, Some(&before)).await;
        let built = built.map(|world| self.put(&mut parts, world, config, stored));
        if let (Err(_), Some(keeper)) = (&built, &self.keeper) {
            keeper.use_catalog(parts.config.catalog.clone());
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
        let stored = self.read_store(&parts.stored).await;
        let config = parts.config.clone();
        match self.forwarder.world().with(&config, &stored).await {
            Ok(world) => self.put(&mut parts, world, config, stored),
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                tracing::error!("what changed in the store is not in use: {}", errors.join("; "));
            }
        }
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

    fn put(&self, parts: &mut Parts, world: World, config: Arc<Config>, stored: Arc<Stored>) {
        know(&self.forwarder.telemetry, &world);
        self.forwarder.replace(world);
        parts.fresh.abort();
        parts.fresh = keep_fresh(&self.forwarder);
        parts.config = config;
        parts.stored = stored;
    }
}

async fn take_keys(vault: &Vault, config: &Config) -> Result<(), super::Error> {
    let keys = master_keys(config, MayCreate::No).await?;
    vault.use_keys(keys).await.map_err(super::Error::Store)
}

fn keep_fresh(forwarder: &Forwarder) -> JoinHandle<()> {
    let slots = forwarder.world().slots.clone();
    tokio::spawn(credentials::keep_fresh(slots, forwarder.telemetry.clone()))
}
