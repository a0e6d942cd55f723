//! Connect tokens: made for one external user by the product's server, tried by the connect page.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde_json::{Value, json};
use url::Url;

use super::failure::{Failure, ok};
use super::input::{Pairs, json as read_json};
use super::principal::{CONNECT_TOKEN, Principal, Tenancy};
use super::scope::{CONNECT, Scope, Scopes};
use super::{Api, cors, present};
use crate::catalog::App;
use crate::clock::rfc3339;
use crate::connect::return_address;
use crate::forward::Body;
use crate::ids::{AccountId, OAuthClientId};
use crate::random;
use crate::secret::TokenDigest;
use crate::vault::{
    AppOverride, ConnectToken, ConnectTokenDetails, Environment, ExternalUser, OAuthClientRecord,
    Owner,
};

const LONGEST: u64 = 4 * 60 * 60;
const MAX_USER_CHARS: usize = 250;
const MAX_URI_BYTES: usize = 2000;
const MAX_ORIGINS: usize = 20;

/// What a connect token is asked with.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    external_user_id: Option<String>,
    /// SDK 1.x says it twice.
    external_id: Option<String>,
    #[serde(default)]
    allowed_origins: Option<Vec<String>>,
    success_redirect_uri: Option<String>,
    error_redirect_uri: Option<String>,
    webhook_uri: Option<String>,
    expires_in: Option<u64>,
    scope: Option<String>,
    allow_progressive_scopes: Option<bool>,
    app_id: Option<String>,
    oauth_app_id: Option<String>,
}

impl Api {
    pub(super) async fn create_connect_token(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::TokensCreate)?;
        let asked: Asked = read_json(headers, &body)?;
        let named = user_of(&asked)?.to_owned();
        self.limits.token_for(tenancy, &named)?;
        let app = asked.app_id.as_deref().map(|id| self.app_or_refuse(id)).transpose()?;
        let client = self.client_of(asked.oauth_app_id.as_deref(), app.as_deref()).await?;
        let mut details = asked.details()?;
        let user = self
            .vault()
            .ensure_external_user(&tenancy.project, tenancy.environment, &named)
            .await?;
        let expires_at = self.now() + Duration::from_secs(asked.expires_in.unwrap_or(LONGEST));
        details.external_user = user.id;
        details.expires_at = expires_at;
        details.oauth_client = client.as_ref().map(|client| client.id.clone());
        details.app = app.map(|app| app.id.clone()).or(client.map(|client| client.details.app));
        let token = random::token(CONNECT_TOKEN, 16)?;
        let digest = TokenDigest::of(token.expose().as_bytes());
        let link = self.connect_link(headers, token.expose(), &details);
        self.vault().create_connect_token(digest, &details).await?;
        Ok(ok(&json!({
            "token": token.expose(),
            "expires_at": rfc3339(expires_at),
            "connect_link_url": link,
        })))
    }

    fn connect_link(
        &self,
        headers: &HeaderMap,
        token: &str,
        details: &ConnectTokenDetails,
    ) -> String {
        let base = self.public_url(headers);
        let mut link = format!("{base}/_static/connect.html?token={token}&connectLink=true");
        if let Some(app) = &details.app {
            link.push_str(&format!("&app={app}"));
        }
        if let Some(client) = &details.oauth_client {
            link.push_str(&format!("&oauthAppId={client}"));
        }
        link
    }

    async fn client_of(
        &self,
        id: Option<&str>,
        app: Option<&App>,
    ) -> Result<Option<OAuthClientRecord>, Failure> {
        let Some(id) = id else { return Ok(None) };
        let unknown = || Failure::bad("there is no such OAuth client: check oauth_app_id");
        let id: OAuthClientId = id.parse().map_err(|_| unknown())?;
        let client =
            self.vault().oauth_client(&id).await?.filter(is_operators).ok_or_else(unknown)?;
        if app.is_some_and(|app| app.id != client.details.app) {
            return Err(Failure::bad("oauth_app_id is an OAuth client of another app"));
        }
        Ok(Some(client))
    }

    /// The connect page has nothing but the token, so that is all the proof there is. Whatever is
    /// wrong is told in the body: the SDKs throw on a status.
    pub(super) async fn validate(
        &self,
        token: &str,
        headers: &HeaderMap,
        query: &Pairs,
    ) -> Result<Response<Body>, Failure> {
        let digest = TokenDigest::of(token.as_bytes());
        let found = self.vault().connect_token(digest).await?;
        let Some(token) = found.filter(|token| token.spent_at.is_none()) else {
            return Ok(cors::allow(ok(&not_valid(INVALID)), None));
        };
        let origin = cors::judge_token(&token.details, headers)?;
        let said = self.validated(&token, query).await?.unwrap_or_else(not_valid);
        Ok(cors::allow(ok(&said), origin))
    }

    async fn validated(
        &self,
        token: &ConnectToken,
        query: &Pairs,
    ) -> Result<Result<Value, &'static str>, Failure> {
        const NO_APP: &str = "No such app. Please check your app id.";
        let details = &token.details;
        let Some(user) = self.vault().external_user_by_id(&details.external_user).await? else {
            return Ok(Err("The user of this token was deleted."));
        };
        let account_app = match query.one("account_id")? {
            None => None,
            Some(id) => match self.app_of_account(id, &user).await? {
                Some(app) => Some(app),
                None => return Ok(Err("No such account. Please check your account id.")),
            },
        };
        let chosen = match query.one("app_override_id")? {
            None => None,
            Some(id) => match self.override_of(id, &user).await? {
                Some(found) => Some(found),
                None => return Ok(Err("No such app override. Please check its id.")),
            },
        };
        let by_override = chosen.as_ref().map(|chosen| chosen.app.as_str());
        let named = query.one("app_id")?.or(account_app.as_deref()).or(by_override);
        let named = named.map(str::to_owned);
        let Some(named) = named.or_else(|| details.app.as_ref().map(ToString::to_string)) else {
            return Ok(Err("Please include the app in the Connect URL."));
        };
        let Some(app) = self.app(&named) else { return Ok(Err(NO_APP)) };
        if account_app.is_some_and(|of| of != app.id.as_str()) {
            return Ok(Err("The account is one of another app."));
        }
        if details.app.as_ref().is_some_and(|only| *only != app.id) {
            return Ok(Err("This token is for another app."));
        }
        if chosen.as_ref().is_some_and(|chosen| chosen.app != app.id) {
            return Ok(Err("The app override is one of another app."));
        }
        let pinned = chosen.as_ref().and_then(|chosen| chosen.details.oauth_client.clone());
        let client = match query.one("oauth_app_id")? {
            None => pinned.clone().or_else(|| details.oauth_client.clone()),
            Some(id) => match self.client_of(Some(id), Some(&app)).await {
                Ok(client) => client.map(|client| client.id),
                Err(Failure::Bad(_)) => return Ok(Err("No such OAuth client for this app.")),
                Err(other) => return Err(other),
            },
        };
        let others = [pinned.as_ref(), details.oauth_client.as_ref()];
        if others.into_iter().flatten().any(|other| client.as_ref() != Some(other)) {
            return Ok(Err("This is for another OAuth client."));
        }
        let project = self.vault().project(&user.project).await?.ok_or(Failure::NotFound)?;
        let decided = chosen.iter().flat_map(|chosen| chosen.details.fields.keys());
        let decided: Vec<&String> = decided.collect();
        Ok(Ok(json!({
            "success": true,
            "error": null,
            "app": present::app(&app, client.as_ref()),
            "project_id": project.id,
            "project_environment": user.environment.to_string(),
            "project_app_name": project.details.app_name.as_ref().unwrap_or(&project.details.name),
            "project_support_email": project.details.support_email,
            "success_redirect_uri": details.success_redirect_uri,
            "error_redirect_uri": details.error_redirect_uri,
            "oauth_app_id": client,
            "app_override_id": chosen.as_ref().map(|chosen| &chosen.id),
            "app_override_field_names": decided,
            "oauth_app_workday_official": null,
            "oauth_app_connect_base_url": null,
        })))
    }

    /// Of the user's project only.
    async fn override_of(
        &self,
        id: &str,
        user: &ExternalUser,
    ) -> Result<Option<AppOverride>, Failure> {
        let Ok(id) = id.parse() else { return Ok(None) };
        let found = self.vault().app_override(&id).await?;
        Ok(found.filter(|found| found.project == user.project))
    }

    async fn app_of_account(
        &self,
        id: &str,
        user: &ExternalUser,
    ) -> Result<Option<String>, Failure> {
        let Ok(id) = id.parse::<AccountId>() else { return Ok(None) };
        let account = self.vault().account(&id).await?;
        let own = account.filter(|account| {
            account.id == id && account.owner == Owner::ExternalUser(user.id.clone())
        });
        Ok(own.map(|account| account.app.to_string()))
    }
}

const INVALID: &str =
    "This token is invalid: it has expired or was used. Please generate a new one.";

fn not_valid(error: &str) -> Value {
    json!({ "success": false, "error": error })
}

fn user_of(asked: &Asked) -> Result<&str, Failure> {
    let user = match (&asked.external_user_id, &asked.external_id) {
        (Some(one), Some(other)) if one != other => {
            return Err(Failure::bad("external_user_id and external_id differ"));
        }
        (Some(user), _) | (None, Some(user)) => user,
        (None, None) => return Err(Failure::bad("missing field `external_user_id`")),
    };
    check_user(user)?;
    Ok(user)
}

/// The operator's own name for a user: any text that can be named again in a path.
pub fn check_user(user: &str) -> Result<(), Failure> {
    let fits = !user.trim().is_empty()
        && user.chars().count() <= MAX_USER_CHARS
        && !user.chars().any(char::is_control);
    let rule = "external_user_id has 1 to 250 characters, and no control characters";
    if fits { Ok(()) } else { Err(Failure::bad(rule)) }
}

impl Asked {
    fn details(&self) -> Result<ConnectTokenDetails, Failure> {
        if self.expires_in.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
            return Err(Failure::bad(format!("expires_in is from 1 to {LONGEST} seconds")));
        }
        let most = Scopes::stored(&[CONNECT.to_owned()]);
        let scopes = match self.scope.as_deref() {
            None => most,
            Some(scope) => Scopes::parse(scope)
                .and_then(|asked| most.narrowed(asked))
                .map_err(|error| Failure::bad(error.to_string()))?,
        };
        let origins = self.allowed_origins.as_deref().unwrap_or_default();
        if origins.len() > MAX_ORIGINS {
            return Err(Failure::bad(format!("allowed_origins has at most {MAX_ORIGINS}")));
        }
        let uri =
            |name, uri: &Option<String>| uri.as_deref().map(|uri| page(name, uri)).transpose();
        Ok(ConnectTokenDetails {
            // Both are filled in by whoever stores it.
            external_user: "unknown".parse().map_err(|_| Failure::Internal)?,
            expires_at: std::time::UNIX_EPOCH,
            scopes: scopes.list().to_vec(),
            allowed_origins: origins.iter().map(|text| origin(text)).collect::<Result<_, _>>()?,
            success_redirect_uri: uri("success_redirect_uri", &self.success_redirect_uri)?,
            error_redirect_uri: uri("error_redirect_uri", &self.error_redirect_uri)?,
            webhook_uri: uri("webhook_uri", &self.webhook_uri)?,
            app: None,
            oauth_client: None,
            progressive_scopes: self.allow_progressive_scopes.unwrap_or(false),
        })
    }
}

fn page(name: &str, text: &str) -> Result<String, Failure> {
    return_address(text).map(str::to_owned).ok_or_else(|| {
        let rule = "is an absolute https URL (http on this machine only), without user information";
        Failure::bad(format!("{name} {rule}"))
    })
}

fn origin(text: &str) -> Result<String, Failure> {
    let refused = || {
        Failure::bad("allowed_origins holds origins like https://app.example.com, without a path")
    };
    let url = Url::parse(text).map_err(|_| refused())?;
    let origin = url.origin().ascii_serialization();
    let web = matches!(url.scheme(), "http" | "https");
    let same = text.trim_end_matches('/').eq_ignore_ascii_case(&origin);
    if web && same && text.len() <= MAX_URI_BYTES { Ok(origin) } else { Err(refused()) }
}

/// Not one that a user brought, which is nobody else's.
pub fn is_operators(client: &OAuthClientRecord) -> bool {
    client.external_user.is_none()
}

/// A connect token that may still connect an account, of this project and environment.
pub fn is_of(
    user: &ExternalUser,
    project: &crate::ids::ProjectId,
    environment: Environment,
) -> bool {
    user.project == *project && user.environment == environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_are_origins() {
        for (text, good) in [
            ("https://app.example.com", Some("https://app.example.com")),
            ("https://App.example.com/", Some("https://app.example.com")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("https://app.example.com/path", None),
            ("*", None),
            ("null", None),
            ("https://*.example.com/x", None),
            ("https://a@b", None),
            ("ftp://x", None),
        ] {
            assert_eq!(origin(text).ok().as_deref(), good, "{text:?}");
        }
    }
}
