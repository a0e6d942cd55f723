//! Requests that members keep: each sees their own only.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::shell::{Confirm, Moment, Paging, Section, Shell};
use super::super::visit::Visit;
use super::Bench;
use crate::forward::Body;
use crate::secret::Secret;
use crate::vault;

pub(super) const MAX_NAME_CHARS: usize = 100;
const PER_PAGE: usize = 50;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => list(visit).await,
        ([id, "rename"], true) => rename(visit, id).await,
        ([id, "delete"], _) => delete(visit, id).await,
        _ => Err(Trouble::NotFound),
    }
}

/// Keeps what the form holds, under the name that it says.
pub(super) async fn keep(mut bench: Bench<'_>) -> Result<Response<Body>, Trouble> {
    let (visit, name) = (bench.visit, bench.name.clone());
    if name.is_empty() {
        bench.error = Some("Give the request a name, under which you find it again.".to_owned());
        return Ok(bench.page());
    }
    let draft = std::mem::take(&mut bench.draft).tidied();
    let kept = Secret::from(serde_json::to_string(&draft).unwrap_or_default());
    let (vault, me) = (visit.vault(), &visit.member().id);
    let saved = match &bench.open {
        Some(id) => {
            vault.update_request(me, id, &name, &kept).await.map(|done| done.then(|| id.clone()))
        }
        None => vault.save_request(me, &name, &kept).await.map(Some),
    };
    match saved {
        Ok(Some(id)) => Ok(visit.done(&format!("/requests?open={id}"), format!("{name} is kept."))),
        Ok(None) => Err(Trouble::NotFound),
        Err(vault::Error::Conflict(why)) => {
            bench.draft = draft;
            bench.error = Some(format!("It was not kept: {why}."));
            Ok(bench.page())
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Template)]
#[template(path = "workspace/requests_saved.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    lines: Vec<Line>,
    paging: Paging,
    q: &'a str,
    none: bool,
}

struct Line {
    id: String,
    name: String,
    changed: Moment,
}

async fn list(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let saved = visit.vault().saved_requests(&visit.member().id).await?;
    let (q, none) = (visit.query.text("q"), saved.is_empty());
    let words = q.to_lowercase();
    let fits = |name: &str| words.split_whitespace().all(|word| name.to_lowercase().contains(word));
    let lines: Vec<Line> = saved
        .into_iter()
        .filter(|saved| fits(&saved.name))
        .map(|saved| {
            let changed = Moment::of(saved.updated_at, visit.now());
            Line { id: saved.id, name: saved.name, changed }
        })
        .collect();
    let base: String = url::form_urlencoded::Serializer::new("/requests/saved?".to_owned())
        .append_pair("q", q)
        .finish();
    let (lines, paging) = Paging::cut(lines, PER_PAGE, visit.query.text("page"), &base);
    let shell = visit.shell(Section::Requests, "Saved requests");
    Ok(visit.page(&ListPage { shell, lines, paging, q, none }))
}

async fn rename(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let me = &visit.member().id;
    let kept = visit.vault().saved_request(me, id).await?;
    let (_, request) = kept.ok_or(Trouble::NotFound)?;
    let name: String = visit.form.text("name").chars().take(MAX_NAME_CHARS).collect();
    if name.is_empty() {
        return Err(Trouble::Bad("A request needs a name.".to_owned()));
    }
    visit.vault().update_request(me, id, &name, &request).await?;
    Ok(visit.done("/requests/saved", format!("The request is called {name} now.")))
}

async fn delete(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let me = &visit.member().id;
    let kept = visit.vault().saved_request(me, id).await?;
    let (kept, _) = kept.ok_or(Trouble::NotFound)?;
    if visit.is_post() {
        visit.vault().delete_request(me, id).await?;
        return Ok(visit.done("/requests/saved", format!("{} is deleted.", kept.name)));
    }
    let title = format!("Delete {}?", kept.name);
    let action = format!("/requests/saved/{id}/delete");
    Ok(visit.page(&Confirm {
        shell: visit.shell(Section::Requests, &title),
        text: "Only what you kept here is deleted; nothing is sent.",
        stops: &[],
        action: &action,
        fields: &[],
        tick: None,
        label: "Delete the request",
        back: "/requests/saved",
        error: None,
    }))
}
