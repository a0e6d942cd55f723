//! An origin that keeps every byte it gets and answers with bytes that a test has chosen.
//!
//! It reads requests as strictly as RFC 9112 allows, on purpose: what it cannot read is kept as
//! unfinished, and [`Recorded::ambiguity`] names what another parser might read differently.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What every request gets that no [`Recorder::answer`] is meant for.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A running origin; it ends with the test's runtime.
#[derive(Clone)]
pub struct Recorder {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    log: Mutex<Vec<Recorded>>,
    answers: Mutex<Vec<Answer>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

#[derive(Clone)]
struct Answer {
    /// Part of the request's head.
    to: Vec<u8>,
    bytes: Vec<u8>,
    /// Sent when the head is there, without waiting for the body.
    early: bool,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub connection: usize,
    /// The server name of its TLS; `None` in clear text.
    pub server_name: Option<String>,
    pub raw: Vec<u8>,
    /// It ended as its framing said.
    pub complete: bool,
}

impl Recorder {
    /// In clear text without `tls`.
    pub async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("a bound listener has an address");
        let recorder = Self { address, state: Arc::default() };
        tokio::spawn(recorder.clone().accept(listener, tls));
        recorder
    }

    /// Answers requests whose head contains `to` with `bytes`. The connection stays open unless
    /// the bytes say `Connection: close`; after a 101 everything is echoed.
    pub fn answer(&self, to: &str, bytes: impl Into<Vec<u8>>) {
        self.add(to, bytes.into(), false);
    }

    /// The same, without waiting for the request's body.
    pub fn answer_early(&self, to: &str, bytes: impl Into<Vec<u8>>) {
        self.add(to, bytes.into(), true);
    }

    fn add(&self, to: &str, bytes: Vec<u8>, early: bool) {
        let answer = Answer { to: to.into(), bytes, early };
        self.state.answers.lock().expect("no holder panics").push(answer);
    }

    pub fn all(&self) -> Vec<Recorded> {
        self.state.log.lock().expect("no holder panics").clone()
    }

    /// The requests with `mark` anywhere in their bytes.
    pub fn marked(&self, mark: &str) -> Vec<Recorded> {
        self.all().into_iter().filter(|request| request.contains(mark)).collect()
    }

    /// How many connections were accepted, whether anything was said on them or not.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many of them are open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    async fn accept(self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = self.state.connections.fetch_add(1, Ordering::SeqCst);
            self.state.open.fetch_add(1, Ordering::SeqCst);
            let (recorder, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                recorder.serve(stream, tls, connection).await;
                recorder.state.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    async fn serve(&self, stream: TcpStream, tls: Option<TlsAcceptor>, connection: usize) {
        let Some(tls) = tls else { return self.converse(stream, connection, None).await };
        let Ok(stream) = tls.accept(stream).await else { return };
        let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
        self.converse(stream, connection, Some(name)).await;
    }

    async fn converse<S>(&self, stream: S, connection: usize, server_name: Option<String>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut line = Line { stream, read: Vec::new(), state: &self.state, entry: None };
        while line.begin(connection, server_name.clone()).await.is_some() {
            let Some(head) = line.until(b"\r\n\r\n").await else { return };
            let answer = self.answer_to(&head);
            if answer.early && line.stream.write_all(&answer.bytes).await.is_err() {
                return;
            }
            if line.body(&head).await.is_none() {
                return;
            }
            line.complete();
            if !answer.early && line.stream.write_all(&answer.bytes).await.is_err() {
                return;
            }
            if answer.bytes.starts_with(b"HTTP/1.1 101 ") {
                let _ = line.echo().await;
                return;
            }
            if contains(&answer.bytes, b"Connection: close\r\n") {
                let _ = line.stream.shutdown().await;
                return;
            }
        }
    }

    fn answer_to(&self, head: &[u8]) -> Answer {
        let answers = self.state.answers.lock().expect("no holder panics");
        let chosen = answers.iter().find(|answer| contains(head, &answer.to)).cloned();
        chosen.unwrap_or(Answer { to: Vec::new(), bytes: OK.to_vec(), early: false })
    }
}

/// One connection: what was read of it and not yet used up.
struct Line<'a, S> {
    stream: S,
    read: Vec<u8>,
    state: &'a State,
    entry: Option<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<'_, S> {
    /// Waits for the first byte of a request and opens its entry.
    async fn begin(&mut self, connection: usize, server_name: Option<String>) -> Option<()> {
        self.entry = None;
        if self.read.is_empty() {
            self.more().await?;
        }
        let mut log = self.state.log.lock().expect("no holder panics");
        self.entry = Some(log.len());
        // All that is here already, until `complete` knows better.
        log.push(Recorded { connection, server_name, raw: self.read.clone(), complete: false });
        drop(log);
        Some(())
    }

    async fn more(&mut self) -> Option<()> {
        let mut piece = vec![0; 16 * 1024];
        let count = self.stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        self.read.extend_from_slice(&piece[..count]);
        self.note(|entry| entry.raw.extend_from_slice(&piece[..count]));
        Some(())
    }

    /// Reads up to and with `end`.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, end) {
                return Some(self.read.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            self.more().await?;
        }
        Some(self.read.drain(..count).collect())
    }

    async fn body(&mut self, head: &[u8]) -> Option<()> {
        if !fields(head, "transfer-encoding").is_empty() {
            return self.chunks().await;
        }
        let length = fields(head, "content-length");
        let length = length.first().map_or("0", String::as_str).parse().ok()?;
        self.exactly(length).await.map(|_| ())
    }

    /// A size line is hexadecimal digits and nothing else here: we send no extensions.
    async fn chunks(&mut self) -> Option<()> {
        loop {
            let line = self.until(b"\r\n").await?;
            let digits = line.strip_suffix(b"\r\n")?;
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            if size == 0 {
                while self.until(b"\r\n").await? != b"\r\n" {}
                return Some(());
            }
            self.exactly(size).await?.len();
            (self.exactly(2).await? == b"\r\n").then_some(())?;
        }
    }

    /// Cuts what is the next request's off the entry.
    fn complete(&mut self) {
        let surplus = self.read.len();
        self.note(|entry| {
            entry.raw.truncate(entry.raw.len() - surplus);
            entry.complete = true;
        });
    }

    fn note(&self, change: impl FnOnce(&mut Recorded)) {
        if let Some(entry) = self.entry {
            change(&mut self.state.log.lock().expect("no holder panics")[entry]);
        }
    }

    async fn echo(&mut self) -> std::io::Result<()> {
        let mut piece = [0; 1024];
        loop {
            let read = self.stream.read(&mut piece);
            let count = tokio::time::timeout(Duration::from_secs(30), read).await??;
            if count == 0 {
                return Ok(());
            }
            self.stream.write_all(&piece[..count]).await?;
        }
    }
}

impl Recorded {
    pub fn contains(&self, text: &str) -> bool {
        contains(&self.raw, text.as_bytes())
    }

    /// How often `text` occurs.
    pub fn count(&self, text: &str) -> usize {
        memchr::memmem::find_iter(&self.raw, text).count()
    }

    pub fn head(&self) -> &[u8] {
        let end = memchr::memmem::find(&self.raw, b"\r\n\r\n");
        &self.raw[..end.map_or(self.raw.len(), |end| end + 4)]
    }

    pub fn body(&self) -> &[u8] {
        &self.raw[self.head().len()..]
    }

    /// Method, target and version as they came.
    pub fn request_line(&self) -> String {
        let line = self.raw.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }

    /// The values of a field, by its lower-case name.
    pub fn all(&self, name: &str) -> Vec<String> {
        fields(self.head(), name)
    }

    /// What two parsers might not agree about, or what should have stayed on the other connection.
    pub fn ambiguity(&self) -> Option<&'static str> {
        let head = self.head();
        if !self.complete {
            return Some("unfinished");
        }
        let lines = String::from_utf8_lossy(head).trim_end_matches("\r\n").to_owned();
        let mut lines = lines.split("\r\n");
        let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [_, target, "HTTP/1.1"] = first[..] else { return Some("the request line") };
        if !target.starts_with('/') && target != "*" {
            return Some("not origin-form");
        }
        lines.find_map(bad_field).or_else(|| self.bad_framing())
    }

    fn bad_framing(&self) -> Option<&'static str> {
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        let clean = match (&lengths[..], &codings[..]) {
            ([], []) => true,
            ([length], []) => !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()),
            ([], [coding]) => coding == "chunked",
            _ => false,
        };
        if !clean {
            return Some("Content-Length or Transfer-Encoding");
        }
        (self.all("host").len() != 1).then_some("Host")
    }
}

/// `Connection` and `TE` have the one value each that may pass.
fn bad_field(line: &str) -> Option<&'static str> {
    if line.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Some("a control byte in a field");
    }
    let Some((name, value)) = line.split_once(':') else { return Some("a field without a colon") };
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Some("a field's name");
    }
    let (name, value) = (name.to_ascii_lowercase(), value.trim().to_ascii_lowercase());
    match name.as_str() {
        "connection" if value == "upgrade" => None,
        "te" if value == "trailers" => None,
        "connection" | "keep-alive" | "te" | "trailer" | "http2-settings" => Some("hop-by-hop"),
        _ if name.starts_with("proxy-") || name.contains("countersign") => Some("ours"),
        _ => None,
    }
}

fn fields(head: &[u8], name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(head);
    let fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    fields
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}
