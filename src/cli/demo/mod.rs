//! `countersign demo`: the whole journey on loopback, with a fake API that wants a credential.

mod api;
mod oauth;
mod provider;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::signal::unix::SignalKind;

use self::api::{Acme, Addresses};
use self::provider::Provider;
use super::probe::{self, Via};
use super::token;
use crate::catalog::Catalog;
use crate::config::Draft;
use crate::host::Authority;
use crate::secret::Secret;
use crate::serve::{self, Options, Running, Sink};

#[derive(clap::Args)]
pub struct Args {
    /// Show it once and end, instead of staying up
    #[arg(long)]
    once: bool,
}

const HOST: &str = "api.acme.test";
const AUTH_HOST: &str = "auth.acme.test";

/// The demo's own app: what a definition looks like. `AUTHORIZE` is where the consent page is.
const APP: &str = r#"
id = "acme"
name = "Acme"
description = "The demo's fake API"
categories = ["demo"]

[auth.key]
kind = "bearer"
hosts = ["api.acme.test"]
base_url = "https://api.acme.test"
attach = [{ header = "Authorization", value = "Bearer {api_key}" }]
test = { method = "GET", url = "https://api.acme.test/v1/me" }

[[auth.key.fields]]
name = "api_key"
label = "API key"
secret = true

[auth.oauth]
kind = "oauth2"
hosts = ["api.acme.test"]
base_url = "https://api.acme.test"
attach = [{ header = "Authorization", value = "Bearer {oauth_access_token}" }]
test = { method = "GET", url = "https://api.acme.test/v1/me" }
# The demo's consent page is on this machine.
clear_text = true

[auth.oauth.oauth2]
authorize_url = "AUTHORIZE"
token_url = "https://auth.acme.test/token"
pkce = "required"
refresh = { supported = true, rotates = true }
"#;

pub async fn run(args: &Args) -> anyhow::Result<u8> {
    let dir = tempfile::Builder::new().prefix("countersign-demo").tempdir()?;
    let (api_key, token) = (token::fresh()?, token::fresh()?);
    let acme = Arc::new(Acme { api_key: api_key.clone(), provider: Provider::new()? });
    let addresses = api::start(dir.path(), acme.clone()).await?;
    let running = start_proxy(dir.path(), &addresses, &api_key, &token).await?;
    show(&running, &api_key, &token).await?;
    oauth::show(&running, &acme).await?;
    if !args.once {
        how_to_go_on(&running, dir.path(), &token);
        let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
        tokio::select! {
            ended = tokio::signal::ctrl_c() => ended?,
            _ = terminate.recv() => {}
        }
    }
    running.drain().await;
    Ok(0)
}

async fn start_proxy(
    dir: &Path,
    addresses: &Addresses,
    api_key: &Secret,
    token: &Secret,
) -> anyhow::Result<Running> {
    // In a file of a private directory, as a real one would be.
    std::fs::write(dir.join("api_key"), api_key.expose())?;
    std::fs::write(dir.join("token"), token.expose())?;
    std::fs::create_dir(dir.join("apps"))?;
    let app = APP.replace("AUTHORIZE", &format!("http://{}/authorize", addresses.browser));
    std::fs::write(dir.join("apps").join("acme.toml"), &app)?;
    let tls = addresses.tls;
    let text = format!(
        "data_dir = \"data\"\napps_dir = \"apps\"\n\
         [proxy]\nlisten = [\"127.0.0.1:0\"]\n[web]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[log]\nrequests = false\n\
         [upstream]\nroots = [\"origin.pem\"]\n\
         [upstream.resolve]\n\"{HOST}:443\" = \"{tls}\"\n\"{AUTH_HOST}:443\" = \"{tls}\"\n\
         [accounts.acme-team]\napp = \"acme\"\nsecrets = {{ api_key = {{ file = \"api_key\" }} }}\n\
         [callers.demo]\ntoken = {{ file = \"token\" }}\naccounts = [\"acme-team\"]\n\
         rules = [{{ app = \"acme\", paths = [\"/v1/**\"] }}]\n"
    );
    let file = dir.join("countersign.toml");
    std::fs::write(&file, &text)?;
    let draft = Draft::parse(&text, Some(&file), &[]);
    let mistakes = |mistakes: Vec<crate::catalog::Mistake>| {
        anyhow::anyhow!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let catalog = Catalog::embedded_with([("acme.toml".to_owned(), app)]).map_err(mistakes)?;
    let config = draft.finish(Arc::new(catalog)).map_err(mistakes)?;
    let options = Options { sink: Sink::Memory(Arc::default()), ..Options::default() };
    Ok(serve::bind(config, options).await?)
}

async fn show(running: &Running, api_key: &Secret, token: &Secret) -> anyhow::Result<()> {
    let (title, dim, good, reset) =
        (TITLE.render(), DIM.render(), GOOD.render(), DIM.render_reset());
    anstream::println!(
        "{title}1  The program sends{reset}  {dim}through HTTPS_PROXY; it holds no key{reset}\n"
    );
    anstream::println!("   GET https://{HOST}/v1/orders\n");
    let basic = STANDARD.encode(format!("demo:{}", token.expose()));
    let authorization = format!("Basic {basic}");
    let via = Via {
        proxy: running.proxy[0],
        authorization: Some(&authorization),
        ca_pem: running.ca.pem(),
    };
    let to = Authority::parse_connect(&format!("{HOST}:443"))?;
    let get = |path: &str| Request::get(path).header("host", HOST).body(Full::default());
    let response = probe::send(&via, &to, get("/v1/orders")?).await?;
    anyhow::ensure!(response.status() == StatusCode::OK, "the demo's request failed: {response:?}");
    let shown = String::from_utf8_lossy(response.body()).into_owned();
    anyhow::ensure!(!shown.contains(api_key.expose()), "the key came back");
    anstream::println!(
        "{title}2  What arrived at the API{reset}  {dim}the credential was attached on the way{reset}\n"
    );
    for line in shown.lines() {
        match line.contains("authorization") {
            true => anstream::println!("   {good}{line}{reset}"),
            false => anstream::println!("   {line}"),
        }
    }
    let refused = probe::send(&via, &to, get("/admin")?).await?;
    anyhow::ensure!(refused.status() == StatusCode::FORBIDDEN, "the rule was not enforced");
    anstream::println!(
        "\n{title}3  What the rules do not allow{reset}  {dim}GET /admin → {}{reset}\n",
        refused.status()
    );
    let problem: serde_json::Value = serde_json::from_slice(refused.body())?;
    for line in problem["detail"].as_str().unwrap_or_default().lines() {
        anstream::println!("   {line}");
    }
    running.telemetry.flush().await;
    anstream::println!(
        "\n{title}4  What the audit says{reset}  {dim}one chained line for each use{reset}\n"
    );
    let audit = running.audit_file().context("the demo audits")?;
    for line in std::fs::read_to_string(audit)?.lines().filter(|line| line.contains("\"request\""))
    {
        anstream::println!("   {dim}{line}{reset}");
    }
    anstream::println!();
    Ok(())
}

const TITLE: anstyle::Style = anstyle::AnsiColor::Cyan.on_default().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();
const GOOD: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();

fn how_to_go_on(running: &Running, dir: &Path, token: &Secret) {
    let (title, reset) = (TITLE.render(), TITLE.render_reset());
    let proxy = format!("http://demo:{}@{}", token.expose(), running.proxy[0]);
    let ca = dir.join("data").join("ca.pem");
    anstream::println!("{title}Try it yourself{reset}\n");
    anstream::println!("   export HTTPS_PROXY={proxy}");
    anstream::println!("   curl --cacert {} https://{HOST}/v1/hello", ca.display());
    anstream::println!("   curl -x $HTTPS_PROXY http://countersign.internal/status");
    if let Some(web) = running.web {
        anstream::println!(
            "   curl -H 'Authorization: Bearer {}' http://{web}/gateway/acme/v1/hello",
            token.expose()
        );
    }
    if let Some(admin) = running.admin {
        anstream::println!("   curl http://{admin}/metrics");
    }
    let config = dir.join("countersign.toml");
    anstream::println!("\n{title}Connect an account of your own{reset}, in another terminal\n");
    anstream::println!("   export COUNTERSIGN_CONFIG={}", config.display());
    anstream::println!("   countersign connect acme --auth oauth --nickname mine");
    anstream::println!("   countersign accounts list");
    anstream::println!("\nCtrl-C ends it.");
}
