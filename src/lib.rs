//! countersign: an authenticating HTTP forward proxy. Requests go in bare and leave with the right
//! credential; the caller never holds the secret.
//!
//! One house, one direction: a room imports only from the floors below it (`tests/floors.rs` checks
//! it). `ARCHITECTURE.md` follows one request from socket to socket. Lowest first:

// A future holds all that it awaits, from a listener down to the bytes of a pooled connection, and
// whether it is `Send` is asked all the way down.
#![recursion_limit = "256"]

// 0: values; nothing of ours.
pub mod clock;
pub mod host;
pub mod ids;
pub mod markup;
pub mod random;
pub mod secret;
pub mod stream;

// 1: attach one credential to one request head; pure.
pub mod inject;

// 2: apps; pure.
pub mod catalog;

// 3: may this caller; pure.
pub mod policy;

// 4: from TOML to finished values; pure.
pub mod config;

// 5: metrics, log, audit.
pub mod telemetry;

// 6: resolve, guard, dial, pool; the encrypted store.
pub mod upstream;
pub mod vault;

// 7: tokens from authorization servers; secrets from outside.
pub mod oauth;
pub mod sources;

// 8: credentials in memory, and what renews them.
pub mod credentials;

// 9: the journey of a request.
pub mod forward;

// 10: listener, tunnel, intercept, gateway, CA; connecting accounts.
pub mod connect;
pub mod proxy;

// 11: the REST API.
pub mod api;

// 12: the web listener, its pages, metrics and health.
pub mod web;

// 13: bind, run, drain.
pub mod serve;

// 14: commands.
pub mod cli;
