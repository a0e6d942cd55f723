//! What a product decides for an app before its users connect it, and clients that users bring.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::browser::{Browser, heading, hidden, location, text};
use crate::page::add_client;
use crate::site::{KEY, Site};

async fn decided(site: &Site, name: &str, more: Value) -> String {
    let mut body = json!({ "app": "desk", "name": name });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = site.ask("POST", &site.path("app_overrides"), Some(body)).await.expect(200).json();
    made["id"].as_str().unwrap().to_owned()
}

async fn one_desk(site: &Site) -> String {
    decided(site, "one", json!({ "cfmap": { "subdomain": "one" } })).await
}

fn page_of(token: &str, more: &str) -> String {
    format!("/_static/connect.html?token={token}&connectLink=true{more}")
}

async fn credentials(site: &Site, user: &str) -> Value {
    let path = format!("accounts?external_user_id={user}&include_credentials=true");
    let all = site.ask("GET", &site.path(&path), None).await.expect(200).json();
    all["data"].clone()
}

#[tokio::test]
async fn an_override_is_made_read_changed_and_deleted() {
    let site = Site::start().await;
    let id = one_desk(&site).await;
    assert!(id.starts_with("ao_"), "{id}");
    let path = site.path(&format!("app_overrides/{id}"));
    let read = site.ask("GET", &path, None).await.expect(200).json();
    assert_eq!(read["app"]["name_slug"], "desk");
    assert_eq!(read["cfmap"], json!({ "subdomain": "one" }));
    assert_eq!((&read["oauth_app_id"], &read["name"]), (&Value::Null, &json!("one")));
    assert_eq!(read["owner_id"], json!(site.project.id));
    for field in ["created_at", "updated_at"] {
        assert!(read[field].as_str().unwrap().ends_with('Z'), "{read}");
    }

    let body = json!({ "name": "two", "cfmap": { "subdomain": "two" } });
    let changed = site.ask("PUT", &path, Some(body)).await.expect(200).json();
    assert_eq!(changed["cfmap"], json!({ "subdomain": "two" }));
    let same = site.ask("PUT", &path, Some(json!({}))).await.expect(200).json();
    assert_eq!((&same["name"], &same["cfmap"]), (&json!("two"), &json!({ "subdomain": "two" })));

    decided(&site, "three", json!({})).await;
    let list = site.path("app_overrides?limit=1");
    let page = site.ask("GET", &list, None).await.expect(200).json();
    assert_eq!(page["page_info"]["total_count"], 2);
    let after = page["page_info"]["end_cursor"].as_str().unwrap();
    let rest = site.ask("GET", &format!("{list}&after={after}"), None).await.expect(200).json();
    assert_eq!(rest["page_info"]["end_cursor"], Value::Null);
    assert_ne!(rest["data"][0]["id"], page["data"][0]["id"]);
    let others = site.ask("GET", &site.path("app_overrides?app=acme"), None).await.expect(200);
    assert_eq!(others.json()["data"], json!([]));

    site.ask("DELETE", &path, None).await.expect(204);
    site.ask("GET", &path, None).await.expect(404);
    site.ask("PATCH", &path, None).await.expect(405);
    site.close().await;
}

#[tokio::test]
async fn what_does_not_fit_an_app_is_not_decided_for_it() {
    let site = Site::start().await;
    let cloud = add_client(&site).await;
    one_desk(&site).await;
    let path = site.path("app_overrides");
    for (body, said) in [
        (json!({ "app": "desk", "name": "one" }), "of this name"),
        (json!({ "app": "desk", "name": " " }), "needs a name"),
        (json!({ "app": "nothing", "name": "x" }), "no such app"),
        (json!({ "app": "desk", "name": "x", "cfmap": { "api_key": "s3cret" } }), "is a secret"),
        (json!({ "app": "desk", "name": "x", "cfmap": { "nothing": "x" } }), "has no field"),
        (json!({ "app": "desk", "name": "x", "cfmap": { "subdomain": ["x"] } }), "are texts"),
        (json!({ "app": "desk", "name": "x", "cfmap": { "subdomain": "a\nb" } }), "control"),
        (json!({ "app": "desk", "name": "x", "oauth_app_id": cloud }), "another app"),
        (json!({ "app": "cloud", "name": "x", "oauth_app_id": "oa_none" }), "no such OAuth client"),
        (json!({ "app": "desk", "name": "x", "owner_id": "o_1" }), "unknown field"),
    ] {
        let refused = site.ask("POST", &path, Some(body.clone())).await.expect(400);
        assert!(refused.error().contains(said), "{body}: {}", refused.error());
        assert!(!refused.error().contains("s3cret"));
    }
    // Its client may be taken away again.
    let body = json!({ "app": "cloud", "name": "x", "oauth_app_id": cloud });
    let made = site.ask("POST", &path, Some(body)).await.expect(200).json();
    assert_eq!(made["oauth_app_id"], json!(cloud));
    let one = format!("{path}/{}", made["id"].as_str().unwrap());
    let body = Some(json!({ "oauth_app_id": null }));
    let changed = site.ask("PUT", &one, body).await.expect(200).json();
    assert_eq!(changed["oauth_app_id"], Value::Null);
    site.close().await;
}

#[tokio::test]
async fn an_override_is_its_projects_and_nobody_elses() {
    let site = Site::start().await;
    let id = one_desk(&site).await;
    let details = countersign::vault::ProjectDetails {
        name: "other".to_owned(),
        app_name: None,
        support_email: None,
        require_key_test: false,
    };
    let other = site.vault.create_project(&details).await.unwrap();
    let theirs = format!("/v1/connect/{}/app_overrides", other.id);
    let seen = site.ask("GET", &theirs, None).await.expect(200).json();
    assert_eq!(seen["data"], json!([]));
    for method in ["GET", "PUT", "DELETE"] {
        let body = (method == "PUT").then(|| json!({ "name": "mine" }));
        site.ask(method, &format!("{theirs}/{id}"), body).await.expect(404);
    }
    let path = format!("/v1/connect/{}/tokens", other.id);
    let token = site.ask("POST", &path, Some(json!({ "external_user_id": "eve" }))).await;
    let token = token.expect(200).json()["token"].as_str().unwrap().to_owned();
    let page = page_of(&token, &format!("&app=desk&appOverrideId={id}"));
    let page = Browser::default().get(&site, &page).await;
    assert_eq!(heading(&page), "The desk is not set up right");
    let path = format!("/v1/connect/tokens/{token}/validate?app_override_id={id}");
    let validated = site.ask_as("", "GET", &path, None).await.expect(200).json();
    assert_eq!(validated["success"], json!(false));
    // A connect token administers nothing.
    let token = site.connect_token("ann").await;
    for (method, path) in [("GET", "app_overrides"), ("DELETE", &*format!("app_overrides/{id}"))] {
        site.ask_as(&token, method, &site.path(path), None).await.expect(403);
    }
    let reader = site.token_of(&["connect:projects:read"], None).await;
    site.ask_as(&reader, "GET", &site.path("app_overrides"), None).await.expect(200);
    let path = site.path(&format!("app_overrides/{id}"));
    site.ask_as(&reader, "DELETE", &path, None).await.expect(403);
    site.close().await;
}

#[tokio::test]
async fn what_is_decided_is_neither_seen_nor_changed_by_who_connects() {
    let site = Site::start().await;
    let id = one_desk(&site).await;
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    let address = page_of(&token, &format!("&app=desk&appOverrideId={id}"));
    let page = browser.get(&site, &address).await.expect(200);
    assert!(!text(&page).contains("Subdomain"), "{}", text(&page));
    let mut form = hidden(&page);
    form.insert("f.api_key".to_owned(), KEY.to_owned());
    form.insert("f.subdomain".to_owned(), "evil".to_owned());
    browser.post(&site, "/connect/keys", &form).await.expect(303);
    let all = credentials(&site, "ann").await;
    assert_eq!(all[0]["credentials"]["subdomain"], "one");

    // Reconnecting does not open it either, though nobody names the override.
    let account = all[0]["id"].as_str().unwrap();
    let token = site.connect_token("ann").await;
    let address = page_of(&token, &format!("&app=desk&accountId={account}"));
    let page = browser.get(&site, &address).await.expect(200);
    assert!(!text(&page).contains("Subdomain"), "{}", text(&page));
    let mut form = hidden(&page);
    form.insert("f.api_key".to_owned(), KEY.to_owned());
    form.insert("f.subdomain".to_owned(), "evil".to_owned());
    browser.post(&site, "/connect/keys", &form).await.expect(303);
    let again = credentials(&site, "ann").await;
    assert_eq!(
        (&again[0]["id"], &again[0]["credentials"]["subdomain"]),
        (&all[0]["id"], &json!("one"))
    );

    // Another one links it anew; without any it is as it was.
    let two = decided(&site, "two", json!({ "cfmap": { "subdomain": "two" } })).await;
    let body = json!({
        "app_slug": "desk", "connect_token": site.connect_token("ann").await,
        "cfmap_json": json!({ "api_key": KEY, "subdomain": "evil" }).to_string(),
        "account_id": account, "app_override_id": two,
    });
    site.ask("POST", &site.path("accounts"), Some(body)).await.expect(200);
    assert_eq!(credentials(&site, "ann").await[0]["credentials"]["subdomain"], "two");
    site.ask("DELETE", &site.path(&format!("app_overrides/{two}")), None).await.expect(204);
    assert_eq!(credentials(&site, "ann").await[0]["credentials"]["subdomain"], "two");
    site.close().await;
}

#[tokio::test]
async fn a_token_is_validated_with_what_is_decided() {
    let site = Site::start().await;
    let cloud = add_client(&site).await;
    let id = one_desk(&site).await;
    let body = json!({ "app": "cloud", "name": "pinned", "oauth_app_id": cloud });
    let pinned = site.ask("POST", &site.path("app_overrides"), Some(body)).await.expect(200).json();
    let pinned = pinned["id"].as_str().unwrap();
    let token = site.connect_token("ann").await;
    let validated = async |query: &str| {
        let path = format!("/v1/connect/tokens/{token}/validate?{query}");
        site.ask_as("", "GET", &path, None).await.expect(200).json()
    };
    let good = validated(&format!("app_override_id={id}")).await;
    assert_eq!((&good["success"], &good["app"]["name_slug"]), (&json!(true), &json!("desk")));
    assert_eq!(good["app_override_id"], json!(id));
    assert_eq!(good["app_override_field_names"], json!(["subdomain"]));
    let good = validated(&format!("app_override_id={pinned}")).await;
    assert_eq!((&good["success"], &good["oauth_app_id"]), (&json!(true), &json!(cloud)));
    for query in [
        format!("app_override_id={id}&app_id=acme"),
        format!("app_override_id={pinned}&oauth_app_id=oa_other"),
        "app_override_id=ao_none&app_id=desk".to_owned(),
    ] {
        assert_eq!(validated(&query).await["success"], json!(false), "{query}");
    }
    // One that names an OAuth client is for the page.
    let body = json!({
        "app_slug": "cloud", "connect_token": token, "cfmap_json": "{}", "app_override_id": pinned,
    });
    let refused = site.ask("POST", &site.path("accounts"), Some(body)).await.expect(400);
    assert!(refused.error().contains("connect page"), "{}", refused.error());
    let page = Browser::default();
    let page = page.get(&site, &page_of(&token, &format!("&appOverrideId={pinned}"))).await;
    assert_eq!(heading(&page.expect(200)), "My product wants to use The cloud for you");
    site.close().await;
}

#[tokio::test]
async fn a_user_may_bring_a_client_of_their_own() {
    let site = Site::start().await;
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    // Nobody has registered one; only whoever asks for it is asked for their own.
    let none = browser.get(&site, &page_of(&token, "&app=cloud")).await.expect(409);
    assert_eq!(heading(&none), "The cloud is not set up yet");
    let address = page_of(&token, "&app=cloud&customOauthClient=true");
    let page = browser.get(&site, &address).await.expect(200);
    let callback = format!("http://{}/connect/callback", site.address());
    assert!(text(&page).contains(&callback), "{}", text(&page));
    let empty = browser.post(&site, "/connect/begin", &hidden(&page)).await.expect(422);
    assert!(text(&empty).contains("This is needed"), "{}", text(&empty));

    let mut form = hidden(&page);
    form.insert("client.id".to_owned(), "anns-client".to_owned());
    form.insert("client.secret".to_owned(), "anns-secret".to_owned());
    let off = browser.post(&site, "/connect/begin", &form).await.expect(303);
    let url = url::Url::parse(&location(&off)).unwrap();
    let asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(asked["client_id"], "anns-client");
    let back = format!("/connect/callback?code=good&state={}", asked["state"]);
    let done = browser.get(&site, &back).await.expect(303);
    let end = browser.get(&site, &location(&done)).await.expect(200);
    assert_eq!(heading(&end), "The cloud is connected");

    // It is hers alone: nobody else connects with it, no list has it, and its id opens nothing.
    let clients = site.ask("GET", &site.path("oauth_apps"), None).await.expect(200).json();
    assert_eq!(clients["data"], json!([]));
    let account = credentials(&site, "ann").await[0].clone();
    let own = account["app"]["id"].as_str().unwrap();
    assert!(own.starts_with("oa_"), "{account}");
    site.ask("GET", &site.path(&format!("oauth_apps/{own}")), None).await.expect(404);
    let bobs = site.connect_token("bob").await;
    for more in ["&app=cloud".to_owned(), format!("&app=cloud&oauthAppId={own}")] {
        let page = browser.get(&site, &page_of(&bobs, &more)).await;
        assert!(!text(&page).contains("Continue to"), "{more}: {}", text(&page));
    }
    // She reconnects with it, and it goes with the account.
    let again = site.connect_token("ann").await;
    let id = account["id"].as_str().unwrap();
    let address = page_of(&again, &format!("&app=cloud&accountId={id}"));
    let page = browser.get(&site, &address).await.expect(200);
    let off = browser.post(&site, "/connect/begin", &hidden(&page)).await.expect(303);
    assert!(location(&off).contains("anns-client"));
    site.ask("DELETE", &site.path(&format!("accounts/{id}")), None).await.expect(204);
    let own = own.parse().unwrap();
    assert!(site.vault.oauth_client(&own).await.unwrap().is_none());
    site.close().await;
}

#[tokio::test]
async fn old_programs_find_accounts_where_they_were() {
    let site = Site::start().await;
    let id = site.acme("ann").await;
    let token = site.token_of(&["*"], Some(&site.project)).await;
    let all = site.ask_as(&token, "GET", "/v1/accounts?app=acme", None).await.expect(200).json();
    assert_eq!((&all["page_info"]["total_count"], &all["data"][0]["id"]), (&json!(1), &json!(id)));
    let path = format!("/v1/accounts/{id}?include_credentials=1");
    let one = site.ask_as(&token, "GET", &path, None).await.expect(200).json();
    assert_eq!(one["data"]["credentials"]["api_key"], KEY);
    // A client of every project has to say which.
    let said = site.ask("GET", "/v1/accounts", None).await.expect(400);
    assert!(said.error().contains("name the project"), "{}", said.error());
    site.close().await;
}
