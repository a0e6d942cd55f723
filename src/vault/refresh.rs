//! The one refresh: who may renew an account's tokens, and whose result counts.
//!
//! Before it asks the provider a node claims the account: a lease says until when it has it, an
//! attempt says that it asked. The result is committed only against the version and the attempt it
//! was claimed with, so that a reconnection, a deletion or another node's result makes it void. An
//! attempt without a result, left by a crash, tells the next one that the refresh token may have
//! been used already. Claims are no change that others hear of; results are.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Vault;
use super::account::{Account, Credentials, HealthError};
use super::accounts::{lock_row, open, seal};
use super::changes::Noted;
use super::error::Error;
use super::row::{Row, json_list, json_map, ms_or_none};
use super::store::{Engine, SealedValue, Store, Tx, at, ms, sql};
use crate::ids::{AccountId, AppId};

/// What came of asking for an account's refresh.
pub enum Claim {
    /// Ask the provider, and commit or fail before the lease ends.
    Yours(Box<Claimed>),
    /// Another attempt has it.
    Held { until: SystemTime },
    /// Somebody else renewed or reconnected it: read it again.
    Moved(i64),
    /// Only reconnecting helps.
    Dead,
    /// There is no such account.
    Gone,
}

pub struct Claimed {
    pub attempt: Attempt,
    pub account: Account,
    pub credentials: Credentials,
    /// An earlier attempt left no result: its refresh token may have been used.
    pub unfinished: bool,
}

/// The right to write a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    account: AccountId,
    version: i64,
    id: String,
}

/// What the provider gave.
pub struct Renewed {
    pub credentials: Credentials,
    pub fields: std::collections::BTreeMap<String, String>,
    pub scopes: Vec<String>,
    pub expires_at: Option<SystemTime>,
    pub refresh_expires_at: Option<SystemTime>,
    pub obtained_at: SystemTime,
    pub next_refresh_at: Option<SystemTime>,
    /// `None` leaves what is stored.
    pub last_used_at: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    Done {
        version: i64,
    },
    /// The account was reconnected, deleted or renewed by another: the result must be dropped,
    /// and revoked where the provider can.
    Superseded,
}

/// Why there is no result.
#[derive(Debug, Clone)]
pub struct Failed {
    pub dead: bool,
    pub error: HealthError,
    pub next_refresh_at: Option<SystemTime>,
    /// Nobody knows whether the provider took the refresh token: the next attempt shall know.
    pub keep_attempt: bool,
}

/// An account whose time to be renewed has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: AccountId,
    pub app: AppId,
    pub version: i64,
    pub next_refresh_at: SystemTime,
    pub expires_at: Option<SystemTime>,
}

impl Attempt {
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The version of the tokens that are being renewed.
    pub fn version(&self) -> i64 {
        self.version
    }
}

impl Vault {
    /// Claims the account for one attempt, if it still is at version `seen` and nobody has it.
    pub async fn claim(&self, id: &AccountId, seen: i64, lease: Duration) -> Result<Claim, Error> {
        let store = Arc::clone(&self.store);
        let id = id.clone();
        self.store
            .write(move |tx| Box::pin(async move { claim(&store, tx, id, seen, lease).await }))
            .await
    }

    /// Lengthens the lease of an attempt that takes longer. `false`: it is no longer ours.
    pub async fn extend(&self, attempt: &Attempt, lease: Duration) -> Result<bool, Error> {
        let store = Arc::clone(&self.store);
        let attempt = attempt.clone();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let until = now(&store, tx).await? + lease_ms(lease);
                    let update = "UPDATE account SET lease_until = $1 \
                                  WHERE id = $2 AND version = $3 AND attempt = $4";
                    let query = sql(update)
                        .bind(until)
                        .bind(attempt.account.to_string())
                        .bind(attempt.version)
                        .bind(attempt.id);
                    Ok(tx.run(query).await? > 0)
                })
            })
            .await
    }

    /// Makes the result of an attempt durable. May be tried again after an error: a result that
    /// is in the store already counts as done.
    pub async fn commit(&self, attempt: &Attempt, renewed: &Renewed) -> Result<Committed, Error> {
        let sealed =
            seal(&self.store, &attempt.account, attempt.version + 1, &renewed.credentials)?;
        let row = ResultRow::of(renewed, sealed);
        let (attempt, now) = (attempt.clone(), self.store.now());
        self.store
            .write(move |tx| Box::pin(async move { commit(tx, attempt, row, now).await }))
            .await
    }

    /// Says that an attempt brought nothing, and lets go of the account. `false`: it was no
    /// longer ours, and nothing was written.
    pub async fn fail(&self, attempt: &Attempt, failed: &Failed) -> Result<bool, Error> {
        let (attempt, failed) = (attempt.clone(), failed.clone());
        let now = self.store.now();
        self.store
            .write(move |tx| Box::pin(async move { fail(tx, attempt, &failed, now).await }))
            .await
    }

    /// Lets go of the leases that this node held when it ended; only for the one long-running
    /// process of a node, at its start. Their attempts stay, for they have no result.
    pub async fn release_own_leases(&self) -> Result<u64, Error> {
        let node = self.store.node.clone();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let update = "UPDATE account SET lease_owner = NULL, lease_until = NULL \
                                  WHERE lease_owner = $1";
                    tx.run(sql(update).bind(node)).await
                })
            })
            .await
    }

    /// Accounts that should be renewed by `before` and that nobody is renewing, the soonest to
    /// expire first: those used since `used_since`, and those whose tokens were obtained before
    /// `kept_since`, because a refresh token that is never used dies of it.
    pub async fn due(
        &self,
        before: SystemTime,
        used_since: SystemTime,
        kept_since: SystemTime,
        limit: u32,
    ) -> Result<Vec<Due>, Error> {
        let query = "SELECT id, app, version, next_refresh_at, expires_at FROM account \
            WHERE dead = 0 AND next_refresh_at IS NOT NULL AND next_refresh_at <= $1 \
            AND (COALESCE(last_used_at, 0) >= $2 OR COALESCE(obtained_at, created_at) <= $3) \
            AND (COALESCE(lease_until, 0) <= $4 OR lease_until > $5) \
            ORDER BY COALESCE(expires_at, next_refresh_at), id LIMIT $6";
        let query = sql(query)
            .bind(ms(before))
            .bind(ms(used_since))
            .bind(ms(kept_since))
            .bind(self.store.now())
            .bind(self.store.now() + LONGEST_LEASE_MS)
            .bind(i64::from(limit));
        self.store.all(query).await?.iter().map(due_of).collect()
    }
}

async fn claim(
    store: &Store,
    tx: &mut Tx,
    id: AccountId,
    seen: i64,
    lease: Duration,
) -> Result<Claim, Error> {
    let Some(row) = lock_row(tx, &id).await? else { return Ok(Claim::Gone) };
    let now = now(store, tx).await?;
    if let Some(refusal) = refusal(&row, seen, now)? {
        return Ok(refusal);
    }
    let (account, credentials) = open(store, &row)?;
    let unfinished = row.text_or_none("attempt")?.is_some();
    let attempt = Attempt { account: id, version: seen, id: super::random::text(ATTEMPT_CHARS)? };
    let update = "UPDATE account SET lease_owner = $1, lease_until = $2, attempt = $3, \
                  attempt_at = $4 WHERE id = $5";
    let query = sql(update)
        .bind(store.node.clone())
        .bind(now + lease_ms(lease))
        .bind(attempt.id.clone())
        .bind(now)
        .bind(attempt.account.to_string());
    tx.run(query).await?;
    Ok(Claim::Yours(Box::new(Claimed { attempt, account, credentials, unfinished })))
}

/// Why this account is not to be claimed.
fn refusal(row: &Row, seen: i64, now: i64) -> Result<Option<Claim>, Error> {
    let version = row.int("version")?;
    let until = row.int_or_none("lease_until")?.unwrap_or(0);
    Ok(if row.flag("dead")? {
        Some(Claim::Dead)
    } else if version != seen {
        Some(Claim::Moved(version))
    } else if until > now && until <= now + LONGEST_LEASE_MS {
        Some(Claim::Held { until: at(until) })
    } else {
        None
    })
}

/// The time that leases count by: the database's own where nodes share one, so that a node whose
/// clock is ahead does not take what others hold.
pub(super) async fn now(store: &Store, tx: &mut Tx) -> Result<i64, Error> {
    if let Some(now) = store.lease_now() {
        return Ok(now);
    }
    debug_assert_eq!(tx.engine(), Engine::Postgres);
    let query = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now";
    let row = tx.one(sql(query)).await?;
    row.ok_or_else(|| super::row::unexpected("now"))?.int("now")
}

/// The columns of a result, ready to be bound.
struct ResultRow {
    sealed: SealedValue,
    fields: String,
    scopes: String,
    expires_at: Option<i64>,
    refresh_expires_at: Option<i64>,
    obtained_at: i64,
    next_refresh_at: Option<i64>,
    last_used_at: Option<i64>,
}

impl ResultRow {
    fn of(renewed: &Renewed, sealed: SealedValue) -> Self {
        Self {
            sealed,
            fields: json_map(&renewed.fields),
            scopes: json_list(&renewed.scopes),
            expires_at: ms_or_none(renewed.expires_at),
            refresh_expires_at: ms_or_none(renewed.refresh_expires_at),
            obtained_at: ms(renewed.obtained_at),
            next_refresh_at: ms_or_none(renewed.next_refresh_at),
            last_used_at: ms_or_none(renewed.last_used_at),
        }
    }
}

async fn commit(
    tx: &mut Tx,
    attempt: Attempt,
    row: ResultRow,
    now: i64,
) -> Result<Committed, Error> {
    let update = "UPDATE account SET version = version + 1, credentials = $1, \
        credentials_key = $2, fields = $3, scopes = $4, expires_at = $5, \
        refresh_expires_at = $6, obtained_at = $7, last_refreshed_at = $8, next_refresh_at = $9, \
        last_used_at = COALESCE($10, last_used_at), dead = 0, failures = 0, error_code = NULL, \
        error_message = NULL, error_at = NULL, lease_owner = NULL, lease_until = NULL, \
        attempt = NULL, attempt_at = NULL, committed_attempt = $11, updated_at = $12 \
        WHERE id = $13 AND version = $14 AND attempt = $15";
    let key = row.sealed.key.clone();
    let query = sql(update)
        .bind(row.sealed.bytes)
        .bind(row.sealed.key)
        .bind(row.fields)
        .bind(row.scopes)
        .bind(row.expires_at)
        .bind(row.refresh_expires_at)
        .bind(row.obtained_at)
        .bind(row.obtained_at)
        .bind(row.next_refresh_at)
        .bind(row.last_used_at)
        .bind(attempt.id.clone())
        .bind(now)
        .bind(attempt.account.to_string())
        .bind(attempt.version)
        .bind(attempt.id.clone());
    if tx.run(query).await? == 0 {
        return already_committed(tx, &attempt).await;
    }
    tx.seals(&key);
    let version = attempt.version + 1;
    tx.note(Noted::Account(attempt.account));
    Ok(Committed::Done { version })
}

/// A commit that is tried again because its answer was lost finds itself done.
async fn already_committed(tx: &mut Tx, attempt: &Attempt) -> Result<Committed, Error> {
    let query =
        "SELECT version FROM account WHERE id = $1 AND version = $2 AND committed_attempt = $3";
    let version = attempt.version + 1;
    let query = sql(query).bind(attempt.account.to_string()).bind(version).bind(attempt.id.clone());
    Ok(match tx.one(query).await? {
        Some(_) => Committed::Done { version },
        None => Committed::Superseded,
    })
}

async fn fail(tx: &mut Tx, attempt: Attempt, failed: &Failed, now: i64) -> Result<bool, Error> {
    let update = "UPDATE account SET dead = $1, failures = failures + 1, error_code = $2, \
        error_message = $3, error_at = $4, next_refresh_at = $5, lease_owner = NULL, \
        lease_until = NULL, attempt = CASE WHEN $6 = 1 THEN attempt END, \
        attempt_at = CASE WHEN $7 = 1 THEN attempt_at END, updated_at = $8 \
        WHERE id = $9 AND version = $10 AND attempt = $11";
    let keep = i64::from(failed.keep_attempt);
    let query = sql(update)
        .bind(i64::from(failed.dead))
        .bind(failed.error.code.clone())
        .bind(failed.error.message.clone())
        .bind(ms(failed.error.at))
        .bind(ms_or_none(failed.next_refresh_at))
        .bind(keep)
        .bind(keep)
        .bind(now)
        .bind(attempt.account.to_string())
        .bind(attempt.version)
        .bind(attempt.id);
    let ours = tx.run(query).await? > 0;
    if ours {
        tx.note(Noted::Account(attempt.account));
    }
    Ok(ours)
}

fn due_of(row: &Row) -> Result<Due, Error> {
    Ok(Due {
        id: row.parsed("id")?,
        app: row.parsed("app")?,
        version: row.int("version")?,
        next_refresh_at: row.time("next_refresh_at")?,
        expires_at: row.time_or_none("expires_at")?,
    })
}

pub(super) fn lease_ms(lease: Duration) -> i64 {
    i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 4)
}

const ATTEMPT_CHARS: usize = 22;
/// No lease is longer: one that seems to be was taken while the clock was ahead.
const LONGEST_LEASE_MS: i64 = 10 * 60 * 1000;
