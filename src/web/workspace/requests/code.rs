//! A request as code to paste: through the proxy, and without a secret. Pure.
//!
//! Proxy, token and CA come from the environment, as `countersign run` sets it.

use std::fmt::Write as _;

use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};

use super::draft::Ready;
use super::multipart::Part;
use crate::catalog::samples::Language;

fn start(language: Language) -> &'static str {
    match language {
        Language::Curl => "countersign run --caller NAME -- sh",
        Language::Python => "countersign run --caller NAME -- python request.py",
        Language::Node => "countersign run --caller NAME -- node request.mjs",
    }
}

/// A request in one language.
pub struct Sample {
    pub language: Language,
    pub code: String,
    /// What to put in front of it.
    pub start: &'static str,
}

/// The request in every language, with the account of this name.
pub fn samples(ready: &Ready, account: &str) -> Vec<Sample> {
    let sample = |language| Sample {
        language,
        code: code(language, ready, account),
        start: start(language),
    };
    Language::ALL.map(sample).into()
}

fn code(language: Language, ready: &Ready, account: &str) -> String {
    let mut headers: Vec<(String, String)> = ready
        .headers
        .iter()
        // What programs say of themselves is their own business.
        .filter(|(name, value)| **name != USER_AGENT && !(**name == ACCEPT && *value == "*/*"))
        // Whoever makes the body says its boundary.
        .filter(|(name, _)| ready.parts.is_empty() || **name != CONTENT_TYPE)
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    headers.push(("countersign-account".to_owned(), account.to_owned()));
    let body = match ready.parts.is_empty() {
        true => String::from_utf8_lossy(&ready.body).into_owned(),
        false => String::new(),
    };
    let request = Request { ready, headers, body };
    match language {
        Language::Curl => request.curl(),
        Language::Python => request.python(),
        Language::Node => request.node(),
    }
}

struct Request<'a> {
    ready: &'a Ready,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request<'_> {
    fn curl(&self) -> String {
        let url = self.ready.url();
        let mut out = "curl".to_owned();
        // Brackets would mean a range of URLs.
        if url.contains(['[', ']', '{', '}']) {
            out.push_str(" -g");
        }
        match (&self.ready.method, self.ready.body.is_empty()) {
            (&Method::GET, true) | (&Method::POST, false) => {}
            (&Method::HEAD, _) => out.push_str(" --head"),
            (method, _) => {
                let _ = write!(out, " -X {}", shell(method.as_str()));
            }
        }
        let _ = write!(out, " {}", shell(&url));
        for (name, value) in &self.headers {
            // A colon alone would take the header away.
            let header =
                if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
            let _ = write!(out, " \\\n  -H {}", shell(&header));
        }
        if !self.body.is_empty() {
            let _ = write!(out, " \\\n  --data-raw {}", shell(&self.body));
        }
        for part in &self.ready.parts {
            let (option, text) = match part {
                Part::Field { name, value } => ("--form-string", format!("{name}={value}")),
                Part::File { name, file_name, .. } => ("-F", format!("{name}=@{file_name}")),
            };
            let _ = write!(out, " \\\n  {option} {}", shell(&text));
        }
        out.push('\n');
        out
    }

    fn python(&self) -> String {
        let mut out = "import requests\n\nresponse = requests.request(\n".to_owned();
        let _ = writeln!(out, "    {},", quoted(self.ready.method.as_str()));
        let _ = writeln!(out, "    {},", quoted(&self.ready.url()));
        out.push_str("    headers={\n");
        for (name, value) in &self.headers {
            let _ = writeln!(out, "        {}: {},", quoted(name), quoted(value));
        }
        out.push_str("    },\n");
        if !self.body.is_empty() {
            let _ = writeln!(out, "    data={}.encode(),", quoted(&self.body));
        }
        if !self.ready.parts.is_empty() {
            out.push_str("    files=[\n");
            for part in &self.ready.parts {
                let (name, value) = match part {
                    Part::Field { name, value } => (name, format!("(None, {})", quoted(value))),
                    Part::File { name, file_name, .. } => {
                        (name, format!("open({}, \"rb\")", quoted(file_name)))
                    }
                };
                let _ = writeln!(out, "        ({}, {value}),", quoted(name));
            }
            out.push_str("    ],\n");
        }
        out.push_str("    timeout=30,\n)\nprint(response.status_code)\nprint(response.text)\n");
        out
    }

    fn node(&self) -> String {
        let mut out = self.node_form();
        let _ = writeln!(out, "const response = await fetch({}, {{", quoted(&self.ready.url()));
        let _ = writeln!(out, "  method: {},", quoted(self.ready.method.as_str()));
        out.push_str("  headers: {\n");
        for (name, value) in &self.headers {
            let _ = writeln!(out, "    {}: {},", quoted(name), quoted(value));
        }
        out.push_str("  },\n");
        if !self.body.is_empty() {
            let _ = writeln!(out, "  body: {},", quoted(&self.body));
        }
        if !self.ready.parts.is_empty() {
            out.push_str("  body: form,\n");
        }
        out.push_str("});\nconsole.log(response.status);\nconsole.log(await response.text());\n");
        out
    }
}

impl Request<'_> {
    /// The multipart body, where it is one.
    fn node_form(&self) -> String {
        let mut out = String::new();
        if self.ready.parts.is_empty() {
            return out;
        }
        if self.ready.parts.iter().any(|part| matches!(part, Part::File { .. })) {
            out.push_str("import { openAsBlob } from \"node:fs\";\n\n");
        }
        out.push_str("const form = new FormData();\n");
        for part in &self.ready.parts {
            let name = quoted(part.name());
            let _ = match part {
                Part::Field { value, .. } => {
                    writeln!(out, "form.append({name}, {});", quoted(value))
                }
                Part::File { file_name, .. } => {
                    let file = quoted(file_name);
                    writeln!(out, "form.append({name}, await openAsBlob({file}), {file});")
                }
            };
        }
        out
    }
}

/// One word of a POSIX shell.
fn shell(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._/:@%+=,".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// A string in JSON is one in Python and JavaScript, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::curl;
    use super::super::draft::{BodyKind, Draft, Row};
    use super::*;

    fn ready(draft: &Draft) -> Ready {
        draft.ready(&"https://api.test/v1".parse().expect("a URI")).expect("ready")
    }

    fn post() -> Draft {
        Draft {
            method: "POST".to_owned(),
            path: "/users".to_owned(),
            query: vec![Row::new("q", "it's")],
            headers: vec![Row::new("X-Note", "a \"b\" $c `d`")],
            kind: BodyKind::Json,
            json: "{\"a\": \"it's\\n\"}".to_owned(),
            ..Draft::default()
        }
    }

    #[test]
    fn code_says_everything_and_keeps_quotes_apart() {
        let ready = ready(&post());
        let curl = code(Language::Curl, &ready, "team");
        assert_eq!(
            curl,
            "curl 'https://api.test/v1/users?q=it%27s' \\\n  -H 'x-note: a \"b\" $c `d`' \\\n  \
             -H 'content-type: application/json' \\\n  -H 'countersign-account: team' \\\n  \
             --data-raw '{\"a\": \"it'\\''s\\n\"}'\n"
        );
        let python = code(Language::Python, &ready, "team");
        assert!(python.contains(r#"data="{\"a\": \"it's\\n\"}".encode(),"#), "{python}");
        let node = code(Language::Node, &ready, "team");
        assert!(node.contains(r#""x-note": "a \"b\" $c `d`","#), "{node}");
    }

    #[test]
    fn only_an_unusual_method_is_said() {
        for (method, said) in [("GET", "curl https:"), ("HEAD", "curl --head"), ("PUT", "-X PUT")] {
            let draft = Draft { method: method.to_owned(), ..Draft::default() };
            let curl = code(Language::Curl, &ready(&draft), "team");
            assert!(curl.contains(said), "{curl}");
        }
    }

    proptest! {
        #[test]
        fn what_is_copied_as_curl_is_imported_as_it_was(
            path in "/[a-z0-9'$`\"]{0,20}", value in "[ -~]{0,30}", body in "[^\\x00\\r]{1,60}",
        ) {
            let draft = Draft {
                method: "PUT".to_owned(),
                path,
                headers: vec![Row::new("x-note", value.trim())],
                kind: BodyKind::Text,
                text: body.clone(),
                ..Draft::default()
            };
            prop_assume!(!value.trim().is_empty());
            let ready = ready(&draft);
            let read = curl::parse(&code(Language::Curl, &ready, "team")).expect("a command");
            prop_assert_eq!(&*read.method, "PUT");
            prop_assert_eq!(read.url, ready.url());
            prop_assert_eq!(read.body, body);
            prop_assert_eq!(&read.headers[0], &draft.headers[0]);
        }
    }
}
