//! How many accounts there are, for metrics.

use std::time::SystemTime;

use super::Vault;
use super::error::Error;
use super::row::Row;
use super::store::{at, sql};

/// The accounts of one app that fare alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    pub app: String,
    pub dead: bool,
    /// More than one refresh in a row has failed.
    pub unhealthy: bool,
    pub accounts: u64,
    /// Of those that live, the first access token to end.
    pub next_expiry: Option<SystemTime>,
}

impl Vault {
    pub async fn census(&self) -> Result<Vec<Census>, Error> {
        let query = "SELECT app, dead, CASE WHEN failures >= 2 THEN 1 ELSE 0 END AS unhealthy, \
            COUNT(*) AS accounts, MIN(expires_at) AS next_expiry FROM account \
            GROUP BY app, dead, CASE WHEN failures >= 2 THEN 1 ELSE 0 END ORDER BY app";
        self.store.all(sql(query)).await?.iter().map(census_of).collect()
    }
}

fn census_of(row: &Row) -> Result<Census, Error> {
    let dead = row.flag("dead")?;
    Ok(Census {
        app: row.text("app")?,
        dead,
        unhealthy: row.int("unhealthy")? > 0,
        accounts: row.int("accounts")?.unsigned_abs(),
        next_expiry: row.int_or_none("next_expiry")?.filter(|_| !dead).map(at),
    })
}
