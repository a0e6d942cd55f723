//! `POST /v1/oauth/token`: access tokens for API clients (RFC 6749 §4.4, errors §5.2).
//!
//! The SDKs send JSON, forms, HTTP Basic with a form, and signed assertions (RFC 7523); one of them
//! insists on exactly 200.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::Api;
use super::assertion::{Assertion, JWT_BEARER};
use super::failure::{self, Failure};
use super::input::{self, Pairs};
use super::principal::note_stranger;
use super::scope::Scopes;
use crate::clock::unix_ms;
use crate::forward::Body;
use crate::random;
use crate::secret::{Secret, TokenDigest};
use crate::telemetry::AuthFailure;
use crate::vault::{ApiClient, SessionDetails, SessionOf};

/// As Pipedream's: the SDKs fetch another one two minutes before its end.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What the client sent, wherever it stood.
#[derive(Default)]
struct Asked {
    grant_type: Option<String>,
    client_id: Option<String>,
    secret: Option<Secret>,
    scope: Option<String>,
    assertion_type: Option<String>,
    assertion: Option<String>,
}

/// Why there is no token, as RFC 6749 §5.2 names it.
enum Refused {
    Request(&'static str),
    Client,
    Grant,
    Scope(String),
    Other(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl Api {
    pub(super) async fn token(
        &self,
        client: IpAddr,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response<Body> {
        let granted = match asked(headers, &body) {
            Ok(asked) => self.grant(client, headers, asked).await,
            Err(refused) => Err(refused),
        };
        match granted {
            Ok(body) => failure::ok(&body),
            Err(refused) => refused.into_response(),
        }
    }

    async fn grant(
        &self,
        client: IpAddr,
        headers: &HeaderMap,
        asked: Asked,
    ) -> Result<Value, Refused> {
        if asked.grant_type.as_deref() != Some("client_credentials") {
            return Err(Refused::Grant);
        }
        let known = match (&asked.assertion, &asked.secret) {
            (Some(_), Some(_)) => return Err(Refused::Request("the client proves itself twice")),
            (Some(assertion), None) => self.asserted_client(headers, &asked, assertion).await?,
            (None, Some(secret)) => {
                let Some(id) = &asked.client_id else { return Err(Refused::Request(NEEDED)) };
                self.known_client(id, secret).await?
            }
            (None, None) => return Err(Refused::Request(NEEDED)),
        };
        let Some(known) = known else {
            let claimed = asked.client_id.as_deref();
            note_stranger(&self.forwarder, client, AuthFailure::Invalid, claimed)?;
            return Err(Refused::Client);
        };
        let held = Scopes::stored(&known.details.scopes);
        let scopes = match asked.scope.as_deref().filter(|scope| !scope.trim().is_empty()) {
            None => held,
            Some(scope) => Scopes::parse(scope)
                .and_then(|asked| held.narrowed(asked))
                .map_err(|error| Refused::Scope(error.to_string()))?,
        };
        let token = random::token("csat_", 24).map_err(|error| Refused::Other(error.into()))?;
        let now = self.now();
        let end = known.details.expires_at.map_or(now + LIFETIME, |end| end.min(now + LIFETIME));
        let details = SessionDetails {
            of: SessionOf::ApiClient(known.id),
            scopes: scopes.list().to_vec(),
            user_agent: agent(headers),
            expires_at: end,
        };
        let digest = TokenDigest::of(token.expose().as_bytes());
        self.vault().create_session(digest, &details).await.map_err(Failure::from)?;
        Ok(json!({
            "access_token": token.expose(),
            "token_type": "Bearer",
            "expires_in": end.duration_since(now).unwrap_or_default().as_secs(),
            "created_at": unix_ms(now) / 1000,
            "scope": scopes.to_string(),
        }))
    }

    /// By a signature of its own, which is taken once (RFC 7523 §3).
    async fn asserted_client(
        &self,
        headers: &HeaderMap,
        asked: &Asked,
        assertion: &str,
    ) -> Result<Option<ApiClient>, Refused> {
        if asked.assertion_type.as_deref() != Some(JWT_BEARER) {
            return Err(Refused::Request("client_assertion_type is not that of a JWT"));
        }
        let Some(read) = Assertion::read(assertion) else {
            return Err(Refused::Request("client_assertion is not a signed JWT"));
        };
        let Some(id) = read.client_id() else { return Ok(None) };
        if asked.client_id.as_deref().is_some_and(|named| named != id) {
            return Ok(None);
        }
        let now = self.now();
        let known = self.vault().api_client(id).await.map_err(Failure::from)?;
        let alive = |client: &ApiClient| client.details.expires_at.is_none_or(|at| at > now);
        let Some(known) = known.filter(alive) else { return Ok(None) };
        let keys = self.vault().api_client_keys(id).await.map_err(Failure::from)?;
        let audience = [self.public_url(headers)];
        let Some(once) = read.verified(&keys, &audience, now) else { return Ok(None) };
        let name = TokenDigest::of(format!("{id}\n{}", once.id).as_bytes());
        let first = self.vault().use_assertion(name, once.expires_at).await;
        Ok(first.map_err(Failure::from)?.then_some(known))
    }

    async fn known_client(&self, id: &str, secret: &Secret) -> Result<Option<ApiClient>, Failure> {
        let given = TokenDigest::of(secret.expose().as_bytes());
        let known = self.vault().api_client(id).await?;
        let now = self.now();
        Ok(known.filter(|client| {
            let alive = client.details.expires_at.is_none_or(|at| at > now);
            client.secret.matches(&given) && alive
        }))
    }
}

const NEEDED: &str = "client_id and client_secret, or client_assertion, are needed";

fn asked(headers: &HeaderMap, body: &[u8]) -> Result<Asked, Refused> {
    let mut asked = match () {
        () if input::is(headers, "application/json") => by_json(body)?,
        () if input::is(headers, "application/x-www-form-urlencoded") => by_form(body)?,
        () => {
            return Err(Refused::Request(
                "send JSON or a form: application/json, application/x-www-form-urlencoded",
            ));
        }
    };
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (id, secret) = basic(value.as_bytes()).ok_or(Refused::Client)?;
        if asked.secret.is_some() || asked.client_id.as_ref().is_some_and(|named| *named != id) {
            return Err(Refused::Request("the client is named twice"));
        }
        asked.client_id = Some(id);
        asked.secret = Some(secret);
    }
    Ok(asked)
}

fn by_json(body: &[u8]) -> Result<Asked, Refused> {
    #[derive(serde::Deserialize)]
    struct Json {
        grant_type: Option<String>,
        client_id: Option<String>,
        client_secret: Option<String>,
        client_assertion_type: Option<String>,
        client_assertion: Option<String>,
        scope: Option<String>,
    }
    let json: Json = serde_json::from_slice(body)
        .map_err(|_| Refused::Request("the body is not the JSON of a token request"))?;
    Ok(Asked {
        grant_type: json.grant_type,
        client_id: json.client_id,
        secret: json.client_secret.map(Secret::from),
        scope: json.scope,
        assertion_type: json.client_assertion_type,
        assertion: json.client_assertion,
    })
}

fn by_form(body: &[u8]) -> Result<Asked, Refused> {
    let text = std::str::from_utf8(body).map_err(|_| Refused::Request("the form is not UTF-8"))?;
    let pairs = Pairs::parse(text)?;
    let one = |name| pairs.one(name).map(|value| value.map(str::to_owned));
    Ok(Asked {
        grant_type: one("grant_type")?,
        client_id: one("client_id")?,
        secret: one("client_secret")?.map(Secret::from),
        scope: one("scope")?,
        assertion_type: one("client_assertion_type")?,
        assertion: one("client_assertion")?,
    })
}

/// RFC 6749 §2.3.1: both parts are form-encoded before they are joined; ours have nothing to encode.
fn basic(value: &[u8]) -> Option<(String, Secret)> {
    let (scheme, pair) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(pair.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((id.to_owned(), Secret::from(secret.to_owned())))
}

fn agent(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(agent.chars().take(200).collect())
}

impl Refused {
    /// Without `WWW-Authenticate`: one SDK takes that for another kind of error.
    fn into_response(self) -> Response<Body> {
        let (status, error, description) = match self {
            Self::Request(what) => (StatusCode::BAD_REQUEST, "invalid_request", what.to_owned()),
            Self::Client => {
                let what = "the client or its secret is not known, or it has expired";
                (StatusCode::UNAUTHORIZED, "invalid_client", what.to_owned())
            }
            Self::Grant => {
                let what = "the grant type is client_credentials";
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", what.to_owned())
            }
            Self::Scope(what) => (StatusCode::BAD_REQUEST, "invalid_scope", what),
            Self::Other(Failure::Bad(what)) => (StatusCode::BAD_REQUEST, "invalid_request", what),
            Self::Other(failure) => return failure.into_response(),
        };
        failure::answer(status, &json!({ "error": error, "error_description": description }))
    }
}
