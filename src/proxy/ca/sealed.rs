//! The CA in the store: certificate and key as one sealed item. Nodes of one store then have one
//! CA, and a stolen disk gives no key away. The certificate stays a file as well, for clients.

use std::fs;
use std::path::Path;

use zeroize::Zeroizing;

use super::files::{Files, at, write_atomically};
use super::stored::Stored;
use super::{CaSettings, CertificateAuthority, EXPIRY_NOTICE, Error, Opened};
use crate::clock::Clock;
use crate::secret::Secret;

/// Begins the key's half of a bundle.
const KEY: &str = "-----BEGIN PRIVATE KEY-----";

impl CertificateAuthority {
    /// Both halves of the CA in `dir` as one text, to be sealed; made if there is none.
    ///
    /// # Errors
    /// As [`Self::open_or_create`].
    pub fn bundle(
        dir: &Path,
        settings: &CaSettings,
        clock: &Clock,
    ) -> Result<(Secret, Opened), Error> {
        let (ca, opened) = Self::open_or_create(dir, settings, clock)?;
        let key = Zeroizing::new(Files::at(dir).read_key()?);
        Ok((Secret::from(format!("{}{}", ca.pem, &*key)), opened))
    }

    /// The CA of a bundle. Its certificate is put into `dir`, and a key that lies there is removed:
    /// it is in the store now.
    ///
    /// # Errors
    /// When it is no CA, or has ended.
    pub fn open_bundle(
        dir: &Path,
        bundle: &Secret,
        settings: &CaSettings,
        clock: &Clock,
    ) -> Result<(Self, Opened), Error> {
        let files = Files::create_dir(dir)?;
        let _lock = files.lock()?;
        let unusable = || Error::Unusable { pem: files.pem.clone(), key: files.key.clone() };
        let (pem, key) = bundle.expose().split_once(KEY).ok_or_else(unusable)?;
        let key = Zeroizing::new(format!("{KEY}{key}"));
        let stored = Stored::of(pem.to_owned(), &key).ok_or_else(unusable)?;
        let ca = Self::from_stored(&files, stored, settings, clock)?;
        if fs::read_to_string(&files.pem).ok().as_deref() != Some(pem) {
            write_atomically(&files.pem, pem, 0o644)?;
        }
        if files.key.exists() {
            fs::remove_file(&files.key).map_err(at(&files.key))?;
        }
        let soon = ca.not_after <= clock.now() + EXPIRY_NOTICE;
        Ok((ca, if soon { Opened::ExpiresSoon } else { Opened::Existing }))
    }
}
