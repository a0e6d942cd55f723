//! A store of each test's own, on the engine that the test runs on.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign::clock::Clock;
use countersign::ids::AccountId;
use countersign::secret::Secret;
use countersign::vault::{
    Account, Credentials, Location, MasterKey, NewAccount, OpenError, Owner, Settings, Tokens,
    Validity, Vault,
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

/// One test, written once, as two: `sqlite::name` and `postgres::name`.
#[macro_export]
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($house:ident: House) $body:block)*) => {
        mod journey {
            use super::*;
            $($(#[$meta])* pub(super) async fn $name($house: House) $body)*
        }
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { Box::pin(journey::$name(House::sqlite())).await; })*
        }
        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(house) = House::postgres().await {
                    Box::pin(journey::$name(house)).await;
                }
            })*
        }
    };
}

/// A place for a store, its key and its clock.
pub struct House {
    pub folder: tempfile::TempDir,
    pub key: MasterKey,
    pub clock: Clock,
    postgres: Option<Secret>,
    file: std::path::PathBuf,
}

impl House {
    pub fn sqlite() -> Self {
        Self::with(None)
    }

    pub async fn postgres() -> Option<Self> {
        let url = crate::postgres::server()?.database().await;
        Some(Self::with(Some(url)))
    }

    fn with(postgres: Option<Secret>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::generate().unwrap();
        let clock = Clock::manual(start());
        let file = folder.path().join("countersign.db");
        Self { folder, key, clock, postgres, file }
    }

    /// Moves the database to another place, before it is opened.
    pub fn at(&mut self, file: std::path::PathBuf) {
        self.file = file;
    }

    pub fn is_sqlite(&self) -> bool {
        self.postgres.is_none()
    }

    pub fn file(&self) -> std::path::PathBuf {
        self.file.clone()
    }

    pub fn location(&self) -> Location {
        match &self.postgres {
            Some(url) => Location::Postgres(url.clone()),
            None => Location::Sqlite(self.file()),
        }
    }

    pub fn settings(&self, node: &str) -> Settings {
        Settings {
            location: self.location(),
            keys: vec![self.key.clone()],
            node: node.to_owned(),
            clock: self.clock.clone(),
        }
    }

    pub async fn open(&self) -> Vault {
        self.node("node-1").await
    }

    /// The same store as another process sees it.
    pub async fn node(&self, name: &str) -> Vault {
        Vault::open(self.settings(name)).await.unwrap()
    }

    pub async fn try_open(&self, keys: Vec<MasterKey>) -> Result<Vault, OpenError> {
        Vault::open(Settings { keys, ..self.settings("node-1") }).await
    }

    /// What somebody with the database in hand does to it.
    pub async fn tamper(&self, statement: &str) {
        sqlx::any::install_default_drivers();
        let url = match &self.postgres {
            Some(url) => url.expose().to_owned(),
            None => format!("sqlite://{}?mode=rw", self.file().display()),
        };
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        let text = AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// When every test's clock begins.
pub fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub fn after(seconds: u64) -> SystemTime {
    start() + Duration::from_secs(seconds)
}

pub fn secret(text: &str) -> Secret {
    text.to_owned().into()
}

pub fn name(text: &str) -> AccountId {
    text.parse().unwrap()
}

pub fn slack() -> NewAccount {
    NewAccount {
        nickname: None,
        app: "slack".parse().unwrap(),
        auth: "oauth".to_owned(),
        owner: Owner::Workspace,
        app_override: None,
        oauth_client: None,
        fields: BTreeMap::from([("team".to_owned(), "T1".to_owned())]),
        scopes: vec!["chat:write".to_owned()],
        identity: Some("U1".to_owned()),
        validity: Validity {
            obtained_at: Some(start()),
            expires_at: Some(after(3600)),
            refresh_expires_at: None,
            next_refresh_at: Some(after(2700)),
        },
    }
}

pub fn tokens(access: &str, refresh: &str) -> Credentials {
    let tokens = Tokens { access: secret(access), refresh: Some(secret(refresh)) };
    Credentials { secrets: BTreeMap::new(), tokens: Some(tokens) }
}

/// The tokens that the store has for an account.
pub async fn stored(vault: &Vault, id: &AccountId) -> (String, String) {
    let (_, credentials) = vault.open_account(id).await.unwrap().unwrap();
    let tokens = credentials.tokens.unwrap();
    (tokens.access.expose().to_owned(), tokens.refresh.unwrap().expose().to_owned())
}

pub async fn connected(vault: &Vault) -> Account {
    vault.create_account(&slack(), &tokens("at-1", "rt-1")).await.unwrap()
}
