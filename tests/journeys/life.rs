//! Starting, reloading, running short and ending. DESIGN.md §12.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::client::{
    self, basic, connect, dial, ends_within, exchange, fetch, flow, get, get_plain, inside,
    read_answer, read_head, status_of,
};
use crate::origin::{self, Origin, ok, scripted};
use crate::pki::{self, Ca};
use crate::site::{API, CALLER, OTHER_TOKEN, REFUSED, RELOADED, Setup, Site, TOKEN, caller};

async fn acme() -> (Site, Origin) {
    let ca = Ca::new();
    let origin = scripted(ca.server(&[API]), Vec::new()).await;
    (Setup::acme(&ca, origin.address).start().await, origin)
}

/// Says nothing until it is spoken to, and then the same.
async fn echo_origin() -> Origin {
    origin::start_plain(|mut stream, _| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

async fn blind(site: &Site, credentials: &str) -> TcpStream {
    let (mut stream, answer) = connect(site, "blind.test:443", credentials).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    stream
}

/// H11: kept connections and new ones, a file that changes and a signal.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_drop_no_request() {
    let (site, _origin) = acme().await;
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let site = Arc::new(site);
    let load = (0..6).map(|worker| {
        let (site, done, served) = (site.clone(), done.clone(), served.clone());
        tokio::spawn(async move {
            let mut kept = inside(&site).await;
            while !done.load(Ordering::Relaxed) {
                let request = format!("GET /{worker} HTTP/1.1\r\nHost: {API}\r\n\r\n");
                let answer = match worker % 2 {
                    0 => exchange(&mut kept, &request).await,
                    _ => get_plain(&site, &format!("http://{API}/{worker}"), &flow()).await,
                };
                assert_eq!(answer.text(), format!("/{worker}"));
                served.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let load: Vec<_> = load.collect();
    let config = site.config();
    for round in 0..4 {
        let other = caller(&format!("extra-{round}"), OTHER_TOKEN, "");
        site.reload(&(config.clone() + &other), RELOADED).await;
        let before = site.log().matches(RELOADED).count();
        site.signal("-HUP").await;
        site.until("SIGHUP reloads", || site.log().matches(RELOADED).count() > before).await;
    }
    done.store(true, Ordering::Relaxed);
    for worker in load {
        worker.await.unwrap();
    }
    assert!(served.load(Ordering::Relaxed) > 50);
    assert!(site.metric("countersign_config_reloads_total", &[]).await >= 8.0);
    Arc::into_inner(site).unwrap().close().await;
}

/// H10: the old one serves on, and every mistake is said with its line.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_is_refused_and_the_old_one_stays() {
    let (site, _origin) = acme().await;
    let config = site.config();
    for (what, broken, said) in [
        ("syntax", format!("{config}\n[[["), "countersign.toml:"),
        ("unknown key", format!("{config}\n[proxi]\nlisten = []"), "proxi"),
        ("missing secret", config.replace("file = \"key\"", "file = \"none\""), "accounts.acme"),
        ("no such account", config.replace("[\"acme\"]\nrules", "[\"acne\"]\nrules"), "acne"),
        ("short token", config.replace(TOKEN, "short"), "shorter"),
        ("truncated", config[..config.len() / 2].to_owned(), "countersign"),
        ("empty", "[callers.".to_owned(), "countersign"),
    ] {
        site.reload(&broken, REFUSED).await;
        let log = site.log();
        assert!(log[log.rfind(REFUSED).unwrap()..].contains(said), "{what}: {log}");
        assert_eq!(get(&site, "/still").await.text(), "/still", "{what}");
    }
    assert!(
        site.metric("countersign_config_reloads_total", &["refused"]).await >= 7.0
            || site.metric("countersign_config_reloads_total", &["result=\"error\""]).await >= 7.0
            || site.metric("countersign_config_reloads_total", &["fail"]).await >= 7.0,
        "{:?}",
        site.admin("/metrics").await
    );
    site.reload(&config, RELOADED).await;
    assert_eq!(get(&site, "/again").await.text(), "/again");
    site.close().await;
}

/// T10 for tunnels: those of the token that went, and no others.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_tunnels_within_a_second() {
    let (ca, blind_origin) = (Ca::new(), echo_origin().await);
    let origin = scripted(ca.server(&[API]), Vec::new()).await;
    let site = Setup::acme(&ca, origin.address)
        .resolve("blind.test:443", blind_origin.address)
        .rest(&caller("other", OTHER_TOKEN, "rules = [{ host = \"blind.test\" }]"))
        .secret(OTHER_TOKEN)
        .start()
        .await;
    let mut going = blind(&site, &flow()).await;
    let mut staying = blind(&site, &basic("other", OTHER_TOKEN)).await;
    let mut intercepted = inside(&site).await;
    let request = format!("GET /in HTTP/1.1\r\nHost: {API}\r\n\r\n");
    assert_eq!(exchange(&mut intercepted, &request).await.status, 200);
    let revoked = site.config().replace(TOKEN, "another-token-0123456789abcdefgh");
    site.reload(&revoked, RELOADED).await;
    assert!(ends_within(&mut going, Duration::from_secs(1)).await);
    assert!(ends_within(&mut intercepted, Duration::from_secs(1)).await);
    assert_eq!(connect(&site, "blind.test:443", &flow()).await.1.status, 407);
    assert_eq!(get_plain(&site, &format!("http://{API}/"), &flow()).await.status, 407);
    staying.write_all(b"y").await.unwrap();
    assert_eq!(timeout(client::PATIENCE, staying.read_u8()).await.unwrap().unwrap(), b'y');
    drop(staying);
    site.close().await;
}

/// Opens TLS with a listener of ours. Gives the certificate that it showed.
async fn shown(port: u16, ca: &Ca) -> (TlsStream<TcpStream>, CertificateDer<'static>) {
    let stream = pki::greet(port, ca, None).await.unwrap();
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    let certificate = chain[0].clone().into_owned();
    (stream, certificate)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_renewed_are_shown_at_once_and_connections_stay() {
    let ca = Ca::new();
    let origin = scripted(ca.server(&[API]), Vec::new()).await;
    let (old, new) = (ca.issue(&["proxy.test"], |_| {}), ca.issue(&["proxy.test"], |_| {}));
    let site = Setup::acme(&ca, origin.address)
        .file("tls.pem", &old.certificate_pem)
        .file("tls.key", &old.key_pem)
        .proxy("tls_listen = [\"127.0.0.1:{tls}\"]\ntls = { certificate = \"tls.pem\", key = \"tls.key\" }")
        .rest("[web.tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"")
        .start()
        .await;
    let ports = [site.ports.tls, site.ports.web];
    let (mut open, certificate) = shown(site.ports.tls, &ca).await;
    assert_eq!(certificate, old.certificate);
    let request = format!(
        "GET http://countersign.internal/ HTTP/1.1\r\nHost: countersign.internal\r\nProxy-Authorization: {}\r\n\r\n",
        flow()
    );
    open.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut open, "GET").await.status, 200);

    // One file after the other, as tools that renew them do.
    site.write("tls.key", &new.key_pem);
    site.until("half of it is refused", || site.log().contains(REFUSED)).await;
    for port in ports {
        assert_eq!(shown(port, &ca).await.1, old.certificate);
    }
    site.write("tls.pem", &new.certificate_pem);
    site.until("the rest comes", || site.log().matches("was read anew").count() == 2).await;
    for port in ports {
        assert_eq!(shown(port, &ca).await.1, new.certificate);
    }
    open.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut open, "GET").await.status, 200, "what was open stays open");
    assert!(!site.log().contains("restart to put it into use"), "{}", site.log());
    site.close().await;
}

/// What was decided before the reload and opens after it is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_revoked_during_a_handshake_opens_nothing_that_stays() {
    let ca = Ca::new();
    let origin = slow_origin(&ca).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let mut stream = dial(&site).await;
    let asked = format!(
        "GET http://{API}/late-ws HTTP/1.1\r\nHost: {API}\r\nProxy-Authorization: {}\r\n{UPGRADE}\r\n",
        flow()
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    site.until("the handshake arrives", || origin.seen.heads().len() == 1).await;
    let revoked = site.config().replace(TOKEN, "another-token-0123456789abcdefgh");
    site.reload(&revoked, RELOADED).await;
    assert!(ends_within(&mut stream, Duration::from_secs(3)).await);
    site.close().await;
}

/// A token that runs out ends what it opened, as a revoked one does.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_ends_its_tunnels() {
    let (ca, blind_origin) = (Ca::new(), echo_origin().await);
    let soon = std::time::SystemTime::now() + Duration::from_secs(5);
    let soon = jiff::Timestamp::try_from(soon).unwrap();
    let lines = format!("rules = [{{ host = \"blind.test\" }}]\nexpires_at = \"{soon}\"");
    let site = Setup::bare(&ca)
        .resolve("blind.test:443", blind_origin.address)
        .rest(&caller(CALLER, TOKEN, &lines))
        .start()
        .await;
    let mut tunnel = blind(&site, &flow()).await;
    assert!(!ends_within(&mut tunnel, Duration::from_millis(200)).await);
    assert!(
        ends_within(&mut tunnel, Duration::from_secs(8)).await,
        "the tunnel outlives its token"
    );
    assert_eq!(connect(&site, "blind.test:443", &flow()).await.1.status, 407);
    site.close().await;
}

/// An origin whose answers to `/slow` come after a second, and whose `/sse` never ends.
async fn slow_origin(ca: &Ca) -> Origin {
    origin::start(ca.server(&[API]), |mut stream, seen| async move {
        while let Some(head) = seen.request(&mut stream).await {
            if head.contains(" /ws ") || head.contains(" /late-ws ") {
                if head.contains("late") {
                    sleep(Duration::from_millis(1500)).await;
                }
                let agreed = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                let _ = stream.write_all(agreed).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
                return;
            }
            if head.contains(" /sse ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n").await;
                let _ = stream.flush().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
                return;
            }
            sleep(Duration::from_secs(1)).await;
            if stream.write_all(&ok("late")).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn open(
    site: &Site,
    path: &str,
    lines: &str,
    expected: u16,
) -> impl tokio::io::AsyncRead + Unpin + use<> {
    let mut stream = inside(site).await;
    let asked = format!("GET {path} HTTP/1.1\r\nHost: {API}\r\n{lines}\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    assert_eq!(status_of(&read_head(&mut stream).await), expected);
    stream
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// H9: what is in flight ends by itself or at the deadline, new connections are refused at once.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_within_its_time() {
    let ca = Ca::new();
    let origin = slow_origin(&ca).await;
    let setup = Setup::acme(&ca, origin.address).proxy("shutdown_timeout = \"3s\"");
    let mut site = setup.start().await;
    let mut events = open(&site, "/sse", "", 200).await;
    let mut websocket = open(&site, "/ws", UPGRADE, 101).await;
    let mut idle = inside(&site).await;
    let mut in_flight = Vec::new();
    for _ in 0..20 {
        let mut stream = inside(&site).await;
        let asked = format!("GET /slow HTTP/1.1\r\nHost: {API}\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        in_flight.push(stream);
    }
    site.until("all are in flight", || origin.seen.count("/slow") == 20).await;
    let told = Instant::now();
    site.signal("-TERM").await;
    site.until("it drains", || site.log().contains("draining")).await;
    sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(site.proxy()).await.is_err(), "new connections are refused");
    let ready = site.admin("/readyz").await.unwrap();
    assert!(ready.contains(" 503 "), "{ready}");
    assert!(ends_within(&mut idle, Duration::from_secs(1)).await, "idle connections end at once");
    for mut stream in in_flight {
        let answer = read_answer(&mut stream, "GET").await;
        assert_eq!((answer.status, answer.text()), (200, "late".to_owned()));
    }
    assert!(!ends_within(&mut events, Duration::from_millis(100)).await);
    assert!(ends_within(&mut websocket, Duration::from_secs(5)).await);
    assert!(ends_within(&mut events, Duration::from_secs(5)).await);
    let status = site.ended(Duration::from_secs(5)).await;
    assert!(status.is_some_and(|status| status.code() == Some(0)), "{status:?}\n{}", site.log());
    assert!(told.elapsed() < Duration::from_secs(7), "{:?}", told.elapsed());
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_stops_at_once() {
    let ca = Ca::new();
    let origin = slow_origin(&ca).await;
    let mut site = Setup::acme(&ca, origin.address).start().await;
    let _events = open(&site, "/sse", "", 200).await;
    site.signal("-TERM").await;
    site.until("it drains", || site.log().contains("draining")).await;
    sleep(Duration::from_millis(200)).await;
    let told = Instant::now();
    site.signal("-TERM").await;
    let status = site.ended(Duration::from_secs(5)).await;
    assert!(status.is_some_and(|status| status.code() == Some(1)), "{status:?}");
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    site.close().await;
}

/// A drain does not wait for a place that only tunnels could give back.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_when_every_place_is_taken() {
    let (ca, blind_origin) = (Ca::new(), echo_origin().await);
    let mut site = Setup::bare(&ca)
        .resolve("blind.test:443", blind_origin.address)
        .rest(&caller(CALLER, TOKEN, "rules = [{ host = \"blind.test\" }]"))
        .proxy("max_connections = 2\nshutdown_timeout = \"1s\"")
        .start()
        .await;
    let _held = [blind(&site, &flow()).await, blind(&site, &flow()).await];
    site.signal("-TERM").await;
    let status = site.ended(Duration::from_secs(8)).await;
    assert!(status.is_some_and(|s| s.success()), "{status:?}\n{}", site.log());
    site.close().await;
}

/// H12: gatekeeper's accept loop ended for good.
#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_descriptors_is_survived() {
    let ca = Ca::new();
    let origin = scripted(ca.server(&[API]), Vec::new()).await;
    let mut setup = Setup::acme(&ca, origin.address);
    setup.descriptors = Some(64);
    let site = setup.start().await;
    let mut kept = inside(&site).await;
    let request = format!("GET /kept HTTP/1.1\r\nHost: {API}\r\n\r\n");
    assert_eq!(exchange(&mut kept, &request).await.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(dial(&site).await);
    }
    site.until("accept fails", || site.log().contains("accept failed")).await;
    assert_eq!(exchange(&mut kept, &request).await.status, 200, "who is in is served");
    drop(crowd);
    assert_eq!(get(&site, "/after").await.text(), "/after");
    site.close().await;
}

/// T9: half a head, a silent handshake, and a head that never ends.
#[tokio::test(flavor = "multi_thread")]
async fn slow_and_endless_heads_are_cut_on_every_listener() {
    let ca = Ca::new();
    let origin = scripted(ca.server(&[API]), Vec::new()).await;
    let listener = ca.issue(&["proxy.test"], |_| {});
    let site = Setup::acme(&ca, origin.address)
        .file("tls.pem", &listener.certificate_pem)
        .file("tls.key", &listener.key_pem)
        .proxy("header_timeout = \"1s\"\nhandshake_timeout = \"1s\"\nmax_header_bytes = \"16KiB\"\ntls_listen = [\"127.0.0.1:{tls}\"]\ntls = { certificate = \"tls.pem\", key = \"tls.key\" }")
        .start()
        .await;
    let half = format!("GET http://{API}/ HTTP/1.1\r\nHost: {API}\r\nX-A: ");
    let within = Duration::from_secs(4);

    let mut plain = dial(&site).await;
    plain.write_all(half.as_bytes()).await.unwrap();
    let mut tunnelled = inside(&site).await;
    tunnelled.write_all(b"GET / HTTP/1.1\r\nX-A: ").await.unwrap();
    let mut web = TcpStream::connect(("127.0.0.1", site.ports.web)).await.unwrap();
    web.write_all(b"GET / HTTP/1.1\r\nX-A: ").await.unwrap();
    let trusted = crate::pki::client_config(&ca.pem, &["http/1.1"], None);
    let address = ("127.0.0.1", site.ports.tls);
    let stream = TcpStream::connect(address).await.unwrap();
    let mut over_tls = client::tls(trusted, "proxy.test", stream).await;
    over_tls.write_all(half.as_bytes()).await.unwrap();
    let mut silent_tls = TcpStream::connect(address).await.unwrap();
    let (mut silent_tunnel, _) = connect(&site, &format!("{API}:443"), &flow()).await;
    let (mut half_tunnel, _) = connect(&site, &format!("{API}:443"), &flow()).await;
    half_tunnel.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    let (plain, tunnelled, web, over_tls, silent_tls, silent_tunnel, half_tunnel) = tokio::join!(
        ends_within(&mut plain, within),
        ends_within(&mut tunnelled, within),
        ends_within(&mut web, within),
        ends_within(&mut over_tls, within),
        ends_within(&mut silent_tls, within),
        ends_within(&mut silent_tunnel, within),
        ends_within(&mut half_tunnel, within),
    );
    assert!(plain, "half a head");
    assert!(tunnelled, "half a head in a tunnel");
    assert!(web, "half a head on the web listener");
    assert!(over_tls, "half a head on the TLS listener");
    assert!(silent_tls, "no handshake on the TLS listener");
    assert!(silent_tunnel, "no handshake in a tunnel");
    assert!(half_tunnel, "half a handshake in a tunnel");

    let flood =
        format!("GET http://{API}/ HTTP/1.1\r\nHost: {API}\r\nX-A: {}\r\n\r\n", "a".repeat(40_000));
    assert_eq!(exchange(&mut dial(&site).await, &flood).await.status, 431);
    let many = "X-A: a\r\n".repeat(1000);
    let flood = format!("GET / HTTP/1.1\r\nHost: {API}\r\n{many}\r\n");
    assert_eq!(fetch(&site, &flood).await.status, 431);
    assert_eq!(get(&site, "/after").await.text(), "/after");
    site.close().await;
}

/// H19: also when each keeps its audit elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_is_refused() {
    let (site, _origin) = acme().await;
    let second = site
        .config()
        .replace(
            &format!("listen = [\"127.0.0.1:{}\"]", site.ports.proxy),
            "listen = [\"127.0.0.1:0\"]",
        )
        .replace(&format!("\"127.0.0.1:{}\"", site.ports.web), "\"off\"")
        .replace(&format!("\"127.0.0.1:{}\"", site.ports.admin), "\"off\"");
    let elsewhere =
        format!("{second}\n[audit]\nfile = \"{}\"", site.path("audit-2.jsonl").display());
    let without = format!("{second}\n[audit]\nenabled = false");
    for (what, config) in
        [("the same", second), ("audit elsewhere", elsewhere), ("no audit", without)]
    {
        site.write("second.toml", &config);
        let file = site.path("second.toml");
        let output = timeout(
            Duration::from_secs(5),
            site.command(&["serve", "--config", file.to_str().unwrap()]).output(),
        )
        .await;
        let output = output.unwrap_or_else(|_| panic!("{what}: a second server runs")).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{what}: {said}");
        assert!(said.contains("in use by another countersign"), "{what}: {said}");
        assert!(said.lines().count() <= 2, "{what}: {said}");
    }
    assert_eq!(get(&site, "/still").await.text(), "/still");
    site.close().await;
}

/// T33, H18: killed in the middle of writing, the chain still verifies and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_verifies_after_a_kill() {
    let (mut site, _origin) = acme().await;
    for round in 0..3 {
        for _ in 0..20 {
            assert_eq!(
                get_plain(&site, &format!("http://{API}/{round}"), &flow()).await.status,
                200
            );
        }
        site.signal("-KILL").await;
        assert!(site.ended(Duration::from_secs(5)).await.is_some());
        site.verify_audit().await;
        site.serve().await;
    }
    site.close().await;
}

/// Labels come from closed sets, whatever callers ask for.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_name_no_host_path_or_stranger() {
    let (site, _origin) = acme().await;
    for index in 0..20 {
        let url = format!("http://{API}/secret-path-{index}?q=secret-query");
        get_plain(&site, &url, &flow()).await;
        get_plain(&site, &url, &basic(&format!("stranger-{index}"), OTHER_TOKEN)).await;
        let own = format!("M{index} / HTTP/1.1\r\nHost: {API}\r\n\r\n");
        fetch(&site, &own).await;
        let _ = connect(&site, &format!("stranger-{index}.invalid:443"), &flow()).await;
    }
    let metrics = site.admin("/metrics").await.unwrap();
    for word in ["secret", "stranger", "M1", "acme.test", "invalid\""] {
        let found = metrics.lines().find(|line| !line.starts_with('#') && line.contains(word));
        assert!(found.is_none_or(|line| line.contains("auth_failures")), "{word}: {found:?}");
    }
    let labels: std::collections::BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('{')?.1.split_once('}').map(|(labels, _)| labels))
        .flat_map(|labels| labels.split("\",").filter_map(|label| label.split_once('=')))
        .map(|(name, _)| name)
        .collect();
    let known = [
        "app", "caller", "code", "kind", "le", "listener", "method", "mode", "outcome", "reason",
        "result", "scope", "version",
    ];
    let odd: Vec<_> = labels.iter().filter(|label| !known.contains(label)).collect();
    assert!(odd.is_empty(), "{odd:?}");
    site.close().await;
}
