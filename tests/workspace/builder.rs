//! The request builder and the catalog in Chromium; `make deps` installs what is missing.

use std::path::Path;
use std::process::Stdio;

use countersign::vault::Role;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::basic;
use crate::house::House;
use crate::visitor::{PASSWORD, member};

async fn browse(house: &House, folder: &Path) -> Value {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let output = Command::new("node")
        .current_dir(&clients)
        .arg("builder.mjs")
        .arg(format!("http://127.0.0.1:{}", house.site.ports.web))
        .args(["ann@acme.test", PASSWORD])
        .arg(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("node is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_sent_kept_opened_again_and_copied_as_a_command_that_works() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (_, me) = member(&house, "ann@acme.test", Role::Owner).await;
    let account = house.connect("team").await;
    house.shop.vault().give_account(&account.id, Some(&me.id)).await.unwrap();
    let credentials = house.caller("flow", &[&account]).await;

    let folder = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("SCREENSHOTS").map(std::path::PathBuf::from);
    let seen = browse(&house, kept.as_deref().unwrap_or(folder.path())).await;
    assert_eq!(seen["start"], "/test", "{seen}");
    assert!(seen["first"].as_str().unwrap().contains("it works"), "{seen}");
    assert!(seen["folds"].as_u64().unwrap() >= 3 && seen["closed"] == 1, "{seen}");
    assert_eq!(seen["reopened"], "/json", "{seen}");
    assert!(seen["found"].as_str().unwrap().contains("Slack"), "{seen}");
    assert_eq!((&seen["problems"], &seen["faults"]), (&json!([]), &json!([])), "{seen}");

    // The very command, where proxy and CA come from the environment.
    let token = "flow-token-0123456789abcdefghijklmnop";
    assert_eq!(credentials, basic("flow", token));
    let proxy = format!("http://flow:{token}@127.0.0.1:{}", house.site.ports.proxy);
    let curl = seen["curl"].as_str().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{} -sS --fail", curl.trim_end()))
        .env("HTTPS_PROXY", proxy)
        .env("CURL_CA_BUNDLE", house.site.path("data/ca.pem"))
        .output()
        .await
        .expect("curl is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("12345678901234567890"), "{curl}{error}");
    let head = house.api.uses().last().unwrap().head.clone();
    assert!(head.starts_with("GET /json?page=it%27s%202 "), "{head}");
    assert!(!head.to_lowercase().contains("countersign"), "{head}");
    house.close().await;
}
