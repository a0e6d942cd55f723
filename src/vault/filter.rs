//! Which accounts a list shows, and in which order and portions.

use super::store::{Sql, sql_of};
use crate::ids::{AccountId, AppId, ExternalUserId, MemberId, OAuthClientId};

/// All that is given must hold; nothing given: all accounts.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub app: Option<AppId>,
    pub oauth_client: Option<OAuthClientId>,
    pub member: Option<MemberId>,
    pub external_user: Option<ExternalUserId>,
    /// Only accounts of the workspace and its members.
    pub no_external_users: bool,
    pub dead: Option<bool>,
    /// Go on behind this account, in the order of ids.
    pub after: Option<AccountId>,
    pub limit: Option<u32>,
}

impl Filter {
    /// `SELECT columns FROM account` with the conditions, in the order of ids.
    pub(super) fn query(&self, columns: &str) -> Sql {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        let texts = [
            ("app = ", self.app.as_ref().map(AppId::as_str)),
            ("oauth_client = ", self.oauth_client.as_ref().map(OAuthClientId::as_str)),
            ("member = ", self.member.as_ref().map(MemberId::as_str)),
            ("external_user = ", self.external_user.as_ref().map(ExternalUserId::as_str)),
            ("id > ", self.after.as_ref().map(AccountId::as_str)),
        ];
        for (condition, value) in texts {
            let Some(value) = value else { continue };
            values.push(value.to_owned());
            conditions.push(format!("{condition}${}", values.len()));
        }
        if self.no_external_users {
            conditions.push("external_user IS NULL".to_owned());
        }
        if let Some(dead) = self.dead {
            conditions.push(format!("dead = {}", i64::from(dead)));
        }
        let text = format!(
            "SELECT {columns} FROM account{}{} ORDER BY id{}",
            if conditions.is_empty() { "" } else { " WHERE " },
            conditions.join(" AND "),
            self.limit.map_or_else(String::new, |limit| format!(" LIMIT {limit}")),
        );
        values.into_iter().fold(sql_of(text), |query, value| query.bind(value))
    }
}
