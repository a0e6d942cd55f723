//! Connections that wait long for their next request: they give up their buffers, and nothing else.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{PATIENCE, dial, exchange, flow, inside, read_answer};
use crate::origin::{self, drain_body, scripted};
use crate::pki::Ca;
use crate::site::{API, Setup, Site};

/// Until so many connections rest.
async fn rested(site: &Site, count: f64) {
    let deadline = Instant::now() + PATIENCE;
    while site.metric("countersign_connections_resting", &[]).await != count {
        assert!(Instant::now() < deadline, "{:?}", site.admin("/metrics").await);
        sleep(Duration::from_millis(50)).await;
    }
}

fn plain(path: &str) -> String {
    let login = flow();
    format!(
        "GET https://{API}{path} HTTP/1.1\r\nHost: {API}\r\nProxy-Authorization: {login}\r\n\r\n"
    )
}

fn within(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {API}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_rested_goes_on_where_it_was() {
    let ca = Ca::new();
    let origin = scripted(ca.server(&[API]), Vec::new()).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let (mut clear, mut tls) = (dial(&site).await, inside(&site).await);
    for round in ["/1", "/2", "/3"] {
        assert_eq!(exchange(&mut clear, &plain(round)).await.text(), round);
        assert_eq!(exchange(&mut tls, &within(round)).await.text(), round);
        rested(&site, 2.0).await;
    }
    // Half a head is no rest, however long it takes.
    let (slow, rest) = (plain("/slow"), plain("/4"));
    let (first, second) = slow.split_at(7);
    clear.write_all(first.as_bytes()).await.unwrap();
    rested(&site, 1.0).await;
    sleep(Duration::from_secs(4)).await;
    rested(&site, 1.0).await;
    assert_eq!(exchange(&mut clear, second).await.text(), "/slow");
    // Two at once, longer than what a waking connection reads first.
    let long = format!("/{}", "x".repeat(3000));
    rested(&site, 2.0).await;
    clear.write_all(plain(&long).as_bytes()).await.unwrap();
    assert_eq!(exchange(&mut clear, &rest).await.text(), long);
    assert_eq!(read_answer(&mut clear, "GET").await.text(), "/4");
    rested(&site, 2.0).await;
    // Whoever rests may leave, or be told to.
    drop(clear);
    rested(&site, 1.0).await;
    let closing = tokio::spawn(site.close());
    let end = timeout(PATIENCE, tls.read_u8()).await.expect("a drain ends what rests");
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    closing.await.unwrap();
}

/// However long nothing moves: the second half of a body is no request, and no answer is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_pauses_is_no_rest() {
    let ca = Ca::new();
    let origin = origin::start(ca.server(&[API]), |mut stream, seen| async move {
        while let Some(head) = seen.request(&mut stream).await {
            let early = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha";
            let _ = stream.write_all(early).await;
            let _ = stream.flush().await;
            drain_body(&mut stream, &head).await;
            sleep(Duration::from_secs(3)).await;
            let _ = stream.write_all(b"lf").await;
            let _ = stream.flush().await;
        }
    })
    .await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let mut stream = inside(&site).await;
    let no_request = within("/smuggled");
    let head = format!(
        "POST /early HTTP/1.1\r\nHost: {API}\r\nContent-Length: {}\r\n\r\nabc",
        3 + no_request.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    sleep(Duration::from_secs(4)).await;
    assert_eq!(site.metric("countersign_connections_resting", &[]).await, 0.0);
    assert_eq!(exchange(&mut stream, &no_request).await.text(), "half");
    assert_eq!((origin.seen.count("/early"), origin.seen.count("/smuggled")), (1, 0));
    rested(&site, 1.0).await;
    assert_eq!(exchange(&mut stream, &within("/next")).await.text(), "half");
    site.close().await;
}
