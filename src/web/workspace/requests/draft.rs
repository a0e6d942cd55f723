//! A request that is being made: what the form holds, what is kept of it, and what it says. Pure.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::super::Form;
use super::super::upload::Upload;
use super::multipart::{self, Part};
use crate::api::target::{self, Named};
use crate::catalog::TestRequest;
use crate::forward::Target;
use crate::proxy;

/// A name and a value that belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub value: String,
}

impl Row {
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned() }
    }

    fn is_empty(&self) -> bool {
        self.name.is_empty() && self.value.is_empty()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyKind {
    #[default]
    None,
    Json,
    Form,
    Multipart,
    Text,
}

impl BodyKind {
    pub const ALL: [Self; 5] = [Self::None, Self::Json, Self::Form, Self::Multipart, Self::Text];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Json => "json",
            Self::Form => "form",
            Self::Multipart => "multipart",
            Self::Text => "text",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Json => "JSON",
            Self::Form => "Form",
            Self::Multipart => "Files",
            Self::Text => "Text",
        }
    }

    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or_default()
    }

    /// What the request says of it, unless a header says otherwise.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Json => "application/json",
            Self::Form => "application/x-www-form-urlencoded",
            Self::Multipart => "multipart/form-data",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

/// A file of a body. Its content is there only when it has just come: files are not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileRow {
    pub name: String,
    pub file_name: String,
    #[serde(skip)]
    pub upload: Option<Upload>,
}

impl FileRow {
    fn is_empty(&self) -> bool {
        self.name.is_empty() && self.file_name.is_empty()
    }
}

/// A request that is being made. The account is named by its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Draft {
    pub account: String,
    pub method: String,
    pub path: String,
    pub query: Vec<Row>,
    pub headers: Vec<Row>,
    pub kind: BodyKind,
    pub json: String,
    pub text: String,
    pub form: Vec<Row>,
    /// Of a multipart body, beside its files.
    pub parts: Vec<Row>,
    pub files: Vec<FileRow>,
    /// Redirects are followed to where the credential may go.
    pub follow: bool,
}

pub const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
/// A form of more rows is nobody's by hand.
const MAX_ROWS: usize = 200;
pub const MAX_FILES: usize = 10;

/// What a draft says, ready to be sent.
#[derive(Debug)]
pub struct Ready {
    pub method: Method,
    pub target: Target,
    pub path: PathAndQuery,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What the body is made of, where it is a multipart one.
    pub parts: Vec<Part>,
}

impl Ready {
    /// As people write it.
    pub fn url(&self) -> String {
        let Target { host, port, secure } = &self.target;
        let (scheme, usual) = if *secure { ("https", 443) } else { ("http", 80) };
        match *port == usual {
            true => format!("{scheme}://{host}{}", self.path),
            false => format!("{scheme}://{host}:{port}{}", self.path),
        }
    }
}

impl Draft {
    /// What a form says, and the files that came with it.
    pub fn of(form: &Form, uploads: &[Upload]) -> Self {
        Self {
            account: form.text("account").to_owned(),
            method: form.said("method").unwrap_or("GET").to_uppercase(),
            path: form.text("path").to_owned(),
            query: rows(form, "query"),
            headers: rows(form, "header"),
            kind: BodyKind::named(form.text("body")),
            json: lines(form.raw("json")),
            text: lines(form.raw("text")),
            form: rows(form, "field"),
            parts: rows(form, "part"),
            files: files(form, uploads),
            follow: form.has("follow"),
        }
    }

    /// The app's test request, whose URL has the account's own values filled in.
    pub fn of_test(account: &str, test: &TestRequest, url: &str, base: &Uri) -> Self {
        let mut draft = Self {
            account: account.to_owned(),
            method: test.method.to_string(),
            headers: test
                .headers
                .iter()
                .map(|(name, value)| Row::new(name.as_str(), value))
                .collect(),
            ..Self::default()
        };
        draft.go_to(url, base);
        match &test.body {
            None => {}
            Some(serde_json::Value::String(text)) => {
                draft.kind = BodyKind::Text;
                draft.text.clone_from(text);
            }
            Some(json) => {
                draft.kind = BodyKind::Json;
                draft.json = format!("{json:#}");
            }
        }
        draft
    }

    /// Takes a URL apart: below the base URL only the path is kept, and parameters become rows.
    pub fn go_to(&mut self, url: &str, base: &Uri) {
        let (front, query) = url.split_once('?').unwrap_or((url, ""));
        let base = base.to_string();
        let below = front.strip_prefix(base.trim_end_matches('/'));
        let below = below.filter(|rest| rest.is_empty() || rest.starts_with('/'));
        self.path = below.unwrap_or(front).to_owned();
        match pairs(query) {
            Some(rows) => self.query = rows,
            None => {
                self.path = format!("{}?{query}", self.path);
                self.query.clear();
            }
        }
    }

    pub fn is_method(&self, method: &str) -> bool {
        self.method == method
    }

    /// Without a row that says nothing.
    pub fn tidied(mut self) -> Self {
        for rows in [&mut self.query, &mut self.headers, &mut self.form, &mut self.parts] {
            rows.retain(|row| !row.is_empty());
        }
        self.files.retain(|file| !file.is_empty());
        self
    }

    /// What is sent with an account whose base URL is this.
    ///
    /// # Errors
    /// What has to be mended first, in a sentence.
    pub fn ready(&self, base: &Uri) -> Result<Ready, String> {
        let method: Method =
            self.method.parse().map_err(|_| format!("“{}” is no method.", self.method))?;
        if method == Method::CONNECT {
            return Err("CONNECT asks for a tunnel, which has no place here.".to_owned());
        }
        let (target, path) = self.aim(base)?;
        let parts = match self.kind {
            BodyKind::Multipart => self.all_parts()?,
            _ => Vec::new(),
        };
        let (body, media_type) = match self.kind {
            BodyKind::Multipart => multipart::encode(&parts),
            kind => (self.content()?, kind.media_type().to_owned()),
        };
        let headers = self.fields(&media_type)?;
        Ok(Ready { method, target, path, headers, body, parts })
    }

    fn aim(&self, base: &Uri) -> Result<(Target, PathAndQuery), String> {
        let added = self.query.iter().filter(|row| !row.is_empty()).map(encoded_pair);
        let added = added.collect::<Vec<_>>().join("&");
        let path = match self.path.as_str() {
            "" => base.path().to_owned(),
            path if path.starts_with('/') || path.contains("://") => path.to_owned(),
            path => format!("/{path}"),
        };
        let path = path.split('#').next().unwrap_or_default();
        let full = match (added.is_empty(), path.contains('?')) {
            (true, _) => path.to_owned(),
            (false, true) => format!("{path}&{added}"),
            (false, false) => format!("{path}?{added}"),
        };
        match target::parse(&full).map_err(|error| format!("The path does not do: {error}."))? {
            Named::Absolute { target, path } => Ok((target, path)),
            Named::Relative(relative) => {
                let wrong = "The path does not fit the account's base URL.";
                let target = proxy::aim(base).map_err(|_| wrong)?;
                let (path, query) = match relative.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (&*relative, None),
                };
                let uri = proxy::join(base, path, query).map_err(|_| wrong)?;
                Ok((target, uri.path_and_query().cloned().ok_or(wrong)?))
            }
        }
    }

    /// # Errors
    /// For a file that has to be chosen (again).
    fn all_parts(&self) -> Result<Vec<Part>, String> {
        let fields = self.parts.iter().filter(|row| !row.is_empty());
        let mut parts: Vec<Part> = fields
            .map(|row| Part::Field { name: row.name.clone(), value: row.value.clone() })
            .collect();
        for file in self.files.iter().filter(|file| !file.is_empty()) {
            let Some(upload) = &file.upload else {
                return Err(match file.file_name.as_str() {
                    "" => format!("Choose the file for “{}”, or remove its row.", file.name),
                    name => format!("Choose the file {name} again: files are not kept."),
                });
            };
            parts.push(Part::File {
                name: if file.name.is_empty() { "file".to_owned() } else { file.name.clone() },
                file_name: upload.file_name.clone(),
                media_type: upload.media_type.clone(),
                bytes: upload.bytes.clone(),
            });
        }
        if parts.is_empty() {
            return Err("The body has no part yet: add a field or a file.".to_owned());
        }
        Ok(parts)
    }

    fn fields(&self, media_type: &str) -> Result<HeaderMap, String> {
        let mut fields = HeaderMap::new();
        for row in self.headers.iter().filter(|row| !row.is_empty()) {
            let name: HeaderName =
                row.name.parse().map_err(|_| format!("“{}” is no name of a header.", row.name))?;
            if is_ours(name.as_str()) {
                return Err(format!("The header {name} is countersign's own business: remove it."));
            }
            let value = HeaderValue::from_bytes(row.value.as_bytes());
            let value = value
                .map_err(|_| format!("The header {name} has a character that no header has."))?;
            fields.append(name, value);
        }
        // Only this one knows the boundary.
        if self.kind == BodyKind::Multipart {
            fields.remove(CONTENT_TYPE);
        }
        if self.kind != BodyKind::None && !fields.contains_key(CONTENT_TYPE) {
            let value = HeaderValue::from_str(media_type);
            fields.insert(CONTENT_TYPE, value.map_err(|_| "The body's type is no header.")?);
        }
        for (name, usual) in [(ACCEPT, "*/*"), (USER_AGENT, AGENT)] {
            if !fields.contains_key(&name) {
                fields.insert(name, HeaderValue::from_static(usual));
            }
        }
        Ok(fields)
    }

    fn content(&self) -> Result<Bytes, String> {
        Ok(match self.kind {
            BodyKind::None | BodyKind::Multipart => Bytes::new(),
            BodyKind::Text => Bytes::from(self.text.clone()),
            BodyKind::Json => {
                let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&self.json);
                checked.map_err(|error| format!("The body is not JSON: {error}."))?;
                Bytes::from(self.json.clone())
            }
            BodyKind::Form => {
                let mut pairs = url::form_urlencoded::Serializer::new(String::new());
                for row in self.form.iter().filter(|row| !row.is_empty()) {
                    pairs.append_pair(&row.name, &row.value);
                }
                Bytes::from(pairs.finish())
            }
        })
    }
}

/// APIs refuse requests that do not say who sends them.
const AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// Headers of the connection, and countersign's own.
fn is_ours(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    const PREFIXES: &[&str] = &["proxy-", "countersign-", "x-countersign-"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What need not be escaped in a parameter: what is unreserved (RFC 3986 §2.3), and what says
/// nothing in a query.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b',')
    .remove(b'@');

fn encoded_pair(row: &Row) -> String {
    let [name, value] = [&row.name, &row.value].map(|text| utf8_percent_encode(text, IN_QUERY));
    format!("{name}={value}")
}

/// The parameters of a query; `None` if they could not be written again so that they mean the same.
fn pairs(query: &str) -> Option<Vec<Row>> {
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some(Row { name: decoded(name)?, value: decoded(value)? })
    });
    pairs.collect()
}

/// Pairs of fields that are named alike, in their order.
fn rows(form: &Form, kind: &str) -> Vec<Row> {
    let (name, value) = (format!("{kind}.name"), format!("{kind}.value"));
    let pairs = form.all(&name).zip(form.all(&value));
    pairs.take(MAX_ROWS).map(|(name, value)| Row::new(name.trim(), value)).collect()
}

/// A row of a file is a name and a field for the file, which comes empty where none was chosen: then
/// the name of the one that was chosen before is what is left of it.
fn files(form: &Form, uploads: &[Upload]) -> Vec<FileRow> {
    let names = form.all("file.name").zip(form.all("file.was").chain(std::iter::repeat("")));
    let mut files: Vec<FileRow> = names
        .take(MAX_FILES)
        .map(|(name, was)| FileRow {
            name: name.trim().to_owned(),
            file_name: was.to_owned(),
            upload: None,
        })
        .collect();
    let came = uploads.iter().filter(|upload| upload.field == "file");
    for (file, upload) in files.iter_mut().zip(came) {
        if upload.is_chosen() {
            file.file_name.clone_from(&upload.file_name);
            file.upload = Some(upload.clone());
        }
    }
    files
}

/// Browsers end lines with both characters.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Uri {
        text.parse().expect("a URI")
    }

    fn draft(path: &str, query: &[(&str, &str)]) -> Draft {
        Draft {
            method: "GET".to_owned(),
            path: path.to_owned(),
            query: query.iter().map(|(name, value)| Row::new(name, value)).collect(),
            ..Draft::default()
        }
    }

    #[test]
    fn a_path_is_below_the_base_url_or_a_url_of_its_own() {
        let here = "https://api.test/v1";
        for (path, query, url) in [
            ("", &[][..], Ok("https://api.test/v1")),
            ("/", &[], Ok("https://api.test/v1/")),
            ("users", &[], Ok("https://api.test/v1/users")),
            ("/users?a=1", &[("b", "x y&z")], Ok("https://api.test/v1/users?a=1&b=x%20y%26z")),
            ("/v1/users#top", &[("q", "é")], Ok("https://api.test/v1/users?q=%C3%A9")),
            ("https://up.api.test:8443/x", &[("a", "")], Ok("https://up.api.test:8443/x?a=")),
            ("//evil.test/x", &[], Err(())),
            ("https://api.test@evil.test/", &[], Err(())),
            ("/a\\b", &[], Err(())),
            ("file:///etc/passwd", &[], Err(())),
        ] {
            let ready = draft(path, query).ready(&base(here));
            assert_eq!(
                ready.map(|ready| ready.url()).map_err(|_| ()),
                url.map(str::to_owned),
                "{path}"
            );
        }
    }

    #[test]
    fn a_url_is_taken_apart_and_means_the_same_when_it_is_put_together() {
        let here = base("https://api.test/v1");
        for (url, path, rows) in [
            ("https://api.test/v1/users?a=1&b=x%20y", "/users", 2),
            ("https://api.test/v1", "", 0),
            ("https://api.test/v10/users", "https://api.test/v10/users", 0),
            ("https://other.test/x?a=1", "https://other.test/x", 1),
            ("https://api.test/v1/x?%FF=1", "/x?%FF=1", 0),
            ("https://api.test/v1/x?flag", "/x?flag", 0),
        ] {
            let mut draft = draft("", &[]);
            draft.go_to(url, &here);
            assert_eq!((&*draft.path, draft.query.len()), (path, rows), "{url}");
            assert_eq!(draft.ready(&here).expect("ready").url(), url);
        }
    }

    #[test]
    fn what_cannot_be_sent_says_how_to_mend_it() {
        let here = base("https://api.test");
        let with = |name: &str, value: &str| Draft {
            headers: vec![Row::new(name, value)],
            ..draft("/", &[])
        };
        let json = Draft { kind: BodyKind::Json, json: "{\"a\": }".to_owned(), ..draft("/", &[]) };
        let method = |method: &str| Draft { method: method.to_owned(), ..draft("/", &[]) };
        for (draft, said) in [
            (with("bad name", "x"), "no name of a header"),
            (with("x", "a\nb"), "character that no header has"),
            (with("Host", "evil.test"), "own business"),
            (with("Transfer-Encoding", "chunked"), "own business"),
            (with("Countersign-Account", "other"), "own business"),
            (with("Proxy-Authorization", "x"), "own business"),
            (json, "line 1 column 7"),
            (method("CONNECT"), "tunnel"),
            (method("A B"), "no method"),
        ] {
            let error = draft.ready(&here).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_body_says_what_it_is_unless_a_header_does() {
        let here = base("https://api.test");
        let form = Draft {
            kind: BodyKind::Form,
            form: vec![Row::new("a", "1 2"), Row::default(), Row::new("b", "&")],
            ..draft("/", &[])
        };
        let ready = form.ready(&here).expect("ready");
        assert_eq!(ready.body, "a=1+2&b=%26");
        assert_eq!(ready.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
        let headers = vec![Row::new("Content-Type", "text/csv")];
        let text =
            Draft { kind: BodyKind::Text, text: "a,b".to_owned(), headers, ..draft("/", &[]) };
        let ready = text.ready(&here).expect("ready");
        assert_eq!(
            (&*ready.body, &ready.headers[CONTENT_TYPE]),
            (&b"a,b"[..], &HeaderValue::from_static("text/csv"))
        );
    }

    #[test]
    fn a_form_becomes_a_draft_and_is_kept_as_json() {
        let form = Form::parse(
            b"account=apn_1&method=post&path=/x&query.name=a&query.value=1&query.name=&query.value=\
              &body=json&json=%7B%0D%0A%7D&header.name=X&header.value=%20y",
        );
        let draft = Draft::of(&form, &[]);
        assert_eq!((&*draft.method, &*draft.json, draft.query.len()), ("POST", "{\n}", 2));
        let draft = draft.tidied();
        assert_eq!(draft.query, [Row::new("a", "1")]);
        let kept = serde_json::to_string(&draft).expect("JSON");
        assert_eq!(serde_json::from_str::<Draft>(&kept).expect("a draft"), draft);
        // A later version may know more, or less.
        let older: Draft = serde_json::from_str("{\"path\":\"/x\",\"new\":1}").expect("a draft");
        assert_eq!(older.path, "/x");
    }
}
