//! Signatures that each API defines for itself: an HMAC over a text of the request's parts, in a
//! header or parameter. The definition says which text, so there is no code for one API.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

use super::{Error, Head, Moment, encoded, unix_seconds, without};
use crate::inject::template::{Properties, Template};
use crate::inject::{self, TemplateError, remove_lookalikes};
use crate::secret::{Secret, hex};

/// `hmac = { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hmac {
    pub algorithm: Algorithm,
    pub key: Template,
    pub key_encoding: KeyEncoding,
    /// What is signed. Knows the [`REQUEST_WORDS`] beside the account's fields.
    pub over: Template,
    pub encoding: Encoding,
    pub place: Place,
    /// What stands in that place: `{signature}` and what else it takes.
    pub value: Template,
    /// Where the origin is told the time that was signed.
    pub timestamp: Option<Place>,
    pub unit: Unit,
}

/// What a request says itself. `{target}` is path and query, `{signature}` is for `value` alone.
const REQUEST_WORDS: [&str; 9] =
    ["timestamp", "nonce", "method", "host", "path", "query", "target", "body", "signature"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Header(HeaderName),
    Query(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEncoding {
    Text,
    Base64,
    Hex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Hex,
    Base64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
}

impl Algorithm {
    pub const ALL: [(&'static str, Self); 4] = [
        ("sha1", Self::Sha1),
        ("sha256", Self::Sha256),
        ("sha384", Self::Sha384),
        ("sha512", Self::Sha512),
    ];

    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, algorithm)| *algorithm == self);
        found.map_or("sha256", |(name, _)| name)
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl Hmac {
    /// The account's fields in it.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        let holes = [&self.key, &self.over, &self.value].into_iter().flat_map(Template::holes);
        holes.filter(|hole| !REQUEST_WORDS.contains(hole))
    }
}

#[derive(Clone)]
pub(in crate::inject) struct Signing {
    spec: Hmac,
    key: Secret,
    signer: hmac::Key,
    fields: Properties,
}

impl Signing {
    pub(super) fn new(spec: &Hmac, properties: &Properties) -> Result<Self, inject::Error> {
        let mut fields = Properties::new();
        for name in spec.fields() {
            let value = properties.get(name).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| TemplateError::Missing(name.to_owned()))?;
            fields.insert(name.to_owned(), value.clone());
        }
        let key = spec.key.render(properties)?;
        let bytes = match spec.key_encoding {
            KeyEncoding::Text => Some(key.expose().as_bytes().to_vec()),
            KeyEncoding::Base64 => STANDARD.decode(key.expose()).ok(),
            KeyEncoding::Hex => from_hex(key.expose()),
        };
        let bytes = zeroize::Zeroizing::new(bytes.ok_or(inject::Error::Key)?);
        let signer = hmac::Key::new(spec.algorithm.hmac(), &bytes);
        Ok(Self { spec: spec.clone(), key, signer, fields })
    }

    pub(super) fn secrets(&self) -> Vec<Secret> {
        std::iter::once(&self.key).chain(self.fields.values()).cloned().collect()
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        let same =
            |(a, b): ((&String, &Secret), (&String, &Secret))| a.0 == b.0 && a.1.same_as(b.1);
        self.spec == other.spec
            && self.key.same_as(&other.key)
            && self.fields.len() == other.fields.len()
            && self.fields.iter().zip(&other.fields).all(same)
    }

    pub(super) fn needs_body(&self) -> bool {
        self.spec.over.holes().contains(&"body")
    }

    pub(super) fn sign(
        &self,
        head: &mut Head<'_>,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Secret, Error> {
        let body = std::str::from_utf8(body).map_err(|_| Error::Form)?;
        let timestamp = self.timestamp(moment);
        clear(head, &self.spec.place)?;
        if let Some(place) = &self.spec.timestamp {
            clear(head, place)?;
            put(head, place, &timestamp)?;
        }
        let target = head.target.clone();
        let word = |name: &str| match name {
            "timestamp" => Some(Cow::from(&*timestamp)),
            "nonce" => Some(Cow::from(&*moment.nonce)),
            "method" => Some(Cow::from(head.method.as_str())),
            "host" => Some(Cow::from(head.host.as_str())),
            "path" => Some(Cow::from(target.path())),
            "query" => Some(Cow::from(target.query().unwrap_or_default())),
            "target" => Some(Cow::from(target.as_str())),
            "body" => Some(Cow::from(body)),
            _ => None,
        };
        let field = |name: &str| self.fields.get(name).map(|value| Cow::from(value.expose()));
        let text = Secret::from(self.spec.over.fill(&|name| word(name).or_else(|| field(name))));
        let tag = hmac::sign(&self.signer, text.expose().as_bytes());
        let signature = match self.spec.encoding {
            Encoding::Hex => hex(tag.as_ref()),
            Encoding::Base64 => STANDARD.encode(tag),
        };
        let value = self.spec.value.fill(&|name| match name {
            "signature" => Some(Cow::from(&*signature)),
            _ => word(name).or_else(|| field(name)),
        });
        put(head, &self.spec.place, &value)?;
        Ok(Secret::from(signature))
    }

    fn timestamp(&self, moment: &Moment) -> String {
        match self.spec.unit {
            Unit::Seconds => unix_seconds(moment.now).to_string(),
            Unit::Milliseconds => {
                moment.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string()
            }
        }
    }
}

/// What the caller has in that place, before anything is signed.
fn clear(head: &mut Head<'_>, place: &Place) -> Result<(), Error> {
    match place {
        Place::Header(name) => {
            remove_lookalikes(head.headers, name);
            head.headers.remove(name);
        }
        Place::Query(own) => {
            if let Some(bare) = without(head.target, |name| name.eq_ignore_ascii_case(own)) {
                *head.target = PathAndQuery::try_from(bare).map_err(|_| Error::Target)?;
            }
        }
    }
    Ok(())
}

fn put(head: &mut Head<'_>, place: &Place, value: &str) -> Result<(), Error> {
    match place {
        Place::Header(name) => {
            let mut value = HeaderValue::from_str(value).map_err(|_| Error::Target)?;
            value.set_sensitive(true);
            head.headers.insert(name.clone(), value);
        }
        Place::Query(name) => {
            let mark =
                if head.target.query().is_some_and(|query| !query.is_empty()) { "&" } else { "?" };
            let path = head.target.as_str().trim_end_matches('?');
            let text = format!("{path}{mark}{name}={}", encoded(value.as_bytes()));
            *head.target = PathAndQuery::try_from(text).map_err(|_| Error::Target)?;
        }
    }
    Ok(())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, Method};

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).expect(text)
    }

    fn spec(over: &str) -> Hmac {
        Hmac {
            algorithm: Algorithm::Sha256,
            key: template("{secret}"),
            key_encoding: KeyEncoding::Text,
            over: template(over),
            encoding: Encoding::Hex,
            place: Place::Query("signature".to_owned()),
            value: template("{signature}"),
            timestamp: Some(Place::Query("timestamp".to_owned())),
            unit: Unit::Milliseconds,
        }
    }

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::from((*v).to_owned()))).collect()
    }

    struct Sent {
        headers: HeaderMap,
        target: PathAndQuery,
    }

    fn sign(spec: &Hmac, secret: &str, method: &Method, target: &str, body: &str, ms: u64) -> Sent {
        let signing = Signing::new(spec, &properties(&[("secret", secret), ("id", "key-1")]));
        let signing = signing.expect("good values");
        let mut sent =
            Sent { headers: HeaderMap::new(), target: target.parse().expect("a target") };
        sent.headers.insert("x-sign", HeaderValue::from_static("dummy"));
        let mut head = Head {
            method,
            host: &"api.acme.test".parse().expect("a host"),
            headers: &mut sent.headers,
            target: &mut sent.target,
            secure: true,
        };
        assert_eq!(signing.needs_body(), spec.over.source().contains("{body}"));
        let moment =
            Moment { now: UNIX_EPOCH + Duration::from_millis(ms), nonce: "n0nce".to_owned() };
        signing.sign(&mut head, body.as_bytes(), &moment).expect("it can be signed");
        sent
    }

    /// The example of Binance's documentation, "SIGNED endpoint examples".
    #[test]
    fn a_query_is_signed_as_an_exchange_shows_it() {
        let secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
        let asked = "/api/v3/order?symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1\
                     &price=0.1&recvWindow=5000";
        let signed = "&timestamp=1499827319559&signature=\
                      c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71";
        let own = format!("{asked}&signature=dummy&Timestamp=1");
        let spec = spec("{query}{body}");
        for target in [asked, &own] {
            let sent = sign(&spec, secret, &Method::POST, target, "", 1_499_827_319_559);
            assert_eq!(sent.target.as_str(), format!("{asked}{signed}"));
        }
    }

    /// Held against Python's `hmac`.
    #[test]
    fn a_header_is_put_together_of_fields_and_parts_of_the_request() {
        let spec = Hmac {
            algorithm: Algorithm::Sha512,
            key_encoding: KeyEncoding::Base64,
            encoding: Encoding::Base64,
            place: Place::Header(HeaderName::from_static("x-sign")),
            value: template("{id}:{nonce}:{signature}"),
            timestamp: Some(Place::Header(HeaderName::from_static("x-time"))),
            unit: Unit::Seconds,
            ..spec("{timestamp}\n{method}\n{host}{path}?{query}\n{target}{body}{nonce}{id}")
        };
        let sent = sign(&spec, "c2VjcmV0LWtleQ==", &Method::PUT, "/a%20b?x=1", "{\"a\":1}", 7_999);
        assert_eq!(sent.headers["x-time"], "7");
        assert_eq!(sent.target, "/a%20b?x=1");
        assert_eq!(
            sent.headers["x-sign"],
            "key-1:n0nce:HVaRRD4yWK02RJzvAaetWQXdvYh4V0YyNNOanvp7rIIRxWZV9YUeEtPivl0VG18+JElr4+ypBGL/Qi1lVgSBrA=="
        );
    }

    #[test]
    fn values_that_are_missing_or_no_key_are_refused_when_they_are_configured() {
        for (encoding, secret, good) in [
            (KeyEncoding::Base64, "%%%", false),
            (KeyEncoding::Hex, "abc", false),
            (KeyEncoding::Hex, "0aFF", true),
            (KeyEncoding::Text, "", false),
        ] {
            let spec = Hmac { key_encoding: encoding, ..spec("{body}") };
            assert_eq!(Signing::new(&spec, &properties(&[("secret", secret)])).is_ok(), good);
        }
        let spec = spec("{id}{body}");
        assert!(Signing::new(&spec, &properties(&[("secret", "x")])).is_err(), "id is missing");
    }
}
