//! The lightest origin that still notices a missing credential: HTTP/1.1 by hand, a fixed small
//! answer, 401 without the header, and bodies of any length both ways: bytes of no type, JSON, and the
//! same JSON compressed.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use async_compression::Level;
use async_compression::codecs::{EncodeV2 as _, GzipEncoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What every request must bring.
pub const CREDENTIAL: &str = "Bearer bench-0123456789abcdef";

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"ok\":true,\"items\":[1,2,3]}";
const REFUSED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// One listener, with TLS or without.
pub async fn listen(tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
    let address = listener.local_addr().expect("a bound listener has an address");
    let acceptor = tls.map(TlsAcceptor::from);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A peer that goes away ends its connection, nothing else.
                let _ = match acceptor {
                    None => serve(stream).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => serve(stream).await,
                        Err(error) => Err(error),
                    },
                };
            });
        }
    });
    address
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut filled = 0;
    loop {
        let Some(end) = crate::client::head_end(&buffer[..filled]) else {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
            continue;
        };
        let head = Head::of(&buffer[..end]);
        let early = (filled - end).min(head.length);
        buffer.copy_within(end + early..filled, 0);
        filled -= end + early;
        discard(&mut stream, head.length - early).await?;
        answer(&mut stream, &head).await?;
    }
}

struct Head {
    authorized: bool,
    length: usize,
    /// `/bytes/N`, `/json/N` and `/gzip/N` ask for N bytes of content.
    wanted: Option<(Kind, usize)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Bytes,
    Json,
    Gzip,
}

impl Kind {
    fn fields(self) -> &'static str {
        match self {
            Self::Bytes => "",
            Self::Json => "Content-Type: application/json\r\n",
            Self::Gzip => "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        }
    }

    /// What [`BLOCK_BYTES`] of content are on the wire; a body is this many times.
    fn block(self) -> &'static [u8] {
        match self {
            Self::Bytes => &BYTES,
            Self::Json => &JSON,
            Self::Gzip => &GZIP,
        }
    }
}

pub const BLOCK_BYTES: usize = 256 << 10;
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| vec![b'x'; BLOCK_BYTES]);
static JSON: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut text = Vec::with_capacity(BLOCK_BYTES + 100);
    for id in 0_u32.. {
        if text.len() >= BLOCK_BYTES {
            break;
        }
        let price = id.wrapping_mul(2_654_435_761) >> 12;
        let item =
            format!("{{\"id\":{id},\"name\":\"Item {price:x}\",\"price\":{price},\"ok\":true}},\n");
        text.extend_from_slice(item.as_bytes());
    }
    text.truncate(BLOCK_BYTES);
    text
});
/// One member; several one after the other are a stream too (RFC 1952 §2.2).
static GZIP: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = GzipEncoder::new(Level::Default.into());
    let mut room = vec![0; BLOCK_BYTES];
    let mut output = WriteBuffer::new_initialized(&mut room);
    let mut input = PartialBuffer::new(&JSON[..]);
    encoder.encode(&mut input, &mut output).expect("text can be compressed");
    while !encoder.finish(&mut output).expect("there is room") {}
    output.written().to_vec()
});

impl Head {
    fn of(bytes: &[u8]) -> Self {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(bytes).expect("our own clients send valid heads");
        let path = request.path.unwrap_or_default();
        let wanted = [("/bytes/", Kind::Bytes), ("/json/", Kind::Json), ("/gzip/", Kind::Gzip)]
            .into_iter()
            .find_map(|(prefix, kind)| Some((kind, path.rsplit_once(prefix)?.1.parse().ok()?)));
        let value = |name: &str| {
            let field = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            field.map(|field| field.value)
        };
        let length =
            value("content-length").and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
        Self {
            authorized: value("authorization") == Some(CREDENTIAL.as_bytes()),
            length: length.unwrap_or(0),
            wanted,
        }
    }
}

async fn discard<S: AsyncRead + Unpin>(stream: &mut S, mut left: usize) -> io::Result<()> {
    if left == 0 {
        return Ok(());
    }
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let most = left.min(buffer.len());
        match stream.read(&mut buffer[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => left -= read,
        }
    }
    Ok(())
}

async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, head: &Head) -> io::Result<()> {
    match head.wanted {
        _ if !head.authorized => stream.write_all(REFUSED).await?,
        None => stream.write_all(OK).await?,
        Some((kind, wanted)) => {
            let (block, blocks) = (kind.block(), wanted / BLOCK_BYTES);
            let (fields, length) = (kind.fields(), block.len() * blocks);
            let start = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n");
            stream.write_all(start.as_bytes()).await?;
            for _ in 0..blocks {
                stream.write_all(block).await?;
            }
        }
    }
    stream.flush().await
}
