//! TLS towards origins. Verification has no switch.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::SetupError;
use crate::host::Host;
use crate::stream::Ahead;

/// Hosts whose sessions are kept for resumption.
const SESSIONS: usize = 1024;

pub(super) struct Tls {
    any: TlsConnector,
    http1: TlsConnector,
}

impl Tls {
    /// Also returns what is wrong with the system's store, for the log.
    pub(super) fn new(
        roots: &[CertificateDer<'static>],
        http2: bool,
    ) -> Result<(Self, Vec<String>), SetupError> {
        let (mut store, warnings) = system_roots();
        for root in roots {
            store.add(root.clone()).map_err(SetupError::Root)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut http1 = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(SetupError::Tls)?
            .with_root_certificates(store)
            .with_no_client_auth();
        http1.resumption = Resumption::in_memory_sessions(SESSIONS);
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut any = http1.clone();
        if http2 {
            any.alpn_protocols.insert(0, b"h2".to_vec());
        }
        let connector = |config| TlsConnector::from(Arc::new(config));
        Ok((Self { any: connector(any), http1: connector(http1) }, warnings))
    }

    pub(super) async fn connect(
        &self,
        tcp: TcpStream,
        host: &Host,
        http1_only: bool,
    ) -> io::Result<TlsStream<Ahead<TcpStream>>> {
        let name = ServerName::try_from(host.as_str().to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = if http1_only { &self.http1 } else { &self.any };
        connector.connect(name, Ahead::new(tcp)).await
    }
}

/// A machine without a store (a scratch image) gets Mozilla's roots that were built in.
fn system_roots() -> (RootCertStore, Vec<String>) {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let mut warnings: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    let (_, unusable) = store.add_parsable_certificates(found.certs);
    if unusable > 0 {
        warnings.push(format!("{unusable} certificates of the system's store are not usable"));
    }
    if store.is_empty() {
        warnings.push("no root certificates on this machine; using the built-in ones".to_owned());
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    (store, warnings)
}
