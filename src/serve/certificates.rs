//! The certificates of our own listeners: read at the start, and again when they are renewed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Error;
use crate::config::{Config, ListenerTls, WebTls};
use crate::proxy::ca::{self, CertificateAuthority, Clients};
use crate::web::{Tls, http1_only};

/// What the listeners show, for as long as they listen.
#[derive(Default)]
pub(super) struct Certificates {
    pub(super) proxy: Option<Renewable>,
    pub(super) web: Option<Renewable>,
}

/// What one listener shows.
pub(super) struct Renewable {
    pub(super) tls: Arc<ArcSwap<ServerConfig>>,
    /// Of all that it was made of.
    digest: [u8; 32],
}

impl Certificates {
    /// For the listeners of this configuration that have a certificate of their own.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what it should be.
    pub(super) fn read(config: &Config) -> Result<Self, Error> {
        let proxy = match config.proxy.tls_listen.is_empty() {
            true => None,
            false => Some(of_proxy(config)?),
        };
        Ok(Self { proxy, web: of_web(config).transpose()? })
    }

    /// Shows from now on what was read anew. Tickets of before are void then, so that nobody
    /// resumes what a certificate that was revoked since had begun.
    pub(super) fn renew(&mut self, read: Self) {
        for (what, ours, new) in
            [("[proxy.tls]", &mut self.proxy, read.proxy), ("[web.tls]", &mut self.web, read.web)]
        {
            let (Some(ours), Some(new)) = (ours, new) else { continue };
            if ours.digest != new.digest {
                ours.tls.store(new.tls.load_full());
                ours.digest = new.digest;
                tracing::info!("the certificate of {what} was read anew");
            }
        }
    }
}

/// The files that [`Certificates::read`] reads.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(ListenerTls { certificate, key, client_ca, client_crl }) = &config.proxy.tls {
        files.extend([certificate, key].into_iter().chain(client_ca).chain(client_crl).cloned());
    }
    if let Some(WebTls::Own { certificate, key }) = &config.web.tls {
        files.extend([certificate, key].map(PathBuf::clone));
    }
    files
}

/// Why the files of a configuration cannot be used, if they cannot.
pub(super) fn mistakes(config: &Config) -> impl Iterator<Item = (&'static str, Error)> {
    let proxy = config.proxy.tls.as_ref().and_then(|_| of_proxy(config).err());
    let web = of_web(config).and_then(Result::err);
    let proxy = proxy.map(|error| ("proxy.tls", error));
    proxy.into_iter().chain(web.map(|error| ("web.tls", error)))
}

/// How the web listener speaks TLS, if it does.
pub(super) fn web_tls(
    config: &Config,
    own: Option<&Renewable>,
    ca: &Arc<CertificateAuthority>,
    hosts: &[crate::host::Host],
) -> Option<Tls> {
    match (&config.web.tls, own) {
        (Some(WebTls::LocalCa), _) => Some(Tls::local(ca.clone(), hosts.to_vec())),
        (Some(WebTls::Own { .. }), Some(own)) => Some(Tls::Own(own.tls.clone())),
        _ => None,
    }
}

fn of_proxy(config: &Config) -> Result<Renewable, Error> {
    let Some(tls) = &config.proxy.tls else {
        let path = config.file.clone().unwrap_or_default();
        let why = "proxy.tls_listen needs [proxy.tls]".to_owned();
        return Err(Error::File { key: "proxy.tls", path, why });
    };
    let certificate = read_file("proxy.tls.certificate", &tls.certificate)?;
    let key = Zeroizing::new(read_file("proxy.tls.key", &tls.key)?);
    let optional =
        |key, path: &Option<PathBuf>| path.as_ref().map(|path| read_file(key, path)).transpose();
    let client_ca = optional("proxy.tls.client_ca", &tls.client_ca)?;
    let client_crl = optional("proxy.tls.client_crl", &tls.client_crl)?;
    let clients = client_ca.as_deref().map(|ca| Clients { ca, crl: client_crl.as_deref() });
    let made = ca::listener_config(&certificate, &key, clients)?;
    let parts = [Some(&certificate), Some(&*key), client_ca.as_ref(), client_crl.as_ref()];
    Ok(Renewable::new(made, parts))
}

/// `None`: the web listener has no certificate of its own.
fn of_web(config: &Config) -> Option<Result<Renewable, Error>> {
    let Some(WebTls::Own { certificate, key }) = &config.web.tls else { return None };
    let read = || {
        let certificate = read_file("web.tls.certificate", certificate)?;
        let key = Zeroizing::new(read_file("web.tls.key", key)?);
        let made = http1_only(ca::listener_config(&certificate, &key, None)?);
        Ok(Renewable::new(made, [Some(&certificate), Some(&*key), None, None]))
    };
    Some(read())
}

impl Renewable {
    fn new(made: ServerConfig, parts: [Option<&Vec<u8>>; 4]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            let bytes = part.map(Vec::as_slice);
            // The length keeps parts apart, and a missing one from an empty one.
            let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
            digest.update(length.to_be_bytes());
            digest.update(bytes.unwrap_or_default());
        }
        Self { tls: Arc::new(ArcSwap::from_pointee(made)), digest: digest.finalize().into() }
    }
}

fn read_file(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::File {
        key,
        path: path.to_owned(),
        why: error.to_string(),
    })
}
