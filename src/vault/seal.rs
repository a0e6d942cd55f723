//! Envelope encryption of one record's secrets (DESIGN.md §11).
//!
//! Each record has a data key of its own, and the master key wraps only that, so that a change of
//! the master key rewrites 72 bytes per record and no secret. Both layers are XChaCha20-Poly1305:
//! its 24-byte nonce may be random on any number of nodes. Where a record stands (table, row,
//! column, and for credentials their version) is authenticated with it: a ciphertext that was
//! moved to another row, or that comes from an older version of its own, does not open. Pure but
//! for the system's randomness.
//!
//! `1 | key id (8) | nonce (24) | wrapped data key (48) | nonce (24) | secrets and tag`

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::key::{KEY_BYTES, KEY_ID_BYTES, KeyId, MasterKey};
use crate::random::{self, NoRandom};

/// The master keys that this node knows; the first seals, all of them open.
#[derive(Clone)]
pub(super) struct Keys(Vec<MasterKey>);

/// Where a sealed value stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) table: &'static str,
    pub(super) row: &'a str,
    pub(super) column: &'static str,
    /// The generation of a value that has generations, else 0.
    pub(super) version: i64,
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is not a sealed value")]
    Malformed,
    #[error("it was sealed with the master key {0}, which this node does not have")]
    UnknownKey(KeyId),
    #[error("it was changed, damaged or moved from another place")]
    Forged,
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

impl Keys {
    /// `None` without any key.
    pub(super) fn new(keys: Vec<MasterKey>) -> Option<Self> {
        (!keys.is_empty()).then_some(Self(keys))
    }

    pub(super) fn active(&self) -> &MasterKey {
        &self.0[0]
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&MasterKey> {
        self.0.iter().find(|key| key.id() == id)
    }

    pub(super) fn seal(&self, place: Place<'_>, secrets: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        random::fill(data_key.as_mut_slice())?;
        let body = encrypt(&data_key, &place.authenticated(None), secrets)?;
        let mut sealed = wrap(self.active(), place, &data_key)?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    pub(super) fn open(
        &self,
        place: Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let envelope = Envelope::of(sealed)?;
        let data_key = self.unwrap(place, &envelope)?;
        decrypt(&data_key, &place.authenticated(None), envelope.body)
    }

    /// The same record with its data key wrapped by the active key; its secrets stay as they are.
    pub(super) fn rewrap(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let envelope = Envelope::of(sealed)?;
        let data_key = self.unwrap(place, &envelope)?;
        // A record that was tampered with must not get a fresh, valid envelope.
        decrypt(&data_key, &place.authenticated(None), envelope.body)?;
        let mut fresh = wrap(self.active(), place, &data_key)?;
        fresh.extend_from_slice(envelope.body);
        Ok(fresh)
    }

    fn unwrap(
        &self,
        place: Place<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
        let master = self.find(envelope.key).ok_or(SealError::UnknownKey(envelope.key))?;
        let aad = place.authenticated(Some(envelope.key));
        let bytes = decrypt(master.bytes(), &aad, envelope.wrapped)?;
        let data_key: [u8; KEY_BYTES] =
            bytes.as_slice().try_into().map_err(|_| SealError::Malformed)?;
        Ok(Zeroizing::new(data_key))
    }
}

/// The master key that a sealed value needs.
pub(super) fn key_of(sealed: &[u8]) -> Result<KeyId, SealError> {
    Ok(Envelope::of(sealed)?.key)
}

struct Envelope<'a> {
    key: KeyId,
    wrapped: &'a [u8],
    body: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn of(sealed: &'a [u8]) -> Result<Self, SealError> {
        let (&format, rest) = sealed.split_first().ok_or(SealError::Malformed)?;
        let (key, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(SealError::Malformed)?;
        if format != FORMAT || rest.len() < WRAPPED_BYTES + NONCE_BYTES + TAG_BYTES {
            return Err(SealError::Malformed);
        }
        let (wrapped, body) = rest.split_at(WRAPPED_BYTES);
        Ok(Self { key: KeyId::from_bytes(*key), wrapped, body })
    }
}

impl Place<'_> {
    /// Every part with its length before it: no two places have the same bytes.
    fn authenticated(self, key: Option<KeyId>) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let key = key.map(KeyId::bytes);
        let key: &[u8] = key.as_ref().map_or(&[], |id| id);
        let mut bytes = vec![FORMAT];
        for part in
            [self.table.as_bytes(), self.row.as_bytes(), self.column.as_bytes(), &version, key]
        {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

fn wrap(
    master: &MasterKey,
    place: Place<'_>,
    data_key: &[u8; KEY_BYTES],
) -> Result<Vec<u8>, SealError> {
    let wrapped = encrypt(master.bytes(), &place.authenticated(Some(master.id())), data_key)?;
    let mut sealed = vec![FORMAT];
    sealed.extend_from_slice(&master.id().bytes());
    sealed.extend_from_slice(&wrapped);
    Ok(sealed)
}

/// The nonce, then the ciphertext and its tag.
fn encrypt(key: &[u8; KEY_BYTES], aad: &[u8], msg: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_BYTES];
    random::fill(&mut nonce)?;
    let cipher = XChaCha20Poly1305::new(key.into());
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg, aad })
        .map_err(|_| SealError::Malformed)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn decrypt(
    key: &[u8; KEY_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, msg) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Malformed)?;
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher
        .decrypt(&XNonce::from(*nonce), Payload { msg, aad })
        .map(Zeroizing::new)
        .map_err(|_| SealError::Forged)
}

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'_> =
        Place { table: "account", row: "apn_1", column: "credentials", version: 3 };

    fn keys() -> Keys {
        Keys::new(vec![MasterKey::generate().unwrap()]).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
        let keys = keys();
        let sealed = keys.seal(HERE, b"token").unwrap();
        assert_eq!(keys.open(HERE, &sealed).unwrap().as_slice(), b"token");
        for elsewhere in [
            Place { table: "member", ..HERE },
            Place { row: "apn_2", ..HERE },
            Place { column: "secret", ..HERE },
            Place { version: 2, ..HERE },
            Place { table: "accounta", row: "pn_1", ..HERE },
        ] {
            assert_eq!(keys.open(elsewhere, &sealed).err(), Some(SealError::Forged));
        }
    }

    #[test]
    fn no_bit_of_a_sealed_value_can_be_flipped() {
        let keys = keys();
        let sealed = keys.seal(HERE, b"token").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(HERE, &bad).is_err(), "bit {bit}");
            assert!(keys.rewrap(HERE, &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn no_beginning_of_a_sealed_value_opens() {
        let keys = keys();
        let sealed = keys.seal(HERE, b"token").unwrap();
        for length in 0..sealed.len() {
            assert!(keys.open(HERE, &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_rewrapped_value_opens_with_the_new_key_alone() {
        let (old, new) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let before = Keys::new(vec![old.clone()]).unwrap();
        let between = Keys::new(vec![new.clone(), old.clone()]).unwrap();
        let after = Keys::new(vec![new.clone()]).unwrap();
        let sealed = before.seal(HERE, b"token").unwrap();
        assert_eq!(after.open(HERE, &sealed).err(), Some(SealError::UnknownKey(old.id())));
        let sealed = between.rewrap(HERE, &sealed).unwrap();
        assert_eq!(after.open(HERE, &sealed).unwrap().as_slice(), b"token");
        assert_eq!(before.open(HERE, &sealed).err(), Some(SealError::UnknownKey(new.id())));
    }

    #[test]
    fn a_wrapped_data_key_does_not_open_under_another_keys_name() {
        let (one, two) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let keys = Keys::new(vec![one, two.clone()]).unwrap();
        let mut sealed = keys.seal(HERE, b"token").unwrap();
        sealed[1..=KEY_ID_BYTES].copy_from_slice(&two.id().bytes());
        assert_eq!(keys.open(HERE, &sealed).err(), Some(SealError::Forged));
    }

    #[test]
    fn the_same_secret_is_never_sealed_the_same() {
        let keys = keys();
        assert_ne!(keys.seal(HERE, b"a").unwrap(), keys.seal(HERE, b"a").unwrap());
    }
}
