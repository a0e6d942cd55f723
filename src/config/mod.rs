//! The configuration as finished domain values. There is no half-valid form: [`Draft`] reads the
//! TOML shape and the environment, and reports every mistake at once, with line and key.
//!
//! Pure: text, environment and catalog are handed in. Secrets are references here ([`SecretRef`]);
//! `sources` reads them.

mod accounts;
mod callers;
mod draft;
mod env;
mod mistakes;
mod rules;
mod secrets;
mod sections;
mod shape;
mod values;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

pub use accounts::{open_hosts, origins, origins_brought};
pub use draft::Draft;
pub use rules::{RuleEffect, RuleText, rules_from_json, rules_to_json};
pub use values::duration;

use crate::catalog::Catalog;
pub use crate::catalog::Mistake;
use crate::host::{Authority, Host};
use crate::ids::{AccountId, AppId, CallerId};
use crate::policy::CallerPolicy;
use crate::secret::{Secret, TokenDigest};

/// Everything that can be configured, checked.
#[derive(Clone)]
pub struct Config {
    /// The file it was read from; `None` for the defaults.
    pub file: Option<PathBuf>,
    pub data_dir: PathBuf,
    /// Further app definitions, beside the embedded ones; same slug replaces.
    pub apps_dir: Option<PathBuf>,
    pub proxy: Proxy,
    pub web: Web,
    pub login: Login,
    pub admin: Admin,
    pub ca: Ca,
    pub upstream: Upstream,
    pub log: Log,
    pub audit: Audit,
    pub vault: Vault,
    pub webhook: Option<Webhook>,
    pub catalog: Arc<Catalog>,
    pub accounts: Vec<Account>,
    pub callers: Vec<Caller>,
}

impl Config {
    /// The environment variables that secrets are read from: what a child process must not get.
    pub fn secret_variables(&self) -> BTreeSet<&str> {
        let of_accounts = self.accounts.iter().flat_map(|account| account.secrets.values());
        let of_callers = self.callers.iter().flat_map(|caller| &caller.tokens);
        let of_callers = of_callers.filter_map(|token| match token {
            Token::Reference(reference) => Some(reference),
            Token::Digest(_) => None,
        });
        let of_parent = self.upstream.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref());
        let all = of_accounts.chain(of_callers).chain(of_parent).chain(self.vault.secrets());
        let of_login = self.login.oidc.iter().filter_map(|oidc| oidc.client_secret.as_ref());
        let all = all.chain(of_login);
        let of_webhook = self.webhook.iter().filter_map(|webhook| webhook.secret.as_ref());
        let all = all.chain(of_webhook);
        all.filter_map(|reference| match &reference.place {
            Place::Env(name) => Some(name.as_str()),
            Place::File(_) | Place::Exec { .. } | Place::Inline(_) => None,
        })
        .collect()
    }
}

/// `[proxy]`: the forward proxy's listeners.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub listen: Vec<SocketAddr>,
    /// Listeners that speak TLS to the client (`HTTPS_PROXY=https://…`).
    pub tls_listen: Vec<SocketAddr>,
    pub tls: Option<ListenerTls>,
    /// Hosts of no app.
    pub unmatched: Untouched,
    /// Hosts of an app of which the caller has no account.
    pub unbound: Untouched,
    pub max_connections: usize,
    /// Blind tunnels and WebSockets that one caller may hold open.
    pub max_tunnels_per_caller: usize,
    pub max_header_bytes: usize,
    pub header_timeout: Duration,
    pub handshake_timeout: Duration,
    /// A connection or tunnel without a byte in either direction.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to end after SIGTERM.
    pub shutdown_timeout: Duration,
}

/// What happens to traffic that gets no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouched {
    Tunnel,
    Deny,
}

#[derive(Clone, Debug)]
pub struct ListenerTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Callers may prove themselves with certificates that this CA signed.
    pub client_ca: Option<PathBuf>,
    /// Those of them that do not count any more.
    pub client_crl: Option<PathBuf>,
}

/// `[web]`: gateway, API and pages.
#[derive(Clone, Debug)]
pub struct Web {
    pub listen: Option<SocketAddr>,
    /// Names by which the listener may be addressed, beside its own address (DNS rebinding).
    pub hosts: Vec<Host>,
    /// By which people reach it: `https://countersign.example.com`. `None`: the listener's address.
    pub public_url: Option<String>,
    /// Set: it speaks https itself.
    pub tls: Option<WebTls>,
    /// How long an API may take to begin its answer to a proxy call.
    pub call_timeout: Duration,
    /// The same by app.
    pub call_timeouts: BTreeMap<String, Duration>,
}

/// `[web.tls]`: whose certificate browsers see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebTls {
    Own {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// The local CA's, for `localhost` and the listener's other names.
    LocalCa,
}

/// `[login]`: members of the workspace.
#[derive(Clone)]
pub struct Login {
    /// A session in which nothing is done ends.
    pub idle_timeout: Duration,
    /// Every session ends.
    pub lifetime: Duration,
    /// Whether members may log in with a password.
    pub password: bool,
    pub oidc: Option<Oidc>,
}

/// `[login.oidc]`: the identity provider at which members log in.
#[derive(Clone)]
pub struct Oidc {
    pub issuer: String,
    /// What the button says.
    pub name: String,
    pub client_id: String,
    /// `None`: a public client.
    pub client_secret: Option<SecretRef>,
    pub scopes: Vec<String>,
    /// Whoever has a verified address there becomes a member; lower case.
    pub domains: Vec<String>,
    /// Addresses count also where the provider does not say that it verified them.
    pub trust_email: bool,
}

/// `[admin]`: metrics and health.
#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: Option<SocketAddr>,
}

/// `[ca]`: the local CA, used when it is first created.
#[derive(Clone, Debug)]
pub struct Ca {
    /// Name constraints: the CA can then sign for these names and the names below them only.
    pub permitted: Vec<Host>,
    pub ca_lifetime: Duration,
    pub leaf_lifetime: Duration,
    pub leaf_cache: usize,
}

/// `[upstream]`: how origins are reached.
#[derive(Clone)]
pub struct Upstream {
    /// `host:port` (or `host` for all ports) to a fixed address, exempt from the address guard.
    pub resolve: Vec<Override>,
    /// PEM files with roots that are trusted beside the system's.
    pub roots: Vec<PathBuf>,
    /// Private ranges that may be dialled. Metadata addresses and our own ports never.
    pub allow: Vec<IpNet>,
    /// The local address to send from.
    pub bind: Option<IpAddr>,
    pub proxy: Option<UpstreamProxy>,
    pub http2: bool,
    pub connect_timeout: Duration,
    pub tls_timeout: Duration,
    /// From the request's end to the answer's head.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// How long an idle connection is kept for the next request.
    pub keep_alive: Duration,
    pub max_idle_per_host: usize,
    pub max_connections_per_host: usize,
}

/// A fixed address for a name, exempt from the address guard. `port: None` is every port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub host: Host,
    pub port: Option<u16>,
    pub to: SocketAddr,
}

/// A proxy to chain to.
#[derive(Clone)]
pub struct UpstreamProxy {
    pub authority: Authority,
    /// `user:password`.
    pub credentials: Option<SecretRef>,
    /// Names are resolved and guarded here, and the parent gets the address. Off: the parent
    /// resolves, so the address guard sees names only.
    pub resolve_locally: bool,
}

/// `[log]`: one line per request and what else is worth saying, on standard error.
#[derive(Clone, Debug)]
pub struct Log {
    pub format: LogFormat,
    /// A `tracing` filter: `info`, `countersign=debug`.
    pub filter: String,
    pub requests: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// `[audit]`: the chained record of every use.
#[derive(Clone, Debug)]
pub struct Audit {
    /// `None`: `audit.jsonl` in the data directory.
    pub file: Option<PathBuf>,
    pub enabled: bool,
    /// Written before bytes leave; a request that cannot be recorded is refused.
    pub strict: bool,
    /// Events that may wait for the disk.
    pub queue: usize,
    /// With more the file is put aside and the chain goes on in a new one; 0 is no limit.
    pub max_file_bytes: usize,
}

/// `[vault]`: where accounts are kept that people connect.
#[derive(Clone)]
pub struct Vault {
    pub store: Store,
    /// The master key. `None`: `COUNTERSIGN_MASTER_KEY`, else a file in the data directory.
    pub key: Option<SecretRef>,
    /// Keys of before, which open what they sealed until it is sealed anew.
    pub old_keys: Vec<SecretRef>,
    /// Whether commands and the API may hand out credentials.
    pub export: bool,
}

impl Vault {
    fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let url = match &self.store {
            Store::Postgres(url) => Some(url),
            Store::Off | Store::Sqlite => None,
        };
        self.key.iter().chain(&self.old_keys).chain(url)
    }
}

#[derive(Clone)]
pub enum Store {
    /// No database at all: the configuration is everything there is.
    Off,
    /// `countersign.db` in the data directory.
    Sqlite,
    /// The URL, which may hold a password.
    Postgres(SecretRef),
}

impl Store {
    pub fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Off, Self::Off) | (Self::Sqlite, Self::Sqlite) => true,
            (Self::Postgres(one), Self::Postgres(other)) => one.place.same_as(&other.place),
            _ => false,
        }
    }
}

/// `[webhook]`: who is told what becomes of accounts.
#[derive(Clone)]
pub struct Webhook {
    /// Who is told of accounts' health. `None`: nobody.
    pub url: Option<String>,
    /// What each is signed with, those of connecting too.
    pub secret: Option<SecretRef>,
}

/// Where a secret is read from.
#[derive(Clone)]
pub struct SecretRef {
    pub place: Place,
    /// Read again this often. `None`: at start, on reload, and when the origin answers 401.
    pub ttl: Option<Duration>,
    /// How long the last good value serves while reading fails.
    pub failure_ttl: Duration,
}

#[derive(Clone)]
pub enum Place {
    Env(String),
    File(PathBuf),
    Exec { command: Vec<String>, timeout: Duration },
    Inline(Secret),
}

impl Place {
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Env(one), Self::Env(other)) => one == other,
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Exec { command: one, .. }, Self::Exec { command: other, .. }) => one == other,
            (Self::Inline(one), Self::Inline(other)) => one.same_as(other),
            _ => false,
        }
    }
}

/// `[accounts.<name>]`.
#[derive(Clone)]
pub struct Account {
    pub name: AccountId,
    /// `apn_` and a digest of the name.
    pub id: AccountId,
    pub app: AppId,
    /// The app's `[auth.<id>]`.
    pub auth: String,
    /// Values that are no secret, such as a subdomain.
    pub fields: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretRef>,
}

/// `[callers.<name>]`.
#[derive(Clone)]
pub struct Caller {
    pub id: CallerId,
    pub tokens: Vec<Token>,
    /// The subject alternative name (DNS name, URI or e-mail) of its client certificate.
    pub certificate: Option<String>,
    pub expires_at: Option<SystemTime>,
    pub policy: CallerPolicy,
    pub rate: Option<Rate>,
    /// Requests in flight at once.
    pub max_concurrent: Option<u32>,
}

#[derive(Clone)]
pub enum Token {
    Digest(TokenDigest),
    Reference(SecretRef),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: std::num::NonZeroU32,
    pub burst: std::num::NonZeroU32,
}

#[cfg(test)]
mod tests;
