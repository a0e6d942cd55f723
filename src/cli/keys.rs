//! `countersign keys …`, `backup` and `restore`: what keeps the store readable, and only by us.

use std::io::Write;
use std::path::Path;

use anyhow::bail;

use super::{load_or_explain, note};
use crate::clock::Clock;
use crate::serve::{self, Source, Workshop};
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
            let shop = Workshop::open(load_or_explain(source)?.config).await?;
            let done = rotate(&shop, out).await;
            shop.close().await;
            done
        }
    }
}

async fn rotate(shop: &Workshop, out: &mut impl Write) -> anyhow::Result<u8> {
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
    writeln!(out, "The former keys may be taken out of vault.old_keys")?;
    Ok(0)
}

pub async fn backup(file: &Path, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let shop = Workshop::open(load_or_explain(source)?.config).await?;
    let written = shop.vault().backup(file).await;
    shop.close().await;
    writeln!(
        out,
        "{} rows are in {}, sealed: keep the master key too, and elsewhere",
        written?,
        file.display()
    )?;
    Ok(0)
}

pub async fn restore(file: &Path, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let config = load_or_explain(source)?.config;
    let Some(settings) = serve::vault_settings(&config, &Clock::System).await? else {
        bail!("vault.url is \"off\", so there is nothing to restore into");
    };
    let vault = Vault::restore(file, settings).await?;
    vault.note("store_restored", &file.display().to_string(), "", &super::whoami()).await?;
    vault.close().await;
    writeln!(out, "{} is restored", file.display())?;
    Ok(0)
}
