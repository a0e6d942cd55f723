//! What people did with the store, on its way into the audit: a command cannot write to the file of
//! a running server, so it leaves a note in the same store, and a server writes it down.

use std::time::SystemTime;

use super::Vault;
use super::error::Error;
use super::row::Row;
use super::store::{at, sql, sql_of};
use crate::ids::AccountId;

/// One act of administration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub id: String,
    pub at: SystemTime,
    /// From a closed set: `account_connected`, `caller_added`, …
    pub what: String,
    /// By name.
    pub subject: String,
    /// The account that it was about, if it was about one.
    pub account: Option<AccountId>,
    pub detail: String,
    /// Who: a person or program, as well as it is known.
    pub by: String,
}

impl Vault {
    pub async fn note(
        &self,
        what: &str,
        subject: &str,
        detail: &str,
        by: &str,
    ) -> Result<(), Error> {
        self.leave_note(None, what, subject, detail, by).await
    }

    /// The same, of something that was done with an account.
    pub async fn note_about(
        &self,
        account: &AccountId,
        what: &str,
        subject: &str,
        detail: &str,
        by: &str,
    ) -> Result<(), Error> {
        self.leave_note(Some(account), what, subject, detail, by).await
    }

    async fn leave_note(
        &self,
        account: Option<&AccountId>,
        what: &str,
        subject: &str,
        detail: &str,
        by: &str,
    ) -> Result<(), Error> {
        let insert = "INSERT INTO note (id, at, what, subject, detail, actor, account) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sql(insert)
            .bind(format!("nt_{}", super::random::text(16)?))
            .bind(self.store.now())
            .bind(what.to_owned())
            .bind(subject.to_owned())
            .bind(detail.to_owned())
            .bind(by.to_owned())
            .bind(account.map(AccountId::to_string));
        self.store.change(None, query).await.map(|_| ())
    }

    /// The oldest notes that no server has written down.
    pub async fn notes(&self, limit: u32) -> Result<Vec<Note>, Error> {
        let query = sql("SELECT * FROM note ORDER BY at, id LIMIT $1").bind(i64::from(limit));
        self.store.all(query).await?.iter().map(note_of).collect()
    }

    /// They are written down.
    pub async fn drop_notes(&self, notes: &[Note]) -> Result<(), Error> {
        let names: Vec<String> = (1..=notes.len()).map(|at| format!("${at}")).collect();
        if names.is_empty() {
            return Ok(());
        }
        let delete = format!("DELETE FROM note WHERE id IN ({})", names.join(", "));
        let query = notes.iter().fold(sql_of(delete), |query, note| query.bind(note.id.clone()));
        self.store.change(None, query).await.map(|_| ())
    }
}

fn note_of(row: &Row) -> Result<Note, Error> {
    Ok(Note {
        id: row.text("id")?,
        at: at(row.int("at")?),
        what: row.text("what")?,
        subject: row.text("subject")?,
        account: row.parsed_or_none("account")?,
        detail: row.text("detail")?,
        by: row.text("actor")?,
    })
}
