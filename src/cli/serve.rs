//! `countersign serve`: the server in the foreground, with signals.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::check::counted;
use super::supervisor::{self, State};
use super::{load_or_explain, token};
use crate::proxy::ca::Opened;
use crate::secret::TokenDigest;
use crate::serve::{self, Options, Running, Source, Watch};

#[derive(clap::Args)]
pub struct Args {
    /// Threads that serve connections [default: one per core]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Write the CA bundle (system roots and ours) as bundle.pem into DIR at start, for containers
    /// that share it
    #[arg(long, value_name = "DIR")]
    export_bundle: Option<std::path::PathBuf>,
}

pub async fn run(args: &Args, source: Source) -> anyhow::Result<u8> {
    // Before the first read, so that no change is missed.
    let mut watch = Watch::start(&source);
    let loaded = load_or_explain(&source)?;
    watch.files_of(&loaded.config);
    // Before the server is ready: whoever sees that may send a signal at once.
    let mut signals = Signals::listen()?;
    let mut running = serve::bind(loaded.config, Options::default()).await?;
    running.telemetry.install().context("logging could not be set up")?;
    for warning in loaded.warnings.iter().chain(&running.warnings) {
        tracing::warn!("{warning}");
    }
    if let Some(dir) = &args.export_bundle {
        export_bundle(&running, dir)?;
    }
    greet(&running, &source)?;
    supervisor::tell(State::Ready);
    until_told(&mut running, &source, &mut watch, &mut signals).await;
    supervisor::tell(State::Stopping);
    stop(running).await
}

fn export_bundle(running: &Running, dir: &std::path::Path) -> anyhow::Result<()> {
    let parent = |name: &str| std::env::var(name).ok();
    let bundle = super::client_files::bundle(running.ca.pem(), &parent)?;
    let path = dir.join("bundle.pem");
    std::fs::write(&path, bundle).with_context(|| path.display().to_string())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Serves until SIGTERM or SIGINT; SIGHUP reloads.
async fn until_told(
    running: &mut Running,
    source: &Source,
    watch: &mut Watch,
    signals: &mut Signals,
) {
    let reload = Arc::new(Notify::new());
    let follow = running.follow(source, watch, &reload);
    tokio::pin!(follow);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.hang_up.recv() => reload.notify_one(),
            () = &mut follow => {}
        }
    }
}

/// Drains; a second signal stops at once.
async fn stop(running: Running) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!("draining; a second signal stops at once");
    tokio::select! {
        () = running.drain() => Ok(0),
        _ = terminate.recv() => Ok(1),
        _ = interrupt.recv() => Ok(1),
    }
}

/// Where everything is, and what to do next.
fn greet(running: &Running, source: &Source) -> anyhow::Result<()> {
    let mut out = anstream::stderr().lock();
    let config = running.config();
    writeln!(out, "countersign {}", env!("CARGO_PKG_VERSION"))?;
    match &source.file {
        Some(file) => writeln!(out, "  config   {}", file.display())?,
        None => writeln!(out, "  config   none; the defaults hold")?,
    }
    writeln!(out, "  data     {}", config.data_dir.display())?;
    for address in &running.proxy {
        writeln!(out, "  proxy    http://{address}")?;
    }
    for address in &running.proxy_tls {
        writeln!(out, "  proxy    https://{address}")?;
    }
    if let Some(address) = running.web {
        writeln!(out, "  web      http://{address}/")?;
        writeln!(out, "  gateway  http://{address}/gateway/<app>/<path>")?;
    }
    if let Some(address) = running.admin {
        writeln!(out, "  metrics  http://{address}/metrics")?;
    }
    let apps = counted(config.catalog.len(), "app");
    let world = running.forwarder.world();
    let accounts = counted(world.slots.len(), "account");
    let callers = counted(world.callers().count(), "caller");
    writeln!(out, "  knows    {apps}, {accounts}, {callers}")?;
    if running.ca_opened == Opened::Created {
        writeln!(
            out,
            "  CA       created; `countersign ca install` or `countersign run` trusts it"
        )?;
    }
    if let Some(link) = &running.welcome {
        writeln!(
            out,
            "\nNobody is a member yet. The first owner comes in here, once:\n\n  {link}"
        )?;
    }
    if running.forwarder.world().callers().next().is_none() {
        first_steps(&mut out)?;
    }
    Ok(())
}

/// A configuration to paste. The token is made here and stored nowhere.
fn first_steps(out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let token = token::fresh()?;
    let digest = TokenDigest::of(token.expose().as_bytes()).to_hex();
    writeln!(
        out,
        "\nNobody may use it yet. In another terminal:\n\n  \
         countersign connect slack --auth bot_token      # asks for the token, and keeps it sealed\n  \
         countersign callers add flow --account slack    # prints the lines for your program\n\n\
         Or without the store, in countersign.toml:\n\n  \
         [accounts.team-slack]\n  app = \"slack\"\n  auth = \"bot_token\"\n  \
         secrets = {{ bot_token = {{ env = \"SLACK_TOKEN\" }} }}\n\n  \
         [callers.flow]\n  token_sha256 = \"{digest}\"\n  accounts = [\"team-slack\"]\n  \
         rules = [{{ app = \"slack\" }}]\n\nand start again where the secret is:\n\n  \
         SLACK_TOKEN=xoxb-… countersign serve\n\n\
         Programs come with the caller's token, which is shown only now. In their shell:\n\n  \
         export COUNTERSIGN_TOKEN={}\n  eval \"$(countersign env)\"\n\n\
         One program alone needs neither server nor token:\n\n  \
         SLACK_TOKEN=xoxb-… countersign run -- your-program\n",
        token.expose(),
    )?;
    Ok(())
}
