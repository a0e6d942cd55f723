//! OAuth clients, as the operator registered them with providers: their secrets are written and never
//! read. They belong to the whole server, so only a client of every project writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde_json::{Value, json};

use super::connect_tokens::is_operators;
use super::failure::{Failure, no_content, ok};
use super::input::{self, Pairs};
use super::principal::{Client, Principal};
use super::projects::plain;
use super::scope::Scope;
use super::{Api, present};
use crate::catalog::App;
use crate::clock::rfc3339;
use crate::connect::{Way, scopes};
use crate::credentials::Registered;
use crate::forward::Body;
use crate::ids::OAuthClientId;
use crate::inject::Properties;
use crate::secret::Secret;
use crate::telemetry::AuditEvent;
use crate::vault::{OAuthClientDetails, OAuthClientRecord};

const MAX_SECRET_BYTES: usize = 4096;

/// What may be written of a client; what is missing stays as it is.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    app: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    name: Option<String>,
    /// Taken because the SDKs have it; there is nowhere to show it.
    description: Option<String>,
    scopes: Option<Vec<String>>,
    additional_scopes: Option<Vec<String>>,
}

impl Api {
    pub(super) async fn oauth_clients(
        &self,
        principal: &Principal,
        query: &Pairs,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::ProjectsRead)?;
        let page = query.page(input::MAX_PAGE)?;
        let mut clients = self.vault().oauth_clients().await?;
        if let Some(named) = query.one("app")? {
            let id = self.app(named).map(|app| app.id.clone());
            clients.retain(|client| Some(&client.details.app) == id.as_ref());
        }
        if let Some(words) = query.one("q")? {
            let words = words.to_lowercase();
            clients.retain(|client| {
                let details = &client.details;
                [details.name.as_str(), details.app.as_str()]
                    .iter()
                    .any(|text| text.to_lowercase().contains(&words))
            });
        }
        let cut = page.of(clients, |client| client.id.as_str());
        Ok(ok(&present::part(&cut, |client| self.shown_client(client))))
    }

    pub(super) async fn one_oauth_client(
        &self,
        principal: &Principal,
        named: &str,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::ProjectsRead)?;
        let client = self.oauth_client(named).await?;
        Ok(ok(&self.shown_client(&client)))
    }

    pub(super) async fn create_oauth_client(
        &self,
        principal: &Principal,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let client = writer(principal)?;
        let asked: Asked = input::json(headers, &body)?;
        let missing = |name: &str| Failure::bad(format!("missing field `{name}`"));
        let app = asked.app.as_deref().ok_or_else(|| missing("app"))?;
        let app = self.app_or_refuse(app)?;
        let auth = by_browser(&app)?;
        if asked.client_id.is_none() {
            return Err(missing("client_id"));
        }
        let details = asked.over(OAuthClientDetails {
            app: app.id.clone(),
            auth,
            name: app.name.clone(),
            client_id: String::new(),
            redirect_uri: None,
            scopes: Vec::new(),
            fields: BTreeMap::new(),
        })?;
        let secrets = asked.secrets()?.unwrap_or_default();
        let made = self.vault().create_oauth_client(&details, &secrets).await?;
        self.note_client(client, "oauth_client_added", &made);
        Ok(ok(&self.shown_client(&made)))
    }

    pub(super) async fn update_oauth_client(
        &self,
        principal: &Principal,
        named: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let client = writer(principal)?;
        let before = self.oauth_client(named).await?;
        let asked: Asked = input::json(headers, &body)?;
        if asked.app.is_some() {
            return Err(Failure::bad("a client's app cannot be changed: accounts refer to it"));
        }
        let details = asked.over(before.details)?;
        let secrets = asked.secrets()?;
        self.vault().update_oauth_client(&before.id, &details, secrets.as_ref()).await?;
        let changed = self.oauth_client(named).await?;
        self.note_client(client, "oauth_client_changed", &changed);
        Ok(ok(&self.shown_client(&changed)))
    }

    /// Refused while accounts were connected with it.
    pub(super) async fn delete_oauth_client(
        &self,
        principal: &Principal,
        named: &str,
    ) -> Result<Response<Body>, Failure> {
        let client = writer(principal)?;
        let gone = self.oauth_client(named).await?;
        self.vault().delete_oauth_client(&gone.id).await?;
        self.note_client(client, "oauth_client_removed", &gone);
        Ok(no_content())
    }

    pub(super) async fn oauth_client(&self, named: &str) -> Result<OAuthClientRecord, Failure> {
        let id: OAuthClientId = named.parse().map_err(|_| Failure::NotFound)?;
        self.vault().oauth_client(&id).await?.filter(is_operators).ok_or(Failure::NotFound)
    }

    /// Its app, and what it is.
    fn shown_client(&self, client: &OAuthClientRecord) -> Value {
        let details = &client.details;
        let app = self.app(details.app.as_str());
        let mut shown = match app {
            Some(app) => present::app(&app, Some(&client.id)),
            None => present::app_gone(&details.app, Some(&client.id)),
        };
        shown["client_id"] = json!(details.client_id);
        shown["scopes"] = json!(details.scopes);
        shown["additional_scopes"] = json!([]);
        shown["redirect_uri"] = json!(details.redirect_uri);
        // The SDKs want a text; who owns it is whoever runs this server.
        shown["owner_id"] = json!("server");
        shown["created_at"] = json!(rfc3339(client.created_at));
        shown["updated_at"] = json!(rfc3339(client.updated_at));
        shown
    }

    fn note_client(&self, client: &Client, what: &str, record: &OAuthClientRecord) {
        self.forwarder.telemetry.event(&AuditEvent::Administered {
            what,
            subject: &record.details.name,
            account: None,
            detail: record.id.as_str(),
            by: &format!("api: {}", client.record.id),
            since: Duration::ZERO,
        });
    }
}

fn writer(principal: &Principal) -> Result<&Client, Failure> {
    let client = principal.client(Scope::ProjectsWrite)?;
    match &client.record.details.project {
        None => Ok(client),
        Some(_) => Err(Failure::Forbidden(
            "OAuth clients belong to every project, and this client works on one only",
        )),
    }
}

fn by_browser(app: &App) -> Result<String, Failure> {
    let auth = app.auths.iter().find(|auth| Way::of(auth) == Way::Browser);
    let none = || Failure::bad(format!("{} is not connected by OAuth", app.name));
    auth.map(|auth| auth.id.clone()).ok_or_else(none)
}

impl Asked {
    fn over(&self, before: OAuthClientDetails) -> Result<OAuthClientDetails, Failure> {
        if let Some(description) = &self.description {
            plain("description", description)?;
        }
        let name = self.name.as_deref().map(|name| plain("name", name)).transpose()?;
        let id = self.client_id.as_deref().map(|id| plain("client_id", id)).transpose()?;
        let lists = [self.scopes.as_ref(), self.additional_scopes.as_ref()];
        let scopes = match lists {
            [None, None] => before.scopes,
            _ => {
                let all = lists.into_iter().flatten().flatten().map(String::as_str);
                scopes::list(all).map_err(|invalid| Failure::Bad(invalid.to_string()))?
            }
        };
        let details = OAuthClientDetails {
            name: name.unwrap_or(before.name),
            client_id: id.unwrap_or(before.client_id),
            scopes,
            ..before
        };
        match details.name.is_empty() || details.client_id.is_empty() {
            true => Err(Failure::bad("name and client_id are not empty")),
            false => Ok(details),
        }
    }

    fn secrets(&self) -> Result<Option<Properties>, Failure> {
        let Some(secret) = &self.client_secret else { return Ok(None) };
        if secret.is_empty() || secret.len() > MAX_SECRET_BYTES {
            let rule = format!("client_secret has 1 to {MAX_SECRET_BYTES} bytes");
            return Err(Failure::Bad(rule));
        }
        let secret = Secret::from(secret.clone());
        Ok(Some(Properties::from([(Registered::SECRET.to_owned(), secret)])))
    }
}
