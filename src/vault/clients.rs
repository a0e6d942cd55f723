//! The clients that the operator registered with providers, their secrets sealed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::Vault;
use super::changes::Noted;
use super::error::Error;
use super::row::{Row, json_list, json_map, unexpected};
use super::seal::Place;
use super::sealing::{open_secrets, seal_secrets};
use super::store::{Store, sql};
use crate::ids::{AppId, ExternalUserId, OAuthClientId};
use crate::inject::Properties;

/// What is known of a client without its secrets.
#[derive(Debug, Clone)]
pub struct OAuthClientRecord {
    pub id: OAuthClientId,
    pub details: OAuthClientDetails,
    /// Whose it is, who brought it; `None`: the operator's, for everybody.
    pub external_user: Option<ExternalUserId>,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthClientDetails {
    pub app: AppId,
    /// The app's `[auth.<id>]`.
    pub auth: String,
    pub name: String,
    pub client_id: String,
    /// `None`: this server's own.
    pub redirect_uri: Option<String>,
    /// Asked for in place of the app's default; empty: the default.
    pub scopes: Vec<String>,
    /// Values of the app's own that are no secret, such as a key's id or a tenant.
    pub fields: BTreeMap<String, String>,
}

impl Vault {
    /// `secrets` by name: `secret`, `private_key`, whatever the app's definition calls for.
    pub async fn create_oauth_client(
        &self,
        details: &OAuthClientDetails,
        secrets: &Properties,
    ) -> Result<OAuthClientRecord, Error> {
        self.insert_oauth_client(details, secrets, None).await
    }

    /// One that an external user brought, for this user's accounts alone. It goes with the user.
    pub async fn create_own_oauth_client(
        &self,
        user: &ExternalUserId,
        details: &OAuthClientDetails,
        secrets: &Properties,
    ) -> Result<OAuthClientRecord, Error> {
        self.insert_oauth_client(details, secrets, Some(user)).await
    }

    async fn insert_oauth_client(
        &self,
        details: &OAuthClientDetails,
        secrets: &Properties,
        user: Option<&ExternalUserId>,
    ) -> Result<OAuthClientRecord, Error> {
        let (id, now): (OAuthClientId, _) = (super::random::id("oa_")?, self.store.now());
        let sealed = seal_secrets(&self.store, place(&id), secrets)?;
        let insert = "INSERT INTO oauth_client (id, app, auth, name, client_id, secrets, \
            secrets_key, redirect_uri, scopes, fields, created_at, updated_at, \
            external_user) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let active = Some(sealed.key.clone());
        let query = sql(insert)
            .bind(id.to_string())
            .bind(details.app.to_string())
            .bind(details.auth.clone())
            .bind(details.name.clone())
            .bind(details.client_id.clone())
            .bind(sealed.bytes)
            .bind(sealed.key)
            .bind(details.redirect_uri.clone())
            .bind(json_list(&details.scopes))
            .bind(json_map(&details.fields))
            .bind(now)
            .bind(now)
            .bind(user.map(ExternalUserId::to_string));
        self.store.change_sealed(Some(Noted::OAuthClient(id.clone())), active, query).await?;
        self.oauth_client(&id).await?.ok_or_else(|| unexpected("oauth_client.id"))
    }

    /// `secrets: None` leaves them as they are. Its app cannot be changed: accounts refer to it.
    /// `false` if there is no such client.
    pub async fn update_oauth_client(
        &self,
        id: &OAuthClientId,
        details: &OAuthClientDetails,
        secrets: Option<&Properties>,
    ) -> Result<bool, Error> {
        let sealed = secrets.map(|s| seal_secrets(&self.store, place(id), s)).transpose()?;
        let (bytes, key) = sealed.map(|sealed| (sealed.bytes, sealed.key)).unzip();
        let active = key.clone();
        let update = "UPDATE oauth_client SET name = $1, client_id = $2, redirect_uri = $3, \
            scopes = $4, fields = $5, secrets = COALESCE($6, secrets), \
            secrets_key = COALESCE($7, secrets_key), updated_at = $8 WHERE id = $9";
        let query = sql(update)
            .bind(details.name.clone())
            .bind(details.client_id.clone())
            .bind(details.redirect_uri.clone())
            .bind(json_list(&details.scopes))
            .bind(json_map(&details.fields))
            .bind(bytes)
            .bind(key)
            .bind(self.store.now())
            .bind(id.to_string());
        Ok(self.store.change_sealed(Some(Noted::OAuthClient(id.clone())), active, query).await? > 0)
    }

    /// The operator's own.
    pub async fn oauth_clients(&self) -> Result<Vec<OAuthClientRecord>, Error> {
        let query = "SELECT * FROM oauth_client WHERE external_user IS NULL \
                     ORDER BY app, created_at, id";
        self.store.all(sql(query)).await?.iter().map(client_of).collect()
    }

    /// Those that an external user brought.
    pub async fn own_oauth_clients(
        &self,
        user: &ExternalUserId,
    ) -> Result<Vec<OAuthClientRecord>, Error> {
        let query = "SELECT * FROM oauth_client WHERE external_user = $1 \
                     ORDER BY app, created_at, id";
        let found = self.store.all(sql(query).bind(user.to_string())).await?;
        found.iter().map(client_of).collect()
    }

    pub async fn oauth_client(
        &self,
        id: &OAuthClientId,
    ) -> Result<Option<OAuthClientRecord>, Error> {
        let query = sql("SELECT * FROM oauth_client WHERE id = $1").bind(id.to_string());
        self.store.one(query).await?.as_ref().map(client_of).transpose()
    }

    pub async fn open_oauth_client(
        &self,
        id: &OAuthClientId,
    ) -> Result<Option<(OAuthClientRecord, Properties)>, Error> {
        let query = sql("SELECT * FROM oauth_client WHERE id = $1").bind(id.to_string());
        let Some(row) = self.store.one(query).await? else { return Ok(None) };
        Ok(Some((client_of(&row)?, opened(&self.store, id, &row)?)))
    }

    /// Refused while accounts were connected with it.
    pub async fn delete_oauth_client(&self, id: &OAuthClientId) -> Result<bool, Error> {
        let query = sql("DELETE FROM oauth_client WHERE id = $1").bind(id.to_string());
        Ok(self.store.change(Some(Noted::OAuthClient(id.clone())), query).await? > 0)
    }
}

fn opened(store: &Store, id: &OAuthClientId, row: &Row) -> Result<Properties, Error> {
    open_secrets(store, place(id), &row.bytes("secrets")?)
}

fn place(id: &OAuthClientId) -> Place<'_> {
    Place { table: "oauth_client", row: id.as_str(), column: "secrets", version: 0 }
}

fn client_of(row: &Row) -> Result<OAuthClientRecord, Error> {
    let details = OAuthClientDetails {
        app: row.parsed("app")?,
        auth: row.text("auth")?,
        name: row.text("name")?,
        client_id: row.text("client_id")?,
        redirect_uri: row.text_or_none("redirect_uri")?,
        scopes: row.list("scopes")?,
        fields: row.map("fields")?,
    };
    let (created_at, updated_at) = (row.time("created_at")?, row.time("updated_at")?);
    let (id, external_user) = (row.parsed("id")?, row.parsed_or_none("external_user")?);
    Ok(OAuthClientRecord { id, details, external_user, created_at, updated_at })
}
