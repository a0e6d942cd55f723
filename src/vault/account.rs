//! Stored accounts as values: what lists show, and what is sealed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::ids::{AccountId, AppId, AppOverrideId, ExternalUserId, MemberId, OAuthClientId};
use crate::inject::Properties;
use crate::secret::Secret;
use crate::telemetry::AccountRef;

/// One owner's connection to one app, without its secrets.
#[derive(Debug, Clone)]
pub struct Account {
    /// `apn_…`, for ever.
    pub id: AccountId,
    /// Unique among the stored accounts; by default made from the app's id.
    pub nickname: AccountId,
    pub app: AppId,
    /// The app's `[auth.<id>]`.
    pub auth: String,
    pub owner: Owner,
    pub oauth_client: Option<OAuthClientId>,
    /// What its project had decided when it was connected.
    pub app_override: Option<AppOverrideId>,
    /// Values that are no secret: what a person entered (`subdomain`) and what the token answer or
    /// the callback brought (`instance_url`).
    pub fields: BTreeMap<String, String>,
    pub scopes: Vec<String>,
    /// Who it is at the provider, where the provider tells: an id, an e-mail address.
    pub identity: Option<String>,
    /// Counts generations of the credential: refresh, reconnection and deletion change it, nothing
    /// else does. Every write of a credential is fenced by it.
    pub version: i64,
    pub health: Health,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

impl Account {
    /// As events name it.
    pub fn named(&self) -> AccountRef<'_> {
        AccountRef { nickname: &self.nickname, id: &self.id }
    }
}

/// Whose an account is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Connected on the server's own terminal.
    Workspace,
    Member(MemberId),
    ExternalUser(ExternalUserId),
}

/// How an account fares. `healthy ⇄ unhealthy → dead`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Only reconnecting helps.
    pub dead: bool,
    /// Failed refreshes in a row.
    pub failures: u32,
    pub error: Option<HealthError>,
    /// When the access token expires; `None`: never, or not known.
    pub expires_at: Option<SystemTime>,
    /// When the refresh token expires, where the provider tells.
    pub refresh_expires_at: Option<SystemTime>,
    /// When the provider gave the present tokens.
    pub obtained_at: Option<SystemTime>,
    pub last_refreshed_at: Option<SystemTime>,
    pub next_refresh_at: Option<SystemTime>,
    /// Written about once a minute, and with every refresh.
    pub last_used_at: Option<SystemTime>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthError {
    /// Stable: `revoked`, `rotation_lost`, `rt_expired`, `no_refresh_token`, `app_credentials`,
    /// `provider_unavailable`.
    pub code: String,
    /// The provider's own words, cleaned.
    pub message: String,
    pub at: SystemTime,
}

impl Health {
    /// Failures in a row: one may be a hiccup.
    pub(super) const UNHEALTHY_AFTER: u32 = 2;

    /// Whether it cannot be renewed at present. An OAuth client that is refused is no hiccup.
    pub fn is_unhealthy(&self) -> bool {
        let refused = |error: &HealthError| error.code == HealthError::APP_CREDENTIALS;
        let at_once = self.error.as_ref().is_some_and(refused);
        self.failures >= Self::UNHEALTHY_AFTER || self.failures > 0 && at_once
    }
}

impl HealthError {
    /// The provider refuses the OAuth client, so all of its accounts.
    pub const APP_CREDENTIALS: &str = "app_credentials";
}

/// What is sealed together, with one key, whenever any of it is written.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Keys and passwords that a person entered, and secrets that the token answer brought, by
    /// property name.
    pub secrets: Properties,
    pub tokens: Option<Tokens>,
}

#[derive(Clone)]
pub struct Tokens {
    pub access: Secret,
    pub refresh: Option<Secret>,
}
