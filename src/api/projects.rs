//! Projects, and what they have: the OAuth clients, which are all that this server knows.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde_json::{Value, json};

use super::failure::{Failure, no_content, ok};
use super::input::{self, Pairs};
use super::principal::{Client, Principal};
use super::scope::Scope;
use super::{Api, present};
use crate::clock::rfc3339;
use crate::forward::Body;
use crate::ids::{OAuthClientId, ProjectId};
use crate::telemetry::AuditEvent;
use crate::vault::{OAuthClientRecord, Project, ProjectDetails};

const MAX_TEXT_CHARS: usize = 250;

/// What may be written of a project; what is missing stays as it is.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    name: Option<String>,
    app_name: Option<String>,
    support_email: Option<String>,
    connect_require_key_auth_test: Option<bool>,
}

impl Api {
    /// Those that the client may work on.
    pub(super) async fn projects(
        &self,
        principal: &Principal,
        query: &Pairs,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsRead)?;
        let page = query.page(input::MAX_PAGE)?;
        let mut projects = self.vault().projects().await?;
        projects.retain(|project| is_of(client, &project.id));
        projects.sort_by(|a, b| a.id.cmp(&b.id));
        let total = projects.len() as u64;
        projects.retain(|project| page.after().is_none_or(|id| project.id.as_str() > id));
        projects.retain(|project| page.before().is_none_or(|id| project.id.as_str() < id));
        let more = projects.len() > page.limit as usize;
        projects.truncate(page.limit as usize);
        let first = projects.first().map(|project| project.id.as_str());
        let last = projects.last().map(|project| project.id.as_str()).filter(|_| more);
        let data: Vec<_> = projects.iter().map(present::project).collect();
        Ok(ok(&present::list(&data, total, first, last)))
    }

    pub(super) async fn one_project(
        &self,
        principal: &Principal,
        named: &str,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsRead)?;
        Ok(ok(&present::project(&self.project(client, named).await?)))
    }

    pub(super) async fn create_project(
        &self,
        principal: &Principal,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsWrite)?;
        if client.record.details.project.is_some() {
            return Err(Failure::Forbidden("this client works on one project only"));
        }
        let asked: Asked = input::json(headers, &body)?;
        let none = ProjectDetails {
            name: String::new(),
            app_name: None,
            support_email: None,
            require_key_test: false,
        };
        let project = self.vault().create_project(&asked.over(none)?).await?;
        self.note_project(client, "project_added", &project);
        Ok(ok(&present::project(&project)))
    }

    pub(super) async fn update_project(
        &self,
        principal: &Principal,
        named: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsWrite)?;
        let mut project = self.project(client, named).await?;
        let asked: Asked = input::json(headers, &body)?;
        project.details = asked.over(project.details)?;
        self.vault().update_project(&project.id, &project.details).await?;
        self.note_project(client, "project_changed", &project);
        Ok(ok(&present::project(&self.project(client, named).await?)))
    }

    /// Refused while its users have accounts, which want giving back.
    pub(super) async fn delete_project(
        &self,
        principal: &Principal,
        named: &str,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsWrite)?;
        let project = self.project(client, named).await?;
        self.vault().delete_project(&project.id).await?;
        self.note_project(client, "project_removed", &project);
        Ok(no_content())
    }

    async fn project(&self, client: &Client, named: &str) -> Result<Project, Failure> {
        let id: ProjectId = named.parse().map_err(|_| Failure::NotFound)?;
        let found = self.vault().project(&id).await?.filter(|project| is_of(client, &project.id));
        found.ok_or(Failure::NotFound)
    }

    fn note_project(&self, client: &Client, what: &str, project: &Project) {
        self.forwarder.telemetry.event(&AuditEvent::Administered {
            what,
            subject: &project.details.name,
            detail: project.id.as_str(),
            by: &format!("api: {}", client.record.id),
            since: Duration::ZERO,
        });
    }

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

fn is_of(client: &Client, project: &ProjectId) -> bool {
    client.record.details.project.as_ref().is_none_or(|own| own == project)
}

impl Asked {
    fn over(self, before: ProjectDetails) -> Result<ProjectDetails, Failure> {
        let text = |name, new: Option<String>, old: Option<String>| match new {
            Some(text) => plain(name, &text).map(|text| Some(text).filter(|t| !t.is_empty())),
            None => Ok(old),
        };
        let name = text("name", self.name, Some(before.name))?.filter(|name| !name.is_empty());
        Ok(ProjectDetails {
            name: name.ok_or_else(|| Failure::bad("a project needs a name"))?,
            app_name: text("app_name", self.app_name, before.app_name)?,
            support_email: text("support_email", self.support_email, before.support_email)?,
            require_key_test: self.connect_require_key_auth_test.unwrap_or(before.require_key_test),
        })
    }
}

fn plain(name: &str, text: &str) -> Result<String, Failure> {
    let text = text.trim();
    if text.chars().count() > MAX_TEXT_CHARS || text.chars().any(char::is_control) {
        let rule = format!("{name} has at most {MAX_TEXT_CHARS} characters, none of them control");
        return Err(Failure::Bad(rule));
    }
    Ok(text.to_owned())
}
