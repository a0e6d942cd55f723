//! The page *Activity*: who sees what, filters, one entry whole, and the proof of the chain.

use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use countersign::vault::Role;

use crate::house::{House, until};
use crate::site::API;
use crate::visitor::{Page, member, until_known, until_said};

const SOON: Duration = Duration::from_secs(5);

fn entries(page: &Page) -> Vec<u64> {
    assert_eq!(page.status, 200, "{}", page.body);
    let links = page.body.split("<td class=\"when\"><a href=\"/activity/").skip(1);
    links.map(|rest| rest.split_once('"').unwrap().0.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_found_by_its_filters_and_only_by_those_whom_it_concerns() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    let (mut ben, bens) = member(&house, "ben@acme.test", Role::Member).await;
    let (secret, open) = (house.connect("secret").await, house.connect("bens").await);
    house.shop.vault().give_account(&open.id, Some(&bens.id)).await.unwrap();
    let flow = house.caller("flow", &[&secret]).await;
    let other = house.caller("other", &[&open]).await;
    until_known(&house, &other).await;
    until("flow may", SOON, async || house.get(&flow, "/v1/%3Cimg%20src=x%3E").await.status == 200)
        .await;
    until("other may", SOON, async || house.get(&other, "/v1/open").await.status == 200).await;

    let all = ann.get("/activity").await;
    assert!(all.has("/v1/%3Cimg") && all.has("/v1/open") && !all.has("<img"), "{}", all.body);
    let seen = entries(&all);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first: {seen:?}");
    let theirs = ben.get("/activity").await;
    assert!(theirs.has("/v1/open") && !theirs.has("/v1/%3Cimg"), "{}", theirs.body);
    for hidden in ["caller=flow", "account=secret", "q=img", "kind=server_started"] {
        assert!(entries(&ben.get(&format!("/activity?{hidden}")).await).is_empty(), "{hidden}");
    }
    for (filter, there, not) in [
        ("caller=other", "/v1/open", "/v1/%3Cimg"),
        ("account=secret", "/v1/%3Cimg", "/v1/open"),
        ("app=acme&outcome=authenticated&method=get&q=OPEN", "/v1/open", "/v1/%3Cimg"),
        ("kind=administered&q=joined", "Member joined", "/v1/open"),
        ("from=2000-01-01T00:00&to=2100-01-01T00:00&caller=other", "/v1/open", "/v1/%3Cimg"),
    ] {
        let page = ann.get(&format!("/activity?{filter}")).await;
        assert!(page.has(there) && !page.has(not), "{filter}: {}", page.body);
    }
    assert!(entries(&ann.get("/activity?to=2000-01-01T00:00").await).is_empty());
    assert!(ann.get("/activity?from=yesterday").await.has("A moment is written as"));
    let strange = ann.get("/activity?caller=%22%3E%3Cscript%3E&q=%3Cscript%3E").await;
    assert!(entries(&strange).is_empty() && !strange.has("<script>"), "{}", strange.body);

    // One entry, whole, and as a test of the policy.
    let seq =
        entries(&ann.get("/activity?caller=flow&kind=request&outcome=authenticated").await)[0];
    let page = ann.get(&format!("/activity/{seq}")).await;
    for part in [
        "[[case]]",
        "expect = &#34;allow&#34;",
        "account = &#34;secret&#34;",
        "The hash is that of these bytes",
    ] {
        assert!(page.has(part), "{part}: {}", page.body);
    }
    assert_eq!(ben.get(&format!("/activity/{seq}")).await.status, 404, "not theirs to see");
    for none in ["0", "99999999", "x", "1x"] {
        assert_eq!(ann.get(&format!("/activity/{none}")).await.status, 404, "{none}");
    }
    let (_, rest) = page.body.split_once("id=\"case-text\" tabindex=\"0\">").unwrap();
    let case = rest.split_once("</pre>").unwrap().0.replace("&#34;", "\"").replace("&#39;", "'");
    assert!(case.contains(&format!("https://{API}/")), "{case}");
    house.site.write("case.toml", &case);
    let (file, config) = (house.site.path("case.toml"), house.site.path("countersign.toml"));
    let tested = house
        .site
        .run(&["--config", config.to_str().unwrap(), "policy", "test", file.to_str().unwrap()])
        .await;
    let said = String::from_utf8_lossy(&tested.stdout).into_owned();
    assert!(said.contains("1 cases, 0 failed"), "{said}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nickname_that_is_used_again_shows_nobody_what_another_account_did() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    let (mut ben, bens) = member(&house, "ben@acme.test", Role::Member).await;
    let (theirs, own) = (house.connect("team").await, house.connect("own").await);
    house.shop.vault().give_account(&own.id, Some(&bens.id)).await.unwrap();
    let flow = house.caller("flow", &[&theirs]).await;
    let mine = house.caller("mine", &[&own]).await;
    for (caller, path) in [(&flow, "/v1/theirs"), (&mine, "/v1/own")] {
        until_known(&house, caller).await;
        until("it may", SOON, async || house.get(caller, path).await.status == 200).await;
    }
    // The account of others, which worked while there was ben's, hands its name over to it.
    for (account, name) in [(&theirs, "gone"), (&own, "team")] {
        let name = name.parse().unwrap();
        assert!(house.shop.vault().rename_account(&account.id, &name).await.is_ok());
    }
    let page = ben.get("/activity").await;
    assert!(page.has("/v1/own") && !page.has("/v1/theirs"), "{}", page.body);
    assert!(entries(&ben.get("/activity?account=team").await).is_empty());
    let all = ann.get("/activity?account=team").await;
    assert!(all.has("/v1/theirs"), "{}", all.body);
    for seq in entries(&all) {
        assert_eq!(ben.get(&format!("/activity/{seq}")).await.status, 404);
    }
    let page = ann.get(&format!("/activity?account_id={}", own.id)).await;
    assert!(page.has("/v1/own") && !page.has("/v1/theirs"), "{}", page.body);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_many_entries_follow_each_other() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    let account = house.connect("mine").await;
    let flow = house.caller("flow", &[&account]).await;
    until_known(&house, &flow).await;
    until("it may", SOON, async || house.get(&flow, "/").await.status == 200).await;
    let mut tunnel = house.tunnel(&flow).await;
    for at in 0..120 {
        assert_eq!(crate::house::get_on(&mut tunnel, &format!("/v1/{at}")).await.status, 200);
    }
    drop(tunnel);
    let (mut seen, mut path) = (Vec::new(), "/activity?caller=flow&kind=request".to_owned());
    loop {
        let page = ann.get(&path).await;
        seen.extend(entries(&page));
        let Some((_, rest)) = page.body.split_once("rel=\"next\" href=\"") else { break };
        path = rest.split_once('"').unwrap().0.replace("&#38;", "&");
    }
    let mut distinct = seen.clone();
    distinct.dedup();
    assert!(seen.len() >= 121 && distinct == seen && seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_is_checked_from_the_page_and_a_forged_line_is_found() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Admin).await;
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Member).await;
    assert!(ann.get("/activity").await.has("Not checked yet"));
    assert_eq!(ben.get("/activity/verify").await.status, 403);
    assert_eq!(ben.post("/activity/verify", &[]).await.status, 403);
    assert_eq!(ann.post("/activity/verify", &[]).await.status, 303);
    until_said(&mut ann, "/activity/verify", &["Chain intact"]).await;

    let file = house.site.path("data/audit.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let at = text.find("\"subject\":\"ann").unwrap() as u64 + 11;
    // In its place: the server goes on writing at the end.
    let forge = |name: &[u8]| {
        std::fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .unwrap()
            .write_all_at(name, at)
            .unwrap();
    };
    forge(b"eve");
    assert_eq!(ann.post("/activity/verify", &[]).await.status, 303);
    until_said(&mut ann, "/activity/verify", &["Chain broken", "was altered"]).await;
    forge(b"ann");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_recorded_the_pages_say_so() {
    let section = crate::site::caller("fixed", crate::site::TOKEN, "");
    let mut house = House::sqlite_and(&format!("[audit]\nenabled = false\n{section}"), "").await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    for path in ["/activity", "/activity/verify"] {
        let page = ann.get(path).await;
        assert!(page.status == 200 && page.has("Nothing is recorded"), "{path}: {}", page.body);
    }
    assert_eq!(ann.get("/activity/1").await.status, 404);
    assert!(ann.get("/callers/fixed").await.has("requests are not recorded"));
}
