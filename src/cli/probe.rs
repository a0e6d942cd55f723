//! A small HTTP client: one request through a proxy of ours, and the health check.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::load_or_explain;
use crate::host::Authority;
use crate::serve::Source;

const TIMEOUT: Duration = Duration::from_secs(90);
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How to come to an origin.
pub struct Via<'a> {
    pub proxy: SocketAddr,
    /// A finished `Proxy-Authorization` line, or nothing for a listener that knows its caller.
    pub authorization: Option<&'a str>,
    pub ca_pem: &'a str,
}

/// Sends one `https` request through a proxy and reads the whole answer.
pub async fn send(
    via: &Via<'_>,
    to: &Authority,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Bytes>> {
    let sent = async {
        let tunnel = open_tunnel(via, to).await?;
        let name = ServerName::try_from(to.host.as_str().to_owned())?;
        let tls = TlsConnector::from(client_config(via.ca_pem)?).connect(name, tunnel).await?;
        exchange(tls, request).await
    };
    tokio::time::timeout(TIMEOUT, sent).await.context("no answer came in time")?
}

async fn open_tunnel(via: &Via<'_>, to: &Authority) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(via.proxy).await.context("the proxy does not answer")?;
    let authorization = via.authorization.map(|a| format!("Proxy-Authorization: {a}\r\n"));
    let head =
        format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{}\r\n", authorization.unwrap_or_default());
    stream.write_all(head.as_bytes()).await.context("the proxy closed the connection")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > 16 * 1024 {
            bail!("the proxy's answer to CONNECT does not end");
        }
        answer.push(stream.read_u8().await.context("the proxy closed the connection")?);
    }
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!(
            "CONNECT was refused: {}",
            String::from_utf8_lossy(&answer).lines().next().unwrap_or("")
        );
    }
    Ok(stream)
}

fn client_config(ca_pem: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    driver.abort();
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// 0 when the server is ready.
pub async fn health(source: &Source) -> anyhow::Result<u8> {
    let config = load_or_explain(source)?.config;
    let mut address = config.admin.listen.context("admin.listen is off: nobody can be asked")?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let request = Request::get("/readyz").header("host", address.to_string());
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        exchange(stream, request.body(Full::default())?).await
    };
    let asked = tokio::time::timeout(Duration::from_secs(3), asked).await;
    let silent = || format!("http://{address} does not answer (is `countersign serve` running?)");
    let response = asked.with_context(silent)?.with_context(silent)?;
    print!("{}", String::from_utf8_lossy(response.body()));
    Ok(u8::from(!response.status().is_success()))
}
