//! Tokens from authorization servers (RFC 6749): what is asked, and what came of it.
//!
//! Every departure from the norm is data in the app's definition ([`crate::catalog::OAuth2`]);
//! there is no code for one provider.

mod answer;
mod authorize;
mod classify;
mod device;
mod endpoint;
mod engine;
mod error;
mod expression;
mod follow_up;
mod grant;
mod jwt;
mod params;
mod reply;
mod request;
mod revoke;
pub mod schedule;
mod tokens;
mod values;
mod wire;

pub use answer::{Class, Expiry, TokenError, TokenSet};
pub use authorize::{Authorization, Callback, state_param};
pub use device::{DeviceAuthorization, Poll};
pub use engine::{Engine, Revoked};
pub use error::Error;
pub use jwt::Error as KeyError;

use crate::catalog::{App, Auth};
use crate::inject::Properties;
use crate::secret::Secret;

/// What countersign is to an authorization server (RFC 6749 §2).
#[derive(Clone)]
pub struct OAuthClient {
    pub client_id: String,
    pub secret: Option<Secret>,
    /// PEM, for `private_key_jwt` (RFC 7523).
    pub private_key: Option<Secret>,
    /// The `kid` of that key.
    pub key_id: Option<String>,
}

/// Everything that a token request is rendered from.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub app: &'a App,
    pub auth: &'a Auth,
    pub client: Option<&'a OAuthClient>,
    /// The account's fields and secrets, and what earlier answers brought.
    pub properties: &'a Properties,
    /// The account's scopes, for grants and refreshes that send them. Those that the definition
    /// always asks are added.
    pub scopes: &'a [String],
}

#[cfg(test)]
mod answers_tests;
#[cfg(test)]
mod quirks_tests;
#[cfg(test)]
mod signing_tests;
#[cfg(test)]
mod trial;
