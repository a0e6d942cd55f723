//! Credentials inside a request's body: a field of a form, or of a JSON object. What the caller has
//! under that name is replaced; everything else keeps its bytes and its order.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::de::IgnoredAny;

use super::sign::Error;
use super::target;
use crate::secret::Secret;

/// A name, and the value as it is.
pub(super) type Field = (String, Secret);

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Form,
    Json,
}

/// `body` with `fields` in it. An empty one of no kind becomes a JSON object.
///
/// # Errors
/// When it is neither a form nor a JSON object: there is no place for the credential.
pub(super) fn filled(
    headers: &mut HeaderMap,
    body: &[u8],
    fields: &[Field],
) -> Result<Vec<u8>, Error> {
    let text = std::str::from_utf8(body).map_err(|_| Error::Body)?;
    match shape(headers, text)? {
        Shape::Form => Ok(target::rewrite_form(text, fields).into_bytes()),
        Shape::Json => {
            let object = if text.trim().is_empty() { "{}" } else { text };
            let filled = json(object, fields).ok_or(Error::Body)?;
            let kind = headers.entry(CONTENT_TYPE);
            kind.or_insert(HeaderValue::from_static("application/json"));
            Ok(filled.into_bytes())
        }
    }
}

fn shape(headers: &HeaderMap, text: &str) -> Result<Shape, Error> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Error::Body);
    }
    let said = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let Some(said) = said else {
        let is_json = text.is_empty() || text.trim_start().starts_with('{');
        return if is_json { Ok(Shape::Json) } else { Err(Error::Body) };
    };
    let media_type = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/x-www-form-urlencoded" => Ok(Shape::Form),
        "application/json" | "text/json" => Ok(Shape::Json),
        other if other.ends_with("+json") => Ok(Shape::Json),
        _ => Err(Error::Body),
    }
}

/// `None` when the text is no JSON object.
fn json(text: &str, fields: &[Field]) -> Option<String> {
    let object = text.trim();
    serde_json::from_str::<IgnoredAny>(object).ok()?;
    let inside = object.strip_prefix('{')?.strip_suffix('}')?;
    let ours = |name: &str| fields.iter().any(|(ours, _)| ours.eq_ignore_ascii_case(name));
    let kept = members(inside).filter(|member| !name_of(member).is_some_and(|name| ours(&name)));
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let added =
        fields.iter().map(|(name, value)| format!("{}:{}", quoted(name), quoted(value.expose())));
    let all: Vec<String> = kept.map(str::to_owned).chain(added).collect();
    Some(format!("{{{}}}", all.join(",")))
}

/// The members of an object that is known to be well-formed, without its braces.
fn members(inside: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(inside).filter(|inside| !inside.trim().is_empty());
    std::iter::from_fn(move || {
        let (member, after) = split_member(rest?);
        rest = after;
        Some(member)
    })
}

/// Up to the first comma that is in no string and in no inner array or object.
fn split_member(text: &str) -> (&str, Option<&str>) {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// A name may be written with escapes: `"t\u006fken"`.
fn name_of(member: &str) -> Option<String> {
    let mut names = serde_json::Deserializer::from_str(member).into_iter::<String>();
    names.next()?.ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
        let field =
            |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::from((*value).to_owned()));
        pairs.iter().map(field).collect()
    }

    fn filled_with(media_type: &str, body: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        if !media_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(media_type).expect("a value"));
        }
        let filled = filled(&mut headers, body.as_bytes(), &fields(&[("token", "a\"b c")])).ok()?;
        Some(String::from_utf8(filled).expect("text"))
    }

    #[test]
    fn a_field_is_added_or_replaced_and_the_rest_keeps_its_bytes() {
        const FORM: &str = "application/x-www-form-urlencoded";
        for (media_type, body, filled) in [
            ("application/json", "{}", Some(r#"{"token":"a\"b c"}"#)),
            ("", r#"{"a":1}"#, Some(r#"{"a":1,"token":"a\"b c"}"#)),
            (
                "application/vnd.acme+JSON; charset=utf-8",
                " {\"b\" : 1.10e5,\"t\\u006fken\":[{\"x\":\"},\"}],\"TOKEN\":2, \"a\":{\"token\":1}} ",
                Some("{\"b\" : 1.10e5, \"a\":{\"token\":1},\"token\":\"a\\\"b c\"}"),
            ),
            (FORM, "", Some("token=a%22b%20c")),
            (FORM, "a=%2f&token=x&b=+&Token=y", Some("a=%2f&token=a%22b%20c&b=+")),
            ("application/json", "[1]", None),
            ("application/json", "{\"a\":1", None),
            ("application/json", "", Some(r#"{"token":"a\"b c"}"#)),
            ("", "", Some(r#"{"token":"a\"b c"}"#)),
            ("text/plain", "", None),
            ("", "a=1", None),
            ("multipart/form-data; boundary=x", "--x--", None),
            ("text/plain", "{}", None),
        ] {
            let expected = filled.map(str::to_owned);
            assert_eq!(filled_with(media_type, body), expected, "{media_type} {body}");
        }
    }

    #[test]
    fn a_compressed_body_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(filled(&mut headers, b"{}", &fields(&[("t", "x")])), Err(Error::Body));
    }

    proptest! {
        #[test]
        fn every_object_stays_what_it_was_but_for_the_field(
            names in prop::collection::vec("[a-z\\\\\"{},:]{0,5}", 0..5),
            value in prop_oneof![
                Just(serde_json::json!({ "x": [1, "},{\"token\":"] })),
                Just(serde_json::json!("\\\"")),
                Just(serde_json::json!(-1.5)),
            ],
        ) {
            let object: serde_json::Map<_, _> =
                names.into_iter().map(|name| (name, value.clone())).collect();
            let body = serde_json::to_string(&object).expect("JSON");
            let filled = json(&body, &fields(&[("token", "x")])).expect("an object");
            let mut found: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&filled).expect("an object");
            prop_assert_eq!(found.remove("token"), Some("x".into()));
            let mut expected = object;
            expected.remove("token");
            prop_assert_eq!(found, expected);
        }
    }
}
