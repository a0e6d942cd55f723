//! The trust stores of a machine, and the steps by which each takes the CA in and lets go of it.
//! Computed, not done.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::client_files::{find_on_path, java_home, pem};
use super::super::environment::{Lookup, TRUSTSTORE_PASSWORD};
use crate::proxy::ca::{self, Description};

/// One place that holds trusted roots, and what it takes there.
pub(super) struct Store {
    pub(super) name: String,
    /// Why nothing can be done, and the command that mends it.
    pub(super) missing: Option<(String, String)>,
    pub(super) install: Vec<Step>,
    pub(super) uninstall: Vec<Step>,
    pub(super) present: Check,
}

pub(super) enum Step {
    Write { path: PathBuf, text: String },
    Remove { path: PathBuf },
    Run(Vec<String>),
}

/// How a store tells whether it trusts the CA.
pub(super) enum Check {
    File { path: PathBuf, text: String },
    Run(Vec<String>),
}

/// This system, or a tree that stands for one.
pub(super) struct Machine<'a> {
    pub(super) root: &'a Path,
    pub(super) parent: Lookup<'a>,
}

/// A Linux family's place for local roots, the command that takes them in, and the package that
/// brings `certutil`.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) anchors: &'static str,
    pub(super) extension: &'static str,
    pub(super) refresh: &'static [&'static str],
    pub(super) refresh_removed: &'static [&'static str],
    pub(super) nss_tools: &'static str,
}

/// The first whose directory exists. Debian's comes after Fedora's, which may have both.
pub(super) const FAMILIES: [Family; 4] = [
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
    pub(super) fn stores(&self, ca: &Description, pem_path: &Path) -> Vec<Store> {
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
pub(super) fn nickname(ca: &Description) -> String {
    let digits: String = ca::fingerprint(&ca.certificate).chars().filter(|c| *c != ':').collect();
    format!("countersign-{}", digits[..8].to_ascii_lowercase())
}

pub(super) fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    found.sort();
    found
}
