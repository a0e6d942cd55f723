//! *Would this be allowed?* The decision of the live path, asked without sending anything. Every
//! member may ask; who may not see an account of the caller is told the answer without its name.

use askama::Template;
use http::{Method, Response};

use super::super::Trouble;
use super::super::shell::{Section, Shell};
use super::super::visit::Visit;
use super::one::reason_said;
use super::rules;
use super::view::{Ledger, caller_for};
use crate::connect::callers::rules_of;
use crate::forward::{self, Body, Caller};
use crate::policy::access::CallerOperation;
use crate::policy::{CallerPolicy, Decision, Denial, Effect, Explanation, Fit, Rule};

/// The answer, in words.
pub struct Verdict {
    pub kind: Kind,
    pub why: String,
    /// The account whose credential would be attached.
    pub account: Option<String>,
    pub app: Option<String>,
    /// How each rule fared.
    pub rules: Vec<Fared>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Allowed,
    Untouched,
    Reported,
    Denied,
    /// The question cannot be answered.
    Unclear,
}

pub struct Fared {
    pub said: String,
    pub denies: bool,
    pub fits: bool,
    pub fit: String,
    /// It decided.
    pub decided: bool,
}

impl Verdict {
    pub fn headline(&self) -> &'static str {
        match self.kind {
            Kind::Allowed => "Allowed",
            Kind::Untouched => "Passed on untouched",
            Kind::Reported => "Let through and reported",
            Kind::Denied => "Denied",
            Kind::Unclear => "No answer",
        }
    }

    pub fn notice(&self) -> &'static str {
        match self.kind {
            Kind::Allowed => "notice-ok",
            Kind::Untouched | Kind::Unclear => "",
            Kind::Reported => "notice-warn",
            Kind::Denied => "notice-danger",
        }
    }

    fn unclear(why: String) -> Self {
        Self { kind: Kind::Unclear, why, account: None, app: None, rules: Vec::new() }
    }
}

#[derive(Template)]
#[template(path = "workspace/caller_try.html")]
struct TryPage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    method: &'a str,
    url: &'a str,
    selector: &'a str,
    verdict: Option<Verdict>,
}

pub(super) async fn answer(visit: &Visit<'_>, name: &str) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let (method, url) = (visit.form.text("method"), visit.form.text("url"));
    let verdict = match visit.is_post() && !url.is_empty() {
        true => Some(ask(visit, &ledger, name).await?),
        false => None,
    };
    let title = format!("Would {name} be allowed?");
    let page = TryPage {
        shell: visit.shell(Section::Callers, &title),
        name,
        method: if method.is_empty() { "GET" } else { method },
        url,
        selector: visit.form.text("selector"),
        verdict,
    };
    Ok(visit.page(&page))
}

async fn ask(visit: &Visit<'_>, ledger: &Ledger, name: &str) -> Result<Verdict, Trouble> {
    let Some(caller) = ledger.world.caller(name) else {
        // Just made, or its time is over for the snapshot that serves.
        caller_for(visit, ledger, name, CallerOperation::Test).await?;
        return Ok(Verdict::unclear(
            "This caller is not in use yet; ask again in a moment.".into(),
        ));
    };
    if caller.is_stored() {
        caller_for(visit, ledger, name, CallerOperation::Test).await?;
    }
    let form = &visit.form;
    let Ok(method) = form.text("method").parse::<Method>() else {
        return Ok(Verdict::unclear("That is no method.".into()));
    };
    let policy = match draft(visit, ledger, caller) {
        Ok(policy) => policy,
        Err(why) => return Ok(Verdict::unclear(why)),
    };
    let url = match form.text("url") {
        url if url.contains("://") => url.to_owned(),
        url => format!("https://{url}"),
    };
    let ground = ledger.world.ground();
    let explained = forward::explain(&ground, &policy, &method, &url, form.said("selector"));
    Ok(match explained {
        Ok(explanation) => verdict(ledger, caller, &explanation, &policy),
        Err(why) => Verdict::unclear(why),
    })
}

/// The caller's policy; while a rule is being written, as it would be with that rule.
fn draft(visit: &Visit<'_>, ledger: &Ledger, caller: &Caller) -> Result<CallerPolicy, String> {
    let mut policy = caller.policy.clone();
    let Some(at) = visit.form.said("draft") else { return Ok(policy) };
    let stored = ledger.caller(caller.id.as_str()).ok_or("it is declared")?;
    let mut texts = rules_of(stored).map_err(|error| error.to_string())?;
    let written = rules::written(&visit.form);
    match at.parse::<usize>() {
        Ok(at) if at < texts.len() => texts[at] = written,
        _ => texts.push(written),
    }
    let name = |at: usize| format!("callers.{}.rules[{at}]", caller.id);
    let rules = texts.iter().enumerate().map(|(at, text)| text.finish(&name(at)));
    policy.rules = rules.collect::<Result<Vec<Rule>, String>>()?.into();
    Ok(policy)
}

fn verdict(
    ledger: &Ledger,
    caller: &Caller,
    explanation: &Explanation,
    policy: &CallerPolicy,
) -> Verdict {
    let open = ledger.sees_all_of(caller);
    let app = explanation.asked.app.as_ref().map(|app| ledger.app_name(app.as_str()));
    let (kind, why, decided) = match &explanation.decision {
        Decision::Deny(denial) => (Kind::Denied, because(denial, open), denial.rule()),
        Decision::Permit(permit) => match (&permit.would_deny, &permit.rule) {
            (Some(denial), _) => (Kind::Reported, because(denial, open), denial.rule()),
            (None, Some(rule)) => {
                (Kind::Allowed, format!("{} allows it.", rule_said(rule)), Some(rule))
            }
            (None, None) => (
                Kind::Untouched,
                "The host belongs to no app of this caller, and such requests are passed on without a \
                 credential."
                    .to_owned(),
                None,
            ),
        },
    };
    let bound = |name: &crate::ids::AccountId| {
        policy.bindings.iter().find(|binding| binding.account == *name).map(|binding| {
            match open || ledger.may_account(&binding.id, crate::policy::access::Operation::See) {
                true => name.to_string(),
                false => format!("an account of {}", ledger.app_name(binding.app.as_str())),
            }
        })
    };
    let fared = |rule: &crate::policy::Considered| Fared {
        said: rule_said(&rule.name),
        denies: rule.effect == Effect::Deny,
        fits: rule.fit == Fit::Fits,
        fit: rule.fit.to_string(),
        decided: decided.is_some_and(|decided| **decided == *rule.name),
    };
    Verdict {
        kind,
        why,
        account: explanation.account.as_ref().and_then(bound),
        app,
        rules: explanation.rules.iter().map(fared).collect(),
    }
}

/// Denials name the accounts among which one may choose: only for who sees them.
fn because(denial: &Denial, open: bool) -> String {
    match denial {
        Denial::Rule { name, .. } => format!("{} denies it.", rule_said(name)),
        Denial::NoRule { odd: Some(odd), .. } => {
            format!("The path has {odd}, so rules with paths do not allow it.")
        }
        Denial::NoRule { .. } => "No rule allows it.".to_owned(),
        Denial::NotBound { .. } => "No account of this app is bound to the caller.".to_owned(),
        Denial::Ambiguous { choices, .. } if open => {
            let names: Vec<&str> = choices.iter().map(|name| name.as_str()).collect();
            format!("Several accounts fit: {}. Name one, or mark a default.", names.join(", "))
        }
        other => {
            let reason = reason_said(other.reason());
            let mut letters = reason.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            first.into_iter().chain(letters).chain(['.']).collect()
        }
    }
}

/// `callers.flow.rules[1]`: "Rule 2"; that of a group by its own name.
fn rule_said(name: &str) -> String {
    let number = name.strip_prefix("callers.").and_then(|rest| rest.rsplit_once(".rules["));
    let number = number.and_then(|(_, at)| at.strip_suffix(']')?.parse::<usize>().ok());
    number.map_or_else(|| format!("The rule {name}"), |at| format!("Rule {}", at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_called_by_its_number_on_the_page() {
        for (name, said) in [
            ("callers.flow.rules[0]", "Rule 1"),
            ("callers.a.rules[0].rules[11]", "Rule 12"),
            ("groups.all.rules[2]", "The rule groups.all.rules[2]"),
            ("api", "The rule api"),
        ] {
            assert_eq!(rule_said(name), said);
        }
    }
}
