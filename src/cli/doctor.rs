//! `countersign doctor`: what stands between a client and the proxy.
//!
//! Without a command it looks at files, listeners, variables and the tools on the path. With one it
//! runs it like `run`, and [`verdict`] reads what the proxy saw. Findings are computed apart from
//! what gathers their facts, so that each sentence is tested. The advice is what measuring each
//! client's behaviour showed.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;

use super::client_files::find_on_path;
use super::environment::{Lookup, PROXY_VARIABLES};
use crate::clock::rfc3339;
use crate::host::Host;
use crate::proxy::ca;

/// Check the setup, or run a command and say how it got on with the proxy
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// The caller to run as; may be left out when the configuration has one only
    #[arg(long, value_name = "NAME")]
    pub caller: Option<String>,
    /// A command to run and observe
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What the proxy saw of one command.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub connections: u64,
    /// Requests without a caller, or with one that is not known.
    pub auth_failures: u64,
    /// Hosts that were tunnelled without being looked into.
    pub tunnels_blind: Vec<String>,
    pub intercepted_handshakes_ok: u64,
    /// Hosts at which the client broke off, and the alert it gave.
    pub handshakes_failed: Vec<(String, String)>,
    pub requests: Vec<Seen>,
}

/// One request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub host: String,
    pub status: u16,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub text: String,
    /// What to do about it.
    pub mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Good,
    /// Worth knowing; nothing is broken.
    Note,
    Problem,
}

impl Finding {
    fn good(text: impl Into<String>) -> Self {
        Self { level: Level::Good, text: text.into(), mend: None }
    }

    fn note(text: impl Into<String>) -> Self {
        Self { level: Level::Note, text: text.into(), mend: None }
    }

    fn problem(text: impl Into<String>) -> Self {
        Self { level: Level::Problem, text: text.into(), mend: None }
    }

    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// One line per finding, and what to do about it below.
pub fn print(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        let mark = match finding.level {
            Level::Good => "ok      ",
            Level::Note => "note    ",
            Level::Problem => "problem ",
        };
        writeln!(out, "{mark}{}", finding.text)?;
        if let Some(mend) = &finding.mend {
            writeln!(out, "        → {mend}")?;
        }
    }
    Ok(())
}

/// 0 if nothing is broken, else 1.
pub fn exit_code(findings: &[Finding]) -> u8 {
    u8::from(findings.iter().any(|finding| finding.level == Level::Problem))
}

/// `/usr/bin/python3.11` → `python`, so that versions share their advice.
pub fn program_name(command: &str) -> String {
    let file = command.rsplit(['/', '\\']).next().unwrap_or(command);
    let file = file.strip_suffix(".exe").unwrap_or(file);
    file.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-').to_owned()
}

/// What the observations mean for the user.
pub fn verdict(
    observed: &Observed,
    exit_code: u8,
    program: &str,
    gateway: Option<SocketAddr>,
) -> Vec<Finding> {
    if observed.connections == 0 && NOT_STARTED.contains(&exit_code) {
        return vec![Finding::problem(format!("{program} could not be started"))];
    }
    let mut findings = Vec::new();
    if observed.connections == 0 {
        findings.push(never_came(program, gateway));
    }
    findings.extend(caller_finding(observed));
    findings.extend(trust_findings(observed, program));
    findings.extend(blind_finding(observed));
    findings.extend(request_findings(observed));
    if observed.connections > 0 && findings.is_empty() {
        findings.push(Finding::note(format!("{program} connected to the proxy and asked nothing")));
    }
    if exit_code != 0 {
        findings.push(Finding::note(format!("{program} ended with exit code {exit_code}")));
    }
    findings
}

/// There is no such command, or it may not be executed: what `run` makes of it, as shells do.
const NOT_STARTED: [u8; 2] = [126, 127];

fn never_came(program: &str, gateway: Option<SocketAddr>) -> Finding {
    let hint = advice(program)
        .map_or("it asked for nothing, or it does not read proxy variables", |known| known.proxy);
    let base = match gateway {
        Some(address) => format!("http://{address}/gateway/<app>/<path>"),
        None => {
            "http://<web listener>/gateway/<app>/<path> (after setting `web.listen`)".to_owned()
        }
    };
    Finding::problem(format!("{program} never came to the proxy: {hint}")).mend(format!(
        "if that cannot be changed, only the gateway will do: give the client the base URL {base}, with the caller's token as bearer"
    ))
}

fn caller_finding(observed: &Observed) -> Option<Finding> {
    let failures = observed.auth_failures;
    (failures > 0).then(|| {
        Finding::problem(format!("{failures} requests came without a known caller"))
            .mend("write user and password in the proxy URL, http://<caller>:<token>@host:port; many clients drop one without the other")
    })
}

fn trust_findings(observed: &Observed, program: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if observed.intercepted_handshakes_ok > 0 {
        findings.push(Finding::good(format!("{program} goes through the proxy and trusts the CA")));
    }
    if let Some((host, alert)) = observed.handshakes_failed.first() {
        let others = match observed.handshakes_failed.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let setting = advice(program).map_or(ANY_CLIENT, |known| known.trust);
        findings.push(
            Finding::problem(format!(
                "{program} came to the proxy but does not trust the CA: it broke off at {host}{others} ({alert})"
            ))
            .mend(setting),
        );
    }
    findings
}

fn blind_finding(observed: &Observed) -> Option<Finding> {
    let mut hosts: Vec<&str> = observed.tunnels_blind.iter().map(String::as_str).collect();
    hosts.sort_unstable();
    hosts.dedup();
    (!hosts.is_empty()).then(|| {
        Finding::note(format!(
            "passed through untouched, without a credential: {}",
            hosts.join(", ")
        ))
        .mend("if one of these should get a credential, bind an account of its app to the caller")
    })
}

fn request_findings(observed: &Observed) -> impl Iterator<Item = Finding> {
    observed.requests.iter().map(|Seen { method, host, status }| {
        let text = format!("{method} {host} was answered with {status}");
        if *status < 400 { Finding::good(text) } else { Finding::note(text) }
    })
}

/// What is known of one family of clients.
struct Advice {
    programs: &'static [&'static str],
    /// Why it may not come, and what makes it.
    proxy: &'static str,
    /// Which variable or setting makes it trust the CA.
    trust: &'static str,
}

fn advice(program: &str) -> Option<&'static Advice> {
    CLIENTS.iter().find(|client| client.programs.contains(&program))
}

const ANY_CLIENT: &str = "give it the bundle that SSL_CERT_FILE names by its own setting; a client with pinned or bundled roots can only use the gateway";

const CLIENTS: &[Advice] = &[
    Advice {
        programs: &["python", "pip", "http", "https", "uv", "poetry", "pytest", "flask", "ipython"],
        proxy: "aiohttp needs ClientSession(trust_env=True), urllib3 a ProxyManager",
        trust: "requests reads REQUESTS_CA_BUNDLE, httpx, aiohttp and urllib SSL_CERT_FILE, boto3 AWS_CA_BUNDLE, httplib2 HTTPLIB2_CA_CERTS; stripe reads none: set stripe.ca_bundle_path to the value of SSL_CERT_FILE",
    },
    Advice {
        programs: &["node", "npm", "npx", "yarn", "pnpm", "tsx", "ts-node"],
        proxy: "fetch and https.get read proxy variables from Node 22.21 and 24 on, with NODE_USE_ENV_PROXY=1; before, set undici's EnvHttpProxyAgent as the global dispatcher; the stripe package needs its httpAgent option",
        trust: "NODE_EXTRA_CA_CERTS must name a readable file when Node starts; npm reads NPM_CONFIG_CAFILE; an own https.Agent with a `ca` option replaces both",
    },
    Advice {
        programs: &["java", "mvn", "gradle", "kotlin", "scala", "sbt"],
        proxy: "Java reads no proxy variable: use `countersign run --java`, and a listener without credentials",
        trust: "Java reads its own trust store: use `countersign run --java`, or `countersign ca install`",
    },
    Advice {
        programs: &["ruby", "bundle", "rails", "rake", "gem"],
        proxy: "net/http takes http_proxy for https too, and ignores HTTPS_PROXY",
        trust: "Ruby reads SSL_CERT_FILE; a `ca_file` in the code replaces it",
    },
    Advice {
        programs: &["php", "composer", "artisan"],
        proxy: "file_get_contents takes a proxy from its stream context only; use curl or guzzle",
        trust: "set curl.cainfo and openssl.cafile in php.ini, or PHP_INI_SCAN_DIR as `countersign run` does",
    },
    Advice {
        programs: &["git"],
        proxy: "http.proxy in its configuration outranks the variables: `git config --get-all http.proxy`",
        trust: "git reads GIT_SSL_CAINFO only; http.sslCAInfo in its configuration outranks nothing but must not be set to another file",
    },
    Advice {
        programs: &["wget"],
        proxy: "wget reads the lower-case variables only",
        trust: "wget reads no variable: `ca_certificate = …` in the file that WGETRC names",
    },
    Advice {
        programs: &["curl"],
        proxy: "curl reads http_proxy in lower case only, and a .curlrc may say otherwise",
        trust: "curl reads CURL_CA_BUNDLE or SSL_CERT_FILE; `--cacert` and a .curlrc outrank them",
    },
    Advice {
        programs: &["go"],
        proxy: "Go connects to localhost and 127.* directly, always; a custom http.Transport needs Proxy: http.ProxyFromEnvironment",
        trust: "Go reads SSL_CERT_FILE; a tls.Config with RootCAs replaces it",
    },
    Advice {
        programs: &["cargo", "rustup"],
        proxy: "http.proxy in cargo's configuration outranks the variables",
        trust: "cargo reads CARGO_HTTP_CAINFO; programs with ureq need its feature platform-verifier",
    },
    Advice {
        programs: &["deno"],
        proxy: "a client made with Deno.createHttpClient needs its own proxy option",
        trust: "Deno reads DENO_CERT",
    },
    Advice {
        programs: &["bun", "bunx"],
        proxy: "Bun's fetch reads the variables; a `proxy` option outranks them",
        trust: "Bun reads NODE_EXTRA_CA_CERTS",
    },
    Advice {
        programs: &["aria2c"],
        proxy: "aria2 reads the lower-case variables only",
        trust: "aria2 reads no variable: --ca-certificate",
    },
    Advice {
        programs: &["dotnet", "pwsh"],
        proxy: ".NET takes an http:// proxy from the variables; UseProxy = false in the code turns it off",
        trust: ".NET on Linux reads SSL_CERT_FILE; elsewhere `countersign ca install`",
    },
];

/// What is checked without a command.
pub struct Setup<'a> {
    /// `None`: no file, the defaults hold.
    pub config_file: Option<&'a Path>,
    /// Each as `file:line: key: text`.
    pub config_mistakes: &'a [String],
    pub data_dir: &'a Path,
    /// What each listener is, and where.
    pub listeners: &'a [(&'a str, SocketAddr)],
    /// The forward proxy's.
    pub proxy: SocketAddr,
    /// Hosts that get a credential, for the traps of `NO_PROXY`.
    pub hosts: &'a [Host],
    pub now: SystemTime,
}

/// Every check that needs no command.
pub fn check(setup: &Setup<'_>, parent: Lookup<'_>) -> Vec<Finding> {
    let mut findings = config_findings(setup);
    findings.extend(data_dir_finding(setup.data_dir));
    let (finding, ca) = ca_finding(setup.data_dir, setup.now);
    findings.push(finding);
    findings.extend(setup.listeners.iter().map(|(what, at)| listener_finding(what, *at)));
    findings.extend(proxy_variable_findings(setup.proxy, parent));
    findings.extend(no_proxy_findings(setup.hosts, parent));
    findings.extend(node_finding(parent));
    if let Some(ca) = ca {
        findings.extend(tool_trust_findings(&ca.certificate, parent));
    }
    findings
}

fn config_findings(setup: &Setup<'_>) -> Vec<Finding> {
    if !setup.config_mistakes.is_empty() {
        return setup.config_mistakes.iter().map(Finding::problem).collect();
    }
    vec![match setup.config_file {
        Some(file) => Finding::good(format!("{} is readable and right", file.display())),
        None => Finding::note("no configuration file: the defaults hold, and no account is set up"),
    }]
}

fn data_dir_finding(dir: &Path) -> Option<Finding> {
    let shown = dir.display();
    let Ok(about) = dir.metadata() else {
        return Some(
            Finding::note(format!("{shown} is not there yet"))
                .mend("`countersign serve` creates it"),
        );
    };
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Some(
                Finding::problem(format!("{shown} is open to other users (mode {mode:04o})"))
                    .mend(format!("chmod 700 {shown}")),
            );
        }
    }
    about.is_dir().then(|| Finding::good(format!("{shown} is for its owner only")))
}

fn ca_finding(dir: &Path, now: SystemTime) -> (Finding, Option<ca::Description>) {
    match ca::describe(dir) {
        Err(error) => (Finding::problem(error.to_string()), None),
        Ok(None) => {
            let none = Finding::note("there is no CA yet").mend("`countersign serve` creates it");
            (none, None)
        }
        Ok(Some(ca)) => (lifetime_finding(&ca, now), Some(ca)),
    }
}

fn lifetime_finding(ca: &ca::Description, now: SystemTime) -> Finding {
    let at = rfc3339(ca.not_after);
    let renew = "delete ca.pem and ca.key, start again, and trust the new one with `countersign ca install`";
    match ca.not_after.duration_since(now) {
        Err(_) => Finding::problem(format!("the CA ended at {at}")).mend(renew),
        Ok(left) if left <= ca::EXPIRY_NOTICE => {
            Finding::note(format!("the CA ends at {at}")).mend(renew)
        }
        Ok(_) => Finding::good(format!("the CA is valid until {at}")),
    }
}

fn listener_finding(what: &str, at: SocketAddr) -> Finding {
    match TcpStream::connect_timeout(&at, Duration::from_millis(500)) {
        Ok(_) => Finding::good(format!("the {what} listener is at {at}")),
        Err(error) => Finding::problem(format!("no {what} listener answers at {at}: {error}"))
            .mend("start `countersign serve`, or see whether a firewall stands between"),
    }
}

/// Never shows a value: it may hold a token.
fn proxy_variable_findings(proxy: SocketAddr, parent: Lookup<'_>) -> Vec<Finding> {
    let set: Vec<(&str, String)> = PROXY_VARIABLES
        .into_iter()
        .filter_map(|name| Some((name, parent(name).filter(|value| !value.is_empty())?)))
        .collect();
    if set.is_empty() {
        return vec![
            Finding::note("no proxy variable is set in this shell")
                .mend("`countersign run -- CMD`, or eval \"$(countersign env)\""),
        ];
    }
    let findings = set.iter().map(|(name, value)| variable_finding(name, value, proxy));
    findings.collect()
}

fn variable_finding(name: &str, value: &str, proxy: SocketAddr) -> Finding {
    let Some((_, rest)) = value.split_once("://") else {
        return Finding::problem(format!("{name} has no scheme, which half of all clients refuse"))
            .mend(format!("write it as http://<caller>:<token>@{proxy}"));
    };
    let rest = rest.split('/').next().unwrap_or(rest);
    let (userinfo, address) = match rest.rsplit_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, rest),
    };
    if !same_address(address, proxy) {
        return Finding::problem(format!("{name} points to {address}, not to {proxy}"));
    }
    match userinfo.map(|text| text.split_once(':')) {
        Some(Some((user, token))) if !user.is_empty() && !token.is_empty() => {
            Finding::good(format!("{name} points to the proxy, with a caller"))
        }
        Some(_) => Finding::problem(format!("{name} has a user or a password, not both"))
            .mend("many clients drop such a URL's credentials: write http://<caller>:<token>@…"),
        None => Finding::note(format!("{name} points to the proxy, without a caller"))
            .mend(format!("write it as http://<caller>:<token>@{proxy}")),
    }
}

fn same_address(text: &str, proxy: SocketAddr) -> bool {
    let by_name = proxy.ip().is_loopback() && text == format!("localhost:{}", proxy.port());
    by_name || text == proxy.to_string()
}

fn no_proxy_findings(hosts: &[Host], parent: Lookup<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in ["NO_PROXY", "no_proxy"] {
        let list = parent(name).unwrap_or_default();
        for entry in list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()) {
            if let Some(host) = hosts.iter().find(|host| exempts(entry, host)) {
                findings.push(
                    Finding::problem(format!(
                        "{name} has \"{entry}\", so {host} goes past the proxy"
                    ))
                    .mend(format!("remove \"{entry}\" from {name}")),
                );
            }
        }
    }
    findings
}

fn exempts(entry: &str, host: &Host) -> bool {
    let entry = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
    let entry = entry.split(':').next().unwrap_or(&entry);
    entry == "*" || entry == host.as_str() || host.suffixes().any(|above| above == entry)
}

fn node_finding(parent: Lookup<'_>) -> Option<Finding> {
    let node = find_on_path("node", parent)?;
    let output = Command::new(node).arg("--version").stdin(Stdio::null()).output().ok()?;
    node_version_finding(String::from_utf8_lossy(&output.stdout).trim())
}

/// `v20.20.2`: `fetch` reads the proxy variables from 22.21 and 24.5 on.
fn node_version_finding(version: &str) -> Option<Finding> {
    let mut numbers = version.strip_prefix('v')?.split('.').map_while(|part| part.parse().ok());
    let (major, minor): (u32, u32) = (numbers.next()?, numbers.next()?);
    let reads_variables = match major {
        ..22 => false,
        22 => minor >= 21,
        23 => false,
        24 => minor >= 5,
        25.. => true,
    };
    if reads_variables {
        return Some(Finding::good(format!(
            "node {version} reads the proxy variables with NODE_USE_ENV_PROXY=1"
        )));
    }
    Some(
        Finding::note(format!("node {version}: fetch and https.get ignore the proxy variables"))
            .mend("use Node 22.21 or 24, or undici's EnvHttpProxyAgent, or the gateway; axios and gaxios work"),
    )
}

/// Reads the files that the tools would read; asks no tool, so that it needs no network.
fn tool_trust_findings(ca: &CertificateDer<'_>, parent: Lookup<'_>) -> Vec<Finding> {
    let trusts = |variable: &str| parent(variable).map(|file| holds(Path::new(&file), ca));
    let system = || rustls_native_certs::load_native_certs().certs.contains(ca);
    let by_openssl =
        |first: &str| trusts(first).or_else(|| trusts("SSL_CERT_FILE")).unwrap_or_else(system);
    let tools: [(&str, &str, &dyn Fn() -> bool); 3] = [
        ("curl", "CURL_CA_BUNDLE or SSL_CERT_FILE, or `countersign ca install`", &|| {
            by_openssl("CURL_CA_BUNDLE")
        }),
        ("python3", "SSL_CERT_FILE and REQUESTS_CA_BUNDLE", &|| {
            trusts("REQUESTS_CA_BUNDLE") == Some(true) && by_openssl("SSL_CERT_FILE")
        }),
        ("node", "NODE_EXTRA_CA_CERTS", &|| trusts("NODE_EXTRA_CA_CERTS") == Some(true)),
    ];
    let found = tools.into_iter().filter(|(tool, ..)| find_on_path(tool, parent).is_some());
    found.map(|(tool, setting, trusts)| tool_finding(tool, setting, trusts())).collect()
}

fn tool_finding(tool: &str, setting: &str, trusts: bool) -> Finding {
    if trusts {
        return Finding::good(format!("{tool} trusts the CA"));
    }
    Finding::note(format!("{tool} does not trust the CA in this shell"))
        .mend(format!("`countersign run -- {tool} …` sets everything; by hand: {setting}"))
}

fn holds(bundle: &Path, ca: &CertificateDer<'_>) -> bool {
    rustls_native_certs::load_certs_from_paths(Some(bundle), None).certs.contains(ca)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn gateway() -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 8080)))
    }

    fn proxy() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 3128))
    }

    fn text(findings: &[Finding]) -> String {
        let mut out = Vec::new();
        print(&mut out, findings).expect("memory");
        String::from_utf8(out).expect("text")
    }

    fn seen(method: &str, host: &str, status: u16) -> Seen {
        Seen { method: method.to_owned(), host: host.to_owned(), status }
    }

    #[test]
    fn a_client_that_goes_through_and_trusts_is_told_so() {
        let observed = Observed {
            connections: 1,
            intercepted_handshakes_ok: 1,
            requests: vec![seen("POST", "slack.com", 200)],
            tunnels_blind: vec!["pypi.org".to_owned(), "a.test".to_owned(), "pypi.org".to_owned()],
            ..Observed::default()
        };
        let findings = verdict(&observed, 0, "python", gateway());
        let text = text(&findings);
        assert!(text.contains("ok      python goes through the proxy and trusts the CA"), "{text}");
        assert!(text.contains("POST slack.com was answered with 200"), "{text}");
        assert!(text.contains("without a credential: a.test, pypi.org\n"), "{text}");
        assert_eq!(exit_code(&findings), 0);
    }

    #[test]
    fn a_client_that_does_not_trust_is_given_its_own_setting() {
        for (program, setting) in [
            ("python", "REQUESTS_CA_BUNDLE"),
            ("node", "NODE_EXTRA_CA_CERTS"),
            ("git", "GIT_SSL_CAINFO"),
            ("wget", "WGETRC"),
            ("php", "curl.cainfo"),
            ("java", "run --java"),
            ("my-tool", "SSL_CERT_FILE"),
        ] {
            let failed = ("slack.com".to_owned(), "unknown_ca".to_owned());
            let observed = Observed {
                connections: 2,
                handshakes_failed: vec![failed.clone(), failed],
                ..Observed::default()
            };
            let findings = verdict(&observed, 1, program, gateway());
            let text = text(&findings);
            let said = "came to the proxy but does not trust the CA: it broke off at slack.com and 1 more (unknown_ca)";
            assert!(text.contains(said) && text.contains(setting), "{program}: {text}");
            assert!(text.contains("ended with exit code 1"), "{text}");
            assert_eq!(exit_code(&findings), 1);
        }
    }

    #[test]
    fn a_client_that_never_came_is_shown_the_gateway() {
        for (program, why) in [
            ("node", "EnvHttpProxyAgent"),
            ("python", "trust_env=True"),
            ("java", "--java"),
            ("my-tool", "does not read proxy variables"),
        ] {
            let text = text(&verdict(&Observed::default(), 0, program, gateway()));
            assert!(text.contains("never came") && text.contains(why), "{program}: {text}");
            assert!(text.contains("http://127.0.0.1:8080/gateway/<app>/<path>"), "{text}");
        }
        let text = text(&verdict(&Observed::default(), 0, "node", None));
        assert!(text.contains("web.listen"), "{text}");
    }

    #[test]
    fn a_missing_caller_and_an_idle_connection_are_told_apart() {
        let failed = Observed { connections: 1, auth_failures: 2, ..Observed::default() };
        assert!(text(&verdict(&failed, 0, "curl", None)).contains("without a known caller"));
        let idle = Observed { connections: 1, ..Observed::default() };
        assert!(text(&verdict(&idle, 0, "curl", None)).contains("asked nothing"));
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::{Args as _, Subcommand as _};
        DoctorArgs::augment_args(clap::Command::new("doctor")).debug_assert();
        super::super::ca::CaCommand::augment_subcommands(clap::Command::new("ca")).debug_assert();
        super::super::env::EnvArgs::augment_args(clap::Command::new("env")).debug_assert();
    }

    #[test]
    fn versions_and_paths_share_their_programs_advice() {
        for (command, name) in [
            ("/usr/bin/python3.11", "python"),
            ("node", "node"),
            ("C:\\node\\node.exe", "node"),
            ("pip3", "pip"),
            ("aria2c", "aria2c"),
        ] {
            assert_eq!(program_name(command), name);
        }
    }

    #[test]
    fn proxy_variables_that_mislead_are_found_and_never_shown() {
        for (value, level, said) in [
            ("http://flow:hunter2@127.0.0.1:3128", Level::Good, "with a caller"),
            ("http://flow:hunter2@localhost:3128/", Level::Good, "with a caller"),
            ("http://127.0.0.1:3128", Level::Note, "without a caller"),
            ("http://hunter2@127.0.0.1:3128", Level::Problem, "not both"),
            ("http://hunter2:@127.0.0.1:3128", Level::Problem, "not both"),
            ("http://u:hunter2@proxy.corp.test:8080", Level::Problem, "proxy.corp.test:8080"),
            ("flow:hunter2@127.0.0.1:3128", Level::Problem, "no scheme"),
        ] {
            let parent = |name: &str| (name == "HTTPS_PROXY").then(|| value.to_owned());
            let findings = proxy_variable_findings(proxy(), &parent);
            assert_eq!(findings[0].level, level, "{value}");
            let text = text(&findings);
            assert!(text.contains(said) && !text.contains("hunter2"), "{text}");
        }
        let none = proxy_variable_findings(proxy(), &|_| None);
        assert_eq!((none.len(), none[0].level), (1, Level::Note));
    }

    #[test]
    fn exemptions_that_catch_an_apps_host_are_problems() {
        let hosts: Vec<Host> =
            ["slack.com", "api.github.com"].map(|host| host.parse().expect(host)).into();
        for (list, problems) in [
            ("", 0),
            ("localhost,127.0.0.1,::1", 0),
            ("*", 1),
            (".com", 1),
            ("Slack.com", 1),
            ("github.com", 1),
            ("*.github.com:443", 1),
            ("hub.com,notslack.com", 0),
            ("slack.com, .github.com", 2),
        ] {
            let parent = |name: &str| (name == "NO_PROXY").then(|| list.to_owned());
            assert_eq!(no_proxy_findings(&hosts, &parent).len(), problems, "{list}");
        }
    }

    #[test]
    fn only_new_enough_nodes_read_the_variables() {
        for (version, level) in [
            ("v20.20.2", Some(Level::Note)),
            ("v22.20.0", Some(Level::Note)),
            ("v22.21.0", Some(Level::Good)),
            ("v24.21.0", Some(Level::Good)),
            ("v26.0.0", Some(Level::Good)),
            ("", None),
            ("node", None),
        ] {
            assert_eq!(node_version_finding(version).map(|f| f.level), level, "{version}");
        }
    }

    #[test]
    fn a_fresh_machine_has_no_problem_but_a_listener_that_is_down() {
        let dir = tempfile::tempdir().expect("a directory");
        let data_dir = dir.path().join("data");
        let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let up = unused.local_addr().expect("bound");
        let setup = Setup {
            config_file: None,
            config_mistakes: &[],
            data_dir: &data_dir,
            listeners: &[("proxy", up)],
            proxy: up,
            hosts: &[],
            now: SystemTime::now(),
        };
        let empty: HashMap<&str, String> = HashMap::new();
        let parent = |name: &str| empty.get(name).cloned();
        let findings = check(&setup, &parent);
        assert_eq!(exit_code(&findings), 0, "{}", text(&findings));
        drop(unused);
        let findings = check(&setup, &parent);
        assert_eq!(exit_code(&findings), 1, "{}", text(&findings));
        assert!(!data_dir.exists(), "looking changes nothing");
    }

    #[test]
    fn mistakes_in_the_configuration_are_all_shown() {
        let mistakes = ["a.toml:1: x: one".to_owned(), "a.toml:2: y: two".to_owned()];
        let setup = Setup {
            config_file: Some(Path::new("a.toml")),
            config_mistakes: &mistakes,
            data_dir: Path::new("/nowhere"),
            listeners: &[],
            proxy: proxy(),
            hosts: &[],
            now: SystemTime::now(),
        };
        let found: Vec<String> = config_findings(&setup).into_iter().map(|f| f.text).collect();
        assert_eq!(found, mistakes);
    }
}
