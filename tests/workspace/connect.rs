//! Connecting as a member, beside the plain way: scopes that are chosen, and a code that is entered
//! on another device (RFC 8628).

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign::vault::Role;
use serde_json::Value;
use tokio::process::Command;

use crate::house::{House, browse, query_of, until};
use crate::visitor::{Manner, Page, Visitor, first_link, member};

/// The provider knows profiles, suggestions and codes for devices.
fn oauth2(house: &House) -> String {
    let port = house.provider.address.port();
    format!(
        "device_authorization_url = \"http://as.acme.test:{port}/device\"\n\
         suggested_scopes = [\"files:read\"]\n\
         scope_profiles = {{ read_only = [\"files:read\", \"people:read\"], admin = [\"all:manage\"] }}\n"
    )
}

async fn house() -> House {
    let mut house = House::sqlite().await;
    let path = house.site.path("apps/acme.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, after) = text.split_once("[auth.oauth.oauth2]\n").expect("it has OAuth");
    let text = format!("{before}[auth.oauth.oauth2]\n{}{after}", oauth2(&house));
    house.site.write("apps/acme.toml", &text);
    house.start().await;
    house
}

/// The scopes that the provider is asked for.
fn asked(page: &Page) -> Vec<String> {
    assert_eq!(page.status, 303, "{}", page.body);
    let scopes = query_of(page.location()).remove("scope").unwrap_or_default();
    scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_chooses_what_an_app_is_asked_for() {
    let house = house().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Member).await;
    let page = ann.get("/accounts/connect/acme").await;
    for shown in ["The usual ones", "Read only", "Admin", "More scopes", "Read people"] {
        assert!(page.has(shown), "{shown}: {}", page.body);
    }
    for (pairs, expected) in [
        (&[][..], &["files:read"][..]),
        (&[("scope_set", "profile:read_only")], &["files:read", "people:read"]),
        (&[("scope_set", "usual"), ("scopes", "a, b a")], &["files:read", "a", "b"]),
    ] {
        let all = [&[("auth", "oauth")], pairs].concat();
        let sent = asked(&ann.post("/accounts/connect/acme", &all).await);
        assert!(sent.ends_with(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    for (set, more) in [("profile:none", ""), ("before", ""), ("usual", "\"")] {
        let pairs = [("auth", "oauth"), ("scope_set", set), ("scopes", more)];
        let page = ann.post("/accounts/connect/acme", &pairs).await;
        assert!(page.status == 422 && page.has("scopes"), "{set} {more}: {}", page.body);
    }

    // What was chosen is what the account has, and reconnecting asks for the same, or for more.
    let pairs = [("auth", "oauth"), ("scope_set", "profile:admin")];
    let page = ann.post("/accounts/connect/acme", &pairs).await;
    let back = browse(&house.provider, page.location()).await;
    let url = url::Url::parse(&back).unwrap();
    let path = ann.get(&url[url::Position::BeforePath..]).await.location().to_owned();
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    assert!(house.stored(&id).await.scopes.contains(&"all:manage".to_owned()));
    let page = ann.get(&format!("{path}/reconnect")).await;
    assert!(page.has("The same as before") && page.has("Manage all"), "{}", page.body);
    let again = format!("{path}/reconnect");
    assert!(asked(&ann.post(&again, &[]).await).contains(&"all:manage".to_owned()));
    let more = asked(&ann.post(&again, &[("scope_set", "before"), ("scopes", "more")]).await);
    assert!(more.contains(&"all:manage".to_owned()) && more.contains(&"more".to_owned()));
    house.close().await;
}

/// The code on a page, and where the page asks.
fn code_of(page: &Page) -> String {
    let (_, rest) = page.body.split_once("id=\"code\">").expect("a code");
    rest.split_once('<').unwrap().0.to_owned()
}

async fn get_a_code(ann: &mut Visitor) -> (String, Page) {
    let pairs = [("auth", "oauth"), ("by", "code"), ("nickname", "tv")];
    let begun = ann.post("/accounts/connect/acme", &pairs).await;
    assert_eq!(begun.status, 303, "{}", begun.body);
    let path = begun.location().to_owned();
    let page = ann.get(&path).await;
    assert!(page.has("https://acme.example/device"), "{}", page.body);
    (path, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_entered_on_another_device() {
    let house = house().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Member).await;
    let (mut eve, _) = member(&house, "eve@acme.test", Role::Member).await;
    let (path, page) = get_a_code(&mut ann).await;
    assert_eq!(eve.get(&path).await.status, 404, "it is Ann's");
    assert_eq!(eve.post(&path, &[]).await.status, 404);

    // Too early: the provider is not asked, whoever presses, and the page is shown again.
    let polls = || house.provider.calls("/token").len();
    let before = polls();
    assert_eq!(ann.post(&path, &[]).await.status, 200);
    assert_eq!(polls(), before);
    house.provider.confirm_device(&code_of(&page));
    let (csrf, cookies) = (page.value_of("csrf").unwrap(), ann.cookies.clone());
    until("the interval is over", Duration::from_secs(20), async || {
        // As the page's script asks.
        let fields = [("Sec-Fetch-Site", "same-origin"), ("Accept", "application/json")];
        let mut script = Visitor::new(&house);
        script.cookies = cookies.clone();
        let manner = Manner { fields: &fields, csrf: Some(csrf) };
        let said = script.post_as(&path, &[], manner).await;
        let said: Value = serde_json::from_str(&said.body).expect(&said.body);
        said["to"].as_str().is_some_and(|to| to.starts_with("/accounts/apn_"))
    })
    .await;
    assert_eq!(polls(), before + 1, "the provider was asked once");
    assert!(ann.get("/accounts").await.has("tv"));
    assert_eq!(ann.get(&path).await.status, 400, "it is used up");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_chooses_scopes_and_enters_a_code_in_a_browser() {
    let house = house().await;
    let link = first_link(&house).await;
    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("COUNTERSIGN_SCREENSHOTS").map(PathBuf::from);
    let folder = kept.unwrap_or_else(|| scratch.path().to_owned());
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut node = Command::new("node");
    node.current_dir(&clients).arg("connect_workspace.mjs").arg(&link).arg(&folder);
    node.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut running = node.spawn().expect("node is installed: make deps");
    // It says the code; here somebody enters it at the provider.
    let mut lines = tokio::io::BufReader::new(running.stdout.take().unwrap());
    let mut said = String::new();
    let mut line = String::new();
    while tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.unwrap() > 0 {
        if let Some(code) = line.trim().strip_prefix("code ") {
            house.provider.confirm_device(code);
        }
        said.push_str(&std::mem::take(&mut line));
    }
    let ended = running.wait().await.unwrap();
    assert!(ended.success() && said.contains("all is well"), "{said}\n{}", house.site.log());
    house.close().await;
}
