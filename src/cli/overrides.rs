//! `countersign app-overrides …`: what a product decides for an app before its users connect it.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{ask, in_workshop, note, projects, show};
use crate::connect::preset;
use crate::ids::ProjectId;
use crate::serve::{Source, Workshop};
use crate::vault::{self, AppOverride, AppOverrideDetails, OAuthClientRecord};

#[derive(clap::Subcommand)]
pub enum AppOverridesCommand {
    /// Decide values of an app's fields; the project's users neither see nor change them
    Add(New),
    /// List app overrides
    List {
        /// Only those of this project, by id or name
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an app override; accounts that were connected with it stay
    Remove {
        /// Its id (ao_…)
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(clap::Args)]
pub struct New {
    /// The app
    app: String,
    /// What to call it; unique in the project
    name: String,
    /// Whose users: a project, by id or name
    #[arg(long, value_name = "PROJECT")]
    project: String,
    /// A field of the app: NAME=VALUE. No secrets
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = pair)]
    fields: Vec<(String, String)>,
    /// The OAuth client that the app is connected with, by id or name
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub async fn run(
    command: &AppOverridesCommand,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| match command {
        AppOverridesCommand::Add(new) => add(shop, new, out).await,
        AppOverridesCommand::List { project, json } => {
            list(shop, project.as_deref(), *json, out).await
        }
        AppOverridesCommand::Remove { id, yes } => remove(shop, id, *yes, out).await,
    })
    .await
    .map(|()| 0)
}

async fn add(shop: &Workshop, new: &New, out: &mut impl Write) -> anyhow::Result<()> {
    let app = super::apps::find(&shop.config.catalog, &new.app)?;
    let project = projects::find(shop, &new.project).await?;
    let client = match &new.client {
        Some(named) => Some(client(shop, app.id.as_str(), named).await?),
        None => None,
    };
    let fields: BTreeMap<String, String> = new.fields.iter().cloned().collect();
    let oauth_client = client.as_ref().map(|client| client.id.clone());
    let details = AppOverrideDetails { name: new.name.clone(), oauth_client, fields };
    preset::check(app, &details, client.as_ref())?;
    let made = match shop.vault().create_app_override(&project.id, &app.id, &details).await {
        Ok(made) => made,
        Err(vault::Error::Conflict(_)) => {
            bail!("{} has an app override \"{}\" already", project.details.name, new.name)
        }
        Err(error) => return Err(error.into()),
    };
    note(shop, "app_override_added", &new.name, made.id.as_str()).await?;
    if new.json {
        show::json(out, &as_json(&made))?;
        return Ok(());
    }
    writeln!(out, "{} is {}", new.name, made.id)?;
    writeln!(out, "Connect pages take it in their address: appOverrideId={}", made.id)?;
    Ok(())
}

async fn client(shop: &Workshop, app: &str, named: &str) -> anyhow::Result<OAuthClientRecord> {
    let all = shop.vault().oauth_clients().await?;
    let mut of_app = all.into_iter().filter(|client| client.details.app.as_str() == app);
    let found = of_app.find(|client| client.id.as_str() == named || client.details.name == named);
    found.with_context(|| format!("--client: {app} has no OAuth client \"{named}\""))
}

fn as_json(one: &AppOverride) -> serde_json::Value {
    json!({
        "id": one.id,
        "project": one.project,
        "app": one.app,
        "name": one.details.name,
        "oauth_client": one.details.oauth_client,
        "fields": one.details.fields,
        "created_at": show::time(Some(one.created_at)),
    })
}

async fn list(
    shop: &Workshop,
    project: Option<&str>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let projects: Vec<ProjectId> = match project {
        Some(named) => vec![projects::find(shop, named).await?.id],
        None => shop.vault().projects().await?.into_iter().map(|project| project.id).collect(),
    };
    let mut found = Vec::new();
    for project in &projects {
        found.extend(shop.vault().app_overrides(project).await?);
    }
    let row = |one: &AppOverride| {
        let fields = one.details.fields.iter().map(|(name, value)| format!("{name}={value}"));
        let fields = fields.collect::<Vec<_>>().join(" ");
        let (app, id) = (one.app.to_string(), one.id.to_string());
        vec![one.details.name.clone(), app, fields, one.project.to_string(), id]
    };
    let list = show::List {
        head: &["name", "app", "fields", "project", "id"],
        none: "No app overrides yet. `countersign app-overrides add APP NAME --project PROJECT`",
        row,
        value: as_json,
    };
    list.write(out, json, &found)
}

async fn remove(shop: &Workshop, id: &str, yes: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let none = || format!("there is no app override {id}; `countersign app-overrides list`");
    let found = match id.parse() {
        Ok(id) => shop.vault().app_override(&id).await?,
        Err(_) => None,
    };
    let found = found.with_context(none)?;
    let name = &found.details.name;
    ask::confirm(&format!("{name} is removed; accounts that were connected with it stay."), yes)?;
    shop.vault().delete_app_override(&found.id).await?;
    note(shop, "app_override_removed", name, found.id.as_str()).await?;
    writeln!(out, "{name} is removed")?;
    Ok(())
}
