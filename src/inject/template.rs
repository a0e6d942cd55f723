//! Texts with `{field}` holes, as app definitions write them: `Bearer {oauth_access_token}`,
//! `base64({client_id}:{client_secret})`. Parsed once, rendered when an account's values change.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// An account's values by property name: what holes are filled from.
pub type Properties = BTreeMap<String, Secret>;

/// A parsed template. The parts are in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole(String),
    Base64(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("\"{{\" without a matching \"}}\" in \"{0}\"")]
    Unclosed(String),
    #[error("\"{0}\" is not a field name: use a-z, A-Z, 0-9, '_' and '.'")]
    Name(String),
    #[error("the value of \"{0}\" is missing")]
    Missing(String),
}

impl Template {
    pub fn parse(source: &str) -> Result<Self, Error> {
        let parts = parse_parts(source, source)?;
        Ok(Self { parts, source: source.to_owned() })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names of all holes, in order, repeated names included.
    pub fn holes(&self) -> Vec<&str> {
        let mut found = Vec::new();
        collect_holes(&self.parts, &mut found);
        found
    }

    /// Whether nothing has to be filled in.
    pub fn is_constant(&self) -> bool {
        self.holes().is_empty()
    }

    /// The constant text before the first hole and after the last one: the shape by which a
    /// rendered value is recognised.
    pub fn ends(&self) -> (&str, &str) {
        let text = |part: Option<&'_ Part>| match part {
            Some(Part::Text(text)) => Some(text.len()),
            _ => None,
        };
        let first = text(self.parts.first()).unwrap_or(0);
        let last = if self.parts.len() > 1 { text(self.parts.last()).unwrap_or(0) } else { 0 };
        (&self.source[..first], &self.source[self.source.len() - last..])
    }

    /// Fills the holes. An empty value counts as missing, so that no half credential is sent.
    pub fn render(&self, properties: &Properties) -> Result<Secret, Error> {
        self.render_with(|name| properties.get(name).map(Secret::expose))
    }

    /// Fills the holes with whatever there is, and with nothing where there is nothing: a request
    /// without a query is signed, too.
    pub fn fill<'a>(&self, value_of: &dyn Fn(&str) -> Option<Cow<'a, str>>) -> String {
        fill_parts(&self.parts, value_of)
    }

    pub fn render_with<'a>(
        &self,
        value_of: impl Fn(&str) -> Option<&'a str> + Copy,
    ) -> Result<Secret, Error> {
        Ok(Secret::from(render_parts(&self.parts, value_of)?))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

fn parse_parts(mut rest: &str, whole: &str) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        if let Some((inner, after)) = base64_call(rest) {
            parts.push(Part::Base64(parse_parts(inner, whole)?));
            rest = after;
        } else if let Some(open) = rest.strip_prefix('{') {
            let (name, after) =
                open.split_once('}').ok_or_else(|| Error::Unclosed(whole.to_owned()))?;
            parts.push(Part::Hole(check_name(name)?));
            rest = after;
        } else {
            let hole = rest.find('{').unwrap_or(rest.len());
            let call = rest.find("base64(").filter(|at| base64_call(&rest[*at..]).is_some());
            let (text, after) = rest.split_at(hole.min(call.unwrap_or(rest.len())));
            parts.push(Part::Text(text.to_owned()));
            rest = after;
        }
    }
    Ok(parts)
}

/// `base64(inner)after`. The only function there is; it does not nest.
fn base64_call(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("base64(")?.split_once(')')
}

fn check_name(name: &str) -> Result<String, Error> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(Error::Name(name.escape_debug().to_string()));
    }
    Ok(name.to_owned())
}

fn collect_holes<'a>(parts: &'a [Part], found: &mut Vec<&'a str>) {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Hole(name) => found.push(name),
            Part::Base64(inner) => collect_holes(inner, found),
        }
    }
}

fn fill_parts<'a>(parts: &[Part], value_of: &dyn Fn(&str) -> Option<Cow<'a, str>>) -> String {
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Hole(name) => out.push_str(&value_of(name).unwrap_or_default()),
            Part::Base64(inner) => out.push_str(&STANDARD.encode(fill_parts(inner, value_of))),
        }
    }
    out
}

fn render_parts<'a>(
    parts: &[Part],
    value_of: impl Fn(&str) -> Option<&'a str> + Copy,
) -> Result<String, Error> {
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Hole(name) => match value_of(name) {
                Some(value) if !value.is_empty() => out.push_str(value),
                _ => return Err(Error::Missing(name.clone())),
            },
            Part::Base64(inner) => out.push_str(&STANDARD.encode(render_parts(inner, value_of)?)),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::from((*v).to_owned()))).collect()
    }

    #[test]
    fn holes_are_filled_from_the_account() {
        let values = properties(&[("user", "ann"), ("key", "s3cret"), ("none", "")]);
        for (template, rendered) in [
            ("Bearer {key}", Ok("Bearer s3cret")),
            ("{user}/token", Ok("ann/token")),
            ("Basic base64({user}:{key})", Ok("Basic YW5uOnMzY3JldA==")),
            ("constant", Ok("constant")),
            ("", Ok("")),
            ("{none}", Err(Error::Missing("none".into()))),
            ("{other}", Err(Error::Missing("other".into()))),
        ] {
            let result = Template::parse(template).expect(template).render(&values);
            assert_eq!(result.map(|s| s.expose().to_owned()), rendered.map(str::to_owned));
        }
    }

    #[test]
    fn broken_templates_are_refused() {
        for template in ["{", "a{b", "{}", "{a b}", "{a{b}}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }

    #[test]
    fn ends_are_the_constant_text_around_the_holes() {
        for (template, ends) in
            [("/bot{token}", ("/bot", "")), ("{a}/token", ("", "/token")), ("x", ("x", ""))]
        {
            assert_eq!(Template::parse(template).expect(template).ends(), ends);
        }
    }
}
