//! The small language of a JWT's key and claims: `{private_key}`, `hex({key|after ":"})`,
//! `{service_account|json "/client_email"}`. Pure.
//!
//! Some services give one value in which two hide (`id:secret`), or a JSON file; the definition
//! says where to look, so that a person pastes what the service gave.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::jwt;
use super::values::Values;
use crate::secret::Secret;

/// Never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the value of \"{0}\" is missing")]
    Missing(String),
    #[error("\"{{\" without a matching \"}}\" in \"{0}\"")]
    Unclosed(String),
    #[error("\"{0}\" is not one of before, after, json, upper, lower and fingerprint")]
    Filter(String),
    #[error("the value of \"{name}\" has nothing for {filter}")]
    Nothing { name: String, filter: String },
    #[error("\"{0}\" is not {1}")]
    Encoding(String, &'static str),
}

/// The expression's value as bytes: `hex(…)` and `base64(…)` decode, everything else is its text.
pub(super) fn bytes(expression: &str, values: &Values) -> Result<Zeroizing<Vec<u8>>, Error> {
    let call = |name: &str| expression.strip_prefix(name)?.strip_suffix(')');
    let wrong = |what| Error::Encoding(expression.to_owned(), what);
    let decoded = if let Some(inner) = call("hex(") {
        unhex(text(inner, values)?.expose()).ok_or_else(|| wrong("hexadecimal"))?
    } else if let Some(inner) = call("base64(") {
        STANDARD.decode(text(inner, values)?.expose()).map_err(|_| wrong("base64"))?
    } else {
        text(expression, values)?.expose().as_bytes().to_vec()
    };
    Ok(Zeroizing::new(decoded))
}

/// Fills the holes.
pub(super) fn text(expression: &str, values: &Values) -> Result<Secret, Error> {
    let mut out = Zeroizing::new(String::new());
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once('{') {
        let (hole, after) =
            after.split_once('}').ok_or_else(|| Error::Unclosed(expression.to_owned()))?;
        out.push_str(before);
        out.push_str(hole_value(hole, values)?.expose());
        rest = after;
    }
    out.push_str(rest);
    Ok(Secret::from(out.to_string()))
}

fn hole_value(hole: &str, values: &Values) -> Result<Secret, Error> {
    let mut steps = hole.split('|').map(str::trim);
    let name = steps.next().unwrap_or_default();
    let found = values.secret(name).ok_or_else(|| Error::Missing(name.to_owned()))?;
    steps.try_fold(found, |value, step| {
        // Nothing counts as missing: a signature with an empty key proves nothing.
        let rest = filtered(value.expose(), step)?.filter(|rest| !rest.is_empty());
        let nothing = || Error::Nothing { name: name.to_owned(), filter: step.to_owned() };
        rest.map(Secret::from).ok_or_else(nothing)
    })
}

/// `Ok(None)`: the filter is known and finds nothing.
fn filtered(value: &str, step: &str) -> Result<Option<String>, Error> {
    let (filter, argument) = step.split_once(' ').unwrap_or((step, ""));
    let argument = argument.trim().trim_matches('"');
    Ok(match filter {
        "before" => value.split_once(argument).map(|(before, _)| before.to_owned()),
        "after" => value.split_once(argument).map(|(_, after)| after.to_owned()),
        "json" => serde_json::from_str::<Value>(value)
            .ok()
            .and_then(|json| json.pointer(argument)?.as_str().map(str::to_owned)),
        "upper" => Some(value.to_uppercase()),
        "lower" => Some(value.to_lowercase()),
        "fingerprint" => jwt::fingerprint(value).ok(),
        other => return Err(Error::Filter(other.to_owned())),
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    text.as_bytes().chunks(2).map(digits).collect()
}
