//! The real binary between raw sockets: whoever tests it writes the client's bytes and reads the
//! origin's. [`Siege::lift`] ends every test: it stops the binary and searches all that was said,
//! logged or recorded for every secret that was used.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::house::{files_below, forms, free_port};
use crate::recorder::{Recorder, contains};

/// The app that the caller has an account of, over TLS.
pub const A: &str = "api.acme.test";
/// An app of which the caller has none.
pub const B: &str = "api.beta.test";
/// A host of no app.
pub const O: &str = "other.test";
/// An app that opted into clear text.
pub const PLAIN: &str = "plain.acme.test";

pub const CALLER: &str = "flow";
pub const CALLER_TOKEN: &str = "flow-token/0123456789+abcdefghij:k%lm@ü";
pub const OTHER_TOKEN: &str = "other-token-9876543210zyxwvutsrqponmlk";
pub const API_KEY: &str = "acme-real/9f8e7d+6c5b4a==";
pub const PLAIN_KEY: &str = "plain-real/1a2b3c+4d5e6f==";
pub const QUERY_KEY: &str = "query-real-2b3c4d5e6f7a";
pub const PATH_KEY: &str = "424242:path-real-3c4d5e6f7a8b";
pub const COOKIE_KEY: &str = "cookie-real-4d5e6f7a8b9c";
pub const PAIR_KEY: &str = "pair-real-key-5e6f7a8b9c0d";
pub const PAIR_SECRET: &str = "pair-real-secret-6f7a8b9c0d1e";
pub const TENANT_KEY: &str = "tenant-real-7a8b9c0d1e2f";
pub const BETA_KEY: &str = "beta-real-8b9c0d1e2f3a";
/// Of the account whose key file a test spoils while the proxy runs.
pub const BROKEN_KEY: &str = "broken-real-9c0d1e2f3a4b";

const SECRETS: [&str; 12] = [
    CALLER_TOKEN,
    OTHER_TOKEN,
    API_KEY,
    PLAIN_KEY,
    QUERY_KEY,
    PATH_KEY,
    COOKIE_KEY,
    PAIR_KEY,
    PAIR_SECRET,
    TENANT_KEY,
    BETA_KEY,
    BROKEN_KEY,
];

/// Each with its attachments; the key is `{api_key}`, a second secret `{api_secret}`.
const APPS: [(&str, &str, &str, &str); 11] = [
    ("acme", "api.acme.test", BEARER, API_KEY),
    ("beta", "api.beta.test", BEARER, BETA_KEY),
    ("plain", "http://plain.acme.test", BEARER, PLAIN_KEY),
    ("query", "query.acme.test", r#"{ query = "api_key", value = "{api_key}" }"#, QUERY_KEY),
    ("path", "path.acme.test", r#"{ path = "/bot{api_key}" }"#, PATH_KEY),
    ("cookie", "cookie.acme.test", r#"{ cookie = "sid", value = "{api_key}" }"#, COOKIE_KEY),
    (
        "pair",
        "pair.acme.test",
        r#"{ header = "X-Api-Key", value = "{api_key}" }, { header = "X-Api-Secret", value = "{api_secret}" }"#,
        PAIR_KEY,
    ),
    ("desk", "{tenant}.desk.test", BEARER, TENANT_KEY),
    ("broken", "broken.acme.test", BEARER, BROKEN_KEY),
    ("down", "down.acme.test", BEARER, API_KEY),
    ("impostor", "impostor.acme.test", BEARER, API_KEY),
];

const BEARER: &str = r#"{ header = "Authorization", value = "Bearer {api_key}" }"#;

/// Names that the origin's certificate is good for.
const NAMES: [&str; 9] = [
    A,
    O,
    "query.acme.test",
    "path.acme.test",
    "cookie.acme.test",
    "pair.acme.test",
    "acme.desk.test",
    "evil.desk.test",
    "broken.acme.test",
];

/// No answer of ours takes longer on loopback.
const PATIENCE: Duration = Duration::from_secs(5);
/// After an answer, how long silence counts as its end.
const SILENCE: Duration = Duration::from_millis(120);

pub struct Siege {
    /// Every host's port 443 but `B`'s.
    pub tls: Recorder,
    /// Port 80 of the hosts that may be spoken to in clear text: `PLAIN` and `O`.
    pub clear: Recorder,
    /// `B`, on every port.
    pub beta: Recorder,
    /// What must never be dialled: clear text and other ports of hosts that want TLS.
    pub trap: Recorder,
    pub proxy_port: u16,
    pub tls_proxy_port: u16,
    admin_port: u16,
    folder: TempDir,
    server: Option<Child>,
    pub roots: Arc<rustls::RootCertStore>,
    /// Signs client certificates for the TLS listener.
    pub client_ca: Ca,
    heard: Mutex<Vec<u8>>,
}

/// What a client got.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    pub bytes: Vec<u8>,
    /// The proxy ended the connection.
    pub closed: bool,
}

pub struct Ca {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

pub type Tunnel = TlsStream<TcpStream>;

impl Siege {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// With `more` at the end of the config.
    pub async fn start_with(more: &str) -> Self {
        let ca = Ca::new("Test origin CA");
        let acceptor = |names: &[&str]| {
            let (chain, key) = ca.leaf(names, ExtendedKeyUsagePurpose::ServerAuth, false);
            TlsAcceptor::from(Arc::new(server_config(chain, key)))
        };
        let mut siege = Self {
            tls: Recorder::start(Some(acceptor(&NAMES))).await,
            clear: Recorder::start(None).await,
            beta: Recorder::start(Some(acceptor(&[B]))).await,
            trap: Recorder::start(None).await,
            proxy_port: free_port(),
            tls_proxy_port: free_port(),
            admin_port: free_port(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            server: None,
            roots: Arc::new(rustls::RootCertStore::empty()),
            client_ca: Ca::new("Test client CA"),
            heard: Mutex::default(),
        };
        siege.write_files(&ca, more);
        siege.serve().await;
        siege.roots = Arc::new(siege.learn_ca(&ca).await);
        siege
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_files(&self, ca: &Ca, more: &str) {
        for name in ["apps", "secrets", "data"] {
            std::fs::create_dir(self.path(name)).expect("a fresh folder");
        }
        let write = |name: &str, text: &str| {
            std::fs::write(self.path(name), text).expect("the folder is writable");
        };
        for (id, host, attach, key) in APPS {
            write(&format!("apps/{id}.toml"), &app(id, host, attach));
            write(&format!("secrets/{id}"), key);
        }
        write("secrets/pair-secret", PAIR_SECRET);
        write("secrets/token", CALLER_TOKEN);
        write("secrets/other-token", OTHER_TOKEN);
        write("origin.pem", &ca.pem);
        write("clients.pem", &self.client_ca.pem);
        let key = KeyPair::generate().expect("a key");
        let listener = ca.signed(&key, &["localhost"], ExtendedKeyUsagePurpose::ServerAuth, false);
        write("listener.pem", &listener.pem());
        write("listener.key", &key.serialize_pem());
        write("countersign.toml", &(self.config() + more));
    }

    fn config(&self) -> String {
        let folder = self.folder.path().display();
        let (proxy, tls, admin) = (self.proxy_port, self.tls_proxy_port, self.admin_port);
        let mut text = format!(
            r#"
data_dir = "{folder}/data"
apps_dir = "{folder}/apps"

[proxy]
listen = ["127.0.0.1:{proxy}"]
tls_listen = ["127.0.0.1:{tls}"]
unmatched = "tunnel"

[proxy.tls]
certificate = "{folder}/listener.pem"
key = "{folder}/listener.key"
client_ca = "{folder}/clients.pem"

[web]
listen = "off"

[admin]
listen = "127.0.0.1:{admin}"

[upstream]
roots = ["{folder}/origin.pem"]
http2 = false

[upstream.resolve]
"#
        );
        for name in NAMES {
            let _ = writeln!(text, "\"{name}:443\" = \"{}\"", self.tls.address);
            if name != O {
                let _ = writeln!(text, "\"{name}:80\" = \"{}\"", self.trap.address);
                let _ = writeln!(text, "\"{name}:8443\" = \"{}\"", self.trap.address);
            }
        }
        for name in [PLAIN, O] {
            let _ = writeln!(text, "\"{name}:80\" = \"{}\"", self.clear.address);
        }
        let _ = writeln!(text, "\"{B}\" = \"{}\"", self.beta.address);
        // Its certificate is `B`'s.
        let _ = writeln!(text, "\"impostor.acme.test:443\" = \"{}\"", self.beta.address);
        let _ = writeln!(text, "\"down.acme.test:443\" = \"127.0.0.1:1\"");
        for (id, _, _, _) in APPS {
            let ttl = if id == "broken" { ", ttl = \"1s\"" } else { "" };
            let second = match id {
                "pair" => format!(", api_secret = {{ file = \"{folder}/secrets/pair-secret\" }}"),
                _ => String::new(),
            };
            let fields = if id == "desk" { "fields = { tenant = \"acme\" }\n" } else { "" };
            let _ = writeln!(
                text,
                "[accounts.{id}]\napp = \"{id}\"\n{fields}secrets = {{ api_key = {{ file = \
                 \"{folder}/secrets/{id}\"{ttl} }}{second} }}\n"
            );
        }
        let bound: Vec<&str> =
            APPS.map(|app| app.0).into_iter().filter(|id| *id != "beta").collect();
        let _ = writeln!(
            text,
            "[callers.{CALLER}]\ntoken = {{ file = \"{folder}/secrets/token\" }}\n\
             certificate = \"flow.callers.test\"\naccounts = {bound:?}\n\
             rules = [{{ effect = \"allow\" }}]\n\n\
             [callers.other]\ntoken = {{ file = \"{folder}/secrets/other-token\" }}\n\
             accounts = [\"beta\"]\nrules = [{{ effect = \"allow\" }}]\n"
        );
        text
    }

    async fn serve(&mut self) {
        let log = std::fs::File::create(self.path("server.log")).expect("the folder is writable");
        let server = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["serve", "--config"])
            .arg(self.path("countersign.toml"))
            .env_clear()
            .env("HOME", self.folder.path())
            .stdout(log.try_clone().expect("a file handle"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.server = Some(server.expect("the binary starts"));
        let ready = timeout(Duration::from_secs(20), async {
            while !self.admin("/readyz").await.is_some_and(|answer| answer.contains(" 200 ")) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(ready.await.is_ok(), "serve did not get ready:\n{}", self.server_log());
    }

    pub async fn admin(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Our CA as any client gets it, and the origin's, for tunnels that nobody opens.
    async fn learn_ca(&self, origin: &Ca) -> rustls::RootCertStore {
        let heard = self
            .say(&format!(
                "GET http://countersign.internal/ca.pem HTTP/1.1\r\nHost: countersign.internal\r\n\
                 {}\r\n",
                self.proof()
            ))
            .await;
        let mut roots = rustls::RootCertStore::empty();
        for pem in [&heard.bytes[..], origin.pem.as_bytes()] {
            let certificate = CertificateDer::from_pem_slice(pem).expect("a certificate as PEM");
            roots.add(certificate).expect("a CA");
        }
        roots
    }

    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.server.as_ref().and_then(Child::id).expect("it runs")
    }

    /// The caller's `Proxy-Authorization` line.
    pub fn proof(&self) -> String {
        proof(CALLER, CALLER_TOKEN)
    }

    pub async fn connection(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.proxy_port)).await.expect("the proxy listens")
    }

    /// Sends `bytes` to the proxy on a connection of their own and returns what comes back.
    pub async fn say(&self, bytes: impl AsRef<[u8]>) -> Heard {
        let mut stream = self.connection().await;
        self.exchange(&mut stream, bytes.as_ref()).await
    }

    /// Sends `bytes` while it reads, until the proxy is silent or has closed.
    pub async fn exchange<S>(&self, stream: &mut S, bytes: &[u8]) -> Heard
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reading, mut writing) = tokio::io::split(stream);
        // The proxy may close before it has read everything.
        let write = async {
            let _ = writing.write_all(bytes).await;
            let _ = writing.flush().await;
        };
        let (heard, ()) = tokio::join!(listen(&mut reading), write);
        self.heard(&heard.bytes);
        heard
    }

    pub fn heard(&self, bytes: &[u8]) {
        self.heard.lock().expect("no holder panics").extend_from_slice(bytes);
    }

    /// Opens a tunnel to `authority` as the caller, up to the 200; the answer otherwise.
    pub async fn connect(&self, authority: impl AsRef<[u8]>) -> Result<TcpStream, Heard> {
        let mut stream = self.connection().await;
        let request = [
            b"CONNECT ",
            authority.as_ref(),
            b" HTTP/1.1\r\nHost: ",
            authority.as_ref(),
            b"\r\n",
            self.proof().as_bytes(),
            b"\r\n",
        ]
        .concat();
        self.ask_tunnel(&mut stream, &request).await.map(|()| stream)
    }

    /// Sends a CONNECT as it is.
    pub async fn ask_tunnel(&self, stream: &mut TcpStream, request: &[u8]) -> Result<(), Heard> {
        let _ = stream.write_all(request).await;
        let mut heard = Heard::default();
        while !contains(&heard.bytes, b"\r\n\r\n") {
            let mut byte = [0; 1];
            match timeout(PATIENCE, stream.read(&mut byte)).await {
                Ok(Ok(1)) => heard.bytes.push(byte[0]),
                Ok(_) => {
                    heard.closed = true;
                    return Err(heard);
                }
                Err(_) => return Err(heard),
            }
        }
        if heard.status() == Some(200) {
            return Ok(());
        }
        let rest = listen(stream).await;
        heard.bytes.extend(rest.bytes);
        heard.closed = rest.closed;
        self.heard(&heard.bytes);
        Err(heard)
    }

    /// TLS to `name` in a tunnel that is open, trusting our CA.
    pub async fn handshake(&self, stream: TcpStream, name: &str) -> std::io::Result<Tunnel> {
        self.handshake_with(stream, name, &[], true).await
    }

    pub async fn handshake_with(
        &self,
        stream: TcpStream,
        name: &str,
        alpn: &[&[u8]],
        say_name: bool,
    ) -> std::io::Result<Tunnel> {
        let mut config =
            client_builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_sni = say_name;
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        timeout(PATIENCE, handshake).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }

    /// A tunnel to a host's port 443 with TLS inside.
    pub async fn tunnel(&self, host: &str) -> Tunnel {
        let stream = self.connect(format!("{host}:443")).await;
        let stream = stream.unwrap_or_else(|heard| panic!("CONNECT {host}: {heard:?}"));
        self.handshake(stream, host).await.expect("TLS in the tunnel")
    }

    /// Says `bytes` in a tunnel of their own.
    pub async fn say_inside(&self, host: &str, bytes: impl AsRef<[u8]>) -> Heard {
        let mut tunnel = self.tunnel(host).await;
        self.exchange(&mut tunnel, bytes.as_ref()).await
    }

    /// `GET target` with `fields` in a tunnel to `host`.
    pub async fn get(&self, host: &str, target: &str, fields: &str) -> Heard {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        self.say_inside(host, request).await
    }

    /// Stops the binary, and finds no secret in anything that was printed, logged or recorded.
    pub async fn lift(mut self) {
        let metrics = self.admin("/metrics").await.expect("the admin listener answers");
        self.heard(metrics.as_bytes());
        let mut server = self.server.take().expect("it runs");
        let id = server.id().expect("it runs").to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status().await;
        let ended = timeout(Duration::from_secs(10), server.wait()).await;
        let status = ended.expect("SIGTERM ends the server").expect("it can be waited for");
        let log = self.server_log();
        assert!(status.success(), "serve ended with {status}:\n{log}");
        assert!(!log.contains("panicked"), "a panic:\n{log}");
        self.heard(log.as_bytes());
        for file in files_below(&self.path("data")) {
            self.heard(&std::fs::read(file).expect("our own files are readable"));
        }
        assert_eq!(self.trap.connections(), 0, "a port was dialled that must not be");
        let heard = self.heard.lock().expect("no holder panics");
        assert_eq!(secret_in(&heard), None, "a secret got out");
    }
}

/// The form in which a secret is in `bytes`, if one is.
pub fn secret_in(bytes: &[u8]) -> Option<String> {
    let forms = |secret| forms(secret).into_iter().chain(hexadecimal(secret));
    SECRETS.into_iter().flat_map(forms).find(|form| contains(bytes, form.as_bytes()))
}

/// Reads until the end, or until silence after the first byte.
async fn listen<S: AsyncRead + Unpin>(stream: &mut S) -> Heard {
    let mut heard = Heard::default();
    let mut piece = vec![0; 16 * 1024];
    loop {
        let wait = if heard.is_answer() { SILENCE } else { PATIENCE };
        match timeout(wait, stream.read(&mut piece)).await {
            Ok(Ok(count)) if count > 0 => heard.bytes.extend_from_slice(&piece[..count]),
            Ok(_) => {
                heard.closed = true;
                return heard;
            }
            Err(_) => return heard,
        }
    }
}

impl Heard {
    /// Every status line's code but 100.
    pub fn statuses(&self) -> Vec<u16> {
        let starts = memchr::memmem::find_iter(&self.bytes, b"HTTP/1.");
        let codes = starts.filter_map(|at| {
            std::str::from_utf8(self.bytes.get(at + 9..at + 12)?).ok()?.parse().ok()
        });
        codes.filter(|code| *code != 100).collect()
    }

    pub fn status(&self) -> Option<u16> {
        self.statuses().first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn contains(&self, text: &str) -> bool {
        contains(&self.bytes, text.as_bytes())
    }

    fn is_answer(&self) -> bool {
        !self.statuses().is_empty() && self.contains("\r\n\r\n")
    }

    /// One answer or none, and it is a no.
    pub fn is_refusal(&self) -> bool {
        match self.statuses()[..] {
            [] => self.closed,
            [status] => (400..500).contains(&status),
            _ => false,
        }
    }
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a CA signs itself").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// With `names` as SAN, and the first name as CN too; without names only a CN.
    fn signed(
        &self,
        key: &KeyPair,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        expired: bool,
    ) -> rcgen::Certificate {
        let sans: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(sans).expect("valid names");
        let common = names.first().copied().unwrap_or("flow.callers.test");
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages = vec![usage];
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        params.signed_by(key, &self.issuer).expect("the CA signs")
    }

    pub fn leaf(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        expired: bool,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let certificate = self.signed(&key, names, usage, expired);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key of rcgen's");
        (vec![certificate.der().clone()], key)
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> rustls::ServerConfig {
    rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key and certificate match")
}

pub fn client_builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A `Proxy-Authorization` line.
pub fn proof(user: &str, token: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{token}")))
}

fn app(id: &str, host: &str, attach: &str) -> String {
    let (field, base) = match host.strip_prefix("http://") {
        Some(_) => ("clear_text = true\n", host.to_owned()),
        None => ("", format!("https://{host}")),
    };
    let mut text = format!(
        r#"
id = "{id}"
name = "{id}"
description = "An app of the adversarial tests"
categories = ["testing"]
docs_url = "https://docs.acme.test/"
confidence = "verified"

[auth.key]
kind = "api_key"
hosts = ["{host}"]
base_url = "{base}"
attach = [ {attach} ]
{field}"#
    );
    let mut names = vec![("api_key", true)];
    names.extend(attach.contains("api_secret").then_some(("api_secret", true)));
    names.extend(host.contains("{tenant}").then_some(("tenant", false)));
    for (name, secret) in names {
        let _ = write!(
            text,
            "\n[[auth.key.fields]]\nname = \"{name}\"\nlabel = \"{name}\"\nsecret = {secret}\n"
        );
    }
    text
}

fn hexadecimal(secret: &str) -> [String; 2] {
    let digits = |upper| {
        secret.bytes().fold(String::new(), |mut text, byte| {
            let _ = if upper { write!(text, "{byte:02X}") } else { write!(text, "{byte:02x}") };
            text
        })
    };
    [digits(false), digits(true)]
}
