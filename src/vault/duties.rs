//! What nodes do in each other's place: named leases, webhooks to be sent, and single secrets of
//! the installation such as the CA's key.

use std::time::{Duration, SystemTime};

use super::Vault;
use super::error::Error;
use super::row::{Row, unexpected};
use super::seal::Place;
use super::store::{Store, ms, sql};
use crate::secret::Secret;

/// Where a webhook's body has its connect token.
pub const TOKEN_MARK: &str = "<connect token>";

/// A webhook that has not arrived yet.
#[derive(Clone)]
pub struct Webhook {
    pub id: String,
    pub url: String,
    pub event: String,
    pub body: String,
    /// Put into the body in place of [`TOKEN_MARK`] when it is sent.
    pub token: Option<Secret>,
    /// Tries so far.
    pub attempts: u32,
    pub created_at: SystemTime,
}

impl Vault {
    /// Takes or keeps a lease that one node holds at a time, for work that one must do for all.
    pub async fn hold_lease(&self, name: &str, lease: Duration) -> Result<bool, Error> {
        let store = std::sync::Arc::clone(&self.store);
        let name = name.to_owned();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let now = super::refresh::now(&store, tx).await?;
                    let upsert = "INSERT INTO lease (name, owner, until) VALUES ($1, $2, $3) \
                        ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, \
                        until = excluded.until WHERE lease.until <= $4 OR lease.owner = $5";
                    let query = sql(upsert)
                        .bind(name)
                        .bind(store.node.clone())
                        .bind(now + super::refresh::lease_ms(lease))
                        .bind(now)
                        .bind(store.node.clone());
                    Ok(tx.run(query).await? > 0)
                })
            })
            .await
    }

    /// Lets go of a lease of this node's.
    pub async fn release_lease(&self, name: &str) -> Result<bool, Error> {
        let delete = "DELETE FROM lease WHERE name = $1 AND owner = $2";
        let query = sql(delete).bind(name.to_owned()).bind(self.store.node.clone());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// `token` is kept sealed, and stands in for [`TOKEN_MARK`] in `body` when it is sent.
    pub async fn queue_webhook(
        &self,
        url: &str,
        event: &str,
        body: &str,
        token: Option<&Secret>,
    ) -> Result<(), Error> {
        let now = self.store.now();
        let id = format!("wh_{}", super::random::text(16)?);
        let seal = |token: &Secret| self.store.seal(webhook_place(&id), token.expose().as_bytes());
        let sealed = token.map(seal).transpose()?;
        let (bytes, key) = sealed.map(|sealed| (sealed.bytes, sealed.key)).unzip();
        let insert = "INSERT INTO webhook (id, url, event, body, secrets, secrets_key, attempts, \
                      next_attempt_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)";
        let active = key.clone();
        let query = sql(insert)
            .bind(id)
            .bind(url.to_owned())
            .bind(event.to_owned())
            .bind(body.to_owned())
            .bind(bytes)
            .bind(key)
            .bind(now)
            .bind(now);
        self.store.change_sealed(None, active, query).await.map(|_| ())
    }

    /// Webhooks whose time has come, for this node alone until `retry_at`: whoever takes them
    /// counts a try, so that one that is never finished is tried again.
    pub async fn take_webhooks(
        &self,
        limit: u32,
        retry_at: SystemTime,
    ) -> Result<Vec<Webhook>, Error> {
        let (now, retry_at) = (self.store.now(), ms(retry_at));
        let store = std::sync::Arc::clone(&self.store);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let select = match tx.engine() {
                        super::store::Engine::Sqlite => DUE_WEBHOOKS.to_owned(),
                        super::store::Engine::Postgres => {
                            format!("{DUE_WEBHOOKS} FOR UPDATE SKIP LOCKED")
                        }
                    };
                    let due = super::store::sql_of(select).bind(now).bind(i64::from(limit));
                    let rows = tx.all(due).await?;
                    let webhooks = rows
                        .iter()
                        .map(|row| webhook_of(&store, row))
                        .collect::<Result<Vec<_>, _>>()?;
                    for webhook in &webhooks {
                        let update = "UPDATE webhook SET attempts = attempts + 1, \
                                      next_attempt_at = $1 WHERE id = $2";
                        tx.run(sql(update).bind(retry_at).bind(webhook.id.clone())).await?;
                    }
                    Ok(webhooks)
                })
            })
            .await
    }

    /// It arrived, or is given up.
    pub async fn finish_webhook(&self, id: &str) -> Result<bool, Error> {
        let query = sql("DELETE FROM webhook WHERE id = $1").bind(id.to_owned());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// It did not arrive; `error` is for the operator.
    pub async fn postpone_webhook(
        &self,
        id: &str,
        until: SystemTime,
        error: &str,
    ) -> Result<bool, Error> {
        let update = "UPDATE webhook SET next_attempt_at = $1, last_error = $2 WHERE id = $3";
        let query = sql(update).bind(ms(until)).bind(error.to_owned()).bind(id.to_owned());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// Stores `secret` under `name` unless there is one, and gives what is stored: nodes that
    /// start together agree on the first one's.
    pub async fn sealed_item_or(&self, name: &str, secret: &Secret) -> Result<Secret, Error> {
        let sealed = self.store.seal(item_place(name), secret.expose().as_bytes())?;
        let insert = "INSERT INTO sealed_item (name, secret, secret_key, updated_at) \
                      VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING";
        let active = Some(sealed.key.clone());
        let query = sql(insert)
            .bind(name.to_owned())
            .bind(sealed.bytes)
            .bind(sealed.key)
            .bind(self.store.now());
        self.store.change_sealed(None, active, query).await?;
        self.sealed_item(name).await?.ok_or_else(|| unexpected("sealed_item.name"))
    }

    pub async fn set_sealed_item(&self, name: &str, secret: &Secret) -> Result<(), Error> {
        let sealed = self.store.seal(item_place(name), secret.expose().as_bytes())?;
        let upsert = "INSERT INTO sealed_item (name, secret, secret_key, updated_at) \
            VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO UPDATE SET secret = excluded.secret, \
            secret_key = excluded.secret_key, updated_at = excluded.updated_at";
        let active = Some(sealed.key.clone());
        let query = sql(upsert)
            .bind(name.to_owned())
            .bind(sealed.bytes)
            .bind(sealed.key)
            .bind(self.store.now());
        self.store.change_sealed(None, active, query).await.map(|_| ())
    }

    pub async fn sealed_item(&self, name: &str) -> Result<Option<Secret>, Error> {
        let query = sql("SELECT secret FROM sealed_item WHERE name = $1").bind(name.to_owned());
        let Some(row) = self.store.one(query).await? else { return Ok(None) };
        let plain = self.store.open(item_place(name), &row.bytes("secret")?)?;
        let text = std::str::from_utf8(&plain).map_err(|_| unexpected("sealed_item.secret"))?;
        Ok(Some(text.to_owned().into()))
    }

    pub async fn delete_sealed_item(&self, name: &str) -> Result<bool, Error> {
        let query = sql("DELETE FROM sealed_item WHERE name = $1").bind(name.to_owned());
        Ok(self.store.change(None, query).await? > 0)
    }
}

fn item_place(name: &str) -> Place<'_> {
    Place { table: "sealed_item", row: name, column: "secret", version: 0 }
}

fn webhook_place(id: &str) -> Place<'_> {
    Place { table: "webhook", row: id, column: "secrets", version: 0 }
}

fn webhook_of(store: &Store, row: &Row) -> Result<Webhook, Error> {
    let id = row.text("id")?;
    let token = match row.text_or_none("secrets_key")? {
        None => None,
        Some(_) => {
            let plain = store.open(webhook_place(&id), &row.bytes("secrets")?)?;
            let text = std::str::from_utf8(&plain).map_err(|_| unexpected("webhook.secrets"))?;
            Some(Secret::from(text.to_owned()))
        }
    };
    Ok(Webhook {
        token,
        id,
        url: row.text("url")?,
        event: row.text("event")?,
        body: row.text("body")?,
        attempts: u32::try_from(row.int("attempts")?).unwrap_or(u32::MAX),
        created_at: row.time("created_at")?,
    })
}

const DUE_WEBHOOKS: &str =
    "SELECT * FROM webhook WHERE next_attempt_at <= $1 ORDER BY next_attempt_at, id LIMIT $2";
