//! *Projects*: the operator's own products, their users and the users' accounts, and the programs
//! that speak to the API for them. For owners and admins: no member owns what a product's user
//! connected.

mod clients;
mod users;

use askama::Template;
use http::Response;

use super::Trouble;
use super::shell::{Confirm, Moment, Section, Shell};
use super::upload::Upload;
use super::visit::Visit;
use super::welcome::check_email;
use crate::api::logo::{self, NotALogo};
use crate::forward::Body;
use crate::ids::ProjectId;
use crate::vault::{self, ApiClient, Environment, Filter, Project, ProjectDetails};
use users::Users;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    if !visit.member().role.administers() {
        return Err(Trouble::Forbidden("Owners and admins look after projects. Ask one of them."));
    }
    match (path, visit.is_post()) {
        ([] | [""], false) => list(visit).await,
        (["new"], _) => edit(visit, None).await,
        ([id], false) => one(visit, &find(visit, id).await?).await,
        ([id, "edit"], _) => edit(visit, Some(find(visit, id).await?)).await,
        ([id, "delete"], _) => delete(visit, &find(visit, id).await?).await,
        ([id, "clients"], true) => clients::add(visit, &find(visit, id).await?).await,
        ([id, "clients", client, "remove"], _) => {
            clients::remove(visit, &find(visit, id).await?, client).await
        }
        ([id, "users", user], false) => users::one(visit, &find(visit, id).await?, user).await,
        ([id, "users", user, "delete"], _) => {
            users::delete(visit, &find(visit, id).await?, user).await
        }
        _ => Err(Trouble::NotFound),
    }
}

async fn find(visit: &Visit<'_>, id: &str) -> Result<Project, Trouble> {
    let id: ProjectId = id.parse().map_err(|_| Trouble::NotFound)?;
    visit.vault().project(&id).await?.ok_or(Trouble::NotFound)
}

#[derive(Template)]
#[template(path = "workspace/projects.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    lines: Vec<Line>,
}

struct Line {
    id: String,
    name: String,
    app_name: String,
    /// Of external users, in both environments.
    accounts: u64,
    created: Moment,
}

async fn list(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let mut lines = Vec::new();
    for project in visit.vault().projects().await? {
        lines.push(Line {
            accounts: accounts_in(visit, &project, Environment::Development).await?
                + accounts_in(visit, &project, Environment::Production).await?,
            id: project.id.to_string(),
            name: project.details.name,
            app_name: project.details.app_name.unwrap_or_default(),
            created: Moment::of(project.created_at, visit.now()),
        });
    }
    let shell = visit.shell(Section::Projects, "Projects");
    Ok(visit.page(&ListPage { shell, lines }))
}

async fn accounts_in(
    visit: &Visit<'_>,
    project: &Project,
    environment: Environment,
) -> Result<u64, Trouble> {
    let filter = Filter { project: Some((project.id.clone(), environment)), ..Filter::default() };
    Ok(visit.vault().count_accounts(&filter).await?)
}

#[derive(Template)]
#[template(path = "workspace/project.html")]
struct ProjectPage<'a> {
    shell: Shell<'a>,
    project: &'a Project,
    environment: Environment,
    users: Users,
    q: &'a str,
    clients: Vec<Client>,
    base: &'a str,
}

impl ProjectPage<'_> {
    fn environments(&self) -> [Environment; 2] {
        [Environment::Production, Environment::Development]
    }
}

/// A program that speaks to the API.
struct Client {
    id: String,
    name: String,
    scopes: String,
    created: Moment,
}

async fn one(visit: &Visit<'_>, project: &Project) -> Result<Response<Body>, Trouble> {
    let environment = visit.query.text("environment").parse().unwrap_or(Environment::Production);
    let of_project = |client: &ApiClient| client.details.project.as_ref() == Some(&project.id);
    let clients = visit.vault().api_clients().await?;
    let clients = clients.iter().filter(|client| of_project(client)).map(|client| Client {
        id: client.id.clone(),
        name: client.details.name.clone(),
        scopes: client.details.scopes.join(" "),
        created: Moment::of(client.created_at, visit.now()),
    });
    let page = ProjectPage {
        shell: visit.shell(Section::Projects, &project.details.name),
        project,
        environment,
        users: Users::read(visit, project, environment).await?,
        q: visit.query.text("q"),
        clients: clients.collect(),
        base: &visit.workspace.base,
    };
    Ok(visit.page(&page))
}

#[derive(Template)]
#[template(path = "workspace/project_form.html")]
struct FormPage<'a> {
    shell: Shell<'a>,
    details: &'a ProjectDetails,
    action: String,
    back: String,
    is_new: bool,
    /// A data URL, shown on the connect page.
    logo: Option<String>,
    error: Option<String>,
}

/// A new project, or another name for one that is there.
async fn edit(visit: &Visit<'_>, project: Option<Project>) -> Result<Response<Body>, Trouble> {
    let none = ProjectDetails {
        name: String::new(),
        app_name: None,
        support_email: None,
        require_key_test: false,
    };
    let mut details = project.as_ref().map_or(none, |project| project.details.clone());
    let held = match &project {
        Some(project) => visit.vault().project_logo(&project.id).await?,
        None => None,
    };
    let mut error = None;
    if visit.is_post() {
        details = entered(visit);
        match save(visit, project.as_ref(), &details).await? {
            Ok(response) => return Ok(response),
            Err(why) => error = Some(why),
        }
    }
    let title = match &project {
        Some(project) => format!("Edit {}", project.details.name),
        None => "New project".to_owned(),
    };
    let back = project.as_ref().map(|project| format!("/projects/{}", project.id));
    let refused = error.is_some();
    let page = FormPage {
        shell: visit.shell(Section::Projects, &title),
        details: &details,
        action: match &back {
            Some(back) => format!("{back}/edit"),
            None => "/projects/new".to_owned(),
        },
        back: back.unwrap_or_else(|| "/projects".to_owned()),
        is_new: project.is_none(),
        logo: held,
        error,
    };
    Ok(if refused { visit.refused(&page) } else { visit.page(&page) })
}

fn entered(visit: &Visit<'_>) -> ProjectDetails {
    let text = |name: &str| visit.form.said(name).map(|text| text.chars().take(200).collect());
    ProjectDetails {
        name: text("name").unwrap_or_default(),
        app_name: text("app_name"),
        support_email: text("support_email"),
        require_key_test: visit.form.has("require_key_test"),
    }
}

/// What the form says of the logo.
enum Logo {
    Keep,
    Remove,
    /// A data URL.
    Take(String),
}

fn logo(visit: &Visit<'_>) -> Result<Logo, NotALogo> {
    let chosen = |upload: &&Upload| upload.field == "logo" && upload.is_chosen();
    match visit.uploads.iter().find(chosen) {
        Some(upload) => logo::data_url(&upload.bytes).map(Logo::Take),
        None if visit.form.has("remove_logo") => Ok(Logo::Remove),
        None => Ok(Logo::Keep),
    }
}

/// The next page, or what is wrong.
async fn save(
    visit: &Visit<'_>,
    project: Option<&Project>,
    details: &ProjectDetails,
) -> Result<Result<Response<Body>, String>, Trouble> {
    if details.name.is_empty() {
        return Ok(Err("Give the project a name.".to_owned()));
    }
    if let Some(email) = &details.support_email
        && let Err(why) = check_email(email)
    {
        return Ok(Err(why));
    }
    let logo = match logo(visit) {
        Ok(logo) => logo,
        Err(NotALogo::TooLarge) => return Ok(Err("The logo is larger than 96 KiB.".to_owned())),
        Err(NotALogo::NoPicture) => {
            return Ok(Err("The logo is no PNG, JPEG, GIF or WebP.".to_owned()));
        }
    };
    let saved = match project {
        None => visit.vault().create_project(details).await.map(|project| project.id),
        Some(project) => {
            visit.vault().update_project(&project.id, details).await.map(|_| project.id.clone())
        }
    };
    let id = match saved {
        Ok(id) => id,
        Err(vault::Error::Conflict(_)) => {
            return Ok(Err(format!("There is a project called {} already.", details.name)));
        }
        Err(error) => return Err(error.into()),
    };
    match logo {
        Logo::Keep => {}
        Logo::Remove => drop(visit.vault().set_project_logo(&id, None).await?),
        Logo::Take(url) => drop(visit.vault().set_project_logo(&id, Some(url)).await?),
    }
    let what = if project.is_some() { "project_updated" } else { "project_added" };
    visit.audit(what, &details.name, id.as_str());
    Ok(Ok(visit.done(&format!("/projects/{id}"), format!("{} is saved.", details.name))))
}

async fn delete(visit: &Visit<'_>, project: &Project) -> Result<Response<Body>, Trouble> {
    let name = &project.details.name;
    let accounts = accounts_in(visit, project, Environment::Development).await?
        + accounts_in(visit, project, Environment::Production).await?;
    if accounts > 0 {
        return Err(Trouble::Bad(format!(
            "Users of {name} have {accounts} accounts. Delete these users first, so that their grants \
             are revoked."
        )));
    }
    if visit.is_post() {
        visit.vault().delete_project(&project.id).await?;
        visit.audit("project_removed", name, project.id.as_str());
        return Ok(visit.done("/projects", format!("{name} is deleted.")));
    }
    let clients = visit.vault().api_clients().await?;
    let of_project = |client: &&ApiClient| client.details.project.as_ref() == Some(&project.id);
    let stops: Vec<String> = clients
        .iter()
        .filter(of_project)
        .map(|client| format!("The API client {}", client.details.name))
        .collect();
    let title = format!("Delete {name}?");
    let (action, back) =
        (format!("/projects/{}/delete", project.id), format!("/projects/{}", project.id));
    Ok(visit.page(&Confirm {
        shell: visit.shell(Section::Projects, &title),
        text: "The project, its users and its API clients are deleted.",
        stops: &stops,
        action: &action,
        fields: &[],
        tick: None,
        label: "Delete the project",
        back: &back,
        error: None,
    }))
}
