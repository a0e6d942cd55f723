//! `countersign demo`: the whole journey on loopback, with a fake API that wants a credential.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio_rustls::TlsAcceptor;

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

/// The demo's own app: what a definition looks like.
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

[[auth.key.fields]]
name = "api_key"
label = "API key"
secret = true
"#;

pub async fn run(args: &Args) -> anyhow::Result<u8> {
    let dir = tempfile::Builder::new().prefix("countersign-demo").tempdir()?;
    let (api_key, token) = (token::fresh()?, token::fresh()?);
    let origin = start_origin(dir.path(), &api_key).await?;
    let running = start_proxy(dir.path(), origin, &api_key, &token).await?;
    show(&running, &api_key, &token).await?;
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

/// A TLS API on a free port: 401 without the key, else it tells what it received.
async fn start_origin(dir: &Path, api_key: &Secret) -> anyhow::Result<SocketAddr> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec![HOST.to_owned()])?.self_signed(&key)?;
    std::fs::write(dir.join("origin.pem"), certificate.pem())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let expected = Arc::new(Secret::from(format!("Bearer {}", api_key.expose())));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, expected) = (acceptor.clone(), expected.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Ok(tls) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| {
                    let answer = answer(&request, &expected);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tls), service);
                let _ = served.await;
            });
        }
    });
    Ok(address)
}

fn answer(request: &Request<Incoming>, expected: &Secret) -> Response<Full<Bytes>> {
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let known = sent.is_some_and(|sent| Secret::from(sent.to_owned()).same_as(expected));
    let headers = request.headers().iter().map(|(name, value)| {
        let shown = match (name == AUTHORIZATION, known) {
            (true, true) => "Bearer cs_••••••••  (the real key)".to_owned(),
            _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        (name.to_string(), json!(shown))
    });
    let body = json!({
        "ok": known,
        "received": {
            "method": request.method().as_str(),
            "path": request.uri().path(),
            "headers": headers.collect::<serde_json::Map<_, _>>(),
        },
    });
    let mut response = Response::new(Full::from(format!("{body:#}\n")));
    *response.status_mut() = if known { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

async fn start_proxy(
    dir: &Path,
    origin: SocketAddr,
    api_key: &Secret,
    token: &Secret,
) -> anyhow::Result<Running> {
    // In a file of a private directory, as a real one would be.
    std::fs::write(dir.join("api_key"), api_key.expose())?;
    std::fs::write(dir.join("token"), token.expose())?;
    let text = format!(
        "data_dir = \"data\"\n[proxy]\nlisten = [\"127.0.0.1:0\"]\n[web]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[log]\nrequests = false\n\
         [upstream]\nroots = [\"origin.pem\"]\n[upstream.resolve]\n\"{HOST}:443\" = \"{origin}\"\n\
         [accounts.acme-team]\napp = \"acme\"\nsecrets = {{ api_key = {{ file = \"api_key\" }} }}\n\
         [callers.demo]\ntoken = {{ file = \"token\" }}\naccounts = [\"acme-team\"]\n\
         rules = [{{ app = \"acme\", paths = [\"/v1/**\"] }}]\n"
    );
    let file = dir.join("countersign.toml");
    std::fs::write(&file, &text)?;
    let draft = Draft::parse(&text, Some(&file), &[]);
    let files = Catalog::embedded_files().chain([("acme.toml".to_owned(), APP.to_owned())]);
    let mistakes = |mistakes: Vec<crate::catalog::Mistake>| {
        anyhow::anyhow!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let catalog = Catalog::build(files).map_err(mistakes)?;
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
    anstream::println!("\nCtrl-C ends it.");
}
