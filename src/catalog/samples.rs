//! A first request to an app, as code to paste. It goes through the proxy and carries no secret:
//! that is the point. Pure.

use std::fmt::Write as _;
use std::str::FromStr;

use http::Method;

use super::{App, Auth, Field};

/// What a sample is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    Curl,
    Python,
    Node,
}

impl Language {
    pub const ALL: [Self; 3] = [Self::Curl, Self::Python, Self::Node];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    /// How people write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Python => "Python",
            Self::Node => "Node.js",
        }
    }
}

/// No such language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are examples for curl, python and node")]
pub struct UnknownLanguage;

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        Self::ALL.into_iter().find(|language| language.as_str() == text).ok_or(UnknownLanguage)
    }
}

/// A request that says little and needs no permission, of the app's default way to authenticate:
/// its test request, or a look at its base URL.
///
/// The caller's token and the proxy's address come from the environment, as `countersign run` sets
/// it.
pub fn first_request(app: &App, language: Language) -> String {
    request_with(app, app.default_auth(), language)
}

/// The same for one way to authenticate.
pub fn request_with(app: &App, auth: &Auth, language: Language) -> String {
    let sample = Sample::of(app, auth);
    match language {
        Language::Curl => sample.curl(),
        Language::Python => sample.python(),
        Language::Node => sample.node(),
    }
}

struct Sample {
    title: String,
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

impl Sample {
    fn of(app: &App, auth: &Auth) -> Self {
        let title = format!("{}: countersign adds the credential", app.name);
        match &auth.test {
            Some(test) => Self {
                title,
                method: test.method.clone(),
                url: filled(test.url.source(), auth),
                headers: test.headers.iter().map(|(n, v)| (n.to_string(), v.clone())).collect(),
                body: test.body.as_ref().map(|body| match body.as_str() {
                    Some(text) => text.to_owned(),
                    None => body.to_string(),
                }),
            },
            None => Self {
                title,
                method: Method::GET,
                url: filled(auth.base_url.source(), auth),
                headers: Vec::new(),
                body: None,
            },
        }
        .with_content_type(auth.test.as_ref().and_then(|test| test.body.as_ref()))
    }

    fn with_content_type(mut self, body: Option<&serde_json::Value>) -> Self {
        let said = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !said && body.is_some_and(|body| !body.is_string()) {
            self.headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        self
    }

    fn curl(&self) -> String {
        let mut out = format!("# {}\ncurl", self.title);
        if self.method != Method::GET {
            let _ = write!(out, " -X {}", self.method);
        }
        for (name, value) in &self.headers {
            let _ = write!(out, " \\\n  -H {}", shell(&format!("{name}: {value}")));
        }
        if let Some(body) = &self.body {
            let _ = write!(out, " \\\n  --data {}", shell(body));
        }
        let _ = writeln!(out, " \\\n  {}", shell(&self.url));
        out
    }

    fn python(&self) -> String {
        let mut out = format!("# {}\nimport requests\n\nanswer = requests.request(\n", self.title);
        let _ = writeln!(out, "    {},\n    {},", text(self.method.as_str()), text(&self.url));
        if !self.headers.is_empty() {
            let _ = writeln!(out, "    headers={},", object(&self.headers));
        }
        if let Some(body) = &self.body {
            let _ = writeln!(out, "    data={},", text(body));
        }
        out.push_str("    timeout=30,\n)\nprint(answer.status_code, answer.text)\n");
        out
    }

    fn node(&self) -> String {
        let mut out = format!(
            "// {}. Node 24 and later: NODE_USE_ENV_PROXY=1, which `countersign run` sets\n\
             const answer = await fetch({}, {{\n  method: {},\n",
            self.title,
            text(&self.url),
            text(self.method.as_str())
        );
        if !self.headers.is_empty() {
            let _ = writeln!(out, "  headers: {},", object(&self.headers));
        }
        if let Some(body) = &self.body {
            let _ = writeln!(out, "  body: {},", text(body));
        }
        out.push_str("});\nconsole.log(answer.status, await answer.text());\n");
        out
    }
}

/// Holes are filled with what a person would recognise and replace.
fn filled(template: &str, auth: &Auth) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((hole, after)) = after.split_once('}') else { break };
        let name = hole.strip_suffix(".host").unwrap_or(hole);
        let value = auth.field(name).and_then(example);
        out.push_str(&value.unwrap_or_else(|| name.to_uppercase()));
        rest = after;
    }
    out.push_str(rest);
    match out.contains("://") {
        true => out,
        false => format!("https://{out}"),
    }
}

fn example(field: &Field) -> Option<String> {
    let choice = || field.choices.first().cloned();
    let placeholder = || field.placeholder.clone().filter(|text| !text.contains('…'));
    field.default.clone().or_else(choice).or_else(placeholder)
}

/// In single quotes for a POSIX shell.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A string that Python and JavaScript read alike.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn object(pairs: &[(String, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(n, v)| format!("{}: {}", text(n), text(v))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn a_sample_sends_the_test_request_without_a_secret() {
        let catalog = Catalog::embedded().expect("the embedded apps load");
        let slack = catalog.app("slack").expect("slack");
        for (language, parts) in [
            (Language::Curl, &["curl -X POST", "'https://slack.com/api/auth.test'"][..]),
            (Language::Python, &["\"POST\",", "\"https://slack.com/api/auth.test\","]),
            (Language::Node, &["fetch(\"https://slack.com/api/auth.test\"", "method: \"POST\""]),
        ] {
            let sample = first_request(slack, language);
            for part in parts {
                assert!(sample.contains(part), "{part} in {sample}");
            }
            assert!(!sample.to_lowercase().contains("authorization"), "{sample}");
        }
    }

    #[test]
    fn a_tenant_is_named_as_an_example() {
        let catalog = Catalog::embedded().expect("the embedded apps load");
        let sample = |app: &str| first_request(catalog.app(app).expect(app), Language::Curl);
        assert!(sample("zendesk").contains("'https://acme.zendesk.com/api/v2/users/me.json'"));
        assert!(sample("datadog").contains("'https://api.datadoghq.com/api/v1/validate'"));
    }

    #[test]
    fn quotes_cannot_leave_their_string() {
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(text("a\"b\n"), r#""a\"b\n""#);
    }
}
