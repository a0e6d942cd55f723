//! `countersign audit find`: entries by what they are about, as the page *Activity* filters them.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use super::audit;
use crate::config::duration;
use crate::telemetry::ACCOUNT_ID;
use crate::telemetry::trail::{self, Entry, Search};

#[derive(clap::Args)]
pub struct Args {
    /// Words that stand in host, path, what was changed, by whom, or why
    words: Vec<String>,
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// By nickname, or by id, which no renaming changes
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Such as request, administered or credential_failed
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// authenticated, passthrough, denied, blocked or error
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// How far back to look
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// How many, the newest of them
    #[arg(short = 'n', default_value_t = 50, value_name = "ENTRIES")]
    most: usize,
    /// The lines as they are
    #[arg(long)]
    json: bool,
    /// [default: audit.jsonl in the data directory]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Prints what fits, the oldest first. True if anything does.
pub fn run(args: &Args, file: &std::path::Path, out: &mut impl Write) -> anyhow::Result<bool> {
    let members = args.members()?;
    let search = Search {
        members: members.clone(),
        since: args.since.and_then(|back| SystemTime::now().checked_sub(back)),
        want: args.most,
        most_bytes: u64::MAX,
        ..Search::default()
    };
    let words: Vec<String> = args.words.iter().map(|word| word.to_lowercase()).collect();
    let fits = |entry: &Entry| {
        members.iter().all(|(key, value)| entry.text(key) == value) && has_words(entry, &words)
    };
    let found = trail::search(file, &search, fits)
        .with_context(|| format!("the audit file {} could not be read", file.display()))?;
    for entry in found.entries.iter().rev() {
        audit::print(entry.line.as_bytes(), args.json, out)?;
    }
    Ok(!found.entries.is_empty())
}

impl Args {
    /// Members that a line must have as they stand.
    fn members(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let account = match self.account.as_deref() {
            Some(id) if id.starts_with("apn_") => (ACCOUNT_ID, self.account.as_ref()),
            _ => ("account", self.account.as_ref()),
        };
        let all = [
            ("caller", self.caller.as_ref()),
            account,
            ("app", self.app.as_ref()),
            ("type", self.kind.as_ref()),
            ("outcome", self.outcome.as_ref()),
        ];
        let mut members = Vec::new();
        for (key, value) in all {
            let Some(value) = value else { continue };
            if value.contains(['"', '\\']) {
                bail!("--{key}: names have no quotation marks and no backslashes");
            }
            members.push((key, value.clone()));
        }
        Ok(members)
    }
}

/// The members in which words are looked for, as on the page *Activity*.
const WORDS_IN: [&str; 9] =
    ["method", "host", "path", "what", "subject", "detail", "by", "error", "reason"];

fn has_words(entry: &Entry, words: &[String]) -> bool {
    let text = WORDS_IN.map(|key| entry.text(key)).join("\n").to_lowercase();
    words.iter().all(|word| text.contains(word))
}
