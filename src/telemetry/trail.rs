//! The audit read from its end, a piece at a time and file by file: what happened last, and what
//! happened to whom.
//!
//! It may be large and grows while it is read, so nothing here reads it whole: a search ends
//! when it has found enough or has read its bound, and says where the next one goes on. Places are
//! line numbers (`seq`), which stay good while it grows; they and moments are found by
//! halving. What is read may have been tampered with: a line that is none is passed over, as `audit
//! verify` finds it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memchr::memmem;
use serde_json::{Map, Value};

pub use super::volumes::is_named;
use super::volumes::{self, Volume, Volumes};

use crate::clock::rfc3339;
use crate::policy::suggest::{self, Seen, Suggestion};

/// One line, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub seq: u64,
    pub members: Map<String, Value>,
    /// As it stands in the file.
    pub line: String,
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Self> {
        let members: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let seq = members.get("seq")?.as_u64()?;
        Some(Self { seq, members, line: String::from_utf8(line.to_vec()).ok()? })
    }

    /// A text member; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        self.members.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        self.members.get(key).and_then(Value::as_u64)
    }

    /// The `type` member.
    pub fn kind(&self) -> &str {
        self.text("type")
    }
}

/// What is looked for, and how far.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Only lines with a smaller number.
    pub before: Option<u64>,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
    /// Members that a line must have, as texts that need no escape: looked for before it is parsed.
    pub members: Vec<(&'static str, String)>,
    /// So many entries are enough.
    pub want: usize,
    /// So many bytes are read at most.
    pub most_bytes: u64,
}

#[derive(Debug, Default)]
pub struct Found {
    /// Newest first.
    pub entries: Vec<Entry>,
    pub rest: Rest,
}

/// What a search did not look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rest {
    /// There is nothing older.
    #[default]
    Nothing,
    /// Enough was found: there may be more before this number.
    Before(u64),
    /// The bound was reached: what is before this number, and older than this moment, was not
    /// looked at.
    Unread { before: u64, older_than: String },
}

/// Looks for entries, newest first. `accepts` is asked about lines that pass the rest.
///
/// # Errors
/// When the file cannot be read.
pub fn search(
    audit: &Path,
    search: &Search,
    mut accepts: impl FnMut(&Entry) -> bool,
) -> io::Result<Found> {
    let mut looker = Looker { search, sieve: Sieve::of(search), found: Found::default(), read: 0 };
    for trail in Trails::open(audit, search.before)? {
        if looker.look(&trail?, &mut accepts)? == Looked::Enough {
            return Ok(looker.found);
        }
    }
    Ok(looker.found.at_the_end())
}

/// A search on its way through the files, from the newest to the oldest.
struct Looker<'a> {
    search: &'a Search,
    sieve: Sieve,
    found: Found,
    /// Bytes of the files that are done.
    read: u64,
}

#[derive(PartialEq, Eq)]
enum Looked {
    /// What is found is the answer.
    Enough,
    /// Up to the start of the file; what is before it was not looked at.
    ToTheStart,
}

impl Looker<'_> {
    fn look(
        &mut self,
        trail: &Trail,
        accepts: &mut impl FnMut(&Entry) -> bool,
    ) -> io::Result<Looked> {
        let Self { search, sieve, found, read } = self;
        let mut lines = trail.backwards(trail.start_of(search)?);
        while found.entries.len() < search.want {
            let Some((line, bytes_read)) = lines.next()? else { break };
            let Some(head) = Head::of(line) else { continue };
            match sieve.judge(&head, line) {
                Verdict::Ended => {
                    found.rest = Rest::Nothing;
                    return Ok(Looked::Enough);
                }
                Verdict::Passes => {
                    found.entries.extend(Entry::parse(line).filter(|entry| accepts(entry)));
                }
                Verdict::Other => {}
            }
            found.rest = Rest::Before(head.seq);
            if *read + bytes_read > search.most_bytes && found.entries.len() < search.want {
                found.rest = Rest::Unread { before: head.seq, older_than: head.at.to_owned() };
                return Ok(Looked::Enough);
            }
        }
        *read += lines.bytes_read;
        Ok(if lines.is_at_the_start() { Looked::ToTheStart } else { Looked::Enough })
    }
}

impl Found {
    fn at_the_end(self) -> Self {
        Self { rest: Rest::Nothing, ..self }
    }
}

/// The entry of that number.
///
/// # Errors
/// When the file cannot be read.
pub fn entry(audit: &Path, seq: u64) -> io::Result<Option<Entry>> {
    let before = seq.checked_add(1);
    let Some(trail) = Trails::open(audit, before)?.next().transpose()? else { return Ok(None) };
    let end = trail.first(|head| head.seq > seq)?;
    let mut lines = trail.backwards(end);
    let entry = lines.next()?.and_then(|(line, _)| Entry::parse(line));
    Ok(entry.filter(|entry| entry.seq == seq))
}

/// The full files before the one that is written, oldest first.
///
/// # Errors
/// When their folder cannot be read.
pub fn full_files(audit: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(volumes::full(audit)?.into_iter().map(|volume| volume.path).collect())
}

/// The least privilege that the requests among these entries need: those that got a credential, and
/// would get one if a rule allowed it. What a rule denied stays denied.
pub fn suggest(entries: &[Entry]) -> Suggestion {
    let sent = |entry: &&Entry| {
        let denied_by_rule = entry.text("would_deny") == "rule";
        let signed = matches!(entry.text("outcome"), "authenticated" | "error");
        entry.kind() == "request" && signed && !entry.text("account").is_empty() && !denied_by_rule
    };
    suggest::suggest(entries.iter().filter(sent).map(|entry| Seen {
        app: entry.text("app"),
        account: entry.text("account"),
        method: entry.text("method"),
        path: entry.text("path"),
    }))
}

/// What tells lines apart before they are parsed.
struct Sieve {
    needles: Vec<memmem::Finder<'static>>,
    since: Option<String>,
    until: Option<String>,
    older_in_a_row: usize,
}

enum Verdict {
    Passes,
    Other,
    /// All that is left is too old.
    Ended,
}

impl Sieve {
    fn of(search: &Search) -> Self {
        let needle = |(key, value): &(&str, String)| {
            memmem::Finder::new(format!("\"{key}\":\"{value}\"").as_bytes()).into_owned()
        };
        Self {
            needles: search.members.iter().map(needle).collect(),
            since: search.since.map(rfc3339),
            until: search.until.map(rfc3339),
            older_in_a_row: 0,
        }
    }

    /// Texts of moments compare as the moments do. A request bears the moment of its beginning, so
    /// one old moment does not mean that all the rest is older.
    fn judge(&mut self, head: &Head<'_>, line: &[u8]) -> Verdict {
        if self.since.as_deref().is_some_and(|since| head.at < since) {
            self.older_in_a_row += 1;
            let ended = self.older_in_a_row >= SURELY_OLDER;
            return if ended { Verdict::Ended } else { Verdict::Other };
        }
        self.older_in_a_row = 0;
        let newer = self.until.as_deref().is_some_and(|until| head.at > until);
        match !newer && self.needles.iter().all(|needle| needle.find(line).is_some()) {
            true => Verdict::Passes,
            false => Verdict::Other,
        }
    }
}

/// The beginning of a line, read without parsing the rest.
struct Head<'a> {
    seq: u64,
    at: &'a str,
}

impl<'a> Head<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let line =
            std::str::from_utf8(line.get(..HEAD_BYTES.min(line.len()))?).ok().or_else(|| {
                // The cut may go through a character of a later member.
                let start = &line[..HEAD_BYTES.min(line.len())];
                let valid = std::str::from_utf8(start).err()?.valid_up_to();
                std::str::from_utf8(&start[..valid]).ok()
            })?;
        let (seq, rest) = line.strip_prefix("{\"seq\":")?.split_once(",\"ts\":\"")?;
        Some(Self { seq: seq.parse().ok()?, at: rest.split_once('"')?.0 })
    }
}

/// The files of an audit that may have lines with a number below the one that was asked for, newest
/// first. Each is opened when it is its turn.
struct Trails {
    current: Option<File>,
    full: Vec<Volume>,
}

impl Trails {
    fn open(audit: &Path, before: Option<u64>) -> io::Result<Self> {
        let Volumes { mut full, current } = Volumes::open(audit)?;
        full.retain(|volume| before.is_none_or(|before| volume.first < before));
        let last = full.last().map_or(0, |volume| volume.last);
        // What is asked for may all be in the full ones.
        let newer = before.is_none_or(|before| before > last + 1);
        Ok(Self { current: newer.then_some(current), full })
    }
}

impl Iterator for Trails {
    type Item = io::Result<Trail>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = match self.current.take() {
            Some(file) => Ok(file),
            None => File::open(self.full.pop()?.path),
        };
        Some(file.and_then(Trail::of))
    }
}

/// One file up to its last whole line at one moment.
struct Trail {
    file: File,
    end: u64,
}

impl Trail {
    fn of(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, end: length })
    }

    fn start_of(&self, search: &Search) -> io::Result<u64> {
        let by_number = match search.before {
            Some(before) => self.first(|head| head.seq >= before)?,
            None => self.end,
        };
        let until = search.until.map(rfc3339);
        let by_time = match &until {
            // Whoever began earlier and ended later only makes this place later than it had to be.
            Some(until) => self.first(|head| head.at > until.as_str())?,
            None => self.end,
        };
        Ok(by_number.min(by_time))
    }

    /// The place of the first line that `is_past`, of lines that first are not and then are; else
    /// the end.
    fn first(&self, is_past: impl Fn(&Head<'_>) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.end);
        while high - low > PIECE {
            let middle = low + (high - low) / 2;
            let piece = self.read(middle, PIECE.min(high - middle))?;
            match first_head(&piece) {
                Some((at, head)) if !is_past(&head) => low = middle + at,
                _ => high = middle,
            }
        }
        let piece = self.read(low, (high - low + PIECE).min(self.end - low))?;
        let mut at = 0;
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if Head::of(line).is_some_and(|head| is_past(&head)) {
                return Ok(low + at);
            }
            at += line.len() as u64;
        }
        Ok((low + at).min(self.end))
    }

    fn backwards(&self, end: u64) -> Backwards<'_> {
        Backwards { trail: self, start: end, piece: Vec::new(), left: 0, torn: true, bytes_read: 0 }
    }

    fn read(&self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut piece, at)?;
        Ok(piece)
    }
}

/// The first whole line of a piece that begins anywhere, and its place in it.
fn first_head(piece: &[u8]) -> Option<(u64, Head<'_>)> {
    let mut at = 0;
    for (number, line) in piece.split_inclusive(|byte| *byte == b'\n').enumerate() {
        // The first is the end of a line that began before.
        if number > 0
            && let Some(head) = Head::of(line)
        {
            return Some((at, head));
        }
        at += line.len() as u64;
    }
    None
}

/// Lines without their line feeds, the last first.
struct Backwards<'t> {
    trail: &'t Trail,
    /// Where `piece` begins in the file.
    start: u64,
    piece: Vec<u8>,
    /// How much of `piece` was not given out yet.
    left: usize,
    /// What follows the last line feed is no line yet.
    torn: bool,
    bytes_read: u64,
}

impl Backwards<'_> {
    /// A line, and how many bytes were read until it was found.
    fn next(&mut self) -> io::Result<Option<(&[u8], u64)>> {
        loop {
            let held = &self.piece[..self.left];
            // Behind the line feed of the line before; at the file's start there is none.
            let begins = match memchr::memrchr(b'\n', held.strip_suffix(b"\n").unwrap_or(held)) {
                Some(at) => Some(at + 1),
                None => (self.start == 0).then_some(0),
            };
            let Some(begins) = begins else {
                self.more()?;
                continue;
            };
            if begins == 0 && self.left == 0 {
                return Ok(None);
            }
            let end = self.left;
            self.left = begins;
            let whole = self.piece[begins..end].ends_with(b"\n");
            // What a writer has not finished, or a crash has torn off.
            if std::mem::take(&mut self.torn) && !whole {
                continue;
            }
            let end = if whole { end - 1 } else { end };
            return Ok(Some((&self.piece[begins..end], self.bytes_read)));
        }
    }

    fn is_at_the_start(&self) -> bool {
        self.start == 0 && self.left == 0
    }

    /// Puts the piece before in front of what is left.
    fn more(&mut self) -> io::Result<()> {
        // No line of ours is so long; a file of somebody's without line feeds must not fill memory.
        if self.left > LONGEST_LINE {
            self.left = 0;
        }
        let length = PIECE.min(self.start);
        let mut piece = self.trail.read(self.start - length, length)?;
        piece.extend_from_slice(&self.piece[..self.left]);
        self.left = piece.len();
        self.piece = piece;
        self.start -= length;
        self.bytes_read += length;
        Ok(())
    }
}

const PIECE: u64 = 128 * 1024;
const LONGEST_LINE: usize = 1024 * 1024;
/// `{"seq":18446744073709551615,"ts":"2026-01-02T03:04:05.678Z"` and some room.
const HEAD_BYTES: usize = 96;
/// Streams that began long ago are written when they end; so many of them do not end in a row.
const SURELY_OLDER: usize = 500;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn moment(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second)
    }

    /// A line a second.
    fn audit(lines: u64, torn: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        for seq in 1..=lines {
            let caller = if seq % 100 == 0 { "rare" } else { "flow" };
            let (at, pad) = (rfc3339(moment(seq)), "x".repeat((seq % 700) as usize));
            writeln!(
                file,
                "{{\"seq\":{seq},\"ts\":\"{at}\",\"type\":\"request\",\"caller\":\"{caller}\",\
                 \"path\":\"/{pad}ä\"}}"
            )
            .expect("room");
        }
        write!(file, "{torn}").expect("room");
        file
    }

    fn search_for(want: usize) -> Search {
        Search { want, most_bytes: u64::MAX, ..Search::default() }
    }

    fn numbers(file: &tempfile::NamedTempFile, wanted: &Search) -> (Vec<u64>, Rest) {
        let found = search(file.path(), wanted, |_| true).expect("readable");
        (found.entries.iter().map(|entry| entry.seq).collect(), found.rest)
    }

    #[test]
    fn the_newest_come_first_and_pages_follow_each_other_without_a_gap() {
        for (lines, torn) in [(0, ""), (1, ""), (7, "{\"seq\":8,\"ts"), (5000, ""), (5000, "{")] {
            let file = audit(lines, torn);
            let (mut seen, mut before) = (Vec::new(), None);
            loop {
                let (page, rest) = numbers(&file, &Search { before, ..search_for(999) });
                seen.extend(page);
                let Rest::Before(next) = rest else { break };
                before = Some(next);
            }
            assert_eq!(seen, (1..=lines).rev().collect::<Vec<_>>(), "{lines} {torn}");
        }
    }

    #[test]
    fn members_moments_and_the_closure_narrow_a_search() {
        let file = audit(5000, "");
        let rare = Search { members: vec![("caller", "rare".to_owned())], ..search_for(3) };
        assert_eq!(numbers(&file, &rare), (vec![5000, 4900, 4800], Rest::Before(4800)));
        let span = Search { since: Some(moment(40)), until: Some(moment(42)), ..search_for(100) };
        assert_eq!(numbers(&file, &span), (vec![42, 41, 40], Rest::Nothing));
        let odd = |entry: &Entry| entry.seq % 2 == 1;
        let found = search(file.path(), &search_for(2), odd).expect("readable");
        let seqs: Vec<u64> = found.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, [4999, 4997]);
    }

    #[test]
    fn a_search_that_finds_nothing_stops_at_its_bound_and_can_be_gone_on_with() {
        let file = audit(5000, "");
        let length = file.path().metadata().expect("there").len();
        let mut wanted = Search {
            members: vec![("caller", "nobody".to_owned())],
            most_bytes: length / 3,
            ..search_for(10)
        };
        let mut rounds = 0;
        while let (_, Rest::Unread { before, .. }) = numbers(&file, &wanted) {
            assert!(wanted.before.is_none_or(|last| before < last), "it goes on");
            wanted.before = Some(before);
            rounds += 1;
        }
        assert!((2..=4).contains(&rounds), "{rounds}");
    }

    #[test]
    fn one_entry_is_found_by_its_number() {
        let file = audit(5000, "no line");
        for seq in [1, 2, 777, 4999, 5000] {
            let found = entry(file.path(), seq).expect("readable").expect("there");
            assert_eq!((found.seq, found.kind()), (seq, "request"));
            assert!(found.line.starts_with(&format!("{{\"seq\":{seq},")), "{}", found.line);
        }
        for seq in [0, 5001, u64::MAX] {
            assert_eq!(entry(file.path(), seq).expect("readable"), None, "{seq}");
        }
    }

    #[test]
    fn what_is_no_audit_line_is_passed_over() {
        let mut file = audit(3, "garbage\n\n\u{0}\n{\"seq\":\"x\"}\n");
        file.write_all(&vec![b'x'; 3 * LONGEST_LINE]).expect("room");
        file.write_all(b"\n{\"seq\":9,\"ts\":\"t\",\"type\":\"request\"}\n").expect("room");
        assert_eq!(numbers(&file, &search_for(10)), (vec![9, 3, 2, 1], Rest::Nothing));
    }
}
