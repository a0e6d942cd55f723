//! From a URL of the definition to where a request goes.
//!
//! A URL may have holes that an account's values fill, and those come from people and from
//! answers. The host goes through the same checks as the hosts of the app ([`HostPattern`]), and
//! what stands behind the host is percent-encoded, so that no value can lead elsewhere (T36, F6).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::values::Values;
use super::{Error, Terms};
use crate::catalog::{HostPattern, OAuth2};
use crate::inject::Template;
use crate::upstream::Destination;

/// A URL without holes.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) to: Destination,
    path: String,
    query: String,
}

/// RFC 3986 §2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Endpoint {
    pub(super) fn of(url: &Template, terms: &Terms<'_>, values: &Values) -> Result<Self, Error> {
        let source = for_tenant(url.source(), terms.auth.oauth2.as_ref(), values);
        let (scheme, rest) = match source.split_once("://") {
            Some((scheme @ ("https" | "http"), rest)) => (scheme, rest),
            // `{site}/oauth/token`, where the field is a whole URL.
            _ if source.starts_with('{') => ("https", source.as_str()),
            _ => return Err(Error::Url(source.clone())),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains(['@', '\\']) {
            return Err(Error::Url(source.clone()));
        }
        let pattern = HostPattern::parse(&format!("{scheme}://{authority}"), &terms.auth.fields)?;
        let origin = pattern.render(|name| values.get(name))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = values.fill_encoded(&Template::parse(path)?, in_path)?;
        let query =
            values.fill_encoded(&Template::parse(query)?, |_, value| Ok(in_query(value)))?;
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let (host, port, tls) = (origin.host, origin.port, !origin.clear_text);
        Ok(Self { to: Destination { host, port, tls, http1_only: false }, path, query })
    }

    /// More parameters, already encoded.
    pub(super) fn add_query(&mut self, more: &str) {
        if !more.is_empty() && !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(more);
    }

    pub(super) fn has_param(&self, name: &str) -> bool {
        let pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.into_iter().any(|(key, _)| key == name)
    }

    /// In origin-form (RFC 9112 §3.2.1).
    pub(super) fn target(&self) -> String {
        match self.query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        }
    }

    /// `https://host` and the port if it is not the scheme's own.
    pub(super) fn origin(&self) -> String {
        let Destination { host, port, tls, .. } = &self.to;
        let (scheme, usual) = if *tls { ("https", 443) } else { ("http", 80) };
        let host = match host.ip() {
            Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => host.to_string(),
        };
        let port = if *port == usual { String::new() } else { format!(":{port}") };
        format!("{scheme}://{host}{port}")
    }

    pub(super) fn url(&self) -> String {
        self.origin() + &self.target()
    }

    /// The same without its query: an audience, and a name for messages.
    pub(super) fn url_without_query(&self) -> String {
        self.origin() + &self.path
    }
}

/// Puts the account's `tenant` where the definition has the word for "any tenant".
fn for_tenant(source: &str, oauth2: Option<&OAuth2>, values: &Values) -> String {
    match oauth2.and_then(|oauth2| oauth2.tenant_placeholder.as_deref()) {
        Some(word) if values.has("tenant") => {
            source.replacen(&format!("/{word}/"), "/{tenant}/", 1)
        }
        _ => source.to_owned(),
    }
}

/// Dots alone would climb: `/{tenant}/token` with `..`.
fn in_path(name: &str, value: &str) -> Result<String, Error> {
    if value.bytes().all(|b| b == b'.') {
        return Err(Error::Path(name.to_owned()));
    }
    Ok(in_query(value))
}

fn in_query(value: &str) -> String {
    utf8_percent_encode(value, UNRESERVED).to_string()
}
