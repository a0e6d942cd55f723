//! Reading a TOML table key by key, with every mistake kept and its line.
//!
//! Not `serde`: its derive stops at the first mistake, and a person who writes an app wants all of
//! them at once. What was not asked for by the time of [`Section::finish`] is an unknown key.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, did_you_mean};

/// One file, and what was found wrong in it.
pub struct Sheet<'s> {
    file: &'s str,
    text: &'s str,
    mistakes: RefCell<Vec<Mistake>>,
}

/// One table of a [`Sheet`].
pub struct Section<'s> {
    sheet: &'s Sheet<'s>,
    table: &'s DeTable<'s>,
    span: Range<usize>,
    path: String,
    asked: RefCell<Vec<&'static str>>,
}

type Item<'s> = &'s Spanned<DeValue<'s>>;

impl<'s> Sheet<'s> {
    pub fn new(file: &'s str, text: &'s str) -> Self {
        Self { file, text, mistakes: RefCell::default() }
    }

    pub fn root(&'s self, table: &'s Spanned<DeTable<'s>>) -> Section<'s> {
        Section::new(self, table.get_ref(), table.span(), String::new())
    }

    pub fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| mistake.line);
        mistakes
    }

    pub fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        1 + memchr::memchr_iter(b'\n', before).count()
    }

    fn note(&self, at: usize, key: String, text: String) {
        let line = Some(self.line(at));
        self.mistakes.borrow_mut().push(Mistake::new(self.file, line, key, text));
    }
}

impl<'s> Section<'s> {
    fn new(sheet: &'s Sheet<'s>, table: &'s DeTable<'s>, span: Range<usize>, path: String) -> Self {
        Self { sheet, table, span, path, asked: RefCell::default() }
    }

    pub fn line(&self) -> usize {
        self.sheet.line(self.span.start)
    }

    pub fn has(&self, key: &'static str) -> bool {
        self.item(key).is_some()
    }

    pub fn text(&self, key: &'static str) -> Option<String> {
        let item = self.item(key)?;
        match item.get_ref().as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.wrong(key, item, "a text in quotes"),
        }
    }

    /// Empty when it is missing, which is a mistake.
    pub fn needed(&self, key: &'static str) -> String {
        if !self.has(key) {
            self.missing(key);
        }
        self.text(key).unwrap_or_default()
    }

    pub fn flag(&self, key: &'static str) -> Option<bool> {
        let item = self.item(key)?;
        item.get_ref().as_bool().or_else(|| self.wrong(key, item, "true or false"))
    }

    pub fn number<N: TryFrom<i64>>(&self, key: &'static str) -> Option<N> {
        let item = self.item(key)?;
        let number = integer(item.get_ref()).and_then(|n| N::try_from(n).ok());
        number.or_else(|| self.wrong(key, item, "a number in range"))
    }

    /// One number or a list of them.
    pub fn numbers(&self, key: &'static str) -> Vec<u16> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let one = |value: &DeValue<'_>| integer(value).and_then(|n| u16::try_from(n).ok());
        let list = match item.get_ref().as_array() {
            Some(array) => array.iter().map(|value| one(value.get_ref())).collect(),
            None => one(item.get_ref()).map(|n| vec![n]),
        };
        list.or_else(|| self.wrong(key, item, "a status code or a list of them"))
            .unwrap_or_default()
    }

    pub fn texts(&self, key: &'static str) -> Vec<String> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let text = |value: Item<'_>| value.get_ref().as_str().map(str::to_owned);
        let list = item.get_ref().as_array().and_then(|array| array.iter().map(text).collect());
        list.or_else(|| self.wrong(key, item, "a list of texts")).unwrap_or_default()
    }

    /// A text that `parse` understands.
    pub fn parsed<T, E: Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.mistake(key, error.to_string());
                None
            }
        }
    }

    /// One of a closed set of words.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("\"{text}\" is not one of {}", all.join(", "))
            })
        })
    }

    pub fn value(&self, key: &'static str) -> Option<Value> {
        self.item(key).map(|item| json(item.get_ref()))
    }

    pub fn section(&self, key: &'static str) -> Option<Section<'s>> {
        let item = self.item(key)?;
        self.as_section(key, item)
    }

    /// A list of tables: `[[key]]` or `key = [{ … }]`.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'s>> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let Some(array) = item.get_ref().as_array() else {
            return self.wrong(key, item, "a list of tables").unwrap_or_default();
        };
        let numbered = |(at, item)| self.as_section(&format!("{key}[{at}]"), item);
        array.iter().enumerate().filter_map(numbered).collect()
    }

    /// A table whose keys are names, in the order of the file.
    pub fn named_sections(&self, key: &'static str) -> Vec<(String, Section<'s>)> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let Some(table) = item.get_ref().as_table() else {
            return self.wrong(key, item, "a table").unwrap_or_default();
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let section = |(name, item): (&Spanned<_>, _)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            Some((name.to_string(), self.as_section(&format!("{key}.{name}"), item)?))
        };
        entries.into_iter().filter_map(section).collect()
    }

    /// A table whose keys are names and whose values are anything.
    pub fn map(&self, key: &'static str) -> BTreeMap<String, Value> {
        match self.value(key) {
            None => BTreeMap::new(),
            Some(Value::Object(map)) => map.into_iter().collect(),
            Some(_) => {
                self.mistake(key, "expected a table");
                BTreeMap::new()
            }
        }
    }

    pub fn missing(&self, key: &'static str) {
        self.sheet.note(self.span.start, self.full(key), "is missing".to_owned());
    }

    pub fn mistake(&self, key: &str, text: impl Into<String>) {
        let at = self.table.get(key).map_or(self.span.start, |item| item.span().start);
        self.sheet.note(at, self.full(key), text.into());
    }

    /// Refuses what nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        let unknown = self.table.iter().filter(|(key, _)| !asked.contains(&key.get_ref().as_ref()));
        for (key, _) in unknown {
            let name = key.get_ref();
            let hint = did_you_mean(name, asked.iter().copied());
            let hint = hint.map(|known| format!("; did you mean \"{known}\"?")).unwrap_or_default();
            self.sheet.note(key.span().start, self.full(name), format!("unknown key{hint}"));
        }
    }

    fn item(&self, key: &'static str) -> Option<Item<'s>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table.get(key)
    }

    fn as_section(&self, name: &str, item: Item<'s>) -> Option<Section<'s>> {
        match item.get_ref() {
            DeValue::Table(table) => {
                Some(Section::new(self.sheet, table, item.span(), self.full(name)))
            }
            _ => self.wrong(name, item, "a table"),
        }
    }

    fn wrong<T>(&self, key: &str, item: Item<'_>, wanted: &str) -> Option<T> {
        let text = format!("expected {wanted}, found {}", item.get_ref().type_str());
        self.sheet.note(item.span().start, self.full(key), text);
        None
    }

    fn full(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(_) => integer(value).map_or(Value::Null, Value::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let entry = |(key, item): (&Spanned<_>, &Spanned<_>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                (key.to_string(), json(item.get_ref()))
            };
            Value::Object(table.iter().map(entry).collect())
        }
    }
}
