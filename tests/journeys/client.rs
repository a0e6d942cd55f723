//! A client that says exactly what it is told to, over sockets of its own.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki;
use crate::site::{API, CALLER, Site, TOKEN};

/// Nothing here takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An answer as it came, up to the end of the connection or of the message.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the message came to the end that its head announced.
    pub complete: bool,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let line =
            |line: &'_ str| line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        let line = self.head.lines().find(|text| line(text))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `type` of a problem, without its prefix.
    pub fn problem(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = problem["type"].as_str().unwrap_or_default();
        kind.trim_start_matches("urn:countersign:problem:").to_owned()
    }
}

pub fn basic(user: &str, token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{token}")))
}

pub fn flow() -> String {
    basic(CALLER, TOKEN)
}

/// A fresh connection to the proxy.
pub async fn dial(site: &Site) -> TcpStream {
    let stream = TcpStream::connect(site.proxy()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// `CONNECT authority` and its answer's head.
pub async fn connect(site: &Site, authority: &str, credentials: &str) -> (TcpStream, Answer) {
    let mut stream = dial(site).await;
    let request = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\
         Proxy-Authorization: {credentials}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    let mut answer = Answer { status: status_of(&head), head, ..Answer::default() };
    if answer.status != 200 {
        read_body(&mut stream, &mut answer, "GET").await;
    }
    (stream, answer)
}

/// TLS with our leaf inside a tunnel to [`API`].
pub async fn inside(site: &Site) -> TlsStream<TcpStream> {
    inside_as(site, API, &flow(), "http/1.1").await
}

pub async fn inside_as(
    site: &Site,
    host: &str,
    credentials: &str,
    alpn: &str,
) -> TlsStream<TcpStream> {
    let config = pki::client_config(&site.ca_pem().await, &[alpn], None);
    inside_with(site, host, credentials, config).await
}

pub async fn inside_with(
    site: &Site,
    host: &str,
    credentials: &str,
    config: Arc<ClientConfig>,
) -> TlsStream<TcpStream> {
    let (stream, answer) = connect(site, &format!("{host}:443"), credentials).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), site.log());
    tls(config, host, stream).await
}

pub async fn tls<S>(config: Arc<ClientConfig>, host: &str, stream: S) -> TlsStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = host.to_owned().try_into().unwrap();
    let shaken = timeout(PATIENCE, TlsConnector::from(config).connect(name, stream)).await;
    shaken.expect("the handshake ends").expect("the leaf is trusted")
}

/// Sends one request on a connection of its own inside a tunnel to [`API`].
pub async fn fetch(site: &Site, request: &str) -> Answer {
    exchange(&mut inside(site).await, request).await
}

/// `GET path`, and nothing else in it.
pub async fn get(site: &Site, path: &str) -> Answer {
    fetch(site, &format!("GET {path} HTTP/1.1\r\nHost: {API}\r\n\r\n")).await
}

/// In absolute-form, as `HTTP_PROXY` makes clients do.
pub async fn get_plain(site: &Site, url: &str, credentials: &str) -> Answer {
    let host = url.split('/').nth(2).unwrap();
    let request =
        format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {credentials}\r\n\r\n");
    exchange(&mut dial(site).await, &request).await
}

/// Writes `request` and reads one answer.
pub async fn exchange<S>(stream: &mut S, request: &str) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request.as_bytes()).await.unwrap();
    // TLS may keep a record back when the socket is full, and reading does not push it out.
    stream.flush().await.unwrap();
    let method = request.split(' ').next().unwrap().to_owned();
    read_answer(stream, &method).await
}

/// One answer; interim ones are passed over.
pub async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S, method: &str) -> Answer {
    loop {
        let head = timeout(PATIENCE, read_head(stream)).await.expect("an answer comes");
        let mut answer = Answer { status: status_of(&head), head, ..Answer::default() };
        if (100..200).contains(&answer.status) && answer.status != 101 {
            continue;
        }
        timeout(PATIENCE, read_body(stream, &mut answer, method)).await.expect("a body ends");
        return answer;
    }
}

/// Up to the empty line; what came so far if the connection ends before.
pub async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.get(..3)?.parse().ok()).unwrap_or(0)
}

async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, answer: &mut Answer, method: &str) {
    let bodiless = method == "HEAD" || matches!(answer.status, 101 | 204 | 304);
    if answer.status == 0 || bodiless {
        answer.complete = answer.status != 0;
    } else if let Some(length) = answer.field("content-length").map(|l| l.parse::<usize>().unwrap())
    {
        answer.body = read_at_most(stream, length).await;
        answer.complete = answer.body.len() == length;
    } else if answer.field("transfer-encoding").is_some() {
        answer.complete = read_chunks(stream, &mut answer.body).await.is_some();
    } else {
        answer.complete = stream.read_to_end(&mut answer.body).await.is_ok();
    }
}

async fn read_at_most<S: AsyncRead + Unpin>(stream: &mut S, length: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let _ = stream.take(length as u64).read_to_end(&mut body).await;
    body
}

async fn read_chunks<S: AsyncRead + Unpin>(stream: &mut S, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.ok()?);
        }
        let text = std::str::from_utf8(&line).ok()?.trim();
        let size = usize::from_str_radix(text.split(';').next()?, 16).ok()?;
        let piece = read_at_most(stream, size).await;
        let whole = piece.len() == size;
        body.extend(piece);
        if !whole {
            return None;
        }
        if size == 0 {
            // Trailers, then the empty line.
            loop {
                let mut line = Vec::new();
                while !line.ends_with(b"\r\n") {
                    line.push(stream.read_u8().await.ok()?);
                }
                if line == b"\r\n" {
                    return Some(());
                }
                body.extend(line);
            }
        }
        stream.read_u16().await.ok()?;
    }
}

/// A request head with these lines, and a body with its length.
pub fn post(path: &str, lines: &[&str], body: &str) -> String {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {API}\r\n");
    for line in lines {
        write!(request, "{line}\r\n").unwrap();
    }
    write!(request, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    request
}

/// True when the peer ends the stream within `within`.
pub async fn ends_within<S: AsyncRead + Unpin>(stream: &mut S, within: Duration) -> bool {
    let mut rest = Vec::new();
    timeout(within, stream.read_to_end(&mut rest)).await.is_ok()
}
