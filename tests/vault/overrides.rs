//! What projects decide beforehand, OAuth clients that users bring, and flows that change while they
//! wait.

use std::collections::BTreeMap;

use countersign::secret::TokenDigest;
use countersign::vault::{
    AppOverrideDetails, Environment, Error, ExternalUser, NewAccount, OAuthClientDetails, Owner,
    PendingFlow, Project, ProjectDetails, Vault,
};

use crate::house::{House, after, secret, slack, tokens};

async fn product(vault: &Vault, name: &str) -> (Project, ExternalUser) {
    let details = ProjectDetails {
        name: name.to_owned(),
        app_name: None,
        support_email: None,
        require_key_test: false,
    };
    let project = vault.create_project(&details).await.unwrap();
    let user = vault.ensure_external_user(&project.id, Environment::Production, "ann").await;
    (project, user.unwrap())
}

fn details(name: &str) -> AppOverrideDetails {
    let fields = BTreeMap::from([("subdomain".to_owned(), "acme".to_owned())]);
    AppOverrideDetails { name: name.to_owned(), oauth_client: None, fields }
}

fn client() -> OAuthClientDetails {
    OAuthClientDetails {
        app: "slack".parse().unwrap(),
        auth: "oauth".to_owned(),
        name: "Slack".to_owned(),
        client_id: "id".to_owned(),
        redirect_uri: None,
        scopes: Vec::new(),
        fields: BTreeMap::new(),
    }
}

crate::on_both_engines! {
    async fn an_override_reads_back_and_its_name_is_its_projects(house: House) {
        let vault = house.open().await;
        let ((one, _), (two, _)) = (product(&vault, "one").await, product(&vault, "two").await);
        let app = "desk".parse().unwrap();
        let made = vault.create_app_override(&one.id, &app, &details("ours")).await.unwrap();
        let again = vault.create_app_override(&one.id, &app, &details("ours")).await;
        assert!(matches!(again, Err(Error::Conflict(_))));
        vault.create_app_override(&two.id, &app, &details("ours")).await.unwrap();
        let read = vault.app_override(&made.id).await.unwrap().unwrap();
        assert_eq!((&read.project, &read.app, read.details), (&one.id, &app, details("ours")));
        let other = vault.create_app_override(&one.id, &app, &details("other")).await.unwrap();
        let taken = vault.update_app_override(&other.id, &details("ours")).await;
        assert!(matches!(taken, Err(Error::Conflict(_))));
        let renamed = AppOverrideDetails { fields: BTreeMap::new(), ..details("renamed") };
        assert!(vault.update_app_override(&made.id, &renamed).await.unwrap());
        assert_eq!(vault.app_override(&made.id).await.unwrap().unwrap().details, renamed);
        assert_eq!(vault.app_overrides(&one.id).await.unwrap().len(), 2);
        vault.delete_project(&two.id).await.unwrap();
        assert!(vault.app_overrides(&two.id).await.unwrap().is_empty());
    }

    async fn an_account_outlives_its_override(house: House) {
        let vault = house.open().await;
        let (project, user) = product(&vault, "product").await;
        let app = "slack".parse().unwrap();
        let made = vault.create_app_override(&project.id, &app, &details("ours")).await.unwrap();
        let owner = Owner::ExternalUser(user.id);
        let new = NewAccount { owner, app_override: Some(made.id.clone()), ..slack() };
        let account = vault.create_account(&new, &tokens("a", "r")).await.unwrap();
        assert_eq!(account.app_override, Some(made.id.clone()));
        assert!(vault.delete_app_override(&made.id).await.unwrap());
        let left = vault.account(&account.id).await.unwrap().unwrap();
        assert_eq!((left.app_override, left.version), (None, account.version));
        assert!(!vault.delete_app_override(&made.id).await.unwrap());
    }

    async fn a_client_that_a_user_brought_is_in_no_list_and_goes_with_the_user(house: House) {
        let vault = house.open().await;
        let (_, user) = product(&vault, "product").await;
        let secrets = BTreeMap::from([("secret".to_owned(), secret("s"))]);
        let own = vault.create_own_oauth_client(&user.id, &client(), &secrets).await.unwrap();
        let ours = vault.create_oauth_client(&client(), &secrets).await.unwrap();
        assert_eq!(own.external_user, Some(user.id.clone()));
        let listed = vault.oauth_clients().await.unwrap();
        assert_eq!(listed.iter().map(|client| &client.id).collect::<Vec<_>>(), [&ours.id]);
        let owned = vault.own_oauth_clients(&user.id).await.unwrap();
        assert_eq!(owned.iter().map(|client| &client.id).collect::<Vec<_>>(), [&own.id]);
        vault.delete_external_user(&user.id).await.unwrap();
        assert!(vault.oauth_client(&own.id).await.unwrap().is_none());
        assert!(vault.oauth_client(&ours.id).await.unwrap().is_some());
    }

    async fn a_flow_that_waits_is_changed_by_one_of_many(house: House) {
        let vault = house.open().await;
        let state = TokenDigest::of(b"state");
        let flow = PendingFlow {
            details: "first".to_owned(),
            secrets: BTreeMap::from([("code".to_owned(), secret("device-code"))]),
            expires_at: after(60),
        };
        vault.begin_flow(state, &flow).await.unwrap();
        let change = |to: &'static str| vault.change_flow(state, "first", to);
        let (one, two) = tokio::join!(change("one"), change("two"));
        assert!(one.unwrap() != two.unwrap(), "one of them came first");
        let read = vault.flow(state).await.unwrap().unwrap();
        assert!(["one", "two"].contains(&&*read.details));
        assert_eq!(read.secrets["code"].expose(), "device-code");
        assert!(vault.take_flow(state).await.unwrap().is_some());
        assert!(vault.flow(state).await.unwrap().is_none());
    }
}
