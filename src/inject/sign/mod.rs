//! Signing a request as a whole: what is sent is not the secret, but a proof of it that holds for
//! this request alone. Pure: the time and the body are handed in.
//!
//! A signature is computed last, over the request as it leaves: addressed, stripped, and with
//! everything else attached.

mod aws;
mod endpoint;

use std::time::SystemTime;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

pub(super) use aws::Aws;

use super::template::{Properties, Template};
use crate::host::Host;
use crate::secret::Secret;

/// The signature schemes that an app definition can name, with what they are computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    AwsSigV4(Box<AwsSigV4>),
    OAuth1 { method: String },
    Hmac { algorithm: String },
    Digest,
}

/// `aws_sigv4 = { … }`. Service and region are for hosts that do not tell them by their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSigV4 {
    pub access_key_id: Template,
    pub secret_access_key: Template,
    pub session_token: Option<Template>,
    pub service: Option<Template>,
    pub region: Option<Template>,
}

/// Why a request cannot be signed. What the caller can mend says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "the name of this host does not say which AWS service and region it is; an account for it \
             has to (fields `service` and `region`)"
    )]
    UnknownService,
    #[error("there is more than one {0}, and the signature covers one")]
    Repeated(&'static str),
    #[error(
        "each chunk of this body is signed with the caller's own key \
             (STREAMING-AWS4-HMAC-SHA256-…), which cannot be signed anew while it streams. Switch \
             that off in the SDK: `chunkedEncodingEnabled(false)` in Java, \
             `payload_signing_enabled = false` in the AWS CLI and boto3; or use an https:// \
             endpoint, where newer SDKs do not sign chunks"
    )]
    SignedChunks,
    #[error(
        "x-amz-content-sha256 is neither the SHA-256 of the body in lower case hexadecimal, nor \
             UNSIGNED-PAYLOAD over TLS, nor STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    )]
    PayloadHash,
    #[error("the query cannot be sent without the caller's own signature in it")]
    Target,
}

/// The request that is signed.
pub struct Head<'a> {
    pub method: &'a Method,
    pub host: &'a Host,
    pub headers: &'a mut HeaderMap,
    pub target: &'a mut PathAndQuery,
    /// Whether it goes out over TLS.
    pub secure: bool,
}

/// A signature scheme with one account's values in it.
#[derive(Clone)]
pub(super) enum Signer {
    Aws(Box<Aws>),
}

impl Signer {
    pub(super) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Aws(one), Self::Aws(other)) => one.same_as(other),
        }
    }

    /// Whether the signature covers the body's own bytes, so that they have to be here first.
    pub(super) fn needs_body(&self, head: &Head<'_>) -> Result<bool, Error> {
        match self {
            Self::Aws(aws) => aws.needs_body(head),
        }
    }

    /// Signs. `body` is the whole of it where [`Self::needs_body`] said so, and otherwise not looked
    /// at. Gives back what must not be echoed.
    pub(super) fn sign(
        &self,
        head: &mut Head<'_>,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Secret, Error> {
        match self {
            Self::Aws(aws) => aws.sign(head, body, now),
        }
    }
}

impl Signature {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AwsSigV4(_) => "AWS Signature Version 4",
            Self::OAuth1 { .. } => "OAuth 1.0a",
            Self::Hmac { .. } => "a templated HMAC",
            Self::Digest => "HTTP Digest",
        }
    }

    /// Every template in it, and whether its values may be missing.
    pub(super) fn templates(&self) -> Vec<(&Template, bool)> {
        match self {
            Self::AwsSigV4(aws) => {
                let needed = [&aws.access_key_id, &aws.secret_access_key].map(|one| (one, false));
                let optional = [&aws.session_token, &aws.service, &aws.region];
                let optional = optional.into_iter().flatten().map(|one| (one, true));
                needed.into_iter().chain(optional).collect()
            }
            Self::OAuth1 { .. } | Self::Hmac { .. } | Self::Digest => Vec::new(),
        }
    }

    /// The signer for an account; with it, the values of which no answer may speak.
    pub(super) fn prepare(
        &self,
        properties: &Properties,
    ) -> Result<(Signer, Vec<Secret>), super::Error> {
        match self {
            Self::AwsSigV4(aws) => {
                let aws = Aws::new(aws, properties)?;
                let hidden = aws.secrets();
                Ok((Signer::Aws(Box::new(aws)), hidden))
            }
            other => Err(super::Error::Unsupported(other.name())),
        }
    }
}
