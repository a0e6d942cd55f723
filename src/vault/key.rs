//! The master key: where it comes from, and which files it may live in.
//!
//! It wraps the data key of every record ([`super::seal`]) and is never in the database. Touches
//! the key file and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::random::{self, NoRandom};
use crate::secret::{Secret, hex};

/// 32 random bytes, wiped from memory when dropped.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    id: KeyId,
}

/// Names a master key without giving it away: the start of a SHA-256 over it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; KEY_ID_BYTES]);

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "the master key must be 32 bytes, written as 44 characters of base64 or 64 hexadecimal \
         digits; make one with `openssl rand -base64 32`"
    )]
    Malformed,
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: &'static str },
    #[error("{}: cannot be read or written", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} is missing, and the database beside it cannot be read without it: put the key file \
         back, or set COUNTERSIGN_MASTER_KEY",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

impl MasterKey {
    /// Reads base64 (padded or not) or hexadecimal of 32 bytes; space around it is allowed,
    /// because files and `$(…)` bring a line end along.
    pub fn from_text(text: &Secret) -> Result<Self, KeyError> {
        let text = text.expose().trim();
        let bytes = from_hex(text).or_else(|| from_base64(text)).ok_or(KeyError::Malformed)?;
        Ok(Self::from_bytes(bytes))
    }

    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random::fill(bytes.as_mut_slice())?;
        Ok(Self::from_bytes(bytes))
    }

    /// Reads the key file, or makes it with a new key (mode 0600) if there is neither a file nor
    /// a database. Beside a database a missing file is an error: a new key would open nothing in
    /// it, and would hide that the old one is lost. The first line is the active key; during a
    /// rotation the former one is on the second.
    pub fn read_or_create(path: &Path, database_exists: bool) -> Result<Vec<Self>, KeyError> {
        match File::open(path) {
            Ok(file) => read(path, file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
            Err(_) if database_exists => Err(KeyError::Missing { path: path.to_owned() }),
            Err(_) => create(path),
        }
    }

    /// Replaces the key file, whole or not at all: the active key first.
    ///
    /// # Errors
    /// When it cannot be written; the old file is there then.
    pub fn replace_file(path: &Path, keys: &[&Self]) -> Result<(), KeyError> {
        let beside = path.with_extension(format!("new-{}", std::process::id()));
        let put = write_new(&beside, keys).and_then(|()| std::fs::rename(&beside, path));
        put.and_then(|()| sync_folder(path)).map_err(|error| {
            let _ = std::fs::remove_file(&beside);
            failed(path, error)
        })
    }

    /// How the key is written down, for `countersign keys` and the key file.
    pub fn to_text(&self) -> Secret {
        STANDARD.encode(self.bytes.as_slice()).into()
    }

    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"countersign master key id\0");
        hash.update(bytes.as_slice());
        let digest: [u8; 32] = hash.finalize().into();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Self { bytes, id: KeyId(id) }
    }
}

impl KeyId {
    pub(super) fn from_bytes(bytes: [u8; KEY_ID_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(self) -> [u8; KEY_ID_BYTES] {
        self.0
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A file that others may read has given the key away already; using it would hide that.
fn read(path: &Path, mut file: File) -> Result<Vec<MasterKey>, KeyError> {
    let about = file.metadata().map_err(|e| failed(path, e))?;
    let refuse = |reason| Err(KeyError::File { path: path.to_owned(), reason });
    if !about.is_file() {
        return refuse("is not a regular file");
    }
    if about.mode() & 0o077 != 0 {
        return refuse("may be read by others than its owner: run chmod 600 on it");
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return refuse("belongs to another user: make it the property of the user that runs this");
    }
    if about.len() > MAX_FILE_BYTES {
        return refuse("is not a key file: it is too long");
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES as usize));
    file.read_to_string(&mut text).map_err(|e| failed(path, e))?;
    let keys = text.lines().filter(|line| !line.trim().is_empty());
    let keys: Vec<MasterKey> = keys
        .map(|line| MasterKey::from_text(&Secret::from(line.to_owned())))
        .collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(KeyError::Malformed) } else { Ok(keys) }
}

/// Written beside and linked into place, so that a crash leaves a whole key or none, and of two
/// processes that start together one wins and the other reads the winner's key.
fn create(path: &Path) -> Result<Vec<MasterKey>, KeyError> {
    let key = MasterKey::generate()?;
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let made = write_new(&beside, &[&key]).and_then(|()| std::fs::hard_link(&beside, path));
    // Whatever happened, the file beside must not stay.
    let _ = std::fs::remove_file(&beside);
    match made {
        Ok(()) => sync_folder(path).map(|()| vec![key]).map_err(|e| failed(path, e)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(path, File::open(path).map_err(|e| failed(path, e))?)
        }
        Err(error) => Err(failed(path, error)),
    }
}

fn write_new(path: &Path, keys: &[&MasterKey]) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for key in keys {
        file.write_all(key.to_text().expose().as_bytes())?;
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, source: io::Error) -> KeyError {
    KeyError::Io { path: path.to_owned(), source }
}

fn from_hex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn from_base64(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let decoded = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
    let decoded = Zeroizing::new(decoded);
    let bytes: [u8; KEY_BYTES] = decoded.as_slice().try_into().ok()?;
    Some(Zeroizing::new(bytes))
}

pub(super) const KEY_BYTES: usize = 32;
pub(super) const KEY_ID_BYTES: usize = 8;
const MAX_FILE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn text(text: &str) -> Result<MasterKey, KeyError> {
        MasterKey::from_text(&text.to_owned().into())
    }

    #[test]
    fn a_key_reads_back_from_base64_and_from_hex_with_space_around_it() {
        let key = MasterKey::generate().unwrap();
        let base64 = key.to_text();
        let forms = [
            base64.expose().to_owned(),
            format!("  {}\r\n", base64.expose()),
            base64.expose().trim_end_matches('=').to_owned(),
            hex(key.bytes()),
            hex(key.bytes()).to_uppercase(),
        ];
        for form in forms {
            assert_eq!(text(&form).map(|k| k.id()).ok(), Some(key.id()), "{form}");
        }
    }

    #[test]
    fn whatever_is_not_32_bytes_is_refused() {
        let long = "A".repeat(88);
        for bad in ["", "\n", "hunter2", "AAAA", &"g".repeat(64), &"é".repeat(32), &long] {
            assert!(matches!(text(bad), Err(KeyError::Malformed)), "{bad:?}");
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let made = MasterKey::read_or_create(&path, false).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let read = MasterKey::read_or_create(&path, true).unwrap();
        assert_eq!(made[0].id(), read[0].id());
        let next = MasterKey::generate().unwrap();
        MasterKey::replace_file(&path, &[&next, &read[0]]).unwrap();
        let both = MasterKey::read_or_create(&path, true).unwrap();
        let ids: Vec<KeyId> = both.iter().map(MasterKey::id).collect();
        assert_eq!(ids, [next.id(), read[0].id()]);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKey::read_or_create(&path, false).unwrap();
        for mode in [0o644, 0o640, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = MasterKey::read_or_create(&path, true).err().unwrap().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn no_key_is_made_beside_an_existing_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let error = MasterKey::read_or_create(&path, true).err();
        assert!(matches!(error, Some(KeyError::Missing { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn an_empty_or_truncated_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKey::read_or_create(&path, false).unwrap();
        for text in ["", "\n", "c2hvcnQ="] {
            std::fs::write(&path, text).unwrap();
            let error = MasterKey::read_or_create(&path, true).err();
            assert!(matches!(error, Some(KeyError::Malformed)), "{text:?}");
        }
    }
}
