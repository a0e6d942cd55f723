//! A new master key, and copies of the store.

use std::collections::BTreeMap;

use countersign::secret::TokenDigest;
use countersign::vault::{
    BackupError, Error, Location, MasterKey, OpenError, PendingFlow, Settings, Vault,
};

use crate::house::{House, after, connected, secret, stored};

fn key() -> MasterKey {
    MasterKey::generate().unwrap()
}

/// The same store as a node sees it that was given these keys.
async fn with(house: &House, keys: &[&MasterKey]) -> Result<Vault, OpenError> {
    house.try_open(keys.iter().map(|key| (*key).clone()).collect()).await
}

crate::on_both_engines! {
    async fn keys_rotate_while_old_and_new_nodes_work(house: House) {
        let (old, new) = (house.key.clone(), key());
        let before = house.open().await;
        let mut accounts = Vec::new();
        for _ in 0..250 {
            accounts.push(connected(&before).await.id);
        }
        before.set_sealed_item("ca", &secret("pem")).await.unwrap();
        let flow = PendingFlow {
            details: "{}".to_owned(),
            secrets: BTreeMap::from([("verifier".to_owned(), secret("v"))]),
            expires_at: after(60),
        };
        let state = TokenDigest::of(b"state");
        before.begin_flow(state, &flow).await.unwrap();

        let between = with(&house, &[&new, &old]).await.unwrap();
        accounts.push(connected(&before).await.id);
        let mut steps = Vec::new();
        let done = between.rotate_keys(|progress| steps.push(progress.done)).await.unwrap();
        assert_eq!((done.done, done.failed), (253, 0));
        assert!(steps.len() > 3 && steps.is_sorted(), "{steps:?}");

        let refused = before.set_sealed_item("late", &secret("x")).await;
        assert!(matches!(refused, Err(Error::KeyRetired)), "the old key seals no more");
        assert!(matches!(with(&house, &[&old]).await, Err(OpenError::WrongKey { .. })));
        let only_new = with(&house, &[&new]).await.unwrap();
        for id in &accounts {
            assert_eq!(stored(&only_new, id).await.1, "rt-1");
        }
        assert_eq!(only_new.sealed_item("ca").await.unwrap().unwrap().expose(), "pem");
        let flow = only_new.take_flow(state).await.unwrap().unwrap();
        assert_eq!(flow.secrets["verifier"].expose(), "v");
        assert_eq!(between.rotate_keys(|_| ()).await.unwrap().done, 0, "again does nothing");
    }

    async fn a_node_without_a_key_in_use_is_told_which_one_is_missing(house: House) {
        let (old, new) = (house.key.clone(), key());
        house.open().await;
        with(&house, &[&new, &old]).await.unwrap();
        let error = with(&house, &[&old]).await.err();
        let Some(OpenError::MissingKey { id }) = error else { panic!("the new key is missing") };
        assert_eq!(id, new.id().to_string());
    }

    async fn a_record_that_does_not_open_keeps_the_old_key_listed(house: House) {
        let (old, new) = (house.key.clone(), key());
        let vault = house.open().await;
        let (good, bad) = (connected(&vault).await, connected(&vault).await);
        let id = &bad.id;
        house.tamper(&format!("UPDATE account SET version = version + 1 WHERE id = '{id}'")).await;
        let between = with(&house, &[&new, &old]).await.unwrap();
        let progress = between.rotate_keys(|_| ()).await.unwrap();
        assert_eq!((progress.done, progress.failed), (1, 1));
        assert_eq!(stored(&between, &good.id).await.0, "at-1");
        assert!(matches!(with(&house, &[&new]).await, Err(OpenError::MissingKey { .. })));
    }

    async fn a_backup_restores_into_either_engine(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await;
        let caller = "flow-1".parse().unwrap();
        vault.create_caller(&caller, &Default::default(), None).await.unwrap();
        vault.bind(&caller, &account.id, true, &["/a".to_owned()], None).await.unwrap();
        vault.set_sealed_item("ca", &secret("pem")).await.unwrap();
        let path = house.folder.path().join("backup");
        assert_eq!(vault.backup(&path).await.unwrap(), 5);
        assert!(matches!(vault.backup(&path).await, Err(BackupError::Exists { .. })));

        let mut targets = vec![Location::Sqlite(house.folder.path().join("restored.db"))];
        if let Some(server) = crate::postgres::server() {
            targets.push(Location::Postgres(server.database().await));
        }
        for location in targets {
            let into = |key: &MasterKey| Settings {
                location: location.clone(),
                keys: vec![key.clone()],
                ..house.settings("node-2")
            };
            let wrong = Vault::restore(&path, into(&key())).await.err().unwrap();
            assert!(matches!(wrong, BackupError::Open(OpenError::WrongKey { .. })), "{wrong}");
            let restored = Vault::restore(&path, into(&house.key)).await.unwrap();
            assert_eq!(stored(&restored, &account.id).await.1, "rt-1");
            assert_eq!(restored.bindings().await.unwrap(), vault.bindings().await.unwrap());
            assert_eq!(restored.sealed_item("ca").await.unwrap().unwrap().expose(), "pem");
            let again = Vault::restore(&path, into(&house.key)).await.err().unwrap();
            assert!(matches!(again, BackupError::NotEmpty { .. }), "{again}");
        }
    }

    async fn a_backup_that_is_cut_or_changed_is_refused_as_a_whole(house: House) {
        let vault = house.open().await;
        connected(&vault).await;
        let path = house.folder.path().join("backup");
        vault.backup(&path).await.unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        assert!(!whole.contains("rt-1"), "it is still sealed");
        let without_a_row: Vec<_> = whole.lines().enumerate().filter(|(i, _)| *i != 1).collect();
        let without_a_row: String = without_a_row.iter().map(|(_, l)| format!("{l}\n")).collect();
        let cases = [
            String::new(),
            whole[..whole.len() / 2].to_owned(),
            whole.replacen("slack", "slick", 1),
            without_a_row,
        ];
        for (i, bad) in cases.iter().enumerate() {
            std::fs::write(&path, bad).unwrap();
            let location = Location::Sqlite(house.folder.path().join("never.db"));
            let into = Settings { location, ..house.settings("node-1") };
            let error = Vault::restore(&path, into).await.err().unwrap();
            assert!(matches!(error, BackupError::Damaged { .. }), "case {i}: {error}");
            assert!(!house.folder.path().join("never.db").exists());
        }
    }
}
