//! What holds for every definition, whatever the lint says.

use std::collections::BTreeMap;

use countersign::catalog::{Confidence, FieldKind, lint};

use crate::{apps, assert_none, catalog};

#[test]
fn no_definition_has_a_mistake_or_a_warning() {
    let catalog = catalog();
    let found: Vec<String> =
        apps(&catalog).iter().flat_map(|app| lint(app)).map(|m| m.to_string()).collect();
    assert_none("lint", &found);
    assert_eq!(apps(&catalog).len(), catalog.len(), "every definition reads");
}

#[test]
fn every_credential_goes_by_tls_only() {
    let mut wrong = Vec::new();
    for app in apps(&catalog()) {
        for auth in &app.auths {
            if auth.clear_text || auth.hosts.iter().any(|host| host.clear_text) {
                wrong.push(format!("{}.{}: clear text", app.id, auth.id));
            }
        }
    }
    assert_none("http", &wrong);
}

#[test]
fn every_template_ends_in_a_name_that_strangers_cannot_register() {
    let mut wrong = Vec::new();
    for app in apps(&catalog()) {
        for pattern in app.auths.iter().flat_map(|auth| &auth.hosts) {
            if pattern.host.is_whole() || pattern.host.holes().next().is_none() {
                continue;
            }
            let suffix = pattern.host.suffix();
            let registrable = psl::domain(suffix.as_bytes()).is_some();
            let private = psl::suffix(suffix.as_bytes())
                .is_some_and(|found| found.typ() == Some(psl::Type::Private));
            // A hole with a closed set of values is as good as constant.
            let auths = app.auths.iter();
            let closed = auths
                .flat_map(|auth| &auth.fields)
                .filter(|field| pattern.host.holes().any(|hole| hole == field.name))
                .all(|field| !field.choices.is_empty());
            if !registrable && !private && !closed {
                wrong.push(format!("{}: {pattern}", app.id));
            }
        }
    }
    assert_none("suffixes", &wrong);
}

/// A value that names a tenant decides where a credential goes.
#[test]
fn every_field_in_a_host_is_anchored() {
    let mut wrong = Vec::new();
    for app in apps(&catalog()) {
        for auth in &app.auths {
            let holes: Vec<&str> = auth.hosts.iter().flat_map(|host| host.host.holes()).collect();
            for field in auth.fields.iter().filter(|field| holes.contains(&field.name.as_str())) {
                let anchored = field
                    .pattern
                    .as_ref()
                    .is_some_and(|p| p.as_str().starts_with('^') && p.as_str().ends_with('$'));
                let closed = !field.choices.is_empty() || field.kind != FieldKind::Text;
                if !anchored && !closed {
                    wrong.push(format!("{}.{}.{}", app.id, auth.id, field.name));
                }
            }
        }
    }
    assert_none("not anchored", &wrong);
}

#[test]
fn every_app_can_be_told_from_the_others() {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for app in apps(&catalog()) {
        let odd = |c: char| c == '_' || c.is_control() || !(c.is_alphanumeric() || c.is_ascii());
        if app.name.trim() != app.name || app.name.is_empty() || app.name.chars().any(odd) {
            wrong.push(format!("{}: the name \"{}\"", app.id, app.name));
        }
        if app.description.is_empty() || app.description.ends_with('.') {
            wrong.push(format!("{}: the description \"{}\"", app.id, app.description));
        }
        names.entry(app.name.to_lowercase()).or_default().push(app.id.to_string());
    }
    assert_none("names", &wrong);
}

#[test]
fn the_catalog_is_as_large_as_it_says() {
    let catalog = catalog();
    let agreed = catalog.cards().filter(|card| card.confidence == Confidence::Verified).count();
    assert!(catalog.len() >= 2_400, "{}", catalog.len());
    assert!(agreed >= 1_100, "{agreed}");
    let odd = catalog
        .cards()
        .filter(|card| card.tier == Some(3) && card.confidence == Confidence::Verified);
    assert_eq!(odd.count(), 0, "tier 3 is what one source knows");
}
