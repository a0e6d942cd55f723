//! Which app owns a host.
//!
//! Built once from the catalog, never changed. Pure. `claims` runs on every request, so it costs
//! one hash for a listed name and one per label for a per-tenant one, never a comparison per app,
//! and no allocation.

use std::collections::HashMap;
use std::sync::Arc;

use super::hosts::{HostPattern, HostTemplate, Origin};
use super::path::{is_odd, starts_below};
use super::{App, Mistake};
use crate::host::Host;

/// Every host that an app claims.
#[derive(Debug, Clone, Default)]
pub struct HostIndex {
    exact: HashMap<Box<str>, Vec<Claim>>,
    /// By the constant name at the end of the template, most constant text first.
    templates: HashMap<Box<str>, Vec<Tenants>>,
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
    app: Arc<App>,
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
        let mut index = Self::default();
        let mut overlaps = Vec::new();
        for app in apps {
            let patterns = app.auths.iter().flat_map(|auth| &auth.hosts);
            for pattern in patterns.filter(|pattern| !pattern.host.is_whole()) {
                index.add_pattern(pattern, app, &mut overlaps);
            }
        }
        index.done(overlaps)
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
            index.add_origin(&origin, &app, &mut overlaps);
        }
        index.done(overlaps)
    }

    /// What apps claim of `host`: by its exact name if listed, else by the template with the
    /// longest constant end.
    pub fn claims(&self, host: &Host) -> Claims<'_> {
        if let Some(claims) = self.exact.get(host.as_str()) {
            return Claims { claims };
        }
        let tenants = |suffix| {
            let candidates: &Vec<Tenants> = self.templates.get(suffix)?;
            candidates.iter().find(|tenants| tenants.template.matches(host))
        };
        let found = host.suffixes().skip(1).find_map(tenants);
        found.map_or(Claims::default(), |tenants| Claims { claims: &tenants.claims })
    }

    fn done(mut self, mut overlaps: Vec<Mistake>) -> Result<Self, Vec<Mistake>> {
        for tenants in self.templates.values_mut() {
            tenants.sort_by(|a, b| {
                let constant = |t: &Tenants| std::cmp::Reverse(t.template.constant_len());
                constant(a).cmp(&constant(b)).then_with(|| a.shape.cmp(&b.shape))
            });
        }
        if overlaps.is_empty() {
            return Ok(self);
        }
        overlaps.dedup();
        Err(overlaps)
    }

    fn add_pattern(&mut self, pattern: &HostPattern, app: &Arc<App>, overlaps: &mut Vec<Mistake>) {
        let known = pattern.origins();
        for origin in &known {
            self.add_origin(origin, app, overlaps);
        }
        if known.is_empty() {
            let claims = self.tenants(&pattern.host);
            let claim = Claim::of(pattern.port, &pattern.prefix, pattern.clear_text, app);
            add(claims, claim, &pattern.to_string(), overlaps);
        }
    }

    fn add_origin(&mut self, origin: &Origin, app: &Arc<App>, overlaps: &mut Vec<Mistake>) {
        let claims = self.exact.entry(origin.host.as_str().into()).or_default();
        let claim = Claim::of(origin.port, &origin.prefix, origin.clear_text, app);
        add(claims, claim, &origin.to_string(), overlaps);
    }

    fn tenants(&mut self, template: &HostTemplate) -> &mut Vec<Claim> {
        let all = self.templates.entry(template.suffix().into()).or_default();
        let shape = template.shape();
        let at = all.iter().position(|tenants| tenants.shape == shape).unwrap_or_else(|| {
            all.push(Tenants { template: template.clone(), shape, claims: Vec::new() });
            all.len() - 1
        });
        &mut all[at].claims
    }
}

impl Claim {
    fn of(port: u16, prefix: &Option<String>, clear_text: bool, app: &Arc<App>) -> Self {
        let prefix = prefix.as_deref().map(Into::into);
        Self { port, prefix, clear_text, app: Arc::clone(app) }
    }
}

/// An app may list a host twice, in two of its auths; two apps may not.
fn add(claims: &mut Vec<Claim>, new: Claim, shown: &str, overlaps: &mut Vec<Mistake>) {
    let same = |old: &&mut Claim| old.port == new.port && old.prefix == new.prefix;
    match claims.iter_mut().find(same) {
        Some(old) if old.app.id == new.app.id => old.clear_text |= new.clear_text,
        Some(old) => overlaps.push(overlap(&old.app, &new.app, shown)),
        None => {
            let length = |claim: &Claim| claim.prefix.as_deref().map_or(0, str::len);
            let at = claims.partition_point(|old| length(old) >= length(&new));
            claims.insert(at, new);
        }
    }
}

fn overlap(old: &App, new: &App, shown: &str) -> Mistake {
    let text = format!(
        "{shown} is claimed by {} ({}) and by {} ({}); give one of them a path prefix",
        old.id, old.file, new.id, new.file
    );
    Mistake::new(&new.file, None, "hosts", text)
}

impl<'a> Claims<'a> {
    /// Whether the host is nobody's.
    pub fn is_empty(self) -> bool {
        self.claims.is_empty()
    }

    /// Every app with a claim, each once.
    pub fn apps(self) -> impl Iterator<Item = &'a Arc<App>> {
        let first = move |at: usize, app: &App| {
            !self.claims[..at].iter().any(|earlier| earlier.app.id == app.id)
        };
        let claims = self.claims.iter().enumerate();
        claims.filter(move |(at, claim)| first(*at, &claim.app)).map(|(_, claim)| &claim.app)
    }

    /// Every claimed port, each once.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        let first =
            move |at: usize, port| !self.claims[..at].iter().any(|earlier| earlier.port == port);
        let claims = self.claims.iter().enumerate();
        claims.filter(move |(at, claim)| first(*at, claim.port)).map(|(_, claim)| claim.port)
    }

    /// The app with the longest prefix of `path` (as sent, no query). A path that servers may
    /// read in two ways is under no prefix.
    pub fn owner(self, port: u16, path: &str) -> Option<&'a Arc<App>> {
        let odd = is_odd(path);
        let below = |prefix: &str| !odd && starts_below(prefix, path);
        let owns = |c: &&Claim| c.port == port && c.prefix.as_deref().is_none_or(below);
        self.claims.iter().find(owns).map(|claim| &claim.app)
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
#[path = "index_tests.rs"]
mod tests;
