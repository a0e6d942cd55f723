//! The requests after the exchange, which learn what the token alone does not say: the site's id,
//! the host to call, a session of its own. Built purely; sent by the engine.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE};

use super::answer::TokenSet;
use super::endpoint::Endpoint;
use super::params::Params;
use super::request::{self, Call};
use super::values::Values;
use super::{Error, Terms};
use crate::catalog::{FollowUp, Param};
use crate::secret::Secret;

pub(super) fn call(
    terms: &Terms<'_>,
    step: &FollowUp,
    tokens: &TokenSet,
    now: SystemTime,
) -> Result<Call, Error> {
    let mut values = Values::of(terms, now);
    put_tokens(&mut values, tokens);
    let endpoint = Endpoint::of(&step.url, terms, &values)?;
    let mut headers = request::standard_headers();
    if !carries_token(step) {
        headers.insert(
            AUTHORIZATION,
            request::sensitive(&format!("Bearer {}", tokens.access.expose()))?,
        );
    }
    let mut params = Params::default();
    params.add_all(&step.body, &values)?;
    let body = if params.is_empty() { String::new() } else { params.json().to_string() };
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request::add_headers(&mut headers, &step.headers, &values)?;
    let client_id = values.get("client_id").unwrap_or_default().to_owned();
    let secrets: Vec<Secret> = ["client_secret", "oauth_access_token", "oauth_refresh_token"]
        .iter()
        .filter_map(|name| values.secret(name))
        .collect();
    let (method, body) = (step.method.clone(), Bytes::from(body));
    Ok(Call { endpoint, method, headers, body, client_id, secrets })
}

/// What earlier answers brought goes before what the account had.
pub(super) fn put_tokens(values: &mut Values, tokens: &TokenSet) {
    for (name, value) in &tokens.fields {
        values.put(name, value.clone());
    }
    for (name, value) in &tokens.secrets {
        values.put_secret(name, value);
    }
    values.put_secret("oauth_access_token", &tokens.access);
    if let Some(refresh) = &tokens.refresh {
        values.put_secret("oauth_refresh_token", refresh);
    }
}

/// Whether the definition already says where the token goes.
fn carries_token(step: &FollowUp) -> bool {
    let holds = |param: &Param| match param {
        Param::Text(template) => template.holes().contains(&"oauth_access_token"),
        Param::Literal(_) | Param::Table(_) => false,
    };
    let in_url = step.url.holes().contains(&"oauth_access_token");
    in_url || step.headers.values().chain(step.body.values()).any(holds)
}

/// Takes over what an answer of [`FollowUp::replaces_tokens`] brought.
pub(super) fn replace(tokens: &mut TokenSet, new: TokenSet) {
    tokens.access = new.access;
    tokens.expires = new.expires;
    tokens.obtained_at = new.obtained_at;
    if new.refresh.is_some() {
        tokens.refresh = new.refresh;
        tokens.refresh_expires_at = new.refresh_expires_at;
    }
    tokens.scopes = new.scopes.or(tokens.scopes.take());
    tokens.identity = new.identity.or(tokens.identity.take());
    tokens.fields.extend(new.fields);
    tokens.secrets.extend(new.secrets);
}
