//! A `curl` command, as documentation has it and browsers copy it, read into a request.
//!
//! What would prove somebody's identity is left out and told: countersign attaches the account's
//! own. Pure. The quoting is that of POSIX shells, with `$'…'`, which browsers write.

use super::draft::{BodyKind, FileRow, Row};

/// Longer than any command that anybody pastes.
const MAX_BYTES: usize = 256 * 1024;
const MAX_WORDS: usize = 2000;

/// What a command asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Imported {
    pub method: String,
    pub url: String,
    pub headers: Vec<Row>,
    pub kind: BodyKind,
    /// Of a body that is JSON or text.
    pub body: String,
    pub form: Vec<Row>,
    /// Of a multipart form.
    pub parts: Vec<Row>,
    pub files: Vec<FileRow>,
    /// What was left out, in sentences.
    pub notes: Vec<String>,
}

/// Why a text is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    #[error("Paste a command that begins with curl.")]
    NotCurl,
    #[error("The command is too long.")]
    TooLong,
    #[error("A quotation mark in the command is never closed: paste it whole.")]
    Unclosed,
    #[error("{0} has no value behind it: paste the command whole.")]
    NoValue(String),
    #[error("The command names no URL.")]
    NoUrl,
}

/// Reads a command.
///
/// # Errors
/// When it is none, or not whole.
pub fn parse(command: &str) -> Result<Imported, Mistake> {
    if command.len() > MAX_BYTES {
        return Err(Mistake::TooLong);
    }
    let words = words(command)?;
    let mut words = words.into_iter();
    let program = words.next().ok_or(Mistake::NotCurl)?;
    if !["curl", "curl.exe"].contains(&program.rsplit('/').next().unwrap_or_default()) {
        return Err(Mistake::NotCurl);
    }
    let mut reading = Reading::default();
    while let Some(word) = words.next() {
        reading.word(&word, &mut words)?;
    }
    reading.finish()
}

/// The words of a command, up to where the shell would begin another.
fn words(command: &str) -> Result<Vec<String>, Mistake> {
    let mut chars = command.trim().trim_start_matches("$ ").chars().peekable();
    let (mut words, mut word) = (Vec::new(), None::<String>);
    while let Some(c) = chars.next() {
        match c {
            '\'' => single(&mut chars, word.get_or_insert_default())?,
            '"' => double(&mut chars, word.get_or_insert_default())?,
            '$' if chars.peek() == Some(&'\'') => {
                chars.next();
                ansi(&mut chars, word.get_or_insert_default())?;
            }
            '\\' => match chars.next() {
                Some('\r') => drop(chars.next_if_eq(&'\n')),
                Some('\n') | None => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            '\n' if words.is_empty() && word.is_none() => {}
            '|' | ';' | '>' | '<' | '\n' => break,
            '&' if word.is_none() => break,
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
        if words.len() > MAX_WORDS {
            return Err(Mistake::TooLong);
        }
    }
    words.extend(word);
    Ok(words)
}

type Chars<'c> = std::iter::Peekable<std::str::Chars<'c>>;

fn single(chars: &mut Chars<'_>, word: &mut String) -> Result<(), Mistake> {
    loop {
        match chars.next().ok_or(Mistake::Unclosed)? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

fn double(chars: &mut Chars<'_>, word: &mut String) -> Result<(), Mistake> {
    loop {
        match chars.next().ok_or(Mistake::Unclosed)? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(Mistake::Unclosed)? {
                '\n' => {}
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

/// `$'…'`: the escapes of C.
fn ansi(chars: &mut Chars<'_>, word: &mut String) -> Result<(), Mistake> {
    loop {
        let c = match chars.next().ok_or(Mistake::Unclosed)? {
            '\'' => return Ok(()),
            '\\' => match chars.next().ok_or(Mistake::Unclosed)? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'x' => code(chars, 2),
                'u' => utf16(chars),
                'U' => code(chars, 8),
                c => c,
            },
            c => c,
        };
        word.push(c);
    }
}

/// Browsers write what is beyond 16 bits as two halves.
fn utf16(chars: &mut Chars<'_>) -> char {
    let high = number(chars, 4);
    if (0xd800..0xdc00).contains(&high) {
        let mut ahead = chars.clone();
        if ahead.next() == Some('\\') && ahead.next() == Some('u') {
            let low = number(&mut ahead, 4);
            if (0xdc00..0xe000).contains(&low) {
                *chars = ahead;
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
        }
    }
    char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn code(chars: &mut Chars<'_>, digits: usize) -> char {
    char::from_u32(number(chars, digits)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn number(chars: &mut Chars<'_>, digits: usize) -> u32 {
    let mut code = 0u32;
    for _ in 0..digits {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(16)) else { break };
        chars.next();
        code = code.wrapping_mul(16).wrapping_add(digit);
    }
    code
}

/// Options with a value that say nothing about the request itself.
const IGNORED_WITH_VALUE: &[&str] = &[
    "--cacert",
    "--cert",
    "--ciphers",
    "--connect-timeout",
    "--cookie-jar",
    "--key",
    "--max-redirs",
    "--max-time",
    "--output",
    "--proxy",
    "--proxy-user",
    "--resolve",
    "--retry",
    "--retry-delay",
    "--write-out",
];

/// The long names of options that are written short. `true`: they have a value.
const SHORT: &[(char, &str, bool)] = &[
    ('X', "--request", true),
    ('H', "--header", true),
    ('d', "--data", true),
    ('F', "--form", true),
    ('u', "--user", true),
    ('b', "--cookie", true),
    ('A', "--user-agent", true),
    ('e', "--referer", true),
    ('G', "--get", false),
    ('I', "--head", false),
    ('E', "--cert", true),
    ('c', "--cookie-jar", true),
    ('m', "--max-time", true),
    ('o', "--output", true),
    ('w', "--write-out", true),
    ('x', "--proxy", true),
    ('U', "--proxy-user", true),
];

/// What has been read of a command.
#[derive(Default)]
struct Reading {
    method: Option<String>,
    url: Option<String>,
    headers: Vec<Row>,
    data: Vec<Data>,
    parts: Vec<Row>,
    files: Vec<FileRow>,
    json: bool,
    get: bool,
    head: bool,
    notes: Vec<String>,
}

enum Data {
    Plain(String),
    /// `--data-urlencode`: a name that stands as it is, and a value to encode.
    Encoded(String, String),
}

impl Reading {
    fn word(&mut self, word: &str, rest: &mut impl Iterator<Item = String>) -> Result<(), Mistake> {
        if let Some(name) = word.strip_prefix("--") {
            return self.long(&format!("--{name}"), rest);
        }
        match word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            Some(letters) => self.short(letters, rest),
            None => {
                self.url(word);
                Ok(())
            }
        }
    }

    /// `-sSL`, `-XPOST`.
    fn short(
        &mut self,
        letters: &str,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), Mistake> {
        for (at, letter) in letters.char_indices() {
            let Some((_, long, has_value)) = SHORT.iter().find(|(short, ..)| *short == letter)
            else {
                continue;
            };
            let glued = &letters[at + letter.len_utf8()..];
            if *has_value && !glued.is_empty() {
                return self.long(long, &mut std::iter::once(glued.to_owned()));
            }
            self.long(long, rest)?;
        }
        Ok(())
    }

    fn long(
        &mut self,
        option: &str,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), Mistake> {
        let mut value = || rest.next().ok_or_else(|| Mistake::NoValue(option.to_owned()));
        match option {
            "--request" => self.method = Some(value()?.to_uppercase()),
            "--url" => {
                let url = value()?;
                self.url(&url);
            }
            "--header" => {
                let header = value()?;
                self.header(&header);
            }
            "--data" | "--data-ascii" | "--data-binary" => {
                let data = value()?;
                match data.strip_prefix('@') {
                    Some(file) => self.note_file(file),
                    None => self.data.push(Data::Plain(data)),
                }
            }
            "--data-raw" => self.data.push(Data::Plain(value()?)),
            "--data-urlencode" => {
                let data = value()?;
                let (name, text) = data.split_once('=').unwrap_or(("", &data));
                self.data.push(Data::Encoded(name.to_owned(), text.to_owned()));
            }
            "--json" => {
                let data = value()?;
                self.json = true;
                match data.strip_prefix('@') {
                    Some(file) => self.note_file(file),
                    None => self.data.push(Data::Plain(data)),
                }
            }
            "--form" | "--form-string" => {
                let part = value()?;
                self.part(&part, option == "--form-string");
            }
            "--user" | "--oauth2-bearer" | "--aws-sigv4" => {
                value()?;
                self.dropped(option);
            }
            "--cookie" => {
                value()?;
                self.dropped("the cookies");
            }
            "--user-agent" => {
                let agent = value()?;
                self.headers.push(Row::new("User-Agent", &agent));
            }
            "--referer" => {
                let referer = value()?;
                self.headers.push(Row::new("Referer", &referer));
            }
            "--get" => self.get = true,
            "--head" => self.head = true,
            ignored if IGNORED_WITH_VALUE.contains(&ignored) => drop(value()?),
            _ => {}
        }
        Ok(())
    }

    /// `name=value`, or `name=@file;type=…`, whose content is not here.
    fn part(&mut self, part: &str, is_text: bool) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if is_credential_field(name) {
            return self.dropped(&format!("the field {name}"));
        }
        match value.strip_prefix(['@', '<']).filter(|_| !is_text) {
            None => self.parts.push(Row::new(name, value)),
            Some(file) => {
                let file = file.split(';').next().unwrap_or_default();
                let base = file.rsplit('/').next().unwrap_or_default();
                self.files.push(FileRow {
                    name: name.to_owned(),
                    file_name: base.chars().take(200).collect(),
                    upload: None,
                });
            }
        }
    }

    fn note_file(&mut self, file: &str) {
        let file: String = file.chars().take(100).collect();
        self.note(&format!("The content of the file {file} is not here; enter it as the body."));
    }

    fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note == text) {
            self.notes.push(text.to_owned());
        }
    }

    fn dropped(&mut self, what: &str) {
        let what: String = what.chars().take(100).collect();
        self.note(&format!("Left out {what}: countersign attaches the account's own credential."));
    }

    fn url(&mut self, url: &str) {
        match &self.url {
            None => self.url = Some(url.to_owned()),
            Some(_) => self.note("Only the first URL was taken."),
        }
    }

    fn header(&mut self, header: &str) {
        let Some((name, value)) = header.split_once(':') else { return };
        let (name, value) = (name.trim(), value.trim());
        let lower = name.to_lowercase();
        match () {
            () if is_credential(name) => self.dropped(&format!("the header {name}")),
            () if CONNECTION.contains(&&*lower) => {}
            // Browsers say these of themselves, and no API asks for them.
            () if lower.starts_with("sec-") || lower == "accept-encoding" => {}
            () => self.headers.push(Row::new(name, value)),
        }
    }

    fn finish(mut self) -> Result<Imported, Mistake> {
        let url = self.url.take().ok_or(Mistake::NoUrl)?;
        let mut url = self.without_credentials(&url);
        let said = self.header_value("content-type").to_lowercase();
        let data = self.data();
        let (mut kind, mut body, mut form) = (BodyKind::None, String::new(), Vec::new());
        if self.get {
            if let Some(data) = &data {
                let joint = if url.contains('?') { '&' } else { '?' };
                url = format!("{url}{joint}{data}");
            }
        } else if !self.parts.is_empty() || !self.files.is_empty() {
            kind = BodyKind::Multipart;
            // Only the form that is made here knows its boundary.
            self.headers.retain(|row| !row.name.eq_ignore_ascii_case("content-type"));
            if !self.files.is_empty() {
                self.note("Choose the files of the form: their content is not in the command.");
            }
        } else if let Some(data) = data.as_deref() {
            (kind, body, form) = self.body(&said, data);
        }
        let has_body = kind != BodyKind::None;
        let usual = match () {
            () if self.head => "HEAD",
            () if has_body || (!self.data.is_empty() && !self.get) => "POST",
            () => "GET",
        };
        // What the kind of body says anyway need not be said twice.
        let implied = |row: &Row| {
            row.name.eq_ignore_ascii_case("content-type") && row.value == kind.media_type()
        };
        self.headers.retain(|row| !implied(row));
        let method = self.method.unwrap_or_else(|| usual.to_owned());
        let Self { headers, parts, files, notes, .. } = self;
        Ok(Imported { method, url, headers, kind, body, form, parts, files, notes })
    }

    fn body(&mut self, said: &str, data: &str) -> (BodyKind, String, Vec<Row>) {
        let is_form = said.is_empty() && !self.json || said.contains("x-www-form-urlencoded");
        let looks_json = data.trim_start().starts_with(['{', '[']);
        if self.json || said.contains("json") || (said.is_empty() && looks_json) {
            return (BodyKind::Json, data.to_owned(), Vec::new());
        }
        if !is_form {
            return (BodyKind::Text, data.to_owned(), Vec::new());
        }
        let mut form = Vec::new();
        for (name, value) in url::form_urlencoded::parse(data.as_bytes()) {
            match is_credential_field(&name) {
                true => self.dropped(&format!("the field {name}")),
                false => form.push(Row::new(&name, &value)),
            }
        }
        (BodyKind::Form, String::new(), form)
    }

    fn header_value(&self, name: &str) -> &str {
        let row = self.headers.iter().find(|row| row.name.eq_ignore_ascii_case(name));
        row.map_or("", |row| &row.value)
    }

    /// All data, as `curl` joins it: with `&`, JSON without anything between.
    fn data(&self) -> Option<String> {
        let parts = self.data.iter().map(|data| match data {
            Data::Plain(text) => text.clone(),
            Data::Encoded(name, value) => {
                let value: String =
                    url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
                if name.is_empty() { value } else { format!("{name}={value}") }
            }
        });
        let parts: Vec<String> = parts.collect();
        let joint = if self.json { "" } else { "&" };
        (!parts.is_empty()).then(|| parts.join(joint))
    }

    /// The URL without a user, a password, and parameters that are credentials.
    fn without_credentials(&mut self, url: &str) -> String {
        let url = match url.contains("://") {
            true => url.to_owned(),
            false => format!("https://{url}"),
        };
        let url = self.without_user(&url);
        let url = url.split('#').next().unwrap_or_default();
        let Some((front, query)) = url.split_once('?') else { return url.to_owned() };
        let (mut kept, mut left_out) = (Vec::new(), Vec::new());
        for pair in query.split('&') {
            let name = pair.split('=').next().unwrap_or_default();
            match is_credential_field(name) {
                true => left_out.push(format!("the parameter {name}")),
                false => kept.push(pair),
            }
        }
        left_out.iter().for_each(|what| self.dropped(what));
        match kept.is_empty() {
            true => front.to_owned(),
            false => format!("{front}?{}", kept.join("&")),
        }
    }

    fn without_user(&mut self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                self.dropped("the user name and password in the URL");
                format!("{scheme}://{host}{path}")
            }
            None => url.to_owned(),
        }
    }
}

/// Headers that are about the connection, which is not `curl`'s.
const CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Whether a header of this name says who somebody is.
pub fn is_credential(name: &str) -> bool {
    let name = name.to_lowercase().replace('_', "-");
    let exact = ["authorization", "proxy-authorization", "cookie", "cookie2", "x-auth", "apikey"];
    let parts = ["token", "api-key", "apikey", "secret", "password", "access-key", "auth-key"];
    exact.contains(&&*name) || parts.iter().any(|part| name.contains(part))
}

/// Whether a parameter of this name is one.
pub fn is_credential_field(name: &str) -> bool {
    let name = name.to_lowercase().replace(['-', '_'], "");
    let names = [
        "accesstoken",
        "apikey",
        "apisecret",
        "apitoken",
        "authtoken",
        "bearertoken",
        "clientsecret",
        "refreshtoken",
        "token",
    ];
    names.contains(&&*name)
}

#[cfg(test)]
#[path = "curl_tests.rs"]
mod tests;
