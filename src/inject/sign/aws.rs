//! AWS Signature Version 4, in the `Authorization` header.
//!
//! The caller's own signature, date, token and presigned parameters are replaced, so that an SDK
//! with made-up keys works. Its statement about the body stays: it is what the SDK will send, and
//! AWS holds the body against it. Source: AWS IAM User Guide, "Create a signed AWS API request";
//! Amazon S3 API Reference, "Signature Calculations".

use std::time::SystemTime;

use aws_lc_rs::{digest, hmac};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::endpoint::{Scope, is_region, scope_of};
use super::{AwsSigV4, Error, Head, encoded, recoded, without};
use crate::clock;
use crate::host::Host;
use crate::inject::template::Properties;
use crate::inject::{self, rendered, sensitive};
use crate::secret::{Secret, hex};

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
/// Only the other kind of signature, for many regions at once, has one.
const REGION_SET: HeaderName = HeaderName::from_static("x-amz-region-set");

/// What a presigned URL carries. With a signature in the head too, AWS would refuse the request.
const PRESIGNED: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// The body is in chunks, and a checksum follows them. Nothing of it is signed.
const UNSIGNED_CHUNKS: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

#[derive(Clone)]
pub(in crate::inject) struct Aws {
    access_key_id: Secret,
    secret_access_key: Secret,
    session_token: Option<(Secret, HeaderValue)>,
    service: Option<Secret>,
    region: Option<Secret>,
}

/// What the signature says of the body.
enum Payload {
    /// What the caller says, or what has to be said of a body that streams.
    Said(HeaderValue),
    Hashed,
}

impl Aws {
    pub(super) fn new(spec: &AwsSigV4, properties: &Properties) -> Result<Self, inject::Error> {
        let optional = |template: &Option<_>| match template {
            Some(template) => rendered(template, properties, true),
            None => Ok(None),
        };
        let visible = |value: Option<Secret>, place: &str| {
            value.iter().try_for_each(|value| sensitive(value, place).map(drop))?;
            Ok::<_, inject::Error>(value)
        };
        let access_key_id = spec.access_key_id.render(properties)?;
        sensitive(&access_key_id, "authorization")?;
        let token = optional(&spec.session_token)?;
        let value = |token: Secret| {
            let value = sensitive(&token, SECURITY_TOKEN.as_str())?;
            Ok::<_, inject::Error>((token, value))
        };
        Ok(Self {
            access_key_id,
            secret_access_key: spec.secret_access_key.render(properties)?,
            session_token: token.map(value).transpose()?,
            service: visible(optional(&spec.service)?, "authorization")?,
            region: visible(optional(&spec.region)?, "authorization")?,
        })
    }

    /// The key's id is no secret: AWS itself puts it into answers.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let token = self.session_token.iter().map(|(token, _)| token);
        std::iter::once(&self.secret_access_key).chain(token).cloned().collect()
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        let same = |a: &Option<&Secret>, b: &Option<&Secret>| match (a, b) {
            (Some(a), Some(b)) => a.same_as(b),
            (None, None) => true,
            _ => false,
        };
        let token = |aws: &'_ Self| aws.session_token.as_ref().map(|(token, _)| token.clone());
        self.access_key_id.same_as(&other.access_key_id)
            && self.secret_access_key.same_as(&other.secret_access_key)
            && same(&token(self).as_ref(), &token(other).as_ref())
            && same(&self.service.as_ref(), &other.service.as_ref())
            && same(&self.region.as_ref(), &other.region.as_ref())
    }

    pub(super) fn needs_body(&self, head: &Head<'_>) -> Result<bool, Error> {
        let scope = self.scope(head.host, None)?;
        Ok(matches!(payload(&scope, head)?, Payload::Hashed))
    }

    pub(super) fn sign(
        &self,
        head: &mut Head<'_>,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Secret, Error> {
        let (host, said) = (head.host, said_region(head));
        let scope = self.scope(host, said.as_deref())?;
        let payload = match payload(&scope, head)? {
            Payload::Said(value) => {
                head.headers.insert(CONTENT_SHA256, value.clone());
                value
            }
            Payload::Hashed => {
                let hash = hex_value(&sha256(body));
                if scope.states_payload() {
                    head.headers.insert(CONTENT_SHA256, hash.clone());
                }
                hash
            }
        };
        let stamp = stamp(now);
        self.prepare_head(head, &stamp)?;
        let signed = signed_names(head.headers, is_signed);
        let canonical = canonical_request(head, &scope, &signed, payload.as_bytes());
        let (authorization, signature) = self.authorization(&scope, &stamp, &signed, &canonical);
        head.headers.insert(AUTHORIZATION, authorization);
        Ok(signature)
    }

    /// Never what the caller's own signature says: to a host that a stranger runs, such as an API
    /// gateway, it would give him a signature that another service takes. Only the region of a
    /// bucket is the caller's to say, where S3 itself is asked by a name without one.
    fn scope<'a>(&'a self, host: &'a Host, said: Option<&'a str>) -> Result<Scope<'a>, Error> {
        let told = |value: &'a Option<Secret>| value.as_ref().map(Secret::expose);
        if let (Some(service), Some(region)) = (told(&self.service), told(&self.region)) {
            return Ok(Scope { service, region });
        }
        scope_of(host, said.or(told(&self.region))).ok_or(Error::UnknownService)
    }

    /// Everything but the signature, and nothing of the caller's own.
    fn prepare_head(&self, head: &mut Head<'_>, stamp: &str) -> Result<(), Error> {
        let Head { headers, target, .. } = head;
        for name in [AUTHORIZATION, DATE, SECURITY_TOKEN, CONTENT_SHA256] {
            inject::remove_lookalikes(headers, &name);
        }
        headers.remove(SECURITY_TOKEN);
        headers.remove(REGION_SET);
        headers.insert(DATE, HeaderValue::from_str(stamp).expect("a date is visible ASCII"));
        if let Some((_, token)) = &self.session_token {
            headers.insert(SECURITY_TOKEN, token.clone());
        }
        let theirs = |name: &str| PRESIGNED.iter().any(|one| one.eq_ignore_ascii_case(name));
        if let Some(bare) = without(target, theirs) {
            **target = PathAndQuery::try_from(bare).map_err(|_| Error::Target)?;
        }
        Ok(())
    }

    fn authorization(
        &self,
        scope: &Scope<'_>,
        stamp: &str,
        signed: &[HeaderName],
        canonical: &[u8],
    ) -> (HeaderValue, Secret) {
        let day = &stamp[..8];
        let Scope { service, region } = scope;
        let scope = format!("{day}/{region}/{service}/aws4_request");
        let hash = hex(sha256(canonical).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hash}");
        let key = self.signing_key(day, region, service);
        let signature = hex(hmac::sign(&key, text.as_bytes()).as_ref());
        let line = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            self.access_key_id.expose(),
            joined(signed)
        );
        let mut value =
            HeaderValue::from_str(&line).expect("the key's id and the scope are checked");
        value.set_sensitive(true);
        (value, Secret::from(signature))
    }

    fn signing_key(&self, day: &str, region: &str, service: &str) -> hmac::Key {
        let first = Secret::from(format!("AWS4{}", self.secret_access_key.expose()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, first.expose().as_bytes());
        [day, region, service, "aws4_request"].into_iter().fold(key, |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
    }
}

/// The region in the caller's own signature, be it in the head or in a presigned URL.
fn said_region(head: &Head<'_>) -> Option<String> {
    let line = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let in_head = line.and_then(|line| Some(line.split_once("Credential=")?.1.to_owned()));
    let in_query = || {
        let pairs = head.target.query().unwrap_or_default().split('&');
        let named = |pair: &str| pair.strip_prefix("X-Amz-Credential=").map(str::to_owned);
        let coded = pairs.into_iter().find_map(named)?;
        Some(percent_decode_str(&coded).decode_utf8_lossy().into_owned())
    };
    let credential = in_head.or_else(in_query)?;
    let region = credential.split('/').nth(2)?;
    is_region(region).then(|| region.to_owned())
}

/// S3 takes a body that is not signed where TLS guards it; the others want its hash.
fn payload(scope: &Scope<'_>, head: &Head<'_>) -> Result<Payload, Error> {
    let mut said = head.headers.get_all(CONTENT_SHA256).iter();
    match (said.next(), said.next()) {
        (Some(value), None) => Ok(Payload::Said(checked(value, head.secure)?.clone())),
        (Some(_), Some(_)) => Err(Error::Repeated("x-amz-content-sha256")),
        (None, _) if head.secure && scope.takes_unsigned_payload() => {
            Ok(Payload::Said(HeaderValue::from_static(UNSIGNED)))
        }
        (None, _) => Ok(Payload::Hashed),
    }
}

fn checked(value: &HeaderValue, secure: bool) -> Result<&HeaderValue, Error> {
    let text = value.as_bytes();
    let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let is_unsigned = text == UNSIGNED.as_bytes() || text == UNSIGNED_CHUNKS.as_bytes();
    match () {
        () if text.len() == 64 && text.iter().all(is_hex) => Ok(value),
        () if is_unsigned && secure => Ok(value),
        () if text.starts_with(b"STREAMING-AWS4-") => Err(Error::SignedChunks),
        () => Err(Error::PayloadHash),
    }
}

/// AWS wants the host and its own fields; of the others, those by which a body is read.
fn is_signed(name: &HeaderName) -> bool {
    [HOST, CONTENT_TYPE, CONTENT_MD5].contains(name) || name.as_str().starts_with("x-amz-")
}

fn signed_names(headers: &HeaderMap, is_signed: impl Fn(&HeaderName) -> bool) -> Vec<HeaderName> {
    let mut names: Vec<_> = headers.keys().filter(|name| is_signed(name)).cloned().collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names
}

fn canonical_request(
    head: &Head<'_>,
    scope: &Scope<'_>,
    signed: &[HeaderName],
    payload: &[u8],
) -> Vec<u8> {
    let path = canonical_path(head.target.path(), scope.keeps_paths());
    let query = canonical_query(head.target.query().unwrap_or_default());
    let mut out = format!("{}\n{path}\n{query}\n", head.method).into_bytes();
    for name in signed {
        out.extend_from_slice(name.as_str().as_bytes());
        for (at, value) in head.headers.get_all(name).iter().enumerate() {
            out.push(if at == 0 { b':' } else { b',' });
            push_collapsed(&mut out, value.as_bytes());
        }
        out.push(b'\n');
    }
    out.extend_from_slice(format!("\n{}\n", joined(signed)).as_bytes());
    out.extend_from_slice(payload);
    out
}

/// Without blanks at its ends, and with one where there are several.
fn push_collapsed(out: &mut Vec<u8>, value: &[u8]) {
    let mut blank = false;
    for byte in value.trim_ascii() {
        if *byte != b' ' || !blank {
            out.push(*byte);
        }
        blank = *byte == b' ';
    }
}

/// S3 takes an object's name as it is; for the others a path is cleaned, and encoded once more.
fn canonical_path(path: &str, keeps: bool) -> String {
    if keeps {
        return path.split('/').map(recoded).collect::<Vec<_>>().join("/");
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let cleaned: String =
        kept.iter().map(|kept| format!("/{}", encoded(kept.as_bytes()))).collect();
    let is_folder = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    if cleaned.is_empty() || is_folder { cleaned + "/" } else { cleaned }
}

fn canonical_query(query: &str) -> String {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (recoded(name), recoded(value))
    };
    let mut pairs: Vec<_> = query.split('&').filter(|one| !one.is_empty()).map(pair).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn joined(names: &[HeaderName]) -> String {
    names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(";")
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn hex_value(hash: &digest::Digest) -> HeaderValue {
    HeaderValue::from_str(&hex(hash.as_ref())).expect("hexadecimal digits are visible ASCII")
}

/// `20150830T123600Z`.
fn stamp(now: SystemTime) -> String {
    let text = clock::rfc3339(now);
    let digits = text[..19].chars().filter(|c| !matches!(c, '-' | ':'));
    digits.chain(['Z']).collect()
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
