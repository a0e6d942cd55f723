//! `countersign accounts …`: what is connected, and how it fares.

use std::io::Write;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::connect::{self, Browser};
use super::{ask, in_workshop, members, note_about, show};
use crate::connect::{Checked, Removed, check};
use crate::credentials::{Slot, properties};
use crate::ids::AccountId;
use crate::serve::{Source, Workshop};
use crate::vault::{Account, Credentials, Filter, Owner};

#[derive(clap::Subcommand)]
pub enum AccountsCommand {
    /// List accounts, or those of one app
    List {
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one account: health, scopes, who uses it
    Show {
        /// Nickname or id
        account: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give an account another nickname
    Rename { account: String, nickname: AccountId },
    /// Make a member the owner of an account
    Give {
        account: String,
        /// E-mail address or id
        member: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Send the app's test request with the account, or with all of them
    Check {
        accounts: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Connect an account anew: it keeps its id, its name, and the callers that use it
    Reconnect {
        account: String,
        #[command(flatten)]
        how: connect::How,
        /// The account may become somebody else's at the provider
        #[arg(long)]
        other_identity: bool,
    },
    /// Delete an account, and revoke its grant at the provider where that is offered
    Delete {
        account: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Print an account with its secrets, as JSON
    Export {
        account: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(
    command: &AccountsCommand,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| dispatch(command, shop, out).await).await
}

async fn dispatch(
    command: &AccountsCommand,
    shop: &Workshop,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    match command {
        AccountsCommand::List { app, json } => list(shop, app.as_deref(), *json, out).await,
        AccountsCommand::Show { account, json } => {
            one(shop, &find(shop, account).await?, *json, out).await
        }
        AccountsCommand::Rename { account, nickname } => {
            let found = find(shop, account).await?;
            if nickname.as_str().starts_with("apn_") {
                bail!("a nickname may not start with \"apn_\", as ids do");
            }
            shop.vault().rename_account(&found.id, nickname).await?;
            note_about(
                shop,
                &found.id,
                "account_renamed",
                found.nickname.as_str(),
                nickname.as_str(),
            )
            .await?;
            writeln!(out, "{} is {nickname} now", found.nickname)?;
            Ok(0)
        }
        AccountsCommand::Give { account, member, yes } => {
            give(shop, account, member, *yes, out).await
        }
        AccountsCommand::Check { accounts, json } => check_all(shop, accounts, *json, out).await,
        AccountsCommand::Reconnect { account, how, other_identity } => {
            let found = find(shop, account).await?;
            connect::reconnect(shop, found, how, *other_identity, Browser::of(how), out).await
        }
        AccountsCommand::Delete { account, yes } => delete(shop, account, *yes, out).await,
        AccountsCommand::Export { account, yes } => export(shop, account, *yes, out).await,
    }
}

/// The account of that nickname or id.
pub async fn find(shop: &Workshop, name: &str) -> anyhow::Result<Account> {
    let id: AccountId = name.parse()?;
    if let Some(account) = shop.vault().account(&id).await? {
        return Ok(account);
    }
    if shop.config.accounts.iter().any(|declared| declared.name == id) {
        bail!("\"{name}\" is declared in the configuration, and is changed there");
    }
    bail!("there is no account \"{name}\"; `countersign accounts list` shows them")
}

async fn give(
    shop: &Workshop,
    account: &str,
    member: &str,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let (account, member) = (find(shop, account).await?, members::find(shop, member).await?);
    let what = format!(
        "{} belongs to {} from now on. Bindings that rest on somebody who loses it end.",
        account.nickname, member.email
    );
    ask::confirm(&what, yes)?;
    if !shop.vault().give_account(&account.id, Some(&member.id)).await? {
        bail!("{} is an external user's, and nobody else's to have", account.nickname);
    }
    let name = account.nickname.as_str();
    note_about(shop, &account.id, "account_given", name, &member.email).await?;
    writeln!(out, "{name} belongs to {} now", member.email)?;
    Ok(0)
}

async fn list(
    shop: &Workshop,
    app: Option<&str>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let app = app.map(str::parse).transpose()?;
    let filter = Filter { app: app.clone(), ..Filter::default() };
    let mut accounts = shop.vault().accounts(&filter).await?;
    accounts.sort_by(|one, other| one.nickname.cmp(&other.nickname));
    let declared = shop.config.accounts.iter();
    let declared = declared.filter(|account| app.as_ref().is_none_or(|app| account.app == *app));
    let declared: Vec<_> = declared.collect();
    if json {
        let mut all: Vec<Value> = accounts.iter().map(as_json).collect();
        all.extend(declared.iter().map(|account| {
            json!({ "id": account.id, "nickname": account.name, "app": account.app, "declared": true })
        }));
        show::json(out, &Value::Array(all))?;
        return Ok(0);
    }
    if accounts.is_empty() && declared.is_empty() {
        writeln!(out, "No accounts yet. `countersign connect APP` connects the first one.")?;
        return Ok(0);
    }
    let now = SystemTime::now();
    let mut rows: Vec<Vec<String>> = accounts.iter().map(|account| row(account, now)).collect();
    rows.extend(declared.iter().map(|account| {
        let text = |text: &dyn ToString| text.to_string();
        vec![text(&account.name), text(&account.app), "declared".into(), "-".into(), "-".into()]
    }));
    show::table(out, &["nickname", "app", "health", "expires", "id"], rows)?;
    Ok(0)
}

fn row(account: &Account, now: SystemTime) -> Vec<String> {
    vec![
        account.nickname.to_string(),
        account.app.to_string(),
        state(account).to_owned(),
        show::when(account.health.expires_at, now),
        account.id.to_string(),
    ]
}

fn state(account: &Account) -> &'static str {
    match &account.health {
        health if health.dead => "dead",
        health if health.is_unhealthy() => "unhealthy",
        _ => "healthy",
    }
}

/// An account as programs see it, without its secrets.
pub fn as_json(account: &Account) -> Value {
    let health = &account.health;
    let error = health.error.as_ref().map(|error| {
        json!({ "code": error.code, "message": error.message, "at": show::time(Some(error.at)) })
    });
    json!({
        "id": account.id,
        "nickname": account.nickname,
        "app": account.app,
        "auth": account.auth,
        "owner": owner(&account.owner),
        "identity": account.identity,
        "fields": account.fields,
        "scopes": account.scopes,
        "healthy": state(account) == "healthy",
        "dead": health.dead,
        "error": error,
        "expires_at": show::time(health.expires_at),
        "refresh_expires_at": show::time(health.refresh_expires_at),
        "last_refreshed_at": show::time(health.last_refreshed_at),
        "next_refresh_at": show::time(health.next_refresh_at),
        "last_used_at": show::time(health.last_used_at),
        "created_at": show::time(Some(account.created_at)),
        "updated_at": show::time(Some(account.updated_at)),
    })
}

fn owner(owner: &Owner) -> String {
    match owner {
        Owner::Workspace => "workspace".to_owned(),
        Owner::Member(id) => id.to_string(),
        Owner::ExternalUser(id) => id.to_string(),
    }
}

async fn one(
    shop: &Workshop,
    account: &Account,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let bindings = shop.vault().bindings().await?;
    let users = bindings.iter().filter(|binding| binding.account == account.id);
    let users: Vec<String> = users.map(|binding| binding.caller.to_string()).collect();
    if json {
        let mut value = as_json(account);
        value["callers"] = json!(users);
        show::json(out, &value)?;
        return Ok(0);
    }
    let now = SystemTime::now();
    let health = &account.health;
    let list = |texts: &[String]| if texts.is_empty() { "-".into() } else { texts.join(", ") };
    let mut lines = vec![
        ("nickname", account.nickname.to_string()),
        ("id", account.id.to_string()),
        ("app", format!("{} ({})", account.app, account.auth)),
        ("identity", account.identity.clone().unwrap_or_else(|| "-".into())),
        ("health", state(account).to_owned()),
    ];
    if let Some(error) = &health.error {
        lines.push(("error", format!("{}: {}", error.code, error.message)));
    }
    lines.extend([
        ("expires", show::when(health.expires_at, now)),
        ("refreshed", show::when(health.last_refreshed_at, now)),
        ("next refresh", show::when(health.next_refresh_at, now)),
        ("last used", show::when(health.last_used_at, now)),
        ("scopes", list(&account.scopes)),
        ("callers", list(&users)),
    ]);
    lines.extend(account.fields.iter().map(|(name, value)| (name.as_str(), value.clone())));
    for (name, value) in lines {
        writeln!(out, "{name:<13} {}", show::plain(&value))?;
    }
    if health.dead {
        writeln!(out, "\nConnect it anew: countersign accounts reconnect {}", account.nickname)?;
    }
    Ok(0)
}

async fn check_all(
    shop: &Workshop,
    names: &[String],
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let accounts = match names {
        [] => shop.vault().accounts(&Filter::default()).await?,
        names => {
            let mut found = Vec::new();
            for name in names {
                found.push(find(shop, name).await?);
            }
            found
        }
    };
    let mut results = Vec::new();
    for account in accounts {
        let checked = match shop.keeper.slot(&account).await {
            Ok(slot) => check(&shop.upstream, &slot).await,
            Err(error) => Checked::Unavailable { why: error.to_string() },
        };
        results.push((account, checked));
    }
    let bad = results.iter().any(|(_, checked)| checked.is_bad());
    if json {
        let one = |(account, checked): &(Account, Checked)| {
            json!({
                "id": account.id,
                "nickname": account.nickname,
                "app": account.app,
                "works": !checked.is_bad(),
                "result": told(checked),
            })
        };
        show::json(out, &results.iter().map(one).collect())?;
    } else {
        let rows = results.iter().map(|(account, checked)| {
            let mark = if checked.is_bad() { "failed" } else { "ok" };
            vec![account.nickname.to_string(), account.app.to_string(), mark.into(), told(checked)]
        });
        show::table(out, &["nickname", "app", "check", "result"], rows.collect())?;
    }
    Ok(u8::from(bad))
}

/// What a check found, in a line.
pub fn told(checked: &Checked) -> String {
    match checked {
        Checked::Works { status } => format!("{status}: the account works"),
        Checked::Refused { status, why, said } if said.is_empty() => format!("{status}: {why}"),
        Checked::Refused { status, why, said } => format!("{status}: {why}: {said}"),
        Checked::Unavailable { why } | Checked::Unreachable { why } => why.clone(),
        Checked::NotOffered => "this app has no test request".to_owned(),
    }
}

async fn delete(
    shop: &Workshop,
    name: &str,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let account = find(shop, name).await?;
    let bindings = shop.vault().bindings().await?;
    let users = bindings.iter().filter(|binding| binding.account == account.id);
    let users: Vec<&str> = users.map(|binding| binding.caller.as_str()).collect();
    let lost = match &users[..] {
        [] => String::new(),
        users => format!(" These callers stop working with {}: {}.", account.app, users.join(", ")),
    };
    ask::confirm(&format!("This deletes {} for good.{lost}", account.nickname), yes)?;
    let removed = shop.connector.remove(&account.id).await?.context("it is gone already")?;
    match removed {
        Removed::Revoked => writeln!(out, "{} is deleted, and revoked at the provider", name)?,
        Removed::NotRevocable => writeln!(
            out,
            "{name} is deleted. The provider offers no revocation: end the grant or key in its own \
             settings"
        )?,
        Removed::Failed { why } => writeln!(
            out,
            "{name} is deleted here, but not revoked at the provider: {}. End the grant in its own \
             settings",
            show::plain(&why)
        )?,
    }
    Ok(0)
}

async fn export(
    shop: &Workshop,
    name: &str,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    allowed(shop)?;
    let account = find(shop, name).await?;
    ask::confirm(&format!("This prints the secrets of {}.", account.nickname), yes)?;
    let (account, credentials) = open(shop, &account).await?;
    let mut value = as_json(&account);
    value["credentials"] = secrets(&account, &credentials, true);
    note_about(
        shop,
        &account.id,
        "account_exported",
        account.nickname.as_str(),
        account.id.as_str(),
    )
    .await?;
    show::json(out, &value)?;
    Ok(0)
}

/// Whether this configuration hands out secrets at all.
///
/// # Errors
/// When it does not.
pub fn allowed(shop: &Workshop) -> anyhow::Result<()> {
    if shop.config.vault.export {
        return Ok(());
    }
    bail!("vault.export is false: this configuration hands out no secrets")
}

pub async fn open(shop: &Workshop, account: &Account) -> anyhow::Result<(Account, Credentials)> {
    let opened = shop.vault().open_account(&account.id).await?;
    opened.with_context(|| format!("{} was deleted meanwhile", account.nickname))
}

/// The account's own values as programs know them. A refresh token is no use to them, and the one
/// thing that must not be used elsewhere: it is exported only as part of everything.
pub fn secrets(account: &Account, credentials: &Credentials, everything: bool) -> Value {
    let all = properties(&account.fields, credentials);
    let kept = all.iter().filter(|(name, _)| everything || name.as_str() != "oauth_refresh_token");
    kept.map(|(name, value)| (name.clone(), Value::from(value.expose()))).collect()
}

/// The slot of an account with a credential that has not expired.
pub async fn fresh_slot(
    shop: &Workshop,
    account: &Account,
) -> anyhow::Result<std::sync::Arc<Slot>> {
    let slot = shop.keeper.slot(account).await?;
    if slot.must_wait() {
        slot.renewed().await;
    }
    Ok(slot)
}
