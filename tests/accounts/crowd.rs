//! Many accounts with short-lived tokens: no request waits, the provider sees no waves, and memory
//! stays where it is. `COUNTERSIGN_TEST_ACCOUNTS=10000 COUNTERSIGN_TEST_LIFE=60` is the full size;
//! the figures are printed (`--no-capture`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use countersign::ids::AccountId;
use countersign::oauth::{Expiry, schedule};
use countersign::random;
use countersign::vault::{Account, Credentials, NewAccount, Owner, Tokens, Validity};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use crate::client::{exchange, inside_with};
use crate::house::House;
use crate::site::API;

const CALLERS: usize = 20;
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn many_accounts_are_renewed_ahead_of_need_and_spread_out() {
    let (number, life) = (from_env("COUNTERSIGN_TEST_ACCOUNTS", 200), life());
    let mut house = House::sqlite().await;
    house.provider.behave(|behaviour| behaviour.expires_in = json!(life.as_secs()));
    let accounts = crowd(&house, number, life).await;
    let callers = bind_all(&house, &accounts).await;
    let began = Instant::now();
    house.start().await;
    let start = began.elapsed();
    let house = Arc::new(house);
    let done = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..CLIENTS)
        .map(|client| {
            tokio::spawn(ask_around(house.clone(), callers.clone(), client, done.clone()))
        })
        .collect();
    let began = Instant::now();
    let mut memory = Vec::new();
    while began.elapsed() < life * 2 {
        sleep(Duration::from_secs(1)).await;
        memory.push(house.site.resident() / 1024 / 1024);
    }
    done.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for client in load {
        took.extend(client.await.unwrap());
    }
    took.sort();
    let per_second = per_second(&house, began);
    let mean = per_second.iter().sum::<usize>() as f64 / per_second.len() as f64;
    let most = per_second.iter().copied().max().unwrap_or_default();
    let share = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{number} accounts of {life:?}: started in {start:?}; {} requests, median {:?}, 99.9 % \
         {:?}, slowest {:?}; {mean:.0} token calls/s, most {most}: {per_second:?}; memory in MiB \
         {memory:?}",
        took.len(),
        share(0.5),
        share(0.999),
        share(1.0)
    );
    assert_eq!(house.api.answered(401), 0, "no expired token was sent");
    assert!(share(0.999) < Duration::from_secs(1), "requests wait: {:?}", share(0.999));
    // One generation is due within 15 % of a life, and everybody was connected at one moment.
    assert!(most as f64 <= mean * 6.0, "{mean:.0} calls/s, but {most} in one: {per_second:?}");
    let (warm, end) = (memory[memory.len() / 2], memory[memory.len() - 1]);
    assert!(end <= warm + warm / 4 + 8, "memory grows: {memory:?}");
    assert_eq!(house.audit("credential_failed").len(), 0);
    Arc::into_inner(house).unwrap().close().await;
}

/// Rule 15: after an outage of ours everything is due at once, at a provider that takes its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_does_not_queue_up_behind_the_background() {
    let mut house = House::sqlite().await;
    house.provider.behave(|behaviour| behaviour.expires_in = json!(1));
    let accounts = crowd(&house, 80, Duration::from_secs(1)).await;
    let callers = bind_all(&house, &accounts).await;
    sleep(Duration::from_millis(1100)).await;
    house.provider.behave(|behaviour| {
        behaviour.expires_in = json!(3600);
        behaviour.delay = Duration::from_millis(500);
    });
    house.start().await;
    crate::house::until("the background has begun", Duration::from_secs(5), || async {
        house.refreshes() >= 6
    })
    .await;
    let (credentials, accounts) = callers.last().unwrap();
    let asked = Instant::now();
    assert_eq!(house.get_as(credentials, accounts.last().unwrap()).await.status, 200);
    // Eighty calls, eight at a time, would be five seconds.
    assert!(asked.elapsed() < Duration::from_millis(2500), "waited {:?}", asked.elapsed());
    house.close().await;
}

fn from_env(name: &str, usual: u64) -> usize {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    usize::try_from(given.unwrap_or(usual)).unwrap()
}

fn life() -> Duration {
    Duration::from_secs(from_env("COUNTERSIGN_TEST_LIFE", 6) as u64)
}

/// Accounts that were all connected just now.
async fn crowd(house: &House, number: usize, life: Duration) -> Vec<Account> {
    let client = house.shop.vault().oauth_clients().await.unwrap()[0].id.clone();
    let app = house.shop.config.catalog.app("acme").unwrap().clone();
    let auth = app.auth("oauth").unwrap();
    let mut accounts = Vec::new();
    let all: Vec<usize> = (0..number).collect();
    for some in all.chunks(500) {
        let made = some.iter().map(|at| {
            let (access, refresh) = house.provider.seed();
            let tokens = Tokens { access: access.into(), refresh: Some(refresh.into()) };
            let obtained_at = SystemTime::now();
            let expires_at = obtained_at + life;
            let new = NewAccount {
                nickname: Some(format!("a{at}").parse::<AccountId>().unwrap()),
                app: app.id.clone(),
                auth: "oauth".to_owned(),
                owner: Owner::Workspace,
                app_override: None,
                oauth_client: Some(client.clone()),
                fields: BTreeMap::new(),
                scopes: Vec::new(),
                identity: None,
                validity: Validity {
                    obtained_at: Some(obtained_at),
                    expires_at: Some(expires_at),
                    refresh_expires_at: None,
                    next_refresh_at: schedule::next_refresh(
                        auth,
                        obtained_at,
                        Expiry::At(expires_at),
                        random::share(),
                    ),
                },
            };
            let credentials = Credentials { secrets: Default::default(), tokens: Some(tokens) };
            async move { house.shop.vault().create_account(&new, &credentials).await.unwrap() }
        });
        accounts.extend(join_all(made).await);
    }
    accounts
}

/// Shared out among callers, as their `Proxy-Authorization` and accounts.
async fn bind_all(house: &House, accounts: &[Account]) -> Vec<(String, Vec<String>)> {
    let mut callers = Vec::new();
    for (at, some) in accounts.chunks(accounts.len().div_ceil(CALLERS)).enumerate() {
        let name = format!("caller{at}");
        let credentials = house.caller(&name, &[]).await;
        let caller = name.parse().unwrap();
        let vault = house.shop.vault();
        let bound = some.iter().map(|account| vault.bind(&caller, &account.id, false, &[], None));
        join_all(bound).await.into_iter().for_each(|bound| bound.unwrap());
        callers
            .push((credentials, some.iter().map(|account| account.nickname.to_string()).collect()));
    }
    callers
}

/// One account after the other, and how long each request took.
async fn ask_around(
    house: Arc<House>,
    callers: Vec<(String, Vec<String>)>,
    client: usize,
    done: Arc<AtomicBool>,
) -> Vec<Duration> {
    let (credentials, accounts) = &callers[client % callers.len()];
    let mut tunnel = inside_with(&house.site, API, credentials, house.tls().await).await;
    let mut took = Vec::new();
    for account in accounts.iter().cycle() {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let asked = Instant::now();
        let request =
            format!("GET / HTTP/1.1\r\nHost: {API}\r\nCountersign-Account: {account}\r\n\r\n");
        let answer = exchange(&mut tunnel, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        took.push(asked.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    took
}

/// Refreshes in each second since `began`.
fn per_second(house: &House, began: Instant) -> Vec<usize> {
    let mut counts = Vec::new();
    for call in house.provider.calls("/token") {
        let at = call.at.saturating_duration_since(began).as_secs() as usize;
        if counts.len() <= at {
            counts.resize(at + 1, 0);
        }
        counts[at] += 1;
    }
    counts
}
