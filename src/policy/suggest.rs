//! The least that a caller needs, from what it did: rules that allow the requests that it sent and
//! little else.
//!
//! Pure: requests go in, as the audit has them, rules come out. What looks like an identifier in a
//! path becomes `*`, and so does a place where many values were seen; `**` is never proposed. A
//! path that can be read in two ways is allowed by no narrow rule, and is left out and counted.

use std::collections::{BTreeMap, BTreeSet};

use super::PathPattern;
use super::path::{Canonical, canonical};

/// A request that was let through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen<'a> {
    pub app: &'a str,
    /// Nickname.
    pub account: &'a str,
    pub method: &'a str,
    /// Without a query.
    pub path: &'a str,
}

/// One rule that is proposed: it allows these methods on these paths, with this account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub app: String,
    pub account: String,
    pub methods: Vec<String>,
    pub paths: Vec<String>,
    /// How many of the requests it would allow.
    pub requests: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suggestion {
    pub rules: Vec<Proposal>,
    /// Requests that the proposal rests on.
    pub requests: u64,
    /// Requests on paths that no narrow rule can allow.
    pub left_out: u64,
}

/// The rules that would have been enough. Their order does not depend on that of the requests.
pub fn suggest<'a>(seen: impl IntoIterator<Item = Seen<'a>>) -> Suggestion {
    let mut suggestion = Suggestion::default();
    let mut trees: BTreeMap<(&str, &str, &str), Paths> = BTreeMap::new();
    for request in seen {
        let Some(path) = plain(request.path) else {
            suggestion.left_out += 1;
            continue;
        };
        suggestion.requests += 1;
        let key = (request.app, request.account, request.method);
        trees.entry(key).or_default().add(&path);
    }
    // Methods that were used on the same paths share a rule.
    let mut rules: BTreeMap<(&str, &str, Vec<String>), Used> = BTreeMap::new();
    for ((app, account, method), paths) in trees {
        let patterns = paths.patterns();
        for some in patterns.chunks(PATHS_PER_RULE) {
            let rule = rules.entry((app, account, some.to_vec())).or_default();
            rule.methods.push(method.to_owned());
            rule.requests += paths.requests_of(some);
        }
    }
    let proposals = rules.into_iter().map(|((app, account, paths), used)| Proposal {
        app: app.to_owned(),
        account: account.to_owned(),
        methods: used.methods,
        paths,
        requests: used.requests,
    });
    suggestion.rules = proposals.collect();
    suggestion
}

/// How the same paths were used.
#[derive(Default)]
struct Used {
    methods: Vec<String>,
    requests: u64,
}

/// The normal form of a path that a pattern can spell: `*` in a path would be read as one.
fn plain(path: &str) -> Option<String> {
    let normal = match canonical(if path.is_empty() { "/" } else { path }) {
        Canonical::Plain(path) => path.to_owned(),
        Canonical::Normal(path) => path,
        Canonical::Odd(_) => return None,
    };
    // The audit cuts very long paths.
    let whole = !path.ends_with('…') && !normal.contains('*');
    (whole && normal.parse::<PathPattern>().is_ok()).then_some(normal)
}

/// The paths of one account and method, as patterns with how often they were seen.
#[derive(Default)]
struct Paths(BTreeMap<Vec<String>, u64>);

impl Paths {
    fn add(&mut self, path: &str) {
        let segments = path.split('/').skip(1).map(|segment| match is_identifier(segment) {
            true => "*".to_owned(),
            false => segment.to_owned(),
        });
        *self.0.entry(segments.collect()).or_default() += 1;
    }

    fn patterns(&self) -> Vec<String> {
        let widened: BTreeSet<Vec<String>> = self.widened().into_keys().collect();
        widened.iter().map(|segments| text(segments)).collect()
    }

    fn requests_of(&self, patterns: &[String]) -> u64 {
        let widened = self.widened();
        widened.iter().filter(|(path, _)| patterns.contains(&text(path))).map(|(_, n)| n).sum()
    }

    /// Where more than a few values stand between the same others, any value may.
    fn widened(&self) -> BTreeMap<Vec<String>, u64> {
        let mut paths = self.0.clone();
        let longest = paths.keys().map(Vec::len).max().unwrap_or(0);
        for place in 0..longest {
            let mut siblings: BTreeMap<Vec<String>, BTreeSet<String>> = BTreeMap::new();
            for path in paths.keys().filter(|path| path.len() > place && !path[place].is_empty()) {
                let values = siblings.entry(with_any(path, place)).or_default();
                values.insert(path[place].clone());
            }
            let many = |path: &Vec<String>| {
                let values = path.get(place).and_then(|_| siblings.get(&with_any(path, place)));
                values.is_some_and(|values| values.len() > FEW || values.contains("*"))
            };
            let mut wider = BTreeMap::new();
            for (path, requests) in paths {
                let path = if many(&path) { with_any(&path, place) } else { path };
                *wider.entry(path).or_default() += requests;
            }
            paths = wider;
        }
        paths
    }
}

fn with_any(path: &[String], place: usize) -> Vec<String> {
    let mut path = path.to_vec();
    path[place] = "*".to_owned();
    path
}

fn text(segments: &[String]) -> String {
    format!("/{}", segments.join("/"))
}

/// Numbers, digests, UUIDs and the like: long with digits, or digits only.
fn is_identifier(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let version = segment.len() <= 4 && segment.starts_with('v');
    let only_digits = digits == segment.len() && digits > 0;
    let id_like = segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    !version && (only_digits || (id_like && segment.len() >= 8 && digits >= 3))
}

/// So many values at one place are still named one by one.
const FEW: usize = 8;
/// A rule that nobody can read is none that anybody checks.
const PATHS_PER_RULE: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Seen<'_> {
        Seen { app: "slack", account: "team", method: "GET", path }
    }

    fn paths(seen: &[Seen<'_>]) -> Vec<String> {
        suggest(seen.iter().cloned()).rules.into_iter().flat_map(|rule| rule.paths).collect()
    }

    #[test]
    fn what_was_done_is_allowed_and_identifiers_are_not_named() {
        for (seen, expected) in [
            (
                &["/api/chat.postMessage", "/api/chat.update"][..],
                &["/api/chat.postMessage", "/api/chat.update"][..],
            ),
            (&["/users/17", "/users/18/repos"], &["/users/*", "/users/*/repos"]),
            (&["/v1/orders/ord_1a2b3c4d5", "/v1/orders"], &["/v1/orders", "/v1/orders/*"]),
            (&["/x/0b1c2d3e-1111-2222-3333-444455556666"], &["/x/*"]),
            (&["/"], &["/"]),
            (&[""], &["/"]),
            (&["/a/", "/a"], &["/a", "/a/"]),
            (&["/v12/things"], &["/v12/things"]),
        ] {
            let seen: Vec<Seen<'_>> = seen.iter().map(|path| get(path)).collect();
            assert_eq!(paths(&seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn many_values_at_one_place_become_any_value() {
        let names: Vec<String> =
            (b'a'..b'j').map(|c| format!("/repos/{}/issues", char::from(c))).collect();
        let seen: Vec<Seen<'_>> = names.iter().map(|path| get(path)).collect();
        assert_eq!(paths(&seen), ["/repos/*/issues"]);
        assert_eq!(paths(&seen[..8]).len(), 8);
    }

    #[test]
    fn methods_on_the_same_paths_share_a_rule_and_are_counted() {
        let post = Seen { method: "POST", ..get("/a") };
        let delete = Seen { method: "DELETE", ..get("/b") };
        let found = suggest([get("/a"), get("/a"), post, delete]);
        let told: Vec<_> = found.rules.iter().map(|r| (r.methods.join(","), r.requests)).collect();
        assert_eq!(told, [("GET,POST".to_owned(), 3), ("DELETE".to_owned(), 1)]);
        assert_eq!((found.requests, found.left_out), (4, 0));
    }

    #[test]
    fn what_no_narrow_rule_can_allow_is_left_out_and_said() {
        let long = format!("/{}…", "x".repeat(2048));
        for path in ["/a//b", "/a/../b", "/a%2fb", "/a*b", "/ä", &*long] {
            let found = suggest([get(path)]);
            assert_eq!((found.rules.len(), found.left_out), (0, 1), "{path}");
        }
    }

    #[test]
    fn every_request_that_it_rests_on_fits_what_is_proposed() {
        let words = ["a", "b", "17", "x.y", "0123456789abcdef", "v2", "%20c", "d~e"];
        let mut all = Vec::new();
        for first in words {
            for second in words {
                for third in words {
                    all.push(format!("/{first}/{second}/{third}"));
                }
            }
        }
        let found = suggest(all.iter().map(|path| get(path)));
        let patterns: Vec<PathPattern> = found
            .rules
            .iter()
            .flat_map(|rule| &rule.paths)
            .map(|path| path.parse().expect(path))
            .collect();
        assert!(found.requests > 400, "{}", found.requests);
        for path in &all {
            let Some(path) = plain(path) else { continue };
            assert!(patterns.iter().any(|pattern| pattern.matches(&path)), "{path}");
        }
        assert!(!patterns.iter().any(PathPattern::is_everything));
    }
}
