//! Callers and accounts of the store, as the snapshot takes them in: the same values that the
//! configuration gives.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;

use crate::catalog::{App, Origin};
use crate::config::{self, Rate, Token, rules_from_json};
use crate::credentials::{self, Keeper, Slot};
use crate::host::Host;
use crate::ids::{AccountId, CallerId, MemberId};
use crate::policy::access::{Operation, may};
use crate::policy::{Binding, CallerPolicy, Kept, Mode, Rule};
use crate::secret::TokenDigest;
use crate::vault::{self, Account, Filter, Member, Shares, Vault};

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
        let access = Access::read(vault, &bindings).await?;
        let (bindings, accounts) = access.allowed(bindings, &accounts);
        let mut bound = HashMap::new();
        for accounts in accounts.chunks(AT_ONCE) {
            let slots = join_all(accounts.iter().map(|account| keeper.slot(account))).await;
            for (account, slot) in accounts.iter().cloned().zip(slots) {
                match slot {
                    Ok(slot) => drop(bound.insert(account.id.clone(), Bound { account, slot })),
                    // A store that goes away half-way takes nobody's account away.
                    Err(credentials::Error::Vault { source, .. }) if source.is_transient() => {
                        return Err(source);
                    }
                    Err(error) => tracing::warn!(%error, "account left out"),
                }
            }
        }
        let mut of_caller: BTreeMap<CallerId, Vec<Binding>> = BTreeMap::new();
        for binding in &bindings {
            let Some(held) = bound.get(&binding.account) else { continue };
            of_caller.entry(binding.caller.clone()).or_default().push(finish(binding, held));
        }
        let mut stored = Self::default();
        for caller in &callers {
            let bindings = of_caller.remove(&caller.name).unwrap_or_default();
            let own = tokens.iter().filter(|token| token.caller == caller.name);
            let digests = own.map(|token| Token::Digest(token.digest)).collect();
            stored.callers.push(caller_of(caller, bindings, digests));
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

/// Who may use which account: what the bindings rest on.
struct Access {
    members: HashMap<MemberId, Member>,
    shares: Shares,
}

impl Access {
    async fn read(vault: &Vault, bindings: &[vault::Binding]) -> Result<Self, vault::Error> {
        let (mut members, mut shares) = (HashMap::new(), Shares::default());
        if bindings.iter().any(|binding| binding.created_by.is_some()) {
            let all = vault.members().await?;
            members = all.into_iter().map(|member| (member.id.clone(), member)).collect();
            shares = vault.shares().await?.into_iter().collect();
        }
        Ok(Self { members, shares })
    }

    /// The bindings that hold, and the accounts that they lend.
    fn allowed(
        &self,
        bindings: Vec<vault::Binding>,
        accounts: &[Account],
    ) -> (Vec<vault::Binding>, Vec<Account>) {
        let by_id: HashMap<&AccountId, &Account> =
            accounts.iter().map(|account| (&account.id, account)).collect();
        let holds = |binding: &vault::Binding| {
            by_id.get(&binding.account).is_some_and(|account| self.holds(binding, account))
        };
        let bindings: Vec<_> = bindings.into_iter().filter(holds).collect();
        let lent: HashSet<&AccountId> = bindings.iter().map(|binding| &binding.account).collect();
        let lent = |account: &Account| lent.contains(&account.id);
        let accounts = accounts.iter().filter(|account| lent(account)).cloned().collect();
        (bindings, accounts)
    }

    /// A binding holds for as long as the member who made it may bind the account: whoever loses
    /// an account takes it from all callers to which they gave it (DESIGN.md §9).
    fn holds(&self, binding: &vault::Binding, account: &Account) -> bool {
        let Some(by) = &binding.created_by else { return true };
        let member = self.members.get(by).filter(|member| member.disabled_at.is_none());
        member.is_some_and(|member| may(self.shares.standing(member, account), Operation::Bind))
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

/// Where an account's credential may go. Whose fields give no host has none.
pub(super) fn hosts_of(account: &Account, slot: &Slot) -> Vec<(Host, u16)> {
    let origins = config::origins(slot.auth(), &account.fields).unwrap_or_default();
    let mut hosts: Vec<_> = origins.into_iter().map(|origin| (origin.host, origin.port)).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn finish(binding: &vault::Binding, held: &Bound) -> Binding {
    let Bound { account, slot } = held;
    let hosts = hosts_of(account, slot);
    let paths = binding.paths.iter().filter_map(|path| path.parse().ok()).collect::<Vec<_>>();
    Binding {
        account: account.nickname.clone(),
        id: account.id.clone(),
        app: account.app.clone(),
        hosts,
        open: config::open_hosts(slot.auth()),
        // A path rule that does not parse must not make the binding wider than it was meant.
        default: binding.is_default && paths.len() == binding.paths.len(),
        paths,
    }
}

fn caller_of(
    caller: &vault::StoredCaller,
    bindings: Vec<Binding>,
    tokens: Vec<Token>,
) -> config::Caller {
    let details = &caller.details;
    let policy = CallerPolicy {
        caller: caller.name.clone(),
        mode: mode_of(caller),
        bindings,
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
