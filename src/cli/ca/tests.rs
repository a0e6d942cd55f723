use std::time::Duration;

use super::stores::{FAMILIES, Family, nickname, words};
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
    let steps =
        [Step::Remove { path: "/a b".into() }, Step::Run(words(&["x", "-t", "C,,", "it's", ""]))];
    assert_eq!(shown(&steps), r"rm '/a b' && x -t C,, 'it'\''s' ''");
}
