//! The command line. Each command is a room's work with words around it.

mod accounts;
mod api_clients;
pub mod apps;
mod apps_test;
mod ask;
pub mod audit;
mod audit_find;
mod auth;
pub mod ca;
mod callers;
pub mod check;
pub mod client_files;
mod connect;
mod demo;
pub mod doctor;
mod end_page;
mod env;
pub mod environment;
mod find;
mod import_openapi;
mod keys;
mod life;
mod loopback;
mod member_tokens;
mod members;
mod oauth_clients;
mod overrides;
mod own_apps;
mod own_proxy;
pub mod policy;
mod probe;
mod projects;
pub mod run;
mod serve;
mod share;
mod show;
mod supervisor;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::catalog::Mistake;
use crate::catalog::samples::{self, Language};
use crate::forward::Stored;
use crate::ids::AccountId;
use crate::serve::{LoadError, Loaded, Source, Workshop, load};

/// Put HTTPS_PROXY in front of any program, and its API calls leave with the right credential.
#[derive(Parser)]
#[command(name = "countersign", version, about, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// The configuration file [default: ./countersign.toml, /etc/countersign/countersign.toml]
    #[arg(long, short, global = true, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy, the gateway and the metrics listener
    Serve(serve::Args),
    /// Show an authenticated request end to end, with no internet and nothing to set up
    Demo(demo::Args),
    /// Run a command behind the proxy: no token in its environment, nothing to configure
    Run(run::RunArgs),
    /// Print the variables that make programs use the proxy: eval "$(countersign env)"
    Env(env::EnvArgs),
    /// Connect an account: keys are asked for, for OAuth the browser goes to the provider
    Connect(Box<connect::Args>),
    /// Accounts that were connected
    #[command(subcommand)]
    Accounts(Box<accounts::AccountsCommand>),
    /// The people of the workspace, who log in to the web UI
    #[command(subcommand)]
    Members(Box<members::MembersCommand>),
    /// Let members use an account
    Share(share::Args),
    /// Take an account away from members; without naming one, from all of them
    Unshare(share::Args),
    /// Who may send requests, and with which accounts
    #[command(subcommand)]
    Callers(Box<callers::CallersCommand>),
    /// The clients that you registered with providers
    #[command(subcommand, name = "oauth-clients")]
    OAuthClients(Box<oauth_clients::OAuthClientsCommand>),
    /// Programs that may use the REST API
    #[command(subcommand, name = "api-clients")]
    ApiClients(Box<api_clients::ApiClientsCommand>),
    /// Products whose users connect accounts by the REST API
    #[command(subcommand)]
    Projects(Box<projects::ProjectsCommand>),
    /// What a product decides for an app before its users connect it
    #[command(subcommand)]
    AppOverrides(Box<overrides::AppOverridesCommand>),
    /// Print the credential of an app's account, for scripts that must have it: the $auth object
    Auth(auth::Args),
    /// The master key of the store
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Write a copy of the store, still sealed, while it is in use
    Backup {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Fill an empty store from a backup
    Restore {
        /// The file that `countersign backup` wrote
        file: PathBuf,
    },
    /// Check the setup, or prove that a command goes through the proxy and trusts its CA
    Doctor(doctor::DoctorArgs),
    /// Check the configuration and report every mistake
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The local certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// The APIs that countersign knows
    #[command(subcommand)]
    Apps(AppsCommand),
    /// Ask what the rules say
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The record of every use
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Make a token for a caller, and the line for the configuration
    Token(token::Args),
    /// Ask the admin listener whether the server is ready; for container health checks
    Health,
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Subcommand)]
enum AppsCommand {
    /// List apps, or those that match
    List {
        /// A name, a host, a category, what it is for; a slip of the finger is forgiven
        query: Option<String>,
        /// Print how many there are, and of which kinds
        #[arg(long, conflicts_with_all = ["query", "json"])]
        count: bool,
        /// Only definitions of the workspace's own
        #[arg(long, conflicts_with_all = ["query", "count"])]
        own: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a definition of the workspace's own: one TOML file, checked before it is kept
    Add(own_apps::AddArgs),
    /// Remove a definition of the workspace's own
    Remove(own_apps::RemoveArgs),
    /// Show one app: hosts, ways to authenticate, fields
    Show {
        /// The app's id, as `apps list` shows it
        app: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print a first request through the proxy instead, for curl, python or node
        #[arg(long, value_name = "LANGUAGE", conflicts_with = "json")]
        example: Option<Language>,
    },
    /// Make a definition of an OpenAPI document
    ImportOpenapi(import_openapi::Args),
    /// Check definitions: the files named, or all that are in use
    Lint {
        /// TOML files with one app each
        files: Vec<PathBuf>,
    },
    /// Send an app's test request through the proxy with an account of yours
    Test(apps_test::Args),
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Say whether a request would be let through, with which account, and which rule decided
    Explain {
        /// May be left out when the configuration has one only
        #[arg(long, value_name = "NAME")]
        caller: Option<String>,
        #[arg(long, short = 'X', default_value = "GET")]
        method: http::Method,
        /// The account that the request would name
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// `METHOD URL`, or the URL alone
        #[arg(num_args = 1..=2, required = true, value_name = "[METHOD] URL")]
        request: Vec<String>,
    },
    /// Propose the least privilege that a caller needs, from what it did
    Suggest {
        /// May be left out when the configuration has one only
        #[arg(long, value_name = "NAME")]
        caller: Option<String>,
        /// How far back to look
        #[arg(long, default_value = "30d", value_name = "DURATION", value_parser = crate::config::duration)]
        since: std::time::Duration,
        /// The audit file [default: the one of the configuration]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Print the rules as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a file of recorded requests and the answers they should get
    Test {
        /// TOML with one [[case]] for each request
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Find entries by what they are about
    Find(audit_find::Args),
    /// Show the last events
    Tail {
        /// How many
        #[arg(short = 'n', default_value_t = 20)]
        lines: usize,
        /// Wait for more
        #[arg(short, long)]
        follow: bool,
        /// The lines as they are
        #[arg(long)]
        json: bool,
        /// [default: audit.jsonl in the data directory]
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Prove that no event was altered, removed or reordered
    Verify {
        /// [default: audit.jsonl in the data directory]
        file: Option<PathBuf>,
    },
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    harden();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers(&cli.command))
        .enable_all()
        .build();
    let done = runtime.context("no runtime could be started").and_then(|runtime| {
        let done = runtime.block_on(dispatch(cli));
        // A `serve` that was told to stop at once leaves its connections to the kernel.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_closed_output(&error) => ExitCode::from(CLOSED_OUTPUT),
        Err(error) => {
            anstream::eprintln!("{}error:{} {}", BAD.render(), BAD.render_reset(), told(&error));
            ExitCode::FAILURE
        }
    }
}

/// 128 and SIGPIPE: what a shell sees of other programs whose reader, such as `head`, has gone.
const CLOSED_OUTPUT: u8 = 141;

fn is_closed_output(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The error and its causes on one line; a cause that was told already is not told twice.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let gap = if text.is_empty() { "" } else { ": " };
            text.push_str(gap);
            text.push_str(&cause);
        }
    }
    text
}

const BAD: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();

/// A core file or another process of the same user would otherwise hold every credential.
fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn workers(command: &Command) -> usize {
    let cores = || std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    match command {
        Command::Serve(args) => args.workers.unwrap_or_else(cores),
        _ => cores().min(4),
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    let source = Source::find(cli.config);
    let parent: environment::Lookup<'_> = &|name| std::env::var(name).ok();
    let mut out = anstream::stdout();
    match cli.command {
        Command::Serve(args) => serve::run(&args, source).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Run(args) => own_proxy::run(&args, &source).await,
        Command::Env(args) => own_proxy::env(&args, &source, &mut out).await,
        Command::Connect(args) => connect::run(&args, &source, &mut out).await,
        Command::Accounts(command) => accounts::run(&command, &source, &mut out).await,
        Command::Members(command) => members::run(&command, &source, &mut out).await,
        Command::Share(args) => share::run(share::Change::Share, &args, &source, &mut out).await,
        Command::Unshare(args) => {
            share::run(share::Change::Unshare, &args, &source, &mut out).await
        }
        Command::Callers(command) => callers::run(&command, &source, &mut out).await,
        Command::OAuthClients(command) => oauth_clients::run(&command, &source, &mut out).await,
        Command::ApiClients(command) => api_clients::run(&command, &source, &mut out).await,
        Command::AppOverrides(command) => overrides::run(&command, &source, &mut out).await,
        Command::Projects(command) => projects::run(&command, &source, &mut out).await,
        Command::Auth(args) => auth::run(&args, &source, &mut out).await,
        Command::Keys(command) => keys::run(&command, &source, &mut out).await,
        Command::Backup { file } => keys::backup(&file, &source, &mut out).await,
        Command::Restore { file } => keys::restore(&file, &source, &mut out).await,
        Command::Doctor(args) => own_proxy::doctor(&args, &source, &mut out).await,
        Command::Check { json } => check_command(json, &source, &mut out).await,
        Command::Ca(command) => {
            let config = load_or_explain(&source)?.config;
            if command.needs_ca() {
                crate::serve::open_ca(&config).await?;
            }
            ca::run(&command, &config.data_dir, parent, &mut out)
        }
        Command::Apps(AppsCommand::ImportOpenapi(args)) => {
            import_openapi::run(&args, &source, &mut out).await
        }
        Command::Apps(AppsCommand::Test(args)) => apps_test::run(&args, &source, &mut out).await,
        Command::Apps(AppsCommand::Add(args)) => own_apps::add(&args, &source, &mut out).await,
        Command::Apps(AppsCommand::Remove(args)) => {
            own_apps::remove(&args, &source, &mut out).await
        }
        Command::Apps(command) => apps_command(&command, &source, &mut out).await,
        Command::Policy(command) => policy_command(&command, &source, &mut out).await,
        Command::Audit(command) => audit_command(command, &source, &mut out),
        Command::Token(args) => token::run(&args, &mut out),
        Command::Health => probe::health(&source).await,
        Command::Completions { shell } => {
            // The generator panics when its output is closed, and ours may be.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "countersign", &mut script);
            std::io::Write::write_all(&mut out, &script)?;
            Ok(0)
        }
    }
}

/// Opens the store, does the work, and closes the store whatever came of it.
async fn in_workshop<T>(
    source: &Source,
    work: impl AsyncFnOnce(&Workshop) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let shop = Workshop::open(load_or_explain(source)?.config, &whoami()).await?;
    let done = work(&shop).await;
    shop.close().await;
    done
}

/// Who sits at the terminal, as well as the system knows.
fn whoami() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let uid = rustix::process::getuid().as_raw();
    match name {
        Some(name) => format!("terminal: {name} (uid {uid})"),
        None => format!("terminal: uid {uid}"),
    }
}

/// Leaves a note for the audit, which a server writes down.
async fn note(shop: &Workshop, what: &str, subject: &str, detail: &str) -> anyhow::Result<()> {
    Ok(shop.vault().note(what, subject, detail, &whoami()).await?)
}

/// The same, of something that was done with an account.
async fn note_about(
    shop: &Workshop,
    account: &AccountId,
    what: &str,
    subject: &str,
    detail: &str,
) -> anyhow::Result<()> {
    Ok(shop.vault().note_about(account, what, subject, detail, &whoami()).await?)
}

fn print(said: &policy::Output, out: &mut impl std::io::Write) -> anyhow::Result<u8> {
    writeln!(out, "{}", said.text.trim_end())?;
    Ok(said.code)
}

/// Everything that `serve` would refuse, and what it would warn of: also secrets that cannot be
/// read.
async fn check_command(
    json: bool,
    source: &Source,
    out: &mut impl std::io::Write,
) -> anyhow::Result<u8> {
    let loaded = match load(source) {
        Ok(loaded) => loaded,
        Err(LoadError::Mistakes(found)) => return print(&check::mistakes(&found, json), out),
        Err(error) => return Err(error.into()),
    };
    let file = source.file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
    let unreadable = crate::serve::unreadable_files(&loaded.config);
    let mut mistakes: Vec<_> =
        unreadable.into_iter().map(|(key, why)| Mistake::new(&*file, None, key, why)).collect();
    match crate::forward::World::build(&loaded.config, &Stored::default(), None).await {
        Ok(world) if mistakes.is_empty() => {
            print(&check::check(&loaded.config, &world.index, source.mode(), json), out)
        }
        built => {
            let errors = built.err().unwrap_or_default();
            mistakes.extend(errors.iter().map(|error| error.as_mistake(&file)));
            print(&check::mistakes(&mistakes, json), out)
        }
    }
}

async fn policy_command(
    command: &PolicyCommand,
    source: &Source,
    out: &mut impl std::io::Write,
) -> anyhow::Result<u8> {
    let mut config = load_or_explain(source)?.config;
    config.callers = own_proxy::all_callers(&config).await?;
    let index = config.host_index().map_err(|mistakes| {
        anyhow::anyhow!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    match command {
        PolicyCommand::Explain { caller, method, account, json, request } => {
            let (method, url) = match &request[..] {
                [method, url] => (method.parse().context("METHOD is not a method")?, url),
                _ => (method.clone(), &request[0]),
            };
            let caller = own_proxy::caller_of(&config.callers, caller.as_deref())?.id.as_str();
            let account = account.as_deref();
            let asked = policy::Explain { caller, method, url, account, json: *json };
            print(&policy::explain(&config, &index, &asked), out)
        }
        PolicyCommand::Suggest { caller, since, file, json } => {
            let caller = own_proxy::caller_of(&config.callers, caller.as_deref())?.id.as_str();
            let file = file.clone().unwrap_or_else(|| audit::usual_file(&config));
            let since = std::time::SystemTime::now().checked_sub(*since);
            print(&policy::suggest(&file, caller, since, *json)?, out)
        }
        PolicyCommand::Test { file } => {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            print(&policy::test(&config, &index, &text), out)
        }
    }
}

/// Loads the configuration for a command that needs a good one.
fn load_or_explain(source: &Source) -> anyhow::Result<Loaded> {
    load(source).map_err(|error| match &error {
        LoadError::Mistakes(_) => {
            anyhow::anyhow!("the configuration has mistakes:\n{error}")
        }
        LoadError::File { .. } => anyhow::Error::new(error),
    })
}

async fn apps_command(
    command: &AppsCommand,
    source: &Source,
    out: &mut impl std::io::Write,
) -> anyhow::Result<u8> {
    if let AppsCommand::Lint { files } = command
        && !files.is_empty()
    {
        return lint_files(files, out);
    }
    let catalog = own_apps::catalog(source).await?;
    match command {
        AppsCommand::List { own: true, json, .. } => {
            let own = own_apps::ids(source).await?;
            let cards: Vec<_> = own.iter().filter_map(|id| catalog.card(id.as_str())).collect();
            match json {
                true => writeln!(out, "{:#}", apps::cards_json(&cards))?,
                false if cards.is_empty() => {
                    writeln!(out, "No definitions of your own yet. `countersign apps add FILE`")?
                }
                false => write!(out, "{}", apps::cards(&cards))?,
            }
        }
        AppsCommand::List { count: true, .. } => write!(out, "{}", apps::count(&catalog))?,
        AppsCommand::List { query, json, .. } => {
            let words = query.as_deref();
            match json {
                true => writeln!(out, "{:#}", apps::list_json(&catalog, words))?,
                false => write!(out, "{}", apps::list(&catalog, words))?,
            }
        }
        AppsCommand::Show { app, json, example } => {
            let found = apps::find(&catalog, app)?;
            match (example, json) {
                (Some(language), _) => write!(out, "{}", samples::first_request(found, *language))?,
                (None, true) => writeln!(out, "{:#}", apps::show_json(found))?,
                (None, false) => write!(out, "{}", apps::show(found))?,
            }
        }
        AppsCommand::Lint { .. } => return report(&apps::lint(&catalog), out),
        AppsCommand::Test(_)
        | AppsCommand::ImportOpenapi(_)
        | AppsCommand::Add(_)
        | AppsCommand::Remove(_) => {}
    }
    Ok(0)
}

fn lint_files(files: &[PathBuf], out: &mut impl std::io::Write) -> anyhow::Result<u8> {
    let mut texts = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        texts.push((path.display().to_string(), text));
    }
    match crate::catalog::Catalog::build(texts) {
        Ok(catalog) => report(&apps::lint(&catalog), out),
        Err(mistakes) => report(&mistakes, out),
    }
}

fn report(
    mistakes: &[crate::catalog::Mistake],
    out: &mut impl std::io::Write,
) -> anyhow::Result<u8> {
    for mistake in mistakes {
        writeln!(out, "{mistake}")?;
    }
    let bad = mistakes.iter().any(crate::catalog::Mistake::is_error);
    if !bad {
        writeln!(out, "no mistakes")?;
    }
    Ok(u8::from(bad))
}

fn audit_command(
    command: AuditCommand,
    source: &Source,
    out: &mut impl std::io::Write,
) -> anyhow::Result<u8> {
    let usual =
        || -> anyhow::Result<PathBuf> { Ok(audit::usual_file(&load_or_explain(source)?.config)) };
    match command {
        AuditCommand::Tail { lines, follow, json, file } => {
            let file = file.map_or_else(usual, Ok)?;
            audit::tail(&file, audit::TailOptions { lines, follow, json }, out)?;
            Ok(0)
        }
        AuditCommand::Find(args) => {
            let file = args.file.clone().map_or_else(usual, Ok)?;
            Ok(u8::from(!audit_find::run(&args, &file, out)?))
        }
        AuditCommand::Verify { file } => {
            let file = file.map_or_else(usual, Ok)?;
            Ok(u8::from(!audit::verify(&file, out)?))
        }
    }
}
