//! The REST API through `serve::bind` and real sockets: what the SDKs ask of it, and what somebody
//! tries who should get nothing.

#![allow(clippy::unwrap_used)]

mod browser;
mod engines;
mod origin;
#[path = "../support/postgres.rs"]
#[allow(dead_code, reason = "crashes are other tests' business")]
mod postgres;
#[path = "../support/schemathesis.rs"]
mod schemathesis;
mod site;

mod accounts;
mod call;
mod chromium;
mod examples;
mod fuzz;
mod hostile;
mod overrides;
mod page;
mod product;
mod sdks;
mod tokens;
