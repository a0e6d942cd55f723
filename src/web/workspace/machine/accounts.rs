//! Accounts that a member may see: read, renamed, shared, checked, deleted.

use http::Response;
use serde_json::{Value, json};

use super::super::accounts::view::Book;
use super::super::{Trouble, connect};
use super::Errand;
use crate::api::{Failure, clean, json_body, no_content, ok};
use crate::clock::rfc3339;
use crate::forward::Body;
use crate::ids::{AccountId, MemberId};
use crate::policy::access::{Operation, may};
use crate::vault::{Account, Filter, Owner, Share};

pub(super) async fn route(
    errand: &Errand<'_>,
    method: &str,
    path: &[&str],
) -> Result<Response<Body>, Failure> {
    match (method, path) {
        ("GET", []) => list(errand).await,
        ("GET", [id]) => one(errand, id).await,
        ("PATCH", [id]) => rename(errand, id).await,
        ("DELETE", [id]) => delete(errand, id).await,
        ("PUT", [id, "access"]) => share(errand, id).await,
        ("POST", [id, "check"]) => check(errand, id).await,
        (_, []) => Err(Failure::Method { allow: "GET" }),
        (_, [_]) => Err(Failure::Method { allow: "GET, PATCH, DELETE" }),
        (_, [_, "access"]) => Err(Failure::Method { allow: "PUT" }),
        (_, [_, "check"]) => Err(Failure::Method { allow: "POST" }),
        _ => Err(Failure::NotFound),
    }
}

async fn list(errand: &Errand<'_>) -> Result<Response<Body>, Failure> {
    let (visit, book) = (&errand.visit, Book::read(&errand.visit).await?);
    let (app, words) = (visit.query.text("app"), visit.query.text("q"));
    let filter = Filter { no_external_users: true, ..Filter::default() };
    let accounts = visit.vault().accounts(&filter).await?;
    let shown = accounts.iter().filter(|account| {
        may(book.standing(account), Operation::See)
            && (app.is_empty() || account.app.as_str() == app)
            && (words.is_empty() || book.line(account).matches(words))
    });
    let data: Vec<Value> = shown.map(|account| said(&book, account)).collect();
    Ok(ok(&json!({ "data": data })))
}

async fn one(errand: &Errand<'_>, id: &str) -> Result<Response<Body>, Failure> {
    let account = errand.visit.account(id, Operation::See).await?;
    Ok(ok(&said(&Book::read(&errand.visit).await?, &account)))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Renaming {
    nickname: String,
}

async fn rename(errand: &Errand<'_>, id: &str) -> Result<Response<Body>, Failure> {
    let visit = &errand.visit;
    let account = visit.account(id, Operation::ManageAccess).await?;
    let Renaming { nickname } = json_body(&visit.headers, &errand.body)?;
    let name: AccountId = nickname.parse().map_err(|invalid| Failure::bad(format!("{invalid}")))?;
    visit.vault().rename_account(&account.id, &name).await?;
    let before = account.nickname.as_str();
    visit.audit_of(&account.id, "account_renamed", name.as_str(), before);
    one(errand, id).await
}

async fn delete(errand: &Errand<'_>, id: &str) -> Result<Response<Body>, Failure> {
    let visit = &errand.visit;
    let account = visit.account(id, Operation::Delete).await?;
    let removed = visit.workspace.connector.remove(&account.id).await.map_err(Trouble::from)?;
    removed.ok_or(Failure::NotFound)?;
    let (name, id) = (account.nickname.as_str(), account.id.as_str());
    visit.audit_of(&account.id, "account_deleted", name, id);
    Ok(no_content())
}

/// Who may use it from now on: with neither, nobody but its owner.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sharing {
    #[serde(default)]
    workspace: bool,
    /// Ids or e-mail addresses.
    #[serde(default)]
    members: Vec<String>,
}

async fn share(errand: &Errand<'_>, id: &str) -> Result<Response<Body>, Failure> {
    let visit = &errand.visit;
    let account = visit.account(id, Operation::ManageAccess).await?;
    let asked: Sharing = json_body(&visit.headers, &errand.body)?;
    let book = Book::read(visit).await?;
    let shares = match asked.workspace {
        true => vec![Share::Workspace],
        false => {
            let named = asked.members.iter().map(|named| member(&book, named));
            let mut ids = named.collect::<Result<Vec<MemberId>, Failure>>()?;
            ids.sort();
            ids.dedup();
            ids.into_iter().map(Share::Member).collect()
        }
    };
    visit.vault().set_shares(&account.id, &shares, Some(&visit.member().id)).await?;
    let detail = match &shares[..] {
        [] => "private".to_owned(),
        shares => {
            shares.iter().map(|share| shared_with(&book, share)).collect::<Vec<_>>().join(", ")
        }
    };
    visit.audit_of(&account.id, "account_shared", account.nickname.as_str(), &detail);
    one(errand, id).await
}

fn member(book: &Book, named: &str) -> Result<MemberId, Failure> {
    let fits =
        |id: &MemberId, email: &str| id.as_str() == named || email.eq_ignore_ascii_case(named);
    let found = book.members.values().find(|member| fits(&member.id, &member.email));
    found
        .map(|member| member.id.clone())
        .ok_or_else(|| Failure::bad(format!("there is no member \"{}\"", clean(named))))
}

/// Sends the app's test request with the account.
async fn check(errand: &Errand<'_>, id: &str) -> Result<Response<Body>, Failure> {
    let visit = &errand.visit;
    let account = visit.account(id, Operation::See).await?;
    let checked = connect::check_account(visit.workspace, &account).await;
    let (name, id) = (account.nickname.as_str(), account.id.as_str());
    visit.audit_of(&account.id, "account_checked", name, id);
    Ok(ok(&json!({ "works": !checked.is_bad(), "said": connect::told(&checked) })))
}

fn said(book: &Book, account: &Account) -> Value {
    let (health, standing) = (&account.health, book.standing(account));
    let owner = match &account.owner {
        Owner::Member(id) => json!({ "id": id, "name": book.name(id) }),
        Owner::Workspace | Owner::ExternalUser(_) => Value::Null,
    };
    let shared = book.shares.of(&account.id).iter().map(|share| shared_with(book, share));
    json!({
        "id": account.id,
        "nickname": account.nickname,
        "app": account.app,
        "identity": account.identity.as_deref().map(clean),
        "owner": owner,
        "shared_with": shared.collect::<Vec<_>>(),
        "healthy": !health.dead && !health.is_unhealthy(),
        "dead": health.dead,
        "error": health.error.as_ref().map(|error| clean(&error.message)),
        "scopes": account.scopes,
        "expires_at": health.expires_at.map(rfc3339),
        "last_refreshed_at": health.last_refreshed_at.map(rfc3339),
        "next_refresh_at": health.next_refresh_at.map(rfc3339),
        "last_used_at": health.last_used_at.map(rfc3339),
        "created_at": rfc3339(account.created_at),
        "callers": book.callers_of(&account.id),
        "may": {
            "bind": may(standing, Operation::Bind),
            "manage_access": may(standing, Operation::ManageAccess),
            "reconnect": may(standing, Operation::Reconnect),
            "delete": may(standing, Operation::Delete),
        },
    })
}

fn shared_with(book: &Book, share: &Share) -> String {
    match share {
        Share::Workspace => "workspace".to_owned(),
        Share::Member(id) => {
            book.members.get(id).map_or_else(|| id.to_string(), |member| member.email.clone())
        }
    }
}
