//! Environment variables that stand in for keys: `COUNTERSIGN_PROXY__LISTEN` is `proxy.listen`.
//!
//! Only names with `__`, and those of the keys outside any section, are settings; the others
//! (`COUNTERSIGN_MASTER_KEY`, …) belong to someone else. Lists are separated by commas.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::{Mistakes, Span};
use super::shape::Tree;

const PREFIX: &str = "COUNTERSIGN_";
const TOP_LEVEL: [&str; 2] = ["data_dir", "apps_dir"];

/// Puts every variable that is a setting into the tree, over what the file says.
pub(super) fn apply(tree: &mut Tree<'_>, env: &[(String, String)], mistakes: &mut Mistakes) {
    for (name, value) in env {
        let Some(key) = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else { continue };
        if key.contains("__") || TOP_LEVEL.contains(&&*key) {
            let span = mistakes.variable(name);
            let path: Vec<&str> = key.split("__").collect();
            if insert(tree.get_mut(), &path, value, &span).is_none() {
                let text = format!("\"{}\" is no section", path[..path.len() - 1].join("."));
                mistakes.say(&span, name, text);
            }
        }
    }
}

/// `None` when something on the way is not a table.
fn insert(table: &mut DeTable<'_>, path: &[&str], value: &str, span: &Span) -> Option<()> {
    let (key, below) = path.split_first()?;
    if below.is_empty() {
        put(table, key, DeValue::String(Cow::Owned(value.to_owned())), span);
        return Some(());
    }
    if !table.contains_key(*key) {
        put(table, key, DeValue::Table(DeTable::new()), span);
    }
    match table.get_mut(*key)?.get_mut() {
        DeValue::Table(table) => insert(table, below, value, span),
        _ => None,
    }
}

fn put<'t>(table: &mut DeTable<'t>, key: &str, value: DeValue<'t>, span: &Span) {
    let key = Spanned::new(span.clone(), Cow::Owned(key.to_owned()));
    table.remove(&key);
    table.insert(key, Spanned::new(span.clone(), value));
}
