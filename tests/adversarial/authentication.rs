//! Who is asking: no proof, wrong proof, somebody else's proof, and a proof that is taken back.
//!
//! Settled otherwise:
// A1: "no DNS, no dial" shows as no connection at the origin.
// A10: 200 guesses, not 10,000, and memory is not watched.
// A11: not measured. A token is looked up by its SHA-256 in a map, and no two tokens are compared
// byte by byte; how far a wrong token agrees with a right one says nothing about its digest.
// A12: revocation lists are not read; a certificate's caller is taken out of the config.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::siege::{
    A, API_KEY, CALLER, CALLER_TOKEN, Ca, Heard, OTHER_TOKEN, Siege, client_builder, proof,
};

/// A1–A5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_without_the_right_proof_gets_a_407() {
    let siege = Siege::start().await;
    let right = siege.proof();
    let basic = |text: &[u8]| format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(text));
    let long = format!("Proxy-Authorization: Basic {}\r\n", "QUFB".repeat(3000));
    let in_authorization = right.replace("Proxy-Authorization", "Authorization");
    for (case, fields, wanted) in [
        ("A1", String::new(), &[407][..]),
        ("A2", proof(CALLER, "wrong"), &[407]),
        ("A2", proof("nobody", CALLER_TOKEN), &[407]),
        ("A2", proof("nobody", "wrong"), &[407]),
        ("A2", proof(CALLER, OTHER_TOKEN), &[407]),
        ("A3", "Proxy-Authorization: Basic !!!\r\n".into(), &[400, 407]),
        ("A3", "Proxy-Authorization: Basic \r\n".into(), &[400, 407]),
        ("A3", "Proxy-Authorization: Basic\r\n".into(), &[400, 407]),
        ("A3", "Proxy-Authorization: \r\n".into(), &[400, 407]),
        ("A3", long, &[400, 407, 431]),
        ("A3", "Proxy-Authorization: Digest username=\"flow\"\r\n".into(), &[400, 407]),
        ("A3", basic(b"no colon"), &[400, 407]),
        ("A3", basic(b"\xff\xff\xff\xff"), &[400, 407]),
        ("A4", right.clone() + &proof(CALLER, "wrong"), &[400, 407]),
        ("A4", proof(CALLER, "wrong") + &right, &[400, 407]),
        ("A4", right.clone() + &right, &[400, 407]),
        ("A5", in_authorization, &[407]),
    ] {
        let heard = connect(&siege, fields.as_bytes()).await;
        let status = heard.status().unwrap_or_default();
        assert!(wanted.contains(&status), "{case} {fields:?}: {}", heard.text());
        if status == 407 {
            let challenge = "proxy-authenticate: Basic realm=\"countersign\"";
            assert!(heard.contains(challenge), "{case}: {}", heard.text());
        }
    }
    let heard = connect(&siege, b"Proxy-Authorization: Basic \xff\xff\xff\xff\r\n").await;
    assert!(heard.is_refusal(), "{}", heard.text());
    assert_eq!(siege.tls.connections(), 0);
    siege.lift().await;
}

async fn connect(siege: &Siege, fields: &[u8]) -> Heard {
    let head = format!("CONNECT {A}:443 HTTP/1.1\r\nHost: {A}:443\r\n");
    siege.say([head.as_bytes(), fields, b"\r\n"].concat()).await
}

/// A2: what is wrong cannot be told from the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_callers_and_wrong_tokens_get_the_same_answer() {
    let siege = Siege::start().await;
    let mut answers = Vec::new();
    for (user, token) in [(CALLER, "wrong"), ("nobody", "wrong"), ("nobody", CALLER_TOKEN)] {
        let text = connect(&siege, proof(user, token).as_bytes()).await.text();
        let changing = |line: &&str| !line.starts_with("date:");
        let text: String = text.lines().filter(changing).collect();
        let id = text.find("\"request_id\":\"").expect("an id") + 14;
        answers.push(text[..id].to_owned() + &text[id + 16..]);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    siege.lift().await;
}

/// A6: a proof is for one request, not for its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_request_of_a_connection_proves_itself_anew() {
    let siege = Siege::start().await;
    let request = |proof: &str| format!("GET http://{A}/a6 HTTP/1.1\r\nHost: {A}\r\n{proof}\r\n");
    let mut stream = siege.connection().await;
    let heard = siege.exchange(&mut stream, request(&siege.proof()).as_bytes()).await;
    assert_eq!(heard.statuses(), [200]);
    let heard = siege.exchange(&mut stream, request("").as_bytes()).await;
    assert_eq!(heard.statuses(), [407]);
    assert_eq!(siege.tls.marked("/a6").len(), 1);
    siege.lift().await;
}

/// A7: inside a tunnel the identity is the tunnel's, also when another one is claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_inside_a_tunnel_is_dropped() {
    let siege = Siege::start().await;
    let heard = siege.get(A, "/a7", &proof("other", OTHER_TOKEN)).await;
    assert_eq!(heard.statuses(), [200], "{}", heard.text());
    let request = &siege.tls.marked("/a7")[0];
    assert_eq!(request.ambiguity(), None);
    assert_eq!(request.count(API_KEY), 1);
    siege.lift().await;
}

/// A8: spellings that are right. The caller's token has `:`, `%`, `@` and a letter beyond ASCII.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_right_spelling_of_a_proof_is_taken() {
    let siege = Siege::start().await;
    let right = siege.proof();
    for fields in [
        right.clone(),
        right.replace("Basic", "bAsIc"),
        right.replace("Proxy-Authorization", "PROXY-authorization"),
        proof(&format!("{CALLER}~acme"), CALLER_TOKEN),
        proof("other", OTHER_TOKEN),
        format!("Proxy-Authorization: Bearer {OTHER_TOKEN}\r\n"),
    ] {
        let mut stream = siege.connection().await;
        let request = format!("CONNECT {A}:443 HTTP/1.1\r\nHost: {A}:443\r\n{fields}\r\n");
        let opened = siege.ask_tunnel(&mut stream, request.as_bytes()).await;
        assert!(opened.is_ok(), "{fields}: {opened:?}");
    }
    siege.lift().await;
}

/// A9: the token is taken back while a tunnel and a WebSocket are open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_ends_what_it_opened() {
    let siege = Siege::start().await;
    siege.tls.answer(
        "/a9-ws",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let mut tunnel = siege.tunnel(A).await;
    let request = format!("GET /a9 HTTP/1.1\r\nHost: {A}\r\n\r\n");
    assert_eq!(siege.exchange(&mut tunnel, request.as_bytes()).await.statuses(), [200]);
    let mut websocket = siege.tunnel(A).await;
    let upgrade = format!(
        "GET /a9-ws HTTP/1.1\r\nHost: {A}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    assert_eq!(siege.exchange(&mut websocket, upgrade.as_bytes()).await.statuses(), [101]);
    websocket.write_all(b"ping").await.expect("it is open");
    let mut echo = [0; 4];
    websocket.read_exact(&mut echo).await.expect("it echoes");
    let mut blind = siege.connect("other.test:443").await.expect("a blind tunnel");

    let revoked = Instant::now();
    std::fs::write(siege.path("secrets/token"), "another-token-of-this-caller-0123456789")
        .expect("the folder is writable");
    let server = siege.id().to_string();
    let hangup = tokio::process::Command::new("kill").args(["-HUP", &server]).status().await;
    assert!(hangup.expect("kill runs").success());
    let ended = timeout(Duration::from_secs(3), websocket.read(&mut echo)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "the WebSocket goes on: {ended:?}");
    let ended = timeout(Duration::from_secs(3), blind.read(&mut echo)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "the blind tunnel goes on: {ended:?}");
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    let heard = siege.exchange(&mut tunnel, request.as_bytes()).await;
    assert!(heard.is_refusal(), "{}", heard.text());
    assert_eq!(siege.tls.marked("/a9 ").len(), 1);
    assert!(connect(&siege, siege.proof().as_bytes()).await.is_refusal());
    siege.lift().await;
}

/// A10, with as many guesses as it takes to be limited: the second address is 127.0.0.2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_limited_and_nobody_else_is() {
    let siege = Siege::start().await;
    let mut statuses = Vec::new();
    let mut stream = siege.connection().await;
    for at in 0..200 {
        let request = format!(
            "GET http://{A}/ HTTP/1.1\r\nHost: {A}\r\n{}\r\n",
            proof(CALLER, &format!("guess-{at}"))
        );
        stream.write_all(request.as_bytes()).await.expect("the connection is open");
        let mut piece = vec![0; 4096];
        let count = stream.read(&mut piece).await.expect("an answer");
        statuses.extend(Heard { bytes: piece[..count].to_vec(), closed: false }.status());
    }
    assert!(statuses.iter().all(|status| matches!(status, 407 | 429)), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");

    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("loopback is a whole net");
    let proxy = ([127, 0, 0, 1], siege.proxy_port).into();
    let mut other = socket.connect(proxy).await.expect("the proxy listens");
    let wrong = format!("GET http://{A}/ HTTP/1.1\r\nHost: {A}\r\n{}\r\n", proof(CALLER, "wrong"));
    assert_eq!(siege.exchange(&mut other, wrong.as_bytes()).await.statuses(), [407]);
    let right = format!("GET http://{A}/ HTTP/1.1\r\nHost: {A}\r\n{}\r\n", siege.proof());
    assert_eq!(siege.exchange(&mut other, right.as_bytes()).await.statuses(), [200]);
    siege.lift().await;
}

/// A12: certificates of the TLS listener's clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_valid_client_certificate_names_a_caller() {
    let siege = Siege::start().await;
    let caller = &["flow.callers.test"][..];
    let stranger = Ca::new("Somebody else's CA");
    for (what, leaf, good) in [
        ("right", siege.client_ca.leaf(caller, ClientAuth, false), true),
        ("for servers only", siege.client_ca.leaf(caller, ServerAuth, false), false),
        ("expired", siege.client_ca.leaf(caller, ClientAuth, true), false),
        ("another CA", stranger.leaf(caller, ClientAuth, false), false),
        ("another name", siege.client_ca.leaf(&["x.callers.test"], ClientAuth, false), false),
        ("name in CN only", siege.client_ca.leaf(&[], ClientAuth, false), false),
    ] {
        let heard = by_certificate(&siege, leaf).await;
        match good {
            true => assert_eq!(heard.statuses(), [200], "{what}: {}", heard.text()),
            false => assert!(heard.is_refusal(), "{what}: {}", heard.text()),
        }
    }
    assert_eq!(siege.tls.marked("/a12").len(), 1);
    siege.lift().await;
}

async fn by_certificate(
    siege: &Siege,
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
) -> Heard {
    let config = client_builder()
        .with_root_certificates(siege.roots.clone())
        .with_client_auth_cert(chain, key)
        .expect("key and certificate match");
    let stream = TcpStream::connect(("127.0.0.1", siege.tls_proxy_port)).await;
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    // In TLS 1.3 a client learns of its refusal only after its own handshake.
    let Ok(mut tls) = connector.connect(name, stream.expect("the proxy listens")).await else {
        return Heard { bytes: Vec::new(), closed: true };
    };
    let request = format!("GET http://{A}/a12 HTTP/1.1\r\nHost: {A}\r\n\r\n");
    siege.exchange(&mut tls, request.as_bytes()).await
}
