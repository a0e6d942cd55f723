//! What a server stands on before it opens a door: its data directory, its record, its store, its CA.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::settings::{ca_settings, telemetry_settings};
use super::{Error, Options, open_vault};
use crate::clock::Clock;
use crate::config::Config;
use crate::proxy::ca::{CertificateAuthority, Opened};
use crate::telemetry::Telemetry;
use crate::vault::Vault;

pub(super) struct Ground {
    /// Locked for as long as this server may write to its data directory.
    pub(super) lock: Option<File>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) vault: Option<Vault>,
    pub(super) ca: Arc<CertificateAuthority>,
    pub(super) ca_opened: Opened,
}

impl Ground {
    pub(super) async fn lay(config: &Config, options: &Options) -> Result<Self, Error> {
        create_private_dir(&config.data_dir)?;
        if options.own.is_some() {
            create_private_dir(&config.data_dir.join(RUNS))?;
        }
        // `run` may work beside a server: all that it writes there has names of its own.
        let lock = options.own.is_none().then(|| lock_data_dir(config)).transpose()?;
        let telemetry = Arc::new(Telemetry::open(telemetry_settings(config, options))?);
        let vault = open_vault(config, &options.clock).await?;
        let (ca, ca_opened) = authority(config, vault.as_ref(), &options.clock).await?;
        Ok(Self { lock, telemetry, vault, ca: Arc::new(ca), ca_opened })
    }
}

pub(super) fn create_private_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::DataDir { path: path.to_owned(), source })
}

/// Where the audits of `run` are kept, in the data directory.
pub(super) const RUNS: &str = "runs";

/// The audit has a lock too, but it may be kept elsewhere or not at all.
fn lock_data_dir(config: &Config) -> Result<File, Error> {
    use rustix::fs::{FlockOperation, flock};
    let path = config.data_dir.clone();
    let file = path.join("serve.lock");
    let opened = File::options().create(true).append(true).open(file);
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
