//! Reloading when a file changes, without dropping a request.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Running, Source, certificates, load};
use crate::config::{Config, Proxy, Untouched, Web};

/// Editors write a file in several steps, and Kubernetes swaps a link: wait until it is quiet.
const SETTLE: Duration = Duration::from_millis(250);

/// Tells of changes to the files of a configuration. Made before they are first read, so that a
/// change is never missed between reading and watching.
pub struct Watch {
    changed: Arc<Notify>,
    interesting: Arc<Mutex<Interesting>>,
    /// `None` where the system cannot watch; SIGHUP still reloads.
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
}

impl Watch {
    pub fn start(source: &Source) -> Self {
        let changed = Arc::new(Notify::new());
        let file = source.file.clone();
        let interesting = Interesting { files: file.into_iter().collect(), ..Default::default() };
        let interesting = Arc::new(Mutex::new(interesting));
        let watcher = watcher(&changed, &interesting);
        let mut watch = Self { changed, interesting, watcher, watched: HashSet::new() };
        if let Some(dir) = source.file.as_deref().and_then(directory_of) {
            watch.directory(&dir);
        }
        watch
    }

    /// Also watches the apps of `config`, and the certificates that it names.
    pub fn files_of(&mut self, config: &Config) {
        let certificates = certificates::files(config);
        let directories: Vec<PathBuf> =
            certificates.iter().filter_map(|file| directory_of(file)).collect();
        let files = config.file.iter().cloned().chain(certificates).collect();
        *self.interesting.lock() = Interesting { files, apps_dir: config.apps_dir.clone() };
        for dir in directories.into_iter().chain(config.apps_dir.clone()) {
            self.directory(&dir);
        }
    }

    /// Directories, not files: a file that is replaced would no longer be watched.
    fn directory(&mut self, dir: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        if !self.watched.insert(dir.to_owned()) {
            return;
        }
        if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, dir = %dir.display(), "not watched; send SIGHUP to reload");
        }
    }
}

fn watcher(
    changed: &Arc<Notify>,
    interesting: &Arc<Mutex<Interesting>>,
) -> Option<RecommendedWatcher> {
    let (changed, interesting) = (changed.clone(), interesting.clone());
    let tell = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let interesting = interesting.lock();
        if !event.kind.is_access() && event.paths.iter().any(|path| interesting.concerns(path)) {
            changed.notify_one();
        }
    };
    let failed = |error| tracing::warn!(%error, "files are not watched; send SIGHUP to reload");
    notify::recommended_watcher(tell).map_err(failed).ok()
}

/// Reloads on every change and every `now`, for as long as it is polled.
pub async fn follow(running: &mut Running, source: &Source, watch: &mut Watch, now: &Notify) {
    watch.files_of(running.config());
    loop {
        tokio::select! {
            () = watch.changed.notified() => settle(&watch.changed).await,
            () = now.notified() => {}
        }
        once(running, source).await;
        watch.files_of(running.config());
    }
}

async fn settle(changed: &Notify) {
    while tokio::time::timeout(SETTLE, changed.notified()).await.is_ok() {}
}

async fn once(running: &mut Running, source: &Source) {
    let loaded = match load(source) {
        Ok(loaded) => loaded,
        Err(error) => {
            let text = error.to_string();
            running.refused(text.lines().count(), text.lines().next().unwrap_or_default());
            tracing::error!("the new configuration is refused and the old one stays:\n{error}");
            return;
        }
    };
    match running.reload(loaded.config).await {
        Ok(later) => {
            for warning in loaded.warnings.iter().chain(&later) {
                tracing::warn!("{warning}");
            }
            tracing::info!("configuration reloaded");
        }
        Err(errors) => {
            let errors = errors.join("\n");
            tracing::error!("the new configuration is refused and the old one stays:\n{errors}");
        }
    }
}

#[derive(Default)]
struct Interesting {
    /// The configuration, and the certificates that it names.
    files: Vec<PathBuf>,
    apps_dir: Option<PathBuf>,
}

impl Interesting {
    /// Kubernetes replaces `..data`, a link beside the file, instead of the file.
    fn concerns(&self, path: &Path) -> bool {
        let is_link = path.file_name().is_some_and(|name| name == "..data");
        let same_name = |file: &PathBuf| file.file_name() == path.file_name();
        let is_app = path.extension().is_some_and(|extension| extension == "toml")
            && self.apps_dir.as_deref().is_some_and(|dir| ends_in(path, dir));
        is_link || is_app || self.files.iter().any(same_name)
    }
}

fn ends_in(path: &Path, dir: &Path) -> bool {
    path.parent().and_then(Path::file_name) == dir.file_name()
}

fn directory_of(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

/// What a new configuration asks for that only a new process can give.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let upstream = |c: &Config| {
        let u = &c.upstream;
        let times = [u.connect_timeout, u.tls_timeout, u.first_byte_timeout, u.idle_timeout];
        let counts = (u.keep_alive, u.max_idle_per_host, u.max_connections_per_host, u.http2);
        let parent = u.proxy.as_ref().map(|proxy| (proxy.authority.clone(), proxy.resolve_locally));
        let reach = (u.resolve.clone(), u.roots.clone(), u.allow.clone(), u.bind, parent);
        format!("{times:?} {counts:?} {reach:?}")
    };
    // Whose hosts are left alone is part of every snapshot; certificates are read anew.
    let proxy = |c: &Config| {
        let (unmatched, unbound) = (Untouched::Deny, Untouched::Deny);
        format!("{:?}", Proxy { unmatched, unbound, tls: None, ..c.proxy.clone() })
    };
    let web = |c: &Config| {
        let tls = c.web.tls.as_ref().map(std::mem::discriminant);
        format!("{tls:?} {:?}", Web { tls: None, ..c.web.clone() })
    };
    let webhook = |c: &Config| c.webhook.as_ref().map(|webhook| webhook.url.clone());
    let login = |c: &Config| {
        let own = c.login.oidc.as_ref().map(|oidc| {
            let ids = (oidc.issuer.clone(), oidc.client_id.clone(), oidc.name.clone());
            (ids, oidc.scopes.clone(), oidc.domains.clone(), oidc.trust_email)
        });
        (c.login.idle_timeout, c.login.lifetime, c.login.password, own)
    };
    let parts: [(&str, bool); 11] = [
        ("data_dir", old.data_dir != new.data_dir),
        ("[proxy]", proxy(old) != proxy(new)),
        ("[web]", web(old) != web(new)),
        ("[login]", login(old) != login(new)),
        ("[admin]", format!("{:?}", old.admin) != format!("{:?}", new.admin)),
        ("[ca]", format!("{:?}", old.ca) != format!("{:?}", new.ca)),
        ("[upstream]", upstream(old) != upstream(new)),
        ("[log]", format!("{:?}", old.log) != format!("{:?}", new.log)),
        ("[audit]", format!("{:?}", old.audit) != format!("{:?}", new.audit)),
        ("[webhook]", webhook(old) != webhook(new)),
        ("[vault]", !old.vault.store.same_as(&new.vault.store)),
    ];
    let changed = parts.iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| format!("{key} has changed: restart to put it into use")).collect()
}
