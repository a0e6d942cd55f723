//! The page *Accounts*: what is shown, and what can be done with an account.

use std::time::Duration;

use countersign::vault::Role;

use crate::house::{House, browse, until};
use crate::visitor::{Visitor, member};

const SOON: Duration = Duration::from_secs(5);

/// Sends the form that leads to the provider, agrees there, and comes back.
async fn consent(house: &House, visitor: &mut Visitor, path: &str) -> crate::visitor::Page {
    let page = visitor.post(path, &[("auth", "oauth"), ("nickname", "fresh")]).await;
    assert_eq!(page.status, 303, "{}", page.body);
    let back = browse(&house.provider, page.location()).await;
    let url = url::Url::parse(&back).unwrap();
    visitor.get(&url[url::Position::BeforePath..]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_connects_renames_shares_checks_reconnects_and_deletes_an_account() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, me) = member(&house, "ann@acme.test", Role::Member).await;
    let (mut ben, other) = member(&house, "ben@acme.test", Role::Member).await;

    let page = consent(&house, &mut ann, "/accounts/connect/acme").await;
    assert_eq!(page.status, 303, "{}", page.body);
    let path = page.location().to_owned();
    let page = ann.get(&path).await;
    assert!(page.has("Acme is connected as") && page.has("fresh"), "{}", page.body);
    assert!(ann.get(&path).await.body.matches("is connected as").count() == 0, "said once");
    let id = path.rsplit('/').next().unwrap().to_owned();
    let account = house.stored(&id.parse().unwrap()).await;
    assert_eq!(account.owner, countersign::vault::Owner::Member(me.id.clone()));
    assert_eq!(ben.get(&path).await.status, 404, "private at first");

    let page = ann.post(&format!("{path}/rename"), &[("name", "two words")]).await;
    assert!(page.status == 422 && page.has("not a valid account name"), "{}", page.body);
    assert_eq!(ann.post(&format!("{path}/rename"), &[("name", "team")]).await.status, 303);

    let pairs = [("with", "members"), ("member", other.id.as_str())];
    assert_eq!(ann.post(&format!("{path}/access"), &pairs).await.status, 303);
    let page = ben.get("/accounts?q=TEAM&show=shared").await;
    assert!(page.has("team") && page.has("ann"), "{}", page.body);

    let page = ann.post(&format!("{path}/check"), &[]).await;
    assert_eq!(page.location(), path);
    assert!(ann.get(&path).await.has("It works"));

    let page = consent(&house, &mut ann, &format!("{path}/reconnect")).await;
    assert_eq!(page.location(), path, "the same id: {}", page.body);
    assert!(ann.get(&path).await.has("is connected again"));

    let page = ann.get(&format!("{path}/delete")).await;
    assert!(page.has("for good"), "{}", page.body);
    assert_eq!(ann.post(&format!("{path}/delete"), &[]).await.location(), "/accounts");
    assert!(ann.get("/accounts").await.has("revoked at the provider"));
    assert_eq!(ann.get(&path).await.status, 404);
    until("it is in the audit", SOON, async || {
        let lines = house.audit("administered");
        let told: Vec<&str> = lines.iter().filter_map(|line| line["what"].as_str()).collect();
        ["account_connected", "account_renamed", "account_shared", "account_checked"]
            .iter()
            .chain(&["account_reconnected", "account_deleted", "member_joined", "logged_in"])
            .all(|what| told.contains(what))
    })
    .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_counts_once_and_in_the_browser_and_session_that_began_it() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Member).await;
    let (mut eve, _) = member(&house, "eve@acme.test", Role::Member).await;
    let page = ann.post("/accounts/connect/acme", &[("auth", "oauth")]).await;
    let back = browse(&house.provider, page.location()).await;
    let url = url::Url::parse(&back).unwrap();
    let callback = url[url::Position::BeforePath..].to_owned();
    // Another member, without the cookie and with it.
    assert_ne!(eve.get(&callback).await.status, 303);
    let flows = ann.cookies.iter().filter(|(name, _)| name.contains("flow"));
    let flow = flows.map(|(name, value)| (name.clone(), value.clone())).next().unwrap();
    eve.cookies.insert(flow.0, flow.1);
    assert_eq!(eve.get(&callback).await.status, 400);
    // That used it up.
    assert_eq!(ann.get(&callback).await.status, 400);
    assert!(ann.get("/accounts").await.has("No accounts yet"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_and_providers_write_is_shown_as_text() {
    let hostile = "<img src=x onerror=alert(1)>\u{202e}";
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    let account = house.connect("mine").await;
    for path in [
        format!(
            "/accounts?q={}",
            url::form_urlencoded::byte_serialize(hostile.as_bytes()).collect::<String>()
        ),
        format!("/accounts/{}?x=<script>", account.id),
    ] {
        let page = ann.get(&path.replace('<', "%3C").replace('>', "%3E")).await;
        assert_eq!(page.status, 200);
        assert!(!page.has("<img src=x") && !page.has("<script>"), "{}", page.body);
    }
    let page = ann.post(&format!("/accounts/{}/rename", account.id), &[("name", hostile)]).await;
    assert!(page.status == 422 && !page.has("<img src=x"), "{}", page.body);
    house.close().await;
}
