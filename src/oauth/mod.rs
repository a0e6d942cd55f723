//! Tokens from authorization servers (RFC 6749): what is asked, and what came of it.
//!
//! Every departure from the norm is data in the app's definition ([`crate::catalog::OAuth2`]);
//! there is no code for one provider.

mod answer;

pub use answer::{Class, Expiry, TokenError, TokenSet};

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
}
