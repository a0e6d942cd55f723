//! The names by which things are called: apps, callers, accounts, requests.
//!
//! Each is its own type, valid by construction and cheap to clone. Callers' names are unreserved
//! characters only, because many clients do not percent-encode proxy userinfo (RFC 3986 §2.3).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a valid {kind}: use {rule}")]
pub struct InvalidName {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(u8) -> bool = $valid;
                let may_start = |b: u8| b.is_ascii_alphanumeric() || (b == b'_' && $kind == "app");
                let starts_well = text.bytes().next().is_some_and(may_start);
                if starts_well && text.len() <= $max && text.bytes().all(valid) {
                    return Ok(Self(Arc::from(text)));
                }
                let shown = text.chars().take(64).collect::<String>().escape_debug().to_string();
                Err(InvalidName { kind: $kind, text: shown, rule: $rule })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name!(
    /// An app's slug, `google_sheets`.
    AppId, "app", 64, "a-z, 0-9, _ and -, not starting with -",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-'
);

name!(
    /// A caller's name: the user name of the proxy URL, without `~`, which separates the account.
    CallerId, "caller name", 64, "A-Z, a-z, 0-9, '.', _ and -, starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);

name!(
    /// An account's nickname or id (`apn_…`), as a request may name it.
    AccountId, "account name", 64, "A-Z, a-z, 0-9, '.', _ and -, starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);

name!(
    /// A person of the workspace, `mem_…`.
    MemberId, "member id", 64, "A-Z, a-z, 0-9, _ and -, starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
);

name!(
    /// A project of external users, `proj_…`.
    ProjectId, "project id", 64, "A-Z, a-z, 0-9, _ and -, starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
);

name!(
    /// A user of the operator's own product, `exu_…`.
    ExternalUserId, "external user id", 64, "A-Z, a-z, 0-9, _ and -, starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
);

name!(
    /// A client that the operator registered with a provider, `oa_…`.
    OAuthClientId, "OAuth client id", 64, "A-Z, a-z, 0-9, _ and -, starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
);

name!(
    /// What a project decides for an app beforehand, `ao_…`.
    AppOverrideId, "app override id", 64, "A-Z, a-z, 0-9, _ and -, starting with a letter or digit",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
);

/// Identifies one request in logs, audit and error bodies: 16 hexadecimal digits, unique in this
/// process and very likely elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// `seed` is random per process, `count` its running number: a multiplication by an odd number
    /// is a bijection, so no two counts give the same id.
    pub fn of(seed: u64, count: u64) -> Self {
        Self((seed ^ count).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_unreserved_characters_only() {
        for (text, valid) in [
            ("flow-1", true),
            ("a.b_c", true),
            ("", false),
            ("-a", false),
            ("a~b", false),
            ("a:b", false),
            ("a b", false),
            ("é", false),
            ("a\r\nb", false),
        ] {
            assert_eq!(text.parse::<CallerId>().is_ok(), valid, "{text:?}");
        }
        assert!("Slack".parse::<AppId>().is_err());
        assert!("x".repeat(65).parse::<AccountId>().is_err());
    }

    #[test]
    fn a_refused_name_is_shown_escaped() {
        let error = "a\nb".parse::<CallerId>().unwrap_err().to_string();
        assert!(error.contains("a\\nb") && !error.contains('\n'), "{error}");
    }
}
