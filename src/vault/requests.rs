//! Requests that members keep for the builder: each their own, and sealed, because people put into
//! bodies what is nobody else's business.

use std::time::SystemTime;

use super::Vault;
use super::error::Error;
use super::row::{Row, unexpected};
use super::seal::Place;
use super::sealing::{open_secrets, seal_secrets};
use super::store::{Store, sql};
use crate::ids::MemberId;
use crate::inject::Properties;
use crate::secret::Secret;

/// Longest request that is kept.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// How many a member may keep.
pub const MAX_REQUESTS: i64 = 500;

/// A request that is kept, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRequest {
    /// `req_…`
    pub id: String,
    pub name: String,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

impl Vault {
    /// Keeps a request, and gives its id. What `request` says is the builder's own business.
    ///
    /// # Errors
    /// When it is too long, or the member keeps too many.
    pub async fn save_request(
        &self,
        member: &MemberId,
        name: &str,
        request: &Secret,
    ) -> Result<String, Error> {
        check_length(request)?;
        let id = format!("req_{}", super::random::text(16)?);
        let sealed = seal_secrets(&self.store, place(&id), &wrapped(request))?;
        let active = sealed.key.clone();
        let (given, now) = (id.clone(), self.store.now());
        let (member, name) = (member.to_string(), name.to_owned());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let count = "SELECT COUNT(*) AS total FROM saved_request WHERE member = $1";
                    let row = tx.one(sql(count).bind(member.clone())).await?;
                    let total = row.ok_or_else(|| unexpected("saved_request"))?.int("total")?;
                    if total >= MAX_REQUESTS {
                        return Err(Error::conflict(TOO_MANY));
                    }
                    tx.seals(&active);
                    let insert = "INSERT INTO saved_request (id, member, name, request, \
                                  request_key, created_at, updated_at) \
                                  VALUES ($1, $2, $3, $4, $5, $6, $6)";
                    let insert = sql(insert).bind(id).bind(member).bind(name);
                    tx.run(insert.bind(sealed.bytes).bind(sealed.key).bind(now)).await.map(|_| ())
                })
            })
            .await?;
        Ok(given)
    }

    /// Puts a request in the place of one that is kept. `false` if the member keeps none with
    /// this id.
    ///
    /// # Errors
    /// When it is too long.
    pub async fn update_request(
        &self,
        member: &MemberId,
        id: &str,
        name: &str,
        request: &Secret,
    ) -> Result<bool, Error> {
        check_length(request)?;
        let sealed = seal_secrets(&self.store, place(id), &wrapped(request))?;
        let active = Some(sealed.key.clone());
        let update = "UPDATE saved_request SET name = $1, request = $2, request_key = $3, \
                      updated_at = $4 WHERE id = $5 AND member = $6";
        let query = sql(update)
            .bind(name.to_owned())
            .bind(sealed.bytes)
            .bind(sealed.key)
            .bind(self.store.now())
            .bind(id.to_owned())
            .bind(member.to_string());
        Ok(self.store.change_sealed(None, active, query).await? > 0)
    }

    /// Those of a member, by name.
    pub async fn saved_requests(&self, member: &MemberId) -> Result<Vec<SavedRequest>, Error> {
        let select = "SELECT id, name, created_at, updated_at FROM saved_request \
                      WHERE member = $1 ORDER BY LOWER(name), id";
        let query = sql(select).bind(member.to_string());
        self.store.all(query).await?.iter().map(saved_of).collect()
    }

    /// One of a member's, and what it says.
    pub async fn saved_request(
        &self,
        member: &MemberId,
        id: &str,
    ) -> Result<Option<(SavedRequest, Secret)>, Error> {
        let select = "SELECT * FROM saved_request WHERE id = $1 AND member = $2";
        let query = sql(select).bind(id.to_owned()).bind(member.to_string());
        let Some(row) = self.store.one(query).await? else { return Ok(None) };
        Ok(Some((saved_of(&row)?, opened(&self.store, id, &row)?)))
    }

    pub async fn delete_request(&self, member: &MemberId, id: &str) -> Result<bool, Error> {
        let delete = "DELETE FROM saved_request WHERE id = $1 AND member = $2";
        let query = sql(delete).bind(id.to_owned()).bind(member.to_string());
        Ok(self.store.change(None, query).await? > 0)
    }
}

const TOO_MANY: &str = "you keep 500 requests already: delete some first";

fn check_length(request: &Secret) -> Result<(), Error> {
    match request.expose().len() <= MAX_REQUEST_BYTES {
        true => Ok(()),
        false => Err(Error::conflict("it is longer than the 256 KiB that are kept")),
    }
}

const CONTENT: &str = "request";

fn wrapped(request: &Secret) -> Properties {
    Properties::from([(CONTENT.to_owned(), request.clone())])
}

fn opened(store: &Store, id: &str, row: &Row) -> Result<Secret, Error> {
    let mut secrets = open_secrets(store, place(id), &row.bytes("request")?)?;
    secrets.remove(CONTENT).ok_or_else(|| unexpected("saved_request.request"))
}

fn place(id: &str) -> Place<'_> {
    Place { table: "saved_request", row: id, column: "request", version: 0 }
}

fn saved_of(row: &Row) -> Result<SavedRequest, Error> {
    let (created_at, updated_at) = (row.time("created_at")?, row.time("updated_at")?);
    Ok(SavedRequest { id: row.text("id")?, name: row.text("name")?, created_at, updated_at })
}
