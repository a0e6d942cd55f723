//! What each app is for, as a person wrote it down: `purposes.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

/// A line, and categories with the most telling one first.
pub struct Purpose {
    pub line: String,
    pub categories: Vec<String>,
}

#[derive(Default)]
pub struct Purposes(BTreeMap<String, Vec<String>>);

impl Purposes {
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(root.join("xtask/purposes.toml"))?;
        let all: BTreeMap<String, Vec<String>> =
            toml::from_str(&text).context("xtask/purposes.toml")?;
        let odd = all.iter().find(|(_, words)| !(2..=4).contains(&words.len()));
        match odd {
            Some((slug, _)) => anyhow::bail!("{slug}: a line, and one to three categories"),
            None => Ok(Self(all)),
        }
    }

    pub fn of(&self, slug: &str) -> Option<Purpose> {
        let (line, categories) = self.0.get(slug)?.split_first()?;
        Some(Purpose { line: line.clone(), categories: categories.to_vec() })
    }

    pub fn slugs(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}
