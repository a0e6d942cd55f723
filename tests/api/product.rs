//! What people see of the product that asks, how many accounts one of them may have, and that its
//! server is told what happened, whatever happens in between.

use std::collections::BTreeMap;

use countersign::vault::{Credentials, Environment, NewAccount, Owner, Validity};
use serde_json::{Value, json};

use crate::browser::{Browser, heading, hidden, location, text};
use crate::page::hooks_of;
use crate::site::{KEY, Site};

/// A picture of one pixel.
const LOGO: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk\
                    YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

fn page_of(token: &str, more: &str) -> String {
    format!("/_static/connect.html?token={token}&connectLink=true&app=acme{more}")
}

#[tokio::test]
async fn a_products_logo_stands_on_its_page_and_on_no_others() {
    let site = Site::start().await;
    let browser = Browser::default();
    let token = site.connect_token("ann").await;
    let before = browser.get(&site, &page_of(&token, "")).await.expect(200);
    assert!(!text(&before).contains("connect-logo"));
    let path = format!("/v1/connect/projects/{}/logo", site.project.id);
    site.ask("POST", &path, Some(json!({ "logo": LOGO }))).await.expect(204);
    let page = browser.get(&site, &page_of(&token, "")).await.expect(200);
    assert!(text(&page).contains(&format!("<img class=\"connect-logo\" src=\"{LOGO}\" alt=\"\">")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("img-src 'self' data:;"), "{policy}");
    let nobodys = browser.get(&site, &page_of("ctok_none", "")).await.expect(404);
    assert!(!text(&nobodys).contains("data:image/png"));
    site.close().await;
}

/// Far more than anybody has.
async fn fill(site: &Site, user: &str, count: u64) {
    let environment = Environment::Development;
    let user = site.vault.ensure_external_user(&site.project.id, environment, user).await.unwrap();
    let new = NewAccount {
        nickname: None,
        app: "acme".parse().unwrap(),
        auth: "key".to_owned(),
        owner: Owner::ExternalUser(user.id),
        oauth_client: None,
        app_override: None,
        fields: BTreeMap::new(),
        scopes: Vec::new(),
        identity: None,
        validity: Validity::default(),
    };
    let secrets = BTreeMap::from([("api_key".to_owned(), KEY.to_owned().into())]);
    let credentials = Credentials { secrets, tokens: None };
    for _ in 0..count {
        site.vault.create_account(&new, &credentials).await.unwrap();
    }
}

#[tokio::test]
async fn who_has_a_thousand_accounts_gets_no_more_before_one_is_deleted() {
    let site = Site::start().await;
    let kept = site.acme("ann").await;
    fill(&site, "ann", 999).await;
    let browser = Browser::default();
    let token = site.connect_token("ann").await;
    let full = browser.get(&site, &page_of(&token, "")).await.expect(409);
    assert_eq!(heading(&full), "There are too many accounts");
    assert!(text(&full).contains("The most is 1000."), "{}", text(&full));
    // A form that was loaded before does not slip through, either.
    let other = site.connect_token("bob").await;
    let mut form = hidden(&browser.get(&site, &page_of(&other, "")).await.expect(200));
    form.insert("token".to_owned(), token.clone());
    form.insert("f.api_key".to_owned(), KEY.to_owned());
    let refused = browser.post(&site, "/connect/keys", &form).await.expect(409);
    assert_eq!(heading(&refused), "There are too many accounts");
    // What is there may be connected anew.
    browser.get(&site, &page_of(&token, &format!("&accountId={kept}"))).await.expect(200);
    site.ask("DELETE", &site.path(&format!("accounts/{kept}")), None).await.expect(204);
    let page = browser.get(&site, &page_of(&token, "")).await.expect(200);
    let mut form = hidden(&page);
    form.insert("f.api_key".to_owned(), KEY.to_owned());
    let done = browser.post(&site, "/connect/keys", &form).await.expect(303);
    let end = browser.get(&site, &location(&done)).await.expect(200);
    assert_eq!(heading(&end), "The acme is connected");
    site.close().await;
}

#[tokio::test]
async fn a_webhook_outlives_the_server_and_arrives_signed() {
    let site = Site::start_with("[webhook]\nsecret = { value = \"whsec\" }").await;
    site.origin.takes_hooks(false);
    let hooks = format!("http://hooks.localhost:{}/hook", site.origin.address.port());
    let body = json!({ "external_user_id": "ann", "webhook_uri": hooks });
    let token = site.connect_token_with(body).await;
    let cfmap = json!({ "api_key": KEY }).to_string();
    let body = json!({ "app_slug": "acme", "connect_token": token, "cfmap_json": cfmap });
    site.ask("POST", &site.path("accounts"), Some(body)).await.expect(200);
    let tried = |site: &Site| site.origin.seen().iter().any(|seen| seen.ends_with(" /hook"));
    for _ in 0..200 {
        if tried(&site) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(tried(&site) && site.origin.hooks().is_empty(), "it was refused");
    let site = site.restart().await;
    site.origin.takes_hooks(true);
    let told = hooks_of(&site, 1).await;
    assert_eq!(
        (&told[0]["event"], &told[0]["connect_token"]),
        (&json!("CONNECTION_SUCCESS"), &json!(token))
    );
    let (headers, body) = site.origin.hooks().remove(0);
    assert!(is_signed(&headers, &body), "{headers:?}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["account"]["external_id"], "ann");
    site.close().await;
}

fn is_signed(headers: &http::HeaderMap, body: &str) -> bool {
    let signature = headers["x-pd-signature"].to_str().unwrap();
    let (time, mac) = signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"whsec");
    let tag = aws_lc_rs::hmac::sign(&key, format!("{time}.{body}").as_bytes());
    mac == countersign::secret::hex(tag.as_ref())
}
