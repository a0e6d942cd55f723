//! Callers of the workspace: read, made, given accounts, rotated, revoked.

use std::time::Duration;

use http::Response;
use serde_json::{Value, json};

use super::super::callers::view::{Ledger, Line, Used, caller_for};
use super::Errand;
use crate::api::{Failure, json_body, no_content, ok};
use crate::clock::rfc3339;
use crate::connect::callers::{self, Grant, Terms};
use crate::forward::Body;
use crate::ids::CallerId;
use crate::policy::access::{CallerOperation, Operation};
use crate::secret::Secret;
use crate::vault::{Account, CallerDetails, StoredCaller};

const MAX_DESCRIPTION_CHARS: usize = 500;

pub(super) async fn route(
    errand: &Errand<'_>,
    method: &str,
    path: &[&str],
) -> Result<Response<Body>, Failure> {
    match (method, path) {
        ("GET", []) => list(errand).await,
        ("POST", []) => create(errand).await,
        ("GET", [name]) => one(errand, name).await,
        ("DELETE", [name]) => revoke(errand, name).await,
        ("POST", [name, "rotate"]) => rotate(errand, name).await,
        ("PUT", [name, "accounts", id]) => bind(errand, name, id).await,
        ("DELETE", [name, "accounts", id]) => unbind(errand, name, id).await,
        (_, []) => Err(Failure::Method { allow: "GET, POST" }),
        (_, [_]) => Err(Failure::Method { allow: "GET, DELETE" }),
        (_, [_, "rotate"]) => Err(Failure::Method { allow: "POST" }),
        (_, [_, "accounts", _]) => Err(Failure::Method { allow: "PUT, DELETE" }),
        _ => Err(Failure::NotFound),
    }
}

async fn list(errand: &Errand<'_>) -> Result<Response<Body>, Failure> {
    let ledger = Ledger::read(&errand.visit).await?;
    let data: Vec<Value> = ledger.lines().iter().map(|line| said(&ledger, line)).collect();
    Ok(ok(&json!({ "data": data })))
}

async fn one(errand: &Errand<'_>, name: &str) -> Result<Response<Body>, Failure> {
    let ledger = Ledger::read(&errand.visit).await?;
    let lines = ledger.lines();
    let line = lines.iter().find(|line| line.name == name).ok_or(Failure::NotFound)?;
    let mut shown = said(&ledger, line);
    if let Some(caller) = ledger.caller(name) {
        let rules = ledger.rules(caller)?;
        shown["rules"] = rules
            .iter()
            .map(|rule| {
                json!({
                    "name": rule.name,
                    "effect": if rule.denies { "deny" } else { "allow" },
                    "app": rule.app,
                    "account": rule.account,
                    "host": rule.host,
                    "methods": rule.methods,
                    "paths": rule.paths,
                })
            })
            .collect();
    }
    Ok(ok(&shown))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCaller {
    name: String,
    #[serde(default)]
    description: String,
    /// Ids of accounts that it may use.
    #[serde(default)]
    accounts: Vec<String>,
    /// What it may do with them, such as `POST /api/chat.*`; nothing said: everything.
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    /// Let through what its rules would deny, and count it.
    #[serde(default)]
    report: bool,
    rate: Option<String>,
    max_concurrent: Option<u32>,
    expires_in_seconds: Option<u64>,
}

async fn create(errand: &Errand<'_>) -> Result<Response<Body>, Failure> {
    let visit = &errand.visit;
    let asked: NewCaller = json_body(&visit.headers, &errand.body)?;
    let name: CallerId =
        asked.name.parse().map_err(|invalid| Failure::bad(format!("{invalid}")))?;
    let ledger = Ledger::read(visit).await?;
    if ledger.is_taken(&name) {
        return Err(Failure::bad(format!("there is a caller called {name} already")));
    }
    let accounts = asked.accounts.iter().map(|id| bindable(&ledger, id).cloned());
    let accounts = accounts.collect::<Result<Vec<Account>, Failure>>()?;
    let details = CallerDetails {
        description: asked.description.chars().take(MAX_DESCRIPTION_CHARS).collect(),
        mode: asked.report.then(|| "report".to_owned()),
        rate: asked.rate,
        max_concurrent: asked.max_concurrent.filter(|most| *most > 0),
        rules: String::new(),
        expires_at: asked.expires_in_seconds.and_then(|s| visit.now().checked_add(seconds(s))),
    };
    let grant = Grant { allow: asked.allow, deny: asked.deny };
    let by = Some(&visit.member().id);
    let token = callers::create(visit.vault(), &name, &details, &accounts, &grant, by).await;
    let token = token.map_err(super::Trouble::from)?;
    visit.audit("caller_added", name.as_str(), &details.description);
    for account in &accounts {
        visit.audit_of(&account.id, "account_bound", name.as_str(), account.nickname.as_str());
    }
    Ok(with_token(&name, &token))
}

/// The only answers in which a caller's token ever stands.
fn with_token(name: &CallerId, token: &Secret) -> Response<Body> {
    ok(&json!({ "name": name, "token": token.expose() }))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// An account that the member may bind. Of another nobody learns whether it is there.
fn bindable<'l>(ledger: &'l Ledger, id: &str) -> Result<&'l Account, Failure> {
    let found = ledger.accounts.values().find(|account| account.id.as_str() == id);
    found.filter(|account| ledger.may_account(&account.id, Operation::Bind)).ok_or_else(|| {
        Failure::bad(
            "one of those accounts is not there, or not yours to use: name ids of accounts \
                      that you may bind",
        )
    })
}

async fn revoke(errand: &Errand<'_>, name: &str) -> Result<Response<Body>, Failure> {
    let caller = changeable(errand, name, CallerOperation::Revoke).await?.1;
    errand.visit.vault().delete_caller(&caller.name).await?;
    errand.visit.audit("caller_revoked", name, &caller.details.description);
    Ok(no_content())
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// How long the old tokens are good beside the new one.
    #[serde(default)]
    overlap_seconds: u64,
}

async fn rotate(errand: &Errand<'_>, name: &str) -> Result<Response<Body>, Failure> {
    let visit = &errand.visit;
    let caller = changeable(errand, name, CallerOperation::Change).await?.1;
    let asked = match errand.body.is_empty() {
        true => Rotation::default(),
        false => json_body(&visit.headers, &errand.body)?,
    };
    let overlap = Some(asked.overlap_seconds).filter(|s| *s > 0).map(seconds);
    let token = callers::rotate(visit.vault(), &caller.name, overlap, visit.now()).await;
    let token = token.map_err(super::Trouble::from)?;
    let detail = format!("old tokens end in {} s", asked.overlap_seconds);
    visit.audit("caller_token_rotated", name, &detail);
    Ok(with_token(&caller.name, &token))
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    #[serde(default)]
    default: bool,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

async fn bind(errand: &Errand<'_>, name: &str, id: &str) -> Result<Response<Body>, Failure> {
    let visit = &errand.visit;
    let (ledger, caller) = changeable(errand, name, CallerOperation::Change).await?;
    let account = bindable(&ledger, id)?;
    let asked: Binding = match errand.body.is_empty() {
        true => Binding::default(),
        false => json_body(&visit.headers, &errand.body)?,
    };
    let grant = Grant { allow: asked.allow, deny: asked.deny };
    let terms = Terms { default: asked.default, paths: asked.paths, grant };
    let by = Some(&visit.member().id);
    let bound = callers::bind(visit.vault(), &caller, account, &terms, by).await;
    bound.map_err(super::Trouble::from)?;
    visit.audit_of(&account.id, "account_bound", name, account.nickname.as_str());
    one(errand, name).await
}

async fn unbind(errand: &Errand<'_>, name: &str, id: &str) -> Result<Response<Body>, Failure> {
    let visit = &errand.visit;
    let (ledger, caller) = changeable(errand, name, CallerOperation::Change).await?;
    let bound = ledger.bindings_of(&caller.name).find(|binding| binding.account.as_str() == id);
    let account = bound.and_then(|binding| ledger.accounts.get(&binding.account));
    let account = account.ok_or(Failure::NotFound)?;
    let unbound = callers::unbind(visit.vault(), &caller, account).await;
    unbound.map_err(super::Trouble::from)?;
    visit.audit_of(&account.id, "account_unbound", name, account.nickname.as_str());
    Ok(no_content())
}

async fn changeable(
    errand: &Errand<'_>,
    name: &str,
    operation: CallerOperation,
) -> Result<(Ledger, StoredCaller), Failure> {
    let ledger = Ledger::read(&errand.visit).await?;
    let caller = caller_for(&errand.visit, &ledger, name, operation).await?;
    Ok((ledger, caller))
}

fn said(ledger: &Ledger, line: &Line) -> Value {
    let stored = ledger.caller(&line.name);
    let may = |operation| stored.is_some_and(|caller| ledger.may(&caller.name, operation));
    json!({
        "name": line.name,
        "description": line.description,
        "declared": line.declared,
        "mode": if line.report { "report" } else { "enforce" },
        "rate": line.rate,
        "max_concurrent": line.max_concurrent,
        "expires_at": stored.and_then(|caller| caller.details.expires_at).map(rfc3339),
        "accounts": line.uses.iter().map(used).collect::<Vec<_>>(),
        "may": {
            "change": may(CallerOperation::Change),
            "revoke": may(CallerOperation::Revoke),
        },
    })
}

/// Without a name for whoever may not see the account.
fn used(used: &Used) -> Value {
    json!({
        "id": used.name.as_ref().map(|_| &used.id),
        "nickname": used.name,
        "app": used.face.app,
        "default": used.default,
        "paths": used.paths,
        "lapsed": used.lapse.map(|why| why.to_string()),
    })
}
