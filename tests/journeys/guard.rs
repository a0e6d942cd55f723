//! What may not be dialled, however it is named. security.md 2.F; the classification itself is
//! tested beside `upstream::guard`.
//!
//! Names whose addresses change between two look-ups need a resolver of the test's own, which the
//! binary has no setting for. That a checked address is the dialled one holds by construction:
//! `upstream::dial` resolves once per connection, gives the whole list to the guard and then dials
//! from that list; `localhost` here shows that what a name resolves to is judged, not the name.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Answer, connect, exchange, flow, get_plain, inside};
use crate::origin::{self, Origin, scripted};
use crate::pki::Ca;
use crate::site::{API, CALLER, Setup, Site, TOKEN, caller};

/// Everything unmatched is allowed, so only the guard says no.
fn open(ca: &Ca) -> Setup {
    Setup::bare(ca)
        .rest(&caller(CALLER, TOKEN, "rules = [{ effect = \"allow\" }]"))
        .upstream("connect_timeout = \"1s\"")
}

/// An origin that notes every connection, on a port of loopback.
async fn trap() -> Origin {
    origin::start_plain(|_, _| async {}).await
}

async fn both_ways(site: &Site, host: &str, port: u16) -> [(&'static str, Answer); 2] {
    let (_, by_connect) = connect(site, &format!("{host}:{port}"), &flow()).await;
    let by_get = get_plain(site, &format!("http://{host}:{port}/"), &flow()).await;
    [("CONNECT", by_connect), ("GET", by_get)]
}

/// F1, F2. What is no valid host is 400, what is valid and leads inside is 403; nothing is dialled.
#[tokio::test(flavor = "multi_thread")]
async fn loopback_is_not_reached_by_any_spelling() {
    let (ca, trap) = (Ca::new(), trap().await);
    let site = open(&ca).start().await;
    let port = trap.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "a.localhost",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "127.8.9.10",
        "%31%32%37.0.0.1",
        "127.0.0.1%00",
        "127.0.0.1%2e",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1%25lo]",
        "[::1%lo]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[::127.0.0.1]",
        "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
        "[0:0:0:0:0:0:0:1]",
        "[127.0.0.1]",
        "user@127.0.0.1",
    ] {
        for (how, answer) in both_ways(&site, host, port).await {
            assert!(matches!(answer.status, 400 | 403 | 502), "{how} {host}: {answer:?}");
            // A name that does not resolve is a 502; a literal or a name that does is refused.
            assert!(answer.status != 502 || answer.problem() == "dns", "{how} {host}: {answer:?}");
        }
    }
    for host in ["127.0.0.1", "localhost", "127.8.9.10", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"] {
        for (how, answer) in both_ways(&site, host, port).await {
            let told = (answer.status, answer.problem());
            assert_eq!(told, (403, "refused".to_owned()), "{how} {host}: {}", answer.text());
            assert!(answer.text().contains("allow in [upstream]"), "{}", answer.text());
        }
    }
    // Full-width digits, as bytes.
    for (how, answer) in both_ways(&site, "１２７.0.0.1", port).await {
        assert_eq!(answer.status, 400, "{how}: {answer:?}");
    }
    assert_eq!(trap.seen.connections.load(Ordering::Relaxed), 0);
    site.close().await;
}

/// F3, F4.
#[tokio::test(flavor = "multi_thread")]
async fn private_ranges_are_refused_before_anything_is_dialled() {
    let ca = Ca::new();
    let site = open(&ca).start().await;
    let begun = Instant::now();
    for host in [
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "169.254.1.1",
        "192.0.2.1",
        "[fc00::1]",
        "[fd12::1]",
        "[fe80::1]",
        "[febf::1]",
        "[ff02::1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::a00:1]",
        "[2002:a00:1::]",
        "[2001:db8::1]",
    ] {
        for (how, answer) in both_ways(&site, host, 80).await {
            let told = (answer.status, answer.problem());
            assert_eq!(told, (403, "refused".to_owned()), "{how} {host}: {}", answer.text());
        }
    }
    // Nothing of this waited for a peer: the least would have taken a second each.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    site.close().await;
}

/// F3: no setting allows what hands out the machine's own credentials.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_services_are_refused_inside_an_allow_list_too() {
    let (ca, allowed) = (Ca::new(), scripted(Ca::new().server(&["x.test"]), Vec::new()).await);
    let site = open(&ca).upstream("allow = [\"0.0.0.0/0\", \"::/0\"]").start().await;
    for host in [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "metadata.google.internal",
        "Metadata.Google.Internal.",
        "100.100.100.200",
        "169.254.170.2",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[::ffff:a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
    ] {
        for (how, answer) in both_ways(&site, host, 80).await {
            assert_eq!(answer.status, 403, "{how} {host}: {answer:?}");
            assert!(answer.text().contains("metadata"), "{how} {host}: {}", answer.text());
        }
    }
    // The list does what it says.
    let (_, answer) = connect(&site, &allowed.address.to_string(), &flow()).await;
    assert_eq!(answer.status, 200);
    site.close().await;
}

/// F5: not by address, not by a name that the operator pointed there, not inside an allow-list.
#[tokio::test(flavor = "multi_thread")]
async fn its_own_ports_are_never_dialled() {
    let ca = Ca::new();
    let mut site =
        open(&ca).app("self", &["self.test"], crate::site::BEARER).account("self", "self").lay();
    let ports = [site.ports.proxy, site.ports.web, site.ports.admin];
    for (index, port) in ports.iter().enumerate() {
        let own = SocketAddr::from(([127, 0, 0, 1], *port));
        let setup = std::mem::take(&mut site.setup);
        site.setup = setup.resolve(&format!("own{index}.test"), own);
    }
    let setup = std::mem::take(&mut site.setup);
    site.setup = setup
        .resolve("self.test:443", SocketAddr::from(([127, 0, 0, 1], ports[1])))
        .upstream("allow = [\"127.0.0.0/8\", \"::1/128\", \"0.0.0.0/32\"]");
    site.setup.rest = site.setup.rest.replace("rules =", "accounts = [\"self\"]\nrules =");
    site.write("countersign.toml", &site.config());
    site.serve().await;
    let begun = Instant::now();
    for (index, port) in ports.iter().enumerate() {
        let own = format!("own{index}.test");
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", own.as_str()] {
            for (how, answer) in both_ways(&site, host, *port).await {
                assert_eq!(answer.status, 403, "{how} {host}:{port}: {answer:?}");
                assert!(answer.text().contains("this countersign itself"), "{}", answer.text());
            }
        }
    }
    let mut stream = crate::client::inside_as(&site, "self.test", &flow(), "http/1.1").await;
    let answer = exchange(&mut stream, "GET / HTTP/1.1\r\nHost: self.test\r\n\r\n").await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "refused"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    site.close().await;
}

/// Two sites whose parents are each other.
async fn chained(ca: &Ca, origin: &Origin) -> (Site, Site) {
    let mut first = Setup::acme(ca, origin.address).lay();
    let mut second = Setup::acme(ca, origin.address).lay();
    point(&mut first, second.ports.proxy);
    point(&mut second, first.ports.proxy);
    first.serve().await;
    second.serve().await;
    (first, second)
}

fn point(site: &mut Site, parent: u16) {
    let setup = std::mem::take(&mut site.setup);
    let lines = format!(
        "[upstream.proxy]\nurl = \"http://127.0.0.1:{parent}\"\nresolve = \"remote\"\n\
         credentials = {{ value = \"{CALLER}:{TOKEN}\" }}"
    );
    site.setup = setup.rest(&lines);
    site.setup.resolve.clear();
    site.write("countersign.toml", &site.config());
}

/// F5: cut at once, not when descriptors run out.
#[tokio::test(flavor = "multi_thread")]
async fn two_proxies_that_chain_to_each_other_cut_the_loop() {
    let ca = Ca::new();
    let origin = scripted(ca.server(&[API]), Vec::new()).await;
    let (first, second) = chained(&ca, &origin).await;
    let begun = Instant::now();
    for answer in [
        connect(&first, "example.test:443", &flow()).await.1,
        get_plain(&first, "http://example.test/", &flow()).await,
        get_plain(&first, &format!("http://{API}/"), &flow()).await,
    ] {
        assert!(matches!(answer.status, 502 | 508), "{answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let connections = first.metric("countersign_connections_total", &["proxy"]).await
        + second.metric("countersign_connections_total", &["proxy"]).await;
    assert!(connections < 40.0, "{connections} connections for three requests");
    first.close().await;
    second.close().await;
}

/// F7: with a parent that resolves, literals and names are still judged here; `local` resolves here.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_proxy_is_no_way_around_the_guard() {
    let ca = Ca::new();
    let parent = trap().await;
    for resolve in ["local", "remote"] {
        let lines = format!(
            "[upstream.proxy]\nurl = \"http://{}\"\nresolve = \"{resolve}\"",
            parent.address
        );
        let site = open(&ca).rest(&lines).start().await;
        let mut hosts =
            vec!["127.0.0.1", "10.0.0.1", "169.254.169.254", "metadata.google.internal", "[::1]"];
        if resolve == "local" {
            hosts.push("localhost");
        }
        for host in hosts {
            for (how, answer) in both_ways(&site, host, 80).await {
                assert_eq!(answer.status, 403, "{resolve}: {how} {host}: {answer:?}");
            }
        }
        site.close().await;
    }
    assert_eq!(parent.seen.connections.load(Ordering::Relaxed), 0);
}

/// T3, T4: a credential's host on another port or in clear is no place for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_apps_host_is_dialled_on_its_ports_and_over_tls_only() {
    let ca = Ca::new();
    let clear = trap().await;
    let origin = scripted(ca.server(&[API]), Vec::new()).await;
    let site = Setup::acme(&ca, origin.address)
        .resolve(&format!("{API}:80"), clear.address)
        .resolve(&format!("{API}:8443"), clear.address)
        .start()
        .await;
    assert_eq!(get_plain(&site, &format!("http://{API}/up"), &flow()).await.text(), "/up");
    let answer = get_plain(&site, &format!("http://{API}:8443/"), &flow()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "port"));
    let (mut stream, answer) = connect(&site, &format!("{API}:8443"), &flow()).await;
    assert_eq!(answer.status, 200, "refused inside");
    let asked = format!("GET / HTTP/1.1\r\nHost: {API}:8443\r\n\r\n");
    let answer = exchange(&mut stream, &asked).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "port"), "{answer:?}");
    // Plain HTTP inside the tunnel goes out over TLS all the same.
    let (mut stream, _) = connect(&site, &format!("{API}:80"), &flow()).await;
    let answer = exchange(&mut stream, &format!("GET /in HTTP/1.1\r\nHost: {API}\r\n\r\n")).await;
    assert_eq!(answer.text(), "/in", "{answer:?}");
    assert_eq!(clear.seen.connections.load(Ordering::Relaxed), 0);
    let mut tunnel = inside(&site).await;
    let answer = exchange(&mut tunnel, "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert_eq!(answer.status, 421);
    site.close().await;
}

/// T12: origin-form on the proxy's port is never forwarded, and nothing without a caller.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forwarded_for_nobody() {
    let (ca, trap) = (Ca::new(), trap().await);
    let site = open(&ca).resolve("trap.test", trap.address).start().await;
    let host = format!("trap.test:{}", trap.address.port());
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {}\r\n\r\n", flow()),
        format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ] {
        for port in [site.ports.proxy, site.ports.web, site.ports.admin] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer =
                timeout(Duration::from_secs(5), crate::client::read_answer(&mut stream, "GET"))
                    .await
                    .unwrap();
            assert!(!(200..300).contains(&answer.status), "{port} {request}: {answer:?}");
        }
    }
    assert_eq!(trap.seen.connections.load(Ordering::Relaxed), 0);
    site.close().await;
}
