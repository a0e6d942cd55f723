//! HTTP/2 frames that no library would send, on the proxy's own TLS listener and inside a tunnel.
//! RFC 9113 §8.1.1, §8.2, §8.3, §10.5; RFC 7541 for the header blocks, without Huffman.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::client::{self, PATIENCE, exchange, flow, get, inside_as, tls};
use crate::origin::{self, Origin, Then, act, scripted};
use crate::pki::{self, Ca};
use crate::site::{API, BEARER, CALLER, Setup, Site, TOKEN, caller};

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 128);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend(text);
}

/// Literals without indexing, in the order given.
fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

/// Where frames are sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Listener,
    Tunnel,
}

const PLACES: [Place; 2] = [Place::Listener, Place::Tunnel];

struct House {
    site: Site,
    origin: Origin,
    ca: Ca,
}

impl House {
    async fn start() -> Self {
        let ca = Ca::new();
        let big = [&b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"[..], &[b'x'; 1_000_000]];
        let acts = vec![("/big", act(big.concat(), Then::Keep))];
        let origin = scripted(ca.server(&[API]), acts).await;
        let listener = ca.issue(&["proxy.test"], |_| {});
        let site = Setup::acme(&ca, origin.address)
            .file("tls.pem", &listener.certificate_pem)
            .file("tls.key", &listener.key_pem)
            .proxy(
                "shutdown_timeout = \"1s\"\ntls_listen = [\"127.0.0.1:{tls}\"]\n\
                 tls = { certificate = \"tls.pem\", key = \"tls.key\" }",
            )
            .start()
            .await;
        Self { site, origin, ca }
    }

    async fn stream(&self, place: Place) -> Box<dyn Io> {
        match place {
            Place::Tunnel => Box::new(inside_as(&self.site, API, &flow(), "h2").await),
            Place::Listener => {
                let stream = TcpStream::connect(("127.0.0.1", self.site.ports.tls)).await.unwrap();
                let trusted = pki::client_config(&self.ca.pem, &["h2"], None);
                let stream = tls(trusted, "proxy.test", stream).await;
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                Box::new(stream)
            }
        }
    }

    /// A connection that has said hello.
    async fn raw(&self, place: Place, settings: &[u8]) -> Raw {
        let (read, mut write) = tokio::io::split(self.stream(place).await);
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, settings)];
        write.write_all(&hello.concat()).await.unwrap();
        Raw { read, write }
    }

    /// A library's request passes, on a connection of its own, in good time.
    async fn still_serves(&self, what: &str) {
        let begun = Instant::now();
        assert_eq!(get(&self.site, "/fine").await.text(), "/fine", "after {what}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{what}: {:?}", begun.elapsed());
    }
}

struct Raw {
    read: ReadHalf<Box<dyn Io>>,
    write: WriteHalf<Box<dyn Io>>,
}

/// What came back for stream 1.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Verdict {
    Ok,
    Refused,
    Reset,
    GoAway,
    Closed,
    Silence,
}

impl Raw {
    async fn send(&mut self, bytes: &[u8]) {
        // A peer that has seen enough closes; that is an answer too.
        let _ = self.write.write_all(bytes).await;
        let _ = self.write.flush().await;
    }

    async fn verdict(&mut self) -> Verdict {
        let verdict = async {
            loop {
                let Some((kind, _, stream, payload)) = next(&mut self.read).await else {
                    return Verdict::Closed;
                };
                match kind {
                    // `:status 200` is entry 8 of the static table.
                    HEADERS if stream == 1 && payload[0] == 0x88 => return Verdict::Ok,
                    HEADERS if stream == 1 => return Verdict::Refused,
                    RST_STREAM if stream == 1 => return Verdict::Reset,
                    GOAWAY => return Verdict::GoAway,
                    _ => {}
                }
            }
        };
        timeout(Duration::from_secs(3), verdict).await.unwrap_or(Verdict::Silence)
    }

    /// Reads whatever comes, so that nothing is held back, until the peer ends.
    fn absorb(self) -> WriteHalf<Box<dyn Io>> {
        let Self { mut read, write } = self;
        tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
        write
    }
}

async fn next<R: AsyncRead + Unpin>(read: &mut R) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    let mut payload = vec![0; length];
    read.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], stream, payload))
}

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

fn fields<'a>(path: &'a [u8], auth: &'a [u8], rest: &[(&'a [u8], &'a [u8])]) -> Fields<'a> {
    let mut all: Fields<'a> = vec![
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", API.as_bytes()),
        (b":path", path),
        (b"proxy-authorization", auth),
    ];
    all.extend(rest);
    all
}

/// J1, J3: nothing of it reaches the origin.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_heads_are_reset() {
    let house = House::start().await;
    let auth = flow();
    let auth = auth.as_bytes();
    let with = |name: &'static [u8], value: &'static [u8]| fields(b"/bad", auth, &[(name, value)]);
    let pseudo = |name: &'static [u8], value: &'static [u8]| {
        let mut all = fields(b"/bad", auth, &[]);
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(field) => field.1 = value,
            None => all.insert(0, (name, value)),
        }
        all
    };
    let mut twice = fields(b"/bad", auth, &[]);
    twice.insert(3, (b":path", b"/other"));
    let mut late = fields(b"/bad", auth, &[]);
    let path = late.remove(3);
    late.push(path);
    let without = |name: &[u8]| {
        fields(b"/bad", auth, &[]).into_iter().filter(|(n, _)| *n != name).collect::<Fields<'_>>()
    };
    let cases: Vec<(&str, Fields<'_>)> = vec![
        ("transfer-encoding", with(b"transfer-encoding", b"chunked")),
        ("connection", with(b"connection", b"x")),
        ("keep-alive", with(b"keep-alive", b"1")),
        ("proxy-connection", with(b"proxy-connection", b"keep-alive")),
        ("upgrade", with(b"upgrade", b"websocket")),
        ("te", with(b"te", b"gzip")),
        ("upper case", with(b"X-Upper", b"1")),
        ("cr lf in a value", with(b"x-a", b"1\r\nx-b: 2")),
        ("lf in a value", with(b"x-a", b"1\nx-b: 2")),
        ("cr in a value", with(b"x-a", b"1\rx")),
        ("nul in a value", with(b"x-a", b"1\0")),
        ("lf in a name", with(b"x-a\nx", b"1")),
        ("nul in a name", with(b"x\0", b"1")),
        ("colon in a name", with(b"x:y", b"1")),
        ("empty name", with(b"", b"1")),
        ("blank in a name", with(b"x y", b"1")),
        ("unknown pseudo field", pseudo(b":other", b"1")),
        (":status", pseudo(b":status", b"200")),
        (":protocol", pseudo(b":protocol", b"websocket")),
        ("crlf in :path", pseudo(b":path", b"/bad HTTP/1.1\r\nx: y")),
        ("lf in :path", pseudo(b":path", b"/bad\n")),
        ("blank in :path", pseudo(b":path", b"/bad x")),
        ("nul in :path", pseudo(b":path", b"/bad\0")),
        ("empty :path", pseudo(b":path", b"")),
        ("* as :path", pseudo(b":path", b"*")),
        (":path without /", pseudo(b":path", b"bad")),
        (":path as a URL", pseudo(b":path", b"https://other.test/bad")),
        ("crlf in :method", pseudo(b":method", b"GET / HTTP/1.1\r\n")),
        ("blank in :method", pseudo(b":method", b"GE T")),
        ("empty :method", pseudo(b":method", b"")),
        ("crlf in :authority", pseudo(b":authority", b"api.acme.test\r\nx: y")),
        ("userinfo in :authority", pseudo(b":authority", b"a@api.acme.test")),
        ("other :authority", pseudo(b":authority", b"other.test")),
        ("odd port in :authority", pseudo(b":authority", b"api.acme.test:65979")),
        ("crlf in :scheme", pseudo(b":scheme", b"https\r\n")),
        ("other :scheme", pseudo(b":scheme", b"ftp")),
        (":path twice", twice),
        ("late pseudo field", late),
        ("no :path", without(b":path")),
        ("no :method", without(b":method")),
        ("no :scheme", without(b":scheme")),
        ("no :authority", without(b":authority")),
        ("host differs", with(b"host", b"other.test")),
        (
            "two content-lengths",
            fields(b"/bad", auth, &[(b"content-length", b"0"), (b"content-length", b"5")]),
        ),
    ];
    for place in PLACES {
        let mut good = house.raw(place, &[]).await;
        let head = block(&fields(b"/good", auth, &[]));
        good.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
        assert_eq!(good.verdict().await, Verdict::Ok, "{place:?}\n{}", house.site.log());
        for (what, fields) in &cases {
            let mut raw = house.raw(place, &[]).await;
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))).await;
            let verdict = raw.verdict().await;
            let refused = !matches!(verdict, Verdict::Ok | Verdict::Silence);
            assert!(refused, "{place:?} {what}: {verdict:?}\n{:?}", house.origin.seen.heads());
        }
    }
    assert_eq!(house.origin.seen.heads().len(), PLACES.len(), "only the good ones arrive");
    house.still_serves("malformed heads").await;
    house.site.close().await;
}

/// J2, the client's way. Whether the origin has seen a head by then or not, it sees no end.
#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_not_the_bodys_is_reset() {
    let house = House::start().await;
    let auth = flow();
    for place in PLACES {
        for (announced, sent) in
            [("5", "abc"), ("2", "abc"), ("0", "abc"), ("x", "abc"), ("-1", "")]
        {
            let mut all =
                fields(b"/length", auth.as_bytes(), &[(b"content-length", announced.as_bytes())]);
            all[0].1 = b"POST";
            let mut raw = house.raw(place, &[]).await;
            let frames = [
                frame(HEADERS, END_HEADERS, 1, &block(&all)),
                frame(DATA, END_STREAM, 1, sent.as_bytes()),
            ];
            raw.send(&frames.concat()).await;
            let verdict = raw.verdict().await;
            assert!(
                !matches!(verdict, Verdict::Ok | Verdict::Silence),
                "{place:?} {announced}: {verdict:?}"
            );
        }
    }
    house.still_serves("wrong lengths").await;
    house.site.close().await;
}

/// J4: CVE-2023-44487.
#[tokio::test(flavor = "multi_thread")]
async fn a_rapid_reset_reaches_the_origin_hardly() {
    let house = House::start().await;
    let auth = flow();
    let head = block(&fields(b"/reset", auth.as_bytes(), &[]));
    for place in PLACES {
        let mut write = house.raw(place, &[]).await.absorb();
        for stream in (0..3000_u32).map(|index| index * 2 + 1) {
            let frames = [
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &head),
                frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
            ];
            if write.write_all(&frames.concat()).await.is_err() {
                break;
            }
        }
        let _ = write.flush().await;
        house.still_serves("a rapid reset").await;
    }
    let seen = house.origin.seen.count("/reset");
    assert!(seen < 1000, "the origin saw {seen} of 6000");
    house.site.close().await;
}

/// J5.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_are_bounded() {
    let house = House::start().await;
    let auth = flow();
    let before = house.site.resident();
    let mut posted = fields(b"/flood", auth.as_bytes(), &[]);
    posted[0].1 = b"POST";
    let post = frame(HEADERS, END_HEADERS, 1, &block(&posted));
    let endless = frame(HEADERS, 0, 1, &block(&posted));
    let filler = block(&[(b"x-filler", &[b'a'; 1000])]);
    let settings = [0, 4, 0, 1, 0, 0];
    let floods: Vec<(&str, Vec<u8>, Vec<u8>, usize)> = vec![
        ("CONTINUATION", endless.clone(), frame(CONTINUATION, 0, 1, &filler), 20_000),
        ("empty CONTINUATION", endless, frame(CONTINUATION, 0, 1, &[]), 50_000),
        ("SETTINGS", Vec::new(), frame(SETTINGS, 0, 0, &settings), 20_000),
        ("PING", Vec::new(), frame(PING, 0, 0, &[0; 8]), 20_000),
        ("PING ACK", Vec::new(), frame(PING, ACK, 0, &[0; 8]), 20_000),
        ("WINDOW_UPDATE", Vec::new(), frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()), 20_000),
        ("PRIORITY", Vec::new(), frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]), 20_000),
        ("empty DATA", post, frame(DATA, 0, 1, &[]), 100_000),
        ("unknown", Vec::new(), frame(0x42, 0, 0, &[0; 8]), 20_000),
    ];
    for place in PLACES {
        for (what, first, repeated, times) in &floods {
            let mut write = house.raw(place, &[]).await.absorb();
            let _ = write.write_all(first).await;
            let batch = repeated.repeat(500);
            let flood = async {
                for _ in 0..times / 500 {
                    if write.write_all(&batch).await.is_err() {
                        break;
                    }
                }
            };
            assert!(timeout(PATIENCE, flood).await.is_ok(), "{place:?} {what} is held, not ended");
            house.still_serves(what).await;
        }
        // One that never reads the answers to its PINGs.
        let mut deaf = house.raw(place, &[]).await;
        let batch = frame(PING, 0, 0, &[0; 8]).repeat(1000);
        let _ = timeout(Duration::from_secs(2), async {
            for _ in 0..1000 {
                if deaf.write.write_all(&batch).await.is_err() {
                    break;
                }
            }
        })
        .await;
        house.still_serves("a deaf PING flood").await;
    }
    let after = house.site.resident();
    assert!(after < before + 64 * 1024 * 1024, "from {before} to {after} bytes");
    house.site.close().await;
}

/// J6: one large entry, named again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_grows_in_the_decoder_is_refused() {
    let house = House::start().await;
    let auth = flow();
    let before = house.site.resident();
    for place in PLACES {
        let mut head = block(&fields(b"/bomb", auth.as_bytes(), &[]));
        // With incremental indexing, as entry 62; then 4 MB of references to it.
        head.push(0x40);
        text(&mut head, b"x-bomb");
        text(&mut head, &[b'a'; 3900]);
        head.extend([0xbe; 1024]);
        let mut raw = house.raw(place, &[]).await;
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
        let verdict = raw.verdict().await;
        assert!(!matches!(verdict, Verdict::Ok | Verdict::Silence), "{place:?}: {verdict:?}");
        let mut long = fields(b"/long", auth.as_bytes(), &[]);
        let value = vec![b'a'; 15_000];
        for _ in 0..5 {
            long.push((b"x-long", &value));
        }
        let (head, mut frames) = (block(&long), Vec::new());
        let pieces: Vec<&[u8]> = head.chunks(16_000).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let kind = if index == 0 { HEADERS } else { CONTINUATION };
            let last = if index + 1 == pieces.len() { END_HEADERS } else { 0 };
            let ends = if index == 0 { END_STREAM } else { 0 };
            frames.extend(frame(kind, last | ends, 1, piece));
        }
        let mut raw = house.raw(place, &[]).await;
        raw.send(&frames).await;
        let verdict = raw.verdict().await;
        assert!(!matches!(verdict, Verdict::Ok | Verdict::Silence), "{place:?}: {verdict:?}");
    }
    assert_eq!(house.origin.seen.count("/bomb") + house.origin.seen.count("/long"), 0);
    let after = house.site.resident();
    assert!(after < before + 32 * 1024 * 1024, "from {before} to {after} bytes");
    house.still_serves("a header bomb").await;
    house.site.close().await;
}

/// J6: a hundred megabytes that the client asks for and does not take.
#[tokio::test(flavor = "multi_thread")]
async fn downloads_without_a_window_wait_at_the_origin() {
    let house = House::start().await;
    let auth = flow();
    let before = house.site.resident();
    let mut held = Vec::new();
    for place in PLACES {
        // SETTINGS_INITIAL_WINDOW_SIZE = 0.
        let mut raw = house.raw(place, &[0, 4, 0, 0, 0, 0]).await;
        let head = block(&fields(b"/big", auth.as_bytes(), &[]));
        for stream in (0..100_u32).map(|index| index * 2 + 1) {
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)).await;
        }
        held.push(raw.absorb());
    }
    house.site.until("all are asked", || house.origin.seen.count("/big") == 200).await;
    sleep(Duration::from_millis(500)).await;
    let after = house.site.resident();
    assert!(after < before + 100 * 1024 * 1024, "from {before} to {after} bytes");
    house.still_serves("downloads without a window").await;
    drop(held);
    house.site.close().await;
}

/// What an HTTP/2 origin does with its first streams. Answers all others.
async fn raw_origin(ca: &Ca, first: fn(u32) -> Vec<u8>) -> Origin {
    let mut config = ca.server(&[API]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    origin::start(config, move |mut stream, seen| async move {
        let mut preface = [0; 24];
        if stream.read_exact(&mut preface).await.is_err() {
            return;
        }
        let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[])).await;
        while let Some((kind, flags, id, _)) = next(&mut stream).await {
            let answer = match kind {
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
                HEADERS => match seen.counted.fetch_add(1, Ordering::Relaxed) {
                    0 => first(id),
                    _ => [
                        frame(HEADERS, END_HEADERS, id, &[0x88]),
                        frame(DATA, END_STREAM, id, b"fine"),
                    ]
                    .concat(),
                },
                _ => continue,
            };
            if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    })
    .await
}

/// J2 and J7, the origin's way: again only what was not processed, and never a clean end.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_http2_origin_breaks_off_is_repeated_only_if_unprocessed() {
    fn go_away(_: u32) -> Vec<u8> {
        frame(GOAWAY, 0, 0, &[0; 8])
    }
    fn refused(id: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, id, &7_u32.to_be_bytes())
    }
    fn internal(id: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, id, &2_u32.to_be_bytes())
    }
    fn short(id: u32) -> Vec<u8> {
        let head = [&[0x88][..], &block(&[(b"content-length", b"10")])].concat();
        [frame(HEADERS, END_HEADERS, id, &head), frame(DATA, END_STREAM, id, b"abc")].concat()
    }
    fn garbage(_: u32) -> Vec<u8> {
        vec![0xff; 64]
    }
    type Case = (&'static str, fn(u32) -> Vec<u8>, bool);
    let cases: [Case; 5] = [
        ("GOAWAY", go_away, true),
        ("REFUSED_STREAM", refused, true),
        ("INTERNAL_ERROR", internal, false),
        ("short", short, false),
        ("garbage", garbage, false),
    ];
    let ca = Ca::new();
    for (what, first, unprocessed) in cases {
        let origin = raw_origin(&ca, first).await;
        let site = Setup::acme(&ca, origin.address).start().await;
        let answer = client::fetch(&site, &client::post("/once", &[], "")).await;
        let fine = answer.status == 200 && answer.complete && answer.text() == "fine";
        let broken = answer.status == 502 || !answer.complete;
        assert!(broken || (fine && unprocessed), "{what}: {answer:?}");
        let seen = origin.seen.counted();
        assert!(seen == 1 || (seen == 2 && unprocessed), "{what}: seen {seen} times");
        let answer = get(&site, "/next").await;
        assert!(answer.text() == "fine" || answer.status == 502, "{what}: {answer:?}");
        assert_eq!(get(&site, "/later").await.text(), "fine", "{what}");
        site.close().await;
    }
}

/// CONNECT over HTTP/2, as `curl --proxy-http2` does it: several tunnels on one connection, each
/// with a caller of its own, and each ends alone.
#[tokio::test(flavor = "multi_thread")]
async fn tunnels_open_on_streams_of_one_connection() {
    let house = House::start().await;
    let stream = house.stream(Place::Listener).await;
    let (sender, connection) = hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let trusted = pki::client_config(&house.site.ca_pem().await, &["http/1.1"], None);
    for index in 0..5 {
        let connect = Request::connect(format!("{API}:443"))
            .header("proxy-authorization", flow())
            .body(Empty::new())
            .unwrap();
        let mut answer = sender.clone().send_request(connect).await.unwrap();
        assert_eq!(answer.status(), 200);
        let tunnel = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        let mut inside = tls(trusted.clone(), API, tunnel).await;
        let request = format!("GET /{index} HTTP/1.1\r\nHost: {API}\r\n\r\n");
        assert_eq!(exchange(&mut inside, &request).await.text(), format!("/{index}"));
    }
    let stranger = Request::connect(format!("{API}:443")).body(Empty::new()).unwrap();
    assert_eq!(sender.clone().send_request(stranger).await.unwrap().status(), 407);
    let plain = Request::get(format!("http://{API}/plain"))
        .header("proxy-authorization", flow())
        .body(Empty::new())
        .unwrap();
    let answer = sender.clone().send_request(plain).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "/plain");
    house.site.close().await;
}

/// T10 on a connection that many share: the token that went ends its tunnels, all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_tunnels_on_a_shared_connection() {
    use crate::site::{OTHER_TOKEN, RELOADED, caller};
    let mut house = House::start().await;
    let setup = std::mem::take(&mut house.site.setup);
    house.site.setup =
        setup.rest(&caller("other", OTHER_TOKEN, "accounts = [\"acme\"]\nrules = [{}]"));
    house.site.reload(&house.site.config(), RELOADED).await;
    let stream = house.stream(Place::Listener).await;
    let (sender, connection) = hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let mut tunnels = Vec::new();
    for credentials in [client::basic("other", OTHER_TOKEN), flow(), flow(), flow()] {
        let connect = Request::connect(format!("{API}:443"))
            .header("proxy-authorization", credentials)
            .body(Empty::new())
            .unwrap();
        let mut answer = sender.clone().send_request(connect).await.unwrap();
        assert_eq!(answer.status(), 200);
        tunnels.push(TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap()));
    }
    let revoked =
        house.site.config().replace(crate::site::TOKEN, "another-token-0123456789abcdefgh");
    house.site.reload(&revoked, RELOADED).await;
    for (index, tunnel) in tunnels.iter_mut().enumerate().skip(1) {
        assert!(client::ends_within(tunnel, Duration::from_secs(1)).await, "tunnel {index}");
    }
    drop(tunnels);
    house.site.close().await;
}

/// C20: RFC 9113 §9.1.1 would let a client send both hosts' requests on one connection. Then whoever
/// answers for one of two hosts with a shared certificate would get the other's credential.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_share_an_address_and_a_certificate_share_no_connection() {
    const OTHER: &str = "api.other.test";
    let ca = Ca::new();
    let mut shared = ca.server(&[API, OTHER]);
    shared.alpn_protocols = vec![b"h2".to_vec()];
    let heard = Arc::<Mutex<Vec<(u64, String, String)>>>::default();
    let kept = heard.clone();
    let origin = origin::start(shared, move |stream, seen| {
        let kept = kept.clone();
        async move {
            let number = seen.counted.fetch_add(1, Ordering::Relaxed);
            let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
            let service = service_fn(move |request: Request<Incoming>| {
                let authority = request.uri().authority().unwrap().to_string();
                kept.lock().unwrap().push((number, name.clone(), authority));
                async { Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new())) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    let site = Setup::bare(&ca)
        .app("acme", &[API], BEARER)
        .app("other", &[OTHER], BEARER)
        .resolve(&format!("{API}:443"), origin.address)
        .resolve(&format!("{OTHER}:443"), origin.address)
        .account("acme", "acme")
        .account("other", "other")
        .rest(&caller(
            CALLER,
            TOKEN,
            "accounts = [\"acme\", \"other\"]\nrules = [{ effect = \"allow\" }]",
        ))
        .start()
        .await;
    for _ in 0..3 {
        for host in [API, OTHER] {
            let mut stream = inside_as(&site, host, &flow(), "http/1.1").await;
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(exchange(&mut stream, &request).await.status, 200, "{host}");
        }
    }
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 6, "{heard:?}");
    for (connection, name, authority) in &heard {
        assert_eq!(name, authority, "asked for in TLS and in the request: {heard:?}");
        let same = heard.iter().filter(|(other, _, _)| other == connection);
        assert!(same.clone().all(|(_, _, other)| other == authority), "{heard:?}");
        assert_eq!(same.count(), 3, "one connection for each host: {heard:?}");
    }
    site.close().await;
}
