//! `countersign projects …`: the products whose users connect accounts.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::find::{self, Kind};
use super::{ask, in_workshop, note, show};
use crate::api::logo::{self, NotALogo};
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
    /// Change a project: only what is said here
    Update(Update),
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

#[derive(clap::Args)]
pub struct Update {
    /// Id or name
    project: String,
    /// What to call it from now on
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What the product's users are told that they connect to; "" for the project's name
    #[arg(long, value_name = "NAME")]
    app_name: Option<String>,
    /// Whom they may ask; "" for nobody
    #[arg(long, value_name = "ADDRESS")]
    support_email: Option<String>,
    /// Whether keys are stored only if the app's test request takes them
    #[arg(long, value_name = "true|false")]
    test_keys: Option<bool>,
    /// A PNG, JPEG, GIF or WebP picture of at most 96 KiB, for the page where users connect
    #[arg(long, value_name = "FILE", conflicts_with = "no_logo")]
    logo: Option<PathBuf>,
    /// Take the logo away
    #[arg(long)]
    no_logo: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Update {
    fn over(&self, before: &ProjectDetails) -> anyhow::Result<ProjectDetails> {
        let text = |said: &Option<String>, before: &Option<String>| match said.as_deref() {
            None => before.clone(),
            Some(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        };
        let name = text(&self.name, &Some(before.name.clone()));
        Ok(ProjectDetails {
            name: name.context("a project needs a name")?,
            app_name: text(&self.app_name, &before.app_name),
            support_email: text(&self.support_email, &before.support_email),
            require_key_test: self.test_keys.unwrap_or(before.require_key_test),
        })
    }

    /// The new logo, `None` within for taking it away, or nothing said.
    fn picture(&self) -> anyhow::Result<Option<Option<String>>> {
        let Some(file) = &self.logo else { return Ok(self.no_logo.then_some(None)) };
        let at = || file.display().to_string();
        let size = std::fs::metadata(file).with_context(at)?.len();
        if size > logo::MAX_BYTES as u64 {
            return Err(NotALogo::TooLarge).with_context(at);
        }
        let bytes = std::fs::read(file).with_context(at)?;
        Ok(Some(Some(logo::data_url(&bytes).with_context(at)?)))
    }
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
        ProjectsCommand::Update(asked) => update(shop, asked, out).await,
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
    find::only(projects, named, &KIND, |project| (project.id.as_str(), &project.details.name))
}

const KIND: Kind = Kind { one: "project", list: "countersign projects list" };

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

async fn update(shop: &Workshop, asked: &Update, out: &mut impl Write) -> anyhow::Result<()> {
    let project = find(shop, &asked.project).await?;
    let details = asked.over(&project.details)?;
    let picture = asked.picture()?;
    if details == project.details && picture.is_none() {
        bail!("say what to change: --name, --app-name, --support-email, --test-keys, --logo");
    }
    match shop.vault().update_project(&project.id, &details).await {
        Ok(_) => {}
        Err(vault::Error::Conflict(_)) => bail!("there is a project \"{}\" already", details.name),
        Err(error) => return Err(error.into()),
    }
    if let Some(picture) = picture {
        shop.vault().set_project_logo(&project.id, picture).await?;
    }
    note(shop, "project_updated", &details.name, project.id.as_str()).await?;
    if asked.json {
        let changed = Project { details, ..project };
        return Ok(show::json(out, &as_json(&changed))?);
    }
    writeln!(out, "{} is changed", details.name)?;
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
