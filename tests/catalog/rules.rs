//! What holds for every definition, whatever the lint says.

use std::collections::BTreeMap;
use std::path::Path;

use countersign::catalog::{Catalog, Confidence, FieldKind, lint};

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

/// Zendesk's file, broken rule by rule: each is named with the app and the reason. What the lint
/// forgets would be let into the binary otherwise.
#[test]
fn a_definition_that_breaks_a_rule_is_named() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/apps/z/zendesk.toml");
    let good = std::fs::read_to_string(path).expect("it is there");
    let host = "{subdomain}.zendesk.com";
    for (rule, from, to, reason) in [
        ("a wildcard on a public suffix", host, "{subdomain}.com", "anyone can register"),
        ("a wildcard on a host for everybody", host, "{subdomain}.co.uk", "anyone can register"),
        (
            "clear text",
            "\"{subdomain}.zendesk.com",
            "\"http://{subdomain}.zendesk.com",
            "clear text",
        ),
        (
            "a token endpoint in clear text",
            "token_url = \"https://",
            "token_url = \"http://",
            "https://",
        ),
        (
            "a template that leaves the domain",
            host,
            "zendesk.com.{subdomain}",
            "anyone can register",
        ),
        (
            "user information before the host",
            "https://{subdomain}",
            "https://a@{subdomain}",
            "user information",
        ),
        ("a hole that nobody fills", host, "{elsewhere}.zendesk.com", "is not a declared field"),
        (
            "a test request to a stranger",
            "url = \"https://{subdomain}.zendesk.com/api",
            "url = \"https://evil.example/api",
            "not among the hosts",
        ),
        ("a pattern that is not anchored", "pattern = \"^", "pattern = \"", "must be anchored"),
    ] {
        assert!(good.contains(from), "{rule}: {from} is not in the file");
        let broken = good.replace(from, to);
        let files = [("z/zendesk.toml".to_owned(), broken)];
        let found = match Catalog::build(files) {
            Ok(catalog) => catalog.apps().flat_map(|app| lint(app)).collect::<Vec<_>>(),
            Err(found) => found,
        };
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        let named = |line: &String| line.contains("zendesk") && line.contains(reason);
        assert!(shown.iter().any(named), "{rule}: {shown:?}");
    }
}

/// Two apps that want one host, and do not say so.
#[test]
fn an_overlap_of_hosts_names_both_apps() {
    let text = |id: &str| {
        format!(
            "id = \"{id}\"\nname = \"{id}\"\ndescription = \"x\"\n[auth.key]\nkind = \"api_key\"\n\
             hosts = [\"api.acme.example\"]\nbase_url = \"https://api.acme.example\"\n\
             attach = [{{ header = \"x-key\", value = \"{{key}}\" }}]\n\
             fields = [{{ name = \"key\", label = \"Key\" }}]\n"
        )
    };
    let files = ["one", "two"].map(|id| (format!("{id}.toml"), text(id)));
    let found = Catalog::build(files).expect_err("they overlap");
    let shown = crate::shown(&found);
    assert!(shown.contains("one") && shown.contains("two"), "{shown}");
}
