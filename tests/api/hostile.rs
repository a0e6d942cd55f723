//! What somebody tries who should get nothing.

use bytes::Bytes;
use countersign::vault::ProjectDetails;
use http::Request;
use http_body_util::Full;
use serde_json::json;

use crate::site::{KEY, Site};

#[tokio::test]
async fn another_projects_ids_are_as_unknown_as_any() {
    let site = Site::start().await;
    let account = site.acme("ann").await;
    let details = ProjectDetails {
        name: "rival".to_owned(),
        app_name: None,
        support_email: None,
        require_key_test: false,
    };
    let rival = site.vault.create_project(&details).await.unwrap();
    let spy = site.token_of(&["*"], Some(&rival)).await;
    let own = format!("/v1/connect/{}", rival.id);
    let one = format!("accounts/{account}");
    let call = format!("proxy/L3g?external_user_id=ann&account_id={account}");
    for path in [&one, &format!("{one}?include_credentials=true"), &call, "users/ann/accounts"] {
        // In its own project, and in the one that it has no business with.
        site.ask_as(&spy, "GET", &format!("{own}/{path}"), None).await.expect(404);
        site.ask_as(&spy, "GET", &site.path(path), None).await.expect(404);
    }
    for path in [&*one, "users/ann", "apps/acme/accounts"] {
        site.ask_as(&spy, "DELETE", &site.path(path), None).await.expect(404);
    }
    site.ask_as(&spy, "DELETE", &format!("{own}/apps/acme/accounts"), None).await.expect(204);
    site.ask_as(&spy, "DELETE", &format!("{own}/users/ann"), None).await.expect(404);
    let body = json!({ "external_user_id": "ann" });
    site.ask_as(&spy, "POST", &site.path("tokens"), Some(body)).await.expect(404);
    // A connect token of one project makes no account by way of another.
    let body = json!({
        "app_slug": "acme",
        "cfmap_json": json!({ "api_key": "x" }).to_string(),
        "connect_token": site.connect_token("ann").await,
    });
    site.ask_as(&spy, "POST", &format!("{own}/accounts"), Some(body)).await.expect(401);
    // The project is implied by who asks.
    let list = site.ask_as(&spy, "GET", "/v1/connect/accounts", None).await.expect(200).json();
    assert_eq!(list["data"], json!([]));
    site.ask("GET", "/v1/connect/accounts", None).await.expect(400);
    site.ask("GET", &site.path(&one), None).await.expect(200);
    assert!(site.origin.seen().is_empty());
    site.close().await;
}

#[tokio::test]
async fn the_other_environment_is_another_world() {
    let site = Site::start().await;
    let account = site.acme("ann").await;
    let ask = |environment: &'static str, path: String| {
        let request = Request::builder()
            .uri(site.url(&site.path(&path)))
            .header("authorization", format!("Bearer {}", site.token));
        let request = match environment {
            "" => request,
            environment => request.header("x-pd-environment", environment),
        };
        site.send(request.body(Full::default()).unwrap())
    };
    for environment in ["production", ""] {
        ask(environment, format!("accounts/{account}")).await.expect(404);
        let list = ask(environment, "accounts".to_owned()).await.expect(200).json();
        assert_eq!(list["data"], json!([]));
    }
    ask("development", format!("accounts/{account}")).await.expect(200);
    ask("staging", "accounts".to_owned()).await.expect(400);
    site.close().await;
}

#[tokio::test]
async fn a_connect_token_sees_its_own_user_and_never_a_credential() {
    let site = Site::start().await;
    let ann = site.acme("ann").await;
    let bob = site.acme("bob").await;
    let token = site.connect_token("ann").await;
    let list = site.ask_as(&token, "GET", "/v1/connect//accounts", None).await.expect(200).json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(list["data"][0]["id"], json!(ann));
    for (method, path, status) in [
        ("GET", format!("accounts/{ann}"), 200),
        ("GET", format!("accounts/{bob}"), 404),
        ("GET", format!("accounts/{ann}?include_credentials=true"), 403),
        ("GET", "accounts?include_credentials=1".to_owned(), 403),
        ("GET", "users/ann/accounts?include_credentials=true".to_owned(), 403),
        ("GET", "accounts?external_user_id=bob".to_owned(), 404),
        ("GET", "users/bob/accounts".to_owned(), 404),
        ("GET", "users".to_owned(), 403),
        ("GET", "projects/info".to_owned(), 403),
        ("GET", "oauth_apps".to_owned(), 403),
        ("DELETE", format!("accounts/{ann}"), 403),
        ("DELETE", "users/ann".to_owned(), 403),
        ("DELETE", "apps/acme/accounts".to_owned(), 403),
        ("POST", "tokens".to_owned(), 403),
        ("POST", "accounts".to_owned(), 403),
        ("GET", format!("proxy/L3g?external_user_id=bob&account_id={bob}"), 404),
        ("GET", format!("proxy/L3g?external_user_id=ann&account_id={bob}"), 404),
    ] {
        let body = (method == "POST").then(|| json!({}));
        for path in [site.path(&path), format!("/v1/connect/{path}")] {
            let answer = site.ask_as(&token, method, &path, body.clone()).await;
            assert_eq!(answer.status, status, "{method} {path}: {:?}", answer.body);
            assert!(!String::from_utf8_lossy(&answer.body).contains(KEY));
        }
    }
    let other = "/v1/connect/proj_other/accounts";
    site.ask_as(&token, "GET", other, None).await.expect(404);
    assert!(site.origin.seen().is_empty());
    site.call(&token, "GET", "/x", "ann", &ann).await.expect(200);
    site.ask_as("ctok_00000000000000000000000000000000", "GET", "/v1/connect/accounts", None)
        .await
        .expect(401);
    site.close().await;
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing() {
    let site = Site::start().await;
    let token = site
        .connect_token_with(json!({
            "external_user_id": "ann",
            "allowed_origins": ["https://app.example.com"],
        }))
        .await;
    let ask = |method: &'static str, token: &str, origin: &'static str| {
        let request = Request::builder()
            .method(method)
            .uri(site.url("/v1/connect/accounts"))
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization,x-pd-environment");
        let request = match token {
            "" => request,
            token => request.header("authorization", format!("Bearer {token}")),
        };
        site.send(request.body(Full::<Bytes>::default()).unwrap())
    };
    let preflight = ask("OPTIONS", "", "https://app.example.com").await.expect(204);
    let allowed = preflight.header("access-control-allow-headers");
    assert_eq!(allowed, Some("authorization,x-pd-environment"));
    assert_eq!(preflight.header("access-control-allow-credentials"), None);

    let good = ask("GET", &token, "https://app.example.com").await.expect(200);
    assert_eq!(good.header("access-control-allow-origin"), Some("https://app.example.com"));
    for origin in
        ["https://evil.test", "null", "https://app.example.com.evil.test", "http://app.example.com"]
    {
        let answer = ask("GET", &token, origin).await.expect(403);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
    }
    let validate = |origin: &'static str| {
        let path = format!("/v1/connect/tokens/{token}/validate?app_id=acme");
        let request = Request::builder().uri(site.url(&path)).header("origin", origin);
        site.send(request.body(Full::<Bytes>::default()).unwrap())
    };
    validate("https://app.example.com").await.expect(200);
    validate("https://evil.test").await.expect(403);
    // An access token belongs on a server; no page is shown what it gets.
    let project = Some(&site.project);
    let access = site.token_of(&["*"], project).await;
    let answer = ask("GET", &access, "https://app.example.com").await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    site.close().await;
}

#[tokio::test]
async fn credentials_stay_where_the_operator_said_so() {
    let site = Site::start_with("[vault]\nexport = false").await;
    let account = site.acme("ann").await;
    let path = site.path(&format!("accounts/{account}?include_credentials=true"));
    let answer = site.ask("GET", &path, None).await.expect(403);
    assert!(answer.error().contains("vault.export"), "{}", answer.error());
    site.close().await;
}

#[tokio::test]
async fn nonsense_is_refused_and_never_an_error_of_ours() {
    let site = Site::start().await;
    let deep = "[".repeat(100_000);
    let large = format!("{{\"external_user_id\":\"{}\"}}", "x".repeat(300 * 1024));
    let tokens = site.path("tokens");
    for (body, status) in [
        (Bytes::from(deep), 400),
        (Bytes::from(large), 413),
        (Bytes::from_static(b"\xff\xfe"), 400),
        (Bytes::from_static(b"{\"external_user_id\":\"\xff\"}"), 400),
        (Bytes::from_static(b""), 400),
        (Bytes::from_static(b"null"), 400),
    ] {
        let request = Request::builder()
            .method("POST")
            .uri(site.url(&tokens))
            .header("authorization", format!("Bearer {}", site.token))
            .header("content-type", "application/json");
        site.send(request.body(Full::from(body)).unwrap()).await.expect(status);
    }
    for (method, path, status) in [
        ("GET", "accounts?limit=99999999999999999999", 400),
        ("GET", "accounts?limit=1000000", 400),
        ("GET", "accounts?limit=-1", 400),
        ("GET", "accounts?after=%00", 400),
        ("GET", "accounts?after=YXBuXzE&before=YXBuXzE", 400),
        ("GET", "accounts?external_user_id=%ff", 400),
        ("GET", "accounts?external_user_id=a&external_user_id=b", 400),
        ("GET", "accounts?include_credentials=yes", 400),
        ("GET", "accounts/%ff", 400),
        ("GET", "accounts/..%2f..", 404),
        ("GET", "accounts/apn_'%20OR%201=1", 404),
        ("GET", "users?q=%25%25", 200),
        ("GET", "proxy/!!?external_user_id=a&account_id=apn_x", 404),
        ("PUT", "accounts", 405),
        ("POST", "actions/run", 404),
        ("GET", "deployed-triggers", 404),
        ("GET", "nothing", 404),
    ] {
        let answer = site.ask(method, &site.path(path), None).await;
        assert_eq!(answer.status, status, "{method} {path}: {:?}", answer.body);
    }
    for path in ["/v1/apps?after=Zm9v", "/v1/apps?sort_key=secret", "/v1/apps?sort_direction=up"] {
        site.ask("GET", path, None).await.expect(400);
    }
    site.close().await;
}

#[tokio::test]
async fn whoever_guesses_tokens_is_slowed_down() {
    let site = Site::start().await;
    let mut last = 0;
    for guess in 0..40 {
        let token = format!("csat_{guess:048}");
        last = site.ask_as(&token, "GET", &site.path("accounts"), None).await.status;
    }
    assert_eq!(last, 429);
    // Somebody with the right one is not held up by it.
    site.ask("GET", &site.path("accounts"), None).await.expect(200);
    site.close().await;
}

#[tokio::test]
async fn another_name_for_this_address_is_refused() {
    let site = Site::start_with("public_url = \"https://connect.example.com\"").await;
    for (host, status) in [("evil.test", 421), ("connect.example.com", 200)] {
        let request = Request::builder()
            .uri(site.url(&site.path("accounts")))
            .header("host", host)
            .header("authorization", format!("Bearer {}", site.token));
        site.send(request.body(Full::default()).unwrap()).await.expect(status);
    }
    let body = json!({ "external_user_id": "ann" });
    let said = site.ask("POST", &site.path("tokens"), Some(body)).await.expect(200).json();
    let link = said["connect_link_url"].as_str().unwrap();
    assert!(link.starts_with("https://connect.example.com/_static/connect.html?token="), "{link}");
    site.close().await;
}

#[tokio::test]
async fn projects_are_administered_by_those_who_may() {
    let site = Site::start().await;
    let projects = "/v1/connect/projects";
    let body = json!({ "name": "second", "support_email": "help@example.com" });
    let made = site.ask("POST", projects, Some(body.clone())).await.expect(200).json();
    assert_eq!(made["connect_require_key_auth_test"], false);
    let again = site.ask("POST", projects, Some(body)).await.expect(400);
    assert!(again.error().contains("exists"), "{}", again.error());
    let one = format!("{projects}/{}", made["id"].as_str().unwrap());
    let change = json!({ "app_name": "Second", "connect_require_key_auth_test": true });
    let changed = site.ask("PATCH", &one, Some(change)).await.expect(200).json();
    assert_eq!((&changed["name"], &changed["app_name"]), (&json!("second"), &json!("Second")));
    assert_eq!(changed["support_email"], "help@example.com");

    let only = site.token_of(&["*"], Some(&site.project)).await;
    for (method, path, status) in
        [("GET", &*one, 404), ("PATCH", &one, 404), ("DELETE", &one, 404), ("POST", projects, 403)]
    {
        let body = ["PATCH", "POST"].contains(&method).then(|| json!({ "name": "mine" }));
        site.ask_as(&only, method, path, body).await.expect(status);
    }
    let list = site.ask_as(&only, "GET", projects, None).await.expect(200).json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let reader = site.token_of(&["connect:projects:read"], None).await;
    site.ask_as(&reader, "DELETE", &one, None).await.expect(403);
    for bad in [
        json!({}),
        json!({ "name": "" }),
        json!({ "name": "x", "id": "proj_x" }),
        json!({ "name": "a\nb" }),
    ] {
        site.ask("POST", projects, Some(bad)).await.expect(400);
    }
    site.ask("DELETE", &one, None).await.expect(204);
    site.acme("ann").await;
    let own = format!("{projects}/{}", site.project.id);
    site.ask("DELETE", &own, None).await.expect(400);
    site.close().await;
}
