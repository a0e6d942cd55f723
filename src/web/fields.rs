//! An app's fields as inputs, and what was entered as fields. Pure.

use std::collections::BTreeMap;

use crate::catalog::{Auth, Field, FieldKind};
use crate::connect::{Error, Preset, Way};
use crate::secret::Secret;

/// Names of inputs begin so: an app may call a field anything, `token` too.
const PREFIX: &str = "f.";
/// Keys are shorter, certificates too.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// One input.
#[derive(Debug, PartialEq, Eq)]
pub struct Input {
    /// Of the input; its `id` too.
    pub name: String,
    pub label: String,
    pub help: Option<String>,
    pub placeholder: String,
    pub kind: Kind,
    pub required: bool,
    /// What the browser may hold against it.
    pub pattern: Option<String>,
    pub prefix: String,
    pub suffix: String,
    /// Never of a secret.
    pub value: String,
    pub error: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Secret,
    /// A secret of several lines.
    Lines,
    Choice(Vec<String>),
}

/// What is wrong with what was entered.
#[derive(Debug, Default)]
pub struct Wrong {
    /// By field.
    pub fields: BTreeMap<String, String>,
    /// The id of a client that a person brings.
    pub client: Option<String>,
    pub whole: Option<Said>,
}

impl Wrong {
    pub fn whole(text: impl Into<String>) -> Self {
        let whole = Some(Said { text: text.into(), details: None });
        Self { whole, ..Self::default() }
    }

    pub fn is_nothing(&self) -> bool {
        self.whole.is_none() && self.client.is_none() && self.fields.is_empty()
    }
}

/// For the whole form: in our words, and in those of the provider.
#[derive(Debug)]
pub struct Said {
    pub text: String,
    pub details: Option<String>,
}

/// What was decided beforehand is not asked.
pub fn inputs(
    auth: &Auth,
    entered: &BTreeMap<String, Secret>,
    preset: Option<&Preset>,
    wrong: &Wrong,
) -> Vec<Input> {
    let asked = auth.fields.iter().filter(|field| field.is_asked());
    let open = asked.filter(|field| preset.is_none_or(|preset| !preset.has(&field.name)));
    open.map(|field| input(auth, field, entered.get(&field.name), wrong)).collect()
}

fn input(auth: &Auth, field: &Field, entered: Option<&Secret>, wrong: &Wrong) -> Input {
    let (prefix, suffix) = affixes(auth, field);
    let shown = entered.filter(|_| !field.secret).map(|value| value.expose().to_owned());
    let kind = match () {
        () if !field.choices.is_empty() => Kind::Choice(field.choices.clone()),
        () if field.secret && has_lines(field) => Kind::Lines,
        () if field.secret => Kind::Secret,
        () => Kind::Text,
    };
    Input {
        name: format!("{PREFIX}{}", field.name),
        label: field.label.clone(),
        help: field.help.clone(),
        placeholder: field.placeholder.clone().unwrap_or_default(),
        // What was entered before an account was connected is kept with it, except keys.
        required: !field.optional
            && field.default.is_none()
            && !(field.secret && entered.is_some() && Way::of(auth) == Way::Browser),
        pattern: field.pattern.as_ref().and_then(|pattern| whole(pattern.as_str())),
        value: shown.or_else(|| field.default.clone()).unwrap_or_default(),
        error: wrong.fields.get(&field.name).cloned(),
        kind,
        prefix,
        suffix,
    }
}

/// What stands around the value in the account's host: nothing and `.zendesk.com`.
fn affixes(auth: &Auth, field: &Field) -> (String, String) {
    let hole = format!("{{{}}}", field.name);
    if field.secret || field.kind != FieldKind::Text || !field.choices.is_empty() {
        return (String::new(), String::new());
    }
    let hosts = auth.hosts.iter().map(|pattern| pattern.host.to_string());
    let around = hosts.filter_map(|host| {
        let (before, after) = host.split_once(&hole)?;
        (!before.contains('{') && !after.contains('{'))
            .then(|| (before.to_owned(), after.to_owned()))
    });
    let mut around = around.filter(|(_, after)| !after.is_empty());
    around.next().unwrap_or_default()
}

/// The catalog does not say which secrets have several lines; their names do.
fn has_lines(field: &Field) -> bool {
    let name = field.name.to_lowercase();
    ["private_key", "certificate", "json", "pem"].iter().any(|word| name.contains(word))
}

/// A pattern that is looked for, as HTML wants it: one for the whole value. Its dialect takes a
/// hyphen at the end of a class for a mistake.
fn whole(pattern: &str) -> Option<String> {
    // `^a|b$` is two patterns, and groups of other kinds are another dialect.
    if pattern.contains('|') || pattern.replace("(?:", "(").contains("(?") {
        return None;
    }
    let (start, rest) = match pattern.strip_prefix('^') {
        Some(rest) => ("", rest),
        None => (".*", pattern),
    };
    let (middle, end) = match rest.strip_suffix('$') {
        Some(middle) => (middle, ""),
        None => (rest, ".*"),
    };
    Some(format!("{start}(?:{}){end}", middle.replace("-]", "\\-]")))
}

/// What was entered, by field; `said` gives the value of an input. Blanks around a value come from
/// copying, and so does the rest of an address around a part of it.
///
/// # Errors
/// What is too long or has characters that no value has, by field.
pub fn entered<'f>(
    auth: &Auth,
    said: impl Fn(&str) -> Option<&'f str>,
) -> Result<BTreeMap<String, Secret>, Wrong> {
    let (mut values, mut wrong) = (BTreeMap::new(), Wrong::default());
    for field in auth.fields.iter().filter(|field| field.is_asked()) {
        let Some(text) = said(&format!("{PREFIX}{}", field.name)) else { continue };
        let (prefix, suffix) = affixes(auth, field);
        let text = without(text.trim(), &prefix, &suffix);
        let stray = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        match () {
            () if text.is_empty() => {}
            () if text.len() > MAX_VALUE_BYTES || text.chars().any(stray) => {
                let why = "this is too long, or has characters that no such value has".to_owned();
                wrong.fields.insert(field.name.clone(), why);
            }
            () => drop(values.insert(field.name.clone(), Secret::from(text.to_owned()))),
        }
    }
    if wrong.fields.is_empty() { Ok(values) } else { Err(wrong) }
}

fn without<'t>(text: &'t str, prefix: &str, suffix: &str) -> &'t str {
    if suffix.is_empty() {
        return text;
    }
    let text = text.strip_prefix("https://").unwrap_or(text);
    let text = text.strip_prefix(prefix).unwrap_or(text).trim_end_matches('/');
    text.find(suffix).map_or(text, |at| &text[..at])
}

/// The inputs of a request whose parameters were read into a map.
pub fn in_map<'m>(pairs: &'m BTreeMap<String, String>) -> impl Fn(&str) -> Option<&'m str> {
    |name| pairs.get(name).map(String::as_str)
}

/// An error of connecting as one of the form, if it is one that a person can mend there.
pub fn of_error(auth: &Auth, error: &Error) -> Option<Wrong> {
    let one = |field: &str, text: String| {
        let fields = BTreeMap::from([(field.to_owned(), text)]);
        Some(Wrong { fields, ..Wrong::default() })
    };
    match error {
        Error::Missing { field, .. } => one(field, "This is needed.".to_owned()),
        Error::Invalid(invalid) => {
            let text = invalid.to_string();
            let named =
                auth.fields.iter().find(|field| text.contains(&format!("\"{}\"", field.name)));
            let field = named?;
            one(&field.name, told(field))
        }
        Error::NotAttachable(why) => {
            let text = "This does not fit. Check what you entered and try again.".to_owned();
            let details = Some(why.clone());
            Some(Wrong { whole: Some(Said { text, details }), ..Wrong::default() })
        }
        _ => None,
    }
}

fn told(field: &Field) -> String {
    let example = field.placeholder.as_ref().map(|text| format!(", like {text}"));
    match &field.kind {
        _ if !field.choices.is_empty() => "Choose one of the list.".to_owned(),
        FieldKind::Host(_) => "This is not a host that can be used here.".to_owned(),
        FieldKind::Url(_) => "This is not an https:// address that can be used here.".to_owned(),
        FieldKind::Text => format!("This does not look right{}.", example.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    fn auth(app: &str, id: &str) -> Auth {
        let catalog = Catalog::embedded().expect("the catalog is sound");
        catalog.app(app).expect(app).auth(id).expect(id).clone()
    }

    #[test]
    fn a_tenants_name_stands_in_its_address() {
        let auth = auth("zendesk", "api_token");
        let inputs = inputs(&auth, &BTreeMap::new(), None, &Wrong::default());
        let names: Vec<_> = inputs.iter().map(|input| (&*input.prefix, &*input.suffix)).collect();
        assert_eq!(names[0], ("", ".zendesk.com"));
        assert_eq!(inputs[2].kind, Kind::Secret);
        for typed in ["acme", " acme ", "https://acme.zendesk.com/", "acme.zendesk.com/agent"] {
            let pairs = BTreeMap::from([("f.subdomain".to_owned(), typed.to_owned())]);
            let entered = entered(&auth, in_map(&pairs)).expect(typed);
            assert_eq!(entered["subdomain"].expose(), "acme", "{typed}");
        }
    }

    #[test]
    fn a_secret_is_never_shown_again() {
        let auth = auth("slack", "bot_token");
        let held = BTreeMap::from([("bot_token".to_owned(), Secret::from("xoxb-1".to_owned()))]);
        let inputs = inputs(&auth, &held, None, &Wrong::default());
        assert_eq!(inputs[0].value, "");
        assert_eq!(inputs[0].pattern.as_deref(), Some("(?:xox[a-z]-).*"));
    }

    #[test]
    fn a_pattern_is_for_the_whole_value() {
        for (pattern, html) in
            [("^a$", "(?:a)"), ("a", ".*(?:a).*"), ("^[a-z0-9-]+$", "(?:[a-z0-9\\-]+)")]
        {
            assert_eq!(whole(pattern).as_deref(), Some(html), "{pattern}");
        }
    }

    #[test]
    fn a_value_with_control_characters_is_refused() {
        let auth = auth("slack", "bot_token");
        let pairs = BTreeMap::from([("f.bot_token".to_owned(), "xoxb-\u{0}".to_owned())]);
        let wrong = entered(&auth, in_map(&pairs)).err().expect("it is refused");
        assert!(wrong.fields.contains_key("bot_token"));
    }
}
