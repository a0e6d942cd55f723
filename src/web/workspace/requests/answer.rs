//! An answer as the page shows it. Whatever an origin sends is text here, never a page: only images
//! that are images by their first bytes are shown as such.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use serde_json::Value;

use super::fold::folded;
use super::send::{Ending, MAX_BODY_BYTES, Raw};

/// Bytes of a binary body that are shown.
const HEX_BYTES: usize = 256;

/// The origin's answer.
pub struct Answer {
    pub status: u16,
    pub reason: &'static str,
    pub badge: &'static str,
    pub headers: Vec<(String, String)>,
    pub shown: Shown,
    pub size: String,
    /// Why this is not all.
    pub partly: Option<String>,
    pub total: String,
    pub waited: Option<String>,
    /// Where it redirects to.
    pub location: Option<String>,
    /// Redirects that were followed.
    pub hops: Vec<String>,
}

pub enum Shown {
    Nothing,
    /// HTML, made of text only, and the text as it came.
    Json {
        folded: String,
        text: String,
    },
    /// A `data:` URL.
    Image(String),
    Text(String),
    /// The first bytes.
    Binary(String),
}

/// Countersign's own refusal.
pub struct Refused {
    pub status: u16,
    pub title: String,
    pub detail: String,
    pub rule: String,
    pub choices: Vec<String>,
    /// The account has to be connected anew.
    pub reconnect: bool,
    pub retry_after: Option<String>,
    pub request_id: String,
}

impl Answer {
    pub fn of(raw: &Raw) -> Self {
        let headers = raw.headers.iter().filter(|(name, _)| *name != crate::forward::SOURCE);
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let location = raw.headers.get(LOCATION).filter(|_| raw.status.is_redirection());
        Self {
            status: raw.status.as_u16(),
            reason: raw.status.canonical_reason().unwrap_or_default(),
            badge: match raw.status.as_u16() {
                200..=299 => "badge-ok",
                400..=599 => "badge-danger",
                _ => "badge-warn",
            },
            headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
            shown: Shown::of(raw),
            size: size(raw.body.len()),
            partly: match raw.ending {
                Ending::Whole => None,
                Ending::Cut => Some(format!("Only the first {} are shown.", size(MAX_BODY_BYTES))),
                Ending::Broken => Some("The answer broke off here.".to_owned()),
                Ending::Late => {
                    Some("The answer went on for more than 30 s; this came.".to_owned())
                }
            },
            total: milliseconds(raw.total),
            waited: raw.waited.map(milliseconds),
            location: location.map(text),
            hops: raw.hops.clone(),
        }
    }
}

impl Shown {
    fn of(raw: &Raw) -> Self {
        let kind = raw.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or_default().to_lowercase();
        let body = &raw.body[..];
        if body.is_empty() {
            return Self::Nothing;
        }
        if let Some(image) = image_type(body).filter(|_| raw.ending == Ending::Whole) {
            return Self::Image(format!("data:{image};base64,{}", STANDARD.encode(body)));
        }
        match text_of(body, &kind, raw.ending) {
            None => Self::Binary(hex_lines(&body[..body.len().min(HEX_BYTES)])),
            Some(text) => match folded(&text) {
                Some(folded) if folded.starts_with("<details") => Self::Json { folded, text },
                _ => Self::Text(text),
            },
        }
    }
}

/// What the body is by its first bytes, of what browsers show without running anything.
fn image_type(body: &[u8]) -> Option<&'static str> {
    match body {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

fn text_of(body: &[u8], kind: &str, ending: Ending) -> Option<String> {
    if body.contains(&0) {
        return None;
    }
    match std::str::from_utf8(body) {
        Ok(text) => Some(text.to_owned()),
        // The end may have been cut within a character.
        Err(error) if ending != Ending::Whole && body.len() - error.valid_up_to() < 4 => {
            Some(String::from_utf8_lossy(&body[..error.valid_up_to()]).into_owned())
        }
        // Latin-1 is what old text is.
        Err(_) if kind.starts_with("text/") => Some(body.iter().map(|b| char::from(*b)).collect()),
        Err(_) => None,
    }
}

fn hex_lines(bytes: &[u8]) -> String {
    let line = |(at, chunk): (usize, &[u8])| {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
        let text: String = chunk.iter().map(plain).collect();
        format!("{:04x}  {:<47}  {text}\n", at * 16, hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn milliseconds(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "under 1 ms".to_owned(),
        ms @ 1..10_000 => format!("{ms} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

impl Refused {
    pub fn of(raw: &Raw) -> Self {
        let problem: Value = serde_json::from_slice(&raw.body).unwrap_or_default();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        let choices = problem["choices"].as_array().into_iter().flatten();
        let retry_after = raw.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        Self {
            status: raw.status.as_u16(),
            title: text("title"),
            detail: text("detail"),
            rule: text("rule"),
            choices: choices.filter_map(Value::as_str).map(str::to_owned).collect(),
            reconnect: problem.get("reconnect").is_some(),
            retry_after: retry_after.map(str::to_owned),
            request_id: text("request_id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;

    fn shown(kind: &'static str, body: &[u8], ending: Ending) -> Shown {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Shown::of(&Raw {
            status: StatusCode::OK,
            headers,
            body: Bytes::copy_from_slice(body),
            ending,
            ours: false,
            total: Duration::ZERO,
            waited: None,
            hops: Vec::new(),
        })
    }

    #[test]
    fn only_images_by_their_first_bytes_are_shown_as_images() {
        let png = b"\x89PNG\r\n\x1a\nrest\x00";
        assert!(
            matches!(shown("text/html", png, Ending::Whole), Shown::Image(url) if url.starts_with("data:image/png;base64,"))
        );
        let whole = Ending::Whole;
        for (kind, body) in [
            ("image/svg+xml", &b"<svg onload=alert(1)></svg>"[..]),
            ("image/png", b"<script>alert(1)</script>"),
            ("text/html", b"<h1>Hello</h1>"),
        ] {
            assert!(matches!(shown(kind, body, whole), Shown::Text(_)), "{kind}");
        }
        assert!(matches!(shown("image/png", png, Ending::Cut), Shown::Binary(_)));
    }

    #[test]
    fn a_body_is_json_text_or_its_first_bytes() {
        let whole = Ending::Whole;
        assert!(matches!(shown("text/plain", b"{\"a\":1}", whole), Shown::Json { .. }));
        assert!(matches!(shown("application/json", b"nope", whole), Shown::Text(_)));
        assert!(matches!(shown("application/json", b"", whole), Shown::Nothing));
        assert!(
            matches!(shown("text/plain", b"caf\xe9", whole), Shown::Text(text) if text == "café")
        );
        assert!(
            matches!(shown("text/plain", b"caf\xc3", Ending::Cut), Shown::Text(text) if text == "caf")
        );
        let Shown::Binary(hex) = shown("application/zip", b"PK\x03\x04\x00", whole) else {
            panic!("it is binary")
        };
        assert_eq!(hex, format!("0000  {:<47}  PK...\n", "50 4b 03 04 00"));
    }

    #[test]
    fn sizes_and_times_are_said_in_one_unit() {
        for (bytes, said) in [(0, "0 B"), (1536, "1.5 KiB"), (1_048_576, "1.0 MiB")] {
            assert_eq!(size(bytes), said);
        }
        for (ms, said) in [(0, "under 1 ms"), (42, "42 ms"), (12_340, "12.3 s")] {
            assert_eq!(milliseconds(Duration::from_millis(ms)), said);
        }
    }
}
