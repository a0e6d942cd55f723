//! A provider that is away for a while: the token serves to its end, requests hear how long to
//! wait, nobody storms, and all is well when it is back.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::client::Answer;
use crate::house::{House, expire, get_on, until};

/// One way of being away, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Refused,
    Fails(u16),
    /// 429, with `Retry-After: 2`.
    Throttles,
    Stalls,
}

impl Outage {
    fn begin(self, house: &House) {
        match self {
            Self::Refused => house.provider.go_away(),
            Self::Fails(status) => house.provider.behave(|it| it.outage = Some(status)),
            Self::Throttles => house.provider.behave(|it| {
                it.outage = Some(429);
                it.retry_after = Some(2);
            }),
            Self::Stalls => house.provider.behave(|it| it.delay = Duration::from_secs(600)),
        }
    }

    async fn end(self, house: &House) {
        match self {
            Self::Refused => house.provider.come_back().await,
            Self::Stalls => {
                house.provider.behave(|it| it.delay = Duration::ZERO);
                // Whoever waits hears that nothing will come.
                house.provider.go_away();
                house.provider.come_back().await;
            }
            _ => house.provider.behave(|it| (it.outage, it.retry_after) = (None, None)),
        }
    }
}

/// Four houses at once: most of it is waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_is_waited_for_and_recovered_from() {
    let stalls = tokio::spawn(waits_for_one_that_stalls());
    let outages = [Outage::Refused, Outage::Fails(500), Outage::Throttles];
    for ended in outages.map(|outage| tokio::spawn(sits_out(outage))) {
        ended.await.unwrap();
    }
    stalls.await.unwrap();
}

async fn sits_out(outage: Outage) {
    let mut house = House::sqlite().await;
    house.provider.behave(|behaviour| behaviour.expires_in = json!(3));
    let account = house.connect("acme").await;
    let caller = house.caller("flow", &[&account]).await;
    house.start().await;
    outage.begin(&house);
    let mut tunnel = house.tunnel(&caller).await;
    let began = Instant::now();
    let (mut served, mut refused) = (0, 0);
    while began.elapsed() < Duration::from_secs(5) {
        let answer = get_on(&mut tunnel, "/").await;
        match answer.status {
            200 if refused == 0 => served += 1,
            503 => {
                assert_waits(&answer);
                refused += 1;
            }
            status => panic!("{status}: {}\n{}", answer.text(), house.site.log()),
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(served > 5 && refused > 5, "{served} {refused}");
    assert_eq!(house.api.answered(401), 0, "no expired token was sent");
    let calls = house.provider.calls("/token").len();
    assert!(calls <= 8, "{calls} calls in 5 s: a storm");
    assert_eq!(house.stored(&account.id).await.health.error.unwrap().code, "provider_unavailable");
    outage.end(&house).await;
    house.provider.behave(|behaviour| behaviour.expires_in = json!(3600));
    works_again(&house, &mut tunnel).await;
    until("the audit tells", Duration::from_secs(3), || async {
        let changes: Vec<String> = house.transitions().into_iter().map(|(to, _)| to).collect();
        changes == ["unhealthy", "recovered"]
    })
    .await;
    let failed = house.site.metric("countersign_token_refreshes_total", &["transient"]).await;
    assert!(failed >= 2.0, "{failed}");
    house.close().await;
}

/// The wait that was told is over after half a minute at most.
async fn works_again(
    house: &House,
    tunnel: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
) {
    let began = Instant::now();
    while get_on(tunnel, "/").await.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(32), "{}", house.site.log());
        sleep(Duration::from_millis(20)).await;
    }
}

fn assert_waits(answer: &Answer) {
    let wait: u64 = answer.field("retry-after").expect("says how long").parse().unwrap();
    assert!((1..=900).contains(&wait), "{wait}");
    assert_eq!(answer.problem(), "credential_unavailable");
}

/// Requests wait for a bounded time, all for the same call; one that was given up is known as such.
async fn waits_for_one_that_stalls() {
    let mut house = House::sqlite().await;
    let account = house.connect("acme").await;
    let caller = house.caller("flow", &[&account]).await;
    expire(&house, &account).await;
    house.start().await;
    Outage::Stalls.begin(&house);
    let mut tunnels = Vec::new();
    for _ in 0..20 {
        tunnels.push(house.tunnel(&caller).await);
    }
    let began = Instant::now();
    let asked = tunnels.into_iter().map(|mut tunnel| async move { get_on(&mut tunnel, "/").await });
    let answers = timeout(Duration::from_secs(18), futures_util::future::join_all(asked)).await;
    answers.expect("nobody waits for ever").iter().for_each(|answer| {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_waits(answer);
    });
    assert!(began.elapsed() > Duration::from_secs(10));
    assert!(house.refreshes() <= 2, "{}", house.refreshes());
    Outage::Stalls.end(&house).await;
    works_again(&house, &mut house.tunnel(&caller).await).await;
    house.close().await;
}
