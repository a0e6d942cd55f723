//! Journeys through the real binary over real sockets: what origins do to it, what clients ask of
//! it, what it may not reach, and how it starts, reloads and ends. Each test has a house of its
//! own; `Site::close` ends it and searches everything that was written for every secret.

#![allow(clippy::unwrap_used)]

mod client;
mod origin;
mod pki;
mod site;

mod callers;
mod guard;
mod http2;
mod life;
mod rest;
mod scrub;
mod upstream;
