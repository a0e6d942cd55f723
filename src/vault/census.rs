//! How many accounts there are, and how they fare.

use super::Vault;
use super::account::{Health, HealthError};
use super::error::Error;
use super::row::Row;
use super::store::sql;
use crate::telemetry::{AccountState, Census};

impl Vault {
    /// Per app and state, with the end of the first access token that has not ended yet.
    pub async fn census(&self) -> Result<Vec<Census>, Error> {
        let query = "SELECT app, dead, unwell, COUNT(*) AS number, \
            MIN(CASE WHEN expires_at > $1 THEN expires_at END) AS ends FROM \
            (SELECT app, dead, expires_at, CASE WHEN failures >= $2 \
            OR (failures > 0 AND error_code = $3) THEN 1 ELSE 0 END AS unwell FROM account) AS one \
            GROUP BY app, dead, unwell";
        let query = sql(query)
            .bind(self.store.now())
            .bind(i64::from(Health::UNHEALTHY_AFTER))
            .bind(HealthError::APP_CREDENTIALS);
        self.store.all(query).await?.iter().map(census_of).collect()
    }
}

fn census_of(row: &Row) -> Result<Census, Error> {
    let state = match (row.flag("dead")?, row.flag("unwell")?) {
        (true, _) => AccountState::Dead,
        (false, true) => AccountState::Unhealthy,
        (false, false) => AccountState::Healthy,
    };
    Ok(Census {
        app: row.text("app")?.into(),
        state,
        accounts: row.int("number")?.unsigned_abs(),
        next_expiry: row.time_or_none("ends")?,
    })
}
