//! The catalog: apps and their categories.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use http::Response;
use serde_json::{Value, json};

use super::failure::{Failure, ok};
use super::input::{From, Pairs};
use super::{Api, present};
use crate::catalog::{App, Card};
use crate::forward::Body;

const DEFAULT_PAGE: u32 = 10;

impl Api {
    /// By slug, or by the id that [`present::app`] gives it.
    pub(super) fn app(&self, named: &str) -> Option<Arc<App>> {
        let catalog = self.keeper.catalog();
        let by_id = || named.strip_prefix("app_").and_then(|slug| catalog.app(slug));
        catalog.app(named).or_else(by_id).cloned()
    }

    pub(super) fn app_or_refuse(&self, named: &str) -> Result<Arc<App>, Failure> {
        self.app(named).ok_or_else(|| Failure::bad("there is no such app: check your app id"))
    }

    pub(super) fn apps(&self, query: &Pairs) -> Result<Response<Body>, Failure> {
        let page = query.page(DEFAULT_PAGE)?;
        let catalog = self.keeper.catalog();
        let mut found: Vec<&Card> = match query.one("q")? {
            Some(words) => catalog.ranked(words),
            None => catalog.cards().collect(),
        };
        let wanted: BTreeSet<&str> = query
            .all("category_ids")
            .flat_map(|list| list.split(','))
            .filter(|id| !id.is_empty())
            .collect();
        if !wanted.is_empty() {
            let in_one = |name: &str| wanted.contains(name) || wanted.contains(&*category_id(name));
            found.retain(|app| app.categories().any(in_one));
        }
        sort(&mut found, query)?;
        let total = found.len() as u64;
        let (shown, more) = cut(&found, &page.from, page.limit as usize)?;
        let read = shown.iter().filter_map(|card| catalog.app(card.id.as_str()));
        let data: Vec<_> = read.map(|app| present::app(app, None)).collect();
        let first = shown.first().map(|app| app.id.as_str());
        let last = shown.last().map(|app| app.id.as_str()).filter(|_| more);
        Ok(ok(&present::list(&data, total, first, last)))
    }

    /// One app: wrapped, other than an account.
    pub(super) async fn one_app(&self, named: &str) -> Result<Response<Body>, Failure> {
        if named.starts_with("oa_") {
            let client = self.oauth_client(named).await?;
            let app = self.app(client.details.app.as_str()).ok_or(Failure::NotFound)?;
            return Ok(ok(&json!({ "data": present::app(&app, Some(&client.id)) })));
        }
        let app = self.app(named).ok_or(Failure::NotFound)?;
        Ok(ok(&json!({ "data": present::app(&app, None) })))
    }

    pub(super) fn categories(&self) -> Vec<Value> {
        let catalog = self.keeper.catalog();
        let names: BTreeSet<&str> = catalog.cards().flat_map(|card| card.categories()).collect();
        names.into_iter().map(category).collect()
    }

    pub(super) fn one_category(&self, named: &str) -> Result<Response<Body>, Failure> {
        let found = self
            .categories()
            .into_iter()
            .find(|category| category["id"] == named || category["name"] == named);
        found.map(|category| ok(&category)).ok_or(Failure::NotFound)
    }
}

fn category(name: &str) -> Value {
    json!({ "id": category_id(name), "name": name, "description": format!("Apps for {name}") })
}

fn category_id(name: &str) -> String {
    format!("appcat_{name}")
}

/// Without a wish: by name of the slug, or, when something was looked for, the best first.
fn sort(apps: &mut [&Card], query: &Pairs) -> Result<(), Failure> {
    let backwards = match query.one("sort_direction")? {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(Failure::bad("sort_direction is asc or desc")),
    };
    let by: fn(&Card, &Card) -> Ordering = match query.one("sort_key")? {
        None => return Ok(()),
        Some("name") => |a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)),
        // No app is more featured than another.
        Some("name_slug" | "featured_weight") => |a, b| a.id.cmp(&b.id),
        Some(_) => return Err(Failure::bad("sort_key is name, name_slug or featured_weight")),
    };
    apps.sort_by(|a, b| if backwards { by(b, a) } else { by(a, b) });
    Ok(())
}

/// A page of a list, and whether there is more behind it.
fn cut<'a, 'b>(
    apps: &'b [&'a Card],
    from: &From,
    limit: usize,
) -> Result<(&'b [&'a Card], bool), Failure> {
    let at = |id: &String| {
        let found = apps.iter().position(|app| app.id.as_str() == id);
        found.ok_or_else(|| Failure::bad("that cursor is none of this list"))
    };
    let (start, end) = match from {
        From::Start => (0, limit),
        From::After(id) => (at(id)? + 1, at(id)? + 1 + limit),
        From::Before(id) => (at(id)?.saturating_sub(limit), at(id)?),
    };
    let end = end.min(apps.len());
    Ok((&apps[start.min(end)..end], end < apps.len()))
}
