//! Callers, the tokens that prove them, and the accounts they may use.

use std::time::SystemTime;

use super::Vault;
use super::changes::Noted;
use super::error::Error;
use super::row::{Row, json_list, ms_or_none, unexpected};
use super::store::sql;
use crate::ids::{AccountId, AppId, CallerId, MemberId};
use crate::secret::TokenDigest;

#[derive(Debug, Clone)]
pub struct StoredCaller {
    pub name: CallerId,
    pub details: CallerDetails,
    pub created_by: Option<MemberId>,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

/// What the config says of a caller, as the config would write it; parsed where it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerDetails {
    pub description: String,
    /// `enforce` or `report`; `None`: the config's default.
    pub mode: Option<String>,
    pub rate: Option<String>,
    pub max_concurrent: Option<u32>,
    /// The rules' own text.
    pub rules: String,
    pub expires_at: Option<SystemTime>,
}

/// One of a caller's tokens; the token itself is nowhere.
#[derive(Debug, Clone)]
pub struct CallerToken {
    pub id: String,
    pub caller: CallerId,
    pub digest: TokenDigest,
    pub label: String,
    pub expires_at: Option<SystemTime>,
    pub created_at: SystemTime,
}

/// An account that a caller may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub caller: CallerId,
    pub account: AccountId,
    /// Taken among several of the same app where the request names none.
    pub is_default: bool,
    /// Requests below these paths take it.
    pub paths: Vec<String>,
    /// Who bound it: it is good for as long as this member may use the account. `None`: the
    /// operator, at the terminal or by the API, who may use all.
    pub created_by: Option<MemberId>,
    pub created_at: SystemTime,
}

impl Vault {
    pub async fn create_caller(
        &self,
        name: &CallerId,
        details: &CallerDetails,
        created_by: Option<&MemberId>,
    ) -> Result<StoredCaller, Error> {
        let now = self.store.now();
        let insert = "INSERT INTO caller (name, description, mode, rate, max_concurrent, rules, \
            created_by, expires_at, created_at, updated_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let query = sql(insert)
            .bind(name.to_string())
            .bind(details.description.clone())
            .bind(details.mode.clone())
            .bind(details.rate.clone())
            .bind(details.max_concurrent.map(i64::from))
            .bind(details.rules.clone())
            .bind(created_by.map(MemberId::to_string))
            .bind(ms_or_none(details.expires_at))
            .bind(now)
            .bind(now);
        self.store.change(Some(Noted::Access), query).await.map_err(|error| match error {
            Error::Conflict(_) => Error::conflict(format!("there is a caller {name} already")),
            other => other,
        })?;
        self.caller(name).await?.ok_or_else(|| unexpected("caller.name"))
    }

    pub async fn update_caller(
        &self,
        name: &CallerId,
        details: &CallerDetails,
    ) -> Result<bool, Error> {
        let update = "UPDATE caller SET description = $1, mode = $2, rate = $3, \
            max_concurrent = $4, rules = $5, expires_at = $6, updated_at = $7 WHERE name = $8";
        let query = sql(update)
            .bind(details.description.clone())
            .bind(details.mode.clone())
            .bind(details.rate.clone())
            .bind(details.max_concurrent.map(i64::from))
            .bind(details.rules.clone())
            .bind(ms_or_none(details.expires_at))
            .bind(self.store.now())
            .bind(name.to_string());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    pub async fn callers(&self) -> Result<Vec<StoredCaller>, Error> {
        let query = sql("SELECT * FROM caller ORDER BY name");
        self.store.all(query).await?.iter().map(caller_of).collect()
    }

    pub async fn caller(&self, name: &CallerId) -> Result<Option<StoredCaller>, Error> {
        let query = sql("SELECT * FROM caller WHERE name = $1").bind(name.to_string());
        self.store.one(query).await?.as_ref().map(caller_of).transpose()
    }

    /// With its tokens and bindings.
    pub async fn delete_caller(&self, name: &CallerId) -> Result<bool, Error> {
        let query = sql("DELETE FROM caller WHERE name = $1").bind(name.to_string());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    pub async fn add_caller_token(
        &self,
        caller: &CallerId,
        digest: TokenDigest,
        label: &str,
        expires_at: Option<SystemTime>,
    ) -> Result<CallerToken, Error> {
        let id = format!("tok_{}", super::random::text(16)?);
        let now = self.store.now();
        let insert = "INSERT INTO caller_token (id, caller, digest, label, expires_at, \
                      created_at) VALUES ($1, $2, $3, $4, $5, $6)";
        let query = sql(insert)
            .bind(id.clone())
            .bind(caller.to_string())
            .bind(digest.to_hex())
            .bind(label.to_owned())
            .bind(ms_or_none(expires_at))
            .bind(now);
        self.store.change(Some(Noted::Access), query).await?;
        let (caller, label) = (caller.clone(), label.to_owned());
        let created_at = super::store::at(now);
        Ok(CallerToken { id, caller, digest, label, expires_at, created_at })
    }

    /// Of one caller, or all of them.
    pub async fn caller_tokens(
        &self,
        caller: Option<&CallerId>,
    ) -> Result<Vec<CallerToken>, Error> {
        let order = "ORDER BY caller, created_at, id";
        let query = match caller {
            Some(name) => super::store::sql_of(format!(
                "SELECT * FROM caller_token WHERE caller = $1 {order}"
            ))
            .bind(name.to_string()),
            None => super::store::sql_of(format!("SELECT * FROM caller_token {order}")),
        };
        self.store.all(query).await?.iter().map(token_of).collect()
    }

    /// Lets a token end, for a rotation: the old one works until `at`.
    pub async fn expire_caller_token(&self, id: &str, at: SystemTime) -> Result<bool, Error> {
        let update = "UPDATE caller_token SET expires_at = $1 WHERE id = $2";
        let query = sql(update).bind(super::store::ms(at)).bind(id.to_owned());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    pub async fn delete_caller_token(&self, id: &str) -> Result<bool, Error> {
        let query = sql("DELETE FROM caller_token WHERE id = $1").bind(id.to_owned());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    /// Binds or changes the binding; it rests on whoever did so last. A new default takes that from
    /// the caller's other account of the same app.
    pub async fn bind(
        &self,
        caller: &CallerId,
        account: &AccountId,
        is_default: bool,
        paths: &[String],
        by: Option<&MemberId>,
    ) -> Result<(), Error> {
        let (caller, account) = (caller.to_string(), account.to_string());
        let (paths, by, now) = (json_list(paths), by.map(MemberId::to_string), self.store.now());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    if is_default {
                        let others = "UPDATE binding SET is_default = 0 WHERE caller = $1 AND \
                            account IN (SELECT id FROM account WHERE app = \
                            (SELECT app FROM account WHERE id = $2))";
                        tx.run(sql(others).bind(caller.clone()).bind(account.clone())).await?;
                    }
                    let over = "DELETE FROM ended_binding WHERE caller = $1 AND app = \
                                (SELECT app FROM account WHERE id = $2)";
                    tx.run(sql(over).bind(caller.clone()).bind(account.clone())).await?;
                    let upsert = "INSERT INTO binding (caller, account, is_default, paths, \
                        created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
                        ON CONFLICT (caller, account) DO UPDATE SET \
                        is_default = excluded.is_default, paths = excluded.paths, \
                        created_by = excluded.created_by";
                    let query = sql(upsert)
                        .bind(caller)
                        .bind(account)
                        .bind(i64::from(is_default))
                        .bind(paths)
                        .bind(by)
                        .bind(now);
                    tx.note(Noted::Access);
                    tx.run(query).await.map(|_| ())
                })
            })
            .await
    }

    pub async fn unbind(&self, caller: &CallerId, account: &AccountId) -> Result<bool, Error> {
        let delete = "DELETE FROM binding WHERE caller = $1 AND account = $2";
        let query = sql(delete).bind(caller.to_string()).bind(account.to_string());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    /// All of them, by caller.
    pub async fn bindings(&self) -> Result<Vec<Binding>, Error> {
        let query = sql("SELECT * FROM binding ORDER BY caller, created_at, account");
        self.store.all(query).await?.iter().map(binding_of).collect()
    }
}

/// A binding that ended with its account.
#[derive(Debug, Clone)]
pub struct EndedBinding {
    pub caller: CallerId,
    pub account: AccountId,
    pub app: AppId,
}

impl Vault {
    /// Those in whose place no other account of the app was bound.
    pub async fn ended_bindings(&self) -> Result<Vec<EndedBinding>, Error> {
        let query = sql("SELECT * FROM ended_binding ORDER BY caller, ended_at DESC, account");
        self.store.all(query).await?.iter().map(ended_of).collect()
    }
}

fn ended_of(row: &Row) -> Result<EndedBinding, Error> {
    Ok(EndedBinding {
        caller: row.parsed("caller")?,
        account: row.parsed("account")?,
        app: row.parsed("app")?,
    })
}

fn caller_of(row: &Row) -> Result<StoredCaller, Error> {
    let concurrent = row.int_or_none("max_concurrent")?.map(u32::try_from).transpose();
    let details = CallerDetails {
        description: row.text("description")?,
        mode: row.text_or_none("mode")?,
        rate: row.text_or_none("rate")?,
        max_concurrent: concurrent.map_err(|_| unexpected("caller.max_concurrent"))?,
        rules: row.text("rules")?,
        expires_at: row.time_or_none("expires_at")?,
    };
    Ok(StoredCaller {
        name: row.parsed("name")?,
        details,
        created_by: row.parsed_or_none("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn token_of(row: &Row) -> Result<CallerToken, Error> {
    Ok(CallerToken {
        id: row.text("id")?,
        caller: row.parsed("caller")?,
        digest: row.digest("digest")?,
        label: row.text("label")?,
        expires_at: row.time_or_none("expires_at")?,
        created_at: row.time("created_at")?,
    })
}

fn binding_of(row: &Row) -> Result<Binding, Error> {
    Ok(Binding {
        caller: row.parsed("caller")?,
        account: row.parsed("account")?,
        is_default: row.flag("is_default")?,
        paths: row.list("paths")?,
        created_by: row.parsed_or_none("created_by")?,
        created_at: row.time("created_at")?,
    })
}
