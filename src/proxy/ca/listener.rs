//! TLS of our own listeners, and what a client's certificate says of it.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Error;

/// What tells which certificates of clients are good, in PEM.
#[derive(Clone, Copy)]
pub struct Clients<'a> {
    pub ca: &'a [u8],
    /// Lists of those that were revoked (RFC 5280 §5). With any, each issuer of a client's
    /// certificate needs one, and one whose time is over says no to all.
    pub crl: Option<&'a [u8]>,
}

/// TLS for a listener with a certificate of its own (`[proxy.tls]`). With `clients`, they may
/// prove who they are with a certificate, and need not: tokens go on working.
pub fn listener_config(
    certificate_pem: &[u8],
    key_pem: &[u8],
    clients: Option<Clients<'_>>,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(server_provider());
    let chain = certificates(certificate_pem, "the listener's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| Error::Pem { what: "the listener's key" })?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    complete(&mut config)?;
    Ok(config)
}

fn verifier(
    clients: Clients<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let roots = roots(clients.ca)?.into();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated();
    let Some(pem) = clients.crl else { return Ok(verifier.build()?) };
    let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = read.ok().filter(|lists| !lists.is_empty());
    let lists = lists.ok_or(Error::Pem { what: "the list of revoked client certificates" })?;
    let verifier = verifier.with_crls(lists).only_check_end_entity_revocation();
    Ok(verifier.enforce_revocation_expiration().build()?)
}

pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, "the client CA")? {
        store.add(certificate)?;
    }
    Ok(store)
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(Error::Pem { what }),
    }
}

/// The DNS names, URIs and e-mail addresses in a verified client certificate's subject alternative
/// name. The common name is not looked at: nothing says what it means (RFC 9525 §2).
pub fn certificate_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
            Some((*text).to_owned())
        }
        _ => None,
    });
    names.collect()
}

/// AES-128 with SHA-256 comes first, as Go and BoringSSL have it, whatever clients name first
/// (OpenSSL: AES-256 with SHA-384). Processors have instructions for SHA-256 and few for SHA-384,
/// which would be a tenth of a handshake. A client that offers nothing else gets what it offers.
pub(super) fn server_provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let is_first = |suite: &SupportedCipherSuite| {
        matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(|suite| !is_first(suite));
    provider
}

/// What all our server configurations have in common.
pub(super) fn complete(config: &mut ServerConfig) -> Result<(), Error> {
    config.ignore_client_order = true;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // Each resumption brings the next ticket; a second would be sealed for nobody, with every
    // handshake.
    config.send_tls13_tickets = 1;
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(())
}

const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
