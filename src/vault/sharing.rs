//! With whom an account is shared: the whole workspace, or named members (DESIGN.md §9).

use super::Vault;
use super::changes::Noted;
use super::error::Error;
use super::row::{Row, unexpected};
use super::store::sql;
use crate::ids::{AccountId, MemberId};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Share {
    Workspace,
    Member(MemberId),
}

impl Vault {
    /// Sharing what is shared already changes nothing.
    pub async fn share(
        &self,
        account: &AccountId,
        with: &Share,
        by: Option<&MemberId>,
    ) -> Result<(), Error> {
        let insert = "INSERT INTO account_access (account, member, granted_by, created_at) \
                      VALUES ($1, $2, $3, $4) ON CONFLICT (account, member) DO NOTHING";
        let query = sql(insert)
            .bind(account.to_string())
            .bind(with.column())
            .bind(by.map(MemberId::to_string))
            .bind(self.store.now());
        self.store.change(Some(Noted::Access), query).await.map(|_| ())
    }

    pub async fn unshare(&self, account: &AccountId, with: &Share) -> Result<bool, Error> {
        let delete = "DELETE FROM account_access WHERE account = $1 AND member = $2";
        let query = sql(delete).bind(account.to_string()).bind(with.column());
        Ok(self.store.change(Some(Noted::Access), query).await? > 0)
    }

    /// All of them, by account.
    pub async fn shares(&self) -> Result<Vec<(AccountId, Share)>, Error> {
        let query = sql("SELECT account, member FROM account_access ORDER BY account, member");
        self.store.all(query).await?.iter().map(share_of).collect()
    }
}

impl Share {
    fn column(&self) -> String {
        match self {
            Self::Workspace => String::new(),
            Self::Member(member) => member.to_string(),
        }
    }
}

fn share_of(row: &Row) -> Result<(AccountId, Share), Error> {
    let member = row.text("member")?;
    let share = match member.as_str() {
        "" => Share::Workspace,
        member => Share::Member(member.parse().map_err(|_| unexpected("account_access.member"))?),
    };
    Ok((row.parsed("account")?, share))
}
