//! The same from a terminal, beside the running server.

use countersign::vault::{Role, Share};
use serde_json::Value;
use tokio::process::Command;

use crate::house::House;
use crate::visitor::{PASSWORD, Visitor, member};

/// What the command said, and whether it worked.
pub async fn run(house: &House, arguments: &[&str]) -> (bool, String) {
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

#[tokio::test(flavor = "multi_thread")]
async fn tokens_projects_and_definitions_are_made_changed_and_removed_at_a_terminal() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Owner).await;
    let add = ["members", "token", "add", "ann@acme.test", "nightly", "--json"];
    let (worked, said) = run(&house, &add).await;
    let made: Value = serde_json::from_str(&said).expect(&said);
    assert!(worked && made["rights"] == "read" && made["token"].as_str().unwrap().len() > 30);
    assert!(ann.get("/settings").await.has("nightly"));
    let (_, said) = run(&house, &["members", "token", "list"]).await;
    assert!(said.contains("nightly") && !said.contains(made["token"].as_str().unwrap()), "{said}");
    let revoke = ["members", "token", "revoke", "ann@acme.test", "nightly", "--yes"];
    assert!(run(&house, &revoke).await.0);
    let (worked, said) = run(&house, &revoke).await;
    assert!(!worked && said.contains("there is no token"), "{said}");

    assert!(run(&house, &["projects", "add", "Shop"]).await.0);
    house.site.write("logo.gif", "GIF89a;");
    house.site.write("logo.svg", "<svg/>");
    let (logo, svg) = (house.site.path("logo.gif"), house.site.path("logo.svg"));
    let (logo, svg) = (logo.to_str().unwrap(), svg.to_str().unwrap());
    for (arguments, worked, expected) in [
        (&["projects", "update", "Shop"][..], false, "say what to change"),
        (&["projects", "update", "Shop", "--logo", svg], false, "no PNG"),
        (
            &["projects", "update", "Shop", "--app-name", "The shop", "--logo", logo],
            true,
            "is changed",
        ),
        (&["projects", "update", "Shop", "--name", "Store", "--json"], true, "\"The shop\""),
        (&["projects", "update", "Shop", "--name", "x"], false, "there is no project"),
    ] {
        let (did, said) = run(&house, arguments).await;
        assert!(did == worked && said.contains(expected), "{arguments:?}: {said}");
    }
    let project = house.shop.vault().projects().await.unwrap().remove(0);
    let picture = house.shop.vault().project_logo(&project.id).await.unwrap().unwrap();
    assert!(picture.starts_with("data:image/gif;base64,"), "{picture}");

    house.site.write("orders.toml", ORDERS);
    house.site.write("thief.toml", &ORDERS.replace("api.orders.example.com", crate::site::API));
    let (orders, thief) = (house.site.path("orders.toml"), house.site.path("thief.toml"));
    let (orders, thief) = (orders.to_str().unwrap(), thief.to_str().unwrap());
    for (arguments, worked, expected) in [
        (&["apps", "list", "--own"][..], true, "No definitions of your own"),
        (&["apps", "add", thief, "--yes"], false, "not kept"),
        (&["apps", "add", orders, "--yes"], true, "is kept"),
        (&["apps", "add", orders, "--yes"], false, "--replace"),
        (&["apps", "list", "--own"], true, "orders"),
        (&["apps", "list", "orders"], true, "api.orders.example.com"),
        (&["apps", "show", "orders"], true, "Our own order service"),
    ] {
        let (did, said) = run(&house, arguments).await;
        assert!(did == worked && said.contains(expected), "{arguments:?}: {said}");
    }
    crate::visitor::until_said(&mut ann, "/apps?own=yes", &["Orders"]).await;
    assert!(run(&house, &["apps", "remove", "orders", "--yes"]).await.0);
    let (worked, said) = run(&house, &["apps", "remove", "orders", "--yes"]).await;
    assert!(!worked && said.contains("no definition of its own"), "{said}");
    house.close().await;
}

const ORDERS: &str = r#"id = "orders"
name = "Orders"
description = "Our own order service."
[auth.key]
kind = "api_key"
hosts = ["api.orders.example.com"]
base_url = "https://api.orders.example.com/v1"
attach = [{ header = "Authorization", value = "Bearer {api_key}" }]
[[auth.key.fields]]
name = "api_key"
label = "API key"
[auth.key.test]
url = "https://api.orders.example.com/v1/me"
"#;
