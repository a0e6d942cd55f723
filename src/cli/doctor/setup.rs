//! What can be checked without a command: files, listeners, variables and the tools on the path.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;

use super::super::client_files::find_on_path;
use super::super::environment::{Lookup, PROXY_VARIABLES};
use super::Finding;
use crate::clock::rfc3339;
use crate::host::Host;
use crate::proxy::ca;

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

pub(super) fn config_findings(setup: &Setup<'_>) -> Vec<Finding> {
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
pub(super) fn proxy_variable_findings(proxy: SocketAddr, parent: Lookup<'_>) -> Vec<Finding> {
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

pub(super) fn no_proxy_findings(hosts: &[Host], parent: Lookup<'_>) -> Vec<Finding> {
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
pub(super) fn node_version_finding(version: &str) -> Option<Finding> {
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
