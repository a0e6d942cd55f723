//! `countersign ca`: hand the CA's certificate to people and to trust stores.
//!
//! Touches the system's anchor directory, NSS databases, Java's `cacerts` and the macOS keychain.
//! What a store needs is computed first, as steps, so that a dry run prints exactly what an
//! installation does. A store that is missing or fails costs one line and never the others. The
//! key is not exported by anything here.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow};

use super::client_files::{find_on_path, java_home, pem};
use super::environment::{Lookup, TRUSTSTORE_PASSWORD};
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

/// One place that holds trusted roots, and what it takes there.
struct Store {
    name: String,
    /// Why nothing can be done, and the command that mends it.
    missing: Option<(String, String)>,
    install: Vec<Step>,
    uninstall: Vec<Step>,
    present: Check,
}

enum Step {
    Write { path: PathBuf, text: String },
    Remove { path: PathBuf },
    Run(Vec<String>),
}

/// How a store tells whether it trusts the CA.
enum Check {
    File { path: PathBuf, text: String },
    Run(Vec<String>),
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

/// This system, or a tree that stands for one.
struct Machine<'a> {
    root: &'a Path,
    parent: Lookup<'a>,
}

/// A Linux family's place for local roots, the command that takes them in, and the package that
/// brings `certutil`.
struct Family {
    name: &'static str,
    anchors: &'static str,
    extension: &'static str,
    refresh: &'static [&'static str],
    refresh_removed: &'static [&'static str],
    nss_tools: &'static str,
}

/// The first whose directory exists. Debian's comes after Fedora's, which may have both.
const FAMILIES: [Family; 4] = [
    Family {
        name: "Fedora, RHEL",
        anchors: "etc/pki/ca-trust/source/anchors",
        extension: "pem",
        refresh: &["update-ca-trust", "extract"],
        refresh_removed: &["update-ca-trust", "extract"],
        nss_tools: "dnf install nss-tools",
    },
    Family {
        name: "Arch",
        anchors: "etc/ca-certificates/trust-source/anchors",
        extension: "crt",
        refresh: &["trust", "extract-compat"],
        refresh_removed: &["trust", "extract-compat"],
        nss_tools: "pacman -S nss",
    },
    Family {
        name: "Debian, Ubuntu, Alpine",
        anchors: "usr/local/share/ca-certificates",
        extension: "crt",
        refresh: &["update-ca-certificates"],
        refresh_removed: &["update-ca-certificates", "--fresh"],
        nss_tools: "apt-get install libnss3-tools",
    },
    Family {
        name: "openSUSE",
        anchors: "usr/share/pki/trust/anchors",
        extension: "pem",
        refresh: &["update-ca-certificates"],
        refresh_removed: &["update-ca-certificates"],
        nss_tools: "zypper install mozilla-nss-tools",
    },
];

impl Machine<'_> {
    fn stores(&self, ca: &Description, pem_path: &Path) -> Vec<Store> {
        let nickname = nickname(ca);
        let mut stores = vec![self.system_store(ca, pem_path, &nickname)];
        let databases = self.nss_databases().into_iter();
        stores.extend(databases.map(|dir| self.nss_store(&dir, pem_path, &nickname)));
        stores.extend(self.java_store(pem_path, &nickname));
        stores
    }

    fn family(&self) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| self.root.join(family.anchors).is_dir())
    }

    fn system_store(&self, ca: &Description, pem_path: &Path, nickname: &str) -> Store {
        if cfg!(target_os = "macos") {
            return keychain(pem_path);
        }
        match self.family() {
            Some(family) => self.anchors(family, ca, nickname),
            None => no_system_store(pem_path),
        }
    }

    fn anchors(&self, family: &Family, ca: &Description, nickname: &str) -> Store {
        let file = format!("{nickname}.{}", family.extension);
        let path = self.root.join(family.anchors).join(file);
        let text = pem(&ca.certificate);
        let run = |command: &[&str]| Step::Run(words(command));
        Store {
            name: format!("system store ({})", family.name),
            missing: None,
            install: vec![
                Step::Write { path: path.clone(), text: text.clone() },
                run(family.refresh),
            ],
            uninstall: vec![Step::Remove { path: path.clone() }, run(family.refresh_removed)],
            present: Check::File { path, text },
        }
    }

    /// Where Chromium and Firefox keep roots of their own: the user's, and each profile's.
    fn nss_databases(&self) -> Vec<PathBuf> {
        let Some(home) = (self.parent)("HOME").map(|home| self.below_root(Path::new(&home))) else {
            return Vec::new();
        };
        let single = [".pki/nssdb", "snap/chromium/current/.pki/nssdb"].map(|dir| home.join(dir));
        let profiles = [
            ".mozilla/firefox",
            "snap/firefox/common/.mozilla/firefox",
            ".var/app/org.mozilla.firefox/.mozilla/firefox",
            "Library/Application Support/Firefox/Profiles",
        ];
        let profiles = profiles.iter().flat_map(|dir| subdirectories(&home.join(dir)));
        single.into_iter().chain(profiles).filter(|dir| dir.join("cert9.db").is_file()).collect()
    }

    fn below_root(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn nss_store(&self, dir: &Path, pem_path: &Path, nickname: &str) -> Store {
        let (database, file) = (format!("sql:{}", dir.display()), pem_path.display().to_string());
        let certutil = |args: &[&str]| {
            let named = ["certutil", "-d", database.as_str(), "-n", nickname];
            words(&[&named[..], args].concat())
        };
        let tool = match self.family() {
            Some(family) => family.nss_tools,
            None if cfg!(target_os = "macos") => "brew install nss",
            None => "install the NSS tools",
        };
        let there = find_on_path("certutil", self.parent).is_some();
        Store {
            name: format!("browser database {}", dir.display()),
            missing: (!there).then(|| ("certutil is not installed".to_owned(), tool.to_owned())),
            install: vec![Step::Run(certutil(&["-A", "-t", "C,,", "-i", &file]))],
            uninstall: vec![Step::Run(certutil(&["-D"]))],
            present: Check::Run(certutil(&["-L"])),
        }
    }

    /// Only a JDK that the user has named: any other would be a guess.
    fn java_store(&self, pem_path: &Path, nickname: &str) -> Option<Store> {
        (self.parent)("JAVA_HOME")?;
        let home = java_home(self.parent)?;
        let (tool, file) = (home.keytool.display().to_string(), pem_path.display().to_string());
        let cacerts = home.cacerts.display().to_string();
        let keytool = |verb: &str, args: &[&str]| {
            let named = [tool.as_str(), verb, "-keystore", &cacerts, "-alias", nickname];
            let password = ["-storepass", TRUSTSTORE_PASSWORD];
            words(&[&named[..], &password, args].concat())
        };
        Some(Store {
            name: format!("Java ({cacerts})"),
            missing: (!home.keytool.is_file()).then(|| {
                let get = "install a JDK, a runtime alone has no keytool";
                (format!("{tool} is not there"), get.to_owned())
            }),
            install: vec![Step::Run(keytool("-importcert", &["-noprompt", "-file", &file]))],
            uninstall: vec![Step::Run(keytool("-delete", &[]))],
            present: Check::Run(keytool("-list", &[])),
        })
    }
}

fn keychain(pem_path: &Path) -> Store {
    let file = pem_path.display().to_string();
    let system = "/Library/Keychains/System.keychain";
    let add = ["security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", system, &file];
    Store {
        name: "system store (macOS keychain)".to_owned(),
        missing: None,
        install: vec![Step::Run(words(&add))],
        uninstall: vec![Step::Run(words(&["security", "remove-trusted-cert", "-d", &file]))],
        present: Check::Run(words(&["security", "verify-cert", "-c", &file])),
    }
}

fn no_system_store(pem_path: &Path) -> Store {
    let file = pem_path.display();
    let (why, mend) = if cfg!(windows) {
        ("Windows is not handled here", format!("certutil -addstore -f ROOT {file}"))
    } else {
        (
            "no place for local roots is known on this system",
            format!("set SSL_CERT_FILE to a bundle with {file}, or use `countersign run`"),
        )
    };
    Store {
        name: "system store".to_owned(),
        missing: Some((why.to_owned(), mend)),
        install: Vec::new(),
        uninstall: Vec::new(),
        present: Check::Run(Vec::new()),
    }
}

/// Names this CA among several of ours, in stores that know certificates by name.
fn nickname(ca: &Description) -> String {
    let digits: String = ca::fingerprint(&ca.certificate).chars().filter(|c| *c != ':').collect();
    format!("countersign-{}", digits[..8].to_ascii_lowercase())
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    found.sort();
    found
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::proxy::ca::{CaSettings, CertificateAuthority};

    /// A data directory with a CA, and a tree that stands for a system.
    struct World {
        dir: tempfile::TempDir,
        env: Vec<(&'static str, String)>,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let settings = CaSettings {
                permitted: vec!["acme.test".parse().expect("a host")],
                ca_lifetime: Duration::from_secs(3600),
                leaf_lifetime: Duration::from_secs(3600),
                leaf_cache: 1,
            };
            let data = dir.path().join("data");
            CertificateAuthority::open_or_create(&data, &settings, &Clock::System).expect("a CA");
            let world = Self { dir, env: vec![("HOME", "/home/u".to_owned())] };
            fs::create_dir_all(world.root()).expect("made");
            world
        }

        fn with_dir(self, path: &str) -> Self {
            fs::create_dir_all(self.root().join(path)).expect("made");
            self
        }

        fn root(&self) -> PathBuf {
            self.dir.path().join("root")
        }

        fn data(&self) -> PathBuf {
            self.dir.path().join("data")
        }

        fn run(&self, command: &CaCommand) -> (u8, String) {
            let parent = |name: &str| {
                self.env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
            };
            let mut out = Vec::new();
            let code = run(command, &self.data(), &parent, &mut out).expect("it runs");
            (code, String::from_utf8(out).expect("text"))
        }

        fn install(&self, dry_run: bool) -> (u8, String) {
            self.run(&CaCommand::Install { dry_run, root: self.root() })
        }

        fn uninstall(&self) -> (u8, String) {
            self.run(&CaCommand::Uninstall { dry_run: false, root: self.root() })
        }

        fn status(&self) -> (u8, String) {
            self.run(&CaCommand::Status { root: self.root() })
        }

        fn anchors(&self, family: &Family) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.root().join(family.anchors)).expect("there");
            entries.map(|entry| entry.expect("an entry").path()).collect()
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn every_linux_family_installs_once_reports_and_uninstalls() {
        for family in &FAMILIES {
            let world = World::new().with_dir(family.anchors);
            assert_eq!(world.status().0, 1, "{}", family.name);
            for _ in 0..2 {
                let (code, text) = world.install(false);
                assert!(code == 0 && text.contains("): installed"), "{text}");
                assert_eq!(world.anchors(family).len(), 1);
            }
            let (code, text) = world.status();
            assert!(code == 0 && text.contains("trusts the CA"), "{text}");
            assert!(text.contains("SHA-256 ") && text.contains("signs for acme.test"), "{text}");
            assert!(world.uninstall().1.contains("): removed"), "{}", family.name);
            assert!(world.uninstall().1.contains("nothing to remove"), "{}", family.name);
            assert!(world.anchors(family).is_empty());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_dry_run_prints_the_commands_and_changes_nothing() {
        let debian = &FAMILIES[2];
        let world = World::new().with_dir(debian.anchors);
        let (code, text) = world.install(true);
        assert!(code == 0 && text.contains("&& update-ca-certificates\n"), "{text}");
        assert!(world.anchors(debian).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_system_without_stores_is_told_what_to_do_and_is_no_failure() {
        let world = World::new();
        let (code, text) = world.install(false);
        assert!(code == 0 && text.contains("skipped") && text.contains("SSL_CERT_FILE"), "{text}");
        assert_eq!(world.status().0, 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn browser_databases_are_found_and_the_missing_tool_is_named() {
        let world = World::new().with_dir("usr/local/share/ca-certificates");
        for database in [".pki/nssdb", ".mozilla/firefox/abc.default"] {
            let dir = world.root().join("home/u").join(database);
            fs::create_dir_all(&dir).expect("made");
            fs::write(dir.join("cert9.db"), "").expect("written");
        }
        let (code, text) = world.install(false);
        assert_eq!(text.matches("apt-get install libnss3-tools").count(), 2, "{text}");
        assert!(code == 0 && text.contains("): installed"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_store_that_fails_says_how_to_do_it_by_hand() {
        let world = World::new().with_dir("usr/local/share/ca-certificates");
        // A directory in the file's place fails for every user, root too.
        let ca = ca::describe(&world.data()).expect("readable").expect("there");
        let blocked = format!("usr/local/share/ca-certificates/{}.crt", nickname(&ca));
        let world = world.with_dir(&blocked);
        let (code, text) = world.install(false);
        assert!(code == 1 && text.contains("failed") && text.contains("by hand: "), "{text}");
    }

    #[test]
    fn the_certificate_is_exported_in_both_forms_and_never_the_key() {
        let world = World::new();
        let to_stdout = CaCommand::Export { format: Format::Pem, output: None };
        let (_, text) = world.run(&to_stdout);
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n") && !text.contains("KEY"));
        let file = world.dir.path().join("out.der");
        world.run(&CaCommand::Export { format: Format::Der, output: Some(file.clone()) });
        let ca = ca::describe(&world.data()).expect("readable").expect("there");
        assert_eq!(fs::read(file).expect("written"), ca.certificate.to_vec());
        let (_, path) = world.run(&CaCommand::Path);
        assert!(path.trim_end().ends_with("ca.pem"), "{path}");
    }

    #[test]
    fn without_a_ca_it_says_how_one_comes_about() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = run(&CaCommand::Path, dir.path(), &|_| None, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("countersign serve"), "{error}");
    }

    #[test]
    fn commands_are_shown_so_that_a_shell_takes_them() {
        let steps = [
            Step::Remove { path: "/a b".into() },
            Step::Run(words(&["x", "-t", "C,,", "it's", ""])),
        ];
        assert_eq!(shown(&steps), r"rm '/a b' && x -t C,, 'it'\''s' ''");
    }
}
