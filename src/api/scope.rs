//! What an API client or connect token may do: Pipedream Connect's scopes, and one of our own.

use std::fmt;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    AccountsRead,
    AccountsWrite,
    /// Ours: reading accounts is not reading their secrets. Part of `connect:*` and `*`.
    CredentialsRead,
    UsersRead,
    UsersWrite,
    ProjectsRead,
    ProjectsWrite,
    TokensCreate,
    Proxy,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccountsRead => "connect:accounts:read",
            Self::AccountsWrite => "connect:accounts:write",
            Self::CredentialsRead => "connect:credentials:read",
            Self::UsersRead => "connect:users:read",
            Self::UsersWrite => "connect:users:write",
            Self::ProjectsRead => "connect:projects:read",
            Self::ProjectsWrite => "connect:projects:write",
            Self::TokensCreate => "connect:tokens:create",
            Self::Proxy => "connect:proxy",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything.
pub const ALL: &str = "*";
/// The most that a connect token may have.
pub const CONNECT: &str = "connect:*";

/// Every text that is a scope. Those of the component platform are known so that nobody who asks
/// for them is refused; there is nothing here that they open.
const KNOWN: &[&str] = &[
    ALL,
    CONNECT,
    "connect:accounts:*",
    "connect:accounts:read",
    "connect:accounts:write",
    "connect:actions:*",
    "connect:credentials:read",
    "connect:deployed_triggers:*",
    "connect:deployed_triggers:read",
    "connect:deployed_triggers:write",
    "connect:projects:*",
    "connect:projects:read",
    "connect:projects:write",
    "connect:proxy",
    "connect:tokens:create",
    "connect:triggers:*",
    "connect:usage:read",
    "connect:users:*",
    "connect:users:read",
    "connect:users:write",
    "connect:workflow:invoke",
];

/// What somebody was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(Vec<String>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScopes {
    #[error("there is no scope \"{0}\"; there are {known}", known = KNOWN.join(", "))]
    Unknown(String),
    #[error("the scope \"{0}\" is more than may be given here")]
    TooMuch(String),
}

impl Scopes {
    /// Reads a list of scopes (RFC 6749 §3.3: separated by blanks).
    ///
    /// # Errors
    /// When one is none.
    pub fn parse(text: &str) -> Result<Self, InvalidScopes> {
        Self::of(text.split_ascii_whitespace())
    }

    /// # Errors
    /// When one is none.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidScopes> {
        let mut scopes = Vec::new();
        for word in words {
            if !KNOWN.contains(&word) {
                let shown: String = word.chars().take(64).collect();
                return Err(InvalidScopes::Unknown(shown.escape_debug().to_string()));
            }
            if !scopes.iter().any(|known| known == word) {
                scopes.push(word.to_owned());
            }
        }
        Ok(Self(scopes))
    }

    /// What the store kept, which was checked when it was written.
    pub fn stored(list: &[String]) -> Self {
        Self(list.to_vec())
    }

    pub fn allow(&self, scope: Scope) -> bool {
        self.cover(scope.as_str())
    }

    /// These, if `self` has all of them.
    ///
    /// # Errors
    /// The first that `self` has not.
    pub fn narrowed(&self, to: Self) -> Result<Self, InvalidScopes> {
        match to.0.iter().find(|scope| !self.cover(scope)) {
            Some(scope) => Err(InvalidScopes::TooMuch(scope.clone())),
            None => Ok(to),
        }
    }

    pub fn list(&self) -> &[String] {
        &self.0
    }

    fn cover(&self, scope: &str) -> bool {
        self.0.iter().any(|held| match held.strip_suffix('*') {
            Some(prefix) => scope.starts_with(prefix),
            None => held == scope,
        })
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_all_below_it_and_nothing_beside_it() {
        for (held, scope, allowed) in [
            ("*", Scope::Proxy, true),
            ("connect:*", Scope::CredentialsRead, true),
            ("connect:accounts:*", Scope::AccountsWrite, true),
            ("connect:accounts:*", Scope::CredentialsRead, false),
            ("connect:accounts:read", Scope::AccountsWrite, false),
            ("connect:accounts:read", Scope::CredentialsRead, false),
            ("connect:proxy connect:users:read", Scope::UsersRead, true),
            ("", Scope::Proxy, false),
        ] {
            let held = Scopes::parse(held).expect(held);
            assert_eq!(held.allow(scope), allowed, "{held}: {scope}");
        }
    }

    #[test]
    fn nobody_gets_more_than_they_have() {
        for (held, asked, given) in [
            ("*", "connect:*", true),
            ("connect:*", "*", false),
            ("connect:*", "connect:accounts:*", true),
            ("connect:accounts:read", "connect:accounts:*", false),
            ("connect:accounts:read", "connect:accounts:read", true),
        ] {
            let narrowed =
                Scopes::parse(held).expect(held).narrowed(Scopes::parse(asked).expect(asked));
            assert_eq!(narrowed.is_ok(), given, "{held}: {asked}");
        }
        assert!(Scopes::parse("connect:everything").is_err());
    }
}
