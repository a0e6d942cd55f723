//! App definitions of the workspace's own, on top of those of the binary and of files.

use std::sync::Arc;

use crate::catalog::{Catalog, Mistake};
use crate::config::Config;
use crate::vault::{self, Vault};

/// Names for messages, and TOML texts.
pub(super) type OwnApps = Vec<(String, String)>;

pub(super) async fn read(vault: &Vault) -> Result<OwnApps, vault::Error> {
    let kept = vault.app_definitions().await?;
    Ok(kept.into_iter().map(|kept| (kept.file(), kept.definition)).collect())
}

/// The configuration with these definitions. They were checked when they were kept, but files and
/// versions change: one that does not fit any more is left out and logged, and stops nothing else.
pub(super) fn on_top(config: &Config, own: &OwnApps) -> Config {
    let mut config = config.clone();
    for (file, text) in own {
        let one = [(file.clone(), text.clone())];
        match config.catalog.with(one).and_then(|catalog| keeps_accounts(&config, catalog)) {
            Ok(catalog) => config.catalog = Arc::new(catalog),
            Err(mistakes) => {
                let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                tracing::error!("{file} is left out: {}", said.join("; "));
            }
        }
    }
    config
}

/// Accounts of the configuration were checked against a definition that may not lose their way to
/// authenticate.
fn keeps_accounts(config: &Config, catalog: Catalog) -> Result<Catalog, Vec<Mistake>> {
    let has_auth = |account: &crate::config::Account| {
        catalog.app(account.app.as_str()).is_some_and(|app| app.auth(&account.auth).is_some())
    };
    let lost: Vec<Mistake> = config
        .accounts
        .iter()
        .filter(|account| !has_auth(account))
        .map(|account| {
            let said = format!("is missing, and accounts.{} uses it", account.name);
            Mistake::new("", None, format!("auth.{}", account.auth), said)
        })
        .collect();
    if lost.is_empty() { Ok(catalog) } else { Err(lost) }
}
