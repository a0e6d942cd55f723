//! App overrides: what a project decides for its users before they connect an app. Values of fields
//! that are no secret, and perhaps the OAuth client. They hold no secret.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::Vault;
use super::error::Error;
use super::row::{Row, json_map, unexpected};
use super::store::sql;
use crate::ids::{AppId, AppOverrideId, OAuthClientId, ProjectId};

#[derive(Debug, Clone)]
pub struct AppOverride {
    pub id: AppOverrideId,
    pub project: ProjectId,
    pub app: AppId,
    pub details: AppOverrideDetails,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

/// What may be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppOverrideDetails {
    /// Unique in the project.
    pub name: String,
    pub oauth_client: Option<OAuthClientId>,
    /// By field of the app.
    pub fields: BTreeMap<String, String>,
}

impl Vault {
    /// # Errors
    /// A conflict when the project has one of this name.
    pub async fn create_app_override(
        &self,
        project: &ProjectId,
        app: &AppId,
        details: &AppOverrideDetails,
    ) -> Result<AppOverride, Error> {
        let (id, now): (AppOverrideId, _) = (super::random::id("ao_")?, self.store.now());
        let insert = "INSERT INTO app_override (id, project, app, name, oauth_client, fields, \
                      created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let query = sql(insert)
            .bind(id.to_string())
            .bind(project.to_string())
            .bind(app.to_string())
            .bind(details.name.clone())
            .bind(details.oauth_client.as_ref().map(OAuthClientId::to_string))
            .bind(json_map(&details.fields))
            .bind(now)
            .bind(now);
        self.store.change(None, query).await?;
        self.app_override(&id).await?.ok_or_else(|| unexpected("app_override.id"))
    }

    /// Its app cannot be changed: the fields are that app's. `false` if there is none.
    ///
    /// # Errors
    /// A conflict when the project has another one of this name.
    pub async fn update_app_override(
        &self,
        id: &AppOverrideId,
        details: &AppOverrideDetails,
    ) -> Result<bool, Error> {
        let update = "UPDATE app_override SET name = $1, oauth_client = $2, fields = $3, \
                      updated_at = $4 WHERE id = $5";
        let query = sql(update)
            .bind(details.name.clone())
            .bind(details.oauth_client.as_ref().map(OAuthClientId::to_string))
            .bind(json_map(&details.fields))
            .bind(self.store.now())
            .bind(id.to_string());
        Ok(self.store.change(None, query).await? > 0)
    }

    pub async fn app_overrides(&self, project: &ProjectId) -> Result<Vec<AppOverride>, Error> {
        let query = sql("SELECT * FROM app_override WHERE project = $1 ORDER BY id");
        let found = self.store.all(query.bind(project.to_string())).await?;
        found.iter().map(override_of).collect()
    }

    pub async fn app_override(&self, id: &AppOverrideId) -> Result<Option<AppOverride>, Error> {
        let query = sql("SELECT * FROM app_override WHERE id = $1").bind(id.to_string());
        self.store.one(query).await?.as_ref().map(override_of).transpose()
    }

    /// Accounts that were connected with it stay as they are.
    pub async fn delete_app_override(&self, id: &AppOverrideId) -> Result<bool, Error> {
        let query = sql("DELETE FROM app_override WHERE id = $1").bind(id.to_string());
        Ok(self.store.change(None, query).await? > 0)
    }
}

fn override_of(row: &Row) -> Result<AppOverride, Error> {
    let details = AppOverrideDetails {
        name: row.text("name")?,
        oauth_client: row.parsed_or_none("oauth_client")?,
        fields: row.map("fields")?,
    };
    Ok(AppOverride {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        app: row.parsed("app")?,
        details,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
