//! An origin for every host there is: TLS with a leaf per server name, and an answer by the test.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers one request, of which everything is there.
pub type Answer = dyn Fn(&Parts, &[u8]) -> Response<Full<Bytes>> + Send + Sync;

pub struct Origin {
    pub address: SocketAddr,
    pub root_pem: String,
}

impl Origin {
    pub async fn start(answer: Arc<Answer>) -> Self {
        let minter = Minter::new();
        let root_pem = minter.root_pem.clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(minter));
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("a bound listener has an address");
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), answer));
        Self { address, root_pem }
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, answer: Arc<Answer>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, answer) = (tls.clone(), answer.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answered(request, answer.clone()));
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answered(
    request: Request<Incoming>,
    answer: Arc<Answer>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(answer(&head, &body))
}

/// A CA of this test's own that signs a leaf for whatever name is asked for, all with one key.
#[derive(Debug)]
struct Minter {
    root_pem: String,
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Minter {
    fn new() -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "Test origin CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_pem = ca.self_signed(&ca_key).expect("a CA signs itself").pem();
        let key = KeyPair::generate().expect("a key");
        Self { root_pem, issuer: Issuer::new(ca, ca_key), key, leaves: Mutex::default() }
    }

    fn leaf(&self, name: &str) -> Arc<CertifiedKey> {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a valid name");
        let leaf = params.signed_by(&self.key, &self.issuer).expect("the CA signs");
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key of rcgen's");
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("it signs");
        Arc::new(CertifiedKey::new(vec![leaf.der().clone()], key))
    }
}

impl ResolvesServerCert for Minter {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        let mut leaves = self.leaves.lock().expect("no holder panics");
        Some(leaves.entry(name.to_owned()).or_insert_with(|| self.leaf(name)).clone())
    }
}
