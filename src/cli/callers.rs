//! `countersign callers …`: who sends requests, and with which accounts.

use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::life::{Life, life};
use super::{accounts, ask, in_workshop, note, note_about, show};
use crate::config::duration;
use crate::connect::callers::{self, Terms};
use crate::ids::{AccountId, CallerId};
use crate::serve::{Source, Workshop};
use crate::vault::{Binding, CallerDetails, StoredCaller};

#[derive(clap::Subcommand)]
pub enum CallersCommand {
    /// Add a caller; its token is shown once
    Add(NewCaller),
    /// List callers
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one caller: accounts, rules, tokens
    Show {
        name: CallerId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a caller a new token; the old ones end at once, or after a while
    Rotate {
        name: CallerId,
        /// How long the old tokens still work, for programs that get the new one later: 10m, 1d
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        overlap: Option<Duration>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a caller; its open tunnels end within a second
    Revoke {
        name: CallerId,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Let a caller use an account
    Bind {
        name: CallerId,
        account: String,
        /// Taken when a request names none of several accounts of the app
        #[arg(long)]
        default: bool,
        /// Requests below these paths take this account: /api/chat.*
        #[arg(long = "path", value_name = "PATTERN")]
        paths: Vec<String>,
        #[command(flatten)]
        grant: Grant,
    },
    /// Take an account away from a caller, and the rules about it
    Unbind { name: CallerId, account: String },
    /// Put another account of the app in the place of one, with the rules about it
    Swap {
        name: CallerId,
        account: String,
        /// The account that takes its place
        by: String,
    },
    /// Change what a caller is and how much it may: only what is said here
    Update(Update),
}

#[derive(clap::Args)]
pub struct Update {
    name: CallerId,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// enforce, or report: let through, and count, what a rule would deny
    #[arg(long, value_name = "MODE", value_parser = ["enforce", "report"])]
    mode: Option<String>,
    /// Requests per second, and a burst: 50 or 50/100; "" for no limit
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Requests in flight at once; 0 for no limit
    #[arg(long, value_name = "N")]
    max_concurrent: Option<u32>,
    /// How long it may send anything from now on: 90d, 12h, or "never" for without an end
    #[arg(long, value_name = "DURATION", value_parser = life)]
    lifetime: Option<Life>,
}

impl Update {
    fn over(&self, before: &CallerDetails) -> CallerDetails {
        let mut details = before.clone();
        if let Some(text) = &self.description {
            details.description.clone_from(text);
        }
        if let Some(mode) = &self.mode {
            details.mode = Some(mode.clone()).filter(|mode| mode == "report");
        }
        if let Some(rate) = &self.rate {
            details.rate = Some(rate.clone()).filter(|rate| !rate.is_empty());
        }
        if let Some(most) = self.max_concurrent {
            details.max_concurrent = Some(most).filter(|most| *most > 0);
        }
        if let Some(life) = self.lifetime {
            details.expires_at = life.ends_at(SystemTime::now());
        }
        details
    }
}

#[derive(clap::Args)]
pub struct NewCaller {
    name: CallerId,
    /// Accounts that it may use, by nickname or id
    #[arg(long = "account", value_name = "NAME")]
    accounts: Vec<String>,
    #[command(flatten)]
    grant: Grant,
    /// What it is for
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// Let through, and count, what a rule would deny
    #[arg(long)]
    report: bool,
    /// Requests per second, and a burst: 50 or 50/100
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Requests in flight at once
    #[arg(long, value_name = "N")]
    max_concurrent: Option<u32>,
    /// How long it may send anything: 90d, 12h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lifetime: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What may be done with an account that is bound.
#[derive(clap::Args, Clone)]
pub struct Grant {
    /// Allow only this: "POST /api/chat.*", "GET,HEAD /v1/**". May be given several times [default:
    /// everything that the account's app offers]
    #[arg(long = "allow", value_name = "METHODS PATHS")]
    allow: Vec<String>,
    /// Deny this, whatever else is allowed: "DELETE /**"
    #[arg(long = "deny", value_name = "METHODS PATHS")]
    deny: Vec<String>,
}

impl Grant {
    fn as_meant(&self) -> callers::Grant {
        callers::Grant { allow: self.allow.clone(), deny: self.deny.clone() }
    }
}

pub async fn run(
    command: &CallersCommand,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| dispatch(command, shop, out).await).await.map(|()| 0)
}

async fn dispatch(
    command: &CallersCommand,
    shop: &Workshop,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        CallersCommand::Add(new) => add(shop, new, out).await,
        CallersCommand::List { json } => list(shop, *json, out).await,
        CallersCommand::Show { name, json } => one(shop, name, *json, out).await,
        CallersCommand::Rotate { name, overlap, json } => {
            rotate(shop, name, *overlap, *json, out).await
        }
        CallersCommand::Swap { name, account, by } => swap(shop, name, (account, by), out).await,
        CallersCommand::Update(asked) => update(shop, asked, out).await,
        CallersCommand::Revoke { name, yes } => revoke(shop, name, *yes, out).await,
        CallersCommand::Bind { name, account, default, paths, grant } => {
            let caller = find(shop, name).await?;
            let account = accounts::find(shop, account).await?;
            let terms = Terms { default: *default, paths: paths.clone(), grant: grant.as_meant() };
            callers::bind(shop.vault(), &caller, &account, &terms, None).await?;
            note_about(
                shop,
                &account.id,
                "account_bound",
                name.as_str(),
                account.nickname.as_str(),
            )
            .await?;
            writeln!(out, "{name} may use {}", account.nickname)?;
            Ok(())
        }
        CallersCommand::Unbind { name, account } => unbind(shop, name, account, out).await,
    }
}

async fn add(shop: &Workshop, new: &NewCaller, out: &mut impl Write) -> anyhow::Result<()> {
    let (name, grant) = (&new.name, &new.grant);
    if shop.config.callers.iter().any(|declared| declared.id == *name) {
        bail!("{name} is declared in the configuration already");
    }
    let mut bound = Vec::new();
    for account in &new.accounts {
        bound.push(accounts::find(shop, account).await?);
    }
    let details = CallerDetails {
        description: new.description.clone(),
        mode: new.report.then(|| "report".to_owned()),
        rate: new.rate.clone(),
        max_concurrent: new.max_concurrent,
        rules: String::new(),
        expires_at: new.lifetime.map(|lifetime| SystemTime::now() + lifetime),
    };
    let vault = shop.vault();
    let token = callers::create(vault, name, &details, &bound, &grant.as_meant(), None).await?;
    note(shop, "caller_added", name.as_str(), &new.description).await?;
    for account in &bound {
        note_about(shop, &account.id, "account_bound", name.as_str(), account.nickname.as_str())
            .await?;
    }
    if new.json {
        show::json(out, &json!({ "name": name, "token": token.expose() }))?;
        return Ok(());
    }
    writeln!(out, "The token, shown once:\n\n  {}\n", token.expose())?;
    how_to_use(shop, name, token.expose(), out)?;
    if bound.is_empty() {
        writeln!(out, "\nIt may use no account yet: countersign callers bind {name} ACCOUNT")?;
    }
    Ok(())
}

fn how_to_use(
    shop: &Workshop,
    name: &CallerId,
    token: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let proxy =
        shop.config.proxy.listen.first().map_or("127.0.0.1:3128".into(), ToString::to_string);
    writeln!(
        out,
        "In the program's environment:\n\n  export HTTPS_PROXY=http://{name}:{token}@{proxy}\n  \
         export HTTP_PROXY=$HTTPS_PROXY\n\nor, with the CA and all that clients need:\n\n  \
         eval \"$(COUNTERSIGN_TOKEN={token} countersign env --caller {name})\""
    )?;
    Ok(())
}

/// The stored caller of that name.
async fn find(shop: &Workshop, name: &CallerId) -> anyhow::Result<StoredCaller> {
    if let Some(caller) = shop.vault().caller(name).await? {
        return Ok(caller);
    }
    if shop.config.callers.iter().any(|declared| declared.id == *name) {
        bail!("{name} is declared in the configuration, and is changed there");
    }
    bail!("there is no caller \"{name}\"; `countersign callers list` shows them")
}

async fn unbind(
    shop: &Workshop,
    name: &CallerId,
    account: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let caller = find(shop, name).await?;
    let account = accounts::find(shop, account).await?;
    callers::unbind(shop.vault(), &caller, &account).await?;
    note_about(shop, &account.id, "account_unbound", name.as_str(), account.nickname.as_str())
        .await?;
    writeln!(out, "{name} may no longer use {}", account.nickname)?;
    Ok(())
}

async fn swap(
    shop: &Workshop,
    name: &CallerId,
    (old, new): (&str, &str),
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let caller = find(shop, name).await?;
    let (old, new) = (accounts::find(shop, old).await?, accounts::find(shop, new).await?);
    callers::swap(shop.vault(), &caller, (&old, &new), None).await?;
    let detail = format!("{} for {}", new.nickname, old.nickname);
    note_about(shop, &new.id, "account_swapped", name.as_str(), &detail).await?;
    writeln!(out, "{name} uses {} in the place of {} now", new.nickname, old.nickname)?;
    Ok(())
}

async fn update(shop: &Workshop, asked: &Update, out: &mut impl Write) -> anyhow::Result<()> {
    let caller = find(shop, &asked.name).await?;
    let details = asked.over(&caller.details);
    if details == caller.details {
        bail!(
            "nothing would change: --description, --mode, --rate, --max-concurrent and --lifetime say \
             what is to"
        );
    }
    callers::update(shop.vault(), &caller, &details).await?;
    let mode = details.mode.as_deref().unwrap_or("enforce");
    note(shop, "caller_changed", asked.name.as_str(), &format!("mode {mode}")).await?;
    writeln!(out, "{} is changed", asked.name)?;
    Ok(())
}

async fn rotate(
    shop: &Workshop,
    name: &CallerId,
    overlap: Option<Duration>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    find(shop, name).await?;
    let token = callers::rotate(shop.vault(), name, overlap, SystemTime::now()).await?;
    note(shop, "caller_token_rotated", name.as_str(), "").await?;
    if json {
        show::json(out, &json!({ "name": name, "token": token.expose() }))?;
        return Ok(());
    }
    writeln!(out, "The new token, shown once:\n\n  {}\n", token.expose())?;
    how_to_use(shop, name, token.expose(), out)
}

async fn revoke(
    shop: &Workshop,
    name: &CallerId,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    find(shop, name).await?;
    ask::confirm(&format!("{name} is removed, with its tokens and bindings."), yes)?;
    shop.vault().delete_caller(name).await?;
    note(shop, "caller_revoked", name.as_str(), "").await?;
    writeln!(out, "{name} is removed")?;
    Ok(())
}

/// Bindings with the nicknames of their accounts.
async fn bindings_of(
    shop: &Workshop,
    name: &CallerId,
) -> anyhow::Result<Vec<(AccountId, Binding)>> {
    let mut named = Vec::new();
    for binding in shop.vault().bindings().await? {
        if binding.caller == *name {
            let account = shop.vault().account(&binding.account).await?;
            let account = account.context("a binding without its account")?;
            named.push((account.nickname, binding));
        }
    }
    Ok(named)
}

async fn list(shop: &Workshop, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let callers = shop.vault().callers().await?;
    if json {
        let mut all = Vec::new();
        for caller in &callers {
            all.push(as_json(shop, caller).await?);
        }
        let declared = shop.config.callers.iter();
        all.extend(declared.map(|caller| json!({ "name": caller.id, "declared": true })));
        show::json(out, &Value::Array(all))?;
        return Ok(());
    }
    if callers.is_empty() && shop.config.callers.is_empty() {
        writeln!(out, "No callers yet. `countersign callers add NAME` adds the first one.")?;
        return Ok(());
    }
    let mut rows = Vec::new();
    let now = SystemTime::now();
    for caller in &callers {
        let bound = bindings_of(shop, &caller.name).await?;
        let bound: Vec<String> = bound.iter().map(|(name, _)| name.to_string()).collect();
        rows.push(vec![
            caller.name.to_string(),
            if bound.is_empty() { "-".to_owned() } else { bound.join(", ") },
            show::when(caller.details.expires_at, now),
            caller.details.description.clone(),
        ]);
    }
    for caller in &shop.config.callers {
        let bound = caller.policy.bindings.iter().map(|binding| binding.account.to_string());
        let bound: Vec<String> = bound.collect();
        let expires = show::when(caller.expires_at, now);
        rows.push(vec![caller.id.to_string(), bound.join(", "), expires, "declared".to_owned()]);
    }
    show::table(out, &["caller", "accounts", "expires", "description"], rows)?;
    Ok(())
}

async fn one(
    shop: &Workshop,
    name: &CallerId,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let caller = find(shop, name).await?;
    let value = as_json(shop, &caller).await?;
    if json {
        show::json(out, &value)?;
        return Ok(());
    }
    let details = &caller.details;
    writeln!(out, "caller       {name}")?;
    writeln!(out, "mode         {}", details.mode.as_deref().unwrap_or("enforce"))?;
    writeln!(out, "rate         {}", details.rate.as_deref().unwrap_or("-"))?;
    writeln!(out, "expires      {}", show::when(details.expires_at, SystemTime::now()))?;
    for (nickname, binding) in bindings_of(shop, name).await? {
        let default = if binding.is_default { ", default" } else { "" };
        writeln!(out, "account      {nickname} ({}){default}", binding.account)?;
    }
    for rule in value["rules"].as_array().into_iter().flatten() {
        writeln!(out, "rule         {rule}")?;
    }
    for token in value["tokens"].as_array().into_iter().flatten() {
        writeln!(out, "token        {} since {}", token["id"], token["created_at"])?;
    }
    Ok(())
}

async fn as_json(shop: &Workshop, caller: &StoredCaller) -> anyhow::Result<Value> {
    let bound = bindings_of(shop, &caller.name).await?;
    let bound = bound.iter().map(|(nickname, binding)| {
        json!({
            "account": binding.account,
            "nickname": nickname,
            "default": binding.is_default,
            "paths": binding.paths,
        })
    });
    let tokens = shop.vault().caller_tokens(Some(&caller.name)).await?;
    let tokens = tokens.iter().map(|token| {
        json!({
            "id": token.id,
            "created_at": show::time(Some(token.created_at)),
            "expires_at": show::time(token.expires_at),
        })
    });
    let details = &caller.details;
    Ok(json!({
        "name": caller.name,
        "description": details.description,
        "mode": details.mode.as_deref().unwrap_or("enforce"),
        "rate": details.rate,
        "max_concurrent": details.max_concurrent,
        "expires_at": show::time(details.expires_at),
        "rules": callers::rules_of(caller)?,
        "bindings": bound.collect::<Vec<_>>(),
        "tokens": tokens.collect::<Vec<_>>(),
        "created_at": show::time(Some(caller.created_at)),
    }))
}
