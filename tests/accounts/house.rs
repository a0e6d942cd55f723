//! A server, its store, a provider and an API, and a second handle on the store as commands have
//! it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::connect::Wish;
use countersign::credentials::Registered;
use countersign::ids::{AccountId, CallerId};
use countersign::inject::Properties;
use countersign::oauth::Callback;
use countersign::secret::{Secret, TokenDigest};
use countersign::serve::{Source, Workshop, load};
use countersign::vault::{Account, CallerDetails, MasterKey, OAuthClientDetails, Owner};
use rustls::ClientConfig;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::api::{Api, KEY_API};
use crate::client::{Answer, basic, exchange, inside_with};
use crate::pki::{self, Ca};
use crate::provider::{CLIENT_ID, CLIENT_SECRET, Provider};
use crate::site::{API, BEARER, Setup, Site};

/// The host of the operator's own server.
pub const HOOKS: &str = "hooks.acme.test";

/// The host of the provider, on any port.
const PROVIDER: &str = "as.acme.test";

/// One test, written once, as two: `sqlite::name` and `postgres::name`.
#[macro_export]
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($house:ident: House) $body:block)*) => {
        mod journey {
            use super::*;
            $($(#[$meta])* pub(super) async fn $name($house: House) $body)*
        }
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { Box::pin(journey::$name(House::sqlite().await)).await; })*
        }
        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(house) = House::postgres().await {
                    Box::pin(journey::$name(house)).await;
                }
            })*
        }
    };
}

pub struct House {
    pub site: Site,
    pub provider: Provider,
    pub api: Api,
    /// The store as a second process has it.
    pub shop: Workshop,
    ca: Ca,
    vault: String,
    /// The URL of a PostgreSQL database, whose files are not in the site's folder.
    database: Option<Secret>,
}

impl House {
    pub async fn sqlite() -> Self {
        Self::with(String::new(), "").await
    }

    /// With further lines in the app's `[oauth2]` section.
    pub async fn sqlite_with(oauth2: &str) -> Self {
        Self::with(String::new(), oauth2).await
    }

    /// With further sections in the configuration.
    pub async fn sqlite_and(sections: &str, oauth2: &str) -> Self {
        Self::with(sections.to_owned(), oauth2).await
    }

    /// Before the server starts: where the operator's own server is.
    pub fn hooks_at(&mut self, address: SocketAddr) {
        self.site.setup.resolve.push_str(&format!("\"{HOOKS}:443\" = \"{address}\"\n"));
        self.site.write("countersign.toml", &self.site.config());
    }

    pub fn pki(&self) -> &Ca {
        &self.ca
    }

    /// `None` where PostgreSQL is not installed.
    pub async fn postgres() -> Option<Self> {
        let url = crate::postgres::server()?.database().await;
        let key = MasterKey::generate().unwrap().to_text();
        let vault = format!(
            "[vault]\nurl = \"{}\"\nkey = {{ value = \"{}\" }}\n",
            url.expose(),
            key.expose()
        );
        Some(Self { database: Some(url), ..Self::with(vault, "").await })
    }

    /// Everything but the server, which [`Self::start`] starts.
    async fn with(vault: String, oauth2: &str) -> Self {
        let (ca, provider) = (Ca::new(), Provider::start().await);
        let api = Api::start(&ca, &provider).await;
        let site = setup(&ca, &provider, &api, &vault, oauth2).lay();
        let shop = open_shop(&site).await;
        let house = Self { site, provider, api, shop, ca, vault, database: None };
        house.register_client().await;
        house
    }

    /// A second server on the same store.
    pub fn neighbour(&self) -> Site {
        setup(&self.ca, &self.provider, &self.api, &self.vault, "").lay()
    }

    async fn register_client(&self) {
        let secrets = Properties::from([(
            Registered::SECRET.to_owned(),
            Secret::from(CLIENT_SECRET.to_owned()),
        )]);
        let details = OAuthClientDetails {
            app: "acme".parse().unwrap(),
            auth: "oauth".to_owned(),
            name: "acme".to_owned(),
            client_id: CLIENT_ID.to_owned(),
            redirect_uri: None,
            scopes: Vec::new(),
            fields: BTreeMap::new(),
        };
        self.shop.vault().create_oauth_client(&details, &secrets).await.unwrap();
    }

    /// An account whose owner consented in a browser.
    pub async fn connect(&self, nickname: &str) -> Account {
        self.consent(self.wish(nickname).await).await.unwrap()
    }

    pub async fn wish(&self, nickname: &str) -> Wish {
        let clients = self.shop.vault().oauth_clients().await.unwrap();
        Wish {
            app: self.shop.config.catalog.app("acme").unwrap().clone(),
            auth: "oauth".to_owned(),
            client: self.shop.keeper.client(&clients[0].id).await.unwrap(),
            preset: None,
            entered: BTreeMap::new(),
            scopes: Vec::new(),
            owner: Owner::Workspace,
            nickname: Some(nickname.parse().unwrap()),
            reconnect: None,
            same_identity: countersign::connect::SameIdentity::IfKnown,
        }
    }

    /// The account gets new tokens by a new consent.
    pub async fn reconnect(&self, account: &Account) -> Account {
        let wish = self.wish("unused").await;
        self.consent(Wish { reconnect: Some(account.clone()), nickname: None, ..wish })
            .await
            .unwrap()
    }

    async fn consent(&self, wish: Wish) -> Result<Account, countersign::connect::Error> {
        let redirect_uri = "http://127.0.0.1:8976/callback".to_owned();
        let authorization = self.shop.connector.authorize(&wish, &redirect_uri)?;
        let back = browse(&self.provider, &authorization.url).await;
        let params = query_of(&back);
        let callback = Callback { params, verifier: authorization.verifier, redirect_uri };
        Ok(self.shop.connector.exchange(&wish, &callback).await?.account)
    }

    /// A stored caller that may do everything with these accounts, as its `Proxy-Authorization`.
    pub async fn caller(&self, name: &str, accounts: &[&Account]) -> String {
        let caller: CallerId = name.parse().unwrap();
        let details = CallerDetails {
            description: String::new(),
            mode: None,
            rate: None,
            max_concurrent: None,
            rules: r#"[{"effect":"allow"}]"#.to_owned(),
            expires_at: None,
        };
        let token = format!("{name}-token-0123456789abcdefghijklmnop");
        let digest = TokenDigest::of(token.as_bytes());
        let vault = self.shop.vault();
        vault.create_caller(&caller, &details, None).await.unwrap();
        for account in accounts {
            vault.bind(&caller, &account.id, false, &[], None).await.unwrap();
        }
        // Last, so that nobody is known before everything about them is.
        vault.add_caller_token(&caller, digest, "", None).await.unwrap();
        basic(name, &token)
    }

    pub async fn start(&mut self) {
        self.site.serve().await;
    }

    /// `kill -9`, and again.
    pub async fn crash(&mut self) {
        self.site.signal("-KILL").await;
        self.site.ended(Duration::from_secs(10)).await;
    }

    pub async fn tls(&self) -> Arc<ClientConfig> {
        tls_to(&self.site).await
    }

    pub async fn tunnel(&self, credentials: &str) -> TlsStream<TcpStream> {
        inside_with(&self.site, API, credentials, self.tls().await).await
    }

    /// `GET path` of the API on a connection of its own.
    pub async fn get(&self, credentials: &str, path: &str) -> Answer {
        get_on(&mut self.tunnel(credentials).await, path).await
    }

    /// The same with an account named.
    pub async fn get_as(&self, credentials: &str, account: &str) -> Answer {
        let request =
            format!("GET / HTTP/1.1\r\nHost: {API}\r\nCountersign-Account: {account}\r\n\r\n");
        exchange(&mut self.tunnel(credentials).await, &request).await
    }

    pub async fn stored(&self, id: &AccountId) -> Account {
        self.shop.vault().account(id).await.unwrap().expect("it is there")
    }

    /// Calls to the token endpoint, those that traded codes not counted.
    pub fn refreshes(&self) -> usize {
        let calls = self.provider.calls("/token");
        calls.iter().filter(|call| call.params["grant_type"] == "refresh_token").count()
    }

    /// What the server recorded of `event`, once it is written.
    pub fn audit(&self, event: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.site.path("data/audit.jsonl")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["type"] == event).collect()
    }

    /// The changes of state that the audit tells of, and their details.
    pub fn transitions(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = self.audit("account_changed");
        told.iter().map(|line| (text(&line["change"]), text(&line["detail"]))).collect()
    }

    /// Stops everything, verifies the audit, and finds no token in anything that was written.
    pub async fn close(mut self) {
        self.shop.close().await;
        if let Some(url) = &self.database {
            assert_sealed(url, &some(self.provider.issued())).await;
        }
        self.site.setup.secrets.extend(some(self.provider.issued()));
        self.site.setup.secrets.push(CLIENT_SECRET.to_owned());
        self.site.close().await;
    }
}

/// Every table as text, and what is binary in hexadecimal.
async fn assert_sealed(url: &Secret, tokens: &[String]) {
    let mut connection = PgConnection::connect(url.expose()).await.unwrap();
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    let tables: Vec<(String,)> = sqlx::query_as(tables).fetch_all(&mut connection).await.unwrap();
    assert!(tables.iter().any(|(table,)| table == "account"));
    for (table,) in tables {
        let rows = sqlx::AssertSqlSafe(format!("SELECT t::text FROM \"{table}\" t"));
        let rows: Vec<(String,)> = sqlx::query_as(rows).fetch_all(&mut connection).await.unwrap();
        for token in tokens {
            let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
            let shown = rows.iter().any(|(row,)| row.contains(token) || row.contains(&hex));
            assert!(!shown, "a token is readable in {table}");
        }
    }
}

/// Looking for thousands of tokens in thousands of lines takes its time.
fn some(tokens: Vec<String>) -> Vec<String> {
    let most = if tokens.len() > 200 { 8 } else { 50 };
    let step = tokens.len().div_ceil(most).max(1);
    tokens.into_iter().step_by(step).collect()
}

fn setup(ca: &Ca, provider: &Provider, api: &Api, vault: &str, oauth2: &str) -> Setup {
    let port = provider.address.port();
    let mut setup = Setup::bare(ca)
        .app("vendor", &[KEY_API], BEARER)
        .resolve(&format!("{API}:443"), api.address)
        .resolve(&format!("{KEY_API}:443"), api.address)
        .resolve(&format!("{PROVIDER}:{port}"), provider.address)
        .rest(vault);
    setup.apps.push(("acme.toml".to_owned(), app(&format!("http://{PROVIDER}:{port}"), oauth2)));
    setup
}

fn app(provider: &str, oauth2: &str) -> String {
    format!(
        r#"id = "acme"
name = "Acme"
description = "A test's app"
[auth.oauth]
kind = "oauth2"
hosts = ["{API}"]
base_url = "https://{API}"
clear_text = true
attach = [{{ header = "Authorization", value = "Bearer {{oauth_access_token}}" }}]
[auth.oauth.test]
url = "https://{API}/test"
[auth.oauth.oauth2]
authorize_url = "{provider}/authorize"
token_url = "{provider}/token"
revoke_url = "{provider}/revoke"
refresh = {{ rotates = true }}
{oauth2}
"#
    )
}

pub async fn open_shop(site: &Site) -> Workshop {
    let source = Source { file: Some(site.path("countersign.toml")), env: Vec::new() };
    let loaded = load(&source).unwrap_or_else(|error| panic!("{error}"));
    Workshop::open(loaded.config, "test").await.unwrap_or_else(|error| panic!("{error}"))
}

pub async fn tls_to(site: &Site) -> Arc<ClientConfig> {
    pki::client_config(&site.ca_pem().await, &["http/1.1"], None)
}

pub async fn get_on(tunnel: &mut TlsStream<TcpStream>, path: &str) -> Answer {
    exchange(tunnel, &format!("GET {path} HTTP/1.1\r\nHost: {API}\r\n\r\n")).await
}

/// Where the provider sends a browser that was sent to `url`.
pub async fn browse(provider: &Provider, url: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    let mut stream = TcpStream::connect(provider.address).await.unwrap();
    let target = &url[url::Position::BeforePath..];
    let request = format!("GET {target} HTTP/1.1\r\nHost: {PROVIDER}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
    location.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

pub fn query_of(url: &str) -> BTreeMap<String, String> {
    url::Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

/// Gives the account a token that has ended already, in the store and at the API.
pub async fn expire(house: &House, account: &Account) {
    house.provider.behave(|behaviour| behaviour.expires_in = json!(0));
    house.reconnect(account).await;
    house.provider.behave(|behaviour| behaviour.expires_in = json!(3600));
}

/// Waits until `holds`, at most `within`.
pub async fn until<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> F,
) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
