//! The decision itself: first which account, then whether.
//!
//! Pure, and on every request's way: one pass over the caller's bindings, and a look at the few rules
//! that the path's beginning leaves. Only a path with escapes or oddities is held against all rules.
//! The path is read once.

use std::sync::Arc;

use http::Method;

use super::denial::{Asked, Denial, OwnHosts};
use super::path::Path;
use super::{Binding, CallerPolicy, Effect, Lapse, Mode, Question, Rule};
use crate::host::{Authority, Host};
use crate::ids::{AccountId, AppId};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Permit(Permit),
    Deny(Denial),
}

/// Policy's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Index into [`CallerPolicy::bindings`]; `None` only for a host of no app.
    pub binding: Option<usize>,
    /// The rule that allows it; `None` when only a default or report mode lets it through.
    pub rule: Option<Arc<str>>,
    /// What `mode = "enforce"` would have answered.
    pub would_deny: Option<Denial>,
}

/// Which account a request gets, and whether it may be sent at all.
///
/// A question without an app is one about a host of no app, and is refused unless a rule allows it:
/// see [`decide_unmatched`].
pub fn decide(policy: &CallerPolicy, question: &Question<'_>) -> Decision {
    let Some(app) = question.app else { return decide_unmatched(policy, question, false) };
    let path = Path::new(question.path);
    match choose(policy, question, app, &path) {
        Ok(binding) => judge(policy, question, binding, &path),
        Err(denial) => Decision::Deny(denial),
    }
}

/// Whether a caller may reach a host of no app. Nothing is attached there, so rules that name an
/// app or an account do not speak about it; `default_allow` answers when no rule does.
pub fn decide_unmatched(
    policy: &CallerPolicy,
    question: &Question<'_>,
    default_allow: bool,
) -> Decision {
    let path = Path::new(question.path);
    let allows = |rule: &Rule| rule.allows_unmatched(question, &path);
    let denies = |rule: &Rule| rule.denies_unmatched(question, &path);
    match verdict(&policy.rules, allows, denies) {
        Verdict::Allowed(rule) => permit(None, Some(rule)),
        Verdict::Denied(name) => {
            let denial = Denial::Rule { asked: Asked::of(policy, question), name };
            unless_reporting(policy, None, denial)
        }
        Verdict::Silent if default_allow => permit(None, None),
        // Not softened by report mode: it is the operator's default for everyone, not a rule that
        // is being tried out.
        Verdict::Silent => {
            Decision::Deny(Denial::NoRule { asked: Asked::of(policy, question), odd: None })
        }
    }
}

fn judge(
    policy: &CallerPolicy,
    question: &Question<'_>,
    binding: usize,
    path: &Path<'_>,
) -> Decision {
    let account = &policy.bindings[binding];
    // A pattern's constant beginning tells most rules apart, in one comparison. Not so for a deny
    // rule: the readings of an odd path are worth avoiding.
    let allows = |rule: &Rule| path.within(&rule.paths) && rule.speaks_of(question, account);
    let denies = |rule: &Rule| rule.speaks_of(question, account) && path.touches(&rule.paths);
    let verdict = match path.plain() {
        Some(plain) => verdict_at(plain, policy, question, allows, denies),
        None => verdict(&policy.rules, allows, denies),
    };
    let denial = match verdict {
        Verdict::Allowed(rule) => return permit(Some(binding), Some(rule)),
        Verdict::Denied(name) => Denial::Rule { asked: Asked::of(policy, question), name },
        Verdict::Silent => {
            // Worth a word only when a rule would have counted otherwise.
            let narrowed = |rule: &Rule| {
                rule.effect == Effect::Allow
                    && rule.speaks_of(question, account)
                    && !rule.paths.is_empty()
            };
            let odd = path.oddity().filter(|_| policy.rules.iter().any(narrowed));
            Denial::NoRule { asked: Asked::of(policy, question), odd }
        }
    };
    unless_reporting(policy, Some(binding), denial)
}

fn permit(binding: Option<usize>, rule: Option<Arc<str>>) -> Decision {
    Decision::Permit(Permit { binding, rule, would_deny: None })
}

/// Report mode softens what rules say, never which account is whose.
fn unless_reporting(policy: &CallerPolicy, binding: Option<usize>, denial: Denial) -> Decision {
    match policy.mode {
        Mode::Enforce => Decision::Deny(denial),
        Mode::Report => Decision::Permit(Permit { binding, rule: None, would_deny: Some(denial) }),
    }
}

enum Verdict {
    Allowed(Arc<str>),
    Denied(Arc<str>),
    Silent,
}

/// Any deny wins, else any allow, whatever their order.
fn verdict(
    rules: &[Rule],
    allows: impl Fn(&Rule) -> bool,
    denies: impl Fn(&Rule) -> bool,
) -> Verdict {
    let mut allowed = None;
    for rule in rules {
        match rule.effect {
            Effect::Deny if denies(rule) => return Verdict::Denied(rule.name.clone()),
            Effect::Allow if allowed.is_none() && allows(rule) => allowed = Some(&rule.name),
            Effect::Allow | Effect::Deny => {}
        }
    }
    allowed.map_or(Verdict::Silent, |name| Verdict::Allowed(name.clone()))
}

/// The same, of the rules that the index finds for a plain path.
fn verdict_at(
    path: &str,
    policy: &CallerPolicy,
    question: &Question<'_>,
    allows: impl Fn(&Rule) -> bool,
    denies: impl Fn(&Rule) -> bool,
) -> Verdict {
    if let Some(rule) = policy.rules.first_deny(question.app, path, denies) {
        return Verdict::Denied(rule.name.clone());
    }
    let allowed = policy.rules.first_allow(question.app, path, allows);
    allowed.map_or(Verdict::Silent, |rule| Verdict::Allowed(rule.name.clone()))
}

/// The account named by the request → those whose own host it is → the path rule of the binding →
/// the only one left → the default.
fn choose(
    policy: &CallerPolicy,
    question: &Question<'_>,
    app: &AppId,
    path: &Path<'_>,
) -> Result<usize, Denial> {
    let asked = || Asked::of(policy, question);
    let of_app = || policy.bindings.iter().enumerate().filter(|(_, b)| b.app == *app);
    let named = || of_app().filter(|(_, b)| question.selector.is_none_or(|n| b.is_called(n)));
    let here = || named().filter(|(_, b)| b.lives_at(question.host, question.port));
    let mut found = here();
    match (found.next(), found.next()) {
        (Some((only, _)), None) => Ok(only),
        (Some(_), Some(_)) => {
            one_of(here, path).map_err(|choices| Denial::Ambiguous { asked: asked(), choices })
        }
        (None, _) => Err(match (question.selector, lapse(policy, question, app)) {
            _ if named().next().is_some() => {
                let owners = named().map(|(_, b)| b.own_hosts()).collect();
                Denial::OtherHost { asked: asked(), owners }
            }
            (_, Some(why)) => Denial::Lapsed { asked: asked(), app: app.clone(), why },
            (Some(name), None) if of_app().next().is_some() => Denial::UnknownAccount {
                asked: asked(),
                name: name.to_owned(),
                choices: names(of_app()),
            },
            (_, None) => Denial::NotBound { asked: asked(), app: app.clone() },
        }),
    }
}

/// Why the account that is meant is lent no more, where it once was.
fn lapse(policy: &CallerPolicy, question: &Question<'_>, app: &AppId) -> Option<Lapse> {
    let mut meant = policy.lapsed.iter().filter(|l| l.app == *app && l.is_meant(question));
    meant.next().map(|lapsed| lapsed.why)
}

/// Chooses among several accounts that all could serve, or gives back those that nothing tells
/// apart.
fn one_of<'a, I>(candidates: impl Fn() -> I, path: &Path<'_>) -> Result<usize, Vec<AccountId>>
where
    I: Iterator<Item = (usize, &'a Binding)>,
{
    let fit = |binding: &Binding| path.best_of(&binding.paths);
    if let Some(best) = candidates().filter_map(|(_, b)| fit(b)).max() {
        return sole(candidates().filter(|(_, b)| fit(b) == Some(best)));
    }
    if candidates().any(|(_, b)| b.default) {
        return sole(candidates().filter(|(_, b)| b.default));
    }
    // What is left when accounts that are only for certain, other paths are taken away.
    sole(candidates().filter(|(_, b)| b.paths.is_empty())).map_err(|_| names(candidates()))
}

fn sole<'a>(
    mut candidates: impl Iterator<Item = (usize, &'a Binding)>,
) -> Result<usize, Vec<AccountId>> {
    match (candidates.next(), candidates.next()) {
        (Some((only, _)), None) => Ok(only),
        (first, second) => Err(names(first.into_iter().chain(second).chain(candidates))),
    }
}

fn names<'a>(bindings: impl Iterator<Item = (usize, &'a Binding)>) -> Vec<AccountId> {
    bindings.map(|(_, b)| b.account.clone()).collect()
}

impl Binding {
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.account.as_str() == name || self.id.as_str() == name
    }

    fn lives_at(&self, host: &Host, port: u16) -> bool {
        self.hosts.iter().any(|(own, own_port)| *own_port == port && own == host)
            || self.open.iter().any(|pattern| pattern.admits(host, port))
    }

    fn own_hosts(&self) -> OwnHosts {
        let hosts =
            self.hosts.iter().map(|(host, port)| Authority { host: host.clone(), port: *port });
        OwnHosts { account: self.account.clone(), hosts: hosts.collect() }
    }
}

impl Rule {
    /// Everything but the paths.
    pub(super) fn speaks_of(&self, question: &Question<'_>, binding: &Binding) -> bool {
        self.app.as_ref().is_none_or(|app| question.app == Some(app))
            && self.has_method(question.method)
            && self.account.as_ref().is_none_or(|name| binding.is_called(name.as_str()))
            && self.has_host(question.host)
    }

    pub(super) fn has_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    pub(super) fn has_host(&self, host: &Host) -> bool {
        self.host.as_ref().is_none_or(|pattern| pattern.matches(host))
    }

    fn is_about_apps(&self) -> bool {
        self.app.is_some() || self.account.is_some()
    }

    /// Only a rule that names the host opens it: "allow everything" is said about one's accounts.
    /// Methods and paths inside a tunnel cannot be seen, so a rule with them opens none.
    pub(super) fn allows_unmatched(&self, question: &Question<'_>, path: &Path<'_>) -> bool {
        let narrow = !self.methods.is_empty() || !self.paths.is_empty();
        !self.is_about_apps()
            && self.host.is_some()
            && self.has_host(question.host)
            && match *question.method == Method::CONNECT {
                true => !narrow,
                false => self.has_method(question.method) && path.within(&self.paths),
            }
    }

    /// A tunnel to a host where some requests are denied is refused whole, because they could not
    /// be told from the others.
    pub(super) fn denies_unmatched(&self, question: &Question<'_>, path: &Path<'_>) -> bool {
        let narrow = !self.methods.is_empty() || !self.paths.is_empty();
        !self.is_about_apps()
            && self.has_host(question.host)
            && match *question.method == Method::CONNECT {
                true => !narrow || self.host.is_some(),
                false => self.has_method(question.method) && path.touches(&self.paths),
            }
    }
}
