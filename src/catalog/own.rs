//! Whether a definition of the workspace's own may be kept. Pure.
//!
//! A definition says where secrets go, so it is read and linted before it is kept, and the whole
//! catalog with it: what would not load is never stored. A page and a command ask alike.

use super::{App, Catalog, Mistake, lint};
use crate::ids::{AccountId, AppId};

/// More than any definition.
pub const MAX_BYTES: usize = 128 * 1024;
/// For messages about the text.
pub const FILE: &str = "definition";

/// What a text was found to be.
#[derive(Default)]
pub struct Verdict {
    /// Where it may be kept.
    pub app: Option<App>,
    pub mistakes: Vec<Mistake>,
    /// What to know before it is kept.
    pub notes: Vec<String>,
}

impl Verdict {
    /// There is nothing to know before it is kept.
    pub fn is_clean(&self) -> bool {
        self.mistakes.is_empty() && self.notes.is_empty()
    }
}

/// An account of the configuration, which cannot lose what it was checked against.
pub struct DeclaredUse<'a> {
    pub account: &'a AccountId,
    pub app: &'a AppId,
    pub auth: &'a str,
}

/// Judges a text that is to become a part of `catalog`. `changes` is the app that it is a change of;
/// it stays that one.
pub fn judge<'a>(
    catalog: &Catalog,
    text: &str,
    changes: Option<&AppId>,
    declared: impl IntoIterator<Item = DeclaredUse<'a>>,
) -> Verdict {
    let mut verdict = Verdict::default();
    if text.len() > MAX_BYTES {
        let said = format!("is longer than {} KiB", MAX_BYTES / 1024);
        verdict.mistakes.push(Mistake::new(FILE, None, "", said));
        return verdict;
    }
    let file = (FILE.to_owned(), text.to_owned());
    let alone = match Catalog::build([file.clone()]) {
        Ok(alone) => alone,
        Err(mistakes) => return Verdict { mistakes, ..verdict },
    };
    let Some(app) = alone.apps().next() else { return verdict };
    verdict.mistakes = lint(app);
    if let Err(mistakes) = catalog.with([file]) {
        verdict.mistakes.extend(mistakes);
    }
    if let Some(id) = changes.filter(|id| **id != app.id) {
        let said = format!("stays \"{id}\": accounts refer to it; add another app instead");
        verdict.mistakes.push(Mistake::new(FILE, Some(1), "id", said));
    }
    for used in declared.into_iter().filter(|used| *used.app == app.id) {
        if app.auth(used.auth).is_none() {
            let said = format!(
                "is missing, and the account {} of the configuration uses it",
                used.account
            );
            verdict.mistakes.push(Mistake::new(FILE, None, format!("auth.{}", used.auth), said));
        }
    }
    if changes.is_none() && catalog.app(app.id.as_str()).is_some() {
        verdict.notes.push(format!("It takes the place of the app {} that is there.", app.id));
    }
    if !verdict.mistakes.iter().any(Mistake::is_error) {
        verdict.app = Some(app.as_ref().clone());
    }
    verdict
}

/// What a definition takes from accounts that there are, by nickname and way to authenticate.
pub fn lost_ways<'a>(
    app: &App,
    accounts: impl IntoIterator<Item = (&'a AccountId, &'a str)>,
) -> Option<String> {
    let lost = accounts.into_iter().filter(|(_, auth)| app.auth(auth).is_none());
    let names: Vec<&str> = lost.map(|(name, _)| name.as_str()).take(20).collect();
    (!names.is_empty()).then(|| {
        format!(
            "These accounts stop working, because their way to authenticate is gone: {}.",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = r#"id = "orders"
name = "Orders"
description = "Our own order service."
[auth.key]
kind = "api_key"
hosts = ["api.orders.example.com"]
base_url = "https://api.orders.example.com/v1"
attach = [{ header = "Authorization", value = "Bearer {api_key}" }]
[[auth.key.fields]]
name = "api_key"
label = "API key"
"#;

    fn id(text: &str) -> AppId {
        text.parse().expect(text)
    }

    #[test]
    fn a_definition_is_kept_only_if_the_catalog_loads_with_it_and_nobody_loses_a_declared_account()
    {
        let catalog = Catalog::build([("o".to_owned(), ORDERS.to_owned())]).expect("it loads");
        let empty = Catalog::build([]).expect("it loads");
        let team: AccountId = "team".parse().expect("a name");
        let (orders, other) = (id("orders"), id("other"));
        let thief = ORDERS.replace("\"orders\"", "\"thief\"");
        for (catalog, text, changes, auth, kept, said) in [
            (&empty, ORDERS, None, "key", true, ""),
            (&catalog, ORDERS, None, "key", true, "takes the place"),
            (&catalog, ORDERS, Some(&orders), "key", true, ""),
            (&catalog, ORDERS, Some(&other), "key", false, "stays \"other\""),
            (&catalog, ORDERS, Some(&orders), "oauth", false, "the account team"),
            (&catalog, &*thief, None, "key", false, "api.orders.example.com"),
            (&empty, "id = ", None, "key", false, ""),
        ] {
            let declared = DeclaredUse { account: &team, app: &orders, auth };
            let verdict = judge(catalog, text, changes, [declared]);
            assert_eq!(verdict.app.is_some(), kept, "{said}");
            let mistakes = verdict.mistakes.iter().map(ToString::to_string);
            let all: Vec<String> = mistakes.chain(verdict.notes).collect();
            assert!(all.join("\n").contains(said), "{said}: {all:?}");
        }
        let long = format!("{ORDERS}# {}", "x".repeat(MAX_BYTES));
        assert!(judge(&empty, &long, None, []).app.is_none());
    }
}
