//! The store and who works on it, without listeners: for commands. They may run beside a server,
//! which sees what they change within a second.

use std::sync::Arc;
use std::time::Duration;

use super::settings::upstream_settings;
use super::{Error, open_vault, own_apps};
use crate::clock::Clock;
use crate::config::{Caller, Config, LogFormat};
use crate::connect::Connector;
use crate::credentials::{self, Keeper, Record};
use crate::forward::Stored;
use crate::oauth::Engine;
use crate::telemetry::{self, LogSettings, Sink, Style, Telemetry};
use crate::upstream::{self, OwnAddresses};
use crate::vault::Vault;

pub struct Workshop {
    pub config: Config,
    pub keeper: Arc<Keeper>,
    pub connector: Connector,
    pub upstream: upstream::Client,
}

/// A refresh that a command began is waited for.
const LAST_REFRESH: Duration = Duration::from_secs(20);

impl Workshop {
    /// Opens the configuration's store, creating it if there is none yet. `by` is who works there.
    ///
    /// # Errors
    /// When there is none to be had, or it cannot be opened.
    pub async fn open(config: Config, by: &str) -> Result<Self, Error> {
        let clock = Clock::System;
        let vault = open_vault(&config, &clock).await?.ok_or(Error::NoStore)?;
        let own = own_apps::read(&vault).await.map_err(Error::Store)?;
        let config = own_apps::on_top(&config, &own);
        let upstream = upstream::Client::new(
            upstream_settings(&config.upstream).await?,
            OwnAddresses::default(),
        )?;
        let keeper = Keeper::new(credentials::Settings {
            vault,
            engine: Engine::new(upstream.clone(), clock.clone()),
            telemetry: Arc::new(quiet(&config, &clock)?),
            clock,
            catalog: config.catalog.clone(),
            links: None,
            record: Record::Notes { by: by.to_owned() },
            webhook: config.webhook.as_ref().and_then(|webhook| webhook.url.clone()),
        });
        let connector = Connector::new(keeper.clone());
        Ok(Self { config, keeper, connector, upstream })
    }

    /// The store's callers, as requests meet them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn callers(&self) -> Result<Vec<Caller>, Error> {
        Ok(Stored::read(&self.keeper).await.map_err(Error::Store)?.into_callers())
    }

    pub fn vault(&self) -> &Vault {
        self.keeper.vault()
    }

    /// Ends what is under way, and lets go of the store.
    pub async fn close(self) {
        self.keeper.close(LAST_REFRESH).await;
        self.keeper.vault().close().await;
        self.upstream.close().await;
    }
}

/// A command says what it did itself. What has to be in the audit goes there by way of the store,
/// because the file belongs to the server.
fn quiet(config: &Config, clock: &Clock) -> Result<Telemetry, telemetry::SetupError> {
    let style = match config.log.format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto | LogFormat::Text => Style::Text,
    };
    Telemetry::open(telemetry::Settings {
        log: LogSettings {
            style,
            filter: config.log.filter.clone(),
            requests: false,
            sink: Sink::Memory(Arc::default()),
        },
        audit: None,
        clock: clock.clone(),
    })
}
