//! The gateway: `ANY /gateway/{app}/{path}` for clients that can use neither a proxy nor our CA.
//! They are given a base URL and the caller's token in place of the API's key, and everything after
//! that is the same journey.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper::body::Incoming;

use super::{Doors, door};
use crate::catalog::App;
use crate::credentials::Slot;
use crate::forward::{
    ACCOUNT, Body, Channel, Content, Identity, Inbound, Refusal, Target, UpgradeSlot, World,
    authenticate, by_bearer,
};
use crate::host::{Authority, Host};
use crate::inject::Attachment;
use crate::policy::{Asked, Denial};
use crate::telemetry::Door;

const PREFIX: &str = "/gateway/";

/// Answers a gateway request; `None` when the path is not the gateway's.
pub async fn answer(
    doors: &Doors,
    peer: SocketAddr,
    request: Request<Incoming>,
    upgrade: UpgradeSlot,
) -> Result<Response<Body>, Request<Incoming>> {
    if !request.uri().path().starts_with(PREFIX) {
        return Err(request);
    }
    let world = doors.forwarder.world();
    let (parts, body) = request.into_parts();
    let answered = match enter(doors, &world, peer, parts, body, upgrade) {
        Ok(inbound) => doors.forwarder.forward(&world, inbound).await,
        Err(refusal) => refusal.into_response(doors.forwarder.next_id()),
    };
    Ok(answered)
}

fn enter(
    doors: &Doors,
    world: &World,
    peer: SocketAddr,
    mut parts: Parts,
    body: Incoming,
    upgrade: UpgradeSlot,
) -> Result<Inbound, Refusal> {
    doors.forwarder.check(&parts)?;
    let uri = parts.uri.clone();
    let (app, rest) = split(uri.path())?;
    // Whether an app exists is told to callers only.
    let known = world.app(app);
    let identity = identify(world, known, &mut parts)
        .map_err(|refusal| door::note_stranger(doors, peer.ip(), refusal))?;
    let app = known.ok_or_else(|| Refusal::NoSuchApp { app: app.chars().take(64).collect() })?;
    let slot = choose(&identity, app, &parts)?;
    let target = aim(slot.base())?;
    parts.uri = join(slot.base(), rest, uri.query())?;
    Ok(Inbound {
        id: doors.forwarder.next_id(),
        door: Door::Gateway,
        client: peer.ip(),
        identity,
        target,
        parts,
        body: Some(Content::Stream(body, None)),
        upgrade,
    })
}

/// `/gateway/openai/v1/models` is `openai` and `/v1/models`.
fn split(path: &str) -> Result<(&str, &str), Refusal> {
    let rest = path.strip_prefix(PREFIX).unwrap_or_default();
    let end = rest.find('/').unwrap_or(rest.len());
    let (app, path) = rest.split_at(end);
    if app.is_empty() {
        return Err(Refusal::NotForwarded("the gateway's path is /gateway/<app>/<path>"));
    }
    Ok((app, if path.is_empty() { "/" } else { path }))
}

/// The token stands where the API's own key would: SDKs have one setting for it. What proved the
/// caller is removed, so that it never leaves.
fn identify(world: &World, app: Option<&Arc<App>>, parts: &mut Parts) -> Result<Identity, Refusal> {
    if parts.headers.contains_key(PROXY_AUTHORIZATION) {
        return authenticate(world, &Channel::Anonymous, &parts.headers);
    }
    let mut offered = false;
    for name in token_fields(app) {
        let Some(value) = parts.headers.get(&name).and_then(|value| value.to_str().ok()) else {
            continue;
        };
        offered = true;
        if let Some(identity) = token_of(value).and_then(|token| by_bearer(world, &token)) {
            parts.headers.remove(&name);
            return Ok(identity);
        }
    }
    Err(if offered { Refusal::UnknownCaller } else { Refusal::NoCaller })
}

fn token_fields(app: Option<&Arc<App>>) -> Vec<HeaderName> {
    let own = app.into_iter().flat_map(|app| &app.auths).flat_map(|auth| &auth.attach);
    let own = own.filter_map(|attachment| match attachment {
        Attachment::Header { name, .. } => Some(name.clone()),
        _ => None,
    });
    std::iter::once(AUTHORIZATION).chain(own).collect()
}

/// `Bearer <token>`, `Basic <anything>:<token>`, or the bare token of an API key header.
fn token_of(value: &str) -> Option<String> {
    let Some((scheme, credentials)) = value.trim().split_once(' ') else {
        return Some(value.trim().to_owned());
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Some(credentials.trim().to_owned());
    }
    let pair = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    // Stripe's and Mailgun's SDKs send the key as one of the two and leave the other empty.
    Some(if password.is_empty() { user } else { password }.to_owned())
}

/// Which account's base URL the path is joined to. Policy decides again, with the host known.
fn choose<'a>(identity: &'a Identity, app: &App, parts: &Parts) -> Result<&'a Arc<Slot>, Refusal> {
    let header = parts.headers.get(ACCOUNT).and_then(|value| value.to_str().ok()).map(str::trim);
    let selector = header.or(identity.selector.as_deref());
    let policy = &identity.caller.policy;
    let bound = policy.bindings.iter().zip(&identity.caller.slots).filter(|(b, _)| b.app == app.id);
    let named = |name: &&str| selector.is_none_or(|selector| selector == *name);
    let fits: Vec<_> = bound
        .filter(|(binding, _)| named(&binding.account.as_str()) || named(&binding.id.as_str()))
        .collect();
    if let [(_, slot)] = fits[..] {
        return Ok(slot);
    }
    let default = fits.iter().find(|(binding, _)| binding.default).or_else(|| {
        // With one base URL for all, the choice may wait for policy.
        let (_, first) = fits.first()?;
        fits.iter().all(|(_, slot)| slot.base() == first.base()).then(|| &fits[0])
    });
    default.map(|(_, slot)| *slot).ok_or_else(|| {
        let asked = asked(identity, app, parts);
        let choices = fits.iter().map(|(binding, _)| binding.account.clone()).collect::<Vec<_>>();
        Refusal::Denied(if choices.is_empty() {
            Denial::NotBound { asked, app: app.id.clone() }
        } else {
            Denial::Ambiguous { asked, choices }
        })
    })
}

fn asked(identity: &Identity, app: &App, parts: &Parts) -> Box<Asked> {
    let nowhere = || "gateway.invalid".parse().expect("a valid host");
    let first = app.auths.iter().flat_map(|auth| &auth.hosts).next();
    let host: Host = first
        .and_then(|pattern| pattern.render(|_| None).ok())
        .map_or_else(nowhere, |origin| origin.host);
    Box::new(Asked {
        caller: identity.caller.id.clone(),
        method: parts.method.clone(),
        host,
        port: 443,
        path: parts.uri.path().to_owned(),
        app: Some(app.id.clone()),
        kept: identity.caller.policy.kept,
    })
}

/// Where an account's requests go when only a path is given.
///
/// # Errors
/// When the base URL has no host that could be dialled.
pub fn aim(base: &Uri) -> Result<Target, Refusal> {
    let secure = base.scheme_str() == Some("https");
    let authority = base.authority().map_or("", http::uri::Authority::as_str);
    let Authority { host, port } = Authority::parse(authority, if secure { 443 } else { 80 })?;
    Ok(Target { host, port, secure })
}

/// The base URL's path is put first unless the client has it already, as in
/// `OPENAI_BASE_URL=…/gateway/openai/v1`.
///
/// # Errors
/// When the result is no path.
pub fn join(base: &Uri, rest: &str, query: Option<&str>) -> Result<Uri, Refusal> {
    let base = base.path().trim_end_matches('/');
    let has_it = rest.strip_prefix(base).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    let base = if has_it { "" } else { base };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let target = PathAndQuery::try_from(format!("{base}{rest}{query}"));
    target.map(Uri::from).map_err(|_| Refusal::Malformed("the path is not valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_path_is_put_first_once() {
        for (base, rest, joined) in [
            ("https://api.openai.com/v1", "/v1/models", "/v1/models?a=%2f"),
            ("https://api.openai.com/v1", "/models", "/v1/models?a=%2f"),
            ("https://api.openai.com/v1", "/v10/models", "/v1/v10/models?a=%2f"),
            ("https://api.openai.com", "/models", "/models?a=%2f"),
            ("https://slack.com/api/", "/chat.postMessage", "/api/chat.postMessage?a=%2f"),
        ] {
            let base: Uri = base.parse().expect("a URI");
            assert_eq!(join(&base, rest, Some("a=%2f")).expect("joins").to_string(), joined);
        }
    }

    #[test]
    fn a_token_is_found_where_sdks_put_keys() {
        for (value, token) in [
            ("Bearer tok", "tok"),
            ("bearer  tok", "tok"),
            ("tok", "tok"),
            ("Token tok", "tok"),
            ("Basic dG9rOg==", "tok"),
            ("Basic YWNjb3VudDp0b2s=", "tok"),
        ] {
            assert_eq!(token_of(value).as_deref(), Some(token), "{value}");
        }
    }
}
