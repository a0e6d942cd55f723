//! `countersign members token …`: tokens by which members' programs prove themselves.

use std::io::Write;
use std::time::SystemTime;

use anyhow::bail;
use serde_json::{Value, json};

use super::find::{self, Kind};
use super::life::{Life, life};
use super::{ask, members, note, show};
use crate::secret::TokenDigest;
use crate::serve::Workshop;
use crate::vault::{Member, MemberToken, MemberTokenDetails, Rights, fresh_member_token};

const KIND: Kind = Kind { one: "token", list: "countersign members token list" };

#[derive(clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token for a program of a member's; it is shown once, and may what the member may
    Add {
        /// E-mail address or id of the member
        member: String,
        /// What it is for
        name: String,
        /// read or write
        #[arg(long, default_value = "read")]
        rights: Rights,
        /// How long it may, such as 90d, or "never"
        #[arg(long, default_value = "90d", value_name = "DURATION", value_parser = life)]
        expires_in: Life,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List tokens, without the tokens themselves
    List {
        /// Only those of this member, by e-mail address or id
        member: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token, or all of a member's
    Revoke {
        /// E-mail address or id of the member
        member: String,
        /// Id or name of the token
        #[arg(required_unless_present = "all")]
        token: Option<String>,
        /// All of theirs
        #[arg(long, conflicts_with = "token")]
        all: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(
    shop: &Workshop,
    command: &TokenCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        TokenCommand::Add { member, name, rights, expires_in, json } => {
            let expires_at = expires_in.ends_at(SystemTime::now());
            let details = MemberTokenDetails { name: name.clone(), rights: *rights, expires_at };
            add(shop, member, &details, *json, out).await
        }
        TokenCommand::List { member, json } => list(shop, member.as_deref(), *json, out).await,
        TokenCommand::Revoke { member, token, yes, .. } => {
            revoke(shop, member, token.as_deref(), *yes, out).await
        }
    }
}

async fn add(
    shop: &Workshop,
    member: &str,
    details: &MemberTokenDetails,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let member = members::find(shop, member).await?;
    let token = fresh_member_token()?;
    let digest = TokenDigest::of(token.expose().as_bytes());
    let made = shop.vault().create_member_token(&member.id, digest, details).await?;
    let detail = format!("{}: {}", made.id, details.rights);
    note(shop, "member_token_added", &member.email, &detail).await?;
    if json {
        let mut shown = as_json(&made);
        shown["token"] = json!(token.expose());
        return Ok(show::json(out, &shown)?);
    }
    let (email, rights) = (&member.email, details.rights.verb());
    writeln!(
        out,
        "The token, shown once; with it a program may {rights} what {email} may:\n\n  {}\n",
        token.expose()
    )?;
    Ok(())
}

fn as_json(token: &MemberToken) -> Value {
    json!({
        "id": token.id,
        "member": token.member,
        "name": token.details.name,
        "rights": token.details.rights.as_str(),
        "expires_at": show::time(token.details.expires_at),
        "last_used_at": show::time(token.last_used_at),
        "created_at": show::time(Some(token.created_at)),
    })
}

async fn list(
    shop: &Workshop,
    member: Option<&str>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let only = match member {
        Some(named) => Some(members::find(shop, named).await?.id),
        None => None,
    };
    let tokens = shop.vault().member_tokens(only.as_ref()).await?;
    let members = shop.vault().members().await?;
    let email = |token: &MemberToken| {
        let theirs = members.iter().find(|member: &&Member| member.id == token.member);
        theirs.map(|member| member.email.clone()).unwrap_or_default()
    };
    let now = SystemTime::now();
    let list = show::List {
        head: &["name", "id", "member", "rights", "last used", "expires"],
        none: "No tokens yet. `countersign members token add MEMBER NAME`",
        row: |token: &MemberToken| {
            let details = &token.details;
            let used = show::when(token.last_used_at, now);
            let expires = show::when(details.expires_at, now);
            let rights = details.rights.to_string();
            vec![details.name.clone(), token.id.clone(), email(token), rights, used, expires]
        },
        value: as_json,
    };
    list.write(out, json, &tokens)
}

async fn revoke(
    shop: &Workshop,
    member: &str,
    named: Option<&str>,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let member = members::find(shop, member).await?;
    let Some(named) = named else {
        ask::confirm(&format!("All tokens of {} end.", member.email), yes)?;
        let revoked = shop.vault().delete_member_tokens(&member.id).await?;
        note(shop, "member_token_revoked", &member.email, &format!("all {revoked}")).await?;
        writeln!(out, "{revoked} tokens are revoked")?;
        return Ok(());
    };
    let tokens = shop.vault().member_tokens(Some(&member.id)).await?;
    let found = find::only(tokens, named, &KIND, |token| (&token.id, &token.details.name))?;
    ask::confirm(&format!("The token {} ends.", show::plain(&found.details.name)), yes)?;
    if !shop.vault().delete_member_token(&member.id, &found.id).await? {
        bail!("the token has gone meanwhile");
    }
    note(shop, "member_token_revoked", &member.email, &found.id).await?;
    writeln!(out, "{} is revoked", show::plain(&found.details.name))?;
    Ok(())
}
