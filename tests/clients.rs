//! Real clients, the real binary, real TLS: each program here runs with no credential, and the
//! origin serves only those who bring the right one.
//!
//! The programs come from the system and from `make deps`; one that is missing fails its test and
//! says so. What each client does behind a proxy is in the README's table.

#[path = "support/house.rs"]
mod house;
#[path = "support/origin.rs"]
mod origin;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Version};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use house::{API_KEY, FORGE_TOKEN, House, SLACK_TOKEN, node, python};
use origin::{API, FORGE, GRPC, OPEN, SLACK, Seen};

const URL: &str = "https://api.acme.test/v1/items?b=2&a=%2F";

/// The origin saw the real credential once, and nothing that was meant for the proxy alone.
fn assert_signed(seen: &[Seen], host: &str, credential: &str) {
    let to_host: Vec<_> = seen.iter().filter(|request| request.host == host).collect();
    assert!(!to_host.is_empty(), "nothing reached {host}; it saw {seen:?}");
    for request in to_host {
        assert_eq!(request.all("authorization"), [credential], "{}", request.path);
        for name in request.headers.keys().map(http::HeaderName::as_str) {
            assert!(!name.starts_with("proxy-") && !name.starts_with("countersign"), "{name}");
        }
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

// curl and wget

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_signed_over_http_1_and_http_2() {
    let house = House::start().await;
    for (version, expected) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut curl = house.client("curl").await;
        curl.args(["-sS", "--fail", version, "-w", "\n%{http_version}", "-d", "hello", URL]);
        let printed = house.ok(curl).await;
        assert!(printed.contains("/v1/items?b=2&a=%2F"), "{printed}");
        assert!(printed.ends_with(&format!("\n{expected}")), "{printed}");
    }
    let seen = house.origin.seen();
    assert_signed(&seen, API, &bearer(API_KEY));
    assert!(seen.iter().all(|request| request.method == Method::POST), "{seen:?}");
    assert!(seen.iter().all(|request| request.body == "hello"), "{seen:?}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_curl_brings_itself_is_replaced() {
    let house = House::start().await;
    let mut curl = house.client("curl").await;
    curl.args([
        "-sS",
        "--fail",
        "-H",
        "Authorization: Bearer dummy",
        "-H",
        "X-Api-Version: 2",
        URL,
    ]);
    house.ok(curl).await;
    let seen = house.origin.seen();
    assert_signed(&seen, API, &bearer(API_KEY));
    assert_eq!(seen[0].all("x-api-version"), ["2"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_http_request_reaches_the_origin_over_tls() {
    let house = House::start().await;
    let mut curl = house.client("curl").await;
    curl.args(["-sS", "--fail", "http://api.acme.test/plain"]);
    assert!(house.ok(curl).await.contains("/plain"));
    assert_signed(&house.origin.seen(), API, &bearer(API_KEY));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_the_first_event_before_the_second_is_sent() {
    let house = House::start().await;
    let mut curl = house.client("curl").await;
    curl.args(["-sSN", "--fail", "https://api.acme.test/sse"]).stdout(Stdio::piped());
    let mut child = curl.spawn().expect("curl starts: make deps");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut first = String::new();
    lines.read_line(&mut first).await.expect("curl prints");
    assert_eq!(first, "data: first\n", "server:\n{}", house.server_log());

    house.origin.release_event();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).await.expect("curl prints");
    assert_eq!(rest, "\ndata: second\n\n");
    assert!(child.wait().await.expect("curl ends").success());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wget_is_signed() {
    let house = House::start().await;
    let mut wget = house.client("wget").await;
    wget.args(["-q", "-O", "-", URL]);
    assert!(house.ok(wget).await.contains("/v1/items?b=2&a=%2F"));
    assert_signed(&house.origin.seen(), API, &bearer(API_KEY));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_caller_token_reaches_nothing() {
    let house = House::start().await;
    let mut curl = house.client("curl").await;
    let wrong = house.proxy_url().replace("flow-token", "evil-token");
    // Without --fail, which would hide the proxy's status behind "response code said error".
    curl.args(["-sS", "--proxy", &wrong, URL]);
    let output = house.finish(curl).await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("407"));
    assert!(house.origin.seen().is_empty());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_of_no_app_is_tunnelled_untouched() {
    let house = House::start().await;
    let mut curl = house.client("curl").await;
    // Only the origin's own root is trusted here: an intercepted connection would fail.
    curl.args(["-sS", "--fail", "--http1.1", "-H", "Authorization: mine", "https://open.test/"]);
    curl.arg("--cacert").arg(house.path("origin.pem"));
    assert!(house.ok(curl).await.contains("open"));
    let seen = house.origin.seen();
    assert_eq!(seen[0].host, OPEN);
    assert_eq!(seen[0].all("authorization"), ["mine"]);
    assert!(seen[0].headers.keys().all(|name| !name.as_str().starts_with("proxy-")));
    house.close().await;
}

// Python and Node

/// A client script, the client's name in it, and what must be set besides the usual.
struct Script {
    program: [PathBuf; 2],
    client: &'static str,
    env: &'static [(&'static str, &'static str)],
}

impl Script {
    fn dress(&self, mut command: Command) -> Command {
        command.arg(&self.program[1]).args([self.client, URL]).envs(self.env.iter().copied());
        command
    }
}

/// Runs one script against a server, and checks both what it printed and what the origin saw.
async fn check(script: Script) {
    let house = House::start().await;
    let command = script.dress(house.client(&script.program[0]).await);
    let printed = house.ok(command).await;
    assert!(printed.contains("/v1/items?b=2&a=%2F"), "{printed}");
    assert!(printed.contains(script.client.trim_end_matches("_h2")), "{printed}");
    assert_signed(&house.origin.seen(), API, &bearer(API_KEY));
    house.close().await;
}

/// Runs one script below `countersign run`: no token in its environment at all.
async fn check_run(script: Script) {
    let house = House::unserved().await;
    let command = script.dress(house.run(&script.program[0]));
    let printed = house.ok(command).await;
    assert!(printed.contains("/v1/items?b=2&a=%2F"), "{printed}");
    assert_signed(&house.origin.seen(), API, &bearer(API_KEY));
    house.close().await;
}

macro_rules! scripts {
    ($($name:ident: $check:ident, $program:expr, $client:literal, $env:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $check(Script { program: $program, client: $client, env: &$env }).await;
        }
    )*};
}

const ENV_PROXY: [(&str, &str); 1] = [("NODE_USE_ENV_PROXY", "1")];

scripts! {
    python_requests_is_signed: check, python("python_clients.py"), "requests", [];
    python_httpx_is_signed: check, python("python_clients.py"), "httpx", [];
    python_httpx_is_signed_over_http_2: check, python("python_clients.py"), "httpx_h2", [];
    python_aiohttp_is_signed: check, python("python_clients.py"), "aiohttp", [];
    python_urllib_is_signed: check, python("python_clients.py"), "urllib", [];
    node_undici_is_signed: check, node("node_clients.mjs"), "undici", [];
    node_axios_is_signed: check, node("node_clients.mjs"), "axios", [];
    node_fetch_is_signed: check, node("node_clients.mjs"), "fetch", ENV_PROXY;
    node_https_is_signed: check, node("node_clients.mjs"), "https", ENV_PROXY;
    run_signs_python_requests: check_run, python("python_clients.py"), "requests", [];
    run_signs_python_urllib: check_run, python("python_clients.py"), "urllib", [];
    run_signs_node_fetch: check_run, node("node_clients.mjs"), "fetch", [];
    run_signs_node_axios: check_run, node("node_clients.mjs"), "axios", [];
}

// Slack: the first use of this product

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_slack_sdk_sends_a_message_without_a_token() {
    let house = House::start().await;
    let [python, script] = python("slack_message.py");
    let mut command = house.client(python).await;
    command.arg(script);
    assert_eq!(house.ok(command).await, "True 1763720000.000100\n");
    assert_signed(&house.origin.seen(), SLACK, &bearer(SLACK_TOKEN));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_slack_sdk_sends_a_message_without_a_token() {
    let house = House::start().await;
    let [node, script] = node("slack_message.mjs");
    let mut command = house.client(node).await;
    command.arg(script).envs(ENV_PROXY);
    assert_eq!(house.ok(command).await, "true 1763720000.000100\n");
    assert_signed(&house.origin.seen(), SLACK, &bearer(SLACK_TOKEN));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_alone_sends_a_message_without_a_token() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/proxy_message.sh");
    let (served, unserved) = (House::start().await, House::unserved().await);
    let commands = [served.client("bash").await, unserved.run("bash")];
    for (house, mut command) in [served, unserved].into_iter().zip(commands) {
        command.arg(example);
        assert_eq!(house.ok(command).await, "true\n");
        assert_signed(&house.origin.seen(), SLACK, &bearer(SLACK_TOKEN));
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_lets_both_slack_sdks_send_a_message() {
    let house = House::unserved().await;
    for [program, script] in [python("slack_message.py"), node("slack_message.mjs")] {
        let mut command = house.run(program);
        command.arg(script);
        assert!(house.ok(command).await.contains("1763720000.000100"));
    }
    assert_signed(&house.origin.seen(), SLACK, &bearer(SLACK_TOKEN));
    house.close().await;
}

// `run` itself

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_signs_curl_wget_and_git() {
    let house = House::unserved().await;
    bare_repository(&house).await;
    let commands: [&[&str]; 3] = [
        &["curl", "-sS", "--fail", URL],
        &["wget", "-q", "-O", "-", URL],
        &["git", "ls-remote", "https://git.acme.test/project.git"],
    ];
    for words in commands {
        let mut command = house.run(words[0]);
        command.args(&words[1..]);
        house.ok(command).await;
    }
    let seen = house.origin.seen();
    assert_signed(&seen, API, &bearer(API_KEY));
    assert_signed(&seen, FORGE, &forge_credential());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_gives_its_child_neither_token_nor_secret() {
    let house = House::unserved().await;
    // `env` prints the child's environment; closing the house finds a secret in it, also one that
    // the config refers to and that `run` itself was started with.
    let printed = house.ok(house.run("env")).await;
    let proxy = printed.lines().find_map(|line| line.strip_prefix("HTTPS_PROXY="));
    let proxy = proxy.expect("run sets HTTPS_PROXY");
    assert!(proxy.starts_with("http://127.0.0.1:") && !proxy.contains('@'), "{proxy}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_ends_with_the_exit_code_of_its_child() {
    let house = House::unserved().await;
    let mut command = house.run("sh");
    command.args(["-c", "exit 7"]);
    assert_eq!(house.finish(command).await.status.code(), Some(7));
    house.close().await;
}

// git

fn forge_credential() -> String {
    format!("Basic {}", STANDARD.encode(format!("x-access-token:{FORGE_TOKEN}")))
}

/// An empty repository at the origin that may be pushed to.
async fn bare_repository(house: &House) {
    let path = house.path("repositories/project.git");
    let setup: [&[&str]; 2] =
        [&["init", "-q", "--bare", "-b", "main"], &["config", "http.receivepack", "true"]];
    for words in setup {
        std::fs::create_dir_all(&path).expect("the folder is writable");
        let mut git = Command::new("git");
        git.current_dir(&path).args(words).env("HOME", house.path("home"));
        house.ok(git).await;
    }
}

async fn git(house: &House, folder: &Path, words: &[&str]) -> String {
    let mut git = house.client("git").await;
    git.current_dir(folder).args(words).env("GIT_TERMINAL_PROMPT", "0");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "Test");
        git.env(format!("GIT_{role}_EMAIL"), "test@acme.test");
    }
    house.ok(git).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_clones_and_pushes_without_a_password() {
    let house = House::start().await;
    bare_repository(&house).await;
    let remote = "https://git.acme.test/project.git";
    let home = house.path("home");
    git(&house, &home, &["clone", "-q", remote, "first"]).await;

    let first = home.join("first");
    // Over a megabyte and incompressible: git then sends the pack chunked.
    let mut noise = vec![0_u8; 3 << 20];
    let mut state = 1_u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    std::fs::write(first.join("noise"), &noise).expect("the clone is writable");
    git(&house, &first, &["add", "noise"]).await;
    git(&house, &first, &["commit", "-q", "-m", "Add noise"]).await;
    git(&house, &first, &["push", "-q", "origin", "HEAD:main"]).await;

    git(&house, &home, &["clone", "-q", "-b", "main", remote, "second"]).await;
    assert!(std::fs::read(home.join("second/noise")).expect("it was cloned") == noise);
    assert_signed(&house.origin.seen(), FORGE, &forge_credential());
    house.close().await;
}

// gRPC

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_grpc_client_gets_its_answers_and_trailers() {
    let house = House::start().await;
    let [python, script] = python("grpc_client.py");
    let mut command = house.client(python).await;
    command.arg(script).arg(format!("{GRPC}:443"));
    assert_eq!(house.ok(command).await, "hello OK kept\nagain again again\n");
    let seen = house.origin.seen();
    assert_signed(&seen, GRPC, &bearer(API_KEY));
    assert!(seen.iter().all(|request| request.version == Version::HTTP_2));
    assert!(seen.iter().all(|request| request.all("te") == ["trailers"]), "{seen:?}");
    house.close().await;
}
