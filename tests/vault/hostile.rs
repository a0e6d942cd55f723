//! Somebody with the database in hand, the wrong key, or a file that is not whole.

use std::collections::BTreeMap;

use countersign::vault::{Credentials, Error, Filter, MasterKey, OpenError, Vault};
use sha2::{Digest as _, Sha256};

use crate::house::{House, connected, secret, slack, stored, tokens};

fn hash(house: &House) -> Vec<u8> {
    Sha256::digest(std::fs::read(house.file()).unwrap()).to_vec()
}

async fn sealed_error(vault: &Vault, account: &countersign::vault::Account) -> String {
    match vault.open_account(&account.id).await {
        Err(error @ Error::Sealed { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a changed row opens"),
    }
}

crate::on_both_engines! {
    async fn a_wrong_key_is_refused_in_one_sentence(house: House) {
        let vault = house.open().await;
        connected(&vault).await;
        vault.close().await;
        let before = house.is_sqlite().then(|| hash(&house));
        let wrong = MasterKey::generate().unwrap();
        let error = house.try_open(vec![wrong.clone()]).await.err().unwrap();
        let text = error.to_string();
        assert!(matches!(error, OpenError::WrongKey { .. }));
        assert!(text.contains(&wrong.id().to_string()) && !text.contains('\n'), "{text}");
        assert!(matches!(house.try_open(Vec::new()).await, Err(OpenError::NoKey)));
        assert_eq!(before, house.is_sqlite().then(|| hash(&house)), "no byte was written");
        house.open().await;
    }

    async fn a_changed_moved_or_old_ciphertext_is_refused_and_others_work(house: House) {
        let vault = house.open().await;
        let good = connected(&vault).await;
        let set = |what: &str, id: &str| format!("UPDATE account SET {what} WHERE id = '{id}'");
        let of = |id: &str| format!("(SELECT credentials FROM account WHERE id = '{id}')");
        let swapped = connected(&vault).await;
        house.tamper(&set(&format!("credentials = {}", of(good.id.as_str())), swapped.id.as_str())).await;
        let versioned = connected(&vault).await;
        house.tamper(&set("version = 7", versioned.id.as_str())).await;
        let emptied = connected(&vault).await;
        let zero = if house.is_sqlite() { "x''" } else { "''::bytea" };
        house.tamper(&set(&format!("credentials = {zero}"), emptied.id.as_str())).await;
        for bad in [&swapped, &versioned, &emptied] {
            let text = sealed_error(&vault, bad).await;
            assert!(text.contains(bad.id.as_str()), "the row is named: {text}");
        }
        assert_eq!(stored(&vault, &good.id).await.0, "at-1");
        assert_eq!(vault.accounts(&Filter::default()).await.unwrap().len(), 4, "all are listed");
        let (_, credentials) = vault.delete_account(&swapped.id).await.unwrap().unwrap();
        assert!(credentials.is_none(), "and can be deleted");
    }

    async fn a_schema_of_a_newer_version_is_refused(house: House) {
        house.open().await;
        house.tamper("UPDATE schema_version SET version = 99").await;
        let error = house.try_open(vec![house.key.clone()]).await.err().unwrap();
        assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    }

    async fn somebody_elses_database_is_left_alone(house: House) {
        if house.is_sqlite() {
            std::fs::write(house.file(), b"").unwrap();
            std::fs::remove_file(house.file()).unwrap();
            let url = format!("sqlite://{}?mode=rwc", house.file().display());
            sqlx::any::install_default_drivers();
            let pool = sqlx::AnyPool::connect(&url).await.unwrap();
            sqlx::query("CREATE TABLE theirs (a TEXT)").execute(&pool).await.unwrap();
            pool.close().await;
        } else {
            house.tamper("CREATE TABLE theirs (a TEXT)").await;
        }
        let error = house.try_open(vec![house.key.clone()]).await.err().unwrap();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    }

    async fn two_processes_that_start_together_make_one_store(house: House) {
        let opens: Vec<_> = (0..6).map(|i| {
            let settings = house.settings(&format!("node-{i}"));
            tokio::spawn(async move { Vault::open(settings).await.unwrap() })
        }).collect();
        let mut vaults = Vec::new();
        for open in opens {
            vaults.push(open.await.unwrap());
        }
        let account = connected(&vaults[0]).await;
        for vault in &vaults {
            assert_eq!(stored(vault, &account.id).await.0, "at-1");
        }
    }

    async fn odd_text_reaches_the_store_as_text(house: House) {
        let vault = house.open().await;
        let mut new = slack();
        let odd = "'; DROP TABLE account; -- \" é";
        new.identity = Some(odd.to_owned());
        new.fields = BTreeMap::from([(odd.to_owned(), odd.to_owned())]);
        new.scopes = vec![odd.to_owned(), "a,b".to_owned()];
        let account = vault.create_account(&new, &tokens("a", "r")).await.unwrap();
        let read = vault.account(&account.id).await.unwrap().unwrap();
        assert_eq!(read.identity.as_deref(), Some(odd));
        assert_eq!((read.fields, read.scopes), (new.fields, new.scopes));
    }
}

#[tokio::test]
async fn no_file_holds_a_secret_in_the_clear() {
    let house = House::sqlite();
    let vault = house.open().await;
    let sentinel = "sentinel-5f2a9c";
    let keys = BTreeMap::from([("api_key".to_owned(), secret(sentinel))]);
    let mut credentials = tokens(sentinel, sentinel);
    credentials.secrets = keys;
    let account = vault.create_account(&slack(), &credentials).await.unwrap();
    vault.set_sealed_item("ca", &secret(sentinel)).await.unwrap();
    vault.backup(&house.folder.path().join("backup")).await.unwrap();
    vault.delete_account(&account.id).await.unwrap();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sentinel);
    let hex = countersign::secret::hex(sentinel.as_bytes());
    let mut files = 0;
    for entry in house.folder.path().read_dir().unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for form in [sentinel, &base64[..base64.len() - 4], &hex] {
            let found = bytes.windows(form.len()).any(|part| part == form.as_bytes());
            assert!(!found, "{form}");
        }
        files += 1;
    }
    assert!(files >= 3, "database, WAL and backup were searched");
}

#[tokio::test]
async fn a_file_that_is_not_whole_is_refused_and_left_as_it_is() {
    let house = House::sqlite();
    let vault = house.open().await;
    for _ in 0..50 {
        let keys = BTreeMap::from([("api_key".to_owned(), secret(&"k".repeat(2000)))]);
        let credentials = Credentials { secrets: keys, tokens: None };
        vault.create_account(&slack(), &credentials).await.unwrap();
    }
    vault.close().await;
    let whole = std::fs::read(house.file()).unwrap();
    let mut garbage = whole.clone();
    let middle = whole.len() / 2;
    garbage[middle..middle + 4096].fill(0xa5);
    for (name, bytes) in [
        ("half", whole[..whole.len() / 2].to_vec()),
        ("a page", whole[..4096].to_vec()),
        ("nothing", Vec::new()),
        ("text", b"not a database".repeat(400)),
        ("garbage", garbage),
    ] {
        std::fs::write(house.file(), &bytes).unwrap();
        let error = house.try_open(vec![house.key.clone()]).await.err().expect(name);
        let told = matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. });
        assert!(told, "{name}: {error}");
        assert_eq!(std::fs::read(house.file()).unwrap(), bytes, "{name} is left as it is");
    }
    std::fs::write(house.file(), &whole).unwrap();
    house.open().await;
}
