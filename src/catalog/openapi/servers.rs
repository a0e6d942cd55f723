//! Where the API is: the hosts that may get the credential, and the base URL.

use serde_json::Value;

use super::{Document, Error, Version};
use crate::catalog::write::Pairs;

/// One label of a host name (RFC 1123 §2.1).
const LABEL: &str = "^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$";
/// One segment of a path that needs no escape.
const SEGMENT: &str = "^[A-Za-z0-9_][A-Za-z0-9_.:@~-]*$";
/// Regions and sandboxes beside the first.
const MOST: usize = 12;

/// One address of the API. Holes are left in it.
#[derive(Debug, Clone)]
pub struct Server {
    /// With the port, if it is not 443: `{region}.acme.example`.
    pub host: String,
    /// Without a slash at its end: `/v1`, or nothing.
    pub path: String,
    pub(super) fields: Vec<Pairs>,
}

impl Server {
    pub fn base_url(&self) -> String {
        format!("https://{}{}", self.host, self.path)
    }

    /// For people.
    pub(super) fn shown_host(&self) -> String {
        let open = self.host.starts_with('{') && self.host.ends_with('}');
        if open { "an address of your own".to_owned() } else { self.host.replace(['{', '}'], "") }
    }
}

/// The first is the base; each other one is a further host.
pub(super) fn of(document: &Document, remarks: &mut Vec<String>) -> Result<Vec<Server>, Error> {
    let told = match document.version {
        Version::Two => of_two(document),
        Version::Three => of_three(document),
    };
    let mut servers: Vec<Server> = Vec::new();
    let mut reasons = Vec::new();
    for told in told {
        match read(document, &told, remarks) {
            Ok(server) if servers.iter().any(|known| known.host == server.host) => {}
            Ok(server) if servers.len() < MOST => servers.push(server),
            Ok(_) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    match servers.is_empty() {
        true => {
            Err(Error::NoServer(reasons.first().cloned().unwrap_or_else(|| {
                "give the URL of the document, or add `servers` to it".to_owned()
            })))
        }
        false => Ok(servers),
    }
}

/// A URL, and what its variables may be.
struct Told {
    url: String,
    variables: Value,
}

fn of_three(document: &Document) -> Vec<Told> {
    let servers = document.root["servers"].as_array().into_iter().flatten();
    let told = |server: &Value| {
        let url = server["url"].as_str()?.trim().to_owned();
        Some(Told { url, variables: server["variables"].clone() })
    };
    let told: Vec<Told> = servers.filter_map(told).collect();
    match told.is_empty() {
        // OpenAPI 3.1.1 §4.8.1: without `servers` it is the document's own address.
        true => vec![Told { url: "/".to_owned(), variables: Value::Null }],
        false => told,
    }
}

fn of_two(document: &Document) -> Vec<Told> {
    let root = &document.root;
    let own = document.url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let host = root["host"].as_str().unwrap_or(own);
    let path = root["basePath"].as_str().unwrap_or_default();
    let schemes = root["schemes"].as_array().into_iter().flatten();
    let schemes: Vec<&str> = schemes.filter_map(Value::as_str).collect();
    let scheme =
        if schemes.contains(&"https") || schemes.is_empty() { "https" } else { schemes[0] };
    vec![Told { url: format!("{scheme}://{host}{path}"), variables: Value::Null }]
}

fn read(document: &Document, told: &Told, remarks: &mut Vec<String>) -> Result<Server, String> {
    let url = absolute(document, &told.url)?;
    let (scheme, rest) = url.split_once("://").ok_or("a server's address is relative")?;
    if scheme == "http" {
        remarks.push(format!("the document says {url}; only https is used"));
    } else if scheme != "https" {
        return Err(format!("{scheme}:// is not https"));
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut fields = Vec::new();
    let authority = with_tenant(authority);
    let host = filled(&authority, Place::Host, told, &mut fields)?;
    let path = filled(path.trim_end_matches('/'), Place::Path, told, &mut fields)?;
    let host = host.trim_end_matches(":443").to_ascii_lowercase();
    if is_of_nobody(&host) {
        return Err(format!("\"{host}\" is an address of nobody in particular"));
    }
    Ok(Server { host, path, fields })
}

/// `your-domain.atlassian.net` means everybody's own one.
fn with_tenant(authority: &str) -> String {
    let placeholder = |label: &str| {
        let label = label.to_ascii_lowercase();
        label.starts_with("your")
            || label.starts_with("my-")
            || label == "subdomain"
            || label == "tenant"
    };
    match authority.split_once('.') {
        Some((label, rest)) if placeholder(label) && rest.contains('.') => {
            format!("{{subdomain}}.{rest}")
        }
        _ => authority.to_owned(),
    }
}

/// Against the document's own address, if that is known.
fn absolute(document: &Document, url: &str) -> Result<String, String> {
    if url.contains("://") {
        return Ok(url.to_owned());
    }
    if url.starts_with("//") {
        return Ok(format!("https:{url}"));
    }
    let base = document
        .url
        .as_ref()
        .ok_or("its address is relative, and where the document is from is not said")?;
    let host = base.host_str().ok_or("the document's own address has no host")?;
    let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if url.starts_with('/') { url.to_owned() } else { format!("/{url}") };
    Ok(format!("https://{host}{port}{path}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Host,
    Path,
}

/// Variables of a path have their defaults; those of a host are fields, because they say whose
/// account it is.
fn filled(
    text: &str,
    place: Place,
    told: &Told,
    fields: &mut Vec<Pairs>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("a variable of a server does not end")?;
        out.push_str(before);
        let lower = name.to_ascii_lowercase();
        if ["token", "secret", "key", "password"].iter().any(|word| lower.contains(word)) {
            return Err(format!(
                "\"{name}\" is a secret in the address of the server; write the definition by hand, \
                 with attach = [{{ path = \"…\" }}]"
            ));
        }
        let variable = &told.variables[name];
        let default = variable["default"].as_str().filter(|value| !value.is_empty());
        match (place, default) {
            (Place::Path, Some(default)) if !default.contains(['{', ' ']) => {
                out.push_str(default.trim_matches('/'));
            }
            _ => {
                let field = snake(name);
                fields.push(field_of(&field, variable, place, text));
                out.push_str(&format!("{{{field}}}"));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn field_of(name: &str, variable: &Value, place: Place, whole: &str) -> Pairs {
    let choices: Vec<&str> =
        variable["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_all = place == Place::Host
        && whole.starts_with('{')
        && whole.ends_with('}')
        && whole.matches('{').count() == 1;
    let default = variable["default"].as_str().unwrap_or_default();
    let mut pairs: Pairs =
        vec![("name", name.into()), ("label", label(name).into()), ("secret", false.into())];
    match () {
        () if choices.len() > 1 => {}
        () if is_all => pairs.push(("kind", "host".into())),
        () if place == Place::Host => pairs.push(("pattern", LABEL.into())),
        () => pairs.push(("pattern", SEGMENT.into())),
    }
    if choices.len() > 1 {
        if choices.contains(&default) {
            pairs.push(("default", default.into()));
        }
        pairs.push(("enum", choices.into()));
    }
    pairs
}

/// `apiVersion` as `api_version`, `your-domain` as `your_domain`.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && lower {
            out.push('_');
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    let parts: Vec<&str> = out.split('_').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "value".to_owned() } else { parts.join("_") }
}

/// `api_key` as `API key`.
pub(super) fn label(name: &str) -> String {
    const UPPER: [&str; 6] = ["api", "url", "jwt", "oauth", "sid", "http"];
    let words: Vec<String> = name
        .split('_')
        .map(|word| if UPPER.contains(&word) { word.to_uppercase() } else { word.to_owned() })
        .collect();
    let text = words.join(" ");
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Placeholders and this machine.
fn is_of_nobody(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    let last = name.rsplit('.').next().unwrap_or_default();
    let address = name.starts_with('[') || last.bytes().all(|b| b.is_ascii_digit());
    let example = ["example.com", "example.org", "example.net"];
    name.is_empty()
        || address
        || matches!(last, "localhost" | "local" | "internal" | "test" | "invalid" | "lan")
        || example.iter().any(|e| name == *e || name.ends_with(&format!(".{e}")))
        || (!name.contains('.') && !name.contains('{'))
}
