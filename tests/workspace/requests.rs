//! The request builder: what is sent and shown, with whose account, and what is kept.

use std::time::Duration;

use countersign::vault::{Account, Member, Role, Share};

use crate::house::{House, expire, until};
use crate::site::API;
use crate::visitor::{Manner, Page, Visitor, member};

const SOON: Duration = Duration::from_secs(5);

async fn give(house: &House, account: &Account, to: &Member) {
    assert!(house.shop.vault().give_account(&account.id, Some(&to.id)).await.unwrap());
}

/// A house with a member who has an account.
async fn with_account() -> (House, Visitor, Member, Account) {
    let mut house = House::sqlite().await;
    house.start().await;
    let (ann, me) = member(&house, "ann@acme.test", Role::Member).await;
    let account = house.connect("team").await;
    give(&house, &account, &me).await;
    (house, ann, me, account)
}

async fn send(visitor: &mut Visitor, account: &Account, pairs: &[(&str, &str)]) -> Page {
    let mut all = vec![("account", account.id.as_str()), ("do", "send")];
    all.extend_from_slice(pairs);
    visitor.post("/requests", &all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_starts_from_the_test_request_sends_it_and_sees_the_answer() {
    let (house, mut ann, me, account) = with_account().await;
    let page = ann.get("/requests").await;
    assert!(page.has("value=\"/test\"") && page.has("Bearer ••••••••"), "{}", page.body);
    let page = send(&mut ann, &account, &[("path", "/test")]).await;
    assert!(page.status == 200 && page.has("200 OK") && page.has("it works"), "{}", page.body);
    assert!(page.has("upstream") && page.has("content-length"), "{}", page.body);

    let pairs = [
        ("method", "POST"),
        ("path", "json"),
        ("query.name", "a b"),
        ("query.value", "1&2"),
        ("query.name", ""),
        ("query.value", ""),
        ("header.name", "X-Note"),
        ("header.value", "it's"),
        ("header.name", "Authorization"),
        ("header.value", "Bearer mine-own"),
        ("body", "json"),
        ("json", "{\r\n  \"x\": 1\r\n}"),
    ];
    let page = send(&mut ann, &account, &pairs).await;
    assert!(
        page.has("<details open><summary>{") && page.has("12345678901234567890"),
        "{}",
        page.body
    );
    assert!(page.has("&lt;b&gt;") && !page.has("<b>"), "{}", page.body);
    let head = house.api.uses().last().unwrap().head.to_lowercase();
    assert!(head.starts_with("post /json?a%20b=1%262 http/1.1"), "{head}");
    assert!(head.contains("x-note: it's") && head.contains("content-length: 12"), "{head}");
    assert!(
        head.contains("content-type: application/json") && !head.contains("mine-own"),
        "{head}"
    );

    until("it is in the audit as hers", SOON, async || {
        let mut sent = house.audit("request").into_iter().filter(|line| line["door"] == "builder");
        sent.any(|line| {
            line["caller"] == me.id.as_str()
                && line["account"] == "team"
                && line["path"] == "/json"
                && line["bytes_in"] == 12
        })
    })
    .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_origin_answers_is_text_or_an_image_that_is_one() {
    let (house, mut ann, _, account) = with_account().await;
    for (path, shown) in [
        ("/html", "&#60;script&#62;alert(&#39;origin&#39;)"),
        ("/svg", "&#60;svg onload="),
        ("/fake.png", "&#60;script&#62;alert(&#39;png"),
        ("/png", "<img src=\"data:image/png;base64,"),
        ("/zip", "50 4b 03 04"),
        ("/big", "Only the first 1.0 MiB are shown."),
    ] {
        let page = send(&mut ann, &account, &[("path", path)]).await;
        assert!(page.status == 200 && page.has(shown), "{path}: {}", page.body);
        assert!(!page.has("<script>") && !page.has("<svg"), "{path}: {}", page.body);
        assert!(page.body.len() < 2 * 1024 * 1024, "{path}");
    }
    // An origin that repeats the credential tells nobody.
    let page = send(&mut ann, &account, &[("path", "/echo")]).await;
    let token = house.api.uses().last().unwrap().token.clone();
    assert!(token.len() > 8 && !page.has(&token), "{}", page.body);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_goes_to_the_accounts_own_hosts_and_follows_no_redirect() {
    let (house, mut ann, _, account) = with_account().await;
    let before = house.api.uses().len();
    for path in
        ["https://evil.test/x", "https://api.vendor.test/x", "//evil.test", "https://127.0.0.1/"]
    {
        let page = send(&mut ann, &account, &[("path", path)]).await;
        assert!(page.status == 422 && page.has("role=\"alert\""), "{path}: {}", page.body);
    }
    for (name, value) in [("Host", "evil.test"), ("Countersign-Account", "other"), ("Proxy-X", "1")]
    {
        let pairs = [("path", "/json"), ("header.name", name), ("header.value", value)];
        assert_eq!(send(&mut ann, &account, &pairs).await.status, 422, "{name}");
    }
    assert_eq!(house.api.uses().len(), before, "nothing was sent");

    let page = send(&mut ann, &account, &[("path", "/redirect")]).await;
    assert!(page.has("302 Found") && page.has("https://evil.test/steal"), "{}", page.body);
    assert_eq!(house.api.uses().len(), before + 1);
    let pairs = [
        ("account", account.id.as_str()),
        ("do", "follow"),
        ("location", "https://evil.test/steal"),
    ];
    let page = ann.post("/requests", &pairs).await;
    assert!(page.has("value=\"https://evil.test/steal\""), "{}", page.body);
    assert_eq!(house.api.uses().len(), before + 1, "filled in, not sent");

    // What countersign itself refuses says how to mend it.
    let page = send(&mut ann, &account, &[("method", "TRACE"), ("path", "/json")]).await;
    assert!(page.has("405") && page.has("echo the credential"), "{}", page.body);
    let page =
        send(&mut ann, &account, &[("body", "json"), ("json", "{"), ("path", "/json")]).await;
    assert!(page.status == 422 && page.has("not JSON"), "{}", page.body);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_accounts_that_a_member_may_use_are_offered_and_taken() {
    let (house, mut ann, me, account) = with_account().await;
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Member).await;
    let (mut eve, _) = member(&house, "eve@acme.test", Role::Admin).await;
    let before = house.api.uses().len();
    assert!(ben.get("/requests").await.has("No account that you may use"));
    assert_eq!(send(&mut ben, &account, &[("path", "/json")]).await.status, 404);
    // An admin sees it, and may not use it.
    let page = send(&mut eve, &account, &[("path", "/json")]).await;
    assert!(page.status == 403 && page.has("not shared with you"), "{}", page.body);
    assert_eq!(house.api.uses().len(), before);

    let vault = house.shop.vault();
    vault.share(&account.id, &Share::Workspace, Some(&me.id)).await.unwrap();
    assert!(send(&mut ben, &account, &[("path", "/json")]).await.has("200 OK"));
    vault.unshare(&account.id, &Share::Workspace).await.unwrap();
    assert_eq!(send(&mut ben, &account, &[("path", "/json")]).await.status, 404);
    assert!(send(&mut ann, &account, &[("path", "/json")]).await.has("200 OK"));

    let manner = Manner { fields: &[("Sec-Fetch-Site", "same-origin")], csrf: Some("wrong") };
    let pairs = [("account", account.id.as_str()), ("path", "/json"), ("do", "send")];
    let uses = house.api.uses().len();
    assert_eq!(ann.post_as("/requests", &pairs, manner).await.status, 403);
    let manner = Manner { fields: &[("Sec-Fetch-Site", "cross-site")], csrf: None };
    assert_eq!(ann.post_as("/requests", &pairs, manner).await.status, 403);
    assert_eq!(house.api.uses().len(), uses, "a forged form sends nothing");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_needs_reconnecting_says_so_where_its_owner_can_do_it() {
    let (house, mut ann, _, account) = with_account().await;
    expire(&house, &account).await;
    house.provider.kill_all();
    let mut last = String::new();
    for _ in 0..50 {
        last = send(&mut ann, &account, &[("path", "/json")]).await.body;
        if last.contains("424 ") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(last.contains(&format!("href=\"/accounts/{}/reconnect\"", account.id)), "{last}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_added_and_removed_and_commands_imported_without_scripts() {
    let (house, mut ann, _, account) = with_account().await;
    let account_id = account.id.as_str();
    let pairs = [
        ("account", account_id),
        ("do", "add-header"),
        ("path", "/x"),
        ("header.name", "A"),
        ("header.value", "1"),
        ("header.name", "B"),
        ("header.value", "2"),
    ];
    let page = ann.post("/requests", &pairs).await;
    assert_eq!(page.body.matches("name=\"header.name\"").count(), 3, "{}", page.body);
    let mut pairs = pairs;
    pairs[1] = ("do", "drop-header-0");
    let page = ann.post("/requests", &pairs).await;
    assert_eq!(page.body.matches("name=\"header.name\"").count(), 1);
    assert!(page.has("value=\"B\"") && page.has("value=\"/x\""), "{}", page.body);

    let curl = format!(
        "curl -X PATCH 'https://{API}/items/1?page=2&api_key=hunter2' \\\n -H 'Authorization: \
         Bearer hunter2' -H 'X-Version: 3' --json '{{\"a\": 1}}'"
    );
    let page = ann.post("/requests", &[("do", "import"), ("curl", &curl)]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    for shown in
        ["value=\"/items/1\"", "value=\"page\"", "value=\"X-Version\"", "<option selected>PATCH"]
    {
        assert!(page.has(shown), "{shown}: {}", page.body);
    }
    assert!(page.has("Left out the header Authorization") && !page.has("hunter2"), "{}", page.body);
    let page =
        ann.post("/requests", &[("do", "import"), ("curl", "curl https://nobody.test/x")]).await;
    assert!(page.status == 422 && page.has("No account that you may use reaches"), "{}", page.body);

    let pairs =
        [("account", account_id), ("do", "code"), ("path", "/json?x=it's"), ("method", "PUT")];
    let page = ann.post("/requests", &pairs).await;
    for shown in ["curl -X PUT", "import requests", "await fetch(", "countersign-account"] {
        assert!(page.has(shown), "{shown}: {}", page.body);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_request_is_its_members_own_and_sealed() {
    let (house, mut ann, me, account) = with_account().await;
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Owner).await;
    let hostile = "<img src=x onerror=alert(1)>";
    let pairs = [
        ("account", account.id.as_str()),
        ("do", "save"),
        ("name", hostile),
        ("path", "/json"),
        ("method", "POST"),
        ("body", "text"),
        ("text", "a-body-that-nobody-else-reads"),
    ];
    let page = ann.post("/requests", &pairs).await;
    assert_eq!(page.status, 303, "{}", page.body);
    let open = page.location().to_owned();
    let page = ann.get(&open).await;
    assert!(
        page.has("a-body-that-nobody-else-reads") && page.has("value=\"/json\""),
        "{}",
        page.body
    );
    assert!(page.has("&#60;img") && !page.has("<img"), "{}", page.body);
    assert_eq!(ben.get(&open).await.status, 404);
    let id = open.split('=').next_back().unwrap().to_owned();
    assert_eq!(ben.post(&format!("/requests/saved/{id}/delete"), &[]).await.status, 404);
    assert_eq!(
        ben.post(&format!("/requests/saved/{id}/rename"), &[("name", "x")]).await.status,
        404
    );

    let mut again = pairs.to_vec();
    again[2] = ("name", "");
    assert!(ann.post("/requests", &again).await.has("Give the request a name"));
    (again[2], again[3]) = (("name", "Orders"), ("path", "/other"));
    again.push(("open", &id));
    assert_eq!(ann.post("/requests", &again).await.location(), open);
    assert!(ann.get("/requests/saved").await.has("Orders"));
    assert!(ann.get(&open).await.has("value=\"/other\""));
    let page = ann.post(&format!("/requests/saved/{id}/rename"), &[("name", "Invoices")]).await;
    assert_eq!(page.location(), "/requests/saved");
    assert!(ann.get("/requests/saved?q=inv").await.has("Invoices"));

    let data = std::fs::read_dir(house.site.path("data")).unwrap();
    for file in data.filter_map(|file| std::fs::read(file.unwrap().path()).ok()) {
        let needle = b"a-body-that-nobody-else-reads";
        assert!(!file.windows(needle.len()).any(|part| part == needle), "it is readable");
    }
    assert!(ann.get(&format!("/requests/saved/{id}/delete")).await.has("Delete Invoices?"));
    ann.post(&format!("/requests/saved/{id}/delete"), &[]).await;
    assert!(house.shop.vault().saved_requests(&me.id).await.unwrap().is_empty());
    assert_eq!(ann.get(&open).await.status, 404);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_where_the_member_says_so_and_never_to_another_host() {
    let (house, mut ann, _, account) = with_account().await;
    let before = house.api.uses().len();
    let page = send(&mut ann, &account, &[("path", "/moved")]).await;
    assert!(page.has("302 Found") && page.has("unless you say so"), "{}", page.body);
    assert_eq!(house.api.uses().len(), before + 1);
    let page = send(&mut ann, &account, &[("path", "/moved"), ("follow", "yes")]).await;
    assert!(page.has("12345678901234567890") && page.has("that were followed"), "{}", page.body);
    let last = house.api.uses().last().unwrap().clone();
    assert!(last.head.starts_with("GET /json ") && last.status == 200, "signed anew: {last:?}");
    let before = house.api.uses().len();
    let page = send(&mut ann, &account, &[("path", "/redirect"), ("follow", "yes")]).await;
    assert!(page.has("https://evil.test/steal") && page.has("may not go there"), "{}", page.body);
    assert_eq!(house.api.uses().len(), before + 1);
    // A body that has gone does not go again.
    let pairs =
        [("method", "PUT"), ("path", "/moved"), ("follow", "yes"), ("body", "text"), ("text", "x")];
    assert!(send(&mut ann, &account, &pairs).await.has("302 Found"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_sent_as_a_multipart_form_and_not_kept() {
    let (house, mut ann, me, account) = with_account().await;
    let pairs = [
        ("account", account.id.as_str()),
        ("do", "send"),
        ("method", "POST"),
        ("path", "/json"),
        ("body", "multipart"),
        ("part.name", "title"),
        ("part.value", "Q3"),
        ("file.name", "document"),
        ("file.was", ""),
    ];
    let page = ann.post_file("/requests", &pairs, ("file", "r.pdf", "%PDF-secret")).await;
    assert!(page.status == 200 && page.has("200 OK"), "{}", page.body);
    let head = house.api.uses().last().unwrap().head.to_lowercase();
    assert!(head.contains("content-type: multipart/form-data; boundary=countersign-"), "{head}");
    assert!(page.has("Choose r.pdf again") && !page.has("%PDF-secret"), "{}", page.body);
    assert!(page.has("document=@r.pdf") && page.has("openAsBlob"), "{}", page.body);

    let mut again = pairs.to_vec();
    again[8] = ("file.was", "r.pdf");
    let page = ann.post("/requests", &again).await;
    assert!(page.status == 422 && page.has("files are not kept"), "{}", page.body);
    again[1] = ("do", "save");
    again.push(("name", "with a file"));
    assert_eq!(
        ann.post_file("/requests", &again, ("file", "r.pdf", "%PDF-secret")).await.status,
        303
    );
    let kept = house.shop.vault().saved_requests(&me.id).await.unwrap().remove(0);
    let (_, request) = house.shop.vault().saved_request(&me.id, &kept.id).await.unwrap().unwrap();
    assert!(request.expose().contains("r.pdf") && !request.expose().contains("%PDF"));

    // Nobody who is not logged in gets a file read; a form that is forged is refused.
    let mut stranger = Visitor::new(&house);
    let page = stranger.post_file("/requests", &pairs, ("file", "r.pdf", "x")).await;
    assert!((400..=403).contains(&page.status), "{page:?}");
    let before = house.api.uses().len();
    let long = "x".repeat(5 * 1024 * 1024);
    let page = ann.post_file("/requests", &pairs, ("file", "r.pdf", &long)).await;
    assert_eq!((page.status, house.api.uses().len()), (400, before));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_the_configuration_are_for_those_who_look_after_the_workspace() {
    let sections =
        "[accounts.shop-key]\napp = \"vendor\"\nsecrets = { api_key = { file = \"key\" } }\n";
    let mut house = House::sqlite_and(sections, "").await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Admin).await;
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Member).await;
    let page = ann.get("/requests").await;
    assert!(page.has("shop-key") && page.has("in the configuration"), "{}", page.body);
    assert!(!page.has(crate::site::KEY));
    let id = page.body.split("<option value=\"apn_").nth(1).unwrap().split('"').next().unwrap();
    let id = format!("apn_{id}");
    let pairs = [("account", &*id), ("do", "send"), ("path", "/json")];
    let page = ann.post("/requests", &pairs).await;
    assert!(page.has("200 OK") && !page.has(crate::site::KEY), "{}", page.body);
    assert_eq!(house.api.uses().last().unwrap().token, crate::site::KEY);
    assert!(!ben.get("/requests").await.has("shop-key"));
    let before = house.api.uses().len();
    assert_eq!(ben.post("/requests", &pairs).await.status, 404);
    assert_eq!(house.api.uses().len(), before);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn among_many_accounts_those_that_fit_are_offered() {
    let (house, mut ann, me, account) = with_account().await;
    for at in 0..14 {
        give(&house, &house.connect(&format!("extra-{at:02}")).await, &me).await;
    }
    let page = ann.get("/requests").await;
    assert!(page.has("Find among 15 accounts") && page.has("extra-13"), "{}", page.body);
    let pairs = [("account", account.id.as_str()), ("do", "find"), ("find", "extra-07")];
    let page = ann.post("/requests", &pairs).await;
    assert!(page.has("extra-07") && page.has(">team") && !page.has("extra-08"), "{}", page.body);
    house.close().await;
}
