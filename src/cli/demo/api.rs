//! The demo's API, over TLS with a certificate of its own: 401 without the key or a live token, else
//! it tells what it received. The same listener answers for the authorization server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::provider::Provider;
use super::{AUTH_HOST, HOST};
use crate::secret::Secret;

/// What both faces of the demo's other side know.
pub struct Acme {
    pub api_key: Secret,
    pub provider: Provider,
}

/// Where they listen.
pub struct Addresses {
    /// The API and the token endpoint, over TLS.
    pub tls: SocketAddr,
    /// The consent page, for a browser that knows nothing of the demo's certificate.
    pub browser: SocketAddr,
}

const MAX_FORM_BYTES: usize = 16 * 1024;

pub async fn start(dir: &Path, acme: Arc<Acme>) -> anyhow::Result<Addresses> {
    let acceptor = acceptor(dir)?;
    let (tls, browser) = (bind().await?, bind().await?);
    let addresses = Addresses { tls: tls.local_addr()?, browser: browser.local_addr()? };
    let desk = acme.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = tls.accept().await {
            let (acceptor, acme) = (acceptor.clone(), desk.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                if let Ok(tls) = acceptor.accept(stream).await {
                    serve(tls, acme).await;
                }
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = browser.accept().await {
            tokio::spawn(serve(stream, acme.clone()));
        }
    });
    Ok(addresses)
}

async fn bind() -> std::io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await
}

fn acceptor(dir: &Path) -> anyhow::Result<TlsAcceptor> {
    let key = rcgen::KeyPair::generate()?;
    let names = vec![HOST.to_owned(), AUTH_HOST.to_owned()];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    std::fs::write(dir.join("origin.pem"), certificate.pem())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, acme: Arc<Acme>) {
    let service = service_fn(move |request| {
        let acme = acme.clone();
        async move { Ok::<_, Infallible>(route(request, &acme).await) }
    });
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
}

async fn route(request: Request<Incoming>, acme: &Acme) -> Response<Full<Bytes>> {
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    match (request.uri().path(), Url::parse("http://127.0.0.1").and_then(|url| url.join(target))) {
        ("/authorize", Ok(url)) => acme.provider.authorize(&url),
        ("/token", _) => {
            let form = Limited::new(request.into_body(), MAX_FORM_BYTES).collect().await;
            acme.provider.token(&form.map(|form| form.to_bytes()).unwrap_or_default())
        }
        _ => tell(&request, acme),
    }
}

fn tell(request: &Request<Incoming>, acme: &Acme) -> Response<Full<Bytes>> {
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = sent.and_then(|sent| sent.strip_prefix("Bearer ")).unwrap_or_default();
    let is_key = Secret::from(bearer.to_owned()).same_as(&acme.api_key);
    let shown = match (is_key, acme.provider.number_of(bearer)) {
        (true, _) => Some("Bearer cs_••••••••  (the real key)".to_owned()),
        (false, Some(number)) => Some(format!("Bearer ••••••••  (access token no. {number})")),
        (false, None) => None,
    };
    let headers = request.headers().iter().map(|(name, value)| {
        let value = match (name == AUTHORIZATION, &shown) {
            (true, Some(shown)) => shown.clone(),
            _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        (name.to_string(), json!(value))
    });
    let body = json!({
        "ok": shown.is_some(),
        "received": {
            "method": request.method().as_str(),
            "path": request.uri().path(),
            "headers": headers.collect::<serde_json::Map<_, _>>(),
        },
    });
    let mut response = Response::new(Full::from(format!("{body:#}\n")));
    *response.status_mut() =
        if shown.is_some() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}
