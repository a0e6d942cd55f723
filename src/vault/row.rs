//! Reading columns: a row that says something unexpected is an error that names the column.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::SystemTime;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::error::Error;
use super::store::{at, ms};
use crate::secret::TokenDigest;

/// One row of an answer.
pub(super) struct Row(AnyRow);

impl From<AnyRow> for Row {
    fn from(row: AnyRow) -> Self {
        Self(row)
    }
}

impl Row {
    pub(super) fn text(&self, column: &str) -> Result<String, Error> {
        self.0.try_get(column).map_err(|_| unexpected(column))
    }

    pub(super) fn text_or_none(&self, column: &str) -> Result<Option<String>, Error> {
        self.0.try_get(column).map_err(|_| unexpected(column))
    }

    pub(super) fn int(&self, column: &str) -> Result<i64, Error> {
        self.0.try_get(column).map_err(|_| unexpected(column))
    }

    pub(super) fn int_or_none(&self, column: &str) -> Result<Option<i64>, Error> {
        self.0.try_get(column).map_err(|_| unexpected(column))
    }

    pub(super) fn flag(&self, column: &str) -> Result<bool, Error> {
        Ok(self.int(column)? != 0)
    }

    pub(super) fn bytes(&self, column: &str) -> Result<Vec<u8>, Error> {
        self.0.try_get(column).map_err(|_| unexpected(column))
    }

    pub(super) fn time(&self, column: &str) -> Result<SystemTime, Error> {
        self.int(column).map(at)
    }

    pub(super) fn time_or_none(&self, column: &str) -> Result<Option<SystemTime>, Error> {
        Ok(self.int_or_none(column)?.map(at))
    }

    /// A value with a form of its own: an id, an enum.
    pub(super) fn parsed<T: FromStr>(&self, column: &str) -> Result<T, Error> {
        self.text(column)?.parse().map_err(|_| unexpected(column))
    }

    pub(super) fn parsed_or_none<T: FromStr>(&self, column: &str) -> Result<Option<T>, Error> {
        self.text_or_none(column)?
            .map(|text| text.parse().map_err(|_| unexpected(column)))
            .transpose()
    }

    pub(super) fn digest(&self, column: &str) -> Result<TokenDigest, Error> {
        TokenDigest::from_hex(&self.text(column)?).ok_or_else(|| unexpected(column))
    }

    pub(super) fn list(&self, column: &str) -> Result<Vec<String>, Error> {
        serde_json::from_str(&self.text(column)?).map_err(|_| unexpected(column))
    }

    pub(super) fn map(&self, column: &str) -> Result<BTreeMap<String, String>, Error> {
        serde_json::from_str(&self.text(column)?).map_err(|_| unexpected(column))
    }
}

pub(super) fn unexpected(column: &str) -> Error {
    Error::Unexpected { column: column.to_owned() }
}

/// How lists are stored.
pub(super) fn json_list(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

/// How maps are stored.
pub(super) fn json_map(map: &BTreeMap<String, String>) -> String {
    let pairs = map.iter().map(|(k, v)| (k.clone(), serde_json::Value::from(v.as_str())));
    serde_json::Value::Object(pairs.collect()).to_string()
}

pub(super) fn ms_or_none(at: Option<SystemTime>) -> Option<i64> {
    at.map(ms)
}
