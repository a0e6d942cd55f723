//! Members' own tokens: what their programs may do, and when they no longer may.

use std::time::{Duration, SystemTime};

use countersign::secret::TokenDigest;
use countersign::vault::{
    Member, MemberTokenDetails, ProjectDetails, Rights, Role, Share, fresh_member_token,
};
use serde_json::Value;

use crate::client::basic;
use crate::house::{House, until};
use crate::schemathesis;
use crate::visitor::{PASSWORD, Page, Visitor, member, until_known};

const SOON: Duration = Duration::from_secs(5);

/// A program with a token.
struct Program {
    token: String,
    visitor: Visitor,
}

impl Program {
    async fn of(house: &House, member: &Member, rights: Rights, life: Option<Duration>) -> Self {
        let token = fresh_member_token().unwrap().expose().to_owned();
        let expires_at = life.map(|life| SystemTime::now() + life);
        let details = MemberTokenDetails { name: "test".to_owned(), rights, expires_at };
        let digest = TokenDigest::of(token.as_bytes());
        house.shop.vault().create_member_token(&member.id, digest, &details).await.unwrap();
        Self { token, visitor: Visitor::new(house) }
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Page {
        let bearer = format!("Bearer {}", self.token);
        let length = body.len().to_string();
        let mut fields = vec![("Authorization", &*bearer), ("Content-Type", "application/json")];
        // The visitor says it of a POST itself.
        if method != "POST" && !body.is_empty() {
            fields.push(("Content-Length", &length));
        }
        self.visitor.send(method, path, &fields, body).await
    }

    async fn get(&mut self, path: &str) -> Page {
        self.ask("GET", path, "").await
    }
}

fn json(page: &Page) -> Value {
    serde_json::from_str(&page.body).unwrap_or_else(|_| panic!("{page:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_makes_a_token_in_settings_which_is_shown_once_and_revokes_it() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (mut ann, anns) = member(&house, "ann@acme.test", Role::Member).await;
    let asked = [("name", "<b>report"), ("rights", "read"), ("lifetime", "30d")];
    let without = ann.post("/settings/tokens", &asked).await;
    assert!(without.status == 422 && without.has("present password"), "{}", without.body);
    let mut asked = asked.to_vec();
    asked.push(("current", PASSWORD));
    let page = ann.post("/settings/tokens", &asked).await;
    assert!(page.status == 200 && page.has("&#60;b&#62;report"), "{}", page.body);
    assert_eq!(page.field("cache-control"), Some("no-store"));
    let start = page.body.find("cspat_").unwrap();
    let token: String =
        page.body[start..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let settings = ann.get("/settings").await;
    assert!(settings.has("&#60;b&#62;report") && !settings.has(&token), "{}", settings.body);

    let mut program = Program { token, visitor: Visitor::new(&house) };
    let me = program.get("/v1/workspace/me").await;
    assert_eq!((me.status, &json(&me)["email"]), (200, &Value::from("ann@acme.test")));
    assert!(ann.get("/settings").await.has("Last used"));
    let id = house.shop.vault().member_tokens(Some(&anns.id)).await.unwrap()[0].id.clone();
    // Another's id is nobody's.
    let (mut ben, _) = member(&house, "ben@acme.test", Role::Owner).await;
    assert_eq!(ben.post("/settings/tokens/revoke", &[("token", &id)]).await.status, 404);
    assert_eq!(ann.post("/settings/tokens/revoke", &[("token", &id)]).await.status, 303);
    assert_eq!(program.get("/v1/workspace/me").await.status, 401);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_may_what_its_member_may_and_no_more() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (_, anns) = member(&house, "ann@acme.test", Role::Member).await;
    let (_, bens) = member(&house, "ben@acme.test", Role::Member).await;
    let vault = house.shop.vault();
    let (own, other) = (house.connect("own").await, house.connect("other").await);
    vault.give_account(&own.id, Some(&anns.id)).await.unwrap();
    vault.give_account(&other.id, Some(&bens.id)).await.unwrap();
    let mut ann = Program::of(&house, &anns, Rights::Write, None).await;
    let mut reader = Program::of(&house, &anns, Rights::Read, None).await;

    let listed = json(&ann.get("/v1/workspace/accounts").await);
    let names: Vec<&Value> =
        listed["data"].as_array().unwrap().iter().map(|account| &account["nickname"]).collect();
    assert_eq!(names, ["own"], "{listed}");
    assert!(!listed.to_string().contains("token"), "no secret: {listed}");
    // Another's account is not there, whatever is asked about it.
    let theirs = format!("/v1/workspace/accounts/{}", other.id);
    for (method, path, body) in [
        ("GET", theirs.clone(), ""),
        ("PATCH", theirs.clone(), r#"{"nickname":"x"}"#),
        ("DELETE", theirs.clone(), ""),
        ("PUT", format!("{theirs}/access"), r#"{"workspace":true}"#),
        ("POST", format!("{theirs}/check"), ""),
    ] {
        assert_eq!(ann.ask(method, &path, body).await.status, 404, "{method} {path}");
    }
    let mine = format!("/v1/workspace/accounts/{}", own.id);
    for (method, path, body) in [
        ("PATCH", mine.clone(), r#"{"nickname":"x"}"#),
        ("DELETE", mine.clone(), ""),
        ("POST", "/v1/workspace/callers".to_owned(), r#"{"name":"x"}"#),
    ] {
        assert_eq!(reader.ask(method, &path, body).await.status, 403, "{method} {path}");
    }
    let shared =
        ann.ask("PUT", &format!("{mine}/access"), r#"{"members":["BEN@acme.test"]}"#).await;
    assert_eq!(json(&shared)["shared_with"][0], "ben@acme.test", "{}", shared.body);
    let odd = ann.ask("PUT", &format!("{mine}/access"), r#"{"owner":"mem_x"}"#).await;
    assert!(odd.status == 400 && odd.has("unknown field"), "{}", odd.body);

    // A caller with the other's account is refused, with the own one it works on the live path.
    let body = format!(r#"{{"name":"flow","accounts":["{}"]}}"#, other.id);
    assert_eq!(ann.ask("POST", "/v1/workspace/callers", &body).await.status, 400);
    let body = format!(r#"{{"name":"flow","accounts":["{}"],"allow":["GET /v1/**"]}}"#, own.id);
    let made = ann.ask("POST", "/v1/workspace/callers", &body).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let flow = basic("flow", json(&made)["token"].as_str().unwrap());
    until_known(&house, &flow).await;
    until("it may", SOON, async || house.get(&flow, "/v1/x").await.status == 200).await;
    let mut ben = Program::of(&house, &bens, Rights::Write, None).await;
    vault.unshare(&own.id, &Share::Member(bens.id.clone())).await.unwrap();
    let seen = json(&ben.get("/v1/workspace/callers/flow").await);
    assert_eq!(
        (&seen["accounts"][0]["nickname"], &seen["may"]["change"]),
        (&Value::Null, &false.into())
    );
    assert!(!seen.to_string().contains(own.id.as_str()), "{seen}");
    assert_eq!(ben.ask("POST", "/v1/workspace/callers/flow/rotate", "").await.status, 403);
    let gone = format!("/v1/workspace/callers/flow/accounts/{}", own.id);
    assert_eq!(ben.ask("DELETE", &gone, "").await.status, 403);
    assert_eq!(ann.ask("DELETE", &gone, "").await.status, 204);
    assert!(vault.bindings().await.unwrap().is_empty());
    assert_eq!(ann.ask("DELETE", "/v1/workspace/callers/flow", "").await.status, 204);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_document_says_of_the_workspace_is_true() {
    let mut house = House::sqlite().await;
    house.start().await;
    let (_, anns) = member(&house, "ann@acme.test", Role::Owner).await;
    let account = house.connect("own").await;
    house.shop.vault().give_account(&account.id, Some(&anns.id)).await.unwrap();
    let mut ann = Program::of(&house, &anns, Rights::Write, None).await;
    let body = format!(r#"{{"name":"flow","accounts":["{}"],"allow":["GET /v1/**"]}}"#, account.id);
    assert_eq!(ann.ask("POST", "/v1/workspace/callers", &body).await.status, 200);

    let base = format!("http://127.0.0.1:{}", house.site.ports.web);
    let there = format!(
        "[parameters]\n\"path.account_id\" = \"{}\"\n\"path.caller\" = \"flow\"\n",
        account.id
    );
    let below = ["--include-path-regex", "^/v1/workspace/"];
    // With what is there, answers look as they are described.
    let checks = "not_a_server_error,status_code_conformance,response_schema_conformance";
    let keep = [&below[..], &["--exclude-method", "DELETE", "--checks", checks]].concat();
    schemathesis::run(&base, &ann.token, &there, 10, &keep).await;
    // With whatever else.
    let any = [&below[..], &["--checks", "not_a_server_error,status_code_conformance"]].concat();
    schemathesis::run(&base, &ann.token, "", 10, &any).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_member_their_role_their_password_and_its_time() {
    let mut house = House::sqlite().await;
    house.start().await;
    let vault = house.shop.vault();
    let project = ProjectDetails {
        name: "shop".to_owned(),
        app_name: None,
        support_email: None,
        require_key_test: false,
    };
    let project = vault.create_project(&project).await.unwrap();
    let (_, _) = member(&house, "own@acme.test", Role::Owner).await;
    let (mut ann, anns) = member(&house, "ann@acme.test", Role::Admin).await;
    let users = format!("/v1/connect/{}/users", project.id);
    let accounts = format!("/v1/connect/{}/accounts", project.id);
    let mut program = Program::of(&house, &anns, Rights::Read, None).await;
    assert_eq!(program.get(&users).await.status, 200);
    // Users' secrets and requests with them are not what an admin has on the pages.
    let secrets = program.get(&format!("{accounts}?include_credentials=true")).await;
    assert_eq!(secrets.status, 403, "{}", secrets.body);
    let proxied =
        format!("/v1/connect/{}/proxy/aHR0cHM6Ly94?external_user_id=a&account_id=b", project.id);
    assert_eq!(program.get(&proxied).await.status, 403);
    let delete = program.ask("DELETE", &format!("{users}/nobody"), "").await;
    assert_eq!(delete.status, 403, "read only: {}", delete.body);

    // Demoted: the next request.
    let details = countersign::vault::MemberDetails { role: Role::Member, ..anns.details() };
    assert!(vault.update_member(&anns.id, &details).await.unwrap());
    let refused = program.get(&users).await;
    assert!(refused.status == 403 && refused.has("/v1/workspace/"), "{}", refused.body);
    assert_eq!(program.get("/v1/workspace/me").await.status, 200);

    // Of a time that has passed, of a member who may not log in, of a token cut short.
    let mut short = Program::of(&house, &anns, Rights::Read, Some(Duration::ZERO)).await;
    assert_eq!(short.get("/v1/workspace/me").await.status, 401);
    let disabled = countersign::vault::MemberDetails { disabled: true, ..details.clone() };
    assert!(vault.update_member(&anns.id, &disabled).await.unwrap());
    assert_eq!(program.get("/v1/workspace/me").await.status, 401);
    assert!(vault.update_member(&anns.id, &details).await.unwrap());
    assert_eq!(program.get("/v1/workspace/me").await.status, 200);

    // A session's cookie opens no door here, and a token none of the pages.
    assert_eq!(ann.get("/v1/workspace/me").await.status, 401);
    let page = program.get("/accounts").await;
    assert!(page.status == 303 && page.location().starts_with("/login"), "{page:?}");

    // A new password, with the tick and then none left.
    let new = "another long password";
    let pairs = [("current", PASSWORD), ("password", new), ("again", new)];
    assert_eq!(ann.post("/settings/password", &pairs).await.status, 303);
    assert_eq!(program.get("/v1/workspace/me").await.status, 200, "not ticked");
    let pairs = [("current", new), ("password", PASSWORD), ("again", PASSWORD), ("tokens", "yes")];
    assert_eq!(ann.post("/settings/password", &pairs).await.status, 303);
    assert_eq!(program.get("/v1/workspace/me").await.status, 401);
    let mut last = Program::of(&house, &anns, Rights::Write, None).await;
    assert!(vault.delete_member(&anns.id).await.unwrap());
    assert_eq!(last.get("/v1/workspace/me").await.status, 401);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_tokens_is_stopped_and_stands_in_the_audit() {
    let mut house = House::sqlite().await;
    house.start().await;
    let mut stranger = Program { token: "cspat_0".to_owned(), visitor: Visitor::new(&house) };
    let mut throttled = false;
    for at in 0..200 {
        stranger.token = format!("cspat_{at}");
        throttled |= stranger.get("/v1/workspace/me").await.status == 429;
    }
    assert!(throttled);
    until("the audit says so", SOON, async || !house.audit("auth_failed").is_empty()).await;
    house.close().await;
}
