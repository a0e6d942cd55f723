//! `countersign auth APP`: the `$auth` object, for scripts that must have the token itself.

use std::io::Write;

use anyhow::bail;
use serde_json::json;

use super::{accounts, in_workshop, note_about, show};
use crate::credentials::State;
use crate::serve::{Source, Workshop};
use crate::vault::{Account, Filter};

#[derive(clap::Args)]
pub struct Args {
    /// The app
    app: String,
    /// Which account, by nickname or id; may be left out when the app has one only
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Print only this member, as text: TOKEN=$(countersign auth slack --get oauth_access_token)
    #[arg(long, value_name = "MEMBER")]
    get: Option<String>,
}

pub async fn run(args: &Args, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| print(args, shop, out).await).await
}

async fn print(args: &Args, shop: &Workshop, out: &mut impl Write) -> anyhow::Result<u8> {
    accounts::allowed(shop)?;
    let account = choose(shop, &args.app, args.account.as_deref()).await?;
    let slot = accounts::fresh_slot(shop, &account).await?;
    if let State::Unavailable(reason) = &slot.current().state {
        bail!("{}: {}", account.nickname, reason.why);
    }
    let (account, credentials) = accounts::open(shop, &account).await?;
    let values = accounts::secrets(&account, &credentials, false);
    let (name, id) = (account.nickname.as_str(), account.id.as_str());
    note_about(shop, &account.id, "credential_printed", name, id).await?;
    match &args.get {
        None => show::json(out, &json!({ "$auth": values }))?,
        Some(member) => match values.get(member).and_then(|value| value.as_str()) {
            Some(value) => writeln!(out, "{value}")?,
            None => {
                let object = values.as_object().into_iter().flatten();
                let names: Vec<&str> = object.map(|(name, _)| name.as_str()).collect();
                bail!("there is no \"{member}\"; there is {}", names.join(", "));
            }
        },
    }
    Ok(0)
}

async fn choose(shop: &Workshop, app: &str, account: Option<&str>) -> anyhow::Result<Account> {
    if let Some(name) = account {
        let found = accounts::find(shop, name).await?;
        if found.app.as_str() != app {
            bail!("{name} is an account of {}", found.app);
        }
        return Ok(found);
    }
    let filter = Filter { app: Some(app.parse()?), no_external_users: true, ..Filter::default() };
    let mut found = shop.vault().accounts(&filter).await?;
    match found.len() {
        0 => bail!("there is no account of {app}; `countersign connect {app}` makes one"),
        1 => Ok(found.remove(0)),
        _ => {
            let names: Vec<&str> = found.iter().map(|account| account.nickname.as_str()).collect();
            bail!("which account? --account takes one of: {}", names.join(", "))
        }
    }
}
