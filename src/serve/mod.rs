//! Bind, run, reload, drain: the only place where the rooms are wired together.

mod assembly;
mod document;
mod load;
mod own_apps;
mod reload;
mod settings;
mod store;
mod workshop;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::telemetry::Sink;
pub use document::{DocumentError, document};
pub use load::{LoadError, Loaded, Source, load};
pub use reload::Watch;
pub use settings::unreadable_files;
pub use store::{
    MASTER_KEY_VARIABLE, MayCreate, database_file, key_file_in_use, master_key_file, master_keys,
    open_vault, vault_settings,
};
pub use workshop::Workshop;

use assembly::Assembly;
use settings::{
    audit_file, ca_settings, limits, listener_tls, telemetry_settings, upstream_settings, web_tls,
};

use crate::api::{self, Api};
use crate::clock::Clock;
use crate::config::Config;
use crate::connect::Webhooks;
use crate::credentials::{self, Keeper, Links, Record};
use crate::forward::{self, Forwarder, Stored, World, WorldError};
use crate::host::{Authority, Host};
use crate::ids::CallerId;
use crate::oauth::Engine;
use crate::proxy::ca::{self, CertificateAuthority, Opened};
use crate::proxy::{Doors, Listener, Protocol};
use crate::random::{self, NoRandom};
use crate::sources;
use crate::telemetry::{self, AuditEvent, Pool, Telemetry};
use crate::upstream::{self, OwnAddresses};
use crate::vault::{self, Vault};
use crate::web::admin::{self, Readiness};
use crate::web::{Connect, Surroundings, Web, Workspace};

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

/// Binds every listener and serves until [`Running::drain`].
///
/// # Errors
/// The first thing that keeps it from starting; of the callers and accounts, everything.
pub async fn bind(config: Config, options: Options) -> Result<Running, Error> {
    create_private_dir(&config.data_dir)?;
    if options.own.is_some() {
        create_private_dir(&config.data_dir.join(RUNS))?;
    }
    // `run` may work beside a server: all that it writes there has names of its own.
    let lock = options.own.is_none().then(|| lock_data_dir(&config)).transpose()?;
    let telemetry = Arc::new(Telemetry::open(telemetry_settings(&config, &options))?);
    let vault = open_vault(&config, &options.clock).await?;
    let (ca, ca_opened) = authority(&config, vault.as_ref(), &options.clock).await?;
    let ca = Arc::new(ca);
    let sockets = Sockets::bind(&config, &options)?;
    let own = OwnAddresses::default();
    own.set(sockets.addresses());
    let upstream = upstream::Client::new(upstream_settings(&config.upstream).await?, own)?;
    let mut warnings = upstream.warnings().to_vec();
    let own_apps = match &vault {
        Some(vault) => own_apps::read(vault).await.map_err(Error::Store)?,
        None => Vec::new(),
    };
    let in_use = own_apps::on_top(&config, &own_apps);
    let keeper = match vault {
        Some(vault) => {
            let links = links(&vault, &config, sockets.web.as_ref()).await?;
            Some(keeper(vault, links, &in_use, &options, &upstream, &telemetry).await?)
        }
        None => None,
    };
    let stored = match &keeper {
        Some(keeper) => Stored::read(keeper).await.map_err(Error::Store)?,
        None => Stored::default(),
    };
    let world = World::build(&in_use, &stored, None).await.map_err(Error::World)?;
    if config.file.is_none() && options.own.is_none() && stored.is_empty() {
        warnings.push("no config file: nobody may send anything yet".to_owned());
    }
    let settings = forward::Settings {
        max_tunnels_per_caller: config.proxy.max_tunnels_per_caller,
        idle_timeout: config.proxy.idle_timeout,
    };
    let forwarder = Arc::new(Forwarder::new(world, upstream, telemetry.clone(), settings));
    let around = Surroundings {
        proxy: sockets.proxy.first().and_then(address_of),
        audit: config.audit.enabled.then(|| audit_file(&config, &options)),
        apps_dir: config.apps_dir.clone(),
        config_file: config.file.clone(),
    };
    let workspace = workspace(&forwarder, keeper.as_ref(), &config, around).await?;
    let welcome = match &workspace {
        Some(workspace) => workspace.first_owner_link().await.map_err(Error::Store)?,
        None => None,
    };
    let assembly = Assembly::new(
        forwarder.clone(),
        keeper.clone(),
        Arc::new(config.clone()),
        own_apps,
        Arc::new(in_use),
        Arc::new(stored),
    );
    let doors = Arc::new(Doors {
        forwarder: forwarder.clone(),
        ca: ca.clone(),
        limits: limits(&config),
        draining: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    let readiness = Arc::new(Readiness::default());
    readiness.set_ca(true);
    readiness.set_config(true);
    watch_metrics(&telemetry, &forwarder, &ca);
    note_start(&telemetry, &config, &ca, ca_opened);
    let following = tokio::spawn(assembly.clone().follow_store());
    let mut running = Running {
        proxy: sockets.proxy.iter().filter_map(address_of).collect(),
        proxy_tls: sockets.proxy_tls.iter().filter_map(address_of).collect(),
        web: sockets.web.as_ref().and_then(address_of),
        admin: sockets.admin.as_ref().and_then(address_of),
        assembly,
        following,
        ca,
        ca_opened,
        telemetry,
        forwarder,
        warnings,
        welcome,
        doors,
        readiness,
        accepting: TaskTracker::new(),
        background: Vec::new(),
        audit_file: config.audit.enabled.then(|| audit_file(&config, &options)),
        config,
        _lock: lock,
    };
    running.accept(sockets, options.own, workspace)?;
    running.background.push(tokio::spawn(sweep(running.doors.clone())));
    if let Some(keeper) = keeper {
        running.deliver_webhooks(&keeper, &options.clock).await?;
        let keys = store::follow_key_file(keeper.vault().clone(), running.config.clone());
        running.background.push(tokio::spawn(keys));
        running.background.push(tokio::spawn(tidy(keeper.vault().clone())));
        running.background.push(tokio::spawn(keeper.run()));
    }
    Ok(running)
}

impl Running {
    fn accept(
        &mut self,
        sockets: Sockets,
        own: Option<OwnListener>,
        workspace: Option<Arc<Workspace>>,
    ) -> Result<(), Error> {
        let places = Arc::new(Semaphore::new(self.doors.limits.max_connections));
        let protocol = match own {
            Some(own) => Protocol::Own { caller: own.caller, admits: own.admits },
            None => Protocol::Clear,
        };
        for socket in sockets.proxy {
            let listener = Listener { socket, protocol: protocol.clone() };
            self.accepting.spawn(listener.run(self.doors.clone(), places.clone()));
        }
        if !sockets.proxy_tls.is_empty() {
            let tls = listener_tls(&self.config)?;
            for socket in sockets.proxy_tls {
                let listener = Listener { socket, protocol: Protocol::Tls(tls.clone()) };
                self.accepting.spawn(listener.run(self.doors.clone(), places.clone()));
            }
        }
        if let Some(socket) = sockets.web {
            let (api, hosts) = (self.api(), self.hosts());
            let connect = self.connect();
            let tls = web_tls(&self.config, &self.ca, &hosts)?;
            let doors = self.doors.clone();
            let web = Arc::new(Web { doors, api, hosts, connect, workspace, tls });
            self.accepting.spawn(web.run(socket));
        }
        if let Some(socket) = sockets.admin {
            // Health is told until the very end, so this one is not part of the drain.
            let served = admin::serve(socket, self.telemetry.clone(), self.readiness.clone());
            self.background.push(tokio::spawn(served));
        }
        Ok(())
    }

    fn api(&self) -> Option<Api> {
        let keeper = self.assembly.keeper.clone()?;
        let settings = api::Settings {
            export: self.config.vault.export,
            url: self.config.web.public_url.clone(),
            secure: self.config.web.tls.is_some(),
            patience: self.config.web.call_timeout,
            patience_by_app: self.config.web.call_timeouts.clone(),
        };
        Some(Api::new(self.forwarder.clone(), keeper, settings))
    }

    fn connect(&self) -> Option<Connect> {
        let keeper = self.keeper()?.clone();
        let url = self.config.web.public_url.clone();
        Connect::of(keeper, self.forwarder.clone(), url, self.config.web.tls.is_some())
    }

    /// Names by which the web listener may be addressed.
    fn hosts(&self) -> Vec<Host> {
        let url = self.config.web.public_url.as_deref();
        let authority = url.and_then(|url| url.split_once("://")).map(|(_, authority)| authority);
        let own = authority.and_then(|text| Authority::parse(text, 443).ok());
        let own = own.map(|authority| authority.host);
        self.config.web.hosts.iter().cloned().chain(own).collect()
    }

    /// In every process that serves: what is queued may have been queued elsewhere.
    async fn deliver_webhooks(&mut self, keeper: &Keeper, clock: &Clock) -> Result<(), Error> {
        let secret = self.config.webhook.as_ref().and_then(|webhook| webhook.secret.as_ref());
        let secret = match secret {
            Some(secret) => Some(sources::read(secret).await),
            None => None,
        };
        let secret = secret.transpose();
        let webhooks = Webhooks {
            vault: keeper.vault().clone(),
            upstream: self.forwarder.upstream.clone(),
            secret: secret.map_err(|source| Error::Secret { key: "webhook.secret", source })?,
            clock: clock.clone(),
        };
        let closing = self.doors.draining.clone();
        self.background.push(tokio::spawn(webhooks.run(closing)));
        Ok(())
    }

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
    pub async fn reload(&mut self, config: Config) -> Result<Vec<String>, Vec<WorldError>> {
        self.assembly.reload(&config).await.inspect_err(|errors| {
            self.refused(
                errors.len(),
                &errors.first().map(ToString::to_string).unwrap_or_default(),
            );
        })?;
        self.telemetry.event(&AuditEvent::ConfigReloaded {
            apps: config.catalog.len(),
            accounts: config.accounts.len(),
            callers: config.callers.len(),
        });
        let warnings = reload::needs_restart(&self.config, &config);
        self.config = config;
        Ok(warnings)
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

/// Every socket, bound before anything is served.
struct Sockets {
    proxy: Vec<TcpListener>,
    proxy_tls: Vec<TcpListener>,
    web: Option<TcpListener>,
    admin: Option<TcpListener>,
}

impl Sockets {
    fn bind(config: &Config, options: &Options) -> Result<Self, Error> {
        if options.own.is_some() {
            let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
            let proxy = vec![listen("proxy.listen", loopback)?];
            return Ok(Self { proxy, proxy_tls: Vec::new(), web: None, admin: None });
        }
        let all = |key, addresses: &[SocketAddr]| {
            addresses.iter().map(|address| listen(key, *address)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            proxy: all("proxy.listen", &config.proxy.listen)?,
            proxy_tls: all("proxy.tls_listen", &config.proxy.tls_listen)?,
            web: config.web.listen.map(|address| listen("web.listen", address)).transpose()?,
            admin: config
                .admin
                .listen
                .map(|address| listen("admin.listen", address))
                .transpose()?,
        })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let all = self.proxy.iter().chain(&self.proxy_tls).chain(&self.web).chain(&self.admin);
        all.filter_map(address_of).collect()
    }
}

fn address_of(socket: &TcpListener) -> Option<SocketAddr> {
    socket.local_addr().ok()
}

/// Connections that wait to be accepted: enough for a burst while descriptors are short.
const BACKLOG: u32 = 1024;

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| Error::Bind { key, address, source })
}

fn create_private_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::DataDir { path: path.to_owned(), source })
}

/// Where the audits of `run` are kept, in the data directory.
const RUNS: &str = "runs";

/// The audit has a lock too, but it may be kept elsewhere or not at all.
fn lock_data_dir(config: &Config) -> Result<std::fs::File, Error> {
    use rustix::fs::{FlockOperation, flock};
    let path = config.data_dir.clone();
    let file = path.join("serve.lock");
    let opened = std::fs::File::options().create(true).append(true).open(file);
    let file = opened.map_err(|source| Error::DataDir { path: path.clone(), source })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::InUse { path })?;
    Ok(file)
}

/// The CA of a configuration, created if there is none: for commands that hand out its certificate
/// before a server ever ran.
///
/// # Errors
/// When the data directory cannot be used, or what is there is no CA.
pub async fn open_ca(config: &Config) -> Result<(CertificateAuthority, Opened), Error> {
    create_private_dir(&config.data_dir)?;
    let vault = open_vault(config, &Clock::System).await?;
    let opened = authority(config, vault.as_ref(), &Clock::System).await;
    if let Some(vault) = vault {
        vault.close().await;
    }
    opened
}

/// The name of the CA among the store's sealed items.
const CA_ITEM: &str = "ca";

/// The CA, from the store where there is one. One that lies in files moves into it.
async fn authority(
    config: &Config,
    vault: Option<&Vault>,
    clock: &Clock,
) -> Result<(CertificateAuthority, Opened), Error> {
    let (dir, settings) = (&config.data_dir, ca_settings(config));
    let Some(vault) = vault else {
        return Ok(CertificateAuthority::open_or_create(dir, &settings, clock)?);
    };
    if let Some(bundle) = vault.sealed_item(CA_ITEM).await.map_err(Error::Store)? {
        return Ok(CertificateAuthority::open_bundle(dir, &bundle, &settings, clock)?);
    }
    let (bundle, opened) = CertificateAuthority::bundle(dir, &settings, clock)?;
    // Of nodes that start together, the first one's counts.
    let kept = vault.sealed_item_or(CA_ITEM, &bundle).await.map_err(Error::Store)?;
    let (ca, _) = CertificateAuthority::open_bundle(dir, &kept, &settings, clock)?;
    Ok((ca, opened))
}

fn watch_metrics(telemetry: &Telemetry, forwarder: &Forwarder, ca: &Arc<CertificateAuthority>) {
    let upstream = forwarder.upstream.clone();
    let stats = upstream.stats().clone();
    telemetry.metrics.watch_pool(move || Pool {
        active: stats.open(),
        idle: upstream.idle_connections(),
        opened: stats.opened.load(std::sync::atomic::Ordering::Relaxed),
        reused: stats.reused.load(std::sync::atomic::Ordering::Relaxed),
    });
    telemetry.metrics.ca_expires(ca.not_after());
    know(telemetry, &forwarder.world());
}

/// Metrics have a series for what is configured, and one for everything else.
fn know(telemetry: &Telemetry, world: &World) {
    telemetry
        .metrics
        .know(world.catalog.cards().map(|card| &card.id), world.callers().map(|caller| &caller.id));
}

fn note_start(telemetry: &Telemetry, config: &Config, ca: &CertificateAuthority, opened: Opened) {
    telemetry.event(&AuditEvent::ServerStarted { version: env!("CARGO_PKG_VERSION") });
    if opened == Opened::Created {
        telemetry.event(&AuditEvent::CaCreated { fingerprint: &ca.fingerprint() });
    }
    tracing::debug!(data_dir = %config.data_dir.display(), "started");
}

/// A refresh that is under way at the end may have spent a token: its answer is waited for.
const LAST_REFRESH: Duration = Duration::from_secs(20);

/// The name of the key that signs links among the store's sealed items.
const LINKS_ITEM: &str = "links";

/// Links to our own pages, where there are any: by the address that people know, else by ours.
async fn links(
    vault: &Vault,
    config: &Config,
    web: Option<&TcpListener>,
) -> Result<Option<Arc<Links>>, Error> {
    let Some(address) = web.and_then(address_of) else { return Ok(None) };
    let base = config.web.public_url.clone().unwrap_or_else(|| {
        let scheme = if config.web.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    });
    let fresh = random::token("", 32)?;
    let key = vault.sealed_item_or(LINKS_ITEM, &fresh).await.map_err(Error::Store)?;
    Ok(Some(Arc::new(Links::new(&base, &key))))
}

/// The pages of members, where there are a store and a web listener.
async fn workspace(
    forwarder: &Arc<Forwarder>,
    keeper: Option<&Arc<Keeper>>,
    config: &Config,
    around: Surroundings,
) -> Result<Option<Arc<Workspace>>, Error> {
    let Some((keeper, links)) = keeper.and_then(|keeper| Some((keeper, keeper.links()?))) else {
        return Ok(None);
    };
    let (forwarder, login) = (forwarder.clone(), config.login.clone());
    let secret = login.oidc.as_ref().and_then(|oidc| oidc.client_secret.as_ref());
    let secret = match secret {
        Some(reference) => Some(
            sources::read(reference)
                .await
                .map_err(|source| Error::Secret { key: "login.oidc.client_secret", source })?,
        ),
        None => None,
    };
    let keeper = keeper.clone();
    let opened = Workspace::open(forwarder, keeper, links.base(), login, secret, around).await;
    Ok(Some(Arc::new(opened.map_err(Error::Store)?)))
}

/// Who looks after the store's accounts.
async fn keeper(
    vault: Vault,
    links: Option<Arc<Links>>,
    config: &Config,
    options: &Options,
    upstream: &upstream::Client,
    telemetry: &Arc<Telemetry>,
) -> Result<Arc<Keeper>, Error> {
    if options.own.is_none() {
        // What this node held when it ended, however it ended, it may take up again at once.
        vault.release_own_leases().await.map_err(Error::Store)?;
    }
    let settings = credentials::Settings {
        vault,
        engine: Engine::new(upstream.clone(), options.clock.clone()),
        telemetry: telemetry.clone(),
        clock: options.clock.clone(),
        catalog: config.catalog.clone(),
        webhook: config.webhook.as_ref().and_then(|webhook| webhook.url.clone()),
        links,
        record: Record::Audit { takes_notes: options.own.is_none() },
    };
    Ok(Keeper::new(settings))
}

/// Sessions, connect tokens and flows that have expired go; every node may do it.
async fn tidy(vault: vault::Vault) {
    let mut tick = tokio::time::interval(TIDY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = vault.sweep().await {
            tracing::debug!(%error, "what has expired is still in the store");
        }
    }
}

const TIDY: Duration = Duration::from_secs(10 * 60);

/// Ends what has been quiet for too long, and brings the numbers up to date that others count.
async fn sweep(doors: Arc<Doors>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
