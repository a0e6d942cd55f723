//! The REST API: Pipedream Connect's, as its SDKs speak it.
//!
//! A product that uses those SDKs moves here by a base URL. What the SDKs send and take was measured
//! on them; `openapi.json` says what is here. One request goes through [`Api::answer`]: preflight,
//! route, token, origin, limits, and then the one function that its route names.

mod accounts;
mod apps;
mod assertion;
mod call;
mod connect_tokens;
mod cors;
mod failure;
mod input;
mod limits;
pub mod logo;
mod oauth_clients;
mod oauth_token;
mod overrides;
mod present;
mod principal;
mod projects;
mod rate_limits;
pub mod redirect;
mod route;
mod scope;
pub mod target;
mod users;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;

pub use assertion::public_key;
pub use failure::{Failure, no_content, ok};
pub use input::{json as json_body, read as read_body};
pub use present::{clean, shown};
pub use principal::{bearer, note_stranger};
pub use scope::{ALL as ALL_SCOPES, InvalidScopes, Scopes};

use crate::connect::Connector;
use crate::credentials::Keeper;
use crate::forward::{Body, Forwarder, Refusal};
use crate::vault::Vault;
use input::{Pairs, read};
use limits::Limits;
use principal::{Principal, Tenancy};
use route::{Resource, Route};

/// What the operator decides.
pub struct Settings {
    /// Whether credentials may be handed out at all: `vault.export`.
    pub export: bool,
    /// Where browsers find this server: `web.public_url`.
    pub url: Option<String>,
    /// The listener speaks TLS itself.
    pub secure: bool,
    /// How long an API may take to begin its answer to a proxy call.
    pub patience: Duration,
    /// The same by app.
    pub patience_by_app: BTreeMap<String, Duration>,
}

impl Settings {
    fn patience_with(&self, app: &str) -> Duration {
        self.patience_by_app.get(app).copied().unwrap_or(self.patience)
    }
}

pub struct Api {
    forwarder: Arc<Forwarder>,
    keeper: Arc<Keeper>,
    connector: Connector,
    settings: Settings,
    limits: Limits,
}

const OPENAPI: &str = include_str!("openapi.json");

impl Api {
    pub fn new(forwarder: Arc<Forwarder>, keeper: Arc<Keeper>, settings: Settings) -> Self {
        let connector = Connector::new(keeper.clone());
        Self { forwarder, keeper, connector, settings, limits: Limits::default() }
    }

    /// Whether a path is this room's.
    pub fn owns(path: &str) -> bool {
        path.trim_start_matches('/').starts_with("v1/") || path == "/openapi.json"
    }

    pub async fn answer(&self, client: IpAddr, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() == "/openapi.json" {
            return document(request.method());
        }
        if cors::is_preflight(request.method(), request.headers()) {
            return cors::preflight(request.headers());
        }
        let (parts, body) = request.into_parts();
        if let Err(refusal) = self.forwarder.check(&parts) {
            return malformed(&refusal);
        }
        let request = Request::from_parts(parts, body);
        match Route::of(request.method(), request.uri().path()) {
            Ok(route) => Box::pin(self.take(client, route, request)).await,
            Err(failure) => cors::allow(failure.into_response(), None),
        }
    }

    async fn take(
        &self,
        client: IpAddr,
        route: Route,
        request: Request<Incoming>,
    ) -> Response<Body> {
        match route {
            Route::Token => {
                let (parts, body) = request.into_parts();
                match read(body).await {
                    Ok(body) => self.token(client, &parts.headers, body).await,
                    Err(failure) => failure.into_response(),
                }
            }
            Route::Validate { token } => {
                let query = Pairs::parse(request.uri().query().unwrap_or_default());
                let validated = match query {
                    Ok(query) => self.validate(&token, request.headers(), &query).await,
                    Err(failure) => Err(failure),
                };
                validated.unwrap_or_else(|failure| cors::allow(failure.into_response(), None))
            }
            route => self.take_authenticated(client, route, request).await,
        }
    }

    async fn take_authenticated(
        &self,
        client: IpAddr,
        route: Route,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let headers = request.headers();
        let principal = match self.authenticate(client, headers).await {
            Ok(principal) => principal,
            Err(failure) => return cors::allow(failure.into_response(), None),
        };
        let origin = match cors::judge(&principal, headers) {
            Ok(origin) => origin,
            Err(failure) => return cors::allow(failure.into_response(), None),
        };
        let within = match self.limits.request_of(&principal) {
            Ok(()) => self.own_limit(&principal, headers).await,
            Err(failure) => Err(failure),
        };
        let answered = match within {
            Ok(()) => self.dispatch(client, &principal, route, request).await,
            Err(failure) => Err(failure),
        };
        cors::allow(answered.unwrap_or_else(Failure::into_response), origin)
    }

    async fn dispatch(
        &self,
        client: IpAddr,
        principal: &Principal,
        route: Route,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let query = || Pairs::parse(request.uri().query().unwrap_or_default());
        match route {
            Route::Apps => self.apps(&query()?),
            Route::App(id) => self.one_app(&id).await,
            Route::Categories => Ok(ok(&self.categories().into())),
            Route::Category(id) => self.one_category(&id),
            Route::Of { project, what } => {
                let tenancy =
                    self.tenancy(principal, project.as_deref(), request.headers()).await?;
                Box::pin(self.within(client, principal, &tenancy, what, request)).await
            }
            Route::CreateRateLimit => {
                let (parts, body) = request.into_parts();
                self.create_rate_limit(principal, &parts.headers, read(body).await?).await
            }
            Route::Projects => self.projects(principal, &query()?).await,
            Route::Project(id) => self.one_project(principal, &id).await,
            Route::DeleteProject(id) => self.delete_project(principal, &id).await,
            Route::CreateProject => {
                let (parts, body) = request.into_parts();
                self.create_project(principal, &parts.headers, read(body).await?).await
            }
            Route::UpdateProject(id) => {
                let (parts, body) = request.into_parts();
                self.update_project(principal, &id, &parts.headers, read(body).await?).await
            }
            Route::SetLogo(id) => {
                let (parts, body) = request.into_parts();
                self.set_logo(principal, &id, &parts.headers, read(body).await?).await
            }
            // Both were answered without a principal.
            Route::Token | Route::Validate { .. } => Err(Failure::Internal),
        }
    }

    async fn within(
        &self,
        client: IpAddr,
        principal: &Principal,
        at: &Tenancy,
        what: Resource,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let pairs = || Pairs::parse(&query);
        match what {
            Resource::Accounts => self.accounts(principal, at, &pairs()?).await,
            Resource::Account(id) => Ok(ok(&self.account(principal, at, &id, &pairs()?).await?)),
            Resource::WrappedAccount(id) => {
                let account = self.account(principal, at, &id, &pairs()?).await?;
                Ok(ok(&serde_json::json!({ "data": account })))
            }
            Resource::AccountsOfUser(user) => {
                self.accounts_of_user(principal, at, &user, &pairs()?).await
            }
            Resource::DeleteAccount(id) => self.delete_account(principal, at, &id).await,
            Resource::DeleteAccountsOfApp(id) => {
                self.delete_accounts_of_app(principal, at, &id).await
            }
            Resource::Users => self.users(principal, at, &pairs()?).await,
            Resource::DeleteUser(user) => self.delete_user(principal, at, &user, &query).await,
            Resource::ProjectInfo => self.project_info(principal).await,
            Resource::OAuthClients => self.oauth_clients(principal, &pairs()?).await,
            Resource::OAuthClient(id) => self.one_oauth_client(principal, &id).await,
            Resource::DeleteOAuthClient(id) => self.delete_oauth_client(principal, &id).await,
            Resource::CreateOAuthClient => {
                let (parts, body) = request.into_parts();
                self.create_oauth_client(principal, &parts.headers, read(body).await?).await
            }
            Resource::UpdateOAuthClient(id) => {
                let (parts, body) = request.into_parts();
                self.update_oauth_client(principal, &id, &parts.headers, read(body).await?).await
            }
            Resource::AppOverrides => self.app_overrides(principal, at, &pairs()?).await,
            Resource::AppOverride(id) => self.one_app_override(principal, at, &id).await,
            Resource::DeleteAppOverride(id) => self.delete_app_override(principal, at, &id).await,
            Resource::CreateAppOverride => {
                let (parts, body) = request.into_parts();
                self.create_app_override(principal, at, &parts.headers, read(body).await?).await
            }
            Resource::UpdateAppOverride(id) => {
                let (parts, body) = request.into_parts();
                let body = read(body).await?;
                self.update_app_override(principal, at, &id, &parts.headers, body).await
            }
            Resource::Proxy { url_64 } => {
                Box::pin(self.call(client, principal, at, &url_64, request)).await
            }
            Resource::CreateToken => {
                let (parts, body) = request.into_parts();
                let body = read(body).await?;
                self.create_connect_token(principal, at, &parts.headers, body).await
            }
            Resource::CreateAccount => {
                let (parts, body) = request.into_parts();
                let body = read(body).await?;
                self.create_account(principal, at, &parts.headers, &pairs()?, body).await
            }
        }
    }

    fn vault(&self) -> &Vault {
        self.keeper.vault()
    }

    fn now(&self) -> SystemTime {
        self.keeper.clock().now()
    }

    /// As configured, else as this request found it: `Host` was checked when it came in.
    fn public_url(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.settings.url {
            return url.trim_end_matches('/').to_owned();
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let scheme = if self.settings.secure { "https" } else { "http" };
        format!("{scheme}://{host}")
    }
}

fn document(method: &Method) -> Response<Body> {
    if *method != Method::GET {
        return Failure::Method { allow: "GET" }.into_response();
    }
    let mut response = Response::new(Body::from(OPENAPI.to_owned()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn malformed(refusal: &Refusal) -> Response<Body> {
    let mut response = Failure::Bad(refusal.to_string()).into_response();
    // What follows on this connection could be read in two ways.
    response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> serde_json::Value {
        serde_json::from_str(OPENAPI).expect("JSON")
    }

    #[test]
    fn what_the_document_promises_is_there() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        for (path, operations) in document["paths"].as_object().expect("paths") {
            // The workspace's are held against it by a program that asks them all.
            if path == "/openapi.json" || path.starts_with("/v1/workspace/") {
                continue;
            }
            let filled = path.replace("{project_id}", "proj_1").replace(['{', '}'], "");
            for method in operations.as_object().expect("operations").keys() {
                let method: Method = method.to_uppercase().parse().expect("a method");
                let route = Route::of(&method, &filled);
                assert!(route.is_ok(), "{method} {path}: {}", route.unwrap_err());
            }
            assert!(Route::of(&Method::HEAD, &filled).is_err(), "{path} allows HEAD");
        }
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        fn check(document: &serde_json::Value, value: &serde_json::Value) {
            if let Some(reference) = value["$ref"].as_str() {
                let place = document.pointer(reference.trim_start_matches('#'));
                assert!(place.is_some(), "{reference}");
            }
            match value {
                serde_json::Value::Object(map) => map.values().for_each(|v| check(document, v)),
                serde_json::Value::Array(list) => list.iter().for_each(|v| check(document, v)),
                _ => {}
            }
        }
        check(&document(), &document());
    }
}
