//! The rules of a caller, one form each. Whoever changes the list has seen it as it is: a form
//! carries the digest of the list that it was made from.

use std::collections::BTreeSet;

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::form::Form;
use super::super::shell::{Section, Shell};
use super::super::visit::Visit;
use super::attempt::Verdict;
use super::view::{Ledger, caller_for};
use crate::config::{RuleEffect, RuleText};
use crate::connect::callers::{self, rules_of};
use crate::forward::Body;
use crate::policy::access::CallerOperation;
use crate::secret::TokenDigest;
use crate::vault::StoredCaller;

#[derive(Template)]
#[template(path = "workspace/caller_rule.html")]
struct RulePage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    /// Its place, or `~new`.
    at: &'a str,
    as_of: String,
    denies: bool,
    app: String,
    account: String,
    host: String,
    methods: Vec<String>,
    paths: String,
    apps: Vec<(String, String)>,
    accounts: Vec<(String, String)>,
    error: Option<String>,
    method: &'a str,
    url: &'a str,
    selector: &'a str,
    verdict: Option<Verdict>,
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl RulePage<'_> {
    fn usual_methods(&self) -> &'static [&'static str] {
        &METHODS
    }

    fn other_methods(&self) -> String {
        let other = self.methods.iter().filter(|method| !METHODS.contains(&method.as_str()));
        other.cloned().collect::<Vec<_>>().join(", ")
    }

    fn has_method(&self, method: &str) -> bool {
        self.methods.iter().any(|chosen| chosen == method)
    }
}

/// What the list of rules was when a form was made.
pub fn as_of(caller: &StoredCaller) -> String {
    TokenDigest::of(caller.details.rules.as_bytes()).to_hex()[..16].to_owned()
}

/// The rule of a form.
pub fn written(form: &Form) -> RuleText {
    let text = |name: &str| form.said(name).map(str::to_owned);
    let others = form.text("other_methods").to_uppercase();
    let others = others.split([',', ' ']).filter(|method| !method.is_empty());
    let mut methods: Vec<String> = form.all("methods").map(str::to_owned).collect();
    methods.extend(others.map(str::to_owned));
    let paths = form.all("paths").flat_map(str::lines).map(str::trim);
    RuleText {
        effect: if form.text("effect") == "deny" { RuleEffect::Deny } else { RuleEffect::Allow },
        app: text("app"),
        account: text("account"),
        host: text("host"),
        methods,
        paths: paths.filter(|path| !path.is_empty()).map(str::to_owned).collect(),
    }
}

/// A caller whose rules may be changed, and they.
struct Desk {
    ledger: Ledger,
    caller: StoredCaller,
    rules: Vec<RuleText>,
}

impl Desk {
    async fn open(visit: &Visit<'_>, name: &str) -> Result<Self, Trouble> {
        let ledger = Ledger::read(visit).await?;
        let caller = caller_for(visit, &ledger, name, CallerOperation::Change).await?;
        let rules = rules_of(&caller)?;
        Ok(Self { ledger, caller, rules })
    }

    fn place(&self, at: &str) -> Result<usize, Trouble> {
        at.parse().ok().filter(|at| *at < self.rules.len()).ok_or(Trouble::NotFound)
    }

    /// What was changed meanwhile is not overwritten.
    fn check_fresh(&self, visit: &Visit<'_>) -> Result<(), Trouble> {
        match visit.form.text("as_of") == as_of(&self.caller) {
            true => Ok(()),
            false => Err(Trouble::Bad(
                "The rules were changed meanwhile. Go back, load the page again and look at them."
                    .to_owned(),
            )),
        }
    }

    /// Changes the rule that stands at `at` as `change` says, which tells what it did.
    async fn alter(
        self,
        visit: &Visit<'_>,
        at: &str,
        change: impl FnOnce(&mut Vec<RuleText>, usize) -> Option<String>,
    ) -> Result<Response<Body>, Trouble> {
        let place = self.place(at)?;
        self.check_fresh(visit)?;
        let mut rules = self.rules.clone();
        let did = change(&mut rules, place).ok_or(Trouble::NotFound)?;
        self.put(visit, &rules, &did).await
    }

    async fn put(
        &self,
        visit: &Visit<'_>,
        rules: &[RuleText],
        did: &str,
    ) -> Result<Response<Body>, Trouble> {
        callers::set_rules(visit.vault(), &self.caller, rules).await?;
        visit.audit("caller_rules_changed", self.caller.name.as_str(), did);
        let back = format!("/callers/{}#rules", self.caller.name);
        Ok(visit.done(&back, format!("Saved: {did}.")))
    }
}

pub(super) async fn add(visit: &Visit<'_>, name: &str) -> Result<Response<Body>, Trouble> {
    let desk = Desk::open(visit, name).await?;
    if !visit.is_post() {
        let rule = written(&visit.query);
        return Ok(visit.page(&page(visit, &desk, "~new", &rule, None)));
    }
    let rule = written(&visit.form);
    save(visit, &desk, "~new", rule).await
}

pub(super) async fn edit(
    visit: &Visit<'_>,
    name: &str,
    at: &str,
) -> Result<Response<Body>, Trouble> {
    let desk = Desk::open(visit, name).await?;
    let place = desk.place(at)?;
    if !visit.is_post() {
        return Ok(visit.page(&page(visit, &desk, at, &desk.rules[place], None)));
    }
    save(visit, &desk, at, written(&visit.form)).await
}

async fn save(
    visit: &Visit<'_>,
    desk: &Desk,
    at: &str,
    rule: RuleText,
) -> Result<Response<Body>, Trouble> {
    if let Err(why) = rule.finish("this rule") {
        return Ok(visit.refused(&page(visit, desk, at, &rule, Some(why))));
    }
    desk.check_fresh(visit)?;
    let mut rules = desk.rules.clone();
    let (place, verb) = match desk.place(at) {
        Ok(place) => {
            rules[place] = rule;
            (place, "changed")
        }
        Err(_) => {
            rules.push(rule);
            (rules.len() - 1, "added")
        }
    };
    desk.put(visit, &rules, &format!("rule {} {verb}", place + 1)).await
}

pub(super) async fn remove(
    visit: &Visit<'_>,
    name: &str,
    at: &str,
) -> Result<Response<Body>, Trouble> {
    let remove = |rules: &mut Vec<RuleText>, place: usize| {
        rules.remove(place);
        Some(format!("rule {} removed", place + 1))
    };
    Desk::open(visit, name).await?.alter(visit, at, remove).await
}

/// One place up or down. The answer to a request does not depend on the order, but people read it.
pub(super) async fn shift(
    visit: &Visit<'_>,
    name: &str,
    at: &str,
) -> Result<Response<Body>, Trouble> {
    let up = visit.form.text("to") == "up";
    let swap = |rules: &mut Vec<RuleText>, place: usize| {
        let other = if up { place.checked_sub(1)? } else { place + 1 };
        let is_there = other < rules.len();
        is_there.then(|| {
            rules.swap(place, other);
            format!("rule {} is rule {} now", place + 1, other + 1)
        })
    };
    Desk::open(visit, name).await?.alter(visit, at, swap).await
}

fn page<'a>(
    visit: &'a Visit<'_>,
    desk: &'a Desk,
    at: &'a str,
    rule: &RuleText,
    error: Option<String>,
) -> RulePage<'a> {
    let ledger = &desk.ledger;
    let bound = || ledger.bindings_of(&desk.caller.name);
    let of_bound = bound().filter_map(|binding| ledger.accounts.get(&binding.account));
    let mut apps: BTreeSet<(String, String)> =
        of_bound.map(|a| (ledger.app_name(a.app.as_str()), a.app.to_string())).collect();
    // One that is written stays, also when nothing of it is bound.
    apps.extend(rule.app.iter().map(|app| (ledger.app_name(app), app.clone())));
    let mut accounts: Vec<(String, String)> = bound()
        .filter_map(|binding| ledger.accounts.get(&binding.account))
        .map(|account| (account.id.to_string(), account.nickname.to_string()))
        .collect();
    let mut account = rule.account.clone().unwrap_or_default();
    // A nickname stands for the account that has it.
    if let Some((id, _)) = accounts.iter().find(|(_, name)| *name == account) {
        account = id.clone();
    }
    if !account.is_empty() && !accounts.iter().any(|(id, _)| *id == account) {
        accounts.push((account.clone(), format!("{} (not bound)", ledger.account_said(&account))));
    }
    let title = if at == "~new" { "Add a rule" } else { "Edit the rule" };
    RulePage {
        shell: visit.shell(Section::Callers, title),
        name: desk.caller.name.as_str(),
        at,
        as_of: visit.form.said("as_of").map_or_else(|| as_of(&desk.caller), str::to_owned),
        denies: rule.effect == RuleEffect::Deny,
        app: rule.app.clone().unwrap_or_default(),
        account,
        host: rule.host.clone().unwrap_or_default(),
        methods: rule.methods.clone(),
        paths: rule.paths.join("\n"),
        apps: apps.into_iter().map(|(name, id)| (id, name)).collect(),
        accounts,
        error,
        method: "GET",
        url: "",
        selector: "",
        verdict: None,
    }
}
