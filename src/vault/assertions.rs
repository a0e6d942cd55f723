//! Of API clients: public keys by which they prove themselves, the assertions that were taken, and the
//! limits that they set for themselves.

use std::time::SystemTime;

use super::Vault;
use super::changes::Noted;
use super::error::Error;
use super::store::{ms, sql};
use crate::secret::TokenDigest;

/// One of a client's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiClientKey {
    pub kid: String,
    /// PEM.
    pub public_key: String,
}

/// So many requests in so long a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLimit {
    pub client: String,
    pub window_seconds: u32,
    pub requests: u32,
}

impl Vault {
    pub async fn create_rate_limit(
        &self,
        digest: TokenDigest,
        limit: &OwnLimit,
    ) -> Result<(), Error> {
        let insert = "INSERT INTO rate_limit (digest, client, window_seconds, requests, created_at) \
                      VALUES ($1, $2, $3, $4, $5)";
        let query = sql(insert)
            .bind(digest.to_hex())
            .bind(limit.client.clone())
            .bind(i64::from(limit.window_seconds))
            .bind(i64::from(limit.requests))
            .bind(self.store.now());
        self.store.change(None, query).await.map(|_| ())
    }

    pub async fn rate_limit(&self, digest: TokenDigest) -> Result<Option<OwnLimit>, Error> {
        let query = sql("SELECT * FROM rate_limit WHERE digest = $1").bind(digest.to_hex());
        let Some(row) = self.store.one(query).await? else { return Ok(None) };
        let number = |name| -> Result<u32, Error> {
            u32::try_from(row.int(name)?).map_err(|_| super::row::unexpected(name))
        };
        Ok(Some(OwnLimit {
            client: row.text("client")?,
            window_seconds: number("window_seconds")?,
            requests: number("requests")?,
        }))
    }

    /// A key of the same id takes the place of the one that was there.
    pub async fn put_api_client_key(&self, client: &str, key: &ApiClientKey) -> Result<(), Error> {
        let upsert = "INSERT INTO api_client_key (client, kid, public_key, created_at) \
            VALUES ($1, $2, $3, $4) ON CONFLICT (client, kid) \
            DO UPDATE SET public_key = excluded.public_key, created_at = excluded.created_at";
        let query = sql(upsert)
            .bind(client.to_owned())
            .bind(key.kid.clone())
            .bind(key.public_key.clone())
            .bind(self.store.now());
        self.store.change(Some(Noted::Access), query).await.map(|_| ())
    }

    pub async fn api_client_keys(&self, client: &str) -> Result<Vec<ApiClientKey>, Error> {
        let query =
            sql("SELECT kid, public_key FROM api_client_key WHERE client = $1 ORDER BY kid")
                .bind(client.to_owned());
        let rows = self.store.all(query).await?;
        let key = |row: &super::row::Row| {
            Ok(ApiClientKey { kid: row.text("kid")?, public_key: row.text("public_key")? })
        };
        rows.iter().map(key).collect()
    }

    /// `true` for the first who brings it, on any node.
    pub async fn use_assertion(
        &self,
        digest: TokenDigest,
        expires_at: SystemTime,
    ) -> Result<bool, Error> {
        let insert = "INSERT INTO used_assertion (digest, expires_at) VALUES ($1, $2) \
                      ON CONFLICT (digest) DO NOTHING";
        let query = sql(insert).bind(digest.to_hex()).bind(ms(expires_at));
        Ok(self.store.change(None, query).await? > 0)
    }
}
