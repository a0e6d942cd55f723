//! What is over is said, once, and mended by reconnecting. An API that refuses everything makes no
//! storm.

use std::time::Duration;

use countersign::connect::Removed;
use countersign::vault::Account;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::house::{House, expire, get_on, until};
use crate::on_both_engines;
use crate::provider::Failure;

const SOON: Duration = Duration::from_secs(5);

on_both_engines! {
    /// G10.
    async fn a_dead_account_says_so_asks_no_more_and_lives_again_when_reconnected(house: House) {
        let mut house = house;
        let account = house.connect("acme").await;
        let caller = house.caller("flow", &[&account]).await;
        expire(&house, &account).await;
        house.start().await;
        house.provider.kill_all();
        let mut tunnel = house.tunnel(&caller).await;
        let refused = get_on(&mut tunnel, "/").await;
        assert_eq!((refused.status, refused.problem().as_str()), (424, "account_dead"));
        let problem: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(problem["reconnect"], "countersign accounts reconnect acme");
        let calls = house.refreshes();
        for _ in 0..20 {
            assert_eq!(get_on(&mut tunnel, "/").await.status, 424);
        }
        sleep(Duration::from_millis(1200)).await;
        assert_eq!(house.refreshes(), calls, "the provider is left alone");
        until("the audit tells", SOON, || async {
            house.transitions() == [("dead".to_owned(), "revoked".to_owned())]
        })
        .await;
        until("it is counted", Duration::from_secs(8), || async {
            house.site.metric("countersign_accounts", &["app=\"acme\"", "dead"]).await == 1.0
        })
        .await;

        let dead = house.stored(&account.id).await;
        assert!(dead.health.dead && dead.health.next_refresh_at.is_none());
        let again = house.reconnect(&dead).await;
        assert_eq!((&again.id, &again.nickname), (&account.id, &account.nickname));
        let mut status = 0;
        for _ in 0..50 {
            status = get_on(&mut tunnel, "/").await.status;
            if status == 200 {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status, 200, "within a second");
        house.close().await;
    }

    /// G25.
    async fn a_reconnection_during_a_refresh_voids_its_result(house: House) {
        let mut house = house;
        let account = house.connect("acme").await;
        let caller = house.caller("flow", &[&account]).await;
        expire(&house, &account).await;
        let held = house.provider.holds_answers();
        house.start().await;
        let mut tunnel = house.tunnel(&caller).await;
        let waiting = tokio::spawn(async move { (get_on(&mut tunnel, "/").await, tunnel) });
        until("the provider is asked", SOON, || async { house.refreshes() == 1 }).await;
        house.provider.behave(|behaviour| behaviour.held = None);
        let again = house.reconnect(&house.stored(&account.id).await).await;
        held.add_permits(1);
        let (answer, mut tunnel) = waiting.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        until("the void result is counted", SOON, || async {
            house.site.metric("countersign_token_refreshes_superseded_total", &[]).await == 1.0
        })
        .await;
        assert_eq!(get_on(&mut tunnel, "/").await.status, 200);
        let stored = house.stored(&account.id).await;
        assert_eq!((stored.version, stored.health.dead), (again.version, false));
        house.close().await;
    }

    /// G25, and what came is revoked.
    async fn an_account_deleted_during_a_refresh_stays_deleted(house: House) {
        let mut house = house;
        let account = house.connect("acme").await;
        let caller = house.caller("flow", &[&account]).await;
        expire(&house, &account).await;
        let held = house.provider.holds_answers();
        house.start().await;
        let mut tunnel = house.tunnel(&caller).await;
        let waiting = tokio::spawn(async move { get_on(&mut tunnel, "/").await });
        until("the provider is asked", SOON, || async { house.refreshes() == 1 }).await;
        let removed = house.shop.connector.remove(&account.id).await.unwrap();
        assert_eq!(removed, Some(Removed::Revoked));
        let before = house.provider.calls("/revoke").len();
        held.add_permits(1);
        assert_ne!(waiting.await.unwrap().status, 200);
        until("what came is given back", SOON, || async {
            house.provider.calls("/revoke").len() > before
        })
        .await;
        assert!(house.shop.vault().account(&account.id).await.unwrap().is_none());
        until("the binding has gone with it", SOON, || async {
            house.get(&caller, "/").await.status == 403
        })
        .await;
        house.close().await;
    }
}

/// G29: one refresh for all of them, and all get through.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_an_api_ends_early_are_renewed_once_for_all_requests() {
    let (house, account, caller) = served().await;
    let mut tunnels = Vec::new();
    for _ in 0..50 {
        tunnels.push(house.tunnel(&caller).await);
    }
    house.provider.end_access_tokens();
    let began = Instant::now();
    let answers = join_all(tunnels.iter_mut().map(|tunnel| get_on(tunnel, "/"))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200; 50], "{:?} {:#?}", began.elapsed(), answers);
    assert_eq!(house.refreshes(), 1);
    // Once more at once: that is an API with a mind of its own, and gets its 401 through.
    house.provider.end_access_tokens();
    let answers = join_all(tunnels.iter_mut().map(|tunnel| get_on(tunnel, "/"))).await;
    assert!(answers.iter().all(|answer| answer.status == 401));
    assert_eq!(house.refreshes(), 1, "at most one forced refresh per interval");
    assert_eq!(house.stored(&account.id).await.health.failures, 0);
    house.close().await;
}

/// Rule 10: a fresh token that is refused too is not about the token.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_refuses_everything_makes_one_refresh_and_is_passed_on() {
    let (house, _account, caller) = served().await;
    house.api.refuse_all(true);
    let mut tunnels = Vec::new();
    for _ in 0..20 {
        tunnels.push(house.tunnel(&caller).await);
    }
    for _ in 0..10 {
        let answers = join_all(tunnels.iter_mut().map(|tunnel| get_on(tunnel, "/"))).await;
        assert!(answers.iter().all(|answer| answer.status == 401 && answer.text() == "no"));
    }
    assert_eq!(house.refreshes(), 1);
    // 200 requests, and one replay for each of those that were there when the new token came.
    assert!(house.api.answered(401) <= 220, "{}", house.api.answered(401));
    house.api.refuse_all(false);
    assert_eq!(get_on(&mut tunnels[0], "/").await.status, 200, "the credential is still there");
    house.close().await;
}

/// A definition may say that a refusal looks otherwise: here a 403 with a challenge.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_looks_as_the_definition_says() {
    let signal = "[auth.oauth.oauth2.dead_signal]\nstatus = [403]\nwww_authenticate = \"expired\"";
    let mut house = House::sqlite_with(signal).await;
    let account = house.connect("acme").await;
    let caller = house.caller("flow", &[&account]).await;
    house.start().await;
    house.api.refuse_with("403 Forbidden", "Bearer error=\"token expired\"");
    assert_eq!(house.get(&caller, "/").await.status, 200);
    house.provider.end_access_tokens();
    assert_eq!(house.get(&caller, "/").await.status, 200);
    assert_eq!(house.refreshes(), 1);
    assert_eq!(house.api.answered(403), 1);
    // Neither a 401 nor a 403 without the challenge is about the token, by this definition.
    house.api.refuse_with("401 Unauthorized", "Bearer");
    house.provider.end_access_tokens();
    assert_eq!(house.get(&caller, "/").await.status, 401);
    assert_eq!(house.refreshes(), 1);
    house.close().await;
}

/// G11: the operator's fault is no account's, and the provider hears of it once.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_refused_kills_no_account_and_is_tried_again_when_it_was_changed() {
    let mut house = House::sqlite().await;
    let accounts = [house.connect("one").await, house.connect("two").await];
    let caller = house.caller("flow", &[&accounts[0], &accounts[1]]).await;
    for account in &accounts {
        expire(&house, account).await;
    }
    house.provider.behave(|behaviour| {
        behaviour.failures.push_back(Failure::Answer {
            status: 401,
            headers: Vec::new(),
            body: json!({ "error": "invalid_client" }).to_string(),
        });
    });
    house.start().await;
    for name in ["one", "two", "one"] {
        let refused = house.get_as(&caller, name).await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.field("retry-after"), Some("300"));
    }
    assert_eq!(house.refreshes(), 1);
    for account in &accounts {
        let health = house.stored(&account.id).await.health;
        assert!(!health.dead);
        assert_eq!(health.error.unwrap().code, "app_credentials");
    }
    let vault = house.shop.vault();
    let client = vault.oauth_clients().await.unwrap().remove(0);
    let secrets = vault.open_oauth_client(&client.id).await.unwrap().unwrap().1;
    vault.update_oauth_client(&client.id, &client.details, Some(&secrets)).await.unwrap();
    sleep(Duration::from_millis(700)).await;
    for name in ["one", "two"] {
        assert_eq!(house.get_as(&caller, name).await.status, 200);
    }
    until("unhealthy and recovered, twice", SOON, || async { house.transitions().len() == 4 })
        .await;
    house.close().await;
}

/// What came without a refresh token serves until it ends, and only then needs its owner.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_refresh_token_is_used_until_its_token_ends() {
    let mut house = House::sqlite().await;
    house.provider.behave(|behaviour| {
        behaviour.expires_in = json!(3);
        behaviour.no_refresh_token = true;
    });
    let account = house.connect("acme").await;
    let caller = house.caller("flow", &[&account]).await;
    house.start().await;
    assert_eq!(house.get(&caller, "/").await.status, 200);
    sleep(Duration::from_millis(2200)).await;
    assert!(!house.stored(&account.id).await.health.dead, "not before its time");
    assert_eq!(house.get(&caller, "/").await.status, 200);
    sleep(Duration::from_millis(900)).await;
    assert_eq!(house.get(&caller, "/").await.status, 424);
    let health = house.stored(&account.id).await.health;
    assert_eq!(health.error.map(|error| error.code).as_deref(), Some("no_refresh_token"));
    assert_eq!(house.refreshes(), 0);
    house.close().await;
}

async fn served() -> (House, Account, String) {
    let mut house = House::sqlite().await;
    let account = house.connect("acme").await;
    let caller = house.caller("flow", &[&account]).await;
    house.start().await;
    (house, account, caller)
}
