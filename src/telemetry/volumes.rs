//! The files of one audit: the one that is written, and the full ones before it.
//!
//! A full file is put aside as `audit.000000000001-000000052311.jsonl`, after the numbers of its
//! first and last line, and never touched again: it may be compressed, moved or deleted by whoever
//! keeps the machine. The chain goes on in a new `audit.jsonl`, whose first line says so.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::chain::Head;

/// A full file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) path: PathBuf,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Volume {
    pub(super) fn of(audit: &Path, first: u64, last: u64) -> Self {
        let (start, end) = affixes(audit);
        let path = audit.with_file_name(format!("{start}{first:012}-{last:012}{end}"));
        Self { path, first, last }
    }

    fn named(audit: &Path, path: PathBuf) -> Option<Self> {
        let (start, end) = affixes(audit);
        let name = path.file_name()?.to_str()?;
        let (first, last) = name.strip_prefix(&start)?.strip_suffix(&end)?.split_once('-')?;
        let number = |digits: &str| {
            let plain = digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        Some(Self { first: number(first)?, last: number(last)?, path })
    }
}

/// What is around the numbers in the name of a volume: `audit.` and `.jsonl`.
fn affixes(audit: &Path) -> (String, String) {
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let end = audit.extension().map(|extension| format!(".{}", text(Some(extension))));
    (text(audit.file_stem()) + ".", end.unwrap_or_default())
}

/// The full files of `audit` that are there, oldest first.
///
/// # Errors
/// When their folder cannot be read.
pub(super) fn full(audit: &Path) -> io::Result<Vec<Volume>> {
    let mut volumes = Vec::new();
    for entry in std::fs::read_dir(folder(audit))? {
        volumes.extend(Volume::named(audit, audit.with_file_name(entry?.file_name())));
    }
    volumes.sort_by_key(|volume| (volume.first, volume.last));
    Ok(volumes)
}

/// All files of an audit as they are at one moment, while its server may write and go on in a new
/// one.
pub(super) struct Volumes {
    /// Oldest first.
    pub(super) full: Vec<Volume>,
    pub(super) current: File,
}

impl Volumes {
    /// # Errors
    /// When a file or the folder cannot be read.
    pub(super) fn open(audit: &Path) -> io::Result<Self> {
        // In this order: should the server go on in a new file meanwhile, what was opened here is
        // one of the full ones, and so are those that follow it.
        let current = File::open(audit)?;
        // What comes through a pipe, such as a file that was compressed, stands alone.
        if !current.metadata()?.is_file() {
            return Ok(Self { full: Vec::new(), current });
        }
        let mut full = full(audit)?;
        if let Some(first) = first_number(&current)? {
            full.retain(|volume| volume.first < first);
        }
        Ok(Self { full, current })
    }
}

/// The number of a file's first line, if that is an audit line.
pub(super) fn first_number(file: &File) -> io::Result<Option<u64>> {
    let mut start = vec![0; MAX_LINE];
    let mut read = 0;
    while read < start.len() {
        match file.read_at(&mut start[read..], read as u64)? {
            0 => break,
            bytes => read += bytes,
        }
    }
    let end = memchr::memchr(b'\n', &start[..read]);
    Ok(end.and_then(|end| Head::after(&start[..end])).map(|head| head.seq))
}

/// A volume that is the same file as `audit` is one that was about to be put aside when the machine
/// stopped: its second name goes, and it is put aside again when it is full.
///
/// # Errors
/// When a name cannot be removed.
pub(super) fn forget_unfinished(audit: &File, volumes: &mut Vec<Volume>) -> io::Result<()> {
    let mut kept = Vec::new();
    for volume in volumes.drain(..) {
        match is_named(audit, &volume.path)? {
            true => std::fs::remove_file(&volume.path)?,
            false => kept.push(volume),
        }
    }
    *volumes = kept;
    Ok(())
}

/// Whether an open file is the one that has this name now.
///
/// # Errors
/// When there is none of that name, or it cannot be looked at.
pub fn is_named(open: &File, name: &Path) -> io::Result<bool> {
    let (open, named) = (open.metadata()?, std::fs::metadata(name)?);
    Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
}

/// Where an audit's files are.
pub(super) fn folder(audit: &Path) -> &Path {
    let folder = audit.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// A line with its longest path, error and names is well below.
pub(super) const MAX_LINE: usize = 64 * 1024;
