//! Tokens by which members' own programs prove themselves. Only digests are stored. A token is no
//! more than its member: it ends with them, and what it may do is asked of what they are now.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::Vault;
use super::error::Error;
use super::people::{Member, member_of};
use super::row::{Row, ms_or_none};
use super::store::{at, ms, sql};
use crate::ids::MemberId;
use crate::random::{self, NoRandom};
use crate::secret::{Secret, TokenDigest};

/// One of a member's tokens, without the token.
#[derive(Debug, Clone)]
pub struct MemberToken {
    pub id: String,
    pub member: MemberId,
    pub details: MemberTokenDetails,
    /// To the minute.
    pub last_used_at: Option<SystemTime>,
    pub created_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberTokenDetails {
    pub name: String,
    pub rights: Rights,
    pub expires_at: Option<SystemTime>,
}

/// How much of what the member may do their token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Look, and change nothing.
    Read,
    Write,
}

impl Rights {
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// What programs may: "read", "read and change".
    pub fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "read and change",
        }
    }

    /// As people read it.
    pub fn said(self) -> &'static str {
        match self {
            Self::Read => "read only",
            Self::Write => "read and change",
        }
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("rights are read or write")]
pub struct UnknownRights;

impl FromStr for Rights {
    type Err = UnknownRights;

    fn from_str(text: &str) -> Result<Self, UnknownRights> {
        Self::ALL.into_iter().find(|rights| rights.as_str() == text).ok_or(UnknownRights)
    }
}

/// How members' tokens begin, so that people and scanners of secrets know them.
pub const MEMBER_TOKEN: &str = "cspat_";
/// More than anybody can tell apart.
const MOST: i64 = 50;
const MAX_NAME_CHARS: usize = 100;
/// Between two notes of its use.
const USED_AGAIN: Duration = Duration::from_secs(60);

/// A new member's token: 200 random bits.
///
/// # Errors
/// When the system gives none.
pub fn fresh_member_token() -> Result<Secret, NoRandom> {
    random::token(MEMBER_TOKEN, 25)
}

impl Vault {
    /// # Errors
    /// `Conflict` for a name that is none, or when there are too many.
    pub async fn create_member_token(
        &self,
        member: &MemberId,
        digest: TokenDigest,
        details: &MemberTokenDetails,
    ) -> Result<MemberToken, Error> {
        let name = details.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
            let what = format!("a token has a name of at most {MAX_NAME_CHARS} characters");
            return Err(Error::Conflict(what));
        }
        let id = format!("tok_{}", super::random::text(12)?);
        let (owner, now) = (member.to_string(), self.store.now());
        let insert = "INSERT INTO member_token (id, member, name, digest, rights, expires_at, \
                      created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sql(insert)
            .bind(id.clone())
            .bind(owner.clone())
            .bind(name.clone())
            .bind(digest.to_hex())
            .bind(details.rights.as_str())
            .bind(ms_or_none(details.expires_at))
            .bind(now);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let count = "SELECT COUNT(*) AS total FROM member_token WHERE member = $1";
                    let held = tx.one(sql(count).bind(owner)).await?;
                    if held.map(|row| row.int("total")).transpose()?.unwrap_or(0) >= MOST {
                        return Err(Error::conflict(
                            "there are 50 tokens already; revoke some first",
                        ));
                    }
                    tx.run(query).await.map(|_| ())
                })
            })
            .await?;
        let (member, details) = (member.clone(), MemberTokenDetails { name, ..details.clone() });
        Ok(MemberToken { id, member, details, last_used_at: None, created_at: at(now) })
    }

    /// Of one member, or of all, the latest first.
    pub async fn member_tokens(
        &self,
        member: Option<&MemberId>,
    ) -> Result<Vec<MemberToken>, Error> {
        let query = match member {
            Some(member) => sql("SELECT * FROM member_token WHERE member = $1 \
                                 ORDER BY created_at DESC, id")
            .bind(member.to_string()),
            None => sql("SELECT * FROM member_token ORDER BY member, created_at DESC, id"),
        };
        self.store.all(query).await?.iter().map(token_of).collect()
    }

    /// Whose token it is: one that has not ended, of a member who may log in. Also notes its use.
    pub async fn member_by_token(
        &self,
        digest: TokenDigest,
    ) -> Result<Option<(MemberToken, Member)>, Error> {
        let now = self.store.now();
        let query = "SELECT * FROM member_token WHERE digest = $1 \
                     AND (expires_at IS NULL OR expires_at > $2)";
        let query = sql(query).bind(digest.to_hex()).bind(now);
        let Some(token) = self.store.one(query).await?.as_ref().map(token_of).transpose()? else {
            return Ok(None);
        };
        let member = sql("SELECT * FROM member WHERE id = $1 AND disabled_at IS NULL");
        let member = self.store.one(member.bind(token.member.to_string())).await?;
        let Some(member) = member.as_ref().map(member_of).transpose()? else { return Ok(None) };
        let long_ago = |used: SystemTime| ms(used) + USED_AGAIN.as_millis() as i64 <= now;
        if token.last_used_at.is_none_or(long_ago) {
            let used = sql("UPDATE member_token SET last_used_at = $1 WHERE id = $2");
            self.store.change(None, used.bind(now).bind(token.id.clone())).await?;
        }
        Ok(Some((token, member)))
    }

    /// `false` if there is none of that id, or it is not this member's.
    pub async fn delete_member_token(&self, member: &MemberId, id: &str) -> Result<bool, Error> {
        let query = sql("DELETE FROM member_token WHERE id = $1 AND member = $2");
        let query = query.bind(id.to_owned()).bind(member.to_string());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// All of a member's, and how many they were.
    pub async fn delete_member_tokens(&self, member: &MemberId) -> Result<u64, Error> {
        let query = sql("DELETE FROM member_token WHERE member = $1").bind(member.to_string());
        self.store.change(None, query).await
    }
}

fn token_of(row: &Row) -> Result<MemberToken, Error> {
    let details = MemberTokenDetails {
        name: row.text("name")?,
        rights: row.parsed("rights")?,
        expires_at: row.time_or_none("expires_at")?,
    };
    Ok(MemberToken {
        id: row.text("id")?,
        member: row.parsed("member")?,
        details,
        last_used_at: row.time_or_none("last_used_at")?,
        created_at: row.time("created_at")?,
    })
}
