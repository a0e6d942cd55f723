//! The pages *Callers*: making, changing and ending them, and who may.

use std::time::Duration;

use countersign::ids::CallerId;
use countersign::vault::{Account, Member, Role, Share};

use crate::client::{basic, connect};
use crate::house::{House, until};
use crate::site::API;
use crate::visitor::{Page, Visitor, member, until_known};

const SOON: Duration = Duration::from_secs(5);

async fn give(house: &House, account: &Account, to: &Member) {
    assert!(house.shop.vault().give_account(&account.id, Some(&to.id)).await.unwrap());
}

fn token_of(page: &Page) -> String {
    assert_eq!(page.status, 200, "{}", page.body);
    let (_, rest) = page.body.split_once("id=\"token\">").expect("a token");
    rest.split_once('<').unwrap().0.to_owned()
}

fn as_of(page: &Page) -> String {
    page.value_of("as_of").expect("a list of rules").to_owned()
}

async fn try_it(visitor: &mut Visitor, caller: &str, method: &str, url: &str) -> Page {
    let pairs = [("method", method), ("url", url)];
    let page = visitor.post(&format!("/callers/{caller}/try"), &pairs).await;
    assert_eq!(page.status, 200, "{}", page.body);
    page
}

/// A change of rules is in force within a second.
async fn until_tried(visitor: &mut Visitor, (method, url): (&str, &str), said: &str) {
    let began = std::time::Instant::now();
    loop {
        let page = try_it(visitor, "flow", method, url).await;
        if page.has(said) {
            return;
        }
        assert!(began.elapsed() < SOON, "never: {said}: {}", page.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_made_used_narrowed_rotated_and_revoked_on_its_pages() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, me) = member(&house, "ann@acme.test", Role::Member).await;
    let account = house.connect("mine").await;
    give(&house, &account, &me).await;

    assert!(ann.get("/callers").await.has("No callers yet"));
    let form = [
        ("name", "flow"),
        ("description", "a <b>test</b>"),
        ("account", account.id.as_str()),
        ("rate", "50/100"),
        ("lifetime", "30d"),
    ];
    let page = ann.post("/callers/~new", &form).await;
    let token = token_of(&page);
    let proxy = format!("http://flow:{token}@{}", house.site.proxy());
    assert_eq!(page.body.matches(&proxy).count(), 10, "in every way to use it: {}", page.body);
    assert!(page.field("cache-control").is_some_and(|value| value == "no-store"));
    assert!(!ann.get("/callers/flow").await.has(&token), "shown once");
    let again = ann.post("/callers/~new", &form).await;
    assert!(again.status == 422 && again.has("a caller called flow already"), "{}", again.body);

    let flow = basic("flow", &token);
    until_known(&house, &flow).await;
    until("it may", SOON, async || house.get(&flow, "/v1/a").await.status == 200).await;
    let page = ann.get("/callers").await;
    assert!(page.has("flow") && page.has("mine") && page.has("a &#60;b&#62;test"), "{}", page.body);
    let page = ann.get("/callers/flow").await;
    assert!(page.has(&format!("{API}/v1/a")) && page.has("50/100"), "{}", page.body);

    // A rule that denies, and the question whether something would be allowed.
    let pairs = [("effect", "deny"), ("methods", "DELETE"), ("paths", "no-slash")];
    let page = ann.post("/callers/flow/rules/~new", &pairs).await;
    assert!(page.status == 422 && page.has("a path starts with"), "{}", page.body);
    let seen = as_of(&page);
    let pairs = [("effect", "deny"), ("methods", "DELETE"), ("paths", "/v1/**"), ("as_of", &seen)];
    let page = ann.post("/callers/flow/rules/~new", &pairs).await;
    assert_eq!(page.location(), "/callers/flow#rules", "{}", page.body);
    let stale = ann.post("/callers/flow/rules/~new", &pairs).await;
    assert!(stale.status == 400 && stale.has("changed meanwhile"), "{}", stale.body);
    let url = format!("https://{API}/v1/a");
    until_tried(&mut ann, ("DELETE", &url), "Rule 2 denies it").await;
    assert!(try_it(&mut ann, "flow", "GET", &url).await.has("Rule 1 allows it"));
    assert!(
        try_it(&mut ann, "flow", "GET", "https://example.test/").await.has("Passed on untouched")
    );
    assert!(try_it(&mut ann, "flow", "GET", "ftp://x/").await.has("only http and https"));
    // The same with a rule that is not saved yet.
    let draft = [("draft", "~new"), ("effect", "deny"), ("method", "GET"), ("url", &url)];
    assert!(ann.post("/callers/flow/try", &draft).await.has("Rule 3 denies it"));

    // Up, and away.
    let page = ann.get("/callers/flow").await;
    let pairs = [("to", "up"), ("as_of", &as_of(&page))];
    assert_eq!(ann.post("/callers/flow/rules/1/move", &pairs).await.status, 303);
    until_tried(&mut ann, ("DELETE", &url), "Rule 1 denies it").await;
    let pairs = [("as_of", &*as_of(&ann.get("/callers/flow").await))];
    assert_eq!(ann.post("/callers/flow/rules/0/remove", &pairs).await.status, 303);

    // The least that it needs, from what it did.
    let page = ann.get("/callers/flow/suggest").await;
    assert!(page.has("/v1/a") && page.has("GET"), "{}", page.body);
    let (as_seen, seen) = (as_of(&page), page.value_of("seen").unwrap().to_owned());
    let pairs = [("as_of", &*as_seen), ("seen", "other"), ("days", "30")];
    assert_eq!(ann.post("/callers/flow/suggest", &pairs).await.status, 400);
    let pairs = [("as_of", &*as_seen), ("seen", &seen), ("days", "30")];
    assert_eq!(ann.post("/callers/flow/suggest", &pairs).await.status, 303);
    until("it is narrow", SOON, async || house.get(&flow, "/v1/b").await.status == 403).await;
    assert_eq!(house.get(&flow, "/v1/a").await.status, 200);

    // Report mode lets through, and the page says what it would have denied.
    let pairs = [("report", "yes"), ("lifetime", "keep"), ("rate", "x")];
    assert_eq!(ann.post("/callers/flow/edit", &pairs).await.status, 422);
    assert_eq!(
        ann.post("/callers/flow/edit", &[("report", "yes"), ("lifetime", "keep")]).await.status,
        303
    );
    until("it reports", SOON, async || house.get(&flow, "/v1/c").await.status == 200).await;
    let page = ann.get("/callers/flow").await;
    assert!(page.has("no rule allows it") && page.has("Allow it…"), "{}", page.body);

    let page = ann.post("/callers/flow/rotate", &[("overlap", "")]).await;
    let renewed = basic("flow", &token_of(&page));
    until_known(&house, &renewed).await;
    until("the new one works", SOON, async || house.get(&renewed, "/v1/a").await.status == 200)
        .await;
    let (_, old) = connect(&house.site, &format!("{API}:443"), &flow).await;
    assert_eq!(old.status, 407, "{}", old.head);

    let page = ann.get("/callers/flow/revoke").await;
    assert!(page.has("What stops working") && page.has("with mine"), "{}", page.body);
    assert_eq!(ann.post("/callers/flow/revoke", &[]).await.location(), "/callers");
    assert_eq!(ann.get("/callers/flow").await.status, 404);
    until("everything is in the audit", SOON, async || {
        let lines = house.audit("administered");
        let told: Vec<&str> = lines.iter().filter_map(|line| line["what"].as_str()).collect();
        ["caller_added", "account_bound", "caller_rules_changed", "caller_changed"]
            .iter()
            .chain(&["caller_token_rotated", "caller_revoked"])
            .all(|what| told.contains(what))
    })
    .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_use_an_account_sees_that_there_is_one_and_may_swap_in_their_own() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, owner) = member(&house, "ann@acme.test", Role::Member).await;
    let (mut ben, other) = member(&house, "ben@acme.test", Role::Member).await;
    let (mut eve, _) = member(&house, "eve@acme.test", Role::Admin).await;
    let private = house.connect("annsecret").await;
    give(&house, &private, &owner).await;
    let page =
        ann.post("/callers/~new", &[("name", "flow"), ("account", private.id.as_str())]).await;
    let flow = basic("flow", &token_of(&page));
    until_known(&house, &flow).await;
    until("it may", SOON, async || house.get(&flow, "/v1/hidden").await.status == 200).await;

    let page = ben.get("/callers/flow").await;
    assert!(page.status == 200 && page.has("An account of Acme"), "{}", page.body);
    assert!(!page.has("annsecret") && !page.has("/v1/hidden"), "{}", page.body);
    assert!(!ben.get("/callers").await.has("annsecret"));
    let page = try_it(&mut ben, "flow", "GET", &format!("https://{API}/v1/a")).await;
    assert!(page.has("Allowed") && !page.has("annsecret"), "{}", page.body);
    for path in ["edit", "rotate", "bind", "rules/~new", "rules/0", "suggest", "revoke"] {
        let path = format!("/callers/flow/{path}");
        assert_eq!(ben.get(&path).await.status, 403, "{path}");
        let answer = ben.post(&path, &[("account", private.id.as_str())]).await;
        assert!(answer.status == 403 && !answer.has("annsecret"), "{path}: {}", answer.body);
    }
    for path in [format!("unbind/{}", private.id), format!("bindings/{}", private.id)] {
        assert_eq!(ben.post(&format!("/callers/flow/{path}"), &[]).await.status, 403, "{path}");
    }
    // An admin sees it, may end the caller, and not change it.
    assert!(eve.get("/callers/flow").await.has("annsecret"));
    assert_eq!(eve.get("/callers/flow/rotate").await.status, 403);
    assert_eq!(eve.get("/callers/flow/revoke").await.status, 200);
    // Nobody binds what is not theirs to use.
    let page =
        ben.post("/callers/~new", &[("name", "mine"), ("account", private.id.as_str())]).await;
    assert!(page.status == 422 && page.has("not yours to use"), "{}", page.body);

    let own = house.connect("bens").await;
    give(&house, &own, &other).await;
    let swap = format!("/callers/flow/swap/{}", private.id);
    let page = ben.get(&swap).await;
    assert!(page.has("bens") && !page.has("annsecret"), "{}", page.body);
    assert_eq!(ben.post(&swap, &[("account", private.id.as_str())]).await.status, 422);
    assert_eq!(ben.post(&swap, &[("account", own.id.as_str())]).await.status, 303);
    let caller: CallerId = "flow".parse().unwrap();
    let stored = house.shop.vault().caller(&caller).await.unwrap().unwrap();
    assert!(stored.details.rules.contains(own.id.as_str()), "{}", stored.details.rules);
    assert!(!stored.details.rules.contains(private.id.as_str()), "{}", stored.details.rules);
    until("it uses the other", SOON, async || {
        house.get_as(&flow, "bens").await.status == 200
            && house.get_as(&flow, "annsecret").await.status != 200
    })
    .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_bound_shared_and_taken_away_and_shared_ones_may_be_changed_by_all() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, owner) = member(&house, "ann@acme.test", Role::Member).await;
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Member).await;
    let (first, second) = (house.connect("first").await, house.connect("second").await);
    for account in [&first, &second] {
        give(&house, account, &owner).await;
        let vault = house.shop.vault();
        vault.share(&account.id, &Share::Workspace, Some(&owner.id)).await.unwrap();
    }
    let page = ann.post("/callers/~new", &[("name", "flow"), ("account", first.id.as_str())]).await;
    let flow = basic("flow", &token_of(&page));
    until_known(&house, &flow).await;
    let pairs = [("account", second.id.as_str()), ("allow", "GET /v1/**"), ("paths", "bad")];
    assert_eq!(ben.post("/callers/flow/bind", &pairs).await.status, 422);
    let pairs = [("account", second.id.as_str()), ("allow", "GET /v1/**\n\nHEAD")];
    assert_eq!(ben.post("/callers/flow/bind", &pairs).await.status, 303);
    until("nothing tells them apart", SOON, async || house.get(&flow, "/v1/a").await.status == 409)
        .await;
    let path = format!("/callers/flow/bindings/{}", second.id);
    assert_eq!(ben.post(&path, &[("default", "yes"), ("paths", "/v1/b")]).await.status, 303);
    until("the default is taken", SOON, async || house.get(&flow, "/v1/a").await.status == 200)
        .await;
    assert!(ann.get("/callers/flow").await.has("Default"));
    let path = format!("/callers/flow/unbind/{}", second.id);
    assert!(ann.get(&path).await.has("What stops working"));
    assert_eq!(ann.post(&path, &[]).await.status, 303);
    let caller: CallerId = "flow".parse().unwrap();
    let stored = house.shop.vault().caller(&caller).await.unwrap().unwrap();
    assert!(!stored.details.rules.contains(second.id.as_str()), "{}", stored.details.rules);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_caller_is_shown_with_its_place_and_not_changed() {
    let declared = "fixed";
    let section =
        crate::site::caller(declared, crate::site::TOKEN, "rules = [{ effect = \"allow\" }]");
    let mut house = House::sqlite_and(&section, "").await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    let page = ann.get(&format!("/callers/{declared}")).await;
    assert!(page.has("is declared in") && page.has("countersign.toml"), "{}", page.body);
    assert!(!page.has("Rotate token") && !page.has("Add a rule"), "{}", page.body);
    for path in ["edit", "rotate", "revoke", "bind", "rules/~new"] {
        let page = ann.get(&format!("/callers/{declared}/{path}")).await;
        assert!(page.status == 403 && page.has("declared in the configuration"), "{path}");
    }
    let page = ann.post("/callers/~new", &[("name", declared)]).await;
    assert!(page.status == 422 && page.has("already"), "{}", page.body);
    assert_eq!(ann.get("/callers/nobody").await.status, 404);
    house.close().await;
}

/// A member at Chromium.
async fn browse(house: &House, arguments: &[&str]) -> serde_json::Value {
    let base = format!("http://127.0.0.1:{}", house.site.ports.web);
    let clients = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let output = tokio::process::Command::new("node")
        .current_dir(clients)
        .args(["callers.mjs", &base, "ann@acme.test", crate::visitor::PASSWORD])
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {shown}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["problems"], serde_json::json!([]), "{arguments:?}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_browser_a_caller_is_made_its_token_used_by_curl_and_the_request_found() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (_, me) = member(&house, "ann@acme.test", Role::Owner).await;
    let account = house.connect("mine").await;
    give(&house, &account, &me).await;
    let url = format!("https://{API}/v1/orders");
    let made = browse(&house, &["create", "mine", &url]).await;
    assert_eq!(made["verdict"], "Allowed", "{made}");
    let token = made["token"].as_str().unwrap();
    let ca = house.site.path("ca-of-test.pem");
    std::fs::write(&ca, house.site.ca_pem().await).unwrap();
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "--fail", "-x", &format!("http://browsed:{token}@{}", house.site.proxy())])
        .arg("--cacert")
        .arg(&ca)
        .arg(&url)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = browse(&house, &["find", "/v1/orders"]).await;
    let case = found["text"].as_str().unwrap();
    assert!(case.contains("[[case]]") && case.contains(&url), "{case}");
    if let Ok(folder) = std::env::var("COUNTERSIGN_SHOTS") {
        let pages =
            ["/callers", "/callers/~new", "/callers/browsed", "/callers/browsed/rules/~new"];
        let more = ["/callers/browsed/suggest", "/activity", "/activity/7", "/activity/verify"];
        browse(&house, &[&["shots", &*folder], &pages[..], &more[..]].concat()).await;
    }
    house.close().await;
}
