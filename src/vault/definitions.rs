//! App definitions of the workspace's own: the same TOML as files have, in the store, so that every
//! node takes them in at once. They hold no secret.

use std::time::SystemTime;

use super::Vault;
use super::changes::Noted;
use super::error::Error;
use super::row::Row;
use super::store::sql;
use crate::ids::{AppId, MemberId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppDefinition {
    pub id: AppId,
    pub definition: String,
    pub created_by: Option<MemberId>,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

impl AppDefinition {
    /// What stands for its file in messages.
    pub fn file(&self) -> String {
        format!("the workspace's definition of {}", self.id)
    }
}

impl Vault {
    /// Adds a definition, or puts it in the place of the one with its id.
    pub async fn put_app_definition(
        &self,
        id: &AppId,
        definition: &str,
        by: Option<&MemberId>,
    ) -> Result<(), Error> {
        let insert = "INSERT INTO app_definition (id, definition, created_by, created_at, \
                      updated_at) VALUES ($1, $2, $3, $4, $4) ON CONFLICT (id) DO UPDATE SET \
                      definition = excluded.definition, updated_at = excluded.updated_at";
        let query = sql(insert)
            .bind(id.to_string())
            .bind(definition.to_owned())
            .bind(by.map(MemberId::to_string))
            .bind(self.store.now());
        self.store.change(Some(Noted::Apps), query).await.map(|_| ())
    }

    /// `false` if there is none with this id.
    pub async fn delete_app_definition(&self, id: &AppId) -> Result<bool, Error> {
        let query = sql("DELETE FROM app_definition WHERE id = $1").bind(id.to_string());
        Ok(self.store.change(Some(Noted::Apps), query).await? > 0)
    }

    pub async fn app_definitions(&self) -> Result<Vec<AppDefinition>, Error> {
        let query = sql("SELECT * FROM app_definition ORDER BY id");
        self.store.all(query).await?.iter().map(definition_of).collect()
    }

    pub async fn app_definition(&self, id: &AppId) -> Result<Option<AppDefinition>, Error> {
        let query = sql("SELECT * FROM app_definition WHERE id = $1").bind(id.to_string());
        self.store.one(query).await?.as_ref().map(definition_of).transpose()
    }
}

fn definition_of(row: &Row) -> Result<AppDefinition, Error> {
    Ok(AppDefinition {
        id: row.parsed("id")?,
        definition: row.text("definition")?,
        created_by: row.parsed_or_none("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
