//! Bind, run, reload, drain: the only place where the rooms are wired together.

mod assembly;
mod certificates;
mod document;
mod ground;
mod load;
mod own_apps;
mod reload;
mod settings;
mod sockets;
mod start;
mod store;
mod upkeep;
mod workshop;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

pub use crate::telemetry::Sink;
pub use document::{DocumentError, document};
pub use ground::open_ca;
pub use load::{LoadError, Loaded, Source, load};
pub use reload::Watch;
pub use settings::unreadable_files;
pub use start::bind;
pub use store::{
    MASTER_KEY_VARIABLE, MayCreate, database_file, key_file_in_use, master_key_file, master_keys,
    open_vault, vault_settings,
};
pub use workshop::Workshop;

use assembly::Assembly;
use certificates::Certificates;

use crate::clock::Clock;
use crate::config::Config;
use crate::credentials::Keeper;
use crate::forward::{Forwarder, WorldError};
use crate::ids::CallerId;
use crate::proxy::Doors;
use crate::proxy::ca::{self, CertificateAuthority, Opened};
use crate::random::NoRandom;
use crate::sources;
use crate::telemetry::{self, AuditEvent, Telemetry};
use crate::upstream;
use crate::vault;
use crate::web::admin::Readiness;

/// What a process that embeds the server decides, beside the config.
pub struct Options {
    pub sink: Sink,
    pub clock: Clock,
    /// Only one loopback listener, which belongs to this caller: how `run` starts the proxy.
    pub own: Option<OwnListener>,
}

pub struct OwnListener {
    pub caller: CallerId,
    /// Whether a peer may use it: processes of the same user.
    pub admits: fn(SocketAddr, SocketAddr) -> bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { sink: Sink::Stderr, clock: Clock::System, own: None }
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{key} = \"{address}\": {source}{}", hint(source))]
    Bind { key: &'static str, address: SocketAddr, source: io::Error },
    #[error("{} cannot be used as the data directory: {source}", path.display())]
    DataDir { path: PathBuf, source: io::Error },
    #[error(
        "the data directory {} is in use by another countersign; give each its own data_dir",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error("{key} {}: {why}", path.display())]
    File { key: &'static str, path: PathBuf, why: String },
    #[error(transparent)]
    Ca(#[from] ca::Error),
    #[error(transparent)]
    Telemetry(#[from] telemetry::SetupError),
    #[error(transparent)]
    Upstream(#[from] upstream::SetupError),
    #[error(transparent)]
    Vault(#[from] vault::OpenError),
    #[error(transparent)]
    KeyFile(#[from] vault::KeyError),
    #[error("{key}: {source}")]
    MasterKey { key: &'static str, source: vault::KeyError },
    #[error("{key}: {source}")]
    Secret { key: &'static str, source: sources::Error },
    #[error(
        "there is no store: vault.url is \"off\", so accounts are declared in the configuration"
    )]
    NoStore,
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    #[error("the store could not be read: {0}")]
    Store(#[source] vault::Error),
    #[error("upstream.proxy.credentials: {0}")]
    ParentCredentials(#[source] sources::Error),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    World(Vec<WorldError>),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is countersign running already?",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

/// A server whose listeners are bound and served.
pub struct Running {
    pub proxy: Vec<SocketAddr>,
    pub proxy_tls: Vec<SocketAddr>,
    pub web: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub ca: Arc<CertificateAuthority>,
    pub ca_opened: Opened,
    certificates: Certificates,
    pub telemetry: Arc<Telemetry>,
    pub forwarder: Arc<Forwarder>,
    pub warnings: Vec<String>,
    /// The link by which the first owner comes in, while there is no member.
    pub welcome: Option<String>,
    config: Config,
    audit_file: Option<PathBuf>,
    doors: Arc<Doors>,
    readiness: Arc<Readiness>,
    assembly: Arc<Assembly>,
    /// Takes in what changes in the store.
    following: JoinHandle<()>,
    accepting: TaskTracker,
    background: Vec<JoinHandle<()>>,
    /// Locked for as long as this server may write to its data directory.
    _lock: Option<std::fs::File>,
}

impl Running {
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Who looks after the accounts of the store, if there is one.
    pub fn keeper(&self) -> Option<&Arc<Keeper>> {
        self.assembly.keeper.as_ref()
    }

    /// Where this server records what it does, if it does.
    pub fn audit_file(&self) -> Option<PathBuf> {
        self.audit_file.clone()
    }

    /// Puts a new configuration into use. What cannot change while running is reported as a
    /// warning and stays as it was.
    ///
    /// # Errors
    /// Everything that is wrong; the old configuration serves on.
    pub async fn reload(&mut self, config: Config) -> Result<Vec<String>, Vec<String>> {
        let read = self.take_over(&config).await.inspect_err(|errors| {
            self.refused(errors.len(), errors.first().map_or("", String::as_str));
        })?;
        self.certificates.renew(read);
        self.telemetry.event(&AuditEvent::ConfigReloaded {
            apps: config.catalog.len(),
            accounts: config.accounts.len(),
            callers: config.callers.len(),
        });
        let warnings = reload::needs_restart(&self.config, &config);
        self.config = config;
        Ok(warnings)
    }

    /// All of a new configuration, or nothing of it.
    async fn take_over(&self, config: &Config) -> Result<Certificates, Vec<String>> {
        let read = Certificates::read(config).map_err(|error| vec![error.to_string()])?;
        let assembled = self.assembly.reload(config).await;
        let said = |errors: Vec<WorldError>| errors.iter().map(ToString::to_string).collect();
        assembled.map(|()| read).map_err(said)
    }

    /// Counts and records a configuration that was refused before it came to [`Self::reload`].
    pub fn refused(&self, mistakes: usize, first: &str) {
        self.telemetry.event(&AuditEvent::ConfigRefused { mistakes, first });
    }

    /// Reloads whenever `watch` tells of a change or `now` fires, until dropped.
    pub async fn follow(&mut self, source: &Source, watch: &mut Watch, now: &Notify) {
        reload::follow(self, source, watch, now).await;
    }

    /// Stops accepting, lets what is in flight end within the configured time, then cuts the rest.
    /// Dropping the future, as a second signal does, cuts at once.
    pub async fn drain(mut self) {
        self.readiness.drain();
        self.doors.draining.cancel();
        self.accepting.close();
        self.accepting.wait().await;
        self.doors.tasks.close();
        let patience = self.config.proxy.shutdown_timeout;
        if tokio::time::timeout(patience, self.doors.tasks.wait()).await.is_err() {
            self.forwarder.registry.end_all();
            let _ = tokio::time::timeout(Duration::from_secs(2), self.doors.tasks.wait()).await;
        }
        if let Some(keeper) = &self.assembly.keeper {
            keeper.close(LAST_REFRESH).await;
            self.following.abort();
            keeper.vault().close().await;
        }
        self.telemetry.event(&AuditEvent::ServerStopped { reason: "drained" });
        self.forwarder.upstream.close().await;
        self.telemetry.flush().await;
        for task in self.background.drain(..) {
            task.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.doors.draining.cancel();
        self.following.abort();
        for task in &self.background {
            task.abort();
        }
    }
}

/// A refresh that is under way at the end may have spent a token: its answer is waited for.
const LAST_REFRESH: Duration = Duration::from_secs(20);
