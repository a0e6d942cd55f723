//! The audit's file: one chain, goes on where it ended, and in a new file when one is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use super::audit::AuditEvent;
use super::chain::{Head, head_path};
use super::volumes::{self, MAX_LINE, Volume};

/// Why the audit file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the audit file {} could not be opened", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the audit file {} is in use: is countersign running already? If both are meant, give each a data_dir of its own", path.display())]
    InUse { path: PathBuf },
    #[error(
        "the last line of {} is not an audit line; run `countersign audit verify` on it, then move it away",
        path.display()
    )]
    NotAudit { path: PathBuf },
    #[error("the audit's head {} is not readable", path.display())]
    Head { path: PathBuf, source: io::Error },
}

/// The file, and where its chain stands.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// The end of the last whole line.
    length: u64,
    /// From this length on it is full.
    full_at: u64,
    max_bytes: u64,
    /// The number of its first line.
    first: u64,
    /// Something may stand behind `length`.
    dirty: bool,
    unsynced: bool,
    chain: Head,
    head_path: PathBuf,
    head_seq: u64,
    out: Vec<u8>,
    #[cfg(test)]
    room: Arc<AtomicU64>,
}

impl Journal {
    /// Locks the file, moves a torn last line aside and takes up the chain where it ended. With
    /// more than `max_bytes` it is full; 0 is no limit.
    pub(super) fn open(path: &Path, max_bytes: u64, now: SystemTime) -> Result<Self, OpenError> {
        let failed = |source| OpenError::File { path: path.to_owned(), source };
        let mut file = open_private(path).map_err(failed)?;
        lock(&file, path).map_err(|_| OpenError::InUse { path: path.to_owned() })?;
        let mut full = volumes::full(path).map_err(failed)?;
        volumes::forget_unfinished(&file, &mut full).map_err(failed)?;
        let head_path = head_path(path);
        let noted = Head::read(&head_path)
            .map_err(|source| OpenError::Head { path: head_path.clone(), source })?;
        let mut events = Vec::new();
        let end = End::of(&mut file).map_err(failed)?;
        if !end.torn.is_empty() {
            let kept = keep_torn(path, &end.torn).map_err(failed)?;
            file.set_len(end.whole).map_err(failed)?;
            let (bytes, kept) = (end.torn.len() as u64, kept.display().to_string());
            AuditEvent::TornLine { bytes, kept: &kept }.append_body(now, &mut events);
        }
        let chain = end.head(path, full.last())?;
        let expected = noted.map_or(0, |head| head.seq);
        if expected > chain.seq {
            let event = AuditEvent::TailMissing { expected, found: chain.seq };
            event.append_body(now, &mut events);
        }
        let mut journal = Self {
            path: path.to_owned(),
            first: volumes::first_number(&file).map_err(failed)?.unwrap_or(chain.seq + 1),
            file,
            length: end.whole,
            full_at: if max_bytes == 0 { u64::MAX } else { max_bytes },
            max_bytes,
            dirty: false,
            unsynced: false,
            head_seq: chain.seq,
            chain,
            head_path,
            out: Vec::new(),
            #[cfg(test)]
            room: super::audit::tests::room_of(path),
        };
        journal.append(&[&events], true).map_err(failed)?;
        Ok(journal)
    }

    /// Chains and writes all lines or none.
    pub(super) fn append(&mut self, bodies: &[&[u8]], sync: bool) -> io::Result<()> {
        let before = self.chain.clone();
        self.out.clear();
        for lines in bodies {
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', lines) {
                self.chain.seal(&lines[start..end], &mut self.out);
                start = end + 1;
            }
        }
        let written = self.write_out(sync);
        if written.is_err() {
            self.chain = before;
            self.dirty = true;
            // If this fails too, it is done before the next attempt.
            let _ = self.clean();
        }
        written
    }

    fn write_out(&mut self, sync: bool) -> io::Result<()> {
        self.clean()?;
        if !self.out.is_empty() {
            self.put()?;
            self.unsynced = true;
        }
        if sync && self.unsynced {
            self.file.sync_data()?;
            self.unsynced = false;
        }
        self.length += self.out.len() as u64;
        if sync && self.head_seq != self.chain.seq {
            // The lines are safe; a head that is behind only proves less.
            match self.write_head() {
                Ok(()) => self.head_seq = self.chain.seq,
                Err(error) => tracing::warn!(%error, "the audit's head cannot be written"),
            }
        }
        Ok(())
    }

    fn put(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if (self.out.len() as u64) > self.room.load(Ordering::Relaxed) {
            self.file.write_all(&self.out[..self.out.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all(&self.out)
    }

    fn clean(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.length)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Goes on in a new file, if this one is full. Where that is not possible it goes on in this
    /// one, and is tried again when as much again was written.
    pub(super) fn turn_if_full(&mut self, now: SystemTime) {
        if self.length < self.full_at || self.dirty {
            return;
        }
        if let Err(error) = self.turn(now) {
            let file = self.path.display();
            tracing::warn!(%error, %file, "the audit cannot go on in a new file");
            self.full_at = self.length.saturating_add(self.max_bytes);
        }
    }

    /// The full file keeps its name until the new one takes its place with a line in it that is on
    /// the disk. So there is an audit at every moment, and its last line says where the chain is.
    fn turn(&mut self, now: SystemTime) -> io::Result<()> {
        if !std::fs::symlink_metadata(&self.path)?.is_file() {
            return Err(io::Error::other("it is not a plain file"));
        }
        let full = Volume::of(&self.path, self.first, self.chain.seq);
        let name = full.path.file_name().unwrap_or_default().to_string_lossy();
        let (mut body, mut line) = (Vec::new(), Vec::new());
        AuditEvent::AuditContinued { after: &name }.append_body(now, &mut body);
        let mut chain = self.chain.clone();
        chain.seal(body.strip_suffix(b"\n").unwrap_or(&body), &mut line);
        self.file.sync_data()?;
        let new = self.path.with_extension("new");
        let file = first_line(&new, &line)?;
        std::fs::hard_link(&self.path, &full.path)?;
        if let Err(error) = std::fs::rename(&new, &self.path) {
            std::fs::remove_file(&full.path)?;
            return Err(error);
        }
        (self.first, self.length, self.full_at) = (chain.seq, line.len() as u64, self.max_bytes);
        (self.file, self.chain, self.unsynced) = (file, chain, true);
        self.out.clear();
        // The new name is as safe as its first line only with its folder.
        File::open(volumes::folder(&self.path))?.sync_all()?;
        self.write_out(true)
    }

    fn write_head(&self) -> io::Result<()> {
        let new = self.head_path.with_extension("head.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&self.chain)?)?;
        std::fs::rename(&new, &self.head_path)
    }
}

/// The end of an audit file.
struct End {
    /// Length up to the last line feed.
    whole: u64,
    last: Vec<u8>,
    torn: Vec<u8>,
}

impl End {
    fn of(file: &mut File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let start = length.saturating_sub(MAX_LINE as u64);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.take(MAX_LINE as u64).read_to_end(&mut tail)?;
        let line_end = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = tail.split_off(line_end);
        let last = tail.split(|byte| *byte == b'\n').rev().nth(1).unwrap_or_default().to_vec();
        Ok(Self { whole: start + line_end as u64, last, torn })
    }

    /// Where the chain stands. An empty file goes on after the last that is full.
    fn head(&self, path: &Path, before: Option<&Volume>) -> Result<Head, OpenError> {
        let (path, last) = match before {
            _ if self.whole > 0 => (path, self.last.clone()),
            None => return Ok(Head::start()),
            Some(Volume { path, .. }) => {
                let failed = |source| OpenError::File { path: path.clone(), source };
                let end = File::open(path).and_then(|mut file| Self::of(&mut file));
                (path.as_path(), end.map_err(failed)?.last)
            }
        };
        Head::after(&last).ok_or_else(|| OpenError::NotAudit { path: path.to_owned() })
    }
}

/// Fails also when the file has been put aside, and the one that has its name now is another's.
fn lock(file: &File, path: &Path) -> io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)?;
    match volumes::is_named(file, path)? {
        true => Ok(()),
        false => Err(io::ErrorKind::ResourceBusy.into()),
    }
}

/// A locked file with one line that is on the disk.
fn first_line(path: &Path, line: &[u8]) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_private(path)?;
    lock(&file, path)?;
    file.write_all(line)?;
    file.sync_all()?;
    Ok(file)
}

pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

fn keep_torn(audit: &Path, torn: &[u8]) -> io::Result<PathBuf> {
    let path = audit.with_extension("torn");
    let mut file = open_private(&path)?;
    file.write_all(torn)?;
    file.write_all(b"\n")?;
    file.sync_data()?;
    Ok(path)
}
