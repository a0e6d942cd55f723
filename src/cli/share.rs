//! `countersign share` and `unshare`: which members may use an account.

use std::io::Write;

use anyhow::bail;

use super::{accounts, in_workshop, members, note_about};
use crate::ids::AccountId;
use crate::serve::{Source, Workshop};
use crate::vault::Share;

#[derive(clap::Args)]
pub struct Args {
    /// Nickname or id
    account: String,
    /// A member, by e-mail address or id. May be given several times
    #[arg(long = "with", value_name = "MEMBER")]
    with: Vec<String>,
    /// The whole workspace
    #[arg(long)]
    workspace: bool,
}

/// Whether it is given or taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Share,
    Unshare,
}

pub async fn run(
    change: Change,
    args: &Args,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| make(change, args, shop, out).await).await.map(|()| 0)
}

async fn make(
    change: Change,
    args: &Args,
    shop: &Workshop,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let account = accounts::find(shop, &args.account).await?;
    let mut named = Vec::new();
    if args.workspace {
        named.push(("the workspace".to_owned(), Share::Workspace));
    }
    for member in &args.with {
        let member = members::find(shop, member).await?;
        named.push((member.email, Share::Member(member.id)));
    }
    if named.is_empty() && change == Change::Share {
        bail!("say with whom: --workspace, or --with and a member's e-mail address");
    }
    let name = &account.nickname;
    if named.is_empty() {
        shop.vault().set_shares(&account.id, &[], None).await?;
        note_about(shop, &account.id, "account_unshared", name.as_str(), "everybody").await?;
        writeln!(out, "{name} is private now")?;
        return Ok(());
    }
    for (who, share) in &named {
        one(change, shop, &account.id, share).await?;
        let what = if change == Change::Share { "account_shared" } else { "account_unshared" };
        note_about(shop, &account.id, what, name.as_str(), who).await?;
        let said = if change == Change::Share { "may use" } else { "may not use" };
        writeln!(out, "{who} {said} {name} now")?;
    }
    Ok(())
}

async fn one(
    change: Change,
    shop: &Workshop,
    account: &AccountId,
    share: &Share,
) -> anyhow::Result<()> {
    match change {
        Change::Share => shop.vault().share(account, share, None).await?,
        Change::Unshare => {
            shop.vault().unshare(account, share).await?;
        }
    }
    Ok(())
}
