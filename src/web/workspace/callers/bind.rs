//! Which accounts a caller uses: binding, when each is taken, taking away, and putting an own one
//! in the place of another's.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::shell::{Confirm, Section, Shell};
use super::super::visit::Visit;
use super::new::{Choice, grant};
use super::view::{Face, Ledger, caller_for};
use crate::connect::callers::{self, Terms};
use crate::forward::Body;
use crate::ids::AccountId;
use crate::policy::access::{CallerOperation, Operation};
use crate::vault::{Account, Binding, StoredCaller};

#[derive(Template)]
#[template(path = "workspace/caller_bind.html")]
struct BindPage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    /// `None`: one is to be chosen.
    bound: Option<Choice>,
    accounts: Vec<Choice>,
    default: bool,
    paths: String,
    allow: &'a str,
    deny: &'a str,
    error: Option<String>,
}

pub(super) async fn bind(visit: &Visit<'_>, name: &str) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let caller = caller_for(visit, &ledger, name, CallerOperation::Change).await?;
    if !visit.is_post() {
        return Ok(visit.page(&choose(visit, &ledger, &caller, None)));
    }
    let wanted = visit.form.text("account");
    let account = free(&ledger, &caller).find(|account| account.id.as_str() == wanted);
    let Some(account) = account else {
        let error = Some("Choose one of the accounts that you may use.".to_owned());
        return Ok(visit.refused(&choose(visit, &ledger, &caller, error)));
    };
    let terms =
        Terms { default: visit.form.has("default"), paths: paths(visit), grant: grant(visit) };
    let by = Some(&visit.member().id);
    if let Err(error) = callers::bind(visit.vault(), &caller, account, &terms, by).await {
        let why = Trouble::from(error).on_form()?;
        return Ok(visit.refused(&choose(visit, &ledger, &caller, Some(why))));
    }
    let nickname = account.nickname.as_str();
    visit.audit_of(&account.id, "account_bound", name, nickname);
    Ok(visit.done(&format!("/callers/{name}"), format!("{name} may use {nickname} now.")))
}

/// Accounts that the member may bind and that are not bound yet.
fn free<'l>(ledger: &'l Ledger, caller: &'l StoredCaller) -> impl Iterator<Item = &'l Account> {
    let bound = |account: &Account| {
        ledger.bindings_of(&caller.name).any(|binding| binding.account == account.id)
    };
    ledger.bindable().into_iter().filter(move |account| !bound(account))
}

fn paths(visit: &Visit<'_>) -> Vec<String> {
    let lines = visit.form.raw("paths").lines().map(str::trim);
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn choose<'a>(
    visit: &'a Visit<'_>,
    ledger: &Ledger,
    caller: &'a StoredCaller,
    error: Option<String>,
) -> BindPage<'a> {
    let wanted = visit.form.text("account");
    let chosen = |account: &Account| account.id.as_str() == wanted;
    let choice = |account| Choice::of(ledger, account, chosen(account));
    BindPage {
        shell: visit.shell(Section::Callers, "Let it use an account"),
        name: caller.name.as_str(),
        bound: None,
        accounts: free(ledger, caller).map(choice).collect(),
        default: visit.form.has("default"),
        paths: visit.form.raw("paths").to_owned(),
        allow: visit.form.raw("allow"),
        deny: visit.form.raw("deny"),
        error,
    }
}

/// A binding, and its account.
fn held<'l>(
    ledger: &'l Ledger,
    caller: &StoredCaller,
    account: &str,
) -> Result<(&'l Binding, &'l Account), Trouble> {
    let id: AccountId = account.parse().map_err(|_| Trouble::NotFound)?;
    let found = ledger.bindings.iter().find(|b| b.caller == caller.name && b.account == id);
    found
        .and_then(|binding| Some((binding, ledger.accounts.get(&binding.account)?)))
        .ok_or(Trouble::NotFound)
}

/// When a bound account is taken.
pub(super) async fn rebind(
    visit: &Visit<'_>,
    name: &str,
    account: &str,
) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let caller = caller_for(visit, &ledger, name, CallerOperation::Change).await?;
    let (binding, account) = held(&ledger, &caller, account)?;
    let mut error = None;
    if visit.is_post() {
        let (default, paths) = (visit.form.has("default"), paths(visit));
        let by = Some(&visit.member().id);
        match callers::rebind(visit.vault(), &caller, account, (default, &paths), by).await {
            Ok(()) => {
                visit.audit_of(&account.id, "account_bound", name, account.nickname.as_str());
                let text = format!("Saved when {} is taken.", account.nickname);
                return Ok(visit.done(&format!("/callers/{name}"), text));
            }
            Err(wrong) => error = Some(Trouble::from(wrong).on_form()?),
        }
    }
    let refused = error.is_some();
    let (default, paths) = match refused {
        true => (visit.form.has("default"), visit.form.raw("paths").to_owned()),
        false => (binding.is_default, binding.paths.join("\n")),
    };
    let title = format!("When is {} taken?", account.nickname);
    let page = BindPage {
        shell: visit.shell(Section::Callers, &title),
        name: caller.name.as_str(),
        bound: Some(Choice::of(&ledger, account, true)),
        accounts: Vec::new(),
        default,
        paths,
        allow: "",
        deny: "",
        error,
    };
    Ok(if refused { visit.refused(&page) } else { visit.page(&page) })
}

pub(super) async fn unbind(
    visit: &Visit<'_>,
    name: &str,
    account: &str,
) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let caller = caller_for(visit, &ledger, name, CallerOperation::Change).await?;
    let (_, account) = held(&ledger, &caller, account)?;
    if visit.is_post() {
        callers::unbind(visit.vault(), &caller, account).await?;
        visit.audit_of(&account.id, "account_unbound", name, account.nickname.as_str());
        let text = format!("{name} may no longer use {}.", account.nickname);
        return Ok(visit.done(&format!("/callers/{name}"), text));
    }
    let app = ledger.app_name(account.app.as_str());
    let title = format!("Take {} away from {name}?", account.nickname);
    let text =
        "The binding ends on the next request, and the rules about this account are removed.";
    let stops = [format!("Requests of {name} to {app} with {}", account.nickname)];
    let (action, back) =
        (format!("/callers/{name}/unbind/{}", account.id), format!("/callers/{name}"));
    Ok(visit.page(&Confirm {
        shell: visit.shell(Section::Callers, &title),
        text,
        stops: &stops,
        action: &action,
        fields: &[],
        tick: None,
        label: "Take it away",
        back: &back,
        error: None,
    }))
}

#[derive(Template)]
#[template(path = "workspace/caller_swap.html")]
struct SwapPage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    id: &'a str,
    /// What is replaced, as far as the member may know it.
    said: String,
    face: Face,
    accounts: Vec<Choice>,
    error: Option<&'static str>,
}

/// Everybody may put an account of their own in the place of one that a caller uses.
pub(super) async fn swap(
    visit: &Visit<'_>,
    name: &str,
    id: &str,
) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let caller = caller_for(visit, &ledger, name, CallerOperation::SwapAccount).await?;
    let (binding, old) = held(&ledger, &caller, id)?;
    let used = ledger.used(binding).ok_or(Trouble::NotFound)?;
    let fits = |account: &&Account| {
        account.app == old.app && ledger.may_account(&account.id, Operation::Bind)
    };
    let candidates: Vec<&Account> = free(&ledger, &caller).filter(fits).collect();
    let wanted = visit.form.text("account");
    if visit.is_post()
        && let Some(new) = candidates.iter().find(|account| account.id.as_str() == wanted)
    {
        let by = Some(&visit.member().id);
        callers::swap(visit.vault(), &caller, (old, new), by).await?;
        // Not by its name: who swaps an account need not be somebody who may know it.
        let detail = format!("{} for {}", new.nickname, used.said());
        visit.audit_of(&new.id, "account_swapped", name, &detail);
        visit.audit_of(&old.id, "account_unbound", name, old.nickname.as_str());
        let text = format!("{name} uses {} now.", new.nickname);
        return Ok(visit.done(&format!("/callers/{name}"), text));
    }
    let page = SwapPage {
        shell: visit.shell(Section::Callers, "Use another account"),
        name: caller.name.as_str(),
        id: old.id.as_str(),
        said: used.said(),
        face: used.face,
        accounts: candidates.iter().map(|account| Choice::of(&ledger, account, false)).collect(),
        error: visit.is_post().then_some("Choose the account that takes its place."),
    };
    Ok(if visit.is_post() { visit.refused(&page) } else { visit.page(&page) })
}
