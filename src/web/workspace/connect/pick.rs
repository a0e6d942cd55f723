//! The list of apps from which one is chosen.

use askama::Template;
use http::Response;

use super::super::shell::{Section, Shell};
use super::super::visit::Visit;
use crate::catalog::Card;
use crate::forward::Body;
use crate::web::html::monogram;

/// Apps that are shown at once.
const MOST_FOUND: usize = 60;

#[derive(Template)]
#[template(path = "workspace/pick.html")]
pub struct PickPage<'a> {
    pub shell: Shell<'a>,
    pub lead: &'static str,
    /// Where the apps are, without a slash at the end.
    pub base: &'static str,
    pub q: &'a str,
    pub found: Vec<Found>,
    /// How many fit, beside those that are shown.
    pub more: usize,
    pub total: usize,
}

pub struct Found {
    id: String,
    name: String,
    letter: String,
    hue: u8,
    description: String,
}

pub fn pick(visit: &Visit<'_>) -> Response<Body> {
    let catalog = visit.workspace.keeper.catalog();
    let q = visit.query.text("q");
    let all = catalog.ranked(q);
    visit.page(&PickPage {
        shell: visit.shell(Section::Connect, "Connect an app"),
        lead: "",
        base: "/accounts/connect",
        q,
        found: all.iter().take(MOST_FOUND).map(|card| found(card)).collect(),
        more: all.len().saturating_sub(MOST_FOUND),
        total: catalog.len(),
    })
}

pub fn found(card: &Card) -> Found {
    let (letter, hue) = monogram(&card.name);
    let (id, name) = (card.id.to_string(), card.name.to_string());
    Found { id, name, letter, hue, description: card.description.to_string() }
}
