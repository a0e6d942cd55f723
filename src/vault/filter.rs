//! Which accounts a list shows, and in which order and portions.

use super::Environment;
use super::store::{Sql, sql_of};
use crate::ids::{AccountId, AppId, ExternalUserId, MemberId, OAuthClientId, ProjectId};

/// All that is given must hold; nothing given: all accounts.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub app: Option<AppId>,
    pub oauth_client: Option<OAuthClientId>,
    pub member: Option<MemberId>,
    pub external_user: Option<ExternalUserId>,
    /// Only accounts of this project's external users.
    pub project: Option<(ProjectId, Environment)>,
    /// Only accounts of the workspace and its members.
    pub no_external_users: bool,
    pub dead: Option<bool>,
    /// Go on behind this account, in the order of ids.
    pub after: Option<AccountId>,
    /// The last ones in front of this account.
    pub before: Option<AccountId>,
    pub limit: Option<u32>,
}

impl Filter {
    /// `SELECT columns FROM account` with the conditions, in the order of ids; from behind, if it
    /// looks back.
    pub(super) fn query(&self, columns: &str) -> Sql {
        let (mut conditions, mut values) = self.conditions();
        for (sign, id) in [(">", &self.after), ("<", &self.before)] {
            let Some(id) = id else { continue };
            values.push(id.to_string());
            conditions.push(format!("id {sign} ${}", values.len()));
        }
        let order = if self.looks_back() { "ORDER BY id DESC" } else { "ORDER BY id" };
        let limit = self.limit.map_or_else(String::new, |limit| format!(" LIMIT {limit}"));
        let text = format!("SELECT {columns} FROM account{} {order}{limit}", all_of(&conditions));
        values.into_iter().fold(sql_of(text), |query, value| query.bind(value))
    }

    /// How many there are, wherever the list goes on.
    pub(super) fn count(&self) -> Sql {
        let (conditions, values) = self.conditions();
        let text = format!("SELECT COUNT(*) AS total FROM account{}", all_of(&conditions));
        values.into_iter().fold(sql_of(text), |query, value| query.bind(value))
    }

    pub(super) fn looks_back(&self) -> bool {
        self.before.is_some() && self.after.is_none()
    }

    fn conditions(&self) -> (Vec<String>, Vec<String>) {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        let texts = [
            ("app", self.app.as_ref().map(AppId::as_str)),
            ("oauth_client", self.oauth_client.as_ref().map(OAuthClientId::as_str)),
            ("member", self.member.as_ref().map(MemberId::as_str)),
            ("external_user", self.external_user.as_ref().map(ExternalUserId::as_str)),
        ];
        for (column, value) in texts {
            let Some(value) = value else { continue };
            values.push(value.to_owned());
            conditions.push(format!("{column} = ${}", values.len()));
        }
        if let Some((project, environment)) = &self.project {
            values.extend([project.to_string(), environment.to_string()]);
            let (one, other) = (values.len() - 1, values.len());
            conditions.push(format!(
                "external_user IN (SELECT id FROM external_user WHERE project = ${one} AND \
                 environment = ${other})"
            ));
        }
        if self.no_external_users {
            conditions.push("external_user IS NULL".to_owned());
        }
        if let Some(dead) = self.dead {
            conditions.push(format!("dead = {}", i64::from(dead)));
        }
        (conditions, values)
    }
}

fn all_of(conditions: &[String]) -> String {
    match conditions {
        [] => String::new(),
        _ => format!(" WHERE {}", conditions.join(" AND ")),
    }
}
