//! Credentials inside the request target: query parameters and path segments.
//!
//! Only the bytes that carry a credential change; order and percent-encoding of the rest stay.

use std::borrow::Cow;

use http::uri::{InvalidUri, PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::template::Template;
use crate::secret::Secret;

/// RFC 3986 §2.3 unreserved characters stay as they are.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Of RFC 3986 §3.3 `pchar`, what tokens in paths have: Telegram's has a colon. The slash stays
/// because it belongs to the template.
const PATH: &AsciiSet = &QUERY.remove(b':').remove(b'@').remove(b'=').remove(b'/');

/// A rendered path credential, and the shape by which a caller's own one is known.
#[derive(Clone)]
pub struct Segment {
    text: Secret,
    shape: Shape,
}

#[derive(Clone)]
struct Shape {
    before: String,
    after: String,
    under: Option<String>,
}

impl Shape {
    fn of(template: &Template, under: Option<&str>) -> Self {
        let (before, after) = template.ends();
        Self { before: before.into(), after: after.into(), under: under.map(str::to_owned) }
    }

    /// Splits `path` into what stands before the credential's place and what comes after it,
    /// without the caller's own segment. `None` when the place is not in this path.
    fn split<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let (head, rest) = match &self.under {
            Some(under) => {
                let rest = path.strip_prefix(under.as_str())?;
                (&path[..under.len()], rest)
            }
            None => ("", path),
        };
        let own = rest.strip_prefix(self.before.as_str()).filter(|_| self.before.len() > 1);
        let Some(own) = own else { return Some((head, rest)) };
        let end = own.find('/').unwrap_or(own.len());
        match own[..end].ends_with(self.after.trim_end_matches('/')) {
            true if end > 0 => Some((head, &own[end..])),
            _ => Some((head, rest)),
        }
    }
}

impl Segment {
    pub fn new(template: &Template, rendered: &Secret, under: Option<&str>) -> Self {
        let encoded = utf8_percent_encode(rendered.expose(), PATH).to_string();
        Self { text: Secret::from(encoded), shape: Shape::of(template, under) }
    }

    pub fn same_as(&self, other: &Segment) -> bool {
        self.text.same_as(&other.text)
    }
}

/// `path` without the segment that a caller's SDK put where the credential goes
/// (`/botDUMMY/getMe` → `/getMe`): what rules and logs see.
pub fn strip_segment<'a>(path: &'a str, template: &Template, under: Option<&str>) -> Cow<'a, str> {
    match Shape::of(template, under).split(path) {
        Some((head, rest)) if head.len() + rest.len() < path.len() => {
            let rest = if rest.is_empty() && head.is_empty() { "/" } else { rest };
            if head.is_empty() { Cow::Borrowed(rest) } else { Cow::Owned(format!("{head}{rest}")) }
        }
        _ => Cow::Borrowed(path),
    }
}

/// Everything but unreserved characters is percent-encoded.
pub fn encode_query_value(value: &Secret) -> Secret {
    Secret::from(utf8_percent_encode(value.expose(), QUERY).to_string())
}

/// The target with the credentials in it.
pub fn rewrite(
    target: &PathAndQuery,
    segments: &[Segment],
    query: &[(String, Secret)],
) -> Result<PathAndQuery, InvalidUri> {
    let mut out = String::with_capacity(target.as_str().len() + 64);
    push_path(&mut out, target.path(), segments);
    push_query(&mut out, target.query(), query);
    PathAndQuery::try_from(out)
}

/// The most specific place wins: a segment with an `under` that fits, else one without.
fn push_path(out: &mut String, path: &str, segments: &[Segment]) {
    let fits = |segment: &&Segment| {
        let under = segment.shape.under.as_deref();
        under.is_none_or(|under| path.strip_prefix(under).is_some_and(|rest| rest.starts_with('/')))
    };
    let best = segments.iter().filter(fits).max_by_key(|s| s.shape.under.as_deref().map(str::len));
    let split = best.and_then(|segment| Some((segment, segment.shape.split(path)?)));
    match split {
        Some((segment, (head, rest))) => {
            out.push_str(head);
            out.push_str(segment.text.expose());
            out.push_str(rest);
        }
        None => out.push_str(path),
    }
}

/// A form with the credentials in it.
pub fn rewrite_form(form: &str, fields: &[(String, Secret)]) -> String {
    let coded = |(name, value): &(String, Secret)| (name.clone(), encode_query_value(value));
    let fields: Vec<_> = fields.iter().map(coded).collect();
    let mut out = String::with_capacity(form.len() + 64);
    push_query(&mut out, Some(form).filter(|form| !form.is_empty()), &fields);
    out.split_off(1)
}

fn push_query(out: &mut String, theirs: Option<&str>, ours: &[(String, Secret)]) {
    let mut separator = '?';
    let mut used = vec![false; ours.len()];
    let mut push = |out: &mut String, pair: &str| {
        out.push(separator);
        out.push_str(pair);
        separator = '&';
    };
    for pair in theirs.into_iter().flat_map(|query| query.split('&')) {
        let name = pair.split('=').next().unwrap_or_default();
        match ours.iter().position(|(ours, _)| same_name(ours, name)) {
            None => push(out, pair),
            Some(i) if !used[i] => {
                used[i] = true;
                push(out, &format!("{}={}", ours[i].0, ours[i].1.expose()));
            }
            Some(_) => {}
        }
    }
    for ((name, value), _) in ours.iter().zip(used).filter(|(_, used)| !used) {
        push(out, &format!("{name}={}", value.expose()));
    }
}

/// `api%5fkey`, `API_KEY` and `api_key` are one parameter to some servers.
fn same_name(ours: &str, theirs: &str) -> bool {
    ours.eq_ignore_ascii_case(theirs)
        || (theirs.contains('%')
            && percent_decode_str(theirs)
                .decode_utf8()
                .is_ok_and(|decoded| decoded.eq_ignore_ascii_case(ours)))
}
