//! Values that want a credential elsewhere, in every template of every app.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use countersign::catalog::{Auth, FieldKind, HostPattern};
use proptest::prelude::*;

use crate::values::made_up;
use crate::{apps, catalog};

const HOSTILE: [&str; 28] = [
    "evil.com/x",
    "evil.com",
    "a.b@c",
    "user@evil.com",
    "%2e",
    "a%2eevil.com%2f",
    "ünïcode",
    "\u{ff0e}evil\u{ff0e}com",
    "\u{3002}evil",
    "a\r\nHost: evil.com",
    "a\nb",
    "#",
    "a#",
    "a\\.evil.com",
    "\\",
    "..",
    ".",
    "",
    " ",
    "a b",
    "a:443",
    "evil.com:443",
    "[::1]",
    "127.0.0.1",
    "?x=",
    "a/../..",
    "xn--e1afmkfd",
    "-",
];

/// One host of one way to authenticate, and harmless values for the account.
struct Place {
    name: String,
    auth: Auth,
    pattern: HostPattern,
    values: BTreeMap<String, String>,
}

impl Place {
    /// With `value` in all holes of the host, if it is let in.
    fn rendered(&self, value: &str) -> Option<String> {
        let is_hole = |name: &str| self.pattern.host.holes().any(|hole| hole == name);
        let value_of = |name: &str| match is_hole(name) {
            true => Some(value),
            false => self.values.get(name).map(String::as_str),
        };
        Some(self.pattern.render(value_of).ok()?.host.to_string())
    }
}

/// Whether `host` is where the definition says: below the constant end, and nothing else.
fn stays(auth: &Auth, pattern: &HostPattern, host: &str) -> bool {
    if pattern.host.is_whole() {
        let suffixes = auth.fields.iter().filter(|f| pattern.host.holes().any(|h| h == f.name));
        return suffixes.into_iter().all(|field| match &field.kind {
            FieldKind::Host(rule) | FieldKind::Url(rule) => {
                let below = |s: &String| host == s || host.ends_with(&format!(".{s}"));
                rule.suffixes.is_empty() || rule.suffixes.iter().any(below)
            }
            FieldKind::Text => true,
        });
    }
    let suffix = pattern.host.suffix();
    let closed = auth
        .fields
        .iter()
        .filter(|field| pattern.host.holes().any(|hole| hole == field.name))
        .all(|field| !field.choices.is_empty());
    closed || (!suffix.is_empty() && (host == suffix || host.ends_with(&format!(".{suffix}"))))
}

/// Whether `host` ends where a URL's host does. An underscore is for whole hosts: names of one's
/// own network may have one, the labels of a vendor's customers do not.
fn is_plain_name(pattern: &HostPattern, host: &str) -> bool {
    host.bytes().all(|b| match b {
        b'-' | b'.' | b'[' | b']' | b':' => true,
        b'_' => pattern.host.is_whole(),
        _ => b.is_ascii_alphanumeric(),
    })
}

static ALL: LazyLock<Vec<Place>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for app in apps(&catalog()) {
        for auth in &app.auths {
            let values = made_up(app.id.as_str(), auth);
            let patterns = auth.hosts.iter().cloned().chain(addresses(auth));
            for pattern in patterns.filter(|p| p.host.holes().next().is_some()) {
                let name = format!("{}.{}", app.id, auth.id);
                all.push(Place { name, auth: auth.clone(), pattern, values: values.clone() });
            }
        }
    }
    assert!(all.len() > 800, "{} templates", all.len());
    all
});

/// Where the URLs of `auth` lead: what asks for tokens carries secrets, too.
fn addresses(auth: &Auth) -> Vec<HostPattern> {
    let mut urls = vec![&auth.base_url];
    urls.extend(auth.test.iter().map(|test| &test.url));
    if let Some(oauth2) = &auth.oauth2 {
        let of_grant = [
            &oauth2.authorize_url,
            &oauth2.token_url,
            &oauth2.refresh_url,
            &oauth2.refresh.url,
            &oauth2.revoke_url,
            &oauth2.device_authorization_url,
            &oauth2.registration_url,
        ];
        urls.extend(of_grant.into_iter().flatten());
        urls.extend(oauth2.revoke.iter().map(|revoke| &revoke.url));
        urls.extend(oauth2.post_exchange.iter().map(|step| &step.url));
    }
    let exceptions = auth.exceptions.iter().map(|exception| exception.host.clone());
    urls.into_iter().map(|url| address(url.source(), auth)).chain(exceptions).collect()
}

/// As the token endpoint's address is made: the part before the path is a host like any other.
fn address(url: &str, auth: &Auth) -> HostPattern {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    HostPattern::parse(authority, &auth.fields).unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn no_hostile_value_leads_a_credential_away() {
    for place in ALL.iter() {
        for value in HOSTILE {
            let Some(host) = place.rendered(value) else { continue };
            let Place { name, auth, pattern, .. } = place;
            assert!(stays(auth, pattern, &host), "{name}: {pattern} with {value:?}: {host}");
            assert!(is_plain_name(pattern, &host), "{name}: {pattern} with {value:?}: {host:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_value_at_all_does(
        value in prop_oneof![
            "[a-zA-Z0-9.@:/%#?\\\\_ -]{0,24}",
            ".{0,12}",
            "[a-z]{1,8}(\\.|/|@|:)[a-z]{1,8}",
        ],
    ) {
        for place in ALL.iter() {
            let Some(host) = place.rendered(&value) else { continue };
            let Place { name, auth, pattern, .. } = place;
            prop_assert!(stays(auth, pattern, &host), "{}: {} with {:?}: {}", name, pattern, value, host);
            prop_assert!(is_plain_name(pattern, &host), "{}: {:?}", name, host);
        }
    }
}
