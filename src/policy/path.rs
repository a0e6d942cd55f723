//! One path, and the ways in which it can be read.
//!
//! Servers differ in how often they decode, whether `\` is `/`, what `;` and `//` mean, and when dot
//! segments go. A path on which they cannot differ has one normal form (RFC 3986 §6.2.2: unreserved
//! characters decoded, other escapes in upper case). Any other is *odd*: an allow rule with paths
//! never fits it, and a deny rule fits it when any reading does. Pure.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;

use percent_encoding::percent_decode_str;

use super::pattern::{PathPattern, Specificity};

/// The path of one question, looked at only as far as the rules need it.
pub(super) struct Path<'a> {
    raw: &'a str,
    canonical: OnceCell<Canonical<'a>>,
    readings: OnceCell<Option<BTreeSet<String>>>,
}

pub(super) enum Canonical<'a> {
    /// Already in normal form and without an escape, as nearly all are.
    Plain(&'a str),
    Normal(String),
    Odd(Oddity),
}

/// What makes a path readable in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    NoSlash,
    EmptySegment,
    DotSegment,
    Parameter,
    Backslash,
    InvalidEscape,
    EncodedSlash,
    EncodedPercent,
    EncodedDelimiter,
    EncodedControl,
    Control,
    NotAscii,
    Lookalike,
}

/// Longer odd paths are not taken apart: a deny rule with paths is taken to fit them.
const MAX_ODD_BYTES: usize = 4096;
/// A reading that is decoded more often than this is no reading that a server has.
const MAX_DECODINGS: usize = 3;

impl<'a> Path<'a> {
    pub(super) fn new(raw: &'a str) -> Self {
        // RFC 9110 §4.2.3: an empty path is the root.
        let raw = if raw.is_empty() { "/" } else { raw };
        Self { raw, canonical: OnceCell::new(), readings: OnceCell::new() }
    }

    /// Whether an allow rule with these paths fits.
    pub(super) fn within(&self, patterns: &[PathPattern]) -> bool {
        patterns.is_empty()
            || match self.normal() {
                Some(path) => patterns.iter().any(|pattern| pattern.matches(path)),
                None => patterns.iter().any(PathPattern::is_everything),
            }
    }

    /// Whether a deny rule with these paths fits.
    pub(super) fn touches(&self, patterns: &[PathPattern]) -> bool {
        if patterns.is_empty() || patterns.iter().any(PathPattern::is_everything) {
            return true;
        }
        if let Canonical::Plain(path) = self.canonical() {
            return patterns.iter().any(|p| p.matches_folded(path));
        }
        match self.readings.get_or_init(|| readings(self.raw)) {
            Some(readings) => {
                patterns.iter().any(|p| readings.iter().any(|path| p.matches_folded(path)))
            }
            None => true,
        }
    }

    /// The most specific of the patterns that fit.
    pub(super) fn best_of(&self, patterns: &[PathPattern]) -> Option<Specificity> {
        if patterns.is_empty() {
            return None;
        }
        let path = self.normal();
        let fits = |p: &&PathPattern| p.is_everything() || path.is_some_and(|path| p.matches(path));
        patterns.iter().filter(fits).map(PathPattern::specificity).max()
    }

    pub(super) fn oddity(&self) -> Option<Oddity> {
        match self.canonical() {
            Canonical::Odd(oddity) => Some(*oddity),
            Canonical::Plain(_) | Canonical::Normal(_) => None,
        }
    }

    /// The path, if it is in normal form as it was sent, and without an escape.
    pub(super) fn plain(&self) -> Option<&'a str> {
        match self.canonical() {
            Canonical::Plain(path) => Some(path),
            Canonical::Normal(_) | Canonical::Odd(_) => None,
        }
    }

    fn normal(&self) -> Option<&str> {
        match self.canonical() {
            Canonical::Plain(path) => Some(path),
            Canonical::Normal(path) => Some(path),
            Canonical::Odd(_) => None,
        }
    }

    fn canonical(&self) -> &Canonical<'a> {
        self.canonical.get_or_init(|| canonical(self.raw))
    }
}

/// The normal form, or why there is none.
pub(super) fn canonical(path: &str) -> Canonical<'_> {
    if let Some(oddity) = structure(path) {
        return Canonical::Odd(oddity);
    }
    if !path.contains('%') {
        return Canonical::Plain(path);
    }
    let normal = match normalize(path) {
        Ok(normal) => normal,
        Err(oddity) => return Canonical::Odd(oddity),
    };
    // `/%2e%2e/` has become `/../`.
    match structure(&normal) {
        Some(oddity) => Canonical::Odd(oddity),
        None => Canonical::Normal(normal),
    }
}

/// What is odd about the bytes as they stand: one pass, no allocation.
fn structure(path: &str) -> Option<Oddity> {
    if !path.starts_with('/') {
        return Some(Oddity::NoSlash);
    }
    let mut start = 1;
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            b'/' if at == start => return Some(Oddity::EmptySegment),
            b'/' if is_dots(&bytes[start..at]) => return Some(Oddity::DotSegment),
            b'/' => start = at + 1,
            b';' => return Some(Oddity::Parameter),
            b'\\' => return Some(Oddity::Backslash),
            0..=b' ' | 0x7f => return Some(Oddity::Control),
            0x80.. => return Some(Oddity::NotAscii),
            _ => {}
        }
    }
    is_dots(&bytes[start..]).then_some(Oddity::DotSegment)
}

fn is_dots(segment: &[u8]) -> bool {
    segment == b"." || segment == b".."
}

/// Decodes unreserved characters and writes the other escapes in upper case.
fn normalize(path: &str) -> Result<String, Oddity> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        normal.push_str(before);
        let byte = escape(after.as_bytes()).ok_or(Oddity::InvalidEscape)?;
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                normal.push(char::from(byte));
            }
            b'/' | b'\\' => return Err(Oddity::EncodedSlash),
            b'%' => return Err(Oddity::EncodedPercent),
            b';' | b'?' | b'#' => return Err(Oddity::EncodedDelimiter),
            0..=0x1f | 0x7f => return Err(Oddity::EncodedControl),
            _ => {
                normal.push('%');
                normal.extend(after[..2].chars().map(|c| c.to_ascii_uppercase()));
            }
        }
        rest = &after[2..];
    }
    normal.push_str(rest);
    match percent_decode_str(&normal).decode_utf8() {
        Ok(text) if text.chars().any(|c| plain_form(c).is_some()) => Err(Oddity::Lookalike),
        Ok(_) => Ok(normal),
        Err(_) => Err(Oddity::InvalidEscape),
    }
}

fn escape(after: &[u8]) -> Option<u8> {
    let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// The ASCII character that best-fit conversions make of `c`: `．．／` is `../` to some servers.
fn plain_form(c: char) -> Option<char> {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => Some('/'),
        '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}' => Some('\\'),
        '\u{2024}' | '\u{fe52}' => Some('.'),
        _ => None,
    }
}

/// Decoded once, lower case, look-alikes replaced: how both sides of a deny rule are written.
pub(super) fn folded(text: &str) -> String {
    let plain = |c: char| plain_form(c).unwrap_or(c);
    decoded(text).chars().map(plain).flat_map(char::to_lowercase).collect()
}

/// Bytes that are no UTF-8 are read as Latin-1, an overlong `%c0%af` as the slash that it was
/// meant to be.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes: Cow<'_, [u8]> = percent_decode_str(text).into();
    match std::str::from_utf8(&bytes) {
        Ok(text) => Cow::Owned(text.to_owned()),
        Err(_) => Cow::Owned(latin_1(&bytes)),
    }
}

fn latin_1(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match (first, after.first()) {
            (0xc0 | 0xc1, Some(second @ 0x80..=0xbf)) => {
                text.push(char::from((first & 1) << 6 | (second & 0x3f)));
                rest = &after[1..];
            }
            _ => {
                text.push(char::from(*first));
                rest = after;
            }
        }
    }
    text
}

/// Every way in which a server might read `path`, lower case. `None` when it is too long to say.
fn readings(path: &str) -> Option<BTreeSet<String>> {
    if path.len() > MAX_ODD_BYTES {
        return None;
    }
    let mut found = BTreeSet::from([path.to_lowercase()]);
    let mut text = path.to_owned();
    for _ in 0..MAX_DECODINGS {
        let next = folded(&text);
        if next == text {
            break;
        }
        found.insert(next.clone());
        text = next;
    }
    for step in STEPS {
        let more: Vec<String> = found.iter().filter_map(|text| step(text)).collect();
        found.extend(more);
    }
    Some(found)
}

/// Each makes another reading of one, if it has something to change. Applied to all readings so
/// far, so that every combination is there.
const STEPS: [fn(&str) -> Option<String>; 6] =
    [slashes_turned, cut_short, without_parameters, trimmed, collapsed, without_dots];

fn slashes_turned(text: &str) -> Option<String> {
    text.contains('\\').then(|| text.replace('\\', "/"))
}

/// At a NUL (C strings), or where a decoded `?` or `#` starts a query.
fn cut_short(text: &str) -> Option<String> {
    text.find(['\0', '?', '#']).map(|end| text[..end].to_owned())
}

/// Java servers drop `;…` from every segment.
fn without_parameters(text: &str) -> Option<String> {
    let keep = |segment: &'_ str| segment.split(';').next().unwrap_or_default().to_owned();
    text.contains(';').then(|| joined(text.split('/').map(keep)))
}

/// Control characters and spaces around a segment go, as some file systems and parsers have it.
fn trimmed(text: &str) -> Option<String> {
    let blank = |c: char| c <= ' ' || c == '\u{7f}';
    text.contains(blank).then(|| joined(text.split('/').map(|s| s.trim_matches(blank).to_owned())))
}

fn collapsed(text: &str) -> Option<String> {
    text.contains("//").then(|| {
        let kept = text.split('/').filter(|segment| !segment.is_empty());
        let slash = if text.ends_with('/') { "/" } else { "" };
        format!("/{}{slash}", kept.collect::<Vec<_>>().join("/"))
    })
}

/// RFC 3986 §5.2.4.
fn without_dots(text: &str) -> Option<String> {
    if !text.split('/').any(|segment| is_dots(segment.as_bytes())) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.strip_prefix('/').unwrap_or(text).split('/') {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

fn joined(segments: impl Iterator<Item = String>) -> String {
    segments.collect::<Vec<_>>().join("/")
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "no slash at its start",
            Self::EmptySegment => "an empty segment (\"//\")",
            Self::DotSegment => "a dot segment (\".\" or \"..\")",
            Self::Parameter => "a \";\"",
            Self::Backslash => "a backslash",
            Self::InvalidEscape => "an escape that is not UTF-8 in hexadecimal",
            Self::EncodedSlash => "an encoded slash or backslash",
            Self::EncodedPercent => "an encoded percent sign",
            Self::EncodedDelimiter => "an encoded \";\", \"?\" or \"#\"",
            Self::EncodedControl => "an encoded control character",
            Self::Control => "a space or control character",
            Self::NotAscii => "a non-ASCII character that is not percent-encoded",
            Self::Lookalike => "a character that some servers take for an ASCII one",
        })
    }
}
