//! The API proxy call.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use crate::site::{KEY, Site};

#[tokio::test]
async fn five_methods_go_out_with_the_credential_and_come_back() {
    let site = Site::start().await;
    let account = site.acme("ann").await;
    let port = site.origin.address.port();
    let target = format!("http://api.acme.test:{port}/echo/a%20b?page=1&tag=x");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let body = if method == "GET" { "" } else { "{\"text\":\"hello, wörld\"}" };
        let request = site
            .call_request(&site.token, method, &target, "ann", &account)
            .header("content-type", "application/json")
            .header("x-pd-proxy-x-idempotency-key", "k-1")
            .header("x-fern-language", "JavaScript");
        let answer = site.send(request.body(Full::from(body)).unwrap()).await.expect(200);
        assert_eq!(answer.header("x-countersign-source"), Some("upstream"));
        let told = answer.json();
        assert_eq!(told["method"], method);
        assert_eq!(told["path"], "/echo/a%20b?page=1&tag=x");
        assert_eq!(told["body"], body);
        let headers = &told["headers"];
        assert_eq!(headers["x-idempotency-key"], "k-1");
        assert_eq!(headers["content-type"], "application/json");
        for ours in ["x-fern-language", "x-pd-environment", "x-pd-proxy-x-idempotency-key", "via"] {
            assert_eq!(headers.get(ours), None, "{ours}");
        }
    }
    site.close().await;
}

#[tokio::test]
async fn a_path_is_below_the_accounts_own_host() {
    let site = Site::start().await;
    let acme = site.acme("ann").await;
    for (relative, path) in [("/echo/rel?x=1", "/v1/echo/rel?x=1"), ("/v1/echo", "/v1/echo")] {
        let answer = site.call(&site.token, "GET", relative, "ann", &acme).await.expect(200);
        assert_eq!(answer.json()["path"], path);
    }
    let fields = json!({ "subdomain": "one", "api_key": KEY });
    let desk = site.account("ann", "desk", fields).await;
    let answer = site.call(&site.token, "GET", "/tickets", "ann", &desk).await.expect(200);
    let told = answer.json();
    assert_eq!((&told["host"], &told["path"]), (&json!("one.desk.test"), &json!("/api/tickets")));

    // Another customer's host of the same app is no business of this account.
    let port = site.origin.address.port();
    for host in ["two.desk.test", "api.acme.test", "evil.test", "127.0.0.1"] {
        let target = format!("http://{host}:{port}/x");
        let answer = site.call(&site.token, "GET", &target, "ann", &desk).await.expect(400);
        let said = format!("Domain {host} is not allowed");
        assert!(answer.error().contains(&said), "{}", answer.error());
    }
    assert!(site.origin.seen().iter().all(|seen| !seen.contains(" /x")), "nothing went out");
    site.close().await;
}

#[tokio::test]
async fn a_host_that_only_the_account_knows_is_its_own() {
    let site = Site::start().await;
    let fields = json!({ "host": "forge.acme.test", "api_key": KEY });
    let forge = site.account("ann", "forge", fields).await;
    let answer = site.call(&site.token, "GET", "/projects", "ann", &forge).await.expect(200);
    assert_eq!(answer.json()["host"], "forge.acme.test");
    let port = site.origin.address.port();
    for host in ["evil.test", "x.forge.acme.test", "api.acme.test"] {
        let target = format!("http://{host}:{port}/projects");
        site.call(&site.token, "GET", &target, "ann", &forge).await.expect(400);
    }
    let other = format!("http://forge.acme.test:{}/projects", port ^ 1);
    site.call(&site.token, "GET", &other, "ann", &forge).await.expect(400);
    site.close().await;
}

#[tokio::test]
async fn redirects_are_followed_where_the_account_may_go() {
    let site = Site::start().await;
    let account = site.acme("ann").await;
    let port = site.origin.address.port();
    let base = format!("http://api.acme.test:{port}");
    let call = |method: &'static str, path: String| {
        let (site, account) = (&site, &account);
        async move {
            let target = format!("http://api.acme.test:{port}{path}");
            let request = site.call_request(&site.token, method, &target, "ann", account);
            let body = if method == "GET" { "" } else { "{}" };
            let request = request.header("content-type", "application/json");
            site.send(request.body(Full::from(body)).unwrap()).await
        }
    };
    let answer = call("GET", "/redirect?/there".to_owned()).await.expect(200);
    assert_eq!(answer.json()["path"], "/there");
    let answer = call("GET", format!("/redirect?{base}/there")).await.expect(200);
    assert_eq!(answer.json()["path"], "/there");
    let answer = call("POST", "/redirect303?/there".to_owned()).await.expect(200);
    let told = answer.json();
    assert_eq!((&told["method"], &told["body"]), (&json!("GET"), &json!("")));
    assert_eq!(told["headers"].get("content-type"), None);

    // Where the credential may not go, nothing goes; nor would the SDK's client by itself.
    for place in [format!("http://evil.test:{port}/x"), "http://127.0.0.1/x".to_owned()] {
        let answer = call("GET", format!("/redirect?{place}")).await.expect(400);
        assert_eq!(answer.header("location"), None);
        assert_eq!(answer.json()["code"], "redirect_not_followed");
        assert_eq!(answer.json()["details"], json!({ "status": 302, "location": place }));
    }
    let answer = call("POST", "/redirect307?/there".to_owned()).await.expect(400);
    assert_eq!(answer.json()["details"]["location"], "/there");
    let before = site.origin.seen().len();
    call("GET", "/circle".to_owned()).await.expect(400);
    assert_eq!(site.origin.seen().len() - before, 6, "a circle is left after five hops");
    assert!(site.origin.seen().iter().all(|seen| !seen.contains(" evil.test ")));
    site.close().await;
}

#[tokio::test]
async fn what_the_api_says_about_its_own_origin_is_not_said_about_ours() {
    let site = Site::start().await;
    let account = site.acme("ann").await;
    let port = site.origin.address.port();
    let target = format!("http://api.acme.test:{port}/cookie");
    let answer = site.call(&site.token, "GET", &target, "ann", &account).await.expect(200);
    assert_eq!(answer.header("x-api-version"), Some("7"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let target = format!("http://api.acme.test:{port}/teapot");
    let answer = site.call(&site.token, "GET", &target, "ann", &account).await.expect(418);
    assert_eq!(answer.json(), json!({ "error": "teapot" }));
    let target = format!("http://api.acme.test:{port}/echo-key");
    let answer = site.call(&site.token, "GET", &target, "ann", &account).await.expect(200);
    assert!(!String::from_utf8_lossy(&answer.body).contains(KEY), "an echo is masked");
    site.close().await;
}

#[tokio::test]
async fn an_answer_streams() {
    let site = Site::start().await;
    let account = site.acme("ann").await;
    let port = site.origin.address.port();
    let target = format!("http://api.acme.test:{port}/stream");
    let request = site.call_request(&site.token, "GET", &target, "ann", &account);
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let response = client.build_http().request(request).await.unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "first\n");
    site.origin.go_on.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "second\n");
    site.close().await;
}

#[tokio::test]
async fn a_call_needs_the_account_and_the_user_that_belong_together() {
    let site = Site::start().await;
    let ann = site.acme("ann").await;
    let bob = site.acme("bob").await;
    let wrong = site.call(&site.token, "GET", "/x", "ann", &bob).await.expect(404);
    assert_eq!(wrong.error(), "record not found");
    site.call(&site.token, "GET", "/x", "bob", &ann).await.expect(404);
    site.call(&site.token, "GET", "/x", "nobody", &ann).await.expect(404);
    site.call(&site.token, "GET", "/x", "ann", "acme").await.expect(404);
    let path = site.path("proxy/L3g?account_id=") + &ann;
    site.ask("GET", &path, None).await.expect(400);
    let restricted = site
        .call_request(&site.token, "GET", "/x", "ann", &ann)
        .header("x-pd-proxy-host", "evil.test");
    let answer = site.send(restricted.body(Full::default()).unwrap()).await.expect(400);
    assert_eq!(answer.error(), "Unsupported header: host");
    assert!(site.origin.seen().is_empty());
    site.close().await;
}

#[tokio::test]
async fn nobody_brings_a_credential_of_their_own_instead() {
    let site = Site::start().await;
    let account = site.acme("ann").await;
    let request = site
        .call_request(&site.token, "GET", "/x", "ann", &account)
        .header("x-pd-proxy-authorization", "Bearer mine");
    site.send(request.body(Full::default()).unwrap()).await.expect(200);
    site.close().await;
}

#[tokio::test]
async fn an_app_may_be_given_more_or_less_time() {
    let site = Site::start_with("call_timeouts = { acme = \"300ms\" }").await;
    let acme = site.acme("ann").await;
    let hang = format!("http://api.acme.test:{}/hang", site.origin.address.port());
    let late = site.call(&site.token, "GET", &hang, "ann", &acme).await.expect(504);
    assert_eq!(late.error(), "the API did not answer within 0.3 s");
    site.close().await;
}
