//! Random names, and secrets on their way into an envelope.

use std::str::FromStr;

use serde::Serialize;
use zeroize::Zeroizing;

use super::error::Error;
use super::store::Plain;
use crate::random;

/// `prefix` and 16 letters and digits (95 bits): ids that nobody guesses and nobody chose.
pub(super) fn id<T: FromStr>(prefix: &str) -> Result<T, Error> {
    let text = format!("{prefix}{}", text(ID_CHARS)?);
    text.parse().map_err(|_| super::row::unexpected("id"))
}

/// Letters and digits, each as likely as the others.
pub(super) fn text(chars: usize) -> Result<String, Error> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut out = String::with_capacity(chars);
    while out.len() < chars {
        let mut bytes = [0; 32];
        fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte; above it some letters would be likelier.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        out.extend(fair.take(chars - out.len()).map(|b| char::from(ALPHABET[usize::from(b % 62)])));
    }
    Ok(out)
}

/// A positive number of 62 random bits.
pub(super) fn number() -> Result<i64, Error> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok((i64::from_be_bytes(bytes) & (i64::MAX >> 1)).max(1))
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    random::fill(bytes).map_err(|_| Error::unavailable("the system gives no random bytes"))
}

/// JSON in a buffer that is wiped. Its size is found first, since a buffer that grows leaves what
/// it held behind.
pub(super) fn json<T: Serialize>(value: &T) -> Plain {
    let mut counter = Counter(0);
    let mut plain = Zeroizing::new(Vec::new());
    if serde_json::to_writer(&mut counter, value).is_ok() {
        plain.reserve_exact(counter.0);
        // Maps of text and text always become JSON, and a vector takes it.
        let _ = serde_json::to_writer(&mut *plain, value);
    }
    plain
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const ID_CHARS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AccountId;

    #[test]
    fn ids_are_letters_and_digits_behind_their_prefix() {
        let one: AccountId = id("apn_").unwrap();
        let two: AccountId = id("apn_").unwrap();
        assert_ne!(one, two);
        let rest = one.as_str().strip_prefix("apn_").unwrap();
        assert!(rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_alphanumeric()), "{one}");
    }

    #[test]
    fn json_fits_its_buffer_exactly() {
        let plain = json(&["a\"b", "é"]);
        assert_eq!(plain.as_slice(), "[\"a\\\"b\",\"é\"]".as_bytes());
        assert_eq!(plain.capacity(), plain.len());
    }
}
