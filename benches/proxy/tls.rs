//! One CA and one certificate for the origin and for every subject but countersign, which has its
//! own. Kept as files, because the other subjects are other programs.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::Resumption;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::NAME;

pub struct Identity {
    root: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Makes CA and leaf, and writes `ca.pem`, `ca-and-key.pem`, `leaf.pem` and `leaf.key`.
    pub fn create(folder: &Path) -> Self {
        let write = |name: &str, text: String| {
            std::fs::write(folder.join(name), text).expect("the folder is writable");
        };
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "Bench CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = ca.self_signed(&ca_key).expect("a CA signs itself");
        write("ca.pem", root.pem());
        write("ca-and-key.pem", root.pem() + &ca_key.serialize_pem());

        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a valid name");
        let leaf = params.signed_by(&key, &issuer).expect("the CA signs");
        write("leaf.pem", leaf.pem());
        write("leaf.key", key.serialize_pem());
        Self::load(folder)
    }

    pub fn load(folder: &Path) -> Self {
        let read = |name: &str| {
            let pem = std::fs::read(folder.join(name)).expect("create() wrote it");
            CertificateDer::from_pem_slice(&pem).expect("PEM of our own")
        };
        let key = PrivateKeyDer::from_pem_file(folder.join("leaf.key")).expect("create() wrote it");
        Self { root: read("ca.pem"), leaf: read("leaf.pem"), key }
    }

    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], self.key.clone_key())
            .expect("key and certificate match");
        Arc::new(config)
    }

    pub fn client(&self) -> Arc<rustls::ClientConfig> {
        self.client_with(&[])
    }

    /// Trusts the CA and the certificates of a PEM bundle.
    pub fn client_with(&self, bundle: &[u8]) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).expect("a certificate of our own");
        for root in CertificateDer::pem_slice_iter(bundle) {
            roots.add(root.expect("valid PEM")).expect("a valid root");
        }
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// The same client without memory: every handshake is a full one.
pub fn forgetful(client: &rustls::ClientConfig) -> Arc<rustls::ClientConfig> {
    let mut client = client.clone();
    client.resumption = Resumption::disabled();
    Arc::new(client)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
