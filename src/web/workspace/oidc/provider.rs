//! The identity provider: what it publishes of itself, and its token endpoint. What was read is kept
//! for an hour; keys are read again when a token was signed with one that is not known.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use url::form_urlencoded;

use super::token::Keys;
use crate::clock::Clock;
use crate::config::Oidc;
use crate::host::Authority;
use crate::secret::Secret;
use crate::upstream::{self, Client, Destination, RequestBody};

const DEADLINE: Duration = Duration::from_secs(15);
const LARGEST_ANSWER: usize = 512 * 1024;
const KEPT: Duration = Duration::from_secs(60 * 60);
/// Keys are not asked for more often, whatever tokens people come with.
const KEYS_AGAIN: Duration = Duration::from_secs(60);

/// A provider that does not say who it is is not asked again for so long: each login would wait for
/// the same answer, and whoever asks without logging in could keep all others waiting.
const FAILED_AGAIN: Duration = Duration::from_secs(10);

/// Why the provider could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the identity provider could not be reached: {0}")]
    Unreachable(String),
    #[error("the identity provider answered {url} with {what}")]
    Answer { url: String, what: String },
    #[error("the identity provider refused the login: {0}")]
    Refused(String),
}

/// RFC 8414 and OpenID Connect Discovery, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Metadata {
    issuer: String,
    pub authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    pub userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// What the token endpoint gave.
#[derive(Deserialize)]
pub struct Granted {
    pub id_token: String,
    pub access_token: Option<String>,
}

pub struct Provider {
    config: Oidc,
    secret: Option<Secret>,
    upstream: Client,
    clock: Clock,
    known: Mutex<Memory>,
}

/// What the provider said of itself, and how it failed to.
#[derive(Default)]
struct Memory {
    known: Option<Known>,
    failed: Option<(Duration, Error)>,
}

#[derive(Clone)]
struct Known {
    metadata: Metadata,
    keys: Keys,
    read_at: Duration,
}

impl Provider {
    pub fn new(config: Oidc, secret: Option<Secret>, upstream: Client, clock: Clock) -> Self {
        Self { config, secret, upstream, clock, known: Mutex::default() }
    }

    pub fn config(&self) -> &Oidc {
        &self.config
    }

    /// # Errors
    /// When the provider does not say.
    pub async fn metadata(&self) -> Result<Metadata, Error> {
        Ok(self.known(KEPT).await?.metadata)
    }

    /// # Errors
    /// When the provider does not say.
    pub async fn keys(&self) -> Result<Keys, Error> {
        Ok(self.known(KEPT).await?.keys)
    }

    /// Its keys as of now, or as of a minute ago.
    ///
    /// # Errors
    /// When the provider does not say.
    pub async fn keys_again(&self) -> Result<Keys, Error> {
        Ok(self.known(KEYS_AGAIN).await?.keys)
    }

    async fn known(&self, no_older: Duration) -> Result<Known, Error> {
        let mut memory = self.known.lock().await;
        let now = self.clock.uptime();
        let is_good = |known: &&Known| now.saturating_sub(known.read_at) < no_older;
        if let Some(known) = memory.known.as_ref().filter(is_good) {
            return Ok(known.clone());
        }
        let failed = memory.failed.as_ref();
        let error = match failed.filter(|(at, _)| now.saturating_sub(*at) < FAILED_AGAIN) {
            Some((_, error)) => error.clone(),
            None => match self.discover().await {
                Ok(known) => {
                    *memory = Memory { known: Some(known.clone()), failed: None };
                    return Ok(known);
                }
                Err(error) => {
                    memory.failed = Some((self.clock.uptime(), error.clone()));
                    error
                }
            },
        };
        // What it said before goes on being true while it does not answer.
        memory.known.clone().ok_or(error)
    }

    async fn discover(&self) -> Result<Known, Error> {
        let now = self.clock.uptime();
        let issuer = &self.config.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let metadata: Metadata = self.read(&url).await?;
        // Discovery §4.3: otherwise one provider could speak for another.
        if metadata.issuer != *issuer {
            let what =
                format!("the issuer {}; login.oidc.issuer has to be the same", metadata.issuer);
            return Err(Error::Answer { url, what });
        }
        let keys = self.read(&metadata.jwks_uri).await?;
        Ok(Known { metadata, keys, read_at: now })
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, Error> {
        let (status, body) = self.send(Method::GET, url, HeaderMap::new(), String::new()).await?;
        let answer = |what: String| Error::Answer { url: url.to_owned(), what };
        match status {
            200 => serde_json::from_slice(&body).map_err(|_| answer("no such JSON".to_owned())),
            status => Err(answer(status.to_string())),
        }
    }

    /// # Errors
    /// When there is no token for the code.
    pub async fn trade(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Granted, Error> {
        let metadata = self.metadata().await?;
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ];
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        match &self.secret {
            Some(secret) if metadata.takes_basic() => {
                headers.insert(AUTHORIZATION, basic(&self.config.client_id, secret)?);
            }
            Some(secret) => pairs.push(("client_secret", secret.expose())),
            None => {}
        }
        if !headers.contains_key(AUTHORIZATION) {
            pairs.push(("client_id", &self.config.client_id));
        }
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let url = &metadata.token_endpoint;
        let (status, body) = self.send(Method::POST, url, headers, form).await?;
        if status == 200 {
            let what = || "no ID token".to_owned();
            return serde_json::from_slice(&body)
                .map_err(|_| Error::Answer { url: url.clone(), what: what() });
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = said["error"].as_str().unwrap_or("no reason given");
        let more = said["error_description"].as_str().map(|text| format!(": {text}"));
        Err(Error::Refused(format!("{error}{}", more.unwrap_or_default())))
    }

    /// The claims that are not in the ID token.
    ///
    /// # Errors
    /// When the provider does not say.
    pub async fn userinfo(&self, url: &str, access_token: &str) -> Result<Value, Error> {
        let mut headers = HeaderMap::new();
        let answer = |what: String| Error::Answer { url: url.to_owned(), what };
        let mut value = HeaderValue::from_str(&format!("Bearer {access_token}"))
            .map_err(|_| answer("a token that cannot be sent".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        match self.send(Method::GET, url, headers, String::new()).await? {
            (200, body) => serde_json::from_slice(&body).map_err(|_| answer("no JSON".to_owned())),
            (status, _) => Err(answer(status.to_string())),
        }
    }

    /// No redirect is followed: a secret goes where the provider's own document says.
    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<(u16, Bytes), Error> {
        let (to, target) = destination(url, self.config.issuer.starts_with("http:"))?;
        let unreachable = |error: &dyn std::fmt::Display| Error::Unreachable(error.to_string());
        let mut request = Request::new(match body.is_empty() {
            true => RequestBody::empty(),
            false => RequestBody::full(Bytes::from(body)),
        });
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|error| unreachable(&error))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let exchange = async {
            let response = self.upstream.send(&to, request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            Ok::<_, upstream::Error>((status, body))
        };
        let sent = tokio::time::timeout(DEADLINE, exchange).await;
        let sent = sent.map_err(|_| unreachable(&"it took too long"))?;
        let (status, body) = sent.map_err(|error| unreachable(&error))?;
        let body = body.map_err(|error| unreachable(&error))?;
        Ok((status, body.to_bytes()))
    }
}

impl Metadata {
    /// RFC 8414: Basic where nothing is said.
    fn takes_basic(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_ref();
        methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"))
    }
}

/// RFC 6749 §2.3.1: both parts are form-encoded first.
fn basic(id: &str, secret: &Secret) -> Result<HeaderValue, Error> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(id), encoded(secret.expose()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
        .map_err(|error| Error::Unreachable(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Over TLS, unless the issuer itself is configured without.
fn destination(url: &str, clear_text: bool) -> Result<(Destination, String), Error> {
    let bad = |what: &str| Error::Answer { url: url.to_owned(), what: what.to_owned() };
    let parsed = url::Url::parse(url).map_err(|_| bad("no URL"))?;
    let tls = match parsed.scheme() {
        "https" => true,
        "http" if clear_text => false,
        _ => return Err(bad("an endpoint without TLS")),
    };
    let authority = Authority::parse(parsed.authority(), if tls { 443 } else { 80 });
    let Authority { host, port } = authority.map_err(|_| bad("an endpoint without a host"))?;
    let target = parsed[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    Ok((Destination { host, port, tls, http1_only: false }, target))
}
