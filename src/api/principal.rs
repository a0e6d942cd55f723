//! Who is asking, and in which project and environment.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Api;
use super::failure::Failure;
use super::scope::{Scope, Scopes};
use crate::forward::{Forwarder, Refusal};
use crate::ids::ProjectId;
use crate::secret::TokenDigest;
use crate::telemetry::{AuditEvent, AuthFailure};
use crate::vault::{
    ApiClient, ApiClientDetails, ConnectToken, Environment, ExternalUser, MEMBER_TOKEN, Member,
    MemberToken, Rights, SessionOf,
};

/// A connect token begins so, an access token does not.
pub const CONNECT_TOKEN: &str = "ctok_";

pub enum Principal {
    /// A program of the operator's, by an access token, or of an owner or admin, by a token of
    /// theirs.
    Client(Client),
    /// One external user's browser, by a connect token. Never sees a credential or anybody else.
    User(User),
}

pub struct Client {
    pub record: ApiClient,
    pub scopes: Scopes,
    pub digest: TokenDigest,
}

pub struct User {
    pub token: ConnectToken,
    pub user: ExternalUser,
    pub scopes: Scopes,
}

/// Where accounts and users live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenancy {
    pub project: ProjectId,
    pub environment: Environment,
}

impl Client {
    /// What owners and admins may do on the pages, and not what they may not: neither read the
    /// secrets of users' accounts nor send requests with them.
    fn of_member(token: &MemberToken, member: &Member, digest: TokenDigest) -> Self {
        let words: &[Scope] = match token.details.rights {
            Rights::Read => &[Scope::AccountsRead, Scope::UsersRead, Scope::ProjectsRead],
            Rights::Write => &[
                Scope::AccountsRead,
                Scope::AccountsWrite,
                Scope::UsersRead,
                Scope::UsersWrite,
                Scope::ProjectsRead,
                Scope::ProjectsWrite,
                Scope::TokensCreate,
            ],
        };
        let scopes: Vec<String> = words.iter().map(ToString::to_string).collect();
        let record = ApiClient {
            id: format!("{} of member: {} ({})", token.id, member.email, member.id),
            secret: digest,
            details: ApiClientDetails {
                name: token.details.name.clone(),
                project: None,
                scopes: scopes.clone(),
                expires_at: token.details.expires_at,
            },
            created_at: token.created_at,
        };
        Self { record, scopes: Scopes::stored(&scopes), digest }
    }
}

impl Principal {
    /// Whoever it is, if they have the scope.
    ///
    /// # Errors
    /// `Scope`.
    pub fn may(&self, scope: Scope) -> Result<(), Failure> {
        let scopes = match self {
            Self::Client(client) => &client.scopes,
            Self::User(user) => &user.scopes,
        };
        if scopes.allow(scope) { Ok(()) } else { Err(Failure::Scope(scope)) }
    }

    /// A program of the operator's, if it has the scope.
    ///
    /// # Errors
    /// `Forbidden` for a connect token.
    pub fn client(&self, scope: Scope) -> Result<&Client, Failure> {
        let Self::Client(client) = self else {
            return Err(Failure::Forbidden("a connect token may not do this"));
        };
        self.may(scope)?;
        Ok(client)
    }

    pub fn digest(&self) -> TokenDigest {
        match self {
            Self::Client(client) => client.digest,
            Self::User(user) => user.token.digest,
        }
    }

    /// As audit and log name it.
    pub fn name(&self) -> &str {
        match self {
            Self::Client(client) => &client.record.id,
            Self::User(user) => user.user.id.as_str(),
        }
    }
}

impl Api {
    /// # Errors
    /// `Unauthorized`, and `Throttled` for an address that tries many tokens.
    pub(super) async fn authenticate(
        &self,
        client: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Principal, Failure> {
        let Some(token) = bearer(headers)? else {
            note_stranger(&self.forwarder, client, AuthFailure::Missing, None)?;
            return Err(Failure::Unauthorized("send an access token: Authorization: Bearer …"));
        };
        let found = match token {
            _ if token.starts_with(CONNECT_TOKEN) => self.by_connect_token(token).await?,
            _ if token.starts_with(MEMBER_TOKEN) => self.by_member_token(token).await?,
            _ => self.by_access_token(token).await?,
        };
        match found {
            Some(principal) => Ok(principal),
            None => {
                note_stranger(&self.forwarder, client, AuthFailure::Invalid, None)?;
                Err(Failure::Unauthorized("the token is not known, or it has expired"))
            }
        }
    }

    async fn by_access_token(&self, token: &str) -> Result<Option<Principal>, Failure> {
        let digest = TokenDigest::of(token.as_bytes());
        let Some(session) = self.vault().session(digest).await? else { return Ok(None) };
        let SessionOf::ApiClient(id) = &session.details.of else { return Ok(None) };
        let Some(record) = self.vault().api_client(id).await? else { return Ok(None) };
        if record.details.expires_at.is_some_and(|at| at <= self.now()) {
            return Ok(None);
        }
        let scopes = Scopes::stored(&session.details.scopes);
        Ok(Some(Principal::Client(Client { record, scopes, digest })))
    }

    /// A program of a member's. Projects are for those who look after the workspace, and so only
    /// for as long as the member is one of them.
    async fn by_member_token(&self, token: &str) -> Result<Option<Principal>, Failure> {
        let digest = TokenDigest::of(token.as_bytes());
        let Some((token, member)) = self.vault().member_by_token(digest).await? else {
            return Ok(None);
        };
        if !member.role.administers() {
            return Err(Failure::Forbidden(
                "projects and their users are for owners and admins; your own accounts and callers \
                 are below /v1/workspace/",
            ));
        }
        Ok(Some(Principal::Client(Client::of_member(&token, &member, digest))))
    }

    async fn by_connect_token(&self, token: &str) -> Result<Option<Principal>, Failure> {
        let digest = TokenDigest::of(token.as_bytes());
        let Some(token) = self.vault().connect_token(digest).await? else { return Ok(None) };
        let user = self.vault().external_user_by_id(&token.details.external_user).await?;
        let scopes = Scopes::stored(&token.details.scopes);
        Ok(user.map(|user| Principal::User(User { token, user, scopes })))
    }

    /// The project and environment that a request is about. A project that the token is not for is
    /// as unknown as one that does not exist.
    pub(super) async fn tenancy(
        &self,
        principal: &Principal,
        named: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Tenancy, Failure> {
        match principal {
            Principal::User(User { user, .. }) => {
                if named.is_some_and(|named| named != user.project.as_str()) {
                    return Err(Failure::NotFound);
                }
                Ok(Tenancy { project: user.project.clone(), environment: user.environment })
            }
            Principal::Client(client) => {
                let own = client.record.details.project.as_ref();
                let project = match named {
                    Some(named) => named.parse().map_err(|_| Failure::NotFound)?,
                    None => own.cloned().ok_or_else(|| {
                        Failure::bad("name the project in the path: /v1/connect/proj_…/")
                    })?,
                };
                if own.is_some_and(|own| *own != project) {
                    return Err(Failure::NotFound);
                }
                let environment = environment(headers)?;
                self.vault().project(&project).await?.ok_or(Failure::NotFound)?;
                Ok(Tenancy { project, environment })
            }
        }
    }
}

/// Records somebody who is not known.
///
/// # Errors
/// `Throttled` for an address that tries many wrong tokens: it gets no further answer.
pub fn note_stranger(
    forwarder: &Forwarder,
    client: IpAddr,
    reason: AuthFailure,
    claimed: Option<&str>,
) -> Result<(), Failure> {
    let invalid = matches!(reason, AuthFailure::Invalid);
    let event = AuditEvent::AuthFailed { reason, claimed, client: Some(client), count: 1 };
    forwarder.telemetry.event(&event);
    if invalid && !forwarder.guesses.allow(client) {
        tracing::debug!(%client, "{}", Refusal::TooManyGuesses);
        return Err(Failure::Throttled { retry_after_s: 60 });
    }
    Ok(())
}

/// The token that a request brings, if it brings one.
///
/// # Errors
/// `Bad` for more than one `Authorization`.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Failure::bad("more than one Authorization"));
    }
    let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return Ok(None);
    };
    let token = token.trim();
    Ok(Some(token).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()))
}

/// The SDKs that are made from a client's id and secret say `production` by default, so nothing
/// means the same.
fn environment(headers: &HeaderMap) -> Result<Environment, Failure> {
    let Some(value) = headers.get("x-pd-environment") else { return Ok(Environment::Production) };
    let value = value.to_str().ok().and_then(|text| text.parse().ok());
    value.ok_or_else(|| Failure::bad("x-pd-environment is development or production"))
}
