//! Programs that speak to the REST API for one project.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::shell::{Confirm, Section, Shell};
use super::super::visit::Visit;
use crate::api::ALL_SCOPES;
use crate::forward::Body;
use crate::random;
use crate::secret::{Secret, TokenDigest};
use crate::vault::{ApiClientDetails, Project};

#[derive(Template)]
#[template(path = "workspace/api_client.html")]
struct AddedPage<'a> {
    shell: Shell<'a>,
    project: &'a Project,
    id: String,
    secret: &'a Secret,
    base: &'a str,
}

/// The secret is shown once, on the page that answers the form.
pub(super) async fn add(visit: &Visit<'_>, project: &Project) -> Result<Response<Body>, Trouble> {
    let name = visit.form.said("name");
    let name = name.ok_or_else(|| Trouble::Bad("Give the API client a name.".to_owned()))?;
    let secret = random::token("", 20)?;
    let details = ApiClientDetails {
        name: name.chars().take(200).collect(),
        project: Some(project.id.clone()),
        scopes: vec![ALL_SCOPES.to_owned()],
        expires_at: None,
    };
    let digest = TokenDigest::of(secret.expose().as_bytes());
    let client = visit.vault().create_api_client(digest, &details).await?;
    visit.audit("api_client_added", &details.name, &client.id);
    let page = AddedPage {
        shell: visit.shell(Section::Projects, "API client"),
        project,
        id: client.id,
        secret: &secret,
        base: &visit.workspace.base,
    };
    Ok(visit.page(&page))
}

pub(super) async fn remove(
    visit: &Visit<'_>,
    project: &Project,
    id: &str,
) -> Result<Response<Body>, Trouble> {
    let client = visit.vault().api_client(id).await?;
    let client = client.filter(|client| client.details.project.as_ref() == Some(&project.id));
    let client = client.ok_or(Trouble::NotFound)?;
    let name = &client.details.name;
    let back = format!("/projects/{}", project.id);
    if visit.is_post() {
        visit.vault().delete_api_client(&client.id).await?;
        visit.audit("api_client_removed", name, &client.id);
        return Ok(visit.done(&back, format!("{name} is removed.")));
    }
    let title = format!("Remove {name}?");
    let stops = [format!("Programs that come as {name}, and the access tokens that they hold")];
    let action = format!("{back}/clients/{}/remove", client.id);
    Ok(visit.page(&Confirm {
        shell: visit.shell(Section::Projects, &title),
        text: "Its secret is deleted.",
        stops: &stops,
        action: &action,
        fields: &[],
        tick: None,
        label: "Remove",
        back: &back,
        error: None,
    }))
}
