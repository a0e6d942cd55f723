//! From text and environment to a finished [`Config`], or to all that is wrong with it.
//!
//! Two steps, because the catalog can depend on the config (`apps_dir`): parse, then finish. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::mistakes::Mistakes;
use super::shape::{Table, Tree};
use super::{Config, Mistake, accounts, callers, env, secrets, sections};
use crate::catalog::Catalog;

/// A configuration that has been read, but not yet held against the catalog. Keeps its mistakes.
pub struct Draft<'t> {
    file: Option<PathBuf>,
    /// Where relative paths start: the config file's directory.
    base: PathBuf,
    default_data_dir: PathBuf,
    tree: Tree<'t>,
    mistakes: Mistakes,
}

const SYSTEM_CONFIG: &str = "/etc";
const SYSTEM_DATA: &str = "/var/lib/countersign";

impl<'t> Draft<'t> {
    /// Reads a file's text and the environment over it. `file` is for messages and relative paths.
    pub fn parse(text: &'t str, file: Option<&Path>, env: &[(String, String)]) -> Self {
        let shown = file.map_or_else(|| "config".to_owned(), |file| file.display().to_string());
        let mut mistakes = Mistakes::new(shown, text);
        let (mut tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            mistakes.say(&error.span().unwrap_or(0..0), "", error.message());
        }
        env::apply(&mut tree, env, &mut mistakes);
        Self {
            base: file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned(),
            default_data_dir: default_data_dir(file, env),
            file: file.map(Path::to_owned),
            tree,
            mistakes,
        }
    }

    /// Further app definitions, to build the catalog from.
    pub fn apps_dir(&self) -> Option<PathBuf> {
        Table::root(&self.tree, &self.mistakes)
            .text("apps_dir", |text| secrets::path(text, &self.base))
    }

    pub fn data_dir(&self) -> PathBuf {
        Table::root(&self.tree, &self.mistakes)
            .text("data_dir", |text| secrets::path(text, &self.base))
            .unwrap_or_else(|| self.default_data_dir.clone())
    }

    /// Checks the rest, with the apps that there are.
    ///
    /// # Errors
    /// Every mistake, in the order of the file.
    pub fn finish(self, catalog: Arc<Catalog>) -> Result<Config, Vec<Mistake>> {
        let config = self.config(catalog);
        match self.mistakes.into_found() {
            found if found.is_empty() => Ok(config),
            found => Err(found),
        }
    }

    /// The config, with defaults where there is a mistake. Of no use unless there is none.
    pub(super) fn config(&self, catalog: Arc<Catalog>) -> Config {
        let root = Table::root(&self.tree, &self.mistakes);
        let accounts = accounts::read(&root.table("accounts"), &self.base, &catalog);
        let groups = root.table("groups");
        let config = Config {
            file: self.file.clone(),
            data_dir: self.data_dir(),
            apps_dir: self.apps_dir(),
            proxy: sections::proxy(&root.table("proxy"), &self.base),
            web: sections::web(&root.table("web"), &self.base),
            login: sections::login(&root.table("login"), &self.base),
            admin: sections::admin(&root.table("admin")),
            ca: sections::ca(&root.table("ca")),
            upstream: sections::upstream(&root.table("upstream"), &self.base),
            log: sections::log(&root.table("log")),
            audit: sections::audit(&root.table("audit"), &self.base),
            vault: sections::vault(&root.table("vault"), &self.base),
            webhook: sections::webhook(&root.table("webhook"), &self.base),
            callers: callers::read(
                &root.table("callers"),
                &groups,
                &self.base,
                &accounts,
                &catalog,
            ),
            accounts: accounts.into_values().filter_map(|read| Some(read?.account)).collect(),
            catalog,
        };
        // Read above, through tables of their own.
        root.value("data_dir");
        root.value("apps_dir");
        root.done();
        self.check_listeners(&config);
        self.check_hosts(&config);
        config
    }

    fn check_listeners(&self, config: &Config) {
        let root = Table::root(&self.tree, &self.mistakes);
        let plain = config.proxy.listen.iter().map(|at| ("proxy", *at));
        let tls = config.proxy.tls_listen.iter().map(|at| ("proxy", *at));
        let web = config.web.listen.map(|at| ("web", at));
        let serving: Vec<(&'static str, SocketAddr)> = plain.chain(tls).chain(web).collect();
        if serving.is_empty() {
            let proxy = root.table("proxy");
            proxy.say("nothing listens: set proxy.listen, proxy.tls_listen or web.listen");
        }
        let mut taken = BTreeMap::new();
        let all = serving.into_iter().chain(config.admin.listen.map(|at| ("admin", at)));
        for (section, at) in all.filter(|(_, at)| at.port() != 0) {
            if let Some(other) = taken.insert(at, section) {
                root.table(section).say(format!("[{other}] listens on {at} already"));
            }
        }
    }

    /// Hosts that accounts bring may belong to one app only.
    fn check_hosts(&self, config: &Config) {
        if let Err(overlaps) = config.host_index() {
            self.mistakes.extend(overlaps);
        }
    }

    /// Every key that was asked for, as `proxy.listen`.
    #[cfg(test)]
    pub(super) fn known(&self) -> std::collections::BTreeSet<String> {
        self.mistakes.known()
    }
}

/// A service's data is in `/var/lib`, a person's where XDG puts it.
fn default_data_dir(file: Option<&Path>, env: &[(String, String)]) -> PathBuf {
    let variable = |name: &str| {
        let found = env.iter().find(|(key, value)| key == name && value.starts_with('/'));
        found.map(|(_, value)| PathBuf::from(value))
    };
    if file.is_some_and(|file| file.starts_with(SYSTEM_CONFIG)) {
        return SYSTEM_DATA.into();
    }
    let share = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    share.map_or_else(|| SYSTEM_DATA.into(), |share| share.join("countersign"))
}
