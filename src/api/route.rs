//! From method and path to what is asked. Pure.
//!
//! The SDKs leave the project's segment out when they have only a connect token, some of them with
//! an empty one in its place, so `//` is `/`. Python's SDK does not encode parts of paths, so what
//! stands at the end of one is taken whole.

use http::Method;
use percent_encoding::percent_decode_str;

use super::failure::Failure;

#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    Token,
    Validate {
        token: String,
    },
    Apps,
    App(String),
    Categories,
    Category(String),
    CreateRateLimit,
    Projects,
    CreateProject,
    Project(String),
    UpdateProject(String),
    DeleteProject(String),
    SetLogo(String),
    /// What belongs to a project, named by the path or by the token.
    Of {
        project: Option<String>,
        what: Resource,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Resource {
    CreateToken,
    Accounts,
    CreateAccount,
    Account(String),
    /// The same in the envelope of old programs.
    WrappedAccount(String),
    DeleteAccount(String),
    DeleteAccountsOfApp(String),
    AccountsOfUser(String),
    Users,
    DeleteUser(String),
    ProjectInfo,
    OAuthClients,
    OAuthClient(String),
    CreateOAuthClient,
    UpdateOAuthClient(String),
    DeleteOAuthClient(String),
    AppOverrides,
    AppOverride(String),
    CreateAppOverride,
    UpdateAppOverride(String),
    DeleteAppOverride(String),
    /// The target as it came: in base64, not decoded in any way.
    Proxy {
        url_64: String,
    },
}

impl Route {
    /// # Errors
    /// `NotFound`, `Elsewhere` or `Method`; `Bad` when the path is not text.
    pub fn of(method: &Method, path: &str) -> Result<Self, Failure> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts[..] {
            ["v1", "oauth", "token"] => only(method, &Method::POST, "POST", Self::Token),
            ["v1", "accounts"] => get(method, Self::of_token(Resource::Accounts)),
            ["v1", "accounts", id] => {
                get(method, Self::of_token(Resource::WrappedAccount(decoded(id)?)))
            }
            ["v1", "apps"] => get(method, Self::Apps),
            ["v1", "apps", id] => get(method, Self::App(decoded(id)?)),
            ["v1", "connect", ref rest @ ..] => Self::connect(method, path, rest),
            ["v1", "components" | "workflows" | "sources", ..] => Err(Failure::Elsewhere(PLATFORM)),
            _ => Err(Failure::Elsewhere(NOTHING)),
        }
    }

    /// In the one project that the token is for.
    fn of_token(what: Resource) -> Self {
        Self::Of { project: None, what }
    }

    fn connect(method: &Method, path: &str, parts: &[&str]) -> Result<Self, Failure> {
        let (project, parts) = match parts {
            [project, rest @ ..] if project.starts_with("proj_") => (Some(decoded(project)?), rest),
            _ => (None, parts),
        };
        match parts {
            ["tokens", token, "validate"] => {
                return get(method, Self::Validate { token: decoded(token)? });
            }
            ["apps"] => return get(method, Self::Apps),
            ["apps", id] => return get(method, Self::App(decoded(id)?)),
            ["app_categories"] => return get(method, Self::Categories),
            ["app_categories", id] => return get(method, Self::Category(decoded(id)?)),
            ["rate_limits"] => {
                return only(method, &Method::POST, "POST", Self::CreateRateLimit);
            }
            ["projects", "info"] => {}
            ["projects", rest @ ..] if project.is_none() => return Self::project(method, rest),
            _ => {}
        }
        let before = 2 + usize::from(project.is_some());
        let what = Resource::of(method, parts, after(path, before + 1))?;
        Ok(Self::Of { project, what })
    }
}

impl Route {
    fn project(method: &Method, parts: &[&str]) -> Result<Self, Failure> {
        match (method.as_str(), parts) {
            ("GET", []) => Ok(Self::Projects),
            ("POST", []) => Ok(Self::CreateProject),
            (_, []) => Err(Failure::Method { allow: "GET, POST" }),
            ("GET", [id]) => Ok(Self::Project(decoded(id)?)),
            ("PATCH", [id]) => Ok(Self::UpdateProject(decoded(id)?)),
            ("DELETE", [id]) => Ok(Self::DeleteProject(decoded(id)?)),
            (_, [_]) => Err(Failure::Method { allow: "GET, PATCH, DELETE" }),
            ("POST", [id, "logo"]) => Ok(Self::SetLogo(decoded(id)?)),
            (_, [_, "logo"]) => Err(Failure::Method { allow: "POST" }),
            _ => Err(Failure::Elsewhere(NOTHING)),
        }
    }
}

impl Resource {
    /// `rest` is what follows the resource's name, as it came.
    fn of(method: &Method, parts: &[&str], rest: &str) -> Result<Self, Failure> {
        match (method.as_str(), parts) {
            ("POST", ["tokens"]) => Ok(Self::CreateToken),
            ("GET", ["accounts"]) => Ok(Self::Accounts),
            ("POST", ["accounts"]) => Ok(Self::CreateAccount),
            ("DELETE", ["accounts", "app", id] | ["apps", id, "accounts"]) => {
                Ok(Self::DeleteAccountsOfApp(decoded(id)?))
            }
            ("GET", ["accounts", id]) => Ok(Self::Account(decoded(id)?)),
            ("DELETE", ["accounts", id]) => Ok(Self::DeleteAccount(decoded(id)?)),
            ("GET", ["users"]) => Ok(Self::Users),
            ("GET", ["users", .., "accounts"]) if rest.len() > "/accounts".len() => {
                let user = rest.trim_end_matches('/').trim_end_matches("/accounts");
                Ok(Self::AccountsOfUser(decoded(user)?))
            }
            ("DELETE", ["users", _, ..]) => Ok(Self::DeleteUser(decoded(rest)?)),
            ("GET", ["projects", "info"]) => Ok(Self::ProjectInfo),
            ("GET", ["oauth_apps"]) => Ok(Self::OAuthClients),
            ("POST", ["oauth_apps"]) => Ok(Self::CreateOAuthClient),
            ("GET", ["oauth_apps", id]) => Ok(Self::OAuthClient(decoded(id)?)),
            ("PUT", ["oauth_apps", id]) => Ok(Self::UpdateOAuthClient(decoded(id)?)),
            ("DELETE", ["oauth_apps", id]) => Ok(Self::DeleteOAuthClient(decoded(id)?)),
            ("GET", ["app_overrides"]) => Ok(Self::AppOverrides),
            ("POST", ["app_overrides"]) => Ok(Self::CreateAppOverride),
            ("GET", ["app_overrides", id]) => Ok(Self::AppOverride(decoded(id)?)),
            ("PUT", ["app_overrides", id]) => Ok(Self::UpdateAppOverride(decoded(id)?)),
            ("DELETE", ["app_overrides", id]) => Ok(Self::DeleteAppOverride(decoded(id)?)),
            ("GET" | "POST" | "PUT" | "PATCH" | "DELETE", ["proxy", _, ..]) => {
                Ok(Self::Proxy { url_64: rest.to_owned() })
            }
            _ => Err(refused(parts)),
        }
    }
}

/// Why there is nothing for this method here.
fn refused(parts: &[&str]) -> Failure {
    match parts {
        ["tokens"] => Failure::Method { allow: "POST" },
        ["accounts"] => Failure::Method { allow: "GET, POST" },
        ["accounts", "app", _] | ["apps", _, "accounts"] => Failure::Method { allow: "DELETE" },
        ["accounts", _] => Failure::Method { allow: "GET, DELETE" },
        ["users"] | ["projects", "info"] => Failure::Method { allow: "GET" },
        ["users", .., "accounts"] => Failure::Method { allow: "GET, DELETE" },
        ["users", _, ..] => Failure::Method { allow: "DELETE" },
        ["proxy", _, ..] => Failure::Method { allow: "GET, POST, PUT, PATCH, DELETE" },
        ["oauth_apps" | "app_overrides"] => Failure::Method { allow: "GET, POST" },
        ["oauth_apps" | "app_overrides", _] => Failure::Method { allow: "GET, PUT, DELETE" },
        ["usage", ..] => Failure::Elsewhere("usage is Pipedream's billing; countersign has none"),
        ["webhook", ..] => Failure::Elsewhere(
            "a project's webhook gets the events of triggers, which belong to Pipedream's component \
             platform; countersign does not run components",
        ),
        ["components" | "actions" | "triggers" | "deployed-triggers" | "file_stash", ..] => {
            Failure::Elsewhere(PLATFORM)
        }
        _ => Failure::Elsewhere(NOTHING),
    }
}

const NOTHING: &str = "nothing is here; /openapi.json lists what is";
const PLATFORM: &str = "components, actions, triggers and workflows belong to Pipedream's component \
     platform; countersign does not run components";

fn get(method: &Method, route: Route) -> Result<Route, Failure> {
    only(method, &Method::GET, "GET", route)
}

fn only(
    method: &Method,
    expected: &Method,
    allow: &'static str,
    route: Route,
) -> Result<Route, Failure> {
    if method == expected { Ok(route) } else { Err(Failure::Method { allow }) }
}

/// What follows the first `count` parts of a path and a slash, as it came.
fn after(path: &str, count: usize) -> &str {
    let mut rest = path;
    for _ in 0..count {
        rest = rest.trim_start_matches('/');
        rest = rest.find('/').map_or("", |end| &rest[end..]);
    }
    rest.strip_prefix('/').unwrap_or(rest)
}

pub(super) fn decoded(part: &str) -> Result<String, Failure> {
    let text = percent_decode_str(part).decode_utf8();
    text.map(String::from).map_err(|_| Failure::bad("the path is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(line: &str) -> Result<Route, String> {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        Route::of(&method.parse().expect("a method"), path).map_err(|error| error.to_string())
    }

    fn of(project: Option<&str>, what: Resource) -> Result<Route, String> {
        Ok(Route::Of { project: project.map(str::to_owned), what })
    }

    #[test]
    fn the_project_may_be_missing_and_slashes_may_double() {
        for line in
            ["GET /v1/connect/accounts", "GET /v1/connect//accounts", "GET //v1/connect/accounts"]
        {
            assert_eq!(route(line), of(None, Resource::Accounts), "{line}");
        }
        assert_eq!(
            route("GET /v1/connect/proj_1/accounts"),
            of(Some("proj_1"), Resource::Accounts)
        );
    }

    #[test]
    fn a_user_is_the_whole_rest_of_the_path() {
        for (path, user) in [
            ("users/user%2Fodd%20id%2B%26%3F", "user/odd id+&?"),
            ("users/a/b%20c", "a/b c"),
            ("users/a//b/", "a//b/"),
            ("users/..%2Fx", "../x"),
            ("users/x/accounts", "x/accounts"),
        ] {
            let line = format!("DELETE /v1/connect/proj_1/{path}");
            assert_eq!(route(&line), of(Some("proj_1"), Resource::DeleteUser(user.to_owned())));
        }
        let line = "GET /v1/connect/proj_1/users/a/b/accounts";
        assert_eq!(route(line), of(Some("proj_1"), Resource::AccountsOfUser("a/b".to_owned())));
        assert!(route("DELETE /v1/connect/proj_1/users/%ff").is_err());
    }

    #[test]
    fn a_target_is_taken_as_it_came() {
        for (path, url_64) in [
            ("/v1/connect/proj_1/proxy/aHR0c%2FDov", "aHR0c%2FDov"),
            ("/v1/connect//proxy/aH//R0=", "aH//R0="),
            ("/v1/connect/proxy/aHR0", "aHR0"),
        ] {
            let Ok(Route::Of { what: Resource::Proxy { url_64: found }, .. }) =
                Route::of(&Method::PATCH, path)
            else {
                panic!("{path} is a proxy call")
            };
            assert_eq!(found, url_64);
        }
    }

    #[test]
    fn both_generations_of_sdks_find_what_they_ask_for() {
        let of_app = || Resource::DeleteAccountsOfApp("slack".to_owned());
        assert_eq!(
            route("DELETE /v1/connect/proj_1/accounts/app/slack"),
            of(Some("proj_1"), of_app())
        );
        assert_eq!(
            route("DELETE /v1/connect/proj_1/apps/slack/accounts"),
            of(Some("proj_1"), of_app())
        );
        assert_eq!(route("GET /v1/apps/slack"), route("GET /v1/connect/apps/slack"));
        let validate = Route::Validate { token: "ctok_1".to_owned() };
        assert_eq!(route("GET /v1/connect/tokens/ctok_1/validate"), Ok(validate));
    }

    #[test]
    fn the_component_platform_gets_a_sentence() {
        for path in [
            "actions/run",
            "components",
            "triggers/deploy",
            "deployed-triggers/x",
            "file_stash/download",
        ] {
            let said = route(&format!("POST /v1/connect/proj_1/{path}")).unwrap_err();
            assert!(said.contains("component platform"), "{path}: {said}");
        }
        assert_eq!(route("PUT /v1/connect/proj_1/accounts"), Err("use GET, POST".to_owned()));
    }
}
