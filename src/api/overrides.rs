//! App overrides: values of fields that a product decides for its users before they connect an app.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde::{Deserialize as _, Deserializer};
use serde_json::{Value, json};

use super::connect_tokens::is_operators;
use super::failure::{Failure, no_content, ok};
use super::input::{self, Pairs};
use super::principal::{Client, Principal, Tenancy};
use super::projects::plain;
use super::scope::Scope;
use super::{Api, present};
use crate::catalog::App;
use crate::clock::rfc3339;
use crate::connect::preset;
use crate::forward::Body;
use crate::ids::{AppOverrideId, OAuthClientId};
use crate::telemetry::AuditEvent;
use crate::vault::{self, AppOverride, AppOverrideDetails};

/// Of one project: they are read whole.
const MOST: usize = 1000;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    app: String,
    name: String,
    oauth_app_id: Option<String>,
    cfmap: Option<BTreeMap<String, Value>>,
}

/// What is missing stays as it is.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    name: Option<String>,
    /// `null` takes the client away.
    #[serde(default, deserialize_with = "said")]
    oauth_app_id: Option<Option<String>>,
    cfmap: Option<BTreeMap<String, Value>>,
}

fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl Api {
    pub(super) async fn app_overrides(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        query: &Pairs,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::ProjectsRead)?;
        let page = query.page(input::MAX_PAGE)?;
        let mut found = self.vault().app_overrides(&tenancy.project).await?;
        if let Some(named) = query.one("app")? {
            let id = self.app(named).map(|app| app.id.clone());
            found.retain(|one| Some(&one.app) == id.as_ref());
        }
        let cut = page.of(found, |one| one.id.as_str());
        Ok(ok(&present::part(&cut, |one| self.shown_override(one))))
    }

    pub(super) async fn one_app_override(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        named: &str,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::ProjectsRead)?;
        let found = self.app_override(tenancy, named).await?.ok_or(Failure::NotFound)?;
        Ok(ok(&self.shown_override(&found)))
    }

    pub(super) async fn create_app_override(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsWrite)?;
        let asked: New = input::json(headers, &body)?;
        let app = self.app_or_refuse(&asked.app)?;
        let details = AppOverrideDetails {
            name: name_of(&asked.name)?,
            oauth_client: asked.oauth_app_id.as_deref().map(client_id).transpose()?,
            fields: input::texts("cfmap", asked.cfmap.unwrap_or_default())?,
        };
        self.check_override(&app, &details).await?;
        if self.vault().app_overrides(&tenancy.project).await?.len() >= MOST {
            return Err(Failure::bad(format!("a project has at most {MOST} app overrides")));
        }
        let made = self.vault().create_app_override(&tenancy.project, &app.id, &details).await;
        let made = made.map_err(taken)?;
        self.note_override(client, "app_override_added", &made);
        Ok(ok(&self.shown_override(&made)))
    }

    pub(super) async fn update_app_override(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        named: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsWrite)?;
        let before = self.app_override(tenancy, named).await?.ok_or(Failure::NotFound)?;
        let asked: Changed = input::json(headers, &body)?;
        let mut details = before.details;
        if let Some(name) = &asked.name {
            details.name = name_of(name)?;
        }
        if let Some(named) = asked.oauth_app_id {
            details.oauth_client = named.as_deref().map(client_id).transpose()?;
        }
        if let Some(fields) = asked.cfmap {
            details.fields = input::texts("cfmap", fields)?;
        }
        let app = self.app_or_refuse(before.app.as_str())?;
        self.check_override(&app, &details).await?;
        self.vault().update_app_override(&before.id, &details).await.map_err(taken)?;
        let changed = self.app_override(tenancy, named).await?.ok_or(Failure::NotFound)?;
        self.note_override(client, "app_override_changed", &changed);
        Ok(ok(&self.shown_override(&changed)))
    }

    /// Accounts that were connected with it go on as they are.
    pub(super) async fn delete_app_override(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        named: &str,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::ProjectsWrite)?;
        let gone = self.app_override(tenancy, named).await?.ok_or(Failure::NotFound)?;
        self.vault().delete_app_override(&gone.id).await?;
        self.note_override(client, "app_override_removed", &gone);
        Ok(no_content())
    }

    /// Of this project only.
    pub(super) async fn app_override(
        &self,
        tenancy: &Tenancy,
        named: &str,
    ) -> Result<Option<AppOverride>, Failure> {
        let Ok(id) = named.parse::<AppOverrideId>() else { return Ok(None) };
        let found = self.vault().app_override(&id).await?;
        Ok(found.filter(|found| found.project == tenancy.project))
    }

    async fn check_override(&self, app: &App, details: &AppOverrideDetails) -> Result<(), Failure> {
        let client = match &details.oauth_client {
            None => None,
            Some(id) => {
                let found = self.vault().oauth_client(id).await?.filter(is_operators);
                Some(found.ok_or_else(|| Failure::bad(NO_CLIENT))?)
            }
        };
        preset::check(app, details, client.as_ref())
            .map_err(|unfit| Failure::Bad(unfit.to_string()))
    }

    fn shown_override(&self, one: &AppOverride) -> Value {
        let client = one.details.oauth_client.as_ref();
        let app = match self.app(one.app.as_str()) {
            Some(app) => present::app(&app, client),
            None => present::app_gone(&one.app, client),
        };
        json!({
            "id": one.id,
            "name": one.details.name,
            "app": app,
            "oauth_app_id": client,
            "cfmap": one.details.fields,
            "owner_id": one.project,
            "created_at": rfc3339(one.created_at),
            "updated_at": rfc3339(one.updated_at),
        })
    }

    fn note_override(&self, client: &Client, what: &str, one: &AppOverride) {
        self.forwarder.telemetry.event(&AuditEvent::Administered {
            what,
            subject: &one.details.name,
            detail: one.id.as_str(),
            by: &format!("api: {}", client.record.id),
            account: None,
            since: Duration::ZERO,
        });
    }
}

const NO_CLIENT: &str = "there is no such OAuth client: check oauth_app_id";

fn client_id(named: &str) -> Result<OAuthClientId, Failure> {
    named.parse().map_err(|_| Failure::bad(NO_CLIENT))
}

fn name_of(name: &str) -> Result<String, Failure> {
    let name = plain("name", name)?;
    if name.is_empty() { Err(Failure::bad("an app override needs a name")) } else { Ok(name) }
}

fn taken(error: vault::Error) -> Failure {
    match error {
        vault::Error::Conflict(_) => Failure::bad("the project has an app override of this name"),
        error => error.into(),
    }
}
