//! One record of the facts, as it came. The README beside the facts explains every key.

use serde_json::Value;

/// An API.
pub struct Record(pub Value);

/// One way to authenticate: a record itself, or one of its alternatives.
#[derive(Clone, Copy)]
pub struct Way<'a>(pub &'a Value);

static NULL: Value = Value::Null;

pub fn read(text: &str) -> anyhow::Result<Vec<Record>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.map(|line| serde_json::from_str(line).map(Record)).collect::<Result<_, _>>()?)
}

impl Record {
    pub fn slug(&self) -> &str {
        text(&self.0, "slug")
    }

    pub fn tier(&self) -> u64 {
        self.0["tier"].as_u64().unwrap_or(4)
    }

    pub fn is_verified(&self) -> bool {
        text(&self.0, "confidence") == "verified"
    }

    pub fn in_pipedream(&self) -> bool {
        self.0["in_pipedream"].as_bool().unwrap_or(false)
    }

    /// How many sources know it.
    pub fn witnesses(&self) -> usize {
        self.0["sources"]["seen_in"].as_array().map_or(0, Vec::len)
    }

    /// The record's own way first.
    pub fn ways(&self) -> Vec<Way<'_>> {
        let others = list(&self.0, "alternatives");
        std::iter::once(&self.0).chain(others).map(Way).collect()
    }
}

impl<'a> Way<'a> {
    pub fn kind(self) -> &'a str {
        text(&self.0["auth"], "type")
    }

    pub fn id(self) -> &'a str {
        text(self.0, "id")
    }

    pub fn is_single(self) -> bool {
        text(self.0, "confidence") == "single"
    }

    pub fn hosts(self) -> Vec<&'a str> {
        list(self.0, "hosts").filter_map(Value::as_str).collect()
    }

    pub fn base_url(self) -> &'a str {
        text(self.0, "base_url")
    }

    pub fn injection(self) -> Vec<&'a Value> {
        list(self.0, "injection").collect()
    }

    pub fn fields(self) -> Vec<&'a Value> {
        list(self.0, "fields").collect()
    }

    pub fn oauth2(self) -> Option<&'a Value> {
        Some(&self.0["oauth2"]).filter(|oauth2| oauth2.is_object())
    }

    pub fn dynamic_host(self) -> Option<&'a Value> {
        Some(&self.0["dynamic_host"]).filter(|host| host.is_object())
    }
}

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).unwrap_or(&NULL).as_str().unwrap_or_default()
}

pub fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).unwrap_or(&NULL).as_array().into_iter().flatten()
}

pub fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// `{name}` holes of a template, functions and all.
pub fn holes(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|piece| piece.split_once('}')).map(|(hole, _)| {
        let name = hole.split('|').next().unwrap_or(hole).trim();
        name.strip_suffix(".host").unwrap_or(name)
    })
}
