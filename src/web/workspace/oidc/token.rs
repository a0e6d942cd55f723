//! Is this ID token the identity provider's, for us, now, and for this login? Pure. Rules: OpenID
//! Connect Core §3.1.3.7, RFC 7515, RFC 7518, RFC 8725 (only signatures with public keys; `none` and
//! HMAC are no choice).

use std::time::SystemTime;

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::super::session::same;
use crate::clock::unix_ms;

/// Clocks differ by so much.
const SKEW_SECONDS: u64 = 60;
const MAX_SUBJECT_BYTES: usize = 255;

/// Why an ID token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("it is not a signed token")]
    Form,
    #[error("its signature algorithm is not taken")]
    Algorithm,
    #[error("the provider publishes no key that it was signed with")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is another issuer's")]
    Issuer,
    #[error("it is for somebody else")]
    Audience,
    #[error("it has expired, or is not valid yet")]
    Time,
    #[error("it belongs to another login")]
    Nonce,
    #[error("it says not who it is about")]
    Subject,
}

/// What the token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: SystemTime,
}

/// Who it is about, as the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub subject: String,
    pub email: Option<String>,
    pub email_verified: bool,
    pub name: Option<String>,
}

/// The provider's keys (RFC 7517).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Debug, Clone, Deserialize)]
struct Key {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
    azp: Option<String>,
    exp: f64,
    #[serde(default)]
    iat: f64,
    #[serde(default)]
    nbf: f64,
    #[serde(default)]
    nonce: String,
}

enum Algorithm {
    Rsa(&'static RsaParameters),
    Ec(&'static str, &'static dyn VerificationAlgorithm),
    Ed(&'static dyn VerificationAlgorithm),
}

fn algorithm(name: &str) -> Result<Algorithm, Invalid> {
    Ok(match name {
        "RS256" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
        "ES256" => Algorithm::Ec("P-256", &signature::ECDSA_P256_SHA256_FIXED),
        "ES384" => Algorithm::Ec("P-384", &signature::ECDSA_P384_SHA384_FIXED),
        "EdDSA" => Algorithm::Ed(&signature::ED25519),
        _ => return Err(Invalid::Algorithm),
    })
}

/// # Errors
/// Why it proves nothing; `UnknownKey` is worth another look at the provider's keys.
pub fn verify(token: &str, keys: &Keys, expected: &Expected<'_>) -> Result<Identity, Invalid> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Invalid::Form)?;
    let (header, payload) = signed.split_once('.').ok_or(Invalid::Form)?;
    let header: Header = read(header)?;
    if header.crit.is_some() {
        return Err(Invalid::Algorithm);
    }
    let signature = decode(signature).ok_or(Invalid::Form)?;
    keys.check(&header, signed.as_bytes(), &signature)?;
    let claims: Claims = read(payload)?;
    check(&claims, expected)?;
    Ok(Identity { subject: claims.sub, ..identity(&read(payload)?) })
}

/// What a claims document says of a person.
pub fn identity(claims: &Value) -> Identity {
    let text = |name: &str| claims[name].as_str().map(str::to_owned);
    let verified = &claims["email_verified"];
    Identity {
        subject: text("sub").unwrap_or_default(),
        email: text("email"),
        // Some providers say it as text.
        email_verified: verified.as_bool() == Some(true) || verified.as_str() == Some("true"),
        name: text("name"),
    }
}

impl Keys {
    fn check(&self, header: &Header, signed: &[u8], signature: &[u8]) -> Result<(), Invalid> {
        let algorithm = algorithm(&header.alg)?;
        let fits = |key: &&Key| {
            key.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
                && key.alg.as_deref().is_none_or(|alg| alg == header.alg)
                && (header.kid.is_none() || key.kid == header.kid)
                && key.is_for(&algorithm)
        };
        let mut candidates = self.keys.iter().filter(fits).peekable();
        candidates.peek().ok_or(Invalid::UnknownKey)?;
        match candidates.any(|key| key.verifies(&algorithm, signed, signature)) {
            true => Ok(()),
            false => Err(Invalid::Signature),
        }
    }
}

impl Key {
    fn is_for(&self, algorithm: &Algorithm) -> bool {
        match algorithm {
            Algorithm::Rsa(_) => self.kty == "RSA",
            Algorithm::Ec(curve, _) => self.kty == "EC" && self.crv.as_deref() == Some(*curve),
            Algorithm::Ed(_) => self.kty == "OKP" && self.crv.as_deref() == Some("Ed25519"),
        }
    }

    fn verifies(&self, algorithm: &Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let part = |part: &Option<String>| part.as_deref().and_then(decode);
        match algorithm {
            Algorithm::Rsa(parameters) => {
                let (Some(n), Some(e)) = (part(&self.n), part(&self.e)) else { return false };
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            Algorithm::Ec(_, algorithm) => {
                let (Some(x), Some(y)) = (part(&self.x), part(&self.y)) else { return false };
                let point = [&[4][..], &x, &y].concat();
                UnparsedPublicKey::new(*algorithm, point).verify(signed, signature).is_ok()
            }
            Algorithm::Ed(algorithm) => {
                let Some(x) = part(&self.x) else { return false };
                UnparsedPublicKey::new(*algorithm, x).verify(signed, signature).is_ok()
            }
        }
    }
}

fn check(claims: &Claims, expected: &Expected<'_>) -> Result<(), Invalid> {
    let audiences: Vec<&str> = match &claims.aud {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let azp = claims.azp.as_deref();
    let for_us = audiences.contains(&expected.client_id)
        && (audiences.len() == 1 || azp.is_some())
        && azp.is_none_or(|azp| azp == expected.client_id);
    let now = (unix_ms(expected.now) / 1000) as f64;
    let skew = SKEW_SECONDS as f64;
    let in_time = claims.exp + skew > now && claims.iat.max(claims.nbf) <= now + skew;
    match () {
        () if claims.iss != expected.issuer => Err(Invalid::Issuer),
        () if !for_us => Err(Invalid::Audience),
        () if !in_time => Err(Invalid::Time),
        () if !same(&claims.nonce, expected.nonce) => Err(Invalid::Nonce),
        () if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT_BYTES => {
            Err(Invalid::Subject)
        }
        () => Ok(()),
    }
}

fn read<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Invalid> {
    let bytes = decode(part).ok_or(Invalid::Form)?;
    serde_json::from_slice(&bytes).map_err(|_| Invalid::Form)
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    struct Provider {
        pair: EcdsaKeyPair,
    }

    impl Provider {
        fn new() -> Self {
            Self { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
        }

        fn keys(&self, kid: &str) -> Keys {
            let point = self.pair.public_key().as_ref();
            let key = json!({
                "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig",
                "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
                "y": URL_SAFE_NO_PAD.encode(&point[33..]),
            });
            serde_json::from_value(json!({ "keys": [key] })).unwrap()
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(header), part(claims));
            let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    fn expected() -> Expected<'static> {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        Expected { issuer: "https://idp.test", client_id: "us", nonce: "n1", now }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://idp.test", "sub": "ann", "aud": "us", "exp": NOW + 60, "iat": NOW,
            "nonce": "n1", "email": "ann@acme.test", "email_verified": true,
        })
    }

    fn with(changes: &Value) -> Value {
        let mut all = claims();
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    }

    #[test]
    fn a_token_must_be_this_issuers_for_us_now_and_for_this_login() {
        let provider = Provider::new();
        let (keys, header) = (provider.keys("k1"), json!({ "alg": "ES256", "kid": "k1" }));
        for (changes, outcome) in [
            (json!({}), None),
            (json!({ "aud": ["us"] }), None),
            (json!({ "aud": ["us", "them"], "azp": "us" }), None),
            (json!({ "exp": NOW - 30 }), None),
            (json!({ "aud": ["us", "them"] }), Some(Invalid::Audience)),
            (json!({ "aud": ["us", "them"], "azp": "them" }), Some(Invalid::Audience)),
            (json!({ "aud": "us", "azp": "them" }), Some(Invalid::Audience)),
            (json!({ "aud": "them" }), Some(Invalid::Audience)),
            (json!({ "aud": 7 }), Some(Invalid::Audience)),
            (json!({ "iss": "https://idp.test/" }), Some(Invalid::Issuer)),
            (json!({ "exp": NOW - 61 }), Some(Invalid::Time)),
            (json!({ "iat": NOW + 3600 }), Some(Invalid::Time)),
            (json!({ "nbf": NOW + 3600 }), Some(Invalid::Time)),
            (json!({ "nonce": "n2" }), Some(Invalid::Nonce)),
            (json!({ "nonce": "" }), Some(Invalid::Nonce)),
            (json!({ "sub": "" }), Some(Invalid::Subject)),
            (json!({ "exp": "soon" }), Some(Invalid::Form)),
        ] {
            let token = provider.sign(&header, &with(&changes));
            let verified = verify(&token, &keys, &expected());
            assert_eq!(verified.as_ref().err(), outcome.as_ref(), "{changes}");
            if let Ok(identity) = verified {
                assert_eq!(identity.email.as_deref(), Some("ann@acme.test"));
                assert!(identity.email_verified);
            }
        }
    }

    #[test]
    fn a_signature_must_be_made_with_a_key_that_the_provider_publishes() {
        let (provider, eve) = (Provider::new(), Provider::new());
        let keys = provider.keys("k1");
        let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
        let none = {
            let token = provider.sign(&header("none", "k1"), &claims());
            token.rsplit_once('.').map(|(signed, _)| format!("{signed}.")).unwrap()
        };
        let crit = json!({ "alg": "ES256", "kid": "k1", "crit": ["b64"] });
        for (token, expected_error) in [
            (eve.sign(&header("ES256", "k1"), &claims()), Invalid::Signature),
            (eve.sign(&header("ES256", "k2"), &claims()), Invalid::UnknownKey),
            (provider.sign(&header("HS256", "k1"), &claims()), Invalid::Algorithm),
            (provider.sign(&header("RS256", "k1"), &claims()), Invalid::UnknownKey),
            (provider.sign(&crit, &claims()), Invalid::Algorithm),
            (none, Invalid::Algorithm),
            ("a.b".to_owned(), Invalid::Form),
            (String::new(), Invalid::Form),
        ] {
            assert_eq!(verify(&token, &keys, &expected()), Err(expected_error), "{token}");
        }
        let token = provider.sign(&json!({ "alg": "ES256" }), &claims());
        assert!(verify(&token, &keys, &expected()).is_ok(), "without a kid every key is tried");
        let (head, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let forged = with(&json!({ "sub": "eve" })).to_string();
        let forged = format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(forged));
        assert_eq!(verify(&forged, &keys, &expected()), Err(Invalid::Signature));
    }
}
