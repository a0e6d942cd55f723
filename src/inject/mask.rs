//! Hiding a credential that an origin echoes back.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use memchr::memmem::Finder;

use crate::secret::Secret;

/// Shorter values are not masked: they would turn up by chance in honest answers.
const MIN_BYTES: usize = 8;
const MASKED: &[u8] = b"[masked]";

/// The values to look for, longest first. Cheap to clone: each answer holds one.
#[derive(Clone, Default)]
pub struct Mask {
    values: Arc<Vec<(Secret, Finder<'static>)>>,
}

impl Mask {
    pub fn add(&mut self, value: &Secret) {
        let known = self.values.iter().any(|(held, _)| held.same_as(value));
        if value.expose().len() >= MIN_BYTES && !known {
            let finder = Finder::new(value.expose()).into_owned();
            let values = Arc::make_mut(&mut self.values);
            values.push((value.clone(), finder));
            values.sort_by_key(|(held, _)| std::cmp::Reverse(held.expose().len()));
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
            && self.values.iter().all(|(_, finder)| finder.find(bytes).is_none())
    }

    /// Overwrites the values where they stand: the length stays.
    pub fn cover(&self, bytes: &mut [u8]) {
        for (_, finder) in &*self.values {
            let mut from = 0;
            while let Some(at) = finder.find(&bytes[from..]) {
                let (start, end) = (from + at, from + at + finder.needle().len());
                bytes[start..end].fill(b'*');
                from = end;
            }
        }
    }

    /// How many bytes at the end of `bytes` may be the beginning of a value.
    pub fn open_end(&self, bytes: &[u8]) -> usize {
        let longest = |(_, finder): &(Secret, Finder<'static>)| {
            let needle = finder.needle();
            let most = bytes.len().min(needle.len() - 1);
            (1..=most).rev().find(|n| bytes.ends_with(&needle[..*n])).unwrap_or(0)
        };
        self.values.iter().map(longest).max().unwrap_or(0)
    }

    /// `None` when there is nothing to hide, which is nearly always.
    fn masked(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut current: Option<Vec<u8>> = None;
        for (_, finder) in &*self.values {
            let haystack = current.as_deref().unwrap_or(bytes);
            if finder.find(haystack).is_some() {
                current = Some(replaced(haystack, finder));
            }
        }
        current
    }
}

fn replaced(haystack: &[u8], finder: &Finder<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(haystack.len());
    let mut rest = haystack;
    while let Some(at) = finder.find(rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(MASKED);
        rest = &rest[at + finder.needle().len()..];
    }
    out.extend_from_slice(rest);
    out
}
