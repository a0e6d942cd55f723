//! `countersign api-clients …`: programs that may speak to the REST API, each with an id and a
//! secret (RFC 6749 §4.4).

use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::find::{self, Kind};
use super::{ask, in_workshop, note, projects, show, token};
use crate::api::{ALL_SCOPES, Scopes, public_key};
use crate::config::duration;
use crate::secret::TokenDigest;
use crate::serve::{Source, Workshop};
use crate::vault::{ApiClient, ApiClientDetails, ApiClientKey};

#[derive(clap::Subcommand)]
pub enum ApiClientsCommand {
    /// Make an id and a secret for a program that uses the API or an SDK; the secret is shown once
    Add(NewClient),
    /// Give a client a public key, so that it proves itself by signing (private_key_jwt)
    Key {
        /// Id or name
        client: String,
        /// The public key in PEM: P-256 (ES256) or RSA (RS256)
        #[arg(long, value_name = "FILE")]
        public_key: std::path::PathBuf,
        /// The id of that key; another key of the same id is replaced
        #[arg(long, value_name = "KID")]
        key_id: String,
    },
    /// List them, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove one; its access tokens end at once
    Remove {
        /// Id or name
        client: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(clap::Args)]
pub struct NewClient {
    /// What to call it
    name: String,
    /// The one project that it may work on, by id or name [default: every project]
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// What it may do, such as connect:proxy; may be given several times [default: everything]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How long it may, such as 90d [default: until it is removed]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_in: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(
    command: &ApiClientsCommand,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| match command {
        ApiClientsCommand::Add(new) => add(shop, new, out).await,
        ApiClientsCommand::Key { client, public_key, key_id } => {
            key(shop, client, public_key, key_id, out).await
        }
        ApiClientsCommand::List { json } => list(shop, *json, out).await,
        ApiClientsCommand::Remove { client, yes } => remove(shop, client, *yes, out).await,
    })
    .await
    .map(|()| 0)
}

async fn add(shop: &Workshop, new: &NewClient, out: &mut impl Write) -> anyhow::Result<()> {
    let project = match &new.project {
        Some(named) => Some(projects::find(shop, named).await?.id),
        None => None,
    };
    let scopes = match new.scopes.is_empty() {
        true => Scopes::of([ALL_SCOPES])?,
        false => Scopes::of(new.scopes.iter().map(String::as_str))?,
    };
    let details = ApiClientDetails {
        name: new.name.clone(),
        project,
        scopes: scopes.list().to_vec(),
        expires_at: new.expires_in.map(|life| SystemTime::now() + life),
    };
    let secret = token::fresh()?;
    let digest = TokenDigest::of(secret.expose().as_bytes());
    let client = shop.vault().create_api_client(digest, &details).await?;
    note(shop, "api_client_added", &new.name, &client.id).await?;
    if new.json {
        let mut shown = as_json(&client);
        shown["client_secret"] = json!(secret.expose());
        show::json(out, &shown)?;
        return Ok(());
    }
    writeln!(
        out,
        "The secret, shown once:\n\n  PIPEDREAM_CLIENT_ID={}\n  PIPEDREAM_CLIENT_SECRET={}",
        client.id,
        secret.expose()
    )?;
    if let Some(project) = &client.details.project {
        writeln!(out, "  PIPEDREAM_PROJECT_ID={project}")?;
    }
    writeln!(out, "\nand PIPEDREAM_BASE_URL is the URL of this server's web listener.")?;
    Ok(())
}

fn as_json(client: &ApiClient) -> serde_json::Value {
    let details = &client.details;
    json!({
        "client_id": client.id,
        "name": details.name,
        "project": details.project,
        "scopes": details.scopes,
        "expires_at": show::time(details.expires_at),
        "created_at": show::time(Some(client.created_at)),
    })
}

async fn list(shop: &Workshop, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let clients = shop.vault().api_clients().await?;
    let now = SystemTime::now();
    let row = |client: &ApiClient| {
        let details = &client.details;
        let project = details.project.as_ref().map_or("every".to_owned(), ToString::to_string);
        let expires = show::when(details.expires_at, now);
        vec![details.name.clone(), client.id.clone(), project, details.scopes.join(" "), expires]
    };
    let list = show::List {
        head: &["name", "id", "project", "scopes", "expires"],
        none: "No API clients yet. `countersign api-clients add NAME`",
        row,
        value: as_json,
    };
    list.write(out, json, &clients)
}

/// The one client of that id or name.
async fn find(shop: &Workshop, named: &str) -> anyhow::Result<ApiClient> {
    let clients = shop.vault().api_clients().await?;
    find::only(clients, named, &KIND, |client| (&client.id, &client.details.name))
}

const KIND: Kind = Kind { one: "API client", list: "countersign api-clients list" };

async fn key(
    shop: &Workshop,
    named: &str,
    file: &std::path::Path,
    kid: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let client = find(shop, named).await?;
    let pem = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    if public_key(&pem).is_none() {
        bail!(
            "{}: not a public key in PEM; `openssl pkey -in KEY -pubout` makes one of a private key",
            file.display()
        );
    }
    let key = ApiClientKey { kid: kid.to_owned(), public_key: pem };
    shop.vault().put_api_client_key(&client.id, &key).await?;
    note(shop, "api_client_key_added", &client.details.name, kid).await?;
    writeln!(out, "{} may sign with the key {kid}", client.details.name)?;
    Ok(())
}

async fn remove(
    shop: &Workshop,
    named: &str,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let client = find(shop, named).await?;
    ask::confirm(&format!("{named} is removed, and its access tokens end."), yes)?;
    shop.vault().delete_api_client(&client.id).await?;
    note(shop, "api_client_removed", &client.details.name, &client.id).await?;
    writeln!(out, "{named} is removed")?;
    Ok(())
}
