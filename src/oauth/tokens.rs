//! From an answer to a [`TokenSet`], or to why there is none. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::answer::{Class, Expiry, TokenError, TokenSet};
use super::reply::{Reply, Skew};
use super::{Error, Terms, classify, jwt};
use crate::catalog::{
    Auth, Capture, FieldOrigin, Lifetime, OAuth2, Pointer, Site, Strategy, TimeUnit,
};
use crate::inject::Properties;
use crate::secret::Secret;

/// No real value is longer, and what is kept has to be read on every request.
const LONGEST_VALUE: usize = 64 * 1024;

/// Reads what a token endpoint answered. `held` is the access token that an answer of
/// [`Strategy::Extend`] prolongs.
pub(super) fn read(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    reply: &Reply,
    held: Option<&Secret>,
    secrets: &[Secret],
) -> Result<TokenSet, TokenError> {
    if let Some(failure) = classify::failure(oauth2, reply, secrets) {
        return Err(failure);
    }
    let body = reply.document.value();
    let answer = Answer::new(oauth2, body, held.is_some());
    let found = answer.at("access_token").and_then(secret);
    let prolonged = held.filter(|_| oauth2.refresh.strategy == Some(Strategy::Extend));
    let access = found.or_else(|| prolonged.cloned()).ok_or_else(|| unreadable(reply))?;
    check_token_type(&answer)?;
    let refresh = answer.at("refresh_token").and_then(secret);
    let refresh = refresh.filter(|_| !oauth2.refresh.keep_token || held.is_none());
    let mut tokens = TokenSet {
        access,
        refresh_expires_at: refresh_expiry(oauth2, reply, refresh.is_some()),
        refresh,
        expires: expiry(&answer, reply),
        scopes: answer.at("scope").and_then(scopes),
        fields: BTreeMap::new(),
        secrets: Properties::new(),
        choices: BTreeMap::new(),
        identity: identity(terms, &answer),
        obtained_at: reply.sent_at,
    };
    capture(terms.auth, &oauth2.capture, body, &mut tokens)?;
    Ok(tokens)
}

fn unreadable(reply: &Reply) -> TokenError {
    let what = if reply.document.is_empty() { "nothing readable" } else { "no access token" };
    let message = format!("the server answered with status {} and {what}", reply.status);
    let error = TokenError::sent(Class::Transient, "unreadable", message);
    TokenError { status: Some(reply.status), retry_after: reply.retry_after, ..error }
}

/// The body, and where the definition says that things are in it.
struct Answer<'a> {
    oauth2: &'a OAuth2,
    body: &'a Value,
    fields: &'a BTreeMap<String, Pointer>,
}

impl<'a> Answer<'a> {
    fn new(oauth2: &'a OAuth2, body: &'a Value, renewed: bool) -> Self {
        let of_refresh =
            Some(&oauth2.refresh.token_fields).filter(|own| renewed && !own.is_empty());
        Self { oauth2, body, fields: of_refresh.unwrap_or(&oauth2.token_fields) }
    }

    /// Where the definition says, or where RFC 6749 §5.1 does.
    fn at(&self, name: &str) -> Option<&'a Value> {
        match self.fields.get(name) {
            Some(pointer) => pointer.find(self.body),
            None => self.body.get(name),
        }
    }
}

fn secret(value: &Value) -> Option<Secret> {
    text(value).filter(|text| is_sendable(text)).map(Secret::from)
}

/// A token goes into a header: no control characters, no blanks around it.
fn is_sendable(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_VALUE
        && text.trim() == text
        && !text.chars().any(char::is_control)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// RFC 6749 §7.1: a token of a kind that we do not understand is not used. `N_A` is RFC 8693's way
/// to say that the kind does not matter.
fn check_token_type(answer: &Answer<'_>) -> Result<(), TokenError> {
    let Some(kind) = answer.at("token_type").and_then(Value::as_str) else { return Ok(()) };
    let known = ["", "bearer", "n_a"]
        .into_iter()
        .chain(answer.oauth2.token_types.iter().map(String::as_str));
    if known.into_iter().any(|known| known.eq_ignore_ascii_case(kind)) {
        return Ok(());
    }
    let kind = classify::code_text(kind);
    let message = format!("the server gave a token of the type {kind}, which cannot be sent");
    Err(TokenError::sent(Class::Client, "unsupported_token_type", message))
}

/// A list, or a text with blanks or commas in it.
fn scopes(value: &Value) -> Option<Vec<String>> {
    let split = |text: &str| {
        let parts = text.split([' ', ',', '\n', '\t']).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let found = match value {
        Value::String(text) => split(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).flat_map(split).collect(),
        _ => return None,
    };
    (!found.is_empty()).then_some(found)
}

fn expiry(answer: &Answer<'_>, reply: &Reply) -> Expiry {
    let Answer { oauth2, body, fields } = answer;
    let absolute = oauth2.expires_at_field.as_ref().and_then(|path| path.find(body));
    let absolute = absolute.or_else(|| fields.get("expires_at")?.find(body));
    let told = absolute
        .and_then(|value| Told::read(value, TimeUnit::Timestamp))
        .or_else(|| Told::read(answer.at("expires_in")?, oauth2.expires_as));
    match (told, oauth2.expires_in) {
        (Some(Told::In(0.0)), _) if oauth2.zero_expires_never => Expiry::Never,
        (Some(told), _) => told.on_our_clock(reply),
        (None, Lifetime::Never) => Expiry::Never,
        (None, Lifetime::Typical(life)) => Expiry::At(reply.sent_at + life),
        (None, Lifetime::Reply | Lifetime::Unknown) => Expiry::Unknown,
    }
}

fn refresh_expiry(oauth2: &OAuth2, reply: &Reply, is_new: bool) -> Option<SystemTime> {
    let body = reply.document.value();
    let rules = &oauth2.refresh;
    let named = rules.lifetime_field.as_ref().and_then(|path| path.find(body));
    let usual =
        || ["refresh_token_expires_in", "refresh_expires_in"].iter().find_map(|n| body.get(*n));
    let told = named.or_else(usual).and_then(|value| Told::read(value, oauth2.expires_as));
    match told.filter(|told| !matches!(told, Told::In(seconds) if *seconds <= 0.0)) {
        Some(told) => told.on_our_clock(reply).at(),
        None if is_new => reply.sent_at.checked_add(rules.idle_ttl?),
        None => None,
    }
}

/// An end as a server tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    /// Seconds from now; not above zero: at once.
    In(f64),
    At(SystemTime),
}

/// What lives longer than this lives for ever, and no sum overflows.
const FOR_EVER: f64 = 100.0 * 365.0 * 86_400.0;
/// From here on a count since 1970 is in milliseconds.
const MILLISECONDS: f64 = 1e11;

impl Told {
    /// Numbers, numbers as texts, `"24h"`, ISO dates. `None`: nothing that can be understood.
    fn read(value: &Value, unit: TimeUnit) -> Option<Self> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => match text.trim().parse() {
                Ok(number) => Some(number),
                Err(_) => return Self::read_text(text.trim()),
            },
            _ => None,
        };
        let number = number.filter(|number| number.is_finite())?;
        Some(match unit {
            TimeUnit::Seconds => Self::In(number),
            TimeUnit::Milliseconds => Self::In(number / 1000.0),
            TimeUnit::Timestamp if number >= MILLISECONDS => {
                Self::At(since_epoch(number / 1000.0)?)
            }
            TimeUnit::Timestamp => Self::At(since_epoch(number)?),
        })
    }

    fn read_text(text: &str) -> Option<Self> {
        let letters = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(letters);
        let unit = match unit {
            "s" | "sec" | "seconds" => Some(1.0),
            "m" | "min" | "minutes" => Some(60.0),
            "h" | "hours" => Some(3600.0),
            "d" | "days" => Some(86_400.0),
            _ => None,
        };
        match (digits.trim().parse::<f64>(), unit) {
            (Ok(count), Some(unit)) => Some(Self::In(count * unit)),
            _ => date(text).map(Self::At),
        }
    }

    fn on_our_clock(self, reply: &Reply) -> Expiry {
        match self {
            Self::In(seconds) if seconds >= FOR_EVER => Expiry::Never,
            Self::In(seconds) => {
                let life = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
                Expiry::At(reply.sent_at + life)
            }
            Self::At(at) => absolute(at, reply.ahead),
        }
    }
}

/// A moment of the server's clock.
fn absolute(at: SystemTime, skew: Skew) -> Expiry {
    skew.to_ours(at).map_or(Expiry::Unknown, Expiry::At)
}

fn since_epoch(seconds: f64) -> Option<SystemTime> {
    let since = Duration::try_from_secs_f64(seconds.clamp(0.0, 2.0 * FOR_EVER)).ok()?;
    UNIX_EPOCH.checked_add(since)
}

/// RFC 3339; without an offset it is UTC.
fn date(text: &str) -> Option<SystemTime> {
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(stamp.into())
}

/// An id or an e-mail address, for people and for comparing.
fn identity(terms: &Terms<'_>, answer: &Answer<'_>) -> Option<String> {
    let Answer { oauth2, body, .. } = answer;
    let told = match &oauth2.identity {
        Some(path) => text(path.find(body)?),
        None => from_id_token(terms, oauth2, answer.at("id_token")?.as_str()?),
    };
    told.map(|text| classify::cleaned(&text)).filter(|text| !text.is_empty())
}

/// An id token that is meant for another client, or comes from another issuer, proves nothing.
fn from_id_token(terms: &Terms<'_>, oauth2: &OAuth2, id_token: &str) -> Option<String> {
    let claims = jwt::claims(id_token)?;
    let ours = |audience: &Value| {
        terms.client.is_some_and(|client| audience.as_str() == Some(client.client_id.as_str()))
    };
    let for_us = match claims.get("aud")? {
        Value::Array(audiences) => audiences.iter().any(ours),
        audience => ours(audience),
    };
    let issuer = oauth2.issuer.as_ref().filter(|issuer| issuer.is_constant());
    let issued = issuer
        .is_none_or(|known| claims.get("iss").and_then(Value::as_str) == Some(known.source()));
    if !for_us || !issued {
        return None;
    }
    let named = ["email", "preferred_username", "sub"].iter().find_map(|name| claims.get(*name));
    named.and_then(Value::as_str).map(str::to_owned)
}

/// Takes what the definition wants kept of an answer.
pub(super) fn capture(
    auth: &Auth,
    captures: &[Capture],
    body: &Value,
    tokens: &mut TokenSet,
) -> Result<(), TokenError> {
    for capture in captures {
        let Site::Reply(pointer) = &capture.site else { continue };
        let found = pointer.find(body).and_then(text).filter(|text| is_sendable(text));
        let Some(found) = found else { continue };
        check_captured(auth, &capture.name, &found)?;
        if capture.choose {
            tokens.choices.insert(capture.name.clone(), choices(pointer, body));
        }
        if capture.secret {
            tokens.secrets.insert(capture.name.clone(), Secret::from(found));
        } else {
            tokens.fields.insert(capture.name.clone(), found);
        }
    }
    Ok(())
}

/// What an answer brings may name a host, so it is held to what the field allows: a wrong
/// `instance_url` would be sent the token.
pub(super) fn check_captured(auth: &Auth, name: &str, value: &str) -> Result<(), TokenError> {
    let Some(field) = auth.field(name) else { return Ok(()) };
    field.check(value).map_err(|error| {
        let message = format!("the answer's value is refused: {}", Error::Captured(error));
        TokenError::sent(Class::Client, "captured_value", message)
    })
}

/// Every value of a list whose first one `pointer` leads to: `/0/id` stands for `/*/id`.
fn choices(pointer: &Pointer, body: &Value) -> Vec<String> {
    let parts: Vec<&str> = pointer.as_str().split('/').collect();
    let Some(index) = parts.iter().position(|part| *part == "0") else { return Vec::new() };
    let (before, after) = (parts[..index].join("/"), parts[index + 1..].join("/"));
    let list = body.pointer(&before).and_then(Value::as_array);
    let below = if after.is_empty() { String::new() } else { format!("/{after}") };
    let items = list.into_iter().flatten();
    items
        .filter_map(|item| item.pointer(&below).and_then(text))
        .filter(|t| is_sendable(t))
        .collect()
}

/// A field that only answers fill, and that nothing filled.
pub(super) fn missing_field(auth: &Auth, has: impl Fn(&str) -> bool) -> Option<&str> {
    let needed = auth.fields.iter().filter(|field| !field.optional && field.default.is_none());
    let filled = |origin: &FieldOrigin| {
        matches!(
            origin,
            FieldOrigin::TokenResponse | FieldOrigin::Callback | FieldOrigin::PostExchange
        )
    };
    let mut captured = needed.filter(|field| filled(&field.origin));
    captured.find(|field| !has(&field.name)).map(|field| field.name.as_str())
}
