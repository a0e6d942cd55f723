//! Links by which people become members, and by which a member sets a password anew. Each works
//! once; only its digest is stored.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::changes::Noted;
use super::error::Error;
use super::people::{Role, UnknownWord, member_of};
use super::row::{Row, unexpected};
use super::store::{Sql, Tx, ms, sql};
use super::{Member, Vault};
use crate::ids::MemberId;
use crate::secret::TokenDigest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationKind {
    /// The first owner's, good for as long as there is no member.
    First,
    Invite,
    /// A member's, who sets a password anew.
    Reset,
}

#[derive(Debug, Clone)]
pub struct Invitation {
    /// `inv_…`, by which it is listed and withdrawn.
    pub id: String,
    pub details: InvitationDetails,
    pub created_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationDetails {
    pub kind: InvitationKind,
    /// `None`: whoever follows the link says it.
    pub email: Option<String>,
    pub role: Role,
    /// Whose password is set anew.
    pub member: Option<MemberId>,
    /// `None`: the operator, at the terminal.
    pub invited_by: Option<MemberId>,
    pub expires_at: SystemTime,
}

/// Who follows an invitation.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub email: String,
    pub name: String,
    /// The PHC text of a slow hash; `None`: they come by the identity provider.
    pub password_hash: Option<String>,
    pub oidc_subject: Option<String>,
}

impl Vault {
    pub async fn create_invitation(
        &self,
        digest: TokenDigest,
        details: &InvitationDetails,
    ) -> Result<String, Error> {
        let id = format!("inv_{}", super::random::text(16)?);
        let insert = "INSERT INTO invitation (id, digest, kind, email, role, member, invited_by, \
                      expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let query = sql(insert)
            .bind(id.clone())
            .bind(digest.to_hex())
            .bind(details.kind.to_string())
            .bind(details.email.as_deref().map(str::to_lowercase))
            .bind(details.role.to_string())
            .bind(details.member.as_ref().map(MemberId::to_string))
            .bind(details.invited_by.as_ref().map(MemberId::to_string))
            .bind(ms(details.expires_at))
            .bind(self.store.now());
        self.store.change(None, query).await.map(|_| id)
    }

    /// One that has not ended, and can still be followed.
    pub async fn invitation(&self, digest: TokenDigest) -> Result<Option<Invitation>, Error> {
        let query = "SELECT * FROM invitation WHERE digest = $1 AND expires_at > $2 \
                     AND (kind <> 'first' OR NOT EXISTS (SELECT 1 FROM member))";
        let query = sql(query).bind(digest.to_hex()).bind(self.store.now());
        self.store.one(query).await?.as_ref().map(invitation_of).transpose()
    }

    /// Those by which people may still become members, the latest first.
    pub async fn invitations(&self) -> Result<Vec<Invitation>, Error> {
        let query = "SELECT * FROM invitation WHERE kind = 'invite' AND expires_at > $1 \
                     ORDER BY created_at DESC, id";
        let query = sql(query).bind(self.store.now());
        self.store.all(query).await?.iter().map(invitation_of).collect()
    }

    pub async fn delete_invitation(&self, id: &str) -> Result<bool, Error> {
        let query = sql("DELETE FROM invitation WHERE id = $1").bind(id.to_owned());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// Uses up the invitation and makes the member. `None` if somebody was faster, or it has ended.
    ///
    /// # Errors
    /// `Conflict` if there is a member with that address; the invitation stays good then.
    pub async fn accept_invitation(
        &self,
        digest: TokenDigest,
        newcomer: &Newcomer,
    ) -> Result<Option<Member>, Error> {
        let id: MemberId = super::random::id("mem_")?;
        let (newcomer, now) = (newcomer.clone(), self.store.now());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    // First of all, so that those who follow two links come one after the other: a
                    // first owner's ends the other one's.
                    tx.run(sql("UPDATE revision SET latest = latest WHERE id = 1")).await?;
                    let Some(used) = use_up(tx, digest, now).await? else { return Ok(None) };
                    let kind = used.details.kind;
                    if kind == InvitationKind::Reset {
                        return Err(Error::conflict("this link is for setting a password"));
                    }
                    if kind == InvitationKind::First && !first_of_all(tx).await? {
                        return Ok(None);
                    }
                    tx.run(insert_member(&id, &newcomer, used.details.role, now)).await.map_err(
                        |error| match error {
                            Error::Conflict(_) => Error::conflict(format!(
                                "there is a member with the address {} already",
                                newcomer.email
                            )),
                            other => other,
                        },
                    )?;
                    tx.note(Noted::Access);
                    let made = sql("SELECT * FROM member WHERE id = $1").bind(id.to_string());
                    tx.one(made).await?.as_ref().map(member_of).transpose()
                })
            })
            .await
    }

    /// Uses up a link for setting a password anew; the member's sessions and tokens end: whoever lost
    /// the password may have lost more. `None` if it has ended.
    pub async fn accept_reset(
        &self,
        digest: TokenDigest,
        password_hash: &str,
    ) -> Result<Option<MemberId>, Error> {
        let (hash, now) = (password_hash.to_owned(), self.store.now());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let used = use_up(tx, digest, now).await?;
                    let Some(member) = used.and_then(|used| used.details.member) else {
                        return Ok(None);
                    };
                    let update = "UPDATE member SET password_hash = $1, updated_at = $2 \
                                  WHERE id = $3";
                    let update = sql(update).bind(hash).bind(now).bind(member.to_string());
                    tx.run(update).await?;
                    let ended = sql("DELETE FROM session WHERE member = $1");
                    tx.run(ended.bind(member.to_string())).await?;
                    let ended = sql("DELETE FROM member_token WHERE member = $1");
                    tx.run(ended.bind(member.to_string())).await?;
                    Ok(Some(member))
                })
            })
            .await
    }
}

/// Of several who follow one link, the first one deletes its row.
async fn use_up(tx: &mut Tx, digest: TokenDigest, now: i64) -> Result<Option<Invitation>, Error> {
    let delete = "DELETE FROM invitation WHERE digest = $1 AND expires_at > $2 RETURNING *";
    let taken = tx.one(sql(delete).bind(digest.to_hex()).bind(now)).await?;
    taken.as_ref().map(invitation_of).transpose()
}

/// Whether there is no member yet.
async fn first_of_all(tx: &mut Tx) -> Result<bool, Error> {
    tx.run(sql("DELETE FROM invitation WHERE kind = 'first'")).await?;
    Ok(tx.one(sql("SELECT id FROM member LIMIT 1")).await?.is_none())
}

fn insert_member(id: &MemberId, newcomer: &Newcomer, role: Role, now: i64) -> Sql {
    let insert = "INSERT INTO member (id, email, name, role, password_hash, oidc_subject, \
                  created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sql(insert)
        .bind(id.to_string())
        .bind(newcomer.email.to_lowercase())
        .bind(newcomer.name.clone())
        .bind(role.to_string())
        .bind(newcomer.password_hash.clone())
        .bind(newcomer.oidc_subject.clone())
        .bind(now)
        .bind(now)
}

fn invitation_of(row: &Row) -> Result<Invitation, Error> {
    let details = InvitationDetails {
        kind: row.text("kind")?.parse().map_err(|_| unexpected("invitation.kind"))?,
        email: row.text_or_none("email")?,
        role: row.parsed("role")?,
        member: row.parsed_or_none("member")?,
        invited_by: row.parsed_or_none("invited_by")?,
        expires_at: row.time("expires_at")?,
    };
    Ok(Invitation { id: row.text("id")?, details, created_at: row.time("created_at")? })
}

impl fmt::Display for InvitationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Invite => "invite",
            Self::Reset => "reset",
        })
    }
}

impl FromStr for InvitationKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "first" => Ok(Self::First),
            "invite" => Ok(Self::Invite),
            "reset" => Ok(Self::Reset),
            _ => Err(UnknownWord("first, invite, reset")),
        }
    }
}
