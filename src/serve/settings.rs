//! What each room is told of the configuration, with its files and secrets read.

use std::path::PathBuf;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::ground::RUNS;
use super::{Error, Options, certificates};
use crate::config::{self, Config, LogFormat};
use crate::forward::Patience;
use crate::proxy::Limits;
use crate::proxy::ca::CaSettings;
use crate::sources;
use crate::telemetry::{self, AuditSettings, LogSettings, Style};
use crate::upstream;

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
    roots
        .into_iter()
        .chain(certificates::mistakes(config))
        .map(|(key, error)| (key, error.to_string()))
        .collect()
}
