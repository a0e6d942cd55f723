//! Bindings that no longer lend their account, and why. Pure.
//!
//! A caller whose binding has lapsed is told more than that it has none: whoever wrote it knows that
//! it had one. It is told neither who took the account away nor what it is called now.

use std::fmt;

use super::Question;
use crate::ids::{AccountId, AppId};

/// A binding that was made and lends nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapsed {
    /// What the account is called, where there is one: known to whoever names it, and told nobody.
    pub account: Option<AccountId>,
    /// `apn_…`
    pub id: AccountId,
    pub app: AppId,
    pub why: Lapse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// Whoever bound it may no longer lend it: it was un-shared, or given away.
    NoLongerShared,
    /// Whoever bound it is no member any more.
    MemberGone,
    /// The account was deleted.
    Deleted,
    /// Its credential cannot be opened, or its app is no longer defined.
    Unusable,
}

impl Lapse {
    pub const ALL: [Self; 4] =
        [Self::NoLongerShared, Self::MemberGone, Self::Deleted, Self::Unusable];
}

impl fmt::Display for Lapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLongerShared => "the member who bound it no longer has access to the account",
            Self::MemberGone => "the member who bound it has left the workspace",
            Self::Deleted => "the account was deleted",
            Self::Unusable => "the account cannot be used here; the server's log says why",
        })
    }
}

impl Lapsed {
    /// Whether a request may mean it: it names it, or names none.
    pub(super) fn is_meant(&self, question: &Question<'_>) -> bool {
        question.selector.is_none_or(|name| {
            self.id.as_str() == name
                || self.account.as_ref().is_some_and(|account| account.as_str() == name)
        })
    }
}
