//! Opening the store of a configuration: for the server, and for commands that work on it directly.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;
use super::ground::create_private_dir;
use crate::clock::Clock;
use crate::config::{Config, SecretRef, Store};
use crate::random;
use crate::secret::Secret;
use crate::sources;
use crate::vault::{KeyError, Location, MasterKey, OpenError, Settings, Vault};

/// Where the master key may be given.
pub const MASTER_KEY_VARIABLE: &str = "COUNTERSIGN_MASTER_KEY";
/// Where systemd puts what `LoadCredential=` names.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const MASTER_KEY_FILE: &str = "master.key";
const DATABASE_FILE: &str = "countersign.db";
const NODE_FILE: &str = "node";

/// Opens the store, creating it and its key if there is neither. `None` if `vault.url` is `off`.
///
/// # Errors
/// One sentence that says what is wrong and what helps; nothing was written then.
pub async fn open_vault(config: &Config, clock: &Clock) -> Result<Option<Vault>, Error> {
    let made_before = master_key_file(config).exists();
    let Some(settings) = vault_settings(config, clock, MayCreate::Yes).await? else {
        return Ok(None);
    };
    match Vault::open(settings).await {
        Ok(vault) => Ok(Some(vault)),
        Err(error) => {
            // A key that was made for a database which has one already would only mislead.
            if !made_before && matches!(error, OpenError::WrongKey { .. }) {
                let _ = std::fs::remove_file(master_key_file(config));
            }
            Err(error.into())
        }
    }
}

/// What the store is opened with. May make the master key where there is neither one nor a database.
///
/// # Errors
/// When a key or the URL cannot be read.
pub async fn vault_settings(
    config: &Config,
    clock: &Clock,
    may: MayCreate,
) -> Result<Option<Settings>, Error> {
    let location = match &config.vault.store {
        Store::Off => return Ok(None),
        Store::Sqlite => Location::Sqlite(database_file(config)),
        Store::Postgres(url) => {
            Location::Postgres(sources::read(url).await.map_err(secret("vault.url"))?)
        }
    };
    create_private_dir(&config.data_dir)?;
    let keys = master_keys(config, may).await?;
    let node = node(&config.data_dir)?;
    Ok(Some(Settings { location, keys, node, clock: clock.clone() }))
}

pub fn database_file(config: &Config) -> PathBuf {
    config.data_dir.join(DATABASE_FILE)
}

/// The key file that is in use, if one is: it may be replaced while servers run.
pub fn key_file_in_use(config: &Config) -> Option<PathBuf> {
    let given = config.vault.key.is_some() || std::env::var_os(MASTER_KEY_VARIABLE).is_some();
    (!given && from_systemd().is_none()).then(|| master_key_file(config))
}

/// Uses the key file's keys whenever it is replaced, until dropped. Looking twice a second costs
/// nothing, and works where files cannot be watched.
pub(super) async fn follow_key_file(vault: Vault, config: Config) {
    let Some(file) = key_file_in_use(&config) else { return };
    let stamp = || std::fs::metadata(&file).and_then(|about| about.modified()).ok();
    let mut seen = stamp();
    loop {
        tokio::time::sleep(KEY_FILE_INTERVAL).await;
        let now = stamp();
        if now == seen {
            continue;
        }
        match master_keys(&config, MayCreate::No).await {
            Ok(keys) => match vault.use_keys(keys).await {
                Ok(()) => {
                    tracing::info!("the master key was changed");
                    seen = now;
                }
                // The command that changes it makes it known to the store next.
                Err(error) => tracing::debug!(%error, "the key file changed"),
            },
            Err(error) => tracing::warn!(%error, "the key file changed and cannot be read"),
        }
    }
}

/// Commands that change the key wait for longer than this before they retire the former one.
const KEY_FILE_INTERVAL: Duration = Duration::from_millis(500);

/// Where the master key is kept that countersign made itself.
pub fn master_key_file(config: &Config) -> PathBuf {
    config.data_dir.join(MASTER_KEY_FILE)
}

/// The active key first. Read again while running, so that the key can be changed.
///
/// # Errors
/// When one cannot be read.
pub async fn master_keys(config: &Config, may: MayCreate) -> Result<Vec<MasterKey>, Error> {
    let mut keys = active_keys(config, may).await?;
    for reference in &config.vault.old_keys {
        keys.push(key_of("vault.old_keys", reference).await?);
    }
    Ok(keys)
}

/// Whether a key may be made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayCreate {
    Yes,
    No,
}

async fn active_keys(config: &Config, may: MayCreate) -> Result<Vec<MasterKey>, Error> {
    if let Some(reference) = &config.vault.key {
        return Ok(vec![key_of("vault.key", reference).await?]);
    }
    if let Ok(text) = std::env::var(MASTER_KEY_VARIABLE) {
        let key = MasterKey::from_text(&Secret::from(text));
        return Ok(vec![key.map_err(|source| at_key(MASTER_KEY_VARIABLE, source))?]);
    }
    if let Some(file) = from_systemd() {
        return Ok(MasterKey::read_or_create(&file, true)?);
    }
    let database_exists = may == MayCreate::No
        || matches!(config.vault.store, Store::Sqlite) && database_file(config).exists();
    Ok(MasterKey::read_or_create(&master_key_file(config), database_exists)?)
}

fn from_systemd() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os(CREDENTIALS_VARIABLE)?).join(MASTER_KEY_FILE);
    file.is_file().then_some(file)
}

async fn key_of(key: &'static str, reference: &SecretRef) -> Result<MasterKey, Error> {
    let text = sources::read(reference).await.map_err(secret(key))?;
    MasterKey::from_text(&text).map_err(|source| at_key(key, source))
}

fn secret(key: &'static str) -> impl Fn(sources::Error) -> Error {
    move |source| Error::Secret { key, source }
}

fn at_key(key: &'static str, source: KeyError) -> Error {
    Error::MasterKey { key, source }
}

/// Names this node in leases: the same after a restart, so that it takes its own back at once.
fn node(data_dir: &Path) -> Result<String, Error> {
    let path = data_dir.join(NODE_FILE);
    let failed = |source| Error::DataDir { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(node) if !node.trim().is_empty() => return Ok(node.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let node = format!("node-{:016x}{:016x}", random::bits(), random::bits());
    std::fs::write(&path, &node).map_err(failed)?;
    Ok(node)
}
