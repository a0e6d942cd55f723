//! Accounts: made, found, renamed, connected again, deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::vault::{Credentials, Error, Filter, Reconnected, Validity};

use crate::house::{House, after, connected, name, secret, slack, start, stored, tokens};

crate::on_both_engines! {
    async fn an_account_reads_back_as_it_was_stored(house: House) {
        let vault = house.open().await;
        let made = connected(&vault).await;
        let (read, _) = vault.open_account(&made.id).await.unwrap().unwrap();
        assert!(read.id.as_str().starts_with("apn_"));
        assert_eq!(read.nickname, name("slack"));
        assert_eq!(read.fields["team"], "T1");
        assert_eq!(read.scopes, ["chat:write"]);
        assert_eq!(read.identity.as_deref(), Some("U1"));
        assert_eq!((read.version, read.created_at), (1, start()));
        assert_eq!(read.health.next_refresh_at, Some(after(2700)));
        assert_eq!(read.health.last_used_at, Some(start()));
        assert_eq!(stored(&vault, &made.id).await, ("at-1".to_owned(), "rt-1".to_owned()));
    }

    async fn secrets_of_any_text_read_back(house: House) {
        let vault = house.open().await;
        let odd = "quote \" backslash \\ newline \n nul \0 é 🔑";
        let secrets = BTreeMap::from([("api_key".to_owned(), secret(odd))]);
        let keys = Credentials { secrets, tokens: None };
        let account = vault.create_account(&slack(), &keys).await.unwrap();
        let (_, read) = vault.open_account(&account.id).await.unwrap().unwrap();
        assert_eq!(read.secrets["api_key"].expose(), odd);
        assert!(read.tokens.is_none());
    }

    async fn nicknames_are_numbered_and_unique(house: House) {
        let vault = house.open().await;
        let first = connected(&vault).await;
        let second = connected(&vault).await;
        assert_eq!((first.nickname.as_str(), second.nickname.as_str()), ("slack", "slack-2"));
        let taken = vault.rename_account(&second.id, &name("slack")).await;
        assert!(matches!(taken, Err(Error::Conflict(_))));
        let disguised = vault.rename_account(&second.id, &first.id).await;
        assert!(matches!(disguised, Err(Error::Conflict(_))), "an id is nobody else's name");
        assert!(vault.rename_account(&second.id, &name("work")).await.unwrap());
        assert_eq!(vault.account(&name("work")).await.unwrap().unwrap().id, second.id);
        assert_eq!(vault.account(&second.id).await.unwrap().unwrap().nickname, name("work"));
        assert!(!vault.rename_account(&name("nobody"), &name("x")).await.unwrap());
    }

    async fn accounts_made_at_once_on_two_nodes_get_numbers_of_their_own(house: House) {
        let (one, two) = (house.node("node-1").await, house.node("node-2").await);
        let makers: Vec<_> = (0..6)
            .map(|i| {
                let vault = if i % 2 == 0 { &one } else { &two }.clone();
                tokio::spawn(async move { connected(&vault).await.nickname })
            })
            .collect();
        let mut nicknames = std::collections::BTreeSet::new();
        for maker in makers {
            nicknames.insert(maker.await.unwrap());
        }
        assert_eq!(nicknames.len(), 6);
    }

    async fn lists_show_what_the_filter_lets_through(house: House) {
        let vault = house.open().await;
        for _ in 0..5 {
            connected(&vault).await;
        }
        let all = vault.accounts(&Filter::default()).await.unwrap();
        assert_eq!(all.len(), 5);
        let some = Filter { limit: Some(2), after: Some(all[1].id.clone()), ..Filter::default() };
        let some = vault.accounts(&some).await.unwrap();
        assert_eq!(some.iter().map(|a| &a.id).collect::<Vec<_>>(), [&all[2].id, &all[3].id]);
        let app = |app: &str| Filter { app: Some(app.parse().unwrap()), ..Filter::default() };
        assert_eq!(vault.accounts(&app("slack")).await.unwrap().len(), 5);
        assert_eq!(vault.accounts(&app("github")).await.unwrap().len(), 0);
        let dead = Filter { dead: Some(true), no_external_users: true, ..Filter::default() };
        assert_eq!(vault.accounts(&dead).await.unwrap().len(), 0);
    }

    async fn a_deleted_account_is_given_back_once(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let (deleted, credentials) = vault.delete_account(&account.id).await.unwrap().unwrap();
        assert_eq!(deleted.id, account.id);
        assert_eq!(credentials.unwrap().tokens.unwrap().access.expose(), "at-1");
        assert!(vault.delete_account(&account.id).await.unwrap().is_none());
        assert!(vault.account(&account.id).await.unwrap().is_none());
    }

    async fn connecting_again_keeps_the_id_and_moves_the_version(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let with = Reconnected {
            app_override: None,
        oauth_client: None,
            fields: BTreeMap::new(),
            scopes: Vec::new(),
            identity: None,
            credentials: tokens("at-2", "rt-2"),
            validity: Validity::default(),
        };
        let again = vault.reconnect_account(&account.id, with).await.unwrap().unwrap();
        assert_eq!((again.id, again.nickname, again.version), (account.id.clone(), account.nickname, 2));
        assert_eq!(stored(&vault, &account.id).await.0, "at-2");
    }

    async fn use_is_written_down_outside_the_version_and_never_moves_back(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let id = account.id.clone();
        vault.touch(&[(id.clone(), after(60)), (name("gone"), after(60))]).await.unwrap();
        vault.touch(&[(id.clone(), after(30))]).await.unwrap();
        let read = vault.account(&id).await.unwrap().unwrap();
        assert_eq!(read.health.last_used_at, Some(after(60)));
        assert_eq!(read.version, account.version);
    }

    async fn a_store_reads_back_after_it_was_closed(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        vault.close().await;
        house.clock.advance(Duration::from_secs(5));
        let vault = house.open().await;
        assert_eq!(stored(&vault, &account.id).await.1, "rt-1");
    }
}
