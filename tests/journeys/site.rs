//! The real binary with a configuration of the test's making, and what can be done to it: reload,
//! signals, a look at its memory, metrics and audit.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::pki::Ca;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// The host of the app that most tests use, its account's key, and the caller that may use it.
pub const API: &str = "api.acme.test";
pub const KEY: &str = "acme-real/9f8e7d+6c5b4a==";
pub const CALLER: &str = "flow";
pub const TOKEN: &str = "flow-token-0123456789abcdefghijklmnopqrstuv";
/// A second caller, for what must be told apart.
pub const OTHER_TOKEN: &str = "other-token-0123456789abcdefghijklmnopqrstuv";

/// What a site is made of, before it runs.
#[derive(Default)]
pub struct Setup {
    /// Keys of `[proxy]` and `[upstream]`, lines of `[upstream.resolve]`, further tables.
    pub proxy: String,
    pub upstream: String,
    pub resolve: String,
    pub rest: String,
    pub apps: Vec<(String, String)>,
    pub files: Vec<(String, String)>,
    pub secrets: Vec<String>,
    /// `RLIMIT_NOFILE` of the server.
    pub descriptors: Option<u32>,
}

#[derive(Clone, Copy)]
pub struct Ports {
    pub proxy: u16,
    pub tls: u16,
    pub web: u16,
    pub admin: u16,
}

pub struct Site {
    pub ports: Ports,
    pub setup: Setup,
    folder: TempDir,
    server: Option<Child>,
}

impl Setup {
    /// The app `acme` on [`API`], its account, and the caller `flow` who may do all with it.
    pub fn acme(ca: &Ca, origin: SocketAddr) -> Self {
        Self::bare(ca)
            .app("acme", &[API], BEARER)
            .resolve(&format!("{API}:443"), origin)
            .account("acme", "acme")
            .rest(&caller(CALLER, TOKEN, "accounts = [\"acme\"]\nrules = [{ effect = \"allow\" }]"))
    }

    pub fn bare(ca: &Ca) -> Self {
        Self::default().file("origin.pem", &ca.pem).file("key", KEY).secret(KEY).secret(TOKEN)
    }

    pub fn proxy(mut self, lines: &str) -> Self {
        writeln!(self.proxy, "{lines}").unwrap();
        self
    }

    pub fn upstream(mut self, lines: &str) -> Self {
        writeln!(self.upstream, "{lines}").unwrap();
        self
    }

    pub fn resolve(mut self, from: &str, to: SocketAddr) -> Self {
        writeln!(self.resolve, "\"{from}\" = \"{to}\"").unwrap();
        self
    }

    pub fn rest(mut self, lines: &str) -> Self {
        writeln!(self.rest, "{lines}").unwrap();
        self
    }

    /// An account whose key is in the file `key`.
    pub fn account(self, name: &str, app: &str) -> Self {
        self.rest(&format!(
            "[accounts.{name}]\napp = \"{app}\"\nsecrets = {{ api_key = {{ file = \"key\" }} }}"
        ))
    }

    pub fn app(mut self, id: &str, hosts: &[&str], attach: &str) -> Self {
        self.apps.push((format!("{id}.toml"), app(id, hosts, attach)));
        self
    }

    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    pub fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    pub async fn start(self) -> Site {
        let mut site = self.lay();
        site.serve().await;
        site
    }

    /// All files, and no server yet.
    pub fn lay(self) -> Site {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("apps")).unwrap();
        let ports =
            Ports { proxy: free_port(), tls: free_port(), web: free_port(), admin: free_port() };
        let site = Site { ports, setup: self, folder, server: None };
        for (name, text) in &site.setup.apps {
            site.write(&format!("apps/{name}"), text);
        }
        for (name, text) in &site.setup.files {
            site.write(name, text);
        }
        site.write("countersign.toml", &site.config());
        site
    }
}

impl Site {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn proxy(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.proxy))
    }

    pub fn config(&self) -> String {
        let Setup { proxy, upstream, resolve, rest, .. } = &self.setup;
        let Ports { proxy: port, web, admin, .. } = self.ports;
        let folder = self.folder.path().display();
        let proxy = proxy.replace("{tls}", &self.ports.tls.to_string());
        format!(
            "data_dir = \"{folder}/data\"\napps_dir = \"{folder}/apps\"\n\
             [web]\nlisten = \"127.0.0.1:{web}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [proxy]\nlisten = [\"127.0.0.1:{port}\"]\n{proxy}\n\
             [upstream]\nroots = [\"origin.pem\"]\n{upstream}\n\
             [upstream.resolve]\n{resolve}\n{rest}\n"
        )
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().env("HOME", self.folder.path()).kill_on_drop(true);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Output {
        let run = self.command(arguments).output();
        timeout(Duration::from_secs(20), run).await.expect("it ends").unwrap()
    }

    fn serve_command(&self) -> Command {
        let config = self.path("countersign.toml");
        let serve = ["serve", "--config", config.to_str().unwrap()];
        let Some(limit) = self.setup.descriptors else { return self.command(&serve) };
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(BINARY).args(serve);
        command.env_clear().env("HOME", self.folder.path()).kill_on_drop(true);
        command
    }

    /// Starts the server and waits until it is ready.
    pub async fn serve(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log"));
        let log = log.unwrap();
        let mut command = self.serve_command();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
        let ready = async {
            while !self.admin("/readyz").await.is_some_and(|answer| answer.contains(" 200 ")) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let ready = timeout(Duration::from_secs(30), ready).await;
        assert!(ready.is_ok(), "not ready:\n{}", self.log());
    }

    /// An answer of the admin listener, head and all; `None` if there is none.
    pub async fn admin(&self, path: &str) -> Option<String> {
        self.ask(self.ports.admin, path).await
    }

    pub async fn web(&self, path: &str) -> Option<String> {
        self.ask(self.ports.web, path).await
    }

    async fn ask(&self, port: u16, path: &str) -> Option<String> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok()?;
            Some(String::from_utf8_lossy(&answer).into_owned())
        };
        timeout(Duration::from_secs(5), ask).await.ok()?
    }

    pub async fn ca_pem(&self) -> String {
        let answer = self.web("/ca.pem").await.unwrap();
        answer[answer.find("-----BEGIN").unwrap()..].to_owned()
    }

    /// The sum of a metric's series whose labels contain all of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").await.unwrap();
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.server.as_ref().and_then(Child::id).expect("it runs")
    }

    pub async fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        Command::new("kill").args([signal, &pid]).status().await.unwrap();
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Replaces the configuration and waits until the server has said `what` about it.
    pub async fn reload(&self, config: &str, what: &str) {
        let before = self.log().matches(what).count();
        self.replace(config);
        // A server that is ready may not watch its files yet: what changes meanwhile it sees later.
        let said = || self.log().matches(what).count() > before;
        for _ in 0..100 {
            if said() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.replace(config);
        self.until(what, said).await;
    }

    /// As editors and Kubernetes do: a new file in the old one's place.
    fn replace(&self, config: &str) {
        self.write("countersign.toml.new", config);
        std::fs::rename(self.path("countersign.toml.new"), self.path("countersign.toml")).unwrap();
    }

    /// Waits until `holds`, at most ten seconds.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for the server's own end and says how.
    pub async fn ended(&mut self, within: Duration) -> Option<std::process::ExitStatus> {
        let mut server = self.server.take()?;
        match timeout(within, server.wait()).await {
            Ok(status) => Some(status.unwrap()),
            Err(_) => {
                self.server = Some(server);
                None
            }
        }
    }

    pub async fn verify_audit(&self) {
        let file = self.path("data/audit.jsonl");
        let output = self.run(&["audit", "verify", file.to_str().unwrap()]).await;
        assert!(output.status.success(), "{output:?}");
    }

    /// Stops the server, verifies its audit, and finds no secret in anything that was written.
    pub async fn close(mut self) {
        let mut heard = self.admin("/metrics").await.unwrap_or_default().into_bytes();
        if self.server.is_some() {
            self.signal("-TERM").await;
            let status = self.ended(Duration::from_secs(30)).await;
            assert!(status.is_some_and(|s| s.success()), "{status:?}:\n{}", self.log());
        }
        self.verify_audit().await;
        heard.extend(self.log().into_bytes());
        for file in files_below(&self.path("data")) {
            heard.extend(std::fs::read(file).unwrap());
        }
        assert!(!self.log().contains("panicked"), "{}", self.log());
        for secret in &self.setup.secrets {
            for form in forms(secret) {
                let found = memchr::memmem::find(&heard, form.as_bytes());
                assert!(found.is_none(), "a secret got out, as {form}");
            }
        }
    }
}

pub const BEARER: &str = r#"attach = [ { header = "Authorization", value = "Bearer {api_key}" } ]"#;
pub const RELOADED: &str = "configuration reloaded";
pub const REFUSED: &str = "is refused and the old one stays";

/// A `[callers.…]` table.
pub fn caller(name: &str, token: &str, lines: &str) -> String {
    format!("[callers.{name}]\ntoken = {{ value = \"{token}\" }}\n{lines}\n")
}

fn app(id: &str, hosts: &[&str], attach: &str) -> String {
    format!(
        "id = \"{id}\"\nname = \"{id}\"\ndescription = \"A test's app\"\n\
         categories = [\"testing\"]\ndocs_url = \"https://{host}/docs\"\n\
         confidence = \"verified\"\n[auth.key]\nkind = \"api_key\"\nhosts = {hosts:?}\n\
         base_url = \"https://{host}\"\n{attach}\n[[auth.key.fields]]\nname = \"api_key\"\n\
         label = \"API key\"\nsecret = true\n",
        host = hosts[0].trim_start_matches("http://"),
    )
}

/// A secret as a log might show it: as it is, and inside base64 at any offset.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.replace('/', "%2F").replace('=', "%3D")];
    for shift in 0..3 {
        let shifted = [vec![0; shift], secret.as_bytes().to_vec()].concat();
        let (first, last) = ([0, 2, 3][shift], shifted.len() * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&shifted)[first..last].to_owned());
        }
    }
    forms
}

/// Below the range that the kernel hands out, so that nothing takes it before the server does.
pub fn free_port() -> u16 {
    let random = RandomState::new();
    (0_u32..)
        .map(|attempt| 10_000 + (random.hash_one(attempt) % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
