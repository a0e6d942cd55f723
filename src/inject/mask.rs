//! Hiding a credential that an origin echoes back, however it spells it: as it is, or with the
//! escapes of JSON (`\/`, `\u002b`) or of a URL (`%2F`), also mixed. Pure.
//!
//! No encoder touches letters and digits, so the longest run of them in a value is looked for, and
//! only where it stands the rest is compared, escapes and all. One fast search per value, whatever
//! the number of spellings.

use std::ops::Range;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use memchr::memmem::Finder;

use crate::secret::Secret;

/// Shorter values are not masked: they would turn up by chance in honest answers.
const MIN_BYTES: usize = 8;
const MASKED: &[u8] = b"[masked]";
/// `\u002f`: the longest spelling of one byte.
const LONGEST_SPELLING: usize = 6;

/// The values to look for, longest first. Cheap to clone: each answer holds one.
#[derive(Clone, Default)]
pub struct Mask {
    values: Arc<Vec<Needle>>,
}

impl Mask {
    pub fn add(&mut self, value: &Secret) {
        let known = self.values.iter().any(|needle| needle.value.same_as(value));
        if value.expose().len() >= MIN_BYTES && !known {
            let values = Arc::make_mut(&mut self.values);
            values.push(Needle::new(value));
            values.sort_by_key(|needle| std::cmp::Reverse(needle.value.expose().len()));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Replaces the values in every field of an answer's head.
    pub fn headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if let Some(masked) = self.masked(value.as_bytes()) {
                *value = HeaderValue::from_bytes(&masked)
                    .unwrap_or_else(|_| HeaderValue::from_static("[masked]"));
            }
        }
    }

    /// Whether nothing in `bytes` is one of the values, or begins one at the end.
    pub fn is_clear(&self, bytes: &[u8]) -> bool {
        self.open_end(bytes) == 0
            && self.values.iter().all(|needle| needle.find(bytes, 0).is_none())
    }

    /// Overwrites the values that begin before `until`, where they stand: the length stays.
    pub fn cover(&self, bytes: &mut [u8], until: usize) {
        for needle in &*self.values {
            let mut from = 0;
            while let Some(echo) = needle.find(bytes, from).filter(|echo| echo.start < until) {
                from = echo.end;
                bytes[echo].fill(b'*');
            }
        }
    }

    /// How many bytes at the end of `bytes` may be the beginning of a value.
    pub fn open_end(&self, bytes: &[u8]) -> usize {
        self.values.iter().map(|needle| needle.open_end(bytes)).max().unwrap_or(0)
    }

    /// `None` when there is nothing to hide, which is nearly always.
    fn masked(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut current: Option<Vec<u8>> = None;
        for needle in &*self.values {
            let haystack = current.as_deref().unwrap_or(bytes);
            if needle.find(haystack, 0).is_some() {
                current = Some(needle.replaced(haystack));
            }
        }
        current
    }
}

/// One value, and how it is found.
#[derive(Clone)]
struct Needle {
    value: Secret,
    /// The part of the value that every spelling leaves as it is.
    anchor: Finder<'static>,
    /// Where in the value that part is.
    at: usize,
}

impl Needle {
    fn new(value: &Secret) -> Self {
        let bytes = value.expose().as_bytes();
        let anchor = longest_plain_run(bytes).unwrap_or(0..bytes.len());
        let at = anchor.start;
        Self { value: value.clone(), anchor: Finder::new(&bytes[anchor]).into_owned(), at }
    }

    fn bytes(&self) -> &[u8] {
        self.value.expose().as_bytes()
    }

    /// The first echo of the value that begins at `from` or later.
    fn find(&self, bytes: &[u8], from: usize) -> Option<Range<usize>> {
        // No spelling is shorter, and most fields of a head are.
        if bytes.len() - from < self.bytes().len() {
            return None;
        }
        let mut searched = from;
        while let Some(found) = self.anchor.find(&bytes[searched..]) {
            let start = searched + found;
            let end = start + self.anchor.needle().len();
            if let Some((before, after)) = self.around(&bytes[from..start], &bytes[end..]) {
                return Some(start - before..end + after);
            }
            searched = start + 1;
        }
        None
    }

    /// The lengths of what stands for the rest of the value on both sides of its anchor.
    fn around(&self, before: &[u8], after: &[u8]) -> Option<(usize, usize)> {
        let (head, tail) = self.bytes().split_at(self.at);
        let tail = &tail[self.anchor.needle().len()..];
        // As it is: only this way a value with escapes of its own is compared right.
        if before.ends_with(head) && after.starts_with(tail) {
            return Some((head.len(), tail.len()));
        }
        let Spelled::Whole(after) = spelled(after, tail) else { return None };
        Some((spelled_before(before, head)?, after))
    }

    fn open_end(&self, bytes: &[u8]) -> usize {
        let value = self.bytes();
        let from = bytes.len().saturating_sub(value.len() * LONGEST_SPELLING - 1);
        let tail = &bytes[from..];
        let begins = |at: &usize| {
            let rest = &tail[*at..];
            let raw = rest.len() < value.len() && value.starts_with(rest);
            raw || spelled(rest, value) == Spelled::Cut
        };
        let first = memchr::memchr3_iter(value[0], b'\\', b'%', tail).find(begins);
        first.map_or(0, |at| tail.len() - at)
    }

    fn replaced(&self, haystack: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(haystack.len());
        let mut from = 0;
        while let Some(echo) = self.find(haystack, from) {
            out.extend_from_slice(&haystack[from..echo.start]);
            out.extend_from_slice(MASKED);
            from = echo.end;
        }
        out.extend_from_slice(&haystack[from..]);
        out
    }
}

fn longest_plain_run(bytes: &[u8]) -> Option<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !byte.is_ascii_alphanumeric() {
            runs.push(start..at);
            start = at + 1;
        }
    }
    runs.push(start..bytes.len());
    runs.into_iter().filter(|run| !run.is_empty()).max_by_key(Range::len)
}

/// Whether a text begins with a value in some spelling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spelled {
    /// It does, with this many bytes.
    Whole(usize),
    /// As far as the text goes.
    Cut,
    Not,
}

fn spelled(text: &[u8], value: &[u8]) -> Spelled {
    let mut at = 0;
    for byte in value {
        match spelled_byte(&text[at..], *byte) {
            Spelled::Whole(length) => at += length,
            other => return other,
        }
    }
    Spelled::Whole(at)
}

fn spelled_byte(text: &[u8], byte: u8) -> Spelled {
    let Some(first) = text.first() else { return Spelled::Cut };
    let escaped = match first {
        _ if byte.is_ascii_alphanumeric() => Spelled::Not,
        b'\\' => match begins(text, &[b'\\', byte]) {
            Spelled::Not => begins(text, &unicode(byte)),
            found => found,
        },
        b'%' => begins(text, &percent(byte)),
        _ => Spelled::Not,
    };
    match escaped {
        Spelled::Not if *first == byte || (*first == b'+' && byte == b' ') => Spelled::Whole(1),
        found => found,
    }
}

fn begins(text: &[u8], spelling: &[u8]) -> Spelled {
    let common = text.len().min(spelling.len());
    match text[..common].eq_ignore_ascii_case(&spelling[..common]) {
        false => Spelled::Not,
        true if common == spelling.len() => Spelled::Whole(common),
        true => Spelled::Cut,
    }
}

/// The length of what spells `value` at the end of `text`.
fn spelled_before(text: &[u8], value: &[u8]) -> Option<usize> {
    let mut end = text.len();
    for byte in value.iter().rev() {
        end -= spelled_byte_before(&text[..end], *byte)?;
    }
    Some(text.len() - end)
}

fn spelled_byte_before(text: &[u8], byte: u8) -> Option<usize> {
    let last = *text.last()?;
    let itself = (last == byte || (last == b'+' && byte == b' ')).then_some(1);
    if byte.is_ascii_alphanumeric() {
        return itself;
    }
    let spellings: [&[u8]; 3] = [&unicode(byte), &percent(byte), &[b'\\', byte]];
    spellings.iter().find(|spelling| ends(text, spelling)).map(|found| found.len()).or(itself)
}

fn ends(text: &[u8], spelling: &[u8]) -> bool {
    let start = text.len().checked_sub(spelling.len());
    start.is_some_and(|start| text[start..].eq_ignore_ascii_case(spelling))
}

/// RFC 8259 §7.
fn unicode(byte: u8) -> [u8; 6] {
    let [high, low] = hex(byte);
    [b'\\', b'u', b'0', b'0', high, low]
}

/// RFC 3986 §2.1.
fn percent(byte: u8) -> [u8; 3] {
    let [high, low] = hex(byte);
    [b'%', high, low]
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(values: &[&str]) -> Mask {
        let mut mask = Mask::default();
        for value in values {
            mask.add(&Secret::from((*value).to_owned()));
        }
        mask
    }

    fn covered(mask: &Mask, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask.cover(&mut bytes, text.len());
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn every_spelling_of_a_value_is_found() {
        let mask = mask(&["sk/live+0123456789abc=\"\\ %x"]);
        for echo in [
            r#"sk/live+0123456789abc="\ %x"#,
            r#"sk\/live+0123456789abc=\"\\ %x"#,
            r#"sk\/live\u002b0123456789abc\u003D\u0022\u005c\u0020%x"#,
            "sk%2Flive%2B0123456789abc%3D%22%5C%20%25x",
            "sk%2flive%2b0123456789abc%3d%22%5c+%25x",
            r#"sk/live%2B0123456789abc=\"\\ %x"#,
        ] {
            let text = format!("a {echo} b");
            assert_eq!(covered(&mask, &text), format!("a {} b", "*".repeat(echo.len())), "{echo}");
            assert!(!mask.is_clear(text.as_bytes()));
        }
    }

    #[test]
    fn what_only_resembles_a_value_stays() {
        let mask = mask(&["sk/live+0123456789abc="]);
        for text in [
            "sk/live+0123456789abd=",
            "sk-live+0123456789abc=",
            "k/live+0123456789abc=",
            "0123456789abc",
            r"sk\u0030live+0123456789abc=",
            "sk%2Elive+0123456789abc=",
            "SK/live+0123456789abc=",
        ] {
            assert_eq!(covered(&mask, text), text);
        }
    }

    #[test]
    fn a_beginning_at_the_end_is_held_in_any_spelling() {
        let mask = mask(&["k/live+0123456789abc"]);
        for (text, held) in [
            ("text ", 0),
            ("text k", 1),
            ("text k/liv", 5),
            (r"text k\", 2),
            (r"text k\/li", 5),
            (r"text k\u00", 5),
            (r"text \u006", 0),
            ("text k%2", 3),
            ("text k%2Flive%", 9),
            ("text k%2E", 0),
            (r#"{"a":"b\"#, 0),
            ("text k/live+0123456789abc", 0),
        ] {
            assert_eq!(mask.open_end(text.as_bytes()), held, "{text}");
        }
    }

    #[test]
    fn a_value_without_letters_and_a_short_one_are_no_trouble() {
        let both = mask(&["--------", "short"]);
        assert_eq!(covered(&both, "short -------- ---"), "short ******** ---");
        assert!(mask(&["short"]).is_empty());
    }

    #[test]
    fn a_value_inside_a_longer_one_does_not_save_the_rest_of_it() {
        let both = mask(&["user-token-12345", "token-12345"]);
        assert_eq!(covered(&both, "user-token-12345 token-12345"), "**************** ***********");
        let mut bytes = b"user-token-12345".to_vec();
        both.cover(&mut bytes, 0);
        assert_eq!(bytes, b"user-token-12345", "what may go on is not covered yet");
    }
}
