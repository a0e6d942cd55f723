//! Accounts, users, apps.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use countersign::secret::Secret;
use countersign::vault::{
    Account, Credentials, Environment, NewAccount, OAuthClientDetails, Owner, Tokens, Validity,
};
use serde_json::{Value, json};

use crate::site::{KEY, Site};

#[tokio::test]
async fn a_keys_account_is_connected_read_and_deleted() {
    let site = Site::start().await;
    let id = site.acme("ann").await;
    assert!(id.starts_with("apn_"), "{id}");
    let path = site.path(&format!("accounts/{id}"));
    let account = site.ask("GET", &path, None).await.expect(200).json();
    assert_eq!(account["external_id"], "ann");
    assert_eq!(account["name"], "ann's");
    assert_eq!((&account["healthy"], &account["dead"]), (&json!(true), &json!(false)));
    assert_eq!(account["app"]["name_slug"], "acme");
    assert_eq!(account["app"]["auth_type"], "keys");
    let created_at = account["created_at"].as_str().unwrap();
    assert!(created_at.contains('T') && created_at.ends_with('Z'));
    assert_eq!(account.get("credentials"), None);

    for flag in ["true", "1"] {
        let path = format!("{path}?include_credentials={flag}");
        let account = site.ask("GET", &path, None).await.expect(200).json();
        assert_eq!(account["credentials"], json!({ "api_key": KEY }));
    }
    site.ask("DELETE", &path, None).await.expect(204);
    site.ask("GET", &path, None).await.expect(404);
    site.ask("DELETE", &path, None).await.expect(404);
    site.close().await;
}

#[tokio::test]
async fn a_list_ends_where_it_ends() {
    let site = Site::start().await;
    let mut made = Vec::new();
    for user in ["ann", "ann", "ann", "bob"] {
        made.push(site.acme(user).await);
    }
    made.push(site.account("ann", "other", json!({ "api_key": KEY })).await);
    let mut found = Vec::new();
    let mut after = String::new();
    for pages in 1.. {
        let path = site.path(&format!("accounts?external_user_id=ann&limit=2&app=acme{after}"));
        let page = site.ask("GET", &path, None).await.expect(200).json();
        assert_eq!(page["page_info"]["total_count"], 3);
        let data = page["data"].as_array().unwrap();
        assert_eq!(page["page_info"]["count"], data.len());
        found.extend(data.iter().map(|account| account["id"].as_str().unwrap().to_owned()));
        let Some(end) = page["page_info"]["end_cursor"].as_str() else {
            assert_eq!(pages, 2);
            break;
        };
        after = format!("&after={end}");
    }
    let mut expected = made[..3].to_vec();
    expected.sort();
    assert_eq!(found, expected);

    // A page that is full and the last one has no cursor either.
    let path = site.path("accounts?external_user_id=ann&limit=3&app=acme");
    let page = site.ask("GET", &path, None).await.expect(200).json();
    assert_eq!(page["page_info"]["end_cursor"], Value::Null);
    let start = page["page_info"]["start_cursor"].as_str().unwrap();
    let path = site.path(&format!("accounts?external_user_id=ann&app=acme&before={start}"));
    let before = site.ask("GET", &path, None).await.expect(200).json();
    assert_eq!(before["data"], json!([]));

    let all = site.ask("GET", &site.path("accounts"), None).await.expect(200).json();
    assert_eq!(all["page_info"]["total_count"], 5);
    let of_bob = site.ask("GET", &site.path("users/bob/accounts"), None).await.expect(200).json();
    assert_eq!(of_bob.as_array().unwrap().len(), 1);
    let nobody = site.path("accounts?external_user_id=nobody");
    let nobody = site.ask("GET", &nobody, None).await.expect(200).json();
    assert_eq!(nobody["data"], json!([]));
    site.close().await;
}

#[tokio::test]
async fn what_is_wrong_with_keys_is_told_before_the_token_is_spent() {
    let site = Site::start().await;
    let token = site.connect_token("ann").await;
    let good = json!({
        "app_slug": "acme",
        "cfmap_json": json!({ "api_key": KEY }).to_string(),
        "connect_token": token,
    });
    for (name, value, part) in [
        ("app_slug", json!("nothing"), "no such app"),
        ("cfmap_json", json!("{}"), "api_key"),
        ("cfmap_json", json!({ "api_key": KEY }), "another type"),
        ("cfmap_json", json!("[1]"), "cfmap_json"),
        ("cfmap_json", json!(r#"{"api_key": "x", "owner": "y"}"#), "no field"),
        ("cfmap_json", json!(r#"{"api_key": {"a": 1}}"#), "texts"),
        ("cfmap_json", json!("[".repeat(100_000)), "cfmap_json"),
        ("app_slug", json!("zendesk\u{0}"), "no such app"),
        ("id", json!("apn_mine"), "unknown field"),
        ("owner", json!("somebody"), "unknown field"),
        ("account_id", json!("apn_x"), "record not found"),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let answer = site.ask("POST", &site.path("accounts"), Some(body)).await;
        assert!([400, 404].contains(&answer.status), "{name}: {:?}", answer.body);
        assert!(answer.error().contains(part), "{name}: {}", answer.error());
        assert!(!String::from_utf8_lossy(&answer.body).contains(KEY));
    }
    site.ask("POST", &site.path("accounts"), Some(good.clone())).await.expect(200);
    let again = site.ask("POST", &site.path("accounts"), Some(good)).await.expect(401);
    assert!(again.error().contains("used"), "{}", again.error());
    site.close().await;
}

#[tokio::test]
async fn reconnecting_keeps_the_id() {
    let site = Site::start().await;
    let id = site.account("ann", "acme", json!({ "api_key": "old" })).await;
    let body = json!({
        "app_slug": "acme",
        "cfmap_json": json!({ "api_key": KEY }).to_string(),
        "connect_token": site.connect_token("ann").await,
        "account_id": id,
    });
    let account = site.ask("POST", &site.path("accounts"), Some(body)).await.expect(200).json();
    assert_eq!(account["id"], json!(id));
    let answer = site.call(&site.token, "GET", "/me", "ann", &id).await.expect(200);
    assert_eq!(answer.json()["path"], "/v1/me");

    let body = json!({
        "app_slug": "acme",
        "cfmap_json": json!({ "api_key": "x" }).to_string(),
        "connect_token": site.connect_token("bob").await,
        "account_id": id,
    });
    site.ask("POST", &site.path("accounts"), Some(body)).await.expect(404);
    site.close().await;
}

#[tokio::test]
async fn a_project_may_have_keys_tried_first() {
    let site = Site::start().await;
    let mut details = site.project.details.clone();
    details.require_key_test = true;
    site.vault.update_project(&site.project.id, &details).await.unwrap();
    let connect_token = site.connect_token("ann").await;
    let body = |key: &str| {
        json!({
            "app_slug": "acme",
            "cfmap_json": json!({ "api_key": key }).to_string(),
            "connect_token": connect_token,
        })
    };
    let refused = site.ask("POST", &site.path("accounts"), Some(body("wrong"))).await.expect(400);
    assert!(refused.error().contains("401"), "{}", refused.error());
    assert!(refused.error().contains("wrong key"), "what it said is shown: {}", refused.error());
    site.ask("POST", &site.path("accounts"), Some(body(KEY))).await.expect(200);
    site.close().await;
}

#[tokio::test]
async fn deleting_a_user_deletes_their_accounts_and_nobody_elses() {
    let site = Site::start().await;
    let odd = "user/odd id+&?";
    site.acme(odd).await;
    let kept = site.acme("user").await;
    let path = site.path("users/user%2Fodd%20id%2B%26%3F");
    site.ask("DELETE", &path, None).await.expect(204);
    site.ask("DELETE", &path, None).await.expect(404);
    site.ask("GET", &site.path(&format!("accounts/{kept}")), None).await.expect(200);
    let users = site.ask("GET", &site.path("users"), None).await.expect(200).json();
    assert_eq!(users["page_info"]["total_count"], 1);
    assert_eq!(users["data"][0]["external_id"], "user");

    // Python's SDK does not encode: `user?x` would delete `user`.
    let cut = site.ask("DELETE", &site.path("users/user?x"), None).await.expect(400);
    assert!(cut.error().contains('?'), "{}", cut.error());
    site.ask("GET", &site.path(&format!("accounts/{kept}")), None).await.expect(200);
    let found = site.ask("GET", &site.path("users?q=SE&limit=1"), None).await.expect(200).json();
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    site.close().await;
}

#[tokio::test]
async fn accounts_of_an_app_are_deleted_by_both_paths() {
    let site = Site::start().await;
    for path in ["accounts/app/acme", "apps/acme/accounts"] {
        let gone = site.acme("ann").await;
        let kept = site.account("ann", "other", json!({ "api_key": KEY })).await;
        site.ask("DELETE", &site.path(path), None).await.expect(204);
        site.ask("GET", &site.path(&format!("accounts/{gone}")), None).await.expect(404);
        site.ask("GET", &site.path(&format!("accounts/{kept}")), None).await.expect(200);
    }
    site.close().await;
}

/// An OAuth account of `user` whose access token ended an hour ago.
async fn expired(site: &Site, user: &str) -> Account {
    let details = OAuthClientDetails {
        app: "cloud".parse().unwrap(),
        auth: "oauth".to_owned(),
        name: "cloud".to_owned(),
        client_id: "our-client".to_owned(),
        redirect_uri: None,
        scopes: Vec::new(),
        fields: BTreeMap::new(),
    };
    let secret = Secret::from("our-secret".to_owned());
    let secrets = [("secret".to_owned(), secret)].into();
    let client = site.vault.create_oauth_client(&details, &secrets).await.unwrap();
    let environment = Environment::Development;
    let user = site.vault.ensure_external_user(&site.project.id, environment, user).await.unwrap();
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    let new = NewAccount {
        nickname: None,
        app: details.app.clone(),
        auth: details.auth.clone(),
        owner: Owner::ExternalUser(user.id),
        app_override: None,
        oauth_client: Some(client.id),
        fields: BTreeMap::new(),
        scopes: vec!["read".to_owned()],
        identity: Some("ann@cloud.test".to_owned()),
        validity: Validity {
            obtained_at: Some(now - 2 * hour),
            expires_at: Some(now - hour),
            refresh_expires_at: None,
            next_refresh_at: None,
        },
    };
    let tokens = Tokens {
        access: Secret::from("ended".to_owned()),
        refresh: Some(Secret::from("refresh-1".to_owned())),
    };
    let credentials = Credentials { secrets: BTreeMap::new(), tokens: Some(tokens) };
    site.vault.create_account(&new, &credentials).await.unwrap()
}

#[tokio::test]
async fn an_expired_token_is_renewed_before_it_is_shown_or_used() {
    let site = Site::start().await;
    let account = expired(&site, "ann").await;
    let path = site.path(&format!("accounts/{}?include_credentials=true", account.id));
    let shown = site.ask("GET", &path, None).await.expect(200).json();
    let credentials = &shown["credentials"];
    assert_eq!(credentials["oauth_access_token"], KEY);
    assert_eq!(credentials["oauth_refresh_token"], "refresh-1");
    assert_eq!(credentials["oauth_client_id"], "our-client");
    assert_eq!(credentials["oauth_uid"], "ann@cloud.test");
    assert_eq!(shown["app"]["id"], json!(account.oauth_client));
    assert_eq!(shown["app"]["auth_type"], "oauth");
    assert_eq!(shown["authorized_scopes"], json!(["read"]));
    assert!(shown["last_refreshed_at"].is_string());

    let other = expired(&site, "bob").await;
    let answer = site.call(&site.token, "GET", "/me", "bob", other.id.as_str()).await.expect(200);
    assert_eq!(answer.json()["path"], "/me");
    let info = site.ask("GET", &site.path("projects/info"), None).await.expect(200).json();
    assert_eq!(info["apps"][0]["name_slug"], "cloud");
    let clients = site.ask("GET", &site.path("oauth_apps"), None).await.expect(200);
    assert!(!String::from_utf8_lossy(&clients.body).contains("our-secret"));
    assert_eq!(clients.json()["data"][0]["client_id"], "our-client");
    site.close().await;
}

#[tokio::test]
async fn apps_are_listed_found_and_shown() {
    let site = Site::start().await;
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let path =
            format!("/v1/connect/apps?limit=10&sort_key=name_slug&sort_direction=asc{after}");
        let page = site.ask("GET", &path, None).await.expect(200).json();
        for app in page["data"].as_array().unwrap() {
            for field in ["id", "name_slug", "name", "img_src", "custom_fields_json"] {
                assert!(app[field].is_string(), "{field}: {app}");
            }
            for field in ["categories", "scope_profiles"] {
                assert!(app[field].is_array(), "{field}: {app}");
            }
            assert!(app["featured_weight"].is_number());
            found.push(app["name_slug"].as_str().unwrap().to_owned());
        }
        let Some(end) = page["page_info"]["end_cursor"].as_str() else { break };
        after = format!("&after={end}");
    }
    assert!(found.is_sorted() && found.len() > 20, "{found:?}");
    let apps = site.ask("GET", "/v1/apps?q=slack&limit=50", None).await.expect(200).json();
    assert_eq!(apps["data"][0]["name_slug"], "slack");
    let desk = site.ask("GET", "/v1/connect/apps/desk", None).await.expect(200).json();
    let connect = &desk["data"]["connect"];
    assert_eq!(connect["proxy_enabled"], true);
    assert_eq!(connect["allowed_domains"], json!(["{{custom_fields.subdomain}}.desk.test"]));
    let same = site.ask("GET", "/v1/apps/app_desk", None).await.expect(200).json();
    assert_eq!(same, desk);
    site.ask("GET", "/v1/apps/nothing", None).await.expect(404);
    let categories = site.ask("GET", "/v1/connect/app_categories", None).await.expect(200).json();
    assert!(categories.as_array().unwrap().iter().any(|category| category["name"] == "testing"));
    let path = "/v1/connect/apps?category_ids=appcat_testing";
    let tested = site.ask("GET", path, None).await.expect(200).json();
    assert_eq!(tested["page_info"]["total_count"], 7);
    site.ask_as("", "GET", "/v1/connect/apps", None).await.expect(401);
    site.close().await;
}
