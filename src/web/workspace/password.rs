//! Passwords: argon2id with the parameters of OWASP's list (19 MiB, two passes, one lane), away
//! from the threads that serve requests, and few at a time.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version,
};
use tokio::sync::Semaphore;

use crate::random;
use crate::secret::Secret;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
/// Each takes 19 MiB and a core for some hundredths of a second.
const AT_ONCE: usize = 2;
const PATIENCE: Duration = Duration::from_secs(10);

pub const MIN_CHARS: usize = 10;
/// What a slow hash may be made to read.
const MAX_BYTES: usize = 1024;

/// Why a password cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(
        "Take at least {MIN_CHARS} characters; a few words that only you would put together are good."
    )]
    Short,
    #[error("That is more than {MAX_BYTES} bytes.")]
    Long,
    #[error("Take something that is not your e-mail address.")]
    Guessable,
}

/// Too many want a password checked at the same time, or the system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("The server is busy; try again in a moment.")]
pub struct Busy;

pub struct Hasher {
    places: Arc<Semaphore>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Hasher {
    /// The PHC text of a new hash.
    ///
    /// # Errors
    /// `Busy`.
    pub async fn hash(&self, password: &Secret) -> Result<String, Busy> {
        let mut salt = [0; SALT_BYTES];
        random::fill(&mut salt).map_err(|_| Busy)?;
        let password = password.clone();
        self.away(move || hash_with(&password, &salt)).await?.ok_or(Busy)
    }

    /// Whether the password is the one of `hash`. Without a hash, as for an address that nobody
    /// has, it takes as long and says no.
    ///
    /// # Errors
    /// `Busy`.
    pub async fn matches(&self, hash: Option<String>, password: &Secret) -> Result<bool, Busy> {
        let password = password.clone();
        self.away(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.clone());
            let fits = PasswordHash::new(&hash).is_ok_and(|hash| {
                argon2().verify_password(password.expose().as_bytes(), &hash).is_ok()
            });
            known && fits
        })
        .await
    }

    async fn away<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let waiting = tokio::time::timeout(PATIENCE, self.places.clone().acquire_owned());
        let place = waiting.await.map_err(|_| Busy)?.map_err(|_| Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        done.await.map_err(|_| Busy)
    }
}

/// # Errors
/// Why it is not good enough.
pub fn check(password: &Secret, email: &str) -> Result<(), Unfit> {
    let text = password.expose();
    match () {
        () if text.chars().count() < MIN_CHARS => Err(Unfit::Short),
        () if text.len() > MAX_BYTES => Err(Unfit::Long),
        () if text.eq_ignore_ascii_case(email) => Err(Unfit::Guessable),
        () => Ok(()),
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash_with(password: &Secret, salt: &[u8]) -> Option<String> {
    let hash = argon2().hash_password_with_salt(password.expose().as_bytes(), salt).ok()?;
    Some(hash.to_string())
}

/// What the password of an unknown address is compared with.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let salt = [7; SALT_BYTES];
    hash_with(&Secret::from("nobody".to_owned()), &salt).unwrap_or_default()
});

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_password_matches_and_nobodys_never_does() {
        let hasher = Hasher::default();
        let hash = hasher.hash(&secret("correct horse")).await.expect("a place");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        for (known, password, expected) in [
            (Some(hash.clone()), "correct horse", true),
            (Some(hash), "correct hors", false),
            (None, "nobody", false),
            (Some("not a hash".to_owned()), "correct horse", false),
        ] {
            let matched = hasher.matches(known, &secret(password)).await.expect("a place");
            assert_eq!(matched, expected, "{password}");
        }
    }

    #[test]
    fn a_password_must_be_long_and_not_the_address() {
        for (text, expected) in [
            ("short", Err(Unfit::Short)),
            ("ann@acme.test", Err(Unfit::Guessable)),
            ("long enough, this", Ok(())),
        ] {
            assert_eq!(check(&secret(text), "Ann@acme.test"), expected, "{text}");
        }
        assert_eq!(check(&secret(&"x".repeat(1025)), ""), Err(Unfit::Long));
    }
}
