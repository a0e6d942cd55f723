//! Signed tokens (RFC 7515, RFC 7519): assertions for a token endpoint, and access tokens that
//! countersign makes itself. Pure but for the randomness of some signatures.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::Terms;
use super::expression;
use super::values::Values;
use crate::catalog::{ClientAssertion, JWT_ALGORITHMS, Jwt};
use crate::clock::unix_ms;
use crate::random;
use crate::secret::Secret;

/// RFC 7523 §2.2.
pub(super) const CLIENT_ASSERTION_TYPE: &str =
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// `iat` lies so far back: servers whose clock is behind refuse a token of the future. `exp` counts
/// from `iat`, because servers limit the distance of the two.
const BACKDATED: Duration = Duration::from_secs(60);

/// Why nothing was signed. Never repeats anything of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the signature algorithm \"{name}\" is not one of {}", JWT_ALGORITHMS.join(", "))]
    Algorithm { name: String },
    #[error("the key is not a PEM private key; it begins with -----BEGIN PRIVATE KEY-----")]
    NotPem,
    #[error("the key is encrypted; store it without a passphrase (openssl pkey -in key.pem)")]
    Encrypted,
    #[error("the key does not fit the algorithm {0}")]
    Unfit(String),
    #[error("the key does not match {0}")]
    Pattern(String),
    #[error("signing failed")]
    Signing,
    #[error(transparent)]
    Expression(#[from] expression::Error),
}

enum Algorithm {
    Rsa(&'static dyn RsaEncoding),
    Ecdsa(&'static EcdsaSigningAlgorithm),
    Hmac(hmac::Algorithm),
}

fn algorithm(name: &str) -> Result<Algorithm, Error> {
    Ok(match name {
        "RS256" => Algorithm::Rsa(&signature::RSA_PKCS1_SHA256),
        "RS384" => Algorithm::Rsa(&signature::RSA_PKCS1_SHA384),
        "RS512" => Algorithm::Rsa(&signature::RSA_PKCS1_SHA512),
        "PS256" => Algorithm::Rsa(&signature::RSA_PSS_SHA256),
        "PS384" => Algorithm::Rsa(&signature::RSA_PSS_SHA384),
        "PS512" => Algorithm::Rsa(&signature::RSA_PSS_SHA512),
        "ES256" => Algorithm::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
        "ES384" => Algorithm::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
        "HS256" => Algorithm::Hmac(hmac::HMAC_SHA256),
        "HS384" => Algorithm::Hmac(hmac::HMAC_SHA384),
        "HS512" => Algorithm::Hmac(hmac::HMAC_SHA512),
        other => return Err(Error::Algorithm { name: other.to_owned() }),
    })
}

/// Signs the app's own JWT, if it has one, and offers it as `{jwt}`.
pub(super) fn add_to(values: &mut Values, terms: &Terms<'_>, now: SystemTime) -> Result<(), Error> {
    if let Some(rules) = &terms.auth.jwt {
        let jwt = own(rules, values, now)?;
        values.put_secret("jwt", &jwt);
    }
    Ok(())
}

/// `[auth.<id>.jwt]`.
pub(super) fn own(rules: &Jwt, values: &Values, now: SystemTime) -> Result<Secret, Error> {
    let key = expression::bytes(&rules.key, values)?;
    if let Some(pattern) = &rules.key_pattern
        && !std::str::from_utf8(&key).is_ok_and(|key| pattern.found_in(key))
    {
        return Err(Error::Pattern(pattern.as_str().to_owned()));
    }
    let mut claims = times(now, rules.ttl);
    for (name, value) in &rules.claims {
        match value {
            Value::Bool(false) => drop(claims.remove(name)),
            Value::Bool(true) if name == "jti" => {
                drop(claims.insert(name.clone(), fresh_id()?.into()));
            }
            value => drop(claims.insert(name.clone(), filled(value, values)?)),
        }
    }
    let mut header = Map::new();
    for (name, value) in &rules.header {
        header.insert(name.clone(), filled(value, values)?);
    }
    sign(&rules.alg, &key, header, &claims)
}

/// When a token that is made at `now` ends.
pub(super) fn expiry(rules: &Jwt, now: SystemTime) -> SystemTime {
    now + rules.ttl.saturating_sub(BACKDATED)
}

/// Said only once.
fn fresh_id() -> Result<String, Error> {
    let id = random::token("", 16).map_err(|_| Error::Signing)?;
    Ok(id.expose().to_owned())
}

pub(super) fn client_assertion(
    rules: &ClientAssertion,
    key: &Secret,
    key_id: Option<&str>,
    client_id: &str,
    audience: &str,
    now: SystemTime,
) -> Result<Secret, Error> {
    let mut claims = times(now, rules.ttl);
    claims.insert("iss".to_owned(), client_id.into());
    claims.insert("sub".to_owned(), client_id.into());
    claims.insert("aud".to_owned(), audience.into());
    // One use each: a server that keeps them refuses the second.
    claims.insert("jti".to_owned(), fresh_id()?.into());
    let kid = key_id.map(|kid| ("kid".to_owned(), kid.into()));
    sign(&rules.alg, key.expose().as_bytes(), kid.into_iter().collect(), &claims)
}

fn times(now: SystemTime, ttl: Duration) -> Map<String, Value> {
    let issued = unix_ms(now - BACKDATED) / 1000;
    Map::from_iter([
        ("iat".to_owned(), issued.into()),
        ("exp".to_owned(), (issued + ttl.as_secs()).into()),
    ])
}

fn filled(value: &Value, values: &Values) -> Result<Value, Error> {
    Ok(match value {
        Value::String(text) => expression::text(text, values)?.expose().into(),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| filled(item, values)).collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}

/// RFC 7515 §5.1.
fn sign(
    alg: &str,
    key: &[u8],
    mut header: Map<String, Value>,
    claims: &Map<String, Value>,
) -> Result<Secret, Error> {
    let algorithm = algorithm(alg)?;
    header.insert("alg".to_owned(), alg.into());
    header.entry("typ").or_insert_with(|| "JWT".into());
    let part =
        |map: &Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::from(map.clone()).to_string());
    let signed = format!("{}.{}", part(&header), part(claims));
    let signature = match algorithm {
        Algorithm::Hmac(algorithm) => {
            hmac::sign(&hmac::Key::new(algorithm, key), signed.as_bytes()).as_ref().to_vec()
        }
        Algorithm::Rsa(encoding) => rsa(key, encoding, signed.as_bytes(), alg)?,
        Algorithm::Ecdsa(algorithm) => ecdsa(key, algorithm, signed.as_bytes(), alg)?,
    };
    Ok(Secret::from(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

fn rsa(
    key: &[u8],
    encoding: &'static dyn RsaEncoding,
    text: &[u8],
    alg: &str,
) -> Result<Vec<u8>, Error> {
    let pair = rsa_pair(key).map_err(|error| error.or_unfit(alg))?;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), text, &mut signature).map_err(|_| Error::Signing)?;
    Ok(signature)
}

fn rsa_pair(key: &[u8]) -> Result<RsaKeyPair, Error> {
    let unfit = |_| Error::Unfit(String::new());
    match private_key(key)? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(unfit),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(unfit),
        _ => Err(Error::Unfit(String::new())),
    }
}

fn ecdsa(
    key: &[u8],
    algorithm: &'static EcdsaSigningAlgorithm,
    text: &[u8],
    alg: &str,
) -> Result<Vec<u8>, Error> {
    let unfit = |_| Error::Unfit(alg.to_owned());
    let pair = match private_key(key)? {
        PrivateKeyDer::Pkcs8(der) => {
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der()).map_err(unfit)?
        }
        PrivateKeyDer::Sec1(der) => {
            EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der()).map_err(unfit)?
        }
        _ => return Err(Error::Unfit(alg.to_owned())),
    };
    let signature = pair.sign(&SystemRandom::new(), text).map_err(|_| Error::Signing)?;
    Ok(signature.as_ref().to_vec())
}

/// Reads PEM, also when its line ends were pasted as `\n` out of a JSON file.
fn private_key(key: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    let text = Zeroizing::new(String::from_utf8_lossy(key).replace("\\n", "\n"));
    if text.contains("ENCRYPTED") {
        return Err(Error::Encrypted);
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| Error::NotPem)
}

/// SHA-256 of the public key (SubjectPublicKeyInfo) of an RSA private key, in base64: how a key
/// pair is named at some servers.
pub(super) fn fingerprint(key: &str) -> Result<String, Error> {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::signature::KeyPair as _;
    let pair = rsa_pair(key.as_bytes()).map_err(|error| error.or_unfit("RS256"))?;
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| Error::Signing)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der.as_ref());
    Ok(base64::engine::general_purpose::STANDARD.encode(digest))
}

impl Error {
    fn or_unfit(self, alg: &str) -> Self {
        match self {
            Self::Unfit(_) => Self::Unfit(alg.to_owned()),
            other => other,
        }
    }
}

/// The claims of a token that came straight from the token endpoint over TLS, which is proof enough
/// of who made it (OpenID Connect Core §3.1.3.7, item 6). The signature is not looked at.
pub(super) fn claims(token: &str) -> Option<BTreeMap<String, Value>> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}
