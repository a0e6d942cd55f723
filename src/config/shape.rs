//! Reading the TOML tree key by key.
//!
//! A [`Table`] remembers which keys were asked for; the rest are unknown and said so. A value that
//! does not fit is said so too, and reading goes on with the default, so that all mistakes come
//! out at once.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::{Mistakes, Span, is_from_environment};

pub(super) type Tree<'t> = Spanned<DeTable<'t>>;
type Item<'t> = Spanned<DeValue<'t>>;

/// One table of the file, present or not.
pub(super) struct Table<'t> {
    /// `callers.flow`; empty for the root.
    path: String,
    span: Span,
    entries: Option<&'t DeTable<'t>>,
    asked: RefCell<BTreeSet<&'static str>>,
    mistakes: &'t Mistakes,
}

/// One value that is there.
pub(super) struct Value<'t> {
    pub(super) path: String,
    item: &'t Item<'t>,
    mistakes: &'t Mistakes,
}

impl<'t> Table<'t> {
    pub(super) fn root(tree: &'t Tree<'t>, mistakes: &'t Mistakes) -> Self {
        Self {
            path: String::new(),
            span: 0..0,
            entries: Some(tree.get_ref()),
            asked: RefCell::default(),
            mistakes,
        }
    }

    pub(super) fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    /// The value of a key, which is known from now on.
    pub(super) fn value(&self, key: &'static str) -> Option<Value<'t>> {
        self.asked.borrow_mut().insert(key);
        self.mistakes.know(join(&self.path, key));
        let item = self.entries?.get(key)?;
        Some(Value { path: join(&self.path, key), item, mistakes: self.mistakes })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// A value that has a text, read by `read`; `None` if it is not there or wrong.
    pub(super) fn text<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        value.or_say(value.text().and_then(|text| read(&text)))
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        let flag = |value: Value<'_>| value.or_say(value.flag());
        self.value(key).and_then(flag).unwrap_or(default)
    }

    /// A whole number, or a text with a unit that `read` understands.
    pub(super) fn number<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        value.or_say(value.number().and_then(|text| read(&text)))
    }

    /// Every entry of a list that can be read. `None` if the key is not there.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        if let Some(texts) = value.split() {
            return Some(texts.iter().filter_map(|text| value.or_say(read(text))).collect());
        }
        let read = |entry: &Value<'_>| entry.or_say(entry.text().and_then(|text| read(&text)));
        Some(value.entries().iter().filter_map(read).collect())
    }

    /// A table below this one; an absent one has no keys.
    pub(super) fn table(&self, key: &'static str) -> Table<'t> {
        let below = self.value(key).and_then(|value| value.or_say(value.table()));
        below.unwrap_or_else(|| Table {
            path: join(&self.path, key),
            span: self.span.clone(),
            entries: None,
            asked: RefCell::default(),
            mistakes: self.mistakes,
        })
    }

    /// All entries, for a table whose keys are names of the user's choice.
    pub(super) fn entries(&self) -> Vec<(&'t str, Value<'t>)> {
        let all = self.entries.into_iter().flat_map(DeTable::iter);
        all.map(|(key, item)| {
            let path = join(&self.path, key.get_ref());
            (&**key.get_ref(), Value { path, item, mistakes: self.mistakes })
        })
        .collect()
    }

    /// Says that something of this table is wrong.
    pub(super) fn say(&self, text: impl Into<String>) {
        self.mistakes.say(&self.span, &self.path, text);
    }

    /// Says which keys nobody asked for.
    pub(super) fn done(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.entries.into_iter().flat_map(DeTable::iter) {
            let word = &**key.get_ref();
            if !asked.contains(word) {
                let item = self.entries.and_then(|entries| entries.get(word));
                // A variable has its place on the value; the key's is the line in the file.
                let span = match item.map(Spanned::span).filter(is_from_environment) {
                    Some(variable) => variable,
                    None => key.span(),
                };
                self.mistakes.unknown(&span, &join(&self.path, word), word, &asked);
            }
        }
    }
}

impl<'t> Value<'t> {
    pub(super) fn say(&self, text: impl Into<String>) {
        self.mistakes.say(&self.item.span(), &self.path, text);
    }

    /// The value, or a mistake said.
    pub(super) fn or_say<T>(&self, read: Result<T, String>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(text) => {
                self.say(text);
                None
            }
        }
    }

    pub(super) fn text(&self) -> Result<String, String> {
        match self.item.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(self.expected("a text in quotes", other)),
        }
    }

    /// As [`Value::text`], with a number or a truth value as it would be written.
    pub(super) fn scalar(&self) -> Result<String, String> {
        match self.item.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) => Ok(number.to_string()),
            DeValue::Boolean(flag) => Ok(flag.to_string()),
            other => Err(self.expected("a text in quotes", other)),
        }
    }

    fn flag(&self) -> Result<bool, String> {
        match self.item.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            DeValue::String(text) if self.is_variable() => text
                .parse()
                .map_err(|_| format!("expected true or false, found \"{}\"", text.escape_debug())),
            other => Err(self.expected("true or false", other)),
        }
    }

    fn number(&self) -> Result<String, String> {
        match self.item.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => {
                Ok(number.to_string().replace('_', ""))
            }
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(self.expected("a whole number", other)),
        }
    }

    /// RFC 3339, as a TOML date-time with offset or as a text.
    pub(super) fn instant(&self) -> Result<std::time::SystemTime, String> {
        let text = match self.item.get_ref() {
            DeValue::Datetime(when) => when.to_string(),
            DeValue::String(text) => text.to_string(),
            other => return Err(self.expected("a date and time", other)),
        };
        let when: Result<jiff::Timestamp, _> = text.parse();
        when.map(Into::into).map_err(|_| {
            format!(
                "\"{}\" is no date and time with an offset: 2027-01-01T00:00:00Z",
                text.escape_debug()
            )
        })
    }

    pub(super) fn table(&self) -> Result<Table<'t>, String> {
        match self.item.get_ref() {
            DeValue::Table(entries) => Ok(Table {
                path: self.path.clone(),
                span: self.item.span(),
                entries: Some(entries),
                asked: RefCell::default(),
                mistakes: self.mistakes,
            }),
            other => Err(self.expected("a table", other)),
        }
    }

    /// The entries of a list; something else is said to be none.
    pub(super) fn entries(&self) -> Vec<Value<'t>> {
        let DeValue::Array(items) = self.item.get_ref() else {
            self.say(self.expected("a list", self.item.get_ref()));
            return Vec::new();
        };
        let entry = |(at, item)| Value {
            path: format!("{}[{at}]", self.path),
            item,
            mistakes: self.mistakes,
        };
        items.iter().enumerate().map(entry).collect()
    }

    pub(super) fn is_empty_list(&self) -> bool {
        matches!(self.item.get_ref(), DeValue::Array(items) if items.is_empty())
    }

    /// A variable's text as a list.
    fn split(&self) -> Option<Vec<String>> {
        match self.item.get_ref() {
            DeValue::String(text) if self.is_variable() => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Some(parts.map(str::to_owned).collect())
            }
            _ => None,
        }
    }

    fn is_variable(&self) -> bool {
        is_from_environment(&self.item.span())
    }

    fn expected(&self, what: &str, found: &DeValue<'_>) -> String {
        let kind = match found {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        format!("expected {what}, found {kind}")
    }
}

/// `callers.flow`, with quotes where TOML needs them.
fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = match !key.is_empty() && key.chars().all(bare) {
        true => key.to_owned(),
        false => format!("\"{}\"", key.escape_debug()),
    };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
