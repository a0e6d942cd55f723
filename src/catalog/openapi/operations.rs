//! What can be asked of the API, and which request proves a credential.

use serde_json::Value;

use super::servers::Server;
use super::{Document, Version};
use crate::catalog::write::Pairs;

pub(super) struct Operation<'a> {
    pub path: &'a str,
    pub method: &'a str,
    pub value: &'a Value,
    /// Of the path and the operation.
    pub parameters: Vec<&'a Value>,
}

pub(super) fn all(document: &Document) -> impl Iterator<Item = Operation<'_>> {
    let paths = document.root["paths"].as_object().into_iter().flatten();
    paths.flat_map(move |(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.filter(|(method, value)| is_method(method) && value.is_object()).map(
            move |(method, value)| {
                let own = value["parameters"].as_array().into_iter().flatten();
                let shared = item["parameters"].as_array().into_iter().flatten();
                let parameters = own.chain(shared).map(|p| document.resolved(p)).collect();
                Operation { path, method, value, parameters }
            },
        )
    })
}

fn is_method(word: &str) -> bool {
    matches!(word, "get" | "put" | "post" | "delete" | "options" | "head" | "patch" | "trace")
}

/// Last segments that ask who is asking, best first.
const WHO: [&str; 14] = [
    "me", "whoami", "self", "myself", "current", "viewer", "user", "account", "profile",
    "userinfo", "users", "accounts", "ping", "status",
];

/// A GET that needs nothing but the credential, the one that most likely asks who is asking.
pub(super) fn test(document: &Document, servers: &[Server]) -> Option<Pairs> {
    let server = servers.first()?;
    let all: Vec<Operation<'_>> = all(document).filter(|o| is_harmless(document, o)).collect();
    let rank = |operation: &Operation<'_>| {
        let last = operation.path.trim_end_matches(['/']).rsplit('/').next().unwrap_or_default();
        let last = last.trim_end_matches(".json").to_ascii_lowercase();
        let place = WHO.iter().position(|word| *word == last).unwrap_or(WHO.len());
        (place, operation.path.len(), operation.path.to_owned())
    };
    let best = all.iter().min_by_key(|operation| rank(operation))?;
    let url = format!("{}{}", server.base_url(), best.path);
    let expect = serde_json::json!({ "status": 200 });
    Some(vec![("method", "GET".into()), ("url", url.into()), ("expect", expect)])
}

fn is_harmless(document: &Document, operation: &Operation<'_>) -> bool {
    let required = |parameter: &&Value| {
        parameter["required"].as_bool().unwrap_or(false) && parameter["in"] != "header"
    };
    let security = &operation.value["security"];
    let open = security.as_array().is_some_and(Vec::is_empty);
    let needs_body =
        document.version == Version::Three && operation.value["requestBody"].is_object();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
    operation.method == "get"
        && operation.path.starts_with('/')
        && operation.path.bytes().all(plain)
        && !operation.parameters.iter().any(required)
        && !open
        && !needs_body
        && !operation.value["deprecated"].as_bool().unwrap_or(false)
}
