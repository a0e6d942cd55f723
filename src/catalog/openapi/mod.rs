//! A definition from an OpenAPI document: 2.0 (Swagger), 3.0 and 3.1, as JSON or YAML. Pure: text
//! in, TOML out, with remarks about what the document does not say.
//!
//! A document describes an API for people who read documentation, and leaves out what a proxy has
//! to know (a word before the key, how tokens are refreshed), so that a person should read what
//! comes out. It always passes the lint. Sources: OpenAPI 3.1.1 §4.8.5 (servers), §4.8.27
//! (security schemes); OpenAPI 2.0 (`host`, `securityDefinitions`).

mod operations;
mod schemes;
mod servers;
mod yaml;

use serde_json::Value;

use super::write::{Auth, Definition};
use super::{Catalog, Mistake};

pub use servers::Server;

/// What came of a document.
#[derive(Debug, Clone)]
pub struct Derived {
    pub id: String,
    /// Passes the lint.
    pub toml: String,
    /// What could not be derived, or was guessed. For the person who reads it.
    pub remarks: Vec<String>,
}

/// What is asked of the importer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes<'a> {
    /// Instead of one made of the title.
    pub id: Option<&'a str>,
    /// Where the document comes from: relative URLs in it count from there.
    pub url: Option<&'a str>,
}

/// Why there is no definition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this is neither JSON nor YAML: {0}")]
    Syntax(String),
    #[error("this is no OpenAPI document: it says neither `openapi` nor `swagger`")]
    NotOpenApi,
    #[error("OpenAPI {0} is not known; 2.0, 3.0 and 3.1 are")]
    Version(String),
    #[error("the document names no server that a credential could go to; {0}")]
    NoServer(String),
    #[error("\"{0}\" is no id; use --id with a-z, 0-9 and _")]
    Id(String),
    #[error("no definition of it passes the lint: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Lint(Vec<Mistake>),
}

/// Larger documents describe nothing more about authentication.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Derives a definition.
///
/// # Errors
/// When the document cannot be read, or names nothing that a credential may go to.
pub fn derive(text: &str, wishes: Wishes<'_>) -> Result<Derived, Error> {
    let document = Document::read(text, wishes.url)?;
    let mut remarks = Vec::new();
    let servers = servers::of(&document, &mut remarks)?;
    let mut ways = schemes::ways(&document, &servers, &mut remarks);
    if let Some(test) = operations::test(&document, &servers) {
        ways.iter_mut().for_each(|way| way.test.clone_from(&test));
    }
    let app = Definition {
        id: id(&document, wishes.id)?,
        name: document.title(),
        description: description(&document, &servers),
        docs_url: docs_url(&document),
        ways,
        ..Definition::default()
    };
    finished(app, remarks)
}

/// Leaves out what the lint does not let through: a test request, a way to authenticate.
fn finished(mut app: Definition, mut remarks: Vec<String>) -> Result<Derived, Error> {
    let judged = |way: &Auth| {
        let trial = Definition { ways: vec![way.clone()], ..app.clone() };
        match Catalog::build([(app.file(), trial.toml())]) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes,
        }
    };
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    for mut way in app.ways.clone() {
        let mut mistakes = judged(&way);
        if mistakes.iter().any(|mistake| mistake.key.contains(".test")) {
            way.test.clear();
            mistakes = judged(&way);
        }
        match mistakes.is_empty() {
            true => kept.push(way),
            false => {
                let texts: Vec<_> = mistakes.iter().map(|m| m.text.clone()).collect();
                remarks.push(format!("\"{}\" is left out: {}", way.id, texts.join("; ")));
                refused.extend(mistakes);
            }
        }
    }
    if kept.is_empty() {
        return Err(Error::Lint(refused));
    }
    if kept.iter().all(|way| way.test.is_empty()) {
        remarks.push(
            "no request is harmless and needs no parameter, so there is no test request".to_owned(),
        );
    }
    app.ways = kept;
    Ok(Derived { id: app.id.clone(), toml: app.toml(), remarks })
}

/// The document, and where it is from.
pub(super) struct Document {
    pub root: Value,
    pub url: Option<url::Url>,
    pub version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Two,
    Three,
}

impl Document {
    fn read(text: &str, url: Option<&str>) -> Result<Self, Error> {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let root: Value = match text.starts_with('{') {
            true => serde_json::from_str(text).map_err(|error| Error::Syntax(error.to_string()))?,
            false => yaml::read(text).map_err(Error::Syntax)?,
        };
        let version = version(&root)?;
        Ok(Self { root, url: url.and_then(|url| url.parse().ok()), version })
    }

    /// Follows `$ref` within the document, once: what it names is what it stands for.
    pub fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let target = value["$ref"].as_str().and_then(|at| self.root.pointer(at.strip_prefix('#')?));
        target.unwrap_or(value)
    }

    fn title(&self) -> String {
        let title = self.root["info"]["title"].as_str().unwrap_or("API").trim();
        let shown: String = title.chars().filter(|c| !c.is_control()).take(60).collect();
        let words = ["Public API", "REST API", "Web API", "API", "Api"];
        let bare = words.iter().find_map(|word| shown.trim_end().strip_suffix(word));
        let bare = bare.map(|rest| rest.trim_end_matches([' ', '-', ':', '('])).unwrap_or(&shown);
        if bare.is_empty() { shown } else { bare.to_owned() }
    }
}

fn version(root: &Value) -> Result<Version, Error> {
    let said = |key: &str| match &root[key] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (said("openapi"), said("swagger")) {
        (Some(version), _) if version.starts_with("3.") => Ok(Version::Three),
        (None, Some(version)) if version.starts_with('2') => Ok(Version::Two),
        (Some(version), _) | (None, Some(version)) => Err(Error::Version(version)),
        (None, None) => Err(Error::NotOpenApi),
    }
}

fn id(document: &Document, wished: Option<&str>) -> Result<String, Error> {
    let made = || {
        let lower = document.title().to_lowercase();
        let words = lower.split(|c: char| !c.is_ascii_alphanumeric());
        words.filter(|word| !word.is_empty()).take(6).collect::<Vec<_>>().join("_")
    };
    let id = wished.map_or_else(made, str::to_owned);
    match id.parse::<crate::ids::AppId>() {
        Ok(_) => Ok(id),
        Err(_) => Err(Error::Id(id.chars().filter(|c| !c.is_control()).take(64).collect())),
    }
}

fn description(document: &Document, servers: &[Server]) -> String {
    let told = document.root["info"]["description"].as_str().unwrap_or_default();
    let first = told.split(['\n', '\r']).map(str::trim).find(|line| !line.is_empty());
    let first = first.unwrap_or_default().split(". ").next().unwrap_or_default();
    let plain = !first.contains(['<', '[', '#', '*', '`', '|', '{']);
    match plain && (8..=90).contains(&first.len()) {
        true => first.trim_end_matches('.').to_owned(),
        false => match servers.first() {
            Some(server) => format!("The API at {}", server.shown_host()),
            None => "An API".to_owned(),
        },
    }
}

fn docs_url(document: &Document) -> Option<String> {
    let url = document.root["externalDocs"]["url"].as_str()?;
    (url.starts_with("https://") && !url.contains(char::is_whitespace)).then(|| url.to_owned())
}

#[cfg(test)]
mod tests;
