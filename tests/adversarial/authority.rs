//! Authority (RFC 9110 §4.2.4, 7.4, 15.5.20; RFC 9112 §3.2): one name for policy, certificate,
//! credential and dial, or no request.
//!
//! Settled elsewhere:
// C17: A-labels that decode to ASCII, mixed scripts and the Kelvin sign are in `host`'s own tables;
// here only that a U-label is refused at the door.
// C20: over HTTP/1.1. Nothing here offers HTTP/2 upstream, where a client could coalesce hosts.
// C8, C12, C14: where the list leaves a choice (`#`, `?`, CONNECT A:80, plain HTTP in a tunnel) both
// outcomes pass, but never another host and never clear text.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::siege::{A, API_KEY, B, CALLER, CALLER_TOKEN, Heard, O, PLAIN, Siege, Tunnel, proof};

/// C1, C5, C6, C9: what is said inside a tunnel, and whether it may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_tunnel_only_its_own_authority_counts() {
    let siege = Siege::start().await;
    for (case, request, wanted) in [
        ("C1", "GET /c1 HTTP/1.1\r\nHost: other.test\r\n\r\n", 421),
        ("C1", "GET /c1 HTTP/1.1\r\nHost: api.beta.test\r\n\r\n", 421),
        ("C1", "GET /c1 HTTP/1.1\r\nHost: api.acme.test:8443\r\n\r\n", 421),
        ("C5", "GET https://other.test/c5 HTTP/1.1\r\nHost: other.test\r\n\r\n", 421),
        ("C5", "GET https://other.test/c5 HTTP/1.1\r\nHost: api.acme.test\r\n\r\n", 421),
        ("C5", "GET https://api.acme.test/c5 HTTP/1.1\r\nHost: other.test\r\n\r\n", 421),
        ("C5", "GET http://api.acme.test/c5 HTTP/1.1\r\nHost: api.acme.test\r\n\r\n", 421),
        ("C5", "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n", 400),
        ("C6", "GET https://api.acme.test/c6 HTTP/1.1\r\nHost: api.acme.test\r\n\r\n", 200),
        ("C9", "GET /c9 HTTP/1.1\r\nHost: API.ACME.TEST:443\r\n\r\n", 200),
        ("C9", "GET /c9 HTTP/1.1\r\nHost: api.acme.test.\r\n\r\n", 200),
    ] {
        let before = siege.tls.all().len();
        let heard = siege.say_inside(A, request).await;
        assert_eq!(heard.statuses(), [wanted], "{case} {request:?}: {}", heard.text());
        let passed = siege.tls.all().len() - before;
        assert_eq!(passed, usize::from(wanted == 200), "{case} {request:?}");
    }
    for request in siege.tls.all() {
        assert_eq!(request.ambiguity(), None);
        assert_eq!(request.all("host"), [A]);
    }
    assert_eq!(siege.clear.connections() + siege.beta.connections(), 0);
    siege.lift().await;
}

/// C2: what is said in a blind tunnel is between the client and that host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_to_a_host_of_no_app_never_carries_a_credential() {
    let siege = Siege::start().await;
    for name in [O, A] {
        let stream = siege.connect("other.test:443").await.expect("a blind tunnel");
        let mut tunnel = siege.handshake(stream, name).await.expect("the origin's own TLS");
        let request = format!("GET /c2 HTTP/1.1\r\nHost: {A}\r\n\r\n");
        siege.exchange(&mut tunnel, request.as_bytes()).await;
    }
    let seen = siege.tls.marked("/c2");
    assert_eq!(seen.len(), 2, "both went through untouched");
    assert!(seen.iter().all(|request| !request.contains(API_KEY)));
    siege.lift().await;
}

/// C3, C4: the TLS server name is the CONNECT host or is not said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_leaf_is_made_for_another_name() {
    let siege = Siege::start().await;
    for name in [O, B, "x.api.acme.test"] {
        let stream = siege.connect("api.acme.test:443").await.expect("a tunnel");
        let error = siege.handshake(stream, name).await.expect_err("no leaf for it").to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    let stream = siege.connect("api.acme.test:443").await.expect("a tunnel");
    let mut tunnel = siege.handshake_with(stream, A, &[], false).await.expect("a leaf for A");
    let request = format!("GET /c4 HTTP/1.1\r\nHost: {A}\r\n\r\n");
    assert_eq!(siege.exchange(&mut tunnel, request.as_bytes()).await.statuses(), [200]);
    assert_eq!(siege.tls.all().len(), 1);
    siege.lift().await;
}

/// C7, C8, C13, C15, C16, C17: targets on the proxy port. The number is the wanted status, 0 any
/// refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_on_the_proxy_port_name_one_host_or_are_refused() {
    let siege = Siege::start().await;
    for (case, target, host, wanted) in [
        ("C7", "http://plain.acme.test/c7", O, 200),
        ("C7", "http://other.test/c7", A, 200),
        ("C8", "http://api.acme.test@other.test/", O, 0),
        ("C8", "http://api.acme.test:80@other.test/", O, 0),
        ("C8", "http://u:p@api.acme.test/", A, 0),
        ("C8", "http://api.acme.test\\@other.test/", O, 0),
        ("C8", "http://other.test#@api.acme.test/c8", O, -1),
        ("C8", "http://other.test?@api.acme.test/c8", O, -1),
        ("C8", "http:///api.acme.test/", A, 0),
        ("C8", "http:api.acme.test/", A, 0),
        ("C8", "http://other%2etest/", O, 0),
        ("C8", "http://a@api.acme.test@other.test/", O, 0),
        ("C13", "http://api.acme.test/c13", A, 200),
        ("C13", "http://api.acme.test:443/c13", A, 200),
        ("C13", "http://api.acme.test:8443/c13", A, 403),
        ("C15", "/x", O, 0),
        ("C15", "*", O, 0),
        ("C15", "//other.test/x", O, 0),
        ("C15", "ftp://other.test/", O, 0),
        ("C15", "file:///etc/passwd", O, 0),
        ("C15", "gopher://other.test/", O, 0),
        ("C15", "ws://api.acme.test/", A, 0),
        ("C15", "javascript:alert(1)", O, 0),
        ("C16", "https://api.acme.test/c16", A, 200),
        ("C17", "http://xn--api-.acme.test/", A, 0),
        ("C17", "http://api\u{3002}acme\u{3002}test/", A, 0),
        ("C10", "http://api.beta.test/", B, 403),
        ("C10", "http://API.BETA.TEST./", B, 403),
        ("C10", "http://[api.beta.test]/", B, 0),
        ("C10", "http://api.beta.test:65979/", B, 0),
    ] {
        let before = siege.tls.all().len() + siege.clear.all().len();
        let heard = siege
            .say(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{}\r\n", siege.proof()))
            .await;
        let passed = siege.tls.all().len() + siege.clear.all().len() - before;
        match wanted {
            200 => assert_eq!((heard.statuses(), passed), (vec![200], 1), "{case} {target}"),
            // What comes after `#` or `?` is no authority: the host before it is meant.
            -1 => assert!(heard.is_refusal() || passed == 1, "{case} {target}: {}", heard.text()),
            0 => assert!(heard.is_refusal() && passed == 0, "{case} {target}: {}", heard.text()),
            status => {
                assert_eq!(
                    (heard.status(), passed),
                    (u16::try_from(status).ok(), 0),
                    "{case} {target}"
                );
            }
        }
    }
    for request in siege.clear.all() {
        let host = if request.contains("plain-real") { PLAIN } else { O };
        assert_eq!(request.all("host"), [host], "{}", request.request_line());
    }
    for request in siege.tls.all() {
        assert_eq!((request.all("host"), request.ambiguity()), (vec![A.to_owned()], None));
        assert_eq!(request.count(API_KEY), 1);
    }
    assert_eq!(siege.beta.connections(), 0);
    siege.lift().await;
}

/// C9–C12: authorities of a CONNECT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_spelling_of_a_forbidden_host_is_refused() {
    let siege = Siege::start().await;
    for authority in ["API.ACME.TEST:443", "api.acme.test.:443"] {
        let stream = siege.connect(authority).await.expect("the same app");
        let mut tunnel = siege.handshake(stream, A).await.expect("a leaf");
        let request = format!("GET /c9 HTTP/1.1\r\nHost: {A}\r\n\r\n");
        let heard = siege.exchange(&mut tunnel, request.as_bytes()).await;
        assert_eq!(heard.statuses(), [200], "{authority}");
    }
    // C10: refused in the tunnel, where a client shows why.
    for authority in ["api.beta.test:443", "API.BETA.TEST:443", "api.beta.test.:443"] {
        let stream = siege.connect(authority).await.expect("a refusal inside");
        let mut tunnel = siege.handshake(stream, B).await.expect("a leaf");
        let request = format!("GET / HTTP/1.1\r\nHost: {B}\r\n\r\n");
        let heard = siege.exchange(&mut tunnel, request.as_bytes()).await;
        assert_eq!(heard.statuses(), [403], "{authority}: {}", heard.text());
    }
    let before = siege.tls.all().len();
    for authority in BAD_AUTHORITIES {
        match siege.connect(authority).await {
            Err(heard) => {
                assert!(heard.is_refusal(), "{}: {}", authority.escape_ascii(), heard.text())
            }
            Ok(_) => panic!("{} opened a tunnel", authority.escape_ascii()),
        }
    }
    assert_eq!(siege.tls.all().len(), before);
    assert_eq!(siege.beta.connections(), 0);
    siege.lift().await;
}

const BAD_AUTHORITIES: &[&[u8]] = &[
    b"api.beta.test..:443",
    b"[api.beta.test]:443",
    b"api%2ebeta.test:443",
    b"api.beta.test\0.acme.test:443",
    "api\u{3002}beta\u{3002}test:443".as_bytes(),
    "\u{ff41}pi.beta.test:443".as_bytes(),
    b"x@api.beta.test:443",
    b"api.beta.test:443/x",
    b"https://api.beta.test:443",
    b"api.beta.test\t:443",
    b"api.beta.test:443:443",
    b"api.beta.test:0443",
    b"api.beta.test:+443",
    b"api.beta.test:65979",
    b"api.beta.test:99999999999999999999",
    // C11
    b"api.acme.test:",
    b"api.acme.test",
    b"api.acme.test:-443",
    b"api.acme.test:0",
    b"api.acme.test:https",
    b"api.acme.test:65979",
];

/// C12, C14: other ports of an app's host, and plain HTTP in its tunnel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_leaves_over_tls_and_to_the_listed_port() {
    let siege = Siege::start().await;
    let stream = siege.connect("api.acme.test:8443").await.expect("a refusal inside");
    let mut tunnel = siege.handshake(stream, A).await.expect("a leaf");
    let request = format!("GET /c12 HTTP/1.1\r\nHost: {A}:8443\r\n\r\n");
    let heard = siege.exchange(&mut tunnel, request.as_bytes()).await;
    assert_eq!(heard.statuses(), [403], "{}", heard.text());
    assert_eq!(siege.tls.connections(), 0);
    for authority in ["api.acme.test:80", "api.acme.test:443"] {
        let mut stream = siege.connect(authority).await.expect("a tunnel");
        let request = format!("GET /c14 HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let heard = siege.exchange(&mut stream, request.as_bytes()).await;
        assert!(heard.is_refusal() || heard.statuses() == [200], "{}", heard.text());
    }
    // `lift` checks that nothing dialled port 80.
    assert!(siege.tls.marked("/c14").iter().all(|r| r.server_name.as_deref() == Some(A)));
    siege.lift().await;
}

/// C19: the account is one tenant's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_token_goes_to_its_own_host_only() {
    let siege = Siege::start().await;
    assert_eq!(siege.get("acme.desk.test", "/c19", "").await.statuses(), [200]);
    let heard = siege.get("evil.desk.test", "/c19-evil", "").await;
    assert_eq!(heard.statuses(), [403], "{}", heard.text());
    let heard = siege.get("evil.desk.test", "/c19-evil", "countersign-account: desk\r\n").await;
    assert_eq!(heard.statuses(), [403], "{}", heard.text());
    assert!(siege.tls.marked("/c19-evil").is_empty());
    // A name that only begins like the tenant's is a host of no app: nobody's to dial here.
    let outcome = siege.connect("acme.desk.test.evil.test:443").await;
    assert!(outcome.is_err(), "it does not resolve");
    siege.lift().await;
}

/// C20: two hosts at one address with one certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_never_share_an_upstream_connection() {
    let siege = Siege::start().await;
    for host in [A, "pair.acme.test", A, "pair.acme.test"] {
        assert_eq!(siege.get(host, "/c20", "").await.statuses(), [200]);
    }
    for one in siege.tls.all() {
        for other in siege.tls.all() {
            let same = one.connection == other.connection;
            assert!(!same || one.all("host") == other.all("host"));
        }
        assert_eq!(one.server_name.as_deref(), one.all("host").first().map(String::as_str));
    }
    siege.lift().await;
}

type Fields = &'static [(&'static str, &'static str)];

/// C18, with frames of our own making: no client library would send these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_requests_cannot_name_another_authority() {
    let siege = Siege::start().await;
    for (what, fields, passes) in [
        (
            "all is well",
            &[(":method", "GET"), (":scheme", "https"), (":authority", A), (":path", "/c18")][..],
            true,
        ),
        (
            "authority O",
            &[(":method", "GET"), (":scheme", "https"), (":authority", O), (":path", "/c18")],
            false,
        ),
        (
            "authority with user",
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "u@api.acme.test"),
                (":path", "/c18"),
            ],
            false,
        ),
        (
            "host O",
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", A),
                (":path", "/c18"),
                ("host", O),
            ],
            false,
        ),
        (
            "only host",
            &[(":method", "GET"), (":scheme", "https"), (":path", "/c18"), ("host", O)],
            false,
        ),
        ("neither", &[(":method", "GET"), (":scheme", "https"), (":path", "/c18")], false),
        (
            "scheme http",
            &[(":method", "GET"), (":scheme", "http"), (":authority", A), (":path", "/c18")],
            false,
        ),
        ("CONNECT", &[(":method", "CONNECT"), (":authority", "other.test:443")], false),
        (
            "path is a URL",
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", A),
                (":path", "https://other.test/c18"),
            ],
            false,
        ),
    ] as [(&str, Fields, bool); 9]
    {
        let stream = siege.connect("api.acme.test:443").await.expect("a tunnel");
        let mut tunnel = siege.handshake_with(stream, A, &[b"h2"], true).await.expect("h2");
        let before = siege.tls.all().len();
        let ok = http2(&siege, &mut tunnel, fields).await;
        assert_eq!(ok, passes, "{what}");
        assert_eq!(siege.tls.all().len() - before, usize::from(passes), "{what}");
    }
    assert_eq!(siege.clear.connections(), 0);
    siege.lift().await;
}

/// Whether the request got a 200. RFC 9113 §4.1, RFC 7541 §6.2.2.
async fn http2(siege: &Siege, tunnel: &mut Tunnel, fields: Fields) -> bool {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("shorter than 127"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    let length = u8::try_from(block.len()).expect("a short head");
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0, 0, 0, 4, 0, 0, 0, 0, 0][..],
        &[0, 0, length, 1, 5, 0, 0, 0, 1],
        &block,
    ]
    .concat();
    tunnel.write_all(&bytes).await.expect("the tunnel is open");
    loop {
        let mut head = [0; 9];
        if tunnel.read_exact(&mut head).await.is_err() {
            return false;
        }
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        if tunnel.read_exact(&mut payload).await.is_err() {
            return false;
        }
        siege.heard(&payload);
        match head[3] {
            // HEADERS: 0x88 is `:status: 200` from the static table.
            1 => return payload.first() == Some(&0x88),
            // RST_STREAM, GOAWAY
            3 | 7 => return false,
            _ => {}
        }
    }
}

/// The proxy port without a caller: T12 for every form of target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_forwarded_for_nobody() {
    let siege = Siege::start().await;
    for target in
        ["http://other.test/", "http://plain.acme.test/", "https://api.acme.test/", "/", "*"]
    {
        for proof in [String::new(), proof(CALLER, "wrong"), proof("nobody", CALLER_TOKEN)] {
            let heard: Heard =
                siege.say(format!("GET {target} HTTP/1.1\r\nHost: {O}\r\n{proof}\r\n")).await;
            assert!(heard.is_refusal(), "{target} {proof}: {}", heard.text());
        }
    }
    assert_eq!(siege.tls.connections() + siege.clear.connections(), 0);
    siege.lift().await;
}
