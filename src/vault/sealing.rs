//! Maps of secrets, and single ones, in and out of their envelopes.

use std::collections::BTreeMap;

use super::error::Error;
use super::row::unexpected;
use super::seal::Place;
use super::store::{SealedValue, Store};
use crate::inject::Properties;

pub(super) fn seal_secrets(
    store: &Store,
    place: Place<'_>,
    secrets: &Properties,
) -> Result<SealedValue, Error> {
    store.seal(place, &super::random::json(&exposed(secrets)))
}

pub(super) fn open_secrets(
    store: &Store,
    place: Place<'_>,
    sealed: &[u8],
) -> Result<Properties, Error> {
    let plain = store.open(place, sealed)?;
    serde_json::from_slice(&plain).map(hidden).map_err(|_| unexpected(place.column))
}

/// Borrowed, for the moment in which they are written into an envelope.
pub(super) fn exposed(secrets: &Properties) -> BTreeMap<&str, &str> {
    secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose())).collect()
}

pub(super) fn hidden(secrets: BTreeMap<String, String>) -> Properties {
    secrets.into_iter().map(|(name, secret)| (name, secret.into())).collect()
}
