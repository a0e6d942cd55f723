//! Origins that do exactly what a test says, right or wrong, and keep what they were sent.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client::read_head;

pub type Stream = TlsStream<TcpStream>;

/// A running origin; it ends with the test's runtime.
#[derive(Clone)]
pub struct Origin {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
}

#[derive(Default)]
pub struct Seen {
    /// Heads of requests, in the order in which they came.
    pub heads: Mutex<Vec<String>>,
    pub connections: AtomicUsize,
    /// TLS handshakes that were completed.
    pub handshakes: AtomicUsize,
    /// What a test wants to count: bytes, ends of connections.
    pub counted: AtomicU64,
}

impl Seen {
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// How many requests asked for `path`.
    pub fn count(&self, path: &str) -> usize {
        let asked = format!(" {path} ");
        self.heads().iter().filter(|head| head.contains(&asked)).count()
    }

    pub fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// Reads a request's head and keeps it; `None` when the client has gone.
    pub async fn request(&self, stream: &mut Stream) -> Option<String> {
        let head = read_head(stream).await;
        if !head.ends_with("\r\n\r\n") {
            return None;
        }
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }
}

/// An origin whose connections are each handled by `handle`.
pub async fn start<F, Fut>(tls: ServerConfig, handle: F) -> Origin
where
    F: Fn(Stream, Arc<Seen>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let handle = Arc::new(handle);
    start_plain(move |stream, seen| {
        let (acceptor, handle) = (acceptor.clone(), handle.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                seen.handshakes.fetch_add(1, Ordering::Relaxed);
                handle(stream, seen).await;
            }
        }
    })
    .await
}

/// The same without TLS.
pub async fn start_plain<F, Fut>(handle: F) -> Origin
where
    F: Fn(TcpStream, Arc<Seen>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Seen>::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            kept.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(handle(stream, kept.clone()));
        }
    });
    Origin { address, seen }
}

/// What an origin does with a request for one path.
#[derive(Clone)]
pub struct Act {
    pub bytes: Vec<u8>,
    pub then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Waits for the next request.
    Keep,
    /// Ends the connection as one should, with `close_notify`.
    Close,
    /// Ends TCP without ending TLS.
    Cut,
    Reset,
}

pub fn act(bytes: impl AsRef<[u8]>, then: Then) -> Act {
    Act { bytes: bytes.as_ref().to_vec(), then }
}

/// Answers each path as `acts` says, and any other with 200 and the path.
pub async fn scripted(tls: ServerConfig, acts: Vec<(&'static str, Act)>) -> Origin {
    let acts = Arc::new(acts);
    start(tls, move |stream, seen| {
        let acts = acts.clone();
        async move { play(stream, &seen, &acts).await }
    })
    .await
}

async fn play(mut stream: Stream, seen: &Seen, acts: &[(&'static str, Act)]) {
    while let Some(head) = seen.request(&mut stream).await {
        drain_body(&mut stream, &head).await;
        let path = head.split(' ').nth(1).unwrap_or_default();
        let found = acts.iter().find(|(asked, _)| *asked == path).map(|(_, act)| act.clone());
        let Act { bytes, then } = found.unwrap_or_else(|| act(ok(path), Then::Keep));
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Close => {
                let _ = stream.shutdown().await;
                return;
            }
            Then::Cut => return,
            Then::Reset => {
                let tcp = stream.get_ref().0;
                let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
                return;
            }
        }
    }
}

/// Bodies with a length; the scripted origin is sent no others.
pub async fn drain_body(stream: &mut Stream, head: &str) {
    let field = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().unwrap())
    });
    let mut rest = Vec::new();
    let _ = stream.take(field.unwrap_or(0)).read_to_end(&mut rest).await;
}

/// 200 with a text.
pub fn ok(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}
