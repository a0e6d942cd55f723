//! Attaching one credential to one request head.
//!
//! Two steps, both pure. [`prepare`] renders an app's [`Attachment`]s with an account's values and
//! checks the result; it runs when a value changes. [`Prepared::attach`] puts the finished values
//! into a head; it runs on every request. The caller's own value in the same place is replaced,
//! and so is one that a server would read as the same (`X_Api_Key` for `X-Api-Key`,
//! `api%5fkey` for `api_key`). Everything else in the URL is kept byte for byte. [`Prepared::finish`]
//! follows where the app wants something in the body, or a signature, which covers all the rest.

mod body;
mod mask;
mod sign;
mod target;
mod template;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, COOKIE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use mask::Mask;
pub use sign::{
    Algorithm, AwsSigV4, Encoding, Error as SignError, Head, Hmac, KeyEncoding, Moment, OAuth1,
    OAuth1Method, Place, Signature, Unit,
};
pub use target::strip_segment;
pub use template::{Error as TemplateError, Properties, Template};

use crate::secret::Secret;
use sign::Signer;

/// One place in a request where an app wants a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    Header {
        name: HeaderName,
        value: Template,
        optional: bool,
    },
    Query {
        name: String,
        value: Template,
        optional: bool,
    },
    Cookie {
        name: String,
        value: Template,
    },
    Basic {
        username: Template,
        password: Template,
    },
    /// A segment put before the request's path, below `under` if the path starts with that.
    Path {
        segment: Template,
        under: Option<String>,
    },
    /// A property of a JSON or form body.
    Body {
        name: String,
        value: Template,
    },
    /// A companion header that is no credential, such as an API version.
    Static {
        name: HeaderName,
        value: HeaderValue,
        when: When,
    },
    /// A signature over the whole request.
    Signature(Signature),
}

/// When a companion header is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Only if the caller did not send one.
    Absent,
    Always,
}

/// Longest rendered value. Origins refuse heads above 8 to 16 kB, so more is a mistake.
const MAX_VALUE_BYTES: usize = 8 * 1024;

/// Why a credential cannot be attached. Found when it is configured, not when it is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(
        "the value for {place} has a line break, NUL or another character that is not visible ASCII; \
             look for a stray newline at its end"
    )]
    NotVisible { place: String },
    #[error("the value for {place} is longer than {MAX_VALUE_BYTES} bytes")]
    TooLong { place: String },
    #[error("{0} is understood in a definition, but this version cannot send it")]
    Unsupported(&'static str),
    #[error("the key for the signature is not in the encoding that the definition says")]
    Key,
    #[error("the user name of HTTP Basic may not contain ':' (RFC 7617 §2)")]
    ColonInUserName,
}

/// An account's credential, rendered and checked: what a request gets.
#[derive(Clone, Default)]
pub struct Prepared {
    headers: Vec<(HeaderName, HeaderValue)>,
    companions: Vec<(HeaderName, HeaderValue, When)>,
    cookies: Vec<(String, Secret)>,
    query: Vec<(String, Secret)>,
    segments: Vec<target::Segment>,
    body: Vec<body::Field>,
    signer: Option<Signer>,
    mask: Mask,
}

/// What [`Prepared::finish`] made.
pub struct Finished {
    /// What must not come back in an answer: a signature that is seen can be sent by somebody else.
    pub mask: Mask,
    /// Goes out in place of the caller's.
    pub body: Option<Vec<u8>>,
}

/// Renders `attachments` with an account's values.
pub fn prepare(attachments: &[Attachment], properties: &Properties) -> Result<Prepared, Error> {
    let mut prepared = Prepared::default();
    for attachment in attachments {
        prepared.add(attachment, properties)?;
    }
    Ok(prepared)
}

impl Prepared {
    fn add(&mut self, attachment: &Attachment, properties: &Properties) -> Result<(), Error> {
        match attachment {
            Attachment::Header { name, value, optional } => {
                if let Some(text) = rendered(value, properties, *optional)? {
                    self.headers.push((name.clone(), sensitive(&text, name.as_str())?));
                    self.hide(value, &text, properties);
                }
            }
            Attachment::Query { name, value, optional } => {
                if let Some(text) = rendered(value, properties, *optional)? {
                    check(text.expose(), &format!("query parameter {name}"))?;
                    self.query.push((name.clone(), target::encode_query_value(&text)));
                    self.hide(value, &text, properties);
                }
            }
            Attachment::Cookie { name, value } => {
                let text = value.render(properties)?;
                check(text.expose(), &format!("cookie {name}"))?;
                self.hide(value, &text, properties);
                self.cookies.push((name.clone(), text));
            }
            Attachment::Basic { username, password } => {
                let value = basic(username, password, properties)?;
                self.headers.push((AUTHORIZATION, sensitive(&value, "authorization")?));
                self.hide(username, &value, properties);
                self.hide(password, &value, properties);
            }
            Attachment::Path { segment, under } => {
                let text = segment.render(properties)?;
                check(text.expose(), "the path")?;
                self.segments.push(target::Segment::new(segment, &text, under.as_deref()));
                self.hide(segment, &text, properties);
            }
            Attachment::Static { name, value, when } => {
                self.companions.push((name.clone(), value.clone(), *when));
            }
            Attachment::Body { name, value } => {
                let text = value.render(properties)?;
                check(text.expose(), &format!("body field {name}"))?;
                self.hide(value, &text, properties);
                self.body.push((name.clone(), text));
            }
            Attachment::Signature(signature) => {
                let (signer, hidden) = signature.prepare(properties)?;
                hidden.iter().for_each(|secret| self.mask.add(secret));
                self.signer = Some(signer);
            }
        }
        Ok(())
    }

    /// Remembers every secret part, so that an origin that echoes it is masked.
    fn hide(&mut self, template: &Template, rendered: &Secret, properties: &Properties) {
        if template.is_constant() {
            return;
        }
        for hole in template.holes() {
            if let Some(value) = properties.get(hole) {
                self.mask.add(value);
            }
        }
        // `Basic dXNlcjpwYXNz`: the encoded form gives the parts away too.
        let coded = rendered.expose().rsplit(' ').next().unwrap_or_default();
        self.mask.add(&Secret::from(coded.to_owned()));
    }

    /// Puts the credential into `headers`, and into `target` where the app wants it there.
    ///
    /// # Errors
    /// When the new target would not be a valid one; nothing may be sent then.
    pub fn attach(
        &self,
        headers: &mut HeaderMap,
        target: &mut PathAndQuery,
    ) -> Result<(), http::uri::InvalidUri> {
        for (name, value) in &self.headers {
            remove_lookalikes(headers, name);
            headers.insert(name.clone(), value.clone());
        }
        for (name, value, when) in &self.companions {
            if *when == When::Always || !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        if !self.cookies.is_empty() {
            self.attach_cookies(headers);
        }
        if !self.query.is_empty() || !self.segments.is_empty() {
            *target = target::rewrite(target, &self.segments, &self.query)?;
        }
        Ok(())
    }

    fn attach_cookies(&self, headers: &mut HeaderMap) {
        let ours = |name: &str| self.cookies.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut line = Vec::new();
        for value in headers.get_all(COOKIE) {
            for pair in value.as_bytes().split(|b| *b == b';') {
                let pair = pair.trim_ascii();
                let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
                if !pair.is_empty() && !std::str::from_utf8(name).is_ok_and(ours) {
                    push_cookie(&mut line, pair);
                }
            }
        }
        for (name, value) in &self.cookies {
            push_cookie(&mut line, format!("{name}={}", value.expose()).as_bytes());
        }
        if let Ok(mut value) = HeaderValue::from_bytes(&line) {
            value.set_sensitive(true);
            headers.insert(COOKIE, value);
        }
    }

    /// Whether both would put the same bytes into a request.
    pub fn same_as(&self, other: &Prepared) -> bool {
        let pairs = |a: &[(String, Secret)], b: &[(String, Secret)]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.same_as(&b.1))
        };
        self.headers == other.headers
            && self.companions == other.companions
            && pairs(&self.cookies, &other.cookies)
            && pairs(&self.query, &other.query)
            && pairs(&self.body, &other.body)
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|(a, b)| a.same_as(b))
            && match (&self.signer, &other.signer) {
                (Some(a), Some(b)) => a.same_as(b),
                (None, None) => true,
                _ => false,
            }
    }

    /// Whether a request still has to be [finished](Self::finish) after it was attached to.
    pub fn has_more(&self) -> bool {
        self.signer.is_some() || !self.body.is_empty()
    }

    /// Whether nothing that is sent is worth anything to somebody else: the secret stays here, and a
    /// signature of AWS's kind holds for one request, for some minutes.
    pub fn only_signs(&self) -> bool {
        let bare = self.headers.is_empty() && self.cookies.is_empty() && self.query.is_empty();
        bare && self.segments.is_empty()
            && self.body.is_empty()
            && matches!(self.signer, Some(Signer::Aws(_)))
    }

    /// Whether the body's own bytes matter, so that they have to be here first.
    ///
    /// # Errors
    /// When the request cannot be signed at all.
    pub fn needs_body(&self, head: &Head<'_>) -> Result<bool, SignError> {
        let signs = |signer: &Signer| signer.needs_body(head);
        Ok(!self.body.is_empty() || self.signer.as_ref().map_or(Ok(false), signs)?)
    }

    /// Puts the credential into the body, and signs the request as it is then. `body` is all of it
    /// where [`Self::needs_body`] said so, and is not looked at otherwise.
    ///
    /// # Errors
    /// When the request cannot be signed, or its body has no place for the credential; nothing may
    /// be sent then.
    pub fn finish(
        &self,
        head: &mut Head<'_>,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Finished, SignError> {
        // A request without a body has no place for it, and needs none: it only reads.
        let only_reads = body.is_empty() && head.method.is_safe();
        let fills = !self.body.is_empty() && !only_reads;
        let filled = fills.then(|| body::filled(head.headers, body, &self.body)).transpose()?;
        let mut mask = self.mask.clone();
        if let Some(signer) = &self.signer {
            mask.add(&signer.sign(head, filled.as_deref().unwrap_or(body), moment)?);
        }
        Ok(Finished { mask, body: filled })
    }

    /// What must not come back in an answer.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }
}

impl Attachment {
    /// The account's fields in it, and whether their values may be missing.
    pub fn fields(&self) -> Vec<(&str, bool)> {
        let templates: Vec<(&Template, bool)> = match self {
            Self::Header { value, optional, .. } | Self::Query { value, optional, .. } => {
                vec![(value, *optional)]
            }
            Self::Cookie { value, .. } | Self::Body { value, .. } => vec![(value, false)],
            Self::Basic { username, password } => vec![(username, false), (password, false)],
            Self::Path { segment, .. } => vec![(segment, false)],
            Self::Static { .. } => Vec::new(),
            Self::Signature(signature) => return signature.fields(),
        };
        holes_of(&templates)
    }
}

fn holes_of<'t>(templates: &[(&'t Template, bool)]) -> Vec<(&'t str, bool)> {
    let holes = |(template, optional): &(&'t Template, bool)| {
        let optional = *optional;
        template.holes().into_iter().map(move |hole| (hole, optional)).collect::<Vec<_>>()
    };
    templates.iter().flat_map(holes).collect()
}

fn push_cookie(line: &mut Vec<u8>, pair: &[u8]) {
    if !line.is_empty() {
        line.extend_from_slice(b"; ");
    }
    line.extend_from_slice(pair);
}

fn rendered(
    template: &Template,
    properties: &Properties,
    optional: bool,
) -> Result<Option<Secret>, Error> {
    match template.render(properties) {
        Ok(text) => Ok(Some(text)),
        Err(TemplateError::Missing(_)) if optional => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// RFC 7617 §2. Either half may be a constant or empty (`{api_key}:`), and an empty half is not
/// missing.
fn basic(username: &Template, password: &Template, values: &Properties) -> Result<Secret, Error> {
    let (user, password) = (username.render(values)?, password.render(values)?);
    if user.expose().contains(':') {
        return Err(Error::ColonInUserName);
    }
    check(user.expose(), "the user name")?;
    check(password.expose(), "the password")?;
    let pair = Secret::from(format!("{}:{}", user.expose(), password.expose()));
    Ok(Secret::from(format!("Basic {}", STANDARD.encode(pair.expose()))))
}

fn sensitive(value: &Secret, place: &str) -> Result<HeaderValue, Error> {
    check(value.expose(), &format!("header {place}"))?;
    let mut value = HeaderValue::from_str(value.expose())
        .map_err(|_| Error::NotVisible { place: place.to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

fn check(value: &str, place: &str) -> Result<(), Error> {
    let place = || place.to_owned();
    if value.len() > MAX_VALUE_BYTES {
        return Err(Error::TooLong { place: place() });
    }
    let visible = value.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !visible || value.starts_with(' ') || value.ends_with(' ') {
        return Err(Error::NotVisible { place: place() });
    }
    Ok(())
}

/// CGI and WSGI servers fold `-` and `_` into one, so a caller could shadow ours
/// (oauth2-proxy CVE-2025-64484).
fn remove_lookalikes(headers: &mut HeaderMap, name: &HeaderName) {
    if !name.as_str().contains(['-', '_']) {
        return;
    }
    let folded = |a: u8| if a == b'_' { b'-' } else { a };
    let alike = |other: &HeaderName| {
        other.as_str().len() == name.as_str().len()
            && other != name
            && other.as_str().bytes().map(folded).eq(name.as_str().bytes().map(folded))
    };
    let found: Vec<HeaderName> = headers.keys().filter(|other| alike(other)).cloned().collect();
    for other in found {
        headers.remove(other);
    }
}

#[cfg(test)]
mod tests;
