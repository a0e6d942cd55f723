//! What origins do wrong, and slowly, and a lot: each seen by a client inside an intercepted
//! tunnel. DESIGN.md §3 rules 2, 6 and 7.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::client::{
    PATIENCE, dial, ends_within, exchange, fetch, flow, get, get_plain, inside, inside_as, post,
    read_answer, read_head, status_of,
};
use crate::origin::{self, Act, Then, act, ok, scripted};
use crate::pki::{self, Ca, Identity};
use crate::site::{API, BEARER, CALLER, KEY, RELOADED, Setup, Site, TOKEN, caller};

/// A site whose one origin acts by path.
async fn site(acts: Vec<(&'static str, Act)>) -> (Site, origin::Origin) {
    let ca = Ca::new();
    let origin = scripted(ca.server(&[API]), acts).await;
    (Setup::acme(&ca, origin.address).start().await, origin)
}

fn head(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n").into_bytes()
}

/// 502, or what was wrong is not in the answer any more. What follows is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_two_parsers_could_read_differently_does_not_pass() {
    let continues = [b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), ok("late")].concat();
    let acts = vec![
        (
            "/te-cl",
            act(
                head("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0"),
                Then::Keep,
            ),
        ),
        ("/two-cl", act(head("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), Then::Close)),
        ("/cl-list", act(head("Content-Length: 3, 4\r\n\r\nabc"), Then::Close)),
        ("/nul", act(head("X-A: a\0b\r\nContent-Length: 0"), Then::Keep)),
        ("/cr", act(head("X-A: a\rb\r\nContent-Length: 0"), Then::Keep)),
        ("/fold", act(head("X-A: a\r\n b: c\r\nContent-Length: 0"), Then::Keep)),
        ("/space", act(head("X-A : a\r\nContent-Length: 0"), Then::Keep)),
        ("/status", act("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", Then::Keep)),
        ("/version", act("HTTP/7.1 200 OK\r\nContent-Length: 0\r\n\r\n", Then::Keep)),
        ("/alert", act(b"\x15\x03\x03\x00\x02\x02\x28", Then::Close)),
        ("/nothing", act("", Then::Close)),
        (
            "/big",
            act(head(&format!("X-A: {}\r\nContent-Length: 0", "a".repeat(1_200_000))), Then::Keep),
        ),
        (
            "/101",
            act(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
                Then::Keep,
            ),
        ),
        ("/100s", act(continues, Then::Keep)),
    ];
    let (site, _origin) = site(acts).await;
    for (path, allowed) in [
        ("/te-cl", &[502, 200][..]),
        ("/two-cl", &[502]),
        ("/cl-list", &[502]),
        ("/nul", &[502]),
        ("/cr", &[502]),
        ("/fold", &[502]),
        ("/space", &[502]),
        ("/status", &[502]),
        ("/version", &[502]),
        ("/alert", &[502]),
        ("/nothing", &[502]),
        ("/big", &[502]),
        ("/101", &[502]),
        ("/100s", &[502, 200]),
    ] {
        let answer = get(&site, path).await;
        assert!(allowed.contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.complete, "{path}: {answer:?}");
        let both =
            answer.field("transfer-encoding").is_some() && answer.field("content-length").is_some();
        assert!(!both, "{path}: {answer:?}");
        assert!(answer.body.len() < 4096, "{path}");
        assert_eq!(get(&site, "/next").await.text(), "/next", "after {path}");
    }
    site.close().await;
}

/// T13, E2: what an origin says unasked is nobody's answer.
#[tokio::test(flavor = "multi_thread")]
async fn surplus_bytes_of_an_answer_never_answer_the_next_request() {
    let evil = ok("evil");
    let with = |first: &[u8]| act([first, &evil[..]].concat(), Then::Keep);
    let acts = vec![
        ("/two", with(&ok("mine"))),
        ("/204", with(b"HTTP/1.1 204 No Content\r\n\r\n")),
        ("/304", with(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nbody")),
        ("/head", with(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")),
    ];
    let (site, _origin) = site(acts).await;
    for (method, path) in [("GET", "/two"), ("GET", "/204"), ("GET", "/304"), ("HEAD", "/head")] {
        let mut stream = inside(&site).await;
        for _ in 0..3 {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {API}\r\n\r\n");
            let answer = exchange(&mut stream, &request).await;
            assert_ne!(answer.text(), "evil", "{path}");
            let request = format!("GET /own HTTP/1.1\r\nHost: {API}\r\n\r\n");
            assert_eq!(exchange(&mut stream, &request).await.text(), "/own", "after {path}");
        }
    }
    site.close().await;
}

/// T16, E3: no last chunk, and the connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_broke_off_never_looks_complete() {
    let short = head("Content-Length: 10\r\n\r\nabc");
    let short = &short[..short.len() - 4];
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let open = b"HTTP/1.1 200 OK\r\n\r\nabc";
    let acts = vec![
        ("/cl", act(short, Then::Close)),
        ("/cl-cut", act(short, Then::Cut)),
        ("/cl-reset", act(short, Then::Reset)),
        ("/chunked", act(chunks, Then::Close)),
        ("/chunked-cut", act(chunks, Then::Cut)),
        ("/chunked-reset", act(chunks, Then::Reset)),
        ("/open-cut", act(open, Then::Cut)),
    ];
    let paths: Vec<_> = acts.iter().map(|(path, _)| *path).collect();
    let (site, _origin) = site(acts).await;
    for path in &paths {
        let answer = get(&site, path).await;
        assert!(!answer.complete, "{path}: {answer:?}");
    }
    let pem = site.ca_pem().await;
    for path in &paths {
        let stream = inside_as(&site, API, &flow(), "h2").await;
        let mut sender = http2(stream).await;
        let answer = sender.send_request(request(path)).await;
        if let Ok(answer) = answer {
            assert!(answer.into_body().collect().await.is_err(), "{path} over HTTP/2");
        }
    }
    drop(pem);
    site.close().await;
}

type Sender<B> = hyper::client::conn::http2::SendRequest<B>;

async fn http2<S, B>(stream: S) -> Sender<B>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let shaken =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://{API}{path}")).body(Empty::new()).unwrap()
}

/// E5: before the head a 504, after it a body that visibly breaks off; by silence, not by total.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_origin_is_given_up_within_its_limit() {
    let ca = Ca::new();
    let silent = origin::start_plain(|mut stream, _| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let slow = origin::start(ca.server(&[API]), |mut stream, seen| async move {
        let Some(head) = seen.request(&mut stream).await else { return };
        if head.starts_with("GET /mute ") {
            let _ = stream.read_u8().await;
            return;
        }
        let pieces = if head.starts_with("GET /stall ") { 1 } else { 4 };
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
        for _ in 0..pieces {
            let _ = stream.write_all(b"x").await;
            let _ = stream.flush().await;
            sleep(Duration::from_millis(500)).await;
        }
        let _ = stream.read_u8().await;
    })
    .await;
    let site = Setup::bare(&ca)
        .app("acme", &[API, "silent.acme.test"], BEARER)
        .account("acme", "acme")
        .resolve(&format!("{API}:443"), slow.address)
        .resolve("silent.acme.test:443", silent.address)
        .rest(&caller(CALLER, TOKEN, "accounts = [\"acme\"]\nrules = [{}]"))
        .upstream("tls_timeout = \"500ms\"\nfirst_byte_timeout = \"700ms\"\nidle_timeout = \"1s\"")
        .start()
        .await;
    let begun = Instant::now();
    let mut tunnel = inside_as(&site, "silent.acme.test", &flow(), "http/1.1").await;
    let asked = "GET / HTTP/1.1\r\nHost: silent.acme.test\r\n\r\n";
    let answer = exchange(&mut tunnel, asked).await;
    assert_eq!((answer.status, answer.problem().as_str()), (504, "timeout"));
    assert_eq!(get(&site, "/mute").await.status, 504);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let answer = get(&site, "/stall").await;
    assert_eq!((answer.status, answer.complete), (200, false));
    // Two seconds in all, and never a silence of one.
    let answer = get(&site, "/steady").await;
    assert_eq!((answer.complete, answer.text()), (true, "xxxx".to_owned()));
    site.close().await;
}

/// E6, E7: RFC 9110 §9.2.2.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_dies_costs_no_get_and_repeats_no_post() {
    let ca = Ca::new();
    // Each connection answers twice and is gone without a word.
    let origin = origin::start(ca.server(&[API]), |mut stream, seen| async move {
        for _ in 0..2 {
            let Some(head) = seen.request(&mut stream).await else { return };
            origin::drain_body(&mut stream, &head).await;
            if head.starts_with("POST /die ") {
                return;
            }
            let _ = stream.write_all(&ok("fine")).await;
        }
    })
    .await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let mut stream = inside(&site).await;
    for _ in 0..40 {
        let answer =
            exchange(&mut stream, &format!("GET /g HTTP/1.1\r\nHost: {API}\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for index in 0..20 {
        let path = format!("/p{index}");
        let _ = exchange(&mut inside(&site).await, &post(&path, &[], "once")).await;
        assert!(origin.seen.count(&path) <= 1, "{path}");
    }
    for _ in 0..3 {
        let seen = origin.seen.count("/die");
        let answer = fetch(&site, &post("/die", &[], "once")).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(origin.seen.count("/die") <= seen + 1);
    }
    site.close().await;
}

const NEW_KEY: &str = "acme-new-0123456789";

/// An origin that knows one key and says how often it was asked.
async fn strict_origin(ca: &Ca, key: &'static str) -> origin::Origin {
    origin::start(ca.server(&[API]), move |mut stream, seen| async move {
        while let Some(head) = seen.request(&mut stream).await {
            origin::drain_body(&mut stream, &head).await;
            let known = head.contains(&format!("uthorization: Bearer {key}\r\n"));
            let answer = match known {
                true => ok("known"),
                false => b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\nContent-Length: 7\r\n\r\nunknown".to_vec(),
            };
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Rule 7 with a credential that is read by a command, so that reads can be counted.
fn counted_key(site: Setup, folder: &str) -> Setup {
    let script = format!("echo read >> {folder}/reads; cat {folder}/key");
    site.rest(&format!(
        "[accounts.acme]\napp = \"acme\"\n\
         secrets = {{ api_key = {{ exec = [\"/bin/sh\", \"-c\", \"{script}\"] }} }}"
    ))
}

struct Counted {
    site: Site,
    origin: origin::Origin,
    folder: tempfile::TempDir,
}

impl Counted {
    async fn start() -> Self {
        let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("key"), KEY).unwrap();
        let origin = strict_origin(&ca, NEW_KEY).await;
        let setup = Setup::bare(&ca)
            .app("acme", &[API], BEARER)
            .secret(NEW_KEY)
            .resolve(&format!("{API}:443"), origin.address)
            .rest(&caller(CALLER, TOKEN, "accounts = [\"acme\"]\nrules = [{}]"));
        let site = counted_key(setup, folder.path().to_str().unwrap()).start().await;
        Self { site, origin, folder }
    }

    fn renew(&self) {
        std::fs::write(self.folder.path().join("key"), NEW_KEY).unwrap();
    }

    fn reads(&self) -> usize {
        let reads = std::fs::read_to_string(self.folder.path().join("reads")).unwrap();
        reads.lines().count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_reads_the_credential_again_and_repeats_a_get() {
    let house = Counted::start().await;
    assert_eq!(house.reads(), 1);
    house.renew();
    assert_eq!(get(&house.site, "/get").await.text(), "known");
    assert_eq!((house.reads(), house.origin.seen.count("/get")), (2, 2));
    house.site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_never_repeats_a_post() {
    let house = Counted::start().await;
    house.renew();
    let answer = fetch(&house.site, &post("/post", &[], "once")).await;
    assert_eq!((answer.status, answer.text()), (401, "unknown".to_owned()));
    assert_eq!((house.reads(), house.origin.seen.count("/post")), (2, 1));
    // What was read serves the next one.
    assert_eq!(fetch(&house.site, &post("/next", &[], "once")).await.status, 200);
    assert_eq!(house.reads(), 2);
    house.site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_401_is_passed_on() {
    let house = Counted::start().await;
    for _ in 0..3 {
        let answer = get(&house.site, "/get").await;
        assert_eq!((answer.status, answer.text()), (401, "unknown".to_owned()));
        assert!(answer.field("www-authenticate").is_some());
        assert_eq!(answer.field("x-countersign-source"), Some("upstream"));
    }
    // The same value is no reason to ask again, and an interval keeps commands from being run for each.
    assert_eq!((house.reads(), house.origin.seen.count("/get")), (2, 3));
    house.site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_401s_reads_the_credential_once() {
    let house = Counted::start().await;
    house.renew();
    let mut sender = http2(inside_as(&house.site, API, &flow(), "h2").await).await;
    sender.ready().await.unwrap();
    let storm = (0..50).map(|_| {
        let mut sender = sender.clone();
        async move { sender.send_request(request("/storm")).await.unwrap().status().as_u16() }
    });
    let statuses = futures_util::future::join_all(storm).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(house.reads(), 2);
    house.site.close().await;
}

/// E9, E14, E15: what the origin says is what the client gets.
#[tokio::test(flavor = "multi_thread")]
async fn answers_pass_as_they_are_and_are_asked_for_once() {
    let gzip: Vec<u8> = (0..=255).collect();
    let acts = vec![
        (
            "/429",
            act("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", Then::Keep),
        ),
        ("/503", act("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", Then::Keep)),
        (
            "/gzip",
            act(
                [head("Content-Encoding: gzip\r\nContent-Length: 256"), gzip.clone()].concat(),
                Then::Keep,
            ),
        ),
        (
            "/206",
            act(
                "HTTP/1.1 206 P\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab",
                Then::Keep,
            ),
        ),
        (
            "/302",
            act(
                "HTTP/1.1 302 F\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n",
                Then::Keep,
            ),
        ),
        (
            "/103",
            act(
                [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec(), ok("after")].concat(),
                Then::Keep,
            ),
        ),
        (
            "/407",
            act(
                "HTTP/1.1 407 P\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
                Then::Keep,
            ),
        ),
        (
            "/sly",
            act(
                "HTTP/1.1 200 OK\r\nProxy-Authenticate: Basic\r\nAlt-Svc: h3=\":443\"\r\nX-Countersign-Source: proxy\r\nContent-Length: 0\r\n\r\n",
                Then::Keep,
            ),
        ),
    ];
    let (site, origin) = site(acts).await;
    let answer = get(&site, "/429").await;
    assert_eq!((answer.status, answer.field("retry-after")), (429, Some("7")));
    assert_eq!(get(&site, "/503").await.text(), "no");
    let answer = get(&site, "/gzip").await;
    assert_eq!((answer.body, origin.seen.count("/503")), (gzip, 1));
    let answer = get(&site, "/206").await;
    assert_eq!((answer.status, answer.text()), (206, "ab".to_owned()));
    let answer = get(&site, "/302").await;
    assert_eq!((answer.status, answer.field("location")), (302, Some("https://evil.test/")));
    assert_eq!(get(&site, "/103").await.text(), "after");
    let answer = get(&site, "/407").await;
    assert_eq!((answer.status, answer.field("proxy-authenticate")), (502, None));
    let answer = get(&site, "/sly").await;
    assert_eq!((answer.field("proxy-authenticate"), answer.field("alt-svc")), (None, None));
    assert_eq!(answer.field("x-countersign-source"), Some("upstream"));
    site.close().await;
}

/// E15: the answer to a body that is still being sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_413_reaches_a_client_that_still_sends() {
    let ca = Ca::new();
    let origin = origin::start(ca.server(&[API]), |mut stream, seen| async move {
        let Some(_) = seen.request(&mut stream).await else { return };
        let _ = stream
            .write_all(
                b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig",
            )
            .await;
        let _ = stream.shutdown().await;
        // Read on for a moment, or TCP resets what was said.
        let _ = timeout(
            Duration::from_millis(500),
            tokio::io::copy(&mut stream, &mut tokio::io::sink()),
        )
        .await;
    })
    .await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let (mut read, mut write) = tokio::io::split(inside(&site).await);
    let sending = tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nHost: {API}\r\nContent-Length: 50000000\r\n\r\n");
        let _ = write.write_all(head.as_bytes()).await;
        for _ in 0..50 {
            if write.write_all(&[b'x'; 1_000_000]).await.is_err() {
                break;
            }
        }
        write
    });
    let answer = read_answer(&mut read, "POST").await;
    assert_eq!((answer.status, answer.text()), (413, "big".to_owned()));
    sending.abort();
    site.close().await;
}

/// T17, E10: nothing is said to an origin that cannot prove its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_proves_nothing_is_a_502_before_the_first_byte() {
    let (ca, unknown) = (Ca::new(), Ca::new());
    let only_cn = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(rcgen::DnType::CommonName, "cn.acme.test");
    };
    let old = |mut config: rustls::ServerConfig| {
        config.alpn_protocols.clear();
        config
    };
    let bad = [
        ("self.acme.test", Identity::self_signed("self.acme.test").server()),
        ("name.acme.test", ca.server(&["other.acme.test"])),
        ("expired.acme.test", ca.issue(&["expired.acme.test"], pki::expired).server()),
        ("early.acme.test", ca.issue(&["early.acme.test"], pki::not_yet_valid).server()),
        ("unknown.acme.test", unknown.server(&["unknown.acme.test"])),
        ("cn.acme.test", ca.issue(&["cn.acme.test"], only_cn).server()),
        ("purpose.acme.test", ca.issue(&["purpose.acme.test"], pki::for_clients).server()),
    ];
    let hosts: Vec<&str> = bad.iter().map(|(host, _)| *host).chain(["tls11.acme.test"]).collect();
    let mut setup = Setup::bare(&ca)
        .app("acme", &hosts, BEARER)
        .account("acme", "acme")
        .rest(&caller(CALLER, TOKEN, "accounts = [\"acme\"]\nrules = [{}]"));
    let mut origins = Vec::new();
    for (host, config) in bad {
        let origin = origin::start(old(config), |mut stream, seen| async move {
            let mut first = Vec::new();
            let _ = stream.read_to_end(&mut first).await;
            seen.counted.fetch_add(first.len() as u64, Ordering::Relaxed);
        })
        .await;
        setup = setup.resolve(&format!("{host}:443"), origin.address);
        origins.push((host, origin));
    }
    // TLS 1.1: a server hello of that version is all that rustls needs to see.
    let ancient = origin::start_plain(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 2048]).await;
        let hello = [&[0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2][..], &[7; 32], &[0, 0x00, 0x2f, 0]];
        let _ = stream.write_all(&hello.concat()).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let site = setup.resolve("tls11.acme.test:443", ancient.address).start().await;
    for host in hosts {
        let mut stream = inside_as(&site, host, &flow(), "http/1.1").await;
        let asked = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = exchange(&mut stream, &asked).await;
        assert_eq!((answer.status, answer.problem().as_str()), (502, "tls"), "{host}");
    }
    for (host, origin) in &origins {
        assert!(origin.seen.connections.load(Ordering::Relaxed) > 0, "{host} was dialled");
        assert_eq!(origin.seen.counted(), 0, "{host}");
    }
    site.close().await;
}

/// E11: each event as it comes, over HTTP/1.1 and HTTP/2, and over an idle limit that they outlast.
#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_come_when_they_are_sent() {
    let ca = Ca::new();
    let origin = origin::start(ca.server(&[API]), |mut stream, seen| async move {
        let Some(_) = seen.request(&mut stream).await else { return };
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..4 {
            let sent = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let event = format!("data: {:020}\n\n", sent.as_micros());
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            if stream.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
            let _ = stream.flush().await;
            sleep(Duration::from_secs(1)).await;
        }
        let _ = stream.write_all(b"0\r\n\r\n").await;
    })
    .await;
    let site = Setup::acme(&ca, origin.address)
        .proxy("idle_timeout = \"2s\"")
        .upstream("idle_timeout = \"2s\"")
        .start()
        .await;
    let late = |event: &[u8]| {
        let text = String::from_utf8_lossy(event);
        let sent: u128 = text.trim().trim_start_matches("data: ").parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(now.as_micros() - sent < 300_000, "{} µs late", now.as_micros() - sent);
    };
    let over_http1 = async {
        let mut stream = inside(&site).await;
        let asked = format!("GET /sse HTTP/1.1\r\nHost: {API}\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        assert_eq!(status_of(&read_head(&mut stream).await), 200);
        for _ in 0..4 {
            // `1c\r\n`, the event, `\r\n`.
            let mut chunk = [0; 34];
            timeout(PATIENCE, stream.read_exact(&mut chunk)).await.unwrap().unwrap();
            late(&chunk[4..32]);
        }
    };
    let over_http2 = async {
        let mut sender = http2(inside_as(&site, API, &flow(), "h2").await).await;
        let mut body = sender.send_request(request("/sse")).await.unwrap().into_body();
        for _ in 0..4 {
            let frame = timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
            late(frame.data_ref().unwrap());
        }
    };
    tokio::join!(over_http1, over_http2);
    site.close().await;
}

/// Agrees to a WebSocket, echoes, and says one more thing when the client has ended its half.
async fn websocket_origin(ca: &Ca) -> origin::Origin {
    origin::start(ca.server(&[API]), |mut stream, seen| async move {
        let Some(head) = seen.request(&mut stream).await else { return };
        if head.starts_with("GET /wrong ") {
            let _ = stream.write_all(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\n\r\n").await;
            return;
        }
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        if stream.write_all(agreed).await.is_err() {
            return;
        }
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.write_all(b"bye").await;
        let _ = write.shutdown().await;
        seen.counted.fetch_add(1, Ordering::Relaxed);
    })
    .await
}

fn handshake(target: &str, host: &str, lines: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// Bytes both ways, many and few, then one half ends before the other.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, asked: &str) {
    stream.write_all(asked.as_bytes()).await.unwrap();
    let head = read_head(stream).await;
    assert_eq!(status_of(&head), 101, "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let frame: Vec<u8> = (0..1_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let send = async {
        write.write_all(&[0x89, 0x80, 1, 2, 3, 4]).await.unwrap();
        write.write_all(&frame).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let receive = timeout(PATIENCE, read.read_to_end(&mut back));
    let (received, ()) = tokio::join!(receive, send);
    received.expect("both halves end").unwrap();
    assert_eq!(back.len(), 6 + frame.len() + 3);
    assert!(back[6..].starts_with(&frame) && back.ends_with(b"bye"));
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_pass_with_the_credential_through_every_door() {
    let ca = Ca::new();
    let origin = websocket_origin(&ca).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    talk(&mut inside(&site).await, &handshake("/ws", API, "")).await;
    let authorized = format!("Proxy-Authorization: {}\r\n", flow());
    let asked = handshake(&format!("http://{API}/ws"), API, &authorized);
    talk(&mut dial(&site).await, &asked).await;
    let asked =
        handshake("/gateway/acme/ws", "127.0.0.1", &format!("Authorization: Bearer {TOKEN}\r\n"));
    let mut web = tokio::net::TcpStream::connect(("127.0.0.1", site.ports.web)).await.unwrap();
    talk(&mut web, &asked).await;
    for head in origin.seen.heads() {
        assert!(head.contains(&format!("uthorization: Bearer {KEY}\r\n")), "{head}");
        assert_eq!(head.matches("uthorization").count(), 1, "{head}");
        assert!(head.to_lowercase().contains("sec-websocket-key: dghlihnhbxbszsbub25jzq=="));
    }
    let answer = exchange(&mut inside(&site).await, &handshake("/wrong", API, "")).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    site.until("every WebSocket ends", || origin.seen.counted() == 3).await;
    site.close().await;
}

/// T10: within a second, whatever it was that took the right away.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_websocket_ends_when_its_token_or_account_is_taken_away() {
    let ca = Ca::new();
    let origin = websocket_origin(&ca).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let config = site.config();
    let unbound = config.replace("accounts = [\"acme\"]", "accounts = []");
    let revoked = config.replace(TOKEN, "another-token-0123456789abcdefgh");
    for (what, changed) in [("account", unbound), ("token", revoked)] {
        let mut tunnelled = inside(&site).await;
        tunnelled.write_all(handshake("/ws", API, "").as_bytes()).await.unwrap();
        assert_eq!(status_of(&read_head(&mut tunnelled).await), 101);
        let authorized = format!("Proxy-Authorization: {}\r\n", flow());
        let mut plain = dial(&site).await;
        let asked = handshake(&format!("http://{API}/ws"), API, &authorized);
        plain.write_all(asked.as_bytes()).await.unwrap();
        assert_eq!(status_of(&read_head(&mut plain).await), 101);
        let asked = handshake(
            "/gateway/acme/ws",
            "127.0.0.1",
            &format!("Authorization: Bearer {TOKEN}\r\n"),
        );
        let mut web = tokio::net::TcpStream::connect(("127.0.0.1", site.ports.web)).await.unwrap();
        web.write_all(asked.as_bytes()).await.unwrap();
        assert_eq!(status_of(&read_head(&mut web).await), 101);
        site.reload(&changed, RELOADED).await;
        let second = Duration::from_secs(1);
        assert!(ends_within(&mut plain, second).await, "plain, {what}");
        assert!(ends_within(&mut web, second).await, "gateway, {what}");
        assert!(ends_within(&mut tunnelled, second).await, "tunnelled, {what}");
        site.reload(&config, RELOADED).await;
    }
    site.close().await;
}

/// E13. Bytes each way; set `COUNTERSIGN_TEST_BODY_BYTES=5000000000` for the long form.
fn body_bytes() -> u64 {
    let set = std::env::var("COUNTERSIGN_TEST_BODY_BYTES").ok();
    set.and_then(|bytes| bytes.parse().ok()).unwrap_or(200_000_000)
}

/// What a body may cost in memory, however long it is.
const FLAT: u64 = 48 * 1024 * 1024;

async fn bulk_origin(ca: &Ca) -> origin::Origin {
    let total = body_bytes();
    origin::start(ca.server(&[API]), move |mut stream, seen| async move {
        let Some(head) = seen.request(&mut stream).await else { return };
        let mut piece = vec![b'x'; 128 * 1024];
        if head.starts_with("POST ") {
            let mut left = total;
            while left > 0 {
                match stream.read(&mut piece).await {
                    Ok(read) if read > 0 => left -= read as u64,
                    _ => return,
                }
            }
            let _ = stream.write_all(&ok("all")).await;
            return;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        let mut left = total;
        while left > 0 {
            let size = left.min(piece.len() as u64) as usize;
            if stream.write_all(&piece[..size]).await.is_err() {
                return;
            }
            left -= size as u64;
            seen.counted.store(total - left, Ordering::Relaxed);
        }
        let _ = stream.flush().await;
        let _ = stream.read_u8().await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_flat_memory() {
    let ca = Ca::new();
    let origin = bulk_origin(&ca).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    get_plain(&site, "http://countersign.internal/status", &flow()).await;
    let before = site.resident();
    let total = body_bytes();

    let mut stream = inside(&site).await;
    let asked = format!("POST /up HTTP/1.1\r\nHost: {API}\r\nContent-Length: {total}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let (piece, mut left, mut most) = (vec![b'x'; 128 * 1024], total, 0);
    while left > 0 {
        let size = left.min(piece.len() as u64) as usize;
        stream.write_all(&piece[..size]).await.unwrap();
        left -= size as u64;
        most = most.max(site.resident());
    }
    assert_eq!(read_answer(&mut stream, "POST").await.text(), "all");

    let mut stream = inside(&site).await;
    stream
        .write_all(format!("GET /down HTTP/1.1\r\nHost: {API}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    read_head(&mut stream).await;
    let (mut piece, mut got) = (vec![0; 128 * 1024], 0);
    while got < total {
        match stream.read(&mut piece).await.unwrap() {
            0 => break,
            read => got += read as u64,
        }
        most = most.max(site.resident());
    }
    assert_eq!(got, total);
    assert!(most - before < FLAT, "from {before} to {most} bytes");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_origin_down() {
    let ca = Ca::new();
    let origin = bulk_origin(&ca).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let before = site.resident();
    let mut slow = inside(&site).await;
    slow.write_all(format!("GET /down HTTP/1.1\r\nHost: {API}\r\n\r\n").as_bytes()).await.unwrap();
    read_head(&mut slow).await;
    sleep(Duration::from_secs(1)).await;
    let sent = origin.seen.counted();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(origin.seen.counted(), sent, "the origin waits");
    assert!(sent < 24_000_000, "{sent} bytes were taken from the origin");
    assert!(site.resident() - before < FLAT);
    // Others are served meanwhile.
    assert_eq!(get_plain(&site, "http://countersign.internal/status", &flow()).await.status, 200);
    drop(slow);
    site.close().await;
}

/// E16: in every phase, and nothing is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_the_origins_connection_with_it() {
    let ca = Ca::new();
    let origin = origin::start(ca.server(&[API]), |mut stream, seen| async move {
        let Some(head) = seen.request(&mut stream).await else { return };
        if head.starts_with("GET /body ") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx").await;
            let _ = stream.flush().await;
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
        seen.counted.fetch_add(1, Ordering::Relaxed);
    })
    .await;
    // The store opens its connections when it likes, and they would be counted too.
    let setup = Setup::acme(&ca, origin.address).rest("[vault]\nurl = \"off\"");
    let site = setup.start().await;
    let descriptors = site.descriptors();
    for (index, path) in ["/wait", "/body"].iter().cycle().take(6).enumerate() {
        let mut stream = inside(&site).await;
        let asked = format!("GET {path} HTTP/1.1\r\nHost: {API}\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        site.until("the request arrives", || origin.seen.heads().len() == index + 1).await;
        if *path == "/body" {
            read_head(&mut stream).await;
        }
        let left = Instant::now();
        drop(stream);
        site.until("the origin is left", || origin.seen.counted() == index as u64 + 1).await;
        assert!(left.elapsed() < Duration::from_secs(1), "{path}: {:?}", left.elapsed());
    }
    site.until("descriptors come back", || site.descriptors() <= descriptors + 2).await;
    site.close().await;
}

/// An HTTP/2 origin: echoes bodies and the path, with trailers.
async fn http2_origin(ca: &Ca) -> origin::Origin {
    let mut tls = ca.server(&[API]);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    origin::start(tls, |stream, seen| async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let key = request.headers().get("authorization").and_then(|v| v.to_str().ok());
                let te = request.headers().get("te").and_then(|v| v.to_str().ok());
                seen.heads.lock().unwrap().push(format!("{key:?} {te:?}"));
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await?.to_bytes();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let frames =
                    [Frame::data(body), Frame::data(path.into()), Frame::trailers(trailers)];
                let frames = futures_util::stream::iter(frames.map(Ok::<_, hyper::Error>));
                let answer = Response::builder().header("content-type", "application/grpc");
                Ok::<_, hyper::Error>(answer.body(StreamBody::new(frames)).unwrap())
            }
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_passes_end_to_end_with_trailers_and_a_hundred_streams() {
    let ca = Ca::new();
    let origin = http2_origin(&ca).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let sender = http2(inside_as(&site, API, &flow(), "h2").await).await;
    let calls = (0..100).map(|index| {
        let mut sender = sender.clone();
        async move {
            let body = Full::new(Bytes::from(format!("message {index} ")));
            let request = Request::post(format!("https://{API}/call/{index}"))
                .header("te", "trailers")
                .header("content-type", "application/grpc")
                .body(body)
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let answer = answer.into_body().collect().await.unwrap();
            assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(answer.to_bytes(), format!("message {index} /call/{index}"));
        }
    });
    timeout(PATIENCE, futures_util::future::join_all(calls)).await.unwrap();
    let heads = origin.seen.heads();
    assert_eq!(heads.len(), 100);
    let expected = format!("{:?} {:?}", Some(format!("Bearer {KEY}")), Some("trailers"));
    assert!(heads.iter().all(|head| *head == expected), "{}", heads[0]);
    assert!(origin.seen.connections.load(Ordering::Relaxed) < 10);
    site.close().await;
}
