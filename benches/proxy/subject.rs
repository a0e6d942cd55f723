//! What is measured: each subject is one process on a core of its own, or nothing at all.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Route;
use crate::origin::CREDENTIAL;
use crate::tls::Identity;
use crate::{NAME, PLAIN_NAME};

/// The core that the proxy has for itself; client and origin share the other.
pub const PROXY_CORE: &str = "0";
pub const LOAD_CORE: &str = "1";

/// What the subjects are built around.
pub struct Ground<'a> {
    pub folder: &'a Path,
    pub identity: &'a Identity,
    pub plain_origin: SocketAddr,
    pub tls_origin: SocketAddr,
    /// Run the subjects under valgrind, which writes its counts to this file.
    pub callgrind: Option<PathBuf>,
}

pub struct Subject {
    pub name: &'static str,
    process: Option<Child>,
    pub plain: Route,
    pub tls: Route,
}

/// A process's use of the machine so far.
#[derive(Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    pub resident_kib: u64,
}

/// Long enough under valgrind.
const START: Duration = Duration::from_secs(60);

type Start = fn(&Ground<'_>) -> Option<Subject>;

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have died by itself, which the measurement has already said.
            let _ = kill_process(Pid::from_child(process), Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(3);
            while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Subject {
    /// Starts all whose name starts with `only`, of those that this machine has. With `callgrind`
    /// only those that end on SIGTERM with their counts written.
    pub fn all(ground: &Ground<'_>, only: &str) -> Vec<Self> {
        let start: [(&str, Start); 5] = [
            ("direct", |ground| Some(direct(ground))),
            ("bare hyper", |ground| Some(bare(ground))),
            ("countersign", |ground| Some(countersign(ground))),
            ("nginx (reverse)", |ground| Some(nginx(&find("nginx")?, ground))),
            ("squid", |ground| squid(&find("squid")?, ground)),
        ];
        let wanted = start.iter().filter(|(name, _)| name.starts_with(only));
        wanted.filter_map(|(_, start)| start(ground)).collect()
    }

    /// Asks the subject to end and waits until it has.
    pub fn end(mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = kill_process(Pid::from_child(&process), Signal::TERM);
        let _ = process.wait();
    }

    pub fn usage(&self) -> Option<Usage> {
        let id = self.process.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(Usage {
            cpu: cpu_time(id)?,
            resident_kib: resident.trim().trim_end_matches(" kB").parse().ok()?,
        })
    }
}

/// User and system time of all threads, in nanoseconds where `stat` has hundredths of a second.
fn cpu_time(id: u32) -> Option<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{id}/task")).ok()? {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanos += stat.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanos))
}

fn direct(ground: &Ground<'_>) -> Subject {
    let fields: Arc<str> = format!("Authorization: {CREDENTIAL}\r\n").into();
    Subject {
        name: "direct",
        process: None,
        plain: reverse(PLAIN_NAME, ground.plain_origin, None, fields.clone()),
        tls: reverse(NAME, ground.tls_origin, Some(ground.identity.client()), fields),
    }
}

fn bare(ground: &Ground<'_>) -> Subject {
    let address = free_address();
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command
        .arg("--bare-proxy")
        .arg(ground.folder)
        .args([address, ground.plain_origin, ground.tls_origin].map(|a| a.to_string()));
    let process = start(&command, ground, "bare hyper", address);
    forward("bare hyper", process, address, ground.identity.client(), String::new())
}

fn countersign(ground: &Ground<'_>) -> Subject {
    let address = free_address();
    let config = countersign_files(ground, address);
    let built = || env!("CARGO_BIN_EXE_countersign").to_owned();
    let binary = std::env::var("BENCH_BINARY").unwrap_or_else(|_| built());
    let mut command = Command::new(&binary);
    command.args(["serve", "--config"]).arg(&config);
    let process = start(&command, ground, "countersign", address);
    let roots = ground.identity.client_with(&exported_ca(&binary, &config));
    // Basic with bench:bench-caller-token-0123456789
    let login = "YmVuY2g6YmVuY2gtY2FsbGVyLXRva2VuLTAxMjM0NTY3ODk=";
    let fields = format!("Proxy-Authorization: Basic {login}\r\n");
    forward("countersign", process, address, roots, fields)
}

/// The server creates its CA when it starts, which may be after it accepts.
fn exported_ca(binary: &str, config: &Path) -> Vec<u8> {
    let deadline = Instant::now() + START;
    loop {
        let export = Command::new(binary).args(["ca", "export", "--config"]).arg(config).output();
        let export = export.expect("the binary starts");
        if export.status.success() {
            return export.stdout;
        }
        let why = String::from_utf8_lossy(&export.stderr);
        assert!(Instant::now() < deadline, "ca export: {why}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn countersign_files(ground: &Ground<'_>, address: SocketAddr) -> PathBuf {
    let folder = ground.folder.join("countersign");
    std::fs::create_dir_all(folder.join("apps")).expect("the folder is writable");
    let mut app = String::from(
        r#"
id = "bench"
name = "Bench"
description = "The origin of this benchmark"
categories = ["testing"]
docs_url = "https://bench.test/"
confidence = "verified"
[auth.key]
kind = "bearer"
hosts = ["bench.test", "http://plain.bench.test"]
base_url = "https://bench.test"
attach = [ { header = "Authorization", value = "Bearer {api_key}" } ]
[[auth.key.fields]]
name = "api_key"
label = "API key"
secret = true
"#,
    );
    std::fs::write(folder.join("apps/bench.toml"), &app).expect("the folder is writable");
    app.clear();
    let shown = folder.display();
    let key = CREDENTIAL.trim_start_matches("Bearer ");
    write!(
        app,
        r#"
data_dir = "{shown}/data"
apps_dir = "{shown}/apps"
[proxy]
listen = ["{address}"]
[web]
listen = "{web}"
[admin]
listen = "{admin}"
[upstream]
roots = ["{roots}"]
[upstream.resolve]
"bench.test:443" = "{tls}"
"plain.bench.test:80" = "{plain}"
[accounts.bench]
app = "bench"
secrets = {{ api_key = {{ value = "{key}" }} }}
[callers.bench]
token = {{ value = "bench-caller-token-0123456789" }}
accounts = ["bench"]
rules = [{{ effect = "allow", methods = ["GET", "POST"], paths = ["/**"] }}]
"#,
        web = free_address(),
        admin = free_address(),
        roots = ground.folder.join("ca.pem").display(),
        tls = ground.tls_origin,
        plain = ground.plain_origin,
    )
    .expect("a String takes everything");
    let file = folder.join("countersign.toml");
    std::fs::write(&file, app).expect("the folder is writable");
    file
}

/// nginx cannot be a forward proxy: it is told its one origin, and adds the header.
fn nginx(binary: &Path, ground: &Ground<'_>) -> Subject {
    let (plain, tls) = (free_address(), free_address());
    let folder = ground.folder.display();
    let config = format!(
        r#"
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log {folder}/nginx.error.log; worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{
    access_log {folder}/nginx.access.log;
    client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    keepalive_requests 100000000; client_max_body_size 0; proxy_request_buffering off;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering on;
    proxy_max_temp_file_size 0;
    proxy_set_header Host bench.test; proxy_set_header Authorization "{CREDENTIAL}";
    upstream plain {{ server {plain_origin}; keepalive 512; keepalive_requests 100000000; }}
    upstream tls {{ server {tls_origin}; keepalive 512; keepalive_requests 100000000; }}
    server {{ listen {plain}; location / {{ proxy_pass http://plain; }} }}
    server {{
        listen {tls} ssl;
        ssl_certificate {folder}/leaf.pem; ssl_certificate_key {folder}/leaf.key;
        ssl_session_cache shared:a:10m;
        location / {{
            proxy_pass https://tls; proxy_ssl_name bench.test; proxy_ssl_server_name on;
            proxy_ssl_verify on; proxy_ssl_trusted_certificate {folder}/ca.pem;
        }}
    }}
}}
"#,
        plain_origin = ground.plain_origin,
        tls_origin = ground.tls_origin,
    );
    let file = ground.folder.join("nginx.conf");
    std::fs::write(&file, config).expect("the folder is writable");
    let mut command = Command::new(binary);
    command.arg("-c").arg(&file);
    Subject {
        name: "nginx (reverse)",
        process: Some(start(&command, ground, "nginx", tls)),
        plain: reverse(PLAIN_NAME, plain, None, "".into()),
        tls: reverse(NAME, tls, Some(ground.identity.client()), "".into()),
    }
}

/// `None` when this squid was built without OpenSSL or lacks its certificate helper.
fn squid(binary: &Path, ground: &Ground<'_>) -> Option<Subject> {
    let helper = Path::new("/usr/lib/squid/security_file_certgen");
    if !helper.exists() {
        eprintln!("squid is there, but without TLS interception (Debian: squid-openssl)");
        return None;
    }
    let address = free_address();
    let folder = ground.folder.display();
    let own = ground.folder.join("squid");
    std::fs::create_dir(&own).ok()?;
    let certificates = own.join("certificates");
    let mut make = Command::new(helper);
    make.arg("-c").arg("-s").arg(&certificates).args(["-M", "4MB"]);
    make.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    // Started as root, squid becomes a user of its own, who must get at its files.
    Command::new("chmod").args(["-R", "a+rwX"]).arg(ground.folder).status().ok()?;
    std::fs::write(ground.folder.join("hosts"), "127.0.0.1 bench.test plain.bench.test\n").ok()?;
    let config = format!(
        r#"
http_port {address} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert={folder}/ca-and-key.pem
sslcrtd_program {helper} -s {certificates} -M 4MB
sslcrtd_children 1 startup=1 idle=1
ssl_bump bump all
http_access allow all
cache deny all
cache_mem 8 MB
hosts_file {folder}/hosts
tls_outgoing_options cafile={folder}/ca.pem
request_header_access Authorization deny all
request_header_add Authorization "{CREDENTIAL}" all
access_log stdio:{folder}/squid/access.log
cache_log {folder}/squid/cache.log
pid_filename {folder}/squid/pid
coredump_dir {folder}/squid
max_filedescriptors 20000
shutdown_lifetime 1 seconds
via off
"#,
        helper = helper.display(),
        certificates = certificates.display(),
    );
    let file = ground.folder.join("squid.conf");
    std::fs::write(&file, config).ok()?;
    let mut command = Command::new(binary);
    // The name of its shared memory, which one that was killed leaves behind.
    let service = format!("bench{}", std::process::id());
    command.arg("-N").args(["-n", &service]).arg("-f").arg(&file);
    let process = start(&command, ground, "squid", address);
    let (plain_port, tls_port) = (ground.plain_origin.port(), ground.tls_origin.port());
    let connect = format!("CONNECT {NAME}:{tls_port} HTTP/1.1\r\nHost: {NAME}:{tls_port}\r\n\r\n");
    let mut plain = reverse(PLAIN_NAME, address, None, "".into());
    plain.prefix = format!("http://{PLAIN_NAME}:{plain_port}").into();
    let mut tls = reverse(NAME, address, Some(ground.identity.client()), "".into());
    tls.connect = Some(connect.into());
    // Inside a tunnel squid goes where `Host` says, and not to the tunnel's port.
    tls.host = format!("{NAME}:{tls_port}").into();
    Some(Subject { name: "squid", process: Some(process), plain, tls })
}

/// A forward proxy: absolute-form for plain HTTP, CONNECT and then TLS for the rest.
fn forward(
    name: &'static str,
    process: Child,
    address: SocketAddr,
    roots: Arc<rustls::ClientConfig>,
    fields: String,
) -> Subject {
    let connect = format!("CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\n{fields}\r\n");
    let mut plain = reverse(PLAIN_NAME, address, None, fields.into());
    plain.prefix = format!("http://{PLAIN_NAME}").into();
    let mut tls = reverse(NAME, address, Some(roots), "".into());
    tls.connect = Some(connect.into());
    Subject { name, process: Some(process), plain, tls }
}

fn reverse(
    host: &str,
    dial: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    fields: Arc<str>,
) -> Route {
    let host = host.into();
    Route { host, dial, connect: None, tls, prefix: "".into(), fields }
}

/// Starts a subject on its core and waits until it accepts.
fn start(command: &Command, ground: &Ground<'_>, name: &str, address: SocketAddr) -> Child {
    let log = ground.folder.join(format!("{name}.log"));
    let file = std::fs::File::create(&log).expect("the folder is writable");
    let mut pinned = pinned(command, ground.callgrind.as_deref());
    pinned.stdin(Stdio::null()).stdout(file.try_clone().expect("a file handle")).stderr(file);
    let mut process = pinned.spawn().expect("the subject starts");
    let deadline = Instant::now() + START;
    while !accepts(address) {
        let ended = process.try_wait().expect("the subject can be asked");
        assert!(
            ended.is_none() && Instant::now() < deadline,
            "{name} does not listen:\n{}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

/// `taskset` becomes the program, so the process that is measured is the one that was started. A
/// runtime that counts its cores then starts one worker.
fn pinned(command: &Command, callgrind: Option<&Path>) -> Command {
    let mut words: Vec<OsString> = Vec::new();
    if crate::pins() {
        words.extend(["taskset", "-c", PROXY_CORE].map(Into::into));
    }
    if let Some(file) = callgrind {
        let option = format!("--callgrind-out-file={}", file.display());
        words.extend(["valgrind", "-q", "--tool=callgrind", &option].map(Into::into));
    }
    words.push(command.get_program().to_owned());
    let mut pinned = Command::new(&words[0]);
    pinned.args(&words[1..]).args(command.get_args());
    pinned
}

pub fn find(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

/// A connection to a free port of this machine may come from that very port, and then meets itself.
fn accepts(address: SocketAddr) -> bool {
    let stream = std::net::TcpStream::connect(address);
    stream.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != address))
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("a bound listener has an address")
}
