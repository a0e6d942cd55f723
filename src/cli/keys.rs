//! `countersign keys …`, `backup` and `restore`: what keeps the store readable, and only by us.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use super::{in_workshop, load_or_explain, note, whoami};
use crate::clock::Clock;
use crate::config::Config;
use crate::serve::{self, MayCreate, Source, Workshop};
use crate::vault::{MasterKey, Vault};

#[derive(clap::Subcommand)]
pub enum KeysCommand {
    /// Print a new master key, for vault.key or COUNTERSIGN_MASTER_KEY
    Generate,
    /// Seal everything with the active key, while servers go on working; then the former keys may go
    Rotate,
}

pub async fn run(
    command: &KeysCommand,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    match command {
        KeysCommand::Generate => {
            writeln!(out, "{}", MasterKey::generate()?.to_text().expose())?;
            Ok(0)
        }
        KeysCommand::Rotate => {
            let config = load_or_explain(source)?.config;
            let file = serve::key_file_in_use(&config);
            if let Some(file) = &file {
                begin(&config, file).await?;
            }
            let shop = Workshop::open(config, &whoami()).await?;
            if file.is_some() {
                // Servers look at the file twice a second.
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            let done = rotate(&shop, file.as_deref(), out).await;
            shop.close().await;
            done
        }
    }
}

/// Puts a new key before the one in the file. A rotation that was cut off has done so already.
async fn begin(config: &Config, file: &Path) -> anyhow::Result<()> {
    // Opened first: a key that does not fit the database must not be replaced.
    let Some(vault) = serve::open_vault(config, &Clock::System).await? else {
        bail!("vault.url is \"off\", so nothing is sealed");
    };
    vault.close().await;
    let keys = MasterKey::read_or_create(file, true)?;
    if let [only] = &keys[..] {
        MasterKey::replace_file(file, &[&MasterKey::generate()?, only])?;
    }
    Ok(())
}

async fn rotate(shop: &Workshop, file: Option<&Path>, out: &mut impl Write) -> anyhow::Result<u8> {
    let progress = shop.vault().rotate_keys(|_| {}).await?;
    note(shop, "keys_rotated", "master key", &format!("{} records", progress.done)).await?;
    writeln!(out, "{} records were sealed anew", progress.done)?;
    if progress.failed > 0 {
        bail!(
            "{} records do not open with any key that is given, and were left as they are; keep the \
             former keys",
            progress.failed
        );
    }
    match file {
        Some(file) => {
            let keys = MasterKey::read_or_create(file, true)?;
            MasterKey::replace_file(file, &[&keys[0]])?;
            writeln!(out, "{} holds the new key alone: back it up", file.display())?;
        }
        None => writeln!(out, "The former keys may be taken out of vault.old_keys")?,
    }
    Ok(0)
}

pub async fn backup(file: &Path, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let rows = in_workshop(source, async |shop| {
        let rows = shop.vault().backup(file).await?;
        note(shop, "store_backed_up", &file.display().to_string(), "").await?;
        Ok(rows)
    });
    writeln!(
        out,
        "{} rows are in {}, sealed: keep the master key too, and elsewhere",
        rows.await?,
        file.display()
    )?;
    Ok(0)
}

pub async fn restore(file: &Path, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let config = load_or_explain(source)?.config;
    let Some(settings) = serve::vault_settings(&config, &Clock::System, MayCreate::No).await?
    else {
        bail!("vault.url is \"off\", so there is nothing to restore into");
    };
    let vault = Vault::restore(file, settings).await?;
    vault.note("store_restored", &file.display().to_string(), "", &whoami()).await?;
    vault.close().await;
    writeln!(out, "{} is restored", file.display())?;
    Ok(0)
}
