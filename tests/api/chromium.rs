//! The connect page and the browser SDK in Chromium. `make deps` installs what is missing; with
//! `SHOTS=folder` the pages are pictured there.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::page::add_client;
use crate::site::{KEY, Site};

async fn run(site: &Site, script: &str, first: String) {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut node = Command::new("node");
    node.current_dir(&clients)
        .args([script, &first, site.project.id.as_str(), &site.token, KEY])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(240), node.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("all is well"), "{said}\n{complaint}\n{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_of_the_page_is_clear_and_accessible() {
    let site = Site::start().await;
    add_client(&site).await;
    run(&site, "connect_page.mjs", site.url("")).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browser_sdk_connects_accounts_from_a_page_of_another_origin() {
    let site = Site::start_with("tls = { local_ca = true }").await;
    add_client(&site).await;
    let host = format!("localhost:{}", site.address().port());
    run(&site, "connect_frame.mjs", host).await;
    site.close().await;
}
