//! What changed, told to every process within half a second.
//!
//! A transaction that changes something counts up the one row of `revision` and lists what it
//! changed under that number. A feed remembers the last revision it saw and reads on from there.
//! It looks when this process commits, when PostgreSQL notifies it, and otherwise every 250 ms or
//! 500 ms, which is the net for lost notifications, poolers that carry none, and SQLite. Being
//! behind the pruned past, or having lost the store, is answered with [`Change::Everything`].

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::error::Error;
use super::store::{Engine, Store, Tx, sql};
use crate::ids::{AccountId, OAuthClientId};

/// Something that a process may have in its memory and should read again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// An account was made, renewed, renamed, deleted, or fares differently.
    Account(AccountId),
    /// Callers, their tokens and bindings, sharing, members, projects, API clients.
    Access,
    OAuthClient(OAuthClientId),
    /// App definitions of the workspace's own.
    Apps,
    /// Nobody knows what: read everything again.
    Everything,
}

/// A change as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Noted {
    Account(AccountId),
    Access,
    OAuthClient(OAuthClientId),
    Apps,
}

/// A feed of changes. The first answer is always [`Change::Everything`], so that nothing falls
/// between reading the store and beginning to listen.
pub struct Changes {
    store: Arc<Store>,
    /// The last revision seen; `None` before the first look and after the store was lost.
    seen: Option<i64>,
    committed: watch::Receiver<u64>,
    listener: Option<PgListener>,
    /// Looks that failed in a row.
    failures: u32,
    next_look: Instant,
    next_listen: Instant,
}

impl Changes {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let committed = store.committed();
        let now = Instant::now();
        Self {
            store,
            seen: None,
            committed,
            listener: None,
            failures: 0,
            next_look: now,
            next_listen: now,
        }
    }

    /// Waits until something has changed. Never fails: while the store is away it tries again,
    /// and says [`Change::Everything`] when it is back. May be dropped at any point without
    /// losing a change.
    pub async fn next(&mut self) -> Vec<Change> {
        loop {
            self.wait().await;
            match self.look().await {
                Ok(changes) if changes.is_empty() => {}
                Ok(changes) => return changes,
                Err(error) => self.lost(&error),
            }
        }
    }

    async fn look(&mut self) -> Result<Vec<Change>, Error> {
        let (latest, pruned) = self.store.revision().await?;
        let changes = match self.seen {
            Some(seen) if seen == latest => Vec::new(),
            Some(seen) if seen >= pruned && seen < latest => {
                self.store.changes_between(seen, latest).await?
            }
            _ => vec![Change::Everything],
        };
        if self.failures > 0 {
            tracing::info!("the store is back");
        }
        self.failures = 0;
        self.seen = Some(latest);
        self.next_look = Instant::now() + self.interval();
        Ok(changes)
    }

    fn lost(&mut self, error: &Error) {
        if self.failures == 0 {
            tracing::warn!(%error, "changes cannot be read; going on with what is known");
        }
        self.failures = self.failures.saturating_add(1);
        self.seen = None;
        self.listener = None;
        self.next_look = Instant::now() + RETRY;
    }

    fn interval(&self) -> Duration {
        match self.store.engine {
            Engine::Sqlite => SQLITE_INTERVAL,
            Engine::Postgres => POSTGRES_INTERVAL,
        }
    }

    /// Until there may be something to see.
    async fn wait(&mut self) {
        self.listen().await;
        let notified = async {
            match &mut self.listener {
                Some(listener) => matches!(listener.try_recv().await, Ok(Some(_))),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep_until(self.next_look) => {}
            changed = self.committed.changed() => if changed.is_err() {
                sleep_until(self.next_look).await;
            },
            alive = notified => if !alive {
                self.listener = None;
            },
        }
    }

    /// Polling goes on whether this works or not.
    async fn listen(&mut self) {
        let Some(url) = self.store.postgres.as_ref().filter(|_| self.listener.is_none()) else {
            return;
        };
        if Instant::now() < self.next_listen {
            return;
        }
        self.next_listen = Instant::now() + RELISTEN;
        let connected = async {
            let mut listener = PgListener::connect(url.expose()).await?;
            listener.listen(CHANNEL).await.map(|()| listener)
        };
        if let Ok(Ok(listener)) = tokio::time::timeout(LISTEN, connected).await {
            self.listener = Some(listener);
        }
    }
}

impl Store {
    /// The latest revision, and the latest of those whose changes are no longer listed.
    async fn revision(&self) -> Result<(i64, i64), Error> {
        let row = self.one(sql("SELECT latest, pruned FROM revision WHERE id = 1")).await?;
        let row = row.ok_or_else(|| super::row::unexpected("revision"))?;
        Ok((row.int("latest")?, row.int("pruned")?))
    }

    async fn changes_between(&self, seen: i64, latest: i64) -> Result<Vec<Change>, Error> {
        let query = "SELECT DISTINCT kind, subject FROM change \
                     WHERE revision > $1 AND revision <= $2 LIMIT $3";
        let rows = self.all(sql(query).bind(seen).bind(latest).bind(MANY)).await?;
        if rows.len() as i64 == MANY {
            return Ok(vec![Change::Everything]);
        }
        rows.iter().map(|row| Change::of(&row.text("kind")?, &row.text("subject")?)).collect()
    }
}

impl Change {
    fn of(kind: &str, subject: &str) -> Result<Self, Error> {
        fn id<T: FromStr>(text: &str) -> Result<T, Error> {
            text.parse().map_err(|_| super::row::unexpected("change.subject"))
        }
        Ok(match kind {
            "account" => Self::Account(id(subject)?),
            "oauth_client" => Self::OAuthClient(id(subject)?),
            "access" => Self::Access,
            "apps" => Self::Apps,
            // A newer version's: it knows kinds of changes that this one does not.
            _ => Self::Everything,
        })
    }
}

impl Noted {
    fn kind(&self) -> &'static str {
        match self {
            Self::Account(_) => "account",
            Self::Access => "access",
            Self::OAuthClient(_) => "oauth_client",
            Self::Apps => "apps",
        }
    }

    fn subject(&self) -> &str {
        match self {
            Self::Account(id) => id.as_str(),
            Self::OAuthClient(id) => id.as_str(),
            Self::Access | Self::Apps => "",
        }
    }
}

/// Counts up the revision and writes down what changed, as the last step of a transaction.
pub(super) async fn record(tx: &mut Tx, changes: &[Noted], now: i64) -> Result<(), Error> {
    let count = "UPDATE revision SET latest = latest + 1 WHERE id = 1 RETURNING latest";
    let row = tx.one(sql(count)).await?;
    let revision = row.ok_or_else(|| super::row::unexpected("revision"))?.int("latest")?;
    for change in changes {
        let insert = "INSERT INTO change (revision, kind, subject, at) VALUES ($1, $2, $3, $4)";
        let subject = change.subject().to_owned();
        tx.run(sql(insert).bind(revision).bind(change.kind()).bind(subject).bind(now)).await?;
    }
    if revision % PRUNE_EVERY == 0 {
        prune(tx, now).await?;
    }
    if tx.engine() == Engine::Postgres {
        tx.run(sql("NOTIFY countersign_change")).await?;
    }
    Ok(())
}

async fn prune(tx: &mut Tx, now: i64) -> Result<(), Error> {
    let before = now - KEPT_MS;
    let mark = "UPDATE revision SET pruned = \
                COALESCE((SELECT MAX(revision) FROM change WHERE at < $1), pruned) WHERE id = 1";
    tx.run(sql(mark).bind(before)).await?;
    let delete = "DELETE FROM change WHERE revision <= (SELECT pruned FROM revision WHERE id = 1)";
    tx.run(sql(delete)).await.map(|_| ())
}

const CHANNEL: &str = "countersign_change";
const SQLITE_INTERVAL: Duration = Duration::from_millis(250);
const POSTGRES_INTERVAL: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(500);
const RELISTEN: Duration = Duration::from_secs(5);
const LISTEN: Duration = Duration::from_secs(2);
/// More changes than this at once are cheaper to answer by reading everything.
const MANY: i64 = 10_000;
const PRUNE_EVERY: i64 = 256;
const KEPT_MS: i64 = 10 * 60 * 1000;
