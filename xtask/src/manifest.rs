//! What the importer wrote, by digest: a file that differs was edited by a person, and is theirs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// File names below `config/apps` and digests of what was written.
pub struct Manifest {
    path: PathBuf,
    digests: BTreeMap<String, String>,
}

impl Manifest {
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join("xtask/apps.manifest");
        let text = if path.exists() { std::fs::read_to_string(&path)? } else { String::new() };
        let entry = |line: &str| {
            let (digest, file) = line.split_once("  ")?;
            Some((file.to_owned(), digest.to_owned()))
        };
        Ok(Self { path, digests: text.lines().filter_map(entry).collect() })
    }

    /// Whether the importer wrote this file, and nobody changed it since.
    pub fn is_ours(&self, file: &str, text: &str) -> bool {
        self.digests.get(file).is_some_and(|digest| *digest == digest_of(text))
    }

    pub fn files(&self) -> impl Iterator<Item = &String> {
        self.digests.keys()
    }

    pub fn wrote(&mut self, file: &str, text: &str) {
        self.digests.insert(file.to_owned(), digest_of(text));
    }

    pub fn forget(&mut self, file: &str) {
        self.digests.remove(file);
    }

    pub fn save(&self) -> anyhow::Result<()> {
        let line = |(file, digest): (&String, &String)| format!("{digest}  {file}\n");
        Ok(std::fs::write(&self.path, self.digests.iter().map(line).collect::<String>())?)
    }
}

/// The first 16 digits of SHA-256: against accidents, not against anybody.
fn digest_of(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
