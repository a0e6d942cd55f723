//! The engine against authorization servers over real sockets: one that misbehaves on demand, and
//! the certified `oidc-provider`.

#[path = "../support/node.rs"]
mod node;
#[path = "../support/provider.rs"]
mod provider;

mod certified;
mod misbehaving;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::catalog::{App, Catalog};
use countersign::clock::Clock;
use countersign::config::Override;
use countersign::inject::Properties;
use countersign::oauth::{Engine, OAuthClient, Terms};
use countersign::secret::Secret;
use countersign::upstream::{Client, OwnAddresses, Settings};
use countersign::vault::Tokens;

const REDIRECT: &str = "https://cs.example/callback";

/// An engine, an app whose authorization server is at `address`, and our client there.
struct Site {
    engine: Engine,
    app: Arc<App>,
    client: OAuthClient,
    properties: Properties,
}

impl Site {
    /// `oauth2`: lines of the definition; `{as}` in them is the server's origin.
    fn new(address: SocketAddr, kind: &str, oauth2: &str) -> Self {
        let origin = format!("http://as.acme.test:{}", address.port());
        let text = format!(
            r#"id = "acme"
name = "Acme"
description = "for a test"
[auth.oauth]
kind = "{kind}"
hosts = ["{origin}"]
base_url = "{origin}"
clear_text = true
attach = [{{ header = "Authorization", value = "Bearer {{oauth_access_token}}" }}]
[auth.oauth.oauth2]
{}
"#,
            oauth2.replace("{as}", &origin)
        );
        let catalog = Catalog::build([("acme.toml".to_owned(), text)]);
        let shown = |found: &[countersign::catalog::Mistake]| format!("{found:#?}");
        let catalog = catalog.unwrap_or_else(|found| panic!("{}", shown(&found)));
        let app = catalog.app("acme").expect("it is there").clone();
        let client = OAuthClient {
            client_id: provider::CLIENT_ID.to_owned(),
            secret: Some(Secret::from(provider::CLIENT_SECRET.to_owned())),
            private_key: None,
            key_id: None,
        };
        let upstream = Client::new(settings(address), OwnAddresses::default()).expect("sets up");
        let engine = Engine::new(upstream, Clock::System);
        Self { engine, app, client, properties: Properties::new() }
    }

    fn terms<'a>(&'a self, scopes: &'a [String]) -> Terms<'a> {
        let (app, properties) = (self.app.as_ref(), &self.properties);
        Terms { app, auth: app.default_auth(), client: Some(&self.client), properties, scopes }
    }
}

fn settings(to: SocketAddr) -> Settings {
    let limit = Duration::from_secs(5);
    Settings {
        resolve: vec![Override { host: "as.acme.test".parse().expect("a host"), port: None, to }],
        roots: Vec::new(),
        allow: Vec::new(),
        bind: None,
        proxy: None,
        http2: true,
        connect_timeout: limit,
        tls_timeout: limit,
        first_byte_timeout: limit,
        idle_timeout: limit,
        keep_alive: limit,
        max_idle_per_host: 10,
        max_connections_per_host: 20,
    }
}

fn tokens(access: &Secret, refresh: Option<&Secret>) -> Tokens {
    Tokens { access: access.clone(), refresh: refresh.cloned() }
}
