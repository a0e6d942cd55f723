//! A store that is locked or away: credentials that are held go on, no refresh begins that could
//! not be written down, and what changed is seen when it is back. G23, H5, H7.

use std::time::Duration;

use serde_json::json;
use sqlx::Executor as _;
use tokio::time::{Instant, sleep};

use crate::crashes::lock;
use crate::house::{House, expire, get_on, until};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_store_stops_refreshes_and_nothing_else() {
    let mut house = House::sqlite().await;
    house.provider.behave(|behaviour| behaviour.expires_in = json!(4));
    let (held, other) = (house.connect("held").await, house.connect("other").await);
    let caller = house.caller("flow", &[&held]).await;
    house.start().await;
    let mut tunnel = house.tunnel(&caller).await;
    assert_eq!(get_on(&mut tunnel, "/").await.status, 200);
    let mut lock = lock(&house).await;
    let (began, calls) = (Instant::now(), house.refreshes());
    let (mut served, mut refused) = (0, 0);
    while began.elapsed() < Duration::from_secs(5) {
        let answer = get_on(&mut tunnel, "/").await;
        match answer.status {
            200 if refused == 0 => served += 1,
            503 => refused += 1,
            status => panic!("{status}: {}", answer.text()),
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert!(served > 20 && refused > 0, "{served} {refused}");
    assert_eq!(house.refreshes(), calls, "a one-time token is not spent on what cannot be kept");
    assert_eq!(house.api.answered(401), 0);
    lock.execute("ROLLBACK").await.unwrap();
    house.provider.behave(|behaviour| behaviour.expires_in = json!(3600));
    until("it works again", SOON, || async { house.get(&caller, "/").await.status == 200 }).await;
    assert!(house.refreshes() - calls <= 2, "once for each of the two accounts");
    let vault = house.shop.vault();
    vault.unbind(&"flow".parse().unwrap(), &held.id).await.unwrap();
    vault.bind(&"flow".parse().unwrap(), &other.id, false, &[], None).await.unwrap();
    until("changes are seen", Duration::from_secs(1), || async {
        house.get(&caller, "/").await.status == 200
            && house.get_as(&caller, "held").await.status == 403
    })
    .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_dies_is_not_missed_until_a_token_ends() {
    let Some(mut house) = House::postgres().await else { return };
    let database = crate::postgres::server().unwrap();
    let account = house.connect("acme").await;
    let short = house.connect("short").await;
    let caller = house.caller("flow", &[&account]).await;
    let other = house.caller("other", &[&short]).await;
    house.start().await;
    expire(&house, &short).await;
    let mut tunnel = house.tunnel(&caller).await;
    assert_eq!(get_on(&mut tunnel, "/").await.status, 200);
    database.kill();
    let calls = house.refreshes();
    for _ in 0..20 {
        assert_eq!(get_on(&mut tunnel, "/").await.status, 200);
        sleep(Duration::from_millis(20)).await;
    }
    let refused = house.get(&other, "/").await;
    if refused.status != 200 {
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.field("retry-after").is_some());
        assert_eq!(house.refreshes(), calls);
    }
    database.revive();
    until("the store is back", SOON, || async {
        house.shop.vault().unbind(&"flow".parse().unwrap(), &account.id).await.is_ok()
    })
    .await;
    until("what changed is seen", SOON, || async {
        get_on(&mut house.tunnel(&caller).await, "/").await.status == 403
    })
    .await;
    until("a new token is had", SOON, || async { house.get(&other, "/").await.status == 200 })
        .await;
    assert_eq!(house.api.answered(401), 0);
    house.close().await;
}
