//! The sections with fixed keys, and their defaults. `config/countersign.toml` says the same to
//! people, and a test holds the two together.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::secrets::{path, reference};
use super::shape::{Table, Value};
use super::values::{
    address, bytes, duration, host, host_and_port, listener, network, optional_listener, parsed,
    proxy_url, target,
};
use super::{
    Admin, Audit, Ca, ListenerTls, Log, LogFormat, Login, Oidc, Override, Place, Proxy, SecretRef,
    Store, Untouched, Upstream, UpstreamProxy, Vault, Web, WebTls, Webhook,
};
use crate::secret::Secret;

const PROXY_PORT: u16 = 3128;
const WEB_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9464;

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// The HTTP/1 parser works in a buffer of at least this size.
/// Less than the longest line would be a file for each.
const LEAST_AUDIT_BYTES: usize = 64 * 1024;
const LEAST_HEADER_BYTES: usize = 8 * 1024;
const MOST_HEADER_BYTES: usize = 16 * 1024 * 1024;
/// Apple's platforms refuse server certificates that live longer.
const LONGEST_LEAF: Duration = Duration::from_secs(397 * DAY);

pub(super) fn proxy(table: &Table<'_>, base: &Path) -> Proxy {
    let seconds = |key, default| time(table, key, default);
    let proxy = Proxy {
        listen: table.list("listen", listener).unwrap_or_else(|| vec![loopback(PROXY_PORT)]),
        tls_listen: table.list("tls_listen", listener).unwrap_or_default(),
        tls: listener_tls(&table.table("tls"), base),
        unmatched: table.text("unmatched", untouched).unwrap_or(Untouched::Tunnel),
        unbound: table.text("unbound", untouched).unwrap_or(Untouched::Deny),
        max_connections: count(table, "max_connections", 10_000),
        max_tunnels_per_caller: count(table, "max_tunnels_per_caller", 1024),
        max_header_bytes: table.number("max_header_bytes", header_bytes).unwrap_or(64 * 1024),
        header_timeout: seconds("header_timeout", 10),
        handshake_timeout: seconds("handshake_timeout", 10),
        idle_timeout: seconds("idle_timeout", 10 * MINUTE),
        shutdown_timeout: seconds("shutdown_timeout", 25),
    };
    if !proxy.tls_listen.is_empty() && proxy.tls.is_none() {
        table.say("`tls_listen` needs a certificate: add [proxy.tls] with `certificate` and `key`");
    }
    table.done();
    proxy
}

fn listener_tls(table: &Table<'_>, base: &Path) -> Option<ListenerTls> {
    let file = |text: &str| path(text, base);
    let certificate = table.text("certificate", file);
    let key = table.text("key", file);
    let client_ca = table.text("client_ca", file);
    let client_crl = table.text("client_crl", file);
    if client_crl.is_some() && client_ca.is_none() {
        table.say("`client_crl` needs `client_ca`: without one no certificate is asked for");
    }
    if table.is_present() && !(table.has("certificate") && table.has("key")) {
        table.say("`certificate` and `key` are both needed");
    }
    table.done();
    Some(ListenerTls { certificate: certificate?, key: key?, client_ca, client_crl })
}

pub(super) fn web(table: &Table<'_>, base: &Path) -> Web {
    let web = Web {
        listen: table.text("listen", optional_listener).unwrap_or(Some(loopback(WEB_PORT))),
        hosts: table.list("hosts", host).unwrap_or_default(),
        public_url: table.text("public_url", public_url),
        tls: web_tls(&table.table("tls"), base),
        call_timeout: time(table, "call_timeout", 30),
        call_timeouts: call_timeouts(&table.table("call_timeouts")),
    };
    table.done();
    web
}

fn call_timeouts(table: &Table<'_>) -> BTreeMap<String, Duration> {
    let one = |(app, value): (&str, Value<'_>)| {
        let read = value.or_say(value.text().and_then(|text| duration(&text)))?;
        Some((app.to_owned(), read))
    };
    table.entries().into_iter().filter_map(one).collect()
}

pub(super) fn login(table: &Table<'_>, base: &Path) -> Login {
    let login = Login {
        idle_timeout: time(table, "idle_timeout", 12 * 60 * MINUTE),
        lifetime: time(table, "lifetime", 14 * DAY),
        password: table.flag("password", true),
        oidc: oidc(&table.table("oidc"), base),
    };
    if !login.password && login.oidc.is_none() {
        table.say("without passwords nobody can log in: add [login.oidc]");
    }
    table.done();
    login
}

fn oidc(table: &Table<'_>, base: &Path) -> Option<Oidc> {
    let domain = |text: &str| host(text).map(|host| host.as_str().to_owned());
    let usual = || ["openid", "email", "profile"].map(str::to_owned).to_vec();
    let issuer = table.text("issuer", issuer);
    let client_id = table.text("client_id", |text| Ok(text.to_owned()));
    let oidc = Oidc {
        issuer: issuer.clone().unwrap_or_default(),
        name: table
            .text("name", |text| Ok(text.to_owned()))
            .unwrap_or_else(|| "single sign-on".to_owned()),
        client_id: client_id.clone().unwrap_or_default(),
        client_secret: table.value("client_secret").and_then(|secret| reference(&secret, base)),
        scopes: table.list("scopes", |text| Ok(text.to_owned())).unwrap_or_else(usual),
        domains: table.list("domains", domain).unwrap_or_default(),
        trust_email: table.flag("trust_email", false),
    };
    if table.is_present() && !(table.has("issuer") && table.has("client_id")) {
        table.say("`issuer` and `client_id` are both needed");
    }
    table.done();
    (issuer.is_some() && client_id.is_some()).then_some(oidc)
}

fn issuer(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
    match url.scheme() {
        "https" | "http" if url.query().is_none() && url.fragment().is_none() => {
            Ok(text.to_owned())
        }
        _ => Err("an issuer is a URL such as https://idp.example.com, as the provider says it"
            .to_owned()),
    }
}

fn web_tls(table: &Table<'_>, base: &Path) -> Option<WebTls> {
    let file = |text: &str| path(text, base);
    let certificate = table.text("certificate", file);
    let key = table.text("key", file);
    let local = table.flag("local_ca", false);
    table.done();
    match (certificate, key, local) {
        (Some(certificate), Some(key), false) => Some(WebTls::Own { certificate, key }),
        (None, None, true) => Some(WebTls::LocalCa),
        _ => {
            if table.is_present() {
                table.say("use `certificate` and `key`, or `local_ca = true`");
            }
            None
        }
    }
}

pub(super) fn admin(table: &Table<'_>) -> Admin {
    let listen = table.text("listen", optional_listener).unwrap_or(Some(loopback(ADMIN_PORT)));
    table.done();
    Admin { listen }
}

pub(super) fn ca(table: &Table<'_>) -> Ca {
    let ca = Ca {
        permitted: table.list("permitted", host).unwrap_or_default(),
        ca_lifetime: time(table, "ca_lifetime", 365 * DAY),
        leaf_lifetime: time(table, "leaf_lifetime", 7 * DAY),
        leaf_cache: count(table, "leaf_cache", 1024),
    };
    if ca.leaf_lifetime > LONGEST_LEAF {
        table.say("`leaf_lifetime` is at most 397d: Apple's systems refuse longer ones");
    }
    if ca.leaf_lifetime > ca.ca_lifetime {
        table.say("`leaf_lifetime` is longer than `ca_lifetime`");
    }
    table.done();
    ca
}

pub(super) fn upstream(table: &Table<'_>, base: &Path) -> Upstream {
    let seconds = |key, default| time(table, key, default);
    let upstream = Upstream {
        resolve: overrides(&table.table("resolve")),
        roots: table.list("roots", |text| path(text, base)).unwrap_or_default(),
        allow: table.list("allow", network).unwrap_or_default(),
        bind: table.text("bind", address),
        proxy: parent(&table.table("proxy"), base),
        http2: table.flag("http2", true),
        connect_timeout: seconds("connect_timeout", 10),
        tls_timeout: seconds("tls_timeout", 10),
        first_byte_timeout: seconds("first_byte_timeout", MINUTE),
        idle_timeout: seconds("idle_timeout", 5 * MINUTE),
        keep_alive: seconds("keep_alive", MINUTE),
        max_idle_per_host: count(table, "max_idle_per_host", 256),
        max_connections_per_host: count(table, "max_connections_per_host", 1024),
    };
    table.done();
    upstream
}

fn overrides(table: &Table<'_>) -> Vec<Override> {
    let one = |(key, value): (&str, Value<'_>)| {
        let from = value.or_say(host_and_port(key));
        let to = value.or_say(value.text().and_then(|text| target(&text)));
        let (host, port) = from?;
        Some(Override { host, port, to: to? })
    };
    table.entries().into_iter().filter_map(one).collect()
}

fn parent(table: &Table<'_>, base: &Path) -> Option<UpstreamProxy> {
    let authority = table.text("url", proxy_url);
    let credentials = table.value("credentials").and_then(|value| reference(&value, base));
    let resolve_locally = table.text("resolve", |text| match text {
        "local" => Ok(true),
        "remote" => Ok(false),
        _ => Err(format!("\"{}\" is neither \"local\" nor \"remote\"", text.escape_debug())),
    });
    if table.is_present() && !table.has("url") {
        table.say("`url` is missing: \"http://host:port\"");
    }
    table.done();
    let resolve_locally = resolve_locally.unwrap_or(true);
    Some(UpstreamProxy { authority: authority?, credentials, resolve_locally })
}

pub(super) fn log(table: &Table<'_>) -> Log {
    let log = Log {
        format: table.text("format", log_format).unwrap_or(LogFormat::Auto),
        filter: table.text("filter", log_filter).unwrap_or_else(|| "info".to_owned()),
        requests: table.flag("requests", true),
    };
    table.done();
    log
}

pub(super) fn audit(table: &Table<'_>, base: &Path) -> Audit {
    let audit = Audit {
        file: table.text("file", |text| path(text, base)),
        enabled: table.flag("enabled", true),
        strict: table.flag("strict", false),
        queue: count(table, "queue", 8192),
        max_file_bytes: table.number("max_file_bytes", audit_size).unwrap_or(1 << 30),
    };
    if audit.strict && !audit.enabled {
        table.say("`strict` needs `enabled = true`: every request would be refused");
    }
    table.done();
    audit
}

pub(super) fn vault(table: &Table<'_>, base: &Path) -> Vault {
    let vault = Vault {
        store: table.value("url").and_then(|url| store(&url, base)).unwrap_or(Store::Sqlite),
        key: table.value("key").and_then(|key| reference(&key, base)),
        old_keys: references(table, "old_keys", base),
        export: table.flag("export", true),
    };
    table.done();
    vault
}

pub(super) fn webhook(table: &Table<'_>, base: &Path) -> Option<Webhook> {
    let url = table.text("url", webhook_url);
    let secret = table.value("secret").and_then(|secret| reference(&secret, base));
    if table.is_present() && !table.has("url") && !table.has("secret") {
        table.say("`url` is missing (\"https://…\"), or a `secret` to sign those of connecting");
    }
    table.done();
    table.is_present().then_some(Webhook { url, secret })
}

/// Scheme and host, and a path if a front puts us below one.
fn public_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    match (url.scheme(), url.host_str()) {
        ("https" | "http", Some(_)) if plain => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("expected \"https://host\", or with a path".to_owned()),
    }
}

fn webhook_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
    let on_this_machine = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match url.scheme() {
        "https" => Ok(text.to_owned()),
        "http" if on_this_machine => Ok(text.to_owned()),
        _ => Err("a webhook goes over https, or to this machine".to_owned()),
    }
}

/// A word or a URL as text; a URL with a password had better be a reference.
fn store(url: &Value<'_>, base: &Path) -> Option<Store> {
    if url.table().is_ok() {
        return reference(url, base).map(Store::Postgres);
    }
    url.or_say(url.text().and_then(|text| match &*text {
        "off" => Ok(Store::Off),
        "sqlite" => Ok(Store::Sqlite),
        text if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
            let place = Place::Inline(Secret::from(text.to_owned()));
            Ok(Store::Postgres(SecretRef { place, ttl: None, failure_ttl: Duration::ZERO }))
        }
        _ => Err("expected \"sqlite\", \"off\", or \"postgres://user@host/database\"".to_owned()),
    }))
}

fn references(table: &Table<'_>, key: &'static str, base: &Path) -> Vec<SecretRef> {
    let entries = table.value(key).map(|list| list.entries()).unwrap_or_default();
    entries.iter().filter_map(|entry| reference(entry, base)).collect()
}

fn untouched(text: &str) -> Result<Untouched, String> {
    match text {
        "tunnel" => Ok(Untouched::Tunnel),
        "deny" => Ok(Untouched::Deny),
        _ => Err(format!("\"{}\" is neither \"tunnel\" nor \"deny\"", text.escape_debug())),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("\"{}\" is none of \"auto\", \"text\" and \"json\"", text.escape_debug())),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("no filter: {error}; for example \"info,countersign=debug\"")),
    }
}

fn header_bytes(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        size if (LEAST_HEADER_BYTES..=MOST_HEADER_BYTES).contains(&size) => Ok(size),
        _ => Err("must be from 8KiB to 16MiB".to_owned()),
    }
}

fn audit_size(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        size if size == 0 || size >= LEAST_AUDIT_BYTES => Ok(size),
        _ => Err("must be 64KiB or more, or 0 for no limit".to_owned()),
    }
}

fn time(table: &Table<'_>, key: &'static str, default_seconds: u64) -> Duration {
    table.text(key, duration).unwrap_or(Duration::from_secs(default_seconds))
}

fn count(table: &Table<'_>, key: &'static str, default: usize) -> usize {
    let positive = |text: &str| parsed::<std::num::NonZeroUsize>(text).map(Into::into);
    let read = |text: &str| positive(text).map_err(|_| "must be 1 or more".to_owned());
    table.number(key, read).unwrap_or(default)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
