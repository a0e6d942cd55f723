//! Reading secrets from outside: environment, file, a command's output.
//!
//! The config holds references ([`SecretRef`]); this is the only room that follows them. Each read
//! is bounded in time and size, and an error names the place, never the value.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::config::{Place, SecretRef};
use crate::secret::Secret;

/// Larger than any key or token, including a PEM file with a chain.
const MAX_BYTES: u64 = 256 * 1024;

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the environment variable {0} is not set")]
    EnvUnset(String),
    #[error("the environment variable {0} is not UTF-8")]
    EnvNotText(String),
    #[error("{path} could not be read")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    #[error("{0} is larger than {MAX_BYTES} bytes")]
    TooLarge(String),
    #[error("{0} is empty")]
    Empty(String),
    #[error("the command {0} could not be started")]
    Spawn(String, #[source] std::io::Error),
    #[error("the command {command} ended with {status}")]
    Failed { command: String, status: std::process::ExitStatus },
    #[error("the command {command} took longer than {}s", timeout.as_secs())]
    TimedOut { command: String, timeout: Duration },
}

/// Whether reading again could give another value.
pub fn can_change(reference: &SecretRef) -> bool {
    matches!(reference.place, Place::File(_) | Place::Exec { .. })
}

/// Reads one secret. Line ends at its end are dropped: editors and `echo` put them there, and no
/// header may have one.
///
/// # Errors
/// When the place is missing, empty, too large, not UTF-8, or a command fails.
pub async fn read(reference: &SecretRef) -> Result<Secret, Error> {
    match &reference.place {
        Place::Inline(value) => Ok(value.clone()),
        Place::Env(name) => read_env(name),
        Place::File(path) => read_file(path).await,
        Place::Exec { command, timeout } => run(command, *timeout).await,
    }
}

fn read_env(name: &str) -> Result<Secret, Error> {
    let value = std::env::var_os(name).ok_or_else(|| Error::EnvUnset(name.to_owned()))?;
    let text = value.into_string().map_err(|_| Error::EnvNotText(name.to_owned()))?;
    finish(text, &format!("the environment variable {name}"))
}

async fn read_file(path: &Path) -> Result<Secret, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let bytes = bounded(file).await.map_err(failed)?;
    text_of(bytes, &path.display().to_string())
}

async fn run(command: &[String], timeout: Duration) -> Result<Secret, Error> {
    let name = command.first().cloned().unwrap_or_default();
    let spawned = tokio::process::Command::new(&name)
        .args(command.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| Error::Spawn(name.clone(), error))?;
    let output = child.stdout.take();
    let finished = async {
        let bytes = match output {
            Some(output) => bounded(output).await?,
            None => Vec::new(),
        };
        // What is too large is not read to its end, so that the command may end with SIGPIPE.
        if bytes.len() as u64 > MAX_BYTES {
            return Ok((bytes, std::process::ExitStatus::default()));
        }
        Ok::<_, std::io::Error>((bytes, child.wait().await?))
    };
    let (bytes, status) = tokio::time::timeout(timeout, finished)
        .await
        .map_err(|_| Error::TimedOut { command: name.clone(), timeout })?
        .map_err(|error| Error::Spawn(name.clone(), error))?;
    if !status.success() {
        return Err(Error::Failed { command: name, status });
    }
    text_of(bytes, &format!("the output of {name}"))
}

/// One byte more than allowed is read, so that too much can be told from just enough.
async fn bounded(reader: impl tokio::io::AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn text_of(bytes: Vec<u8>, place: &str) -> Result<Secret, Error> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge(place.to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::NotText(place.to_owned()))?;
    finish(text, place)
}

fn finish(mut text: String, place: &str) -> Result<Secret, Error> {
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.is_empty() {
        return Err(Error::Empty(place.to_owned()));
    }
    Ok(Secret::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(script: &str) -> SecretRef {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        reference(Place::Exec { command, timeout: Duration::from_millis(500) })
    }

    fn reference(place: Place) -> SecretRef {
        SecretRef { place, ttl: None, failure_ttl: Duration::ZERO }
    }

    #[tokio::test]
    async fn a_line_end_is_dropped_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, " key \r\n").unwrap();
        assert_eq!(read(&reference(Place::File(path))).await.unwrap().expose(), " key ");
        assert_eq!(read(&exec("echo token")).await.unwrap().expose(), "token");
    }

    #[tokio::test]
    async fn a_failure_names_the_place_and_not_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let missing = reference(Place::File(dir.path().join("none")));
        for (reference, said) in [
            (missing, "none could not be read"),
            (reference(Place::Env("COUNTERSIGN_NOT_SET".into())), "COUNTERSIGN_NOT_SET is not set"),
            (exec("echo s3cret; exit 3"), "ended with exit status: 3"),
            (exec("sleep 5"), "took longer"),
            (exec("true"), "is empty"),
            (exec("printf '\\377'"), "not UTF-8"),
            (exec("head -c 300000 /dev/zero | tr '\\0' a"), "larger than"),
        ] {
            let error = read(&reference).await.err().expect("an error").to_string();
            assert!(error.contains(said) && !error.contains("s3cret"), "{error}");
        }
    }
}
