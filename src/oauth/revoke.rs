//! Giving tokens back: RFC 7009, and what other servers have instead. Pure.

use std::time::SystemTime;

use http::Method;

use super::request::{self, Call, Draft};
use super::{Error, Terms};
use crate::catalog::{ClientAuth, OAuth2, Revocation, RevocationAuth};
use crate::secret::Secret;
use crate::vault::Tokens;

/// The calls that end a grant, or none if the server offers nothing.
pub(super) fn calls(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    tokens: &Tokens,
    now: SystemTime,
) -> Result<Vec<Call>, Error> {
    match (&oauth2.revoke, &oauth2.revoke_url) {
        (Some(custom), _) => Ok(vec![own(terms, oauth2, custom, tokens, now)?]),
        (None, Some(_)) => {
            // The refresh token first: most servers end the whole grant with it (RFC 7009 §2.1),
            // and where they do not, the access token is still to go.
            let refresh = tokens.refresh.as_ref().map(|token| (token, "refresh_token"));
            let both = refresh.into_iter().chain([(&tokens.access, "access_token")]);
            both.map(|(token, hint)| standard(terms, oauth2, token, hint, now)).collect()
        }
        (None, None) => Ok(Vec::new()),
    }
}

fn draft<'a>(terms: &'a Terms<'a>, oauth2: &'a OAuth2, now: SystemTime) -> Draft<'a> {
    let mut draft = Draft::to_token_endpoint(terms, oauth2, now);
    draft.own_params = Vec::new();
    draft.drops = &[];
    draft.method = Some(&Method::POST);
    draft
}

fn standard(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    token: &Secret,
    hint: &str,
    now: SystemTime,
) -> Result<Call, Error> {
    let mut draft = draft(terms, oauth2, now);
    (draft.url, draft.what) = (oauth2.revoke_url.as_ref(), "revoke_url");
    draft.body = crate::catalog::TokenBody::Form;
    draft.params.set_secret("token", token);
    draft.params.set("token_type_hint", hint);
    draft.into_call()
}

fn own(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    rules: &Revocation,
    tokens: &Tokens,
    now: SystemTime,
) -> Result<Call, Error> {
    let mut draft = draft(terms, oauth2, now);
    (draft.url, draft.what) = (Some(&rules.url), "revoke.url");
    draft.method = Some(&rules.method);
    draft.body = rules.format;
    draft.own_params = vec![&rules.body];
    draft.own_headers = vec![&rules.headers];
    draft.auth = match rules.auth {
        RevocationAuth::ClientBasic => ClientAuth::Basic,
        RevocationAuth::None | RevocationAuth::Bearer => ClientAuth::Custom,
    };
    draft.values.put_secret("oauth_access_token", &tokens.access);
    if let Some(refresh) = &tokens.refresh {
        draft.values.put_secret("oauth_refresh_token", refresh);
    }
    let mut call = draft.into_call()?;
    if rules.auth == RevocationAuth::Bearer {
        let bearer = request::sensitive(&format!("Bearer {}", tokens.access.expose()))?;
        call.headers.insert(http::header::AUTHORIZATION, bearer);
    }
    Ok(call)
}
