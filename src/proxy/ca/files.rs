//! The CA's two halves as files of the data directory, and the lock under which they are made.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Error;

/// The two halves and the lock, by path.
pub(super) struct Files {
    pub(super) pem: PathBuf,
    pub(super) key: PathBuf,
    lock: PathBuf,
}

#[derive(PartialEq, Eq)]
pub(super) enum Found {
    None,
    Both,
}

impl Files {
    pub(super) fn create_dir(dir: &Path) -> Result<Self, Error> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(dir).map_err(at(dir))?;
        Ok(Self::at(dir))
    }

    pub(super) fn at(dir: &Path) -> Self {
        Self { pem: pem_path(dir), key: dir.join("ca.key"), lock: dir.join("ca.lock") }
    }

    /// Held until the file is dropped, also when the process dies.
    pub(super) fn lock(&self) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.lock).map_err(at(&self.lock))?;
        file.lock().map_err(at(&self.lock))?;
        Ok(file)
    }

    pub(super) fn check_both_or_none(&self) -> Result<Found, Error> {
        let (pem, key) = (&self.pem, &self.key);
        match (exists(pem)?, exists(key)?) {
            (true, true) => Ok(Found::Both),
            (false, false) => Ok(Found::None),
            (true, false) => Err(Error::Half { present: pem.clone(), missing: key.clone() }),
            (false, true) => Err(Error::Half { present: key.clone(), missing: pem.clone() }),
        }
    }

    pub(super) fn read(&self, path: &Path) -> Result<String, Error> {
        fs::read_to_string(path).map_err(at(path))
    }

    pub(super) fn read_key(&self) -> Result<String, Error> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&self.key).map_err(at(&self.key))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(Error::KeyReadable { path: self.key.clone(), mode: mode & 0o7777 });
            }
        }
        self.read(&self.key)
    }
}

/// Where the CA's certificate is in a data directory.
pub fn pem_path(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

pub(super) fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(at(path))
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// Whole or not at all: a reader never sees half a file, and the mode is right from the start.
pub(super) fn write_atomically(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".ca-").tempfile_in(dir).map_err(at(path))?;
    file.write_all(text.as_bytes()).map_err(at(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = fs::Permissions::from_mode(mode);
        file.as_file().set_permissions(permissions).map_err(at(path))?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    file.as_file().sync_all().map_err(at(path))?;
    file.persist(path).map_err(|error| at(path)(error.error))?;
    Ok(())
}
