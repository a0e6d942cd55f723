//! Clients that prove themselves with a signed assertion instead of a secret (RFC 7523 §3). Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::vault::ApiClientKey;

/// What says that `client_assertion` is a JWT.
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// An assertion lives for a minute; clocks differ.
const LEEWAY: Duration = Duration::from_secs(60);
/// The longest life that is taken: so long it has to be remembered.
const LONGEST: Duration = Duration::from_secs(10 * 60);
const MAX_BYTES: usize = 8 * 1024;

/// One that was read, and not yet believed.
pub struct Assertion {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

/// What is remembered of one that was believed: it is taken once.
#[derive(Debug, PartialEq, Eq)]
pub struct Once {
    pub id: String,
    pub expires_at: SystemTime,
}

impl Assertion {
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            signed: signed.to_owned(),
            signature,
        })
    }

    /// Whose it says it is.
    pub fn client_id(&self) -> Option<&str> {
        let subject = self.claims["sub"].as_str()?;
        (self.claims["iss"] == self.claims["sub"]).then_some(subject)
    }

    /// `audience` is where this server is; a client may also name the token endpoint.
    pub fn verified(
        &self,
        keys: &[ApiClientKey],
        audience: &[String],
        now: SystemTime,
    ) -> Option<Once> {
        let kind = self.header["typ"].as_str().unwrap_or("JWT");
        let is_ours = ["client-authentication+jwt", "JWT"].contains(&kind);
        let algorithm: &'static dyn VerificationAlgorithm = match self.header["alg"].as_str()? {
            "ES256" => &ECDSA_P256_SHA256_FIXED,
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            _ => return None,
        };
        let named = self.header["kid"].as_str();
        let fits = |key: &&ApiClientKey| named.is_none_or(|named| key.kid == named);
        let signed = keys.iter().filter(fits).any(|key| self.is_signed_by(key, algorithm));
        if !is_ours || !signed || !self.is_for(audience) {
            return None;
        }
        self.in_time(now)
    }

    fn is_signed_by(
        &self,
        key: &ApiClientKey,
        algorithm: &'static dyn VerificationAlgorithm,
    ) -> bool {
        let Some(point) = public_key(&key.public_key) else { return false };
        let key = UnparsedPublicKey::new(algorithm, point);
        key.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    fn is_for(&self, audience: &[String]) -> bool {
        let ours = |named: &Value| {
            let named = named.as_str().unwrap_or_default().trim_end_matches('/');
            let named = named.strip_suffix("/v1/oauth/token").unwrap_or(named);
            audience.iter().any(|own| own.trim_end_matches('/').eq_ignore_ascii_case(named))
        };
        match &self.claims["aud"] {
            Value::Array(all) => all.iter().any(ours),
            one => ours(one),
        }
    }

    fn in_time(&self, now: SystemTime) -> Option<Once> {
        let at = |name: &str| {
            let seconds = self.claims[name].as_u64()?;
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        let expires_at = at("exp")?;
        let begun = |name| at(name).is_none_or(|at| at <= now + LEEWAY);
        let id = self.claims["jti"].as_str().filter(|id| !id.is_empty() && id.len() <= 200)?;
        let alive = expires_at > now && expires_at <= now + LONGEST;
        (alive && begun("iat") && begun("nbf")).then(|| Once { id: id.to_owned(), expires_at })
    }
}

/// The key in a PEM of a public key, as signatures are verified with it; `None` if it is none.
pub fn public_key(pem: &str) -> Option<Vec<u8>> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&der).ok()?;
    Some(info.subject_public_key.data.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use rcgen::PublicKeyData as _;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn signer() -> (EcdsaKeyPair, ApiClientKey) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der())
            .expect("the same key");
        let public = pem(&key.subject_public_key_info());
        (pair, ApiClientKey { kid: "k1".to_owned(), public_key: public })
    }

    fn pem(der: &[u8]) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    fn signed(pair: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn only_a_fresh_assertion_for_this_server_is_believed() {
        let (pair, key) = signer();
        let header = json!({ "alg": "ES256", "kid": "k1", "typ": "client-authentication+jwt" });
        let claims = json!({
            "iss": "cli_1", "sub": "cli_1", "aud": "https://cs.test", "iat": NOW, "exp": NOW + 60,
            "jti": "once",
        });
        let with = |base: &Value, name: &str, value: Value| {
            let mut changed = base.clone();
            changed[name] = value;
            changed
        };
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let audience = ["https://cs.test".to_owned()];
        for (header, claims, good) in [
            (header.clone(), claims.clone(), true),
            (
                header.clone(),
                with(&claims, "aud", json!(["x", "https://cs.test/v1/oauth/token"])),
                true,
            ),
            (header.clone(), with(&claims, "aud", json!("https://cs.test.evil.test")), false),
            (header.clone(), with(&claims, "exp", json!(NOW)), false),
            (header.clone(), with(&claims, "exp", json!(NOW + 86_400)), false),
            (header.clone(), with(&claims, "exp", json!(u64::MAX)), false),
            (header.clone(), with(&claims, "iat", json!(NOW + 600)), false),
            (header.clone(), with(&claims, "jti", Value::Null), false),
            (with(&header, "kid", json!("k2")), claims.clone(), false),
            (with(&header, "alg", json!("none")), claims.clone(), false),
            (with(&header, "alg", json!("HS256")), claims.clone(), false),
            (with(&header, "typ", json!("dpop+jwt")), claims.clone(), false),
        ] {
            let text = signed(&pair, &header, &claims);
            let read = Assertion::read(&text).expect("it can be read");
            let keys = std::slice::from_ref(&key);
            assert_eq!(read.verified(keys, &audience, now).is_some(), good, "{header} {claims}");
        }
        let (other, _) = signer();
        let forged = Assertion::read(&signed(&other, &header, &claims)).expect("it can be read");
        assert_eq!(forged.client_id(), Some("cli_1"));
        assert!(forged.verified(&[key], &audience, now).is_none());
    }

    #[test]
    fn what_is_no_jwt_is_not_read() {
        for text in ["", ".", "..", "a.b.c", "e30.e30", "e30.e30.é"] {
            assert!(Assertion::read(text).is_none(), "{text}");
        }
    }
}
