//! `countersign connect APP`: an account from the terminal. Keys are asked for without echo; for
//! OAuth the browser goes to the provider and comes back to a port on this machine (RFC 8252 §7.3).

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::loopback::Loopback;
use super::{accounts, ask, in_workshop, show};
use crate::catalog::{App, Auth};
use crate::connect::{self, Connected, Polled, SameIdentity, Way, Wish, check};
use crate::credentials::Registered;
use crate::ids::AccountId;
use crate::oauth::{Callback, state_param};
use crate::serve::{Source, Workshop};
use crate::vault::{Account, OAuthClientRecord, Owner};

/// Where the browser comes back to: a port that providers can be told of once.
pub const PORT: u16 = 8976;
/// How long a person may take to agree.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

#[derive(clap::Args)]
pub struct Args {
    /// The app, as `countersign apps list` shows it
    app: String,
    /// One of its ways to authenticate [default: the first]
    #[arg(long, value_name = "ID")]
    auth: Option<String>,
    /// What to call the account [default: the app's id]
    #[arg(long, value_name = "NAME")]
    nickname: Option<AccountId>,
    #[command(flatten)]
    how: How,
}

/// What connecting and reconnecting have in common.
#[derive(clap::Args, Clone)]
pub struct How {
    /// A field of the app: NAME=VALUE, NAME=@FILE, or NAME=- for standard input. Secrets only from
    /// files and standard input
    #[arg(long = "field", value_name = "NAME=VALUE")]
    fields: Vec<ask::Entry>,
    /// A scope to ask for, beside the app's own
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A named selection of the app's scopes
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Which OAuth client, by id or name; may be left out when the app has one only
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Agree on another device: a code to enter there (RFC 8628)
    #[arg(long)]
    device: bool,
    /// Print the URL instead of opening a browser
    #[arg(long)]
    no_browser: bool,
    /// The port on this machine that the browser comes back to
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    port: u16,
    /// The redirect URI that is registered with the provider, when a front leads from it to that
    /// port
    #[arg(long, value_name = "URL")]
    redirect_uri: Option<String>,
    /// Do not send the app's test request afterwards
    #[arg(long)]
    no_check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Browser {
    Open,
    Print,
}

impl Browser {
    pub fn of(how: &How) -> Self {
        if how.no_browser { Self::Print } else { Self::Open }
    }
}

pub async fn run(args: &Args, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| new(args, shop, out).await).await
}

async fn new(args: &Args, shop: &Workshop, out: &mut impl Write) -> anyhow::Result<u8> {
    let app = super::apps::find(&shop.config.catalog, &args.app)?.clone();
    let auth = auth_of(&app, args.auth.as_deref())?;
    if let Some(name) = args.nickname.as_ref().filter(|name| name.as_str().starts_with("apn_")) {
        bail!("{name}: a nickname may not start with \"apn_\", as ids do");
    }
    let wish = Wish {
        auth: auth.id.clone(),
        client: client_of(shop, &app, auth, args.how.client.as_deref()).await?,
        preset: None,
        entered: ask::fields(auth, &args.how.fields, &BTreeMap::new())?,
        scopes: scopes_of(auth, &args.how)?,
        owner: Owner::Workspace,
        nickname: args.nickname.clone(),
        reconnect: None,
        same_identity: SameIdentity::Any,
        app: app.clone(),
    };
    let connected = make(shop, &wish, &args.how, Browser::of(&args.how), out).await?;
    finish(shop, &connected, &args.how, out).await
}

/// The same for an account that is there: what a person entered once is not asked again, except
/// keys, which are most likely why it is done.
pub async fn reconnect(
    shop: &Workshop,
    account: Account,
    how: &How,
    other_identity: bool,
    browser: Browser,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let same = if other_identity { SameIdentity::Any } else { SameIdentity::IfKnown };
    let mut wish = connect::again(&shop.keeper, &account, same).await?;
    let app = wish.app.clone();
    let auth = auth_of(&app, Some(&wish.auth))?;
    wish.entered = ask::fields(auth, &how.fields, &wish.entered)?;
    if how.client.is_some() {
        wish.client = client_of(shop, &app, auth, how.client.as_deref()).await?;
    }
    if !how.scopes.is_empty() || how.profile.is_some() {
        wish.scopes = scopes_of(auth, how)?;
    }
    let connected = make(shop, &wish, how, browser, out).await?;
    finish(shop, &connected, how, out).await
}

fn auth_of<'a>(app: &'a App, id: Option<&str>) -> anyhow::Result<&'a Auth> {
    let found = match id {
        Some(id) => app.auth(id),
        None => app.auths.first(),
    };
    found.with_context(|| {
        let ids: Vec<&str> = app.auths.iter().map(|auth| auth.id.as_str()).collect();
        format!("--auth: {} takes one of: {}", app.id, ids.join(", "))
    })
}

fn scopes_of(auth: &Auth, how: &How) -> anyhow::Result<Vec<String>> {
    let mut scopes = how.scopes.clone();
    let profiles = auth.oauth2.as_ref().map(|oauth2| &oauth2.scope_profiles);
    if let Some(name) = &how.profile {
        let profile = profiles.and_then(|profiles| profiles.get(name));
        let names = || profiles.into_iter().flatten().map(|(name, _)| name.as_str());
        let profile = profile.with_context(|| match names().collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "--profile: this app has no profiles".to_owned(),
            names => format!("--profile takes one of: {names}"),
        })?;
        scopes.extend(profile.iter().cloned());
    }
    if scopes.is_empty() {
        let suggested = auth.oauth2.iter().flat_map(|oauth2| &oauth2.suggested_scopes);
        scopes.extend(suggested.cloned());
    }
    Ok(scopes)
}

/// The operator's client at the provider, where one is needed.
async fn client_of(
    shop: &Workshop,
    app: &App,
    auth: &Auth,
    named: Option<&str>,
) -> anyhow::Result<Option<Arc<Registered>>> {
    let all = shop.vault().oauth_clients().await?;
    let of_app = all.iter().filter(|client| client.details.app == app.id);
    let fits = |client: &&OAuthClientRecord| {
        named.is_none_or(|named| client.id.as_str() == named || client.details.name == named)
    };
    let found: Vec<&OAuthClientRecord> = of_app.filter(fits).collect();
    match (&found[..], named) {
        ([only], _) => Ok(shop.keeper.client(&only.id).await?),
        ([], Some(named)) => bail!("there is no OAuth client \"{named}\" of {}", app.id),
        ([], None) if Way::of(auth) == Way::Browser => bail!(
            "{name} needs an OAuth client, which you register with {name} once (redirect URI \
             http://127.0.0.1:{PORT}/callback), and then make known here:\n  countersign \
             oauth-clients add {id} --client-id ID{docs}",
            name = app.name,
            id = app.id,
            docs = app.docs_url.as_ref().map(|url| format!("\nSee {url}")).unwrap_or_default(),
        ),
        ([], None) => Ok(None),
        (several, _) => {
            let names: Vec<String> =
                several.iter().map(|c| format!("{} ({})", c.details.name, c.id)).collect();
            bail!("which OAuth client? --client takes one of: {}", names.join(", "))
        }
    }
}

async fn make(
    shop: &Workshop,
    wish: &Wish,
    how: &How,
    browser: Browser,
    out: &mut impl Write,
) -> anyhow::Result<Connected> {
    let auth = auth_of(&wish.app, Some(&wish.auth))?;
    match Way::of(auth) {
        Way::Keys => Ok(shop.connector.keys(wish).await?),
        Way::Grant => Ok(shop.connector.obtain(wish).await?),
        Way::Browser if how.device => by_device(shop, wish, browser, out).await,
        Way::Browser => by_browser(shop, wish, auth, how, browser, out).await,
    }
}

async fn by_browser(
    shop: &Workshop,
    wish: &Wish,
    auth: &Auth,
    how: &How,
    browser: Browser,
    out: &mut impl Write,
) -> anyhow::Result<Connected> {
    let loopback = Loopback::bind(how.port).await?;
    let registered = wish.client.as_ref().and_then(|c| c.record.details.redirect_uri.clone());
    let redirect_uri = how.redirect_uri.clone().or(registered);
    let redirect_uri = redirect_uri.unwrap_or_else(|| loopback.redirect_uri());
    let authorization = shop.connector.authorize(wish, &redirect_uri)?;
    if browser == Browser::Open && opens(&authorization.url) {
        writeln!(out, "Your browser goes to {}. If it does not, open:", wish.app.name)?;
    } else {
        writeln!(out, "Open this in a browser on this machine:")?;
    }
    writeln!(out, "  {}\n", authorization.url)?;
    out.flush()?;
    let state_name = auth.oauth2.as_ref().map_or("state", state_param);
    let arrived = loopback.wait(state_name, &authorization.state, PATIENCE).await?;
    let callback =
        Callback { params: arrived.params.clone(), verifier: authorization.verifier, redirect_uri };
    let connected = shop.connector.exchange(wish, &callback).await;
    match &connected {
        Ok(connected) => arrived.succeed(&wish.app.name, connected.account.nickname.as_str()).await,
        Err(error) => arrived.fail(&wish.app.name, &error.to_string()).await,
    }
    Ok(connected?)
}

/// Without a screen there is no browser to open.
fn opens(url: &str) -> bool {
    std::io::stderr().is_terminal() && webbrowser::open(url).is_ok()
        || std::env::var_os("BROWSER").is_some() && webbrowser::open(url).is_ok()
}

async fn by_device(
    shop: &Workshop,
    wish: &Wish,
    browser: Browser,
    out: &mut impl Write,
) -> anyhow::Result<Connected> {
    let device = shop.connector.begin_device(wish).await?;
    let uri = &device.verification_uri;
    writeln!(
        out,
        "Open {} and enter the code {}",
        show::plain(uri),
        show::plain(&device.user_code)
    )?;
    if let Some(complete) = &device.verification_uri_complete {
        writeln!(out, "or open {}", show::plain(complete))?;
        if browser == Browser::Open {
            opens(complete);
        }
    }
    out.flush()?;
    let mut interval = device.interval;
    loop {
        tokio::time::sleep(interval).await;
        match shop.connector.poll_device(wish, &device).await? {
            Polled::Pending => {}
            // RFC 8628 §3.5: five seconds more from then on.
            Polled::SlowDown => interval += Duration::from_secs(5),
            Polled::Connected(connected) => return Ok(*connected),
        }
    }
}

async fn finish(
    shop: &Workshop,
    connected: &Connected,
    how: &How,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let account = &connected.account;
    let checked = match how.no_check {
        true => None,
        false => Some(check(&shop.upstream, &*shop.keeper.slot(account).await?).await),
    };
    let bad = checked.as_ref().is_some_and(crate::connect::Checked::is_bad);
    if how.json {
        let mut value = accounts::as_json(account);
        value["check"] = checked.as_ref().map(accounts::told).into();
        value["warning"] = connected.warning.into();
        show::json(out, &value)?;
        return Ok(u8::from(bad));
    }
    let who = account.identity.as_deref().map(|who| format!(" ({})", show::plain(who)));
    writeln!(out, "Connected: {}{}, {}", account.nickname, who.unwrap_or_default(), account.id)?;
    if let Some(checked) = &checked {
        let word = if bad { "check failed" } else { "check" };
        writeln!(out, "{word}: {}", show::plain(&accounts::told(checked)))?;
    }
    if let Some(warning) = connected.warning {
        writeln!(out, "warning: {warning}")?;
    }
    let name = &account.nickname;
    writeln!(
        out,
        "Let a caller use it: countersign callers bind CALLER {name}, or countersign callers add \
         NAME --account {name}"
    )?;
    Ok(u8::from(bad))
}
