//! From a configuration to a server that serves, stage by stage.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assembly::Assembly;
use super::certificates::{Certificates, web_tls};
use super::ground::Ground;
use super::own_apps::{self, OwnApps};
use super::settings::{audit_file, limits, upstream_settings};
use super::sockets::{Sockets, address_of};
use super::{Error, Options, OwnListener, Running, store, upkeep};
use crate::api::{self, Api};
use crate::clock::Clock;
use crate::config::Config;
use crate::connect::Webhooks;
use crate::credentials::{self, Keeper, Links, Record};
use crate::forward::{self, Forwarder, Stored, World};
use crate::host::{Authority, Host};
use crate::oauth::Engine;
use crate::proxy::ca::{CertificateAuthority, Opened};
use crate::proxy::{Doors, Listener, Protocol};
use crate::random;
use crate::sources;
use crate::telemetry::{AuditEvent, Telemetry};
use crate::upstream::{self, OwnAddresses};
use crate::vault::Vault;
use crate::web::admin::{self, Readiness};
use crate::web::{Connect, Surroundings, Web, Workspace};

/// Binds every listener and serves until [`Running::drain`].
///
/// # Errors
/// The first thing that keeps it from starting; of the callers and accounts, everything.
pub async fn bind(config: Config, options: Options) -> Result<Running, Error> {
    let Ground { lock, telemetry, vault, ca, ca_opened } = Ground::lay(&config, &options).await?;
    let sockets = Sockets::bind(&config, &options)?;
    let upstream = way_out(&config, &sockets).await?;
    let web = sockets.web.as_ref();
    let holdings = Holdings::read(vault, &config, &options, web, &upstream, &telemetry).await?;
    let warnings = warnings(&config, &options, &upstream, &holdings.stored);
    let forwarder = forwarder(&config, &holdings, upstream, telemetry.clone()).await?;
    let Holdings { own_apps, in_use, keeper, stored } = holdings;
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
    upkeep::watch_metrics(&telemetry, &forwarder, &ca);
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
        certificates: Certificates::default(),
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
    running.look_after(keeper, &options.clock).await?;
    Ok(running)
}

/// The client by which everything leaves. It never dials our own listeners.
async fn way_out(config: &Config, sockets: &Sockets) -> Result<upstream::Client, Error> {
    let own = OwnAddresses::default();
    own.set(sockets.addresses());
    Ok(upstream::Client::new(upstream_settings(&config.upstream).await?, own)?)
}

/// What the store holds, where there is one, and the configuration with it.
struct Holdings {
    own_apps: OwnApps,
    in_use: Config,
    keeper: Option<Arc<Keeper>>,
    stored: Stored,
}

impl Holdings {
    async fn read(
        vault: Option<Vault>,
        config: &Config,
        options: &Options,
        web: Option<&TcpListener>,
        upstream: &upstream::Client,
        telemetry: &Arc<Telemetry>,
    ) -> Result<Self, Error> {
        let Some(vault) = vault else {
            let (in_use, stored) = (own_apps::on_top(config, &Vec::new()), Stored::default());
            return Ok(Self { own_apps: Vec::new(), in_use, keeper: None, stored });
        };
        let own_apps = own_apps::read(&vault).await.map_err(Error::Store)?;
        let in_use = own_apps::on_top(config, &own_apps);
        let links = links(&vault, config, web).await?;
        let keeper = keeper(vault, links, &in_use, options, upstream, telemetry).await?;
        let stored = Stored::read(&keeper).await.map_err(Error::Store)?;
        Ok(Self { own_apps, in_use, keeper: Some(keeper), stored })
    }
}

async fn forwarder(
    config: &Config,
    holdings: &Holdings,
    upstream: upstream::Client,
    telemetry: Arc<Telemetry>,
) -> Result<Arc<Forwarder>, Error> {
    let world = World::build(&holdings.in_use, &holdings.stored, None).await;
    let settings = forward::Settings {
        max_tunnels_per_caller: config.proxy.max_tunnels_per_caller,
        idle_timeout: config.proxy.idle_timeout,
    };
    let world = world.map_err(Error::World)?;
    Ok(Arc::new(Forwarder::new(world, upstream, telemetry, settings)))
}

fn warnings(
    config: &Config,
    options: &Options,
    upstream: &upstream::Client,
    stored: &Stored,
) -> Vec<String> {
    let mut warnings = upstream.warnings().to_vec();
    if config.file.is_none() && options.own.is_none() && stored.is_empty() {
        warnings.push("no config file: nobody may send anything yet".to_owned());
    }
    warnings
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
        if !sockets.proxy_tls.is_empty() || sockets.web.is_some() {
            self.certificates = Certificates::read(&self.config)?;
        }
        if let Some(certificate) = &self.certificates.proxy {
            for socket in sockets.proxy_tls {
                let protocol = Protocol::Tls(certificate.tls.clone());
                let listener = Listener { socket, protocol };
                self.accepting.spawn(listener.run(self.doors.clone(), places.clone()));
            }
        }
        if let Some(socket) = sockets.web {
            let (api, hosts) = (self.api(), self.hosts());
            let connect = self.connect();
            let tls = web_tls(&self.config, self.certificates.web.as_ref(), &self.ca, &hosts);
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

    /// Starts what goes on beside the requests.
    async fn look_after(
        &mut self,
        keeper: Option<Arc<Keeper>>,
        clock: &Clock,
    ) -> Result<(), Error> {
        self.background.push(tokio::spawn(upkeep::sweep(self.doors.clone())));
        let Some(keeper) = keeper else { return Ok(()) };
        self.deliver_webhooks(&keeper, clock).await?;
        let vault = keeper.vault();
        let keys = store::follow_key_file(vault.clone(), self.config.clone());
        self.background.push(tokio::spawn(keys));
        self.background.push(tokio::spawn(upkeep::tidy(vault.clone())));
        self.background.push(tokio::spawn(keeper.run()));
        Ok(())
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
}

fn note_start(telemetry: &Telemetry, config: &Config, ca: &CertificateAuthority, opened: Opened) {
    telemetry.event(&AuditEvent::ServerStarted { version: env!("CARGO_PKG_VERSION") });
    if opened == Opened::Created {
        telemetry.event(&AuditEvent::CaCreated { fingerprint: &ca.fingerprint() });
    }
    tracing::debug!(data_dir = %config.data_dir.display(), "started");
}

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
