//! Stored accounts: made, found, renamed, connected again, deleted.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::account::{Account, Credentials, Health, HealthError, Owner, Tokens};
use super::changes::Noted;
use super::error::Error;
use super::row::{Row, json_list, json_map, ms_or_none, unexpected};
use super::seal::Place;
use super::sealing::{exposed, hidden};
use super::store::{Plain, SealedValue, Store, Tx, ms, sql, sql_of};
use super::{Filter, Vault};
use crate::ids::{AccountId, AppId, AppOverrideId, OAuthClientId};
use crate::secret::Secret;

/// What lists show. A macro, so that statements can be put together at compile time.
macro_rules! columns {
    () => {
        "id, nickname, app, auth, member, external_user, oauth_client, app_override, fields, \
         scopes, identity, version, dead, failures, error_code, error_message, error_at, expires_at, \
         refresh_expires_at, obtained_at, last_refreshed_at, next_refresh_at, last_used_at, \
         created_at, updated_at"
    };
}

/// An account that is about to be stored.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// `None`: the app's id, or `app-2`, `app-3`, …; an external user's account is called by its
    /// id, because no person picks it from a list.
    pub nickname: Option<AccountId>,
    pub app: AppId,
    pub auth: String,
    pub owner: Owner,
    pub oauth_client: Option<OAuthClientId>,
    pub app_override: Option<AppOverrideId>,
    pub fields: BTreeMap<String, String>,
    pub scopes: Vec<String>,
    pub identity: Option<String>,
    pub validity: Validity,
}

/// How long what was obtained is good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validity {
    pub obtained_at: Option<SystemTime>,
    pub expires_at: Option<SystemTime>,
    pub refresh_expires_at: Option<SystemTime>,
    pub next_refresh_at: Option<SystemTime>,
}

/// What a second connecting brings to an account that keeps its id, name and grants.
pub struct Reconnected {
    pub oauth_client: Option<OAuthClientId>,
    pub app_override: Option<AppOverrideId>,
    pub fields: BTreeMap<String, String>,
    pub scopes: Vec<String>,
    pub identity: Option<String>,
    pub credentials: Credentials,
    pub validity: Validity,
}

impl Vault {
    pub async fn create_account(
        &self,
        new: &NewAccount,
        credentials: &Credentials,
    ) -> Result<Account, Error> {
        let mut made = self.try_create(new, credentials).await;
        for _ in 0..NUMBERING_TRIES {
            // Two nodes may choose one number at the same time; the second one looks again.
            let again = new.nickname.is_none() && matches!(made, Err(Error::Conflict(_)));
            if !again {
                break;
            }
            made = self.try_create(new, credentials).await;
        }
        made
    }

    async fn try_create(
        &self,
        new: &NewAccount,
        credentials: &Credentials,
    ) -> Result<Account, Error> {
        let id: AccountId = super::random::id("apn_")?;
        let sealed = seal(&self.store, &id, FIRST, credentials)?;
        let now = self.store.now();
        let new = new.clone();
        self.store
            .write(move |tx| Box::pin(async move { insert(tx, id, &new, sealed, now).await }))
            .await
    }

    pub async fn accounts(&self, filter: &Filter) -> Result<Vec<Account>, Error> {
        let found = self.store.all(filter.query(COLUMNS)).await?;
        let mut accounts = found.iter().map(account_of).collect::<Result<Vec<_>, _>>()?;
        if filter.looks_back() {
            accounts.reverse();
        }
        Ok(accounts)
    }

    /// How many fit, whatever part of them is looked at.
    pub async fn count_accounts(&self, filter: &Filter) -> Result<u64, Error> {
        let row = self.store.one(filter.count()).await?;
        row.map_or(Ok(0), |row| Ok(row.int("total")?.unsigned_abs()))
    }

    /// By its id or its nickname.
    pub async fn account(&self, name: &AccountId) -> Result<Option<Account>, Error> {
        let query = format!("SELECT {COLUMNS} FROM account WHERE id = $1 OR nickname = $2");
        let query = sql_of(query).bind(name.to_string()).bind(name.to_string());
        self.store.one(query).await?.as_ref().map(account_of).transpose()
    }

    /// With its secrets. An account whose secrets do not open is an error that names it.
    pub async fn open_account(
        &self,
        id: &AccountId,
    ) -> Result<Option<(Account, Credentials)>, Error> {
        let query = format!("SELECT {COLUMNS}, credentials FROM account WHERE id = $1");
        let row = self.store.one(sql_of(query).bind(id.to_string())).await?;
        row.map(|row| open(&self.store, &row)).transpose()
    }

    /// Connects an account again: whatever was wrong with it is forgotten, and a refresh that is
    /// under way will find that it came too late. `None` if there is no such account.
    pub async fn reconnect_account(
        &self,
        id: &AccountId,
        with: Reconnected,
    ) -> Result<Option<Account>, Error> {
        let store = std::sync::Arc::clone(&self.store);
        let id = id.clone();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let Some(account) = lock(tx, &id).await? else { return Ok(None) };
                    let sealed = seal(&store, &id, account.version + 1, &with.credentials)?;
                    reconnect(tx, &account, &with, sealed, store.now()).await?;
                    lock(tx, &id).await
                })
            })
            .await
    }

    /// `false` if there is no such account.
    pub async fn rename_account(&self, id: &AccountId, to: &AccountId) -> Result<bool, Error> {
        let (id, to, now) = (id.clone(), to.clone(), self.store.now());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    check_nickname(tx, &to, &id).await?;
                    let update = "UPDATE account SET nickname = $1, updated_at = $2 WHERE id = $3";
                    let query = sql(update).bind(to.to_string()).bind(now).bind(id.to_string());
                    let renamed = tx.run(query).await? > 0;
                    tx.note(Noted::Account(id));
                    tx.note(Noted::Access);
                    Ok(renamed)
                })
            })
            .await
    }

    /// Gives back what it deleted, so that it can be revoked at the provider; the secrets are
    /// missing if they do not open. A refresh that is under way will find nothing to write to.
    pub async fn delete_account(
        &self,
        id: &AccountId,
    ) -> Result<Option<(Account, Option<Credentials>)>, Error> {
        let store = std::sync::Arc::clone(&self.store);
        let (id, now) = (id.clone(), self.store.now());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let Some(row) = lock_row(tx, &id).await? else { return Ok(None) };
                    let account = account_of(&row)?;
                    let credentials = open(&store, &row).ok().map(|(_, credentials)| credentials);
                    // Callers that used it are told so; a few thousand names at most.
                    let ended = "INSERT INTO ended_binding (caller, account, app, ended_at) \
                                 SELECT caller, $1, $2, $3 FROM binding WHERE account = $1";
                    let ended = sql(ended).bind(id.to_string()).bind(account.app.to_string());
                    tx.run(ended.bind(now)).await?;
                    tx.run(sql("DELETE FROM account WHERE id = $1").bind(id.to_string())).await?;
                    tx.note(Noted::Account(id));
                    tx.note(Noted::Access);
                    Ok(Some((account, credentials)))
                })
            })
            .await
    }

    /// Writes down when accounts were last used: in batches, outside the version, and of no
    /// interest to other nodes.
    pub async fn touch(&self, used: &[(AccountId, SystemTime)]) -> Result<(), Error> {
        let used: Vec<_> = used.iter().map(|(id, at)| (id.to_string(), ms(*at))).collect();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    for (id, at) in used {
                        let update = "UPDATE account SET last_used_at = $1 \
                                      WHERE id = $2 AND COALESCE(last_used_at, 0) < $3";
                        tx.run(sql(update).bind(at).bind(id).bind(at)).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

async fn insert(
    tx: &mut Tx,
    id: AccountId,
    new: &NewAccount,
    sealed: SealedValue,
    now: i64,
) -> Result<Account, Error> {
    let nickname = nickname(tx, &id, new).await?;
    let (member, external_user) = match &new.owner {
        Owner::Workspace => (None, None),
        Owner::Member(member) => (Some(member.to_string()), None),
        Owner::ExternalUser(user) => (None, Some(user.to_string())),
    };
    let validity = new.validity;
    let insert = "INSERT INTO account (id, nickname, app, auth, member, external_user, \
        oauth_client, fields, scopes, identity, version, credentials, credentials_key, dead, \
        failures, expires_at, refresh_expires_at, obtained_at, next_refresh_at, last_used_at, \
        created_at, updated_at, app_override) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
        $11, $12, $13, 0, 0, $14, $15, $16, $17, $18, $19, $20, $21)";
    tx.seals(&sealed.key);
    let query = sql(insert)
        .bind(id.to_string())
        .bind(nickname.to_string())
        .bind(new.app.to_string())
        .bind(new.auth.clone())
        .bind(member)
        .bind(external_user)
        .bind(new.oauth_client.as_ref().map(OAuthClientId::to_string))
        .bind(json_map(&new.fields))
        .bind(json_list(&new.scopes))
        .bind(new.identity.clone())
        .bind(FIRST)
        .bind(sealed.bytes)
        .bind(sealed.key)
        .bind(ms_or_none(validity.expires_at))
        .bind(ms_or_none(validity.refresh_expires_at))
        .bind(ms_or_none(validity.obtained_at))
        .bind(ms_or_none(validity.next_refresh_at))
        .bind(now)
        .bind(now)
        .bind(now)
        .bind(new.app_override.as_ref().map(AppOverrideId::to_string));
    tx.run(query).await?;
    tx.note(Noted::Account(id.clone()));
    lock(tx, &id).await?.ok_or_else(|| unexpected("account.id"))
}

async fn reconnect(
    tx: &mut Tx,
    account: &Account,
    with: &Reconnected,
    sealed: SealedValue,
    now: i64,
) -> Result<(), Error> {
    let update = "UPDATE account SET version = version + 1, credentials = $1, \
        credentials_key = $2, oauth_client = $3, fields = $4, scopes = $5, identity = $6, \
        expires_at = $7, refresh_expires_at = $8, obtained_at = $9, next_refresh_at = $10, \
        dead = 0, failures = 0, error_code = NULL, error_message = NULL, error_at = NULL, \
        lease_owner = NULL, lease_until = NULL, attempt = NULL, attempt_at = NULL, \
        committed_attempt = NULL, last_used_at = $11, updated_at = $12, app_override = $13 \
        WHERE id = $14";
    let validity = with.validity;
    tx.seals(&sealed.key);
    let query = sql(update)
        .bind(sealed.bytes)
        .bind(sealed.key)
        .bind(with.oauth_client.as_ref().map(OAuthClientId::to_string))
        .bind(json_map(&with.fields))
        .bind(json_list(&with.scopes))
        .bind(with.identity.clone())
        .bind(ms_or_none(validity.expires_at))
        .bind(ms_or_none(validity.refresh_expires_at))
        .bind(ms_or_none(validity.obtained_at))
        .bind(ms_or_none(validity.next_refresh_at))
        .bind(now)
        .bind(now)
        .bind(with.app_override.as_ref().map(AppOverrideId::to_string))
        .bind(account.id.to_string());
    tx.run(query).await?;
    tx.note(Noted::Account(account.id.clone()));
    Ok(())
}

async fn nickname(tx: &mut Tx, id: &AccountId, new: &NewAccount) -> Result<AccountId, Error> {
    if let Some(nickname) = &new.nickname {
        check_nickname(tx, nickname, id).await?;
        return Ok(nickname.clone());
    }
    if matches!(new.owner, Owner::ExternalUser(_)) {
        return Ok(id.clone());
    }
    for number in 1.. {
        let text = match number {
            1 => new.app.to_string(),
            _ => format!("{}-{number}", new.app),
        };
        let name = text.parse().map_err(|_| Error::conflict("the app's id is too long"))?;
        if !is_taken(tx, &name).await? {
            return Ok(name);
        }
    }
    Err(Error::conflict("every number is taken"))
}

/// A nickname that looks like an id could make one account answer to another's.
async fn check_nickname(tx: &mut Tx, name: &AccountId, id: &AccountId) -> Result<(), Error> {
    if name.as_str().starts_with("apn_") && name != id {
        return Err(Error::conflict("names that begin with apn_ are kept for ids"));
    }
    let query = "SELECT id FROM account WHERE nickname = $1 AND id <> $2";
    let taken = tx.one(sql(query).bind(name.to_string()).bind(id.to_string())).await?;
    match taken {
        Some(_) => {
            Err(Error::conflict(format!("another account is called {name}: take another name")))
        }
        None => Ok(()),
    }
}

async fn is_taken(tx: &mut Tx, name: &AccountId) -> Result<bool, Error> {
    let query = sql("SELECT id FROM account WHERE nickname = $1").bind(name.to_string());
    Ok(tx.one(query).await?.is_some())
}

pub(super) async fn lock_row(tx: &mut Tx, id: &AccountId) -> Result<Option<Row>, Error> {
    tx.one_locked(
        concat!(
            "SELECT ",
            columns!(),
            ", credentials, lease_until, attempt, committed_attempt FROM account WHERE id = $1"
        ),
        id.as_str(),
    )
    .await
}

async fn lock(tx: &mut Tx, id: &AccountId) -> Result<Option<Account>, Error> {
    lock_row(tx, id).await?.as_ref().map(account_of).transpose()
}

pub(super) fn account_of(row: &Row) -> Result<Account, Error> {
    Ok(Account {
        id: row.parsed("id")?,
        nickname: row.parsed("nickname")?,
        app: row.parsed("app")?,
        auth: row.text("auth")?,
        owner: owner_of(row)?,
        oauth_client: row.parsed_or_none("oauth_client")?,
        app_override: row.parsed_or_none("app_override")?,
        fields: row.map("fields")?,
        scopes: row.list("scopes")?,
        identity: row.text_or_none("identity")?,
        version: row.int("version")?,
        health: health_of(row)?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn owner_of(row: &Row) -> Result<Owner, Error> {
    let member = row.parsed_or_none("member")?.map(Owner::Member);
    let user = row.parsed_or_none("external_user")?.map(Owner::ExternalUser);
    Ok(user.or(member).unwrap_or(Owner::Workspace))
}

fn health_of(row: &Row) -> Result<Health, Error> {
    Ok(Health {
        dead: row.flag("dead")?,
        failures: u32::try_from(row.int("failures")?).unwrap_or(u32::MAX),
        error: error_of(row)?,
        expires_at: row.time_or_none("expires_at")?,
        refresh_expires_at: row.time_or_none("refresh_expires_at")?,
        obtained_at: row.time_or_none("obtained_at")?,
        last_refreshed_at: row.time_or_none("last_refreshed_at")?,
        next_refresh_at: row.time_or_none("next_refresh_at")?,
        last_used_at: row.time_or_none("last_used_at")?,
    })
}

fn error_of(row: &Row) -> Result<Option<HealthError>, Error> {
    let Some(code) = row.text_or_none("error_code")? else { return Ok(None) };
    let message = row.text_or_none("error_message")?.unwrap_or_default();
    Ok(Some(HealthError { code, message, at: row.time("error_at")? }))
}

/// The account of a row that also has its `credentials`, and what they hold.
pub(super) fn open(store: &Store, row: &Row) -> Result<(Account, Credentials), Error> {
    let account = account_of(row)?;
    let plain = store.open(place(&account.id, account.version), &row.bytes("credentials")?)?;
    let credentials = decode(&plain)?;
    Ok((account, credentials))
}

pub(super) fn seal(
    store: &Store,
    id: &AccountId,
    version: i64,
    credentials: &Credentials,
) -> Result<SealedValue, Error> {
    store.seal(place(id, version), &encode(credentials))
}

pub(super) fn place(id: &AccountId, version: i64) -> Place<'_> {
    Place { table: "account", row: id.as_str(), column: "credentials", version }
}

/// Both tokens and all secrets in one piece: they are sealed with one key or not at all.
fn encode(credentials: &Credentials) -> Plain {
    let tokens = credentials.tokens.as_ref();
    let written = Written {
        secrets: exposed(&credentials.secrets),
        access: tokens.map(|t| t.access.expose()),
        refresh: tokens.and_then(|t| t.refresh.as_ref()).map(Secret::expose),
    };
    super::random::json(&written)
}

fn decode(plain: &[u8]) -> Result<Credentials, Error> {
    let read: Read =
        serde_json::from_slice(plain).map_err(|_| unexpected("account.credentials"))?;
    let tokens = read
        .access
        .map(|access| Tokens { access: access.into(), refresh: read.refresh.map(Secret::from) });
    Ok(Credentials { secrets: hidden(read.secrets), tokens })
}

#[derive(serde::Serialize)]
struct Written<'a> {
    secrets: BTreeMap<&'a str, &'a str>,
    access: Option<&'a str>,
    refresh: Option<&'a str>,
}

#[derive(serde::Deserialize)]
struct Read {
    secrets: BTreeMap<String, String>,
    access: Option<String>,
    refresh: Option<String>,
}

const NUMBERING_TRIES: usize = 8;
/// The version of an account that was connected once.
const FIRST: i64 = 1;

const COLUMNS: &str = columns!();
