//! What a second process changes is live within a second.

use std::time::Duration;

use countersign::connect::{Removed, Wish};
use countersign::secret::Secret;

use crate::api::KEY_API;
use crate::client::{ends_within, exchange, inside_with};
use crate::house::{House, get_on, until};
use crate::on_both_engines;
use crate::site::KEY;

const A_SECOND: Duration = Duration::from_secs(1);

on_both_engines! {
    async fn binding_and_unbinding_are_live_within_a_second(house: House) {
        let mut house = house;
        let account = house.connect("acme").await;
        let caller = house.caller("flow", &[]).await;
        house.start().await;
        assert_eq!(house.get(&caller, "/early").await.status, 403);
        let vault = house.shop.vault().clone();
        let flow = "flow".parse().unwrap();
        vault.bind(&flow, &account.id, false, &[], None).await.unwrap();
        until("bound", A_SECOND, || async { house.get(&caller, "/").await.status == 200 }).await;
        let mut open = house.tunnel(&caller).await;
        assert_eq!(get_on(&mut open, "/open").await.status, 200);
        vault.unbind(&flow, &account.id).await.unwrap();
        until("unbound", A_SECOND, || async { house.get(&caller, "/").await.status == 403 }).await;
        assert_ne!(get_on(&mut open, "/open").await.status, 200, "nor through an open tunnel");
        house.close().await;
    }

    async fn a_revoked_caller_loses_its_tunnels_within_a_second(house: House) {
        let mut house = house;
        let account = house.connect("acme").await;
        let (going, staying) =
            (house.caller("going", &[&account]).await, house.caller("staying", &[&account]).await);
        house.start().await;
        let (mut ends, mut stays) = (house.tunnel(&going).await, house.tunnel(&staying).await);
        assert_eq!(get_on(&mut ends, "/").await.status, 200);
        house.shop.vault().delete_caller(&"going".parse().unwrap()).await.unwrap();
        assert!(ends_within(&mut ends, A_SECOND).await);
        assert_eq!(get_on(&mut stays, "/").await.status, 200);
        house.close().await;
    }

    async fn a_renamed_account_answers_to_its_new_name_and_a_deleted_one_to_none(house: House) {
        let mut house = house;
        let (one, two) = (house.connect("one").await, house.connect("two").await);
        let caller = house.caller("flow", &[&one, &two]).await;
        house.start().await;
        let mut tunnel = house.tunnel(&caller).await;
        assert_eq!(ask(&mut tunnel, "one").await, 200);
        assert_eq!(get_on(&mut tunnel, "/either").await.status, 409);
        house.shop.vault().rename_account(&one.id, &"uno".parse().unwrap()).await.unwrap();
        tokio::time::sleep(A_SECOND).await;
        assert_eq!((ask(&mut tunnel, "uno").await, ask(&mut tunnel, "one").await), (200, 403));
        let removed = house.shop.connector.remove(&one.id).await.unwrap();
        assert_eq!(removed, Some(Removed::Revoked));
        tokio::time::sleep(A_SECOND).await;
        assert_eq!((ask(&mut tunnel, "uno").await, ask(&mut tunnel, "two").await), (403, 200));
        assert_eq!(get_on(&mut tunnel, "/the-other").await.status, 200);
        house.close().await;
    }

    async fn a_new_key_is_used_within_a_second(house: House) {
        let mut house = house;
        let mut wish = vendor(&house, "wrong-key-0123456789");
        let account = house.shop.connector.keys(&wish).await.unwrap().account;
        let caller = house.caller("flow", &[&account]).await;
        house.start().await;
        let tls = house.tls().await;
        let mut tunnel = inside_with(&house.site, KEY_API, &caller, tls).await;
        let request = format!("GET /key HTTP/1.1\r\nHost: {KEY_API}\r\n\r\n");
        assert_eq!(exchange(&mut tunnel, &request).await.status, 401, "the API's own");
        let after = house.stored(&account.id).await;
        assert_eq!(after.health.failures, 0, "a key has nothing to be renewed by");
        wish.entered = vendor(&house, KEY).entered;
        wish.reconnect = Some(after);
        house.shop.connector.keys(&wish).await.unwrap();
        let mut status = 0;
        for _ in 0..50 {
            status = exchange(&mut tunnel, &request).await.status;
            if status == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status, 200, "within a second");
        house.close().await;
    }
}

async fn ask(
    tunnel: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
    account: &str,
) -> u16 {
    let host = crate::site::API;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nCountersign-Account: {account}\r\n\r\n");
    exchange(tunnel, &request).await.status
}

fn vendor(house: &House, key: &str) -> Wish {
    Wish {
        app: house.shop.config.catalog.app("vendor").unwrap().clone(),
        auth: "key".to_owned(),
        client: None,
        preset: None,
        entered: [("api_key".to_owned(), Secret::from(key.to_owned()))].into(),
        scopes: Vec::new(),
        owner: countersign::vault::Owner::Workspace,
        nickname: None,
        reconnect: None,
        same_identity: countersign::connect::SameIdentity::IfKnown,
    }
}
