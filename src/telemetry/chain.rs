//! The chain that holds the audit's lines together, and its proof.
//!
//! Each line carries its number, the hash of the line before (`prev`) and its own hash: SHA-256 over
//! the line's bytes as they stand, without the `hash` member. So any tool can check it:
//!
//! ```sh
//! sed -n 7p audit.jsonl | sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum
//! ```
//!
//! An altered, removed, added or moved line breaks the chain at its place; removed last lines are
//! found with the head, which is kept in a file beside. The chain has no key: who can rewrite the
//! whole file and the head can forge both, so keep the last hash, which `audit verify` prints,
//! somewhere else. Pure, but for [`verify`] and [`verify_live`], which read.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use super::text::{decimal, put};
use super::volumes::{MAX_LINE, Volume, Volumes};
use crate::secret::hex;

/// The number and hash of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub hash: String,
}

impl Head {
    /// Before the first line.
    pub(super) fn start() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }

    /// Appends the line that follows; `body` is the members between `seq` and `prev`.
    pub(super) fn seal(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.seq += 1;
        out.extend_from_slice(b"{\"seq\":");
        decimal(out, self.seq);
        put(out, &[b",", body, b",\"prev\":\"", self.hash.as_bytes(), b"\"}"]);
        // Every request has a line, and this SHA-256 is quick also where the processor has no
        // instruction for it.
        self.hash = hex(digest(&SHA256, &out[start..]).as_ref());
        out.pop();
        put(out, &[b",\"hash\":\"", self.hash.as_bytes(), b"\"}\n"]);
    }

    /// The head that `line`, without its line feed, leaves behind. `None` if it is no audit line.
    pub(super) fn after(line: &[u8]) -> Option<Self> {
        let line = Line::parse(line)?;
        Some(Self { seq: line.seq, hash: line.hash.to_owned() })
    }

    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Where the head of `audit` is kept: `audit.jsonl` has `audit.head`.
pub(super) fn head_path(audit: &Path) -> PathBuf {
    audit.with_extension("head")
}

/// A line taken apart, by its bytes: a JSON parser would forgive what must not be forgiven.
struct Line<'a> {
    seq: u64,
    event: Option<&'a str>,
    body: &'a str,
    prev: &'a str,
    hash: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let rest = text.strip_suffix("\"}")?;
        let (rest, hash) = rest.rsplit_once(",\"hash\":\"")?;
        let (body, prev) = rest.strip_suffix('"')?.rsplit_once(",\"prev\":\"")?;
        let seq = text.strip_prefix("{\"seq\":")?.split_once(',')?.0;
        let event = body.split_once(",\"type\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let are_digests = is_digest(hash) && is_digest(prev);
        let event = event.map(|(event, _)| event);
        are_digests.then_some(Self { seq: seq.parse().ok()?, event, body, prev, hash })
    }

    fn is_intact(&self) -> bool {
        let mut hashed = Context::new(&SHA256);
        for part in [self.body, ",\"prev\":\"", self.prev, "\"}"] {
            hashed.update(part.as_bytes());
        }
        hex(hashed.finish().as_ref()) == self.hash
    }

    fn count(&self) -> u64 {
        let count = self.body.rsplit_once(",\"count\":").and_then(|(_, count)| count.parse().ok());
        count.unwrap_or(0)
    }
}

/// Whether a line's own hash is that of its bytes. That it stands in its place, only the whole file
/// tells.
pub fn is_intact(line: &[u8]) -> bool {
    Line::parse(line).is_some_and(|line| line.is_intact())
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What is wrong with the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("is not an audit line")]
    Malformed,
    #[error("was altered: its hash does not match its bytes")]
    Altered,
    #[error("has number {found} where {expected} was due: lines were removed, added or moved")]
    Sequence { expected: u64, found: u64 },
    #[error("does not follow the line before it: the hashes do not match")]
    Unlinked,
    #[error("is cut short: it does not end with a line feed")]
    Torn,
    #[error("is the last, but the head says that there were lines up to number {expected}")]
    TailCut { expected: u64 },
    #[error("is not the line that the head names")]
    HeadMismatch,
    #[error("records that the end of the file was missing when the server started")]
    TailMissing,
    #[error("the file with the head is not readable as one")]
    HeadUnreadable,
}

/// A flaw and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: line {line} {flaw}")]
pub struct Finding {
    /// The name of the file.
    pub file: String,
    /// In that file, counted from 1; 0 if it has none.
    pub line: u64,
    pub flaw: Flaw,
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In all files.
    pub lines: u64,
    pub files: usize,
    /// The number of the first line: more than 1 where older files have been moved away.
    pub first: u64,
    /// The last line's: to be kept elsewhere by whoever wants to prove the file later.
    pub last: Head,
    /// Whether there was a head to compare with. Without one, removed last lines are not found.
    pub head: bool,
    /// Events that the server itself lost and said so.
    pub lost: u64,
    /// The first few flaws.
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// The type of a file's first line that follows the last line of another.
pub(super) const AUDIT_CONTINUED: &str = "audit_continued";

/// Reads an audit from end to end, the full files before it too, and checks its chain, and its end
/// against the head.
pub fn verify(audit: &Path) -> io::Result<Report> {
    let head = Head::read(&head_path(audit));
    check(head, audit, Volumes::open(audit)?, u64::MAX, |_, _| true)
}

/// The same for a file to which its server writes: what comes while it is read is left for the next
/// time. `goes_on` hears how many of all bytes are read, and says whether to read on.
///
/// # Errors
/// When a file cannot be read, or reading was ended (`Interrupted`).
pub fn verify_live(audit: &Path, goes_on: impl FnMut(u64, u64) -> bool) -> io::Result<Report> {
    // In this order: the file has at least the line that the head names.
    let head = Head::read(&head_path(audit));
    let volumes = Volumes::open(audit)?;
    let end = end_of_last_line(&volumes.current)?;
    check(head, audit, volumes, end, goes_on)
}

/// `end`: where the file that is written is read no further.
fn check(
    head: io::Result<Option<Head>>,
    audit: &Path,
    volumes: Volumes,
    end: u64,
    mut goes_on: impl FnMut(u64, u64) -> bool,
) -> io::Result<Report> {
    let Volumes { full, current } = volumes;
    let mut files = Vec::with_capacity(full.len() + 1);
    for Volume { path, .. } in full {
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        files.push((path, file, length));
    }
    files.push((audit.to_owned(), current, end));
    let all = files.iter().fold(0_u64, |all, (_, _, length)| all.saturating_add(*length));
    let mut check = Check::new(head);
    let (mut line, mut read) = (Vec::new(), 0);
    for (path, file, length) in files {
        check.file(&path);
        let mut lines = BufReader::with_capacity(1 << 20, file.take(length));
        while lines.read_until(b'\n', &mut line)? > 0 {
            check.line(&line);
            read += line.len() as u64;
            line.clear();
            if check.report.lines.is_multiple_of(4096) && !goes_on(read, all) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
    }
    Ok(check.finish())
}

fn end_of_last_line(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut tail = vec![0; usize::try_from(length.min(MAX_LINE as u64)).unwrap_or(0)];
    let start = length - tail.len() as u64;
    file.read_exact_at(&mut tail, start)?;
    // Without any line feed it is no audit, which the check then says.
    Ok(memchr::memrchr(b'\n', &tail).map_or(length, |at| start + at as u64 + 1))
}

struct Check {
    report: Report,
    head: Option<Head>,
    unreadable: bool,
    file: String,
    /// Of `file`.
    line: u64,
}

impl Check {
    fn new(head: io::Result<Option<Head>>) -> Self {
        let unreadable = head.is_err();
        let head = head.ok().flatten();
        let report = Report {
            lines: 0,
            files: 0,
            first: 1,
            last: Head::start(),
            head: head.is_some(),
            lost: 0,
            findings: Vec::new(),
        };
        Self { report, head, unreadable, file: String::new(), line: 0 }
    }

    /// What follows is in this file.
    fn file(&mut self, path: &Path) {
        self.file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.line = 0;
        self.report.files += 1;
    }

    fn line(&mut self, bytes: &[u8]) {
        self.line += 1;
        self.report.lines += 1;
        let Some(bytes) = bytes.strip_suffix(b"\n") else { return self.found(Flaw::Torn) };
        let Some(line) = Line::parse(bytes) else { return self.found(Flaw::Malformed) };
        if self.report.lines == 1 && line.event == Some(AUDIT_CONTINUED) && line.seq > 0 {
            // What it follows has been moved away: whoever did so has the last hash of it.
            self.report.first = line.seq;
            self.report.last = Head { seq: line.seq - 1, hash: line.prev.to_owned() };
        }
        if let Some(flaw) = self.flaw_of(&line) {
            self.found(flaw);
        }
        match line.event {
            Some("events_lost") => self.report.lost += line.count(),
            Some("tail_missing") => self.found(Flaw::TailMissing),
            _ => {}
        }
        self.report.last = Head { seq: line.seq, hash: line.hash.to_owned() };
    }

    fn flaw_of(&self, line: &Line<'_>) -> Option<Flaw> {
        let expected = self.report.last.seq + 1;
        if !line.is_intact() {
            return Some(Flaw::Altered);
        }
        if line.seq != expected {
            return Some(Flaw::Sequence { expected, found: line.seq });
        }
        if line.prev != self.report.last.hash {
            return Some(Flaw::Unlinked);
        }
        let head = self.head.as_ref().filter(|head| head.seq == line.seq)?;
        (head.hash != line.hash).then_some(Flaw::HeadMismatch)
    }

    fn finish(mut self) -> Report {
        let expected = self.head.as_ref().map_or(0, |head| head.seq);
        if expected > self.report.last.seq {
            self.found(Flaw::TailCut { expected });
        }
        if self.unreadable {
            self.found(Flaw::HeadUnreadable);
        }
        self.report
    }

    fn found(&mut self, flaw: Flaw) {
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(Finding { file: self.file.clone(), line: self.line, flaw });
        }
    }
}

const MAX_FINDINGS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u64) -> Vec<Vec<u8>> {
        let mut head = Head::start();
        let seal = |n| {
            let mut line = Vec::new();
            head.seal(format!("\"ts\":\"t\",\"type\":\"request\",\"n\":{n}").as_bytes(), &mut line);
            line
        };
        (1..=count).map(seal).collect()
    }

    fn check(lines: &[Vec<u8>], head: Option<Head>) -> Vec<(u64, Flaw)> {
        let mut check = Check::new(Ok(head));
        lines.iter().for_each(|line| check.line(line));
        check.finish().findings.into_iter().map(|found| (found.line, found.flaw)).collect()
    }

    #[test]
    fn an_untouched_chain_is_sound() {
        let lines = chain(5);
        let head = Head::after(lines[4].strip_suffix(b"\n").expect("a line"));
        assert_eq!(check(&lines, head), []);
        for line in &lines {
            serde_json::from_slice::<serde_json::Value>(line).expect("JSON");
        }
    }

    #[test]
    fn every_single_altered_byte_is_found_on_its_line() {
        let lines = chain(3);
        for at in 0..lines[1].len() - 1 {
            let mut altered = lines.clone();
            altered[1][at] ^= 1;
            let found = check(&altered, None);
            assert!(found.iter().any(|(line, _)| *line == 2), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn removed_swapped_and_added_lines_are_found_where_they_are() {
        let lines = chain(5);
        let mut removed = lines.clone();
        removed.remove(2);
        assert_eq!(check(&removed, None), [(3, Flaw::Sequence { expected: 3, found: 4 })]);
        let mut swapped = lines.clone();
        swapped.swap(1, 2);
        assert_eq!(check(&swapped, None)[0], (2, Flaw::Sequence { expected: 2, found: 3 }));
        let mut doubled = lines.clone();
        doubled.insert(1, lines[0].clone());
        assert_eq!(check(&doubled, None)[0], (2, Flaw::Sequence { expected: 2, found: 1 }));
        assert_eq!(check(&lines[1..], None), [(1, Flaw::Sequence { expected: 1, found: 2 })]);
    }

    #[test]
    fn a_line_that_was_forged_with_a_right_hash_breaks_the_link_after_it() {
        let mut lines = chain(3);
        let mut head = Head::after(lines[0].strip_suffix(b"\n").expect("a line")).expect("a head");
        lines[1].clear();
        head.seal(b"\"ts\":\"t\",\"type\":\"request\",\"n\":99", &mut lines[1]);
        assert_eq!(check(&lines, None), [(3, Flaw::Unlinked)]);
    }

    #[test]
    fn a_line_that_is_being_written_is_left_for_the_next_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("audit.jsonl");
        let mut bytes = chain(5).concat();
        bytes.extend_from_slice(b"{\"seq\":6,\"ts");
        std::fs::write(&file, &bytes).expect("written");
        assert!(!verify(&file).expect("readable").is_sound(), "torn, once nobody writes");
        let report = verify_live(&file, |_, _| true).expect("readable");
        assert!(report.is_sound() && report.lines == 5, "{report:?}");
    }

    #[test]
    fn the_head_finds_removed_and_replaced_last_lines() {
        let lines = chain(5);
        let head = Head::after(lines[4].strip_suffix(b"\n").expect("a line"));
        assert_eq!(check(&lines[..3], head.clone()), [(3, Flaw::TailCut { expected: 5 })]);
        assert_eq!(check(&[], head.clone()), [(0, Flaw::TailCut { expected: 5 })]);
        let mut torn = lines.clone();
        torn[4].truncate(20);
        assert_eq!(check(&torn, None), [(5, Flaw::Torn)]);
        let other = Head { seq: 5, hash: "0".repeat(64) };
        assert_eq!(check(&lines, Some(other)), [(5, Flaw::HeadMismatch)]);
    }
}
