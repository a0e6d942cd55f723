//! Requests made from `openapi.json`, good and bad, by schemathesis.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Asks the server at `base` for `seconds` whatever its document lets it ask, with `token`, and fails
/// the test if an answer is not as the document says. `settings` are of a `schemathesis.toml`.
pub async fn run(base: &str, token: &str, settings: &str, seconds: u64, arguments: &[&str]) {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("schemathesis.toml"), settings).unwrap();
    let mut fuzz = Command::new(clients.join(".venv/bin/schemathesis"));
    fuzz.current_dir(folder.path())
        .args(["run", &format!("{base}/openapi.json"), "--url", base])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--seed", "1"])
        .args(["--workers", "4", "--max-time", &seconds.to_string(), "--no-color"])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(100), fuzz.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    // Some releases of Python 3.11 fail to parse what schemathesis asks them to, now and then.
    let is_pythons = said.contains("AST constructor recursion depth mismatch");
    let found_nothing = is_pythons && !said.contains("FAILURES");
    assert!(output.status.success() || found_nothing, "{said}\n{complaint}");
}
