//! A definition as TOML that reads as if somebody had written it: the keys in the order of the
//! hand-written ones, short values in one line, nothing that says what is the default anyway. What
//! makes definitions of something else (an OpenAPI document, the importer's facts) ends here.

use std::fmt::Write as _;

use serde_json::Value;

/// An app on its way to a file. The parser reads it back, and the lint judges it.
#[derive(Default, Clone)]
pub struct Definition {
    pub comment: String,
    pub id: String,
    pub name: String,
    pub description: String,
    pub categories: Vec<String>,
    pub docs_url: Option<String>,
    pub tier: u64,
    pub single: bool,
    pub shares: Vec<String>,
    pub ways: Vec<Auth>,
}

#[derive(Default, Clone)]
pub struct Auth {
    pub id: String,
    pub comment: String,
    pub kind: String,
    pub single: bool,
    pub hosts: Vec<String>,
    pub base_url: String,
    pub attach: Vec<Pairs>,
    pub exceptions: Vec<Pairs>,
    pub fields: Vec<Pairs>,
    pub oauth2: Pairs,
    pub jwt: Pairs,
    pub test: Pairs,
}

/// Keys and values in the order in which they are written.
pub type Pairs = Vec<(&'static str, Value)>;

const WIDTH: usize = 100;

impl Definition {
    pub fn file(&self) -> String {
        format!("{}/{}.toml", &self.id[..1], self.id)
    }

    pub fn toml(&self) -> String {
        let mut out = String::new();
        comment(&mut out, &self.comment);
        line(&mut out, "id", &self.id.as_str().into());
        line(&mut out, "name", &self.name.as_str().into());
        line(&mut out, "description", &self.description.as_str().into());
        line(&mut out, "categories", &self.categories.clone().into());
        if let Some(url) = &self.docs_url {
            line(&mut out, "docs_url", &url.as_str().into());
        }
        if self.tier > 1 {
            line(&mut out, "tier", &self.tier.into());
        }
        if self.single {
            line(&mut out, "confidence", &"single".into());
        }
        if !self.shares.is_empty() {
            line(&mut out, "shares_hosts_with", &self.shares.clone().into());
        }
        for way in &self.ways {
            out.push('\n');
            way.write(&mut out);
        }
        out
    }
}

impl Auth {
    fn write(&self, out: &mut String) {
        comment(out, &self.comment);
        let path = format!("auth.{}", self.id);
        let _ = writeln!(out, "[{path}]");
        line(out, "kind", &self.kind.as_str().into());
        if self.single {
            line(out, "confidence", &"single".into());
        }
        line(out, "hosts", &self.hosts.clone().into());
        line(out, "base_url", &self.base_url.as_str().into());
        tables(out, "attach", &self.attach);
        if !self.exceptions.is_empty() {
            tables(out, "exceptions", &self.exceptions);
        }
        for field in &self.fields {
            let _ = writeln!(out, "\n[[{path}.fields]]");
            field.iter().for_each(|(key, value)| line(out, key, value));
        }
        section(out, &format!("{path}.oauth2"), &self.oauth2);
        section(out, &format!("{path}.jwt"), &self.jwt);
        section(out, &format!("{path}.test"), &self.test);
    }
}

/// Tables that are too long for a line stand below, as tables of their own.
fn section(out: &mut String, path: &str, pairs: &Pairs) {
    if pairs.is_empty() {
        return;
    }
    let is_long = |(key, value): &&(&str, Value)| {
        let table =
            value.is_object() || value.as_array().is_some_and(|a| a.iter().any(Value::is_object));
        table && key.len() + inline(value).len() + 3 > WIDTH
    };
    let _ = writeln!(out, "\n[{path}]");
    pairs.iter().filter(|pair| !is_long(pair)).for_each(|(key, value)| line(out, key, value));
    for (key, value) in pairs.iter().filter(is_long) {
        match value {
            Value::Array(tables) => {
                for table in tables {
                    let _ = writeln!(out, "\n[[{path}.{key}]]");
                    entries(out, table);
                }
            }
            table => {
                let _ = writeln!(out, "\n[{path}.{key}]");
                entries(out, table);
            }
        }
    }
}

fn entries(out: &mut String, table: &Value) {
    ordered(table).into_iter().for_each(|(key, value)| line(out, key, value));
}

/// Keys of small tables in the order in which one thinks of them; the others by name.
const ORDER: [&str; 26] = [
    "host",
    "header",
    "value",
    "username",
    "password",
    "from",
    "param",
    "method",
    "path",
    "url",
    "auth",
    "headers",
    "as",
    "choose",
    "secret",
    "equals",
    "present",
    "error_path",
    "access_token",
    "refresh_token",
    "expires_in",
    "supported",
    "rotates",
    "optional",
    "strategy",
    "status",
];

fn ordered(table: &Value) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = table.as_object().into_iter().flatten().collect();
    entries
        .sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
    entries
}

fn comment(out: &mut String, text: &str) {
    let mut row = String::from("#");
    for word in text.split_whitespace() {
        if row.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{row}");
            row = String::from("#");
        }
        row.push(' ');
        row.push_str(word);
    }
    if row.len() > 1 {
        let _ = writeln!(out, "{row}");
    }
}

fn line(out: &mut String, key: &str, value: &Value) {
    let short = format!("{} = {}", bare(key), inline(value));
    let items = value.as_array().filter(|items| !items.is_empty() && short.len() > WIDTH);
    let Some(items) = items else {
        let _ = writeln!(out, "{short}");
        return;
    };
    let _ = writeln!(out, "{} = [", bare(key));
    for item in items {
        let _ = writeln!(out, "    {},", inline(item));
    }
    let _ = writeln!(out, "]");
}

/// `attach = [{ … }]`, a line each when there are several.
fn tables(out: &mut String, key: &str, tables: &[Pairs]) {
    let shown: Vec<String> = tables.iter().map(inline_pairs).collect();
    match &shown[..] {
        [only] if key.len() + only.len() < WIDTH => {
            let _ = writeln!(out, "{key} = [{only}]");
        }
        [] => {
            let _ = writeln!(out, "{key} = []");
        }
        all => {
            let _ = writeln!(out, "{key} = [");
            for table in all {
                let _ = writeln!(out, "    {table},");
            }
            let _ = writeln!(out, "]");
        }
    }
}

fn inline_pairs(pairs: &Pairs) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{} = {}", bare(key), inline(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(_) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{} = {}", bare(key), inline(value));
            format!("{{ {} }}", ordered(value).into_iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Backslashes and quotes read better in a literal string.
fn quoted(text: &str) -> String {
    let literal =
        text.contains(['\\', '"']) && !text.contains('\'') && !text.contains(['\n', '\t']);
    match literal {
        true => format!("'{text}'"),
        false => Value::from(text).to_string(),
    }
}

fn bare(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(plain) { key.to_owned() } else { quoted(key) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_a_person_would() {
        for (value, written) in [
            (json!("a"), "\"a\""),
            (json!("^[a-z]\\.x$"), "'^[a-z]\\.x$'"),
            (json!("it's \"x\""), "\"it's \\\"x\\\"\""),
            (json!(["a", "b"]), "[\"a\", \"b\"]"),
            (json!({"/ok": true, "n": 1}), "{ \"/ok\" = true, n = 1 }"),
        ] {
            assert_eq!(inline(&value), written);
        }
    }

    #[test]
    fn a_long_list_has_a_line_for_each_item() {
        let mut out = String::new();
        line(&mut out, "scopes", &json!(["a".repeat(60), "b".repeat(60)]));
        assert_eq!(out.lines().count(), 4);
    }
}
