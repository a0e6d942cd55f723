//! Which app owns a host.
//!
//! Built once from the catalog, never changed. Pure. `claims` runs on every request, so it costs
//! one hash for a listed name and one per label for a per-tenant one, never a comparison per app,
//! and no allocation. Embedded apps stand here by what `build.rs` says of their hosts; a definition
//! is read when a request first comes to one of them.

use std::sync::{Arc, OnceLock};

use super::entry::{Claimed, Entry};
use super::hosts::{HostPattern, HostTemplate, Origin};
use super::path::{is_odd, starts_below};
use super::{App, Mistake};
use crate::host::Host;
use crate::ids::AppId;
use foldhash::HashMap;

/// Every host that an app claims. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct HostIndex {
    tables: Arc<Tables>,
    /// Of hosts that accounts bring. What stands here stands for everything that is claimed of it.
    brought: HashMap<Box<str>, Vec<Claim>>,
}

#[derive(Debug, Default)]
struct Tables {
    exact: HashMap<Box<str>, Vec<Claim>>,
    /// By the constant name at the end of the template.
    below: HashMap<Box<str>, Below>,
}

/// The apps with templates that end in one name.
#[derive(Debug, Default)]
struct Below {
    entries: Vec<Arc<Entry>>,
    /// Found out at the first request, most constant text first.
    tenants: OnceLock<Vec<Tenants>>,
}

/// What apps claim of the hosts of one template.
#[derive(Debug, Clone)]
struct Tenants {
    template: HostTemplate,
    shape: String,
    claims: Vec<Claim>,
}

#[derive(Debug, Clone)]
struct Claim {
    port: u16,
    prefix: Option<Box<str>>,
    clear_text: bool,
    owner: Arc<Entry>,
    /// Apps that share the place with the owner.
    others: Vec<Arc<Entry>>,
}

/// What apps claim of one host. Sorted by the length of the prefix, longest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claims<'a> {
    claims: &'a [Claim],
}

impl HostIndex {
    /// # Errors
    /// One mistake for every host, port and prefix that two apps claim.
    pub fn build<'a>(apps: impl IntoIterator<Item = &'a Arc<App>>) -> Result<Self, Vec<Mistake>> {
        let entries: Vec<_> =
            apps.into_iter().map(|app| Arc::new(Entry::read(app.clone()))).collect();
        Self::of(&entries)
    }

    /// # Errors
    /// As [`HostIndex::build`]. Templates of two embedded apps are not held against each other: the
    /// tests did that.
    pub(super) fn of<'a>(
        entries: impl IntoIterator<Item = &'a Arc<Entry>>,
    ) -> Result<Self, Vec<Mistake>> {
        let mut tables = Tables::default();
        let mut overlaps = Vec::new();
        for entry in entries {
            tables.add(entry, &mut overlaps);
        }
        let own = |entry: &Arc<Entry>| entry.packed.is_none();
        for (suffix, below) in &tables.below {
            if below.entries.len() > 1 && below.entries.iter().any(own) {
                tenants_below(suffix, &below.entries, &mut overlaps);
            }
        }
        overlaps.sort_by(|a, b| a.text.cmp(&b.text));
        overlaps.dedup();
        match overlaps.is_empty() {
            true => Ok(Self { tables: Arc::new(tables), brought: HashMap::default() }),
            false => Err(overlaps),
        }
    }

    /// The same index with the hosts that accounts bring, for apps whose host is a field.
    ///
    /// # Errors
    /// As [`HostIndex::build`].
    pub fn with_accounts(
        &self,
        extra: impl IntoIterator<Item = (Origin, Arc<App>)>,
    ) -> Result<Self, Vec<Mistake>> {
        let mut index = self.clone();
        let mut overlaps = Vec::new();
        for (origin, app) in extra {
            let host = origin.host.as_str();
            let listed = || self.tables.exact.get(host).cloned().unwrap_or_default();
            let claims = index.brought.entry(host.into()).or_insert_with(listed);
            let claim = Claim::of_origin(&origin, &Arc::new(Entry::read(app)));
            add(claims, claim, &origin.to_string(), &mut overlaps);
        }
        overlaps.dedup();
        if overlaps.is_empty() { Ok(index) } else { Err(overlaps) }
    }

    /// What apps claim of `host`: by its exact name if listed, else by the template with the
    /// longest constant end.
    pub fn claims(&self, host: &Host) -> Claims<'_> {
        self.found(host).0
    }

    /// The same for somebody who `holds` accounts of certain apps. A host of which requests say a
    /// part is an app's to its own callers alone: to the others a file in somebody's S3 bucket is
    /// like any file.
    pub fn claims_for(&self, host: &Host, holds: impl Fn(&AppId) -> bool) -> Claims<'_> {
        let (claims, open) = self.found(host);
        if open && !claims.ids().any(holds) { Claims::default() } else { claims }
    }

    /// With it, whether the template is an open one.
    fn found(&self, host: &Host) -> (Claims<'_>, bool) {
        let name = host.as_str();
        let brought = || self.brought.get(name).filter(|_| !self.brought.is_empty());
        if let Some(claims) = brought().or_else(|| self.tables.exact.get(name)) {
            return (Claims { claims }, false);
        }
        let tenants = |suffix| {
            let candidates = self.tables.below.get(suffix)?.tenants(suffix);
            let found = candidates.iter().find(|tenants| tenants.template.matches(host))?;
            // Of a host that an account names, requests may say a part, too.
            let open = |tenants: &Tenants| tenants.template.is_open();
            let mut others = candidates.iter().filter(|tenants| open(tenants));
            let is_open = open(found) || others.any(|tenants| tenants.template.matches(host));
            Some((Claims { claims: &found.claims }, is_open))
        };
        let found = host.suffixes().skip(1).find_map(tenants);
        found.unwrap_or((Claims::default(), false))
    }
}

impl Tables {
    fn add(&mut self, entry: &Arc<Entry>, overlaps: &mut Vec<Mistake>) {
        match &entry.packed {
            Some(packed) => packed.claims().for_each(|c| self.add_claimed(&c, entry, overlaps)),
            None => {
                let auths = entry.app().into_iter().flat_map(|app| &app.auths);
                for pattern in auths.flat_map(|auth| &auth.hosts) {
                    self.add_pattern(pattern, entry, overlaps);
                }
            }
        }
    }

    fn add_claimed(
        &mut self,
        claimed: &Claimed<'_>,
        entry: &Arc<Entry>,
        overlaps: &mut Vec<Mistake>,
    ) {
        let Some(name) = claimed.what.strip_prefix('=') else {
            return self.add_below(claimed.what.trim_start_matches('*'), entry);
        };
        let claim = Claim {
            port: claimed.port,
            prefix: claimed.prefix.map(Into::into),
            clear_text: claimed.clear_text,
            owner: entry.clone(),
            others: Vec::new(),
        };
        let claims = self.exact.entry(name.into()).or_default();
        let shown = format_args!("{name}{}", claimed.prefix.unwrap_or_default());
        add(claims, claim, &shown, overlaps);
    }

    fn add_pattern(
        &mut self,
        pattern: &HostPattern,
        entry: &Arc<Entry>,
        overlaps: &mut Vec<Mistake>,
    ) {
        if pattern.host.is_whole() {
            return;
        }
        let known = pattern.origins();
        for origin in &known {
            let claims = self.exact.entry(origin.host.as_str().into()).or_default();
            add(claims, Claim::of_origin(origin, entry), origin, overlaps);
        }
        if known.is_empty() {
            self.add_below(pattern.host.suffix(), entry);
        }
    }

    fn add_below(&mut self, suffix: &str, entry: &Arc<Entry>) {
        let below = self.below.entry(suffix.into()).or_default();
        if !below.entries.iter().any(|known| Arc::ptr_eq(known, entry)) {
            below.entries.push(entry.clone());
        }
    }
}

impl Below {
    fn tenants(&self, suffix: &str) -> &[Tenants] {
        // Overlaps were found when the index was built.
        self.tenants.get_or_init(|| tenants_below(suffix, &self.entries, &mut Vec::new()))
    }
}

/// Every template that ends in `suffix`, with what is claimed of it.
fn tenants_below(
    suffix: &str,
    entries: &[Arc<Entry>],
    overlaps: &mut Vec<Mistake>,
) -> Vec<Tenants> {
    let mut all: Vec<Tenants> = Vec::new();
    for entry in entries {
        let auths = entry.app().into_iter().flat_map(|app| &app.auths);
        let ours = |pattern: &&HostPattern| {
            let host = &pattern.host;
            !host.is_whole() && host.suffix() == suffix && pattern.origins().is_empty()
        };
        for pattern in auths.flat_map(|auth| &auth.hosts).filter(ours) {
            let shape = pattern.host.shape();
            let at = all.iter().position(|tenants| tenants.shape == shape).unwrap_or_else(|| {
                let template = pattern.host.clone();
                all.push(Tenants { template, shape, claims: Vec::new() });
                all.len() - 1
            });
            add(&mut all[at].claims, Claim::of_pattern(pattern, entry), pattern, overlaps);
        }
    }
    all.sort_by(|a, b| {
        let constant = |t: &Tenants| std::cmp::Reverse(t.template.constant_len());
        constant(a).cmp(&constant(b)).then_with(|| a.shape.cmp(&b.shape))
    });
    all
}

impl Claim {
    fn of_origin(origin: &Origin, owner: &Arc<Entry>) -> Self {
        let prefix = origin.prefix.as_deref().map(Into::into);
        let (port, clear_text) = (origin.port, origin.clear_text);
        Self { port, prefix, clear_text, owner: owner.clone(), others: Vec::new() }
    }

    fn of_pattern(pattern: &HostPattern, owner: &Arc<Entry>) -> Self {
        let prefix = pattern.prefix.as_deref().map(Into::into);
        let (port, clear_text) = (pattern.port, pattern.clear_text);
        Self { port, prefix, clear_text, owner: owner.clone(), others: Vec::new() }
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        std::iter::once(&self.owner).chain(&self.others)
    }

    /// Counts `new` among those whose place this is, if all agree.
    fn join(&mut self, new: Self) -> Result<(), Arc<Entry>> {
        let card = &new.owner.card;
        if self.entries().any(|entry| entry.card.id == card.id) {
            self.clear_text |= new.clear_text;
            return Ok(());
        }
        if let Some(stranger) = self.entries().find(|entry| !entry.card.shares_with(card)) {
            return Err(stranger.clone());
        }
        self.clear_text |= new.clear_text;
        self.others.push(new.owner);
        // The one that the others name, or that names none, is what a host is known for.
        let known_for = |entry: &Arc<Entry>| entry.card.shares_with_none();
        if !known_for(&self.owner)
            && let Some(at) = self.others.iter().position(known_for)
        {
            std::mem::swap(&mut self.owner, &mut self.others[at]);
        }
        Ok(())
    }
}

/// An app may list a host twice, in two of its auths; two apps may only if they say so.
fn add(
    claims: &mut Vec<Claim>,
    new: Claim,
    shown: &impl std::fmt::Display,
    overlaps: &mut Vec<Mistake>,
) {
    let same = |old: &&mut Claim| old.port == new.port && old.prefix == new.prefix;
    match claims.iter_mut().find(same) {
        Some(old) => {
            let joining = new.owner.clone();
            if let Err(stranger) = old.join(new) {
                overlaps.push(overlap(&stranger, &joining, shown));
            }
        }
        None => {
            let length = |claim: &Claim| claim.prefix.as_deref().map_or(0, str::len);
            let at = claims.partition_point(|old| length(old) >= length(&new));
            claims.insert(at, new);
        }
    }
}

fn overlap(old: &Entry, new: &Entry, shown: &impl std::fmt::Display) -> Mistake {
    let (old, new) = (&old.card, &new.card);
    let text = format!(
        "{shown} is claimed by {} ({}) and by {} ({}); give one of them a path prefix, or \
         shares_hosts_with = [\"{}\"]",
        old.id, old.file, new.id, new.file, old.id
    );
    Mistake::new(&*new.file, None, "hosts", text)
}

impl<'a> Claims<'a> {
    /// Whether the host is nobody's.
    pub fn is_empty(self) -> bool {
        self.claims.is_empty()
    }

    fn entries(self) -> impl Iterator<Item = &'a Arc<Entry>> {
        let all = self.claims.iter().flat_map(Claim::entries).enumerate();
        let before = move |at: usize| self.claims.iter().flat_map(Claim::entries).take(at);
        all.filter(move |(at, entry)| !before(*at).any(|e| e.card.id == entry.card.id))
            .map(|(_, entry)| entry)
    }

    /// The ids of all apps with a claim, each once.
    pub fn ids(self) -> impl Iterator<Item = &'a AppId> {
        self.entries().map(|entry| &entry.card.id)
    }

    /// Every app with a claim, each once.
    pub fn apps(self) -> impl Iterator<Item = &'a Arc<App>> {
        self.entries().filter_map(|entry| entry.app())
    }

    /// Every claimed port, each once.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        let first =
            move |at: usize, port| !self.claims[..at].iter().any(|earlier| earlier.port == port);
        let claims = self.claims.iter().enumerate();
        claims.filter(move |(at, claim)| first(*at, claim.port)).map(|(_, claim)| claim.port)
    }

    fn claim(self, port: u16, path: &str) -> Option<&'a Claim> {
        let odd = is_odd(path);
        let below = |prefix: &str| !odd && starts_below(prefix, path);
        let owns = |c: &&Claim| c.port == port && c.prefix.as_deref().is_none_or(below);
        self.claims.iter().find(owns)
    }

    /// The app with the longest prefix of `path` (as sent, no query), the first of those that share
    /// it. A path that servers may read in two ways is under no prefix.
    pub fn owner(self, port: u16, path: &str) -> Option<&'a Arc<App>> {
        self.claim(port, path)?.owner.app()
    }

    /// The ids of all that share the place of [`Claims::owner`], which is the first.
    pub fn owners(self, port: u16, path: &str) -> impl Iterator<Item = &'a AppId> {
        self.claim(port, path).into_iter().flat_map(Claim::entries).map(|entry| &entry.card.id)
    }

    /// That one of [`Claims::owners`].
    pub fn owner_called(self, id: &AppId, port: u16, path: &str) -> Option<&'a Arc<App>> {
        self.claim(port, path)?.entries().find(|entry| entry.card.id == *id)?.app()
    }

    /// Whether some app says `http://` for this host.
    pub fn allows_clear_text(self) -> bool {
        self.claims.iter().any(|claim| claim.clear_text)
    }

    /// Whether some app says `http://` for this host and port.
    pub fn allows_clear_text_on(self, port: u16) -> bool {
        self.claims.iter().any(|claim| claim.clear_text && claim.port == port)
    }
}

#[cfg(test)]
impl HostIndex {
    /// Every claim of every host and template, whichever way it was found out.
    pub fn assert_same_as(&self, other: &Self) {
        let shown = |claims: &[Claim]| {
            let show = |c: &Claim| {
                let owners: Vec<_> = c.entries().map(|entry| entry.card.id.as_str()).collect();
                format!("{}{:?}{}{owners:?}", c.port, c.prefix, c.clear_text)
            };
            claims.iter().map(show).collect::<Vec<_>>()
        };
        let exact = |index: &Self| {
            let tables = index.tables.exact.iter();
            tables.map(|(host, claims)| (host.clone(), shown(claims))).collect::<BTreeMap<_, _>>()
        };
        let below = |index: &Self| {
            let all = index.tables.below.iter().flat_map(|(suffix, below)| below.tenants(suffix));
            all.map(|t| (t.template.to_string(), shown(&t.claims))).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(exact(self), exact(other));
        assert_eq!(below(self), below(other));
    }
}

#[cfg(test)]
use std::collections::BTreeMap;

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
