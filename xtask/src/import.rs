//! Facts in, files out. Never touches a file that a person wrote or changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use countersign::catalog::{App, Catalog};

use crate::app;
use crate::facts::{self, Record};
use crate::judgement::Judgements;
use crate::manifest::Manifest;
use crate::overlap::{Places, is_one_product};
use crate::purposes::Purposes;
use countersign::catalog::write::Definition;

pub fn run(root: &Path, facts: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(facts).with_context(|| facts.display().to_string())?;
    let (judged, purposes) = (Judgements::read(root)?, Purposes::read(root)?);
    let mut manifest = Manifest::read(root)?;
    let by_hand = by_hand(root, &manifest)?;
    let mut made = Made::default();
    for (file, text) in &by_hand {
        made.places.take(read(file, text)?.as_ref());
    }
    for record in ranked(facts::read(&text)?) {
        made.add(&record, &judged, &purposes, &by_hand)?;
    }
    write_all(root, &made, &mut manifest)?;
    std::fs::write(root.join("xtask/left-out.md"), made.left_out_list())?;
    purposes
        .slugs()
        .filter(|slug| made.left_out.contains_key(*slug))
        .for_each(|slug| println!("{slug} has a purpose, and is left out"));
    println!(
        "{} written, {} by hand, {} left out",
        made.files.len(),
        by_hand.len(),
        made.left_out.len()
    );
    Ok(())
}

/// What comes of the records.
#[derive(Default)]
struct Made {
    files: BTreeMap<String, String>,
    left_out: BTreeMap<String, String>,
    places: Places,
    families: BTreeMap<String, &'static str>,
}

/// The best known first, so that it keeps the hosts that others want too.
fn ranked(records: Vec<Record>) -> Vec<Record> {
    let mut records = records;
    records.sort_by_key(|record| {
        let known = (record.tier(), !record.in_pipedream(), usize::MAX - record.witnesses());
        (known, record.slug().len(), record.slug().to_owned())
    });
    records
}

impl Made {
    fn add(
        &mut self,
        record: &Record,
        judged: &Judgements,
        purposes: &Purposes,
        by_hand: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let slug = record.slug().to_owned();
        if record.tier() > 3 {
            self.left_out.insert(slug, "evidence only, or sources disagree".to_owned());
            return Ok(());
        }
        if by_hand.keys().any(|file| file.ends_with(&format!("/{slug}.toml"))) {
            return Ok(());
        }
        let app = match app::definition(record, judged, purposes) {
            Ok(app) => app,
            Err(reason) => {
                self.left_out.insert(slug, reason);
                return Ok(());
            }
        };
        match self.settled(app, record) {
            Ok(app) => {
                let text = app.toml();
                let read = read(&app.file(), &text)?;
                self.places.take(&read);
                self.families.extend(family(&read).map(|name| (slug, name)));
                self.files.insert(app.file(), text);
            }
            Err(reason) => drop(self.left_out.insert(slug, reason)),
        }
        Ok(())
    }

    /// Shares what others have, or steps back.
    fn settled(&self, mut app: Definition, record: &Record) -> Result<Definition, String> {
        let read = read(&app.file(), &app.toml()).map_err(|error| error.to_string())?;
        let mut holders = self.places.holders(&read);
        let relied_on = record.tier() == 1 || record.in_pipedream();
        if let (Some(first), false) = (holders.first(), relied_on || record.is_verified()) {
            return Err(format!("its hosts are those of {first}, which is better known"));
        }
        if let Some(name) = family(&read) {
            app.shares = vec![name.to_owned()];
            holders.retain(|holder| self.family_of(holder) != Some(name));
        }
        if holders.is_empty() {
            return Ok(app);
        }
        if let Some(twin) = holders.iter().find(|holder| is_one_product(holder, &app.id))
            && !relied_on
        {
            return Err(format!("the same API as {twin}"));
        }
        let shared: BTreeSet<String> = holders.into_iter().chain(app.shares.clone()).collect();
        app.shares = shared.into_iter().collect();
        Ok(app)
    }

    fn family_of(&self, id: &str) -> Option<&'static str> {
        self.families.get(id).copied()
    }

    fn left_out_list(&self) -> String {
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (slug, reason) in &self.left_out {
            let general = match reason.split_once(": ") {
                Some((_, text)) if reason.starts_with("auth.") => text,
                _ => reason,
            };
            by_reason.entry(general.to_owned()).or_default().push(slug);
        }
        let mut out = String::from(
            "# Left out\n\nWhat `cargo xtask import-apps` knows of and made no definition of, and why.\n",
        );
        let mut reasons: Vec<_> = by_reason.into_iter().collect();
        reasons.sort_by_key(|(reason, slugs)| (std::cmp::Reverse(slugs.len()), reason.clone()));
        for (reason, slugs) in reasons {
            let _ = writeln!(out, "\n## {} ({})\n\n{}", reason, slugs.len(), slugs.join(", "));
        }
        out
    }
}

/// One vendor's apps behind one host: all of them give the family's name.
fn family(app: &App) -> Option<&'static str> {
    const FAMILIES: [(&str, &str); 2] =
        [("graph.microsoft.com", "microsoft_graph"), ("graph.facebook.com", "facebook_graph")];
    let hosts: Vec<String> =
        app.auths.iter().flat_map(|auth| &auth.hosts).map(ToString::to_string).collect();
    // An answer names the data centre, and it is the same for all of Zoho's apps.
    let is_zoho = |host: &String| host.starts_with("www.zohoapis.") || host == "{api_domain}";
    if app.id.as_str().contains("zoho") && hosts.iter().any(is_zoho) {
        return Some("zoho");
    }
    let name = |host: &String| FAMILIES.iter().find(|(known, _)| known == host);
    hosts.iter().find_map(name).map(|(_, name)| *name)
}

/// Files in `config/apps` that are not ours to write.
fn by_hand(root: &Path, manifest: &Manifest) -> anyhow::Result<BTreeMap<String, String>> {
    let folder = root.join("config/apps");
    let mut found = BTreeMap::new();
    for path in files_below(&folder)? {
        let file = path.strip_prefix(&folder)?.display().to_string();
        let text = std::fs::read_to_string(&path)?;
        if !manifest.is_ours(&file, &text) {
            if manifest.files().any(|known| *known == file) {
                println!("{file} was edited, and is left as it is");
            }
            found.insert(file, text);
        }
    }
    Ok(found)
}

pub fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(file: &str, text: &str) -> anyhow::Result<Arc<App>> {
    let catalog = Catalog::build([(file.to_owned(), text.to_owned())]);
    let catalog = catalog.map_err(|mistakes| anyhow::anyhow!("{}\n{text}", mistakes[0]))?;
    let app = catalog.apps().next().cloned();
    app.with_context(|| format!("{file} holds no app"))
}

/// Writes what is new or changed, and takes away what the facts do not have any more.
fn write_all(root: &Path, made: &Made, manifest: &mut Manifest) -> anyhow::Result<()> {
    let folder = root.join("config/apps");
    let gone: Vec<String> =
        manifest.files().filter(|file| !made.files.contains_key(*file)).cloned().collect();
    for file in gone {
        let path = folder.join(&file);
        if path.exists() && manifest.is_ours(&file, &std::fs::read_to_string(&path)?) {
            std::fs::remove_file(&path)?;
            manifest.forget(&file);
        }
    }
    for (file, text) in &made.files {
        let path = folder.join(file);
        if let Some(shard) = path.parent() {
            std::fs::create_dir_all(shard)?;
        }
        std::fs::write(&path, text)?;
        manifest.wrote(file, text);
    }
    manifest.save()
}
