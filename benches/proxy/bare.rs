//! The floor of our stack: hyper, its shared pool and rustls, and no logic at all. Every CONNECT is
//! intercepted with one fixed certificate, every request gets one fixed header.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What the bare proxy needs to know.
#[derive(Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub plain_origin: SocketAddr,
    pub tls_origin: SocketAddr,
    pub server: Arc<rustls::ServerConfig>,
    pub client: Arc<rustls::ClientConfig>,
}

type Pool = Client<Dial, Incoming>;
type Body = BoxBody<Bytes, hyper::Error>;

pub async fn serve(settings: Settings) -> io::Result<()> {
    let listener = TcpListener::bind(settings.listen).await?;
    let dial = Dial(settings.clone());
    let pool: Pool = Client::builder(TokioExecutor::new()).build(dial);
    let acceptor = TlsAcceptor::from(settings.server);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (pool, acceptor) = (pool.clone(), acceptor.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| outer(request, pool.clone(), acceptor.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn outer(
    request: Request<Incoming>,
    pool: Pool,
    acceptor: TlsAcceptor,
) -> Result<Response<Body>, hyper_util::client::legacy::Error> {
    if request.method() != Method::CONNECT {
        return forward(request, pool).await;
    }
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let Ok(stream) = acceptor.accept(TokioIo::new(upgraded)).await else { return };
        let service = service_fn(move |mut request: Request<Incoming>| {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let uri = format!("https://{}{path}", crate::NAME);
            *request.uri_mut() = uri.parse().expect("a path of a parsed request");
            forward(request, pool.clone())
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    });
    Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed()))
}

async fn forward(
    mut request: Request<Incoming>,
    pool: Pool,
) -> Result<Response<Body>, hyper_util::client::legacy::Error> {
    request.headers_mut().remove(PROXY_AUTHORIZATION);
    let credential = HeaderValue::from_static(crate::origin::CREDENTIAL);
    request.headers_mut().insert(AUTHORIZATION, credential);
    pool.request(request).await.map(|response| response.map(BodyExt::boxed))
}

/// Dials the one origin, by TLS for https.
#[derive(Clone)]
struct Dial(Settings);

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Wire>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let settings = self.0.clone();
        Box::pin(async move {
            if uri.scheme_str() != Some("https") {
                let stream = TcpStream::connect(settings.plain_origin).await?;
                stream.set_nodelay(true)?;
                return Ok(TokioIo::new(Wire::Plain(stream)));
            }
            let stream = TcpStream::connect(settings.tls_origin).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(crate::NAME).expect("a valid name");
            let stream = TlsConnector::from(settings.client).connect(name, stream).await?;
            Ok(TokioIo::new(Wire::Tls(Box::new(stream))))
        })
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
