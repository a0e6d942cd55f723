//! May this member do this to this account, to this caller, to this other member?
//!
//! Pure. Pages, API, commands and the live path ask here and nowhere else. Rules: DESIGN.md §9. An
//! account is private until it is shared with the workspace or with named members; its owner may do
//! everything, and nobody else may lend it to others.

use std::fmt;
use std::str::FromStr;

/// What a person is in the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Member,
    Admin,
    Owner,
}

impl Role {
    /// Highest first.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Admin, Self::Member];

    /// Owners and admins look after the workspace.
    pub fn administers(self) -> bool {
        self >= Self::Admin
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of owner, admin, member")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// How a member stands to one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub role: Role,
    /// It is theirs.
    pub owns: bool,
    /// It is shared with them, by name or with the whole workspace.
    pub shared: bool,
}

/// What a member may want to do to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// See it in lists, with its health and scopes. Never its secrets.
    See,
    /// Let a caller use it.
    Bind,
    /// Change the bindings, rules and tokens of callers that use it.
    ChangeCallers,
    /// Send the test request of callers that use it, and ask what their rules say.
    TestCallers,
    /// Share it, rename it, give it away.
    ManageAccess,
    /// Put a new credential into it.
    Reconnect,
    Delete,
}

impl Operation {
    pub const ALL: [Self; 7] = [
        Self::See,
        Self::Bind,
        Self::ChangeCallers,
        Self::TestCallers,
        Self::ManageAccess,
        Self::Reconnect,
        Self::Delete,
    ];
}

/// May a member who stands so to an account do this to it?
pub fn may(standing: Standing, operation: Operation) -> bool {
    let Standing { role, owns, shared } = standing;
    if owns {
        return true;
    }
    match operation {
        Operation::See => shared || role.administers(),
        Operation::Bind | Operation::ChangeCallers => shared,
        Operation::TestCallers => true,
        Operation::ManageAccess | Operation::Reconnect => false,
        Operation::Delete => role.administers(),
    }
}

/// What a member may want to do to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallerOperation {
    /// See that it is there, its rules, and that it uses *an* account of an app.
    See,
    /// Send the test request of its accounts, and ask what its rules say.
    Test,
    /// Change rules, bindings, limits and tokens: whoever may do that may use all its accounts.
    Change,
    /// Put an account of their own in the place of one that it uses.
    SwapAccount,
    /// Remove it, so that it can send nothing any more.
    Revoke,
}

/// May a member do this to a caller, given their standing to each account that it uses?
///
/// Changing a caller means having its token, hence all its accounts: one account that is not
/// shared with them is enough to refuse. Removing one harms nobody's secrets, so those who look
/// after the workspace may always do that.
pub fn may_with_caller(role: Role, accounts: &[Standing], operation: CallerOperation) -> bool {
    let all = |operation| accounts.iter().all(|standing| may(*standing, operation));
    match operation {
        CallerOperation::See | CallerOperation::SwapAccount => true,
        CallerOperation::Test => all(Operation::TestCallers),
        CallerOperation::Change => all(Operation::ChangeCallers),
        CallerOperation::Revoke => role.administers() || all(Operation::ChangeCallers),
    }
}

/// May `actor` invite, change or remove somebody of this role, or give it? Nobody hands out or takes
/// away more than they have.
pub fn may_manage(actor: Role, role: Role) -> bool {
    actor.administers() && role <= actor
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of the table in DESIGN.md §9, and the account's owner.
    fn standings(name: &str) -> Vec<Standing> {
        let standing = |role, owns, shared| Standing { role, owns, shared };
        match name {
            "theirs" => Role::ALL
                .into_iter()
                .flat_map(|role| [true, false].map(|shared| standing(role, true, shared)))
                .collect(),
            "private, owner or admin" => {
                vec![standing(Role::Owner, false, false), standing(Role::Admin, false, false)]
            }
            "private, member" => vec![standing(Role::Member, false, false)],
            "shared, owner or admin" => {
                vec![standing(Role::Owner, false, true), standing(Role::Admin, false, true)]
            }
            _ => vec![standing(Role::Member, false, true)],
        }
    }

    #[test]
    fn every_cell_of_the_table_is_as_it_was_designed() {
        let columns = [
            "theirs",
            "private, owner or admin",
            "private, member",
            "shared, owner or admin",
            "shared, member",
        ];
        let rows = [
            (Operation::See, [true, true, false, true, true]),
            (Operation::Bind, [true, false, false, true, true]),
            (Operation::ChangeCallers, [true, false, false, true, true]),
            (Operation::TestCallers, [true, true, true, true, true]),
            (Operation::ManageAccess, [true, false, false, false, false]),
            (Operation::Reconnect, [true, false, false, false, false]),
            (Operation::Delete, [true, true, false, true, false]),
        ];
        assert_eq!(rows.map(|(operation, _)| operation), Operation::ALL);
        for (operation, cells) in rows {
            for (column, expected) in columns.iter().zip(cells) {
                for standing in standings(column) {
                    assert_eq!(may(standing, operation), expected, "{operation:?}, {standing:?}");
                }
            }
        }
    }

    #[test]
    fn one_account_that_is_not_shared_keeps_a_caller_from_being_changed() {
        use CallerOperation::{Change, Revoke, See, SwapAccount, Test};
        let shared = Standing { role: Role::Member, owns: false, shared: true };
        let private = Standing { shared: false, ..shared };
        for (role, accounts, operation, expected) in [
            (Role::Member, vec![], Change, true),
            (Role::Member, vec![shared], Change, true),
            (Role::Member, vec![shared, private], Change, false),
            (Role::Owner, vec![private], Change, false),
            (Role::Member, vec![private], Revoke, false),
            (Role::Member, vec![shared], Revoke, true),
            (Role::Admin, vec![private], Revoke, true),
            (Role::Member, vec![private], See, true),
            (Role::Member, vec![private], Test, true),
            (Role::Member, vec![private], SwapAccount, true),
        ] {
            let allowed = may_with_caller(role, &accounts, operation);
            assert_eq!(allowed, expected, "{role} {operation:?} {accounts:?}");
        }
    }

    #[test]
    fn nobody_hands_out_more_than_they_have() {
        for (actor, role, expected) in [
            (Role::Owner, Role::Owner, true),
            (Role::Owner, Role::Member, true),
            (Role::Admin, Role::Owner, false),
            (Role::Admin, Role::Admin, true),
            (Role::Admin, Role::Member, true),
            (Role::Member, Role::Member, false),
        ] {
            assert_eq!(may_manage(actor, role), expected, "{actor} {role}");
        }
    }

    #[test]
    fn roles_read_back_from_their_names() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!("Owner".parse::<Role>(), Err(UnknownRole));
    }
}
