//! A token expires, and nobody notices.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::client::{basic, inside_with};
use crate::house::{House, browse, expire, get_on, tls_to, until};
use crate::on_both_engines;
use crate::site::{API, Site};

on_both_engines! {
    /// One kept tunnel, request after request, over several lives of a token.
    async fn requests_go_on_while_tokens_come_and_go(house: House) {
        let mut house = house;
        house.provider.behave(|behaviour| behaviour.expires_in = json!(2));
        let account = house.connect("acme").await;
        let caller = house.caller("flow", &[&account]).await;
        house.start().await;
        let mut tunnel = house.tunnel(&caller).await;
        let (began, mut slowest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_secs(4) {
            let asked = Instant::now();
            let answer = get_on(&mut tunnel, "/often").await;
            assert_eq!(answer.status, 200, "{}\n{}", answer.text(), house.site.log());
            slowest = slowest.max(asked.elapsed());
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(house.api.answered(401), 0, "no expired token was sent");
        assert!(house.api.tokens().len() >= 3, "{:?}", house.api.tokens());
        // Due at half of two seconds' life and later; the schedule looks twice a second.
        assert!((2..=6).contains(&house.refreshes()), "{}", house.refreshes());
        assert!(slowest < Duration::from_millis(500), "a request waited {slowest:?}");
        assert_eq!(house.audit("credential_failed"), Vec::<serde_json::Value>::new());
        house.close().await;
    }

    async fn two_hundred_requests_at_the_moment_of_expiry_make_one_token_call(house: House) {
        let mut house = house;
        let account = house.connect("acme").await;
        let caller = house.caller("flow", &[&account]).await;
        expire(&house, &account).await;
        // Slow enough for all of them to wait for it.
        house.provider.behave(|behaviour| behaviour.delay = Duration::from_millis(300));
        house.start().await;
        let before = house.refreshes();
        stampede(&[&house.site], &caller).await;
        assert_eq!(house.refreshes() - before, 1);
        assert_eq!((house.api.answered(200), house.api.answered(401)), (200, 0));
        house.close().await;
    }
}

/// G20: two processes on one PostgreSQL; the provider would end the grant at the second call.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_store_make_one_token_call() {
    let Some(mut house) = House::postgres().await else { return };
    let account = house.connect("acme").await;
    let caller = house.caller("flow", &[&account]).await;
    let mut neighbour = house.neighbour();
    for round in 1..=2 {
        expire(&house, &account).await;
        house.provider.behave(|behaviour| behaviour.delay = Duration::from_millis(150 * round));
        let before = (house.refreshes(), house.api.answered(200));
        if round == 1 {
            house.start().await;
            neighbour.serve().await;
        } else {
            // Both hear of the change, which brings the end of the token with it.
            sleep(Duration::from_millis(700)).await;
        }
        stampede(&[&house.site, &neighbour], &caller).await;
        let calls = house.refreshes() - before.0;
        assert_eq!(calls, 1, "in round {round}");
        assert_eq!((house.api.answered(200) - before.1, house.api.answered(401)), (200, 0));
    }
    neighbour.close().await;
    house.close().await;
}

/// G21: a one-time token is spent, whoever still waits for what it brings.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_does_not_end_the_refresh_that_it_began() {
    let mut house = House::sqlite().await;
    let account = house.connect("acme").await;
    let caller = house.caller("flow", &[&account]).await;
    expire(&house, &account).await;
    let before = house.stored(&account.id).await.version;
    house.provider.behave(|behaviour| behaviour.delay_after = Duration::from_millis(400));
    house.start().await;
    let mut tunnel = house.tunnel(&caller).await;
    let asking = tokio::spawn(async move { get_on(&mut tunnel, "/").await });
    until("the provider is asked", Duration::from_secs(3), || async { house.refreshes() == 1 })
        .await;
    asking.abort();
    until("it is stored", Duration::from_secs(3), || async {
        house.stored(&account.id).await.version == before + 1
    })
    .await;
    assert_eq!(house.get(&caller, "/").await.status, 200);
    assert_eq!(house.refreshes(), 1);
    house.close().await;
}

/// Two hundred requests at one moment, shared out among the servers.
async fn stampede(sites: &[&Site], caller: &str) {
    let mut tunnels = Vec::new();
    for site in sites {
        let tls = tls_to(site).await;
        for _ in 0..200 / sites.len() {
            tunnels.push(inside_with(site, API, caller, tls.clone()).await);
        }
    }
    let requests = tunnels
        .into_iter()
        .map(|mut tunnel| tokio::spawn(async move { get_on(&mut tunnel, "/at-once").await }));
    for request in requests.collect::<Vec<_>>() {
        let answer = request.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Everything by commands, with a browser that does as it is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_connected_by_command_is_used_by_a_caller_added_by_command() {
    let mut house = House::sqlite().await;
    house.start().await;
    let config = house.site.path("countersign.toml");
    let config = config.to_str().unwrap();
    let port = crate::site::free_port().to_string();
    let connect = ["--config", config, "connect", "acme", "--no-browser", "--port", &port];
    let mut connect = house.site.command(&connect);
    let mut connect = connect.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(connect.stdout.take().unwrap()).lines();
    let url = loop {
        let line = lines.next_line().await.unwrap().expect("the URL is printed");
        if let Some(url) = line.trim().strip_prefix("http") {
            break format!("http{url}");
        }
    };
    let back = browse(&house.provider, &url).await;
    let page = visit(&back).await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        said += &line;
    }
    assert!(connect.wait().await.unwrap().success(), "{said}");
    assert!(said.contains("Connected: acme"), "{said}");

    let add = ["--config", config, "callers", "add", "robot", "--account", "acme", "--json"];
    let added = house.site.run(&add).await;
    let added: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    let token = added["token"].as_str().unwrap().to_owned();
    house.site.setup.secrets.push(token.clone());
    let caller = basic("robot", &token);
    until("the caller is known", Duration::from_secs(1), || async {
        crate::client::connect(&house.site, &format!("{API}:443"), &caller).await.1.status == 200
    })
    .await;
    // Who is known is known with everything: the token comes last.
    assert_eq!(house.get(&caller, "/by-command").await.status, 200);
    until("the commands are in the audit", Duration::from_secs(3), || async {
        house.audit("administered").len() >= 2
    })
    .await;
    house.close().await;
}

async fn visit(url: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
        &url[url::Position::BeforePath..],
        address.1
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
