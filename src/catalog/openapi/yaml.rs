//! YAML as the JSON that it stands for (YAML 1.2.2 §10.3, the core schema).
//!
//! From the parser's events, with a bound on what may come of them: an alias of an alias of an alias
//! is a few bytes long and unfolds to more memory than there is.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// Scalars, lists and tables, aliases unfolded.
const MOST_NODES: usize = 2_000_000;
const DEEPEST: usize = 128;

/// The first document of `text`.
///
/// # Errors
/// In words, where and why it cannot be read.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| error.to_string())?;
        match event {
            Event::DocumentEnd => break,
            event => reader
                .take(event)
                .map_err(|error| format!("line {}: {error}", span.start.line()))?,
        }
    }
    reader.root.ok_or_else(|| "there is nothing in it".to_owned())
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    anchors: HashMap<usize, (Value, usize)>,
    root: Option<Value>,
    nodes: usize,
}

/// A collection that has not ended.
struct Open {
    anchor: usize,
    before: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Value>),
    /// With the key whose value has not come.
    Table(Map<String, Value>, Option<String>),
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                self.count(1)?;
                let value = match style {
                    ScalarStyle::Plain => plain(&text),
                    _ => Value::from(text.as_ref()),
                };
                self.put(value, anchor, 1)
            }
            Event::Alias(anchor) => {
                let (value, size) =
                    self.anchors.get(&anchor).cloned().ok_or("an alias of nothing")?;
                self.count(size)?;
                self.put(value, 0, size)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, Kind::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(anchor, Kind::Table(Map::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), &'static str> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES { Err("it unfolds to too much") } else { Ok(()) }
    }

    fn begin(&mut self, anchor: usize, kind: Kind) -> Result<(), &'static str> {
        self.count(1)?;
        if self.open.len() >= DEEPEST {
            return Err("it is nested too deeply");
        }
        self.open.push(Open { anchor, before: self.nodes, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), &'static str> {
        let Some(Open { anchor, before, kind }) = self.open.pop() else { return Ok(()) };
        let value = match kind {
            Kind::List(items) => Value::Array(items),
            Kind::Table(map, _) => Value::Object(map),
        };
        let size = self.nodes - before + 1;
        self.put(value, anchor, size)
    }

    fn put(&mut self, value: Value, anchor: usize, size: usize) -> Result<(), &'static str> {
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(value),
            Some(Kind::List(items)) => items.push(value),
            Some(Kind::Table(map, waiting)) => match waiting.take() {
                Some(key) => drop(map.insert(key, value)),
                None => *waiting = Some(key_of(&value).ok_or("a key that is no text")?),
            },
        }
        Ok(())
    }
}

/// `200:` is a key in every second document.
fn key_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null => Some("null".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit());
    let whole = || text.parse::<i64>().ok().map(Number::from);
    let float = || text.parse::<f64>().ok().and_then(Number::from_f64);
    match numeric.then(|| whole().or_else(float)).flatten() {
        Some(number) => Value::Number(number),
        None => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_is_read_as_the_json_that_it_stands_for() {
        let text = "a: 1\nb: [x, 'true', true, ~]\nc:\n  - d: |\n      line\n    200: ok\n";
        let expected = json!({ "a": 1, "b": ["x", "true", true, null], "c": [{ "d": "line\n", "200": "ok" }] });
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read("a: &x {b: 1}\nc: *x\n"), Ok(json!({ "a": { "b": 1 }, "c": { "b": 1 } })));
        assert_eq!(read("version: 3.0.0\n"), Ok(json!({ "version": "3.0.0" })));
        assert!(read("a: [").is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            let items = vec![format!("*a{}", n - 1); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
        }
        assert!(read(&text).is_err_and(|error| error.contains("too much")));
        let deep = "[".repeat(5_000);
        assert!(read(&deep).is_err());
    }
}
