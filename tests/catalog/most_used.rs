//! The most used apps have everything: both ways to authenticate where the API has both, rights to
//! choose among, a request that tries the credential, documentation, and where a secret is found.
//! `most_used.toml` says why one of them lacks something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use countersign::catalog::{App, Auth, AuthKind, FieldOrigin};

use crate::{assert_none, catalog};

/// What may lack, with a reason; the rest may not.
const EXCUSED: [&str; 5] = ["no_key", "no_oauth", "no_scopes", "no_profiles", "no_test"];

fn table(file: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    text.parse().unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The sections of the judgements that do not say otherwise.
fn most_used() -> Vec<String> {
    let is_meant = |section: &toml::Value| section.get("most_used").is_none();
    let all = table("xtask/judgements.toml");
    all.into_iter().filter(|(_, section)| is_meant(section)).map(|(id, _)| id).collect()
}

fn is_by_consent(auth: &Auth) -> bool {
    matches!(auth.kind, AuthKind::Oauth2 | AuthKind::Oauth1)
}

fn lacks_of(app: &App) -> BTreeSet<String> {
    let mut lacks = BTreeSet::new();
    let mut lack = |what: String| {
        lacks.insert(what);
    };
    let by_client = |auth: &Auth| auth.kind == AuthKind::Oauth2ClientCredentials;
    if app.auths.iter().all(|auth| is_by_consent(auth) || by_client(auth)) {
        lack("no_key".to_owned());
    }
    if !app.auths.iter().any(is_by_consent) {
        lack("no_oauth".to_owned());
    }
    if app.docs_url.is_none() {
        lack("no documentation".to_owned());
    }
    for auth in &app.auths {
        if auth.test.is_none() {
            lack("no_test".to_owned());
        }
        let asked = auth.fields.iter().filter(|field| field.origin == FieldOrigin::Asked);
        for field in asked.filter(|field| field.secret && field.help.is_none()) {
            if field.placeholder.is_none() {
                lack(format!("no word about where {} is found", field.name));
            }
        }
        let Some(oauth2) = auth.oauth2.as_ref().filter(|_| auth.kind == AuthKind::Oauth2) else {
            continue;
        };
        match () {
            () if oauth2.suggested_scopes.is_empty() && oauth2.default_scopes.is_empty() => {
                lack("no_scopes".to_owned());
            }
            () if oauth2.scope_profiles.is_empty() => lack("no_profiles".to_owned()),
            () => {}
        }
    }
    lacks
}

/// Excuses by what lacks, then by app.
fn excuses() -> BTreeMap<String, BTreeSet<String>> {
    let of_reasons = |reasons: &toml::Value| {
        let lists = reasons.as_table().expect("reasons").values();
        let ids = lists.flat_map(|ids| ids.as_array().expect("a list of apps"));
        ids.map(|id| id.as_str().expect("an id").to_owned()).collect()
    };
    let all = table("tests/catalog/most_used.toml");
    all.iter().map(|(what, reasons)| (what.clone(), of_reasons(reasons))).collect()
}

#[test]
fn the_most_used_apps_are_complete_or_say_why_not() {
    let (catalog, excuses) = (catalog(), excuses());
    let mut wrong = Vec::new();
    let ids = most_used();
    assert!(ids.len() >= 150, "{} apps are called the most used", ids.len());
    for id in &ids {
        let Some(app) = catalog.app(id) else {
            // What cannot be shipped has its reason in the list of what was left out.
            let left_out = table_of_left_out();
            if !left_out.contains(id) {
                wrong.push(format!("{id}: is missing, and xtask/left-out.md does not say why"));
            }
            continue;
        };
        let lacks = lacks_of(app);
        let excused = |what: &str| excuses.get(what).is_some_and(|ids| ids.contains(id));
        let bare = lacks.iter().filter(|what| !excused(what));
        wrong.extend(bare.map(|what| format!("{id}: {what}")));
        let stale = EXCUSED.iter().filter(|what| excused(what) && !lacks.contains(**what));
        wrong.extend(stale.map(|what| format!("{id}: needs no excuse for {what} any more")));
    }
    assert_none("incomplete", &wrong);
}

fn table_of_left_out() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("xtask/left-out.md");
    let text = std::fs::read_to_string(path).expect("it was written by the importer");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(", "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_excuse_is_for_one_of_the_most_used() {
    let ids: BTreeSet<String> = most_used().into_iter().collect();
    let excuses = excuses();
    let unknown: Vec<&String> = excuses.keys().filter(|w| !EXCUSED.contains(&w.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let strangers: Vec<String> =
        excuses.values().flatten().filter(|id| !ids.contains(*id)).cloned().collect();
    assert_none("not among the most used", &strangers);
}
