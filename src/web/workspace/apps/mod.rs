//! *Apps*: the catalog, one app whole, and definitions of the workspace's own.

mod one;
mod own;
mod shelf;

use std::collections::HashSet;

use askama::Template;
use http::Response;

use super::Trouble;
use super::shell::{Paging, Section, Shell};
use super::visit::Visit;
use crate::forward::Body;
use crate::ids::AppId;
use crate::web::words::label;
use shelf::{Entry, categories, found};

const PER_PAGE: usize = 60;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => list(visit).await,
        (["own", "new"], _) => own::add(visit).await,
        ([id], false) => one::show(visit, id).await,
        ([id, "edit"], _) => own::edit(visit, id).await,
        ([id, "remove"], _) => own::remove(visit, id).await,
        _ => Err(Trouble::NotFound),
    }
}

#[derive(Template)]
#[template(path = "workspace/apps.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    q: &'a str,
    category: &'a str,
    only_own: bool,
    /// With their labels and how many apps each has.
    categories: Vec<(String, String, usize)>,
    lines: Vec<Entry>,
    paging: Paging,
    total: usize,
    own: usize,
    may_add: bool,
}

async fn list(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let catalog = visit.workspace.keeper.catalog();
    let own = visit.vault().app_definitions().await?;
    let own: HashSet<AppId> = own.into_iter().map(|definition| definition.id).collect();
    let (q, category) = (visit.query.text("q"), visit.query.text("category"));
    let only_own = visit.query.text("own") == "yes";
    let mut apps = found(&catalog, q, category);
    apps.retain(|card| !only_own || own.contains(&card.id));
    let mut base = url::form_urlencoded::Serializer::new("/apps?".to_owned());
    base.append_pair("q", q).append_pair("category", category);
    if only_own {
        base.append_pair("own", "yes");
    }
    let (apps, paging) = Paging::cut(apps, PER_PAGE, visit.query.text("page"), &base.finish());
    let all = categories(&catalog).into_iter();
    let page = ListPage {
        shell: visit.shell(Section::Apps, "Apps"),
        q,
        category,
        only_own,
        categories: all.map(|(name, number)| (label(&name), name, number)).collect(),
        lines: apps.iter().map(|card| Entry::of(card, own.contains(&card.id))).collect(),
        paging,
        total: catalog.len(),
        own: own.len(),
        may_add: visit.member().role.administers(),
    };
    Ok(visit.page(&page))
}
