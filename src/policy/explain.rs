//! Why a request is allowed or refused, for people.
//!
//! The decision is [`decide`]'s own; beside it stands how each rule fared, asked with the same
//! functions. Pure.

use std::fmt;
use std::sync::Arc;

use super::path::Path;
use super::{
    Asked, Binding, CallerPolicy, Decision, Effect, Oddity, Question, Rule, decide,
    decide_unmatched,
};
use crate::ids::AccountId;

/// A decision and what led to it.
#[derive(Debug, Clone)]
pub struct Explanation {
    pub asked: Asked,
    pub decision: Decision,
    /// The account whose credential would be attached.
    pub account: Option<AccountId>,
    /// Why rules with paths do not allow it.
    pub odd: Option<Oddity>,
    /// Every rule of the caller, in order. Empty when no account could be chosen.
    pub rules: Vec<Considered>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    pub name: Arc<str>,
    pub effect: Effect,
    pub fit: Fit,
}

/// Whether a rule speaks of the request, and if not, what tells them apart first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    Fits,
    OtherApp,
    OtherAccount,
    OtherHost,
    OtherMethod,
    OtherPath,
    /// It would open or close a whole tunnel, but says nothing about this one.
    NotForTunnels,
}

/// Decides and keeps the reasons. `unmatched_allowed` is the default for hosts of no app.
pub fn explain(
    policy: &CallerPolicy,
    question: &Question<'_>,
    unmatched_allowed: bool,
) -> Explanation {
    let decision = match question.app {
        Some(_) => decide(policy, question),
        None => decide_unmatched(policy, question, unmatched_allowed),
    };
    let binding = decision.binding().or_else(|| rehearsed(policy, question));
    let binding = binding.and_then(|index| policy.bindings.get(index));
    let path = Path::new(question.path);
    let considered = |rule: &Rule| Considered {
        name: rule.name.clone(),
        effect: rule.effect,
        fit: rule.fit(question, binding, &path),
    };
    let speaks = question.app.is_none() || binding.is_some();
    Explanation {
        asked: *Asked::of(policy, question),
        account: binding.map(|binding| binding.account.clone()),
        odd: path.oddity(),
        rules: policy.rules.iter().filter(|_| speaks).map(considered).collect(),
        decision,
    }
}

/// The account that a refused request would have had: what report mode would lend.
fn rehearsed(policy: &CallerPolicy, question: &Question<'_>) -> Option<usize> {
    question.app?;
    let reporting = CallerPolicy { mode: super::Mode::Report, ..policy.clone() };
    decide(&reporting, question).binding()
}

impl Decision {
    fn binding(&self) -> Option<usize> {
        match self {
            Self::Permit(permit) => permit.binding,
            Self::Deny(_) => None,
        }
    }
}

impl Rule {
    fn fit(&self, question: &Question<'_>, binding: Option<&Binding>, path: &Path<'_>) -> Fit {
        let fits = match (binding, self.effect) {
            (Some(binding), Effect::Allow) => {
                self.speaks_of(question, binding) && path.within(&self.paths)
            }
            (Some(binding), Effect::Deny) => {
                self.speaks_of(question, binding) && path.touches(&self.paths)
            }
            (None, Effect::Allow) => self.allows_unmatched(question, path),
            (None, Effect::Deny) => self.denies_unmatched(question, path),
        };
        if fits { Fit::Fits } else { self.difference(question, binding) }
    }

    fn difference(&self, question: &Question<'_>, binding: Option<&Binding>) -> Fit {
        let names = |binding: &Binding| {
            self.account.as_ref().is_none_or(|name| binding.is_called(name.as_str()))
        };
        if self.app.as_ref().is_some_and(|app| question.app != Some(app)) {
            Fit::OtherApp
        } else if !binding.map_or(self.account.is_none(), names) {
            Fit::OtherAccount
        } else if !self.has_host(question.host) {
            Fit::OtherHost
        } else if binding.is_none() && (self.host.is_none() || *question.method == "CONNECT") {
            Fit::NotForTunnels
        } else if !self.has_method(question.method) {
            Fit::OtherMethod
        } else {
            Fit::OtherPath
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "caller    {}", self.asked.caller)?;
        writeln!(f, "request   {}", self.asked)?;
        if let Some(app) = &self.asked.app {
            let account = self.account.as_ref().map_or("none", AccountId::as_str);
            writeln!(f, "app       {app}")?;
            writeln!(f, "account   {account}")?;
        }
        if let Some(odd) = self.odd {
            writeln!(f, "path      has {odd}: allow rules with paths do not fit it")?;
        }
        for rule in &self.rules {
            writeln!(f, "rule      {} ({}): {}", rule.name, rule.effect, rule.fit)?;
        }
        write!(f, "decision  {}", self.decision)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deny(denial) => write!(f, "denied ({}): {denial}", denial.reason()),
            Self::Permit(permit) => match (&permit.would_deny, &permit.rule) {
                (Some(denial), _) => {
                    write!(f, "allowed in report mode, would be denied ({}): ", denial.reason())?;
                    write!(f, "{denial}")
                }
                (None, Some(rule)) => write!(f, "allowed by {rule}"),
                (None, None) => f.write_str("allowed untouched, as hosts of no app are"),
            },
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fits => "fits",
            Self::OtherApp => "is about another app",
            Self::OtherAccount => "is about another account",
            Self::OtherHost => "is about another host",
            Self::OtherMethod => "is about other methods",
            Self::OtherPath => "is about other paths",
            Self::NotForTunnels => "does not speak of hosts of no app",
        })
    }
}
