//! The same from a terminal, beside the running server.

use countersign::vault::{Role, Share};
use serde_json::Value;
use tokio::process::Command;

use crate::house::House;
use crate::visitor::{PASSWORD, Visitor, member};

/// What the command said, and whether it worked.
async fn run(house: &House, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .arg("--config")
        .arg(house.site.path("countersign.toml"))
        .args(arguments)
        .output()
        .await
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_invites_shares_and_removes_as_the_pages_do() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (worked, said) = run(&house, &["members", "add", "--role", "owner", "--json"]).await;
    assert!(worked, "{said}");
    let link: Value = serde_json::from_str(&said).expect(&said);
    let link = url::Url::parse(link["link"].as_str().unwrap()).unwrap();
    let token = link.query_pairs().next().unwrap().1.into_owned();
    let mut ann = Visitor::new(&house);
    let joining = [
        ("token", &*token),
        ("email", "ann@acme.test"),
        ("password", PASSWORD),
        ("again", PASSWORD),
    ];
    assert_eq!(ann.post("/invitation", &joining).await.location(), "/accounts");
    let (_, ben) = member(&house, "ben@acme.test", Role::Member).await;
    let account = house.connect("team").await;

    for (arguments, expected) in [
        (&["share", "team"][..], "say with whom"),
        (&["share", "team", "--with", "nobody@acme.test"], "there is no member"),
        (&["members", "role", "ann@acme.test", "member"], "needs an owner"),
        (&["members", "remove", "ann@acme.test", "--yes"], "needs an owner"),
        (&["members", "role", "ann@acme.test", "king"], "one of owner, admin, member"),
    ] {
        let (worked, said) = run(&house, arguments).await;
        assert!(!worked && said.contains(expected), "{arguments:?}: {said}");
    }
    let shared = ["share", "team", "--with", "ben@acme.test", "--workspace"];
    assert!(run(&house, &shared).await.0);
    let shares = house.shop.vault().shares().await.unwrap();
    assert_eq!(shares.len(), 2);
    assert!(shares.contains(&(account.id.clone(), Share::Member(ben.id.clone()))));
    assert!(run(&house, &["unshare", "team", "--workspace"]).await.0);
    assert_eq!(house.shop.vault().shares().await.unwrap().len(), 1);
    assert!(run(&house, &["unshare", "team"]).await.1.contains("private"));

    house.shop.vault().give_account(&account.id, Some(&ben.id)).await.unwrap();
    let (worked, said) = run(&house, &["members", "remove", "ben@acme.test", "--yes"]).await;
    assert!(!worked && said.contains("owns team"), "{said}");
    let remove = ["members", "remove", "ben@acme.test", "--yes", "--delete-accounts"];
    let (worked, said) = run(&house, &remove).await;
    assert!(worked, "{said}");
    assert!(house.shop.vault().account(&account.id).await.unwrap().is_none());

    let (worked, said) = run(&house, &["members", "reset", "ann@acme.test", "--json"]).await;
    assert!(worked, "{said}");
    let link: Value = serde_json::from_str(&said).expect(&said);
    let link = url::Url::parse(link["link"].as_str().unwrap()).unwrap();
    let token = link.query_pairs().next().unwrap().1.into_owned();
    let new = "a fresh horse battery";
    let pairs = [("token", &*token), ("password", new), ("again", new)];
    let mut elsewhere = Visitor::new(&house);
    assert_eq!(elsewhere.post("/invitation", &pairs).await.location(), "/accounts");
    assert_eq!(ann.get("/accounts").await.status, 303, "logged out everywhere else");
    assert_eq!(ann.log_in("ann@acme.test", new).await.status, 303);
    let (_, said) = run(&house, &["members", "list"]).await;
    assert!(said.contains("ann@acme.test") && !said.contains("ben@acme.test"), "{said}");
    house.site.setup.secrets.extend([PASSWORD.to_owned(), new.to_owned()]);
    house.close().await;
}
