//! Signed requests from a real client through the real binary to an origin that computes every
//! signature itself, with other code than ours. What the client has are made-up keys.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

const KEY_ID: &str = "ASIAREALREALREALREA1";
const SECRET_KEY: &str = "rEaLsEcReT/abc+def0123456789ABCDEFGHIJ==";
const SESSION_TOKEN: &str = "IQoJreal+session/token0123456789abcdefghijklmnop==";
const TOKEN_VALUE: &str = "oauth-token/real+0123456789abcdef";
const TOKEN: &str = "flow-token-0123456789abcdefghijklmnopqrstuv";
const STRANGER: &str = "other-token-0123456789abcdefghijklmnopqrstuv";

const AWS_HOSTS: [&str; 9] = [
    "sts.eu-central-1.amazonaws.com",
    "iam.amazonaws.com",
    "s3.eu-central-1.amazonaws.com",
    "bucket.s3.eu-central-1.amazonaws.com",
    "bucket.s3.amazonaws.com",
    "dynamodb.eu-central-1.amazonaws.com",
    "a1b2c3.execute-api.eu-central-1.amazonaws.com",
    "front-1.elb.eu-central-1.amazonaws.com",
    "sts.amazonaws.com",
];

/// An origin and the binary, and a folder for both.
struct House {
    folder: tempfile::TempDir,
    proxy: u16,
    server: Child,
    origin: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl House {
    /// `names` gives `accounts` to `flow`; rules allow everything to everybody.
    fn start(hosts: &[&str], accounts: &str, names: &str) -> Self {
        Self::start_with(hosts, accounts, names, &[])
    }

    /// With app definitions of its own.
    fn start_with(hosts: &[&str], accounts: &str, names: &str, apps: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        certificates(folder.path(), hosts);
        let (origin, lines, port) = origin(folder.path());
        let (proxy, admin) = (free_port(), free_port());
        let mut resolve = String::new();
        for host in hosts {
            writeln!(resolve, "\"{host}:443\" = \"127.0.0.1:{port}\"").expect("a String");
        }
        let config = format!(
            r#"
data_dir = "data"
apps_dir = "apps"

[proxy]
listen = ["127.0.0.1:{proxy}"]
unmatched = "tunnel"

[web]
listen = "127.0.0.1:{web}"

[admin]
listen = "127.0.0.1:{admin}"

[upstream]
roots = ["root.pem"]

[upstream.resolve]
{resolve}
{accounts}
[callers.flow]
token = {{ value = "{TOKEN}" }}
{names}
rules = [{{ effect = "allow" }}]

[callers.other]
token = {{ value = "{STRANGER}" }}
rules = [{{ effect = "allow" }}]
"#,
            web = free_port(),
        );
        std::fs::create_dir_all(folder.path().join("apps")).expect("a fresh folder");
        for (name, text) in apps {
            std::fs::write(folder.path().join("apps").join(name), text).expect("it is writable");
        }
        std::fs::write(folder.path().join("countersign.toml"), config).expect("it is writable");
        let log = std::fs::File::create(folder.path().join("server.log")).expect("it is writable");
        let server = Command::new(BINARY)
            .args(["serve", "--config"])
            .arg(folder.path().join("countersign.toml"))
            .current_dir(folder.path())
            .stdout(log.try_clone().expect("a file handle"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let house = Self { folder, proxy, server, origin, lines };
        house.wait_until_it_listens();
        house
    }

    fn wait_until_it_listens(&self) {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.proxy)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    fn proxy_url(&self, caller: &str, token: &str) -> String {
        format!("http://{caller}:{token}@127.0.0.1:{}", self.proxy)
    }

    /// What each line of a client's output says, by its name.
    fn client(&self, script: &str) -> Vec<(String, Value)> {
        let bundle = self.bundle();
        let own = self.proxy_url("flow", TOKEN);
        let output = Command::new(python())
            .arg(Path::new(CLIENTS).join(script))
            .arg(self.proxy_url("other", STRANGER))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("HTTPS_PROXY", own)
            .env("AWS_CA_BUNDLE", &bundle)
            .env("REQUESTS_CA_BUNDLE", &bundle)
            .output()
            .expect("Python starts: make deps");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}\nserver:\n{}", self.log());
        std::fs::write(self.folder.path().join("client.out"), &output.stdout).expect("writable");
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    /// Our CA, and the origin's for tunnels that nobody opens.
    fn bundle(&self) -> PathBuf {
        let output = Command::new(BINARY)
            .args(["ca", "export", "--config"])
            .arg(self.folder.path().join("countersign.toml"))
            .current_dir(self.folder.path())
            .output()
            .expect("the binary starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let root = std::fs::read(self.folder.path().join("root.pem")).expect("it was written");
        let bundle = self.folder.path().join("bundle.pem");
        std::fs::write(&bundle, [output.stdout, root].concat()).expect("it is writable");
        bundle
    }

    /// Ends everything; nothing that was written down has a secret in it. Returns what the origin
    /// saw.
    fn close(mut self, secrets: &[&str]) -> Vec<Value> {
        let _ = Command::new("kill").args(["-TERM", &self.server.id().to_string()]).status();
        self.server.wait().expect("it ends");
        self.origin.kill().expect("it runs");
        let lines = self.lines.by_ref().lines().map_while(Result::ok);
        let seen = lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect();
        let mut written = self.log_and(&["client.out"]);
        for file in files_below(&self.folder.path().join("data")) {
            written.extend(std::fs::read(file).unwrap_or_default());
        }
        for secret in secrets.iter().chain(&[TOKEN, STRANGER]) {
            for form in forms(secret) {
                let found = memchr::memmem::find(&written, form.as_bytes());
                assert!(found.is_none(), "a secret got out, as {form}");
            }
        }
        seen
    }

    fn log_and(&self, names: &[&str]) -> Vec<u8> {
        let read = |name: &&str| std::fs::read(self.folder.path().join(name)).unwrap_or_default();
        [self.log().into_bytes(), names.iter().flat_map(read).collect()].concat()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.origin] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn python() -> PathBuf {
    let python = Path::new(CLIENTS).join(".venv/bin/python");
    assert!(python.exists(), "the Python clients are missing: make deps");
    python
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("it is bound").port()
}

/// `root.pem`, and a leaf for every host.
fn certificates(folder: &Path, hosts: &[&str]) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = ca.self_signed(&ca_key).expect("a CA signs itself");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let leaf = CertificateParams::new(names).expect("valid names");
    let leaf = leaf.signed_by(&key, &issuer).expect("the CA signs");
    for (name, text) in
        [("root.pem", root.pem()), ("leaf.pem", leaf.pem()), ("leaf.key", key.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).expect("the folder is writable");
    }
}

fn origin(folder: &Path) -> (Child, BufReader<std::process::ChildStdout>, u16) {
    let mut origin = Command::new(python())
        .arg(Path::new(CLIENTS).join("signed_origin.py"))
        .args([folder.join("leaf.pem"), folder.join("leaf.key")])
        .env("ORIGIN_KEY_ID", KEY_ID)
        .env("ORIGIN_SECRET_KEY", SECRET_KEY)
        .env("ORIGIN_SESSION_TOKEN", SESSION_TOKEN)
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts: make deps");
    let mut lines = BufReader::new(origin.stdout.take().expect("it is piped"));
    let mut port = String::new();
    lines.read_line(&mut port).expect("it prints its port");
    let port = port.trim().parse().unwrap_or_else(|_| panic!("the origin printed {port:?}"));
    (origin, lines, port)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files_below(&path),
            path => vec![path],
        })
        .collect()
}

/// As it is, percent-encoded, and the part of its base64 that no neighbour changes.
fn forms(secret: &str) -> Vec<String> {
    let percent: String =
        secret
            .bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() {
                    (b as char).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect();
    let inner = |coded: String| coded[4..coded.len() - 4].to_owned();
    let based = (0..3).flat_map(|shift| {
        let bytes = [&b"xxx"[..shift], secret.as_bytes()].concat();
        [inner(STANDARD_NO_PAD.encode(&bytes)), inner(URL_SAFE_NO_PAD.encode(&bytes))]
    });
    [secret.to_owned(), percent].into_iter().chain(based).collect()
}

fn named<'v>(said: &'v [(String, Value)], name: &str) -> &'v Value {
    let found = said.iter().find(|(named, _)| named == name);
    found.map(|(_, value)| value).unwrap_or_else(|| panic!("no {name} in {said:?}"))
}

#[test]
fn the_aws_sdk_with_made_up_keys_gets_what_the_account_may() {
    let account = format!(
        "[accounts.cloud]\napp = \"aws\"\nfields = {{ access_key_id = \"{KEY_ID}\" }}\n\
         secrets = {{ secret_access_key = {{ value = \"{SECRET_KEY}\" }}, \
         session_token = {{ value = \"{SESSION_TOKEN}\" }} }}"
    );
    let house = House::start(&AWS_HOSTS, &account, "accounts = [\"cloud\"]");
    let said = house.client("aws_client.py");
    for (name, expected) in [
        ("sts", json!("arn:aws:iam::123456789012:user/flow")),
        ("iam", json!([])),
        ("get", json!("hello")),
        ("streamed", json!(true)),
        ("hashed", json!("hashed")),
        ("list", json!(["large", "reports/ä b+c(1)&d=e.txt", "signed"])),
        ("dynamodb", json!(1000)),
        ("presigned", json!("hello")),
        ("lie", json!([403, "another body was signed"])),
        ("balancer", json!([403, "authorization"])),
        ("stranger", json!([403, "authorization is there 0 times"])),
    ] {
        assert_eq!(named(&said, name), &expected, "{name}\n{}", house.log());
    }
    let echo = named(&said, "echo");
    let line = echo[0].as_str().expect("a line");
    assert!(line.contains("/eu-central-1/execute-api/aws4_request"), "{line}");
    assert!(line.contains("Signature=****"), "a signature is masked where it is echoed: {line}");
    assert!(!echo[1].as_str().expect("a token").contains("session"), "{echo}");
    let (large, chunks) = (named(&said, "413"), named(&said, "chunks"));
    assert_eq!((&large[0], &chunks[0]), (&json!(413), &json!(400)));
    assert!(large[1].as_str().is_some_and(|why| why.contains("x-amz-content-sha256")), "{large}");
    assert!(chunks[1].as_str().is_some_and(|why| why.contains("chunkedEncoding")), "{chunks}");

    let seen = house.close(&[SECRET_KEY, SESSION_TOKEN]);
    let scopes: Vec<_> = seen.iter().map(|one| one["scope"].to_string()).collect();
    for scope in ["[\"iam\",\"us-east-1\"]", "[\"s3\",\"eu-central-1\"]"] {
        assert!(scopes.iter().any(|found| found == scope), "{scopes:?}");
    }
    let presigned = seen.iter().any(|one| one["path"].to_string().contains("X-Amz-Credential"));
    assert!(!presigned, "the caller's own signature went on");
}

const OAUTH_APP: &str = r#"
id = "photos"
name = "Photos"
description = "for a test"

[auth.sha1]
kind = "signature"
hosts = ["api.oauth.test"]
base_url = "https://api.oauth.test"
attach = [{ oauth1 = { method = "HMAC-SHA1", token = "{token}", token_secret = "{token_secret}" } }]
fields = [
    { name = "consumer_key", label = "Key", secret = false },
    { name = "consumer_secret", label = "Secret" },
    { name = "token", label = "Token" },
    { name = "token_secret", label = "Token's secret" },
]

[auth.sha256]
kind = "signature"
hosts = ["api.oauth.test"]
base_url = "https://api.oauth.test"
attach = [
    { oauth1 = { method = "HMAC-SHA256", token = "{token}", token_secret = "{token_secret}" } },
]
fields = [
    { name = "consumer_key", label = "Key", secret = false },
    { name = "consumer_secret", label = "Secret" },
    { name = "token", label = "Token" },
    { name = "token_secret", label = "Token's secret" },
]
"#;

const HMAC_APP: &str = r#"
id = "trades"
name = "Trades"
description = "for a test"

[auth.key]
kind = "signature"
hosts = ["api.hmac.test"]
base_url = "https://api.hmac.test"
attach = [
    { hmac = { algorithm = "sha256", key = "{secret}", over = "{timestamp}{method}{target}{body}", header = "X-Sign", value = "v1={signature}", timestamp_header = "X-Time", timestamp_unit = "ms" } },
]
fields = [{ name = "secret", label = "Secret" }]
"#;

const BODY_APP: &str = r#"
id = "letters"
name = "Letters"
description = "for a test"

[auth.key]
kind = "api_key"
hosts = ["api.body.test"]
base_url = "https://api.body.test"
attach = [{ body = "token", value = "{api_key}" }]
fields = [{ name = "api_key", label = "Key" }]
"#;

#[test]
fn each_api_gets_the_signature_that_it_computes_itself_or_the_key_in_the_body() {
    let oauth = |name: &str, auth: &str| {
        format!(
            "[accounts.{name}]\napp = \"photos\"\nauth = \"{auth}\"\n\
             fields = {{ consumer_key = \"{KEY_ID}\" }}\n\
             secrets = {{ consumer_secret = {{ value = \"{SECRET_KEY}\" }}, \
             token = {{ value = \"{TOKEN_VALUE}\" }}, \
             token_secret = {{ value = \"{SESSION_TOKEN}\" }} }}\n"
        )
    };
    let letters = format!(
        "[accounts.letters]\napp = \"letters\"\n\
         secrets = {{ api_key = {{ value = \"{SECRET_KEY}\" }} }}\n"
    );
    let trades = format!(
        "[accounts.trades]\napp = \"trades\"\n\
         secrets = {{ secret = {{ value = \"{SECRET_KEY}\" }} }}\n"
    );
    let accounts = [oauth("now", "sha1"), oauth("later", "sha256"), letters, trades].concat();
    let names = "accounts = [\"letters\", \"trades\"]\nbindings = [{ account = \"now\", default = true }, { account = \"later\" }]";
    let hosts = ["api.oauth.test", "api.body.test", "api.hmac.test"];
    let apps = [("photos.toml", OAUTH_APP), ("letters.toml", BODY_APP), ("trades.toml", HMAC_APP)];
    let house = House::start_with(&hosts, &accounts, names, &apps);
    let said = house.client("signed_client.py");
    for (name, status, text) in [
        ("get", 200, ""),
        ("again", 200, ""),
        ("form", 200, "status=Hello+Ladies+%2B+Gentlemen&a="),
        ("json", 200, "{\"a\": 1}"),
        ("sha256", 200, ""),
        ("hmac get", 200, ""),
        ("hmac post", 200, "ü"),
        ("body json", 200, "{\"b\": 1.10,\"token\":\"KEY\"}"),
        ("body form", 200, "a=%2f&token=rEaLsEcReT%2Fabc%2Bdef0123456789ABCDEFGHIJ%3D%3D&b=+"),
    ] {
        let found = named(&said, name);
        assert_eq!(found[0], json!(status), "{name}: {found}\n{}", house.log());
        // What is echoed is covered.
        if !text.contains("rEaL") {
            assert_eq!(found[1], json!(text), "{name}");
        }
    }
    let xml = named(&said, "body xml");
    assert_eq!(xml[0], json!(400));
    assert!(xml[1].as_str().is_some_and(|why| why.contains("JSON object")), "{xml}");
    let seen = house.close(&[SECRET_KEY, SESSION_TOKEN, TOKEN_VALUE]);
    assert_eq!(seen.len(), 9, "the refused one did not arrive: {seen:?}");
}
