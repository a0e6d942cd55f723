//! OAuth 1.0a, in the `Authorization` header (RFC 5849 §3). HMAC-SHA256 in place of SHA-1 is what
//! later servers take; PLAINTEXT sends the secrets themselves, which TLS hides.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::PathAndQuery;

use super::{Error, Head, Moment, OAuth1, OAuth1Method, encoded, unix_seconds, without};
use crate::inject::template::{Properties, Template};
use crate::inject::{self, remove_lookalikes, sensitive};
use crate::secret::Secret;

#[derive(Clone)]
pub(in crate::inject) struct Signing {
    method: OAuth1Method,
    consumer_key: Secret,
    consumer_secret: Secret,
    /// With its secret; nothing for a request in the application's own name.
    token: Option<(Secret, Secret)>,
    realm: Option<String>,
}

/// Name and value, neither of them encoded.
type Param<'a> = (Cow<'a, str>, Cow<'a, str>);

impl Signing {
    pub(super) fn new(spec: &OAuth1, properties: &Properties) -> Result<Self, inject::Error> {
        let rendered = |template: &Template| {
            let value = template.render(properties)?;
            sensitive(&value, "authorization")?;
            Ok::<_, inject::Error>(value)
        };
        let token = |(token, secret): &(Template, Template)| {
            Ok::<_, inject::Error>((rendered(token)?, rendered(secret)?))
        };
        Ok(Self {
            method: spec.method,
            consumer_key: rendered(&spec.consumer_key)?,
            consumer_secret: rendered(&spec.consumer_secret)?,
            token: spec.token.as_ref().map(token).transpose()?,
            realm: spec.realm.clone(),
        })
    }

    /// The keys that come before the secrets are sent as they are.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let token = self.token.iter().flat_map(|(token, secret)| [token, secret]);
        std::iter::once(&self.consumer_secret).chain(token).cloned().collect()
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        let same = match (&self.token, &other.token) {
            (Some(one), Some(other)) => one.0.same_as(&other.0) && one.1.same_as(&other.1),
            (None, None) => true,
            _ => false,
        };
        same && self.method == other.method
            && self.consumer_key.same_as(&other.consumer_key)
            && self.consumer_secret.same_as(&other.consumer_secret)
    }

    /// RFC 5849 §3.4.1.3.1: of all bodies, only a form's parameters are signed.
    pub(super) fn needs_body(&self, head: &Head<'_>) -> bool {
        let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|text| text.split(';').next()).unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
    }

    pub(super) fn sign(
        &self,
        head: &mut Head<'_>,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Secret, Error> {
        let theirs = |name: &str| name.starts_with("oauth_");
        if let Some(bare) = without(head.target, theirs) {
            *head.target = PathAndQuery::try_from(bare).map_err(|_| Error::Target)?;
        }
        let form = std::str::from_utf8(body).map_err(|_| Error::Form)?;
        let protocol = self.protocol(moment);
        let own = protocol.iter().map(|(name, value)| (Cow::from(*name), Cow::from(&**value)));
        let query = params(head.target.query().unwrap_or_default());
        let all: Vec<Param<'_>> = own.chain(query).chain(params(form)).collect();
        let base = base_string(head.method.as_str(), &self.url(head), &all);
        let signature = self.signature(&base);
        let mut line = String::from("OAuth ");
        if let Some(realm) = &self.realm {
            line.push_str(&format!("realm=\"{}\", ", encoded(realm.as_bytes())));
        }
        for (name, value) in &protocol {
            line.push_str(&format!("{name}=\"{}\", ", encoded(value.as_bytes())));
        }
        let coded = encoded(signature.expose().as_bytes());
        line.push_str(&format!("oauth_signature=\"{coded}\""));
        let mut value = HeaderValue::from_str(&line).expect("everything in it is encoded");
        value.set_sensitive(true);
        remove_lookalikes(head.headers, &AUTHORIZATION);
        head.headers.insert(AUTHORIZATION, value);
        Ok(signature)
    }

    fn protocol(&self, moment: &Moment) -> Vec<(&'static str, String)> {
        let key = ("oauth_consumer_key", self.consumer_key.expose().to_owned());
        let token = self.token.iter().map(|(token, _)| ("oauth_token", token.expose().to_owned()));
        let rest = [
            ("oauth_signature_method", self.method.as_str().to_owned()),
            ("oauth_timestamp", unix_seconds(moment.now).to_string()),
            ("oauth_nonce", moment.nonce.clone()),
            ("oauth_version", "1.0".to_owned()),
        ];
        std::iter::once(key).chain(token).chain(rest).collect()
    }

    /// RFC 5849 §3.4.1.2. The Host field names the port only where it is not the scheme's own.
    fn url(&self, head: &Head<'_>) -> String {
        let scheme = if head.secure { "https" } else { "http" };
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        format!("{scheme}://{}{}", host.unwrap_or(head.host.as_str()), head.target.path())
    }

    /// RFC 5849 §3.4.2, §3.4.4.
    fn signature(&self, base: &str) -> Secret {
        let token_secret = self.token.as_ref().map_or("", |(_, secret)| secret.expose());
        let both = [self.consumer_secret.expose(), token_secret];
        let key = Secret::from(both.map(|half| encoded(half.as_bytes())).join("&"));
        let algorithm = match self.method {
            OAuth1Method::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            OAuth1Method::HmacSha256 => hmac::HMAC_SHA256,
            OAuth1Method::Plaintext => return key,
        };
        let key = hmac::Key::new(algorithm, key.expose().as_bytes());
        Secret::from(STANDARD.encode(hmac::sign(&key, base.as_bytes())))
    }
}

/// RFC 5849 §3.4.1.3.1: read as a form is, `+` and all.
fn params(text: &str) -> impl Iterator<Item = Param<'_>> {
    url::form_urlencoded::parse(text.as_bytes())
}

/// RFC 5849 §3.4.1.1.
fn base_string(method: &str, url: &str, params: &[Param<'_>]) -> String {
    let encode = |(name, value): &Param<'_>| (encoded(name.as_bytes()), encoded(value.as_bytes()));
    let mut pairs: Vec<_> = params.iter().map(encode).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let parts = [method, url, &pairs.join("&")];
    parts.map(|part| encoded(part.as_bytes())).join("&")
}

impl OAuth1Method {
    pub const ALL: [(&'static str, Self); 3] = [
        ("HMAC-SHA1", Self::HmacSha1),
        ("HMAC-SHA256", Self::HmacSha256),
        ("PLAINTEXT", Self::Plaintext),
    ];

    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, method)| *method == self);
        found.map_or("HMAC-SHA1", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::{HeaderMap, Method};

    use super::*;

    fn signing(method: OAuth1Method, key: [&str; 2], token: [&str; 2]) -> Signing {
        let secret = |text: &str| Secret::from(text.to_owned());
        Signing {
            method,
            consumer_key: secret(key[0]),
            consumer_secret: secret(key[1]),
            token: Some((secret(token[0]), secret(token[1]))),
            realm: None,
        }
    }

    const PHOTOS: [&str; 2] = ["dpf43f3p2l4k3l03", "kd94hf93k423kf44"];
    const PHOTOS_TOKEN: [&str; 2] = ["nnch734d00sl2jdk", "pfkkdhi9sl3r4s00"];

    #[test]
    fn the_example_of_rfc_5849_has_its_signature() {
        let all = "file=vacation.jpg&size=original&oauth_consumer_key=dpf43f3p2l4k3l03\
                   &oauth_token=nnch734d00sl2jdk&oauth_signature_method=HMAC-SHA1\
                   &oauth_timestamp=137131202&oauth_nonce=chapoH";
        let params: Vec<_> = params(all).collect();
        let base = base_string("GET", "http://photos.example.net/photos", &params);
        for (method, signature) in [
            (OAuth1Method::HmacSha1, "MdpQcU8iPSUjWoN/UDMsK2sui9I="),
            (OAuth1Method::Plaintext, "kd94hf93k423kf44&pfkkdhi9sl3r4s00"),
        ] {
            let signing = signing(method, PHOTOS, PHOTOS_TOKEN);
            assert_eq!(signing.signature(&base).expose(), signature);
        }
    }

    #[test]
    fn the_base_string_is_that_of_rfc_5849() {
        let query = "b5=%3D%253D&a3=a&c%40=&a2=r%20b";
        let own = "oauth_consumer_key=9djdj82h48djs9d2&oauth_token=kkk9d7dh3k39sjv7\
                   &oauth_signature_method=HMAC-SHA1&oauth_timestamp=137131201\
                   &oauth_nonce=7d8f3e4a";
        let all: Vec<_> = params(query).chain(params(own)).chain(params("c2&a3=2+q")).collect();
        assert_eq!(
            base_string("POST", "http://example.com/request", &all),
            "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D\
             %253D%25253D%26c%2540%3D%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26\
             oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D\
             137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
        );
    }

    /// The example in Twitter's documentation, "Creating a signature".
    #[test]
    fn a_form_is_signed_with_the_query_and_the_callers_own_signature_goes() {
        let signing = signing(
            OAuth1Method::HmacSha1,
            ["xvz1evFS4wEEPTGEFPHBog", "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw"],
            [
                "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb",
                "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE",
            ],
        );
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("api.twitter.com"));
        headers.insert("authorization", HeaderValue::from_static("OAuth oauth_token=\"dummy\""));
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        headers.insert("content-type", form);
        let target = "/1.1/statuses/update.json?oauth_signature=x&include_entities=true";
        let mut target = target.parse().expect("a target");
        let mut head = Head {
            method: &Method::POST,
            host: &"api.twitter.com".parse().expect("a host"),
            headers: &mut headers,
            target: &mut target,
            secure: true,
        };
        assert!(signing.needs_body(&head));
        let moment = Moment {
            now: UNIX_EPOCH + Duration::from_secs(1_318_622_958),
            nonce: "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg".to_owned(),
        };
        let body = b"status=Hello%20Ladies%20%2b%20Gentlemen%2c%20a%20signed%20OAuth%20request%21";
        let signature = signing.sign(&mut head, body, &moment).expect("it can be signed");
        assert_eq!(signature.expose(), "hCtSmYh+iHYCEqBWrE7C7hYmtUk=");
        assert_eq!(target, "/1.1/statuses/update.json?include_entities=true");
        assert_eq!(
            headers["authorization"],
            "OAuth oauth_consumer_key=\"xvz1evFS4wEEPTGEFPHBog\", \
             oauth_token=\"370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb\", \
             oauth_signature_method=\"HMAC-SHA1\", oauth_timestamp=\"1318622958\", \
             oauth_nonce=\"kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg\", oauth_version=\"1.0\", \
             oauth_signature=\"hCtSmYh%2BiHYCEqBWrE7C7hYmtUk%3D\""
        );
    }

    #[test]
    fn only_a_form_is_part_of_the_signature() {
        let signing = signing(OAuth1Method::HmacSha256, PHOTOS, PHOTOS_TOKEN);
        for (media_type, needed) in [
            ("Application/X-WWW-Form-Urlencoded", true),
            ("application/json", false),
            ("multipart/form-data; boundary=x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", media_type.parse().expect("a value"));
            let head = Head {
                method: &Method::POST,
                host: &"a.test".parse().expect("a host"),
                headers: &mut headers,
                target: &mut PathAndQuery::from_static("/"),
                secure: true,
            };
            assert_eq!(signing.needs_body(&head), needed, "{media_type}");
        }
    }
}
