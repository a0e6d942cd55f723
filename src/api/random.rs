//! Tokens that nobody guesses.

use zeroize::Zeroizing;

use super::failure::Failure;
use crate::secret::{Secret, hex};

/// `prefix` and the hexadecimal digits of so many random bytes.
pub fn random(prefix: &str, bytes: usize) -> Result<Secret, Failure> {
    let mut random = Zeroizing::new(vec![0; bytes]);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut random).map_err(|_| {
        tracing::error!("the system gives no random bytes");
        Failure::Internal
    })?;
    Ok(Secret::from(format!("{prefix}{}", hex(&random))))
}
