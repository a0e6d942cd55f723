//! A TCP connection to an origin: directly, or through a parent proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::resolve::Resolver;
use super::{Error, Parent, Phase};
use crate::host::Authority;
use crate::secret::Secret;

/// RFC 8305 §5, "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const MAX_PARENT_HEAD_BYTES: usize = 16 * 1024;

pub(super) struct Dialer {
    resolver: Resolver,
    parent: Option<Parent>,
    bind: Option<IpAddr>,
    timeout: Duration,
    pseudonym: String,
}

impl Dialer {
    pub(super) fn new(
        resolver: Resolver,
        parent: Option<Parent>,
        bind: Option<IpAddr>,
        timeout: Duration,
        pseudonym: String,
    ) -> Self {
        Self { resolver, parent, bind, timeout, pseudonym }
    }

    pub(super) fn pseudonym(&self) -> &str {
        &self.pseudonym
    }

    pub(super) fn is_chained(&self) -> bool {
        self.parent.is_some()
    }

    /// One deadline for resolution, all attempts and the parent's answer. `via` is what the tunnel
    /// came through before us, for a parent that may be one of those.
    pub(super) async fn dial(&self, to: &Authority, via: &str) -> Result<TcpStream, Error> {
        let attempt = async {
            match &self.parent {
                None => self.direct(to).await,
                Some(parent) => self.through(parent, to, via).await,
            }
        };
        tokio::time::timeout(self.timeout, attempt).await.unwrap_or_else(|_| {
            let (authority, after) = (to.clone(), self.timeout);
            Err(Error::Timeout { authority, phase: Phase::Connect, after })
        })
    }

    async fn direct(&self, to: &Authority) -> Result<TcpStream, Error> {
        let addresses = self.resolver.resolve(&to.host, to.port).await?;
        self.connect(to, addresses).await
    }

    /// What the parent is asked for is what was checked here: the address, or, when the parent
    /// resolves, the name.
    async fn through(
        &self,
        parent: &Parent,
        to: &Authority,
        via: &str,
    ) -> Result<TcpStream, Error> {
        let target = self.tunnel_target(parent, to).await?;
        let at = &parent.authority;
        let addresses = self.resolver.resolve_parent(&at.host, at.port).await?;
        let mut tcp = self.connect(at, addresses).await?;
        let failed = |source| Error::Connect { authority: at.clone(), source };
        let before = if via.is_empty() { String::new() } else { format!("{via}, ") };
        let via = format!("{before}1.1 {}", self.pseudonym);
        let head = connect_head(&target, parent.credentials.as_ref(), &via);
        tcp.write_all(head.expose().as_bytes()).await.map_err(failed)?;
        let status = read_connect_answer(&mut tcp).await.map_err(failed)?;
        if status.is_success() {
            return Ok(tcp);
        }
        Err(Error::Parent { parent: at.clone(), authority: to.clone(), status })
    }

    async fn tunnel_target(&self, parent: &Parent, to: &Authority) -> Result<String, Error> {
        if let Some(address) = self.resolver.configured(&to.host, to.port)? {
            return Ok(address.to_string());
        }
        if !parent.resolve_locally {
            self.resolver.check_unresolved(&to.host, to.port)?;
            return Ok(to.to_string());
        }
        let addresses = self.resolver.resolve(&to.host, to.port).await?;
        Ok(addresses[0].to_string())
    }

    async fn connect(&self, to: &Authority, to_try: Vec<SocketAddr>) -> Result<TcpStream, Error> {
        let reachable =
            |address: &SocketAddr| self.bind.is_none_or(|from| from.is_ipv4() == address.is_ipv4());
        let addresses = interleave(to_try.into_iter().filter(reachable));
        race(addresses, self.bind)
            .await
            .map_err(|source| Error::Connect { authority: to.clone(), source })
    }
}

/// Families in turn, starting with the first answer's, so that one dead family costs one delay
/// (RFC 8305 §4).
fn interleave(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let all: Vec<_> = addresses.collect();
    let first_is_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (mut these, mut others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    these.reverse();
    others.reverse();
    let mut mixed = Vec::with_capacity(these.len() + others.len());
    while !these.is_empty() || !others.is_empty() {
        mixed.extend(these.pop());
        mixed.extend(others.pop());
    }
    mixed
}

/// The first connection that is made wins; the next address is tried when one fails or is slow.
async fn race(addresses: Vec<SocketAddr>, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failure =
        io::Error::new(io::ErrorKind::AddrNotAvailable, "no address of the family of bind");
    loop {
        match waiting.next() {
            Some(address) => attempts.push(connect_one(address, bind)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let more = waiting.peek().is_some();
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(tcp) => return Ok(tcp),
                Err(error) => failure = error,
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

async fn connect_one(to: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = bind {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.set_nodelay(true)?;
    let tcp = socket.connect(to).await?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
    Ok(tcp)
}

/// It may hold the credentials, so it is kept in a box that cannot be printed.
fn connect_head(target: &str, credentials: Option<&Secret>, via: &str) -> Secret {
    let authorization = credentials.map_or_else(String::new, |credentials| {
        let encoded = BASE64_STANDARD.encode(credentials.expose());
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    Secret::from(format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nVia: {via}\r\n{authorization}\r\n"
    ))
}

/// Takes the head and not one byte more: what follows belongs to the tunnel.
async fn read_connect_answer(tcp: &mut TcpStream) -> io::Result<StatusCode> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_PARENT_HEAD_BYTES {
            return Err(malformed());
        }
        let mut chunk = [0; 512];
        let seen = tcp.peek(&mut chunk).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = head.len();
        head.extend_from_slice(&chunk[..seen]);
        let from = before.saturating_sub(3);
        let end = memchr::memmem::find(&head[from..], b"\r\n\r\n").map(|at| from + at + 4);
        head.truncate(end.unwrap_or(head.len()));
        tcp.read_exact(&mut chunk[..head.len() - before]).await?;
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut fields);
    answer.parse(&head).map_err(|_| malformed())?;
    answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the parent proxy's answer is not valid HTTP")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 1)).collect()
    }

    #[test]
    fn families_take_turns() {
        let sorted = interleave(addresses(&["::1", "::2", "::3", "1.1.1.1"]).into_iter());
        assert_eq!(sorted, addresses(&["::1", "1.1.1.1", "::2", "::3"]));
    }

    #[tokio::test]
    async fn a_dead_address_costs_one_failure_and_no_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let tcp = race(vec![dead, listener.local_addr().unwrap()], None).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    /// A listener whose queue is full swallows the handshake, as a black hole does.
    #[tokio::test]
    async fn a_black_hole_costs_one_stagger() {
        let hole =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        hole.bind(&any.into()).unwrap();
        hole.listen(0).unwrap();
        let hole_address = hole.local_addr().unwrap().as_socket().unwrap();
        let _filler = std::net::TcpStream::connect(hole_address).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let start = std::time::Instant::now();
        let tcp = race(vec![hole_address, listener.local_addr().unwrap()], None).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert!(start.elapsed() >= STAGGER && start.elapsed() < 4 * STAGGER);
    }

    #[tokio::test]
    async fn the_parents_answer_ends_where_the_tunnel_begins() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        for piece in ["HTTP/1.1 200 OK\r\nX: y\r", "\n\r", "\nhello"] {
            far.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(far);
        assert_eq!(read_connect_answer(&mut near).await.unwrap(), StatusCode::OK);
        let mut rest = String::new();
        near.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hello");
    }
}
