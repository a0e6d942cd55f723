//! Projects: the operator's products, as their users see them on the connect page.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde_json::json;

use super::failure::{Failure, no_content, ok};
use super::input::{self, Pairs};
use super::principal::{Client, Principal};
use super::scope::Scope;
use super::{Api, present};
use crate::forward::Body;
use crate::ids::ProjectId;
use crate::telemetry::AuditEvent;
use crate::vault::{Project, ProjectDetails};

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
        let cut = page.of(projects, |project| project.id.as_str());
        Ok(ok(&present::part(&cut, present::project)))
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
            account: None,
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

    /// A picture for the connect page, as a data URL.
    pub(super) async fn set_logo(
        &self,
        principal: &Principal,
        named: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsWrite)?;
        let project = self.project(client, named).await?;
        let asked: Logo = input::json(headers, &body)?;
        let logo = picture(&asked.logo)?;
        self.vault().set_project_logo(&project.id, Some(logo)).await?;
        self.note_project(client, "project_changed", &project);
        Ok(no_content())
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Logo {
    logo: String,
}

const MAX_LOGO_BYTES: usize = 200 * 1024;

/// A bitmap: an SVG may be a program, and what is not base64 could be anything.
fn picture(url: &str) -> Result<String, Failure> {
    use base64::Engine as _;
    let refused =
        || Failure::bad("logo is a data URL of a PNG, JPEG, GIF or WebP picture of at most 200 kB");
    if url.len() > MAX_LOGO_BYTES {
        return Err(refused());
    }
    let (kind, encoded) = url
        .strip_prefix("data:image/")
        .and_then(|rest| rest.split_once(";base64,"))
        .ok_or_else(refused)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| refused())?;
    let begins: &[u8] = match kind {
        "png" => b"\x89PNG",
        "jpeg" | "jpg" => b"\xff\xd8\xff",
        "gif" => b"GIF8",
        "webp" => b"RIFF",
        _ => return Err(refused()),
    };
    if bytes.starts_with(begins) { Ok(url.to_owned()) } else { Err(refused()) }
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

pub(super) fn plain(name: &str, text: &str) -> Result<String, Failure> {
    let text = text.trim();
    if text.chars().count() > MAX_TEXT_CHARS || text.chars().any(char::is_control) {
        let rule = format!("{name} has at most {MAX_TEXT_CHARS} characters, none of them control");
        return Err(Failure::Bad(rule));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bitmap_is_a_logo() {
        for (url, good) in [
            ("data:image/png;base64,iVBORw0KGgo=", true),
            ("data:image/jpeg;base64,/9j/4AAQ", true),
            ("data:image/png;base64,PHN2Zz4=", false),
            ("data:image/svg+xml;base64,PHN2Zz4=", false),
            ("data:image/png,%89PNG", false),
            ("data:text/html;base64,iVBORw0KGgo=", false),
            ("https://evil.test/x.png", false),
            ("data:image/png;base64,iVBO\" onload=x", false),
            ("", false),
        ] {
            assert_eq!(picture(url).is_ok(), good, "{url}");
        }
    }
}
