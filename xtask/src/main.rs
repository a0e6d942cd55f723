//! `cargo xtask import-apps FACTS.jsonl` makes app definitions of facts about APIs, `cargo xtask
//! count-apps` counts what there is. No network; the same facts give the same files.

mod app;
mod count;
mod facts;
mod fields;
mod import;
mod judgement;
mod manifest;
mod oauth;
mod overlap;
mod purposes;
mod way;
mod words;

use std::path::{Path, PathBuf};

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["import-apps", facts] => import::run(&root, Path::new(facts)),
        ["count-apps"] => count::run(&root),
        _ => bail!("cargo xtask import-apps FACTS.jsonl | count-apps"),
    }
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
