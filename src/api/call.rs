//! The API proxy call: a request of the caller's making, to an API that one account is for.
//!
//! It goes the same way as every other request: this room decides whose account it is, and hands
//! the journey an identity that may use that one account and nothing else. Redirects are followed
//! here, because the SDKs' HTTP clients would follow them with our token; every hop is decided anew.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{
    CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Api;
use super::failure::Failure;
use super::input::Pairs;
use super::principal::{Principal, Tenancy};
use super::redirect::{self, Asked, MAX_HOPS, Next};
use super::scope::Scope;
use super::target::{self, Named};
use crate::credentials::Slot;
use crate::forward::{Body, Content, Identity, Inbound, SOURCE, Target, UpgradeSlot, World, plan};
use crate::ids::CallerId;
use crate::proxy::{aim, join};
use crate::telemetry::Door;
use crate::vault::Account;

/// One call, decided but for its target.
struct Call<'a> {
    api: &'a Api,
    world: Arc<World>,
    client: IpAddr,
    identity: Identity,
    slot: Arc<Slot>,
    account: Account,
}

/// What one hop sends.
struct Hop {
    method: Method,
    target: Target,
    path: PathAndQuery,
    headers: HeaderMap,
    body: Option<Incoming>,
}

impl Api {
    pub(super) async fn call(
        &self,
        client: IpAddr,
        principal: &Principal,
        tenancy: &Tenancy,
        url_64: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        principal.may(Scope::Proxy)?;
        let (parts, body) = request.into_parts();
        let query = Pairs::parse(parts.uri.query().unwrap_or_default())?;
        let account = self.account_for(principal, tenancy, &query).await?;
        let slot = self.keeper.slot(&account).await?;
        let named = target::read(url_64)?;
        let headers = target::headers(&parts.headers)?;
        let caller: CallerId = principal.name().parse().map_err(|_| Failure::Internal)?;
        let identity =
            Identity::of_account(caller, principal.digest(), &account, slot.clone(), "api");
        let (world, app) = (self.forwarder.world(), account.app.clone());
        let call = Call { api: self, world, client, identity, slot, account };
        let (target, path) = call.aim(named)?;
        let body = Some(body).filter(|body| !body.is_end_stream());
        let hop = Hop { method: parts.method.clone(), target, path, headers, body };
        // From the call to the head of the answer, all hops together.
        let patience = self.settings.patience_with(app.as_str());
        match timeout(patience, call.follow(hop, &parts)).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::Timeout(patience)),
        }
    }

    /// The account that the call names, which must be the named user's.
    async fn account_for(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        query: &Pairs,
    ) -> Result<Account, Failure> {
        let missing = |name| Failure::bad(format!("\"{name}\" is missing in the query"));
        let id = query.one("account_id")?.ok_or_else(|| missing("account_id"))?;
        let named = query.one("external_user_id")?;
        if named.is_none() && matches!(principal, Principal::Client(_)) {
            return Err(missing("external_user_id"));
        }
        let (account, user) = self.find(principal, tenancy, id).await?;
        if named.is_some_and(|named| named != user.external_id) {
            return Err(Failure::NotFound);
        }
        Ok(account)
    }
}

impl Call<'_> {
    fn aim(&self, named: Named) -> Result<(Target, PathAndQuery), Failure> {
        match named {
            Named::Absolute { target, path } => Ok((target, path)),
            Named::Relative(relative) => {
                let base = self.slot.base();
                let wrong = |_| Failure::bad("the URL's path does not fit the account's base URL");
                let target = aim(base).map_err(wrong)?;
                let (path, query) = match relative.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (&*relative, None),
                };
                let uri = join(base, path, query).map_err(wrong)?;
                let path = uri.path_and_query().cloned();
                Ok((target, path.ok_or_else(|| Failure::bad("the URL has no path"))?))
            }
        }
    }

    async fn follow(&self, mut hop: Hop, parts: &Parts) -> Result<Response<Body>, Failure> {
        for hops in 0.. {
            self.check(&hop)?;
            let had_body = hop.body.is_some();
            let (method, target, path) = (hop.method.clone(), hop.target.clone(), hop.path.clone());
            let headers = hop.headers.clone();
            let response = self.send(hop, parts).await?;
            let asked = Asked { method, target, path, headers, had_body };
            match self.next(&response, asked) {
                Some(next) if hops < MAX_HOPS => hop = next,
                _ => return finish(response),
            }
        }
        Err(Failure::Internal)
    }

    /// The account's credential goes to its own hosts only, and a request without it is not what
    /// this call is for.
    fn check(&self, hop: &Hop) -> Result<(), Failure> {
        let caller = &self.identity.caller;
        let selector = self.identity.selector.as_deref();
        let path = hop.path.path();
        let planned = plan(&self.world, caller, &hop.target, &hop.method, path, selector);
        if planned.is_ok_and(|plan| plan.slot.is_some()) {
            return Ok(());
        }
        let hosts = &caller.policy.bindings[0].hosts;
        let hosts: Vec<String> = hosts.iter().map(|(host, _)| host.to_string()).collect();
        Err(Failure::bad(format!(
            "Domain {} is not allowed for this app: requests with {} go to {}{}",
            hop.target.host,
            self.account.id,
            hosts.join(", "),
            if hosts.contains(&hop.target.host.to_string()) {
                ", below the app's paths"
            } else {
                ""
            },
        )))
    }

    async fn send(&self, hop: Hop, parts: &Parts) -> Result<Response<Body>, Failure> {
        let forwarder = &self.api.forwarder;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = hop.method.clone();
        head.uri = Uri::from(hop.path);
        head.version = parts.version;
        head.headers = hop.headers;
        let inbound = Inbound {
            id: forwarder.next_id(),
            door: Door::Api,
            client: self.client,
            identity: self.identity.clone(),
            target: hop.target,
            parts: head,
            body: hop.body.map(|body| Content::Stream(body, None)),
            upgrade: UpgradeSlot::default(),
        };
        let response = forwarder.forward(&self.world, inbound).await;
        let ours = response.headers().get(SOURCE).is_some_and(|source| source == "proxy");
        if ours { Err(refused(response, &hop.method).await) } else { Ok(response) }
    }

    /// What a redirect asks for, where it may be followed.
    fn next(&self, response: &Response<Body>, asked: Asked) -> Option<Hop> {
        let Next { method, target, path, headers } =
            redirect::next(response.status(), response.headers(), asked)?;
        let hop = Hop { method, target, path, headers, body: None };
        self.check(&hop).is_ok().then_some(hop)
    }
}

/// The API's answer as it may be seen from here: what it says to a browser about its own origin
/// would be said about ours.
///
/// # Errors
/// For a redirect that is not followed. A client would go there itself, with a token of ours and
/// without the account's credential.
fn finish(mut response: Response<Body>) -> Result<Response<Body>, Failure> {
    let status = response.status();
    let headers = response.headers_mut();
    if let Some(location) = headers.get(LOCATION).filter(|_| status.is_redirection()) {
        let location = String::from_utf8_lossy(location.as_bytes());
        return Err(Failure::Refused {
            status: StatusCode::BAD_REQUEST,
            code: "redirect_not_followed".to_owned(),
            text: "the API redirects to where this account's credential may not go, or this body \
                   cannot be sent again"
                .to_owned(),
            details: json!({ "status": status.as_u16(), "location": location }),
            retry_after_s: None,
        });
    }
    let of_origin = |name: &&HeaderName| {
        let text = name.as_str();
        text.starts_with("access-control-")
            || text.starts_with("cross-origin-")
            || matches!(text, "clear-site-data" | "content-security-policy" | "nel" | "report-to")
            || [SET_COOKIE, STRICT_TRANSPORT_SECURITY].contains(*name)
    };
    let found: Vec<HeaderName> = headers.keys().filter(of_origin).cloned().collect();
    for name in found {
        headers.remove(name);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The journey's own refusal in this API's shape.
async fn refused(response: Response<Body>, method: &Method) -> Failure {
    let status = response.status();
    let retry_after_s = response.headers().get(RETRY_AFTER);
    let retry_after_s = retry_after_s.and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.into_body().collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let details = json!({
        "request_id": problem["request_id"],
        "account": problem["account"],
        "reconnect": problem["reconnect"],
    });
    Failure::Refused {
        status: told(status, method),
        code: text("type").rsplit(':').next().unwrap_or_default().to_owned(),
        text: text("detail"),
        details,
        retry_after_s,
    }
}

/// TypeScript's SDK repeats a 5xx, also of a POST that may have arrived.
fn told(status: StatusCode, method: &Method) -> StatusCode {
    match status {
        StatusCode::BAD_GATEWAY if !method.is_safe() => StatusCode::FAILED_DEPENDENCY,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => StatusCode::BAD_REQUEST,
        other => other,
    }
}
