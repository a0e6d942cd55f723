//! JSON as a page shows it: indented, with every object and array folded by `<details>`. Keys keep
//! their order and numbers their digits, because people compare them with what they know. Pure.

use serde::de::IgnoredAny;

use crate::markup::escape;

/// More values than this are shown as plain text: a page of a million elements helps nobody.
const MOST_VALUES: usize = 10_000;
/// What is this deep or deeper begins folded.
const OPEN_DEPTH: usize = 3;
/// A list of more begins folded.
const OPEN_ITEMS: usize = 50;

/// HTML of a JSON text; `None` if it is none, or has too many values.
pub fn folded(text: &str) -> Option<String> {
    // What is valid, and not nested too deeply, needs no checks when it is walked through.
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let node = Reader { rest: text, left: MOST_VALUES }.node()?;
    let mut out = String::with_capacity(text.len() * 2);
    write(&node, 0, "", &mut out);
    Some(out)
}

/// A value, as it is written.
#[derive(Debug, PartialEq, Eq)]
enum Node<'t> {
    Object(Vec<(&'t str, Node<'t>)>),
    Array(Vec<Node<'t>>),
    /// A string with its quotes, a number, `true`, `false`, `null`.
    Plain(&'t str),
}

/// Walks through valid JSON.
struct Reader<'t> {
    rest: &'t str,
    left: usize,
}

impl<'t> Reader<'t> {
    fn node(&mut self) -> Option<Node<'t>> {
        self.left = self.left.checked_sub(1)?;
        self.skip();
        match self.rest.as_bytes().first()? {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string().map(Node::Plain),
            _ => {
                let end = self.rest.find([',', ']', '}', ' ', '\n', '\r', '\t']);
                self.take(end.unwrap_or(self.rest.len())).map(Node::Plain)
            }
        }
    }

    fn object(&mut self) -> Option<Node<'t>> {
        let mut members = Vec::new();
        self.take(1)?;
        while !self.ends_with('}')? {
            let key = self.string()?;
            self.skip();
            self.take(1)?;
            members.push((key, self.node()?));
        }
        Some(Node::Object(members))
    }

    fn array(&mut self) -> Option<Node<'t>> {
        let mut items = Vec::new();
        self.take(1)?;
        while !self.ends_with(']')? {
            items.push(self.node()?);
        }
        Some(Node::Array(items))
    }

    /// Passes a comma, or the end.
    fn ends_with(&mut self, end: char) -> Option<bool> {
        self.skip();
        self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
        self.skip();
        match self.rest.strip_prefix(end) {
            Some(rest) => {
                self.rest = rest;
                Some(true)
            }
            None => (!self.rest.is_empty()).then_some(false),
        }
    }

    fn string(&mut self) -> Option<&'t str> {
        self.skip();
        let mut escaped = false;
        let end = self.rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        self.take(end?.0 + 1)
    }

    fn take(&mut self, bytes: usize) -> Option<&'t str> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\r', '\t']);
    }
}

fn write(node: &Node<'_>, depth: usize, key: &str, out: &mut String) {
    let label = match key {
        "" => String::new(),
        key => format!("<span class=\"json-key\">{}</span>: ", escape(key)),
    };
    match node {
        Node::Plain(text) => {
            let kind = kind_of(text);
            let text = escape(text);
            out.push_str(&format!("<div>{label}<span class=\"json-{kind}\">{text}</span></div>"));
        }
        Node::Object(members) if members.is_empty() => {
            out.push_str(&format!("<div>{label}{{}}</div>"));
        }
        Node::Array(items) if items.is_empty() => {
            out.push_str(&format!("<div>{label}[]</div>"));
        }
        Node::Object(members) => {
            let inside = Inside { many: members.len(), what: "key", open: '{', close: '}' };
            inside.write(depth, &label, out, |out| {
                members.iter().for_each(|(key, node)| write(node, depth + 1, key, out));
            });
        }
        Node::Array(items) => {
            let inside = Inside { many: items.len(), what: "item", open: '[', close: ']' };
            inside.write(depth, &label, out, |out| {
                items.iter().for_each(|node| write(node, depth + 1, "", out));
            });
        }
    }
}

struct Inside {
    many: usize,
    what: &'static str,
    open: char,
    close: char,
}

impl Inside {
    fn write(&self, depth: usize, label: &str, out: &mut String, inner: impl Fn(&mut String)) {
        let Self { many, what, open, close } = self;
        let is_open = depth == 0 || (depth < OPEN_DEPTH && *many <= OPEN_ITEMS);
        let state = if is_open { " open" } else { "" };
        let plural = if *many == 1 { "" } else { "s" };
        out.push_str(&format!(
            "<details{state}><summary>{label}{open}<span class=\"json-size\">{many} {what}{plural}\
             </span></summary><div class=\"json-inside\">"
        ));
        inner(out);
        out.push_str(&format!("</div><div>{close}</div></details>"));
    }
}

fn kind_of(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'"') => "text",
        Some(b't' | b'f' | b'n') => "word",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_keep_their_order_and_numbers_their_digits() {
        let html = folded(r#"{"b": 12345678901234567890123, "a" :[1.50 ,true,null,"x"]}"#);
        let html = html.expect("JSON");
        assert!(html.find("&quot;b&quot;") < html.find("&quot;a&quot;"), "{html}");
        assert!(html.contains("12345678901234567890123") && html.contains(">1.50<"), "{html}");
        assert!(html.contains("2 keys") && html.contains("4 items"), "{html}");
    }

    #[test]
    fn whatever_it_says_is_text() {
        let html = folded(r#"{"<script>": "<img src=x onerror='alert(1)'>\"</div>"}"#);
        let html = html.expect("JSON");
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert_eq!(html.matches("</div>").count(), html.matches("<div").count());
    }

    #[test]
    fn what_is_no_json_or_too_much_is_left_alone() {
        let (many, deep) = (format!("[{}1]", "1,".repeat(MOST_VALUES)), "[".repeat(100_000));
        for text in ["", "it works", "{\"a\":}", "{} {}", "[1,]", &many, &deep] {
            assert!(folded(text).is_none(), "{}", text.len());
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_json_is_folded_into_balanced_elements(value in json(), pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let html = folded(&text).expect("JSON");
            for element in ["div", "span", "details", "summary"] {
                let opened = html.matches(&format!("<{element}")).count();
                prop_assert_eq!(opened, html.matches(&format!("</{element}>")).count());
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,200}") {
            let _ = folded(&text);
            if let Some(node) = (Reader { rest: &text, left: 50 }).node() {
                write(&node, 0, "", &mut String::new());
            }
        }
    }
}
