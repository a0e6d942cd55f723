//! What a token endpoint's answer comes to.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::catalog::{OAuth2, Strategy};
use crate::inject::Properties;
use crate::secret::Secret;

/// Tokens, as one answer brought them.
#[derive(Clone)]
pub struct TokenSet {
    pub access: Secret,
    /// `None`: the answer had none, and the one that is held stays (RFC 6749 §6).
    pub refresh: Option<Secret>,
    pub expires: Expiry,
    pub refresh_expires_at: Option<SystemTime>,
    /// `None`: those that were asked for (RFC 6749 §5.1).
    pub scopes: Option<Vec<String>>,
    /// Captured values that are no secret.
    pub fields: BTreeMap<String, String>,
    /// Captured values that are.
    pub secrets: Properties,
    /// For captured values of which there may be several (sites, companies): all of them, in the
    /// order of the answer. `fields` has the first.
    pub choices: BTreeMap<String, Vec<String>>,
    /// Who it is at the provider, if the answer says.
    pub identity: Option<String>,
    /// When the request was sent: lifetimes count from there, so that a token is never thought
    /// fresh for longer than it is.
    pub obtained_at: SystemTime,
}

/// When an access token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    At(SystemTime),
    Never,
    /// Not told: an origin's 401 will tell.
    Unknown,
}

impl Expiry {
    /// The end, where one is known.
    pub fn at(self) -> Option<SystemTime> {
        match self {
            Self::At(at) => Some(at),
            Self::Never | Self::Unknown => None,
        }
    }
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TokenError {
    pub class: Class,
    /// The OAuth error code, or one of ours: `unreachable`, `timeout`, `unreadable`, `redirect`.
    pub code: String,
    /// For people: the provider's words, cut and without control characters. Never a secret.
    pub message: String,
    pub status: Option<u16>,
    pub retry_after: Option<Duration>,
    /// The request may have reached the server: a one-time refresh token may be spent.
    pub sent: bool,
}

/// What a failure means for the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The grant is gone: only the resource owner can help.
    Dead,
    /// The OAuth client is at fault, for all of its accounts.
    Client,
    /// Worth another try.
    Transient,
}

impl TokenError {
    pub(super) fn unsent(class: Class, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { class, code, message, status: None, retry_after: None, sent: false }
    }

    pub(super) fn sent(class: Class, code: &str, message: impl Into<String>) -> Self {
        Self { sent: true, ..Self::unsent(class, code, message) }
    }
}

impl TokenSet {
    /// A token and nothing else.
    pub(super) fn bare(access: Secret, obtained_at: SystemTime) -> Self {
        Self {
            access,
            refresh: None,
            expires: Expiry::Unknown,
            refresh_expires_at: None,
            scopes: None,
            fields: BTreeMap::new(),
            secrets: Properties::new(),
            choices: BTreeMap::new(),
            identity: None,
            obtained_at,
        }
    }

    /// Whether the definition promises a refresh token and none came: the account will die with
    /// its access token, and whoever connects should hear it now.
    pub fn lacks_refresh(&self, oauth2: &OAuth2) -> bool {
        let refresh = &oauth2.refresh;
        let by_token = refresh.strategy.unwrap_or(Strategy::RefreshToken) == Strategy::RefreshToken;
        let ends = self.expires != Expiry::Never;
        refresh.supported && !refresh.optional && by_token && ends && self.refresh.is_none()
    }
}
