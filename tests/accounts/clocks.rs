//! The wall clock jumps, forwards and back, and in the middle of a refresh. G28.

use std::time::{Duration, SystemTime};

use countersign::clock::Clock;
use countersign::serve::{Options, Running, Sink, Source, bind, load};
use tokio::time::sleep;

use crate::house::{House, get_on, until};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_makes_no_storm_and_no_expired_token_is_sent() {
    let house = House::sqlite().await;
    let mut accounts = Vec::new();
    for name in ["one", "two", "three"] {
        accounts.push(house.connect(name).await);
    }
    let caller = house.caller("flow", &accounts.iter().collect::<Vec<_>>()).await;
    let start = SystemTime::now();
    let clock = Clock::manual(start);
    let running = in_process(&house, &clock).await;
    let all_work = || async {
        for name in ["one", "two", "three"] {
            assert_eq!(house.get_as(&caller, name).await.status, 200, "{name}");
        }
    };
    all_work().await;

    // Everything seems due at once: once each, and then it is over.
    clock.step_to(start + HOUR);
    until("all are renewed", Duration::from_secs(5), || async { house.refreshes() == 3 }).await;
    all_work().await;
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(house.refreshes(), 3);

    // Everything seems fresh for ever: tokens end all the same, by the time that has passed.
    clock.step_to(start - HOUR);
    all_work().await;
    sleep(Duration::from_millis(700)).await;
    assert_eq!(house.refreshes(), 3);
    clock.advance(HOUR);
    house.provider.end_access_tokens();
    all_work().await;
    assert_eq!((house.refreshes(), house.api.answered(401)), (6, 0));

    // In the middle of a refresh.
    clock.advance(HOUR);
    house.provider.end_access_tokens();
    house.provider.behave(|behaviour| behaviour.delay_after = Duration::from_millis(300));
    let mut tunnel = house.tunnel(&caller).await;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {}\r\nCountersign-Account: one\r\n\r\n", crate::site::API);
    let asking =
        tokio::spawn(async move { crate::client::exchange(&mut tunnel, &request).await.status });
    until("the provider is asked", Duration::from_secs(5), || async { house.refreshes() > 6 })
        .await;
    clock.step_to(start - HOUR);
    assert_eq!(asking.await.unwrap(), 200);
    house.provider.behave(|behaviour| behaviour.delay_after = Duration::ZERO);
    all_work().await;
    assert_eq!((house.refreshes(), house.api.answered(401)), (9, 0));
    drop(get_on(&mut house.tunnel(&caller).await, "/").await);
    running.drain().await;
    house.close().await;
}

async fn in_process(house: &House, clock: &Clock) -> Running {
    let source = Source { file: Some(house.site.path("countersign.toml")), env: Vec::new() };
    let loaded = load(&source).unwrap_or_else(|error| panic!("{error}"));
    let options = Options { sink: Sink::Stderr, clock: clock.clone(), own: None };
    bind(loaded.config, options).await.unwrap_or_else(|error| panic!("{error}"))
}
