//! Signed tokens: that a server can verify them, and what they say.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::trial::{Act, Definition, app, now, properties, seen, terms};
use super::values::Values;
use super::{OAuthClient, Terms, jwt};
use crate::secret::Secret;

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

fn rsa() -> (String, Vec<u8>) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = pair.as_der().unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref().to_vec();
    (pem(der.as_ref()), public)
}

fn ec() -> (String, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = pair.to_pkcs8v1().unwrap();
    (pem(der.as_ref()), pair.public_key().as_ref().to_vec())
}

/// Header and claims of a token whose signature is right.
fn verified(token: &str, public: &[u8], by: &'static dyn VerificationAlgorithm) -> (Value, Value) {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(by, public).verify(signed.as_bytes(), &signature).unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let read = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (read(header), read(claims))
}

const GOOGLE: Definition = Definition {
    kind: "token_exchange",
    auth: r#"fields = [{ name = "account", label = "Service account key" }, { name = "subject", label = "Person", secret = false, optional = true, default = "ann@acme.example" }]
jwt = { alg = "RS256", key = '{account|json "/private_key"}', ttl = 3600, claims = { iss = '{account|json "/client_email"}', sub = "{subject}", aud = "{token_url}", scope = "a b" }, header = { kid = '{account|json "/private_key_id"}' } }"#,
    oauth2: "assertion = \"jwt\"\nclient_auth = \"custom\"",
    properties: &[],
};

fn of<'a>(lines: &'a [String], name: &str) -> &'a str {
    lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).expect(name)
}

#[test]
fn a_google_service_account_signs_its_own_assertion() {
    let (key, public) = rsa();
    let account =
        json!({ "client_email": "svc@p.example", "private_key_id": "k1", "private_key": key });
    let leaked: &'static [(&str, &str)] =
        Box::leak(Box::new([("account", &*Box::leak(account.to_string().into_boxed_str()))]));
    let definition = Definition { properties: leaked, ..GOOGLE };
    let lines = seen(&definition, Act::Obtain).unwrap();
    assert_eq!(of(&lines, "grant_type"), "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (header, claims) = verified(of(&lines, "assertion"), &public, &RSA_PKCS1_2048_8192_SHA256);
    assert_eq!(header, json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
    assert_eq!(
        claims,
        json!({
            "iss": "svc@p.example", "sub": "ann@acme.example", "aud": "https://acme.example/token",
            "scope": "a b", "iat": 1_799_999_940, "exp": 1_800_003_540,
        })
    );
}

#[test]
fn a_github_app_mints_an_installation_token_with_its_jwt() {
    let (key, public) = rsa();
    let leaked: &'static [(&str, &str)] = Box::leak(Box::new([
        ("app_id", "7"),
        ("installation", "99"),
        ("key", &*Box::leak(key.replace('\n', "\\n").into_boxed_str())),
    ]));
    let definition = Definition {
        kind: "token_exchange",
        auth: r#"fields = [{ name = "app_id", label = "App", secret = false }, { name = "installation", label = "Installation", secret = false }, { name = "key", label = "Key" }]
jwt = { alg = "RS256", key = "{key}", ttl = 540, claims = { iss = "{app_id}" } }"#,
        oauth2: r#"token_url = "https://acme.example/app/installations/{installation}/access_tokens"
client_auth = "custom"
token_content_type = "json"
token_headers = { Authorization = "Bearer {jwt}" }
token_fields = { access_token = "/token" }
expires_at_field = "/expires_at""#,
        properties: leaked,
    };
    let lines = seen(&definition, Act::Refresh).unwrap();
    assert_eq!(lines[0], "POST https://acme.example/app/installations/99/access_tokens");
    let bearer = lines.iter().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap();
    let (_, claims) = verified(bearer, &public, &RSA_PKCS1_2048_8192_SHA256);
    assert_eq!(claims, json!({ "iss": "7", "iat": 1_799_999_940, "exp": 1_800_000_480 }));
    let answer = r#"{"token":"at","expires_at":"2027-01-15T09:00:00Z"}"#;
    let found = super::trial::answered(&definition, 201, answer);
    assert_eq!(found, ["access=at", "expires in 3600"]);
}

#[test]
fn a_client_proves_itself_with_a_key() {
    for (alg, by) in [
        ("RS256", &RSA_PKCS1_2048_8192_SHA256 as &'static dyn VerificationAlgorithm),
        ("PS256", &RSA_PSS_2048_8192_SHA256),
        ("ES256", &ECDSA_P256_SHA256_FIXED),
    ] {
        let (key, public) = if alg == "ES256" { ec() } else { rsa() };
        let rules = crate::catalog::ClientAssertion { alg: alg.to_owned(), ..Default::default() };
        let key = Secret::from(key);
        let sign = || jwt::client_assertion(&rules, &key, Some("k1"), "cid", "https://as", now());
        let (header, claims) = verified(sign().unwrap().expose(), &public, by);
        assert_eq!((&header["alg"], &header["kid"]), (&json!(alg), &json!("k1")));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("cid"), &json!("cid")));
        assert_eq!(claims["aud"], "https://as");
        let (_, again) = verified(sign().unwrap().expose(), &public, by);
        assert_ne!(claims["jti"], again["jti"], "each is good once");
    }
}

#[test]
fn a_private_key_jwt_replaces_the_secret() {
    let (key, _) = ec();
    let definition = Definition {
        kind: "oauth2_client_credentials",
        auth: "",
        oauth2: "client_auth = \"private_key_jwt\"\nclient_assertion = { alg = \"ES256\" }",
        properties: &[],
    };
    let (app, none) = (app(&definition), properties(&[]));
    let with = |private_key: Option<&str>| OAuthClient {
        client_id: "cid".to_owned(),
        secret: None,
        private_key: private_key.map(|key| Secret::from(key.to_owned())),
        key_id: None,
    };
    let client = with(Some(&key));
    let terms: Terms<'_> = terms(&app, &client, &none);
    let oauth2 = terms.auth.oauth2.as_ref().unwrap();
    let call = super::grant::without_person(&terms, oauth2, now()).unwrap();
    let body = String::from_utf8(call.body.to_vec()).unwrap();
    assert!(body.contains("client_assertion=ey") && !body.contains("client_secret"), "{body}");

    let without = with(None);
    let terms = Terms { client: Some(&without), ..terms };
    let error = super::grant::without_person(&terms, oauth2, now()).err().unwrap().to_string();
    assert!(error.contains("no private key"), "{error}");
    let wrong = with(Some("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let terms = Terms { client: Some(&wrong), ..terms };
    let error = super::grant::without_person(&terms, oauth2, now()).err().unwrap().to_string();
    assert!(error.contains("passphrase"), "{error}");
}

#[test]
fn one_value_may_hide_two() {
    let definition = Definition {
        kind: "jwt",
        auth: r#"fields = [{ name = "key", label = "Key" }]
jwt = { alg = "HS256", key = 'hex({key|after ":"})', header = { kid = '{key|before ":"}' }, claims = { aud = "/admin/", iat = false, jti = true }, ttl = 300 }"#,
        oauth2: "",
        properties: &[],
    };
    let app = app(&definition);
    let client = super::trial::client();
    let sign = |key: &str| {
        let values = properties(&[("key", key)]);
        let terms = terms(&app, &client, &values);
        jwt::own(terms.auth.jwt.as_ref().unwrap(), &Values::of(&terms, now()), now())
    };
    let token = sign("id1:00ff").unwrap();
    let (signed, signature) = token.expose().rsplit_once('.').unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[0, 255]);
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
    let claims = jwt::claims(token.expose()).unwrap();
    assert!(
        claims.contains_key("jti") && claims.contains_key("exp") && !claims.contains_key("iat")
    );
    for bad in ["no colon", "id:xyz", "id:"] {
        let error = sign(bad).err().unwrap_or_else(|| panic!("{bad}")).to_string();
        assert!(!error.contains(bad), "{error}");
    }
}
