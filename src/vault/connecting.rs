//! What connecting an account needs between its steps: connect tokens and pending flows.

use std::time::{Duration, SystemTime};

use super::Vault;
use super::error::Error;
use super::row::{Row, json_list, unexpected};
use super::seal::Place;
use super::sealing::{open_secrets, seal_secrets};
use super::store::{at, ms, sql};
use crate::ids::{AppId, ExternalUserId, OAuthClientId};
use crate::inject::Properties;
use crate::secret::TokenDigest;

/// A right to connect one account for one external user, and to read that user's accounts until
/// it expires.
#[derive(Debug, Clone)]
pub struct ConnectToken {
    pub digest: TokenDigest,
    /// Names the session in webhooks.
    pub session_id: i64,
    pub details: ConnectTokenDetails,
    pub spent_at: Option<SystemTime>,
    pub created_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTokenDetails {
    pub external_user: ExternalUserId,
    pub scopes: Vec<String>,
    /// Origins of the pages that may use it from a browser.
    pub allowed_origins: Vec<String>,
    pub success_redirect_uri: Option<String>,
    pub error_redirect_uri: Option<String>,
    pub webhook_uri: Option<String>,
    pub app: Option<AppId>,
    pub oauth_client: Option<OAuthClientId>,
    /// The user may grant a part of the scopes.
    pub progressive_scopes: bool,
    pub expires_at: SystemTime,
}

/// An authorization that was begun and waits for its callback.
pub struct PendingFlow {
    /// What the callback must find again; the connecting room's own JSON, without secrets.
    pub details: String,
    /// The verifier, a device code, secrets that were entered before.
    pub secrets: Properties,
    pub expires_at: SystemTime,
}

impl Vault {
    pub async fn create_connect_token(
        &self,
        digest: TokenDigest,
        details: &ConnectTokenDetails,
    ) -> Result<ConnectToken, Error> {
        let (session_id, now) = (super::random::number()?, self.store.now());
        let insert = "INSERT INTO connect_token (digest, session_id, external_user, scopes, \
            allowed_origins, success_redirect_uri, error_redirect_uri, webhook_uri, app, \
            oauth_client, progressive_scopes, expires_at, created_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let query = sql(insert)
            .bind(digest.to_hex())
            .bind(session_id)
            .bind(details.external_user.to_string())
            .bind(json_list(&details.scopes))
            .bind(json_list(&details.allowed_origins))
            .bind(details.success_redirect_uri.clone())
            .bind(details.error_redirect_uri.clone())
            .bind(details.webhook_uri.clone())
            .bind(details.app.as_ref().map(AppId::to_string))
            .bind(details.oauth_client.as_ref().map(OAuthClientId::to_string))
            .bind(i64::from(details.progressive_scopes))
            .bind(ms(details.expires_at))
            .bind(now);
        self.store.change(None, query).await?;
        let (details, created_at) = (details.clone(), at(now));
        Ok(ConnectToken { digest, session_id, details, spent_at: None, created_at })
    }

    /// One that has not expired, spent or not.
    pub async fn connect_token(&self, digest: TokenDigest) -> Result<Option<ConnectToken>, Error> {
        let query = "SELECT * FROM connect_token WHERE digest = $1 AND expires_at > $2";
        let query = sql(query).bind(digest.to_hex()).bind(self.store.now());
        self.store.one(query).await?.as_ref().map(connect_token_of).transpose()
    }

    /// One whatever became of it, for as long as it is kept after its end: so that whoever comes
    /// with it is told what is wrong.
    pub async fn any_connect_token(
        &self,
        digest: TokenDigest,
    ) -> Result<Option<ConnectToken>, Error> {
        let query = sql("SELECT * FROM connect_token WHERE digest = $1").bind(digest.to_hex());
        self.store.one(query).await?.as_ref().map(connect_token_of).transpose()
    }

    /// Takes a spending back, because nothing came of it.
    pub async fn unspend_connect_token(&self, digest: TokenDigest) -> Result<bool, Error> {
        let update = "UPDATE connect_token SET spent_at = NULL WHERE digest = $1";
        let query = sql(update).bind(digest.to_hex());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// `true` for one of those that try, once.
    pub async fn spend_connect_token(&self, digest: TokenDigest) -> Result<bool, Error> {
        let update = "UPDATE connect_token SET spent_at = $1 \
                      WHERE digest = $2 AND spent_at IS NULL AND expires_at > $3";
        let now = self.store.now();
        let query = sql(update).bind(now).bind(digest.to_hex()).bind(now);
        Ok(self.store.change(None, query).await? > 0)
    }

    /// `state` is the digest of what the provider brings back.
    pub async fn begin_flow(&self, state: TokenDigest, flow: &PendingFlow) -> Result<(), Error> {
        let row = state.to_hex();
        let sealed = seal_secrets(&self.store, flow_place(&row), &flow.secrets)?;
        let insert = "INSERT INTO pending_flow (state_digest, details, secrets, secrets_key, \
                      expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
        let active = Some(sealed.key.clone());
        let query = sql(insert)
            .bind(row)
            .bind(flow.details.clone())
            .bind(sealed.bytes)
            .bind(sealed.key)
            .bind(ms(flow.expires_at))
            .bind(self.store.now());
        self.store.change_sealed(None, active, query).await.map(|_| ())
    }

    /// What a flow is about, without taking it: who comes from another browser must not end it.
    pub async fn flow_details(&self, state: TokenDigest) -> Result<Option<String>, Error> {
        let select = "SELECT details FROM pending_flow WHERE state_digest = $1 AND expires_at > $2";
        let query = sql(select).bind(state.to_hex()).bind(self.store.now());
        self.store.one(query).await?.map(|row| row.text("details")).transpose()
    }

    /// A flow as it is, without taking it.
    pub async fn flow(&self, state: TokenDigest) -> Result<Option<PendingFlow>, Error> {
        let row = state.to_hex();
        let select = "SELECT details, secrets, expires_at FROM pending_flow \
                      WHERE state_digest = $1 AND expires_at > $2";
        let found = self.store.one(sql(select).bind(row.clone()).bind(self.store.now())).await?;
        found.map(|found| self.opened_flow(&row, &found)).transpose()
    }

    fn opened_flow(&self, row: &str, found: &Row) -> Result<PendingFlow, Error> {
        let secrets = open_secrets(&self.store, flow_place(row), &found.bytes("secrets")?)?;
        let (details, expires_at) = (found.text("details")?, found.time("expires_at")?);
        Ok(PendingFlow { details, secrets, expires_at })
    }

    /// Puts other details in the place of `before`. Of several at the same time one does.
    pub async fn change_flow(
        &self,
        state: TokenDigest,
        before: &str,
        details: &str,
    ) -> Result<bool, Error> {
        let update =
            "UPDATE pending_flow SET details = $1 WHERE state_digest = $2 AND details = $3";
        let query =
            sql(update).bind(details.to_owned()).bind(state.to_hex()).bind(before.to_owned());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// Takes a flow out of the store: of several callbacks with one state only the first finds
    /// it. `None` too if it has expired.
    pub async fn take_flow(&self, state: TokenDigest) -> Result<Option<PendingFlow>, Error> {
        let row = state.to_hex();
        let delete = "DELETE FROM pending_flow WHERE state_digest = $1 \
                      RETURNING details, secrets, expires_at";
        let query = sql(delete).bind(row.clone());
        let taken =
            self.store.write(move |tx| Box::pin(async move { tx.one(query).await })).await?;
        let Some(taken) = taken else { return Ok(None) };
        if taken.int("expires_at")? <= self.store.now() {
            return Ok(None);
        }
        self.opened_flow(&row, &taken).map(Some)
    }

    /// Removes flows, sessions, invitations, callers' tokens and used assertions that have expired,
    /// and connect tokens a day after that.
    pub async fn sweep(&self) -> Result<u64, Error> {
        let now = self.store.now();
        let kept = i64::try_from(KEPT_AFTER_END.as_millis()).unwrap_or(i64::MAX);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let mut removed = 0;
                    for (delete, before) in [
                        ("DELETE FROM pending_flow WHERE expires_at <= $1", now),
                        ("DELETE FROM connect_token WHERE expires_at <= $1", now - kept),
                        ("DELETE FROM session WHERE expires_at <= $1", now),
                        ("DELETE FROM invitation WHERE expires_at <= $1", now),
                        ("DELETE FROM caller_token WHERE expires_at <= $1", now),
                        ("DELETE FROM used_assertion WHERE expires_at <= $1", now),
                    ] {
                        removed += tx.run(sql(delete).bind(before)).await?;
                    }
                    Ok(removed)
                })
            })
            .await
    }
}

/// A connect token that has ended is known for so long, so that its page can say who to ask.
const KEPT_AFTER_END: Duration = Duration::from_secs(24 * 60 * 60);

fn flow_place(state_digest: &str) -> Place<'_> {
    Place { table: "pending_flow", row: state_digest, column: "secrets", version: 0 }
}

fn connect_token_of(row: &Row) -> Result<ConnectToken, Error> {
    let details = ConnectTokenDetails {
        external_user: row.parsed("external_user")?,
        scopes: row.list("scopes")?,
        allowed_origins: row.list("allowed_origins")?,
        success_redirect_uri: row.text_or_none("success_redirect_uri")?,
        error_redirect_uri: row.text_or_none("error_redirect_uri")?,
        webhook_uri: row.text_or_none("webhook_uri")?,
        app: row.parsed_or_none("app")?,
        oauth_client: row.parsed_or_none("oauth_client")?,
        progressive_scopes: row.flag("progressive_scopes")?,
        expires_at: row.time("expires_at")?,
    };
    let session_id = row.int("session_id")?;
    if session_id <= 0 {
        return Err(unexpected("connect_token.session_id"));
    }
    Ok(ConnectToken {
        digest: row.digest("digest")?,
        session_id,
        details,
        spent_at: row.time_or_none("spent_at")?,
        created_at: row.time("created_at")?,
    })
}
