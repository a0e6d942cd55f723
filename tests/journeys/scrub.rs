//! What an origin echoes of the credential comes back masked: in its head, in its text, and in text
//! that it compressed, wherever the pieces are cut. Real sockets, the real binary.

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::client::{Answer, PATIENCE, exchange, fetch, get, inside, read_head};
use crate::origin::{self, Act, Then, act, drain_body, scripted};
use crate::pki::Ca;
use crate::site::{API, BEARER, KEY, Setup, Site};

const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

/// As an encoder that is flushed after each piece leaves them.
async fn pieces(coding: &str, texts: &[&str]) -> Vec<Vec<u8>> {
    macro_rules! encode {
        ($encoder:ident) => {{
            let mut encoder = $encoder::new(Vec::new());
            let mut pieces = Vec::new();
            for text in texts {
                encoder.write_all(text.as_bytes()).await.unwrap();
                encoder.flush().await.unwrap();
                pieces.push(std::mem::take(encoder.get_mut()));
            }
            encoder.shutdown().await.unwrap();
            pieces.push(encoder.into_inner());
            pieces
        }};
    }
    match coding {
        "gzip" => encode!(GzipEncoder),
        "deflate" => encode!(ZlibEncoder),
        "br" => encode!(BrotliEncoder),
        "zstd" => encode!(ZstdEncoder),
        other => panic!("{other}"),
    }
}

async fn encoded(coding: &str, text: &str) -> Vec<u8> {
    pieces(coding, &[text]).await.concat()
}

/// What echo services answer: the header as it came, and its escaped forms.
fn echo() -> String {
    let json = KEY.replace('/', "\\/").replace('+', "\\u002B");
    let url = KEY.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D");
    format!("{{\"authorization\":\"Bearer {KEY}\",\"json\":\"{json}\",\"url\":\"/?k={url}\"}}\n")
}

fn chunked(coding: &str, chunks: &[&[u8]]) -> Vec<u8> {
    let mut message = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for chunk in chunks {
        message.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        message.extend_from_slice(chunk);
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"0\r\n\r\n");
    message
}

fn whole(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn site(acts: Vec<(&'static str, Act)>) -> Site {
    let ca = Ca::new();
    let origin = scripted(ca.server(&[API]), acts).await;
    Setup::acme(&ca, origin.address).start().await
}

fn assert_masked(answer: &Answer, what: &str) {
    let text = answer.text();
    assert!(answer.complete && answer.status == 200, "{what}: {answer:?}");
    assert_eq!(text.len(), echo().len(), "{what}: {text}");
    assert!(text.starts_with("{\"authorization\":\"Bearer ***"), "{what}: {text}");
    assert!(text.contains("\"json\":\"****") && text.contains("?k=****"), "{what}: {text}");
    let key = KEY.split(['/', '+']).max_by_key(|part| part.len()).unwrap();
    assert!(!text.contains(key), "{what}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_in_a_compressed_text_is_masked_wherever_it_is_cut() {
    let mut acts = Vec::new();
    let mut paths = Vec::new();
    for coding in CODINGS {
        let body = encoded(coding, &echo()).await;
        for size in [1, 10, body.len()] {
            let path: &'static str = format!("/{coding}/{size}").leak();
            let chunks: Vec<&[u8]> = body.chunks(size).collect();
            acts.push((path, act(chunked(coding, &chunks), Then::Keep)));
            paths.push(path);
        }
    }
    let site = site(acts).await;
    let mut stream = inside(&site).await;
    for path in paths {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {API}\r\n\r\n");
        let answer = exchange(&mut stream, &request).await;
        assert_masked(&answer, path);
        assert_eq!(answer.field("content-encoding"), None, "{path}");
    }
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoded_answer_has_a_head_that_fits_it_and_a_part_is_left_alone() {
    let body = encoded("gzip", &echo()).await;
    let fields = "Content-Type: application/json\r\nContent-Encoding: gzip\r\nETag: \"a\"\r\n\
                  Accept-Ranges: bytes\r\nDigest: x\r\nVary: Accept-Encoding\r\n";
    let head = whole(fields, &body);
    let part = String::from_utf8(head[..head.len() - body.len()].to_vec()).unwrap();
    let part = part
        .replace("200 OK", "206 Partial Content")
        .replace("Digest", "Content-Range: bytes 0-9/100\r\nDigest");
    let only_head = head[..head.len() - body.len()].to_vec();
    let acts = vec![
        ("/whole", act(&head, Then::Keep)),
        ("/head", act(&only_head, Then::Keep)),
        ("/part", act([part.as_bytes(), &body].concat(), Then::Keep)),
        ("/304", act("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", Then::Keep)),
        (
            "/image",
            act(whole("Content-Type: image/png\r\nContent-Encoding: gzip\r\n", &body), Then::Keep),
        ),
        (
            "/unknown",
            act(whole("Content-Type: text/plain\r\nContent-Encoding: dcb\r\n", &body), Then::Keep),
        ),
    ];
    let site = site(acts).await;
    let answer = get(&site, "/whole").await;
    assert_masked(&answer, "whole");
    for gone in ["content-encoding", "content-length", "accept-ranges", "digest"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    assert_eq!(answer.field("etag"), Some("W/\"a\""));
    assert_eq!(answer.field("vary"), Some("Accept-Encoding"));

    let request = format!("HEAD /head HTTP/1.1\r\nHost: {API}\r\n\r\n");
    let answer = fetch(&site, &request).await;
    assert_eq!((answer.status, answer.field("etag")), (200, Some("W/\"a\"")), "{answer:?}");
    assert_eq!(answer.field("content-encoding"), None);

    assert_eq!(get(&site, "/304").await.field("etag"), Some("\"a\""));
    for (path, coding) in [("/part", "gzip"), ("/image", "gzip"), ("/unknown", "dcb")] {
        let answer = get(&site, path).await;
        assert!(answer.complete && answer.body == body, "{path}: {answer:?}");
        assert_eq!(answer.field("content-encoding"), Some(coding), "{path}");
    }
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codings_on_top_of_each_other_are_undone_and_a_broken_one_is_an_unfinished_message() {
    let mut twice = GzipEncoder::new(Vec::new());
    twice.write_all(&encoded("br", &echo()).await).await.unwrap();
    twice.shutdown().await.unwrap();
    let twice = twice.into_inner();
    let mut acts = vec![("/twice", act(chunked("br, gzip", &[&twice]), Then::Keep))];
    for coding in CODINGS {
        let body = encoded(coding, &echo().repeat(100)).await;
        let cut: &'static str = format!("/{coding}/cut").leak();
        // The message is whole, its content is not.
        acts.push((cut, act(chunked(coding, &[&body[..body.len() - 3]]), Then::Keep)));
        let broken: &'static str = format!("/{coding}/broken").leak();
        acts.push((broken, act(chunked(coding, &[b"{\"no\":\"coding\"}"]), Then::Keep)));
    }
    let site = site(acts).await;
    assert_masked(&get(&site, "/twice").await, "twice");
    for coding in CODINGS {
        let answer = get(&site, &format!("/{coding}/cut")).await;
        assert!(!answer.complete, "{coding}: {answer:?}");
        assert!(!answer.text().contains(KEY), "{coding}");
        if coding != "deflate" {
            assert!(!get(&site, &format!("/{coding}/broken")).await.complete, "{coding}");
        }
    }
    site.close().await;
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut came = Vec::new();
    while !String::from_utf8_lossy(&came).contains(text) {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("it comes at once");
        came.push(byte.unwrap());
    }
}

/// The first event must be there before the second exists.
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_event_leaves_when_it_comes() {
    for coding in CODINGS {
        let event = format!("data: {KEY} {}\n\n", "x".repeat(50));
        let covered = event.replace(KEY, &"*".repeat(KEY.len()));
        let ca = Ca::new();
        let events = pieces(coding, &[&event, &event]).await;
        let (go, gone) = (std::sync::Arc::new(tokio::sync::Notify::new()), events.clone());
        let told = go.clone();
        let origin = origin::start(ca.server(&[API]), move |mut stream, seen| {
            let (events, told) = (gone.clone(), told.clone());
            async move {
                let Some(head) = seen.request(&mut stream).await else { return };
                drain_body(&mut stream, &head).await;
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                     Content-Encoding: {coding}\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&events[0]).await.unwrap();
                stream.flush().await.unwrap();
                told.notified().await;
                stream.write_all(&events[1..].concat()).await.unwrap();
                let _ = stream.shutdown().await;
            }
        })
        .await;
        let site = Setup::acme(&ca, origin.address).start().await;
        let mut stream = inside(&site).await;
        let request = format!("GET /events HTTP/1.1\r\nHost: {API}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = timeout(PATIENCE, read_head(&mut stream)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        read_until(&mut stream, &covered).await;
        go.notify_one();
        read_until(&mut stream, &covered).await;
        site.close().await;
    }
}

/// A few kilobytes that stand for 64 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_decompression_bomb_is_decoded_no_faster_than_it_is_read() {
    const ZEROS: usize = 64 << 20;
    let mut bomb = GzipEncoder::new(Vec::new());
    let block = vec![b'0'; 1 << 20];
    for _ in 0..ZEROS >> 20 {
        bomb.write_all(&block).await.unwrap();
    }
    bomb.shutdown().await.unwrap();
    let bomb = bomb.into_inner();
    let fields = "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n";
    let site = site(vec![("/bomb", act(whole(fields, &bomb), Then::Keep))]).await;
    assert_eq!(get(&site, "/warm").await.status, 200);
    let before = site.resident();
    let mut stream = inside(&site).await;
    let request = format!("GET /bomb HTTP/1.1\r\nHost: {API}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = timeout(PATIENCE, read_head(&mut stream)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut seen = 0;
    let mut buffer = vec![0; 1 << 16];
    while seen < 8 << 20 {
        seen += timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
    }
    let grown = site.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    drop(stream);
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_may_have_its_answers_left_alone() {
    let ca = Ca::new();
    let body = encoded("gzip", &echo()).await;
    let fields = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let echo_head = format!("X-Echo: {KEY}\r\n{fields}");
    let acts = vec![("/echo", act(whole(&echo_head, &body), Then::Keep))];
    let origin = scripted(ca.server(&[API]), acts).await;
    let site = Setup::bare(&ca)
        .app("acme", &[API], &format!("scrub = false\n{BEARER}"))
        .resolve(&format!("{API}:443"), origin.address)
        .account("acme", "acme")
        .rest(&crate::site::caller(
            crate::site::CALLER,
            crate::site::TOKEN,
            "accounts = [\"acme\"]\nrules = [{ effect = \"allow\" }]",
        ))
        .start()
        .await;
    let answer = get(&site, "/echo").await;
    assert_eq!(answer.body, body);
    assert_eq!(answer.field("x-echo"), Some(KEY));
    site.close().await;
}
