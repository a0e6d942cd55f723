//! The load: HTTP/1.1 by hand over TCP or TLS, one task per connection, on the origin's core. It
//! allocates nothing per request, so that what differs between two rows is the proxy.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How a client gets to the origin through one subject.
#[derive(Clone)]
pub struct Route {
    /// As in `Host`.
    pub host: Arc<str>,
    /// Where to connect.
    pub dial: SocketAddr,
    /// A CONNECT head to send first.
    pub connect: Option<Arc<str>>,
    /// TLS with this configuration, after the CONNECT if there is one.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// `http://plain.bench.test` for a forward proxy without a tunnel, else empty.
    pub prefix: Arc<str>,
    /// Header lines besides `Host`.
    pub fields: Arc<str>,
}

pub trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// One open connection.
pub struct Connection {
    stream: Pin<Box<dyn Stream>>,
    buffer: Vec<u8>,
}

impl Route {
    pub fn get(&self, path: &str) -> Vec<u8> {
        let Self { host, prefix, fields, .. } = self;
        format!("GET {prefix}{path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n{fields}\r\n").into()
    }

    pub fn post(&self, path: &str, length: usize) -> Vec<u8> {
        let Self { host, prefix, fields, .. } = self;
        let head = format!("POST {prefix}{path} HTTP/1.1\r\nHost: {host}\r\n{fields}");
        format!("{head}Content-Length: {length}\r\n\r\n").into()
    }

    pub async fn open(&self) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(self.dial).await?;
        stream.set_nodelay(true)?;
        if let Some(connect) = &self.connect {
            stream.write_all(connect.as_bytes()).await?;
            established(&mut stream).await?;
        }
        let stream: Pin<Box<dyn Stream>> = match &self.tls {
            None => Box::pin(stream),
            Some(tls) => {
                let name = ServerName::try_from(crate::NAME).expect("a valid name");
                Box::pin(TlsConnector::from(tls.clone()).connect(name, stream).await?)
            }
        };
        Ok(Connection { stream, buffer: vec![0; 4 << 10] })
    }
}

/// Reads the answer to a CONNECT, and not a byte more.
async fn established(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::with_capacity(128);
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    match head.get(9..12) {
        Some(b"200") => Ok(()),
        _ => Err(io::Error::other(String::from_utf8_lossy(&head).into_owned())),
    }
}

impl Connection {
    /// Sends one request and reads its answer to the end.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.answer().await
    }

    /// Sends a request with a body of `length` bytes.
    pub async fn upload(&mut self, head: &[u8], length: usize) -> io::Result<()> {
        self.stream.write_all(head).await?;
        let block = vec![b'x'; 256 << 10];
        let mut left = length;
        while left > 0 {
            let most = left.min(block.len());
            self.stream.write_all(&block[..most]).await?;
            left -= most;
        }
        self.stream.flush().await?;
        self.answer().await
    }

    async fn answer(&mut self) -> io::Result<()> {
        let mut filled = 0;
        let (end, length) = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if let Some(end) = head_end(&self.buffer[..filled]) {
                break (end, body_length(&self.buffer[..end])?);
            }
        };
        let Some(length) = length else { return self.chunks(filled).await };
        let mut left = (end + length) - filled;
        if left > 64 << 10 {
            self.buffer.resize(256 << 10, 0);
        }
        while left > 0 {
            let most = left.min(self.buffer.len());
            match self.stream.read(&mut self.buffer[..most]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => left -= read,
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Reads to the end of a chunked body, without taking it apart: JSON has no line that is `0`.
    async fn chunks(&mut self, mut filled: usize) -> io::Result<()> {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        self.buffer.resize(256 << 10, 0);
        while !self.buffer[..filled].ends_with(END) {
            // Only the end is looked at, but it may come in two.
            let kept = filled.saturating_sub(END.len());
            self.buffer.copy_within(kept..filled, 0);
            let most = filled - kept;
            match self.stream.read(&mut self.buffer[most..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled = most + read,
            }
        }
        Ok(())
    }
}

pub fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The length of a 200's body, `None` if it comes in chunks; anything else is an error with the head
/// as its text.
fn body_length(head: &[u8]) -> io::Result<Option<usize>> {
    let refused = || io::Error::other(String::from_utf8_lossy(head).into_owned());
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(head).map_err(|_| refused())?;
    if response.code != Some(200) {
        return Err(refused());
    }
    let length = response.headers.iter().find(|f| f.name.eq_ignore_ascii_case("content-length"));
    let length = length.map(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    length.map(|length| length.ok_or_else(refused)).transpose()
}

/// What a load measured on the client's side.
pub struct Load {
    pub requests: usize,
    pub elapsed: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

/// `connections` clients, each with one request in flight, until the time is over. `renew`: a new
/// connection for every request.
pub async fn load(
    route: &Route,
    connections: usize,
    renew: bool,
    time: Duration,
) -> io::Result<Load> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = route.open().await?;
        connection.exchange(&route.get("/")).await?;
        open.push(connection);
    }
    let start = Instant::now();
    let tasks: Vec<_> = open
        .into_iter()
        .map(|connection| tokio::spawn(drive(route.clone(), connection, renew, start + time)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a client does not panic")?);
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Ok(Load { requests: latencies.len(), elapsed, p50: at(0.5), p99: at(0.99) })
}

/// `count` requests on each of `connections` connections.
pub async fn fixed(route: &Route, connections: usize, count: usize) -> io::Result<()> {
    let mut tasks = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = route.open().await?;
        let request = route.get("/");
        tasks.push(tokio::spawn(async move {
            for _ in 0..count {
                connection.exchange(&request).await?;
            }
            io::Result::Ok(())
        }));
    }
    for task in tasks {
        task.await.expect("a client does not panic")?;
    }
    Ok(())
}

async fn drive(
    route: Route,
    mut connection: Connection,
    renew: bool,
    until: Instant,
) -> io::Result<Vec<Duration>> {
    let request = route.get("/");
    let mut latencies = Vec::with_capacity(1 << 14);
    loop {
        let start = Instant::now();
        if start >= until {
            return Ok(latencies);
        }
        if renew {
            connection = route.open().await?;
        }
        connection.exchange(&request).await?;
        latencies.push(start.elapsed());
    }
}
