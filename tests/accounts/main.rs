//! Stored accounts from end to end: the real server, a provider with one-time refresh tokens, and
//! an API that takes live access tokens only. DESIGN.md §8; security list G and H.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "shared with the journeys, each uses its own part")]
#[path = "../journeys/client.rs"]
mod client;
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
#[allow(dead_code, reason = "shared with the journeys, each uses its own part")]
#[path = "../journeys/site.rs"]
mod site;

mod api;
mod house;

mod changes;
mod clocks;
mod crashes;
mod crowd;
mod expiry;
mod links;
mod outages;
mod refusals;
mod stores;
