//! What the catalog has: by tier, confidence and kind, and whether the most used apps are complete.

use std::collections::BTreeMap;
use std::path::Path;

use countersign::catalog::{App, Catalog, Confidence};

use crate::import::files_below;
use crate::judgement::Judgements;

pub fn run(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("config/apps");
    let mut files = Vec::new();
    for path in files_below(&folder)? {
        let file = path.strip_prefix(&folder)?.display().to_string();
        files.push((file, std::fs::read_to_string(&path)?));
    }
    let catalog = Catalog::build(files).map_err(|mistakes| {
        anyhow::anyhow!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    totals(&catalog);
    most_used(&catalog, &Judgements::read(root)?);
    left_out(root)
}

fn totals(catalog: &Catalog) {
    let agreed = catalog.cards().filter(|card| card.confidence == Confidence::Verified).count();
    println!("apps                     {:>5}", catalog.len());
    println!("  agreed or hand-checked {agreed:>5}");
    println!("  known from one source  {:>5}", catalog.len() - agreed);
    for tier in 1..=3 {
        let of_tier = |card: &&countersign::catalog::Card| card.tier.unwrap_or(1) == tier;
        println!("  tier {tier}                 {:>5}", catalog.cards().filter(of_tier).count());
    }
    let with = |what: &str, has: fn(&App) -> bool| {
        println!("  with {what:<17} {:>6}", catalog.apps().filter(|app| has(app)).count());
    };
    with("a test request", |app| app.auths.iter().any(|auth| auth.test.is_some()));
    with("documentation", |app| app.docs_url.is_some());
    with("several ways", |app| app.auths.len() > 1);
    with("shared hosts", |app| !app.shares_hosts_with.is_empty());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for auth in catalog.apps().flat_map(|app| &app.auths) {
        *kinds.entry(auth.kind.as_str()).or_default() += 1;
    }
    println!("ways to authenticate     {:>5}", kinds.values().sum::<usize>());
    kinds.iter().for_each(|(kind, count)| println!("  {kind:<26} {count:>4}"));
}

fn most_used(catalog: &Catalog, judged: &Judgements) {
    let slugs: Vec<&String> = judged.most_used().collect();
    let (there, missing): (Vec<&&String>, Vec<_>) =
        slugs.iter().partition(|slug| catalog.card(slug).is_some());
    let apps: Vec<_> = there.iter().filter_map(|slug| catalog.app(slug)).collect();
    let lacking = |what: &str, has: fn(&App) -> bool| {
        let lack: Vec<&str> =
            apps.iter().filter(|app| !has(app)).map(|app| app.id.as_str()).collect();
        println!("  without {what}: {}{}", lack.len(), listed(&lack));
    };
    println!("most used                {:>5} of {}", apps.len(), slugs.len());
    let missing: Vec<&str> = missing.iter().map(|slug| slug.as_str()).collect();
    println!("  missing: {}{}", missing.len(), listed(&missing));
    lacking("a test request", |app| app.auths.iter().any(|auth| auth.test.is_some()));
    lacking("documentation", |app| app.docs_url.is_some());
}

fn listed(slugs: &[&str]) -> String {
    if slugs.is_empty() { String::new() } else { format!(" ({})", slugs.join(", ")) }
}

fn left_out(root: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(root.join("xtask/left-out.md"))?;
    println!("left out (xtask/left-out.md)");
    text.lines()
        .filter_map(|line| line.strip_prefix("## "))
        .take(20)
        .for_each(|line| println!("  {line}"));
    Ok(())
}
