//! Callers and accounts of the store, as the snapshot takes them in: the same values that the
//! configuration gives.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::HashMap;
use futures_util::future::join_all;

use crate::catalog::{App, Origin};
use crate::config::{self, Rate, Token, rules_from_json};
use crate::credentials::{self, Keeper, Slot};
use crate::host::Host;
use crate::ids::{AccountId, AppId, CallerId};
use crate::policy::{Binding, CallerPolicy, Kept, Lapse, Lapsed, Mode, Rule};
use crate::secret::TokenDigest;
use crate::vault::{self, Account, Filter, Lenders, Vault};

/// What the store held at one moment, of what requests need.
#[derive(Default)]
pub struct Stored {
    pub(super) callers: Vec<config::Caller>,
    /// By id, those that are bound to some caller.
    pub(super) slots: HashMap<AccountId, Arc<Slot>>,
    /// Hosts that only their accounts know.
    pub(super) brought: Vec<(Origin, Arc<App>)>,
    /// Tokens that end before their caller does.
    pub(super) token_ends: Vec<(TokenDigest, SystemTime)>,
}

/// An account with what a binding needs of it.
struct Bound {
    account: Account,
    slot: Arc<Slot>,
}

impl Stored {
    /// Reads callers, and opens the accounts that they may use. An account that cannot be opened is
    /// left out and logged: it is nobody else's trouble.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn read(keeper: &Arc<Keeper>) -> Result<Self, vault::Error> {
        let vault = keeper.vault();
        let (callers, tokens) = (vault.callers().await?, vault.caller_tokens(None).await?);
        let bindings = vault.bindings().await?;
        let wanted: HashSet<&AccountId> = bindings.iter().map(|binding| &binding.account).collect();
        let accounts = read_accounts(vault, &wanted).await?;
        let lenders = read_lenders(vault, &bindings).await?;
        let mut sorted = Sorted::of(bindings, &lenders, &accounts);
        vault.ended_bindings().await?.into_iter().for_each(|ended| sorted.ended(ended));
        let accounts = sorted.lent(accounts);
        let (mut bound, mut unusable) = (HashMap::default(), HashMap::default());
        for accounts in accounts.chunks(AT_ONCE) {
            let slots = join_all(accounts.iter().map(|account| keeper.slot(account))).await;
            for (account, slot) in accounts.iter().cloned().zip(slots) {
                match slot {
                    Ok(slot) => drop(bound.insert(account.id.clone(), Bound { account, slot })),
                    // A store that goes away half-way takes nobody's account away.
                    Err(credentials::Error::Vault { source, .. }) if source.is_transient() => {
                        return Err(source);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "account left out");
                        unusable.insert(account.id.clone(), account);
                    }
                }
            }
        }
        let mut of_caller: BTreeMap<CallerId, Vec<Binding>> = BTreeMap::new();
        for binding in std::mem::take(&mut sorted.holding) {
            match (bound.get(&binding.account), unusable.get(&binding.account)) {
                (Some(held), _) => {
                    of_caller
                        .entry(binding.caller.clone())
                        .or_default()
                        .push(finish(&binding, held));
                }
                (None, Some(account)) => sorted.lapse(&binding.caller, account, Lapse::Unusable),
                (None, None) => {}
            }
        }
        let mut stored = Self::default();
        for caller in &callers {
            let bindings = of_caller.remove(&caller.name).unwrap_or_default();
            let lapsed = sorted.lapsed.remove(&caller.name).unwrap_or_default();
            let own = tokens.iter().filter(|token| token.caller == caller.name);
            let digests = own.map(|token| Token::Digest(token.digest)).collect();
            stored.callers.push(caller_of(caller, (bindings, lapsed), digests));
        }
        let ends = tokens.iter().filter_map(|token| Some((token.digest, token.expires_at?)));
        stored.token_ends = ends.collect();
        for held in bound.into_values() {
            let brought = config::origins_brought(held.slot.auth(), &held.account.fields);
            let app = &held.slot.app;
            stored.brought.extend(brought.into_iter().map(|origin| (origin, app.clone())));
            stored.slots.insert(held.account.id, held.slot);
        }
        Ok(stored)
    }

    pub fn into_callers(self) -> Vec<config::Caller> {
        self.callers
    }

    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }
}

/// Who may use which account. Without members' bindings there is nothing to read.
async fn read_lenders(vault: &Vault, bindings: &[vault::Binding]) -> Result<Lenders, vault::Error> {
    if bindings.iter().all(|binding| binding.created_by.is_none()) {
        return Ok(Lenders::default());
    }
    let members = vault.members().await?.into_iter();
    Ok(Lenders {
        members: members.map(|member| (member.id.clone(), member)).collect(),
        shares: vault.shares().await?.into_iter().collect(),
    })
}

/// The bindings that hold, and those that do not, by caller.
#[derive(Default)]
struct Sorted {
    holding: Vec<vault::Binding>,
    lapsed: HashMap<CallerId, Vec<Lapsed>>,
}

impl Sorted {
    fn of(bindings: Vec<vault::Binding>, lenders: &Lenders, accounts: &[Account]) -> Self {
        let by_id: HashMap<&AccountId, &Account> =
            accounts.iter().map(|account| (&account.id, account)).collect();
        let mut sorted = Self::default();
        for binding in bindings {
            // One whose account is deleted at this moment is gone at the next reading.
            let Some(account) = by_id.get(&binding.account) else { continue };
            match lenders.lapse(&binding, account) {
                None => sorted.holding.push(binding),
                Some(why) => sorted.lapse(&binding.caller, account, why),
            }
        }
        sorted
    }

    fn lapse(&mut self, caller: &CallerId, account: &Account, why: Lapse) {
        let lapsed = Lapsed {
            account: Some(account.nickname.clone()),
            id: account.id.clone(),
            app: account.app.clone(),
            why,
        };
        self.lapsed.entry(caller.clone()).or_default().push(lapsed);
    }

    fn ended(&mut self, ended: vault::EndedBinding) {
        let vault::EndedBinding { caller, account: id, app } = ended;
        let lapsed = Lapsed { account: None, id, app, why: Lapse::Deleted };
        self.lapsed.entry(caller).or_default().push(lapsed);
    }

    /// The accounts that are lent.
    fn lent(&self, accounts: Vec<Account>) -> Vec<Account> {
        let lent: HashSet<&AccountId> =
            self.holding.iter().map(|binding| &binding.account).collect();
        accounts.into_iter().filter(|account| lent.contains(&account.id)).collect()
    }
}

/// One question for many accounts: ten thousand of them take seconds otherwise.
async fn read_accounts(
    vault: &Vault,
    wanted: &HashSet<&AccountId>,
) -> Result<Vec<Account>, vault::Error> {
    if wanted.len() > FEW {
        let mut all = vault.accounts(&Filter::default()).await?;
        all.retain(|account| wanted.contains(&account.id));
        return Ok(all);
    }
    let mut found = Vec::new();
    for id in wanted {
        found.extend(vault.account(id).await?);
    }
    Ok(found)
}

/// Accounts that are opened at the same time.
const AT_ONCE: usize = 32;
/// Accounts that are read one by one.
const FEW: usize = 32;

/// All of an account, wherever its credential may go.
pub(super) fn binding_of(account: &Account, slot: &Slot) -> Binding {
    let names = (account.nickname.clone(), account.id.clone(), account.app.clone());
    whole(names, &account.fields, slot)
}

/// The same by what the account is called: its nickname, its id and its app.
pub(super) fn whole(
    (account, id, app): (AccountId, AccountId, AppId),
    fields: &BTreeMap<String, String>,
    slot: &Slot,
) -> Binding {
    Binding {
        account,
        id,
        app,
        hosts: hosts_of(fields, slot),
        open: config::open_hosts(slot.auth()),
        paths: Vec::new(),
        default: true,
    }
}

/// Where an account's credential may go. Whose fields give no host has none.
fn hosts_of(fields: &BTreeMap<String, String>, slot: &Slot) -> Vec<(Host, u16)> {
    let origins = config::origins(slot.auth(), fields).unwrap_or_default();
    let mut hosts: Vec<_> = origins.into_iter().map(|origin| (origin.host, origin.port)).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn finish(binding: &vault::Binding, held: &Bound) -> Binding {
    let Bound { account, slot } = held;
    let paths = binding.paths.iter().filter_map(|path| path.parse().ok()).collect::<Vec<_>>();
    Binding {
        // A path rule that does not parse must not make the binding wider than it was meant.
        default: binding.is_default && paths.len() == binding.paths.len(),
        paths,
        ..binding_of(account, slot)
    }
}

fn caller_of(
    caller: &vault::StoredCaller,
    (bindings, lapsed): (Vec<Binding>, Vec<Lapsed>),
    tokens: Vec<Token>,
) -> config::Caller {
    let details = &caller.details;
    let policy = CallerPolicy {
        caller: caller.name.clone(),
        mode: mode_of(caller),
        bindings,
        lapsed,
        rules: rules_of(caller).into(),
        kept: Kept::InStore,
    };
    config::Caller {
        id: caller.name.clone(),
        tokens,
        certificate: None,
        expires_at: details.expires_at,
        policy,
        rate: details.rate.as_deref().and_then(|rate| said(caller, "rate", Rate::from_text(rate))),
        max_concurrent: details.max_concurrent,
    }
}

/// What is not understood is taken for the stricter of the two.
fn mode_of(caller: &vault::StoredCaller) -> Mode {
    match caller.details.mode.as_deref() {
        Some("report") => Mode::Report,
        _ => Mode::Enforce,
    }
}

fn said<T>(caller: &vault::StoredCaller, part: &str, read: Result<T, String>) -> Option<T> {
    let warn = |error: &String| tracing::warn!(caller = %caller.name, part, %error, "left out");
    read.inspect_err(warn).ok()
}

/// One rule that does not read could be the one that denies: then none allows.
fn rules_of(caller: &vault::StoredCaller) -> Vec<Rule> {
    let finish = |(at, rule): (usize, &config::RuleText)| {
        rule.finish(&format!("callers.{}.rules[{at}]", caller.name))
    };
    let read = rules_from_json(&caller.details.rules);
    let rules = read.and_then(|rules| rules.iter().enumerate().map(finish).collect());
    rules.unwrap_or_else(|error: String| {
        tracing::error!(caller = %caller.name, %error, "a rule cannot be read; nothing is allowed");
        Vec::new()
    })
}
