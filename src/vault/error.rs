//! What goes wrong in the store, sorted by what helps.

use std::sync::Arc;

use super::seal::SealError;

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Locked, full, read-only, gone or out of reach: worth trying again, nothing was changed
    /// (except that a transaction whose very end was cut off may have been done).
    #[error("the store is not available: {reason}")]
    Unavailable { reason: &'static str, source: Option<Arc<sqlx::Error>> },
    /// One row's secrets do not open; all others work.
    #[error("the secrets of {table} {row} cannot be opened: {source}")]
    Sealed { table: &'static str, row: String, source: SealError },
    /// What was asked contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// A row says what this program never writes.
    #[error("the store holds something unexpected in {column}")]
    Unexpected { column: String },
    #[error(
        "this node's master key was retired by a key rotation: give it the new key and restart it"
    )]
    KeyRetired,
    #[error("the store refused a statement")]
    Database(#[source] Arc<sqlx::Error>),
}

impl Error {
    /// Trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub fn no_random() -> Self {
        Self::unavailable("the system gives no random bytes")
    }

    pub(super) fn conflict(what: impl Into<String>) -> Self {
        Self::Conflict(what.into())
    }

    pub(super) fn unavailable(reason: &'static str) -> Self {
        Self::Unavailable { reason, source: None }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let Some(contradiction) = contradiction(&error) {
            return Self::conflict(contradiction);
        }
        match reason(&error) {
            Some(reason) => Self::Unavailable { reason, source: Some(Arc::new(error)) },
            None => Self::Database(Arc::new(error)),
        }
    }
}

/// The constraint that a statement ran into, in words; callers that know more say more.
fn contradiction(error: &sqlx::Error) -> Option<&'static str> {
    match error.as_database_error()?.kind() {
        sqlx::error::ErrorKind::UniqueViolation => Some("it exists already"),
        sqlx::error::ErrorKind::ForeignKeyViolation => {
            Some("something that it refers to does not exist, or something still refers to it")
        }
        _ => None,
    }
}

/// Why the store cannot work just now; `None` if trying again would not help.
fn reason(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => Some("the connection was lost"),
        sqlx::Error::Tls(_) => Some("no TLS connection to it could be made"),
        sqlx::Error::PoolTimedOut => Some("no connection became free in time"),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Some("it was closed"),
        sqlx::Error::BeginFailed => Some("no transaction could be begun"),
        sqlx::Error::Database(error) => database_reason(&error.code()?),
        _ => None,
    }
}

/// SQLite's extended result codes are numbers whose lowest byte is the plain one; PostgreSQL's
/// are five characters, their class first.
fn database_reason(code: &str) -> Option<&'static str> {
    if code.len() == 5 && !is_sqlite(code) {
        return postgres_reason(code);
    }
    Some(match code.parse::<u32>().ok()? & 0xff {
        5 | 6 => "another process has it locked",
        7 => "there is not enough memory",
        8 => "it is read-only",
        10 => "the disk reports an error",
        13 => "the disk is full",
        14 => "the file cannot be opened",
        15 => "its lock cannot be had",
        _ => return None,
    })
}

/// Extended codes are plain code + 256 × n, and none that exists has five digits.
fn is_sqlite(code: &str) -> bool {
    code.parse::<u32>().is_ok_and(|number| number < 10_000)
}

fn postgres_reason(code: &str) -> Option<&'static str> {
    Some(match (&code[..2], code) {
        (_, "53100") => "the server's disk is full",
        (_, "25006") => "the server is read-only",
        (_, "57014") => "a statement took too long",
        (_, "55P03") => "a lock could not be had in time",
        ("08", _) => "the connection was lost",
        ("40", _) => "other transactions were in the way",
        ("53", _) => "the server is short of resources",
        ("57", _) | ("25", _) => "the server ended the connection",
        ("58", _) => "the server's system reports an error",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_against_an_error_is_told_by_its_code() {
        for (code, transient) in [
            ("5", true),
            ("517", true),
            ("13", true),
            ("1032", true),
            ("778", true),
            ("11", false),
            ("1", false),
            ("2067", false),
            ("57P01", true),
            ("53300", true),
            ("40001", true),
            ("25P03", true),
            ("25006", true),
            ("53100", true),
            ("42601", false),
            ("42P01", false),
            ("23505", false),
            ("é0000", false),
        ] {
            assert_eq!(database_reason(code).is_some(), transient, "{code}");
        }
    }
}
