//! Hosts that two definitions claim. The better known app keeps them; the other shares them if it is
//! a different product or has a name that others rely on, and is left out if it is the same once
//! more.

use std::collections::BTreeMap;

use countersign::catalog::{App, HostPattern};

/// Places that are taken: the host as a shape, the port, and the path prefix.
#[derive(Default)]
pub struct Places(BTreeMap<String, Vec<String>>);

impl Places {
    /// Apps that have one of this app's places.
    pub fn holders(&self, app: &App) -> Vec<String> {
        let mut found: Vec<String> =
            keys(app).filter_map(|key| self.0.get(&key)).flatten().cloned().collect();
        found.sort();
        found.dedup();
        found
    }

    pub fn take(&mut self, app: &App) {
        for key in keys(app) {
            let holders = self.0.entry(key).or_default();
            if !holders.iter().any(|holder| holder == app.id.as_str()) {
                holders.push(app.id.to_string());
            }
        }
    }
}

fn keys(app: &App) -> impl Iterator<Item = String> {
    let hosts = app.auths.iter().flat_map(|auth| auth.hosts.iter().map(move |host| (auth, host)));
    hosts.filter(|(_, pattern)| !pattern.host.is_whole()).flat_map(|(auth, pattern)| {
        names(pattern, &|hole| {
            auth.field(hole).map(|field| field.choices.clone()).unwrap_or_default()
        })
        .into_iter()
        .map(|name| {
            format!("{name}:{}{}", pattern.port, pattern.prefix.as_deref().unwrap_or_default())
        })
        .collect::<Vec<_>>()
    })
}

/// A hole with choices stands for each of them, any other for everything.
fn names(pattern: &HostPattern, choices: &impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let mut names = vec![pattern.host.to_string()];
    for hole in pattern.host.holes() {
        let (shown, all) = (format!("{{{hole}}}"), choices(hole));
        let all = if all.is_empty() { vec!["{*}".to_owned()] } else { all };
        names = names
            .iter()
            .flat_map(|name| all.iter().map(|one| name.replace(&shown, one)).collect::<Vec<_>>())
            .collect();
    }
    names
}

/// Whether two slugs name one product: `all_images` and `all_images_ai`, `monday` and
/// `monday_oauth`.
pub fn is_one_product(one: &str, other: &str) -> bool {
    stem(one) == stem(other)
}

fn stem(slug: &str) -> String {
    const ENDS: [&str; 17] = [
        "ai",
        "io",
        "api",
        "oauth",
        "keys",
        "key",
        "app",
        "developer",
        "com",
        "v2",
        "crm",
        "co",
        "us",
        "pre",
        "oauth2",
        "rest",
        "labs",
    ];
    let mut parts: Vec<&str> = slug.split('_').filter(|part| !part.is_empty()).collect();
    while parts.len() > 1 && parts.last().is_some_and(|last| ENDS.contains(last)) {
        parts.pop();
    }
    let joined = parts.concat();
    let cut = ENDS.iter().find_map(|end| joined.strip_suffix(end)).filter(|rest| rest.len() > 3);
    cut.map_or(joined.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_product_under_two_slugs_is_seen() {
        for (one, other, same) in [
            ("all_images", "all_images_ai", true),
            ("monday", "monday_oauth", true),
            ("elastic_email", "elasticemail", true),
            ("reply", "reply_io", true),
            ("microsoft_teams", "microsoft_outlook", false),
            ("slack", "slack_bot", false),
            ("google_docs", "google_drive", false),
        ] {
            assert_eq!(is_one_product(one, other), same, "{one} {other}");
        }
    }
}
