//! What a failure means: for the account, for the OAuth client, for the next try. Pure.
//!
//! Everything that is not proven dead is worth another try; a fault of the OAuth client is never
//! one of its accounts' (RFC 6749 §5.2, and what servers made of it).

use serde_json::Value;
use url::form_urlencoded;

use super::answer::{Class, TokenError};
use super::reply::{Document, Reply};
use crate::catalog::{FailureSign, OAuth2};
use crate::secret::Secret;

const DEAD: &[&str] = &[
    "invalid_grant",
    "bad_refresh_token",
    "invalid_refresh_token",
    "token_revoked",
    // A person has to do something at the provider.
    "interaction_required",
    "consent_required",
    "login_required",
];

const CLIENT: &[&str] = &[
    "invalid_client",
    "unauthorized_client",
    "invalid_request",
    "unsupported_grant_type",
    "invalid_scope",
];

/// Longer texts are cut: they are shown in one line.
const LONGEST_MESSAGE: usize = 300;
const LONGEST_CODE: usize = 64;
/// Shorter values occur in words by chance.
const SHORTEST_SECRET: usize = 6;

/// The failure that an answer tells of, or `None` if it tells of none.
pub(super) fn failure(oauth2: &OAuth2, reply: &Reply, secrets: &[Secret]) -> Option<TokenError> {
    let told = told_code(oauth2, reply);
    if told.is_none() && reply.is_success() {
        return None;
    }
    let message = message(oauth2, &reply.document).map(|text| cleaned(&without(&text, secrets)));
    let error = match told {
        Some(code) => {
            let code = code_text(&without(&code, secrets));
            let message = message.filter(|text| !text.is_empty());
            let message = message.unwrap_or_else(|| format!("the server said {code}"));
            TokenError::sent(class(oauth2, &code, reply.status), &code, message)
        }
        None => untold(reply.status),
    };
    Some(TokenError { status: Some(reply.status), retry_after: reply.retry_after, ..error })
}

/// A status alone says little, and nothing of the body is repeated.
fn untold(status: u16) -> TokenError {
    let (code, message) = match status {
        300..400 => ("redirect", "the server redirects, and secrets do not follow".to_owned()),
        429 => ("rate_limited", "the server wants fewer requests".to_owned()),
        500.. => ("server_error", format!("the server answered with status {status}")),
        _ => ("unreadable", format!("the server answered with status {status} and no OAuth error")),
    };
    TokenError::sent(Class::Transient, code, message)
}

fn class(oauth2: &OAuth2, code: &str, status: u16) -> Class {
    let among = |codes: &[String]| codes.iter().any(|known| known.eq_ignore_ascii_case(code));
    let usual = |codes: &[&str]| codes.iter().any(|known| known.eq_ignore_ascii_case(code));
    // The definition knows better than the norm.
    match () {
        () if among(&oauth2.transient_codes) => Class::Transient,
        () if among(&oauth2.dead_codes) => Class::Dead,
        () if among(&oauth2.client_codes) => Class::Client,
        () if status >= 500 || status == 429 => Class::Transient,
        () if usual(DEAD) => Class::Dead,
        () if usual(CLIENT) => Class::Client,
        () => Class::Transient,
    }
}

/// The code of the failure, wherever the server puts it.
fn told_code(oauth2: &OAuth2, reply: &Reply) -> Option<String> {
    let body = reply.document.value();
    let usual = || {
        let own = oauth2.error_fields.code.as_ref().filter(|_| !reply.is_success());
        own.and_then(|path| code_of(path.find(body)?)).or_else(|| code_of(body.get("error")?))
    };
    let Some(rule) = &oauth2.error_in_200 else { return usual() };
    let found = rule.path.find(body);
    let failed = match &rule.sign {
        FailureSign::Present => found.and_then(code_of).is_some(),
        FailureSign::Equals(value) => found == Some(value),
        FailureSign::Unless(value) => found.is_some_and(|found| found != value),
    };
    if !failed {
        return usual();
    }
    let at_path = rule.error_path.as_ref().and_then(|path| code_of(path.find(body)?));
    at_path.or_else(|| found.and_then(code_of)).or_else(usual).or_else(|| Some("error".to_owned()))
}

/// A text, a number, or an object that has one of them. What says "no error" is none.
fn code_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.as_f64() != Some(0.0) => Some(number.to_string()),
        Value::Bool(true) => Some("error".to_owned()),
        Value::Object(map) => ["code", "type", "error", "status", "id"]
            .iter()
            .find_map(|key| map.get(*key).filter(|value| !value.is_object()).and_then(code_of))
            .or_else(|| (!map.is_empty()).then(|| "error".to_owned())),
        Value::Array(items) => items.first().and_then(code_of),
        _ => None,
    }
}

fn message(oauth2: &OAuth2, document: &Document) -> Option<String> {
    const USUAL: [&str; 7] = [
        "/error_description",
        "/error/message",
        "/error_message",
        "/message",
        "/errmsg",
        "/detail",
        "/error_summary",
    ];
    let body = document.value();
    let own = oauth2.error_fields.message.as_ref().and_then(|path| path.find(body)?.as_str());
    let usual = || USUAL.iter().find_map(|path| body.pointer(path)?.as_str());
    own.or_else(usual).map(str::to_owned)
}

/// One line of at most 300 characters.
pub(super) fn cleaned(text: &str) -> String {
    let visible = |c: char| if c.is_control() || is_invisible(c) { ' ' } else { c };
    let one_line: String = text.chars().map(visible).collect();
    let mut words = String::new();
    for word in one_line.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    words.chars().take(LONGEST_MESSAGE).collect()
}

/// Line separators, and marks that turn the reading direction around.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

pub(super) fn code_text(code: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let kept = |c: char| if plain(c) { c } else { '_' };
    code.trim().chars().take(LONGEST_CODE).map(kept).collect()
}

/// `text` without what was sent: some servers say "refresh token abc… is unknown".
pub(super) fn without(text: &str, secrets: &[Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().map(Secret::expose).filter(|s| s.len() >= SHORTEST_SECRET) {
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        text = text.replace(secret, "…").replace(&encoded, "…");
    }
    text
}
