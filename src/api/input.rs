//! What a request brings: query, JSON, forms. Bounded, strict UTF-8, and nothing that is not asked
//! for: a member that is not known is refused, so that nobody believes it was heeded.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::Failure;

/// More than any request here needs, and nothing that hurts.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

pub const MAX_PAGE: u32 = 100;

/// The pairs of a query or form, decoded.
#[derive(Debug, Default)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// # Errors
    /// When it is not UTF-8.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// The value of `name`, if it is there and not empty.
    ///
    /// # Errors
    /// When it is there twice: two readers could see two values.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut found = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value);
        match (found.next(), found.next()) {
            (first, None) => Ok(first.filter(|value| !value.is_empty())),
            _ => Err(Failure::bad(format!("\"{name}\" is there more than once"))),
        }
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// `true` or `1`.
    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.one(name)? {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(Failure::bad(format!("\"{name}\" is true or false"))),
        }
    }

    pub fn page(&self, default: u32) -> Result<Page, Failure> {
        let limit = match self.one("limit")? {
            None => default,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(
                    || Failure::bad(format!("\"limit\" is a number from 1 to {MAX_PAGE}")),
                )?
            }
        };
        let (after, before) = (self.one("after")?, self.one("before")?);
        let from = match (after, before) {
            (None, None) => From::Start,
            (Some(cursor), None) => From::After(cursor_id(cursor)?),
            (None, Some(cursor)) => From::Before(cursor_id(cursor)?),
            _ => return Err(Failure::bad("use \"after\" or \"before\", not both")),
        };
        Ok(Page { limit, from })
    }
}

/// Which part of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub limit: u32,
    pub from: From,
}

#[derive(Debug, PartialEq, Eq)]
pub enum From {
    Start,
    After(String),
    Before(String),
}

impl Page {
    pub fn after(&self) -> Option<&str> {
        if let From::After(id) = &self.from { Some(id) } else { None }
    }

    pub fn before(&self) -> Option<&str> {
        if let From::Before(id) = &self.from { Some(id) } else { None }
    }

    /// This part of a whole list, which is short enough to be read whole.
    pub fn of<T>(&self, mut whole: Vec<T>, id: impl Fn(&T) -> &str) -> Cut<T> {
        let total = whole.len() as u64;
        whole.sort_by(|a, b| id(a).cmp(id(b)));
        whole.retain(|item| self.after().is_none_or(|after| id(item) > after));
        whole.retain(|item| self.before().is_none_or(|before| id(item) < before));
        let limit = self.limit as usize;
        let more = whole.len() > limit;
        match self.from {
            // The ones next to the cursor, in their order.
            From::Before(_) if more => drop(whole.drain(..whole.len() - limit)),
            _ => whole.truncate(limit),
        }
        let first = whole.first().map(|item| id(item).to_owned());
        let ends = more || self.before().is_some();
        let last = whole.last().map(|item| id(item).to_owned()).filter(|_| ends);
        Cut { items: whole, total, first, last }
    }
}

/// A part of a list, and the cursors at its ends.
pub struct Cut<T> {
    pub items: Vec<T>,
    pub total: u64,
    pub first: Option<String>,
    /// `None` at the end of the list: the SDKs go on while there is one.
    pub last: Option<String>,
}

/// Opaque to clients: the id of the record at that end.
pub fn cursor(id: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id)
}

fn cursor_id(cursor: &str) -> Result<String, Failure> {
    use base64::Engine as _;
    let bytes =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('='));
    let id = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let id = id.filter(|id| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_graphic()));
    id.ok_or_else(|| Failure::bad("that cursor is none of ours: take \"end_cursor\" of an answer"))
}

fn decoded(text: &str) -> Result<String, Failure> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8();
    decoded.map(String::from).map_err(|_| Failure::bad("the query is not UTF-8"))
}

/// The whole body.
///
/// # Errors
/// When it is too large, or does not come.
pub async fn read(body: Incoming) -> Result<Bytes, Failure> {
    let read = Limited::new(body, MAX_BODY_BYTES).collect();
    let read = tokio::time::timeout(PATIENCE, read).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::TooLarge(MAX_BODY_BYTES)),
        _ => Err(Failure::bad("the body did not arrive whole")),
    }
}

/// # Errors
/// When it is not the JSON that is asked for; never repeats a value, which may be a secret.
pub fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Failure> {
    if !is(headers, "application/json") {
        return Err(Failure::bad("send JSON, with Content-Type: application/json"));
    }
    serde_json::from_slice(body).map_err(|error| Failure::Bad(told(&error)))
}

/// What serde says without the values that it quotes.
pub fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!("line {} column {}", error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Data if text.starts_with("unknown field") => {
            text.chars().take(300).collect()
        }
        serde_json::error::Category::Data if text.starts_with("missing field") => text,
        serde_json::error::Category::Data => {
            format!("the JSON has a value of another type than is expected at {place}")
        }
        _ => format!("the body is not JSON: {place}"),
    }
}

/// The values of fields as texts; `null` is no value.
///
/// # Errors
/// When one is a list or an object.
pub fn texts(
    name: &str,
    values: BTreeMap<String, Value>,
) -> Result<BTreeMap<String, String>, Failure> {
    let text = |(field, value): (String, Value)| match value {
        Value::String(text) => Ok(Some((field, text))),
        Value::Number(number) => Ok(Some((field, number.to_string()))),
        Value::Bool(flag) => Ok(Some((field, flag.to_string()))),
        Value::Null => Ok(None),
        Value::Array(_) | Value::Object(_) => {
            Err(Failure::bad(format!("{name}: values are texts")))
        }
    };
    values.into_iter().map(text).filter_map(Result::transpose).collect()
}

pub fn is(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bare = value.split(';').next().unwrap_or_default().trim();
    bare.eq_ignore_ascii_case(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_in_one_way() {
        let pairs = Pairs::parse("a=x+y%2B&b=&c&d=1&d=2").expect("text");
        assert_eq!(pairs.one("a").expect("once"), Some("x y+"));
        for empty in ["b", "c", "e"] {
            assert_eq!(pairs.one(empty).expect("at most once"), None, "{empty}");
        }
        assert!(pairs.one("d").is_err());
        assert!(Pairs::parse("a=%ff").is_err());
    }

    #[test]
    fn pages_are_bounded() {
        for (query, limit) in [
            ("", Some(10)),
            ("limit=100", Some(100)),
            ("limit=101", None),
            ("limit=0", None),
            ("limit=-1", None),
            ("limit=99999999999999999999", None),
            ("limit=1e2", None),
        ] {
            let page = Pairs::parse(query).expect("text").page(10).ok();
            assert_eq!(page.map(|page| page.limit), limit, "{query}");
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let query = format!("after={}", cursor("apn_1"));
        let page = Pairs::parse(&query).expect("text").page(10).expect("a page");
        assert_eq!(page.from, From::After("apn_1".to_owned()));
        for bad in ["after=%00", "after=!!", "after=YQo", "after=YQ&before=YQ"] {
            assert!(Pairs::parse(bad).expect("text").page(10).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_is_cut_where_its_cursors_say() {
        for (query, ids, first, last) in [
            ("limit=2", &["a", "b"][..], Some("a"), Some("b")),
            ("limit=2&after=Yg", &["c", "d"], Some("c"), None),
            ("limit=4", &["a", "b", "c", "d"], Some("a"), None),
            ("limit=2&before=ZA", &["b", "c"], Some("b"), Some("c")),
            ("limit=2&before=Yw", &["a", "b"], Some("a"), Some("b")),
            ("limit=2&after=ZA", &[], None, None),
        ] {
            let page = Pairs::parse(query).expect("text").page(10).expect("a page");
            let cut = page.of(vec!["c", "a", "d", "b"], |id| id);
            assert_eq!((&cut.items[..], cut.total), (ids, 4), "{query}");
            assert_eq!((cut.first.as_deref(), cut.last.as_deref()), (first, last), "{query}");
        }
    }

    #[test]
    fn what_is_wrong_with_json_is_told_without_its_values() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            #[expect(dead_code, reason = "only read")]
            key: u8,
        }
        for (text, told_of) in [
            (r#"{"key": "hunter2"}"#, "another type"),
            (r#"{"role": "owner", "key": 1}"#, "unknown field `role`"),
            ("{}", "missing field `key`"),
            ("{", "not JSON"),
        ] {
            let error = serde_json::from_str::<Body>(text).expect_err(text);
            let said = told(&error);
            assert!(said.contains(told_of) && !said.contains("hunter2"), "{said}");
        }
    }
}
