//! From files to a finished configuration.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::{Catalog, Mistake};
use crate::config::{Config, Draft};

/// Where a configuration comes from: read again on every reload.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `None`: the defaults, the environment, and the embedded apps.
    pub file: Option<PathBuf>,
    /// `COUNTERSIGN_<SECTION>__<KEY>` and `COUNTERSIGN_DATA_DIR`; `HOME` and `XDG_DATA_HOME`, where
    /// a person's data directory is by default.
    pub env: Vec<(String, String)>,
}

pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{} could not be read: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<Mistake>),
}

impl Source {
    /// The named file, else the first that exists of `./countersign.toml` and
    /// `/etc/countersign/countersign.toml`.
    pub fn find(named: Option<PathBuf>) -> Self {
        let usual = ["countersign.toml", "/etc/countersign/countersign.toml"];
        let found = || usual.iter().map(PathBuf::from).find(|path| path.is_file());
        let env = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| concerns_config(name))?;
            Some((name, value.into_string().ok()?))
        });
        Self { file: named.or_else(found), env: env.collect() }
    }
}

fn concerns_config(variable: &str) -> bool {
    variable.starts_with("COUNTERSIGN_") || ["HOME", "XDG_DATA_HOME"].contains(&variable)
}

impl Source {
    /// The permission bits of the file, for the warning about secrets in it.
    pub fn mode(&self) -> Option<u32> {
        self.file.as_deref().and_then(mode_of)
    }
}

/// Reads and checks everything.
///
/// # Errors
/// Every mistake in the config and in the app definitions, each with its file and line.
pub fn load(source: &Source) -> Result<Loaded, LoadError> {
    let text = match &source.file {
        Some(path) => read(path)?,
        None => String::new(),
    };
    let draft = Draft::parse(&text, source.file.as_deref(), &source.env);
    let catalog = catalog(draft.apps_dir().as_deref())?;
    let finished = draft.finish(Arc::new(catalog)).map_err(LoadError::Mistakes)?;
    let warnings = finished.warnings(source.mode());
    Ok(Loaded { config: finished, warnings: warnings.into_iter().map(|w| w.to_string()).collect() })
}

fn read(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path)
        .map_err(|source| LoadError::File { path: path.to_owned(), source })
}

fn mode_of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode())
}

/// The embedded apps, and those of a directory, which replace embedded ones of the same id.
fn catalog(dir: Option<&Path>) -> Result<Catalog, LoadError> {
    let Some(dir) = dir else { return Catalog::embedded().map_err(LoadError::Mistakes) };
    let failed = |source| LoadError::File { path: dir.to_owned(), source };
    let mut own = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension() == Some(OsStr::new("toml")) {
            own.push((path.display().to_string(), read(&path)?));
        }
    }
    own.sort();
    Catalog::embedded_with(own).map_err(LoadError::Mistakes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_data_is_in_their_home() {
        let named = Source::find(Some("countersign.toml".into()));
        let home = std::env::var("XDG_DATA_HOME").or_else(|_| std::env::var("HOME"));
        let home = home.expect("tests run with a home");
        let draft = Draft::parse("", named.file.as_deref(), &named.env);
        assert!(draft.data_dir().starts_with(home), "{}", draft.data_dir().display());
    }
}
