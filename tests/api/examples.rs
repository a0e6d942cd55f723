//! The programs of `examples/`, as they are, against the fake API.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use crate::site::{KEY, Site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_works() {
    let site = Site::start().await;
    let user = "user/odd id+&?";
    site.account(user, "slack", json!({ "api_key": KEY })).await;
    let (id, secret) = site.client(&["*"], None).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let clients = root.join("tests/clients");
    // Node looks for packages beside the program.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(clients.join("node_modules"), folder.path().join("node_modules"))
        .unwrap();
    let mut ran = 0;
    for entry in std::fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("proxy") {
            // The tests of clients run it: it needs a proxy.
            continue;
        }
        let program = match path.extension().and_then(|kind| kind.to_str()) {
            Some("mjs") => "node".into(),
            Some("py") => clients.join(".venv/bin/python"),
            Some("sh") => "bash".into(),
            _ => continue,
        };
        let file = folder.path().join(path.file_name().unwrap());
        std::fs::copy(&path, &file).unwrap();
        let mut command = Command::new(program);
        command
            .arg(&file)
            .arg(user)
            .env("PIPEDREAM_BASE_URL", site.url(""))
            .env("PIPEDREAM_PROJECT_ID", site.project.id.as_str())
            .env("PIPEDREAM_PROJECT_ENVIRONMENT", "development")
            .env("PIPEDREAM_CLIENT_ID", &id)
            .env("PIPEDREAM_CLIENT_SECRET", &secret)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let name = path.file_name().unwrap().to_string_lossy();
        let expected = if name.starts_with("api") { "true" } else { "api_key" };
        assert_eq!(said.trim(), expected, "{name}: {complaint}");
        ran += 1;
    }
    assert_eq!(ran, 6);
    let sent = site.origin.seen();
    let messages = sent.iter().filter(|seen| seen.starts_with("POST slack.acme.test")).count();
    assert_eq!(messages, 3, "{sent:?}");
    site.close().await;
}
