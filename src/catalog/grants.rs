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
    /// RFC 8628 §3.1.
    pub device_authorization_url: Option<Template>,
    pub device_params: BTreeMap<String, Param>,
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
    /// Left out when a hole of theirs has no value.
    pub token_params_optional: BTreeMap<String, Param>,
    /// Standard parameters that the endpoint does not want, by their standard names.
    pub token_params_drop: Vec<String>,
    pub refresh_params: BTreeMap<String, Param>,
    /// Standard name to the server's own: `client_id` to `client_key`.
    pub param_rename: BTreeMap<String, String>,
    pub token_content_type: TokenBody,
    pub token_method: Option<Method>,
    pub token_headers: BTreeMap<String, Param>,
    pub audience: Vec<String>,
    pub assertion: Option<Assertion>,
    /// For [`ClientAuth::PrivateKeyJwt`].
    pub client_assertion: ClientAssertion,
    pub mtls: bool,
    /// The word in the URLs that a tenant's id may replace.
    pub tenant_placeholder: Option<String>,

    pub callback_code_param: Option<String>,
    /// The code arrives percent-encoded once more than it should be.
    pub callback_code_encoded: bool,
    /// What a callback's `iss` must be (RFC 9207), and that of an id token.
    pub issuer: Option<Template>,
    /// The server promises `iss` in every callback, so that a missing one is refused.
    pub issuer_in_callback: bool,
    pub callback_verify: Option<CallbackCheck>,
    pub capture: Vec<Capture>,
    pub post_exchange: Vec<FollowUp>,
    /// URLs that are known to be called after the exchange; what for is not worked out.
    pub post_exchange_hint: Vec<String>,

    /// Where the reply keeps what RFC 6749 §5.1 has at the top.
    pub token_fields: BTreeMap<String, Pointer>,
    pub token_reply_format: Option<String>,
    pub scope_is_array_in_reply: bool,
    /// Who the account is at the provider. Unset: what an id token says.
    pub identity: Option<Pointer>,
    /// Values of `token_type` that mean "attach it as this definition says", beside `Bearer`.
    pub token_types: Vec<String>,
    pub error_in_200: Option<ErrorInReply>,
    pub error_fields: ErrorFields,
    /// Error codes that mean that the grant is gone.
    pub dead_codes: Vec<String>,
    /// Error codes that mean that the OAuth client is at fault.
    pub client_codes: Vec<String>,
    /// Error codes that another try may mend.
    pub transient_codes: Vec<String>,
    pub dead_signal: Option<DeadSignal>,
    pub expires_in: Lifetime,
    pub expires_as: TimeUnit,
    pub expires_at_field: Option<Pointer>,
    /// A lifetime of 0 means that the token never expires.
    pub zero_expires_never: bool,
    pub refresh: Refresh,
    /// Token calls at one time, per endpoint and OAuth client.
    pub max_concurrency: Option<u16>,
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
    /// A nested object of a JSON body.
    Table(BTreeMap<String, Param>),
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
    /// Id and secret are form-encoded before base64, as RFC 6749 §2.3.1 says.
    Basic,
    /// Id and secret go into base64 as they are.
    BasicRaw,
    /// Basic with the secret as the user name, an empty password, and no id.
    SecretAsUser,
    #[default]
    Body,
    Query,
    /// The id only: a public client.
    None,
    /// RFC 7523 §2.2.
    PrivateKeyJwt,
    /// What `token_headers` and `token_params` say, nothing beside.
    Custom,
}

/// The JWT that proves the OAuth client (RFC 7523 §3). `iss` and `sub` are the client's id.
#[derive(Debug, Clone)]
pub struct ClientAssertion {
    pub alg: String,
    /// Unset: the token endpoint's URL.
    pub audience: Option<Template>,
    pub ttl: Duration,
}

impl Default for ClientAssertion {
    fn default() -> Self {
        Self { alg: "RS256".to_owned(), audience: None, ttl: Duration::from_secs(300) }
    }
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
    pub strategy: Option<Strategy>,
    pub url: Option<Template>,
    pub method: Option<Method>,
    pub params: BTreeMap<String, Param>,
    /// Standard parameters that a refresh does not want.
    pub params_drop: Vec<String>,
    pub headers: BTreeMap<String, Param>,
    /// Unset: as everywhere.
    pub client_auth: Option<ClientAuth>,
    /// The account's scopes are asked again.
    pub send_scope: bool,
    /// The refresh token that was held at first is the one to use, whatever answers bring.
    pub keep_token: bool,
    /// How long a replaced refresh token is still taken.
    pub grace: Option<Duration>,
    /// Instead of [`OAuth2::token_fields`], where a refresh is answered in another shape.
    pub token_fields: BTreeMap<String, Pointer>,
    /// Where the reply says how long the refresh token lives.
    pub lifetime_field: Option<Pointer>,
    pub token_in: Option<ParamPlace>,
    /// The server refuses, or punishes, a refresh earlier than this after the last one.
    pub min_interval: Option<Duration>,
    /// How long before the access token's end a refresh is due.
    pub lead: Option<Duration>,
    /// The refresh token dies when it is not used for so long.
    pub idle_ttl: Option<Duration>,
    /// The grant ends so long after the consent, whatever is done.
    pub absolute_ttl: Option<Duration>,
}

/// What gets a fresh access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The refresh token (RFC 6749 §6).
    RefreshToken,
    /// The access token itself, while it is still good.
    Exchange,
    /// The grant once more: it needs no person.
    Reissue,
    /// The answer prolongs the tokens that are held and brings none.
    Extend,
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
    pub format: TokenBody,
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
    /// Sent as JSON when not empty.
    pub body: BTreeMap<String, Param>,
    pub capture: Vec<Capture>,
    /// After a refresh too, because what it brings lives no longer than the access token.
    pub always: bool,
    /// Its answer is read like the token endpoint's, and its tokens replace the first ones.
    pub replaces_tokens: bool,
}

/// A failure that comes with a status of 200.
#[derive(Debug, Clone)]
pub struct ErrorInReply {
    pub path: Pointer,
    pub sign: FailureSign,
    pub error_path: Option<Pointer>,
}

/// How the value at [`ErrorInReply::path`] tells failure.
#[derive(Debug, Clone, PartialEq)]
pub enum FailureSign {
    Present,
    Equals(Value),
    /// There, and something else than this.
    Unless(Value),
}

/// Where failures say what RFC 6749 §5.2 has in `error` and `error_description`.
#[derive(Debug, Clone, Default)]
pub struct ErrorFields {
    pub code: Option<Pointer>,
    pub message: Option<Pointer>,
}

/// How an API's answer says that the access token is dead, where a 401 does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeadSignal {
    /// Empty: 401.
    pub status: Vec<u16>,
    /// Must stand in `WWW-Authenticate`, whatever its case.
    pub www_authenticate: Option<String>,
    /// Must be one of `values`; only JSON answers that are small are looked at.
    pub path: Option<Pointer>,
    pub values: Vec<Value>,
}

impl DeadSignal {
    pub fn takes_status(&self, status: u16) -> bool {
        match self.status.as_slice() {
            [] => status == 401,
            listed => listed.contains(&status),
        }
    }

    /// Whether the answer's body has to be looked at to tell.
    pub fn needs_body(&self) -> bool {
        self.path.is_some()
    }

    /// `body` is what there is of it; without one, a signal that needs it is not met.
    pub fn is_met(&self, status: u16, challenge: &str, body: Option<&Value>) -> bool {
        let lower = challenge.to_ascii_lowercase();
        let challenged = |word: &String| lower.contains(&word.to_ascii_lowercase());
        let told = |path: &Pointer| {
            body.and_then(|body| path.find(body)).is_some_and(|found| self.values.contains(found))
        };
        self.takes_status(status)
            && self.www_authenticate.as_ref().is_none_or(challenged)
            && self.path.as_ref().is_none_or(told)
    }
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
