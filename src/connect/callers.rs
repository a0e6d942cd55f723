//! Callers of the store: making them, giving them accounts, renewing their tokens. A terminal and a
//! page do it alike.

use std::time::{Duration, SystemTime};

use crate::config::{Rate, RuleEffect, RuleText, rules_from_json, rules_to_json};
use crate::ids::{CallerId, MemberId};
use crate::policy::PathPattern;
use crate::random::{self, NoRandom};
use crate::secret::{Secret, TokenDigest};
use crate::vault::{self, Account, Binding, CallerDetails, StoredCaller, Vault};

/// What may be done with an account that is bound: texts such as `POST /api/chat.*`. Nothing
/// allowed by name: everything that the account's app offers.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

/// How an account is bound.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Taken when a request names none of several accounts of the app.
    pub default: bool,
    /// Requests below these paths take this account.
    pub paths: Vec<String>,
    pub grant: Grant,
}

#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    #[error("\"{text}\": {why}")]
    Rule { text: String, why: String },
    #[error("the path \"{path}\": {why}")]
    Path { path: String, why: String },
    #[error("{0}")]
    Rate(String),
    #[error("the rules of {caller}: {why}")]
    Rules { caller: CallerId, why: String },
    #[error("{account} is not bound to {caller}")]
    NotBound { caller: CallerId, account: String },
    #[error("{0} is an account of another app")]
    OtherApp(String),
    #[error("{0} is bound already")]
    AlreadyBound(String),
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    #[error(transparent)]
    Store(#[from] vault::Error),
}

/// Makes a caller that may use `accounts`, and gives its token, which nothing shows again.
///
/// # Errors
/// Before anything is written when a rule or rate cannot be read; else what the store says.
pub async fn create(
    vault: &Vault,
    name: &CallerId,
    details: &CallerDetails,
    accounts: &[Account],
    grant: &Grant,
    by: Option<&MemberId>,
) -> Result<Secret, CallerError> {
    if let Some(rate) = &details.rate {
        Rate::from_text(rate).map_err(CallerError::Rate)?;
    }
    let mut rules = Vec::new();
    for account in accounts {
        rules.extend(rules_about(account, grant)?);
    }
    let token = fresh_token()?;
    let details = CallerDetails { rules: rules_to_json(&rules), ..details.clone() };
    vault.create_caller(name, &details, by).await?;
    for account in accounts {
        vault.bind(name, &account.id, false, &[], by).await?;
    }
    // Last, so that nobody is known before everything about them is.
    add_token(vault, name, &token).await?;
    Ok(token)
}

/// Binds an account, or binds it anew: the rules about it are replaced.
///
/// # Errors
/// Before anything is written when a rule or path cannot be read; else what the store says.
pub async fn bind(
    vault: &Vault,
    caller: &StoredCaller,
    account: &Account,
    terms: &Terms,
    by: Option<&MemberId>,
) -> Result<(), CallerError> {
    check_paths(&terms.paths)?;
    let mut rules = rules_of(caller)?;
    rules.retain(|rule| !is_about(rule, account));
    rules.extend(rules_about(account, &terms.grant)?);
    vault.bind(&caller.name, &account.id, terms.default, &terms.paths, by).await?;
    put_rules(vault, caller, &rules).await
}

/// Takes an account away, and the rules about it.
///
/// # Errors
/// When it was not bound, and what the store says.
pub async fn unbind(
    vault: &Vault,
    caller: &StoredCaller,
    account: &Account,
) -> Result<(), CallerError> {
    if !vault.unbind(&caller.name, &account.id).await? {
        let (caller, account) = (caller.name.clone(), account.nickname.to_string());
        return Err(CallerError::NotBound { caller, account });
    }
    let mut rules = rules_of(caller)?;
    rules.retain(|rule| !is_about(rule, account));
    put_rules(vault, caller, &rules).await
}

/// Says anew when a bound account is taken; what may be done with it stays.
///
/// # Errors
/// When a path cannot be read, or it was not bound, and what the store says.
pub async fn rebind(
    vault: &Vault,
    caller: &StoredCaller,
    account: &Account,
    (default, paths): (bool, &[String]),
    by: Option<&MemberId>,
) -> Result<(), CallerError> {
    check_paths(paths)?;
    require_bound(vault, caller, account).await?;
    vault.bind(&caller.name, &account.id, default, paths, by).await?;
    Ok(())
}

/// Puts `new` in the place of `old`: bound as that was, with the rules about it.
///
/// # Errors
/// When `old` is not bound, `new` is, or they are not of one app, and what the store says.
pub async fn swap(
    vault: &Vault,
    caller: &StoredCaller,
    (old, new): (&Account, &Account),
    by: Option<&MemberId>,
) -> Result<(), CallerError> {
    let binding = require_bound(vault, caller, old).await?;
    if old.app != new.app {
        return Err(CallerError::OtherApp(new.nickname.to_string()));
    }
    let bound = vault.bindings().await?;
    if bound.iter().any(|held| held.caller == caller.name && held.account == new.id) {
        return Err(CallerError::AlreadyBound(new.nickname.to_string()));
    }
    let mut rules = rules_of(caller)?;
    for rule in rules.iter_mut().filter(|rule| is_about(rule, old)) {
        rule.account = Some(new.id.to_string());
    }
    // First the old one ends: at no moment may whoever swaps have both.
    vault.unbind(&caller.name, &old.id).await?;
    vault.bind(&caller.name, &new.id, binding.is_default, &binding.paths, by).await?;
    put_rules(vault, caller, &rules).await
}

async fn require_bound(
    vault: &Vault,
    caller: &StoredCaller,
    account: &Account,
) -> Result<Binding, CallerError> {
    let bound = vault.bindings().await?;
    let held = |held: &Binding| held.caller == caller.name && held.account == account.id;
    bound.into_iter().find(held).ok_or_else(|| CallerError::NotBound {
        caller: caller.name.clone(),
        account: account.nickname.to_string(),
    })
}

/// Replaces the rules of a caller.
///
/// # Errors
/// Before anything is written when a rule cannot be read, and what the store says.
pub async fn set_rules(
    vault: &Vault,
    caller: &StoredCaller,
    rules: &[RuleText],
) -> Result<(), CallerError> {
    for (at, rule) in rules.iter().enumerate() {
        let wrong = |why| CallerError::Rules { caller: caller.name.clone(), why };
        rule.finish(&format!("rule {}", at + 1)).map_err(wrong)?;
    }
    put_rules(vault, caller, rules).await
}

/// Without reading them first: taking something away works whatever stands beside it.
async fn put_rules(
    vault: &Vault,
    caller: &StoredCaller,
    rules: &[RuleText],
) -> Result<(), CallerError> {
    let details = CallerDetails { rules: rules_to_json(rules), ..caller.details.clone() };
    vault.update_caller(&caller.name, &details).await?;
    Ok(())
}

/// Changes what a caller is and how much it may.
///
/// # Errors
/// Before anything is written when the rate cannot be read, and what the store says.
pub async fn update(
    vault: &Vault,
    caller: &StoredCaller,
    details: &CallerDetails,
) -> Result<(), CallerError> {
    if let Some(rate) = &details.rate {
        Rate::from_text(rate).map_err(CallerError::Rate)?;
    }
    vault.update_caller(&caller.name, details).await?;
    Ok(())
}

/// A new token. The old ones end at once, or after `overlap`, for programs that get it later.
///
/// # Errors
/// What the store says.
pub async fn rotate(
    vault: &Vault,
    name: &CallerId,
    overlap: Option<Duration>,
    now: SystemTime,
) -> Result<Secret, CallerError> {
    let old = vault.caller_tokens(Some(name)).await?;
    let token = fresh_token()?;
    add_token(vault, name, &token).await?;
    for old in old {
        let Some(overlap) = overlap else {
            vault.delete_caller_token(&old.id).await?;
            continue;
        };
        let end = now + overlap;
        let end = old.expires_at.map_or(end, |before| before.min(end));
        vault.expire_caller_token(&old.id, end).await?;
    }
    Ok(token)
}

/// # Errors
/// When the store holds what is no list of rules.
pub fn rules_of(caller: &StoredCaller) -> Result<Vec<RuleText>, CallerError> {
    rules_from_json(&caller.details.rules)
        .map_err(|why| CallerError::Rules { caller: caller.name.clone(), why })
}

/// 160 random bits, in characters that no client has to encode.
///
/// # Errors
/// When the system gives none.
pub fn fresh_token() -> Result<Secret, NoRandom> {
    random::token("cs_", 20)
}

async fn add_token(vault: &Vault, name: &CallerId, token: &Secret) -> Result<(), CallerError> {
    let digest = TokenDigest::of(token.expose().as_bytes());
    vault.add_caller_token(name, digest, "", None).await?;
    Ok(())
}

fn check_paths(paths: &[String]) -> Result<(), CallerError> {
    for path in paths {
        let parsed = path.parse::<PathPattern>();
        parsed.map_err(|why| CallerError::Path { path: path.clone(), why: why.to_string() })?;
    }
    Ok(())
}

fn is_about(rule: &RuleText, account: &Account) -> bool {
    let named = rule.account.as_deref();
    named == Some(account.id.as_str()) || named == Some(account.nickname.as_str())
}

/// The rules that come with a binding, by the account's id, which no renaming changes.
fn rules_about(account: &Account, grant: &Grant) -> Result<Vec<RuleText>, CallerError> {
    let about =
        |effect| RuleText { effect, account: Some(account.id.to_string()), ..RuleText::default() };
    let mut rules = Vec::new();
    for (effect, texts) in [(RuleEffect::Allow, &grant.allow), (RuleEffect::Deny, &grant.deny)] {
        for text in texts {
            rules.push(narrowed(about(effect), text)?);
        }
    }
    if grant.allow.is_empty() {
        rules.push(about(RuleEffect::Allow));
    }
    Ok(rules)
}

/// `POST /api/chat.*`, `GET,HEAD /a/**,/b/**`, `/only/paths`, `GET`.
fn narrowed(mut rule: RuleText, text: &str) -> Result<RuleText, CallerError> {
    let wrong = |why: String| CallerError::Rule { text: text.to_owned(), why };
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    // A variable that is empty by mistake must not mean everything.
    if text.trim().is_empty() {
        return Err(wrong(EXPECTED.to_owned()));
    }
    for word in text.split_whitespace() {
        match word.starts_with('/') {
            true if rule.paths.is_empty() => rule.paths = list(word),
            false if rule.methods.is_empty() => rule.methods = list(word),
            _ => return Err(wrong(EXPECTED.to_owned())),
        }
    }
    rule.finish("rule").map_err(wrong)?;
    Ok(rule)
}

const EXPECTED: &str = "expected methods and paths, such as \"POST /api/chat.*\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_methods_and_paths_in_any_order() {
        for (text, methods, paths) in [
            ("POST /api/chat.*", &["POST"][..], &["/api/chat.*"][..]),
            ("GET,HEAD /v1/**,/v2/**", &["GET", "HEAD"], &["/v1/**", "/v2/**"]),
            ("/v1/**", &[], &["/v1/**"]),
            ("GET", &["GET"], &[]),
        ] {
            let rule = narrowed(RuleText::default(), text).expect(text);
            assert_eq!((rule.methods, rule.paths), (strings(methods), strings(paths)), "{text}");
        }
        for text in ["get /x", "GET POST /x", "/a /b", "GET x y", "", " "] {
            assert!(narrowed(RuleText::default(), text).is_err(), "{text}");
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }
}
