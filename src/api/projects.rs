//! What a project has: its OAuth clients, which are all that this server knows.

use http::Response;
use serde_json::{Value, json};

use super::failure::{Failure, ok};
use super::input::Pairs;
use super::principal::Principal;
use super::scope::Scope;
use super::{Api, present};
use crate::clock::rfc3339;
use crate::forward::Body;
use crate::ids::OAuthClientId;
use crate::vault::OAuthClientRecord;

impl Api {
    pub(super) async fn project_info(
        &self,
        principal: &Principal,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::ProjectsRead)?;
        let clients = self.vault().oauth_clients().await?;
        let apps = clients.iter();
        let apps = apps.map(|c| json!({ "id": c.id, "name_slug": c.details.app }));
        Ok(ok(&json!({ "apps": apps.collect::<Vec<_>>() })))
    }

    pub(super) async fn oauth_clients(
        &self,
        principal: &Principal,
        query: &Pairs,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::ProjectsRead)?;
        let page = query.page(super::input::MAX_PAGE)?;
        let mut clients = self.vault().oauth_clients().await?;
        clients.sort_by(|a, b| a.id.cmp(&b.id));
        let total = clients.len() as u64;
        clients.retain(|client| page.after().is_none_or(|id| client.id.as_str() > id));
        clients.retain(|client| page.before().is_none_or(|id| client.id.as_str() < id));
        let more = clients.len() > page.limit as usize;
        clients.truncate(page.limit as usize);
        let first = clients.first().map(|client| client.id.as_str());
        let last = clients.last().map(|client| client.id.as_str()).filter(|_| more);
        let data: Vec<_> = clients.iter().map(|client| self.shown_client(client)).collect();
        Ok(ok(&present::list(&data, total, first, last)))
    }

    pub(super) async fn one_oauth_client(
        &self,
        principal: &Principal,
        named: &str,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::ProjectsRead)?;
        let client = self.oauth_client(named).await?;
        Ok(ok(&json!({ "data": self.shown_client(&client) })))
    }

    pub(super) async fn oauth_client(&self, named: &str) -> Result<OAuthClientRecord, Failure> {
        let id: OAuthClientId = named.parse().map_err(|_| Failure::NotFound)?;
        self.vault().oauth_client(&id).await?.ok_or(Failure::NotFound)
    }

    /// Its app, and what it is; its secret is written and never read.
    fn shown_client(&self, client: &OAuthClientRecord) -> Value {
        let details = &client.details;
        let app = self.app(details.app.as_str());
        let mut shown = match app {
            Some(app) => present::app(&app, Some(&client.id)),
            None => json!({ "id": client.id, "name_slug": details.app }),
        };
        shown["client_id"] = json!(details.client_id);
        shown["scopes"] = json!(details.scopes);
        shown["additional_scopes"] = json!([]);
        shown["redirect_uri"] = json!(details.redirect_uri);
        shown["owner_id"] = Value::Null;
        shown["created_at"] = json!(rfc3339(client.created_at));
        shown["updated_at"] = json!(rfc3339(client.updated_at));
        shown
    }
}
