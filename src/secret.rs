//! Values that must never be seen: tokens, keys, passwords, and the digests that stand for them.
//!
//! Pure; nothing of ours. Anything that holds a [`Secret`] cannot be printed either, because the
//! type has no `Debug`, `Display`, `Serialize` or `PartialEq`. Search for `expose` to see every
//! place where a secret leaves its box.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A token, key or password, wiped from memory when dropped.
///
/// ```compile_fail
/// let key = countersign::secret::Secret::from("hunter2".to_owned());
/// println!("{key:?}"); // no Debug, on purpose
/// ```
///
/// ```compile_fail
/// let key = countersign::secret::Secret::from("hunter2".to_owned());
/// println!("{key}"); // no Display, on purpose
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Equality in constant time for equal lengths, for the few places that must compare.
    pub fn same_as(&self, other: &Secret) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

/// SHA-256 of a caller's token: what is stored and looked up, so that neither a stolen config nor
/// the timing of a lookup gives the token away. Tokens are random (≥ 128 bit), so no slow hash is
/// needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    pub fn matches(&self, other: &TokenDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// A digest is no secret, but it identifies a token, so only its start is shown.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}…", hex(&self.0[..4]))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = vec![0; bytes.len() * 2];
    for (pair, byte) in out.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [byte >> 4, byte & 15].map(|nibble| DIGITS[usize::from(nibble)]);
    }
    // Digits are ASCII.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_from_its_hex() {
        let digest = TokenDigest::of(b"token");
        assert_eq!(TokenDigest::from_hex(&digest.to_hex()), Some(digest));
        for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(TokenDigest::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_digest_shows_only_its_start() {
        assert_eq!(format!("{:?}", TokenDigest::of(b"")), "sha256:e3b0c442…");
    }

    #[test]
    fn secrets_compare_by_value() {
        let (a, b) = (Secret::from("a".to_owned()), Secret::from("b".to_owned()));
        assert!(a.same_as(&a.clone()) && !a.same_as(&b));
    }
}
