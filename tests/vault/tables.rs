//! The other tables: what is written reads back, and rights end when they should.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::secret::{Secret, TokenDigest};
use countersign::vault::{
    ApiClientDetails, CallerDetails, Change, ConnectTokenDetails, Environment, Error,
    MemberDetails, OAuthClientDetails, Outcome, Owner, PendingFlow, ProjectDetails, Role,
    SessionDetails, SessionOf, Share, UserFilter, Vault,
};

use crate::house::{House, after, connected, name, secret, slack, tokens};

fn digest(text: &str) -> TokenDigest {
    TokenDigest::of(text.as_bytes())
}

fn ann() -> MemberDetails {
    MemberDetails {
        email: "Ann@Example.com".to_owned(),
        name: "Ann".to_owned(),
        role: Role::Admin,
        oidc_subject: None,
        disabled: false,
    }
}

fn product() -> ProjectDetails {
    ProjectDetails {
        name: "product".to_owned(),
        app_name: Some("My product".to_owned()),
        support_email: None,
        require_key_test: true,
    }
}

async fn user(vault: &Vault) -> countersign::vault::ExternalUser {
    let project = vault.create_project(&product()).await.unwrap();
    vault.ensure_external_user(&project.id, Environment::Production, "u|1 é").await.unwrap()
}

crate::on_both_engines! {
    async fn members_read_back_and_are_found_by_their_address(house: House) {
        let vault = house.open().await;
        let made = vault.create_member(&ann()).await.unwrap();
        assert!(matches!(vault.create_member(&ann()).await, Err(Error::Conflict(_))));
        let found = vault.member_by_email("ANN@example.com").await.unwrap().unwrap();
        assert_eq!((found.id.clone(), found.role), (made.id.clone(), Role::Admin));
        assert!(vault.set_password_hash(&made.id, Some("$argon2id$".to_owned())).await.unwrap());
        assert_eq!(vault.password_hash(&made.id).await.unwrap().as_deref(), Some("$argon2id$"));
        let disabled = MemberDetails { disabled: true, role: Role::Owner, ..ann() };
        assert!(vault.update_member(&made.id, &disabled).await.unwrap());
        let read = vault.member(&made.id).await.unwrap().unwrap();
        assert!(read.disabled_at.is_some() && read.role == Role::Owner);
    }

    async fn a_member_who_owns_accounts_is_not_deleted(house: House) {
        let vault = house.open().await;
        let member = vault.create_member(&ann()).await.unwrap();
        let mut new = slack();
        new.owner = Owner::Member(member.id.clone());
        let account = vault.create_account(&new, &tokens("a", "r")).await.unwrap();
        assert_eq!(account.owner, Owner::Member(member.id.clone()));
        assert!(matches!(vault.delete_member(&member.id).await, Err(Error::Conflict(_))));
        vault.delete_account(&account.id).await.unwrap();
        assert!(vault.delete_member(&member.id).await.unwrap());
        assert!(vault.members().await.unwrap().is_empty());
    }

    async fn external_users_are_made_once_per_environment(house: House) {
        let vault = house.open().await;
        let one = user(&vault).await;
        let ensure = |environment| vault.ensure_external_user(&one.project, environment, "u|1 é");
        assert_eq!(ensure(Environment::Production).await.unwrap().id, one.id);
        assert_ne!(ensure(Environment::Development).await.unwrap().id, one.id);
        let filter = UserFilter {
            project: one.project.clone(),
            environment: one.environment,
            containing: None,
            after: None,
            before: None,
            limit: 10,
        };
        let found = vault.external_users(&filter).await.unwrap();
        assert_eq!(found.iter().map(|user| &user.id).collect::<Vec<_>>(), [&one.id]);
        for (part, count) in [("U|1", 1), ("%", 0), ("_", 0)] {
            let filter = UserFilter { containing: Some(part.to_owned()), ..filter.clone() };
            assert_eq!(vault.count_external_users(&filter).await.unwrap(), count, "{part}");
        }
        let behind = UserFilter { after: Some(one.id.clone()), ..filter };
        assert!(vault.external_users(&behind).await.unwrap().is_empty());
        let mut new = slack();
        new.owner = Owner::ExternalUser(one.id.clone());
        let account = vault.create_account(&new, &tokens("a", "r")).await.unwrap();
        assert_eq!(account.nickname, account.id, "nobody picks it from a list");
        assert!(matches!(vault.delete_external_user(&one.id).await, Err(Error::Conflict(_))));
        assert!(matches!(vault.delete_project(&one.project).await, Err(Error::Conflict(_))));
    }

    async fn an_oauth_client_keeps_its_secret_until_it_is_given_another(house: House) {
        let vault = house.open().await;
        let mut changes = vault.changes();
        changes.next().await;
        let mut details = OAuthClientDetails {
            app: "slack".parse().unwrap(),
            auth: "oauth".to_owned(),
            name: "ours".to_owned(),
            client_id: "id-1".to_owned(),
            redirect_uri: None,
            scopes: vec!["a".to_owned()],
            fields: BTreeMap::new(),
        };
        let secrets = BTreeMap::from([("secret".to_owned(), secret("s3"))]);
        let made = vault.create_oauth_client(&details, &secrets).await.unwrap();
        assert_eq!(changes.next().await, [Change::OAuthClient(made.id.clone())]);
        details.client_id = "id-2".to_owned();
        assert!(vault.update_oauth_client(&made.id, &details, None).await.unwrap());
        let (read, opened) = vault.open_oauth_client(&made.id).await.unwrap().unwrap();
        assert_eq!((read.details, opened["secret"].expose()), (details.clone(), "s3"));
        let other = BTreeMap::from([("secret".to_owned(), secret("s4"))]);
        assert!(vault.update_oauth_client(&made.id, &details, Some(&other)).await.unwrap());
        let (_, opened) = vault.open_oauth_client(&made.id).await.unwrap().unwrap();
        assert_eq!(opened["secret"].expose(), "s4");
        let mut new = slack();
        new.oauth_client = Some(made.id.clone());
        vault.create_account(&new, &tokens("a", "r")).await.unwrap();
        assert!(matches!(vault.delete_oauth_client(&made.id).await, Err(Error::Conflict(_))));
    }

    async fn callers_have_tokens_and_bindings_that_go_with_them(house: House) {
        let vault = house.open().await;
        let caller = "flow-1".parse().unwrap();
        let details = CallerDetails {
            rate: Some("10/s".to_owned()),
            max_concurrent: Some(4),
            expires_at: Some(after(60)),
            ..CallerDetails::default()
        };
        vault.create_caller(&caller, &details, None).await.unwrap();
        assert_eq!(vault.caller(&caller).await.unwrap().unwrap().details, details);
        let taken = vault.create_caller(&caller, &details, None).await;
        assert!(taken.unwrap_err().to_string().contains("flow-1"));
        let token = vault.add_caller_token(&caller, digest("t"), "first", None).await.unwrap();
        let again = vault.add_caller_token(&caller, digest("t"), "twice", None).await;
        assert!(matches!(again, Err(Error::Conflict(_))));
        assert!(vault.expire_caller_token(&token.id, after(5)).await.unwrap());
        let tokens = vault.caller_tokens(Some(&caller)).await.unwrap();
        assert_eq!((tokens[0].digest, tokens[0].expires_at), (digest("t"), Some(after(5))));

        let (one, two) = (connected(&vault).await, connected(&vault).await);
        vault.bind(&caller, &one.id, true, &[], None).await.unwrap();
        vault.bind(&caller, &two.id, true, &["/x".to_owned()], None).await.unwrap();
        let defaults: Vec<_> = vault.bindings().await.unwrap().into_iter()
            .map(|binding| (binding.account, binding.is_default)).collect();
        assert!(defaults.contains(&(one.id.clone(), false)), "an app has one default");
        assert!(defaults.contains(&(two.id.clone(), true)));
        let unknown = vault.bind(&caller, &name("apn_none"), false, &[], None).await;
        assert!(matches!(unknown, Err(Error::Conflict(_))));
        vault.delete_account(&one.id).await.unwrap();
        assert_eq!(vault.bindings().await.unwrap().len(), 1);
        assert!(vault.unbind(&caller, &two.id).await.unwrap());
        assert!(vault.delete_caller(&caller).await.unwrap());
        assert!(vault.caller_tokens(None).await.unwrap().is_empty());
    }

    async fn sharing_begins_and_ends(house: House) {
        let vault = house.open().await;
        let account = connected(&vault).await.id;
        let member = Share::Member("mem_1".parse().unwrap());
        for share in [&member, &Share::Workspace, &member] {
            vault.share(&account, share, None).await.unwrap();
        }
        let all = vault.shares().await.unwrap();
        assert_eq!(all, [(account.clone(), Share::Workspace), (account.clone(), member.clone())]);
        assert!(vault.unshare(&account, &member).await.unwrap());
        assert!(!vault.unshare(&account, &member).await.unwrap());
    }

    async fn a_connect_token_is_spent_once_and_ends(house: House) {
        let vault = house.open().await;
        let details = ConnectTokenDetails {
            external_user: user(&vault).await.id,
            scopes: vec!["connect:*".to_owned()],
            allowed_origins: vec!["https://a.example".to_owned()],
            success_redirect_uri: Some("https://a.example/ok".to_owned()),
            error_redirect_uri: None,
            webhook_uri: None,
            app: Some("slack".parse().unwrap()),
            oauth_client: None,
            progressive_scopes: true,
            expires_at: after(60),
        };
        vault.create_connect_token(digest("c"), &details).await.unwrap();
        assert_eq!(vault.connect_token(digest("c")).await.unwrap().unwrap().details, details);
        assert!(vault.spend_connect_token(digest("c")).await.unwrap());
        assert!(!vault.spend_connect_token(digest("c")).await.unwrap());
        assert!(vault.connect_token(digest("c")).await.unwrap().unwrap().spent_at.is_some());
        house.clock.advance(Duration::from_secs(60));
        assert!(vault.connect_token(digest("c")).await.unwrap().is_none());
        let ended = vault.any_connect_token(digest("c")).await.unwrap();
        assert!(ended.is_some(), "its page can still say who to ask");
        assert_eq!(vault.sweep().await.unwrap(), 0);
        house.clock.advance(Duration::from_secs(24 * 60 * 60));
        assert_eq!(vault.sweep().await.unwrap(), 1);
    }

    async fn an_account_is_the_last_word_of_an_attempt(house: House) {
        let vault = house.open().await;
        let details = ConnectTokenDetails {
            external_user: user(&vault).await.id,
            scopes: Vec::new(),
            allowed_origins: Vec::new(),
            success_redirect_uri: None,
            error_redirect_uri: None,
            webhook_uri: None,
            app: None,
            oauth_client: None,
            progressive_scopes: false,
            expires_at: after(60),
        };
        vault.create_connect_token(digest("t"), &details).await.unwrap();
        let flow = Some((digest("state"), "browser".to_owned()));
        let of = |result| Outcome { attempt: "a".to_owned(), flow: flow.clone(), result };
        assert_eq!(vault.outcome(digest("t"), "a").await.unwrap(), None);
        vault.put_outcome(digest("t"), &of(Err("denied".to_owned()))).await.unwrap();
        let account = "apn_1".parse().unwrap();
        vault.put_outcome(digest("t"), &of(Ok(account))).await.unwrap();
        vault.put_outcome(digest("t"), &of(Err("late".to_owned()))).await.unwrap();
        let last = of(Ok("apn_1".parse().unwrap()));
        assert_eq!(vault.outcome(digest("t"), "a").await.unwrap(), Some(last.clone()));
        let by_flow = vault.outcome_of_flow(digest("state")).await.unwrap();
        assert_eq!(by_flow, Some((digest("t"), last)));
    }

    async fn a_flow_is_taken_once_by_one_of_many(house: House) {
        let vault = house.open().await;
        let flow = |expires_at| PendingFlow {
            details: "{\"app\":\"slack\"}".to_owned(),
            secrets: BTreeMap::from([("verifier".to_owned(), secret("v"))]),
            expires_at,
        };
        vault.begin_flow(digest("s"), &flow(after(60))).await.unwrap();
        vault.begin_flow(digest("old"), &flow(after(0))).await.unwrap();
        let tries: Vec<_> = (0..8).map(|_| {
            let vault = vault.clone();
            tokio::spawn(async move { vault.take_flow(digest("s")).await.unwrap().is_some() })
        }).collect();
        let mut taken = 0;
        for attempt in tries {
            taken += usize::from(attempt.await.unwrap());
        }
        assert_eq!(taken, 1);
        assert!(vault.take_flow(digest("old")).await.unwrap().is_none(), "it has expired");
    }

    async fn sessions_end_by_time_and_by_hand(house: House) {
        let vault = house.open().await;
        let member = vault.create_member(&ann()).await.unwrap().id;
        let client = ApiClientDetails {
            name: "ci".to_owned(), project: None, scopes: vec!["connect:*".to_owned()], expires_at: None,
        };
        let client = vault.create_api_client(digest("secret"), &client).await.unwrap();
        assert_eq!(vault.api_client(&client.id).await.unwrap().unwrap().secret, digest("secret"));
        let details = |of| SessionDetails {
            of, scopes: Vec::new(), user_agent: None, expires_at: after(60),
        };
        let web = details(SessionOf::Member(member.clone()));
        vault.create_session(digest("web"), &web).await.unwrap();
        let api = details(SessionOf::ApiClient(client.id.clone()));
        vault.create_session(digest("api"), &api).await.unwrap();
        assert_eq!(vault.session(digest("web")).await.unwrap().unwrap().details, web);
        assert!(vault.delete_api_client(&client.id).await.unwrap());
        assert!(vault.session(digest("api")).await.unwrap().is_none());
        assert!(vault.extend_session(digest("web"), after(120)).await.unwrap());
        house.clock.advance(Duration::from_secs(61));
        assert!(vault.session(digest("web")).await.unwrap().is_some());
        assert_eq!(vault.delete_sessions_of(&member).await.unwrap(), 1);
    }

    async fn a_named_lease_has_one_holder(house: House) {
        let (one, two) = (house.node("node-1").await, house.node("node-2").await);
        let lease = Duration::from_secs(10);
        assert!(one.hold_lease("sweep", lease).await.unwrap());
        assert!(one.hold_lease("sweep", lease).await.unwrap(), "its holder keeps it");
        assert!(!two.hold_lease("sweep", lease).await.unwrap());
        assert!(!two.release_lease("sweep").await.unwrap());
        house.clock.advance(lease);
        assert!(two.hold_lease("sweep", lease).await.unwrap());
        assert!(two.release_lease("sweep").await.unwrap());
        assert!(one.hold_lease("sweep", lease).await.unwrap());
    }

    async fn a_webhook_is_one_nodes_until_its_retry(house: House) {
        let vault = house.open().await;
        let token = Secret::from("ctok_1".to_owned());
        let body = "{}";
        vault
            .queue_webhook("https://a.example", "CONNECTION_SUCCESS", body, Some(&token))
            .await
            .unwrap();
        let first = vault.take_webhooks(10, after(30)).await.unwrap();
        assert_eq!((first.len(), first[0].attempts), (1, 0));
        assert!(vault.take_webhooks(10, after(30)).await.unwrap().is_empty());
        house.clock.advance(Duration::from_secs(30));
        let second = vault.take_webhooks(10, after(90)).await.unwrap();
        assert_eq!(second[0].attempts, 1);
        assert!(vault.postpone_webhook(&second[0].id, after(31), "refused").await.unwrap());
        house.clock.advance(Duration::from_secs(1));
        assert_eq!(vault.take_webhooks(10, after(90)).await.unwrap().len(), 1);
        assert!(vault.finish_webhook(&second[0].id).await.unwrap());
    }

    async fn nodes_that_start_together_agree_on_one_secret(house: House) {
        let (one, two) = (house.node("node-1").await, house.node("node-2").await);
        let first = one.sealed_item_or("ca", &secret("one")).await.unwrap();
        let second = two.sealed_item_or("ca", &secret("two")).await.unwrap();
        assert!(first.same_as(&second) && first.expose() == "one");
        one.set_sealed_item("ca", &secret("three")).await.unwrap();
        assert_eq!(two.sealed_item("ca").await.unwrap().unwrap().expose(), "three");
        assert!(two.delete_sealed_item("ca").await.unwrap());
        assert!(two.sealed_item("ca").await.unwrap().is_none());
    }
}
