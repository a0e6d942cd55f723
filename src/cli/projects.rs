//! `countersign projects …`: the products whose users connect accounts.

use std::io::Write;

use anyhow::bail;
use serde_json::json;

use super::{ask, in_workshop, note, show};
use crate::serve::{Source, Workshop};
use crate::vault::{self, Project, ProjectDetails};

#[derive(clap::Subcommand)]
pub enum ProjectsCommand {
    /// Make a project: the accounts of one product's users, in development and production
    Add {
        /// What to call it
        name: String,
        /// What the product's users are told that they connect to [default: the project's name]
        #[arg(long, value_name = "NAME")]
        app_name: Option<String>,
        /// Whom they may ask
        #[arg(long, value_name = "ADDRESS")]
        support_email: Option<String>,
        /// Store keys only if the app's test request takes them
        #[arg(long)]
        test_keys: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List projects
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a project whose users have no accounts any more
    Remove {
        /// Id or name
        project: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(
    command: &ProjectsCommand,
    source: &Source,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    in_workshop(source, async |shop| match command {
        ProjectsCommand::Add { name, app_name, support_email, test_keys, json } => {
            let details = ProjectDetails {
                name: name.clone(),
                app_name: app_name.clone(),
                support_email: support_email.clone(),
                require_key_test: *test_keys,
            };
            add(shop, &details, *json, out).await
        }
        ProjectsCommand::List { json } => list(shop, *json, out).await,
        ProjectsCommand::Remove { project, yes } => remove(shop, project, *yes, out).await,
    })
    .await
    .map(|()| 0)
}

/// A project by its id or name.
///
/// # Errors
/// When there is none.
pub async fn find(shop: &Workshop, named: &str) -> anyhow::Result<Project> {
    let projects = shop.vault().projects().await?;
    let found = projects.into_iter().find(|p| p.id.as_str() == named || p.details.name == named);
    match found {
        Some(project) => Ok(project),
        None => bail!("there is no project \"{named}\"; `countersign projects list` shows them"),
    }
}

async fn add(
    shop: &Workshop,
    details: &ProjectDetails,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let project = match shop.vault().create_project(details).await {
        Ok(project) => project,
        Err(vault::Error::Conflict(_)) => bail!("there is a project \"{}\" already", details.name),
        Err(error) => return Err(error.into()),
    };
    note(shop, "project_added", &details.name, project.id.as_str()).await?;
    if json {
        show::json(out, &as_json(&project))?;
        return Ok(());
    }
    writeln!(out, "{} is {}", details.name, project.id)?;
    writeln!(
        out,
        "A program that works on it: countersign api-clients add NAME --project {}",
        project.id
    )?;
    Ok(())
}

fn as_json(project: &Project) -> serde_json::Value {
    let details = &project.details;
    json!({
        "id": project.id,
        "name": details.name,
        "app_name": details.app_name,
        "support_email": details.support_email,
        "test_keys": details.require_key_test,
        "created_at": show::time(Some(project.created_at)),
    })
}

async fn list(shop: &Workshop, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let projects = shop.vault().projects().await?;
    let row = |project: &Project| {
        let details = &project.details;
        let called = details.app_name.clone().unwrap_or_default();
        vec![details.name.clone(), project.id.to_string(), called]
    };
    let list = show::List {
        head: &["name", "id", "called"],
        none: "No projects yet. `countersign projects add NAME`",
        row,
        value: as_json,
    };
    list.write(out, json, &projects)
}

async fn remove(
    shop: &Workshop,
    named: &str,
    yes: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let project = find(shop, named).await?;
    ask::confirm(&format!("{named}, its users and its API clients are removed."), yes)?;
    match shop.vault().delete_project(&project.id).await {
        Ok(_) => {}
        Err(vault::Error::Conflict(_)) => {
            bail!("{named} has users with accounts: delete these users by the API first")
        }
        Err(error) => return Err(error.into()),
    }
    note(shop, "project_removed", &project.details.name, project.id.as_str()).await?;
    writeln!(out, "{named} is removed")?;
    Ok(())
}
