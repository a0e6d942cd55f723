//! What came of connecting with a connect token: kept for the window that waits for it, and so that
//! a form or callback that arrives twice is answered as the first one was.

use super::Vault;
use super::error::Error;
use super::row::Row;
use super::store::sql;
use crate::ids::AccountId;
use crate::secret::TokenDigest;

/// Of one attempt, which a page names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub attempt: String,
    /// For an attempt by way of a provider: the state, and the browser that began it.
    pub flow: Option<(TokenDigest, String)>,
    pub result: Result<AccountId, String>,
}

impl Vault {
    /// A later outcome of the same attempt takes the place of an earlier one, but never that of an
    /// account.
    pub async fn put_outcome(&self, token: TokenDigest, outcome: &Outcome) -> Result<(), Error> {
        let upsert = "INSERT INTO connect_outcome (token, attempt, state_digest, browser, account, \
            trouble, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
            ON CONFLICT (token, attempt) DO UPDATE SET state_digest = excluded.state_digest, \
            browser = excluded.browser, account = excluded.account, trouble = excluded.trouble \
            WHERE connect_outcome.account IS NULL";
        let flow = outcome.flow.as_ref();
        let query = sql(upsert)
            .bind(token.to_hex())
            .bind(outcome.attempt.clone())
            .bind(flow.map(|(state, _)| state.to_hex()))
            .bind(flow.map(|(_, browser)| browser.clone()))
            .bind(outcome.result.as_ref().ok().map(ToString::to_string))
            .bind(outcome.result.as_ref().err().cloned())
            .bind(self.store.now());
        self.store.change(None, query).await.map(|_| ())
    }

    pub async fn outcome(
        &self,
        token: TokenDigest,
        attempt: &str,
    ) -> Result<Option<Outcome>, Error> {
        let select = "SELECT * FROM connect_outcome WHERE token = $1 AND attempt = $2";
        let query = sql(select).bind(token.to_hex()).bind(attempt.to_owned());
        self.store.one(query).await?.as_ref().map(outcome_of).transpose()
    }

    /// Of the flow that `state` was the state of, with the token that it was for.
    pub async fn outcome_of_flow(
        &self,
        state: TokenDigest,
    ) -> Result<Option<(TokenDigest, Outcome)>, Error> {
        let select = "SELECT * FROM connect_outcome WHERE state_digest = $1";
        let Some(row) = self.store.one(sql(select).bind(state.to_hex())).await? else {
            return Ok(None);
        };
        Ok(Some((row.digest("token")?, outcome_of(&row)?)))
    }
}

fn outcome_of(row: &Row) -> Result<Outcome, Error> {
    let flow = match (row.text_or_none("state_digest")?, row.text_or_none("browser")?) {
        (Some(_), Some(browser)) => Some((row.digest("state_digest")?, browser)),
        _ => None,
    };
    let result = match row.parsed_or_none("account")? {
        Some(account) => Ok(account),
        None => Err(row.text_or_none("trouble")?.unwrap_or_default()),
    };
    Ok(Outcome { attempt: row.text("attempt")?, flow, result })
}
