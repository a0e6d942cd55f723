//! What one process changes, all others hear of.

use std::time::Duration;

use countersign::vault::{Change, Changes};

use crate::house::{House, connected, name};

/// Within a second, as promised; the feed itself never ends.
async fn next(changes: &mut Changes) -> Vec<Change> {
    let soon = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
    tokio::time::timeout(soon, changes.next()).await.expect("a change is told within a second")
}

crate::on_both_engines! {
    async fn a_change_is_told_to_every_process_in_the_order_of_commits(house: House) {
        let (one, two) = (house.node("node-1").await, house.node("node-2").await);
        let (mut near, mut far) = (one.changes(), two.changes());
        assert_eq!(next(&mut near).await, [Change::Everything]);
        assert_eq!(next(&mut far).await, [Change::Everything]);
        for _ in 0..3 {
            let account = connected(&one).await;
            assert_eq!(next(&mut near).await, [Change::Account(account.id.clone())]);
            assert_eq!(next(&mut far).await, [Change::Account(account.id)]);
        }
    }

    async fn many_writers_at_once_lose_no_change(house: House) {
        let (one, two) = (house.node("node-1").await, house.node("node-2").await);
        let mut feed = one.changes();
        assert_eq!(next(&mut feed).await, [Change::Everything]);
        let writers: Vec<_> = (0..30)
            .map(|i| {
                let vault = if i % 2 == 0 { &one } else { &two }.clone();
                tokio::spawn(async move {
                    let mut new = crate::house::slack();
                    new.nickname = Some(name(&format!("n{i}")));
                    vault.create_account(&new, &crate::house::tokens("a", "r")).await.unwrap().id
                })
            })
            .collect();
        let mut missing = std::collections::HashSet::new();
        for writer in writers {
            missing.insert(Change::Account(writer.await.unwrap()));
        }
        while !missing.is_empty() {
            for change in next(&mut feed).await {
                assert!(missing.remove(&change), "{change:?} is told once");
            }
        }
    }

    async fn whoever_is_behind_the_pruned_past_reads_everything(house: House) {
        let vault = house.open().await;
        let mut feed = vault.changes();
        next(&mut feed).await;
        house.tamper("UPDATE revision SET latest = latest + 9, pruned = latest + 5").await;
        assert_eq!(next(&mut feed).await, [Change::Everything]);
        let account = connected(&vault).await;
        assert_eq!(next(&mut feed).await, [Change::Account(account.id)]);
    }

    async fn a_feed_outlives_a_store_that_is_away(house: House) {
        let vault = house.open().await;
        let mut feed = vault.changes();
        next(&mut feed).await;
        house.tamper("ALTER TABLE revision RENAME TO away").await;
        assert!(tokio::time::timeout(Duration::from_secs(1), feed.next()).await.is_err());
        house.tamper("ALTER TABLE away RENAME TO revision").await;
        assert_eq!(next(&mut feed).await, [Change::Everything]);
    }
}
