//! The least privilege that a caller needs, as its requests in the audit tell, and putting it into
//! force.

use std::time::Duration;

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::activity::history::{self, Sight};
use super::super::shell::{Section, Shell, counted};
use super::super::visit::Visit;
use super::rules::as_of;
use super::view::{Ledger, RuleLine, caller_for};
use crate::config::{RuleEffect, RuleText};
use crate::connect::callers::{self, rules_of};
use crate::forward::Body;
use crate::policy::access::CallerOperation;
use crate::policy::suggest::Suggestion;
use crate::secret::TokenDigest;
use crate::telemetry::trail::{Rest, Search};
use crate::vault::StoredCaller;

/// Read at most, which is some hundred thousand requests.
const LOOK_BYTES: u64 = 256 * 1024 * 1024;
const MOST_REQUESTS: usize = 100_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DAYS: [u32; 4] = [1, 7, 30, 90];

#[derive(Template)]
#[template(path = "workspace/caller_suggest.html")]
struct SuggestPage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    as_of: String,
    seen: String,
    days: u32,
    suggestion: Suggestion,
    rules: Vec<(RuleLine, String)>,
    kept: Vec<RuleLine>,
    unaudited: bool,
    in_part: bool,
}

impl SuggestPage<'_> {
    fn spans(&self) -> &'static [u32] {
        &DAYS
    }
}

pub(super) async fn answer(visit: &Visit<'_>, name: &str) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let caller = caller_for(visit, &ledger, name, CallerOperation::Change).await?;
    let asked = if visit.is_post() { &visit.form } else { &visit.query };
    let days = asked.text("days").parse().ok().filter(|days| DAYS.contains(days)).unwrap_or(30);
    let (suggestion, in_part) = suggestion(visit, &ledger, name, days).await?;
    let held = rules_of(&caller)?;
    let denials = held.iter().filter(|rule| rule.effect == RuleEffect::Deny).cloned();
    if visit.is_post() {
        let as_seen = visit.form.text("seen") == digest(&suggestion);
        if visit.form.text("as_of") != as_of(&caller) || !as_seen {
            return Err(Trouble::Bad(
                "The rules were changed, or the caller did something new, since that page was made. Go \
                 back, load it again and look at it."
                    .to_owned(),
            ));
        }
        let allowing = suggestion.rules.iter().map(|rule| text_of(&ledger, &caller, rule));
        let rules: Vec<RuleText> = denials.chain(allowing).collect();
        return put(visit, &caller, &rules, &suggestion).await;
    }
    let rules = suggestion.rules.iter().enumerate().map(|(at, rule)| {
        let line = RuleLine {
            at,
            name: String::new(),
            denies: false,
            app: Some(ledger.app_name(&rule.app)),
            account: Some(rule.account.clone()),
            host: None,
            methods: rule.methods.clone(),
            paths: rule.paths.clone(),
        };
        (line, counted(usize::try_from(rule.requests).unwrap_or(usize::MAX), "request"))
    });
    let kept = ledger.rules(&caller)?.into_iter().filter(|rule| rule.denies);
    let title = format!("What {name} needs");
    let page = SuggestPage {
        shell: visit.shell(Section::Callers, &title),
        name: caller.name.as_str(),
        as_of: as_of(&caller),
        seen: digest(&suggestion),
        days,
        rules: rules.collect(),
        kept: kept.collect(),
        unaudited: visit.workspace.around.audit.is_none(),
        in_part,
        suggestion,
    };
    Ok(visit.page(&page))
}

async fn suggestion(
    visit: &Visit<'_>,
    ledger: &Ledger,
    name: &str,
    days: u32,
) -> Result<(Suggestion, bool), Trouble> {
    let wanted = Search {
        members: vec![("caller", name.to_owned())],
        since: visit.now().checked_sub(DAY * days),
        want: MOST_REQUESTS,
        most_bytes: LOOK_BYTES,
        ..Search::default()
    };
    let (caller, sight) = (name.to_owned(), Sight::of(ledger));
    // What an earlier caller of the name did, or an account that is not theirs, is not told here.
    let found = history::look(visit, wanted, move |entry| {
        entry.text("caller") == caller && sight.sees(entry)
    });
    let found = found.await?;
    let found = found.unwrap_or_default();
    let suggestion = crate::telemetry::trail::suggest(&found.entries);
    Ok((suggestion, matches!(found.rest, Rest::Unread { .. } | Rest::Before(_))))
}

/// What is put into force is what was looked at.
fn digest(suggestion: &Suggestion) -> String {
    let rules = suggestion.rules.iter();
    let text: Vec<String> = rules
        .map(|rule| format!("{} {} {:?} {:?}", rule.app, rule.account, rule.methods, rule.paths))
        .collect();
    TokenDigest::of(text.join("\n").as_bytes()).to_hex()[..16].to_owned()
}

/// By the id of the account where it is bound, which no renaming changes.
fn text_of(
    ledger: &Ledger,
    caller: &StoredCaller,
    rule: &crate::policy::suggest::Proposal,
) -> RuleText {
    let bound = ledger.bindings_of(&caller.name).find_map(|binding| {
        let account = ledger.accounts.get(&binding.account)?;
        (account.nickname.as_str() == rule.account).then(|| account.id.to_string())
    });
    RuleText {
        effect: RuleEffect::Allow,
        app: Some(rule.app.clone()),
        account: Some(bound.unwrap_or_else(|| rule.account.clone())),
        host: None,
        methods: rule.methods.clone(),
        paths: rule.paths.clone(),
    }
}

async fn put(
    visit: &Visit<'_>,
    caller: &StoredCaller,
    rules: &[RuleText],
    suggestion: &Suggestion,
) -> Result<Response<Body>, Trouble> {
    if suggestion.rules.is_empty() {
        return Err(Trouble::Bad("There is nothing to propose yet.".to_owned()));
    }
    callers::set_rules(visit.vault(), caller, rules).await?;
    let detail = format!("least privilege from {} requests", suggestion.requests);
    visit.audit("caller_rules_changed", caller.name.as_str(), &detail);
    let text = "The proposed rules are in force. What they deny from now on is in Activity.";
    Ok(visit.done(&format!("/callers/{}#rules", caller.name), text))
}
