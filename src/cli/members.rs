//! `countersign members …`: the people of the workspace, who log in to the web UI.

use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::find::{self, Kind};
use super::member_tokens::{self, TokenCommand};
use super::{ask, in_workshop, note, note_about, show};
use crate::connect::Removed;
use crate::random;
use crate::secret::TokenDigest;
use crate::serve::{Source, Workshop};
use crate::vault::{
    Account, Filter, Invitation, InvitationDetails, InvitationKind, Member, MemberDetails, Role,
};

#[derive(clap::Subcommand)]
pub enum MembersCommand {
    /// Print a link by which somebody becomes a member, once
    Add {
        /// Their e-mail address, with which they log in; without it they say it themselves
        email: Option<String>,
        /// owner, admin or member
        #[arg(long, default_value = "member")]
        role: Role,
        /// How long the link works
        #[arg(long, default_value = "7d", value_name = "DURATION", value_parser = duration)]
        lifetime: Duration,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List members
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what a member is
    Role {
        /// E-mail address or id
        member: String,
        /// owner, admin or member
        role: Role,
    },
    /// Print a link by which a member sets a password anew, once
    Reset {
        /// E-mail address or id
        member: String,
        /// How long the link works
        #[arg(long, default_value = "1d", value_name = "DURATION", value_parser = duration)]
        lifetime: Duration,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List invitations that nobody has followed yet
    Invitations {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Withdraw an invitation: its link leads nowhere any more
    Withdraw {
        /// E-mail address or id
        invitation: String,
    },
    /// Tokens by which members' programs speak to the server
    #[command(subcommand)]
    Token(TokenCommand),
    /// Remove a member: their sessions, and what they bound to callers, end within a second
    Remove {
        /// E-mail address or id
        member: String,
        /// Delete the accounts that they own, too, and revoke them at the providers
        #[arg(long)]
        delete_accounts: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
}

pub async fn run(
    command: &MembersCommand,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| match command {
        MembersCommand::Add { email, role, lifetime, json } => {
            let link = Link {
                kind: InvitationKind::Invite,
                email: email.clone(),
                role: *role,
                member: None,
                lifetime: *lifetime,
            };
            add(shop, link, *json, out).await
        }
        MembersCommand::List { json } => list(shop, *json, out).await,
        MembersCommand::Role { member, role } => change_role(shop, member, *role, out).await,
        MembersCommand::Reset { member, lifetime, json } => {
            reset(shop, member, *lifetime, *json, out).await
        }
        MembersCommand::Invitations { json } => invitations(shop, *json, out).await,
        MembersCommand::Withdraw { invitation } => withdraw(shop, invitation, out).await,
        MembersCommand::Token(command) => member_tokens::run(shop, command, out).await,
        MembersCommand::Remove { member, delete_accounts, yes } => {
            remove(shop, member, *delete_accounts, *yes, out).await
        }
    })
    .await
    .map(|()| 0)
}

/// A link to be made.
struct Link {
    kind: InvitationKind,
    email: Option<String>,
    role: Role,
    member: Option<Member>,
    lifetime: Duration,
}

impl Link {
    /// Stores its digest, and gives the address.
    async fn make(self, shop: &Workshop) -> anyhow::Result<String> {
        let base = base(shop)?;
        let token = random::token("", 32)?;
        let details = InvitationDetails {
            kind: self.kind,
            email: self.email,
            role: self.role,
            member: self.member.map(|member| member.id),
            invited_by: None,
            expires_at: SystemTime::now() + self.lifetime,
        };
        let digest = TokenDigest::of(token.expose().as_bytes());
        shop.vault().create_invitation(digest, &details).await?;
        Ok(format!("{base}/invitation?token={}", token.expose()))
    }
}

/// Where people reach the web UI.
fn base(shop: &Workshop) -> anyhow::Result<String> {
    let web = &shop.config.web;
    let scheme = if web.tls.is_some() { "https" } else { "http" };
    let listener = || web.listen.map(|address| format!("{scheme}://{address}"));
    web.public_url
        .clone()
        .or_else(listener)
        .context("web.listen is \"off\", so there is no web UI to come to")
}

async fn add(shop: &Workshop, link: Link, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(email) = &link.email
        && shop.vault().member_by_email(email).await?.is_some()
    {
        bail!("{email} is a member already; `countersign members reset` gives them a password");
    }
    let (email, role) = (link.email.clone().unwrap_or_default(), link.role);
    let address = link.make(shop).await?;
    note(shop, "member_invited", &email, role.as_str()).await?;
    if json {
        return Ok(show::json(out, &json!({ "link": address, "role": role.as_str() }))?);
    }
    writeln!(out, "Whoever follows this link becomes {}, once:\n\n  {address}\n", a(role))?;
    Ok(())
}

fn a(role: Role) -> String {
    match role {
        Role::Member => "a member".to_owned(),
        Role::Owner | Role::Admin => format!("an {role} of the workspace"),
    }
}

/// The member of that address or id.
pub async fn find(shop: &Workshop, named: &str) -> anyhow::Result<Member> {
    let members = shop.vault().members().await?;
    let fits =
        |member: &Member| member.id.as_str() == named || member.email.eq_ignore_ascii_case(named);
    let found = members.into_iter().find(fits);
    found.with_context(|| {
        format!("there is no member \"{named}\"; `countersign members list` shows them")
    })
}

async fn list(shop: &Workshop, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let members = shop.vault().members().await?;
    let list = show::List {
        head: &["e-mail", "name", "role", "id"],
        none: "No members yet. `countersign members add --role owner`",
        row: |member: &Member| {
            let role = member.role.to_string();
            vec![member.email.clone(), member.name.clone(), role, member.id.to_string()]
        },
        value: |member: &Member| {
            json!({
                "id": member.id,
                "email": member.email,
                "name": member.name,
                "role": member.role.as_str(),
                "created_at": show::time(Some(member.created_at)),
            })
        },
    };
    list.write(out, json, &members)
}

async fn invitations(shop: &Workshop, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let open = shop.vault().invitations().await?;
    let now = SystemTime::now();
    let list = show::List {
        head: &["e-mail", "role", "ends", "id"],
        none: "No open invitations. `countersign members add ADDRESS` makes one",
        row: |one: &Invitation| {
            let details = &one.details;
            let email = details.email.clone().unwrap_or_else(|| "whoever has the link".to_owned());
            let ends = show::when(Some(details.expires_at), now);
            vec![email, details.role.to_string(), ends, one.id.clone()]
        },
        value: |one: &Invitation| {
            json!({
                "id": one.id,
                "email": one.details.email,
                "role": one.details.role.as_str(),
                "expires_at": show::time(Some(one.details.expires_at)),
            })
        },
    };
    list.write(out, json, &open)
}

async fn withdraw(shop: &Workshop, named: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let open = shop.vault().invitations().await?;
    let named_so = open
        .into_iter()
        .map(|one| (one.id, one.details.email.unwrap_or_default(), one.details.role));
    let named_so: Vec<(String, String, Role)> = named_so.collect();
    let (id, email, role) = find::only(named_so, named, &INVITATION, |one| (&one.0, &one.1))?;
    shop.vault().delete_invitation(&id).await?;
    note(shop, "invitation_withdrawn", &email, role.as_str()).await?;
    writeln!(out, "the invitation is withdrawn")?;
    Ok(())
}

const INVITATION: Kind = Kind { one: "invitation", list: "countersign members invitations" };

async fn change_role(
    shop: &Workshop,
    named: &str,
    role: Role,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let member = find(shop, named).await?;
    let details = MemberDetails { role, ..member.details() };
    shop.vault().update_member(&member.id, &details).await?;
    note(shop, "member_role_changed", &member.email, role.as_str()).await?;
    writeln!(out, "{} is {} now", member.email, a(role))?;
    Ok(())
}

async fn reset(
    shop: &Workshop,
    named: &str,
    lifetime: Duration,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let member = find(shop, named).await?;
    let (email, role) = (member.email.clone(), member.role);
    let (kind, member) = (InvitationKind::Reset, Some(member));
    let address = Link { kind, email: None, role, member, lifetime }.make(shop).await?;
    note(shop, "password_reset_offered", &email, "").await?;
    if json {
        return Ok(show::json(out, &json!({ "link": address }))?);
    }
    writeln!(out, "{email} sets a new password here, once:\n\n  {address}\n")?;
    Ok(())
}

async fn remove(
    shop: &Workshop,
    named: &str,
    delete_accounts: bool,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let member = find(shop, named).await?;
    let filter = Filter { member: Some(member.id.clone()), ..Filter::default() };
    let accounts = shop.vault().accounts(&filter).await?;
    let names: Vec<&str> = accounts.iter().map(|account| account.nickname.as_str()).collect();
    let names = names.join(", ");
    if !accounts.is_empty() && !delete_accounts {
        bail!(
            "{} owns {names}: they give these accounts away in the web UI first, or \
             --delete-accounts deletes them and revokes them at the providers",
            member.email
        );
    }
    shop.vault().check_an_owner_remains(&member.id).await?;
    let lost = match &*names {
        "" => String::new(),
        names => format!(" Their accounts {names} are deleted, and revoked at the providers."),
    };
    let email = &member.email;
    ask::confirm(&format!("{email} is removed, with what they bound to callers.{lost}"), yes)?;
    for account in &accounts {
        delete(shop, account, out).await?;
    }
    shop.vault().delete_member(&member.id).await?;
    note(shop, "member_removed", email, member.id.as_str()).await?;
    writeln!(out, "{email} is removed")?;
    Ok(())
}

async fn delete(shop: &Workshop, account: &Account, out: &mut impl Write) -> anyhow::Result<()> {
    let removed = shop.connector.remove(&account.id).await?;
    note_about(
        shop,
        &account.id,
        "account_deleted",
        account.nickname.as_str(),
        account.id.as_str(),
    )
    .await?;
    if let Some(Removed::Failed { why }) = removed {
        let why = show::plain(&why);
        writeln!(out, "{} could not be revoked at the provider: {why}", account.nickname)?;
    }
    Ok(())
}
