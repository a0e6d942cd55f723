//! Apps: what countersign knows about APIs. Data, never code for one provider.
//!
//! An app is one TOML file ([`parse`]); [`Catalog`] holds them all and answers which app owns a
//! host ([`index`]). Pure: files are read at the edge and handed in as text. The facts behind the
//! shape: RFC 6749 for OAuth, RFC 9110 §11 for HTTP authentication.

mod attach;
mod embedded;
mod entry;
mod grants;
mod hosts;
mod index;
mod lint;
mod lint_grants;
mod mistake;
pub mod openapi;
pub mod own;
mod parse;
mod parse_grants;
mod path;
pub mod samples;
mod search;
mod table;
pub mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, Method};
use serde_json::Value;

use crate::host::Host;
use crate::ids::AppId;
use crate::inject::{Attachment, Template};
use entry::Entry;

pub use entry::Card;
pub use grants::{
    Assertion, CallbackCheck, Capture, ClientAssertion, ClientAuth, DeadSignal, ErrorFields,
    ErrorInReply, FailureSign, FollowUp, Jwt, Lifetime, OAuth1, OAuth2, Param, ParamPlace, Pkce,
    Pointer, Refresh, Revocation, RevocationAuth, Rotation, Site, Strategy, TimeUnit, TokenBody,
};
pub use hosts::{Error as HostError, HostPattern, HostTemplate, Origin};
pub use index::{Claims, HostIndex};
pub use lint::lint;
pub use lint_grants::JWT_ALGORITHMS;
pub use mistake::{Mistake, Severity, did_you_mean};
pub use path::{PathGlob, is_odd, prefix_covers};

/// One API and every way to authenticate to it.
#[derive(Debug, Clone)]
pub struct App {
    pub id: AppId,
    pub name: String,
    pub description: String,
    pub categories: Vec<String>,
    pub docs_url: Option<String>,
    /// 1 was checked by hand, 2 is agreed by two sources, 3 known from one. `None`: not of ours.
    pub tier: Option<u8>,
    pub confidence: Confidence,
    /// Apps with which this one has hosts in common. Names of apps, or one that all of them give.
    pub shares_hosts_with: Vec<String>,
    /// Never empty; the first is what an account uses that names none.
    pub auths: Vec<Auth>,
    /// The file it came from, for messages.
    pub file: String,
}

/// How well the facts are founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Checked by hand or agreed by two sources.
    #[default]
    Verified,
    /// Known from one source only.
    Single,
}

impl Confidence {
    /// What a person is told before connecting; nothing when there is nothing to say.
    pub fn caution(self) -> Option<&'static str> {
        match self {
            Self::Verified => None,
            Self::Single => {
                Some("known from one source only: check the hosts before you connect it")
            }
        }
    }
}

/// One way to authenticate: `[auth.<id>]` in the file.
#[derive(Debug, Clone)]
pub struct Auth {
    pub id: String,
    pub kind: AuthKind,
    /// Of this way alone; never better founded than the app.
    pub confidence: Confidence,
    /// The only hosts that may get the credential.
    pub hosts: Vec<HostPattern>,
    /// Where relative URLs and the gateway go: `https://{subdomain}.zendesk.com/api/v2`.
    pub base_url: Template,
    pub attach: Vec<Attachment>,
    /// Hosts or paths where something else is attached, or nothing. The first that fits counts.
    pub exceptions: Vec<Exception>,
    pub fields: Vec<Field>,
    pub oauth2: Option<OAuth2>,
    pub oauth1: Option<OAuth1>,
    pub jwt: Option<Jwt>,
    pub test: Option<TestRequest>,
    /// `http://` hosts are meant, wherever they are.
    pub clear_text: bool,
    /// An echo of the credential is masked in answers. Off for an app whose answers contain the
    /// value by design, such as one that hands out keys.
    pub scrub: bool,
    /// The line of `[auth.<id>]`, for messages.
    pub line: Option<usize>,
}

/// The catalog's kinds. What is attached says the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    Oauth2,
    Oauth2ClientCredentials,
    Oauth2Password,
    Oauth1,
    ApiKey,
    Bearer,
    Basic,
    Jwt,
    TokenExchange,
    AwsSigv4,
    Signature,
    None,
}

/// What is attached at some hosts or paths instead of [`Auth::attach`].
#[derive(Debug, Clone)]
pub struct Exception {
    pub host: HostPattern,
    /// Only these paths. Empty: every path below the host pattern's prefix.
    pub paths: Vec<PathGlob>,
    /// Empty: the request goes out, without a credential.
    pub attach: Vec<Attachment>,
}

/// Which attachments a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// [`Auth::attach`].
    Usual,
    /// [`Auth::exceptions`] at this place.
    Exception(usize),
    /// The host has exceptions by path, and this path can be read in two ways. Nothing is attached.
    Unclear,
}

/// A value that an account brings.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub label: String,
    pub help: Option<String>,
    pub placeholder: Option<String>,
    pub secret: bool,
    pub optional: bool,
    pub kind: FieldKind,
    pub pattern: Option<Pattern>,
    pub default: Option<String>,
    /// When not empty, the value is one of these.
    pub choices: Vec<String>,
    pub origin: FieldOrigin,
}

/// What a field's value is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FieldKind {
    #[default]
    Text,
    /// A whole host, `gitlab.acme.example`.
    Host(HostRule),
    /// An `https` URL whose host counts.
    Url(HostRule),
}

/// Which hosts a [`FieldKind::Host`] or [`FieldKind::Url`] field may name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostRule {
    /// `docusign.net`: the host is this name or below it. Empty: any.
    pub suffixes: Vec<String>,
    /// Whether an IP address will do.
    pub addresses: bool,
}

/// Where a field's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FieldOrigin {
    /// The person who connects the account types it.
    #[default]
    Asked,
    TokenResponse,
    Callback,
    PostExchange,
    /// Every request says it anew, as a part of the host that it asks for. Never has a value.
    Request,
    /// The first group of `pattern`, found in the value of `field`.
    Derived {
        field: String,
        pattern: Pattern,
    },
}

/// A regular expression together with its text.
#[derive(Clone)]
pub struct Pattern(regex_lite::Regex);

/// A request that proves that a credential works. It carries none itself.
#[derive(Debug, Clone)]
pub struct TestRequest {
    pub method: Method,
    pub url: Template,
    pub headers: Vec<(HeaderName, String)>,
    /// Text goes out as it is, everything else as JSON.
    pub body: Option<Value>,
    pub expect: Expect,
}

/// What a good answer to a [`TestRequest`] looks like.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// One of these. Empty: any below 400 that is not in `status_not`.
    pub status: Vec<u16>,
    pub status_not: Vec<u16>,
    pub json: BTreeMap<Pointer, Expected>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// There, and not null.
    Present,
    Equal(Value),
}

/// What an answer to a [`TestRequest`] lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    #[error("status {0} is not what a good answer has")]
    Status(u16),
    #[error("the answer's JSON is not as expected at {0}")]
    Json(String),
}

impl Expect {
    /// # Errors
    /// The first thing that is not as a good answer has it.
    pub fn met(&self, status: u16, body: &[u8]) -> Result<(), Unmet> {
        let listed = match self.status.is_empty() {
            true => status < 400 && !self.status_not.contains(&status),
            false => self.status.contains(&status),
        };
        if !listed {
            return Err(Unmet::Status(status));
        }
        let json: Value = match self.json.is_empty() {
            true => return Ok(()),
            false => serde_json::from_slice(body).unwrap_or_default(),
        };
        let good = |(at, expected): &(&Pointer, &Expected)| match (at.find(&json), expected) {
            (Some(found), Expected::Present) => !found.is_null(),
            (Some(found), Expected::Equal(value)) => found == value,
            (None, _) => false,
        };
        match self.json.iter().find(|pair| !good(pair)) {
            Some((at, _)) => Err(Unmet::Json(at.as_str().to_owned())),
            None => Ok(()),
        }
    }
}

/// Every app, and which one owns a host. Immutable.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<AppId, Arc<Entry>>,
    index: HostIndex,
}

impl Catalog {
    /// The apps that come with the binary. Their definitions are read when they are asked for.
    ///
    /// # Errors
    /// A test proves that there are none; a caller treats them like those of a user's file.
    pub fn embedded() -> Result<Self, Vec<Mistake>> {
        Self::embedded_with([])
    }

    /// The apps that come with the binary, and a user's own, which replace those of the same id.
    /// `files` are names (for messages) and TOML texts.
    ///
    /// # Errors
    /// Every mistake of every own file, and every overlap of two apps.
    pub fn embedded_with(
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Mistake>> {
        let packed = embedded::apps();
        let entries = packed.map(|app| (app.card.id.clone(), Arc::new(Entry::packed(app))));
        Self::extended(entries.collect(), files)
    }

    /// File names and texts of the embedded definitions.
    pub fn embedded_files() -> impl Iterator<Item = (String, String)> {
        embedded::apps().filter_map(|app| Some((app.card.file.to_string(), app.text()?)))
    }

    /// The file name and text of one embedded definition, without unpacking the others.
    pub fn embedded_text(id: &str) -> Option<(String, String)> {
        let packed = embedded::apps().find(|app| app.card.id.as_str() == id)?;
        Some((packed.card.file.to_string(), packed.text()?))
    }

    /// Reads all files; a later one replaces an earlier one with the same id. `files` are names
    /// (for messages) and TOML texts.
    ///
    /// # Errors
    /// Every mistake of every file, and every overlap of two apps. Warnings are no errors:
    /// [`Catalog::warnings`].
    pub fn build(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<Mistake>> {
        Self::extended(BTreeMap::new(), files)
    }

    /// This catalog with further definitions, which replace those of the same id. What does not
    /// change stays the same app.
    ///
    /// # Errors
    /// As [`Catalog::build`].
    pub fn with(
        &self,
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Mistake>> {
        Self::extended(self.entries.clone(), files)
    }

    fn extended(
        mut entries: BTreeMap<AppId, Arc<Entry>>,
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        for (file, text) in files {
            match parse::app(&file, &text) {
                Ok(app) => {
                    mistakes.extend(lint(&app).into_iter().filter(Mistake::is_error));
                    entries.insert(app.id.clone(), Arc::new(Entry::read(Arc::new(app))));
                }
                Err(found) => mistakes.extend(found),
            }
        }
        match HostIndex::of(entries.values()) {
            Ok(index) if mistakes.is_empty() => Ok(Self { entries, index }),
            Ok(_) => Err(mistakes),
            Err(overlaps) => Err([mistakes, overlaps].concat()),
        }
    }

    pub fn app(&self, id: &str) -> Option<&Arc<App>> {
        self.entries.get(id)?.app()
    }

    pub fn card(&self, id: &str) -> Option<&Card> {
        self.entries.get(id).map(|entry| &entry.card)
    }

    /// What lists show of every app, sorted by id. Reads no definition.
    pub fn cards(&self) -> impl Iterator<Item = &Card> + Clone {
        self.entries.values().map(|entry| &entry.card)
    }

    /// How many apps there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All apps, sorted by id. Reads every definition, which takes a tenth of a second and some
    /// 20 MB: for most questions [`Catalog::cards`] know enough.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<App>> {
        self.entries.values().filter_map(|entry| entry.app())
    }

    /// Of the hosts that are known without an account.
    pub fn index(&self) -> &HostIndex {
        &self.index
    }

    /// All ids, the best known apps first: of two that are as close to a slip of the finger, the
    /// first is meant.
    pub fn ids_by_renown(&self) -> Vec<&str> {
        let mut cards: Vec<&Card> = self.cards().collect();
        cards.sort_by_key(|card| card.tier);
        cards.into_iter().map(|card| card.id.as_str()).collect()
    }

    /// What [`lint`] finds worth a look, but not worth a refusal.
    pub fn warnings(&self) -> Vec<Mistake> {
        self.apps().flat_map(|app| lint(app)).collect()
    }

    /// Apps by name, id, host, category or description, best first; a slip of the finger is
    /// forgiven. Reads no definition.
    pub fn ranked(&self, query: &str) -> Vec<&Card> {
        search::ranked(self.cards(), query)
    }

    /// The apps of [`Catalog::ranked`], which reads the definition of each.
    pub fn search(&self, words: &str) -> Vec<&Arc<App>> {
        self.ranked(words).into_iter().filter_map(|card| self.app(card.id.as_str())).collect()
    }
}

impl App {
    pub fn auth(&self, id: &str) -> Option<&Auth> {
        self.auths.iter().find(|auth| auth.id == id)
    }

    /// What an account uses that names none.
    pub fn default_auth(&self) -> &Auth {
        &self.auths[0]
    }
}

impl Auth {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Which attachments a request to `path` (as sent, no query) on one of the account's own
    /// hosts gets.
    pub fn choice(&self, host: &Host, port: u16, path: &str) -> Choice {
        let here = |e: &Exception| e.host.port == port && e.host.host.matches(host);
        let mut exceptions = self.exceptions.iter().enumerate().filter(|(_, e)| here(e)).peekable();
        if exceptions.peek().is_none() {
            return Choice::Usual;
        }
        let odd = is_odd(path);
        for (at, exception) in exceptions {
            if exception.is_by_path() && odd {
                return Choice::Unclear;
            }
            if exception.covers(path) {
                return Choice::Exception(at);
            }
        }
        Choice::Usual
    }

    /// The attachments behind a [`Choice`]; none when it is unclear.
    pub fn attachments(&self, choice: Choice) -> &[Attachment] {
        match choice {
            Choice::Usual => &self.attach,
            Choice::Exception(at) => self.exceptions.get(at).map_or(&[], |e| &e.attach),
            Choice::Unclear => &[],
        }
    }
}

impl Exception {
    fn is_by_path(&self) -> bool {
        self.host.prefix.is_some() || !self.paths.is_empty()
    }

    fn covers(&self, path: &str) -> bool {
        let below = self.host.prefix.as_deref().is_none_or(|prefix| prefix_covers(prefix, path));
        below && (self.paths.is_empty() || self.paths.iter().any(|glob| glob.matches(path)))
    }
}

/// Why a field does not take a value. Never repeats the value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    #[error("\"{field}\" must match {pattern}")]
    Pattern { field: String, pattern: String },
    #[error("\"{field}\" must be one of {}", choices.join(", "))]
    Choice { field: String, choices: Vec<String> },
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Field {
    /// Checks a value that is configured for this field.
    ///
    /// # Errors
    /// When the field's choices, pattern or kind do not allow it.
    pub fn check(&self, value: &str) -> Result<(), InvalidValue> {
        if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == value) {
            let (field, choices) = (self.name.clone(), self.choices.clone());
            return Err(InvalidValue::Choice { field, choices });
        }
        match &self.pattern {
            Some(pattern) if !pattern.found_in(value) => {
                let (field, pattern) = (self.name.clone(), pattern.as_str().to_owned());
                Err(InvalidValue::Pattern { field, pattern })
            }
            _ => Ok(hosts::check_kind(self, value)?),
        }
    }

    /// Whether a person is asked for it.
    pub fn is_asked(&self) -> bool {
        self.origin == FieldOrigin::Asked
    }
}

impl Pattern {
    /// # Errors
    /// When `text` is not a regular expression.
    pub fn new(text: &str) -> Result<Self, regex_lite::Error> {
        regex_lite::Regex::new(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Anchors are the pattern's own business: `^xoxb-` looks at the beginning only.
    pub fn found_in(&self, value: &str) -> bool {
        self.0.is_match(value)
    }

    /// Whether the whole of `value` is one match.
    pub fn covers(&self, value: &str) -> bool {
        self.0.find(value).is_some_and(|found| found.range() == (0..value.len()))
    }

    /// The first group's text, or the whole match when there is no group.
    pub fn capture<'a>(&self, value: &'a str) -> Option<&'a str> {
        let groups = self.0.captures(value)?;
        groups.get(1).or_else(|| groups.get(0)).map(|found| found.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}/", self.as_str())
    }
}

impl AuthKind {
    const ALL: [Self; 12] = [
        Self::Oauth2,
        Self::Oauth2ClientCredentials,
        Self::Oauth2Password,
        Self::Oauth1,
        Self::ApiKey,
        Self::Bearer,
        Self::Basic,
        Self::Jwt,
        Self::TokenExchange,
        Self::AwsSigv4,
        Self::Signature,
        Self::None,
    ];

    /// The kind that the TOML calls so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// As the TOML has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oauth2 => "oauth2",
            Self::Oauth2ClientCredentials => "oauth2_client_credentials",
            Self::Oauth2Password => "oauth2_password",
            Self::Oauth1 => "oauth1",
            Self::ApiKey => "api_key",
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::Jwt => "jwt",
            Self::TokenExchange => "token_exchange",
            Self::AwsSigv4 => "aws_sigv4",
            Self::Signature => "signature",
            Self::None => "none",
        }
    }

    /// Whether tokens come from an authorization server by OAuth 2.
    pub fn is_oauth2(self) -> bool {
        matches!(self, Self::Oauth2 | Self::Oauth2ClientCredentials | Self::Oauth2Password)
    }
}

#[cfg(test)]
mod tests;
