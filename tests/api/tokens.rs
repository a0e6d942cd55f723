//! Access tokens, connect tokens, scopes.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;

use crate::site::{Answer, Site};

async fn token(site: &Site, kind: &str, basic: Option<&str>, body: String) -> Answer {
    let mut request = Request::builder()
        .method("POST")
        .uri(site.url("/v1/oauth/token"))
        .header("content-type", kind);
    if let Some(pair) = basic {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(pair);
        request = request.header("authorization", format!("Basic {pair}"));
    }
    site.send(request.body(Full::from(Bytes::from(body))).unwrap()).await
}

const FORM: &str = "application/x-www-form-urlencoded;charset=UTF-8";

#[tokio::test]
async fn every_generation_of_sdks_gets_a_token() {
    let site = Site::start().await;
    let (id, secret) = site.client(&["*"], None).await;
    let json =
        json!({ "client_id": id, "client_secret": secret, "grant_type": "client_credentials" });
    let form = format!(
        "project_id=proj_test1&environment=development&grant_type=client_credentials&client_id={id}\
         &client_secret={secret}"
    );
    let basic = format!("{id}:{secret}");
    let grant = "grant_type=client_credentials".to_owned();
    for (kind, basic, body) in [
        ("application/json", None, json.to_string()),
        (FORM, None, form),
        (FORM, Some(&*basic), grant),
    ] {
        let answer = token(&site, kind, basic, body).await.expect(200);
        let said = answer.json();
        assert_eq!(said["token_type"], "Bearer");
        assert_eq!(said["expires_in"], 3600);
        assert!(said["created_at"].is_u64());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let token = said["access_token"].as_str().unwrap();
        site.ask_as(token, "GET", &site.path("users"), None).await.expect(200);
    }
    site.close().await;
}

#[tokio::test]
async fn a_wrong_secret_or_too_wide_a_scope_gets_none() {
    let site = Site::start().await;
    let (id, secret) = site.client(&["connect:accounts:read"], None).await;
    let ask = |secret: &str, grant: &str, scope: &str| {
        json!({ "client_id": id, "client_secret": secret, "grant_type": grant, "scope": scope })
            .to_string()
    };
    for (body, status, error) in [
        (ask("wrong", "client_credentials", ""), 401, "invalid_client"),
        (ask(&secret, "password", ""), 400, "unsupported_grant_type"),
        (ask(&secret, "client_credentials", "*"), 400, "invalid_scope"),
        (ask(&secret, "client_credentials", "connect:*"), 400, "invalid_scope"),
        (ask(&secret, "client_credentials", "made:up"), 400, "invalid_scope"),
        ("{".to_owned(), 400, "invalid_request"),
        ("{}".to_owned(), 400, "unsupported_grant_type"),
    ] {
        let answer = token(&site, "application/json", None, body).await.expect(status);
        assert_eq!(answer.json()["error"], error);
        assert_eq!(answer.header("www-authenticate"), None);
    }
    site.close().await;
}

#[tokio::test]
async fn removing_an_api_client_ends_its_tokens() {
    let site = Site::start().await;
    let (id, secret) = site.client(&["*"], None).await;
    let body =
        json!({ "client_id": id, "client_secret": secret, "grant_type": "client_credentials" });
    let answer = token(&site, "application/json", None, body.to_string()).await.expect(200);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    site.ask_as(&token, "GET", &site.path("users"), None).await.expect(200);
    assert!(site.vault.delete_api_client(&id).await.unwrap());
    site.ask_as(&token, "GET", &site.path("users"), None).await.expect(401);
    site.close().await;
}

#[tokio::test]
async fn each_scope_opens_its_own_door_only() {
    let site = Site::start().await;
    let account = site.acme("ann").await;
    let list = site.path("accounts");
    let one = site.path(&format!("accounts/{account}"));
    let secrets = format!("{one}?include_credentials=true");
    let users = site.path("users");
    let tokens = site.path("tokens");
    let info = site.path("projects/info");
    let doors: [(&str, &str, &str, u16); 8] = [
        ("connect:accounts:read", "GET", &list, 200),
        ("connect:accounts:read", "GET", &secrets, 403),
        ("connect:credentials:read", "GET", &secrets, 403),
        ("connect:accounts:read", "DELETE", &one, 403),
        ("connect:users:read", "GET", &users, 200),
        ("connect:users:read", "GET", &list, 403),
        ("connect:proxy", "POST", &tokens, 403),
        ("connect:projects:read", "GET", &info, 200),
    ];
    for (scope, method, path, status) in doors {
        let token = site.token_of(&[scope], None).await;
        let body = (method == "POST").then(|| json!({ "external_user_id": "x" }));
        let answer = site.ask_as(&token, method, path, body).await;
        assert_eq!(answer.status, status, "{scope}: {method} {path}: {:?}", answer.body);
    }
    let both = site.token_of(&["connect:accounts:read", "connect:credentials:read"], None).await;
    site.ask_as(&both, "GET", &secrets, None).await.expect(200);
    site.close().await;
}

#[tokio::test]
async fn a_connect_token_is_made_and_tried() {
    let site = Site::start().await;
    let body = json!({
        "external_user_id": "user-1",
        "external_id": "user-1",
        "expires_in": 3600,
        "allowed_origins": ["https://app.example.com"],
        "success_redirect_uri": "https://app.example.com/ok",
        "error_redirect_uri": "https://app.example.com/no",
        "webhook_uri": "https://app.example.com/hook",
        "app_id": "acme",
    });
    let answer = site.ask("POST", &site.path("tokens"), Some(body)).await.expect(200);
    let said = answer.json();
    let token = said["token"].as_str().unwrap();
    assert!(token.starts_with("ctok_") && token.len() == 37, "{token}");
    let expires_at = said["expires_at"].as_str().unwrap();
    assert!(expires_at.contains('T') && expires_at.ends_with('Z'), "{expires_at}");
    let link = said["connect_link_url"].as_str().unwrap();
    let expected =
        site.url(&format!("/_static/connect.html?token={token}&connectLink=true&app=acme"));
    assert_eq!(link, expected);

    let path = format!("/v1/connect/tokens/{token}/validate?app_id=acme");
    let said = site.ask_as("", "GET", &path, None).await.expect(200).json();
    assert_eq!(said["success"], true, "{said}");
    assert_eq!(said["app"]["name_slug"], "acme");
    assert_eq!(said["project_environment"], "development");
    assert_eq!(said["project_app_name"], "My product");
    assert_eq!(said["success_redirect_uri"], "https://app.example.com/ok");
    for (path, part) in [
        (format!("/v1/connect/tokens/{token}/validate?app_id=nothing"), "app id"),
        (format!("/v1/connect/tokens/{token}/validate?app_id=other"), "another app"),
        (format!("/v1/connect/tokens/{token}/validate?account_id=apn_x"), "account id"),
        ("/v1/connect/tokens/ctok_0/validate?app_id=acme".to_owned(), "token is invalid"),
    ] {
        let said = site.ask_as("", "GET", &path, None).await.expect(200).json();
        assert_eq!(said["success"], false);
        assert!(said["error"].as_str().unwrap().contains(part), "{path}: {said}");
    }
    site.close().await;
}

#[tokio::test]
async fn a_connect_token_is_not_made_of_nonsense() {
    let site = Site::start().await;
    let long = "x".repeat(251);
    for (name, value) in [
        ("external_user_id", json!("")),
        ("external_user_id", json!(long)),
        ("external_user_id", json!("a\nb")),
        ("external_user_id", json!(7)),
        ("external_id", json!("somebody else")),
        ("expires_in", json!(0)),
        ("expires_in", json!(14401)),
        ("expires_in", json!(-1)),
        ("scope", json!("*")),
        ("scope", json!("connect:everything")),
        ("success_redirect_uri", json!("javascript:alert(1)")),
        ("success_redirect_uri", json!("//evil.test")),
        ("error_redirect_uri", json!("/\\evil.test")),
        ("error_redirect_uri", json!("https://ok.test@evil.test")),
        ("webhook_uri", json!("ftp://x")),
        ("allowed_origins", json!(["*"])),
        ("allowed_origins", json!("https://app.example.com")),
        ("app_id", json!("nothing")),
        ("oauth_app_id", json!("oa_nothing")),
        ("role", json!("owner")),
        ("project_id", json!("proj_other")),
    ] {
        let mut body = json!({ "external_user_id": "user-1" });
        body[name] = value.clone();
        let answer = site.ask("POST", &site.path("tokens"), Some(body)).await;
        assert_eq!(answer.status, 400, "{name} = {value}: {:?}", answer.body);
    }
    assert_eq!(site.users().await, 0, "nobody was made of it");
    site.close().await;
}

#[tokio::test]
async fn a_client_may_limit_itself() {
    let site = Site::start().await;
    let body = json!({ "window_size_seconds": 3600, "requests_per_window": 2 });
    let made = site.ask("POST", "/v1/connect/rate_limits", Some(body)).await.expect(200).json();
    let limit = made["token"].as_str().unwrap();
    let ask = |token: String, limit: String| {
        let request = Request::builder()
            .uri(site.url(&site.path("users")))
            .header("authorization", format!("Bearer {token}"))
            .header("x-pd-rate-limit", limit);
        site.send(request.body(Full::default()).unwrap())
    };
    for status in [200, 200, 429] {
        let answer = ask(site.token.clone(), limit.to_owned()).await.expect(status);
        assert_eq!(answer.header("retry-after").is_some(), status == 429);
    }
    site.ask("GET", &site.path("users"), None).await.expect(200);
    ask(site.token.clone(), "rl_nothing".to_owned()).await.expect(400);
    for wrong in [json!({ "window_size_seconds": 0, "requests_per_window": 1 }), json!({})] {
        site.ask("POST", "/v1/connect/rate_limits", Some(wrong)).await.expect(400);
    }
    site.close().await;
}

#[tokio::test]
async fn a_clients_file_may_be_a_key_that_signs() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use base64::Engine as _;
    let site = Site::start().await;
    let (id, _) = site.client(&["*"], None).await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der());
    let pair = pair.unwrap();
    let public =
        countersign::vault::ApiClientKey { kid: "k1".to_owned(), public_key: key.public_key_pem() };
    site.vault.put_api_client_key(&id, &public).await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let assertion = |audience: &str, jti: &str| {
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let header = json!({ "alg": "ES256", "kid": "k1", "typ": "client-authentication+jwt" });
        let claims = json!({
            "iss": id, "sub": id, "aud": audience, "iat": now, "exp": now + 60, "jti": jti,
        });
        let text =
            format!("{}.{}", engine.encode(header.to_string()), engine.encode(claims.to_string()));
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = pair.sign(&random, text.as_bytes()).unwrap();
        json!({
            "grant_type": "client_credentials", "client_id": id,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": format!("{text}.{}", engine.encode(signature)),
        })
        .to_string()
    };
    let good = assertion(&site.url(""), "one");
    token(&site, "application/json", None, good.clone()).await.expect(200);
    token(&site, "application/json", None, good).await.expect(401);
    let elsewhere = assertion("https://evil.test", "two");
    token(&site, "application/json", None, elsewhere).await.expect(401);
    site.close().await;
}
