//! With whom an account is shared: the whole workspace, or named members (DESIGN.md §9).

use std::collections::HashMap;

use super::changes::Noted;
use super::error::Error;
use super::row::{Row, unexpected};
use super::store::sql;
use super::{Account, Binding, Member, Owner, Role, Vault};
use crate::ids::{AccountId, MemberId};
use crate::policy::Lapse;
use crate::policy::access::{Operation, Standing, may};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Share {
    Workspace,
    Member(MemberId),
}

/// All shares, looked up by account.
#[derive(Debug, Default)]
pub struct Shares(HashMap<AccountId, Vec<Share>>);

impl Shares {
    pub fn of(&self, account: &AccountId) -> &[Share] {
        self.0.get(account).map_or(&[], Vec::as_slice)
    }

    /// How a member stands to an account. What was connected at the terminal belongs to the owners
    /// of the workspace, what an external user connected to no member.
    pub fn standing(&self, member: &Member, account: &Account) -> Standing {
        let owns = match &account.owner {
            Owner::Member(id) => *id == member.id,
            Owner::Workspace => member.role == Role::Owner,
            Owner::ExternalUser(_) => false,
        };
        let shared = self.of(&account.id).iter().any(|share| match share {
            Share::Workspace => true,
            Share::Member(id) => *id == member.id,
        });
        Standing { role: member.role, owns, shared }
    }
}

/// What bindings rest on: who is a member, and with whom accounts are shared.
#[derive(Debug, Default)]
pub struct Lenders {
    pub members: HashMap<MemberId, Member>,
    pub shares: Shares,
}

impl Lenders {
    /// Why a binding lends its account no more. It does for as long as the member who made it may
    /// bind the account: whoever loses an account takes it from all callers to which they gave it
    /// (DESIGN.md §9). What the operator bound at a terminal rests on no member.
    pub fn lapse(&self, binding: &Binding, account: &Account) -> Option<Lapse> {
        let by = binding.created_by.as_ref()?;
        let member = self.members.get(by).filter(|member| member.disabled_at.is_none());
        let Some(member) = member else { return Some(Lapse::MemberGone) };
        let lends = may(self.shares.standing(member, account), Operation::Bind);
        (!lends).then_some(Lapse::NoLongerShared)
    }
}

impl FromIterator<(AccountId, Share)> for Shares {
    fn from_iter<T: IntoIterator<Item = (AccountId, Share)>>(shares: T) -> Self {
        let mut all = Self::default();
        for (account, share) in shares {
            all.0.entry(account).or_default().push(share);
        }
        all
    }
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

    /// With whom an account is shared from now on; with nobody else.
    pub async fn set_shares(
        &self,
        account: &AccountId,
        with: &[Share],
        by: Option<&MemberId>,
    ) -> Result<(), Error> {
        let (account, by, now) =
            (account.to_string(), by.map(MemberId::to_string), self.store.now());
        let with: Vec<String> = with.iter().map(Share::column).collect();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let delete = sql("DELETE FROM account_access WHERE account = $1");
                    tx.run(delete.bind(account.clone())).await?;
                    for member in with {
                        let insert = "INSERT INTO account_access (account, member, granted_by, \
                                      created_at) VALUES ($1, $2, $3, $4)";
                        let insert = sql(insert).bind(account.clone()).bind(member);
                        tx.run(insert.bind(by.clone()).bind(now)).await?;
                    }
                    tx.note(Noted::Access);
                    Ok(())
                })
            })
            .await
    }

    /// Makes an account a member's, or the workspace's. `false` if there is no such account.
    pub async fn give_account(
        &self,
        account: &AccountId,
        to: Option<&MemberId>,
    ) -> Result<bool, Error> {
        let (id, to, now) = (account.clone(), to.map(MemberId::to_string), self.store.now());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let update = "UPDATE account SET member = $1, updated_at = $2 \
                                  WHERE id = $3 AND external_user IS NULL";
                    let update = sql(update).bind(to).bind(now).bind(id.to_string());
                    let given = tx.run(update).await? > 0;
                    tx.note(Noted::Account(id));
                    tx.note(Noted::Access);
                    Ok(given)
                })
            })
            .await
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
