//! The pages in a real browser: Chromium, with scripts, styles and the strict content security
//! policy; axe-core for accessibility. `make deps` installs what is missing. With
//! `COUNTERSIGN_SCREENSHOTS` its pictures are kept in that folder.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use crate::house::House;
use crate::visitor::first_link;

const EVIL: &str = r#"id = "evil"
name = "<b>Evil</b>"
description = "<script>alert(1)</script>"
[auth.key]
kind = "api_key"
hosts = ["evil.acme.test"]
base_url = "https://evil.acme.test"
attach = [{ header = "Authorization", value = "Bearer {api_key}" }]
[[auth.key.fields]]
name = "api_key"
label = "<i>Key</i>"
secret = true
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_finds_their_way_through_every_page() {
    let mut house = House::sqlite().await;
    house.site.write("apps/evil.toml", EVIL);
    house.start().await;
    let link = first_link(&house).await;
    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("COUNTERSIGN_SCREENSHOTS").map(PathBuf::from);
    let folder = kept.unwrap_or_else(|| scratch.path().to_owned());
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let output = Command::new("node")
        .current_dir(&clients)
        .arg("workspace.mjs")
        .arg(&link)
        .arg(&folder)
        .output()
        .await
        .expect("node is installed: make deps");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", house.site.log());
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let failed: Vec<&Value> =
        seen["steps"].as_array().unwrap().iter().filter(|step| step[1] != true).collect();
    assert!(failed.is_empty(), "{failed:?}");
    for kind in ["problems", "faults"] {
        assert_eq!(seen[kind], serde_json::json!([]), "{kind}");
    }
    house.close().await;
}
