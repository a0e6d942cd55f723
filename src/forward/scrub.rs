//! Hiding a credential that an origin echoes in a body, as it streams.
//!
//! Only in text: an echo in an image would be none that a program reads. What is hidden keeps its
//! length, so that framing and offsets stay true. A chunk's end is held back only while it could be
//! the beginning of a credential: events still leave at once. A compressed text is sent on without
//! its coding, because nothing can be covered inside of it; a coding that is not understood and a
//! part of a compressed body pass as they are.

use std::io;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue,
};
use http::response::Parts;
use http::{HeaderMap, StatusCode};

use super::decode::{Coding, Decoder};
use crate::inject::Mask;

pub struct Scrub {
    mask: Mask,
    source: Source,
    /// The end of what came, which may be the start of a credential.
    held: BytesMut,
}

enum Source {
    /// What came last.
    Plain(Bytes),
    Coded(Decoder),
}

impl Scrub {
    /// For an answer with this head; `None` where there is nothing to look for. A head whose body
    /// will be decoded says so afterwards. `empty`: no body comes, as after HEAD.
    pub fn of(mask: &Mask, head: &mut Parts, empty: bool) -> Option<Self> {
        if mask.is_empty() || !is_text(&head.headers) {
            return None;
        }
        let codings = Coding::of(&head.headers)?;
        let source = if codings.is_empty() {
            Source::Plain(Bytes::new())
        } else if is_part(head) || head.status == StatusCode::NOT_MODIFIED {
            return None;
        } else {
            decode_head(&mut head.headers);
            Source::Coded(Decoder::new(&codings))
        };
        (!empty).then(|| Self { mask: mask.clone(), source, held: BytesMut::new() })
    }

    /// The same where a coding stays as it is. What S3 sends comes with a checksum of its bytes; and
    /// what was sent there is no secret, but a signature that holds for that request alone.
    pub fn of_signed(mask: &Mask, head: &mut Parts, empty: bool) -> Option<Self> {
        let is_plain = Coding::of(&head.headers).is_some_and(|codings| codings.is_empty());
        if is_plain { Self::of(mask, head, empty) } else { None }
    }

    /// Gives it what came; only once all that came before has been pulled.
    pub fn push(&mut self, chunk: Bytes) {
        match &mut self.source {
            Source::Plain(came) => *came = chunk,
            Source::Coded(decoder) => decoder.push(chunk),
        }
    }

    /// The next piece that may leave; empty when more has to come first.
    ///
    /// # Errors
    /// When the body is not in the coding that its head announced.
    pub fn pull(&mut self) -> io::Result<Bytes> {
        loop {
            let piece = match &mut self.source {
                Source::Plain(came) => std::mem::take(came),
                Source::Coded(decoder) => decoder.pull()?,
            };
            if piece.is_empty() {
                return Ok(piece);
            }
            let out = self.covered(piece);
            if !out.is_empty() {
                return Ok(out);
            }
        }
    }

    /// What was held back, when nothing comes any more.
    ///
    /// # Errors
    /// When the body broke off inside its coding.
    pub fn finish(&mut self) -> io::Result<Bytes> {
        if let Source::Coded(decoder) = &self.source {
            decoder.finish()?;
        }
        let all = self.held.len();
        self.mask.cover(&mut self.held, all);
        Ok(self.held.split().freeze())
    }

    /// How much longer than the rest of the origin's body the rest of this one is; `None` where
    /// they have nothing to do with each other.
    pub fn surplus(&self) -> Option<usize> {
        match &self.source {
            Source::Plain(came) => Some(came.len() + self.held.len()),
            Source::Coded(_) => None,
        }
    }

    fn covered(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() && self.mask.is_clear(&piece) {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        let leaves = self.held.len() - self.mask.open_end(&self.held);
        self.mask.cover(&mut self.held, leaves);
        self.held.split_to(leaves).freeze()
    }
}

/// A part of a compressed body cannot be decoded without what comes before it.
fn is_part(head: &Parts) -> bool {
    head.status == StatusCode::PARTIAL_CONTENT || head.headers.contains_key(CONTENT_RANGE)
}

/// What was said of the coded bytes is not true of the text (RFC 9110 §7.7, §8.8.1, RFC 9530).
fn decode_head(headers: &mut HeaderMap) {
    static OF_THE_BYTES: [HeaderName; 7] = [
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        ACCEPT_RANGES,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
    ];
    for name in &OF_THE_BYTES {
        headers.remove(name);
    }
    let Some(tag) = headers.get_mut(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else {
        return;
    };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        *tag = weak;
    }
}

/// What a program or person reads.
fn is_text(headers: &HeaderMap) -> bool {
    const TEXTS: [&[u8]; 14] = [
        b"application/json",
        b"application/xml",
        b"application/javascript",
        b"application/ecmascript",
        b"application/graphql",
        b"application/jsonl",
        b"application/jsonlines",
        b"application/ndjson",
        b"application/x-ndjson",
        b"application/json-seq",
        b"application/toml",
        b"application/yaml",
        b"application/x-yaml",
        b"application/x-www-form-urlencoded",
    ];
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let media_type = media_type.trim_ascii();
    let ends = |suffix: &[u8]| {
        let start = media_type.len().checked_sub(suffix.len());
        start.is_some_and(|start| media_type[start..].eq_ignore_ascii_case(suffix))
    };
    TEXTS.iter().any(|text| media_type.eq_ignore_ascii_case(text))
        || media_type.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/"))
        || ends(b"+json")
        || ends(b"+xml")
}

#[cfg(test)]
mod tests {
    use http::Response;
    use proptest::prelude::*;

    use super::*;
    use crate::secret::Secret;

    const KEY: &str = "abcabcab-secret";

    fn mask() -> Mask {
        let mut mask = Mask::default();
        mask.add(&Secret::from(KEY.to_owned()));
        mask
    }

    fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Parts {
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = StatusCode::from_u16(status).expect("a status");
        for (name, value) in fields {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        head
    }

    fn scrub() -> Scrub {
        let mut head = head(200, &[("content-type", "application/json; charset=utf-8")]);
        Scrub::of(&mask(), &mut head, false).expect("text is searched")
    }

    fn push(scrub: &mut Scrub, chunk: &str) -> Bytes {
        scrub.push(Bytes::copy_from_slice(chunk.as_bytes()));
        let out = scrub.pull().expect("plain text");
        assert!(scrub.pull().expect("plain text").is_empty());
        out
    }

    fn through(chunks: &[&str]) -> String {
        let mut scrub = scrub();
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&push(&mut scrub, chunk));
        }
        out.extend_from_slice(&scrub.finish().expect("plain text"));
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
        assert_eq!(through(&["abcabcab\\u00", "2dsecret!"]), format!("{}!", "*".repeat(20)));
    }

    #[test]
    fn an_event_leaves_at_once() {
        let mut scrub = scrub();
        assert_eq!(push(&mut scrub, "data: 1\n\n"), "data: 1\n\n");
        assert_eq!(push(&mut scrub, "data: abc"), "data: ");
    }

    #[test]
    fn what_is_no_text_or_cannot_be_decoded_is_left_alone() {
        for (status, media_type, coding) in [
            (200, "image/png", "identity"),
            (200, "image/png", "gzip"),
            (200, "application/grpc", "identity"),
            (200, "application/grpc+proto", "gzip"),
            (200, "", "identity"),
            (200, "text/plain", "compress"),
            (206, "text/plain", "gzip"),
            (304, "text/plain", "gzip"),
        ] {
            let fields = [("content-type", media_type), ("content-encoding", coding)];
            let mut head = head(status, &[&fields[..], &[("etag", "\"a\"")]].concat());
            assert!(Scrub::of(&mask(), &mut head, false).is_none(), "{media_type} {coding}");
            assert_eq!(
                (head.headers.len(), &head.headers[ETAG]),
                (3, &"\"a\"".parse().expect("a tag"))
            );
        }
    }

    #[test]
    fn the_answer_to_a_signed_request_keeps_its_coding() {
        for (coding, searched) in [("gzip", false), ("identity", true), ("compress", false)] {
            let fields = [("content-type", "text/plain"), ("content-encoding", coding)];
            let mut head = head(200, &fields);
            assert_eq!(Scrub::of_signed(&mask(), &mut head, false).is_some(), searched, "{coding}");
            assert_eq!(head.headers[CONTENT_ENCODING], coding);
        }
    }

    #[test]
    fn all_kinds_of_text_are_searched_whatever_their_case() {
        for media_type in
            ["text/html", "Application/JSON; charset=x", "application/problem+JSON", "a/b+xml"]
        {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            assert!(is_text(&headers), "{media_type}");
        }
        for status in [200, 206] {
            let mut head = head(status, &[("content-type", "text/plain"), ("etag", "\"a\"")]);
            assert!(Scrub::of(&mask(), &mut head, false).is_some());
            assert_eq!(head.headers[ETAG], "\"a\"", "what is not decoded keeps its head");
        }
    }

    #[test]
    fn the_head_of_a_decoded_answer_speaks_of_the_text() {
        let fields = [
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("content-length", "30"),
            ("accept-ranges", "bytes"),
            ("etag", "\"a\""),
            ("digest", "x"),
            ("content-md5", "x"),
            ("repr-digest", "x"),
            ("content-digest", "x"),
            ("vary", "accept-encoding"),
        ];
        for empty in [false, true] {
            let mut head = head(200, &fields);
            assert_eq!(Scrub::of(&mask(), &mut head, empty).is_none(), empty);
            let mut left: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
            left.sort_unstable();
            assert_eq!(left, ["content-type", "etag", "vary"]);
            assert_eq!(head.headers[ETAG], "W/\"a\"");
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_result_is_the_same(
            text in "(abc|ab|-secret|abcabcab-secret|abcabcab%2Dsecret|%2|x){0,12}",
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
            let encoded = KEY.replace('-', "%2D");
            let expected = text.replace(&encoded, &"*".repeat(encoded.len()));
            prop_assert_eq!(covered, expected.replace(KEY, &"*".repeat(KEY.len())));
        }
    }
}
