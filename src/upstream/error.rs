//! Why an origin gave no answer, and why a body did not end.
//!
//! Every text says what failed and how to mend it. Nothing that an origin or a client sent is
//! repeated: a header value may be a secret.

use std::io;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::client::conn::TrySendError;

use super::body::RequestBody;
use super::guard::Refusal;
use crate::host::{Authority, Host};

/// Why a request got no answer from its origin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the name {host} could not be resolved; check its spelling and the resolver of this machine"
    )]
    Dns { host: Host, source: io::Error },
    #[error("{host} is not dialled: {refusal}")]
    Refused { host: Host, refusal: Refusal },
    #[error("no connection to {authority}; check that it is up and that this machine may reach it")]
    Connect { authority: Authority, source: io::Error },
    #[error(
        "the parent proxy {parent} refused the tunnel to {authority} with status {status}; \
         check [upstream.proxy] and its credentials"
    )]
    Parent { parent: Authority, authority: Authority, status: StatusCode },
    #[error(
        "the certificate or the TLS handshake of {authority} is not acceptable ({source}); \
         if it is signed by a private CA, add that CA to [upstream] roots"
    )]
    Tls { authority: Authority, source: io::Error },
    #[error("{authority} took longer than {after:?} {phase}")]
    Timeout { authority: Authority, phase: Phase, after: Duration },
    #[error(
        "all connections to {authority} stayed busy for {after:?}; \
         raise max_connections_per_host in [upstream] or send less at once"
    )]
    Busy { authority: Authority, after: Duration },
    #[error("{authority} closed the connection before it answered")]
    Reset { authority: Authority, source: hyper::Error },
    #[error("{authority} answered with something that is not valid HTTP: {what}")]
    Protocol {
        authority: Authority,
        what: &'static str,
        #[source]
        source: Option<hyper::Error>,
    },
    #[error("the request's body ended before it was complete")]
    RequestBody { source: hyper::Error },
}

/// What a deadline was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connect,
    Tls,
    /// The client stopped sending its body: nobody upstream is to blame.
    RequestBody,
    FirstByte,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "to accept a connection",
            Self::Tls => "for the TLS handshake",
            Self::RequestBody => "because the client stopped sending the request's body",
            Self::FirstByte => "to start its answer",
        })
    }
}

/// [`Error`] without its details: a closed set for metrics, audit and status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    Dns,
    Refused,
    Connect,
    Parent,
    Tls,
    Timeout,
    Busy,
    Reset,
    Protocol,
    /// The client's side failed: its body broke off or stalled.
    RequestBody,
}

impl ErrorKind {
    pub const ALL: [Self; 10] = [
        Self::Dns,
        Self::Refused,
        Self::Connect,
        Self::Parent,
        Self::Tls,
        Self::Timeout,
        Self::Busy,
        Self::Reset,
        Self::Protocol,
        Self::RequestBody,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::Parent => "parent",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::RequestBody => "request_body",
        }
    }
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dns { .. } => ErrorKind::Dns,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Connect { .. } => ErrorKind::Connect,
            Self::Parent { .. } => ErrorKind::Parent,
            Self::Tls { .. } => ErrorKind::Tls,
            Self::Timeout { phase: Phase::RequestBody, .. } | Self::RequestBody { .. } => {
                ErrorKind::RequestBody
            }
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Reset { .. } => ErrorKind::Reset,
            Self::Protocol { .. } => ErrorKind::Protocol,
        }
    }
}

/// Why a body did not come to its end. It must end as visibly downstream: no last chunk, no
/// `END_STREAM`.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    #[error("the body ended before its announced length")]
    Truncated,
    #[error("no piece of the body came for {0:?}")]
    Idle(Duration),
    #[error("the body is not in the coding that its head announced, or broke off inside of it")]
    Coding(#[source] std::io::Error),
}

/// Why one exchange on one connection failed, before it is known whether it is tried again.
pub(super) enum Failure {
    /// Nothing of the request was written; here it is again.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    Lost(hyper::Error),
    Timeout(Phase, Duration),
    Protocol(&'static str),
}

impl From<TrySendError<Request<RequestBody>>> for Failure {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        let request = error.take_message();
        let error = error.into_error();
        match request {
            Some(request) => Self::Unsent(Box::new(request), error),
            None => Self::Lost(error),
        }
    }
}

impl Failure {
    /// The connection went away without a word about the request.
    pub(super) fn is_loss(&self) -> bool {
        matches!(self, Self::Lost(error) if !error.is_parse() && !is_request_body(error))
    }

    /// The origin says that it has not looked at the request: whatever it is, it may be sent again
    /// (RFC 9113 §8.7).
    pub(super) fn is_refused_stream(&self) -> bool {
        let Self::Lost(error) = self else { return false };
        let source = std::error::Error::source(error);
        let reason = source.and_then(|source| source.downcast_ref::<h2::Error>());
        reason.is_some_and(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM))
    }

    pub(super) fn into_error(self, authority: &Authority) -> Error {
        let authority = authority.clone();
        match self {
            Self::Timeout(phase, after) => Error::Timeout { authority, phase, after },
            Self::Protocol(what) => Error::Protocol { authority, what, source: None },
            Self::Lost(source) if is_request_body(&source) => Error::RequestBody { source },
            Self::Lost(source) if source.is_parse() => {
                let what = if source.is_parse_too_large() {
                    "the head is too large"
                } else {
                    "the head does not parse"
                };
                Error::Protocol { authority, what, source: Some(source) }
            }
            Self::Lost(source) | Self::Unsent(_, source) => Error::Reset { authority, source },
        }
    }
}

/// The client's body failed while it was sent, or ended before its announced length.
fn is_request_body(error: &hyper::Error) -> bool {
    error.is_user() || error.is_body_write_aborted()
}
