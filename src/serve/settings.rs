//! What each room is told of the configuration, with its files and secrets read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::ground::RUNS;
use super::{Error, Options};
use crate::config::{self, Config, LogFormat, WebTls};
use crate::forward::Patience;
use crate::host::Host;
use crate::proxy::Limits;
use crate::proxy::ca::{self, CaSettings, CertificateAuthority};
use crate::sources;
use crate::telemetry::{self, AuditSettings, LogSettings, Style};
use crate::upstream;
use crate::web::Tls;

pub(super) fn telemetry_settings(config: &Config, options: &Options) -> telemetry::Settings {
    let style = match config.log.format {
        LogFormat::Auto => Style::for_stderr(),
        LogFormat::Text => Style::Text,
        LogFormat::Json => Style::Json,
    };
    let file = audit_file(config, options);
    telemetry::Settings {
        log: LogSettings {
            style,
            filter: config.log.filter.clone(),
            requests: config.log.requests,
            sink: options.sink.clone(),
        },
        audit: config.audit.enabled.then_some(AuditSettings {
            file,
            strict: config.audit.strict,
            queue: config.audit.queue,
            max_file_bytes: config.audit.max_file_bytes as u64,
        }),
        clock: options.clock.clone(),
    }
}

/// A server's audit is one chain. `run` may work beside a server on the same data directory, so
/// each of its runs has a chain of its own.
pub(super) fn audit_file(config: &Config, options: &Options) -> PathBuf {
    match &options.own {
        Some(_) => config.data_dir.join(RUNS).join(format!("{}.jsonl", std::process::id())),
        None => config.audit.file.clone().unwrap_or_else(|| config.data_dir.join("audit.jsonl")),
    }
}

pub(super) fn ca_settings(config: &Config) -> CaSettings {
    CaSettings {
        permitted: config.ca.permitted.clone(),
        ca_lifetime: config.ca.ca_lifetime,
        leaf_lifetime: config.ca.leaf_lifetime,
        leaf_cache: config.ca.leaf_cache,
    }
}

pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        max_connections: config.proxy.max_connections,
        max_header_bytes: config.proxy.max_header_bytes,
        handshake_timeout: config.proxy.handshake_timeout,
        patience: Patience { idle: config.proxy.idle_timeout, head: config.proxy.header_timeout },
    }
}

pub(super) async fn upstream_settings(
    config: &config::Upstream,
) -> Result<upstream::Settings, Error> {
    let proxy = match &config.proxy {
        None => None,
        Some(parent) => Some(upstream::Parent {
            authority: parent.authority.clone(),
            credentials: match &parent.credentials {
                None => None,
                Some(held) => Some(sources::read(held).await.map_err(Error::ParentCredentials)?),
            },
            resolve_locally: parent.resolve_locally,
        }),
    };
    Ok(upstream::Settings {
        resolve: config.resolve.clone(),
        roots: read_roots(&config.roots)?,
        allow: config.allow.clone(),
        bind: config.bind,
        proxy,
        http2: config.http2,
        connect_timeout: config.connect_timeout,
        tls_timeout: config.tls_timeout,
        first_byte_timeout: config.first_byte_timeout,
        idle_timeout: config.idle_timeout,
        keep_alive: config.keep_alive,
        max_idle_per_host: config.max_idle_per_host,
        max_connections_per_host: config.max_connections_per_host,
    })
}

fn read_roots(paths: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut roots = Vec::new();
    for path in paths {
        let failed = |why: String| Error::File { key: "upstream.roots", path: path.clone(), why };
        let read =
            CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        let before = roots.len();
        for certificate in read {
            roots.push(certificate.map_err(|error| failed(error.to_string()))?);
        }
        if roots.len() == before {
            return Err(failed("holds no certificate in PEM".to_owned()));
        }
    }
    Ok(roots)
}

/// Files that the configuration names and that cannot be used: for `check`, which binds nothing.
pub fn unreadable_files(config: &Config) -> Vec<(&'static str, String)> {
    let roots = read_roots(&config.upstream.roots).err().map(|error| ("upstream.roots", error));
    let tls = config.proxy.tls.as_ref().and_then(|_| listener_tls(config).err());
    let tls = tls.map(|error| ("proxy.tls", error));
    let of_web = config.web.tls.as_ref().filter(|tls| matches!(tls, WebTls::Own { .. }));
    let of_web = of_web.and_then(|tls| own_web_tls(tls).err()).map(|error| ("web.tls", error));
    roots
        .into_iter()
        .chain(tls)
        .chain(of_web)
        .map(|(key, error)| (key, error.to_string()))
        .collect()
}

pub(super) fn web_tls(
    config: &Config,
    ca: &Arc<CertificateAuthority>,
    hosts: &[Host],
) -> Result<Option<Tls>, Error> {
    let Some(tls) = &config.web.tls else { return Ok(None) };
    match tls {
        WebTls::LocalCa => Ok(Some(Tls::local(ca.clone(), hosts.to_vec()))),
        WebTls::Own { .. } => Ok(Some(Tls::own(own_web_tls(tls)?))),
    }
}

fn own_web_tls(tls: &WebTls) -> Result<ServerConfig, Error> {
    let WebTls::Own { certificate, key } = tls else {
        let why = "no files are named".to_owned();
        return Err(Error::File { key: "web.tls", path: PathBuf::new(), why });
    };
    let certificate = read_file("web.tls.certificate", certificate)?;
    let key = zeroize::Zeroizing::new(read_file("web.tls.key", key)?);
    Ok(ca::listener_config(&certificate, &key, None)?)
}

fn read_file(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let failed =
        |error: io::Error| Error::File { key, path: path.to_owned(), why: error.to_string() };
    std::fs::read(path).map_err(failed)
}

pub(super) fn listener_tls(config: &Config) -> Result<Arc<ServerConfig>, Error> {
    let Some(tls) = &config.proxy.tls else {
        let path = config.file.clone().unwrap_or_default();
        let why = "proxy.tls_listen needs [proxy.tls]".to_owned();
        return Err(Error::File { key: "proxy.tls", path, why });
    };
    let read = |key, path: &PathBuf| read_file(key, path);
    let certificate = read("proxy.tls.certificate", &tls.certificate)?;
    let key = zeroize::Zeroizing::new(read("proxy.tls.key", &tls.key)?);
    let client_ca =
        tls.client_ca.as_ref().map(|path| read("proxy.tls.client_ca", path)).transpose()?;
    Ok(Arc::new(ca::listener_config(&certificate, &key, client_ca.as_deref())?))
}
