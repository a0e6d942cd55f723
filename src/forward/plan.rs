//! From a request's method and URL to what will be done with it: find the app, choose the account,
//! decide. The live path and `policy explain` both come through here. No I/O.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

use super::caller::Caller;
use super::refusal::Refusal;
use super::world::World;
use crate::catalog::{App, Claims, HostIndex};
use crate::config::Untouched;
use crate::credentials::Slot;
use crate::host::Host;
use crate::ids::AccountId;
use crate::inject::{self, Attachment};
use crate::policy::{self, CallerPolicy, Decision, Denial, Owner, Question};
use crate::upstream::Destination;

/// Where a request wants to go, as its door understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: Host,
    pub port: u16,
    /// Asked for with `https`, or inside intercepted TLS.
    pub secure: bool,
}

/// What will be done.
pub struct Plan {
    pub destination: Destination,
    pub app: Option<Arc<App>>,
    /// Whose credential is attached; nothing for a host of no app.
    pub slot: Option<Arc<Slot>>,
    pub rule: Option<Arc<str>>,
    pub would_deny: Option<Denial>,
    /// The path without the segment that the caller's SDK put where a credential goes, if it did.
    pub cut_path: Option<String>,
}

/// Decides what is done with a request. `path` is as sent, `selector` the account that it named.
///
/// # Errors
/// The refusal, with its reason and remedy.
pub fn plan(
    world: &World,
    caller: &Caller,
    target: &Target,
    method: &Method,
    path: &str,
    selector: Option<&str>,
) -> Result<Plan, Refusal> {
    match locate(&world.index, &caller.policy, target, path, selector) {
        Located::OfNoApp => match brought(world, caller, target) {
            Some((app, port)) => {
                let asked =
                    Asked { target, port, method, path: cut(app, path), sent: path, selector };
                with_account(world, caller, app, asked)
            }
            None => untouched(world, caller, target, method, path),
        },
        Located::OtherPort { ports } => {
            Err(Refusal::Port { host: target.host.clone(), port: target.port, ports })
        }
        Located::Shared { choices } => {
            let kept = caller.policy.kept;
            let (caller, method) = (caller.policy.caller.clone(), method.clone());
            let (host, port, path) = (target.host.clone(), target.port, path.to_owned());
            let asked = policy::Asked { caller, method, host, port, path, app: None, kept };
            let asked = Box::new(asked);
            Err(Refusal::Denied(Denial::Ambiguous { asked, choices }))
        }
        Located::At { app, port, path: bare } => {
            let asked = Asked { target, port, method, path: bare, sent: path, selector };
            with_account(world, caller, app, asked)
        }
    }
}

/// A host that only an account of this caller knows, `gitlab.acme.example`, and that is in no
/// snapshot because the account is nobody's who sends requests by himself.
fn brought<'a>(world: &World, caller: &'a Caller, target: &Target) -> Option<(&'a Arc<App>, u16)> {
    let claims = world.index.claims_for(&target.host, |app| caller.policy.holds(app));
    if !claims.is_empty() {
        return None;
    }
    let owner_at = |port: u16| {
        let here = |(host, own): &(Host, u16)| *own == port && *host == target.host;
        let owns = |binding: &policy::Binding| binding.hosts.iter().any(here);
        let at = caller.policy.bindings.iter().position(owns)?;
        Some((&caller.slots.get(at)?.app, port))
    };
    let upgraded = || (!target.secure && target.port == 80).then(|| owner_at(443)).flatten();
    owner_at(target.port).or_else(upgraded)
}

/// What a URL is to the catalog.
#[derive(Debug)]
pub enum Located<'a> {
    /// The host is nobody's, or the path is nobody's on a host that apps share.
    OfNoApp,
    /// The host is an app's, but not on this port. Lists those that are.
    OtherPort { ports: String },
    /// Apps share the host and path, and the caller has accounts of several of them.
    Shared { choices: Vec<AccountId> },
    /// `port` is the one that is dialled, `path` the one that rules see.
    At { app: &'a Arc<App>, port: u16, path: Cow<'a, str> },
}

/// Finds the app that owns a target. Where apps share a host, what the caller has decides.
pub fn locate<'a>(
    index: &'a HostIndex,
    caller: &CallerPolicy,
    target: &Target,
    path: &'a str,
    selector: Option<&str>,
) -> Located<'a> {
    let claims = index.claims_for(&target.host, |app| caller.holds(app));
    if claims.is_empty() {
        return Located::OfNoApp;
    }
    let port = effective_port(target, &claims);
    if !claims.ports().any(|listed| listed == port) {
        let ports = claims.ports().map(|port| port.to_string()).collect::<Vec<_>>().join(", ");
        return Located::OtherPort { ports };
    }
    let owner = match policy::owner(caller, claims.owners(port, path), selector) {
        Owner::First => claims.owner(port, path),
        Owner::This(id) => claims.owner_called(id, port, path),
        Owner::Unclear(choices) => return Located::Shared { choices },
    };
    match owner {
        Some(app) => Located::At { app, port, path: cut(app, path) },
        None => Located::OfNoApp,
    }
}

struct Asked<'a> {
    target: &'a Target,
    port: u16,
    method: &'a Method,
    path: Cow<'a, str>,
    sent: &'a str,
    selector: Option<&'a str>,
}

fn with_account(
    world: &World,
    caller: &Caller,
    app: &Arc<App>,
    asked: Asked<'_>,
) -> Result<Plan, Refusal> {
    let host = &asked.target.host;
    let question = Question {
        method: asked.method,
        host,
        port: asked.port,
        path: &asked.path,
        app: Some(&app.id),
        selector: asked.selector,
    };
    let permit = match policy::decide(&caller.policy, &question) {
        Decision::Permit(permit) => permit,
        Decision::Deny(Denial::NotBound { .. }) if world.unbound == Untouched::Tunnel => {
            return untouched(world, caller, asked.target, asked.method, asked.sent);
        }
        Decision::Deny(denial) => return Err(Refusal::Denied(denial)),
    };
    if *asked.method == Method::TRACE {
        return Err(Refusal::Trace);
    }
    let slot = permit.binding.and_then(|binding| caller.slots.get(binding)).cloned();
    let claims = world.index.claims(host);
    let meant_clear = || match claims.is_empty() {
        true => slot.as_ref().is_some_and(|slot| slot.auth().clear_text),
        false => claims.allows_clear_text_on(asked.port),
    };
    let in_clear = !asked.target.secure && meant_clear();
    let cut_path = (asked.path.len() != asked.sent.len()).then(|| asked.path.into_owned());
    Ok(Plan {
        destination: Destination {
            host: host.clone(),
            port: asked.port,
            tls: !in_clear,
            http1_only: false,
        },
        app: Some(app.clone()),
        slot,
        rule: permit.rule,
        would_deny: permit.would_deny,
        cut_path,
    })
}

/// What gets no credential goes where and how it asked, if it may.
fn untouched(
    world: &World,
    caller: &Caller,
    target: &Target,
    method: &Method,
    path: &str,
) -> Result<Plan, Refusal> {
    let question =
        Question { method, host: &target.host, port: target.port, path, app: None, selector: None };
    let default_allow = world.unmatched == Untouched::Tunnel;
    let permit = match policy::decide_unmatched(&caller.policy, &question, default_allow) {
        Decision::Permit(permit) => permit,
        Decision::Deny(Denial::NoRule { .. }) => {
            return Err(Refusal::Unmatched { host: target.host.clone() });
        }
        Decision::Deny(denial) => return Err(Refusal::Denied(denial)),
    };
    Ok(Plan {
        destination: Destination {
            host: target.host.clone(),
            port: target.port,
            tls: target.secure,
            http1_only: false,
        },
        app: None,
        slot: None,
        rule: permit.rule,
        would_deny: permit.would_deny,
        cut_path: None,
    })
}

/// `http://` to an app that takes TLS only is upgraded: port 80 becomes 443.
fn effective_port(target: &Target, claims: &Claims<'_>) -> u16 {
    let upgraded = !target.secure && target.port == 80 && !claims.ports().any(|port| port == 80);
    if upgraded { 443 } else { target.port }
}

/// An SDK that puts its dummy into the path (`/botDUMMY/getMe`) asks for what comes after it.
fn cut<'a>(app: &App, path: &'a str) -> Cow<'a, str> {
    let segments = app.auths.iter().flat_map(|auth| &auth.attach);
    for attachment in segments {
        if let Attachment::Path { segment, under } = attachment {
            let cut = inject::strip_segment(path, segment, under.as_deref());
            if cut != path {
                return cut;
            }
        }
    }
    Cow::Borrowed(path)
}
