//! Logging in at an identity provider: OpenID Connect, authorization code with PKCE.
//!
//! What belongs to one login (state, nonce, verifier, where to afterwards) is in a cookie that only
//! this installation can make, so that strangers who begin logins leave nothing in the store. The
//! cookie goes with the first way back.

mod provider;
mod token;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

pub use provider::Provider;
use token::{Expected, Identity, Invalid, identity, verify};

use super::login::{let_in, next_of};
use super::session::same;
use super::{Trouble, Visitor};
use crate::clock::unix_ms;
use crate::forward::Body;
use crate::random;
use crate::telemetry::{AuditEvent, AuthFailure};
use crate::vault::{Member, MemberDetails, Role, Vault};
use crate::web::browser::{append_cookie, cookie, see_other};
use crate::web::words::capitalised;

/// How long somebody may take to log in there.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// One login, between leaving and coming back.
#[derive(Serialize, Deserialize)]
struct Login {
    state: String,
    nonce: String,
    verifier: String,
    next: String,
    /// Milliseconds since 1970.
    until: u64,
}

/// The answer for the paths below `/login/` that belong to this room.
pub(super) async fn answer(visitor: &Visitor<'_>, step: &str) -> Result<Response<Body>, Trouble> {
    let provider = visitor.workspace.oidc.as_ref().ok_or(Trouble::NotFound)?;
    match (step, &visitor.parts.method) {
        ("oidc", &Method::GET) => leave(visitor, provider).await,
        ("callback", &Method::GET) => come_back(visitor, provider).await,
        _ => Err(Trouble::NotFound),
    }
}

fn redirect_uri(visitor: &Visitor<'_>) -> String {
    format!("{}/login/callback", visitor.workspace.base)
}

async fn leave(visitor: &Visitor<'_>, provider: &Provider) -> Result<Response<Body>, Trouble> {
    let fresh = || random::token("", 32).map(|token| token.expose().to_owned());
    let until = unix_ms(visitor.workspace.now() + PATIENCE);
    let next = next_of(&visitor.query());
    let login = Login { state: fresh()?, nonce: fresh()?, verifier: fresh()?, next, until };
    let metadata = provider.metadata().await.map_err(|error| unavailable(&error))?;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(login.verifier.as_bytes()));
    let joint = if metadata.authorization_endpoint.contains('?') { '&' } else { '?' };
    let mut url =
        form_urlencoded::Serializer::new(format!("{}{joint}", metadata.authorization_endpoint));
    let config = provider.config();
    url.append_pair("response_type", "code")
        .append_pair("client_id", &config.client_id)
        .append_pair("redirect_uri", &redirect_uri(visitor))
        .append_pair("scope", &config.scopes.join(" "))
        .append_pair("state", &login.state)
        .append_pair("nonce", &login.nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    let mut response = see_other(&url.finish());
    let value = URL_SAFE_NO_PAD.encode(serde_json::to_string(&login).unwrap_or_default());
    let seal = visitor.workspace.seal("oidc", &value);
    let sealed = format!("{value}.{seal}");
    append_cookie(&mut response, &visitor.workspace.set_cookie("oidc", &sealed, Some(PATIENCE)));
    Ok(response)
}

/// A failure of the provider is the operator's to mend, so it is logged whole.
fn unavailable(error: &provider::Error) -> Trouble {
    tracing::warn!(%error, "a login at the identity provider failed");
    Trouble::Bad(sentence(&error.to_string()))
}

fn sentence(text: &str) -> String {
    format!("{}.", capitalised(text))
}

/// The login that this browser began.
fn login_of(visitor: &Visitor<'_>) -> Option<Login> {
    let name = visitor.workspace.cookie_name("oidc");
    let (value, seal) = cookie(&visitor.parts.headers, &name)?.split_once('.')?;
    if !same(seal, &visitor.workspace.seal("oidc", value)) {
        return None;
    }
    let login: Login = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
    (login.until > unix_ms(visitor.workspace.now())).then_some(login)
}

async fn come_back(visitor: &Visitor<'_>, provider: &Provider) -> Result<Response<Body>, Trouble> {
    let gone = visitor.workspace.set_cookie("oidc", "", Some(Duration::ZERO));
    let answered = finish(visitor, provider).await;
    let mut response = answered.unwrap_or_else(|trouble| trouble.told());
    append_cookie(&mut response, &gone);
    Ok(response)
}

async fn finish(visitor: &Visitor<'_>, provider: &Provider) -> Result<Response<Body>, Trouble> {
    let stale = || {
        Trouble::Bad(
            "This login was not begun here, took too long, or was used already. Log in again."
                .to_owned(),
        )
    };
    let login = login_of(visitor).ok_or_else(stale)?;
    let query = visitor.query();
    if !same(query.text("state"), &login.state) {
        return Err(stale());
    }
    // RFC 9207: another server's answer must not be taken for this one's.
    let issuer = &provider.config().issuer;
    let metadata = provider.metadata().await.map_err(|error| unavailable(&error))?;
    let must_say = metadata.authorization_response_iss_parameter_supported;
    if query.said("iss").map_or(must_say, |iss| iss != issuer) {
        return Err(stale());
    }
    if let Some(error) = query.said("error") {
        let more = query.said("error_description").map(|text| format!(": {text}"));
        let more = more.unwrap_or_default();
        return Err(Trouble::Bad(format!(
            "The identity provider refused the login: {error}{more}."
        )));
    }
    let code = query.said("code").ok_or_else(stale)?;
    let granted = provider.trade(code, &login.verifier, &redirect_uri(visitor)).await;
    let granted = granted.map_err(|error| unavailable(&error))?;
    let person = who(visitor, provider, &granted, &login.nonce).await?;
    match member_of(visitor.workspace.vault(), provider, &person).await? {
        Some(member) => let_in(visitor, &member, &login.next).await,
        None => {
            note_failure(visitor, &person);
            Err(Trouble::Forbidden(
                "You are logged in at the identity provider, but not a member here. Ask an owner or \
                 admin for an invitation to the address that you have there.",
            ))
        }
    }
}

async fn who(
    visitor: &Visitor<'_>,
    provider: &Provider,
    granted: &provider::Granted,
    nonce: &str,
) -> Result<Identity, Trouble> {
    let config = provider.config();
    let now = visitor.workspace.now();
    let expected = Expected { issuer: &config.issuer, client_id: &config.client_id, nonce, now };
    let keys = provider.keys().await.map_err(|error| unavailable(&error))?;
    let mut verified = verify(&granted.id_token, &keys, &expected);
    if verified == Err(Invalid::UnknownKey) {
        let keys = provider.keys_again().await.map_err(|error| unavailable(&error))?;
        verified = verify(&granted.id_token, &keys, &expected);
    }
    let mut person = verified.map_err(|invalid| {
        tracing::warn!(%invalid, "an ID token was refused");
        Trouble::Bad(format!("The identity provider's token is not taken: {invalid}."))
    })?;
    let metadata = provider.metadata().await.map_err(|error| unavailable(&error))?;
    if let (None, Some(url), Some(token)) =
        (&person.email, &metadata.userinfo_endpoint, &granted.access_token)
    {
        let claims = provider.userinfo(url, token).await.map_err(|error| unavailable(&error))?;
        let more = identity(&claims);
        // Core §5.3.2: otherwise it could be somebody else's.
        if more.subject == person.subject {
            person = more;
        }
    }
    Ok(person)
}

fn note_failure(visitor: &Visitor<'_>, person: &Identity) {
    visitor.workspace.forwarder.telemetry.event(&AuditEvent::AuthFailed {
        reason: AuthFailure::Forbidden,
        claimed: person.email.as_deref(),
        client: Some(visitor.peer),
        count: 1,
    });
}

/// The member whose identity this is: known by it already, by an address that the provider has
/// verified, by an invitation to that address, or by its domain.
async fn member_of(
    vault: &Vault,
    provider: &Provider,
    person: &Identity,
) -> Result<Option<Member>, Trouble> {
    let config = provider.config();
    let subject = format!("{}#{}", config.issuer, person.subject);
    if let Some(member) = vault.member_by_oidc_subject(&subject).await? {
        return Ok(Some(member).filter(|member| member.disabled_at.is_none()));
    }
    let email = person.email.as_deref();
    let Some(email) = email.filter(|_| person.email_verified || config.trust_email) else {
        return Ok(None);
    };
    if let Some(member) = vault.member_by_email(email).await? {
        return link(vault, member, subject).await;
    }
    let invitations = vault.invitations().await?;
    let to_them = |address: &String| address.eq_ignore_ascii_case(email);
    let invited = invitations.iter().find(|one| one.details.email.as_ref().is_some_and(to_them));
    let domain = email.rsplit_once('@').map(|(_, domain)| domain.to_lowercase());
    let of_ours = domain.is_some_and(|domain| config.domains.contains(&domain));
    let role = match invited {
        Some(invited) => invited.details.role,
        None if of_ours => Role::Member,
        None => return Ok(None),
    };
    // Nobody becomes the first by an identity provider: the terminal's link makes the first owner.
    if vault.members().await?.is_empty() {
        return Ok(None);
    }
    let details = MemberDetails {
        email: email.to_owned(),
        name: person.name.clone().unwrap_or_else(|| email.to_owned()).chars().take(200).collect(),
        role,
        oidc_subject: Some(subject),
        disabled: false,
    };
    let member = vault.create_member(&details).await?;
    if let Some(invited) = invited {
        vault.delete_invitation(&invited.id).await?;
    }
    Ok(Some(member))
}

/// From now on the member is known by the identity. One that has another identity already is not
/// taken over: addresses are given to new people.
async fn link(vault: &Vault, member: Member, subject: String) -> Result<Option<Member>, Trouble> {
    if member.disabled_at.is_some() || member.oidc_subject.is_some() {
        return Ok(None);
    }
    let details = MemberDetails {
        email: member.email.clone(),
        name: member.name.clone(),
        role: member.role,
        oidc_subject: Some(subject),
        disabled: false,
    };
    vault.update_member(&member.id, &details).await?;
    Ok(Some(member))
}
