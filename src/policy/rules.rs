//! A caller's rules in order, and an index that finds the few which can speak about a path.
//!
//! Built once from the config, never changed. Pure. Only a narrowing: every rule it leaves out could
//! not fit, and those it returns are still asked, so the answer is that of the plain scan. Rules are
//! found by their app and by the literal beginning of their paths.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use super::pattern::{PathPattern, without_trailing_slash};
use super::{Effect, Rule};
use crate::ids::AppId;

/// The rules of one caller, in the order in which they were written.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    list: Vec<Rule>,
    allow: ByApp,
    deny: ByApp,
}

/// The rules of one effect, as indices.
#[derive(Debug, Clone, Default)]
struct ByApp {
    of_app: HashMap<AppId, Prefixes>,
    of_any: Prefixes,
}

/// Sorted by prefix. Of the prefixes of a path, the longest is the greatest entry that is not
/// greater than the path, or one of its `shorter` ones; so are all others.
#[derive(Debug, Clone, Default)]
struct Prefixes(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    prefix: Box<str>,
    /// The longest other entry that this one begins with.
    shorter: Option<usize>,
    /// In order.
    rules: Vec<usize>,
}

impl Rules {
    /// The first deny rule that fits a path which can be read in one way only, written without an
    /// escape.
    pub(super) fn first_deny(
        &self,
        app: Option<&AppId>,
        path: &str,
        fits: impl Fn(&Rule) -> bool,
    ) -> Option<&Rule> {
        if self.deny.is_empty() {
            return None;
        }
        self.first(&self.deny, app, &lower_case(without_trailing_slash(path)), fits)
    }

    /// The first allow rule that fits a path in normal form.
    pub(super) fn first_allow(
        &self,
        app: Option<&AppId>,
        path: &str,
        fits: impl Fn(&Rule) -> bool,
    ) -> Option<&Rule> {
        self.first(&self.allow, app, path, fits)
    }

    fn first(
        &self,
        index: &ByApp,
        app: Option<&AppId>,
        path: &str,
        fits: impl Fn(&Rule) -> bool,
    ) -> Option<&Rule> {
        let of_app = app.and_then(|app| index.of_app.get(app));
        let entries = of_app.into_iter().chain([&index.of_any]).flat_map(|all| all.within(path));
        let fitting = |entry: &Entry| entry.rules.iter().copied().find(|at| fits(&self.list[*at]));
        entries.filter_map(fitting).min().map(|at| &self.list[at])
    }
}

impl From<Vec<Rule>> for Rules {
    fn from(list: Vec<Rule>) -> Self {
        let allow = ByApp::of(&list, Effect::Allow, PathPattern::prefix);
        let deny = ByApp::of(&list, Effect::Deny, PathPattern::folded_prefix);
        Self { list, allow, deny }
    }
}

impl Deref for Rules {
    type Target = [Rule];

    fn deref(&self) -> &[Rule] {
        &self.list
    }
}

impl ByApp {
    fn of(list: &[Rule], effect: Effect, prefix: fn(&PathPattern) -> &str) -> Self {
        let mut apps: HashMap<Option<&AppId>, BTreeMap<&str, Vec<usize>>> = HashMap::new();
        for (at, rule) in list.iter().enumerate().filter(|(_, rule)| rule.effect == effect) {
            let prefixes = apps.entry(rule.app.as_ref()).or_default();
            let everywhere = rule.paths.is_empty().then_some("");
            for prefix in rule.paths.iter().map(prefix).chain(everywhere) {
                prefixes.entry(prefix).or_default().push(at);
            }
        }
        let of_any = apps.remove(&None).map(Prefixes::of).unwrap_or_default();
        let of_app = apps.into_iter().filter_map(|(app, found)| Some((app?.clone(), found)));
        Self { of_app: of_app.map(|(app, found)| (app, Prefixes::of(found))).collect(), of_any }
    }

    fn is_empty(&self) -> bool {
        self.of_app.is_empty() && self.of_any.0.is_empty()
    }
}

impl Prefixes {
    fn of(sorted: BTreeMap<&str, Vec<usize>>) -> Self {
        let mut all = Self::default();
        for (prefix, rules) in sorted {
            let shorter = all.begun_by(all.0.len().checked_sub(1), prefix).next();
            all.0.push(Entry { prefix: prefix.into(), shorter, rules });
        }
        all
    }

    /// The entries that `path` begins with, the longest first.
    fn within(&self, path: &str) -> impl Iterator<Item = &Entry> {
        let after = self.0.partition_point(|entry| *entry.prefix <= *path);
        self.begun_by(after.checked_sub(1), path).map(|at| &self.0[at])
    }

    fn begun_by(&self, last: Option<usize>, path: &str) -> impl Iterator<Item = usize> {
        let chain = std::iter::successors(last, |at| self.0[*at].shorter);
        chain.filter(|at| path.starts_with(&*self.0[*at].prefix))
    }
}

/// The decision allocates only here: for a path with capitals, of a caller with deny rules.
fn lower_case(path: &str) -> Cow<'_, str> {
    match path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(path.to_ascii_lowercase()),
        false => Cow::Borrowed(path),
    }
}
