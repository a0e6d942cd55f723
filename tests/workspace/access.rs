//! Who may do what to an account, on the pages and on the live path.

use std::time::Duration;

use countersign::ids::CallerId;
use countersign::vault::{Account, InvitationKind, Member, Role, Share};
use tokio::io::AsyncReadExt as _;

use crate::client::{connect, tls};
use crate::commands::run;
use crate::house::{House, get_on, until};
use crate::site::API;
use crate::visitor::{invite, member};

const SOON: Duration = Duration::from_secs(5);

async fn give(house: &House, account: &Account, to: &Member) {
    assert!(house.shop.vault().give_account(&account.id, Some(&to.id)).await.unwrap());
}

/// A caller to which `by` bound the account.
async fn bound_by(house: &House, name: &str, account: &Account, by: &Member) -> String {
    let credentials = house.caller(name, &[]).await;
    let caller: CallerId = name.parse().unwrap();
    house.shop.vault().bind(&caller, &account.id, false, &[], Some(&by.id)).await.unwrap();
    credentials
}

/// What a request of the caller gets, wherever it is refused.
async fn status(house: &House, credentials: &str) -> u16 {
    let (stream, answer) = connect(&house.site, &format!("{API}:443"), credentials).await;
    match answer.status {
        200 => get_on(&mut tls(house.tls().await, API, stream).await, "/").await.status,
        refused => refused,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_an_account_away_ends_what_a_member_bound_on_the_next_request_tunnels_included() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (_, ann) = member(&house, "ann@acme.test", Role::Member).await;
    let (_, ben) = member(&house, "ben@acme.test", Role::Member).await;
    let account = house.connect("shared").await;
    give(&house, &account, &ann).await;
    let vault = house.shop.vault();
    vault.share(&account.id, &Share::Workspace, Some(&ann.id)).await.unwrap();
    let flow = bound_by(&house, "flow", &account, &ben).await;
    until("the binding is good", SOON, async || status(&house, &flow).await == 200).await;

    let mut tunnel = house.tunnel(&flow).await;
    assert_eq!(get_on(&mut tunnel, "/").await.status, 200);
    vault.unshare(&account.id, &Share::Workspace).await.unwrap();
    until("the binding has ended", SOON, async || status(&house, &flow).await == 403).await;
    // What was open is closed, or gets no credential any more.
    let mut rest = Vec::new();
    let open = tokio::time::timeout(Duration::from_millis(500), tunnel.read_to_end(&mut rest));
    if open.await.is_err() {
        assert_eq!(get_on(&mut tunnel, "/").await.status, 403);
    }

    vault.share(&account.id, &Share::Member(ben.id.clone()), Some(&ann.id)).await.unwrap();
    until("shared again", SOON, async || status(&house, &flow).await == 200).await;
    assert!(vault.delete_member(&ben.id).await.unwrap());
    until("the member has gone", SOON, async || status(&house, &flow).await == 403).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_bound_rests_on_no_member() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (_, ann) = member(&house, "ann@acme.test", Role::Member).await;
    let account = house.connect("private").await;
    give(&house, &account, &ann).await;
    let flow = house.caller("flow", &[&account]).await;
    until("it is bound", SOON, async || status(&house, &flow).await == 200).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_account_is_not_there_for_other_members_and_not_to_be_used_by_admins() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, owner) = member(&house, "ann@acme.test", Role::Member).await;
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Member).await;
    let (mut eve, _) = member(&house, "eve@acme.test", Role::Admin).await;
    let account = house.connect("hidden-one").await;
    give(&house, &account, &owner).await;
    let id = &account.id;
    // Nickname instead of id, and an account that there is not, look the same.
    for path in ["", "/rename", "/access", "/reconnect", "/delete"] {
        for name in [id.as_str(), "hidden-one", "apn_0000000000000000"] {
            let page = ben.get(&format!("/accounts/{name}{path}")).await;
            assert_eq!(page.status, 404, "{name}{path}");
        }
    }
    for action in ["rename", "access", "reconnect", "delete", "give", "check"] {
        let pairs = [("name", "x"), ("with", "workspace"), ("understood", "yes")];
        let page = ben.post(&format!("/accounts/{id}/{action}"), &pairs).await;
        assert_eq!(page.status, 404, "{action}");
    }
    assert!(!ben.get("/accounts").await.has("hidden-one"));
    assert!(eve.get("/accounts").await.has("hidden-one"));
    for (action, expected) in
        [("rename", 403), ("access", 403), ("reconnect", 403), ("delete", 200)]
    {
        let page = eve.get(&format!("/accounts/{id}/{action}")).await;
        assert_eq!(page.status, expected, "{action}");
    }
    let page = eve.post(&format!("/accounts/{id}/give"), &[("to", "mem_x")]).await;
    assert_eq!(page.status, 403);
    assert!(ann.get(&format!("/accounts/{id}")).await.has("hidden-one"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owner_always_remains() {
    let house = House::sqlite().await;
    let vault = house.shop.vault();
    let token = invite(&house, InvitationKind::First, None, Role::Owner).await;
    let newcomer = countersign::vault::Newcomer {
        email: "ann@acme.test".to_owned(),
        name: "Ann".to_owned(),
        password_hash: None,
        oidc_subject: None,
    };
    let digest = countersign::secret::TokenDigest::of(token.as_bytes());
    let ann = vault.accept_invitation(digest, &newcomer).await.unwrap().unwrap();
    let details = |role, disabled| countersign::vault::MemberDetails {
        email: ann.email.clone(),
        name: ann.name.clone(),
        role,
        oidc_subject: None,
        disabled,
    };
    for changed in [details(Role::Admin, false), details(Role::Owner, true)] {
        let refused = vault.update_member(&ann.id, &changed).await;
        assert!(refused.unwrap_err().to_string().contains("needs an owner"));
    }
    assert!(vault.delete_member(&ann.id).await.is_err());
    vault
        .create_member(&countersign::vault::MemberDetails {
            email: "ben@acme.test".to_owned(),
            ..details(Role::Owner, false)
        })
        .await
        .unwrap();
    assert!(vault.update_member(&ann.id, &details(Role::Member, false)).await.unwrap());
    assert!(vault.delete_member(&ann.id).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_lapsed_is_refused_saying_why_and_no_more() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, anns) = member(&house, "ann@acme.test", Role::Member).await;
    let (_, ben) = member(&house, "ben@acme.test", Role::Member).await;
    let (_, eve) = member(&house, "eve@acme.test", Role::Member).await;
    let vault = house.shop.vault();
    let lent = house.connect("payroll-of-ann").await;
    give(&house, &lent, &anns).await;
    vault.share(&lent.id, &Share::Workspace, Some(&anns.id)).await.unwrap();
    let (by_ben, by_eve) = (
        bound_by(&house, "by-ben", &lent, &ben).await,
        bound_by(&house, "by-eve", &lent, &eve).await,
    );
    let operators = house.caller("operators", &[&lent]).await;
    for caller in [&by_ben, &by_eve, &operators] {
        until("the binding is good", SOON, async || status(&house, caller).await == 200).await;
    }
    assert!(vault.delete_member(&eve.id).await.unwrap());
    vault.unshare(&lent.id, &Share::Workspace).await.unwrap();
    for (caller, why) in [
        (&by_ben, "the member who bound it no longer has access to the account"),
        (&by_eve, "the member who bound it has left the workspace"),
    ] {
        until("the binding has ended", SOON, async || status(&house, caller).await == 403).await;
        let answer = house.get(caller, "/v1/x").await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.problem() == "lapsed" && text.contains(why), "{text}");
        for secret in ["payroll", "ann@", "ben@", "eve@", lent.id.as_str()] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    let page = ann.get("/callers/by-ben").await;
    assert!(
        page.has("Not in force: the member who bound it no longer has access"),
        "{}",
        page.body
    );
    let explain = ["policy", "explain", "--caller", "by-ben", "GET", "https://api.acme.test/v1/x"];
    let (_, said) = run(&house, &explain).await;
    assert!(said.contains("the binding lapsed"), "{said}");

    assert_eq!(status(&house, &operators).await, 200);
    house.shop.connector.remove(&lent.id).await.unwrap();
    until("the account is deleted", SOON, async || status(&house, &operators).await == 403).await;
    let answer = house.get(&operators, "/v1/x").await;
    assert!(String::from_utf8_lossy(&answer.body).contains("the account was deleted"));
    assert!(ann.get("/callers/operators").await.has("was deleted"));
    // Another one in its place, and there is nothing to say any more.
    let next = house.connect("next").await;
    vault.bind(&"operators".parse().unwrap(), &next.id, false, &[], None).await.unwrap();
    assert!(vault.ended_bindings().await.unwrap().iter().all(|b| b.caller.as_str() != "operators"));
    house.close().await;
}
