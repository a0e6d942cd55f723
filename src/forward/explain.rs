//! What would be done with a request that nobody sent: for `policy explain`, recorded cases and the
//! pages. A method and a URL as text go in, the decision of the live path with its reasons comes
//! out. No I/O.

use http::{Method, Uri};

use super::plan::{Located, Target, locate};
use super::world::World;
use crate::catalog::HostIndex;
use crate::config::{Config, Untouched};
use crate::host::Authority;
use crate::ids::AccountId;
use crate::policy::{self, CallerPolicy, Explanation, Question};

/// What, beside the caller's own rules, a decision rests on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub index: &'a HostIndex,
    pub unmatched: Untouched,
    pub unbound: Untouched,
}

impl<'a> Ground<'a> {
    pub fn of_config(config: &Config, index: &'a HostIndex) -> Self {
        Self { index, unmatched: config.proxy.unmatched, unbound: config.proxy.unbound }
    }
}

impl World {
    /// What the live path decides by at this moment.
    pub fn ground(&self) -> Ground<'_> {
        Ground { index: &self.index, unmatched: self.unmatched, unbound: self.unbound }
    }
}

/// Decides as the live path does, and says why. `selector` is the account that the request names.
///
/// # Errors
/// When the URL is none, or asks for a port that its app does not have.
pub fn explain(
    ground: &Ground<'_>,
    caller: &CallerPolicy,
    method: &Method,
    url: &str,
    selector: Option<&str>,
) -> Result<Explanation, String> {
    let (target, sent_path) = parse(url)?;
    let located = locate(ground.index, caller, &target, &sent_path, selector);
    let (app, port, path) = match located {
        Located::At { app, port, path } => (Some(&app.id), port, path),
        Located::OfNoApp => (None, target.port, sent_path.as_str().into()),
        Located::Shared { choices } => {
            let names: Vec<&str> = choices.iter().map(AccountId::as_str).collect();
            return Err(format!(
                "{} is a host of several apps, and the caller has {}; name one",
                target.host,
                names.join(", ")
            ));
        }
        Located::OtherPort { ports } => {
            return Err(format!(
                "{} belongs to an app, but not on port {}; its ports: {ports}",
                target.host, target.port
            ));
        }
    };
    let app = app.filter(|app| ground.unbound == Untouched::Deny || caller.holds(app));
    // What countersign sees of https:// to a host of no app is the tunnel.
    let claims = ground.index.claims_for(&target.host, |app| caller.holds(app));
    let whole_host_is_nobodys = claims.is_empty();
    let method = if whole_host_is_nobodys && target.secure { &Method::CONNECT } else { method };
    let question = Question { method, host: &target.host, port, path: &path, app, selector };
    Ok(policy::explain(caller, &question, ground.unmatched == Untouched::Tunnel))
}

/// A URL as the doors would understand it: where it leads, and its path as sent.
fn parse(url: &str) -> Result<(Target, String), String> {
    let wrong = |why: &str| format!("\"{}\" is no URL: {why}", url.escape_debug());
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("write https://host/path"))?;
    let (secure, default_port) = match scheme {
        "https" => (true, 443),
        "http" => (false, 80),
        _ => return Err(wrong("only http and https")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = Authority::parse(authority, default_port);
    let Authority { host, port } = authority.map_err(|error| wrong(&error.to_string()))?;
    // The same parser as on the wire decides what a path is.
    let uri: Uri = match path.starts_with('/') {
        true => path.parse().map_err(|_| wrong("the path"))?,
        false => format!("/{path}").parse().map_err(|_| wrong("the path"))?,
    };
    Ok((Target { host, port, secure }, uri.path().to_owned()))
}
