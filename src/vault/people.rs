//! Whose accounts there are: members of the workspace, and projects with their external users.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::Vault;
use super::changes::Noted;
use super::error::Error;
use super::row::{Row, unexpected};
use super::store::{Sql, Tx, at, sql, sql_of};
use crate::ids::{ExternalUserId, MemberId, ProjectId};
pub use crate::policy::access::Role;

/// A person of the workspace.
#[derive(Debug, Clone)]
pub struct Member {
    pub id: MemberId,
    /// Lower case; what they log in with.
    pub email: String,
    pub name: String,
    pub role: Role,
    /// The subject that the identity provider knows them by.
    pub oidc_subject: Option<String>,
    pub disabled_at: Option<SystemTime>,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

/// What is to be written of a member.
#[derive(Debug, Clone)]
pub struct MemberDetails {
    pub email: String,
    pub name: String,
    pub role: Role,
    pub oidc_subject: Option<String>,
    pub disabled: bool,
}

/// A product of the operator's, whose users connect accounts.
#[derive(Debug, Clone)]
pub struct Project {
    pub id: ProjectId,
    pub details: ProjectDetails,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectDetails {
    pub name: String,
    /// How the connect page calls the product.
    pub app_name: Option<String>,
    pub support_email: Option<String>,
    /// Keys must pass the app's test request before they are stored.
    pub require_key_test: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    Development,
    Production,
}

/// A user of the operator's product.
#[derive(Debug, Clone)]
pub struct ExternalUser {
    pub id: ExternalUserId,
    pub project: ProjectId,
    pub environment: Environment,
    /// The operator's own name for them: any text.
    pub external_id: String,
    pub created_at: SystemTime,
    pub updated_at: SystemTime,
}

/// Which external users a list shows.
#[derive(Debug, Clone)]
pub struct UserFilter {
    pub project: ProjectId,
    pub environment: Environment,
    /// A part of the operator's name for them.
    pub containing: Option<String>,
    /// Go on behind this one, in the order of ids.
    pub after: Option<ExternalUserId>,
    /// The last ones in front of this one.
    pub before: Option<ExternalUserId>,
    pub limit: u32,
}

impl UserFilter {
    fn query(&self) -> Sql {
        let (place, order, from) = match (&self.before, &self.after) {
            (Some(id), _) => ("AND id < $4", "DESC", Some(id)),
            (None, Some(id)) => ("AND id > $4", "ASC", Some(id)),
            (None, None) => ("", "ASC", None),
        };
        let limit = self.limit;
        let query = self.bound(format!(
            "SELECT * FROM external_user WHERE {FITS} {place} ORDER BY id {order} LIMIT {limit}"
        ));
        from.into_iter().fold(query, |query, id| query.bind(id.to_string()))
    }

    fn count(&self) -> Sql {
        self.bound(format!("SELECT COUNT(*) AS total FROM external_user WHERE {FITS}"))
    }

    fn bound(&self, text: String) -> Sql {
        let words = self.containing.as_deref().unwrap_or_default();
        let words = words.replace('!', "!!").replace('%', "!%").replace('_', "!_");
        sql_of(text)
            .bind(self.project.to_string())
            .bind(self.environment.to_string())
            .bind(format!("%{words}%"))
    }
}

const FITS: &str = "project = $1 AND environment = $2 AND \
     LOWER(external_id) LIKE LOWER($3) ESCAPE '!'";

impl Member {
    /// What is written of them, to be changed in part.
    pub fn details(&self) -> MemberDetails {
        MemberDetails {
            email: self.email.clone(),
            name: self.name.clone(),
            role: self.role,
            oidc_subject: self.oidc_subject.clone(),
            disabled: self.disabled_at.is_some(),
        }
    }
}

impl Vault {
    pub async fn create_member(&self, details: &MemberDetails) -> Result<Member, Error> {
        let (id, now): (MemberId, _) = (super::random::id("mem_")?, self.store.now());
        let insert = "INSERT INTO member (id, email, name, role, oidc_subject, disabled_at, \
                      created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let query = sql(insert)
            .bind(id.to_string())
            .bind(details.email.to_lowercase())
            .bind(details.name.clone())
            .bind(details.role.to_string())
            .bind(details.oidc_subject.clone())
            .bind(details.disabled.then_some(now))
            .bind(now)
            .bind(now);
        self.store.change(Some(Noted::Access), query).await?;
        self.member(&id).await?.ok_or_else(|| unexpected("member.id"))
    }

    /// `false` if there is no such member. One owner at least remains.
    pub async fn update_member(
        &self,
        id: &MemberId,
        details: &MemberDetails,
    ) -> Result<bool, Error> {
        let (id, now) = (id.to_string(), self.store.now());
        let stays_owner = details.role == Role::Owner && !details.disabled;
        let update = "UPDATE member SET email = $1, name = $2, role = $3, oidc_subject = $4, \
            disabled_at = CASE WHEN $5 = 0 THEN NULL ELSE COALESCE(disabled_at, $6) END, \
            updated_at = $7 WHERE id = $8";
        let query = sql(update)
            .bind(details.email.to_lowercase())
            .bind(details.name.clone())
            .bind(details.role.to_string())
            .bind(details.oidc_subject.clone())
            .bind(i64::from(details.disabled))
            .bind(now)
            .bind(now)
            .bind(id.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    if !stays_owner {
                        keep_an_owner(tx, &id).await?;
                    }
                    tx.note(Noted::Access);
                    Ok(tx.run(query).await? > 0)
                })
            })
            .await
    }

    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let query = sql("SELECT * FROM member ORDER BY created_at, id");
        self.store.all(query).await?.iter().map(member_of).collect()
    }

    pub async fn member(&self, id: &MemberId) -> Result<Option<Member>, Error> {
        let query = sql("SELECT * FROM member WHERE id = $1").bind(id.to_string());
        self.store.one(query).await?.as_ref().map(member_of).transpose()
    }

    pub async fn member_by_email(&self, email: &str) -> Result<Option<Member>, Error> {
        let query = sql("SELECT * FROM member WHERE email = $1").bind(email.to_lowercase());
        self.store.one(query).await?.as_ref().map(member_of).transpose()
    }

    pub async fn member_by_oidc_subject(&self, subject: &str) -> Result<Option<Member>, Error> {
        let query = sql("SELECT * FROM member WHERE oidc_subject = $1").bind(subject.to_owned());
        self.store.one(query).await?.as_ref().map(member_of).transpose()
    }

    /// The PHC text of a slow hash, kept apart from what lists show.
    pub async fn password_hash(&self, id: &MemberId) -> Result<Option<String>, Error> {
        let query = sql("SELECT password_hash FROM member WHERE id = $1").bind(id.to_string());
        let row = self.store.one(query).await?;
        Ok(row.map(|row| row.text_or_none("password_hash")).transpose()?.flatten())
    }

    pub async fn set_password_hash(
        &self,
        id: &MemberId,
        hash: Option<String>,
    ) -> Result<bool, Error> {
        let update = "UPDATE member SET password_hash = $1, updated_at = $2 WHERE id = $3";
        let query = sql(update).bind(hash).bind(self.store.now()).bind(id.to_string());
        Ok(self.store.change(None, query).await? > 0)
    }

    /// Refuses where [`Self::delete_member`] would for the last owner: to be asked before anything
    /// of theirs is deleted.
    pub async fn check_an_owner_remains(&self, without: &MemberId) -> Result<(), Error> {
        let without = without.to_string();
        self.store.write(|tx| Box::pin(async move { keep_an_owner(tx, &without).await })).await
    }

    /// With their sessions and what was shared with them; refused while they own accounts, and for
    /// the last owner.
    pub async fn delete_member(&self, id: &MemberId) -> Result<bool, Error> {
        let id = id.to_string();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let own = sql("SELECT id FROM account WHERE member = $1").bind(id.clone());
                    if tx.one(own).await?.is_some() {
                        return Err(Error::conflict("the member still owns accounts"));
                    }
                    keep_an_owner(tx, &id).await?;
                    let shares = "DELETE FROM account_access WHERE member = $1";
                    tx.run(sql(shares).bind(id.clone())).await?;
                    let deleted = tx.run(sql("DELETE FROM member WHERE id = $1").bind(id)).await?;
                    tx.note(Noted::Access);
                    Ok(deleted > 0)
                })
            })
            .await
    }

    pub async fn create_project(&self, details: &ProjectDetails) -> Result<Project, Error> {
        let (id, now): (ProjectId, _) = (super::random::id("proj_")?, self.store.now());
        let insert = "INSERT INTO project (id, name, app_name, support_email, require_key_test, \
                      created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sql(insert)
            .bind(id.to_string())
            .bind(details.name.clone())
            .bind(details.app_name.clone())
            .bind(details.support_email.clone())
            .bind(i64::from(details.require_key_test))
            .bind(now)
            .bind(now);
        self.store.change(Some(Noted::Access), query).await?;
        Ok(Project { id, details: details.clone(), created_at: at(now), updated_at: at(now) })
    }

    pub async fn update_project(
        &self,
        id: &ProjectId,
        details: &ProjectDetails,
    ) -> Result<bool, Error> {
        let update = "UPDATE project SET name = $1, app_name = $2, support_email = $3, \
                      require_key_test = $4, updated_at = $5 WHERE id = $6";
        let query = sql(update)
            .bind(details.name.clone())
            .bind(details.app_name.clone())
            .bind(details.support_email.clone())
            .bind(i64::from(details.require_key_test))
            .bind(self.store.now())
            .bind(id.to_string());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    pub async fn projects(&self) -> Result<Vec<Project>, Error> {
        let query = sql("SELECT * FROM project ORDER BY created_at, id");
        self.store.all(query).await?.iter().map(project_of).collect()
    }

    pub async fn project(&self, id: &ProjectId) -> Result<Option<Project>, Error> {
        let query = sql("SELECT * FROM project WHERE id = $1").bind(id.to_string());
        self.store.one(query).await?.as_ref().map(project_of).transpose()
    }

    /// A data URL of an image, shown on the connect page; kept apart from what lists show.
    pub async fn project_logo(&self, id: &ProjectId) -> Result<Option<String>, Error> {
        let query = sql("SELECT logo FROM project WHERE id = $1").bind(id.to_string());
        let row = self.store.one(query).await?;
        Ok(row.map(|row| row.text_or_none("logo")).transpose()?.flatten())
    }

    pub async fn set_project_logo(
        &self,
        id: &ProjectId,
        logo: Option<String>,
    ) -> Result<bool, Error> {
        let update = "UPDATE project SET logo = $1, updated_at = $2 WHERE id = $3";
        let query = sql(update).bind(logo).bind(self.store.now()).bind(id.to_string());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    /// Refused while its users have accounts.
    pub async fn delete_project(&self, id: &ProjectId) -> Result<bool, Error> {
        let query = sql("DELETE FROM project WHERE id = $1").bind(id.to_string());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    /// The user that a project knows by `external_id`; made when it is first named.
    pub async fn ensure_external_user(
        &self,
        project: &ProjectId,
        environment: Environment,
        external_id: &str,
    ) -> Result<ExternalUser, Error> {
        let id: ExternalUserId = super::random::id("exu_")?;
        let insert = "INSERT INTO external_user (id, project, environment, external_id, \
            created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6) \
            ON CONFLICT (project, environment, external_id) DO NOTHING";
        let now = self.store.now();
        let query = sql(insert)
            .bind(id.to_string())
            .bind(project.to_string())
            .bind(environment.to_string())
            .bind(external_id.to_owned())
            .bind(now)
            .bind(now);
        self.store.change(Some(Noted::Access), query).await?;
        let user = self.external_user(project, environment, external_id).await?;
        user.ok_or_else(|| unexpected("external_user.id"))
    }

    pub async fn external_user(
        &self,
        project: &ProjectId,
        environment: Environment,
        external_id: &str,
    ) -> Result<Option<ExternalUser>, Error> {
        let query = "SELECT * FROM external_user \
                     WHERE project = $1 AND environment = $2 AND external_id = $3";
        let query = sql(query)
            .bind(project.to_string())
            .bind(environment.to_string())
            .bind(external_id.to_owned());
        self.store.one(query).await?.as_ref().map(user_of).transpose()
    }

    pub async fn external_user_by_id(
        &self,
        id: &ExternalUserId,
    ) -> Result<Option<ExternalUser>, Error> {
        let query = sql("SELECT * FROM external_user WHERE id = $1").bind(id.to_string());
        self.store.one(query).await?.as_ref().map(user_of).transpose()
    }

    /// In the order of ids.
    pub async fn external_users(&self, filter: &UserFilter) -> Result<Vec<ExternalUser>, Error> {
        let found = self.store.all(filter.query()).await?;
        let mut users = found.iter().map(user_of).collect::<Result<Vec<_>, _>>()?;
        if filter.before.is_some() {
            users.reverse();
        }
        Ok(users)
    }

    /// How many fit, whatever part of them is looked at.
    pub async fn count_external_users(&self, filter: &UserFilter) -> Result<u64, Error> {
        let row = self.store.one(filter.count()).await?;
        row.map_or(Ok(0), |row| Ok(row.int("total")?.unsigned_abs()))
    }

    /// Delete the user's accounts first: their tokens want revoking.
    pub async fn delete_external_user(&self, id: &ExternalUserId) -> Result<bool, Error> {
        let query = sql("DELETE FROM external_user WHERE id = $1").bind(id.to_string());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }
}

/// Refuses when `id` is the only owner that can log in. The revision's row is taken first, so that
/// two owners who demote each other at the same time wait for one another.
async fn keep_an_owner(tx: &mut Tx, id: &str) -> Result<(), Error> {
    tx.run(sql("UPDATE revision SET latest = latest WHERE id = 1")).await?;
    let owners = "SELECT id FROM member WHERE role = 'owner' AND disabled_at IS NULL";
    let owners = tx.all(sql(owners)).await?;
    let owners = owners.iter().map(|row| row.text("id")).collect::<Result<Vec<_>, _>>()?;
    match &owners[..] {
        [only] if only == id => {
            Err(Error::conflict("the workspace needs an owner: make somebody else one first"))
        }
        _ => Ok(()),
    }
}

pub(super) fn member_of(row: &Row) -> Result<Member, Error> {
    Ok(Member {
        id: row.parsed("id")?,
        email: row.text("email")?,
        name: row.text("name")?,
        role: row.parsed("role")?,
        oidc_subject: row.text_or_none("oidc_subject")?,
        disabled_at: row.time_or_none("disabled_at")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn project_of(row: &Row) -> Result<Project, Error> {
    let details = ProjectDetails {
        name: row.text("name")?,
        app_name: row.text_or_none("app_name")?,
        support_email: row.text_or_none("support_email")?,
        require_key_test: row.flag("require_key_test")?,
    };
    let (created_at, updated_at) = (row.time("created_at")?, row.time("updated_at")?);
    Ok(Project { id: row.parsed("id")?, details, created_at, updated_at })
}

fn user_of(row: &Row) -> Result<ExternalUser, Error> {
    Ok(ExternalUser {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        environment: row.parsed("environment")?,
        external_id: row.text("external_id")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// The text is none of those that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use one of {0}")]
pub struct UnknownWord(pub(super) &'static str);

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Production => "production",
        })
    }
}

impl FromStr for Environment {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "development" => Ok(Self::Development),
            "production" => Ok(Self::Production),
            _ => Err(UnknownWord("development, production")),
        }
    }
}
