//! An app as the catalog holds it: what every list shows, and the definition once somebody asks.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::embedded::Packed;
use super::{App, Confidence};
use crate::ids::AppId;

/// Between the items of a list, and between the parts of an item.
pub(super) const ITEM: char = '\u{1f}';
pub(super) const PART: char = '\u{1e}';

/// What is known of an app without reading its definition. Enough for lists and searches.
#[derive(Debug, Clone)]
pub struct Card {
    pub id: AppId,
    pub name: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// 1 was checked by hand, 2 is agreed by two sources, 3 known from one. `None`: not of ours.
    pub tier: Option<u8>,
    pub confidence: Confidence,
    pub(super) file: Cow<'static, str>,
    pub(super) categories: List,
    pub(super) shares: List,
    pub(super) auths: List,
    pub(super) hosts: List,
    pub(super) states: List,
}

/// Texts in one allocation, or in none.
#[derive(Debug, Clone, Default)]
pub(super) struct List(pub Cow<'static, str>);

impl List {
    fn of(items: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut text = String::new();
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                text.push(ITEM);
            }
            text.push_str(item.as_ref());
        }
        Self(Cow::Owned(text))
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split(ITEM).filter(|item| !item.is_empty())
    }
}

impl Card {
    /// Of a definition that was read.
    pub fn of(app: &App) -> Self {
        let mut hosts = Vec::new();
        for pattern in app.auths.iter().flat_map(|auth| &auth.hosts) {
            let text = pattern.to_string();
            if !hosts.contains(&text) {
                hosts.push(text);
            }
        }
        let auths = app.auths.iter().map(|auth| format!("{}{PART}{}", auth.id, auth.kind.as_str()));
        let oauth2 = app.auths.iter().filter_map(|auth| auth.oauth2.as_ref());
        Self {
            id: app.id.clone(),
            name: Cow::Owned(app.name.clone()),
            description: Cow::Owned(app.description.clone()),
            tier: app.tier,
            confidence: app.confidence,
            file: Cow::Owned(app.file.clone()),
            categories: List::of(&app.categories),
            shares: List::of(&app.shares_hosts_with),
            auths: List::of(auths),
            hosts: List::of(hosts),
            states: List::of(oauth2.filter_map(|o| o.param_rename.get("state"))),
        }
    }

    pub fn categories(&self) -> impl Iterator<Item = &str> + Clone {
        self.categories.iter()
    }

    /// Id and kind of every way to authenticate, the default first.
    pub fn auths(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.auths.iter().filter_map(|auth| auth.split_once(PART))
    }

    /// Each host pattern once, as the definition writes it.
    pub fn hosts(&self) -> impl Iterator<Item = &str> + Clone {
        self.hosts.iter()
    }

    /// The names under which authorization servers send `state` back, other than `state`.
    pub fn state_params(&self) -> impl Iterator<Item = &str> {
        self.states.iter()
    }

    pub(super) fn shares_with_none(&self) -> bool {
        self.shares.iter().next().is_none()
    }

    /// Whether both may claim one host: one names the other, or both name a third.
    pub(super) fn shares_with(&self, other: &Card) -> bool {
        let names = |card: &'_ Card, name: &str| {
            card.id.as_str() == name || card.shares.iter().any(|shared| shared == name)
        };
        names(other, self.id.as_str())
            || names(self, other.id.as_str())
            || self.shares.iter().any(|name| names(other, name))
    }
}

/// A host that an embedded app claims: `=api.acme.example` or `*acme.example`.
pub(super) struct Claimed<'a> {
    pub what: &'a str,
    pub port: u16,
    pub prefix: Option<&'a str>,
    pub clear_text: bool,
}

/// One app of the catalog.
#[derive(Debug)]
pub struct Entry {
    pub card: Card,
    /// Nothing for a definition that is read already.
    pub(super) packed: Option<Packed>,
    app: OnceLock<Option<Arc<App>>>,
}

impl Entry {
    pub fn read(app: Arc<App>) -> Self {
        Self { card: Card::of(&app), packed: None, app: OnceLock::from(Some(app)) }
    }

    pub(super) fn packed(packed: Packed) -> Self {
        Self { card: packed.card.clone(), packed: Some(packed), app: OnceLock::new() }
    }

    /// The definition, read when it is first asked for. `None` only for an embedded one with a
    /// mistake, and there is none.
    pub fn app(&self) -> Option<&Arc<App>> {
        self.app.get_or_init(|| self.packed.as_ref()?.read()).as_ref()
    }
}
