//! The browser's half of the code grant: where the resource owner is sent, and what comes back
//! (RFC 6749 §4.1.1 and §4.1.2, RFC 7636, RFC 9207). Pure but for randomness.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_lc_rs::hmac;
use oauth2::{CsrfToken, PkceCodeChallenge};

use super::answer::{Class, TokenError};
use super::endpoint::Endpoint;
use super::params::Params;
use super::values::Values;
use super::{Error, Terms, classify, grant};
use crate::catalog::{CallbackCheck, OAuth2, Pkce};
use crate::secret::{Secret, hex};

/// 256 bits; the norm wants 128 (RFC 6749 §10.10).
const STATE_BYTES: u32 = 32;

/// Where the browser goes, and what has to be kept on this side until it comes back.
pub struct Authorization {
    pub url: String,
    pub state: Secret,
    /// `None`: the server refuses PKCE.
    pub verifier: Option<Secret>,
}

/// What a callback brought, and what was kept for it. `state` was checked by whoever kept it.
pub struct Callback {
    /// Names and values of the query (or the form), decoded once.
    pub params: BTreeMap<String, String>,
    pub verifier: Option<Secret>,
    /// The very one that was authorized with.
    pub redirect_uri: String,
}

/// The query parameter that brings our `state` back.
pub fn state_param(oauth2: &OAuth2) -> &str {
    oauth2.param_rename.get("state").map_or("state", String::as_str)
}

pub(super) fn authorization(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    redirect_uri: &str,
    scopes: &[String],
    now: SystemTime,
) -> Result<Authorization, Error> {
    let app = || terms.app.id.to_string();
    let url = oauth2.authorize_url.as_ref();
    let url = url.ok_or_else(|| Error::NotDefined { app: app(), what: "authorize_url" })?;
    let mut values = Values::of(terms, now);
    let mut endpoint = Endpoint::of(url, terms, &values)?;
    let client_id = values.get("client_id").map(str::to_owned);
    let client_id = client_id.ok_or_else(|| Error::NoClient { app: app() })?;
    let state = CsrfToken::new_random_len(STATE_BYTES).into_secret();
    values.put("state", state.clone());
    values.put("redirect_uri", redirect_uri);

    let mut params = Params::default();
    params.set("response_type", "code");
    params.set("client_id", client_id);
    params.set("redirect_uri", redirect_uri);
    params.set("state", state.clone());
    add_scopes(&mut params, oauth2, scopes);
    let verifier = add_challenge(&mut params, oauth2);
    if let Some(audience) = oauth2.audience.first() {
        params.set("audience", audience.as_str());
    }
    for name in &oauth2.authorize_params_drop {
        params.remove(name);
    }
    params.rename(&oauth2.param_rename);
    params.add_all(&oauth2.authorize_params, &values)?;
    params.remove_if(|name| endpoint.has_param(name));
    endpoint.add_query(&params.form());
    Ok(Authorization { url: endpoint.url(), state: Secret::from(state), verifier })
}

/// An empty scope is left out: some servers refuse it.
fn add_scopes(params: &mut Params, oauth2: &OAuth2, scopes: &[String]) {
    let joined = grant::joined_scopes(oauth2, scopes);
    if !joined.is_empty() {
        params.set(oauth2.scope_param.as_deref().unwrap_or("scope"), joined);
    }
}

/// On unless the definition says that the server refuses it; its answer never switches it off (G6).
fn add_challenge(params: &mut Params, oauth2: &OAuth2) -> Option<Secret> {
    if oauth2.pkce == Some(Pkce::Unsupported) {
        return None;
    }
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    params.set("code_challenge", challenge.as_str());
    params.set("code_challenge_method", "S256");
    Some(Secret::from(verifier.into_secret()))
}

/// The code of a callback that is in order, or why it is not.
pub(super) fn code<'c>(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    callback: &'c Callback,
    now: SystemTime,
) -> Result<&'c str, TokenError> {
    let values = Values::of(terms, now);
    check_issuer(oauth2, &callback.params, &values)?;
    if let Some(check) = &oauth2.callback_verify {
        check_signature(check, &callback.params, &values)?;
    }
    if let Some(error) = callback.params.get("error").filter(|error| !error.is_empty()) {
        return Err(denied(error, callback.params.get("error_description")));
    }
    let usual = oauth2.param_rename.get("code").map_or("code", String::as_str);
    let name = oauth2.callback_code_param.as_deref();
    let code = callback.params.get(name.unwrap_or(usual)).or_else(|| {
        // A server's own name at the token endpoint is not always its name in the callback.
        callback.params.get("code").filter(|_| name.is_none())
    });
    let code = code.filter(|code| !code.is_empty() && !code.chars().any(char::is_control));
    code.map(String::as_str).ok_or_else(|| {
        let message = "the provider sent the browser back without a code; connect again";
        TokenError::unsent(Class::Dead, "no_code", message)
    })
}

fn denied(error: &str, description: Option<&String>) -> TokenError {
    let code = classify::code_text(error);
    let message = description.map(|text| classify::cleaned(text)).filter(|text| !text.is_empty());
    let message = message.unwrap_or_else(|| format!("the provider said {code}"));
    TokenError::unsent(Class::Dead, &code, message)
}

/// RFC 9207 §2.4: a code of another server must not be sent to this one.
fn check_issuer(
    oauth2: &OAuth2,
    params: &BTreeMap<String, String>,
    values: &Values,
) -> Result<(), TokenError> {
    let refuse = |message: &str| Err(TokenError::unsent(Class::Client, "issuer_mismatch", message));
    let Some(issuer) = &oauth2.issuer else { return Ok(()) };
    let issuer = values.fill(issuer).map_err(Error::from)?;
    match params.get("iss") {
        Some(told) if told == issuer.expose() => Ok(()),
        Some(_) => refuse("the callback comes from another issuer than the app's"),
        None if oauth2.issuer_in_callback => refuse("the callback names no issuer"),
        None => Ok(()),
    }
}

/// `hmac-sha256` over the sorted query, in hexadecimal.
fn check_signature(
    check: &CallbackCheck,
    params: &BTreeMap<String, String>,
    values: &Values,
) -> Result<(), TokenError> {
    if check.method != "hmac-sha256" {
        return Err(Error::CallbackCheck(check.method.clone()).into());
    }
    let key = values.fill(&check.key).map_err(Error::from)?;
    let signed: Vec<_> = params.iter().filter(|(name, _)| **name != check.param).collect();
    let signed: Vec<_> = signed.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let expected = Secret::from(hex(hmac::sign(&key, signed.join("&").as_bytes()).as_ref()));
    let given = params.get(&check.param).map(|text| Secret::from(text.to_ascii_lowercase()));
    match given.is_some_and(|given| given.same_as(&expected)) {
        true => Ok(()),
        false => {
            let message = "the callback's signature is wrong; connect again";
            Err(TokenError::unsent(Class::Client, "callback_signature", message))
        }
    }
}
