//! One entry, whole: every member, its place in the chain, and what can be made of it.

use askama::Template;
use http::Response;
use serde_json::Value;

use super::super::Trouble;
use super::super::callers::view::Ledger;
use super::super::shell::{Section, Shell};
use super::super::visit::Visit;
use super::case::case_of;
use super::history::{Row, Sight, label, unreadable};
use crate::forward::Body;
use crate::telemetry;
use crate::telemetry::trail::{self, Entry};

#[derive(Template)]
#[template(path = "workspace/activity_entry.html")]
struct EntryPage<'a> {
    shell: Shell<'a>,
    row: Row,
    kind: &'static str,
    /// Name, what it means, and its value.
    members: Vec<(String, String)>,
    prev: &'a str,
    hash: &'a str,
    intact: bool,
    line: &'a str,
    case: Option<String>,
    before: Option<u64>,
    after: u64,
    caller: &'a str,
}

pub(super) async fn show(visit: &Visit<'_>, seq: &str) -> Result<Response<Body>, Trouble> {
    let seq: u64 = seq.parse().map_err(|_| Trouble::NotFound)?;
    let Some(file) = visit.workspace.around.audit.clone() else { return Err(Trouble::NotFound) };
    let found = tokio::task::spawn_blocking(move || trail::entry(&file, seq)).await;
    let found = found.map_err(|_| Trouble::Busy)?.map_err(|error| unreadable(&error))?;
    let ledger = Ledger::read(visit).await?;
    let entry = found.filter(|entry| Sight::of(&ledger).sees(entry)).ok_or(Trouble::NotFound)?;
    let title = format!("Entry {seq}");
    let page = EntryPage {
        shell: visit.shell(Section::Activity, &title),
        row: Row::of(&entry, &ledger),
        kind: label(entry.kind()),
        members: members(&entry),
        prev: entry.text("prev"),
        hash: entry.text("hash"),
        intact: telemetry::is_intact(entry.line.as_bytes()),
        line: &entry.line,
        case: case_of(&entry),
        before: seq.checked_sub(1).filter(|seq| *seq > 0),
        after: seq + 1,
        caller: entry.text("caller"),
    };
    Ok(visit.page(&page))
}

/// In the order of the file, as far as a reader cares; the chain has a place of its own.
fn members(entry: &Entry) -> Vec<(String, String)> {
    let placed = |key: &str| ["seq", "prev", "hash"].contains(&key);
    let rank = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
    let mut members: Vec<(&String, &Value)> =
        entry.members.iter().filter(|(key, _)| !placed(key)).collect();
    members.sort_by_key(|(key, _)| rank(key));
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let said = members.into_iter().map(|(key, value)| (name_of(key), shown(value)));
    said.filter(|(_, value)| !value.is_empty()).collect()
}

const ORDER: [&str; 22] = [
    "ts",
    "type",
    "what",
    "subject",
    "detail",
    "by",
    "method",
    "host",
    "port",
    "path",
    "status",
    "outcome",
    "reason",
    "would_deny",
    "rule",
    "caller",
    "app",
    "account",
    "client",
    "door",
    "dur_ms",
    "upstream_ms",
];

fn name_of(key: &str) -> String {
    match key {
        "ts" => "Moment".to_owned(),
        "type" => "Event".to_owned(),
        "dur_ms" => "Took, ms".to_owned(),
        "upstream_ms" => "Of that, the API, ms".to_owned(),
        "bytes_in" => "Bytes from the client".to_owned(),
        "bytes_out" => "Bytes to the client".to_owned(),
        "req_id" => "Request id".to_owned(),
        "would_deny" => "Would be denied".to_owned(),
        "since_ms" => "Done before, ms".to_owned(),
        "client" => "From".to_owned(),
        key => {
            let words = key.replace('_', " ");
            let mut letters = words.chars();
            let first = letters.next().map(|letter| letter.to_uppercase().to_string());
            first.unwrap_or_default() + letters.as_str()
        }
    }
}
