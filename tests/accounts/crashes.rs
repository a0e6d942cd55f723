//! `kill -9` at every step of a rotation: after the restart the account works, or it says that its
//! grant is lost. G22, rule 5.

use std::time::Duration;

use sqlx::{AnyConnection, Connection as _, Executor as _};
use tokio::time::sleep;

use crate::house::{House, expire, get_on, until};
use crate::on_both_engines;

const SOON: Duration = Duration::from_secs(5);

on_both_engines! {
    /// The provider has the request and has done nothing: the old token is good.
    async fn killed_before_the_provider_rotated_the_account_works(house: House) {
        let mut house = house;
        let (account, caller) = expired(&house).await;
        for _ in 0..2 {
            house.provider.behave(|behaviour| behaviour.delay = Duration::from_secs(60));
            house.start().await;
            kill_when_asked(&mut house, &caller, Duration::ZERO).await;
            house.provider.behave(|behaviour| behaviour.delay = Duration::ZERO);
            house.start().await;
            assert_eq!(house.get(&caller, "/").await.status, 200, "{}", house.site.log());
            house.crash().await;
            expire(&house, &account).await;
        }
        assert!(house.transitions().is_empty());
        house.close().await;
    }

    /// The provider has replaced the token, and nobody has read by what: a strict one refuses the
    /// old token for ever, and the account says what happened.
    async fn killed_before_the_answer_the_loss_is_told_for_what_it_is(house: House) {
        let mut house = house;
        let (account, caller) = expired(&house).await;
        house.provider.behave(|behaviour| behaviour.delay_after = Duration::from_secs(60));
        house.start().await;
        kill_when_asked(&mut house, &caller, Duration::from_millis(50)).await;
        house.provider.behave(|behaviour| behaviour.delay_after = Duration::ZERO);
        house.start().await;
        let refused = house.get(&caller, "/").await;
        assert_eq!((refused.status, refused.problem().as_str()), (424, "account_dead"));
        let health = house.stored(&account.id).await.health;
        assert_eq!(health.error.unwrap().code, "rotation_lost");
        until("the audit tells", SOON, || async {
            house.transitions() == [("dead".to_owned(), "rotation_lost".to_owned())]
        })
        .await;
        assert_eq!(house.refreshes(), 2, "one that was lost, and one that found out");
        house.reconnect(&house.stored(&account.id).await).await;
        sleep(Duration::from_millis(700)).await;
        assert_eq!(house.get(&caller, "/").await.status, 200);
        house.close().await;
    }

    /// Most providers forgive a token that was replaced a moment ago.
    async fn killed_before_the_answer_of_a_provider_that_forgives_the_account_works(house: House) {
        let mut house = house;
        let (account, caller) = expired(&house).await;
        house.provider.behave(|behaviour| {
            behaviour.delay_after = Duration::from_secs(60);
            behaviour.forgives = true;
        });
        house.start().await;
        kill_when_asked(&mut house, &caller, Duration::from_millis(50)).await;
        house.provider.behave(|behaviour| behaviour.delay_after = Duration::ZERO);
        house.start().await;
        assert_eq!(house.get(&caller, "/").await.status, 200, "{}", house.site.log());
        assert!(!house.stored(&account.id).await.health.dead);
        house.close().await;
    }

    /// What is committed is used.
    async fn killed_after_the_commit_the_new_tokens_are_there(house: House) {
        let mut house = house;
        let (account, caller) = expired(&house).await;
        for _ in 0..2 {
            let before = house.stored(&account.id).await.version;
            house.start().await;
            let mut tunnel = house.tunnel(&caller).await;
            let asking = tokio::spawn(async move { get_on(&mut tunnel, "/").await });
            until("it is committed", SOON, || async {
                house.stored(&account.id).await.version > before
            })
            .await;
            house.crash().await;
            drop(asking.await);
            let calls = house.refreshes();
            house.start().await;
            assert_eq!(house.get(&caller, "/").await.status, 200, "{}", house.site.log());
            assert_eq!(house.refreshes(), calls, "and no other");
            house.crash().await;
            expire(&house, &account).await;
        }
        house.close().await;
    }
}

/// H9: SIGTERM waits for the answer of a provider that was asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_is_under_way_when_the_server_ends_is_stored() {
    let mut house = House::sqlite().await;
    let (account, caller) = expired(&house).await;
    let before = house.stored(&account.id).await.version;
    house.provider.behave(|behaviour| behaviour.delay_after = Duration::from_millis(1500));
    house.start().await;
    let mut tunnel = house.tunnel(&caller).await;
    let asking = tokio::spawn(async move { get_on(&mut tunnel, "/").await });
    until("the provider is asked", SOON, || async { house.refreshes() == 1 }).await;
    asking.abort();
    house.site.signal("-TERM").await;
    assert!(house.site.ended(Duration::from_secs(10)).await.is_some_and(|end| end.success()));
    assert_eq!(house.stored(&account.id).await.version, before + 1);
    house.start().await;
    assert_eq!(house.get(&caller, "/").await.status, 200);
    assert_eq!(house.refreshes(), 1);
    house.close().await;
}

/// The answer is there and cannot be written down, because another process locks the store: it is
/// used from memory, and lost with the process.
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_answer_and_the_commit_the_loss_is_told() {
    let mut house = House::sqlite().await;
    let (account, caller) = expired(&house).await;
    house.provider.behave(|behaviour| behaviour.delay = Duration::from_millis(500));
    house.start().await;
    let mut tunnel = house.tunnel(&caller).await;
    let asking = tokio::spawn(async move { get_on(&mut tunnel, "/").await });
    until("the provider is asked", SOON, || async { house.refreshes() == 1 }).await;
    let mut lock = lock(&house).await;
    let answer = asking.await.unwrap();
    assert_eq!(answer.status, 200, "the new token is used: the old one is spent");
    let unpersisted = house.site.metric("countersign_token_rotations_unpersisted", &[]).await;
    assert_eq!(unpersisted, 1.0);
    house.crash().await;
    lock.execute("ROLLBACK").await.unwrap();
    house.provider.behave(|behaviour| behaviour.delay = Duration::ZERO);
    house.start().await;
    assert_eq!(house.get(&caller, "/").await.status, 424);
    let health = house.stored(&account.id).await.health;
    assert_eq!(health.error.unwrap().code, "rotation_lost");
    until("the audit tells", SOON, || async {
        house.transitions().contains(&("dead".to_owned(), "rotation_lost".to_owned()))
    })
    .await;
    house.close().await;
}

/// At moments of chance, and what is in the store always says what became of it.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_account_works_or_says_that_it_is_lost() {
    let mut house = House::sqlite().await;
    let (account, caller) = expired(&house).await;
    house.provider.behave(|behaviour| {
        behaviour.delay = Duration::from_millis(15);
        behaviour.delay_after = Duration::from_millis(15);
    });
    let (mut worked, mut lost) = (0, 0);
    for round in 0..rounds() {
        house.start().await;
        let mut tunnel = house.tunnel(&caller).await;
        let asking = tokio::spawn(async move { get_on(&mut tunnel, "/").await });
        sleep(Duration::from_millis(round * 7 % 60)).await;
        house.crash().await;
        drop(asking.await);
        house.start().await;
        match house.get(&caller, "/").await.status {
            200 => worked += 1,
            424 => {
                let health = house.stored(&account.id).await.health;
                assert_eq!(health.error.unwrap().code, "rotation_lost");
                lost += 1;
            }
            status => panic!("{status}: {}", house.site.log()),
        }
        house.crash().await;
        expire(&house, &account).await;
    }
    assert!(worked > 0, "{worked} worked, {lost} were lost and said so");
    house.close().await;
}

/// More of them with `COUNTERSIGN_TEST_CRASHES`.
fn rounds() -> u64 {
    std::env::var("COUNTERSIGN_TEST_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

async fn expired(house: &House) -> (countersign::vault::Account, String) {
    let account = house.connect("acme").await;
    let caller = house.caller("flow", &[&account]).await;
    expire(house, &account).await;
    (account, caller)
}

/// Makes a request that needs a new token, and kills the server `later` than it asks for one.
async fn kill_when_asked(house: &mut House, caller: &str, later: Duration) {
    let before = house.refreshes();
    let mut tunnel = house.tunnel(caller).await;
    let asking = tokio::spawn(async move { get_on(&mut tunnel, "/").await });
    until("the provider is asked", SOON, || async { house.refreshes() > before }).await;
    sleep(later).await;
    house.crash().await;
    drop(asking.await);
}

/// Nobody else can write until it is rolled back.
pub async fn lock(house: &House) -> AnyConnection {
    let file = house.site.path("data/countersign.db");
    let mut other =
        AnyConnection::connect(&format!("sqlite://{}?mode=rw", file.display())).await.unwrap();
    other.execute("PRAGMA busy_timeout = 5000").await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    other
}
