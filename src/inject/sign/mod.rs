//! Signing a request as a whole: what is sent is not the secret, but a proof of it that holds for
//! this request alone. Pure: the time and the body are handed in.
//!
//! A signature is computed last, over the request as it leaves: addressed, stripped, and with
//! everything else attached.

mod aws;
mod endpoint;
mod hmac;
mod oauth1;

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

pub(super) use aws::Aws;
pub use hmac::{Algorithm, Encoding, Hmac, KeyEncoding, Place, Unit};

use super::template::{Properties, Template};
use crate::host::Host;
use crate::secret::Secret;

/// The signature schemes that an app definition can name, with what they are computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    AwsSigV4(Box<AwsSigV4>),
    OAuth1(Box<OAuth1>),
    Hmac(Box<Hmac>),
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

/// `oauth1 = { … }`. Without a token, requests are in the application's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth1 {
    pub method: OAuth1Method,
    pub consumer_key: Template,
    pub consumer_secret: Template,
    /// With its secret.
    pub token: Option<(Template, Template)>,
    pub realm: Option<String>,
}

/// RFC 5849 §3.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuth1Method {
    HmacSha1,
    HmacSha256,
    Plaintext,
}

/// What makes one signature differ from the next. Handed in, so that signing is pure.
pub struct Moment {
    pub now: SystemTime,
    /// Letters and digits that were never used before.
    pub nonce: String,
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
    #[error("the body, which the signature covers, is not text")]
    Form,
    #[error(
        "the credential goes into the body, as a field of a form or of a JSON object, and this body is \
             neither (see its Content-Type), or it is compressed"
    )]
    Body,
    #[error("the URL, or a header, cannot be sent with its signature")]
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
    OAuth1(Box<oauth1::Signing>),
    Hmac(Box<hmac::Signing>),
}

impl Signer {
    pub(super) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Aws(one), Self::Aws(other)) => one.same_as(other),
            (Self::OAuth1(one), Self::OAuth1(other)) => one.same_as(other),
            (Self::Hmac(one), Self::Hmac(other)) => one.same_as(other),
            _ => false,
        }
    }

    /// Whether the signature covers the body's own bytes, so that they have to be here first.
    pub(super) fn needs_body(&self, head: &Head<'_>) -> Result<bool, Error> {
        match self {
            Self::Aws(aws) => aws.needs_body(head),
            Self::OAuth1(oauth1) => Ok(oauth1.needs_body(head)),
            Self::Hmac(hmac) => Ok(hmac.needs_body()),
        }
    }

    /// Signs. `body` is the whole of it where [`Self::needs_body`] said so, and otherwise not looked
    /// at. Gives back what must not be echoed.
    pub(super) fn sign(
        &self,
        head: &mut Head<'_>,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Secret, Error> {
        match self {
            Self::Aws(aws) => aws.sign(head, body, moment.now),
            Self::OAuth1(oauth1) => oauth1.sign(head, body, moment),
            Self::Hmac(hmac) => hmac.sign(head, body, moment),
        }
    }
}

impl Signature {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AwsSigV4(_) => "AWS Signature Version 4",
            Self::OAuth1(_) => "OAuth 1.0a",
            Self::Hmac(_) => "a templated HMAC",
            Self::Digest => "HTTP Digest",
        }
    }

    /// The account's fields in it, and whether their values may be missing.
    pub(super) fn fields(&self) -> Vec<(&str, bool)> {
        let templates: Vec<(&Template, bool)> = match self {
            Self::AwsSigV4(aws) => {
                let needed = [&aws.access_key_id, &aws.secret_access_key].map(|one| (one, false));
                let optional = [&aws.session_token, &aws.service, &aws.region];
                let optional = optional.into_iter().flatten().map(|one| (one, true));
                needed.into_iter().chain(optional).collect()
            }
            Self::OAuth1(oauth1) => {
                let needed = [&oauth1.consumer_key, &oauth1.consumer_secret];
                let token = oauth1.token.iter().flat_map(|(token, secret)| [token, secret]);
                needed.into_iter().chain(token).map(|one| (one, false)).collect()
            }
            Self::Hmac(hmac) => return hmac.fields().map(|field| (field, false)).collect(),
            Self::Digest => Vec::new(),
        };
        super::holes_of(&templates)
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
            Self::OAuth1(oauth1) => {
                let signing = oauth1::Signing::new(oauth1, properties)?;
                let hidden = signing.secrets();
                Ok((Signer::OAuth1(Box::new(signing)), hidden))
            }
            Self::Hmac(spec) => {
                let signing = hmac::Signing::new(spec, properties)?;
                let hidden = signing.secrets();
                Ok((Signer::Hmac(Box::new(signing)), hidden))
            }
            other => Err(super::Error::Unsupported(other.name())),
        }
    }
}

/// RFC 3986 §2.3: what stays as it is in what is signed.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}

/// In the one spelling that is signed.
fn recoded(text: &str) -> String {
    encoded(&Cow::from(percent_decode_str(text)))
}

/// The target without the parameters that are `theirs`, however they are spelled; `None` where there
/// is none. The rest stays byte for byte.
fn without(target: &PathAndQuery, theirs: impl Fn(&str) -> bool) -> Option<String> {
    let is_theirs = |pair: &&str| {
        let name = percent_decode_str(pair.split('=').next().unwrap_or_default());
        theirs(&name.decode_utf8_lossy())
    };
    let query = target.query()?;
    query.split('&').find(is_theirs)?;
    let kept: Vec<_> = query.split('&').filter(|pair| !is_theirs(pair)).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    Some(format!("{}{mark}{}", target.path(), kept.join("&")))
}

fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
