//! The steps of the grants: which parameters each has before the definition departs from them.

use std::time::SystemTime;

use percent_encoding::percent_decode_str;

use super::request::{Call, Draft};
use super::{Error, Terms, TokenError};
use crate::catalog::{Assertion, AuthKind, OAuth2, ParamPlace, Strategy};
use crate::secret::Secret;
use crate::vault::Tokens;

/// RFC 7523 §2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// RFC 8693 §2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8628 §3.4.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A code on its way to the token endpoint.
pub(super) struct Code<'a> {
    pub(super) code: &'a str,
    pub(super) state: Option<&'a str>,
    pub(super) redirect_uri: &'a str,
    pub(super) verifier: Option<&'a Secret>,
}

/// RFC 6749 §4.1.3, RFC 7636 §4.5.
pub(super) fn code(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    code: &Code<'_>,
    now: SystemTime,
) -> Result<Call, Error> {
    let mut draft = Draft::to_token_endpoint(terms, oauth2, now);
    let text = match oauth2.callback_code_encoded {
        true => percent_decode_str(code.code).decode_utf8_lossy().into_owned(),
        false => code.code.to_owned(),
    };
    draft.params.set("grant_type", oauth2.grant_type.as_deref().unwrap_or("authorization_code"));
    draft.params.set("code", text.clone());
    draft.params.set("redirect_uri", code.redirect_uri);
    draft.values.put("code", text);
    draft.values.put("redirect_uri", code.redirect_uri);
    if let Some(state) = code.state {
        draft.values.put("state", state);
    }
    if let Some(verifier) = code.verifier {
        draft.params.set_secret("code_verifier", verifier);
        draft.values.put_secret("code_verifier", verifier);
    }
    draft.params.add_possible(&oauth2.token_params_optional, &draft.values);
    draft.into_call()
}

/// A grant that needs no person: RFC 6749 §4.3 and §4.4, RFC 7523, RFC 8693, and the servers' own.
pub(super) fn without_person(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    now: SystemTime,
) -> Result<Call, Error> {
    if oauth2.assertion == Some(Assertion::Saml) {
        return Err(Error::Saml);
    }
    let mut draft = Draft::to_token_endpoint(terms, oauth2, now);
    if let Some(grant) = grant_type(terms, oauth2) {
        draft.params.set("grant_type", grant);
    }
    add_scope(&mut draft, oauth2);
    if let Some(audience) = oauth2.audience.first() {
        draft.params.set("audience", audience.as_str());
    }
    if terms.auth.kind == AuthKind::Oauth2Password {
        for name in ["username", "password"] {
            if let Some(value) = draft.values.secret(name) {
                draft.params.set_secret(name, &value);
            }
        }
    }
    draft.params.add_possible(&oauth2.token_params_optional, &draft.values);
    let overruled = oauth2.token_params.contains_key("grant_type");
    draft.sends_assertion = grant_type(terms, oauth2) == Some(JWT_BEARER) && !overruled;
    draft.into_call()
}

/// `None`: the endpoint is no OAuth one, and is sent what the definition says.
fn grant_type<'a>(terms: &Terms<'_>, oauth2: &'a OAuth2) -> Option<&'a str> {
    let by_kind = match (terms.auth.kind, oauth2.assertion) {
        (AuthKind::Oauth2ClientCredentials, _) => Some("client_credentials"),
        (AuthKind::Oauth2Password, _) => Some("password"),
        (_, Some(Assertion::Jwt)) => Some(JWT_BEARER),
        _ => None,
    };
    match oauth2.grant_type.as_deref() {
        Some("jwt_bearer") => Some(JWT_BEARER),
        Some("token_exchange") => Some(TOKEN_EXCHANGE),
        Some(grant) => Some(grant),
        None => by_kind,
    }
}

/// What a refresh is at this server, with the tokens that are held.
pub(super) fn renewal(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    held: Option<&Tokens>,
    now: SystemTime,
) -> Result<Call, TokenError> {
    let strategy = strategy(terms, oauth2);
    match strategy {
        Strategy::Reissue => Ok(without_person(terms, oauth2, now)?),
        Strategy::RefreshToken => {
            let refresh = held.and_then(|tokens| tokens.refresh.as_ref());
            let held = held.zip(refresh).ok_or_else(|| lacks("refresh token"))?;
            Ok(refresh_token(terms, oauth2, held, now)?)
        }
        Strategy::Exchange | Strategy::Extend => {
            let tokens = held.ok_or_else(|| lacks("access token"))?;
            match (strategy, &tokens.refresh) {
                (Strategy::Extend, Some(refresh)) => {
                    Ok(refresh_token(terms, oauth2, (tokens, refresh), now)?)
                }
                _ => Ok(by_access_token(terms, oauth2, tokens, now)?),
            }
        }
    }
}

fn lacks(what: &str) -> TokenError {
    let message = format!("there is no {what} to refresh with; connect the account again");
    TokenError::unsent(super::Class::Dead, "no_refresh_token", message)
}

/// Only a code needs a person, so every other grant is simply made again.
pub(super) fn strategy(terms: &Terms<'_>, oauth2: &OAuth2) -> Strategy {
    let usual = match terms.auth.kind {
        AuthKind::Oauth2 => Strategy::RefreshToken,
        _ => Strategy::Reissue,
    };
    oauth2.refresh.strategy.unwrap_or(usual)
}

/// RFC 6749 §6.
fn refresh_token(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    (tokens, refresh): (&Tokens, &Secret),
    now: SystemTime,
) -> Result<Call, Error> {
    let mut draft = refreshing(terms, oauth2, tokens, now);
    draft.params.set("grant_type", "refresh_token");
    draft.params.set_secret("refresh_token", refresh);
    if oauth2.refresh.send_scope {
        add_scope(&mut draft, oauth2);
    }
    draft.token_in = oauth2.refresh.token_in.map(|place| (place, "refresh_token"));
    draft.into_call()
}

/// The definition says which parameter carries the token; without one it goes as a bearer.
fn by_access_token(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    tokens: &Tokens,
    now: SystemTime,
) -> Result<Call, Error> {
    let mut draft = refreshing(terms, oauth2, tokens, now);
    let place = oauth2.refresh.token_in;
    if place == Some(ParamPlace::Body) {
        draft.params.set_secret("access_token", &tokens.access);
    }
    draft.token_in = place.map(|place| (place, "access_token"));
    draft.into_call()
}

fn refreshing<'a>(
    terms: &'a Terms<'a>,
    oauth2: &'a OAuth2,
    tokens: &Tokens,
    now: SystemTime,
) -> Draft<'a> {
    let mut draft = Draft::to_token_endpoint(terms, oauth2, now);
    let rules = &oauth2.refresh;
    draft.url = rules.url.as_ref().or(oauth2.refresh_url.as_ref()).or(draft.url);
    draft.method = rules.method.as_ref().or(draft.method);
    draft.auth = rules.client_auth.unwrap_or(draft.auth);
    draft.own_params = vec![&oauth2.refresh_params, &rules.params];
    draft.own_headers.push(&rules.headers);
    if !rules.params_drop.is_empty() {
        draft.drops = &rules.params_drop;
    }
    draft.values.put_secret("oauth_access_token", &tokens.access);
    if let Some(refresh) = &tokens.refresh {
        draft.values.put_secret("oauth_refresh_token", refresh);
    }
    draft
}

/// RFC 8628 §3.1.
pub(super) fn device_start(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    scopes: &[String],
    now: SystemTime,
) -> Result<Call, Error> {
    let mut draft = Draft::to_token_endpoint(terms, oauth2, now);
    draft.url = oauth2.device_authorization_url.as_ref();
    draft.what = "device_authorization_url";
    draft.own_params = vec![&oauth2.device_params];
    let joined = joined_scopes(oauth2, scopes);
    if !joined.is_empty() {
        draft.params.set(oauth2.scope_param.as_deref().unwrap_or("scope"), joined);
    }
    draft.into_call()
}

/// RFC 8628 §3.4.
pub(super) fn device_poll(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    device_code: &Secret,
    now: SystemTime,
) -> Result<Call, Error> {
    let mut draft = Draft::to_token_endpoint(terms, oauth2, now);
    draft.params.set("grant_type", DEVICE_CODE);
    draft.params.set_secret("device_code", device_code);
    draft.values.put_secret("code", device_code);
    draft.into_call()
}

fn add_scope(draft: &mut Draft<'_>, oauth2: &OAuth2) {
    let scopes = joined_scopes(oauth2, draft.terms.scopes);
    if !scopes.is_empty() {
        draft.values.put("scope", scopes.clone());
        draft.params.set(oauth2.scope_param.as_deref().unwrap_or("scope"), scopes);
    }
}

/// Those that are always asked, then the others, each once.
pub(super) fn joined_scopes(oauth2: &OAuth2, asked: &[String]) -> String {
    let mut scopes: Vec<&str> = Vec::new();
    for scope in oauth2.default_scopes.iter().chain(asked) {
        if !scopes.contains(&scope.as_str()) {
            scopes.push(scope);
        }
    }
    // In a form a blank is written as `+`, which is what servers that want a `+` expect.
    let separator = oauth2.scopes_separator.as_deref().unwrap_or(" ");
    scopes.join(if separator == "+" { " " } else { separator })
}
