//! What the proxy saw of one command, and what that means for the user. The advice is what measuring
//! each client's behaviour showed.

use std::net::SocketAddr;

use super::Finding;

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
