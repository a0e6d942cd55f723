//! What is dangerous in a definition that is otherwise well-formed (security list, T36).
//!
//! A definition decides where secrets go, and anybody may write one. Errors are refused at load;
//! warnings are said by `apps lint`.

use http::HeaderName;

use super::hosts::{HostPattern, is_private_name};
use super::path::prefix_covers;
use super::{App, Auth, AuthKind, FieldOrigin, Mistake, OAuth2};
use crate::inject::{Attachment, Place, Signature, Template};

/// Everything worth saying about one app.
pub fn lint(app: &App) -> Vec<Mistake> {
    let mut found = Vec::new();
    if app.docs_url.as_deref().is_some_and(|url| !url.starts_with("https://")) {
        found.push(Mistake::new(&app.file, None, "docs_url", "must start with https://"));
    }
    for auth in &app.auths {
        let mut notes = Notes { app, auth, found: &mut found };
        notes.hosts();
        notes.fields();
        notes.attachments();
        notes.urls();
        notes.kind();
        notes.grants();
        notes.query_beside_header();
    }
    found
}

pub(super) struct Notes<'a> {
    app: &'a App,
    auth: &'a Auth,
    found: &'a mut Vec<Mistake>,
}

impl<'a> Notes<'a> {
    pub(super) fn auth(&self) -> &'a Auth {
        self.auth
    }

    pub(super) fn push(&mut self, mistake: Mistake) {
        self.found.push(mistake);
    }

    pub(super) fn declares(&self, hole: &str) -> bool {
        is_declared(self.auth, hole)
    }

    pub(super) fn mistake(&mut self, key: &str, text: impl Into<String>) {
        let mistake = self.at(key, text);
        self.found.push(mistake);
    }

    pub(super) fn at(&self, key: &str, text: impl Into<String>) -> Mistake {
        let key = format!("auth.{}.{key}", self.auth.id);
        Mistake::new(&self.app.file, self.auth.line, key, text)
    }

    fn hosts(&mut self) {
        if self.auth.hosts.is_empty() {
            self.mistake("hosts", "is empty: no host may get the credential");
        }
        for pattern in &self.auth.hosts {
            if let Err(text) = check_reach(pattern).and_then(|()| self.check_clear_text(pattern)) {
                self.mistake("hosts", format!("\"{pattern}\": {text}"));
            }
            for hole in pattern.host.holes() {
                self.not_secret("hosts", hole);
            }
            if pattern.is_open() {
                self.open_host(pattern);
            }
        }
        for exception in &self.auth.exceptions {
            if !self.auth.hosts.iter().any(|host| is_within(&exception.host, host)) {
                self.mistake(
                    "exceptions",
                    format!("\"{}\" is not among the hosts", exception.host),
                );
            }
        }
    }

    /// Where requests choose among hosts that are not all the same party's, only what holds for one
    /// host may be sent: a signature. A key would be there for whoever gets a name below.
    fn open_host(&mut self, pattern: &HostPattern) {
        let exceptions = self.auth.exceptions.iter().flat_map(|exception| &exception.attach);
        let bound_to_host = |one: &Attachment| {
            let aws = |one: &Signature| matches!(one, Signature::AwsSigV4(_));
            matches!(one, Attachment::Static { .. })
                || matches!(one, Attachment::Signature(signature) if aws(signature))
        };
        if !self.auth.attach.iter().chain(exceptions).all(bound_to_host) {
            let text = "the request says a part of this host, so only aws_sigv4 may be attached";
            self.mistake("hosts", format!("\"{pattern}\": {text}"));
        }
        let of_request =
            |hole: &str| self.auth.field(hole).is_some_and(|f| f.origin == FieldOrigin::Request);
        if !pattern.host.holes().all(of_request) {
            let text = "either the request says all of the fields in a host, or none";
            self.mistake("hosts", format!("\"{pattern}\": {text}"));
        }
        if pattern.clear_text {
            self.mistake("hosts", format!("\"{pattern}\": must be reached by https"));
        }
    }

    /// `http://` is for this machine and for test networks, unless the file insists.
    fn check_clear_text(&self, pattern: &HostPattern) -> Result<(), String> {
        if !pattern.clear_text || self.auth.clear_text || is_private_name(pattern.host.suffix()) {
            return Ok(());
        }
        Err("the credential would go out in clear text; use https, or say clear_text = true".into())
    }

    fn fields(&mut self) {
        for (at, field) in self.auth.fields.iter().enumerate() {
            if self.auth.fields[..at].iter().any(|earlier| earlier.name == field.name) {
                self.mistake("fields", format!("\"{}\" is declared twice", field.name));
            }
            if let FieldOrigin::Derived { field: from, .. } = &field.origin
                && self.auth.field(from).is_none()
            {
                self.mistake("fields", format!("\"{}\" derives from no field", field.name));
            }
            if field.secret && field.default.is_some() {
                self.mistake("fields", format!("\"{}\" is a secret with a default", field.name));
            }
        }
    }

    fn attachments(&mut self) {
        let auth = self.auth;
        let nothing = auth.attach.is_empty() && auth.exceptions.iter().all(|e| e.attach.is_empty());
        if nothing && auth.kind != AuthKind::None {
            self.mistake("attach", "is empty: the credential would go nowhere");
        }
        let exceptions = auth.exceptions.iter().flat_map(|exception| &exception.attach);
        for attachment in auth.attach.iter().chain(exceptions) {
            if let Some(name) = header_of(attachment).filter(|name| is_ours(name)) {
                self.mistake("attach", format!("the header \"{name}\" belongs to the connection"));
            }
            for (hole, _) in attachment.fields() {
                self.declared_hole("attach", hole);
            }
        }
    }

    fn urls(&mut self) {
        let auth = self.auth;
        // Relative URLs go below the base, so one above a prefix will do.
        let leads_to = |host: &HostPattern, path: &str| {
            let below = |prefix: &str| prefix_covers(or_root(path), prefix);
            covers(host, path) || host.prefix.as_deref().is_some_and(below)
        };
        self.reachable("base_url", &auth.base_url, leads_to);
        if let Some(test) = &auth.test {
            self.reachable("test.url", &test.url, covers);
        }
        for (key, url) in oauth_urls(auth) {
            self.declared(&key, url);
            if let Err(text) = check_secure(url.source(), auth) {
                self.mistake(&key, text);
            }
            for hole in url.holes() {
                self.not_secret(&key, hole);
            }
        }
    }

    /// A URL that a credential is sent to must be among the hosts.
    fn reachable(
        &mut self,
        key: &str,
        url: &Template,
        covers: impl Fn(&HostPattern, &str) -> bool,
    ) {
        self.declared(key, url);
        for hole in url.holes() {
            self.not_secret(key, hole);
        }
        match url_pattern(url.source(), self.auth) {
            Err(text) => self.mistake(key, text),
            Ok((pattern, path)) => {
                let inside = |host| is_within(&pattern, host) && covers(host, &path);
                if !self.auth.hosts.iter().any(inside) {
                    self.mistake(key, format!("\"{}\" is not among the hosts", url.source()));
                }
            }
        }
    }

    fn declared(&mut self, key: &str, template: &Template) {
        template.holes().into_iter().for_each(|hole| self.declared_hole(key, hole));
    }

    fn declared_hole(&mut self, key: &str, hole: &str) {
        if !is_declared(self.auth, hole) {
            self.mistake(key, format!("\"{{{hole}}}\" is not a declared field"));
        }
    }

    fn not_secret(&mut self, key: &str, hole: &str) {
        let name = hole.strip_suffix(".host").unwrap_or(hole);
        if self.auth.field(name).is_some_and(|field| field.secret) {
            let text = format!("\"{name}\" is a secret, and URLs are logged (secret = false?)");
            self.mistake(key, text);
        }
    }

    fn kind(&mut self) {
        let auth = self.auth;
        let oauth2 = auth.oauth2.as_ref();
        match auth.kind {
            AuthKind::Oauth2 if oauth2.is_none_or(|o| o.authorize_url.is_none()) => {
                self.mistake("oauth2.authorize_url", "is missing");
            }
            kind if kind.is_oauth2() && oauth2.is_none_or(|o| o.token_url.is_none()) => {
                self.mistake("oauth2.token_url", "is missing");
            }
            AuthKind::Oauth1 if auth.oauth1.is_none() => self.mistake("oauth1", "is missing"),
            AuthKind::Jwt if auth.jwt.is_none() => self.mistake("jwt", "is missing"),
            _ => {}
        }
    }

    /// Access logs keep query strings; where there is a choice, the header is the better one.
    fn query_beside_header(&mut self) {
        let secret = |hole: &str| self.auth.field(hole).is_none_or(|field| field.secret);
        let in_query = self.auth.attach.iter().any(|attachment| match attachment {
            Attachment::Query { value, .. } => value.holes().into_iter().any(secret),
            _ => false,
        });
        let in_header = |auth: &Auth| auth.attach.iter().any(carries_secret_in_header);
        let others = self.app.auths.iter().filter(|auth| auth.id != self.auth.id);
        if let Some(other) = others.into_iter().find(|auth| in_header(auth)).filter(|_| in_query) {
            let text = format!("puts a secret into the URL; \"{}\" has a header for it", other.id);
            let warning = self.at("attach", text).warning();
            self.found.push(warning);
        }
    }
}

fn carries_secret_in_header(attachment: &Attachment) -> bool {
    match attachment {
        Attachment::Header { value, .. } => !value.is_constant(),
        Attachment::Basic { .. } => true,
        _ => false,
    }
}

/// A template must not span names that strangers can register.
fn check_reach(pattern: &HostPattern) -> Result<(), String> {
    let known = pattern.origins();
    if known.is_empty() && !pattern.host.is_whole() {
        let suffix = pattern.host.suffix();
        let private = psl::suffix(suffix.as_bytes())
            .is_some_and(|found| found.typ() == Some(psl::Type::Private));
        let found = psl::suffix(suffix.as_bytes());
        let is_public = found.is_none_or(|found| found.as_bytes() == suffix.as_bytes());
        if suffix.is_empty() || (is_public && !private) {
            return Err(format!("anyone can register a name below \"{suffix}\""));
        }
    }
    let is_icann = |name: &str| {
        psl::suffix(name.as_bytes())
            .is_some_and(|s| s.as_bytes() == name.as_bytes() && s.typ() == Some(psl::Type::Icann))
    };
    match known.iter().find(|origin| is_icann(origin.host.as_str())) {
        Some(origin) => Err(format!("\"{}\" is a public suffix", origin.host)),
        None => Ok(()),
    }
}

/// Framing, hop-by-hop and routing headers (RFC 9110 §7.6.1), and our own.
fn is_ours(name: &HeaderName) -> bool {
    const CONNECTION: [&str; 10] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    let name = name.as_str();
    CONNECTION.contains(&name) || name.starts_with("proxy-") || name.starts_with("countersign-")
}

fn header_of(attachment: &Attachment) -> Option<&HeaderName> {
    match attachment {
        Attachment::Header { name, .. } | Attachment::Static { name, .. } => Some(name),
        Attachment::Signature(Signature::Hmac(hmac)) => match &hmac.place {
            Place::Header(name) => Some(name),
            Place::Query(_) => None,
        },
        _ => None,
    }
}

/// A field, a captured value, or a property that comes with the kind.
fn is_declared(auth: &Auth, hole: &str) -> bool {
    let name = hole.strip_suffix(".host").unwrap_or(hole);
    let oauth2 = auth.oauth2.as_ref();
    let captured = |o: &OAuth2| captures(o).any(|captured| captured == name);
    match name {
        "oauth_access_token" => oauth2.is_some(),
        "oauth_client_id" | "client_id" | "client_secret" if oauth2.is_some() => true,
        "jwt" if auth.jwt.is_some() => true,
        "consumer_key" | "consumer_secret" if auth.oauth1.is_some() => true,
        "oauth_token" | "oauth_token_secret" if auth.oauth1.is_some() => true,
        _ => auth.field(name).is_some() || oauth2.is_some_and(captured),
    }
}

fn captures(oauth2: &OAuth2) -> impl Iterator<Item = &str> {
    let later = oauth2.post_exchange.iter().flat_map(|step| &step.capture);
    oauth2.capture.iter().chain(later).map(|capture| capture.name.as_str())
}

fn oauth_urls(auth: &Auth) -> Vec<(String, &Template)> {
    let mut urls = Vec::new();
    if let Some(o) = &auth.oauth2 {
        let plain = [
            ("authorize_url", &o.authorize_url),
            ("token_url", &o.token_url),
            ("refresh_url", &o.refresh_url),
            ("revoke_url", &o.revoke_url),
            ("device_authorization_url", &o.device_authorization_url),
            ("issuer", &o.issuer),
            ("registration_url", &o.registration_url),
            ("refresh.url", &o.refresh.url),
        ];
        let plain = plain.into_iter().filter_map(|(key, url)| Some((key, url.as_ref()?)));
        urls.extend(plain.map(|(key, url)| (format!("oauth2.{key}"), url)));
        urls.extend(o.revoke.iter().map(|r| ("oauth2.revoke.url".to_owned(), &r.url)));
        let steps = o.post_exchange.iter();
        urls.extend(steps.map(|step| ("oauth2.post_exchange.url".to_owned(), &step.url)));
    }
    if let Some(o) = &auth.oauth1 {
        urls.push(("oauth1.request_token_url".to_owned(), &o.request_token_url));
        urls.push(("oauth1.authorize_url".to_owned(), &o.authorize_url));
        urls.push(("oauth1.access_token_url".to_owned(), &o.access_token_url));
    }
    urls
}

/// Secrets, codes and tokens travel to these, so TLS is not for the file to decide.
fn check_secure(url: &str, auth: &Auth) -> Result<(), String> {
    let (pattern, _) = url_pattern(url, auth)?;
    if pattern.clear_text && !(auth.clear_text && is_private_name(pattern.host.suffix())) {
        let mend = "must start with https://; clear_text = true allows http on this machine";
        return Err(mend.to_owned());
    }
    let is_address = |ip: std::net::IpAddr| !(pattern.clear_text && ip.is_loopback());
    match pattern.origins().iter().any(|origin| origin.host.ip().is_some_and(is_address)) {
        true => Err("must name a host, not an address".to_owned()),
        false => check_reach(&pattern),
    }
}

/// The host pattern and the path of a URL template. Holes in the path stand for plain segments.
fn url_pattern(url: &str, auth: &Auth) -> Result<(HostPattern, String), String> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme @ ("https" | "http"), rest)) => (scheme, rest),
        _ if url.starts_with('{') => ("https", url),
        _ => return Err("must start with https://".to_owned()),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains(['@', '\\']) {
        return Err("has user information or a backslash in it".to_owned());
    }
    let pattern = HostPattern::parse(&format!("{scheme}://{authority}"), &auth.fields);
    Ok((pattern.map_err(|error| error.to_string())?, without_holes(path)))
}

fn without_holes(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for (at, piece) in path.split('{').enumerate() {
        match piece.split_once('}') {
            Some((_, after)) if at > 0 => {
                plain.push('x');
                plain.push_str(after);
            }
            _ => plain.push_str(piece),
        }
    }
    plain
}

/// Whether every host of `inner` is one of `outer`, on the same port and scheme.
fn is_within(inner: &HostPattern, outer: &HostPattern) -> bool {
    if inner.port != outer.port || inner.clear_text != outer.clear_text {
        return false;
    }
    let below = match (&inner.prefix, &outer.prefix) {
        (Some(inner), Some(outer)) => prefix_covers(outer, inner),
        (None, _) | (_, None) => true,
    };
    below && inner.host.is_within(&outer.host)
}

fn covers(host: &HostPattern, path: &str) -> bool {
    host.prefix.as_deref().is_none_or(|prefix| prefix_covers(prefix, or_root(path)))
}

fn or_root(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

#[cfg(test)]
#[path = "lint_tests.rs"]
mod tests;
