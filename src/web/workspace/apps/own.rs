//! Definitions of the workspace's own: added, changed and removed by owners and admins.
//!
//! A definition says where secrets go, so it is read and linted before it is kept, and the whole
//! catalog with it: what would not load is never stored. All nodes take it in at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::shell::{Confirm, Section, Shell};
use super::super::visit::{Flash, Visit};
use crate::catalog::openapi::{self, Derived, Wishes};
use crate::catalog::own::{self, DeclaredUse, FILE, Verdict};
use crate::catalog::{App, Catalog, Mistake};
use crate::forward::Body;
use crate::ids::AppId;
use crate::secret::TokenDigest;
use crate::vault::Filter;

/// A change is in use within a second; this is for a slow disk.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

#[derive(Template)]
#[template(path = "workspace/app_edit.html")]
struct EditPage<'a> {
    shell: Shell<'a>,
    action: &'a str,
    back: &'a str,
    text: &'a str,
    /// It is a change of one that is kept.
    changes: bool,
    checked: bool,
    /// Of the text that the findings are about, where it may be saved all the same.
    seen: Option<String>,
    mistakes: Vec<Line>,
    /// What to know before it is saved.
    notes: Vec<String>,
}

/// One thing to mend, at its line.
struct Line {
    number: Option<usize>,
    /// What stands there.
    text: String,
    key: String,
    said: String,
    is_error: bool,
}

pub(super) async fn add(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    Editor { visit, id: None }.answer(TEMPLATE.to_owned()).await
}

pub(super) async fn edit(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let id: AppId = id.parse().map_err(|_| Trouble::NotFound)?;
    let kept = visit.vault().app_definition(&id).await?.ok_or(Trouble::NotFound)?;
    Editor { visit, id: Some(id) }.answer(kept.definition).await
}

fn check_role(visit: &Visit<'_>) -> Result<(), Trouble> {
    match visit.member().role.administers() {
        true => Ok(()),
        false => Err(Trouble::Forbidden(
            "Only owners and admins change definitions: they decide where secrets go.",
        )),
    }
}

/// The form, for a new definition or one that is kept.
struct Editor<'v> {
    visit: &'v Visit<'v>,
    id: Option<AppId>,
}

const MADE: &str = "This definition was made from the OpenAPI document. Read it: what follows could \
                    not be derived, or was guessed.";

/// Of a text, so that what was found is known to be about this one.
fn digest(text: &str) -> String {
    TokenDigest::of(text.as_bytes()).to_hex()
}

impl Editor<'_> {
    async fn answer(&self, before: String) -> Result<Response<Body>, Trouble> {
        check_role(self.visit)?;
        let form = &self.visit.form;
        if !self.visit.is_post() {
            return Ok(self.page(&before, None));
        }
        let text = form.raw("definition").replace("\r\n", "\n");
        if let Some(made) = self.made_of_openapi(&text) {
            return self.offer(&text, made).await;
        }
        let verdict = self.judge(&text).await?;
        match &verdict.app {
            Some(app)
                if form.text("do") == "save"
                    && (verdict.is_clean() || form.text("seen") == digest(&text)) =>
            {
                self.save(app, &text).await
            }
            _ => Ok(self.page(&text, Some(&verdict))),
        }
    }

    /// What an OpenAPI document comes to as a definition; `None` for anything else.
    fn made_of_openapi(&self, text: &str) -> Option<Result<Derived, openapi::Error>> {
        if self.id.is_some() || text.parse::<toml::Table>().is_ok() {
            return None;
        }
        match openapi::derive(text, Wishes::default()) {
            Err(openapi::Error::Syntax(_) | openapi::Error::NotOpenApi) => None,
            made => Some(made),
        }
    }

    /// The definition instead of the document, to be read before it is kept.
    async fn offer(
        &self,
        document: &str,
        made: Result<Derived, openapi::Error>,
    ) -> Result<Response<Body>, Trouble> {
        let derived = match made {
            Ok(derived) => derived,
            Err(error) => {
                let mistakes = vec![Mistake::new(FILE, None, "", error.to_string())];
                let verdict = Verdict { mistakes, ..Verdict::default() };
                return Ok(self.page(document, Some(&verdict)));
            }
        };
        let mut verdict = self.judge(&derived.toml).await?;
        verdict.notes.insert(0, MADE.to_owned());
        verdict.notes.extend(derived.remarks);
        Ok(self.page(&derived.toml, Some(&verdict)))
    }

    async fn judge(&self, text: &str) -> Result<Verdict, Trouble> {
        let workspace = self.visit.workspace;
        let world = workspace.forwarder.world();
        let declared = world.slots.iter().filter(|slot| !slot.is_stored());
        let declared = declared.map(|slot| DeclaredUse {
            account: &slot.account,
            app: &slot.app.id,
            auth: &slot.auth().id,
        });
        let mut verdict = own::judge(&workspace.keeper.catalog(), text, self.id.as_ref(), declared);
        if let Some(app) = &verdict.app {
            let filter = Filter { app: Some(app.id.clone()), ..Filter::default() };
            let accounts = self.visit.vault().accounts(&filter).await?;
            let ways = accounts.iter().map(|account| (&account.nickname, &*account.auth));
            verdict.notes.extend(own::lost_ways(app, ways));
        }
        Ok(verdict)
    }

    async fn save(&self, app: &App, text: &str) -> Result<Response<Body>, Trouble> {
        let visit = self.visit;
        let before = self.visit.workspace.keeper.catalog().app(app.id.as_str()).cloned();
        let kept = visit.vault().app_definition(&app.id).await?;
        if kept.is_some_and(|kept| kept.definition == text) {
            return Ok(visit.done(&format!("/apps/{}", app.id), "Nothing was changed."));
        }
        visit.vault().put_app_definition(&app.id, text, Some(&visit.member().id)).await?;
        let what = if self.id.is_some() { "app_changed" } else { "app_added" };
        visit.audit(what, app.id.as_str(), &app.name);
        let done = match in_use(visit, |now| is_another(now.app(app.id.as_str()), before.as_ref()))
            .await
        {
            true => Flash::done(format!("{} is in use.", app.name)),
            false => Flash::warning("It is kept, and not in use yet: the server's log says why."),
        };
        Ok(visit.go(&format!("/apps/{}", app.id), Some(done)))
    }

    fn page(&self, text: &str, verdict: Option<&Verdict>) -> Response<Body> {
        let title = match &self.id {
            Some(id) => format!("Change {id}"),
            None => "Add an app".to_owned(),
        };
        let (action, back) = match &self.id {
            Some(id) => (format!("/apps/{id}/edit"), format!("/apps/{id}")),
            None => ("/apps/own/new".to_owned(), "/apps".to_owned()),
        };
        let lines = verdict.map(|verdict| lines(text, &verdict.mistakes)).unwrap_or_default();
        let page = EditPage {
            shell: self.visit.shell(Section::Apps, &title),
            action: &action,
            back: &back,
            text,
            changes: self.id.is_some(),
            checked: verdict.is_some(),
            seen: verdict.and_then(|verdict| verdict.app.as_ref()).map(|_| digest(text)),
            mistakes: lines,
            notes: verdict.map(|verdict| verdict.notes.clone()).unwrap_or_default(),
        };
        match verdict {
            Some(Verdict { app: None, .. }) => self.visit.refused(&page),
            _ => self.visit.page(&page),
        }
    }
}

fn lines(text: &str, mistakes: &[Mistake]) -> Vec<Line> {
    let line = |mistake: &Mistake| {
        let there = mistake.line.and_then(|number| text.lines().nth(number.saturating_sub(1)));
        Line {
            number: mistake.line,
            text: there.unwrap_or_default().trim().chars().take(120).collect(),
            key: mistake.key.clone(),
            said: mistake.text.clone(),
            is_error: mistake.is_error(),
        }
    };
    mistakes.iter().map(line).collect()
}

/// Every reading makes another app, also of the same text.
fn is_another(now: Option<&Arc<App>>, before: Option<&Arc<App>>) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => !Arc::ptr_eq(now, before),
        (now, before) => now.is_some() != before.is_some(),
    }
}

/// Waits until this node's requests see the change.
async fn in_use(visit: &Visit<'_>, expected: impl Fn(&Catalog) -> bool) -> bool {
    let seen = async {
        while !expected(&visit.workspace.forwarder.world().catalog) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.is_ok()
}

pub(super) async fn remove(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    check_role(visit)?;
    let id: AppId = id.parse().map_err(|_| Trouble::NotFound)?;
    visit.vault().app_definition(&id).await?.ok_or(Trouble::NotFound)?;
    let catalog = visit.workspace.keeper.catalog();
    let name = catalog.app(id.as_str()).map_or_else(|| id.to_string(), |app| app.name.clone());
    if visit.is_post() {
        let before = catalog.app(id.as_str());
        visit.vault().delete_app_definition(&id).await?;
        visit.audit("app_removed", id.as_str(), &name);
        in_use(visit, |now| is_another(now.app(id.as_str()), before)).await;
        return Ok(visit.done("/apps", format!("The definition of {name} is removed.")));
    }
    let beneath = beneath(visit, &id);
    let stops = stops(visit, &id, beneath.as_ref()).await?;
    let text = match &beneath {
        Some(Beneath { file: None, .. }) => {
            format!("The definition of {name} that comes with countersign takes its place.")
        }
        Some(Beneath { file: Some(file), .. }) => {
            format!("The definition of {name} in {} takes its place.", file.display())
        }
        None => format!("The app {name} goes out of the catalog."),
    };
    let title = format!("Remove the definition of {name}?");
    let (action, back) = (format!("/apps/{id}/remove"), format!("/apps/{id}"));
    Ok(visit.page(&Confirm {
        shell: visit.shell(Section::Apps, &title),
        text: &text,
        stops: &stops,
        action: &action,
        fields: &[],
        tick: None,
        label: "Remove the definition",
        back: &back,
        error: None,
    }))
}

/// What takes the place of a definition that is removed.
struct Beneath {
    app: Arc<App>,
    /// In `apps_dir`; else it comes with the binary.
    file: Option<PathBuf>,
}

fn beneath(visit: &Visit<'_>, id: &AppId) -> Option<Beneath> {
    let read = |text: String| {
        let alone = Catalog::build([(FILE.to_owned(), text)]).ok()?;
        alone.app(id.as_str()).cloned()
    };
    let dir = visit.workspace.around.apps_dir.as_ref();
    let files = dir.and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten();
    let files = files.filter_map(|entry| Some(entry.ok()?.path()));
    let in_dir = files.filter_map(|file| {
        let app = read(std::fs::read_to_string(&file).ok()?)?;
        Some(Beneath { app, file: Some(file) })
    });
    let embedded = || {
        let (_, text) = Catalog::embedded_text(id.as_str())?;
        Some(Beneath { app: read(text)?, file: None })
    };
    in_dir.into_iter().next().or_else(embedded)
}

/// What rests on an app that goes, or on what only it can do.
async fn stops(
    visit: &Visit<'_>,
    id: &AppId,
    beneath: Option<&Beneath>,
) -> Result<Vec<String>, Trouble> {
    let filter = Filter { app: Some(id.clone()), ..Filter::default() };
    let accounts = visit.vault().accounts(&filter).await?;
    let bindings = visit.vault().bindings().await?;
    let line = |account: &crate::vault::Account| {
        let users = bindings.iter().filter(|binding| binding.account == account.id);
        let users: Vec<String> = users.map(|binding| binding.caller.to_string()).collect();
        match users.is_empty() {
            true => format!("The account {}", account.nickname),
            false => format!("The account {}, and with it {}", account.nickname, users.join(", ")),
        }
    };
    let lost = |account: &&crate::vault::Account| {
        beneath.is_none_or(|beneath| beneath.app.auth(&account.auth).is_none())
    };
    Ok(accounts.iter().filter(lost).take(50).map(line).collect())
}

const TEMPLATE: &str = r#"id = "orders"
name = "Orders"
description = "Our own order service."
categories = ["internal"]
docs_url = "https://docs.example.com/orders"

[auth.key]
kind = "api_key"
hosts = ["api.orders.example.com"]
base_url = "https://api.orders.example.com/v1"
attach = [{ header = "Authorization", value = "Bearer {api_key}" }]

[[auth.key.fields]]
name = "api_key"
label = "API key"
help = "In the service's settings, under API."

[auth.key.test]
url = "https://api.orders.example.com/v1/me"
"#;
