//! What a server answered, read without trusting what it says about itself. Pure.
//!
//! The content type is not looked at: servers send JSON as text/html and form-encoded answers as
//! JSON. What cannot be read is nothing, never half a token (security list T19, G12).

use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::{Map, Value};
use url::form_urlencoded;
use zeroize::Zeroize as _;

/// A whole answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// How far the server's clock is ahead, where it is more than the seconds that are usual.
    pub(super) ahead: Skew,
    pub(super) document: Document,
    /// When the request was sent.
    pub(super) sent_at: SystemTime,
}

/// The body. Wiped when dropped, because tokens are in it.
pub(super) struct Document(Value);

impl Drop for Document {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        _ => {}
    }
}

impl Document {
    /// JSON, or form-encoded pairs, or a bare text; `Null` for nothing and for pages.
    pub(super) fn read(body: &[u8]) -> Self {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        Self(match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(_) => std::str::from_utf8(body).ok().and_then(unquoted).unwrap_or_default(),
        })
    }

    pub(super) fn value(&self) -> &Value {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_null()
    }
}

fn unquoted(text: &str) -> Option<Value> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '{' | '}' | '"');
    if text.is_empty() || !text.chars().all(plain) {
        return None;
    }
    match text.contains('=') && !text.trim_end_matches('=').is_empty() && is_form(text) {
        true => {
            let pairs = form_urlencoded::parse(text.as_bytes());
            let pairs = pairs.map(|(name, value)| (name.into_owned(), value.into_owned().into()));
            Some(Value::Object(pairs.collect::<Map<_, _>>()))
        }
        false => Some(Value::from(text)),
    }
}

/// A token in base64 may end in `=`, but no name of a form is that long.
fn is_form(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// The difference of two clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Skew {
    ahead: Duration,
    behind: Duration,
}

impl Skew {
    /// Within this the two clocks are taken for equal: `Date` has whole seconds, and the answer
    /// took its time.
    const USUAL: Duration = Duration::from_secs(30);

    fn of(headers: &HeaderMap, now: SystemTime) -> Self {
        let date = headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(http_date);
        let Some(date) = date else { return Self::default() };
        let real = |found: Duration| if found > Self::USUAL { found } else { Duration::ZERO };
        let ahead = real(date.duration_since(now).unwrap_or_default());
        let behind = real(now.duration_since(date).unwrap_or_default());
        Self { ahead, behind }
    }

    /// A time of the server's clock on ours.
    pub(super) fn to_ours(self, at: SystemTime) -> Option<SystemTime> {
        at.checked_sub(self.ahead)?.checked_add(self.behind)
    }
}

impl Reply {
    pub(super) fn new(
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
        sent_at: SystemTime,
        now: SystemTime,
    ) -> Self {
        let retry_after = retry_after(headers, now);
        let (ahead, document) = (Skew::of(headers, now), Document::read(body));
        Self { status, retry_after, ahead, document, sent_at }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// RFC 9110 §10.2.3. Nobody is waited for longer than a day.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => http_date(text)?.duration_since(now).ok()?,
    };
    Some(wait.min(LONGEST))
}

fn http_date(text: &str) -> Option<SystemTime> {
    let stamp = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    stamp.parse_timestamp(text).ok().map(SystemTime::from)
}
