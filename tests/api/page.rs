//! The connect page by itself: what a person meets, and what somebody tries who should get nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::vault::OAuthClientDetails;
use serde_json::{Value, json};

use crate::browser::{Browser, heading, hidden, location, text};
use crate::site::{Answer, KEY, Site};

/// A site on which the app with OAuth can be connected.
pub async fn with_cloud() -> Site {
    let site = Site::start().await;
    add_client(&site).await;
    site
}

pub async fn add_client(site: &Site) -> String {
    let details = OAuthClientDetails {
        app: "cloud".parse().unwrap(),
        auth: "oauth".to_owned(),
        name: "cloud".to_owned(),
        client_id: "cid".to_owned(),
        redirect_uri: None,
        scopes: Vec::new(),
        fields: BTreeMap::new(),
    };
    let secrets = BTreeMap::from([("secret".to_owned(), "client-secret".to_owned().into())]);
    site.vault.create_oauth_client(&details, &secrets).await.unwrap().id.to_string()
}

fn page_of(token: &str, more: &str) -> String {
    format!("/_static/connect.html?token={token}&connectLink=true{more}")
}

async fn accounts(site: &Site, user: &str) -> Vec<Value> {
    let path = site.path(&format!("accounts?external_user_id={user}"));
    let answer = site.ask("GET", &path, None).await.expect(200);
    answer.json()["data"].as_array().unwrap().clone()
}

/// The form of a page, with what a person entered.
fn filled(page: &Answer, entered: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut form = hidden(page);
    form.extend(entered.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    form
}

/// Off to the provider: the query that it was sent, and how it sends the browser back.
async fn begun(site: &Site, browser: &Browser, address: &str) -> BTreeMap<String, String> {
    let page = browser.get(site, address).await.expect(200);
    let off = browser.post(site, "/connect/begin", &hidden(&page)).await.expect(303);
    let url = url::Url::parse(&location(&off)).unwrap();
    assert_eq!(url.path(), "/authorize");
    url.query_pairs().into_owned().collect()
}

fn back(asked: &BTreeMap<String, String>, answer: &str) -> String {
    format!("/connect/callback?{answer}&state={}", asked["state"])
}

#[tokio::test]
async fn keys_are_tried_and_then_an_account() {
    let site = Site::start().await;
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    let page = browser.get(&site, &page_of(&token, "&app=acme")).await.expect(200);
    assert_eq!(heading(&page), "My product wants to use The acme for you");
    let wrong = filled(&page, &[("f.api_key", "wrong-key-1")]);
    let again = browser.post(&site, "/connect/keys", &wrong).await.expect(422);
    let shown = text(&again);
    assert!(shown.contains("did not accept this") && shown.contains("wrong key"), "{shown}");
    assert!(!shown.contains("wrong-key-1"), "a key is never shown again");
    assert!(accounts(&site, "ann").await.is_empty());

    let form = filled(&again, &[("f.api_key", KEY), ("name", "mine")]);
    let done = browser.post(&site, "/connect/keys", &form).await.expect(303);
    let end = browser.get(&site, &location(&done)).await.expect(200);
    assert_eq!(heading(&end), "The acme is connected");
    let all = accounts(&site, "ann").await;
    assert_eq!((all.len(), &all[0]["name"]), (1, &json!("mine")));
    let used = browser.get(&site, &page_of(&token, "&app=acme")).await.expect(410);
    assert_eq!(heading(&used), "This link was used already");
    site.close().await;
}

#[tokio::test]
async fn consent_leads_to_an_account_that_works() {
    let site = with_cloud().await;
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    let page = browser.get(&site, &page_of(&token, "&app=cloud")).await.expect(200);
    assert!(text(&page).contains("Write files") && text(&page).contains("Read files"));
    let policy = page.header("content-security-policy").unwrap();
    let provider = format!("form-action 'self' http://127.0.0.1:{};", site.origin.address.port());
    assert!(policy.contains(&provider) && !policy.contains("unsafe"), "{policy}");

    let asked = begun(&site, &browser, &page_of(&token, "&app=cloud")).await;
    assert_eq!(asked["scope"], "offline_access files:read files:write");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert!(asked["state"].len() >= 40 && !asked.values().any(|value| value.contains("ctok_")));
    let done = browser.get(&site, &back(&asked, "code=good")).await.expect(303);
    assert!(done.header("referrer-policy") == Some("no-referrer"));
    let end = browser.get(&site, &location(&done)).await.expect(200);
    assert_eq!(heading(&end), "The cloud is connected");
    assert!(text(&end).contains("ann@acme.test"));
    let all = accounts(&site, "ann").await;
    let id = all[0]["id"].as_str().unwrap();
    let target = format!("http://api.cloud.test:{}/echo", site.origin.address.port());
    site.call(&site.token, "GET", &target, "ann", id).await.expect(200);
    site.close().await;
}

#[tokio::test]
async fn another_browser_gets_nothing_and_takes_nothing() {
    let site = with_cloud().await;
    let token = site.connect_token("ann").await;
    let (owner, other) = (Browser::default(), Browser::default());
    let asked = begun(&site, &owner, &page_of(&token, "&app=cloud")).await;
    // One that has a cookie of its own flow, and one that has none.
    let theirs = site.connect_token("bob").await;
    begun(&site, &other, &page_of(&theirs, "&app=cloud")).await;
    for stranger in [&other, &Browser::default()] {
        let page = stranger.get(&site, &back(&asked, "code=good")).await.expect(400);
        assert_eq!(heading(&page), "Another browser began this");
    }
    assert!(accounts(&site, "ann").await.is_empty() && accounts(&site, "bob").await.is_empty());
    owner.get(&site, &back(&asked, "code=good")).await.expect(303);
    assert_eq!(accounts(&site, "ann").await.len(), 1);
    site.close().await;
}

#[tokio::test]
async fn a_callback_that_comes_twice_sends_its_code_once() {
    let site = with_cloud().await;
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    let asked = begun(&site, &browser, &page_of(&token, "&app=cloud")).await;
    let address = back(&asked, "code=good");
    let (one, two) = tokio::join!(browser.get(&site, &address), browser.get(&site, &address));
    let answers = [one.status, two.status];
    assert!(answers.contains(&303) && answers.contains(&200), "{answers:?}");
    let late = browser.get(&site, &address).await.expect(200);
    assert_eq!(heading(&late), "The cloud is connected");
    let spent = site.origin.seen().iter().filter(|seen| seen.ends_with("/token")).count();
    assert_eq!((spent, accounts(&site, "ann").await.len()), (1, 1));
    let stranger = Browser::default().get(&site, &address).await.expect(400);
    assert_eq!(heading(&stranger), "This step is over");
    for nonsense in ["", "?state=", "?state=x&code=y", "?code=y"] {
        let page = browser.get(&site, &format!("/connect/callback{nonsense}")).await.expect(400);
        assert_eq!(heading(&page), "This step is over", "{nonsense}");
    }
    site.close().await;
}

#[tokio::test]
async fn a_form_that_is_sent_twice_connects_one_account() {
    let site = Site::start().await;
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    let page = browser.get(&site, &page_of(&token, "&app=acme")).await.expect(200);
    let form = filled(&page, &[("f.api_key", KEY)]);
    let (one, two) = tokio::join!(
        browser.post(&site, "/connect/keys", &form),
        browser.post(&site, "/connect/keys", &form)
    );
    for answer in [one, two] {
        let end = match answer.status {
            303 => browser.get(&site, &location(&answer)).await,
            _ => answer,
        };
        assert_eq!(heading(&end), "The acme is connected");
    }
    assert_eq!(accounts(&site, "ann").await.len(), 1);
    site.close().await;
}

#[tokio::test]
async fn who_declines_may_change_their_mind() {
    let site = with_cloud().await;
    let hooks = format!("http://hooks.localhost:{}/hook", site.origin.address.port());
    let body = json!({
        "external_user_id": "ann", "webhook_uri": hooks,
        "error_redirect_uri": "https://shop.example/no",
        "success_redirect_uri": "https://shop.example/yes",
    });
    let token = site.connect_token_with(body).await;
    let browser = Browser::default();
    let address = page_of(&token, "&app=cloud");
    for (answer, said) in [
        ("error=access_denied&error_description=%3Cb%3Eno%3C/b%3E", "You did not allow it"),
        ("code=broken", "The cloud refused"),
        ("error=server_error", "The cloud refused"),
    ] {
        let asked = begun(&site, &browser, &address).await;
        let back = browser.get(&site, &back(&asked, answer)).await.expect(303);
        let end = browser.get(&site, &location(&back)).await.expect(200);
        assert_eq!(heading(&end), said, "{answer}");
        let shown = text(&end);
        assert!(shown.contains("https://shop.example/no") && !shown.contains("<b>"), "{shown}");
    }
    assert!(accounts(&site, "ann").await.is_empty());
    let asked = begun(&site, &browser, &address).await;
    let done = browser.get(&site, &back(&asked, "code=good")).await.expect(303);
    let end = browser.get(&site, &location(&done)).await.expect(200);
    assert!(text(&end).contains("https://shop.example/yes"));
    let told = hooks_of(&site, 4).await;
    let events: Vec<&str> = told.iter().map(|hook| hook["event"].as_str().unwrap()).collect();
    assert_eq!(events.iter().filter(|event| **event == "CONNECTION_ERROR").count(), 3);
    let good = told.iter().find(|hook| hook["event"] == "CONNECTION_SUCCESS").unwrap();
    assert_eq!(
        (&good["connect_token"], &good["environment"]),
        (&json!(token), &json!("development"))
    );
    assert_eq!(good["account"]["external_id"], "ann");
    assert!(good["account"].get("credentials").is_none());
    assert_eq!(good["account"]["id"], accounts(&site, "ann").await[0]["id"]);
    assert_eq!(
        good["connect_session_id"].to_string(),
        good["connect_session_id_text"].as_str().unwrap()
    );
    site.close().await;
}

/// So many webhooks, once they have come.
pub async fn hooks_of(site: &Site, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        let hooks = site.origin.hooks();
        if hooks.len() >= count {
            return hooks.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} of {count} webhooks came", site.origin.hooks().len());
}

#[tokio::test]
async fn webhooks_of_connecting_are_signed() {
    let site = Site::start_with("[webhook]\nsecret = { value = \"whsec\" }").await;
    let hooks = format!("http://hooks.localhost:{}/hook", site.origin.address.port());
    let body = json!({ "external_user_id": "ann", "webhook_uri": hooks });
    let token = site.connect_token_with(body).await;
    let body = json!({
        "app_slug": "acme", "connect_token": token, "cfmap_json": json!({ "api_key": KEY }).to_string(),
    });
    site.ask("POST", &site.path("accounts"), Some(body)).await.expect(200);
    let told = hooks_of(&site, 1).await;
    assert_eq!(told[0]["event"], "CONNECTION_SUCCESS");
    let (headers, body) = site.origin.hooks().remove(0);
    let signature = headers["x-pd-signature"].to_str().unwrap();
    let (time, mac) = signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"whsec");
    let tag = aws_lc_rs::hmac::sign(&key, format!("{time}.{body}").as_bytes());
    assert_eq!(mac, countersign::secret::hex(tag.as_ref()));
    site.close().await;
}

#[tokio::test]
async fn a_private_address_gets_no_webhook() {
    let site = Site::start().await;
    let private = format!("http://127.0.0.1:{}/hook", site.origin.address.port());
    let public = format!("http://hooks.localhost:{}/hook", site.origin.address.port());
    for hook in [private, public] {
        let body = json!({ "external_user_id": "ann", "webhook_uri": hook });
        let token = site.connect_token_with(body).await;
        let cfmap = json!({ "api_key": KEY }).to_string();
        let body = json!({ "app_slug": "acme", "connect_token": token, "cfmap_json": cfmap });
        site.ask("POST", &site.path("accounts"), Some(body)).await.expect(200);
    }
    // Both were taken at the same tick, the private one first.
    hooks_of(&site, 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(site.origin.hooks().len(), 1);
    site.close().await;
}

#[tokio::test]
async fn a_form_of_another_site_begins_nothing() {
    let site = with_cloud().await;
    let token = site.connect_token("mallory").await;
    let browser = Browser::default();
    let page = browser.get(&site, &page_of(&token, "&app=cloud")).await.expect(200);
    for from in ["cross-site", "same-site", "none"] {
        for path in ["/connect/begin", "/connect/keys"] {
            let refused = browser.post_from(&site, path, &hidden(&page), from).await.expect(403);
            assert_eq!(heading(&refused), "This did not come from our page", "{from}");
            assert!(refused.header("set-cookie").is_none());
            assert!(!text(&refused).contains("My product"), "it learns nothing of the token");
        }
    }
    let query = hidden(&page);
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&query).finish();
    browser.get(&site, &format!("/connect/begin?{query}")).await.expect(404);
    site.close().await;
}

#[tokio::test]
async fn only_a_tokens_origins_may_frame_its_page() {
    let site = with_cloud().await;
    let body = json!({ "external_user_id": "ann", "allowed_origins": ["https://shop.example"] });
    let framed = site.connect_token_with(body).await;
    let alone = site.connect_token("ann").await;
    let browser = Browser::default();
    for (token, ancestors) in
        [(&*framed, "frame-ancestors https://shop.example;"), (&*alone, "frame-ancestors 'none';")]
    {
        let page =
            browser.get(&site, &format!("/_static/connect.html?token={token}&app=cloud")).await;
        let policy = page.header("content-security-policy").unwrap().to_owned();
        assert!(policy.contains(ancestors), "{policy}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert!(page.header("x-frame-options").is_none());
    }
    site.close().await;
}

#[tokio::test]
async fn a_page_is_its_tokens_and_nobody_elses() {
    let site = with_cloud().await;
    let browser = Browser::default();
    let bobs = site.acme("bob").await;
    let anns = site.acme("ann").await;
    let bound = json!({ "external_user_id": "ann", "app_id": "acme" });
    let bound = site.connect_token_with(bound).await;
    let free = site.connect_token("ann").await;
    for (address, said) in [
        (page_of("ctok_none", "&app=acme"), "This link does not work"),
        (page_of("", ""), "This link does not work"),
        (page_of(&bound, "&app=other"), "This link is for another app"),
        (page_of(&free, "&app=nothing"), "There is no such app"),
        (page_of(&free, &format!("&accountId={bobs}")), "The account is not there any more"),
        (
            page_of(&free, &format!("&app=other&accountId={anns}")),
            "The account is not there any more",
        ),
        (page_of(&free, "&app=cloud&oauthAppId=oa_nothing"), "The cloud is not set up right"),
        (page_of(&free, "&app=slack&auth=nothing"), "My product wants to use Slack for you"),
        (page_of(&free, "&app=mist"), "The mist is not set up yet"),
        (page_of(&free, "&app=acme&appOverrideId=x"), "The acme is not set up right"),
    ] {
        assert_eq!(heading(&browser.get(&site, &address).await), said, "{address}");
    }
    let short = json!({ "external_user_id": "ann", "expires_in": 1 });
    let short = site.connect_token_with(short).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let page = browser.get(&site, &page_of(&short, "&app=acme")).await.expect(410);
    assert_eq!(heading(&page), "This link has expired");
    assert!(text(&page).contains("My product"), "it says who to ask");
    site.close().await;
}

#[tokio::test]
async fn reconnecting_keeps_the_account_and_its_identity() {
    let site = with_cloud().await;
    let browser = Browser::default();
    let token = site.connect_token("ann").await;
    let asked = begun(&site, &browser, &page_of(&token, "&app=cloud")).await;
    browser.get(&site, &back(&asked, "code=good")).await.expect(303);
    let id = accounts(&site, "ann").await[0]["id"].as_str().unwrap().to_owned();

    let token = site.connect_token("ann").await;
    let address = page_of(&token, &format!("&app=cloud&accountId={id}"));
    let asked = begun(&site, &browser, &address).await;
    let other = browser.get(&site, &back(&asked, "code=of-bob@acme.test")).await.expect(303);
    let end = browser.get(&site, &location(&other)).await;
    assert_eq!(heading(&end), "This is another account at The cloud");
    let asked = begun(&site, &browser, &address).await;
    let same = browser.get(&site, &back(&asked, "code=good")).await.expect(303);
    let end = browser.get(&site, &location(&same)).await;
    assert_eq!(heading(&end), "The cloud is connected");
    let all = accounts(&site, "ann").await;
    assert_eq!((all.len(), &all[0]["id"]), (1, &json!(id)));

    let keys = site.acme("ann").await;
    let token = site.connect_token("ann").await;
    let page =
        browser.get(&site, &page_of(&token, &format!("&accountId={keys}"))).await.expect(200);
    assert_eq!(heading(&page), "Connect The acme again");
    let form = filled(&page, &[("f.api_key", KEY)]);
    browser.post(&site, "/connect/keys", &form).await.expect(303);
    assert_eq!(accounts(&site, "ann").await.len(), 2);
    site.close().await;
}

#[tokio::test]
async fn hostile_names_are_text() {
    let site = with_cloud().await;
    let name = "\"><img src=x onerror=alert(1)>\u{202e}";
    let change = json!({ "app_name": name, "support_email": "a@b\"><script>" });
    let project = format!("/v1/connect/projects/{}", site.project.id);
    site.ask("PATCH", &project, Some(change)).await.expect(200);
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    let words = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    for more in ["&app=cloud", "&app=acme", "", &format!("&q={words}"), &format!("&app={words}")] {
        let page = browser.get(&site, &page_of(&token, more)).await;
        let shown = text(&page);
        assert!(!shown.contains("<img src=x") && !shown.contains("<script>"), "{more}: {shown}");
    }
    site.close().await;
}

#[tokio::test]
async fn apps_are_found_by_a_part_of_their_name() {
    let site = with_cloud().await;
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    let list = |words: &str| page_of(&token, &format!("&q={words}"));
    let found = text(&browser.get(&site, &list("acme")).await.expect(200));
    assert!(found.contains("The acme"));
    let found = text(&browser.get(&site, &list("mist")).await.expect(200));
    assert!(!found.contains("The mist"), "what nobody can connect is not offered");
    let found = text(&browser.get(&site, &page_of(&token, "&q=cloud")).await.expect(200));
    assert!(found.contains("The cloud") && !found.contains("The acme"));
    let none = text(&browser.get(&site, &page_of(&token, "&q=zzzz")).await.expect(200));
    assert!(none.contains("Nothing fits"));
    site.close().await;
}

#[tokio::test]
async fn a_person_may_leave_out_scopes_where_the_product_allows_it() {
    let site = with_cloud().await;
    let body = json!({ "external_user_id": "ann", "allow_progressive_scopes": true });
    let token = site.connect_token_with(body).await;
    let browser = Browser::default();
    let page = browser.get(&site, &page_of(&token, "&app=cloud")).await.expect(200);
    let form = filled(&page, &[("scope.files:read", "on"), ("scope.admin", "on")]);
    let off = browser.post(&site, "/connect/begin", &form).await.expect(303);
    let url = url::Url::parse(&location(&off)).unwrap();
    let scope = url.query_pairs().find(|(name, _)| name == "scope").unwrap().1.into_owned();
    assert_eq!(scope, "offline_access files:read");
    site.close().await;
}

#[tokio::test]
async fn one_token_cannot_try_keys_without_end() {
    let site = Site::start().await;
    let token = site.connect_token("ann").await;
    let browser = Browser::default();
    let page = browser.get(&site, &page_of(&token, "&app=acme")).await.expect(200);
    let form = filled(&page, &[("f.api_key", "wrong")]);
    let mut last = 0;
    for _ in 0..25 {
        last = browser.post(&site, "/connect/keys", &form).await.status;
    }
    assert_eq!(last, 429);
    site.close().await;
}
