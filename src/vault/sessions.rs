//! API clients, and the sessions of members and of API clients. Only digests are stored.

use std::time::SystemTime;

use super::Vault;
use super::changes::Noted;
use super::error::Error;
use super::row::{Row, json_list, ms_or_none, unexpected};
use super::store::{at, ms, sql};
use crate::ids::{MemberId, ProjectId};
use crate::secret::TokenDigest;

/// A program that speaks to the REST API.
#[derive(Debug, Clone)]
pub struct ApiClient {
    pub id: String,
    pub secret: TokenDigest,
    pub details: ApiClientDetails,
    pub created_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiClientDetails {
    pub name: String,
    /// `None`: every project.
    pub project: Option<ProjectId>,
    pub scopes: Vec<String>,
    pub expires_at: Option<SystemTime>,
}

#[derive(Debug, Clone)]
pub struct Session {
    pub digest: TokenDigest,
    pub details: SessionDetails,
    pub created_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDetails {
    pub of: SessionOf,
    pub scopes: Vec<String>,
    pub user_agent: Option<String>,
    pub expires_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOf {
    Member(MemberId),
    ApiClient(String),
}

impl Vault {
    pub async fn create_api_client(
        &self,
        secret: TokenDigest,
        details: &ApiClientDetails,
    ) -> Result<ApiClient, Error> {
        let id = format!("cli_{}", super::random::text(16)?);
        let now = self.store.now();
        let insert = "INSERT INTO api_client (id, name, project, secret_digest, scopes, \
                      expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sql(insert)
            .bind(id.clone())
            .bind(details.name.clone())
            .bind(details.project.as_ref().map(ProjectId::to_string))
            .bind(secret.to_hex())
            .bind(json_list(&details.scopes))
            .bind(ms_or_none(details.expires_at))
            .bind(now);
        self.store.change(Some(Noted::Access), query).await?;
        Ok(ApiClient { id, secret, details: details.clone(), created_at: at(now) })
    }

    pub async fn api_clients(&self) -> Result<Vec<ApiClient>, Error> {
        let query = sql("SELECT * FROM api_client ORDER BY created_at, id");
        self.store.all(query).await?.iter().map(api_client_of).collect()
    }

    pub async fn api_client(&self, id: &str) -> Result<Option<ApiClient>, Error> {
        let query = sql("SELECT * FROM api_client WHERE id = $1").bind(id.to_owned());
        self.store.one(query).await?.as_ref().map(api_client_of).transpose()
    }

    /// With its sessions.
    pub async fn delete_api_client(&self, id: &str) -> Result<bool, Error> {
        let query = sql("DELETE FROM api_client WHERE id = $1").bind(id.to_owned());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    pub async fn create_session(
        &self,
        digest: TokenDigest,
        details: &SessionDetails,
    ) -> Result<(), Error> {
        let (member, client) = match &details.of {
            SessionOf::Member(member) => (Some(member.to_string()), None),
            SessionOf::ApiClient(client) => (None, Some(client.clone())),
        };
        let insert = "INSERT INTO session (digest, member, api_client, scopes, user_agent, \
                      expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sql(insert)
            .bind(digest.to_hex())
            .bind(member)
            .bind(client)
            .bind(json_list(&details.scopes))
            .bind(details.user_agent.clone())
            .bind(ms(details.expires_at))
            .bind(self.store.now());
        self.store.change(None, query).await.map(|_| ())
    }

    /// One that has not expired.
    pub async fn session(&self, digest: TokenDigest) -> Result<Option<Session>, Error> {
        let query = "SELECT * FROM session WHERE digest = $1 AND expires_at > $2";
        let query = sql(query).bind(digest.to_hex()).bind(self.store.now());
        self.store.one(query).await?.as_ref().map(session_of).transpose()
    }

    pub async fn extend_session(
        &self,
        digest: TokenDigest,
        expires_at: SystemTime,
    ) -> Result<bool, Error> {
        let update = "UPDATE session SET expires_at = $1 WHERE digest = $2";
        let query = sql(update).bind(ms(expires_at)).bind(digest.to_hex());
        Ok(self.store.change(None, query).await? > 0)
    }

    pub async fn delete_session(&self, digest: TokenDigest) -> Result<bool, Error> {
        let query = sql("DELETE FROM session WHERE digest = $1").bind(digest.to_hex());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// A member's, the latest first.
    pub async fn sessions_of(&self, member: &MemberId) -> Result<Vec<Session>, Error> {
        let query = "SELECT * FROM session WHERE member = $1 AND expires_at > $2 \
                     ORDER BY created_at DESC, digest";
        let query = sql(query).bind(member.to_string()).bind(self.store.now());
        self.store.all(query).await?.iter().map(session_of).collect()
    }

    /// Sets a member's password and ends their sessions, except the one in which it was changed.
    pub async fn change_password(
        &self,
        member: &MemberId,
        hash: &str,
        keep: TokenDigest,
    ) -> Result<bool, Error> {
        let (member, hash, now) = (member.to_string(), hash.to_owned(), self.store.now());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let update = "UPDATE member SET password_hash = $1, updated_at = $2 \
                                  WHERE id = $3";
                    let update = sql(update).bind(hash).bind(now).bind(member.clone());
                    let changed = tx.run(update).await? > 0;
                    let others = sql("DELETE FROM session WHERE member = $1 AND digest <> $2");
                    tx.run(others.bind(member).bind(keep.to_hex())).await?;
                    Ok(changed)
                })
            })
            .await
    }

    /// All of a member's, as after a change of the password.
    pub async fn delete_sessions_of(&self, member: &MemberId) -> Result<u64, Error> {
        let query = sql("DELETE FROM session WHERE member = $1").bind(member.to_string());
        self.store.change(None, query).await
    }
}

fn api_client_of(row: &Row) -> Result<ApiClient, Error> {
    let details = ApiClientDetails {
        name: row.text("name")?,
        project: row.parsed_or_none("project")?,
        scopes: row.list("scopes")?,
        expires_at: row.time_or_none("expires_at")?,
    };
    Ok(ApiClient {
        id: row.text("id")?,
        secret: row.digest("secret_digest")?,
        details,
        created_at: row.time("created_at")?,
    })
}

fn session_of(row: &Row) -> Result<Session, Error> {
    let member = row.parsed_or_none("member")?.map(SessionOf::Member);
    let client = row.text_or_none("api_client")?.map(SessionOf::ApiClient);
    let details = SessionDetails {
        of: member.or(client).ok_or_else(|| unexpected("session.member"))?,
        scopes: row.list("scopes")?,
        user_agent: row.text_or_none("user_agent")?,
        expires_at: row.time("expires_at")?,
    };
    Ok(Session { digest: row.digest("digest")?, details, created_at: row.time("created_at")? })
}
