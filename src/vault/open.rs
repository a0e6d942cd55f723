//! Opening a store: what is there is looked at and the key proved before anything is written.
//!
//! A new SQLite file is made under another name and linked into place when it is complete, so a
//! file without our tables is never one of ours that a crash left half made: it is refused, and
//! so is one that is damaged. Nothing is ever "mended" by beginning anew.

use std::path::{Path, PathBuf};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};

use super::backup::Backup;
use super::error::Error;
use super::key::KeyId;
use super::pools::{Pools, sqlite_url};
use super::seal::{Keys, Place};
use super::store::{Engine, ms, sql};
use crate::clock::Clock;
use crate::secret::Secret;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("no master key is given")]
    NoKey,
    #[error(
        "the master key does not fit this database: it was made with key {needed}, and key \
         {given} is given; nothing was changed"
    )]
    WrongKey { needed: String, given: String },
    #[error(
        "the database also holds records of master key {id}, which is not given: add it to the \
         keys until `countersign keys rotate` has finished"
    )]
    MissingKey { id: String },
    #[error(
        "the database was written by a newer version (schema {found}, this one knows {known}): \
         run that version, or restore a backup made before the upgrade"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "{place} is damaged ({what}): restore a backup with `countersign restore`; it was left as \
         it is"
    )]
    Damaged { place: String, what: String },
    #[error(
        "{place} is not a countersign database: name another place, or move it away to begin anew"
    )]
    Foreign { place: String },
    #[error("{place} cannot be opened: {source}")]
    Failed { place: String, source: Error },
}

/// Where the store is.
#[derive(Clone)]
pub enum Location {
    /// A file; its folder must exist.
    Sqlite(PathBuf),
    /// A URL, secret because it may hold the password.
    Postgres(Secret),
}

impl Location {
    /// How messages call it: never with a password.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(_) => "the PostgreSQL database".to_owned(),
        }
    }
}

/// What a store says of itself.
struct Found {
    version: i64,
    keys: Vec<(String, Vec<u8>)>,
    /// Somebody's tables, where ours are missing.
    foreign: bool,
}

/// What opening is about.
pub(super) struct Opening<'a> {
    pub(super) place: String,
    pub(super) keys: &'a Keys,
    pub(super) clock: &'a Clock,
    /// What a new store is to be filled with; an old one is then refused.
    pub(super) backup: Option<&'a Backup>,
}

impl Opening<'_> {
    pub(super) async fn open(&self, location: &Location) -> Result<(Engine, Pools), OpenError> {
        sqlx::any::install_default_drivers();
        match location {
            Location::Sqlite(path) => Ok((Engine::Sqlite, self.sqlite(path).await?)),
            Location::Postgres(url) => Ok((Engine::Postgres, self.postgres(url).await?)),
        }
    }

    async fn sqlite(&self, path: &Path) -> Result<Pools, OpenError> {
        if !path.try_exists().map_err(|e| self.failed(sqlx::Error::Io(e)))? {
            self.create_sqlite(path).await?;
        } else if self.backup.is_some() {
            return Err(OpenError::Foreign { place: self.place.clone() });
        }
        let found = self.probe_sqlite(path).await?;
        self.accept(&found)?;
        let pools = Pools::sqlite(path.to_owned()).await.map_err(|e| self.failed(e))?;
        if !self.is_current(&found) {
            let mut connection = pools.writer.acquire().await.map_err(|e| self.failed(e))?;
            self.migrate(Engine::Sqlite, &mut connection).await?;
        }
        Ok(pools)
    }

    async fn postgres(&self, url: &Secret) -> Result<Pools, OpenError> {
        let mut connection =
            AnyConnection::connect(url.expose()).await.map_err(|e| self.failed(e))?;
        let found = self.inspect(Engine::Postgres, &mut connection).await?;
        if self.backup.is_some() && found.version > 0 {
            return Err(OpenError::Foreign { place: self.place.clone() });
        }
        self.accept(&found)?;
        if !self.is_current(&found) {
            self.migrate(Engine::Postgres, &mut connection).await?;
        }
        // What follows has connections of its own.
        let _ = connection.close().await;
        Pools::postgres(url.clone()).await.map_err(|e| self.failed(e))
    }

    /// Of two processes that make it at the same time one wins; the other opens the winner's.
    async fn create_sqlite(&self, path: &Path) -> Result<(), OpenError> {
        let io = |error| self.failed(sqlx::Error::Io(error));
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(io)?;
        let url = sqlite_url(file.path(), "rw").map_err(|e| self.failed(e))?;
        let mut connection =
            AnyConnection::connect(url.expose()).await.map_err(|e| self.failed(e))?;
        self.migrate(Engine::Sqlite, &mut connection).await?;
        connection.close().await.map_err(|e| self.failed(e))?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(io(error.error)),
        }
    }

    /// Looks at the file through a connection that cannot write.
    async fn probe_sqlite(&self, path: &Path) -> Result<Found, OpenError> {
        if path.metadata().is_ok_and(|about| about.len() == 0) {
            return Err(self.damaged("it is empty"));
        }
        let url = sqlite_url(path, "ro").map_err(|e| self.failed(e))?;
        let mut connection =
            AnyConnection::connect(url.expose()).await.map_err(|e| self.failed(e))?;
        let row = connection.fetch_one(sql("PRAGMA quick_check(1)")).await;
        let verdict: String = row.and_then(|row| row.try_get(0)).map_err(|e| self.failed(e))?;
        if verdict != "ok" {
            return Err(self.damaged(&verdict));
        }
        let found = self.inspect(Engine::Sqlite, &mut connection).await?;
        let _ = connection.close().await;
        Ok(Found { foreign: found.version == 0, ..found })
    }

    async fn inspect(
        &self,
        engine: Engine,
        connection: &mut AnyConnection,
    ) -> Result<Found, OpenError> {
        let tables = match engine {
            Engine::Sqlite => {
                "SELECT CAST(name AS TEXT) AS name FROM sqlite_master WHERE type = 'table'"
            }
            Engine::Postgres => {
                "SELECT CAST(table_name AS TEXT) AS name FROM information_schema.tables \
                 WHERE table_schema = current_schema()"
            }
        };
        let rows = connection.fetch_all(sql(tables)).await.map_err(|e| self.failed(e))?;
        let names: Vec<String> = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(|e| self.failed(e))?;
        if !names.iter().any(|name| name == "schema_version") {
            return Ok(Found { version: 0, keys: Vec::new(), foreign: !names.is_empty() });
        }
        let version = self.version(connection).await?;
        // What a newer version calls its keys is not known here.
        let keys = if version > LATEST { Vec::new() } else { self.key_rows(connection).await? };
        Ok(Found { version, keys, foreign: false })
    }

    async fn version(&self, connection: &mut AnyConnection) -> Result<i64, OpenError> {
        let row = connection
            .fetch_optional(sql("SELECT version FROM schema_version"))
            .await
            .map_err(|e| self.failed(e))?;
        let row = row.ok_or_else(|| self.damaged("it does not say its version"))?;
        row.try_get(0).map_err(|e| self.failed(e))
    }

    async fn key_rows(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<Vec<(String, Vec<u8>)>, OpenError> {
        let pair = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?));
        let rows = connection
            .fetch_all(sql("SELECT id, sealed FROM master_key ORDER BY created_at, id"))
            .await
            .map_err(|e| self.failed(e))?;
        rows.iter().map(pair).collect::<Result<_, sqlx::Error>>().map_err(|e| self.failed(e))
    }

    /// Whether this program, with these keys, may use what it found.
    fn accept(&self, found: &Found) -> Result<(), OpenError> {
        if found.foreign {
            return Err(OpenError::Foreign { place: self.place.clone() });
        }
        if found.version > LATEST {
            return Err(OpenError::Newer { found: found.version, known: LATEST });
        }
        if found.version > 0 && found.keys.is_empty() {
            return Err(self.damaged("it does not name its master key"));
        }
        self.accept_keys(&found.keys)
    }

    fn accept_keys(&self, listed: &[(String, Vec<u8>)]) -> Result<(), OpenError> {
        let opens = |(id, sealed): &&(String, Vec<u8>)| {
            self.keys.open(key_place(id), sealed).is_ok_and(|text| text.as_slice() == PROOF)
        };
        let unknown = listed.iter().find(|row| !opens(row));
        match unknown {
            None => Ok(()),
            Some((id, _)) if listed.iter().any(|row| opens(&row)) => {
                Err(OpenError::MissingKey { id: id.clone() })
            }
            Some((id, _)) => Err(OpenError::WrongKey {
                needed: id.clone(),
                given: self.keys.active().id().to_string(),
            }),
        }
    }

    fn is_current(&self, found: &Found) -> bool {
        let active = self.keys.active().id().to_string();
        found.version == LATEST && found.keys.iter().any(|(id, _)| *id == active)
    }

    /// In one transaction, which waits for another process's and then finds its work done.
    async fn migrate(
        &self,
        engine: Engine,
        connection: &mut AnyConnection,
    ) -> Result<(), OpenError> {
        let begin = match engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN",
        };
        let mut tx = connection.begin_with(begin).await.map_err(|e| self.failed(e))?;
        if engine == Engine::Postgres {
            let lock = format!("DO $$ BEGIN PERFORM pg_advisory_xact_lock({ADVISORY}); END $$");
            tx.execute(sqlx::raw_sql(AssertSqlSafe(lock))).await.map_err(|e| self.failed(e))?;
        }
        let found = self.inspect(engine, &mut tx).await?;
        self.accept(&found)?;
        let listed = match self.backup.filter(|_| found.version == 0) {
            Some(backup) => self.fill(engine, &mut tx, backup).await?,
            None => found.keys,
        };
        let filled = self.backup.map_or(0, |backup| backup.schema);
        let version = found.version.max(filled);
        self.upgrade(engine, &mut tx, version, LATEST).await.map_err(|e| self.failed(e))?;
        let active = self.keys.active().id();
        if !listed.iter().any(|(id, _)| *id == active.to_string()) {
            self.list_key(&mut tx, active).await?;
        }
        tx.commit().await.map_err(|e| self.failed(e))
    }

    /// The keys are proved before the transaction ends, so a backup that they do not fit leaves
    /// nothing behind.
    async fn fill(
        &self,
        engine: Engine,
        tx: &mut AnyConnection,
        backup: &Backup,
    ) -> Result<Vec<(String, Vec<u8>)>, OpenError> {
        self.upgrade(engine, tx, 0, backup.schema).await.map_err(|e| self.failed(e))?;
        backup.pour(tx).await.map_err(|e| self.failed(e))?;
        let listed = self.key_rows(tx).await?;
        if listed.is_empty() {
            return Err(self.damaged("it does not name its master key"));
        }
        self.accept_keys(&listed)?;
        Ok(listed)
    }

    async fn upgrade(
        &self,
        engine: Engine,
        tx: &mut AnyConnection,
        from: i64,
        to: i64,
    ) -> Result<(), sqlx::Error> {
        if from == 0 {
            let create = "CREATE TABLE schema_version (version BIGINT NOT NULL); \
                          INSERT INTO schema_version (version) VALUES (0)";
            tx.execute(sqlx::raw_sql(create)).await?;
        }
        let place = |version: i64| usize::try_from(version).unwrap_or(0);
        for migration in MIGRATIONS.iter().take(place(to)).skip(place(from)) {
            let text = migration.replace("BYTES", bytes_type(engine));
            tx.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
        }
        tx.execute(sql("UPDATE schema_version SET version = $1").bind(to)).await.map(|_| ())
    }

    async fn list_key(&self, tx: &mut AnyConnection, id: KeyId) -> Result<(), OpenError> {
        let id = id.to_string();
        let sealed = self
            .keys
            .seal(key_place(&id), PROOF)
            .map_err(|source| self.because(super::store::not_opened(key_place(&id), source)))?;
        let insert = "INSERT INTO master_key (id, sealed, created_at) VALUES ($1, $2, $3)";
        let query = sql(insert).bind(id).bind(sealed).bind(ms(self.clock.now()));
        tx.execute(query).await.map(|_| ()).map_err(|e| self.failed(e))
    }

    fn damaged(&self, what: &str) -> OpenError {
        OpenError::Damaged { place: self.place.clone(), what: what.to_owned() }
    }

    fn failed(&self, error: sqlx::Error) -> OpenError {
        let code = error.as_database_error().and_then(|e| e.code().map(|c| c.into_owned()));
        match code.as_deref() {
            // SQLITE_CORRUPT and SQLITE_NOTADB, with their extended forms.
            Some("11" | "267" | "523" | "779") => self.damaged("a page of it is malformed"),
            Some("26") => OpenError::Foreign { place: self.place.clone() },
            _ => self.because(error.into()),
        }
    }

    fn because(&self, source: Error) -> OpenError {
        OpenError::Failed { place: self.place.clone(), source }
    }
}

/// The row that proves a master key: it opens with that key and with no other.
fn key_place(id: &str) -> Place<'_> {
    Place { table: "master_key", row: id, column: "sealed", version: 0 }
}

fn bytes_type(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "BLOB",
        Engine::Postgres => "BYTEA",
    }
}

/// Each brings the schema to the version of its place in this list.
const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
];
pub(super) const LATEST: i64 = MIGRATIONS.len() as i64;
const PROOF: &[u8] = b"countersign";
/// Any number that nobody else in this database locks: "countersi" in ASCII, cut.
const ADVISORY: i64 = 0x636f_756e_7465_7273;
