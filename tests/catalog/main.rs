//! Every app of the catalog, proved as far as it can be without the internet: its definition holds
//! nothing dangerous, its templates cannot be led astray, and what it promises arrives at an origin.

mod care;
mod documents;
mod fetch;
mod hostile;
mod keys;
mod most_used;
mod rules;
mod samples;
mod server;
mod tokens;
mod values;

use std::sync::Arc;

use countersign::catalog::{App, Catalog};

/// With every definition read.
fn catalog() -> Arc<Catalog> {
    let catalog = Catalog::embedded().unwrap_or_else(|found| panic!("{}", shown(&found)));
    Arc::new(catalog)
}

fn apps(catalog: &Catalog) -> Vec<Arc<App>> {
    catalog.apps().cloned().collect()
}

fn shown(found: &[countersign::catalog::Mistake]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Fails with everything that is wrong, not only with the first.
fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}: {}\n{}", wrong.len(), wrong.join("\n"));
}
