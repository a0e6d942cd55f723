//! Framing and parsing (RFC 9112 §2.2, 5.1, 5.2, 6.1–6.3, 7.1): a request hidden in a request is
//! refused or stays a body.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use crate::recorder::contains;
use crate::siege::{A, API_KEY, Siege, proof};
use crate::storm::Want::{Cut, CutOrOne, One, Refuse, RefuseOrOne};
use crate::storm::{Row, storm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_and_codings_are_never_ambiguous() {
    let siege = Siege::start().await;
    storm(&siege, "L", LENGTHS).await;
    siege.lift().await;
}

const LENGTHS: &[Row] = &[
    // B1, B2: both at once.
    ("B1", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET {t}/smuggled-{id} HTTP/1.1\r\n{h}\r\n", RefuseOrOne),
    ("B2", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET {t}/smuggled-{id} HTTP/1.1\r\n{h}\r\n", RefuseOrOne),
    ("B2", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2f\r\nGET /smuggled HTTP/1.1\r\nHost: api.acme.test\r\n\r\n\r\n0\r\n\r\n", RefuseOrOne),
    // B3: codings that only look like chunked, beside a length.
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Refuse),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", RefuseOrOne),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Refuse),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: \x0cchunked\r\n\r\n0\r\n\r\n", Refuse),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refuse),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", Refuse),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", RefuseOrOne),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", RefuseOrOne),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Refuse),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n", Refuse),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n", Refuse),
    ("B3", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nTransfer-Encoding: \r\n\r\n0\r\n\r\n", Refuse),
    // B4: twice, folded, blanks before the colon.
    ("B4", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", RefuseOrOne),
    ("B4", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refuse),
    ("B4", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Refuse),
    ("B4", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Refuse),
    ("B4", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", Refuse),
    // B5: chunked is not last.
    ("B5", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Refuse),
    // B6, B7: several lengths.
    ("B6", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello..", Refuse),
    ("B6", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5, 7\r\n\r\nhello..", Refuse),
    ("B7", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", RefuseOrOne),
    ("B7", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5, 5\r\n\r\nhello", RefuseOrOne),
    ("B7", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 0000005\r\n\r\nhello", RefuseOrOne),
    // B8: what is no number.
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: +5\r\n\r\nhello", Refuse),
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: -5\r\n\r\nhello", Refuse),
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 0x5\r\n\r\nhello", Refuse),
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5 5\r\n\r\nhello", Refuse),
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5a\r\n\r\nhello", Refuse),
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5.0\r\n\r\nhello", Refuse),
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: \x0b5\r\n\r\nhello", Refuse),
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: \r\n\r\nhello", Refuse),
    ("B8", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 18446744073709551621\r\n\r\nhello", Refuse),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_two_parsers_read_differently_are_refused() {
    let siege = Siege::start().await;
    storm(&siege, "H", HEADS).await;
    siege.lift().await;
}

const HEADS: &[Row] = &[
    // B9: obsolete folding.
    ("B9", b"GET {t}/{id} HTTP/1.1\r\n{h}X-A: 1\r\n 2\r\n\r\n", RefuseOrOne),
    ("B9", b"GET {t}/{id} HTTP/1.1\r\nHost: {host}\r\n .evil.test\r\n{p}\r\n", Refuse),
    ("B9", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: identity\r\n\tchunked\r\n\r\n0\r\n\r\n", Refuse),
    // B10: line ends.
    ("B10", b"GET {t}/{id} HTTP/1.1\nHost: {host}\n{p}\n", RefuseOrOne),
    ("B10", b"POST {t}/{id} HTTP/1.1\r\n{h}X-A: 1\nContent-Length: 5\r\n\r\nhello", RefuseOrOne),
    ("B10", b"GET {t}/{id} HTTP/1.1\rHost: {host}\r\r", Refuse),
    // B11: control bytes.
    ("B11", b"GET {t}/{id} HTTP/1.1\r\n{h}X-A: 1\r2\r\n\r\n", Refuse),
    ("B11", b"GET {t}/{id} HTTP/1.1\r\n{h}X-A: 1\x002\r\n\r\n", Refuse),
    ("B11", b"GET {t}/{id} HTTP/1.1\r\n{h}X\0A: 1\r\n\r\n", Refuse),
    // B12: names.
    ("B12", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length : 5\r\n\r\nhello", Refuse),
    ("B12", b"GET {t}/{id} HTTP/1.1\r\n X-A: 1\r\n{h}\r\n", Refuse),
    ("B12", b"GET {t}/{id} HTTP/1.1\r\n{h}X-A\r\n\r\n", Refuse),
    ("B12", b"GET {t}/{id} HTTP/1.1\r\n{h}: v\r\n\r\n", Refuse),
    ("B12", b"GET {t}/{id} HTTP/1.1\r\n{h}X(A): v\r\n\r\n", Refuse),
    // B17: versions.
    ("B17", b"POST {t}/{id} HTTP/1.0\r\n{h}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refuse),
    ("B17", b"GET {t}/{id} HTTP/1.2\r\n{h}\r\n", RefuseOrOne),
    ("B17", b"GET {t}/{id} HTTP/3.1\r\n{h}\r\n", Refuse),
    ("B17", b"GET {t}/{id} HTTP/1.1x\r\n{h}\r\n", Refuse),
    ("B17", b"GET {t}/{id} HTTP/0.9\r\n{h}\r\n", Refuse),
    ("B17", b"GET {t}/{id}\r\n\r\n", Refuse),
    ("B17", b"GET {t}/{id} HTTP/1.0\r\n{h}\r\n", One),
    // B18: request lines.
    ("B18", b"GE(T {t}/{id} HTTP/1.1\r\n{h}\r\n", Refuse),
    ("B18", b"GET\t{t}/{id}\tHTTP/1.1\r\n{h}\r\n", Refuse),
    ("B18", b"GET  {t}/{id}  HTTP/1.1\r\n{h}\r\n", RefuseOrOne),
    ("B18", b"GET {t}/{id} b HTTP/1.1\r\n{h}\r\n", Refuse),
    ("B18", b"GET {t}/{id}\x01 HTTP/1.1\r\n{h}\r\n", Refuse),
    ("B18", b"GET {t}/{id}\xc3\xa9 HTTP/1.1\r\n{h}\r\n", RefuseOrOne),
    ("B18", b"GET {t}/{id}\xff HTTP/1.1\r\n{h}\r\n", Refuse),
    // B19: Host.
    ("B19", b"GET {t}/{id} HTTP/1.1\r\n{h}Host: {host}\r\n\r\n", Refuse),
    ("B19", b"GET {t}/{id} HTTP/1.1\r\n{h}Host: other.test\r\n\r\n", Refuse),
    ("B19", b"GET {t}/{id} HTTP/1.1\r\n{p}\r\n", Refuse),
    ("B19", b"GET {t}/{id} HTTP/1.1\r\n{p}Host: \r\n\r\n", Refuse),
    ("B19", b"GET {t}/{id} HTTP/1.1\r\n{p}Host: {host}, other.test\r\n\r\n", Refuse),
    ("B19", b"GET {t}/{id} HTTP/1.1\r\n{p}Host: {host} other.test\r\n\r\n", Refuse),
    ("B19", b"GET {t}/{id} HTTP/1.1\r\n{p}Host: {host}/@other.test\r\n\r\n", Refuse),
    ("B19", b"GET {t}/{id} HTTP/1.1\r\n{p}Host: user@{host}\r\n\r\n", Refuse),
    // B21: expectations.
    ("B21", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nExpect: y 100-continue\r\n\r\nhello", RefuseOrOne),
    ("B21", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nExpect: 100-continue, 100-continue\r\n\r\nhello", RefuseOrOne),
    ("B21", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nExpect: 100-continue\r\nExpect: x\r\n\r\nhello", RefuseOrOne),
    // B24: the origin answers 200; what follows is the next request, not a stream.
    ("B24", b"GET {t}/{id} HTTP/1.1\r\n{h}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nnot HTTP {id}\r\n\r\n", One),
    // B25: h2c.
    ("B25", b"GET {t}/{id} HTTP/1.1\r\n{h}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", One),
    // B30: the path stays as it came.
    ("B30", b"GET {t}/{id}%0d%0aHost:%20evil HTTP/1.1\r\n{h}\r\n", One),
    ("B30", b"GET {t}/{id}/a%00b HTTP/1.1\r\n{h}\r\n", RefuseOrOne),
    ("B30", b"GET {t}/{id}/..%2f..%2fadmin HTTP/1.1\r\n{h}\r\n", RefuseOrOne),
    ("B30", b"GET {t}//other.test/{id} HTTP/1.1\r\n{h}\r\n", RefuseOrOne),
    ("B30", b"GET {t}/\\other.test/{id} HTTP/1.1\r\n{h}\r\n", RefuseOrOne),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_framed_anew() {
    let siege = Siege::start().await;
    storm(&siege, "C", BODIES).await;
    siege.lift().await;
}

const BODIES: &[Row] = &[
    // B13: sizes that are no hexadecimal number.
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", Cut),
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", Cut),
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n", Cut),
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n0_5\r\nhello\r\n0\r\n\r\n", Cut),
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", Cut),
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", Cut),
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n5 5\r\nhello\r\n0\r\n\r\n", Cut),
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n", Cut),
    ("B13", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n5\rhello\r\n0\r\n\r\n", Cut),
    // B14: extensions.
    ("B14", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", One),
    ("B14", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n4c\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Cut),
    ("B14", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n5;a\0b\r\nhello\r\n0\r\n\r\n", CutOrOne),
    ("B14", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", CutOrOne),
    // B15: what follows a chunk.
    ("B15", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", Cut),
    ("B15", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n", Cut),
    // B16: trailers that would be a head.
    ("B16", b"POST {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nTrailer: Host\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 7\r\nHost: other.test\r\nAuthorization: Bearer mine\r\nTransfer-Encoding: identity\r\n\r\n", One),
    // B20: a body that is a request.
    ("B20", b"GET {t}/{id} HTTP/1.1\r\n{h}Content-Length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n", One),
    ("B20", b"HEAD {t}/{id} HTTP/1.1\r\n{h}Content-Length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n", One),
    ("B20", b"OPTIONS {t}/{id} HTTP/1.1\r\n{h}Content-Length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n", One),
    ("B20", b"DELETE {t}/{id} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n2c\r\nGET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n\r\n0\r\n\r\n", One),
    // B23: no 100 ever comes.
    ("B23", b"POST {t}/{id} HTTP/1.1\r\n{h}Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", One),
];

/// B22: the origin refuses before it has the body, whose bytes look like a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_leaves_no_body_behind_for_the_next_request() {
    let siege = Siege::start().await;
    let early = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    siege.tls.answer_early("/early", early);
    let body = format!("GET /smuggled HTTP/1.1\r\nHost: {A}\r\n\r\n");
    let request = format!(
        "POST /early HTTP/1.1\r\nHost: {A}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n{body}",
        body.len()
    );
    let heard = siege.say_inside(A, request).await;
    assert_eq!(heard.statuses(), [413], "{}", heard.text());
    siege.get(A, "/after", "").await;
    let (early, after) = (&siege.tls.marked("/early")[0], &siege.tls.marked("/after")[0]);
    assert_ne!(early.connection, after.connection, "a half-used connection was used again");
    assert_eq!(after.ambiguity(), None);
    assert!(siege.tls.all().iter().all(|r| !r.request_line().contains("smuggled")));
    siege.lift().await;
}

/// B26: ten requests in one piece; each is decided and gets its credential anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let siege = Siege::start().await;
    for at in 0..10 {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanswer{at}");
        siege.tls.answer(&format!("/pipe{at} "), answer);
    }
    let requests: String = (0..10)
        .map(|at| format!("GET /pipe{at} HTTP/1.1\r\nHost: {A}\r\nAuthorization: mine\r\n\r\n"))
        .collect();
    let heard = siege.say_inside(A, requests).await.text();
    let places: Vec<_> = (0..10).map(|at| heard.find(&format!("answer{at}"))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{heard}");
    let seen = siege.tls.marked("/pipe");
    assert_eq!(seen.len(), 10);
    for request in seen {
        assert_eq!(request.all("authorization"), [format!("Bearer {API_KEY}")]);
    }
    siege.lift().await;
}

/// B27: bytes that came with a CONNECT are refused with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_has_no_content() {
    let siege = Siege::start().await;
    for field in ["Content-Length: 41", "Transfer-Encoding: chunked"] {
        for host in ["api.acme.test:443", "other.test:443"] {
            let heard = siege
                .say(format!(
                    "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{}{field}\r\n\r\n\
                     GET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n",
                    siege.proof()
                ))
                .await;
            assert!(heard.is_refusal() && heard.closed, "{field}: {}", heard.text());
        }
    }
    assert_eq!(siege.tls.connections(), 0);
    siege.lift().await;
}

/// B18, B28: what is too large is refused, on any part of the head, and costs no memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_heads_are_refused_and_forgotten() {
    let siege = Siege::start().await;
    let before = resident_kib(siege.id());
    let fields: String = (0..10_000).map(|at| format!("X-{at}: 1\r\n")).collect();
    let host = format!("Host: {A}\r\n");
    for (what, request) in [
        (
            "a 1 MiB header",
            format!("GET /big HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(1 << 20)),
        ),
        ("10,000 fields", format!("GET /big HTTP/1.1\r\n{host}{fields}\r\n")),
        ("a 200 kB target", format!("GET /big{} HTTP/1.1\r\n{host}\r\n", "a".repeat(200_000))),
        ("200 kB of line ends", "\r\n".repeat(100_000)),
        ("a 10 kB method", format!("{} /big HTTP/1.1\r\n{host}\r\n", "G".repeat(10_000))),
    ] {
        for inside in [true, false] {
            let request = match inside {
                true => request.clone(),
                false => request.replace(" /big", &format!(" http://{A}/big")),
            };
            let heard = match inside {
                true => siege.say_inside(A, request).await,
                false => siege.say(request).await,
            };
            let silent = heard.statuses().is_empty();
            // Line ends before a request are skipped (RFC 9112 §2.2) until there are too many.
            let waits = what == "200 kB of line ends";
            assert!(heard.is_refusal() || (silent && waits), "{what}: {}", heard.text());
        }
    }
    assert!(siege.tls.marked("/big").is_empty());
    let grown = resident_kib(siege.id()).saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more after a few large heads");
    siege.lift().await;
}

/// B14: hyper reads at most 16 KiB of extensions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_chunk_extensions_are_refused() {
    let siege = Siege::start().await;
    let extension = "a".repeat(200_000);
    let heard = siege
        .say_inside(
            A,
            format!(
                "POST /ext HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5;{extension}\r\nhello\r\n0\r\n\r\n"
            ),
        )
        .await;
    assert!(!heard.statuses().contains(&200) && heard.closed, "{}", heard.text());
    assert!(siege.tls.marked("/ext").iter().all(|request| !request.complete));
    siege.lift().await;
}

/// B29: a client leaves in the middle of a body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_the_upstream_connection_with_it() {
    let siege = Siege::start().await;
    let mut tunnel = siege.tunnel(A).await;
    let head = format!("PUT /huge HTTP/1.1\r\nHost: {A}\r\nContent-Length: 99000000000\r\n\r\n");
    tunnel.write_all(head.as_bytes()).await.expect("the tunnel is open");
    tunnel.write_all(&[b'x'; 4096]).await.expect("the tunnel is open");
    let arrived = until(|| siege.tls.marked("/huge").first().is_some_and(|r| r.raw.len() > 4096));
    assert!(arrived.await, "the upload streams");
    assert_eq!(siege.tls.open(), 1);
    drop(tunnel);
    let left = Instant::now();
    assert!(until(|| siege.tls.open() == 0).await, "the upstream connection stays open");
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    assert!(siege.tls.marked("/huge").iter().all(|request| !request.complete));
    siege.lift().await;
}

/// B16: trailers stay behind the body, and none of them becomes a field of the head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_are_not_merged_into_the_head() {
    let siege = Siege::start().await;
    let request = format!(
        "POST http://{A}/trailers HTTP/1.1\r\nHost: {A}\r\n{}Transfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nHost: other.test\r\nAuthorization: Bearer mine\r\nX-Sum: 1\r\n\r\n",
        proof(crate::siege::CALLER, crate::siege::CALLER_TOKEN)
    );
    assert_eq!(siege.say(request).await.statuses(), [200]);
    let seen = &siege.tls.marked("/trailers")[0];
    assert_eq!(seen.all("authorization"), [format!("Bearer {API_KEY}")]);
    assert_eq!(seen.all("host"), [A]);
    assert!(!contains(seen.body(), b"Bearer mine") && !contains(seen.body(), b"other.test"));
    siege.lift().await;
}

async fn until(done: impl Fn() -> bool) -> bool {
    for _ in 0..300 {
        if done() {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

/// From `/proc`, in which pages are 4 KiB on every platform that the tests run on.
fn resident_kib(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}
