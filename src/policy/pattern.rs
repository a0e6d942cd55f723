//! Patterns for hosts and paths, checked and compiled when the config is read.
//!
//! A path pattern is matched in two ways. For an allow rule it is compared byte for byte with the
//! path's normal form. For a deny rule both sides are decoded, lower-cased and without trailing
//! slashes, so that spelling does not loosen it. Pure.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use super::path::{self, Canonical};
use crate::host::Host;

/// `/api/chat.*`: `*` stands for anything within a segment, `**` for any number of segments, all
/// else for itself. A trailing `/**` also matches what stands before it.
#[derive(Clone)]
pub struct PathPattern {
    source: String,
    exact: Shape,
    folded: Shape,
    specificity: Specificity,
}

/// The more of a path a pattern spells out, the more specific it is: literal characters first, then
/// fewer `**`, then fewer `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Specificity(usize, Reverse<usize>, Reverse<usize>);

#[derive(Clone)]
enum Shape {
    Everything,
    Literal(Box<str>),
    Glob { prefix: Box<str>, segments: Box<[Segment]> },
}

#[derive(Clone)]
enum Segment {
    Literal(Box<str>),
    /// With a `*` somewhere.
    Glob(Box<str>),
    /// `*`: anything but nothing.
    One,
    /// `**`.
    Many,
}

/// Byte for byte, or letters of either case alike (then the pattern is lower case).
#[derive(Clone, Copy)]
enum Case {
    Exact,
    Folded,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    #[error("a path starts with \"/\"; write \"/**\" for every path")]
    NoSlash,
    #[error("\"**\" stands for whole segments: write \"/a/**\" or \"/a/**/b\"")]
    PartialSegment,
    #[error("it has a \"{0}\", but the query is not part of what is matched")]
    Query(char),
    #[error(
        "it has {0}, and a path that can be read in two ways is never matched by a narrower rule; \
         to deny such paths write the decoded one, which covers every spelling"
    )]
    Odd(path::Oddity),
    #[error("it is neither a host nor \"*.\" and a domain: {0}")]
    Host(crate::host::Invalid),
    #[error("\"*\" may only stand first, for any name below a domain: \"*.example.com\"")]
    Wildcard,
}

impl PathPattern {
    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// `/**`, which matches whatever the path says.
    pub fn is_everything(&self) -> bool {
        matches!(self.exact, Shape::Everything)
    }

    /// `path` is in normal form.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.exact.matches(path, Case::Exact)
    }

    /// `path` is one reading of a path, in any case.
    pub(super) fn matches_folded(&self, path: &str) -> bool {
        self.folded.matches(without_trailing_slash(path), Case::Folded)
    }

    /// What every path begins with that [`matches`](Self::matches).
    pub(super) fn prefix(&self) -> &str {
        self.exact.prefix()
    }

    /// What every reading begins with that [`matches_folded`](Self::matches_folded), once it is in
    /// lower case and without trailing slashes.
    pub(super) fn folded_prefix(&self) -> &str {
        self.folded.prefix()
    }

    pub(super) fn specificity(&self) -> Specificity {
        self.specificity
    }
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if let Some(mark) = text.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(InvalidPattern::Query(mark));
        }
        let path = if text == "**" { "/**" } else { text };
        if !path.starts_with('/') {
            return Err(InvalidPattern::NoSlash);
        }
        if path.split('/').any(|segment| segment != "**" && segment.contains("**")) {
            return Err(InvalidPattern::PartialSegment);
        }
        let normal = match path::canonical(path) {
            Canonical::Plain(path) => path.to_owned(),
            Canonical::Normal(path) => path,
            Canonical::Odd(oddity) => return Err(InvalidPattern::Odd(oddity)),
        };
        let folded = path::folded(&normal);
        Ok(Self {
            source: text.to_owned(),
            specificity: Specificity::of(&normal),
            exact: Shape::of(&normal),
            folded: Shape::of(without_trailing_slash(&folded)),
        })
    }
}

impl Specificity {
    fn of(pattern: &str) -> Self {
        let many = pattern.split('/').filter(|segment| *segment == "**").count();
        let stars = pattern.matches('*').count() - 2 * many;
        Self(pattern.len() - stars - 2 * many, Reverse(many), Reverse(stars))
    }
}

impl Shape {
    fn of(pattern: &str) -> Self {
        if pattern == "/**" {
            return Self::Everything;
        }
        let Some(star) = pattern.find('*') else { return Self::Literal(pattern.into()) };
        // `/a/**` also matches `/a`, so the slash before `**` is not part of what must be there.
        let prefix = match &pattern[star..] {
            rest if rest.starts_with("**") => &pattern[..star - 1],
            _ => &pattern[..star],
        };
        let segments = pattern[1..].split('/').map(Segment::of).collect();
        Self::Glob { prefix: prefix.into(), segments }
    }

    fn prefix(&self) -> &str {
        match self {
            Self::Everything => "",
            Self::Literal(text) => text,
            Self::Glob { prefix, .. } => prefix,
        }
    }

    fn matches(&self, path: &str, case: Case) -> bool {
        match self {
            Self::Everything => true,
            Self::Literal(text) => case.same(text.as_bytes(), path.as_bytes()),
            Self::Glob { prefix, segments } => {
                let head = path.as_bytes().get(..prefix.len());
                head.is_some_and(|head| case.same(prefix.as_bytes(), head))
                    && segments_match(segments, path, case)
            }
        }
    }
}

impl Segment {
    fn of(text: &str) -> Self {
        match text {
            "**" => Self::Many,
            "*" => Self::One,
            _ if text.contains('*') => Self::Glob(text.into()),
            _ => Self::Literal(text.into()),
        }
    }

    fn matches(&self, segment: &str, case: Case) -> bool {
        match self {
            Self::Literal(text) => case.same(text.as_bytes(), segment.as_bytes()),
            Self::Glob(glob) => glob_matches(glob.as_bytes(), segment.as_bytes(), case),
            Self::One => !segment.is_empty(),
            Self::Many => true,
        }
    }
}

impl Case {
    fn same(self, pattern: &[u8], text: &[u8]) -> bool {
        match self {
            Self::Exact => pattern == text,
            Self::Folded => pattern.eq_ignore_ascii_case(text),
        }
    }
}

/// Walks both once, and goes back to the last `**` only: quadratic at worst, however many there are.
fn segments_match(pattern: &[Segment], path: &str, case: Case) -> bool {
    let mut rest = path.strip_prefix('/');
    let mut at = 0;
    let mut last_many: Option<(usize, Option<&str>)> = None;
    loop {
        match (pattern.get(at), rest) {
            (None, None) => return true,
            (Some(Segment::Many), _) => {
                at += 1;
                last_many = Some((at, rest));
                continue;
            }
            (Some(segment), Some(text)) => {
                let (head, tail) = split_segment(text);
                if segment.matches(head, case) {
                    (at, rest) = (at + 1, tail);
                    continue;
                }
            }
            (None, Some(_)) | (Some(_), None) => {}
        }
        let Some((after, Some(text))) = last_many else { return false };
        let (_, tail) = split_segment(text);
        last_many = Some((after, tail));
        (at, rest) = (after, tail);
    }
}

fn split_segment(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((head, tail)) => (head, Some(tail)),
        None => (text, None),
    }
}

/// The same walk over bytes, with `*`.
fn glob_matches(glob: &[u8], text: &[u8], case: Case) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                g += 1;
                last_star = Some((g, t));
            }
            Some(byte) if case.same(&[*byte], &text[t..=t]) => (g, t) = (g + 1, t + 1),
            _ => {
                let Some((after, from)) = last_star else { return false };
                last_star = Some((after, from + 1));
                (g, t) = (after, from + 1);
            }
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

/// `/a/` and `/a` are one resource to most servers. The root keeps its slash.
pub(super) fn without_trailing_slash(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if !path.is_empty() => "/",
        trimmed => trimmed,
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

/// The source says it all.
impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for PathPattern {}

/// One host, or `*.example.com` for every name below it, however deep, and not itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    Exact(Host),
    Below(Host),
}

impl HostPattern {
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Exact(own) => own == host,
            Self::Below(domain) => {
                let rest = host.as_str().strip_suffix(domain.as_str());
                host.ip().is_none() && rest.is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let domain = text.strip_prefix("*.");
        let name = domain.unwrap_or(text);
        if name.contains('*') {
            return Err(InvalidPattern::Wildcard);
        }
        let host = Host::from_unicode(name).map_err(InvalidPattern::Host)?;
        match domain {
            Some(_) if host.ip().is_some() => Err(InvalidPattern::Wildcard),
            Some(_) => Ok(Self::Below(host)),
            None => Ok(Self::Exact(host)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "{host}"),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> PathPattern {
        text.parse().expect(text)
    }

    #[test]
    fn stars_stay_in_their_segment_and_double_stars_do_not() {
        for (pattern, path_text, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "/A", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*/c", "/a/b/c", true),
            ("/api/chat.*", "/api/chat.postMessage", true),
            ("/api/chat.*", "/api/chat.", true),
            ("/api/chat.*", "/api/chats.x", false),
            ("/*.json", "/a.json", true),
            ("/a*b*c", "/aXXbYYbc", true),
            ("/a*b*c", "/aXXbYYb", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/**/b", "/b", true),
            ("/**/b", "/x/y/b", true),
            ("/**/b", "/x/y/bb", false),
            ("/a/**/b/**/c", "/a/b/x/c", true),
            ("/a/**/b/**/c", "/a/x/b/c/d/c", true),
            ("/a/**/b/**/c", "/a/x/c", false),
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "*", true),
            ("**", "/x", true),
            ("/caf%c3%a9", "/caf%C3%A9", true),
            ("/%61", "/a", true),
        ] {
            assert_eq!(path(pattern).matches(path_text), expected, "{pattern} {path_text}");
        }
    }

    #[test]
    fn a_deny_pattern_is_blind_to_case_and_a_trailing_slash() {
        for (pattern, path_text, expected) in [
            ("/Admin", "/aDMIN/", true),
            ("/admin/", "/admin", true),
            ("/a/**", "/A/B", true),
            ("/a/*", "/a", false),
            ("/x%20y", "/X Y", true),
            ("/", "/", true),
            ("/adm", "/admin", false),
        ] {
            assert_eq!(path(pattern).matches_folded(path_text), expected, "{pattern} {path_text}");
        }
    }

    #[test]
    fn what_cannot_be_a_pattern_says_why() {
        for (text, part) in [
            ("a", "starts with"),
            ("", "starts with"),
            ("/a**", "whole segments"),
            ("/a?b", "query"),
            ("/a#b", "query"),
            ("/a//b", "empty segment"),
            ("/a/../b", "dot segment"),
            ("/a%2fb", "encoded slash"),
            ("/a%zz", "escape"),
            ("/é", "non-ASCII"),
            ("/a;b", "\";\""),
        ] {
            let error = text.parse::<PathPattern>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_pattern_that_spells_out_more_is_more_specific() {
        for (more, less) in [
            ("/a/b", "/a/*"),
            ("/a/*", "/a/**"),
            ("/a/b/**", "/a/**"),
            ("/a", "/**"),
            ("/a/x*", "/a/*"),
        ] {
            assert!(path(more).specificity() > path(less).specificity(), "{more} {less}");
        }
    }

    #[test]
    fn a_host_pattern_is_one_host_or_all_below_a_domain() {
        for (pattern, host, expected) in [
            ("api.acme.test", "API.acme.test.", true),
            ("api.acme.test", "x.api.acme.test", false),
            ("*.acme.test", "a.b.acme.test", true),
            ("*.acme.test", "acme.test", false),
            ("*.acme.test", "evilacme.test", false),
            ("bücher.example", "xn--bcher-kva.example", true),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            let host = host.parse().expect(host);
            let found = pattern.parse::<HostPattern>().expect(pattern).matches(&host);
            assert_eq!(found, expected, "{pattern} {host}");
        }
        for text in ["", "*", "a.*.test", "*.127.0.0.1", "a/b", "*."] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
