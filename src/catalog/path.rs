//! Paths as a server might read them, for the question of which prefix a request is under.
//!
//! A prefix decides who gets a credential, so a path that two servers read differently
//! (`/api/%2e%2e/`, `/api/..;/`, `/api//`) is under no prefix at all. Case counts.
//! Sources: RFC 3986 §5.2.4 (dot segments), §6.2.2; Tomcat's `;` path parameters; IIS' `\`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Whether servers may disagree about what `path` (no query) names.
pub fn is_odd(path: &str) -> bool {
    // Most paths have none of these bytes; they are answered without looking at segments.
    let suspicious = |pair: &[u8]| {
        matches!(pair[0], b'%' | b'\\' | b';' | b'#' | b'?' | 0..=0x20 | 0x7f..)
            || matches!(pair, [b'/', b'/' | b'.'])
    };
    let bytes = path.as_bytes();
    if !path.starts_with('/') {
        return true;
    }
    let ends_badly = bytes.last().is_some_and(|b| suspicious(&[*b, 0]));
    if !ends_badly && !bytes.windows(2).any(suspicious) {
        return false;
    }
    let segments = path[1..].split('/');
    let last = segments.clone().count() - 1;
    segments.enumerate().any(|(at, segment)| is_odd_segment(segment, at == last))
}

fn is_odd_segment(segment: &str, is_last: bool) -> bool {
    let Some(plain) = decoded(segment) else { return true };
    let stem = plain.split(';').next().unwrap_or_default();
    let strange = |c: char| matches!(c, '/' | '\\' | '#' | '?') || c.is_control();
    stem == "." || stem == ".." || plain.contains(strange) || (stem.is_empty() && !is_last)
        // `/api/;x` is `/api/` to Tomcat and a file to others.
        || (stem.is_empty() && !plain.is_empty())
}

/// Decoded until nothing changes, because some servers decode twice. `None` when it is no UTF-8 or
/// goes on for longer than any honest client's path.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    let mut text = Cow::Borrowed(segment);
    for _ in 0..3 {
        let Cow::Owned(next) = percent_decode_str(&text).decode_utf8().ok()? else {
            return Some(text);
        };
        text = Cow::Owned(next);
    }
    None
}

/// Whether `path` is `prefix` or below it: `/api/` covers `/api` and `/api/x`, not `/apis`.
pub fn prefix_covers(prefix: &str, path: &str) -> bool {
    starts_below(prefix, path) && !is_odd(path)
}

/// [`prefix_covers`] for a path that is known not to be odd.
pub(super) fn starts_below(prefix: &str, path: &str) -> bool {
    let stem = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path pattern: `*` is one whole segment, `**` at the end is any number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathGlob(String);

impl PathGlob {
    /// `None` unless it starts with `/` and has stars only as whole segments.
    pub fn new(text: &str) -> Option<Self> {
        let segments = text.strip_prefix('/')?.split('/');
        let last = segments.clone().count() - 1;
        let fits = |(at, segment): (usize, &str)| {
            !segment.contains('*') || segment == "*" || (segment == "**" && at == last)
        };
        (segments.enumerate().all(fits) && !is_odd(text)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An odd path matches nothing.
    pub fn matches(&self, path: &str) -> bool {
        if is_odd(path) {
            return false;
        }
        let mut segments = path.split('/');
        for part in self.0.split('/') {
            let fits = match (part, segments.next()) {
                ("**", Some(_)) => return true,
                (_, None) => false,
                ("*", Some(segment)) => !segment.is_empty(),
                (literal, Some(segment)) => literal == segment,
            };
            if !fits {
                return false;
            }
        }
        segments.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_servers_read_differently_is_odd() {
        for (path, odd) in [
            ("/", false),
            ("/api/x", false),
            ("/api/", false),
            ("/api/.well-known/x..y", false),
            ("/api/a%20b/%F0%9F%98%80", false),
            ("/api/100%25", false),
            ("/api/x;v=1", false),
            ("/v1/a:b@c,d", false),
            ("", true),
            ("api", true),
            ("*", true),
            ("/api//x", true),
            ("//", true),
            ("/api/.", true),
            ("/api/..", true),
            ("/api/../x", true),
            ("/api/%2e%2e/x", true),
            ("/api/%2E./x", true),
            ("/api/%252e%252e/x", true),
            ("/api/%25252e%25252e/x", true),
            ("/api/..;/x", true),
            ("/api/..;a=b/x", true),
            ("/api/..%3b/x", true),
            ("/api/;/x", true),
            ("/api/;x", true),
            ("/api/a%2fb", true),
            ("/api/a%252Fb", true),
            ("/api/a\\b", true),
            ("/api/a%5cb", true),
            ("/api/a%00", true),
            ("/api/a%ff", true),
            ("/api/a\tb", true),
            ("/api/a%0ab", true),
            ("/api/x#y", true),
            ("/api/x?y", true),
            ("/api/x%3fy", true),
        ] {
            assert_eq!(is_odd(path), odd, "{path:?}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        for (prefix, path, covered) in [
            ("/api/", "/api", true),
            ("/api/", "/api/", true),
            ("/api/", "/api/x", true),
            ("/api/", "/apis", false),
            ("/api/", "/API/x", false),
            ("/api/", "/", false),
            ("/api/", "/api/../x", false),
            ("/api/", "/api/%2e%2e/x", false),
            ("/api/", "/%61pi/x", false),
            ("/me", "/me", true),
            ("/me", "/media", false),
            ("/", "/x", true),
        ] {
            assert_eq!(prefix_covers(prefix, path), covered, "{prefix} {path}");
        }
    }

    #[test]
    fn globs_match_whole_segments() {
        for (glob, path, matched) in [
            ("/*/*/info/refs", "/o/r.git/info/refs", true),
            ("/*/*/info/refs", "/o/r.git/x/info/refs", false),
            ("/*/*/info/refs", "/o/r.git/info/refs/", false),
            ("/*/*/info/refs", "//r.git/info/refs", false),
            ("/*/*/info/refs", "/o/%2e%2e/info/refs", false),
            ("/*/*/info/lfs/**", "/o/r/info/lfs/objects/batch", true),
            ("/*/*/info/lfs/**", "/o/r/info/lfs", false),
        ] {
            assert_eq!(PathGlob::new(glob).expect(glob).matches(path), matched, "{glob} {path}");
        }
        for bad in ["", "x", "/a*", "/**/x", "/a//b", "/a/../b"] {
            assert!(PathGlob::new(bad).is_none(), "{bad}");
        }
    }
}
