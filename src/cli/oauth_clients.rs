//! `countersign oauth-clients …`: what the operator registered with providers (RFC 6749 §2).

use std::io::Write;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::connect::PORT;
use super::find::{self, Kind};
use super::{ask, in_workshop, note, show};
use crate::connect::Way;
use crate::credentials::Registered;
use crate::inject::Properties;
use crate::serve::{Source, Workshop};
use crate::vault::{Filter, OAuthClientDetails, OAuthClientRecord};

#[derive(clap::Subcommand)]
pub enum OAuthClientsCommand {
    /// Make an OAuth client known that you registered with a provider
    Add(NewClient),
    /// List OAuth clients, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give an OAuth client a renewed secret or key, or another redirect URI; accounts go on with it
    Update(Renewal),
    /// Remove an OAuth client that no account was connected with
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
    /// The app
    app: String,
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// The client secret: a file, or - for standard input [default: asked for]
    #[arg(long, value_name = "FILE")]
    secret: Option<String>,
    /// There is no secret: a public client
    #[arg(long, conflicts_with = "secret")]
    public: bool,
    /// A private key in PEM, for providers that take a signed assertion (private_key_jwt)
    #[arg(long, value_name = "FILE")]
    private_key: Option<String>,
    /// The id of that key
    #[arg(long, value_name = "KID")]
    key_id: Option<String>,
    /// Which of the app's ways to authenticate [default: its first OAuth one]
    #[arg(long, value_name = "ID")]
    auth: Option<String>,
    /// What to call it [default: the app's id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The redirect URI that is registered with the provider
    #[arg(long, value_name = "URL")]
    redirect_uri: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct Renewal {
    /// Id or name
    client: String,
    /// The new client secret: a file, or - for standard input
    #[arg(long, value_name = "FILE")]
    secret: Option<String>,
    /// The new private key in PEM
    #[arg(long, value_name = "FILE")]
    private_key: Option<String>,
    /// The id of that key
    #[arg(long, value_name = "KID")]
    key_id: Option<String>,
    /// The redirect URI that is registered with the provider now
    #[arg(long, value_name = "URL")]
    redirect_uri: Option<String>,
}

pub async fn run(
    command: &OAuthClientsCommand,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| match command {
        OAuthClientsCommand::Add(new) => add(shop, new, out).await,
        OAuthClientsCommand::List { json } => list(shop, *json, out).await,
        OAuthClientsCommand::Update(renewal) => update(shop, renewal, out).await,
        OAuthClientsCommand::Remove { client, yes } => remove(shop, client, *yes, out).await,
    })
    .await
    .map(|()| 0)
}

async fn add(shop: &Workshop, new: &NewClient, out: &mut impl Write) -> anyhow::Result<()> {
    let NewClient { client_id, private_key, key_id, redirect_uri, .. } = new;
    let app = super::apps::find(&shop.config.catalog, &new.app)?;
    let fits = |candidate: &&crate::catalog::Auth| match &new.auth {
        Some(id) => candidate.id == *id,
        None => Way::of(candidate) == Way::Browser,
    };
    let Some(auth) = app.auths.iter().find(fits) else {
        let ids: Vec<&str> = app.auths.iter().map(|auth| auth.id.as_str()).collect();
        bail!("{} has no OAuth to register for; --auth takes one of: {}", app.id, ids.join(", "))
    };
    if let Some(uri) = redirect_uri {
        check_redirect_uri(uri)?;
    }
    let mut secrets = Properties::new();
    let optional = private_key.is_some();
    let file = new.secret.as_deref();
    if !new.public
        && let Some(value) = ask::secret("Client secret", "--secret", file, optional)?
    {
        secrets.insert(Registered::SECRET.to_owned(), value);
    }
    if let Some(file) = private_key {
        let key = ask::secret("Private key", "--private-key", Some(file), false)?;
        secrets.extend(key.map(|key| (Registered::PRIVATE_KEY.to_owned(), key)));
    }
    let details = OAuthClientDetails {
        app: app.id.clone(),
        auth: auth.id.clone(),
        name: new.name.clone().unwrap_or_else(|| app.id.to_string()),
        client_id: client_id.clone(),
        redirect_uri: redirect_uri.clone(),
        scopes: Vec::new(),
        fields: key_id.iter().map(|id| (Registered::KEY_ID.to_owned(), id.clone())).collect(),
    };
    let record = shop.vault().create_oauth_client(&details, &secrets).await?;
    note(shop, "oauth_client_added", &details.name, record.id.as_str()).await?;
    if new.json {
        show::json(out, &as_json(&record))?;
        return Ok(());
    }
    writeln!(out, "{} is {}", details.name, record.id)?;
    if redirect_uri.is_none() {
        let uri = format!("http://127.0.0.1:{PORT}/callback");
        writeln!(out, "Its redirect URI at the provider has to be {uri} to connect from here.")?;
    }
    writeln!(out, "Connect an account: countersign connect {}", app.id)?;
    Ok(())
}

fn as_json(record: &OAuthClientRecord) -> serde_json::Value {
    let details = &record.details;
    json!({
        "id": record.id,
        "name": details.name,
        "app": details.app,
        "auth": details.auth,
        "client_id": details.client_id,
        "redirect_uri": details.redirect_uri,
        "created_at": show::time(Some(record.created_at)),
    })
}

async fn list(shop: &Workshop, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let clients = shop.vault().oauth_clients().await?;
    let row = |record: &OAuthClientRecord| {
        let details = &record.details;
        let app = details.app.to_string();
        vec![details.name.clone(), app, details.client_id.clone(), record.id.to_string()]
    };
    let list = show::List {
        head: &["name", "app", "client id", "id"],
        none: "No OAuth clients yet. `countersign oauth-clients add APP --client-id ID`",
        row,
        value: as_json,
    };
    list.write(out, json, &clients)
}

async fn update(shop: &Workshop, renewal: &Renewal, out: &mut impl Write) -> anyhow::Result<()> {
    let Renewal { client, secret, private_key, key_id, redirect_uri } = renewal;
    let found = find(shop, client).await?;
    let opened = shop.vault().open_oauth_client(&found.id).await?;
    let (record, mut secrets) = opened.context("it was removed meanwhile")?;
    let mut details = record.details;
    for (name, option, file) in [
        (Registered::SECRET, "--secret", secret),
        (Registered::PRIVATE_KEY, "--private-key", private_key),
    ] {
        let Some(file) = file else { continue };
        let value = ask::secret(name, option, Some(file), false)?;
        secrets.extend(value.map(|value| (name.to_owned(), value)));
    }
    if let Some(id) = key_id {
        details.fields.insert(Registered::KEY_ID.to_owned(), id.clone());
    }
    if let Some(uri) = redirect_uri {
        check_redirect_uri(uri)?;
        details.redirect_uri = Some(uri.clone());
    }
    shop.vault().update_oauth_client(&found.id, &details, Some(&secrets)).await?;
    note(shop, "oauth_client_updated", &details.name, found.id.as_str()).await?;
    writeln!(out, "{client} is updated; servers use it within a second")?;
    Ok(())
}

/// The one client of that id or name.
async fn find(shop: &Workshop, named: &str) -> anyhow::Result<OAuthClientRecord> {
    let clients = shop.vault().oauth_clients().await?;
    find::only(clients, named, &KIND, |client| (client.id.as_str(), &client.details.name))
}

const KIND: Kind = Kind { one: "OAuth client", list: "countersign oauth-clients list" };

fn check_redirect_uri(uri: &str) -> anyhow::Result<()> {
    url::Url::parse(uri).map_err(|error| anyhow::anyhow!("--redirect-uri {uri}: {error}"))?;
    Ok(())
}

async fn remove(
    shop: &Workshop,
    named: &str,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let client = find(shop, named).await?;
    let filter = Filter { oauth_client: Some(client.id.clone()), ..Filter::default() };
    let accounts = shop.vault().accounts(&filter).await?;
    if !accounts.is_empty() {
        let names: Vec<&str> = accounts.iter().map(|account| account.nickname.as_str()).collect();
        bail!(
            "{named} renews the tokens of {}: delete these accounts first, or connect them anew with \
             another client",
            names.join(", ")
        );
    }
    ask::confirm(&format!("{named} is removed."), yes)?;
    shop.vault().delete_oauth_client(&client.id).await?;
    note(shop, "oauth_client_removed", &client.details.name, client.id.as_str()).await?;
    writeln!(out, "{named} is removed")?;
    Ok(())
}
