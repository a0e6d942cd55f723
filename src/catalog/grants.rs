//! How tokens are obtained: the quirks of authorization servers, as data.
//!
//! Parsed and linted here, acted on by `oauth`. RFC 6749 is the norm that each key departs from;
//! a server that follows it needs two URLs and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::Pattern;
use crate::inject::Template;

/// `[auth.<id>.oauth2]`. URLs and parameters may have holes that fields fill.
#[derive(Debug, Clone, Default)]
pub struct OAuth2 {
    pub authorize_url: Option<Template>,
    pub token_url: Option<Template>,
    /// When refreshing has an endpoint of its own.
    pub refresh_url: Option<Template>,
    /// RFC 7009.
    pub revoke_url: Option<Template>,
    /// A revocation that is not RFC 7009.
    pub revoke: Option<Revocation>,
    /// RFC 7591.
    pub registration_url: Option<Template>,
    /// `None`: what the auth's kind says.
    pub grant_type: Option<String>,

    pub scopes_separator: Option<String>,
    pub scope_param: Option<String>,
    /// Further parameters that carry scopes: name, and what for.
    pub extra_scope_params: BTreeMap<String, String>,
    /// Scopes that the user may decline go here.
    pub optional_scope_param: Option<String>,
    /// Always asked, for instance because there is no refresh token without.
    pub default_scopes: Vec<String>,
    pub suggested_scopes: Vec<String>,
    /// Named selections that a person can choose from.
    pub scope_profiles: BTreeMap<String, Vec<String>>,

    pub pkce: Option<Pkce>,
    pub client_auth: ClientAuth,
    pub authorize_params: BTreeMap<String, Param>,
    pub authorize_params_drop: Vec<String>,
    pub token_params: BTreeMap<String, Param>,
    pub token_params_optional: BTreeMap<String, Param>,
    pub refresh_params: BTreeMap<String, Param>,
    /// Standard name to the server's own: `client_id` to `client_key`.
    pub param_rename: BTreeMap<String, String>,
    pub token_content_type: TokenBody,
    pub token_method: Option<Method>,
    pub token_headers: BTreeMap<String, Param>,
    pub audience: Vec<String>,
    pub assertion: Option<Assertion>,
    pub mtls: bool,
    /// The word in the URLs that a tenant's id may replace.
    pub tenant_placeholder: Option<String>,

    pub callback_code_param: Option<String>,
    pub callback_verify: Option<CallbackCheck>,
    pub capture: Vec<Capture>,
    pub post_exchange: Vec<FollowUp>,
    /// URLs that are known to be called after the exchange; what for is not worked out.
    pub post_exchange_hint: Vec<String>,

    /// Where the reply keeps what RFC 6749 §5.1 has at the top.
    pub token_fields: BTreeMap<String, Pointer>,
    pub token_reply_format: Option<String>,
    pub scope_is_array_in_reply: bool,
    pub error_in_200: Option<ErrorInReply>,
    pub expires_in: Lifetime,
    pub expires_as: TimeUnit,
    pub expires_at_field: Option<Pointer>,
    pub refresh: Refresh,
}

/// A JSON pointer (RFC 6901): `/authed_user/access_token`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(String);

impl Pointer {
    /// `None` when `text` is not a pointer.
    pub fn new(text: &str) -> Option<Self> {
        let escapes = |part: &str| !part.starts_with('0') && !part.starts_with('1');
        let valid = text.is_empty() || text.starts_with('/');
        let stray_tilde = text.split('~').skip(1).any(escapes);
        (valid && !stray_tilde).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.pointer(&self.0)
    }
}

/// A parameter: text with holes, or a number or boolean that stays one in a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    Text(Template),
    Literal(Value),
}

/// RFC 7636. `plain` is never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pkce {
    Required,
    Supported,
    Unsupported,
}

/// How countersign proves itself at the token endpoint (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    Basic,
    #[default]
    Body,
    Query,
    /// What `token_headers` and `token_params` say, nothing beside.
    Custom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenBody {
    #[default]
    Form,
    Json,
    Query,
}

/// RFC 7521 assertions instead of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assertion {
    Jwt,
    Saml,
}

/// How long an access token lives when the reply does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// The reply says it.
    #[default]
    Reply,
    /// The reply says it, and usually says this.
    Typical(Duration),
    Never,
    /// Known to expire, not known when: on a 401 only.
    Unknown,
}

/// What the reply's `expires_in` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeUnit {
    #[default]
    Seconds,
    Milliseconds,
    /// Seconds since 1970.
    Timestamp,
}

#[derive(Debug, Clone, Default)]
pub struct Refresh {
    pub supported: bool,
    pub rotates: Rotation,
    /// What has to be switched on for it, in words.
    pub requires: Option<String>,
    /// Only some grants have a refresh token.
    pub optional: bool,
    pub strategy: Option<String>,
    pub url: Option<Template>,
    pub method: Option<Method>,
    pub params: BTreeMap<String, Param>,
    /// How long a replaced refresh token is still taken.
    pub grace: Option<Duration>,
    /// Where the reply says how long the refresh token lives.
    pub lifetime_field: Option<Pointer>,
    pub token_in: Option<ParamPlace>,
}

/// Whether a refresh gives a new refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    Always,
    #[default]
    May,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamPlace {
    Body,
    Query,
    Header,
}

#[derive(Debug, Clone)]
pub struct Revocation {
    pub method: Method,
    pub url: Template,
    pub auth: RevocationAuth,
    pub headers: BTreeMap<String, Param>,
    pub body: BTreeMap<String, Param>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevocationAuth {
    #[default]
    None,
    Bearer,
    ClientBasic,
}

/// A signature over the callback's query (Shopify).
#[derive(Debug, Clone)]
pub struct CallbackCheck {
    pub method: String,
    pub param: String,
    pub key: Template,
    /// What is signed, in words.
    pub over: String,
}

/// A value of the callback or the reply that becomes a property of the account.
#[derive(Debug, Clone)]
pub struct Capture {
    pub site: Site,
    /// The property's name.
    pub name: String,
    pub secret: bool,
    /// More than one may come back, and a person chooses.
    pub choose: bool,
}

/// Where a captured value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    CallbackParam(String),
    Reply(Pointer),
}

/// A request that is sent after the exchange to learn more about the account.
#[derive(Debug, Clone)]
pub struct FollowUp {
    pub method: Method,
    pub url: Template,
    pub headers: BTreeMap<String, Param>,
    pub capture: Vec<Capture>,
}

/// A failure that comes with a status of 200.
#[derive(Debug, Clone)]
pub struct ErrorInReply {
    pub path: Pointer,
    /// The value that means failure; `None`: that the path is there at all.
    pub equals: Option<Value>,
    pub error_path: Option<Pointer>,
}

/// `[auth.<id>.oauth1]` (RFC 5849).
#[derive(Debug, Clone)]
pub struct OAuth1 {
    pub request_token_url: Template,
    pub authorize_url: Template,
    pub access_token_url: Template,
    pub signature_method: String,
    pub authorize_params: BTreeMap<String, Param>,
}

/// `[auth.<id>.jwt]`: a token that countersign signs itself (RFC 7519).
#[derive(Debug, Clone)]
pub struct Jwt {
    pub alg: String,
    /// `{private_key}`, or an expression such as `hex({key|after ":"})`.
    pub key: String,
    pub header: BTreeMap<String, Value>,
    pub claims: BTreeMap<String, Value>,
    pub ttl: Duration,
    /// Refused before it is signed with.
    pub key_pattern: Option<Pattern>,
}
