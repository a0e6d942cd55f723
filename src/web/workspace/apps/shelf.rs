//! Apps as lists show them: found by words and category, in words.

use std::collections::BTreeMap;

use crate::catalog::{AuthKind, Card, Catalog, Confidence};
use crate::web::html::monogram;

/// An app in a list.
pub struct Entry {
    pub id: String,
    pub name: String,
    pub letter: String,
    pub hue: u8,
    pub description: String,
    /// How it is connected, each way once.
    pub ways: Vec<&'static str>,
    pub is_single: bool,
    pub is_own: bool,
}

impl Entry {
    pub fn of(card: &Card, is_own: bool) -> Self {
        let (letter, hue) = monogram(&card.name);
        let mut ways: Vec<&str> =
            card.auths().filter_map(|(_, kind)| AuthKind::named(kind).map(way)).collect();
        ways.dedup();
        Self {
            id: card.id.to_string(),
            name: card.name.to_string(),
            letter,
            hue,
            description: card.description.to_string(),
            ways,
            is_single: card.confidence == Confidence::Single,
            is_own,
        }
    }
}

/// How people call a way to authenticate.
pub fn way(kind: AuthKind) -> &'static str {
    match kind {
        AuthKind::Oauth2 | AuthKind::Oauth1 => "OAuth",
        AuthKind::Oauth2ClientCredentials | AuthKind::Oauth2Password => "OAuth without a person",
        AuthKind::ApiKey => "API key",
        AuthKind::Bearer => "Token",
        AuthKind::Basic => "User name and password",
        AuthKind::Jwt | AuthKind::TokenExchange => "Service account",
        AuthKind::AwsSigv4 => "AWS keys",
        AuthKind::Signature => "Signature",
        AuthKind::None => "No credential",
    }
}

/// Apps that have all words somewhere and are of the category, best first.
pub fn found<'c>(catalog: &'c Catalog, words: &str, category: &str) -> Vec<&'c Card> {
    let mut found = catalog.ranked(words);
    if !category.is_empty() {
        found.retain(|card| card.categories().any(|own| own == category));
    }
    found
}

/// Every category and how many apps it has, by name.
pub fn categories(catalog: &Catalog) -> Vec<(String, usize)> {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for category in catalog.cards().flat_map(Card::categories) {
        *counted.entry(category).or_default() += 1;
    }
    counted.into_iter().map(|(name, number)| (name.to_owned(), number)).collect()
}
