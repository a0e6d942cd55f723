//! A person at a terminal and a browser: the demo's provider, `countersign connect`, and programs
//! that go on working when the token has expired. The real binary and Chromium; `make deps` installs
//! what is missing.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// The demo, staying up.
struct Demo {
    _child: Child,
    config: String,
    ca: PathBuf,
    proxy: String,
    home: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Self {
        let mut child = Command::new(BINARY)
            .arg("demo")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let proxy = after(&mut lines, "export HTTPS_PROXY=").await;
        let config = after(&mut lines, "export COUNTERSIGN_CONFIG=").await;
        let ca = Path::new(&config).with_file_name("data").join("ca.pem");
        // Whoever writes to a pipe that nobody reads is stopped.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let home = tempfile::tempdir().expect("a folder");
        Self { _child: child, config, ca, proxy, home }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .env("COUNTERSIGN_CONFIG", &self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().await.expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}: {}", shown(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments).await).expect("JSON")
    }

    /// Connects with the browser, and says how both ended.
    async fn connect(&self, arguments: &[&str], port: &str, decision: &str) -> (Output, Value) {
        let arguments = [arguments, &["--no-browser", "--port", port]].concat();
        let mut child = self.command(&arguments).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said = String::new();
        let url = loop {
            let Ok(Some(line)) = lines.next_line().await else { break None };
            if line.trim_start().starts_with("http") {
                break Some(line.trim().to_owned());
            }
        };
        let browser = match url {
            Some(url) => self.browse(&url, decision).await,
            None => Value::Null,
        };
        while let Ok(Some(line)) = lines.next_line().await {
            said.push_str(&line);
            said.push('\n');
        }
        let mut output = child.wait_with_output().await.expect("it ends");
        output.stdout = said.into_bytes();
        (output, browser)
    }

    async fn browse(&self, url: &str, decision: &str) -> Value {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let output = Command::new("node")
            .current_dir(&clients)
            .arg("consent.mjs")
            .arg(url)
            .arg(self.home.path())
            .arg(decision)
            .output()
            .await
            .expect("node is installed");
        assert!(output.status.success(), "{}", shown(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    async fn curl(&self, proxy: &str) -> String {
        let output = Command::new("curl")
            .args(["-sS", "--fail", "-x", proxy, "--cacert"])
            .arg(&self.ca)
            .arg("https://api.acme.test/v1/orders")
            .output()
            .await
            .expect("curl is installed");
        assert!(output.status.success(), "{}", shown(&output));
        String::from_utf8(output.stdout).expect("text")
    }
}

async fn after(lines: &mut Lines<BufReader<ChildStdout>>, marker: &str) -> String {
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((_, rest)) = line.split_once(marker) {
                return rest.trim().to_owned();
            }
        }
        panic!("the demo ended before it said {marker}");
    });
    found.await.expect("the demo shows it in time")
}

fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{} {}{}", output.status, text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_was_connected_in_the_browser_outlives_its_token() {
    let demo = Demo::start().await;
    let connect = ["connect", "acme", "--auth", "oauth", "--nickname", "mine"];
    let (output, browser) = demo.connect(&connect, "18976", "allow").await;
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(browser["heading"], "Connected", "{browser}");
    assert_eq!(browser["address"], "http://127.0.0.1:18976/", "the code is still in view");
    assert_eq!(browser["problems"], serde_json::json!([]));

    let added = demo.json(&["callers", "add", "flow", "--account", "mine", "--json"]).await;
    let token = added["token"].as_str().expect("a token");
    let address = demo.proxy.rsplit('@').next().expect("an address");
    let proxy = format!("http://flow:{token}@{address}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = demo.curl(&proxy).await;
    assert!(first.contains("access token no."), "{first}");
    // The demo's tokens live five seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let later = demo.curl(&proxy).await;
    assert!(later.contains("access token no.") && later != first, "{later}");
    let mine = demo.json(&["accounts", "show", "mine", "--json"]).await;
    assert_eq!((&mine["healthy"], &mine["callers"]), (&true.into(), &serde_json::json!(["flow"])));
    assert_eq!(
        demo.run(&["accounts", "check", "mine", "--json"]).await.matches("works").count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_denies_in_the_browser_is_told_in_both_places_and_nothing_is_stored() {
    let demo = Demo::start().await;
    let connect = ["connect", "acme", "--auth", "oauth", "--nickname", "denied"];
    let (output, browser) = demo.connect(&connect, "18977", "deny").await;
    assert!(!output.status.success(), "{}", shown(&output));
    assert!(shown(&output).contains("access_denied"), "{}", shown(&output));
    assert_eq!(browser["heading"], "Not connected", "{browser}");
    let all = demo.json(&["accounts", "list", "--json"]).await;
    assert!(!all.to_string().contains("\"denied\""), "{all}");
}
