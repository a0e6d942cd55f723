//! The variables that make an unmodified client use the proxy and trust its CA.
//!
//! Pure: the parent's environment is handed in. Every client reads variables of its own, so all of
//! them are set; the list is what measuring each client showed to be enough and necessary.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// How the parent's environment is asked.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where the client finds the proxy.
pub struct ProxyUrl {
    pub address: SocketAddr,
    /// `caller:token`, unreserved characters only; `None` for a listener that knows its caller.
    pub userinfo: Option<Secret>,
}

impl ProxyUrl {
    /// Carries the token if there is one. The scheme is required by half of all clients.
    pub fn to_text(&self) -> String {
        match &self.userinfo {
            Some(userinfo) => format!("http://{}@{}", userinfo.expose(), self.address),
            None => format!("http://{}", self.address),
        }
    }
}

/// The files that some variables name.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// PEM: the roots in effect and ours. Most of the variables replace the client's roots.
    pub bundle: PathBuf,
    pub wgetrc: PathBuf,
    /// A directory with an ini file for PHP.
    pub php_ini: PathBuf,
    /// PKCS #12, its password [`TRUSTSTORE_PASSWORD`].
    pub truststore: Option<PathBuf>,
}

/// A trust store holds certificates only, so its password protects nothing; Java wants one.
pub const TRUSTSTORE_PASSWORD: &str = "changeit";

/// Clients that are only reachable without the proxy, and the proxy itself.
const NEVER_PROXIED: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Upper and lower case, because curl reads only `http_proxy`, wget only lower case, and Ruby
/// `http_proxy` for https too.
pub const PROXY_VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Each is the only one that some client reads.
pub const CA_VARIABLES: [&str; 14] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "NPM_CONFIG_CAFILE",
    "HTTPLIB2_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NIX_SSL_CERT_FILE",
];

/// Tools' own variables that outrank the general ones; a child must not have them.
pub const OUTRANKING: [&str; 7] = [
    "CARGO_HTTP_PROXY",
    "NPM_CONFIG_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "npm_config_proxy",
    "npm_config_https_proxy",
    "npm_config_cafile",
    "PIP_PROXY",
];

/// Everything to set, in a fixed order.
pub fn variables(
    proxy: &ProxyUrl,
    files: &ClientFiles,
    parent: Lookup<'_>,
) -> Vec<(&'static str, String)> {
    let url = proxy.to_text();
    let bundle = files.bundle.display().to_string();
    let no_proxy = no_proxy(parent);
    let mut set: Vec<_> = PROXY_VARIABLES.map(|name| (name, url.clone())).into();
    set.push(("NO_PROXY", no_proxy.clone()));
    set.push(("no_proxy", no_proxy));
    // Never NODE_OPTIONS=--use-env-proxy: Node 20 refuses to start with an option it lacks.
    set.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    set.extend(CA_VARIABLES.map(|name| (name, bundle.clone())));
    set.push(("WGETRC", files.wgetrc.display().to_string()));
    set.push(("PHP_INI_SCAN_DIR", php_scan_dir(&files.php_ini, parent)));
    if proxy.userinfo.is_some() {
        // Without it git waits for a 407 and asks on the terminal.
        set.push(("GIT_HTTP_PROXY_AUTHMETHOD", "basic".to_owned()));
    }
    if let Some(truststore) = &files.truststore {
        set.push(("JAVA_TOOL_OPTIONS", java_options(proxy.address, truststore, parent)));
    }
    set
}

/// What the user exempted, and loopback, which only Go and Ruby exempt by themselves. Without a
/// lone `*`: that would turn the proxy off.
fn no_proxy(parent: Lookup<'_>) -> String {
    let theirs = [parent("NO_PROXY"), parent("no_proxy")].map(Option::unwrap_or_default);
    let mut entries: Vec<&str> = Vec::new();
    let all = theirs.iter().flat_map(|list| list.split([',', ' '])).map(str::trim);
    for entry in all.chain(NEVER_PROXIED) {
        if !entry.is_empty() && entry != "*" && !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    entries.join(",")
}

/// An empty first element is PHP's compiled-in directory.
fn php_scan_dir(ours: &Path, parent: Lookup<'_>) -> String {
    let separator = if cfg!(windows) { ';' } else { ':' };
    let (theirs, ours) = (parent("PHP_INI_SCAN_DIR").unwrap_or_default(), ours.display());
    let ours = format!("{separator}{ours}");
    // `eval "$(countersign env)"` may be run again in the same shell.
    if theirs.ends_with(&ours) { theirs } else { theirs + &ours }
}

/// Java reads no proxy variable, and takes no proxy credentials from properties.
fn java_options(proxy: SocketAddr, truststore: &Path, parent: Lookup<'_>) -> String {
    let (host, port) = (proxy.ip(), proxy.port());
    let mut options = parent("JAVA_TOOL_OPTIONS").unwrap_or_default();
    for (name, value) in [
        ("http.proxyHost", host.to_string()),
        ("http.proxyPort", port.to_string()),
        ("https.proxyHost", host.to_string()),
        ("https.proxyPort", port.to_string()),
        ("http.nonProxyHosts", "localhost|127.*|[::1]".to_owned()),
        ("javax.net.ssl.trustStore", truststore.display().to_string()),
        ("javax.net.ssl.trustStoreType", "PKCS12".to_owned()),
        ("javax.net.ssl.trustStorePassword", TRUSTSTORE_PASSWORD.to_owned()),
    ] {
        let gap = if options.is_empty() { "" } else { " " };
        let _ = write!(options, "{gap}{}", java_quoted(&format!("-D{name}={value}")));
    }
    options
}

/// The JVM splits the variable at white space, and knows quotes but no escapes.
fn java_quoted(option: &str) -> String {
    if !option.contains(char::is_whitespace) && !option.contains(['\'', '"']) {
        return option.to_owned();
    }
    let parts = option.split('\'').map(|part| format!("'{part}'"));
    parts.collect::<Vec<_>>().join("\"'\"")
}

/// For whom variables are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// Also zsh, dash and other POSIX shells.
    Bash,
    Fish,
    Pwsh,
    /// A `.env` file.
    Dotenv,
    /// `docker run --env-file`, which knows no quotes.
    Docker,
    /// Lines for `$GITHUB_ENV`.
    Github,
}

/// A value that a format has no way to say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} has a line break, which a Docker env file cannot hold")]
pub struct Unwritable {
    name: String,
}

/// One line (or more) per variable, quoted so that the reader gets exactly the value.
pub fn render(shell: Shell, variables: &[(&str, String)]) -> Result<String, Unwritable> {
    let mut out = String::new();
    for (name, value) in variables {
        out.push_str(&render_one(shell, name, value)?);
        out.push('\n');
    }
    Ok(out)
}

fn render_one(shell: Shell, name: &str, value: &str) -> Result<String, Unwritable> {
    Ok(match shell {
        Shell::Bash => format!("export {name}={}", posix_quoted(value)),
        Shell::Fish => format!("set -gx {name} {}", fish_quoted(value)),
        Shell::Pwsh => format!("$env:{name} = {}", pwsh_quoted(value)),
        Shell::Dotenv => format!("{name}={}", dotenv_quoted(value)),
        Shell::Docker if value.contains(['\n', '\r']) => {
            return Err(Unwritable { name: name.to_owned() });
        }
        Shell::Docker => format!("{name}={value}"),
        Shell::Github => github_line(name, value),
    })
}

fn posix_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn fish_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// PowerShell takes typographic quotes for the plain one, and doubles each.
fn pwsh_quoted(value: &str) -> String {
    let mut out = String::from("'");
    for c in value.chars() {
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            out.push(c);
        }
        out.push(c);
    }
    out + "'"
}

/// Single quotes are literal in every dialect; only what they cannot hold goes in double quotes.
fn dotenv_quoted(value: &str) -> String {
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' | '$' | '`' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out + "\""
}

/// A value over several lines stands between two marks that do not occur in it.
fn github_line(name: &str, value: &str) -> String {
    if !value.contains(['\n', '\r']) {
        return format!("{name}={value}");
    }
    let mut mark = "EOF".to_owned();
    while value.contains(&mark) {
        mark.push('_');
    }
    format!("{name}<<{mark}\n{value}\n{mark}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::process::Command;

    use super::*;

    fn proxy(userinfo: Option<&str>) -> ProxyUrl {
        let userinfo = userinfo.map(|text| Secret::from(text.to_owned()));
        ProxyUrl { address: SocketAddr::from(([127, 0, 0, 1], 43121)), userinfo }
    }

    fn files() -> ClientFiles {
        ClientFiles {
            bundle: "/t/bundle.pem".into(),
            wgetrc: "/t/wgetrc".into(),
            php_ini: "/t/php".into(),
            truststore: None,
        }
    }

    fn set_for(
        proxy: &ProxyUrl,
        files: &ClientFiles,
        parent: &[(&str, &str)],
    ) -> HashMap<&'static str, String> {
        let parent: HashMap<&str, &str> = parent.iter().copied().collect();
        let lookup = |name: &str| parent.get(name).map(|value| (*value).to_owned());
        variables(proxy, files, &lookup).into_iter().collect()
    }

    #[test]
    fn every_proxy_and_ca_variable_is_set() {
        let set = set_for(&proxy(None), &files(), &[]);
        for name in PROXY_VARIABLES {
            assert_eq!(set[name], "http://127.0.0.1:43121", "{name}");
        }
        for name in CA_VARIABLES {
            assert_eq!(set[name], "/t/bundle.pem", "{name}");
        }
        assert_eq!(set["NODE_USE_ENV_PROXY"], "1");
        assert_eq!(set["PHP_INI_SCAN_DIR"], ":/t/php");
        for absent in ["SSL_CERT_DIR", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS"] {
            assert!(!set.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn git_is_told_to_send_credentials_only_if_there_are_any() {
        let set = set_for(&proxy(Some("flow:t0k")), &files(), &[]);
        assert_eq!(set["https_proxy"], "http://flow:t0k@127.0.0.1:43121");
        assert_eq!(set["GIT_HTTP_PROXY_AUTHMETHOD"], "basic");
        let set = set_for(&proxy(None), &files(), &[]);
        assert!(!set.contains_key("GIT_HTTP_PROXY_AUTHMETHOD"));
    }

    #[test]
    fn exemptions_are_merged_in_both_cases_without_the_one_that_exempts_all() {
        let loopback = "localhost,127.0.0.1,::1";
        for (upper, lower, merged) in [
            ("", "", loopback.to_owned()),
            (".corp.test", "", format!(".corp.test,{loopback}")),
            ("a.test, b.test", "b.test,c.test", format!("a.test,b.test,c.test,{loopback}")),
            ("localhost", "*", "localhost,127.0.0.1,::1".to_owned()),
        ] {
            let parent = [("NO_PROXY", upper), ("no_proxy", lower)];
            let set = set_for(&proxy(None), &files(), &parent);
            assert_eq!(set["NO_PROXY"], merged);
            assert_eq!(set["no_proxy"], merged);
        }
    }

    #[test]
    fn java_gets_properties_after_the_users_own() {
        let truststore = Some("/my dir/trust.p12".into());
        let files = ClientFiles { truststore, ..files() };
        let set = set_for(&proxy(None), &files, &[("JAVA_TOOL_OPTIONS", "-Xmx1g")]);
        let options = &set["JAVA_TOOL_OPTIONS"];
        assert!(options.starts_with("-Xmx1g -Dhttp.proxyHost=127.0.0.1"), "{options}");
        assert!(options.contains("'-Djavax.net.ssl.trustStore=/my dir/trust.p12'"), "{options}");
    }

    #[test]
    fn the_users_php_directory_comes_first_and_ours_once() {
        for theirs in ["/etc/php.d", "/etc/php.d:/t/php"] {
            let set = set_for(&proxy(None), &files(), &[("PHP_INI_SCAN_DIR", theirs)]);
            assert_eq!(set["PHP_INI_SCAN_DIR"], "/etc/php.d:/t/php");
        }
    }

    const HOSTILE: [&str; 12] = [
        "",
        "plain",
        "with space",
        "it's",
        "'; touch /tmp/owned; '",
        "$(id) `id` $HOME ${HOME}",
        "back\\slash\\'",
        "double \"quotes\"",
        "two\nlines",
        "# no comment",
        "typographic \u{2019}; exit #",
        "EOF\nEOF_",
    ];

    #[test]
    fn a_shell_reads_back_exactly_what_was_written() {
        for value in HOSTILE {
            let script = render_one(Shell::Bash, "V", value).expect("written");
            let printed = format!("{script}\nprintf %s \"$V\"");
            for shell in ["sh", "bash"] {
                let output = Command::new(shell).arg("-c").arg(&printed).output();
                let Ok(output) = output else { continue };
                assert_eq!(String::from_utf8_lossy(&output.stdout), value, "{shell}");
            }
        }
    }

    #[test]
    fn hostile_values_are_quoted_as_each_format_demands() {
        for (shell, value, line) in [
            (Shell::Bash, "it's", r"export V='it'\''s'"),
            (Shell::Fish, r"it's \n", r"set -gx V 'it\'s \\n'"),
            (Shell::Fish, "$(id)", "set -gx V '$(id)'"),
            (Shell::Pwsh, "it's", "$env:V = 'it''s'"),
            (Shell::Pwsh, "a\u{2019}b", "$env:V = 'a\u{2019}\u{2019}b'"),
            (Shell::Pwsh, "$env:X", "$env:V = '$env:X'"),
            (Shell::Dotenv, "a $b # c", "V='a $b # c'"),
            (Shell::Dotenv, "it's $5 \"now\"\n", r#"V="it's \$5 \"now\"\n""#),
            (Shell::Docker, "a 'b' $c", "V=a 'b' $c"),
            (Shell::Github, "a=b", "V=a=b"),
            (Shell::Github, "a\nEOF", "V<<EOF_\na\nEOF\nEOF_"),
        ] {
            assert_eq!(render_one(shell, "V", value).as_deref(), Ok(line), "{shell:?}");
        }
    }

    #[test]
    fn a_line_break_that_docker_cannot_hold_is_refused_by_name() {
        let error = render(Shell::Docker, &[("V", "a\nB=c".to_owned())]).unwrap_err();
        assert!(error.to_string().starts_with("V has a line break"), "{error}");
    }
}
