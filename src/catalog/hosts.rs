//! Host templates of app definitions, and what an account's values make of them.
//!
//! A template decides where a secret may go, so what a field contributes is checked twice: the
//! value must be labels of a host name, and the result must still have the template's constant
//! part around it. Pure. Sources: RFC 1123 §2.1 (labels), security list T36 and C19.

use std::fmt;

use super::path::{is_odd, starts_below};
use super::{Field, FieldKind, FieldOrigin, HostRule, Pattern};
use crate::host::{Host, Invalid};

/// One entry of `hosts`: where the credential may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    pub host: HostTemplate,
    pub port: u16,
    /// `/api/`, always with both slashes. `None`: the whole host.
    pub prefix: Option<String>,
    /// The definition says `http://`.
    pub clear_text: bool,
}

/// A [`HostPattern`] with an account's values in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub host: Host,
    pub port: u16,
    pub prefix: Option<String>,
    pub clear_text: bool,
}

/// A host name with holes: `{subdomain}.zendesk.com`, `{id}-dsn.algolia.net`, `{host}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole(Hole),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hole {
    /// The field's name.
    name: String,
    takes: Takes,
}

/// What may stand in a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Takes {
    /// Letters, digits and inner hyphens, whatever the field's own pattern says.
    Label,
    /// One label or several, when the whole value matches the field's pattern.
    Labels(Pattern),
    OneOf(Vec<String>),
    /// Whatever the request asks for, when it matches the field's pattern: AWS's services.
    Requested(Pattern),
    /// The hole is the whole host.
    Host(HostRule),
    Url(HostRule),
}

/// Why a host entry, or a value for its holes, is refused. Never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the value of \"{0}\" is missing")]
    Missing(String),
    #[error("\"{0}\" is not a declared field")]
    Undeclared(String),
    #[error(
        "the value of \"{0}\" must be one part of a host name: letters, digits and inner hyphens, at most 63"
    )]
    Label(String),
    #[error("the value of \"{0}\" does not match its pattern, or is not part of a host name")]
    Labels(String),
    #[error("the value of \"{field}\" must be one of {}", choices.join(", "))]
    Choice { field: String, choices: Vec<String> },
    #[error("the value of \"{field}\" is not a host: {source}")]
    Host { field: String, source: Invalid },
    #[error("the value of \"{0}\" must be an https:// URL with a host and no user")]
    Url(String),
    #[error("the value of \"{field}\" must end in {}", suffixes.join(" or "))]
    Suffix { field: String, suffixes: Vec<String> },
    #[error("the value of \"{0}\" must be a name, not an IP address")]
    Address(String),
    #[error("the host is not valid: {0}")]
    Name(#[from] Invalid),
    #[error("\"{0}\" is the request's to say, so only part of a host, and it needs a `pattern`")]
    Unbounded(String),
    #[error("\"{0}\" is the request's to say; no account has a value of it")]
    OfRequest(String),
    #[error("wildcards are not accepted; write a field, as in {{subdomain}}.example.com")]
    Wildcard,
    #[error("\"{{\" without a matching \"}}\"")]
    Unclosed,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("a path prefix is plain segments, as in /api/")]
    Prefix,
    #[error("a scheme other than https:// or http://")]
    Scheme,
}

impl HostPattern {
    /// Reads `[http://]host[:port][/prefix/]`. Holes must be among `fields`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse(text: &str, fields: &[Field]) -> Result<Self, Error> {
        let (clear_text, rest) = match text.split_once("://") {
            Some(("http", rest)) => (true, rest),
            Some(("https", rest)) => (false, rest),
            Some(_) => return Err(Error::Scheme),
            None => (false, text),
        };
        let (authority, prefix) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        let (host, port) = split_port(authority, if clear_text { 80 } else { 443 })?;
        let prefix = prefix.map(canonical_prefix).transpose()?.flatten();
        Ok(Self { host: HostTemplate::parse(host, fields)?, port, prefix, clear_text })
    }

    /// Fills in an account's values. A port in the value of a URL field replaces the pattern's.
    ///
    /// # Errors
    /// When a value is missing or would lead somewhere else than the template says.
    pub fn render<'v>(&self, value_of: impl Fn(&str) -> Option<&'v str>) -> Result<Origin, Error> {
        let (host, port) = self.host.render(value_of)?;
        let (prefix, clear_text) = (self.prefix.clone(), self.clear_text);
        Ok(Origin { host, port: port.unwrap_or(self.port), prefix, clear_text })
    }

    /// Whether the request says a part of the host, within bounds, and no account does.
    pub fn is_open(&self) -> bool {
        self.host.is_open()
    }

    /// Whether an [open](Self::is_open) pattern is met by this host and port.
    pub fn admits(&self, host: &Host, port: u16) -> bool {
        self.port == port && self.is_open() && self.host.matches(host)
    }

    /// The origins that are known without an account: of a constant host, or of one whose holes
    /// have a closed set of values.
    pub(super) fn origins(&self) -> Vec<Origin> {
        let origin = |host| {
            let (prefix, clear_text) = (self.prefix.clone(), self.clear_text);
            Origin { host, port: self.port, prefix, clear_text }
        };
        self.host.known().into_iter().map(origin).collect()
    }
}

impl Origin {
    /// Whether a request to this port and path (as sent, no query) may carry the credential.
    pub fn covers(&self, port: u16, path: &str) -> bool {
        let below = |prefix: &str| starts_below(prefix, path) && !is_odd(path);
        self.port == port && self.prefix.as_deref().is_none_or(below)
    }
}

fn split_port(authority: &str, default: u16) -> Result<(&str, u16), Error> {
    let Some((host, port)) = authority.rsplit_once(':').filter(|(_, p)| !p.contains([']', '}']))
    else {
        return Ok((authority, default));
    };
    let plain = !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().map_err(|_| Error::Port)?;
    if plain { Ok((host, port)) } else { Err(Error::Port) }
}

/// `/` says nothing, so it is no prefix.
fn canonical_prefix(text: &str) -> Result<Option<String>, Error> {
    if text == "/" {
        return Ok(None);
    }
    if is_odd(text) || text.contains(['{', '}', '*', '%']) {
        return Err(Error::Prefix);
    }
    Ok(Some(format!("{}/", text.strip_suffix('/').unwrap_or(text))))
}

impl HostTemplate {
    fn parse(text: &str, fields: &[Field]) -> Result<Self, Error> {
        if text.contains('*') {
            return Err(Error::Wildcard);
        }
        // One spelling per host: an internationalized name is written as its A-label.
        if !text.is_ascii() {
            return Err(Invalid::Character.into());
        }
        let parts = parse_parts(text, fields)?;
        let template = Self { parts };
        // What the constant parts make of a harmless value must be a host. That also catches a
        // constant host that is none.
        let sample = template.source_with(|hole| match &hole.takes {
            Takes::OneOf(choices) => choices.first().map_or("a", String::as_str),
            Takes::Label | Takes::Labels(_) | Takes::Requested(_) => "a",
            Takes::Host(_) | Takes::Url(_) => "a.example",
        });
        sample.parse::<Host>()?;
        Ok(template)
    }

    /// The names of the fields in it.
    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.hole_parts().map(|hole| hole.name.as_str())
    }

    /// Whether the account's field is the whole host.
    pub fn is_whole(&self) -> bool {
        self.hole_parts().any(|hole| matches!(hole.takes, Takes::Host(_) | Takes::Url(_)))
    }

    pub(super) fn is_open(&self) -> bool {
        self.hole_parts().any(|hole| matches!(hole.takes, Takes::Requested(_)))
    }

    /// The constant name at the end, from a label boundary on: `zendesk.com`. Nothing for a whole
    /// host, everything for a constant one.
    pub fn suffix(&self) -> &str {
        let Some(Part::Text(text)) = self.parts.last() else { return "" };
        match (self.parts.len(), text.split_once('.')) {
            (1, _) => text,
            (_, Some((_, suffix))) => suffix,
            (_, None) => "",
        }
    }

    /// Whether some value of the holes makes it `host`.
    pub fn matches(&self, host: &Host) -> bool {
        if self.is_whole() {
            return true;
        }
        fits(&self.parts, host.as_str())
    }

    /// Whether every host of this one is a host of `outer`, for the same account.
    pub(super) fn is_within(&self, outer: &Self) -> bool {
        let (known, others) = (self.known(), outer.known());
        self.parts == outer.parts
            || (!known.is_empty() && known.iter().all(|host| others.contains(host)))
    }

    /// How much of it is constant: the more, the more it says.
    pub(super) fn constant_len(&self) -> usize {
        let text = |part: &Part| if let Part::Text(text) = part { text.len() } else { 0 };
        self.parts.iter().map(text).sum()
    }

    /// The same for two templates that stand for the same hosts, whatever their fields are called.
    pub(super) fn shape(&self) -> String {
        self.source_with(|hole| match &hole.takes {
            Takes::Labels(_) => "{**}",
            Takes::Requested(pattern) => pattern.as_str(),
            _ => "{*}",
        })
    }

    fn hole_parts(&self) -> impl Iterator<Item = &Hole> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole(hole) => Some(hole),
            Part::Text(_) => None,
        })
    }

    fn source_with<'a>(&'a self, show: impl Fn(&'a Hole) -> &'a str) -> String {
        let text = |part: &'a Part| match part {
            Part::Text(text) => text.as_str(),
            Part::Hole(hole) => show(hole),
        };
        self.parts.iter().map(text).collect()
    }

    fn render<'v>(
        &self,
        value_of: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<(Host, Option<u16>), Error> {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Hole(hole) => {
                    let field = hole.name.as_str();
                    if let Takes::Requested(_) = hole.takes {
                        return Err(Error::OfRequest(field.to_owned()));
                    }
                    let value = value_of(field).filter(|value| !value.is_empty());
                    let value = value.ok_or_else(|| Error::Missing(field.to_owned()))?;
                    match &hole.takes {
                        Takes::Host(rule) => return whole_host(field, value, rule),
                        Takes::Url(rule) => return host_of_url(field, value, rule),
                        takes => name.push_str(&takes.checked(field, value)?),
                    }
                }
            }
        }
        let host: Host = name.parse()?;
        // The labels were checked; this holds if a check is ever forgotten.
        if fits(&self.parts, host.as_str()) { Ok((host, None)) } else { Err(Invalid::Label.into()) }
    }

    /// Every host that it can be, when those are finitely many.
    fn known(&self) -> Vec<Host> {
        let mut names = vec![String::new()];
        for part in &self.parts {
            let choices = match part {
                Part::Text(text) => std::slice::from_ref(text),
                Part::Hole(Hole { takes: Takes::OneOf(choices), .. }) => choices.as_slice(),
                Part::Hole(_) => return Vec::new(),
            };
            names = choices
                .iter()
                .flat_map(|choice| names.iter().map(move |name| format!("{name}{choice}")))
                .collect();
        }
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }
}

/// `{field}` or `{field.host}`: the host of a URL field.
fn field_of(hole: &str) -> &str {
    hole.strip_suffix(".host").unwrap_or(hole)
}

fn parse_parts(text: &str, fields: &[Field]) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(open) = rest.strip_prefix('{') {
            let (name, after) = open.split_once('}').ok_or(Error::Unclosed)?;
            let is_all = parts.is_empty() && after.is_empty();
            let name = field_of(name).to_owned();
            let takes = takes(&name, is_all, fields)?;
            parts.push(Part::Hole(Hole { name, takes }));
            rest = after;
        } else {
            let (constant, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            parts.push(Part::Text(constant.to_ascii_lowercase()));
            rest = after;
        }
    }
    Ok(parts)
}

fn takes(name: &str, is_all: bool, fields: &[Field]) -> Result<Takes, Error> {
    let field = fields.iter().find(|field| field.name == name);
    let field = field.ok_or_else(|| Error::Undeclared(name.to_owned()))?;
    if field.origin == FieldOrigin::Request {
        let pattern = field.pattern.clone().filter(|_| !is_all);
        let pattern = pattern.ok_or_else(|| Error::Unbounded(name.to_owned()))?;
        return Ok(Takes::Requested(pattern));
    }
    Ok(match (&field.kind, &field.pattern) {
        (FieldKind::Url(rule), _) if is_all => Takes::Url(rule.clone()),
        (FieldKind::Host(rule), _) if is_all => Takes::Host(rule.clone()),
        _ if !field.choices.is_empty() => Takes::OneOf(field.choices.clone()),
        _ if is_all => Takes::Host(HostRule::default()),
        (_, Some(pattern)) if lets_dots_through(pattern) => Takes::Labels(pattern.clone()),
        _ => Takes::Label,
    })
}

/// Probes instead of reading the expression: what matters is what it accepts.
fn lets_dots_through(pattern: &Pattern) -> bool {
    // The usual shapes of data-centre names; an exotic pattern stays one label, which is the
    // safe side.
    ["a.a", "a1.a1", "us-1.a", "aa.aa.aa", "eu1.prod", "us.prod1"]
        .iter()
        .any(|probe| pattern.covers(probe))
}

impl Takes {
    fn checked(&self, field: &str, value: &str) -> Result<String, Error> {
        match self {
            Self::OneOf(choices) if choices.iter().any(|choice| choice == value) => {
                Ok(value.to_ascii_lowercase())
            }
            Self::OneOf(choices) => {
                Err(Error::Choice { field: field.to_owned(), choices: choices.clone() })
            }
            Self::Labels(pattern) if pattern.covers(value) && value.split('.').all(is_label) => {
                Ok(value.to_ascii_lowercase())
            }
            Self::Labels(_) => Err(Error::Labels(field.to_owned())),
            _ if is_label(value) => Ok(value.to_ascii_lowercase()),
            _ => Err(Error::Label(field.to_owned())),
        }
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn whole_host(field: &str, value: &str, rule: &HostRule) -> Result<(Host, Option<u16>), Error> {
    let broken = |source| Error::Host { field: field.to_owned(), source };
    let host = Host::from_unicode(value).map_err(broken)?;
    if host.ip().is_some() && !rule.addresses {
        return Err(Error::Address(field.to_owned()));
    }
    let below = |suffix: &String| {
        let suffix = suffix.trim_start_matches('.');
        host.suffixes().any(|name| name.eq_ignore_ascii_case(suffix))
    };
    if !rule.suffixes.is_empty() && !rule.suffixes.iter().any(below) {
        return Err(Error::Suffix { field: field.to_owned(), suffixes: rule.suffixes.clone() });
    }
    Ok((host, None))
}

/// Written out instead of asking a URL library, which would mend what should be refused.
fn host_of_url(field: &str, value: &str, rule: &HostRule) -> Result<(Host, Option<u16>), Error> {
    let broken = || Error::Url(field.to_owned());
    let rest = value.strip_prefix("https://").ok_or_else(broken)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains(['@', '\\']) || rest.contains(|c: char| c.is_control() || c == ' ') {
        return Err(broken());
    }
    let (host, port) = split_port(authority, 443).map_err(|_| broken())?;
    let (host, _) = whole_host(field, host, rule)?;
    Ok((host, Some(port)))
}

/// Checks what a field of kind `host` or `url` says about its values.
pub(super) fn check_kind(field: &Field, value: &str) -> Result<(), Error> {
    match &field.kind {
        FieldKind::Text => Ok(()),
        FieldKind::Host(rule) => whole_host(&field.name, value, rule).map(drop),
        FieldKind::Url(rule) => host_of_url(&field.name, value, rule).map(drop),
    }
}

/// Whether the parts can be `text`. A label's hole takes no dot and is never empty.
fn fits(parts: &[Part], text: &str) -> bool {
    let Some((first, rest)) = parts.split_first() else { return text.is_empty() };
    let hole = match first {
        Part::Text(constant) => {
            return text.strip_prefix(constant.as_str()).is_some_and(|after| fits(rest, after));
        }
        Part::Hole(hole) => hole,
    };
    let longest = match hole.takes {
        Takes::OneOf(ref choices) => {
            let after = |c: &String| text.get(..c.len()).filter(|t| t.eq_ignore_ascii_case(c));
            return choices.iter().any(|c| after(c).is_some() && fits(rest, &text[c.len()..]));
        }
        Takes::Requested(ref pattern) => {
            // What follows is constant more often than not, so it is looked at first.
            let value = |end: usize| pattern.covers(&text[..end]) && !text[..end].starts_with('.');
            let ends = (1..=text.len()).filter(|end| text.is_char_boundary(*end));
            return ends.rev().any(|end| fits(rest, &text[end..]) && value(end));
        }
        Takes::Label => text.find('.').unwrap_or(text.len()),
        Takes::Labels(_) | Takes::Host(_) | Takes::Url(_) => text.len(),
    };
    // A hole at the end, or before the constant suffix, is decided at once.
    (1..=longest).rev().any(|end| text.is_char_boundary(end) && fits(rest, &text[end..]))
}

impl fmt::Display for HostTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Hole(hole) => write!(f, "{{{}}}", hole.name),
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_origin(f, &self.host, self.port, self.prefix.as_deref(), self.clear_text)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_origin(f, &self.host, self.port, self.prefix.as_deref(), self.clear_text)
    }
}

fn write_origin(
    f: &mut fmt::Formatter<'_>,
    host: &impl fmt::Display,
    port: u16,
    prefix: Option<&str>,
    clear_text: bool,
) -> fmt::Result {
    write!(f, "{}{host}", if clear_text { "http://" } else { "" })?;
    if port != if clear_text { 80 } else { 443 } {
        write!(f, ":{port}")?;
    }
    f.write_str(prefix.unwrap_or_default())
}

/// Names and addresses that are always this machine or a network of the operator's own.
pub(super) fn is_private_name(host: &str) -> bool {
    let name = host.rsplit('.').next().unwrap_or(host);
    let address = host.parse::<Host>().ok().and_then(|host| host.ip());
    address.is_some_and(|ip| ip.is_loopback()) || matches!(name, "test" | "internal" | "localhost")
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
