//! Coming in: links, passwords, sessions; and what strangers try.

use countersign::vault::{InvitationKind, Role};

use crate::house::House;
use crate::visitor::{Manner, PASSWORD, Visitor, invite, member};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_owner_comes_in_by_the_link_on_the_terminal_once() {
    let mut house = House::sqlite().await;
    house.start().await;
    let log = house.site.log();
    let (_, rest) = log.split_once("/welcome?token=").expect(&log);
    let token = rest.split_whitespace().next().unwrap().to_owned();
    let mut first = Visitor::new(&house);
    let page = first.get(&format!("/welcome?token={token}")).await;
    assert!(page.status == 200 && page.has("first owner"), "{page:?}");
    for (password, again, said) in
        [("short", "short", "at least 10 characters"), (PASSWORD, "another one, really", "differ")]
    {
        let pairs = [("token", &*token), ("email", "ann@acme.test"), ("password", password)];
        let page = first.post("/welcome", &[&pairs[..], &[("again", again)]].concat()).await;
        assert!(page.status == 422 && page.has(said), "{page:?}");
    }
    let pairs = [
        ("token", &*token),
        ("email", "Ann@acme.test"),
        ("name", "Ann"),
        ("password", PASSWORD),
        ("again", PASSWORD),
        ("role", "member"),
    ];
    let page = first.post("/welcome", &pairs).await;
    assert_eq!((page.status, page.location()), (303, "/accounts"), "{page:?}");
    let ann = house.shop.vault().member_by_email("ann@acme.test").await.unwrap().unwrap();
    assert_eq!((ann.role, &*ann.name), (Role::Owner, "Ann"));
    assert!(first.get("/accounts").await.has("No accounts yet"));
    // Neither this link nor another first one leads anywhere now.
    let other = invite(&house, InvitationKind::First, None, Role::Owner).await;
    for token in [&token, &other] {
        let mut stranger = Visitor::new(&house);
        assert_eq!(stranger.get(&format!("/welcome?token={token}")).await.status, 410);
        let pairs = [("token", &**token), ("email", "eve@acme.test"), ("password", PASSWORD)];
        let pairs = [&pairs[..], &[("again", PASSWORD)]].concat();
        assert_eq!(stranger.post("/welcome", &pairs).await.status, 410);
    }
    house.site.setup.secrets.push(PASSWORD.to_owned());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_logs_in_and_out_and_every_login_is_a_session_of_its_own() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    let before = ann.cookies["countersign_session"].clone();
    let page = ann.get("/accounts").await;
    assert_eq!(page.field("cache-control"), Some("no-store"));
    assert!(page.field("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    let page = ann.log_in("ann@acme.test", PASSWORD).await;
    assert_eq!((page.status, page.location()), (303, "/accounts"));
    let cookie = page.field("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    assert_ne!(ann.cookies["countersign_session"], before, "session fixation");
    let mut old = Visitor::new(&house);
    old.cookies.insert("countersign_session".to_owned(), before);
    assert_eq!(old.get("/accounts").await.location(), "/login?next=%2Faccounts");

    let last = ann.cookies["countersign_session"].clone();
    assert_eq!(ann.post("/logout", &[]).await.location(), "/login");
    old.cookies.insert("countersign_session".to_owned(), last);
    assert_eq!(old.get("/accounts").await.status, 303);

    // On to the page that was asked for, and nowhere else.
    for (next, expected) in [
        ("/accounts?q=x", "/accounts?q=x"),
        ("//evil.test/", "/accounts"),
        ("https://evil.test/", "/accounts"),
    ] {
        let mut ann = Visitor::new(&house);
        let pairs = [("email", "ann@acme.test"), ("password", PASSWORD), ("next", next)];
        assert_eq!(ann.post("/login", &pairs).await.location(), expected);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_counts_only_from_a_page_of_the_same_session() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Member).await;
    let account = house.connect("mine").await;
    let path = format!("/accounts/{}/rename", account.id);
    let csrf = ann.get("/accounts").await.value_of("csrf").unwrap().to_owned();
    let bens = ben.get("/accounts").await.value_of("csrf").unwrap().to_owned();
    let origin = format!("http://127.0.0.1:{}", house.site.ports.web);
    let here = [("Sec-Fetch-Site", "same-origin")];
    for (fields, csrf) in [
        (&here[..], None),
        (&here[..], Some("")),
        (&here[..], Some(&*bens)),
        (&[("Sec-Fetch-Site", "cross-site")][..], Some(&*csrf)),
        (&[("Origin", "null")][..], Some(&*csrf)),
        (&[("Origin", "https://evil.test")][..], Some(&*csrf)),
        (&[][..], Some(&*csrf)),
    ] {
        let page = ann.post_as(&path, &[("name", "stolen")], Manner { fields, csrf }).await;
        assert_eq!(page.status, 403, "{fields:?} {csrf:?}");
    }
    assert_eq!(house.stored(&account.id).await.nickname.as_str(), "mine");
    let manner = Manner { fields: &[("Origin", &*origin)], csrf: Some(&csrf) };
    assert_eq!(ann.post_as(&path, &[("name", "renamed")], manner).await.status, 303);
    let json = [("Sec-Fetch-Site", "same-origin"), ("Content-Type", "text/plain")];
    let page = ann.send("POST", &path, &json, &format!("csrf={csrf}&name=x")).await;
    assert_eq!(page.status, 400);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_ends_soon_and_says_nothing_of_who_is_a_member() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut known, _) = member(&house, "ann@acme.test", Role::Owner).await;
    known.post("/logout", &[]).await;
    let mut eve = Visitor::new(&house);
    let (mut answers, mut pages) = (Vec::new(), Vec::new());
    for email in ["ann@acme.test", "nobody@acme.test"] {
        let mut statuses = Vec::new();
        for guess in 0..12 {
            let page = eve.log_in(email, &format!("a wrong guess {guess}")).await;
            statuses.push(page.status);
            pages.push(page.body.replace(email, "somebody"));
        }
        answers.push(statuses);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(pages[0], pages[12]);
    assert_eq!(answers[0].iter().filter(|status| **status == 422).count(), 5);
    assert_eq!(answers[0].iter().filter(|status| **status == 429).count(), 7);
    // The right password does not help the guesser's browser, and the member's own is let in.
    assert_eq!(eve.log_in("ann@acme.test", PASSWORD).await.status, 429);
    assert_eq!(known.log_in("ann@acme.test", PASSWORD).await.status, 303);
    let failed = house.audit("auth_failed");
    assert!(failed.iter().any(|line| line["claimed"] == "ann@acme.test"), "{failed:?}");
    house.close().await;
}
