//! The workspace from end to end: the real server, members as browsers see it, and requests of
//! callers on the live path. DESIGN.md §9 and §10; security list I.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "shared with the tests of accounts, each uses its own part")]
#[path = "../accounts/api.rs"]
mod api;
#[allow(dead_code, reason = "shared with the journeys, each uses its own part")]
#[path = "../journeys/client.rs"]
mod client;
#[allow(dead_code, unused_macros, reason = "shared with the tests of accounts")]
#[path = "../accounts/house.rs"]
mod house;
#[path = "../support/node.rs"]
mod node;
#[allow(dead_code, reason = "shared with the journeys, each uses its own part")]
#[path = "../journeys/origin.rs"]
mod origin;
#[allow(dead_code, reason = "shared with the journeys, each uses its own part")]
#[path = "../journeys/pki.rs"]
mod pki;
#[allow(dead_code, reason = "shared with the tests of the vault, each uses its own part")]
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/provider.rs"]
mod provider;
#[path = "../support/schemathesis.rs"]
mod schemathesis;
#[allow(dead_code, reason = "shared with the journeys, each uses its own part")]
#[path = "../journeys/site.rs"]
mod site;

mod visitor;

mod access;
mod accounts;
mod activity;
mod apps;
mod browser;
mod builder;
mod callers;
mod commands;
mod connect;
mod login;
mod members;
mod oidc;
mod requests;
mod tokens;
