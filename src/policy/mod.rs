//! May this caller send this request, and with which account?
//!
//! [`decide`] is the one function that answers; the live path, `policy explain`, `policy test` and
//! the pages all call it. Pure. Deny overrides allow, whatever the order of the rules; without an
//! allowing rule the answer is no. Paths are matched in normalised form, and a path that can be read
//! in two ways never satisfies a narrower rule than "every path".

pub mod access;
pub mod cases;
mod decide;
mod denial;
mod explain;
mod lapse;
mod owner;
mod path;
mod pattern;
mod rules;
pub mod suggest;

use std::sync::Arc;

use http::Method;

pub use decide::{Decision, Permit, decide, decide_unmatched};
pub use denial::{Asked, Denial, OwnHosts};
pub use explain::{Considered, Explanation, Fit, explain};
pub use lapse::{Lapse, Lapsed};
pub use owner::{Owner, owner};
pub use path::Oddity;
pub use pattern::{HostPattern, InvalidPattern, PathPattern};
pub use rules::Rules;

use crate::catalog;
use crate::host::Host;
use crate::ids::{AccountId, AppId, CallerId};

/// What one caller may do: its bindings and rules, groups already folded in. Immutable.
#[derive(Debug, Clone)]
pub struct CallerPolicy {
    pub caller: CallerId,
    pub mode: Mode,
    pub bindings: Vec<Binding>,
    /// Those that were made and hold no more.
    pub lapsed: Vec<Lapsed>,
    pub rules: Rules,
    pub kept: Kept,
}

impl CallerPolicy {
    /// Whether the caller has an account of `app`.
    pub fn holds(&self, app: &AppId) -> bool {
        self.bindings.iter().any(|binding| binding.app == *app)
    }
}

/// Where a caller is kept, and so where it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kept {
    #[default]
    InFile,
    InStore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Enforce,
    /// Lets through what a rule would have denied, and counts it. Never lends an account that is
    /// not bound.
    Report,
}

/// An account that the caller may use.
#[derive(Debug, Clone)]
pub struct Binding {
    pub account: AccountId,
    /// `apn_…`, the other name by which a request may choose it.
    pub id: AccountId,
    pub app: AppId,
    /// The account's own hosts with ports, templates filled in. A request to any other host never
    /// gets this account: the token of `acme` stays away from `evil.zendesk.com`.
    pub hosts: Vec<(Host, u16)>,
    /// Of whose hosts every request says a part: all of AWS's. What goes there holds for one host.
    pub open: Vec<catalog::HostPattern>,
    /// Chosen for these paths before the default is considered. Empty: no path rule.
    pub paths: Vec<PathPattern>,
    pub default: bool,
}

/// One rule. An empty or absent part matches everything.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Where it stands, for messages: `callers.flow.rules[2]`.
    pub name: Arc<str>,
    pub effect: Effect,
    pub app: Option<AppId>,
    pub account: Option<AccountId>,
    pub host: Option<HostPattern>,
    pub methods: Vec<Method>,
    pub paths: Vec<PathPattern>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// What is asked. `path` is as sent, without the credential's own segment and without the query.
/// `port` is the one that will be dialled: a plain request that is upgraded asks for 443.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub method: &'a Method,
    pub host: &'a Host,
    pub port: u16,
    pub path: &'a str,
    /// The app that owns the host and path, if any.
    pub app: Option<&'a AppId>,
    /// The account that the request named (header or `caller~nickname`).
    pub selector: Option<&'a str>,
}

#[cfg(test)]
mod tests;
