//! `countersign audit tail` and `countersign audit verify`.
//!
//! Reads the audit file of a running or stopped server; needs no config. What is printed for people
//! is escaped again: the file may have been tampered with, and a terminal obeys what it is shown.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::config::Config;
use crate::telemetry::{self, Report, plain, trail};

/// What `audit tail` shows.
#[derive(Clone, Copy, Debug)]
pub struct TailOptions {
    /// How many of the last events come first (`-n`).
    pub lines: usize,
    /// Whether to wait for more (`-f`).
    pub follow: bool,
    /// Whether to print the lines as they stand in the file.
    pub json: bool,
}

/// Where a server with this configuration records what it does.
pub fn usual_file(config: &Config) -> PathBuf {
    config.audit.file.clone().unwrap_or_else(|| config.data_dir.join("audit.jsonl"))
}

/// Prints the last events, and with `follow` all that come, until `out` is closed.
pub fn tail(file: &Path, options: TailOptions, out: &mut impl Write) -> anyhow::Result<()> {
    let mut reader = BufReader::new(open(file)?);
    let mut lines = last_lines(&mut reader, options.lines)?;
    for older in trail::full_files(file)?.iter().rev() {
        let missing = options.lines - lines.len();
        if missing == 0 {
            break;
        }
        lines.splice(..0, last_lines(&mut BufReader::new(open(older)?), missing)?);
    }
    for line in lines {
        print(&line, options.json, out)?;
    }
    if options.follow {
        follow(file, reader, options.json, out)?;
    }
    Ok(())
}

/// Also into the file that goes on when this one is full.
fn follow(
    file: &Path,
    mut reader: BufReader<File>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut partial = Vec::new();
    let mut replaced = false;
    loop {
        out.flush()?;
        if reader.read_until(b'\n', &mut partial)? > 0 {
            if partial.ends_with(b"\n") {
                print(&partial, json, out)?;
                partial.clear();
            }
        } else if replaced {
            // Read to its end after it was replaced: nothing more comes to it.
            (reader, replaced) = (BufReader::new(open(file)?), false);
            partial.clear();
        } else {
            // While there is none of that name, the next is still being made.
            replaced = trail::is_named(reader.get_ref(), file).is_ok_and(|named| !named);
            if !replaced {
                thread::sleep(POLL);
            }
        }
    }
}

/// Checks the chain and says what is wrong, line by line. True if nothing is: the exit code is then
/// 0, else 1.
pub fn verify(file: &Path, out: &mut impl Write) -> anyhow::Result<bool> {
    let report = telemetry::verify(file)
        .with_context(|| format!("the audit file {} could not be read", file.display()))?;
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    writeln!(out, "{}", summary(&report))?;
    Ok(report.is_sound())
}

fn summary(report: &Report) -> String {
    let verdict = if report.is_sound() { "sound" } else { "NOT sound" };
    let mut text = format!("{verdict}: {} lines", report.lines);
    if report.files > 1 {
        text += &format!(" in {} files", report.files);
    }
    if report.first > 1 {
        text += &format!(", the first is number {}: what was before it is not here", report.first);
    }
    if report.last.seq > 0 {
        text += &format!(", the last is number {} with hash {}", report.last.seq, report.last.hash);
    }
    if report.lost > 0 {
        text += &format!("\nthe server lost {} events and recorded that it did", report.lost);
    }
    if !report.head {
        text += "\nthere is no head file beside it: removed last lines cannot be found";
    }
    text
}

fn open(file: &Path) -> anyhow::Result<File> {
    File::open(file).with_context(|| format!("the audit file {} could not be read", file.display()))
}

/// The last `count` whole lines; leaves the reader behind them. Reads backwards in pieces, because
/// the file may be large.
fn last_lines(reader: &mut BufReader<File>, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let end = reader.seek(SeekFrom::End(0))?;
    let mut start = end;
    let mut tail = Vec::new();
    while start > 0 && memchr::memchr_iter(b'\n', &tail).count() <= count {
        let from = start.saturating_sub(PIECE);
        reader.seek(SeekFrom::Start(from))?;
        let mut piece = Vec::new();
        reader.take(start - from).read_to_end(&mut piece)?;
        piece.append(&mut tail);
        (tail, start) = (piece, from);
    }
    let whole = memchr::memrchr(b'\n', &tail).map_or(0, |at| at + 1);
    reader.seek(SeekFrom::Start(start + whole as u64))?;
    let lines: Vec<_> =
        tail[..whole].split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    Ok(lines[lines.len().saturating_sub(count)..].to_vec())
}

/// A line as it stands, or for people.
pub fn print(line: &[u8], json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    if json && !text.contains(char::is_control) {
        return Ok(writeln!(out, "{text}")?);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(event)) if !json => writeln!(out, "{}", for_people(&event))?,
        _ => writeln!(out, "{}", plain(text))?,
    }
    Ok(())
}

/// `2026-01-02T03:04:05.678Z request flow POST slack.com/api/chat.postMessage 200 app=slack …`
fn for_people(event: &serde_json::Map<String, Value>) -> String {
    let show = |key: &str| event.get(key).map(shown);
    let mut words: Vec<String> =
        ["ts", "type", "caller", "method"].into_iter().filter_map(show).collect();
    if let Some(host) = show("host") {
        words.push(host + &show("path").unwrap_or_default());
    }
    words.extend(show("status"));
    let rest = event.iter().filter(|(key, _)| !PLACED.contains(&key.as_str()));
    words.extend(rest.map(|(key, value)| format!("{}={}", plain(key), shown(value))));
    words.join(" ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() || text.contains(' ') => {
            format!("\"{}\"", plain(text))
        }
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

/// Members with a place of their own, or of no interest to a reader.
const PLACED: &[&str] =
    &["seq", "ts", "type", "caller", "method", "host", "path", "status", "prev", "hash"];
const POLL: Duration = Duration::from_millis(200);
const PIECE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn file_with(text: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text).expect("room");
        file
    }

    fn tail_of(text: &[u8], lines: usize, json: bool) -> String {
        let mut out = Vec::new();
        let options = TailOptions { lines, follow: false, json };
        tail(file_with(text).path(), options, &mut out).expect("a readable file");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_last_lines_come_from_the_end_however_long_they_are() {
        let line = |n: usize| format!("{{\"n\":{n},\"x\":\"{}\"}}\n", "x".repeat(40_000));
        let text: String = (0..10).map(line).collect();
        let shown = tail_of(text.as_bytes(), 3, true);
        assert_eq!(shown, [line(7), line(8), line(9)].concat());
        assert_eq!(tail_of(text.as_bytes(), 99, true), text);
        assert_eq!(tail_of(text.as_bytes(), 0, true), "");
        assert_eq!(tail_of(b"{\"a\":1}\n{\"torn", 5, true), "{\"a\":1}\n");
    }

    #[test]
    fn an_event_reads_as_one_line_without_chain_and_escapes() {
        let line = br#"{"seq":1,"ts":"T","type":"request","caller":"flow","method":"GET","host":"a.test","path":"/\u001b[31m","status":200,"app":"x","error":"a b","prev":"0","hash":"1"}"#;
        let shown = tail_of(&[line.as_slice(), b"\n"].concat(), 1, false);
        assert_eq!(shown, "T request flow GET a.test/\\u001b[31m 200 app=x error=\"a b\"\n");
        assert_eq!(tail_of(b"raw \x1b[2J\n", 1, true), "raw \\u001b[2J\n");
    }

    #[test]
    fn following_ends_when_nobody_reads() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let options = TailOptions { lines: 1, follow: true, json: false };
        assert!(tail(file_with(b"{}\n").path(), options, &mut Closed).is_err());
    }

    #[test]
    fn verify_names_the_line_and_the_fault() {
        let mut out = Vec::new();
        let sound = verify(file_with(b"not an event\n").path(), &mut out).expect("readable");
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(!sound && text.contains("line 1 is not an audit line"), "{text}");
        assert!(verify(Path::new("/nonexistent"), &mut Vec::new()).is_err());
    }
}
