//! Header fields (RFC 9110 §7.6, 11.7): the credential once and ours, nothing that belongs to one
//! connection on another, nothing of the caller's in our own pages.
//!
//! Settled elsewhere, or later:
// D7: what is refused when it is configured has a table in `inject`; here a key that goes bad while
// it is in use.
// D11: compressed bodies and those above the bound are passed as they are.

use std::time::Duration;

use tokio::time::sleep;

use crate::recorder::Recorded;
use crate::siege::{
    A, API_KEY, BROKEN_KEY, COOKIE_KEY, O, PAIR_KEY, PAIR_SECRET, PATH_KEY, PLAIN, PLAIN_KEY,
    QUERY_KEY, Siege,
};

/// The one request that reached an origin with `mark` in it, clean.
fn only(siege: &Siege, mark: &str) -> Recorded {
    let mut seen = siege.tls.marked(mark);
    seen.extend(siege.clear.marked(mark));
    let [request] = &seen[..] else { panic!("{mark}: {seen:?}") };
    assert_eq!(request.ambiguity(), None, "{mark}: {}", request.raw.escape_ascii());
    request.clone()
}

/// D1, D2, D4: fields that would remove or double the credential, through both doors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_credential_arrives_once_whatever_the_client_sends() {
    let siege = Siege::start().await;
    for (at, fields) in [
        "Connection: keep-alive, Authorization\r\n",
        "Connection: close, authorization, AUTHORIZATION\r\n",
        "Connection: authorization\r\nAuthorization: Bearer mine\r\n",
        "Connection: Host, Content-Length, Transfer-Encoding\r\n",
        "Authorization: Bearer mine\r\nAuthorization: Basic bWluZTptaW5l\r\n",
        "AUTHORIZATION: Bearer mine\r\naUtHoRiZaTiOn: mine\r\n",
        "Authorization: Bearer mine, Bearer mine\r\n",
        "Authorization:\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        for (door, host, key) in [("t", A, API_KEY), ("p", PLAIN, PLAIN_KEY)] {
            let mark = format!("/d1-{at}{door}");
            let rest = format!("Host: {host}\r\nContent-Length: 5\r\n{fields}");
            let heard = match door {
                "t" => {
                    siege.say_inside(A, format!("POST {mark} HTTP/1.1\r\n{rest}\r\nhello")).await
                }
                _ => {
                    let proof = siege.proof();
                    let head = format!("POST http://{host}{mark} HTTP/1.1\r\n{proof}{rest}");
                    siege.say(head + "\r\nhello").await
                }
            };
            assert_eq!(heard.statuses(), [200], "{fields:?}: {}", heard.text());
            let request = only(&siege, &mark);
            assert_eq!(request.all("authorization"), [format!("Bearer {key}")], "{fields:?}");
            assert_eq!(
                (request.all("host"), request.body()),
                (vec![host.to_owned()], &b"hello"[..])
            );
            assert!(!request.contains("mine"), "{fields:?}");
        }
    }
    // A blank before the colon is no field at all.
    let heard = siege.get(A, "/d4", "Authorization : Bearer mine\r\n").await;
    assert!(heard.is_refusal() && siege.tls.marked("/d4").is_empty());
    siege.lift().await;
}

/// D3, D9, D10: what stays on its connection, what is ours, and what is nobody's business.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hop_by_hop_fields_and_ours_do_not_pass() {
    let siege = Siege::start().await;
    siege.tls.answer(
        "/d3",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTrailer: X\r\nX-End: 1\r\nx-countersign-source: proxy\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let heard = siege
        .get(
            A,
            "/d3",
            "Connection: x-foo, keep-alive\r\nX-Foo: 1\r\nKeep-Alive: 5\r\nTE: trailers, deflate\r\n\
             Trailer: X-T\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic bWluZTptaW5l\r\n\
             countersign-account: acme\r\ncountersign-odd: 1\r\nX-Countersign-Source: mine\r\n\
             Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\nVia: 1.1 mine\r\n\
             X-Bytes: \u{e9}\u{ff}\r\n",
        )
        .await;
    let head = heard.text().to_ascii_lowercase();
    for gone in ["x-hop", "keep-alive", "proxy-connection", "trailer", "source: proxy"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert!(head.contains("x-end: 1") && head.contains("x-countersign-source: upstream"), "{head}");
    let request = only(&siege, "/d3");
    for gone in ["x-foo", "keep-alive", "trailer", "proxy-connection", "proxy-authorization"] {
        assert!(request.all(gone).is_empty(), "{gone}");
    }
    assert_eq!(request.all("te"), ["trailers"]);
    // The client's own word about itself passes, and nothing is added to it.
    assert_eq!(request.all("x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(request.all("forwarded"), ["for=192.0.2.1"]);
    assert!(!request.contains("127.0.0.1"));
    assert!(request.contains("X-Bytes: \u{e9}\u{ff}") || request.contains("x-bytes: \u{e9}\u{ff}"));
    siege.lift().await;
}

/// D5: a CGI server reads `X_Api_Key` as `X-Api-Key`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookalikes_of_an_attached_field_are_dropped() {
    let siege = Siege::start().await;
    let fields = "X_Api_Key: mine\r\nX-Api_Key: mine\r\nx_api-secret: mine\r\nX-Api-Key: mine\r\n\
                  X-Api-Keys: kept\r\n";
    assert_eq!(siege.get("pair.acme.test", "/d5", fields).await.statuses(), [200]);
    let request = only(&siege, "/d5");
    assert_eq!(request.all("x-api-key"), [PAIR_KEY]);
    assert_eq!(request.all("x-api-secret"), [PAIR_SECRET]);
    assert_eq!(request.all("x-api-keys"), ["kept"]);
    assert!(!request.contains("mine"), "{}", request.raw.escape_ascii());
    siege.lift().await;
}

/// D6: the same parameter, segment or cookie from the client, spelled in other ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_in_the_url_and_in_cookies_are_ours_alone() {
    let siege = Siege::start().await;
    for (at, query) in [
        "a=1&b=%2F",
        "api_key=mine&a=1&b=%2F",
        "a=1&api%5fkey=mine&b=%2F",
        "a=1&api%5Fkey=mine&api_key=mine&b=%2F&%61pi_key=mine",
        "a=1&b=%2F&api_key",
    ]
    .into_iter()
    .enumerate()
    {
        let mark = format!("/d6-{at}");
        let heard = siege.get("query.acme.test", &format!("{mark}?{query}"), "").await;
        assert_eq!(heard.statuses(), [200], "{query}");
        let line = only(&siege, &mark).request_line();
        let ours = format!("api_key={QUERY_KEY}");
        let mut parts: Vec<&str> = line.split(['?', '&', ' ']).collect();
        let place = parts.iter().position(|part| *part == ours).expect("the credential");
        parts.remove(place);
        assert_eq!(parts, ["GET", &mark, "a=1", "b=%2F", "HTTP/1.1"], "{query}");
    }
    let heard = siege.get("query.acme.test", "/d6-fragment?a=1#api_key=mine", "").await;
    assert!(heard.is_refusal() || !only(&siege, "/d6-fragment").contains("mine"));

    for (mark, target) in [("/d6-path", "/d6-path"), ("/d6-dummy", "/botDUMMY/d6-dummy")] {
        assert_eq!(siege.get("path.acme.test", target, "").await.statuses(), [200]);
        let request = only(&siege, mark);
        assert_eq!(request.request_line(), format!("GET /bot{PATH_KEY}{mark} HTTP/1.1"));
    }

    let fields = "Cookie: sid=mine; theme=dark\r\nCookie: SID=mine; b=2; sid=mine\r\n";
    assert_eq!(siege.get("cookie.acme.test", "/d6-cookie", fields).await.statuses(), [200]);
    let request = only(&siege, "/d6-cookie");
    assert_eq!(request.all("cookie"), [format!("theme=dark; b=2; sid={COOKIE_KEY}")]);
    siege.lift().await;
}

/// D7: a key file that gets a line break while the proxy runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_goes_bad_never_splits_a_request() {
    let siege = Siege::start().await;
    assert_eq!(siege.get("broken.acme.test", "/d7-good", "").await.statuses(), [200]);
    for (at, bad) in ["new-key\r\nX-Injected: 1", "new-key\0", "new-key\u{7f}"].iter().enumerate() {
        std::fs::write(siege.path("secrets/broken"), bad).expect("the folder is writable");
        // The account reads its file anew every second.
        sleep(Duration::from_millis(1500)).await;
        let mark = format!("/d7-bad{at}");
        let heard = siege.get("broken.acme.test", &mark, "").await;
        assert!(matches!(heard.statuses()[..], [200 | 500..=599]), "{}", heard.text());
        for request in siege.tls.marked(&mark) {
            assert_eq!(request.all("authorization"), [format!("Bearer {BROKEN_KEY}")]);
            assert!(!request.contains("Injected"));
        }
    }
    siege.lift().await;
}

/// D8: methods that come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_is_refused_and_hops_are_counted() {
    let siege = Siege::start().await;
    let say = |method: &str, mark: &str, fields: &str| {
        let request = format!("{method} {mark} HTTP/1.1\r\nHost: {A}\r\n{fields}\r\n");
        let siege = &siege;
        async move { siege.say_inside(A, request).await }
    };
    for fields in ["", "Max-Forwards: 0\r\n", "Max-Forwards: 5\r\n"] {
        let heard = say("TRACE", "/d8-trace", fields).await;
        assert_eq!(heard.statuses(), [405], "{fields}: {}", heard.text());
    }
    let heard = say("OPTIONS", "/d8-last", "Max-Forwards: 0\r\n").await;
    assert_eq!(heard.statuses(), [200], "our own answer");
    assert!(siege.tls.all().is_empty());
    let far = "Max-Forwards: 99999999999999999999999\r\n";
    assert_eq!(say("OPTIONS", "/d8-far", far).await.statuses(), [200]);
    assert_eq!(say("OPTIONS", "/d8-next", "Max-Forwards: 7\r\n").await.statuses(), [200]);
    assert_eq!(only(&siege, "/d8-next").all("max-forwards"), ["6"]);
    siege.lift().await;
}

/// D11: an origin that sends the credential back in its head. `lift` searches the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echoed_credential_is_masked() {
    let siege = Siege::start().await;
    siege.tls.answer(
        "/d11",
        format!(
            "HTTP/1.1 302 Found\r\nLocation: https://x.test/?t={API_KEY}\r\nX-Echo: Bearer {API_KEY}\r\n\
             Set-Cookie: t={API_KEY}\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    let heard = siege.get(A, "/d11", "").await;
    assert_eq!(heard.statuses(), [302]);
    assert_eq!(heard.text().matches("[masked]").count(), 3, "{}", heard.text());
    siege.lift().await;
}

/// D11, in a text body, also where two chunks divide it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_in_a_text_body_is_masked() {
    let siege = Siege::start().await;
    let whole = format!("{{\"token\":\"{API_KEY}\"}}");
    let (first, second) = whole.split_at(whole.len() / 2);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let length = whole.len();
    siege.tls.answer("/d11-whole", format!("{head}Content-Length: {length}\r\n\r\n{whole}"));
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunks = chunk(first) + &chunk(second) + "0\r\n\r\n";
    siege.tls.answer("/d11-parts", format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"));
    for target in ["/d11-whole", "/d11-parts"] {
        let heard = siege.get(A, target, "").await;
        assert_eq!(heard.statuses(), [200], "{target}");
        assert!(heard.contains(&"*".repeat(API_KEY.len())), "{target}: {}", heard.text());
    }
    siege.lift().await;
}

/// D12, D13: pages of our own repeat nothing that the client sent, and are no HTML.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_pages_repeat_nothing() {
    let siege = Siege::start().await;
    let mine = "Authorization: Bearer mine-4711\r\nCookie: mine-4712\r\nX-Own: mine-4713\r\n";
    // Nobody listens; another host's certificate; no such name; another tenant; a port not listed.
    for (host, target) in [
        ("down.acme.test", "http://down.acme.test/mine-4714"),
        ("impostor.acme.test", "http://impostor.acme.test/mine-4714"),
        ("nx.invalid", "http://nx.invalid/mine-4714"),
        ("evil.desk.test", "http://evil.desk.test/mine-4714"),
        (A, "http://api.acme.test:8443/mine-4714"),
        ("nx-<script>", "http://nx-<script>/<script>mine-4714"),
        (O, "http://other.test:1/<script>mine-4714"),
    ] {
        let heard = siege
            .say(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{}{mine}\r\n", siege.proof()))
            .await;
        let text = heard.text();
        assert!(heard.status().is_some_and(|status| status >= 400), "{target}: {text}");
        assert!(!text.contains("mine-47") && !text.contains("<script>"), "{target}: {text}");
        // hyper answers what it cannot parse itself, without a body.
        if !text.contains("content-length: 0") {
            assert!(text.contains("application/problem+json"), "{target}: {text}");
            assert!(text.contains("x-content-type-options: nosniff"), "{target}: {text}");
        }
    }
    assert_eq!(siege.beta.connections(), 1, "the impostor was dialled");
    assert!(siege.beta.all().is_empty(), "and told nothing");
    siege.lift().await;
}

/// T35: control bytes of a path or field reach no log line as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_is_one_line_of_log() {
    let siege = Siege::start().await;
    let target = "/t35%0d%0a%1b[31m?x=%0alevel=error";
    let heard = siege.get(A, "/escape", "User-Agent: a\u{1b}[31mb\r\n").await;
    assert!(heard.is_refusal(), "{}", heard.text());
    assert_eq!(siege.get(A, target, "").await.statuses(), [200]);
    sleep(Duration::from_millis(200)).await;
    let log = siege.server_log();
    assert!(!log.contains('\u{1b}') && !log.contains("\rlevel"), "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("t35")).count(), 1, "{log}");
    siege.lift().await;
}

/// D14: fields of the origin's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lead_a_client_around_the_proxy_is_removed() {
    let siege = Siege::start().await;
    siege.tls.answer(
        "/d14 ",
        "HTTP/1.1 401 Unauthorized\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         WWW-Authenticate: Bearer\r\nAlt-Svc: h3=\":443\"\r\nLink: </x>; rel=next\r\n\
         Strict-Transport-Security: max-age=1\r\nProxy-Authenticate: Basic realm=\"mine\"\r\n\
         Proxy-Authentication-Info: x\r\nContent-Length: 0\r\n\r\n",
    );
    siege.tls.answer(
        "/d14-407",
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"mine\"\r\n\
         Content-Length: 0\r\n\r\n",
    );
    let head = siege.get(A, "/d14", "").await.text().to_ascii_lowercase();
    let kept =
        ["set-cookie: a=1", "set-cookie: b=2", "www-authenticate", "link:", "strict-transport"];
    for kept in kept {
        assert!(head.contains(kept), "{kept}: {head}");
    }
    for gone in ["alt-svc", "proxy-auth"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    let heard = siege.get(A, "/d14-407", "").await;
    assert_eq!(heard.statuses(), [502]);
    assert!(!heard.text().to_ascii_lowercase().contains("proxy-authenticate"));
    siege.lift().await;
}
