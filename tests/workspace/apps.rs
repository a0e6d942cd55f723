//! The catalog's pages, and definitions of the workspace's own on the live path.

use std::collections::BTreeMap;

use countersign::connect::{SameIdentity, Wish};
use countersign::secret::Secret;
use countersign::vault::{Owner, Role};

use crate::api::KEY_API;
use crate::house::{House, open_shop};
use crate::site::KEY;
use crate::visitor::{Visitor, member};

/// An app for the host that the house's key API listens on.
fn definition(id: &str, host: &str) -> String {
    format!(
        "id = \"{id}\"\nname = \"Own <b>Orders</b>\"\ndescription = \"Ours\"\n\
         categories = [\"internal\"]\n[auth.key]\nkind = \"api_key\"\nhosts = [\"{host}\"]\n\
         base_url = \"https://{host}\"\n\
         attach = [{{ header = \"Authorization\", value = \"Bearer {{api_key}}\" }}]\n\
         [[auth.key.fields]]\nname = \"api_key\"\nlabel = \"API key\"\n\
         [auth.key.test]\nurl = \"https://{host}/json\"\n"
    )
}

async fn save(visitor: &mut Visitor, path: &str, text: &str) -> crate::visitor::Page {
    let page = visitor.post(path, &[("definition", text), ("do", "save")]).await;
    let Some(seen) = page.value_of("seen").map(str::to_owned) else { return page };
    visitor.post(path, &[("definition", text), ("do", "save"), ("seen", &seen)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_found_by_word_and_category_and_shown_whole() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Member).await;
    let page = ann.get("/apps?q=slack").await;
    assert!(
        page.status == 200 && page.has("/apps/slack") && !page.has("Add an app"),
        "{}",
        page.body
    );
    let page = ann.get("/apps?q=vendor").await;
    assert!(page.has("/apps/vendor") && !page.has("/apps/slack"), "{}", page.body);
    let page = ann.get("/apps?category=testing").await;
    assert!(page.has("/apps/vendor") && !page.has("/apps/slack"), "{}", page.body);
    assert!(ann.get("/apps?q=nothing-is-called-so").await.has("No app fits"));

    let page = ann.get("/apps/vendor").await;
    for shown in [
        KEY_API,
        "Bearer ••••••••",
        "/accounts/connect/vendor",
        "await fetch(",
        "import requests",
        "The definition",
        "hosts = [",
    ] {
        assert!(page.has(shown), "{shown}: {}", page.body);
    }
    let page = ann.get("/apps/slack").await;
    assert!(
        page.has("OAuth") && page.has("chat:write") && page.has("id = &#34;slack&#34;"),
        "{}",
        page.body
    );
    assert_eq!(ann.get("/apps/nobody").await.status, 404);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_openapi_document_becomes_a_definition_to_read() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, _) = member(&house, "ann@acme.test", Role::Admin).await;
    let document = serde_json::json!({
        "openapi": "3.1.0",
        "info": { "title": "Parcel <b>Service</b>", "version": "1" },
        "servers": [{ "url": "https://api.parcel.example/v2" }],
        "components": { "securitySchemes": {
            "key": { "type": "apiKey", "in": "header", "name": "X-Parcel-Key" },
        } },
        "security": [{ "key": [] }],
        "paths": { "/me": { "get": { "responses": { "200": { "description": "you" } } } } },
    });
    let (path, document) = ("/apps/own/new", document.to_string());
    let page = ann.post(path, &[("definition", &document), ("do", "save")]).await;
    assert!(page.has("made from the OpenAPI document"), "{}", page.body);
    assert!(page.has("X-Parcel-Key") && page.has("api.parcel.example"), "{}", page.body);
    assert!(!page.has("<b>Service"), "{}", page.body);
    assert!(
        house.shop.vault().app_definitions().await.unwrap().is_empty(),
        "not before it is read"
    );

    let nowhere = document.replace("https://api.parcel.example/v2", "/v2");
    let page = ann.post(path, &[("definition", &nowhere), ("do", "check")]).await;
    assert!(page.status == 422 && page.has("What was found"), "{}", page.body);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_definition_is_checked_kept_used_changed_and_removed() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, me) = member(&house, "ann@acme.test", Role::Admin).await;
    let path = "/apps/own/new";

    let wrong = definition("orders", "orders.acme.test").replace("kind = ", "kindd = ");
    let page = ann.post(path, &[("definition", &wrong), ("do", "save")]).await;
    assert!(page.status == 422 && page.has("Line 6") && page.has("kindd"), "{}", page.body);
    let dangerous = definition("orders", "*.com");
    assert_eq!(save(&mut ann, path, &dangerous).await.status, 422);
    let taken = definition("orders", KEY_API);
    let page = save(&mut ann, path, &taken).await;
    assert!(page.status == 422 && page.has("is claimed by"), "{}", page.body);
    assert!(house.shop.vault().app_definitions().await.unwrap().is_empty());

    // In the place of one that is there, which is said first.
    let text = definition("vendor", KEY_API);
    let page = ann.post(path, &[("definition", &text), ("do", "save")]).await;
    assert!(page.status == 200 && page.has("takes the place"), "{}", page.body);
    let page = save(&mut ann, path, &text).await;
    assert_eq!((page.status, page.location()), (303, "/apps/vendor"), "{}", page.body);
    let page = ann.get("/apps/vendor").await;
    assert!(
        page.has("is in use") && page.has("own") && page.has("&#60;b&#62;Orders"),
        "{}",
        page.body
    );
    assert!(!page.has("<b>Orders"), "{}", page.body);

    // It is what accounts are connected and requests sent with; a command sees it, too.
    let shop = open_shop(&house.site).await;
    let app = shop.config.catalog.app("vendor").unwrap().clone();
    assert_eq!(app.name, "Own <b>Orders</b>");
    let wish = Wish {
        app,
        auth: "key".to_owned(),
        client: None,
        preset: None,
        entered: BTreeMap::from([("api_key".to_owned(), Secret::from(KEY.to_owned()))]),
        scopes: Vec::new(),
        owner: Owner::Member(me.id.clone()),
        nickname: Some("orders".parse().unwrap()),
        reconnect: None,
        same_identity: SameIdentity::IfKnown,
    };
    let account = shop.connector.keys(&wish).await.unwrap().account;
    shop.close().await;
    let pairs = [("account", account.id.as_str()), ("do", "send"), ("path", "/json")];
    let page = ann.post("/requests", &pairs).await;
    assert!(page.has("200 OK") && page.has("12345678901234567890"), "{}", page.body);

    let edit = "/apps/vendor/edit";
    assert!(ann.get(edit).await.has("base_url"));
    let page = save(&mut ann, edit, &text.replace("id = \"vendor\"", "id = \"other\"")).await;
    assert!(page.status == 422 && page.has("accounts refer to it"), "{}", page.body);
    let moved = text.replace("/json\"", "/html\"").replace("Ours", "Our new orders");
    assert_eq!(save(&mut ann, edit, &moved).await.location(), "/apps/vendor");
    assert!(ann.get("/apps/vendor").await.has("Our new orders"));
    assert!(ann.get(&format!("/requests?account={}", account.id)).await.has("value=\"/html\""));
    let other_way = moved.replace("auth.key", "auth.token");
    let page = ann.post(edit, &[("definition", &other_way), ("do", "save")]).await;
    assert!(page.has("accounts stop working") && page.has("orders"), "{}", page.body);

    let page = ann.get("/apps/vendor/remove").await;
    // The file's definition knows the account's way to authenticate, too.
    let lost = page.has("The account orders");
    assert!(page.has("vendor.toml takes its place") && !lost, "{}", page.body);
    assert_eq!(ann.post("/apps/vendor/remove", &[]).await.location(), "/apps");
    let page = ann.get("/apps/vendor").await;
    assert!(page.status == 200 && !page.has("Our new orders"), "the file's again: {}", page.body);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_owners_and_admins_change_definitions() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Member).await;
    let text = definition("orders", "orders.acme.test");
    house.shop.vault().put_app_definition(&"orders".parse().unwrap(), &text, None).await.unwrap();
    for path in ["/apps/own/new", "/apps/orders/edit", "/apps/orders/remove"] {
        assert_eq!(ben.get(path).await.status, 403, "{path}");
        let pairs = [("definition", &*text), ("do", "save")];
        assert_eq!(ben.post(path, &pairs).await.status, 403, "{path}");
    }
    assert_eq!(house.shop.vault().app_definitions().await.unwrap().len(), 1);
    house.close().await;
}
