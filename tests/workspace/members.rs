//! The pages *Members*, *Settings*, *OAuth clients* and *Projects*.

use countersign::credentials::Registered;
use countersign::vault::{Environment, Role};

use crate::house::House;
use crate::visitor::{PASSWORD, Visitor, member};

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_invites_changes_and_removes_members_but_no_owner() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, owner) = member(&house, "ann@acme.test", Role::Owner).await;
    let (mut ben, admin) = member(&house, "ben@acme.test", Role::Admin).await;
    let (mut eve, _) = member(&house, "eve@acme.test", Role::Member).await;

    let invitation = [("email", "new@acme.test"), ("role", "member")];
    assert_eq!(eve.post("/members", &invitation).await.status, 403);
    let upwards = [("email", "new@acme.test"), ("role", "owner")];
    assert_eq!(ben.post("/members", &upwards).await.status, 403);
    let page = ben.post("/members", &invitation).await;
    let (_, link) = page.body.split_once("/invitation?token=").expect(&page.body);
    let token = link.split('<').next().unwrap().to_owned();
    let mut new = Visitor::new(&house);
    let joining = [
        ("token", &*token),
        ("email", "other@acme.test"),
        ("password", PASSWORD),
        ("again", PASSWORD),
    ];
    assert_eq!(new.post("/invitation", &joining).await.location(), "/accounts");
    let vault = house.shop.vault();
    let joined =
        vault.member_by_email("new@acme.test").await.unwrap().expect("the invited address");
    assert!(vault.member_by_email("other@acme.test").await.unwrap().is_none());

    for (path, pairs) in [
        (format!("/members/{}/role", owner.id), &[("role", "member")][..]),
        (format!("/members/{}/remove", owner.id), &[][..]),
        (format!("/members/{}/role", admin.id), &[("role", "owner")][..]),
    ] {
        assert_eq!(ben.post(&path, pairs).await.status, 403, "{path}");
    }
    let path = format!("/members/{}", joined.id);
    assert_eq!(ben.post(&format!("{path}/role"), &[("role", "admin")]).await.status, 303);
    assert_eq!(ann.post(&format!("{path}/role"), &[("role", "member")]).await.status, 303);

    // Their account goes with them, when that was agreed to.
    let account = house.connect("theirs").await;
    vault.give_account(&account.id, Some(&joined.id)).await.unwrap();
    let page = ben.get(&format!("{path}/remove")).await;
    assert!(page.has("theirs") && page.has("Delete their accounts"), "{}", page.body);
    assert_eq!(ben.post(&format!("{path}/remove"), &[]).await.status, 422);
    let agreed = [("understood", "yes")];
    assert_eq!(ben.post(&format!("{path}/remove"), &agreed).await.location(), "/members");
    assert_eq!(new.get("/accounts").await.status, 303, "logged out at once");
    assert!(house.shop.vault().account(&account.id).await.unwrap().is_none());

    let path = format!("/members/{}/remove", owner.id);
    let page = ann.post(&path, &[]).await;
    assert!(page.status == 409 && page.has("needs an owner"), "{}", page.body);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_changes_name_address_and_password_and_ends_other_sessions() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Member).await;
    member(&house, "ben@acme.test", Role::Member).await;
    let mut elsewhere = Visitor::new(&house);
    elsewhere.log_in("ann@acme.test", PASSWORD).await;

    let named = [("name", "Ann B."), ("email", "ann@acme.test")];
    assert_eq!(ann.post("/settings/profile", &named).await.status, 303);
    let moved = [("name", "Ann B."), ("email", "ann@corp.test"), ("current", "wrong password")];
    assert_eq!(ann.post("/settings/profile", &moved).await.status, 422);
    let taken = [("name", "Ann B."), ("email", "ben@acme.test"), ("current", PASSWORD)];
    assert!(ann.post("/settings/profile", &taken).await.has("already"));
    let moved = [("name", "Ann B."), ("email", "ann@corp.test"), ("current", PASSWORD)];
    assert_eq!(ann.post("/settings/profile", &moved).await.status, 303);

    let new = "another horse battery";
    for (current, password, again, expected) in [
        ("wrong password", new, new, 422),
        (PASSWORD, new, "differs", 422),
        (PASSWORD, "short", "short", 422),
        (PASSWORD, new, new, 303),
    ] {
        let pairs = [("current", current), ("password", password), ("again", again)];
        assert_eq!(ann.post("/settings/password", &pairs).await.status, expected, "{password}");
    }
    assert_eq!(elsewhere.get("/accounts").await.status, 303, "ended with the password");
    assert_eq!(ann.get("/accounts").await.status, 200, "this one goes on");
    assert_eq!(elsewhere.log_in("ann@corp.test", new).await.status, 303);
    assert_eq!(ann.post("/settings/sessions/others", &[]).await.status, 303);
    assert_eq!(elsewhere.get("/accounts").await.status, 303);
    house.site.setup.secrets.extend([PASSWORD.to_owned(), new.to_owned()]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_look_after_oauth_clients_whose_secrets_never_come_out() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Admin).await;
    let (mut eve, _) = member(&house, "eve@acme.test", Role::Member).await;
    let secret = "an-oauth-secret-of-ours";
    let pairs = [("auth", "oauth"), ("name", "second"), ("client_id", "cid2"), ("secret", secret)];
    assert_eq!(eve.post("/oauth-clients/new/acme", &pairs).await.status, 403);
    assert_eq!(ann.post("/oauth-clients/new/acme", &pairs).await.location(), "/oauth-clients");
    let vault = house.shop.vault();
    let clients = vault.oauth_clients().await.unwrap();
    let made = clients.iter().find(|client| client.details.name == "second").unwrap();
    let path = format!("/oauth-clients/{}", made.id);
    assert!(ann.get("/oauth-clients").await.has("cid2"));
    assert!(!ann.get(&path).await.has(secret));
    assert_eq!(eve.get(&path).await.status, 403);
    // An empty secret keeps the one that is there.
    let pairs = [("name", "renamed"), ("client_id", "cid3"), ("secret", "")];
    assert_eq!(ann.post(&path, &pairs).await.status, 303);
    let (record, secrets) = vault.open_oauth_client(&made.id).await.unwrap().unwrap();
    assert_eq!((&*record.details.client_id, &*record.details.auth), ("cid3", "oauth"));
    assert_eq!(secrets[Registered::SECRET].expose(), secret);
    assert_eq!(ann.post(&format!("{path}/remove"), &[]).await.location(), "/oauth-clients");
    // One that renews tokens stays.
    house.connect("held").await;
    let held = clients.iter().find(|client| client.details.name == "acme").unwrap();
    let page = ann.post(&format!("/oauth-clients/{}/remove", held.id), &[]).await;
    assert!(page.status == 400 && page.has("1 account"), "{}", page.body);
    house.site.setup.secrets.push(secret.to_owned());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_make_projects_and_look_after_their_users_and_programs() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Admin).await;
    let (mut eve, _) = member(&house, "eve@acme.test", Role::Member).await;
    assert_eq!(eve.get("/projects").await.status, 403);
    assert!(!eve.get("/accounts").await.has("href=\"/projects\""));
    let page = ann.post("/projects/new", &[("name", "Shop"), ("support_email", "help")]).await;
    assert!(page.status == 422 && page.has("not an e-mail address"), "{}", page.body);
    let pairs = [("name", "Shop"), ("support_email", "help@acme.test"), ("app_name", "The <shop>")];
    let page = ann.post("/projects/new", &pairs).await;
    let path = page.location().to_owned();
    let page = ann.get(&path).await;
    assert!(page.has("help@acme.test") && !page.has("The <shop>"), "{}", page.body);

    let edit = format!("{path}/edit");
    let long = "\u{7f}".repeat(100 * 1024);
    for (logo, expected) in [
        ("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 422),
        ("javascript:alert(1)", 422),
        (&*format!("GIF89a{long}"), 422),
        ("", 422),
        ("GIF89a;", 303),
    ] {
        let page = ann.post_file(&edit, &[("name", "Shop")], ("logo", "a.gif", logo)).await;
        assert_eq!(page.status, expected, "{}", &logo[..logo.len().min(20)]);
    }
    // Browsers send an empty file without a name where none was chosen.
    assert_eq!(ann.post_file(&edit, &[("name", "Shop")], ("logo", "", "")).await.status, 303);
    assert!(ann.get(&edit).await.has("data:image/gif;base64,R0lGODlhOw=="));
    assert_eq!(ann.post(&edit, &[("name", "Shop"), ("remove_logo", "yes")]).await.status, 303);
    assert!(!ann.get(&edit).await.has("data:image/gif"));
    let page = ann.post(&format!("{path}/clients"), &[("name", "backend")]).await;
    assert!(page.has("PIPEDREAM_CLIENT_SECRET="), "{}", page.body);
    assert!(ann.get(&path).await.has("backend"));
    let vault = house.shop.vault();
    let project = vault.projects().await.unwrap().remove(0);
    for at in 0..60 {
        let name = format!("user-{at:02}");
        vault.ensure_external_user(&project.id, Environment::Development, &name).await.unwrap();
    }
    assert!(ann.get(&path).await.has("No users"));
    let (mut seen, mut next) = (0, Some(format!("{path}?environment=development")));
    while let Some(address) = next {
        let page = ann.get(&address).await;
        seen += page.body.matches("/users/exu_").count();
        let link = page.body.split_once("rel=\"next\" href=\"").map(|(_, rest)| rest);
        next = link.map(|rest| rest.split('"').next().unwrap().replace("&#38;", "&"));
    }
    assert_eq!(seen, 60);
    let page = ann.get(&format!("{path}?environment=development&q=user-07")).await;
    assert_eq!(page.body.matches("/users/exu_").count(), 1);
    let (_, user) = page.body.split_once("/users/").unwrap();
    let user = format!("{path}/users/{}", user.split('"').next().unwrap());
    assert_eq!(ann.post(&format!("{user}/delete"), &[]).await.status, 303);
    assert_eq!(ann.get(&user).await.status, 404);
    assert_eq!(ann.post(&format!("{path}/delete"), &[]).await.location(), "/projects");
    house.close().await;
}
