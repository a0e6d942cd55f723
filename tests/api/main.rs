//! The REST API through `serve::bind` and real sockets: what the SDKs ask of it, and what somebody
//! tries who should get nothing.

#![allow(clippy::unwrap_used)]

mod origin;
mod site;

mod accounts;
mod call;
mod hostile;
mod sdks;
mod tokens;
