//! Apps, accounts and lists as the SDKs read them. Pure.
//!
//! Python's SDK refuses an answer that lacks a field or has another type; TypeScript's converts
//! times only where they have `T` and `Z`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::input::{Cut, cursor};
use crate::catalog::{App, Auth, AuthKind, Field, FieldKind, HostPattern};
use crate::clock::rfc3339;
use crate::connect::Way;
use crate::ids::{AppId, OAuthClientId};
use crate::inject::Template;
use crate::vault::{Account, Credentials, ExternalUser, Project};

/// `page_info` of a list. `end` is the cursor of the last record where there are more behind it:
/// the SDKs go on while there is one.
pub fn list(data: &[Value], total: u64, start: Option<&str>, end: Option<&str>) -> Value {
    json!({
        "page_info": {
            "total_count": total,
            "count": data.len(),
            "start_cursor": start.map(cursor),
            "end_cursor": end.map(cursor),
        },
        "data": data,
    })
}

/// The same of a part of a list, each item as `shown`.
pub fn part<T>(cut: &Cut<T>, shown: impl Fn(&T) -> Value) -> Value {
    let data: Vec<Value> = cut.items.iter().map(shown).collect();
    list(&data, cut.total, cut.first.as_deref(), cut.last.as_deref())
}

/// An app by what it is when nothing else is said: its first way to authenticate.
pub fn app(app: &App, client: Option<&OAuthClientId>) -> Value {
    app_by(app, app.default_auth(), client)
}

fn app_by(app: &App, auth: &Auth, client: Option<&OAuthClientId>) -> Value {
    let id = client.map_or_else(|| app_id(app), ToString::to_string);
    json!({
        "id": id,
        "name_slug": app.id,
        "name": app.name,
        "auth_type": auth_type(auth),
        "description": app.description,
        "img_src": image(app),
        "custom_fields_json": custom_fields(auth),
        "categories": app.categories,
        "featured_weight": 0,
        "scope_profiles": scope_profiles(auth),
        "oauth_app_id": client,
        "connect": {
            "proxy_enabled": !auth.hosts.is_empty(),
            "allowed_domains": allowed_domains(auth),
            "base_proxy_target_url": with_custom_fields(&auth.base_url),
        },
    })
}

pub fn app_id(app: &App) -> String {
    format!("app_{}", app.id)
}

fn auth_type(auth: &Auth) -> &'static str {
    match Way::of(auth) {
        Way::Browser => "oauth",
        _ if auth.kind == AuthKind::None => "none",
        Way::Keys | Way::Grant => "keys",
    }
}

/// A text that holds JSON: that is how it is.
fn custom_fields(auth: &Auth) -> String {
    let fields = auth.fields.iter().filter(|field| field.is_asked()).map(custom_field);
    Value::from(fields.collect::<Vec<_>>()).to_string()
}

fn custom_field(field: &Field) -> Value {
    let mut shown = json!({
        "name": field.name,
        "label": field.label,
        "description": field.help,
        "default": field.default,
        "optional": field.optional,
        "type": match (&field.kind, field.secret) {
            (_, true) => "password",
            (FieldKind::Text | FieldKind::Host(_) | FieldKind::Url(_), false) => "string",
        },
        "placeholder": field.placeholder,
    });
    if !field.choices.is_empty() {
        shown["options"] = json!(field.choices);
    }
    shown
}

/// The three names that the SDKs know; a definition's own are left out.
fn scope_profiles(auth: &Auth) -> Vec<Value> {
    let profiles = auth.oauth2.as_ref().map(|oauth2| &oauth2.scope_profiles);
    let named = |(name, scopes): (&String, &Vec<String>)| {
        let name = name.replace([' ', '-'], "_");
        let known = ["read_only", "read_write", "admin"].contains(&&*name);
        known.then(|| json!({ "name": name, "scopes": scopes }))
    };
    profiles.into_iter().flatten().filter_map(named).collect()
}

fn allowed_domains(auth: &Auth) -> Vec<String> {
    let mut hosts: Vec<String> =
        auth.hosts.iter().map(|HostPattern { host, .. }| braced(&host.to_string())).collect();
    hosts.dedup();
    hosts
}

fn with_custom_fields(template: &Template) -> String {
    braced(template.source())
}

/// `{subdomain}` as the SDKs' documentation writes it.
fn braced(text: &str) -> String {
    text.replace('{', "{{custom_fields.").replace('}', "}}")
}

/// The first letter on a colour of the app's own: countersign carries no trademarks.
fn image(app: &App) -> String {
    let hue = app.id.as_str().bytes().fold(7_u32, |hue, b| (hue * 31 + u32::from(b)) % 360);
    let letter = app.name.chars().find(|c| c.is_alphanumeric()).unwrap_or('?').to_uppercase();
    format!(
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 40 40'%3E%3Crect \
         width='40' height='40' rx='8' fill='hsl({hue} 55%25 42%25)'/%3E%3Ctext x='20' y='27' \
         font-family='sans-serif' font-size='20' fill='%23fff' text-anchor='middle'%3E{letter}\
         %3C/text%3E%3C/svg%3E"
    )
}

/// An account; `app` is missing when its definition is.
pub fn account(
    account: &Account,
    user: &ExternalUser,
    app: Option<&App>,
    credentials: Option<Value>,
) -> Value {
    let health = &account.health;
    let auth = app.and_then(|app| app.auth(&account.auth));
    let shown = match (app, auth) {
        (Some(app), Some(auth)) => app_by(app, auth, account.oauth_client.as_ref()),
        _ => app_gone(&account.app, account.oauth_client.as_ref()),
    };
    let mut value = json!({
        "id": account.id,
        "name": account.identity.as_deref().map(clean),
        "external_id": user.external_id,
        "healthy": !health.dead && health.failures == 0,
        "dead": health.dead,
        "app": shown,
        "created_at": rfc3339(account.created_at),
        "updated_at": rfc3339(account.updated_at),
        "authorized_scopes": account.scopes,
        "expires_at": health.expires_at.map(rfc3339),
        "error": health.error.as_ref().map(|error| clean(&error.message)),
        "last_refreshed_at": health.last_refreshed_at.map(rfc3339),
        "next_refresh_at": health.next_refresh_at.map(rfc3339),
    });
    if let Some(credentials) = credentials {
        value["credentials"] = credentials;
    }
    value
}

/// What a provider or person wrote, without what steers a terminal or turns text around.
pub fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| !c.is_control() && !turns(*c)).take(500).collect()
}

/// An account without its credentials, as webhooks have it.
pub fn shown(account: &Account, user: &ExternalUser, app: Option<&App>) -> Value {
    self::account(account, user, app, None)
}

/// An app whose definition is not there any more.
pub fn app_gone(app: &AppId, client: Option<&OAuthClientId>) -> Value {
    let id = client.map_or_else(|| format!("app_{app}"), ToString::to_string);
    json!({
        "id": id, "name_slug": app, "name": app,
        "auth_type": null, "description": null, "img_src": "", "custom_fields_json": "[]",
        "categories": [], "featured_weight": 0, "scope_profiles": [], "oauth_app_id": client,
    })
}

/// What a program that must have the secrets itself is given.
pub fn credentials(account: &Account, held: &Credentials, client_id: Option<&str>) -> Value {
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    all.extend(account.fields.iter().map(|(name, value)| (&**name, &**value)));
    all.extend(held.secrets.iter().map(|(name, value)| (&**name, value.expose())));
    if let Some(tokens) = &held.tokens {
        all.insert("oauth_access_token", tokens.access.expose());
        all.extend(tokens.refresh.as_ref().map(|token| ("oauth_refresh_token", token.expose())));
        all.extend(client_id.map(|id| ("oauth_client_id", id)));
        if let Some(identity) = &account.identity {
            all.entry("oauth_uid").or_insert(identity);
        }
    }
    json!(all)
}

pub fn user(user: &ExternalUser) -> Value {
    json!({
        "id": user.id,
        "external_id": user.external_id,
        "created_at": rfc3339(user.created_at),
        "updated_at": rfc3339(user.updated_at),
    })
}

pub fn project(project: &Project) -> Value {
    json!({
        "id": project.id,
        "name": project.details.name,
        "app_name": project.details.app_name,
        "support_email": project.details.support_email,
        "connect_require_key_auth_test": project.details.require_key_test,
    })
}
