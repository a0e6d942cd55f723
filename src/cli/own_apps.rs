//! `countersign apps add | remove`: definitions of the workspace's own, which all nodes take in at
//! once; and the catalog with them.

use std::io::{Read as _, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::{ask, in_workshop, load_or_explain, note};
use crate::catalog::Catalog;
use crate::catalog::own::{self, DeclaredUse, MAX_BYTES, Verdict};
use crate::config::Store;
use crate::ids::AppId;
use crate::serve::{self, Source, Workshop};
use crate::vault::Filter;

#[derive(clap::Args)]
pub struct AddArgs {
    /// A TOML file with one app, or "-" for standard input
    file: PathBuf,
    /// Take the place of the workspace's definition of that app, if there is one
    #[arg(long)]
    replace: bool,
    /// Do not ask about what the lint warns of
    #[arg(long, short)]
    yes: bool,
}

#[derive(clap::Args)]
pub struct RemoveArgs {
    /// The app's id
    app: AppId,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// The catalog as a server has it: with the workspace's own definitions, where there is a store. To
/// look at apps makes none.
pub async fn catalog(source: &Source) -> anyhow::Result<Arc<Catalog>> {
    let config = load_or_explain(source)?.config;
    let there = match &config.vault.store {
        Store::Off => false,
        Store::Sqlite => serve::database_file(&config).exists(),
        Store::Postgres(_) => true,
    };
    if !there {
        return Ok(config.catalog);
    }
    let known = config.catalog.clone();
    let shop = match Workshop::open(config, &super::whoami()).await {
        Ok(shop) => shop,
        // What the binary and files define can be looked at without the store.
        Err(error) => {
            anstream::eprintln!("the workspace's own definitions are left out: {error}");
            return Ok(known);
        }
    };
    let catalog = shop.config.catalog.clone();
    shop.close().await;
    Ok(catalog)
}

pub async fn add(args: &AddArgs, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let text = read(&args.file)?;
    in_workshop(source, async |shop| put(shop, args, &text, out).await).await
}

fn read(file: &std::path::Path) -> anyhow::Result<String> {
    let mut text = String::new();
    // One byte more, so that what is too long is seen to be.
    let most = MAX_BYTES as u64 + 1;
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(most).read_to_string(&mut text),
        false => {
            std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text))
        }
    };
    read.with_context(|| file.display().to_string())?;
    Ok(text)
}

async fn put(
    shop: &Workshop,
    args: &AddArgs,
    text: &str,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let id = id_of(text);
    let kept = match &id {
        Some(id) => shop.vault().app_definition(id).await?,
        None => None,
    };
    if let (Some(kept), false) = (&kept, args.replace) {
        bail!("the workspace has a definition of {} already: --replace changes it", kept.id);
    }
    let verdict = judge(shop, text, kept.as_ref().map(|kept| &kept.id)).await?;
    let warns = !verdict.is_clean();
    for line in verdict.mistakes.iter().map(ToString::to_string).chain(verdict.notes) {
        writeln!(out, "{line}")?;
    }
    let Some(app) = verdict.app else {
        writeln!(out, "it was not kept")?;
        return Ok(1);
    };
    if warns {
        ask::confirm(&format!("Keep the definition of {} all the same?", app.id), args.yes)?;
    }
    shop.vault().put_app_definition(&app.id, text, None).await?;
    let what = if kept.is_some() { "app_changed" } else { "app_added" };
    note(shop, what, app.id.as_str(), &app.name).await?;
    writeln!(out, "{} is kept; servers take it in within a second", app.id)?;
    Ok(0)
}

/// What the text says that it is, before anything else of it is looked at.
fn id_of(text: &str) -> Option<AppId> {
    let table: toml::Table = text.parse().ok()?;
    table.get("id")?.as_str()?.parse().ok()
}

async fn judge(shop: &Workshop, text: &str, changes: Option<&AppId>) -> anyhow::Result<Verdict> {
    let declared = shop.config.accounts.iter().map(|account| DeclaredUse {
        account: &account.name,
        app: &account.app,
        auth: &account.auth,
    });
    let mut verdict = own::judge(&shop.config.catalog, text, changes, declared);
    if let Some(app) = &verdict.app {
        let filter = Filter { app: Some(app.id.clone()), ..Filter::default() };
        let accounts = shop.vault().accounts(&filter).await?;
        let ways = accounts.iter().map(|account| (&account.nickname, &*account.auth));
        verdict.notes.extend(own::lost_ways(app, ways));
    }
    Ok(verdict)
}

pub async fn remove(
    args: &RemoveArgs,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| take_away(shop, args, out).await).await.map(|()| 0)
}

async fn take_away(shop: &Workshop, args: &RemoveArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let id = &args.app;
    if shop.vault().app_definition(id).await?.is_none() {
        bail!(
            "the workspace has no definition of its own of {id}; `countersign apps list --own` shows \
             those that it has"
        );
    }
    let filter = Filter { app: Some(id.clone()), ..Filter::default() };
    let accounts = shop.vault().accounts(&filter).await?;
    let names: Vec<&str> = accounts.iter().map(|account| account.nickname.as_str()).collect();
    let lost = match names.is_empty() {
        true => String::new(),
        false => format!(" It is the app of {}.", names.join(", ")),
    };
    ask::confirm(&format!("The workspace's definition of {id} is removed.{lost}"), args.yes)?;
    shop.vault().delete_app_definition(id).await?;
    note(shop, "app_removed", id.as_str(), "").await?;
    writeln!(out, "the definition of {id} is removed")?;
    Ok(())
}

/// The ids of the workspace's own definitions.
pub async fn ids(source: &Source) -> anyhow::Result<Vec<AppId>> {
    in_workshop(source, async |shop| {
        let kept = shop.vault().app_definitions().await?;
        Ok(kept.into_iter().map(|kept| kept.id).collect())
    })
    .await
}
