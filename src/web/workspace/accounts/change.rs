//! Renaming, checking and deleting an account.

use askama::Template;
use http::Response;

use super::super::shell::{Confirm, Section, Shell};
use super::super::visit::{Flash, Visit};
use super::super::{Trouble, connect};
use super::view::{Book, named_in_rules};
use crate::connect::Removed;
use crate::forward::Body;
use crate::ids::AccountId;
use crate::policy::access::Operation;
use crate::vault;

#[derive(Template)]
#[template(path = "workspace/rename.html")]
struct RenamePage<'a> {
    shell: Shell<'a>,
    id: &'a str,
    now: &'a str,
    name: &'a str,
    /// Callers whose rules say the present name.
    in_rules: Vec<String>,
    error: Option<String>,
}

pub(super) async fn rename(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let account = visit.account(id, Operation::ManageAccess).await?;
    let mut error = None;
    if visit.is_post() {
        match visit.form.text("name").parse::<AccountId>() {
            Ok(name) => match visit.vault().rename_account(&account.id, &name).await {
                Ok(_) => {
                    visit.audit_of(
                        &account.id,
                        "account_renamed",
                        name.as_str(),
                        account.nickname.as_str(),
                    );
                    let text = format!("The account is called {name} now.");
                    return Ok(visit.done(&format!("/accounts/{id}"), text));
                }
                Err(vault::Error::Conflict(why)) => error = Some(why),
                Err(other) => return Err(other.into()),
            },
            Err(invalid) => error = Some(invalid.to_string()),
        }
    }
    let name = if visit.is_post() { visit.form.text("name") } else { account.nickname.as_str() };
    let title = format!("Rename {}", account.nickname);
    let refused = error.is_some();
    let page = RenamePage {
        shell: visit.shell(Section::Accounts, &title),
        id,
        now: account.nickname.as_str(),
        name,
        in_rules: named_in_rules(visit, account.nickname.as_str()).await?,
        error,
    };
    Ok(if refused { visit.refused(&page) } else { visit.page(&page) })
}

/// Sends the app's test request with the account.
pub(super) async fn check(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let account = visit.account(id, Operation::See).await?;
    let checked = connect::check_account(visit.workspace, &account).await;
    visit.audit_of(&account.id, "account_checked", account.nickname.as_str(), account.id.as_str());
    let text = connect::told(&checked);
    let flash = match checked.is_bad() {
        true => Flash::warning(format!("The check failed. {text}")),
        false => Flash::done(text),
    };
    Ok(visit.go(&format!("/accounts/{id}"), Some(flash)))
}

pub(super) async fn delete(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let account = visit.account(id, Operation::Delete).await?;
    let name = account.nickname.as_str();
    if visit.is_post() {
        let removed = visit.workspace.connector.remove(&account.id).await?;
        visit.audit_of(&account.id, "account_deleted", name, account.id.as_str());
        let flash = match removed.ok_or(Trouble::NotFound)? {
            Removed::Revoked => {
                Flash::done(format!("{name} is deleted, and its grant is revoked at the provider."))
            }
            Removed::NotRevocable => Flash::done(format!(
                "{name} is deleted. The provider has no way to revoke it from here: end the grant or \
                 key in its own settings."
            )),
            Removed::Failed { why } => Flash::warning(format!(
                "{name} is deleted here, but could not be revoked at the provider: {why}. End the \
                 grant in its own settings."
            )),
        };
        return Ok(visit.go(Section::Accounts.href(), Some(flash)));
    }
    let book = Book::read(visit).await?;
    let app = book.app_name(&account);
    let callers = book.callers_of(&account.id);
    let stops: Vec<String> =
        callers.iter().map(|caller| format!("Requests of the caller {caller} to {app}")).collect();
    let text = format!(
        "This deletes the account {name} of {app} for good, and revokes its grant at the provider \
         where that is possible."
    );
    let title = format!("Delete {name}?");
    let (action, back) = (format!("/accounts/{id}/delete"), format!("/accounts/{id}"));
    let confirm = Confirm {
        shell: visit.shell(Section::Accounts, &title),
        text: &text,
        stops: &stops,
        action: &action,
        fields: &[],
        tick: None,
        label: "Delete the account",
        back: &back,
        error: None,
    };
    Ok(visit.page(&confirm))
}
