//! One database behind both engines: its connections, its transactions, and what each tells others.
//!
//! Every write is one transaction that ends by counting up the revision and listing what changed
//! ([`super::changes`]). On SQLite one task does all writes of this process and puts those that
//! wait at the same time into one transaction with a savepoint each: they share one sync of the
//! disk. On PostgreSQL each write is a transaction of its own. A write runs in a task of its own,
//! so that whoever asked for it may go away without leaving half of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use sqlx::any::AnyArguments;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Executor as _};
use tokio::sync::{mpsc, oneshot, watch};

use super::changes::Noted;
use super::error::Error;
use super::pools::{DatabaseFile, Pools};
use super::row::Row;
use super::seal::{Keys, Place, key_of};
use crate::clock::Clock;
use crate::secret::Secret;

/// What a statement is bound to.
pub(super) type Sql = Query<'static, Any, AnyArguments>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

/// Shared by all clones of a vault.
pub(super) struct Store {
    pub(super) engine: Engine,
    keys: ArcSwap<Keys>,
    pub(super) node: String,
    pub(super) clock: Clock,
    /// For the connection that listens; only on PostgreSQL.
    pub(super) postgres: Option<Secret>,
    pub(super) readers: AnyPool,
    queue: Option<mpsc::Sender<Job>>,
    writers: Arc<Writers>,
}

/// What a transaction needs that outlives the one who asked for it.
struct Writers {
    engine: Engine,
    pool: AnyPool,
    clock: Clock,
    file: Option<DatabaseFile>,
    /// Counts committed transactions, to wake this process's own feeds at once.
    committed: watch::Sender<u64>,
}

/// A transaction under way, and what it will tell others.
pub(super) struct Tx {
    engine: Engine,
    /// Not sqlx's own transaction: SQLite ends one by itself when the disk is full, and sqlx then
    /// believes for ever that it is still open. `None` once the connection was thrown away.
    connection: Option<PoolConnection<Any>>,
    changes: Vec<Noted>,
    /// The master keys under which it wrote something; a rotation elsewhere may have retired them.
    sealed: Vec<String>,
    /// The transaction cannot go on.
    broken: Option<Error>,
}

/// A write that waits for its turn: it is given a transaction, or the reason why there is none.
type Job = Box<dyn for<'c> FnOnce(Result<&'c mut Tx, Error>) -> BoxFuture<'c, Outcome> + Send>;

/// What became of a write before its transaction ended.
struct Outcome {
    worked: bool,
    answer: Answer,
}

/// Tells the one who waits, once it is known how the transaction ended.
type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl Store {
    pub(super) fn new(
        engine: Engine,
        pools: Pools,
        keys: Keys,
        node: String,
        clock: Clock,
    ) -> Self {
        let writers = Arc::new(Writers {
            engine,
            pool: pools.writer,
            clock: clock.clone(),
            file: pools.file,
            committed: watch::Sender::new(0),
        });
        let queue = (engine == Engine::Sqlite).then(|| spawn_writer(Arc::clone(&writers)));
        let (readers, postgres) = (pools.readers, pools.postgres);
        let keys = ArcSwap::from_pointee(keys);
        Self { engine, keys, node, clock, postgres, readers, queue, writers }
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writers.pool.close().await;
    }

    pub(super) fn committed(&self) -> watch::Receiver<u64> {
        self.writers.committed.subscribe()
    }

    /// Runs `work` in a transaction. It is durable when this returns `Ok`.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            Box::pin(async move {
                let result = match tx {
                    Ok(tx) => work(tx).await,
                    Err(refusal) => Err(refusal),
                };
                let worked = result.is_ok();
                let answer = Box::new(move |ended: Result<(), Error>| {
                    // Nobody may be waiting any more; the write stands all the same.
                    let _ = send.send(result.and_then(|value| ended.map(|()| value)));
                });
                Outcome { worked, answer }
            })
        });
        self.submit(job).await?;
        receive.await.unwrap_or_else(|_| Err(Error::unavailable("it was closed")))
    }

    async fn submit(&self, job: Job) -> Result<(), Error> {
        match &self.queue {
            Some(queue) => queue.send(job).await.map_err(|_| Error::unavailable("it was closed")),
            None => {
                let writers = Arc::clone(&self.writers);
                tokio::spawn(async move { writers.run(vec![job]).await });
                Ok(())
            }
        }
    }

    pub(super) async fn all(&self, sql: Sql) -> Result<Vec<Row>, Error> {
        self.check_file()?;
        Ok(self.readers.fetch_all(sql).await?.into_iter().map(Row::from).collect())
    }

    pub(super) async fn one(&self, sql: Sql) -> Result<Option<Row>, Error> {
        self.check_file()?;
        Ok(self.readers.fetch_optional(sql).await?.map(Row::from))
    }

    /// One statement as a transaction: how many rows it touched, and told only if it was any.
    pub(super) async fn change(&self, told: Option<Noted>, sql: Sql) -> Result<u64, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                let touched = tx.run(sql).await?;
                if let Some(change) = told.filter(|_| touched > 0) {
                    tx.note(change);
                }
                Ok(touched)
            })
        })
        .await
    }

    /// The same for a statement that writes something sealed.
    pub(super) async fn change_sealed(
        &self,
        told: Option<Noted>,
        key: Option<String>,
        sql: Sql,
    ) -> Result<u64, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                key.iter().for_each(|key| tx.seals(key));
                tx.note_if(told);
                tx.run(sql).await
            })
        })
        .await
    }

    fn check_file(&self) -> Result<(), Error> {
        self.writers.file.as_ref().map_or(Ok(()), DatabaseFile::check)
    }

    pub(super) fn now(&self) -> i64 {
        ms(self.clock.now())
    }

    /// The time for leases: `None` stands for the database's own clock, which is the one that
    /// several nodes share. SQLite's is this machine's, and a test's clock must count everywhere.
    pub(super) fn lease_now(&self) -> Option<i64> {
        match (self.engine, &self.clock) {
            (Engine::Postgres, Clock::System) => None,
            _ => Some(self.now()),
        }
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    pub(super) fn use_keys(&self, keys: Keys) {
        self.keys.store(Arc::new(keys));
    }

    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Plain, Error> {
        self.keys().open(place, sealed).map_err(|source| not_opened(place, source))
    }

    pub(super) fn seal(&self, place: Place<'_>, secrets: &[u8]) -> Result<SealedValue, Error> {
        let keys = self.keys();
        let bytes = keys.seal(place, secrets).map_err(|source| not_opened(place, source))?;
        Ok(SealedValue { bytes, key: keys.active().id().to_string() })
    }
}

/// Secrets in the clear, wiped when dropped.
pub(super) type Plain = zeroize::Zeroizing<Vec<u8>>;

/// A ciphertext and the id of the master key it needs, as two columns hold them.
#[derive(Clone)]
pub(super) struct SealedValue {
    pub(super) bytes: Vec<u8>,
    pub(super) key: String,
}

impl SealedValue {
    pub(super) fn of(bytes: Vec<u8>) -> Option<Self> {
        let key = key_of(&bytes).ok()?.to_string();
        Some(Self { bytes, key })
    }
}

pub(super) fn not_opened(place: Place<'_>, source: super::seal::SealError) -> Error {
    Error::Sealed { table: place.table, row: place.row.to_owned(), source }
}

/// Ends when the last handle of the vault is gone.
fn spawn_writer(writers: Arc<Writers>) -> mpsc::Sender<Job> {
    let (send, mut receive) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut jobs = Vec::with_capacity(GROUP);
        while receive.recv_many(&mut jobs, GROUP).await > 0 {
            writers.run(std::mem::take(&mut jobs)).await;
        }
    });
    send
}

impl Writers {
    /// Runs `jobs` in one transaction. One that fails is undone alone; if the transaction itself
    /// fails, all of them have failed.
    async fn run(&self, jobs: Vec<Job>) {
        let mut answers = Vec::with_capacity(jobs.len());
        let ended = self.transact(jobs, &mut answers).await;
        if ended.is_ok() {
            self.committed.send_modify(|count| *count += 1);
        }
        for answer in answers {
            answer(ended.clone());
        }
    }

    async fn transact(&self, jobs: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), Error> {
        let grouped = jobs.len() > 1;
        let mut tx = self.begin().await;
        for job in jobs {
            let outcome = match &mut tx {
                Ok(open) => open.step(job, grouped).await,
                Err(refusal) => job(Err(refusal.clone())).await,
            };
            answers.push(outcome.answer);
            if let Ok(open) = &mut tx
                && let Some(error) = open.broken.take()
            {
                open.undo_all().await;
                tx = Err(error);
            }
        }
        let mut tx = tx?;
        let ended = self.end(&mut tx).await;
        if ended.is_err() {
            tx.undo_all().await;
        }
        ended
    }

    async fn begin(&self) -> Result<Tx, Error> {
        self.file.as_ref().map_or(Ok(()), DatabaseFile::check)?;
        let connection = Some(self.pool.acquire().await?);
        let (engine, changes) = (self.engine, Vec::new());
        let mut tx = Tx { engine, connection, changes, sealed: Vec::new(), broken: None };
        // On SQLite it takes the write lock at once: a transaction that reads first and writes
        // later fails, instead of waiting, when another process wrote in between.
        let begun = match engine {
            Engine::Sqlite => tx.run(sql("BEGIN IMMEDIATE")).await,
            Engine::Postgres => tx.run(sql("BEGIN")).await,
        };
        match begun {
            Ok(_) => Ok(tx),
            Err(error) => {
                tx.undo_all().await;
                Err(error)
            }
        }
    }

    /// Counting up the revision comes last and locks its one row until the commit: revisions
    /// become visible in their order and without gaps, and no two transactions can wait for each
    /// other here.
    async fn end(&self, tx: &mut Tx) -> Result<(), Error> {
        if !tx.sealed.is_empty() {
            self.fence(tx).await?;
        }
        if !tx.changes.is_empty() {
            let changes = std::mem::take(&mut tx.changes);
            super::changes::record(tx, &changes, ms(self.clock.now())).await?;
        }
        tx.run(sql("COMMIT")).await.map(|_| ())
    }

    /// What was sealed with a retired key could not be opened any more once the operator takes
    /// the old key away.
    async fn fence(&self, tx: &mut Tx) -> Result<(), Error> {
        let query = match self.engine {
            Engine::Sqlite => "SELECT id FROM master_key WHERE id = $1",
            Engine::Postgres => "SELECT id FROM master_key WHERE id = $1 FOR SHARE",
        };
        for key in std::mem::take(&mut tx.sealed) {
            tx.one(sql(query).bind(key)).await?.ok_or(Error::KeyRetired)?;
        }
        Ok(())
    }
}

impl Tx {
    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Appends `FOR UPDATE` where the engine locks rows; SQLite has locked the database.
    pub(super) async fn one_locked(
        &mut self,
        select: &'static str,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        let query = match self.engine {
            Engine::Sqlite => select.to_owned(),
            Engine::Postgres => format!("{select} FOR UPDATE"),
        };
        self.one(sqlx::query(AssertSqlSafe(query)).bind(id.to_owned())).await
    }

    pub(super) async fn one(&mut self, sql: Sql) -> Result<Option<Row>, Error> {
        Ok(self.connection()?.fetch_optional(sql).await?.map(Row::from))
    }

    pub(super) async fn all(&mut self, sql: Sql) -> Result<Vec<Row>, Error> {
        Ok(self.connection()?.fetch_all(sql).await?.into_iter().map(Row::from).collect())
    }

    /// How many rows the statement touched.
    pub(super) async fn run(&mut self, sql: Sql) -> Result<u64, Error> {
        Ok(self.connection()?.execute(sql).await?.rows_affected())
    }

    fn connection(&mut self) -> Result<&mut AnyConnection, Error> {
        self.connection.as_deref_mut().ok_or_else(|| Error::unavailable("the connection was lost"))
    }

    /// Undoes the transaction; a connection that cannot even do that is thrown away, so that
    /// nobody gets it with a transaction half open.
    async fn undo_all(&mut self) {
        if self.run(sql("ROLLBACK")).await.is_err()
            && let Some(connection) = self.connection.take()
        {
            let _ = connection.close().await;
        }
    }

    pub(super) fn note(&mut self, change: Noted) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    pub(super) fn note_if(&mut self, change: Option<Noted>) {
        change.into_iter().for_each(|change| self.note(change));
    }

    /// This transaction writes something sealed under the master key of that id.
    pub(super) fn seals(&mut self, key: &str) {
        if !self.sealed.iter().any(|sealed| sealed == key) {
            self.sealed.push(key.to_owned());
        }
    }

    /// Runs one of the jobs, behind a savepoint if there are others.
    async fn step(&mut self, job: Job, grouped: bool) -> Outcome {
        if grouped && let Err(error) = self.run(sql("SAVEPOINT job")).await {
            self.broken = Some(error.clone());
            return job(Err(error)).await;
        }
        let (noted, sealed) = (self.changes.len(), self.sealed.len());
        let outcome = job(Ok(&mut *self)).await;
        if !outcome.worked {
            self.changes.truncate(noted);
            self.sealed.truncate(sealed);
        }
        self.broken = match (grouped, outcome.worked) {
            (false, true) => None,
            (false, false) => Some(Error::unavailable("the transaction was undone")),
            (true, true) => self.run(sql("RELEASE SAVEPOINT job")).await.err(),
            (true, false) => self.undo().await.err(),
        };
        outcome
    }

    async fn undo(&mut self) -> Result<(), Error> {
        self.run(sql("ROLLBACK TO SAVEPOINT job")).await?;
        self.run(sql("RELEASE SAVEPOINT job")).await.map(|_| ())
    }
}

pub(super) fn sql(text: &'static str) -> Sql {
    sqlx::query(text)
}

/// Text put together from constants of this module alone.
pub(super) fn sql_of(text: String) -> Sql {
    sqlx::query(AssertSqlSafe(text))
}

/// Milliseconds since 1970.
pub(super) fn ms(at: SystemTime) -> i64 {
    i64::try_from(crate::clock::unix_ms(at)).unwrap_or(i64::MAX)
}

pub(super) fn at(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Writes that may share a transaction; more would make the first of them wait.
const GROUP: usize = 64;
const QUEUE: usize = 1024;
