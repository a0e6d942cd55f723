//! Commands that a new user tries first, with the real binary in an empty directory.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn countersign(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(arguments)
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("COUNTERSIGN_DATA_DIR", home.join("data"));
    command
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    countersign(home, arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_shows_a_signed_request_a_refused_one_and_the_audit() {
    let home = tempfile::tempdir().unwrap();
    let output = run(home.path(), &["demo", "--once"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for part in ["\"ok\": true", "403 Forbidden", "[[callers.demo.rules]]", "\"type\":\"request\""]
    {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
    // Nothing is left behind where the user stood.
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_server_without_a_config_says_where_to_go_next() {
    let home = tempfile::tempdir().unwrap();
    let mut server = countersign(home.path(), &["serve"])
        .env("COUNTERSIGN_PROXY__LISTEN", "127.0.0.1:0")
        .env("COUNTERSIGN_WEB__LISTEN", "127.0.0.1:0")
        .env("COUNTERSIGN_ADMIN__LISTEN", "127.0.0.1:0")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let lines = BufReader::new(server.stderr.take().expect("piped")).lines();
    let mut said = String::new();
    for line in lines.map_while(Result::ok) {
        said.push_str(&line);
        said.push('\n');
        if line.contains("[callers.flow]") {
            break;
        }
    }
    server.kill().expect("it still runs");
    server.wait().expect("it ends");
    assert!(said.contains("[callers.flow]") && said.contains("proxy"), "{said}");
    assert!(home.path().join("data/ca.pem").is_file());
}

#[test]
fn check_lists_every_mistake_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    let config = "[proxy]\nlisten = [\"nowhere\"]\nunmached = \"deny\"\n\
                  [accounts.a]\napp = \"slak\"\n[callers.c]\naccounts = [\"b\"]\n";
    std::fs::write(home.path().join("countersign.toml"), config).unwrap();
    let output = run(home.path(), &["check"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["countersign.toml:2: proxy.listen", "unmatched", "slack", "callers.c"] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
}

#[test]
fn a_token_and_its_digest_belong_together() {
    let home = tempfile::tempdir().unwrap();
    let said = text(&run(home.path(), &["token", "flow"]).stdout);
    let token = said.split_whitespace().find(|word| word.starts_with("cs_")).expect("a token");
    let digest = countersign::secret::TokenDigest::of(token.as_bytes()).to_hex();
    assert!(said.contains(&digest), "{said}");
}

#[test]
fn completions_know_the_commands() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(home.path(), &["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("doctor"), "{shell}");
    }
}
