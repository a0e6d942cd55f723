//! The users of a product, and what they connected.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::accounts::view::{Book, Line};
use super::super::shell::{Confirm, Moment, Section, Shell};
use super::super::visit::{Flash, Visit};
use crate::connect::Removed;
use crate::forward::Body;
use crate::ids::ExternalUserId;
use crate::vault::{Account, Environment, ExternalUser, Filter, Project, UserFilter};

const PER_PAGE: u32 = 50;

/// A part of the list of users.
pub(super) struct Users {
    pub lines: Vec<UserLine>,
    pub total: u64,
    pub before: Option<String>,
    pub after: Option<String>,
}

pub(super) struct UserLine {
    pub id: String,
    pub external_id: String,
    pub accounts: u64,
    pub created: Moment,
}

impl Users {
    pub(super) async fn read(
        visit: &Visit<'_>,
        project: &Project,
        environment: Environment,
    ) -> Result<Self, Trouble> {
        let query = &visit.query;
        let filter = UserFilter {
            project: project.id.clone(),
            environment,
            containing: query.said("q").map(str::to_owned),
            after: query.text("after").parse().ok(),
            before: query.text("before").parse().ok(),
            // One more tells whether there is another page.
            limit: PER_PAGE + 1,
        };
        let vault = visit.vault();
        let total = vault.count_external_users(&filter).await?;
        let mut users = vault.external_users(&filter).await?;
        let more = users.len() > PER_PAGE as usize;
        let backwards = filter.before.is_some();
        if more {
            let spare = if backwards { 0 } else { users.len() - 1 };
            users.remove(spare);
        }
        let link = |name: &str, user: Option<&ExternalUser>| {
            let base = format!("/projects/{}?", project.id);
            let mut address = url::form_urlencoded::Serializer::new(base);
            address.append_pair("environment", &environment.to_string());
            address.append_pair("q", query.text("q"));
            user.map(|user| address.append_pair(name, user.id.as_str()).finish())
        };
        let has_before = if backwards { more } else { filter.after.is_some() };
        let has_after = if backwards { true } else { more };
        let (before, after) = (link("before", users.first()), link("after", users.last()));
        let mut lines = Vec::new();
        for user in &users {
            let of_user = Filter { external_user: Some(user.id.clone()), ..Filter::default() };
            lines.push(UserLine {
                id: user.id.to_string(),
                external_id: user.external_id.clone(),
                accounts: vault.count_accounts(&of_user).await?,
                created: Moment::of(user.created_at, visit.now()),
            });
        }
        Ok(Self {
            lines,
            total,
            before: before.filter(|_| has_before),
            after: after.filter(|_| has_after),
        })
    }
}

async fn find(
    visit: &Visit<'_>,
    project: &Project,
    id: &str,
) -> Result<(ExternalUser, Vec<Account>), Trouble> {
    let id: ExternalUserId = id.parse().map_err(|_| Trouble::NotFound)?;
    let user = visit.vault().external_user_by_id(&id).await?;
    let user = user.filter(|user| user.project == project.id).ok_or(Trouble::NotFound)?;
    let filter = Filter { external_user: Some(id), ..Filter::default() };
    Ok((user, visit.vault().accounts(&filter).await?))
}

#[derive(Template)]
#[template(path = "workspace/external_user.html")]
struct UserPage<'a> {
    shell: Shell<'a>,
    project: &'a Project,
    user: &'a ExternalUser,
    lines: Vec<Line>,
}

pub(super) async fn one(
    visit: &Visit<'_>,
    project: &Project,
    id: &str,
) -> Result<Response<Body>, Trouble> {
    let (user, accounts) = find(visit, project, id).await?;
    let book = Book::read(visit).await?;
    let page = UserPage {
        shell: visit.shell(Section::Projects, &user.external_id),
        project,
        user: &user,
        lines: accounts.iter().map(|account| book.line(account)).collect(),
    };
    Ok(visit.page(&page))
}

pub(super) async fn delete(
    visit: &Visit<'_>,
    project: &Project,
    id: &str,
) -> Result<Response<Body>, Trouble> {
    let (user, accounts) = find(visit, project, id).await?;
    let back = format!("/projects/{}/users/{}", project.id, user.id);
    if visit.is_post() {
        let mut failed = 0;
        for account in &accounts {
            let removed = visit.workspace.connector.remove(&account.id).await?;
            visit.audit_of(
                &account.id,
                "account_deleted",
                account.nickname.as_str(),
                account.id.as_str(),
            );
            failed += usize::from(matches!(removed, Some(Removed::Failed { .. })));
        }
        visit.vault().delete_external_user(&user.id).await?;
        visit.audit("external_user_deleted", &user.external_id, user.id.as_str());
        let flash = match failed {
            0 => Flash::done("The user and their accounts are deleted."),
            failed => Flash::warning(format!(
                "The user is deleted. {failed} grants could not be revoked at the provider: end them \
                 in its own settings."
            )),
        };
        let list = format!("/projects/{}?environment={}", project.id, user.environment);
        return Ok(visit.go(&list, Some(flash)));
    }
    let title = format!("Delete {}?", user.external_id);
    let stops: Vec<String> = accounts
        .iter()
        .map(|account| format!("Their account {} of {}", account.id, account.app))
        .collect();
    let action = format!("{back}/delete");
    Ok(visit.page(&Confirm {
        shell: visit.shell(Section::Projects, &title),
        text: "The user's accounts are deleted, and revoked at the providers where that is possible.",
        stops: &stops,
        action: &action,
        fields: &[],
        tick: None,
        label: "Delete the user",
        back: &back,
        error: None,
    }))
}
