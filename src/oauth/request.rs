//! The requests that are sent to authorization servers, built from the definition. Pure.
//!
//! Standard names and values first (RFC 6749 §4, RFC 8628, RFC 7009), then the definition's
//! renames and drops, then its own parameters, which win. So a definition says only what departs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::collections::BTreeMap;
use std::time::SystemTime;
use url::form_urlencoded;

use super::endpoint::Endpoint;
use super::params::{self, Params};
use super::values::Values;
use super::{Error, Terms, jwt};
use crate::catalog::{ClientAuth, OAuth2, Param, ParamPlace, TokenBody};
use crate::inject::Template;
use crate::secret::Secret;

/// A request that is ready to go, and what must not be repeated in any message about it.
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// For the limits per endpoint and OAuth client.
    pub(super) client_id: String,
    pub(super) secrets: Vec<Secret>,
}

/// One step of a grant, before the definition has its say.
pub(super) struct Draft<'a> {
    pub(super) terms: &'a Terms<'a>,
    pub(super) oauth2: &'a OAuth2,
    pub(super) now: SystemTime,
    pub(super) values: Values,
    pub(super) params: Params,
    pub(super) url: Option<&'a Template>,
    pub(super) what: &'static str,
    pub(super) method: Option<&'a Method>,
    pub(super) body: TokenBody,
    pub(super) auth: ClientAuth,
    pub(super) own_params: Vec<&'a BTreeMap<String, Param>>,
    pub(super) own_headers: Vec<&'a BTreeMap<String, Param>>,
    pub(super) drops: &'a [String],
    /// Where the token that the request is about goes, when it is no parameter.
    pub(super) token_in: Option<(ParamPlace, &'static str)>,
    /// The app's own JWT goes out as `assertion` (RFC 7523 §2.1).
    pub(super) sends_assertion: bool,
}

pub(super) const AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

impl<'a> Draft<'a> {
    /// A request to the token endpoint, as the definition has it for all steps.
    pub(super) fn to_token_endpoint(
        terms: &'a Terms<'a>,
        oauth2: &'a OAuth2,
        now: SystemTime,
    ) -> Self {
        Self {
            terms,
            oauth2,
            now,
            values: Values::of(terms, now),
            params: Params::default(),
            url: oauth2.token_url.as_ref(),
            what: "token_url",
            method: oauth2.token_method.as_ref(),
            body: oauth2.token_content_type,
            auth: oauth2.client_auth,
            own_params: vec![&oauth2.token_params],
            own_headers: vec![&oauth2.token_headers],
            drops: &oauth2.token_params_drop,
            token_in: None,
            sends_assertion: false,
        }
    }

    pub(super) fn into_call(mut self) -> Result<Call, Error> {
        if self.oauth2.mtls {
            return Err(Error::ClientCertificate);
        }
        let app = || self.terms.app.id.to_string();
        let url = self.url.ok_or_else(|| Error::NotDefined { app: app(), what: self.what })?;
        let mut endpoint = Endpoint::of(url, self.terms, &self.values)?;
        self.values.put("token_url", endpoint.url_without_query());
        jwt::add_to(&mut self.values, self.terms, self.now)?;
        if let Some(jwt) = self.values.secret("jwt") {
            self.values.put_secret("assertion", &jwt);
            if self.sends_assertion {
                self.params.set_secret("assertion", &jwt);
            }
        }

        let mut headers = standard_headers();
        let mut in_query = Params::default();
        self.authenticate(&endpoint, &mut headers, &mut in_query)?;
        self.take_token_out(&mut headers, &mut in_query);
        for name in self.drops {
            self.params.remove(name);
        }
        self.params.rename(&self.oauth2.param_rename);
        in_query.rename(&self.oauth2.param_rename);
        for own in &self.own_params {
            self.params.add_all(own, &self.values)?;
        }

        let secrets = self.secrets(&headers);
        let method = self.method.cloned().unwrap_or(Method::POST);
        endpoint.add_query(&in_query.form());
        let body = self.body(&method, &mut endpoint, &mut headers);
        for own in &self.own_headers {
            add_headers(&mut headers, own, &self.values)?;
        }
        let client_id = self.values.get("client_id").unwrap_or_default().to_owned();
        Ok(Call { endpoint, method, headers, body, client_id, secrets })
    }

    /// RFC 6749 §2.3 and what servers made of it.
    fn authenticate(
        &mut self,
        endpoint: &Endpoint,
        headers: &mut HeaderMap,
        in_query: &mut Params,
    ) -> Result<(), Error> {
        if self.auth == ClientAuth::Custom {
            return Ok(());
        }
        let id = self.values.get("client_id").map(str::to_owned);
        let secret = self.values.secret("client_secret");
        let Some(id) = id else { return self.without_client() };
        match (self.auth, &secret) {
            (ClientAuth::Basic, Some(secret)) => basic(headers, &form(&id), &form(secret.expose())),
            (ClientAuth::BasicRaw, Some(secret)) => basic(headers, &id, secret.expose()),
            (ClientAuth::SecretAsUser, Some(secret)) => basic(headers, secret.expose(), ""),
            (ClientAuth::SecretAsUser, None) => Err(self.client_lacks("secret")),
            (ClientAuth::PrivateKeyJwt, _) => self.assert_client(&id, endpoint),
            (ClientAuth::Query, _) => {
                in_query.set("client_id", id);
                secret.iter().for_each(|secret| in_query.set_secret("client_secret", secret));
                Ok(())
            }
            (ClientAuth::Body, Some(secret)) => {
                self.params.set("client_id", id);
                self.params.set_secret("client_secret", secret);
                Ok(())
            }
            // Without a secret it is a public client, which only says who it is (§3.2.1).
            _ => {
                self.params.set("client_id", id);
                Ok(())
            }
        }
    }

    /// Grants that live on the account's own fields need no OAuth client; codes do.
    fn without_client(&self) -> Result<(), Error> {
        use crate::catalog::AuthKind::{Oauth2, Oauth2ClientCredentials};
        match self.terms.auth.kind {
            Oauth2 | Oauth2ClientCredentials => {
                Err(Error::NoClient { app: self.terms.app.id.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn client_lacks(&self, what: &'static str) -> Error {
        Error::ClientLacks { app: self.terms.app.id.to_string(), what }
    }

    /// RFC 7523 §2.2.
    fn assert_client(&mut self, id: &str, endpoint: &Endpoint) -> Result<(), Error> {
        let rules = &self.oauth2.client_assertion;
        let key = self.values.secret("client_private_key");
        let key = key.ok_or_else(|| self.client_lacks("private key"))?;
        let audience = match &rules.audience {
            Some(template) => self.values.fill(template)?.expose().to_owned(),
            None => endpoint.url_without_query(),
        };
        let key_id = self.terms.client.and_then(|client| client.key_id.as_deref());
        let jwt = jwt::client_assertion(rules, &key, key_id, id, &audience, self.now)?;
        self.values.put_secret("client_assertion", &jwt);
        self.params.set("client_id", id);
        self.params.set("client_assertion_type", jwt::CLIENT_ASSERTION_TYPE);
        self.params.set_secret("client_assertion", &jwt);
        Ok(())
    }

    fn take_token_out(&mut self, headers: &mut HeaderMap, in_query: &mut Params) {
        let Some((place, name)) = self.token_in else { return };
        let held =
            if name == "refresh_token" { "oauth_refresh_token" } else { "oauth_access_token" };
        let Some(token) = self.values.secret(held) else { return };
        match place {
            ParamPlace::Body => {}
            ParamPlace::Query => {
                self.params.remove(name);
                in_query.set_secret(name, &token);
            }
            ParamPlace::Header => {
                self.params.remove(name);
                if let Ok(value) = sensitive(&format!("Bearer {}", token.expose())) {
                    headers.insert(AUTHORIZATION, value);
                }
            }
        }
    }

    fn body(&self, method: &Method, endpoint: &mut Endpoint, headers: &mut HeaderMap) -> Bytes {
        let bodiless = *method == Method::GET || *method == Method::HEAD;
        let (text, kind) = match self.body {
            _ if self.params.is_empty() && !bodiless && self.body != TokenBody::Json => {
                (String::new(), None)
            }
            TokenBody::Form if !bodiless => {
                (self.params.form().to_string(), Some("application/x-www-form-urlencoded"))
            }
            TokenBody::Json if !bodiless => {
                (self.params.json().to_string(), Some("application/json"))
            }
            _ => {
                endpoint.add_query(&self.params.form());
                (String::new(), None)
            }
        };
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        } else if !bodiless {
            // Some servers answer 411 to a POST that says nothing of its length.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Bytes::from(text)
    }

    /// What an answer could echo.
    fn secrets(&self, headers: &HeaderMap) -> Vec<Secret> {
        const NAMES: [&str; 9] = [
            "client_secret",
            "client_private_key",
            "oauth_access_token",
            "oauth_refresh_token",
            "code",
            "code_verifier",
            "assertion",
            "jwt",
            "client_assertion",
        ];
        let named = NAMES.iter().filter_map(|name| self.values.secret(name));
        let fields = self.terms.auth.fields.iter().filter(|field| field.secret);
        let fields = fields.filter_map(|field| self.values.secret(&field.name));
        let auth = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let auth = auth.and_then(|value| value.split(' ').next_back());
        named.chain(fields).chain(auth.map(|value| Secret::from(value.to_owned()))).collect()
    }
}

pub(super) fn standard_headers() -> HeaderMap {
    // Some servers answer form-encoded without `Accept`, and 403 or 429 without `User-Agent`.
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static(AGENT)),
    ])
}

pub(super) fn add_headers(
    headers: &mut HeaderMap,
    own: &BTreeMap<String, Param>,
    values: &Values,
) -> Result<(), Error> {
    for (name, param) in own {
        let wrong = || Error::Header(name.clone());
        let key = HeaderName::try_from(name).map_err(|_| wrong())?;
        let value = params::text(param, values)?;
        headers.insert(key, sensitive(value.expose()).map_err(|_| wrong())?);
    }
    Ok(())
}

pub(super) fn sensitive(text: &str) -> Result<HeaderValue, Error> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| Error::Header("Authorization".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn basic(headers: &mut HeaderMap, user: &str, password: &str) -> Result<(), Error> {
    let value = sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))?;
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// RFC 6749 appendix B.
fn form(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
