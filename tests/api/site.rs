//! A server of the test's own with the REST API, an API that it proxies to, and a client that asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use countersign::clock::Clock;
use countersign::secret::TokenDigest;
use countersign::serve::{self, Options, Running, Sink, Source};
use countersign::vault::{
    ApiClientDetails, Environment, Project, ProjectDetails, SessionDetails, SessionOf, Vault,
};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engines;
use crate::origin::Origin;

/// Nobody but the API itself may ever see it.
pub const KEY: &str = "acme-real/9f8e7d+6c5b4a==";

pub struct Site {
    pub running: Running,
    pub origin: Origin,
    pub vault: Vault,
    pub project: Project,
    pub token: String,
    http: Client<HttpConnector, Full<Bytes>>,
    log: Arc<Mutex<Vec<u8>>>,
    folder: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// # Panics
    /// When it is another status; shows all.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

impl Site {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// `lines` are added to the configuration.
    pub async fn start_with(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::start().await;
        write_files(folder.path(), &origin, &format!("{lines}\n{}", engines::vault().await));
        let log = Arc::<Mutex<Vec<u8>>>::default();
        let running = serve(folder.path(), &log).await.unwrap();
        let vault = serve::open_vault(running.config(), &Clock::System).await.unwrap().unwrap();
        let details = ProjectDetails {
            name: "product".to_owned(),
            app_name: Some("My product".to_owned()),
            support_email: None,
            require_key_test: false,
        };
        let project = vault.create_project(&details).await.unwrap();
        let http = Client::builder(TokioExecutor::new()).build_http();
        let token = String::new();
        let mut site = Self { running, origin, vault, project, token, http, log, folder };
        site.token = site.token_of(&["*"], None).await;
        site
    }

    /// Ends the server and starts it again, on the same store and another port.
    pub async fn restart(mut self) -> Self {
        self.running.drain().await;
        // What is on its way out may hold the audit for a moment.
        let mut again = serve(self.folder.path(), &self.log).await;
        for _ in 0..100 {
            if again.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            again = serve(self.folder.path(), &self.log).await;
        }
        self.running = again.unwrap();
        self
    }

    /// An access token of a new API client.
    pub async fn token_of(&self, scopes: &[&str], project: Option<&Project>) -> String {
        let (id, _) = self.client(scopes, project).await;
        let token = format!("csat_{:040x}", rand());
        let details = SessionDetails {
            of: SessionOf::ApiClient(id),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            user_agent: None,
            expires_at: Clock::System.now() + std::time::Duration::from_secs(3600),
        };
        let digest = TokenDigest::of(token.as_bytes());
        self.vault.create_session(digest, &details).await.unwrap();
        token
    }

    pub async fn client(&self, scopes: &[&str], project: Option<&Project>) -> (String, String) {
        let details = ApiClientDetails {
            name: "test".to_owned(),
            project: project.map(|project| project.id.clone()),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expires_at: None,
        };
        let secret = format!("cs_{:040x}", rand());
        let digest = TokenDigest::of(secret.as_bytes());
        let client = self.vault.create_api_client(digest, &details).await.unwrap();
        (client.id, secret)
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.running.web.unwrap()
    }

    /// `path` below the test's own project.
    pub fn path(&self, path: &str) -> String {
        format!("/v1/connect/{}/{path}", self.project.id)
    }

    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.ask_as(&self.token, method, path, body).await
    }

    pub async fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(self.url(path));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request = request.header("x-pd-environment", "development");
        request = request.header("content-type", "application/json");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(request.body(Full::from(body)).unwrap()).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.http.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn connect_token(&self, user: &str) -> String {
        self.connect_token_with(json!({ "external_user_id": user })).await
    }

    pub async fn connect_token_with(&self, body: Value) -> String {
        let answer = self.ask("POST", &self.path("tokens"), Some(body)).await.expect(200);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Connects a keys account for `user` and gives its id.
    pub async fn account(&self, user: &str, app: &str, fields: Value) -> String {
        let body = json!({
            "app_slug": app,
            "cfmap_json": fields.to_string(),
            "connect_token": self.connect_token(user).await,
            "name": format!("{user}'s"),
        });
        let answer = self.ask("POST", &self.path("accounts"), Some(body)).await.expect(200);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn acme(&self, user: &str) -> String {
        self.account(user, "acme", json!({ "api_key": KEY })).await
    }

    /// An API proxy call of `user` with `account`.
    pub async fn call(
        &self,
        token: &str,
        method: &str,
        target: &str,
        user: &str,
        account: &str,
    ) -> Answer {
        let request = self.call_request(token, method, target, user, account);
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub fn call_request(
        &self,
        token: &str,
        method: &str,
        target: &str,
        user: &str,
        account: &str,
    ) -> http::request::Builder {
        use base64::Engine as _;
        let url_64 = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(target);
        let query = format!("external_user_id={user}&account_id={account}");
        let path = self.path(&format!("proxy/{url_64}?{query}"));
        Request::builder()
            .method(method.parse::<Method>().unwrap())
            .uri(self.url(&path))
            .header("authorization", format!("Bearer {token}"))
            .header("x-pd-environment", "development")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock()).into_owned()
    }

    pub async fn users(&self) -> usize {
        let filter = countersign::vault::UserFilter {
            project: self.project.id.clone(),
            environment: Environment::Development,
            containing: None,
            after: None,
            before: None,
            limit: 100,
        };
        self.vault.external_users(&filter).await.unwrap().len()
    }

    /// Ends the server, and finds no secret in what it wrote.
    pub async fn close(self) {
        self.vault.close().await;
        self.running.drain().await;
        let mut heard = self.log.lock().clone();
        for file in files_below(&self.folder.path().join("data")) {
            heard.extend(std::fs::read(file).unwrap());
        }
        for secret in [KEY, &self.token] {
            assert!(memchr::memmem::find(&heard, secret.as_bytes()).is_none(), "a secret got out");
        }
    }
}

async fn serve(
    folder: &Path,
    log: &Arc<Mutex<Vec<u8>>>,
) -> Result<Running, countersign::serve::Error> {
    let source = Source { file: Some(folder.join("countersign.toml")), env: Vec::new() };
    let config = serve::load(&source).unwrap().config;
    let options = Options { sink: Sink::Memory(log.clone()), ..Options::default() };
    serve::bind(config, options).await
}

pub fn write_files(folder: &Path, origin: &Origin, lines: &str) {
    let port = origin.address.port();
    std::fs::create_dir(folder.join("apps")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("apps/acme.toml", &app("acme", &format!("http://api.acme.test:{port}"), "", "/v1"));
    write("apps/other.toml", &app("other", &format!("http://api.other.test:{port}"), "", ""));
    let field =
        "[[auth.key.fields]]\nname = \"subdomain\"\nlabel = \"Subdomain\"\nsecret = false\n";
    let desk = app("desk", &format!("http://{{subdomain}}.desk.test:{port}"), field, "/api");
    write("apps/desk.toml", &desk);
    write("apps/forge.toml", &forge(port));
    write("apps/cloud.toml", &cloud(port));
    let slack = app("slack", &format!("http://slack.acme.test:{port}"), "", "/api");
    write("apps/slack.toml", &slack.replace("The slack", "Slack"));
    // The same, and nobody registers a client with it.
    write("apps/mist.toml", &cloud(port).replace("cloud", "mist"));
    let hosts = [
        "forge.acme.test",
        "api.cloud.test",
        "api.acme.test",
        "api.other.test",
        "one.desk.test",
        "two.desk.test",
        "evil.test",
        "hooks.localhost",
        "slack.acme.test",
    ];
    let to = origin.address;
    let resolve: String = hosts.iter().map(|host| format!("\"{host}\" = \"{to}\"\n")).collect();
    let data = folder.join("data");
    let (folder, data) = (folder.display(), data.display());
    let listen = if lines.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"" };
    let config = format!(
        "data_dir = \"{data}\"\napps_dir = \"{folder}/apps\"\n\
         [proxy]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"off\"\n\
         [upstream.resolve]\n{resolve}\n[web]\n{listen}\n{lines}\n"
    );
    write("countersign.toml", &config);
}

fn app(id: &str, origin: &str, fields: &str, base: &str) -> String {
    format!(
        "id = \"{id}\"\nname = \"The {id}\"\ndescription = \"A test's app\"\n\
         categories = [\"testing\"]\nconfidence = \"verified\"\n[auth.key]\nkind = \"api_key\"\n\
         clear_text = true\nhosts = [\"{origin}\"]\nbase_url = \"{origin}{base}\"\n\
         attach = [{{ header = \"Authorization\", value = \"Bearer {{api_key}}\" }}]\n{fields}\n\
         [[auth.key.fields]]\nname = \"api_key\"\nlabel = \"API key\"\nsecret = true\n\
         [auth.key.test]\nmethod = \"GET\"\nurl = \"{origin}/me\"\nexpect = {{ status = 200 }}\n",
    )
}

/// An app that people host themselves: the account knows its whole host.
fn forge(port: u16) -> String {
    let field = "[[auth.key.fields]]\nname = \"host\"\nlabel = \"Host\"\nkind = \"host\"\n\
                 secret = false\n";
    app("forge", &format!("http://{{host}}:{port}"), field, "")
}

/// An app whose access tokens end.
fn cloud(port: u16) -> String {
    let origin = format!("http://api.cloud.test:{port}");
    format!(
        "id = \"cloud\"\nname = \"The cloud\"\ndescription = \"A test's app\"\n\
         categories = [\"testing\"]\nconfidence = \"verified\"\n[auth.oauth]\nkind = \"oauth2\"\n\
         clear_text = true\nhosts = [\"{origin}\"]\nbase_url = \"{origin}\"\n\
         attach = [{{ header = \"Authorization\", value = \"Bearer {{oauth_access_token}}\" }}]\n\
         [auth.oauth.oauth2]\nauthorize_url = \"http://127.0.0.1:{port}/authorize\"\n\
         token_url = \"{origin}/token\"\nidentity = \"/account\"\n\
         default_scopes = [\"offline_access\"]\n\
         suggested_scopes = [\"files:read\", \"files:write\"]\n"
    )
}

fn rand() -> u128 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let one = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    u128::from(one()) << 64 | u128::from(one())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
