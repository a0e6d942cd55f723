//! A change of the master key, while every node goes on working.
//!
//! The operator gives all nodes the new key first and the old one behind it; each begins to seal
//! with the new one. Then this wraps every other record's data key anew, in small transactions,
//! and in the end strikes the old keys off the list that every sealing transaction checks
//! ([`super::store`]): from that commit on nothing can be sealed with them. A rotation that was
//! cut off is simply run again.

use std::sync::Arc;

use super::Vault;
use super::error::Error;
use super::seal::Place;
use super::store::{SealedValue, Store, Tx, not_opened, sql, sql_of};

/// How far a rotation has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records that were wrapped anew.
    pub done: u64,
    /// Records that do not open with any key of this node; they are left as they are, and the
    /// old keys stay listed.
    pub failed: u64,
}

/// A column that holds envelopes, and what binds each to its place.
struct Sealed {
    table: &'static str,
    id: &'static str,
    column: &'static str,
    key: &'static str,
    version: &'static str,
}

impl Vault {
    /// Wraps every record with the active key; `progress` hears of each step. Afterwards the
    /// other keys may be taken out of the configuration, unless records failed.
    pub async fn rotate_keys(&self, mut progress: impl FnMut(Progress)) -> Result<Progress, Error> {
        let mut total = Progress::default();
        loop {
            let mut pass = Progress::default();
            for sealed in SEALED {
                self.rotate_table(sealed, &mut pass, |step| {
                    progress(Progress { done: total.done + step.done, failed: step.failed });
                })
                .await?;
            }
            total = Progress { done: total.done + pass.done, failed: pass.failed };
            if total.failed > 0 || self.retire_other_keys().await? {
                return Ok(total);
            }
        }
    }

    async fn rotate_table(
        &self,
        sealed: &'static Sealed,
        pass: &mut Progress,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), Error> {
        let mut after = String::new();
        loop {
            let (store, from) = (Arc::clone(&self.store), after);
            let step = self
                .store
                .write(move |tx| Box::pin(async move { rewrap(&store, tx, sealed, from).await }))
                .await?;
            pass.done += step.progress.done;
            pass.failed += step.progress.failed;
            progress(*pass);
            let Some(last) = step.last else { return Ok(()) };
            after = last;
        }
    }

    /// `false`: somebody sealed with another key since, so there is more to do. Striking a key
    /// off waits for the transactions that are sealing with it, and makes later ones fail.
    async fn retire_other_keys(&self) -> Result<bool, Error> {
        let active = self.store.keys().active().id().to_string();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    tx.run(sql("DELETE FROM master_key WHERE id <> $1").bind(active.clone()))
                        .await?;
                    for sealed in SEALED {
                        let Sealed { table, key, .. } = sealed;
                        let left = format!("SELECT {key} FROM {table} WHERE {key} <> $1 LIMIT 1");
                        if tx.one(sql_of(left).bind(active.clone())).await?.is_some() {
                            return Err(Error::conflict(MORE));
                        }
                    }
                    Ok(())
                })
            })
            .await
            .map(|()| true)
            .or_else(|error| match error {
                Error::Conflict(reason) if reason == MORE => Ok(false),
                other => Err(other),
            })
    }
}

struct Step {
    progress: Progress,
    /// Where the next step goes on; `None` at the end.
    last: Option<String>,
}

async fn rewrap(store: &Store, tx: &mut Tx, sealed: &Sealed, after: String) -> Result<Step, Error> {
    let Sealed { table, id, column, key, version } = sealed;
    let lock = match tx.engine() {
        super::store::Engine::Sqlite => "",
        super::store::Engine::Postgres => " FOR UPDATE",
    };
    let select = format!(
        "SELECT {id} AS id, {column} AS sealed, CAST({version} AS BIGINT) AS version FROM {table} \
         WHERE {key} <> $1 AND {id} > $2 ORDER BY {id} LIMIT {STEP}{lock}"
    );
    let active = store.keys().active().id().to_string();
    let rows = tx.all(sql_of(select).bind(active).bind(after)).await?;
    let mut step = Step { progress: Progress::default(), last: None };
    for row in rows {
        let name = row.text("id")?;
        let place = Place { table, row: &name, column, version: row.int("version")? };
        match store.keys().rewrap(place, &row.bytes("sealed")?) {
            Ok(fresh) => {
                put(tx, sealed, &name, fresh).await?;
                step.progress.done += 1;
            }
            Err(source) => {
                tracing::error!(error = %not_opened(place, source), "a record cannot be rotated");
                step.progress.failed += 1;
            }
        }
        step.last = Some(name);
    }
    Ok(step)
}

async fn put(tx: &mut Tx, sealed: &Sealed, name: &str, fresh: Vec<u8>) -> Result<(), Error> {
    let Sealed { table, id, column, key, .. } = sealed;
    let fresh = SealedValue::of(fresh).ok_or_else(|| super::row::unexpected(column))?;
    let update = format!("UPDATE {table} SET {column} = $1, {key} = $2 WHERE {id} = $3");
    tx.seals(&fresh.key);
    let query = sql_of(update).bind(fresh.bytes).bind(fresh.key).bind(name.to_owned());
    tx.run(query).await.map(|_| ())
}

/// Every column that holds an envelope. The list of keys itself is not rotated.
const SEALED: &[Sealed] = &[
    Sealed {
        table: "account",
        id: "id",
        column: "credentials",
        key: "credentials_key",
        version: "version",
    },
    Sealed { table: "oauth_client", id: "id", column: "secrets", key: "secrets_key", version: "0" },
    Sealed {
        table: "pending_flow",
        id: "state_digest",
        column: "secrets",
        key: "secrets_key",
        version: "0",
    },
    Sealed { table: "webhook", id: "id", column: "secrets", key: "secrets_key", version: "0" },
    Sealed {
        table: "saved_request",
        id: "id",
        column: "request",
        key: "request_key",
        version: "0",
    },
    Sealed { table: "sealed_item", id: "name", column: "secret", key: "secret_key", version: "0" },
];
/// Short transactions: a refresh must not wait for a rotation.
const STEP: u32 = 100;
const MORE: &str = "records of another key appeared";
