//! Reloading when a file changes, without dropping a request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use super::{Running, Source, load};
use crate::config::Config;

/// Editors write a file in several steps, and Kubernetes swaps a link: wait until it is quiet.
const SETTLE: Duration = Duration::from_millis(250);

/// Reloads on every change and every `now`, for as long as it is polled.
pub async fn follow(running: &mut Running, source: &Source, now: &Notify) {
    let changed = std::sync::Arc::new(Notify::new());
    let _watcher = watch(running, source, changed.clone());
    loop {
        tokio::select! {
            () = changed.notified() => settle(&changed).await,
            () = now.notified() => {}
        }
        once(running, source).await;
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
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let errors = errors.join("\n");
            tracing::error!("the new configuration is refused and the old one stays:\n{errors}");
        }
    }
}

/// Directories, not files: a file that is replaced would no longer be watched.
fn watch(
    running: &Running,
    source: &Source,
    changed: std::sync::Arc<Notify>,
) -> Option<notify::RecommendedWatcher> {
    let interesting = interesting_files(source, running.config());
    let matches = move |event: &notify::Event| {
        !event.kind.is_access() && event.paths.iter().any(|path| interesting.concerns(path))
    };
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| matches(&event)) {
            changed.notify_one();
        }
    });
    let failed = |error| tracing::warn!(%error, "files are not watched; send SIGHUP to reload");
    let mut watcher = watcher.map_err(failed).ok()?;
    let config_dir = source.file.as_deref().and_then(directory_of);
    for dir in config_dir.iter().chain(&running.config().apps_dir) {
        if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, dir = %dir.display(), "not watched; send SIGHUP to reload");
        }
    }
    Some(watcher)
}

struct Interesting {
    file: Option<PathBuf>,
    apps_dir: Option<PathBuf>,
}

impl Interesting {
    /// Kubernetes replaces `..data`, a link beside the file, instead of the file.
    fn concerns(&self, path: &Path) -> bool {
        let is_link = path.file_name().is_some_and(|name| name == "..data");
        let same_name = |file: &PathBuf| file.file_name() == path.file_name();
        let is_app = path.extension().is_some_and(|extension| extension == "toml")
            && self.apps_dir.as_deref().is_some_and(|dir| ends_in(path, dir));
        is_link || is_app || self.file.as_ref().is_some_and(same_name)
    }
}

fn ends_in(path: &Path, dir: &Path) -> bool {
    path.parent().and_then(Path::file_name) == dir.file_name()
}

fn interesting_files(source: &Source, config: &Config) -> Interesting {
    Interesting { file: source.file.clone(), apps_dir: config.apps_dir.clone() }
}

fn directory_of(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

/// What a new configuration asks for that only a new process can give.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let parts: [(&str, bool); 6] = [
        ("data_dir", old.data_dir != new.data_dir),
        (
            "proxy listeners",
            old.proxy.listen != new.proxy.listen || old.proxy.tls_listen != new.proxy.tls_listen,
        ),
        ("web.listen", old.web.listen != new.web.listen),
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("upstream.resolve", old.upstream.resolve != new.upstream.resolve),
        ("upstream.allow", old.upstream.allow != new.upstream.allow),
    ];
    let changed = parts.iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| format!("{key} has changed: restart to put it into use")).collect()
}
