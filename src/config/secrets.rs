//! References to secrets: where one is, never what it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::shape::{Table, Value};
use super::values::duration;
use super::{Place, SecretRef};
use crate::secret::Secret;

const EXEC_TIMEOUT: Duration = Duration::from_secs(10);
const FAILURE_TTL: Duration = Duration::from_secs(60 * 60);

const EXPECTED: &str = "a secret is named, not written: { env = \"NAME\" }, { file = \"path\" } or \
                        { exec = [\"command\"] }; { value = \"…\" } is for tests";

/// `{ env = "X" }` and its like. Relative files are relative to `base`.
pub(super) fn reference(value: &Value<'_>, base: &Path) -> Option<SecretRef> {
    let Ok(table) = value.table() else {
        value.say(EXPECTED);
        return None;
    };
    let read = from_table(&table, base);
    table.done();
    read
}

/// As [`reference`], for a table that has been opened already.
pub(super) fn from_table(table: &Table<'_>, base: &Path) -> Option<SecretRef> {
    let timeout = table.text("timeout", duration);
    let ttl = table.text("ttl", duration);
    let failure_ttl = table.text("failure_ttl", duration).unwrap_or(FAILURE_TTL);
    if timeout.is_some() && !table.has("exec") {
        table.say("`timeout` goes with `exec` only");
    }
    let written = ["env", "file", "exec", "value"].into_iter().filter(|key| table.has(key));
    let count = written.count();
    let place = place(table, base, timeout.unwrap_or(EXEC_TIMEOUT));
    if count != 1 {
        table.say(EXPECTED);
        return None;
    }
    Some(SecretRef { place: place?, ttl, failure_ttl })
}

fn place(table: &Table<'_>, base: &Path, timeout: Duration) -> Option<Place> {
    let env = table.text("env", variable).map(Place::Env);
    let file = table.text("file", |text| path(text, base)).map(Place::File);
    let exec = table.list("exec", |text| Ok(text.to_owned()));
    let exec = exec.and_then(|command| match command.first() {
        Some(program) if !program.is_empty() => Some(Place::Exec { command, timeout }),
        _ => {
            table.say("`exec` is a command and its arguments: [\"command\", \"argument\"]");
            None
        }
    });
    let inline = |text: &str| match text {
        "" => Err("the secret is empty".to_owned()),
        _ => Ok(Place::Inline(Secret::from(text.to_owned()))),
    };
    env.or(file).or(exec).or(table.text("value", inline))
}

fn variable(name: &str) -> Result<String, String> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err(format!("\"{}\" is no name of a variable", name.escape_debug())),
        false => Ok(name.to_owned()),
    }
}

/// A path of the file system, relative to the config file.
pub(super) fn path(text: &str, base: &Path) -> Result<PathBuf, String> {
    match text {
        "" => Err("the path is empty".to_owned()),
        _ => Ok(base.join(text)),
    }
}
