//! The store, the same tests on both engines.

// Helpers may unwrap as tests may.
#![allow(clippy::unwrap_used)]

mod accounts;
mod feed;
mod hostile;
mod house;
mod outage;
mod overrides;
mod people;
#[path = "../support/postgres.rs"]
mod postgres;
mod refresh;
mod rotation;
mod tables;
