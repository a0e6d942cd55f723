//! Who may renew an account, and whose result counts.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign::vault::{
    Account, Claim, Claimed, Committed, Failed, HealthError, Reconnected, Renewed, Validity, Vault,
};

use crate::house::{House, after, connected, start, stored, tokens};

const LEASE: Duration = Duration::from_secs(25);
/// No token is as old.
const NEVER: SystemTime = UNIX_EPOCH;

fn renewed(access: &str, refresh: &str) -> Renewed {
    Renewed {
        credentials: tokens(access, refresh),
        fields: BTreeMap::new(),
        scopes: vec!["chat:write".to_owned()],
        expires_at: Some(after(7200)),
        refresh_expires_at: None,
        obtained_at: after(10),
        next_refresh_at: Some(after(6000)),
        last_used_at: None,
    }
}

fn failed(dead: bool, keep_attempt: bool) -> Failed {
    let error = HealthError { code: "revoked".to_owned(), message: "no".to_owned(), at: start() };
    Failed { dead, error, next_refresh_at: Some(after(60)), keep_attempt }
}

fn reconnected() -> Reconnected {
    Reconnected {
        app_override: None,
        oauth_client: None,
        fields: BTreeMap::new(),
        scopes: Vec::new(),
        identity: None,
        credentials: tokens("at-new", "rt-new"),
        validity: Validity::default(),
    }
}

async fn claim(vault: &Vault, account: &Account) -> Claim {
    vault.claim(&account.id, account.version, LEASE).await.unwrap()
}

async fn claimed(vault: &Vault, account: &Account) -> Box<Claimed> {
    match claim(vault, account).await {
        Claim::Yours(claimed) => claimed,
        _ => panic!("the account is free"),
    }
}

/// A whole refresh, as a node does it.
pub async fn renew(vault: &Vault, account: &Account) {
    let mine = claimed(vault, account).await;
    let done = vault.commit(&mine.attempt, &renewed("at-2", "rt-2")).await.unwrap();
    assert_eq!(done, Committed::Done { version: 2 });
}

crate::on_both_engines! {
    async fn a_claim_gives_the_tokens_and_keeps_others_out_until_it_ends(house: House) {
        let (one, two) = (house.node("node-1").await, house.node("node-2").await);
        let account = connected(&one).await;
        let mine = claimed(&one, &account).await;
        assert_eq!(mine.credentials.tokens.as_ref().unwrap().access.expose(), "at-1");
        assert!(!mine.unfinished);
        for vault in [&one, &two] {
            let Claim::Held { until } = claim(vault, &account).await else { panic!("it is held") };
            assert_eq!(until, start() + LEASE);
        }
        let done = one.commit(&mine.attempt, &renewed("at-2", "rt-2")).await.unwrap();
        assert_eq!(done, Committed::Done { version: 2 });
        assert!(matches!(claim(&two, &account).await, Claim::Moved(2)));
        assert_eq!(stored(&two, &account.id).await, ("at-2".to_owned(), "rt-2".to_owned()));
    }

    async fn of_many_that_claim_at_once_one_gets_it(house: House) {
        let (one, two) = (house.node("node-1").await, house.node("node-2").await);
        let account = connected(&one).await;
        let tries: Vec<_> = (0..40)
            .map(|i| {
                let (vault, account) = (if i % 2 == 0 { &one } else { &two }.clone(), account.clone());
                tokio::spawn(async move { claim(&vault, &account).await })
            })
            .collect();
        let mut winners = 0;
        for attempt in tries {
            winners += usize::from(matches!(attempt.await.unwrap(), Claim::Yours(_)));
        }
        assert_eq!(winners, 1);
    }

    async fn a_lease_that_ran_out_is_claimed_and_told_as_unfinished(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let lost = claimed(&vault, &account).await;
        house.clock.advance(LEASE);
        let next = claimed(&vault, &account).await;
        assert!(next.unfinished);
        let late = vault.commit(&lost.attempt, &renewed("at-late", "rt-late")).await.unwrap();
        assert_eq!(late, Committed::Superseded);
        let done = vault.commit(&next.attempt, &renewed("at-2", "rt-2")).await.unwrap();
        assert_eq!(done, Committed::Done { version: 2 });
        assert_eq!(stored(&vault, &account.id).await.0, "at-2");
    }

    async fn a_commit_that_is_tried_again_is_done_already(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let mine = claimed(&vault, &account).await;
        for _ in 0..2 {
            let done = vault.commit(&mine.attempt, &renewed("at-2", "rt-2")).await.unwrap();
            assert_eq!(done, Committed::Done { version: 2 });
        }
        assert_eq!(vault.account(&account.id).await.unwrap().unwrap().version, 2);
    }

    async fn a_reconnection_or_deletion_makes_a_running_refresh_void(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let mine = claimed(&vault, &account).await;
        vault.reconnect_account(&account.id, reconnected()).await.unwrap();
        let late = vault.commit(&mine.attempt, &renewed("at-2", "rt-2")).await.unwrap();
        assert_eq!(late, Committed::Superseded);
        assert!(!vault.fail(&mine.attempt, &failed(true, false)).await.unwrap());
        assert_eq!(stored(&vault, &account.id).await.0, "at-new");
        let account = vault.account(&account.id).await.unwrap().unwrap();
        assert!(!account.health.dead);
        let mine = claimed(&vault, &account).await;
        vault.delete_account(&account.id).await.unwrap();
        let late = vault.commit(&mine.attempt, &renewed("at-2", "rt-2")).await.unwrap();
        assert_eq!(late, Committed::Superseded);
        assert!(matches!(claim(&vault, &account).await, Claim::Gone));
    }

    async fn a_failure_frees_the_account_and_counts(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        for failures in 1..=2 {
            let mine = claimed(&vault, &account).await;
            assert!(!mine.unfinished);
            assert!(vault.fail(&mine.attempt, &failed(false, false)).await.unwrap());
            let health = vault.account(&account.id).await.unwrap().unwrap().health;
            assert_eq!((health.failures, health.dead), (failures, false));
            assert_eq!(health.error.unwrap().code, "revoked");
        }
        let mine = claimed(&vault, &account).await;
        vault.commit(&mine.attempt, &renewed("at-2", "rt-2")).await.unwrap();
        let health = vault.account(&account.id).await.unwrap().unwrap().health;
        assert_eq!((health.failures, health.error), (0, None));
        assert_eq!(health.last_refreshed_at, Some(after(10)));
    }

    async fn an_unknown_outcome_is_remembered_for_the_next_attempt(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let mine = claimed(&vault, &account).await;
        assert!(vault.fail(&mine.attempt, &failed(false, true)).await.unwrap());
        assert!(claimed(&vault, &account).await.unfinished);
    }

    async fn a_dead_account_is_claimed_by_nobody_until_it_is_connected_again(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let mine = claimed(&vault, &account).await;
        assert!(vault.fail(&mine.attempt, &failed(true, false)).await.unwrap());
        assert!(matches!(claim(&vault, &account).await, Claim::Dead));
        assert!(vault.due(after(9999), start(), NEVER, 10).await.unwrap().is_empty());
        let again = vault.reconnect_account(&account.id, reconnected()).await.unwrap().unwrap();
        assert_eq!((again.health.dead, again.health.error.clone()), (false, None));
        assert!(matches!(claim(&vault, &again).await, Claim::Yours(_)));
    }

    async fn a_lease_can_be_lengthened_by_its_holder_alone(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let mine = claimed(&vault, &account).await;
        house.clock.advance(Duration::from_secs(20));
        assert!(vault.extend(&mine.attempt, LEASE).await.unwrap());
        house.clock.advance(Duration::from_secs(20));
        assert!(matches!(claim(&vault, &account).await, Claim::Held { .. }));
        vault.fail(&mine.attempt, &failed(false, false)).await.unwrap();
        assert!(!vault.extend(&mine.attempt, LEASE).await.unwrap());
    }

    async fn a_node_that_starts_again_lets_go_of_its_own_leases(house: House) {
        let (one, two) = (house.node("node-1").await, house.node("node-2").await);
        let (mine, theirs) = (connected(&one).await, connected(&one).await);
        claimed(&one, &mine).await;
        claimed(&two, &theirs).await;
        assert_eq!(one.release_own_leases().await.unwrap(), 1);
        assert!(claimed(&one, &mine).await.unfinished);
        assert!(matches!(claim(&one, &theirs).await, Claim::Held { .. }));
    }

    async fn due_lists_what_is_used_free_and_alive_soonest_first(house: House) {
        let vault = house.open().await;
        let mut ids = Vec::new();
        for minutes in [30, 10, 20] {
            let mut new = crate::house::slack();
            new.validity.expires_at = Some(after(minutes * 60));
            new.validity.next_refresh_at = Some(after(minutes * 60 - 60));
            ids.push(vault.create_account(&new, &tokens("a", "r")).await.unwrap());
        }
        let due_or_kept = |before, used, kept| {
            let vault = vault.clone();
            async move {
                let due = vault.due(before, used, kept, 10).await.unwrap();
                due.into_iter().map(|due| due.id).collect::<Vec<_>>()
            }
        };
        let due = |before, used| due_or_kept(before, used, NEVER);
        assert_eq!(due(after(1200), start()).await, [ids[1].id.clone(), ids[2].id.clone()]);
        assert!(due(after(1200), after(1)).await.is_empty(), "nobody used them since");
        assert_eq!(due_or_kept(after(1200), after(1), after(1)).await.len(), 2, "kept alive");
        claimed(&vault, &ids[1]).await;
        assert_eq!(due(after(1200), start()).await, [ids[2].id.clone()]);
        house.clock.advance(LEASE);
        assert_eq!(due(after(1200), start()).await.len(), 2, "its lease ran out");
    }
}
