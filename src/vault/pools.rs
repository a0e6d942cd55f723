//! The connections of a store, and what each is told when it is made.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor as _};

use super::error::Error;
use crate::secret::Secret;

/// The file that was opened, to notice that its name now means another one: SQLite would go on
/// writing to the one that nobody can find any more.
pub(super) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    fn of(path: PathBuf) -> std::io::Result<Self> {
        let about = path.metadata()?;
        Ok(Self { path, device: about.dev(), inode: about.ino() })
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match self.path.metadata() {
            Ok(about) if (about.dev(), about.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) => Err(Error::unavailable(
                "the database file was replaced while in use: restart to use the new one",
            )),
            Err(_) => Err(Error::unavailable(
                "the database file was moved or deleted while in use: put it back",
            )),
        }
    }
}

/// The connections of one store.
pub(super) struct Pools {
    pub(super) readers: AnyPool,
    pub(super) writer: AnyPool,
    pub(super) file: Option<DatabaseFile>,
    pub(super) postgres: Option<Secret>,
}

impl Pools {
    pub(super) async fn sqlite(path: PathBuf) -> Result<Self, sqlx::Error> {
        let url = sqlite_url(&path, "rw")?;
        // One connection writes, so that writes of this process queue up here in order instead of
        // asking SQLite again and again whether the lock is free.
        let writer = sqlite_pool(1, SQLITE_WRITER).connect(url.expose()).await?;
        let readers = sqlite_pool(READERS, SQLITE_READER).connect(url.expose()).await?;
        let file = Some(DatabaseFile::of(path)?);
        Ok(Self { readers, writer, file, postgres: None })
    }

    pub(super) async fn postgres(url: Secret) -> Result<Self, sqlx::Error> {
        let pool = pool(POSTGRES_CONNECTIONS, POSTGRES).connect(url.expose()).await?;
        Ok(Self { readers: pool.clone(), writer: pool, file: None, postgres: Some(url) })
    }
}

/// `sqlite://` and the path, escaped: `?` would begin the parameters.
pub(super) fn sqlite_url(path: &Path, mode: &str) -> Result<Secret, sqlx::Error> {
    let path = std::path::absolute(path)?;
    let text = path.to_str().ok_or_else(|| {
        sqlx::Error::Configuration("the path of the database is not UTF-8".into())
    })?;
    let escaped = percent_encoding::utf8_percent_encode(text, ESCAPED);
    Ok(format!("sqlite://{escaped}?mode={mode}").into())
}

fn sqlite_pool(connections: u32, setup: &'static str) -> AnyPoolOptions {
    // A file needs no proof that it is still there, nor fresh connections now and then.
    pool(connections, setup).test_before_acquire(false).max_lifetime(None).idle_timeout(None)
}

fn pool(connections: u32, setup: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE).after_connect(
        move |connection, _| {
            Box::pin(async move {
                for statement in setup.split(';').filter(|s| !s.trim().is_empty()) {
                    connection.execute(statement.trim()).await?;
                }
                Ok(())
            })
        },
    )
}

/// `FULL` syncs at every commit: a rotated refresh token must be on the disk before its access
/// token is used. A busy database is waited for, which other processes' short writes never
/// exhaust.
const SQLITE_WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON";
const SQLITE_READER: &str =
    "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA query_only = ON";
const POSTGRES: &str = "SET statement_timeout = '15s'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '15s'; SET synchronous_commit = on";
const READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 12;
const ACQUIRE: Duration = Duration::from_secs(10);
const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'?')
    .add(b'#')
    .add(b'%')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`');
