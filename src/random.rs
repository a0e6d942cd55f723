//! Random values: those that nobody may guess, and those that only have to differ.

use std::hash::{BuildHasher as _, Hasher as _};

use zeroize::Zeroizing;

use crate::secret::{Secret, hex};

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandom;

/// Fills `bytes` from a cryptographic generator.
///
/// # Errors
/// When the system gives none.
pub fn fill(bytes: &mut [u8]) -> Result<(), NoRandom> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| NoRandom)
}

/// `prefix` and the hexadecimal digits of so many random bytes.
///
/// # Errors
/// When the system gives none.
pub fn token(prefix: &str, bytes: usize) -> Result<Secret, NoRandom> {
    let mut random = Zeroizing::new(vec![0; bytes]);
    fill(&mut random)?;
    Ok(Secret::from(format!("{prefix}{}", hex(&random))))
}

/// For names and seeds that should differ between processes. Nothing is secret about it: the
/// hasher's keys come from the system, but not one for every value.
pub fn bits() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// In 0..1, to spread what would otherwise happen at once.
pub fn share() -> f64 {
    (bits() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_as_long_as_asked() {
        let (one, two) = (token("cs_", 20).expect("random"), token("cs_", 20).expect("random"));
        assert!(one.expose().starts_with("cs_") && one.expose().len() == 43);
        assert!(!one.same_as(&two));
    }

    #[test]
    fn a_share_is_less_than_one() {
        assert!((0..1000).map(|_| share()).all(|share| (0.0..1.0).contains(&share)));
    }
}
