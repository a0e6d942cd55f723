//! The store: SQLite or PostgreSQL, every secret sealed.

mod account;

pub use account::{Account, Credentials, Health, HealthError, Owner, Tokens};
