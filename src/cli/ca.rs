//! `countersign ca`: hand the CA's certificate to people and to trust stores.
//!
//! Touches the system's anchor directory, NSS databases, Java's `cacerts` and the macOS keychain.
//! What a store needs is computed first, as steps, so that a dry run prints exactly what an
//! installation does. A store that is missing or fails costs one line and never the others. The
//! key is not exported by anything here.

mod stores;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow};

use stores::{Check, Machine, Step, Store};

use super::client_files::pem;
use super::environment::Lookup;
use crate::clock::rfc3339;
use crate::proxy::ca::{self, Description};

/// The local CA's certificate, and the stores that trust it
#[derive(Clone, Debug, clap::Subcommand)]
pub enum CaCommand {
    /// Write the certificate (never the key)
    Export {
        #[arg(long, value_enum, default_value = "pem")]
        format: Format,
        /// The file to write [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print where the certificate is
    Path,
    /// Make this machine's trust stores trust it
    Install {
        /// Print what would be done
        #[arg(long)]
        dry_run: bool,
        /// Change files below DIR, and run no program
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
    /// Take it out of the trust stores
    Uninstall {
        /// Print what would be done
        #[arg(long)]
        dry_run: bool,
        /// Change files below DIR, and run no program
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
    /// Show it, and which stores trust it
    Status {
        /// Look below DIR, and run no program
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
}

impl CaCommand {
    /// Whether a CA is created for it if there is none. Looking and removing need none.
    pub fn needs_ca(&self) -> bool {
        match self {
            Self::Export { .. } | Self::Path => true,
            Self::Install { dry_run, .. } => !dry_run,
            Self::Uninstall { .. } | Self::Status { .. } => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Pem,
    Der,
}

/// Returns the code to exit with: 0, or 1 if a store that is there could not be changed, or none
/// trusts the CA (`status`).
pub fn run(
    command: &CaCommand,
    data_dir: &Path,
    parent: Lookup<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let pem_path = ca::pem_path(data_dir);
    let ca = ca::describe(data_dir)?.ok_or_else(|| {
        anyhow!(
            "there is no CA in {} yet: `countersign serve` or `countersign ca path` creates it",
            data_dir.display()
        )
    })?;
    match command {
        CaCommand::Export { format, output } => export(&ca, *format, output.as_deref(), out),
        CaCommand::Path => Ok(writeln!(out, "{}", pem_path.display()).map(|()| 0)?),
        CaCommand::Install { dry_run, root } => {
            let stores = Machine { root, parent }.stores(&ca, &pem_path);
            describe(&ca, out)?;
            change(&stores, Verb::Install, Hands::of(*dry_run, root), out)
        }
        CaCommand::Uninstall { dry_run, root } => {
            let stores = Machine { root, parent }.stores(&ca, &pem_path);
            describe(&ca, out)?;
            change(&stores, Verb::Uninstall, Hands::of(*dry_run, root), out)
        }
        CaCommand::Status { root } => {
            let stores = Machine { root, parent }.stores(&ca, &pem_path);
            describe(&ca, out)?;
            status(&stores, Hands::of(false, root), out)
        }
    }
}

fn export(
    ca: &Description,
    format: Format,
    output: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let bytes = match format {
        Format::Pem => pem(&ca.certificate).into_bytes(),
        Format::Der => ca.certificate.to_vec(),
    };
    match output {
        Some(file) => fs::write(file, bytes)
            .with_context(|| format!("{} could not be written", file.display()))?,
        None => out.write_all(&bytes)?,
    }
    Ok(0)
}

/// The fingerprint, to compare with what a trust store shows.
fn describe(ca: &Description, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "SHA-256 {}", ca::fingerprint(&ca.certificate))?;
    writeln!(out, "valid until {}", rfc3339(ca.not_after))?;
    if !ca.permitted.is_empty() {
        writeln!(out, "signs for {} and names below", ca.permitted.join(", "))?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Verb {
    Install,
    Uninstall,
}

/// How far changes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hands {
    DryRun,
    /// Another root than this system's: its programs would change this one.
    FilesOnly,
    Free,
}

impl Hands {
    fn of(dry_run: bool, root: &Path) -> Self {
        match (dry_run, root == Path::new("/")) {
            (true, _) => Self::DryRun,
            (false, false) => Self::FilesOnly,
            (false, true) => Self::Free,
        }
    }
}

/// One line per store, whatever happens to it.
fn change(stores: &[Store], verb: Verb, hands: Hands, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut code = 0;
    for store in stores {
        let (steps, done) = match verb {
            Verb::Install => (&store.install, "installed"),
            Verb::Uninstall => (&store.uninstall, "removed"),
        };
        let line = match (&store.missing, hands, verb) {
            (Some((why, mend)), ..) => format!("skipped, {why}: {mend}"),
            (None, Hands::DryRun, _) => format!("would run: {}", shown(steps)),
            (None, _, Verb::Uninstall) if !is_present(&store.present, hands) => {
                "not there, nothing to remove".to_owned()
            }
            (None, ..) => match take(steps, hands) {
                Ok(()) => done.to_owned(),
                Err(error) => {
                    code = 1;
                    format!("failed, {error}; by hand: {}", shown(steps))
                }
            },
        };
        writeln!(out, "{}: {line}", store.name)?;
    }
    Ok(code)
}

fn status(stores: &[Store], hands: Hands, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut trusted = false;
    for store in stores {
        let line = match &store.missing {
            Some((why, mend)) => format!("unknown, {why}: {mend}"),
            None if is_present(&store.present, hands) => {
                trusted = true;
                "trusts the CA".to_owned()
            }
            None => "does not trust the CA: countersign ca install".to_owned(),
        };
        writeln!(out, "{}: {line}", store.name)?;
    }
    Ok(u8::from(!trusted))
}

fn is_present(check: &Check, hands: Hands) -> bool {
    match check {
        Check::File { path, text } => fs::read_to_string(path).is_ok_and(|found| found == *text),
        Check::Run(command) => hands == Hands::Free && run_quietly(command).is_ok(),
    }
}

fn take(steps: &[Step], hands: Hands) -> anyhow::Result<()> {
    for step in steps {
        match step {
            Step::Write { path, text } => {
                fs::write(path, text).map_err(|error| refused(path, &error))?;
            }
            Step::Remove { path } => {
                fs::remove_file(path).map_err(|error| refused(path, &error))?;
            }
            Step::Run(command) if hands == Hands::Free => run_quietly(command)?,
            Step::Run(_) => {}
        }
    }
    Ok(())
}

fn refused(path: &Path, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            anyhow!(
                "{} may only be changed by root: sudo --preserve-env=COUNTERSIGN_DATA_DIR countersign ca install, with COUNTERSIGN_DATA_DIR set to this data directory",
                path.display()
            )
        }
        _ => anyhow!("{}: {error}", path.display()),
    }
}

/// The last line that the program said is the reason, as a rule.
fn run_quietly(command: &[String]) -> anyhow::Result<()> {
    let [program, args @ ..] = command else { return Err(anyhow!("there is no command")) };
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} could not be run"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(anyhow!("{program}: {}", said.trim().lines().last().unwrap_or("no reason given")))
}

/// As a person would type it.
fn shown(steps: &[Step]) -> String {
    let lines = steps.iter().map(|step| match step {
        Step::Write { path, .. } => format!("countersign ca export -o {}", quoted_path(path)),
        Step::Remove { path } => format!("rm {}", quoted_path(path)),
        Step::Run(command) => command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    });
    lines.collect::<Vec<_>>().join(" && ")
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:,=+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
