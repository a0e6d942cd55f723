//! The whole client against origins on loopback that misbehave on purpose.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;

use super::http1::Connection;
use super::io::{Io, Stream};
use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Runs `script` on every connection, with its number.
async fn origin<F, R>(script: F) -> SocketAddr
where
    F: Fn(usize, TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((tcp, _)) = listener.accept().await else { return };
            tokio::spawn(script(number, tcp));
        }
    });
    address
}

/// Every request of every connection is answered with the same bytes, and written down.
async fn constant(answer: &'static str) -> (SocketAddr, Arc<Mutex<Vec<(usize, String)>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let address = origin(move |number, mut tcp| {
        let log = log.clone();
        async move {
            while let Some(head) = read_head(&mut tcp).await {
                log.lock().unwrap().push((number, head));
                let _ = tcp.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    (address, seen)
}

async fn read_head(tcp: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

fn settings(to: SocketAddr) -> Settings {
    let limit = Duration::from_secs(3);
    Settings {
        resolve: vec![Override { host: "a.test".parse().unwrap(), port: None, to }],
        roots: Vec::new(),
        allow: Vec::new(),
        bind: None,
        proxy: None,
        http2: true,
        connect_timeout: limit,
        tls_timeout: limit,
        first_byte_timeout: limit,
        idle_timeout: limit,
        keep_alive: limit,
        max_idle_per_host: 100,
        max_connections_per_host: 100,
    }
}

fn client(to: SocketAddr) -> Client {
    Client::new(settings(to), OwnAddresses::default()).unwrap()
}

fn destination(tls: bool) -> Destination {
    Destination { host: "a.test".parse().unwrap(), port: 443, tls, http1_only: false }
}

fn request(method: Method, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = "/path?query".parse().unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("a.test"));
    request
}

async fn get(client: &Client) -> Result<Response<ResponseBody>, Error> {
    client.send(&destination(false), request(Method::GET, RequestBody::empty())).await
}

async fn post(client: &Client) -> Result<Response<ResponseBody>, Error> {
    let body = RequestBody::full(Bytes::from_static(b"hello"));
    client.send(&destination(false), request(Method::POST, body)).await
}

async fn text(response: Response<ResponseBody>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A body that the test writes piece by piece, as a client would.
async fn upload(framing: &str) -> (Incoming, DuplexStream) {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let empty = http_body_util::Empty::<Bytes>::new();
    let response = tokio::spawn(async move {
        let response = sender.send_request(Request::new(empty)).await.unwrap();
        (response, sender)
    });
    read_head(&mut far).await.unwrap();
    far.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
    let (response, sender) = response.await.unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(sender);
    });
    (response.into_body(), far)
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let (to, seen) = constant(OK).await;
    let client = client(to);
    for _ in 0..3 {
        assert_eq!(text(get(&client).await.unwrap()).await, "ok");
    }
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|(connection, _)| *connection == 0));
    assert_eq!(seen[0].1, "GET /path?query HTTP/1.1\r\nhost: a.test\r\n\r\n");
    assert_eq!(client.stats().reused.load(Ordering::Relaxed), 2);
    assert_eq!(client.stats().open(), 1);
}

#[tokio::test]
async fn chunks_trailers_and_empty_answers_leave_the_connection_usable() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (to, seen) = constant(answer).await;
        let client = client(to);
        for _ in 0..2 {
            text(get(&client).await.unwrap()).await;
        }
        assert!(seen.lock().unwrap().iter().all(|(number, _)| *number == 0), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_has_a_hundred_header_lines_at_most() {
    let (within, beyond) = ("X: y\r\n".repeat(99), "X: y\r\n".repeat(100));
    let answer =
        |lines: String| format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok").leak();
    let (to, _) = constant(answer(within)).await;
    let response = get(&client(to)).await.unwrap();
    assert_eq!(response.headers().get_all("x").iter().count(), 99);
    let (to, _) = constant(answer(beyond)).await;
    assert!(matches!(get(&client(to)).await, Err(Error::Protocol { .. })));
}

#[tokio::test]
async fn a_kept_connection_that_died_is_noticed_before_a_post_is_written() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let to = origin(move |_, mut tcp| {
        let count = count.clone();
        async move {
            read_head(&mut tcp).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            tcp.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client(to);
    for round in 1..=3 {
        assert_eq!(text(post(&client).await.unwrap()).await, "ok");
        assert_eq!(seen.load(Ordering::Relaxed), round);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The first request of a connection is answered; the second kills it.
async fn dies_on_the_second() -> (SocketAddr, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let to = origin(move |_, mut tcp| {
        let count = count.clone();
        async move {
            for answer in [OK, ""] {
                let Some(_) = read_head(&mut tcp).await else { return };
                count.fetch_add(1, Ordering::Relaxed);
                tcp.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (to, seen)
}

#[tokio::test]
async fn a_get_is_sent_again_when_a_kept_connection_dies_under_it() {
    let (to, seen) = dies_on_the_second().await;
    let client = client(to);
    for _ in 0..2 {
        assert_eq!(text(get(&client).await.unwrap()).await, "ok");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 3);
    assert_eq!(client.stats().retried.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_died_with_one_kept_connection_is_not_tried_on_another() {
    let (to, seen) = dies_on_the_second().await;
    let client = client(to);
    let (one, other) = tokio::join!(get(&client), get(&client));
    text(one.unwrap()).await;
    text(other.unwrap()).await;
    assert_eq!(client.stats().opened.load(Ordering::Relaxed), 2, "two are kept");
    assert_eq!(text(get(&client).await.unwrap()).await, "ok");
    assert_eq!(seen.load(Ordering::Relaxed), 4, "once on a kept connection, once on a new one");
    assert_eq!(client.stats().retried.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let to = origin(move |_, mut tcp| {
        let count = count.clone();
        async move {
            for answer in [OK, ""] {
                let Some(_) = read_head(&mut tcp).await else { return };
                tcp.read_exact(&mut [0; 5]).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tcp.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let client = client(to);
    assert_eq!(text(post(&client).await.unwrap()).await, "ok");
    assert_eq!(post(&client).await.unwrap_err().kind(), ErrorKind::Reset);
    assert_eq!(seen.load(Ordering::Relaxed), 2);
    assert_eq!(client.stats().errors(ErrorKind::Reset), 1);
}

#[tokio::test]
async fn surplus_bytes_never_answer_the_next_request() {
    for surplus in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let to = origin(move |number, mut tcp| async move {
            while read_head(&mut tcp).await.is_some() {
                let answer = if number == 0 { surplus } else { OK };
                let _ = tcp.write_all(answer.as_bytes()).await;
            }
        })
        .await;
        let client = client(to);
        text(get(&client).await.unwrap()).await;
        assert_eq!(text(get(&client).await.unwrap()).await, "ok", "{surplus}");
    }
}

#[tokio::test]
async fn an_answer_before_the_request_is_not_its_answer() {
    let to = origin(|_, mut tcp| async move {
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await.unwrap();
        let _ = read_head(&mut tcp).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    })
    .await;
    // It may still win the race against our own write; then it is indistinguishable.
    let client = client(to);
    let tcp = client.dial(&Authority::parse_connect("a.test:443").unwrap()).await.unwrap();
    tcp.readable().await.unwrap();
    let io = Io::new(Stream::Plain(tcp), client.stats().clone());
    let mut connection = Connection::over(io).await.unwrap();
    assert!(!connection.is_usable());
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
        "\u{15}\u{3}\u{3}\0\u{2}\u{2}\n",
    ] {
        let (to, _) = constant(answer).await;
        let error = get(&client(to)).await.map(|_| ()).expect_err(answer);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused_with_bounded_memory() {
    let to = origin(|_, mut tcp| async move {
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nX: ").await;
        while tcp.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    assert_eq!(get(&client(to)).await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_truncated_body_never_ends_cleanly() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok",
    ] {
        let to = origin(move |_, mut tcp| async move {
            read_head(&mut tcp).await.unwrap();
            tcp.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let response = get(&client(to)).await.unwrap();
        assert!(response.into_body().collect().await.is_err(), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_cut_by_the_idle_limit() {
    let to = origin(|_, mut tcp| async move {
        read_head(&mut tcp).await.unwrap();
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let idle_timeout = Duration::from_millis(50);
    let settings = Settings { idle_timeout, ..settings(to) };
    let client = Client::new(settings, OwnAddresses::default()).unwrap();
    let error = get(&client).await.unwrap().into_body().collect().await.unwrap_err();
    assert!(matches!(error, BodyError::Idle(_)), "{error}");
    assert_eq!(client.stats().open(), 0);
}

#[tokio::test]
async fn a_silent_origin_is_given_up_but_not_while_an_upload_moves() {
    let to = origin(|_, mut tcp| async move {
        let head = read_head(&mut tcp).await.unwrap();
        let mut body = [0; 10];
        if head.starts_with("POST") && tcp.read_exact(&mut body).await.is_ok() {
            tcp.write_all(OK.as_bytes()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let settings = Settings { first_byte_timeout: Duration::from_millis(100), ..settings(to) };
    let client = Client::new(settings, OwnAddresses::default()).unwrap();
    let error = get(&client).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::FirstByte, .. }), "{error}");

    let (incoming, mut far) = upload("Content-Length: 10").await;
    tokio::spawn(async move {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            far.write_all(b"x").await.unwrap();
        }
    });
    let body = RequestBody::stream(incoming);
    let response = client.send(&destination(false), request(Method::POST, body)).await.unwrap();
    assert_eq!(text(response).await, "ok");

    let (incoming, _far) = upload("Content-Length: 10").await;
    let body = RequestBody::stream(incoming);
    let sent = client.send(&destination(false), request(Method::POST, body)).await;
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::RequestBody);
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_in_chunks_even_with_get() {
    let (heads, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let to = origin(move |_, mut tcp| {
        let heads = heads.clone();
        async move {
            let head = read_head(&mut tcp).await.unwrap();
            let body = read_head(&mut tcp).await.unwrap();
            heads.send(head + &body).unwrap();
            tcp.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let (incoming, mut far) = upload("Transfer-Encoding: chunked").await;
    far.write_all(b"3\r\nabc\r\n0\r\n\r\n").await.unwrap();
    let counter = Arc::new(AtomicU64::new(0));
    let body = RequestBody::stream(incoming).counted(counter.clone());
    let mut request = request(Method::GET, body);
    request.headers_mut().insert("content-length", HeaderValue::from_static("1"));
    let response = client(to).send(&destination(false), request).await.unwrap();
    assert_eq!(text(response).await, "ok");
    let sent = bodies.recv().await.unwrap();
    assert!(sent.contains("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{sent}");
    assert!(!sent.contains("content-length"), "{sent}");
    assert_eq!(counter.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_body_waits_for_the_100_that_the_client_asked_for() {
    for (patient_origin, at_least) in [(true, 0), (false, 900)] {
        let to = origin(move |_, mut tcp| async move {
            read_head(&mut tcp).await.unwrap();
            if patient_origin {
                let early = tokio::time::timeout(Duration::from_millis(50), tcp.read_u8()).await;
                assert!(early.is_err(), "the body came before the 100");
                tcp.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            }
            tcp.read_exact(&mut [0; 3]).await.unwrap();
            tcp.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let (incoming, mut far) = upload("Content-Length: 3").await;
        far.write_all(b"abc").await.unwrap();
        let mut request = request(Method::POST, RequestBody::stream(incoming).after_continue());
        request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
        let start = Instant::now();
        let response = client(to).send(&destination(false), request).await.unwrap();
        assert_eq!(text(response).await, "ok");
        assert!(start.elapsed() >= Duration::from_millis(at_least));
        assert!(start.elapsed() < Duration::from_millis(at_least + 800));
    }
}

#[tokio::test]
async fn an_early_refusal_reaches_the_client_and_ends_the_connection() {
    for (awaits_continue, answer) in [
        (true, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"),
        (false, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"),
        (false, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let (to, seen) = constant(answer).await;
        let client = client(to);
        let (incoming, _far) = upload("Content-Length: 1000").await;
        let mut body = RequestBody::stream(incoming);
        if awaits_continue {
            body = body.after_continue();
        }
        let sent = client.send(&destination(false), request(Method::POST, body)).await.unwrap();
        assert_eq!(sent.status(), StatusCode::PAYLOAD_TOO_LARGE);
        text(sent).await;
        text(get(&client).await.unwrap()).await;
        let connections: Vec<_> = seen.lock().unwrap().iter().map(|(at, _)| *at).collect();
        assert_eq!(connections, [0, 1], "{awaits_continue} {answer}");
    }
}

#[tokio::test]
async fn an_answer_survives_the_origins_close_in_the_middle_of_an_upload() {
    let to = origin(|_, mut tcp| async move {
        read_head(&mut tcp).await.unwrap();
        tcp.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    })
    .await;
    let (incoming, mut far) = upload("Content-Length: 10000000").await;
    tokio::spawn(async move { while far.write_all(&[0; 16 * 1024]).await.is_ok() {} });
    let body = RequestBody::stream(incoming);
    let sent = client(to).send(&destination(false), request(Method::POST, body)).await.unwrap();
    assert_eq!(text(sent).await, "no");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upload() {
    let (ended, mut end) = tokio::sync::mpsc::unbounded_channel();
    let to = origin(move |_, mut tcp| {
        let ended = ended.clone();
        async move {
            read_head(&mut tcp).await.unwrap();
            let mut rest = Vec::new();
            let _ = tcp.read_to_end(&mut rest).await;
            ended.send(rest.len()).unwrap();
        }
    })
    .await;
    let (incoming, mut far) = upload("Content-Length: 99000000").await;
    far.write_all(b"abc").await.unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(far);
    });
    let body = RequestBody::stream(incoming);
    let sent = client(to).send(&destination(false), request(Method::POST, body)).await;
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::RequestBody);
    let received = tokio::time::timeout(Duration::from_secs(1), end.recv()).await.unwrap();
    assert_eq!(received, Some(3));
}

#[tokio::test]
async fn an_abandoned_answer_closes_its_connection_at_once() {
    let (ended, mut end) = tokio::sync::mpsc::unbounded_channel();
    let to = origin(move |_, mut tcp| {
        let ended = ended.clone();
        async move {
            read_head(&mut tcp).await.unwrap();
            tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await.unwrap();
            let _ = tcp.read_u8().await;
            ended.send(()).unwrap();
        }
    })
    .await;
    let client = client(to);
    drop(get(&client).await.unwrap());
    tokio::time::timeout(Duration::from_secs(1), end.recv()).await.unwrap().unwrap();
    assert_eq!(client.stats().open(), 0);
}

#[tokio::test]
async fn the_number_of_connections_is_bounded_and_waiting_is_fair_and_bounded() {
    let (to, seen) = constant(OK).await;
    let settings = Settings {
        max_connections_per_host: 1,
        connect_timeout: Duration::from_millis(100),
        ..settings(to)
    };
    let client = Client::new(settings, OwnAddresses::default()).unwrap();
    let all = futures_util::future::join_all(
        (0..20).map(|_| async { text(get(&client).await.unwrap()).await }),
    );
    assert_eq!(all.await, vec!["ok"; 20]);
    assert_eq!(client.stats().opened.load(Ordering::Relaxed), 1);
    assert_eq!(seen.lock().unwrap().len(), 20);

    let held = get(&client).await.unwrap();
    assert_eq!(get(&client).await.unwrap_err().kind(), ErrorKind::Busy);
    drop(held);
    assert_eq!(text(get(&client).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn no_more_than_the_configured_number_stays_idle_and_none_for_too_long() {
    let (to, _) = constant(OK).await;
    let settings =
        Settings { max_idle_per_host: 2, keep_alive: Duration::from_millis(50), ..settings(to) };
    let client = Client::new(settings, OwnAddresses::default()).unwrap();
    let all = futures_util::future::join_all((0..5).map(|_| get(&client))).await;
    for response in all {
        text(response.unwrap()).await;
    }
    assert_eq!(client.stats().open(), 2);
    tokio::time::sleep(Duration::from_millis(60)).await;
    client.inner.pool.sweep();
    assert_eq!(client.stats().open(), 0);
}

#[tokio::test]
async fn an_upgrade_hands_over_the_connection() {
    let to = origin(|_, mut tcp| async move {
        read_head(&mut tcp).await.unwrap();
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhi";
        tcp.write_all(head.as_bytes()).await.unwrap();
        let byte = tcp.read_u8().await.unwrap();
        tcp.write_all(&[byte + 1]).await.unwrap();
    })
    .await;
    let mut request = request(Method::GET, RequestBody::empty());
    request.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    request.headers_mut().insert("upgrade", HeaderValue::from_static("x"));
    let mut response = client(to).send(&destination(false), request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut greeting = [0; 2];
    io.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"hi");
    io.write_all(b"a").await.unwrap();
    assert_eq!(io.read_u8().await.unwrap(), b'b');
}

#[tokio::test]
async fn refused_addresses_are_refused_before_a_connect() {
    let client = client("127.0.0.1:1".parse().unwrap());
    for host in ["127.0.0.1", "localhost", "10.0.0.1", "[::ffff:127.0.0.1]", "metadata"] {
        let host: Host = host.parse().unwrap();
        let to = Destination { host: host.clone(), port: 80, tls: false, http1_only: false };
        let sent = client.send(&to, request(Method::GET, RequestBody::empty())).await;
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::Refused, "{host}");
        let dialled = client.dial(&Authority { host: host.clone(), port: 80 }).await;
        assert_eq!(dialled.unwrap_err().kind(), ErrorKind::Refused, "{host}");
    }
}

#[tokio::test]
async fn a_parent_proxy_is_asked_for_the_checked_address_or_for_the_name() {
    let (parent, seen) = constant("HTTP/1.1 200 OK\r\n\r\n").await;
    for (resolve_locally, target) in [(true, "127.0.0.1:9"), (false, "127.0.0.1:9")] {
        let settings = Settings {
            proxy: Some(Parent {
                authority: Authority::parse_connect(&parent.to_string()).unwrap(),
                credentials: Some(Secret::from("user:pass".to_owned())),
                resolve_locally,
            }),
            ..settings(target.parse().unwrap())
        };
        let client = Client::new(settings, OwnAddresses::default()).unwrap();
        client.dial(&Authority::parse_connect("a.test:443").unwrap()).await.unwrap();
        let (_, head) = seen.lock().unwrap().pop().unwrap();
        let pseudonym = client.pseudonym();
        assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains(&format!("Via: 1.1 {pseudonym}\r\n")), "{head}");
        assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
        let named = Authority::parse_connect("b.test:443").unwrap();
        if !resolve_locally {
            client.dial(&named).await.unwrap();
            let (_, head) = seen.lock().unwrap().pop().unwrap();
            assert!(head.starts_with("CONNECT b.test:443 HTTP/1.1\r\n"), "{head}");
        }
        let inside = Authority::parse_connect("127.0.0.1:22").unwrap();
        assert_eq!(client.dial(&inside).await.unwrap_err().kind(), ErrorKind::Refused);
    }
}

#[tokio::test]
async fn a_parents_refusal_names_its_status() {
    let (parent, _) = constant("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let authority = Authority::parse_connect(&parent.to_string()).unwrap();
    let proxy = Some(Parent { authority, credentials: None, resolve_locally: false });
    let settings = Settings { proxy, ..settings(parent) };
    let client = Client::new(settings, OwnAddresses::default()).unwrap();
    let error = get(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parent);
    assert!(error.to_string().contains("407"), "{error}");
}

/// A test's own CA, and what it signs.
struct Authorities {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authorities {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> TlsServer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        tls_server(leaf.der().clone(), &key)
    }
}

type TlsServer = rustls::ServerConfig;

fn tls_server(leaf: CertificateDer<'static>, key: &KeyPair) -> TlsServer {
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key.into())
        .unwrap()
}

async fn tls_origin<R>(
    server: TlsServer,
    script: impl Fn(tokio_rustls::server::TlsStream<TcpStream>) -> R + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    R: Future<Output = ()> + Send + 'static,
{
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    origin(move |_, tcp| {
        let (acceptor, script) = (acceptor.clone(), script.clone());
        async move {
            if let Ok(tls) = acceptor.accept(tcp).await {
                script(tls).await;
            }
        }
    })
    .await
}

fn trusting(to: SocketAddr, root: &CertificateDer<'static>) -> Client {
    let settings = Settings { roots: vec![root.clone()], ..settings(to) };
    Client::new(settings, OwnAddresses::default()).unwrap()
}

async fn get_tls(client: &Client) -> Result<Response<ResponseBody>, Error> {
    client.send(&destination(true), request(Method::GET, RequestBody::empty())).await
}

#[tokio::test]
async fn no_byte_of_a_request_goes_to_an_origin_that_cannot_prove_itself() {
    let (ours, theirs) = (Authorities::new(), Authorities::new());
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        tls_server(params.self_signed(&key).unwrap().der().clone(), &key)
    };
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    };
    let future = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    };
    let name_only_in_cn = |params: &mut CertificateParams| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a.test");
    };
    for (what, server) in [
        ("self-signed", self_signed),
        ("wrong name", ours.server("b.test", |_| {})),
        ("unknown CA", theirs.server("a.test", |_| {})),
        ("expired", ours.server("a.test", expired)),
        ("not yet valid", ours.server("a.test", future)),
        ("name only in CN", ours.server("a.test", name_only_in_cn)),
    ] {
        let received = Arc::new(AtomicUsize::new(0));
        let count = received.clone();
        let to = tls_origin(server, move |mut tls| {
            let count = count.clone();
            async move {
                if tls.read_u8().await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .await;
        let error = get_tls(&trusting(to, &ours.root)).await.map(|_| ()).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Tls, "{what}: {error}");
        assert_eq!(received.load(Ordering::Relaxed), 0, "{what}");
    }
}

#[tokio::test]
async fn a_tls_close_without_notice_is_a_truncation() {
    let ours = Authorities::new();
    for (polite, whole) in [(true, true), (false, false)] {
        let to = tls_origin(ours.server("a.test", |_| {}), move |mut tls| async move {
            read_head(&mut tls).await.unwrap();
            tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nok").await.unwrap();
            tls.flush().await.unwrap();
            if polite {
                tls.shutdown().await.unwrap();
            }
        })
        .await;
        let response = get_tls(&trusting(to, &ours.root)).await.unwrap();
        assert_eq!(response.into_body().collect().await.is_ok(), whole);
    }
}

/// Answers every request with its own body, over HTTP/2.
async fn echo<I>(io: I)
where
    I: tokio::io::AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
        assert_eq!(request.uri(), "https://a.test/path?query");
        assert!(!request.headers().contains_key("host"));
        let (parts, body) = request.into_parts();
        if parts.headers.contains_key("slow") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, std::convert::Infallible>(Response::new(body))
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(200)
        .serve_connection(TokioIo::new(io), service)
        .await;
}

async fn http2_origin(ours: &Authorities) -> SocketAddr {
    let mut server = ours.server("a.test", |_| {});
    server.alpn_protocols = vec![b"h2".to_vec()];
    tls_origin(server, echo).await
}

#[tokio::test]
async fn a_hundred_streams_share_one_http2_connection() {
    let ours = Authorities::new();
    let client = trusting(http2_origin(&ours).await, &ours.root);
    let all = futures_util::future::join_all((0..100).map(|i| {
        let body = RequestBody::full(Bytes::from(format!("body {i}")));
        let mut request = request(Method::POST, body);
        request.headers_mut().insert("slow", HeaderValue::from_static("1"));
        let client = &client;
        async move {
            let response = client.send(&destination(true), request).await.unwrap();
            assert_eq!(response.version(), Version::HTTP_2);
            assert_eq!(text(response).await, format!("body {i}"));
        }
    }));
    all.await;
    assert_eq!(client.stats().opened.load(Ordering::Relaxed), 1);
    client.close().await;
    assert_eq!(client.stats().open(), 0);
}

#[tokio::test]
async fn those_who_wait_for_the_only_connection_share_it_if_it_is_http2() {
    let ours = Authorities::new();
    let to = http2_origin(&ours).await;
    let settings =
        Settings { roots: vec![ours.root.clone()], max_connections_per_host: 1, ..settings(to) };
    let client = Client::new(settings, OwnAddresses::default()).unwrap();
    let all = futures_util::future::join_all((0..20).map(|_| get_tls(&client))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(client.stats().opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn after_a_goaway_requests_go_to_a_new_connection() {
    let ours = Authorities::new();
    let mut server = ours.server("a.test", |_| {});
    server.alpn_protocols = vec![b"h2".to_vec()];
    let to = tls_origin(server, |tls| async move {
        let done = Arc::new(tokio::sync::Notify::new());
        let answered = done.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            answered.notify_one();
            async move { Ok::<_, std::convert::Infallible>(Response::new(request.into_body())) }
        });
        let mut connection = pin!(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(tls), service)
        );
        tokio::select! {
            _ = connection.as_mut() => return,
            () = done.notified() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    })
    .await;
    let client = trusting(to, &ours.root);
    for round in 0..20 {
        let body = RequestBody::full(Bytes::from_static(b"hello"));
        let sent = client.send(&destination(true), request(Method::POST, body)).await;
        assert_eq!(text(sent.unwrap()).await, "hello", "{round}");
    }
    assert!(client.stats().opened.load(Ordering::Relaxed) > 1);
}

/// Refuses the first `refused` streams of each connection, and answers the others.
async fn refusing_origin(ours: &Authorities, refused: usize) -> SocketAddr {
    let mut server = ours.server("a.test", |_| {});
    server.alpn_protocols = vec![b"h2".to_vec()];
    tls_origin(server, move |tls| async move {
        let mut connection = h2::server::handshake(tls).await.unwrap();
        let mut seen = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            seen += 1;
            if seen <= refused {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            } else {
                respond.send_response(Response::new(()), true).unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_stream_that_was_refused_unseen_is_sent_again_whatever_its_method_but_not_for_ever() {
    let ours = Authorities::new();
    for (refused, body, answered) in [
        (2, RequestBody::empty(), true),
        (2, RequestBody::full(Bytes::from_static(b"in one piece")), true),
        (usize::MAX, RequestBody::empty(), false),
    ] {
        let client = trusting(refusing_origin(&ours, refused).await, &ours.root);
        let sent = client.send(&destination(true), request(Method::POST, body)).await;
        assert_eq!(sent.is_ok(), answered, "{refused}: {sent:?}");
    }
}

#[tokio::test]
async fn a_destination_for_http1_only_offers_nothing_else() {
    let ours = Authorities::new();
    let mut server = ours.server("a.test", |_| {});
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let to = tls_origin(server, |mut tls| async move {
        while read_head(&mut tls).await.is_some() {
            tls.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = trusting(to, &ours.root);
    let destination = Destination { http1_only: true, ..destination(true) };
    for _ in 0..2 {
        let request = request(Method::GET, RequestBody::empty());
        assert_eq!(text(client.send(&destination, request).await.unwrap()).await, "ok");
    }
    assert_eq!(client.stats().opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_streams_while_its_upload_still_goes_on() {
    let to = origin(|_, mut tcp| async move {
        read_head(&mut tcp).await.unwrap();
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await.unwrap();
        let (mut read, mut write) = tcp.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let (incoming, mut far) = upload("Content-Length: 4").await;
    let body = RequestBody::stream(incoming);
    let response = client(to).send(&destination(false), request(Method::POST, body)).await.unwrap();
    let mut body = pin!(response.into_body());
    for piece in ["ab", "cd"] {
        far.write_all(piece.as_bytes()).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_survive_an_origin_that_closes_as_it_likes() {
    let to = origin(|number, mut tcp| async move {
        for _ in 0..=number % 7 {
            let Some(_) = read_head(&mut tcp).await else { return };
            let _ = tcp.write_all(OK.as_bytes()).await;
        }
        if number % 2 == 0 {
            // Dies under the next request instead of before it.
            let _ = tcp.read_u8().await;
        }
    })
    .await;
    let client = client(to);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    assert_eq!(text(get(&client).await.unwrap()).await, "ok");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
