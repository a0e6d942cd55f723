//! Fields of one line, as JSON or for people, without allocating.
//!
//! Peers choose hosts, paths and error texts. Whatever they send, an event is one line and cannot
//! move the cursor of a terminal or reverse the reading direction: control characters, line and
//! paragraph separators and bidirectional overrides are written as `\uXXXX` in both styles
//! (CVE-2024-45808, CVE-2021-42574).

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::Style;
use crate::clock::{rfc3339, unix_ms};
use crate::ids::RequestId;

/// Appends `,"key":value` or ` key=value`. Its small functions are inlined because keys are
/// constants: copying one is then a store or two and not a call, a fifth of a line's cost.
pub(super) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    style: Style,
}

impl<'a> Fields<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, style: Style) -> Self {
        Self { out, style }
    }

    /// `value` has nothing to escape: one of our own constants, or a name that was checked.
    #[inline(always)]
    pub(super) fn name(&mut self, key: &str, value: &str) {
        self.quoted(key, value.as_bytes());
    }

    #[inline]
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.bounded(key, value, MAX_TEXT);
    }

    /// A path without its query, which may hold anything.
    pub(super) fn path(&mut self, key: &str, value: &str) {
        let end = memchr::memchr2(b'?', b'#', value.as_bytes()).unwrap_or(value.len());
        self.bounded(key, &value[..end], MAX_PATH);
    }

    /// As it prints itself, without the cost of `core::fmt`.
    pub(super) fn id(&mut self, key: &str, value: RequestId) {
        let digits: [u8; 16] = std::array::from_fn(|at| {
            let nibble = value.bits() >> (60 - 4 * at) & 15;
            b"0123456789abcdef"[nibble as usize]
        });
        self.quoted(key, &digits);
    }

    /// As it prints itself; the common kind without the cost of `core::fmt`.
    pub(super) fn address(&mut self, key: &str, value: IpAddr) {
        let IpAddr::V4(v4) = value else { return self.display(key, value) };
        let [a, b, c, d] = v4.octets().map(u64::from);
        self.filled(key, |out| {
            decimal(out, a);
            for octet in [b, c, d] {
                out.push(b'.');
                decimal(out, octet);
            }
        });
    }

    #[inline(always)]
    fn quoted(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        match self.style {
            Style::Json => put(self.out, &[b"\"", value, b"\""]),
            Style::Text => self.out.extend_from_slice(value),
        }
    }

    #[inline]
    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        decimal(self.out, value);
    }

    pub(super) fn integer(&mut self, key: &str, value: i64) {
        self.key(key);
        if value < 0 {
            self.out.push(b'-');
        }
        decimal(self.out, value.unsigned_abs());
    }

    /// Milliseconds with three decimals.
    pub(super) fn millis(&mut self, key: &str, value: Duration) {
        self.key(key);
        let micros = value.subsec_micros();
        let whole = u64::from(micros / 1000);
        decimal(self.out, value.as_secs().saturating_mul(1000).saturating_add(whole));
        let rest = u16::try_from(micros % 1000).unwrap_or_default();
        self.out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }

    /// `value` prints nothing that needs escaping: an address, a number.
    pub(super) fn display(&mut self, key: &str, value: impl fmt::Display) {
        self.filled(key, |out| {
            let _ = write!(Utf8(out), "{value}");
        });
    }

    fn filled(&mut self, key: &str, fill: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        let quote: &[u8] = if self.style == Style::Json { b"\"" } else { b"" };
        self.out.extend_from_slice(quote);
        fill(self.out);
        self.out.extend_from_slice(quote);
    }

    /// Whatever `value` prints, escaped.
    pub(super) fn printed(&mut self, key: &str, value: fmt::Arguments<'_>) {
        match value.as_str() {
            Some(text) => self.text(key, text),
            None => self.text(key, &value.to_string()),
        }
    }

    pub(super) fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    #[inline]
    pub(super) fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    #[inline]
    pub(super) fn optional_name(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.name(key, value);
        }
    }

    fn bounded(&mut self, key: &str, value: &str, max_bytes: usize) {
        self.key(key);
        let shown = &value[..value.floor_char_boundary(max_bytes)];
        let bare = self.style == Style::Text && !shown.is_empty() && shown.bytes().all(is_bare);
        if !bare {
            self.out.push(b'"');
        }
        escape(self.out, shown);
        if shown.len() < value.len() {
            self.out.extend_from_slice("…".as_bytes());
        }
        if !bare {
            self.out.push(b'"');
        }
    }

    #[inline(always)]
    fn key(&mut self, key: &str) {
        match self.style {
            Style::Json => put(self.out, &[b",\"", key.as_bytes(), b"\":"]),
            Style::Text => put(self.out, &[b" ", key.as_bytes(), b"="]),
        }
    }
}

/// `text` with everything escaped that could end a line, steer a terminal or mislead a reader, for
/// output that is not JSON.
pub(crate) fn plain(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// Escapes as JSON strings are (RFC 8259 §7), and more.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    // Nearly every text is clean. Looked at without a branch per byte, so that it goes by vectors.
    let looks = text.bytes().fold(false, |looks, byte| looks | needs_a_look(byte));
    if !looks {
        return out.extend_from_slice(text.as_bytes());
    }
    while let Some(at) = rest.bytes().position(needs_a_look) {
        let (clean, tail) = rest.split_at(at);
        out.extend_from_slice(clean.as_bytes());
        let Some(char) = tail.chars().next() else { return };
        escape_char(out, char);
        rest = &tail[char.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Whether a byte may be of a character to escape.
const fn needs_a_look(byte: u8) -> bool {
    byte < 0x20 || byte >= 0x7f || byte == b'"' || byte == b'\\'
}

fn escape_char(out: &mut Vec<u8>, char: char) {
    match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        char if misleads(char) => {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(Utf8(out), "\\u{unit:04x}");
            }
        }
        char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Control characters, separators that some readers take for the end of a line, and characters that
/// are invisible or change the direction of what follows.
fn misleads(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/:@%+,*[]()!$&';".contains(&byte)
}

pub(super) fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

pub(super) fn decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn digit(value: u16) -> u8 {
    b"0123456789"[usize::from(value % 10)]
}

/// Lets `write!` append to bytes.
struct Utf8<'a>(&'a mut Vec<u8>);

impl fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// `2026-01-02T03:04:05.678Z`.
pub(super) type Stamp = [u8; 24];

/// [`rfc3339`], but the calendar is asked once per second and thread only.
pub(super) fn stamp(at: SystemTime) -> Stamp {
    thread_local! {
        static LAST: Cell<(u64, Stamp)> = const { Cell::new((u64::MAX, *b"1970-01-01T00:00:00.000Z")) };
    }
    let ms = unix_ms(at);
    let (second, mut stamp) = LAST.get();
    if second != ms / 1000 {
        stamp = rfc3339(at).as_bytes().try_into().unwrap_or(stamp);
        LAST.set((ms / 1000, stamp));
    }
    let rest = u16::try_from(ms % 1000).unwrap_or_default();
    stamp[20..23].copy_from_slice(&[rest / 100, rest / 10 % 10, rest % 10].map(digit));
    stamp
}

/// Lends this thread's buffer, empty. A nested call gets a new one.
pub(super) fn with_buffer<T>(fill: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take();
    buffer.clear();
    let answer = fill(&mut buffer);
    BUFFER.set(buffer);
    answer
}

const MAX_TEXT: usize = 1024;
const MAX_PATH: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    fn json_of(value: &str) -> String {
        let mut out = b"{\"a\":1".to_vec();
        Fields::new(&mut out, Style::Json).text("k", value);
        out.push(b'}');
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_could_mislead_a_reader_is_escaped() {
        for (text, escaped) in [
            ("a\r\nb", "a\\r\\nb"),
            ("\u{1b}[31m", "\\u001b[31m"),
            ("\0", "\\u0000"),
            ("\u{7f}\u{85}\u{9b}", "\\u007f\\u0085\\u009b"),
            ("\u{2028}\u{202e}\u{2066}", "\\u2028\\u202e\\u2066"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("é \"q\" \\", "é \\\"q\\\" \\\\"),
        ] {
            assert_eq!(plain(text), escaped);
        }
    }

    #[test]
    fn a_query_is_cut_off_and_a_long_path_shortened() {
        let mut out = Vec::new();
        Fields::new(&mut out, Style::Text).path("path", "/a?token=x");
        Fields::new(&mut out, Style::Text).path("path", "/b#token=x");
        assert_eq!(out, b" path=/a path=/b");
        out.clear();
        Fields::new(&mut out, Style::Json).path("path", &"é".repeat(5000));
        assert!(out.len() < 2100 && out.ends_with("…\"".as_bytes()));
    }

    #[test]
    fn text_is_quoted_only_when_it_must_be() {
        for (value, shown) in
            [("/a", " k=/a"), ("", " k=\"\""), ("a b", " k=\"a b\""), ("a=b", " k=\"a=b\"")]
        {
            let mut out = Vec::new();
            Fields::new(&mut out, Style::Text).text("k", value);
            assert_eq!(out, shown.as_bytes());
        }
    }

    #[test]
    fn ids_and_addresses_are_written_as_they_print_themselves() {
        for (seed, address) in [(0, "0.0.0.0"), (7, "192.0.2.10"), (u64::MAX, "2001:db8::1")] {
            let (id, address) = (RequestId::of(seed, 3), address.parse().expect("an address"));
            let mut out = Vec::new();
            Fields::new(&mut out, Style::Text).id("i", id);
            Fields::new(&mut out, Style::Text).address("a", address);
            assert_eq!(String::from_utf8(out).expect("UTF-8"), format!(" i={id} a={address}"));
        }
    }

    #[test]
    fn durations_are_milliseconds_with_microseconds() {
        let mut out = Vec::new();
        Fields::new(&mut out, Style::Json).millis("d", Duration::from_micros(12_045));
        assert_eq!(out, b",\"d\":12.045");
    }

    #[test]
    fn a_stamp_is_what_the_calendar_says_across_seconds() {
        for ms in [0, 1, 999, 1000, 1_767_225_599_999, 1_767_225_600_000, 5] {
            let at = UNIX_EPOCH + Duration::from_millis(ms);
            assert_eq!(&stamp(at), rfc3339(at).as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_the_json_and_is_one_line(text in "\\PC{0,20}|.{0,20}|[\\x00-\\x20]{0,9}") {
            let line = json_of(&text);
            prop_assert!(!line.chars().any(|char| char.is_control()));
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            prop_assert_eq!(value["k"].as_str(), Some(&*text));
        }

        #[test]
        fn numbers_are_plain_decimals(value: u64) {
            let mut out = Vec::new();
            decimal(&mut out, value);
            prop_assert_eq!(out, value.to_string().into_bytes());
        }
    }
}
