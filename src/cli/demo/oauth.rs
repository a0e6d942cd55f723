//! The demo's second half: an account that is connected by OAuth, and stays fresh.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, StatusCode};
use http_body_util::Full;
use url::Url;

use super::api::Acme;
use super::provider::{CLIENT_ID, TOKEN_LIFE};
use super::{DIM, GOOD, HOST, TITLE};
use crate::cli::probe::{self, Via};
use crate::cli::token;
use crate::config::{RuleText, rules_to_json};
use crate::connect::{Connector, SameIdentity, Wish};
use crate::credentials::{Keeper, Registered};
use crate::host::Authority;
use crate::inject::Properties;
use crate::oauth::Callback;
use crate::secret::{Secret, TokenDigest};
use crate::serve::Running;
use crate::vault::{Account, CallerDetails, OAuthClientDetails, Owner};

const REDIRECT_URI: &str = "http://127.0.0.1:8976/callback";
const CALLER: &str = "demo-oauth";

pub(super) async fn show(running: &Running, acme: &Acme) -> anyhow::Result<()> {
    let (title, dim, good, reset) =
        (TITLE.render(), DIM.render(), GOOD.render(), DIM.render_reset());
    let keeper = running.keeper().context("the demo has a store")?;
    let account = connect(keeper, acme).await?;
    anstream::println!(
        "{title}5  An account by OAuth{reset}  {dim}\"{}\"; its tokens live {} s, a refresh token works \
         once{reset}\n",
        account.nickname,
        TOKEN_LIFE.as_secs()
    );
    let token = add_caller(keeper, &account).await?;
    let first = until_known(running, &token).await?;
    anstream::println!("   {good}{first}{reset}");
    tokio::time::sleep(TOKEN_LIFE + Duration::from_secs(1)).await;
    let later = authorization(running, &token).await?;
    anstream::println!(
        "   {good}{}{reset}  {dim}{} s later: it was renewed before anybody waited{reset}\n",
        later.context("the account did not stay fresh")?,
        TOKEN_LIFE.as_secs() + 1
    );
    Ok(())
}

/// What `countersign connect` does, with a browser that always consents.
async fn connect(keeper: &Arc<Keeper>, acme: &Acme) -> anyhow::Result<Account> {
    let app = keeper.catalog().app("acme").context("the demo's app")?.clone();
    let details = OAuthClientDetails {
        app: app.id.clone(),
        auth: "oauth".to_owned(),
        name: "acme".to_owned(),
        client_id: CLIENT_ID.to_owned(),
        redirect_uri: None,
        scopes: Vec::new(),
        fields: BTreeMap::new(),
    };
    let secret = (Registered::SECRET.to_owned(), acme.provider.client_secret.clone());
    let record = keeper.vault().create_oauth_client(&details, &Properties::from([secret])).await?;
    let wish = Wish {
        app,
        auth: "oauth".to_owned(),
        client: keeper.client(&record.id).await?,
        preset: None,
        entered: BTreeMap::new(),
        scopes: Vec::new(),
        owner: Owner::Workspace,
        nickname: None,
        reconnect: None,
        same_identity: SameIdentity::Any,
    };
    let connector = Connector::new(keeper.clone());
    let authorization = connector.authorize(&wish, REDIRECT_URI)?;
    let url = Url::parse(&format!("{}&decision=allow", authorization.url))?;
    let consented = acme.provider.authorize(&url);
    let location = consented.headers().get(http::header::LOCATION).context("no consent")?;
    let params = Url::parse(location.to_str()?)?.query_pairs().into_owned().collect();
    let callback = Callback {
        params,
        verifier: authorization.verifier,
        redirect_uri: REDIRECT_URI.to_owned(),
    };
    Ok(connector.exchange(&wish, &callback).await?.account)
}

async fn add_caller(keeper: &Keeper, account: &Account) -> anyhow::Result<Secret> {
    let (vault, name, token) = (keeper.vault(), CALLER.parse()?, token::fresh()?);
    let rule = RuleText { account: Some(account.id.to_string()), ..RuleText::default() };
    let details = CallerDetails { rules: rules_to_json(&[rule]), ..CallerDetails::default() };
    vault.create_caller(&name, &details, None).await?;
    vault.bind(&name, &account.id, true, &[], None).await?;
    vault.add_caller_token(&name, TokenDigest::of(token.expose().as_bytes()), "", None).await?;
    Ok(token)
}

/// A new caller is known within a second.
async fn until_known(running: &Running, token: &Secret) -> anyhow::Result<String> {
    for _ in 0..40 {
        if let Some(seen) = authorization(running, token).await? {
            return Ok(seen);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the new caller was not taken in")
}

/// How the API saw the credential; `None` when the request did not get there.
async fn authorization(running: &Running, token: &Secret) -> anyhow::Result<Option<String>> {
    let basic = format!("Basic {}", STANDARD.encode(format!("{CALLER}:{}", token.expose())));
    let via =
        Via { proxy: running.proxy[0], authorization: Some(&basic), ca_pem: running.ca.pem() };
    let to = Authority::parse_connect(&format!("{HOST}:443"))?;
    let request = Request::get("/v1/orders").header("host", HOST).body(Full::default())?;
    let Ok(response) = probe::send(&via, &to, request).await else { return Ok(None) };
    if response.status() != StatusCode::OK {
        return Ok(None);
    }
    let seen: serde_json::Value = serde_json::from_slice(response.body())?;
    let seen = seen["received"]["headers"]["authorization"].as_str();
    Ok(seen.map(|seen| format!("authorization: {seen}")))
}
