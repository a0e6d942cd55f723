//! Which scopes are asked for beside those that an app always asks. Pure.

use crate::catalog::Auth;
use crate::vault::OAuthClientRecord;

const MOST: usize = 200;
const MAX_SCOPE_BYTES: usize = 250;

/// The operator's choice for this client, else the named selection, else what the app suggests.
pub fn usual(
    auth: &Auth,
    client: Option<&OAuthClientRecord>,
    profile: Option<&str>,
) -> Vec<String> {
    let Some(oauth2) = &auth.oauth2 else { return Vec::new() };
    if let Some(client) = client.filter(|client| !client.details.scopes.is_empty()) {
        return client.details.scopes.clone();
    }
    let plain = |name: &str| name.replace([' ', '-'], "_");
    let named = profile.and_then(|profile| {
        oauth2.scope_profiles.iter().find(|(name, _)| plain(name) == plain(profile))
    });
    named.map_or_else(|| oauth2.suggested_scopes.clone(), |(_, scopes)| scopes.clone())
}

/// Why a text is no list of scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    #[error("a scope has 1 to {MAX_SCOPE_BYTES} visible ASCII characters")]
    Characters,
    #[error("there are at most {MOST} scopes")]
    TooMany,
}

/// Each once, in their order.
///
/// # Errors
/// When one has other characters than a scope has (RFC 6749 §3.3: visible ones without quotes and
/// backslashes), or there are too many.
pub fn list<'a>(asked: impl Iterator<Item = &'a str>) -> Result<Vec<String>, InvalidScope> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in asked {
        let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
        if scope.is_empty() || scope.len() > MAX_SCOPE_BYTES || !scope.bytes().all(fits) {
            return Err(InvalidScope::Characters);
        }
        if !scopes.iter().any(|held| held == scope) {
            scopes.push(scope.to_owned());
        }
    }
    if scopes.len() > MOST { Err(InvalidScope::TooMany) } else { Ok(scopes) }
}

/// What a person entered, as providers' documentation has it: between blanks or commas.
///
/// # Errors
/// As [`list`].
pub fn entered(text: &str) -> Result<Vec<String>, InvalidScope> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    list(words.filter(|word| !word.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_entered_in_whatever_way_they_are_written_down() {
        for (text, scopes) in [
            ("a b", &["a", "b"][..]),
            (" a,  b\n a\t", &["a", "b"]),
            ("chat:write,https://x.test/auth/y", &["chat:write", "https://x.test/auth/y"]),
            ("", &[]),
        ] {
            assert_eq!(entered(text).expect(text), scopes, "{text:?}");
        }
        for text in ["a\"b", "a\\b", "\u{e4}", "a\u{0}"] {
            assert_eq!(entered(text), Err(InvalidScope::Characters), "{text:?}");
        }
    }
}
