//! What a person decided about a record: `judgements.toml`. Its apps are the most used ones, too.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Value;

#[derive(Default)]
pub struct Judgements(BTreeMap<String, toml::Table>);

impl Judgements {
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let table: toml::Table =
            std::fs::read_to_string(root.join("xtask/judgements.toml"))?.parse()?;
        let entry = |(slug, value): (String, Value)| match value {
            Value::Table(table) => Some((slug, table)),
            _ => None,
        };
        Ok(Self(table.into_iter().filter_map(entry).collect()))
    }

    /// The most used apps.
    pub fn most_used(&self) -> impl Iterator<Item = &String> {
        let meant =
            |table: &toml::Table| table.get("most_used").is_none_or(|v| v.as_bool() != Some(false));
        self.0.iter().filter(move |(_, table)| meant(table)).map(|(slug, _)| slug)
    }

    pub fn text(&self, slug: &str, key: &str) -> Option<&str> {
        self.0.get(slug)?.get(key)?.as_str()
    }

    pub fn value(&self, slug: &str, key: &str) -> Option<serde_json::Value> {
        serde_json::to_value(self.0.get(slug)?.get(key)?).ok()
    }

    pub fn texts(&self, slug: &str, key: &str) -> Vec<&str> {
        let list = self.0.get(slug).and_then(|table| table.get(key)?.as_array());
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}
