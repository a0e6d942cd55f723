//! Hiding a credential that an origin echoes in a body, as it streams.
//!
//! Only in text that is sent as it is: compressed bodies and everything that is not text pass
//! untouched. What is hidden keeps its length, so that framing and offsets stay true. A chunk's end
//! is held back only while it could be the beginning of a credential: events still leave at once.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::inject::Mask;

/// Echoes stand at the start of answers; what comes later is not searched.
const BOUND_BYTES: usize = 1024 * 1024;

pub struct Scrub {
    mask: Mask,
    /// The end of what came, which may be the start of a credential.
    held: BytesMut,
    left: usize,
}

impl Scrub {
    /// For an answer with this head; `None` where there is nothing to look for.
    pub fn of(mask: &Mask, headers: &HeaderMap) -> Option<Self> {
        let encoded = headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
        if mask.is_empty() || encoded || !is_text(headers) {
            return None;
        }
        Some(Self { mask: mask.clone(), held: BytesMut::new(), left: BOUND_BYTES })
    }

    /// What may leave of the body so far; empty while all of it is held back.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.left == 0 && self.held.is_empty() {
            return chunk;
        }
        self.left = self.left.saturating_sub(chunk.len());
        if self.held.is_empty() && self.mask.is_clear(&chunk) {
            return chunk;
        }
        self.held.extend_from_slice(&chunk);
        self.mask.cover(&mut self.held);
        let keep = if self.left == 0 { 0 } else { self.mask.open_end(&self.held) };
        self.held.split_to(self.held.len() - keep).freeze()
    }

    /// What was held back, when nothing comes any more.
    pub fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// What a program or person reads: an echo in an image would be no text.
fn is_text(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || matches!(
            media_type.as_str(),
            "application/json"
                | "application/xml"
                | "application/javascript"
                | "application/x-ndjson"
                | "application/problem+json"
                | "application/x-www-form-urlencoded"
        )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::secret::Secret;

    const KEY: &str = "abcabcab-secret";

    fn scrub() -> Scrub {
        let mut mask = Mask::default();
        mask.add(&Secret::from(KEY.to_owned()));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        Scrub::of(&mask, &headers).expect("text is searched")
    }

    fn through(chunks: &[&str]) -> String {
        let mut scrub = scrub();
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&scrub.push(Bytes::copy_from_slice(chunk.as_bytes())));
        }
        out.extend_from_slice(&scrub.finish());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_echo_is_covered_also_across_chunks() {
        let covered = "*".repeat(KEY.len());
        for chunks in [
            &["{\"k\":\"abcabcab-secret\"}"][..],
            &["{\"k\":\"abcabcab", "-secret\"}"],
            &["{\"k\":\"abc", "abc", "ab-", "secret\"}"],
        ] {
            assert_eq!(through(chunks), format!("{{\"k\":\"{covered}\"}}"), "{chunks:?}");
        }
        assert_eq!(through(&["abcabcabcab-secret"]), format!("abc{covered}"));
        assert_eq!(through(&["abcabcab-secre"]), "abcabcab-secre");
    }

    #[test]
    fn an_event_leaves_at_once() {
        let mut scrub = scrub();
        assert_eq!(scrub.push(Bytes::from_static(b"data: 1\n\n")), "data: 1\n\n");
        assert_eq!(scrub.push(Bytes::from_static(b"data: abc")), "data: ");
    }

    #[test]
    fn what_is_not_plain_text_is_left_alone() {
        let mut mask = Mask::default();
        mask.add(&Secret::from(KEY.to_owned()));
        for (media_type, coding) in
            [("image/png", "identity"), ("text/plain", "gzip"), ("application/grpc", "identity")]
        {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            assert!(Scrub::of(&mask, &headers).is_none(), "{media_type} {coding}");
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_result_is_the_same(
            text in "(abc|ab|-secret|abcabcab-secret|x){0,12}",
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let mut at = 0;
            let mut chunks = Vec::new();
            for cut in cuts {
                chunks.push(&text[at..cut]);
                at = cut;
            }
            let covered = through(&chunks);
            prop_assert_eq!(covered.len(), text.len());
            prop_assert_eq!(covered, text.replace(KEY, &"*".repeat(KEY.len())));
        }
    }
}
