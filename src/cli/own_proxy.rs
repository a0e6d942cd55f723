//! Commands that start a proxy of their own for one caller: `run`, `doctor`; and `env`, which points
//! at one that runs.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Context as _, bail};

use super::client_files::Java;
use super::doctor::{self, DoctorArgs, Observed, Seen};
use super::env::EnvArgs;
use super::environment::{Lookup, ProxyUrl};
use super::load_or_explain;
use super::run::{self, RunArgs, Session, peer_uid_matches};
use crate::config::{Caller, Config, Store, Token};
use crate::ids::CallerId;
use crate::secret::Secret;
use crate::serve::{self, Options, OwnListener, Running, Source, Workshop};
use crate::sources;

/// `run`: an own loopback listener, and the command behind it.
pub async fn run(args: &RunArgs, source: &Source) -> anyhow::Result<u8> {
    let (running, caller, accounts) =
        start(args.caller.as_deref(), source, Options::default()).await?;
    running.telemetry.install().context("logging could not be set up")?;
    let ca_pem = running.ca.pem().to_owned();
    let config = running.config().clone();
    let withheld = withheld(&config);
    let session = Session {
        proxy: running.proxy[0],
        ca_pem: &ca_pem,
        caller: caller.as_str(),
        accounts: &accounts,
        withheld: &withheld,
    };
    let code = run::run(args, session).await;
    running.drain().await;
    code
}

/// `doctor`, with a command or without.
pub async fn doctor(
    args: &DoctorArgs,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let findings = match args.command.is_empty() {
        true => setup_findings(source),
        false => command_findings(args, source).await?,
    };
    doctor::print(out, &findings)?;
    Ok(doctor::exit_code(&findings))
}

fn setup_findings(source: &Source) -> Vec<doctor::Finding> {
    let loaded = serve::load(source);
    let mistakes: Vec<String> = match &loaded {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    };
    let fallback = || serve::load(&Source { file: None, env: source.env.clone() }).ok();
    let Some(loaded) = loaded.ok().or_else(fallback) else { return Vec::new() };
    let config = loaded.config;
    let proxies = config.proxy.listen.iter().map(|address| ("proxy", *address));
    let listeners: Vec<_> = proxies
        .chain(config.web.listen.map(|address| ("web", address)))
        .chain(config.admin.listen.map(|address| ("admin", address)))
        .collect();
    let bindings = config.callers.iter().flat_map(|caller| &caller.policy.bindings);
    let hosts: Vec<_> =
        bindings.flat_map(|b| b.hosts.iter().map(|(host, _)| host.clone())).collect();
    let usual = std::net::SocketAddr::from(([127, 0, 0, 1], 3128));
    let setup = doctor::Setup {
        config_file: source.file.as_deref(),
        config_mistakes: &mistakes,
        data_dir: &config.data_dir,
        listeners: &listeners,
        proxy: config.proxy.listen.first().copied().unwrap_or(usual),
        hosts: &hosts,
        now: std::time::SystemTime::now(),
    };
    doctor::check(&setup, &|name| std::env::var(name).ok())
}

async fn command_findings(
    args: &DoctorArgs,
    source: &Source,
) -> anyhow::Result<Vec<doctor::Finding>> {
    // The command's own output stays readable: the log goes nowhere.
    let quiet = serve::Sink::Memory(std::sync::Arc::default());
    let options = Options { sink: quiet, ..Options::default() };
    let (running, caller, accounts) = start(args.caller.as_deref(), source, options).await?;
    let gateway = running.config().web.listen;
    let audit = running.audit_file().context("doctor reads the audit, and audit.enabled is off")?;
    let ca_pem = running.ca.pem().to_owned();
    let config = running.config().clone();
    let withheld = withheld(&config);
    let session = Session {
        proxy: running.proxy[0],
        ca_pem: &ca_pem,
        caller: caller.as_str(),
        accounts: &accounts,
        withheld: &withheld,
    };
    let code = run::behind_proxy(&args.command, session, Java::No).await?;
    running.drain().await;
    let observed = observed(&std::fs::read_to_string(&audit).unwrap_or_default());
    let program = args.command.first().map(|name| doctor::program_name(&name.to_string_lossy()));
    let _ = std::fs::remove_file(&audit);
    let _ = std::fs::remove_file(audit.with_extension("head"));
    Ok(doctor::verdict(&observed, code, &program.unwrap_or_default(), gateway))
}

/// What the audit of one run says about its command.
fn observed(audit: &str) -> Observed {
    let mut observed = Observed::default();
    for line in audit.lines() {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap_or_default() {
            "request" if event["door"] == "connect" && event["status"].as_u64() < Some(400) => {
                observed.connections += 1;
                observed.tunnels_blind.push(text("host"));
            }
            "request" => {
                observed.connections += 1;
                if event["door"] == "intercept" {
                    observed.intercepted_handshakes_ok += 1;
                }
                let status = event["status"].as_u64().and_then(|status| u16::try_from(status).ok());
                observed.requests.push(Seen {
                    method: text("method"),
                    host: text("host"),
                    status: status.unwrap_or_default(),
                });
            }
            "handshake_failed" => {
                observed.connections += 1;
                observed.handshakes_failed.push((text("host"), text("error")));
            }
            "auth_failed" => observed.auth_failures += event["count"].as_u64().unwrap_or(1),
            _ => {}
        }
    }
    observed
}

/// What a child of ours must not find in its environment, as it would have no need of a proxy.
fn withheld(config: &Config) -> BTreeSet<&str> {
    let mut names = config.secret_variables();
    names.insert(TOKEN_VARIABLE);
    names.insert(serve::MASTER_KEY_VARIABLE);
    names
}

/// Starts a proxy for one caller and this user's processes only.
async fn start(
    named: Option<&str>,
    source: &Source,
    options: Options,
) -> anyhow::Result<(Running, CallerId, Vec<String>)> {
    let mut config = load_or_explain(source)?.config;
    // The terminal is the command's; what it asked for is in the audit.
    config.log.requests = false;
    let callers = all_callers(&config).await?;
    let caller = caller_of(&callers, named)?;
    let accounts = caller.policy.bindings.iter().map(|b| b.app.to_string()).collect();
    let caller = caller.id.clone();
    let own = OwnListener { caller: caller.clone(), admits: peer_uid_matches };
    let running = serve::bind(config, Options { own: Some(own), ..options }).await?;
    Ok((running, caller, accounts))
}

/// Those of the configuration, and those of the store.
pub async fn all_callers(config: &Config) -> anyhow::Result<Vec<Caller>> {
    let mut callers = config.callers.clone();
    if matches!(config.vault.store, Store::Off) {
        return Ok(callers);
    }
    let shop = Workshop::open(config.clone(), &super::whoami()).await?;
    let stored = shop.callers().await;
    shop.close().await;
    callers.extend(stored?);
    Ok(callers)
}

pub fn caller_of<'a>(callers: &'a [Caller], named: Option<&str>) -> anyhow::Result<&'a Caller> {
    let names = || callers.iter().map(|caller| caller.id.as_str()).collect::<Vec<_>>().join(", ");
    match (named, callers) {
        (Some(name), callers) => callers
            .iter()
            .find(|caller| caller.id.as_str() == name)
            .with_context(|| format!("no caller is called \"{name}\"; there are: {}", names())),
        (None, [only]) => Ok(only),
        (None, []) => bail!(
            "there are no callers; `countersign callers add NAME` adds one, and `countersign serve` \
             without a configuration prints an example of one"
        ),
        (None, _) => bail!("which caller? --caller takes one of: {}", names()),
    }
}

/// `env`: the variables for a server that runs, and the files that they name.
pub async fn env(args: &EnvArgs, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let config = load_or_explain(source)?.config;
    let callers = all_callers(&config).await?;
    let caller = caller_of(&callers, args.caller.as_deref())?;
    let token = token_of(caller).await?;
    let address = config.proxy.listen.first().context("proxy.listen is empty")?;
    let userinfo = Some(Secret::from(format!("{}:{}", caller.id, token.expose())));
    let proxy = ProxyUrl { address: *address, userinfo };
    let (ca, _) = serve::open_ca(&config).await?;
    let parent: Lookup<'_> = &|name| std::env::var(name).ok();
    super::env::run(args, &proxy, ca.pem(), &config.data_dir, parent, out)?;
    Ok(0)
}

/// Where `env` finds a token that the config does not hold.
const TOKEN_VARIABLE: &str = "COUNTERSIGN_TOKEN";

/// The config may hold only a digest; then the person who has the token must say it.
async fn token_of(caller: &Caller) -> anyhow::Result<Secret> {
    if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
        return Ok(Secret::from(token));
    }
    for token in &caller.tokens {
        if let Token::Reference(reference) = token {
            return Ok(sources::read(reference).await?);
        }
    }
    bail!(
        "the configuration holds only a digest of {}'s token; set COUNTERSIGN_TOKEN to the token, or \
         use `countersign run`, which needs none",
        caller.id
    )
}
