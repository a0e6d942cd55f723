//! The store, the same tests on both engines.

mod accounts;
mod feed;
mod house;
#[path = "../support/postgres.rs"]
mod postgres;
mod refresh;
