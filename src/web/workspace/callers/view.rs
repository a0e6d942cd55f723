//! Callers as pages show them. Who may not see an account sees that *an* account of its app is
//! used, and neither its name nor whose it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::Trouble;
use super::super::shell::Moment;
use super::super::visit::Visit;
use crate::catalog::Catalog;
use crate::config::{RuleEffect, RuleText};
use crate::connect::callers::rules_of;
use crate::forward::World;
use crate::ids::{AccountId, CallerId, MemberId};
use crate::policy::access::{CallerOperation, Operation, Standing, may, may_with_caller};
use crate::policy::{Effect, Lapse, Mode};
use crate::vault::{self, Account, Binding, EndedBinding, Filter, Lenders, Member, StoredCaller};
use crate::web::html::monogram;

/// What pages about callers read.
pub struct Ledger {
    pub me: Member,
    pub now: SystemTime,
    pub world: Arc<World>,
    pub catalog: Arc<Catalog>,
    pub callers: Vec<StoredCaller>,
    pub bindings: Vec<Binding>,
    pub accounts: HashMap<AccountId, Account>,
    /// Bindings that ended with their accounts.
    ended: Vec<EndedBinding>,
    lenders: Lenders,
}

impl Ledger {
    pub async fn read(visit: &Visit<'_>) -> Result<Self, Trouble> {
        let vault = visit.vault();
        let bindings = vault.bindings().await?;
        let filter = Filter { no_external_users: true, ..Filter::default() };
        let listed = vault.accounts(&filter).await?;
        let mut accounts: HashMap<AccountId, Account> =
            listed.into_iter().map(|account| (account.id.clone(), account)).collect();
        for binding in &bindings {
            if !accounts.contains_key(&binding.account) {
                let account = vault.account(&binding.account).await?;
                accounts.extend(account.map(|account| (account.id.clone(), account)));
            }
        }
        let members = vault.members().await?;
        Ok(Self {
            me: visit.member().clone(),
            now: visit.now(),
            world: visit.workspace.forwarder.world(),
            catalog: visit.workspace.keeper.catalog(),
            callers: vault.callers().await?,
            bindings,
            accounts,
            ended: vault.ended_bindings().await?,
            lenders: Lenders {
                members: members.into_iter().map(|member| (member.id.clone(), member)).collect(),
                shares: vault.shares().await?.into_iter().collect(),
            },
        })
    }

    pub fn caller(&self, name: &str) -> Option<&StoredCaller> {
        self.callers.iter().find(|caller| caller.name.as_str() == name)
    }

    /// Whether a caller of the store or of the configuration is called so.
    pub fn is_taken(&self, name: &CallerId) -> bool {
        self.world.caller(name.as_str()).is_some() || self.caller(name.as_str()).is_some()
    }

    pub fn bindings_of<'l>(&'l self, caller: &'l CallerId) -> impl Iterator<Item = &'l Binding> {
        self.bindings.iter().filter(move |binding| binding.caller == *caller)
    }

    pub fn standing(&self, account: &Account) -> Standing {
        self.lenders.shares.standing(&self.me, account)
    }

    /// What the member may do to an account; nothing to one that is not there.
    pub fn may_account(&self, id: &AccountId, operation: Operation) -> bool {
        let account = self.accounts.get(id);
        account.is_some_and(|account| may(self.standing(account), operation))
    }

    /// What the member may do to a caller of the store.
    pub fn may(&self, caller: &CallerId, operation: CallerOperation) -> bool {
        let strange = Standing { role: self.me.role, owns: false, shared: false };
        let standings = self.bindings_of(caller).map(|binding| {
            self.accounts.get(&binding.account).map_or(strange, |account| self.standing(account))
        });
        may_with_caller(self.me.role, &standings.collect::<Vec<_>>(), operation)
    }

    /// The accounts that the member may bind, by name.
    pub fn bindable(&self) -> Vec<&Account> {
        let may_bind = |account: &&Account| may(self.standing(account), Operation::Bind);
        let mut accounts: Vec<&Account> = self.accounts.values().filter(may_bind).collect();
        accounts.sort_by_key(|account| account.nickname.as_str().to_lowercase());
        accounts
    }

    pub fn app_name(&self, app: &str) -> String {
        self.catalog.app(app).map_or_else(|| app.to_owned(), |app| app.name.clone())
    }

    /// A member by their id as text, such as an entry of the audit has.
    pub fn person(&self, id: &str) -> String {
        match id.parse::<MemberId>() {
            Ok(id) => self.member_name(Some(&id)),
            Err(_) => "A former member".to_owned(),
        }
    }

    fn member_name(&self, id: Option<&MemberId>) -> String {
        match id {
            None => "The operator".to_owned(),
            Some(id) if *id == self.me.id => "You".to_owned(),
            Some(id) => self
                .lenders
                .members
                .get(id)
                .map_or_else(|| "A former member".to_owned(), |m| m.name.clone()),
        }
    }

    pub fn used(&self, binding: &Binding) -> Option<Used> {
        let account = self.accounts.get(&binding.account)?;
        let sees = may(self.standing(account), Operation::See);
        Some(Used {
            id: account.id.to_string(),
            name: sees.then(|| account.nickname.to_string()),
            face: Face::of(account.app.as_str(), self.app_name(account.app.as_str())),
            default: binding.is_default,
            paths: if sees { binding.paths.clone() } else { Vec::new() },
            lapse: self.lenders.lapse(binding, account),
            bound_by: sees.then(|| match &binding.created_by {
                Some(id) if *id == self.me.id => "you".to_owned(),
                by => self.member_name(by.as_ref()),
            }),
        })
    }

    /// The apps of which a caller had an account that was deleted, and has none in its place.
    pub fn lost<'l>(&'l self, caller: &'l CallerId) -> impl Iterator<Item = Face> + 'l {
        let ended = self.ended.iter().filter(move |ended| ended.caller == *caller);
        ended.map(|ended| Face::of(ended.app.as_str(), self.app_name(ended.app.as_str())))
    }

    /// A caller of the store.
    pub fn line(&self, caller: &StoredCaller) -> Line {
        let details = &caller.details;
        let report = details.mode.as_deref() == Some("report");
        Line {
            name: caller.name.to_string(),
            description: details.description.clone(),
            uses: self.bindings_of(&caller.name).filter_map(|b| self.used(b)).collect(),
            lost: self.lost(&caller.name).collect(),
            report,
            rate: details.rate.clone(),
            max_concurrent: details.max_concurrent,
            expires: Moment::maybe(details.expires_at, self.now),
            expired: details.expires_at.is_some_and(|at| at <= self.now),
            owner: self.member_name(caller.created_by.as_ref()),
            declared: false,
            last_used: None,
        }
    }

    /// A caller of the configuration. Its accounts are the operator's.
    pub fn declared(&self, caller: &crate::forward::Caller) -> Line {
        let uses = caller.policy.bindings.iter().map(|binding| Used {
            id: String::new(),
            name: self.me.role.administers().then(|| binding.account.to_string()),
            face: Face::of(binding.app.as_str(), self.app_name(binding.app.as_str())),
            default: binding.default,
            paths: binding.paths.iter().map(|path| path.source().to_owned()).collect(),
            lapse: None,
            bound_by: None,
        });
        Line {
            name: caller.id.to_string(),
            description: String::new(),
            uses: uses.collect(),
            lost: Vec::new(),
            report: caller.policy.mode == Mode::Report,
            rate: None,
            max_concurrent: None,
            expires: Moment::maybe(caller.expires_at, self.now),
            expired: caller.expires_at.is_some_and(|at| at <= self.now),
            owner: "The configuration".to_owned(),
            declared: true,
            last_used: None,
        }
    }

    /// All callers, by name.
    pub fn lines(&self) -> Vec<Line> {
        let declared = self.world.callers().filter(|caller| !caller.is_stored());
        let declared = declared.map(|caller| self.declared(caller));
        let mut lines: Vec<Line> =
            self.callers.iter().map(|caller| self.line(caller)).chain(declared).collect();
        lines.sort_by_key(|line| line.name.to_lowercase());
        lines
    }

    /// The rules of a caller of the store, with names of accounts only where the member sees them.
    pub fn rules(&self, caller: &StoredCaller) -> Result<Vec<RuleLine>, Trouble> {
        let rules = rules_of(caller).map_err(|error| Trouble::Bad(error.to_string()))?;
        let lines = rules.iter().enumerate().map(|(at, rule)| self.rule(caller, at, rule));
        Ok(lines.collect())
    }

    fn rule(&self, caller: &StoredCaller, at: usize, rule: &RuleText) -> RuleLine {
        let app = rule.app.as_deref().map(|app| self.app_name(app));
        RuleLine {
            at,
            name: format!("callers.{}.rules[{at}]", caller.name),
            denies: rule.effect == RuleEffect::Deny,
            app,
            account: rule.account.as_deref().map(|named| self.account_said(named)),
            host: rule.host.clone(),
            methods: rule.methods.clone(),
            paths: rule.paths.clone(),
        }
    }

    /// An account as a rule names it, by nickname or id.
    pub fn account_said(&self, named: &str) -> String {
        let called =
            |account: &&Account| account.id.as_str() == named || account.nickname.as_str() == named;
        match self.accounts.values().find(called) {
            Some(account) if may(self.standing(account), Operation::See) => {
                account.nickname.to_string()
            }
            Some(account) => format!("an account of {}", self.app_name(account.app.as_str())),
            None if self.me.role.administers() => named.to_owned(),
            None => "another account".to_owned(),
        }
    }

    /// Whether the member sees every account that a caller uses, so that answers about it need no
    /// veil.
    pub fn sees_all_of(&self, caller: &crate::forward::Caller) -> bool {
        match caller.is_stored() {
            false => self.me.role.administers(),
            true => caller
                .policy
                .bindings
                .iter()
                .all(|binding| self.may_account(&binding.id, Operation::See)),
        }
    }
}

/// An app's monogram.
#[derive(Debug, Clone)]
pub struct Face {
    pub app: String,
    pub app_name: String,
    pub letter: String,
    pub hue: u8,
}

impl Face {
    pub fn of(app: &str, app_name: String) -> Self {
        let (letter, hue) = monogram(&app_name);
        Self { app: app.to_owned(), app_name, letter, hue }
    }
}

/// An account that a caller uses.
pub struct Used {
    pub id: String,
    /// `None` for who may not see it.
    pub name: Option<String>,
    pub face: Face,
    pub default: bool,
    pub paths: Vec<String>,
    /// Why it is in force no more.
    pub lapse: Option<Lapse>,
    pub bound_by: Option<String>,
}

impl Used {
    pub fn said(&self) -> String {
        let veiled = || format!("an account of {}", self.face.app_name);
        self.name.clone().unwrap_or_else(veiled)
    }
}

/// A caller in a list.
pub struct Line {
    pub name: String,
    pub description: String,
    pub uses: Vec<Used>,
    /// Apps whose account it had until that was deleted.
    pub lost: Vec<Face>,
    pub report: bool,
    pub rate: Option<String>,
    pub max_concurrent: Option<u32>,
    pub expires: Option<Moment>,
    pub expired: bool,
    pub owner: String,
    pub declared: bool,
    pub last_used: Option<Moment>,
}

impl Line {
    /// Whether it has all words somewhere.
    pub fn matches(&self, words: &str) -> bool {
        let uses = self.uses.iter().flat_map(|used| [used.said(), used.face.app_name.clone()]);
        let own = [&self.name, &self.description, &self.owner].map(Clone::clone);
        let text = own.into_iter().chain(uses).collect::<Vec<_>>().join("\n").to_lowercase();
        words.split_whitespace().all(|word| text.contains(&word.to_lowercase()))
    }

    /// The first few of its accounts, for a list.
    pub fn first_uses(&self) -> &[Used] {
        &self.uses[..self.uses.len().min(3)]
    }

    pub fn more_uses(&self) -> usize {
        self.uses.len().saturating_sub(3)
    }
}

/// A rule as it is shown.
pub struct RuleLine {
    pub at: usize,
    /// As decisions name it.
    pub name: String,
    pub denies: bool,
    pub app: Option<String>,
    pub account: Option<String>,
    pub host: Option<String>,
    pub methods: Vec<String>,
    pub paths: Vec<String>,
}

impl RuleLine {
    /// A rule of the configuration.
    pub fn declared(ledger: &Ledger, at: usize, rule: &crate::policy::Rule) -> Self {
        Self {
            at,
            name: rule.name.to_string(),
            denies: rule.effect == Effect::Deny,
            app: rule.app.as_ref().map(|app| ledger.app_name(app.as_str())),
            account: rule.account.as_ref().map(|account| ledger.account_said(account.as_str())),
            host: rule.host.as_ref().map(ToString::to_string),
            methods: rule.methods.iter().map(ToString::to_string).collect(),
            paths: rule.paths.iter().map(|path| path.source().to_owned()).collect(),
        }
    }

    /// It speaks of everything.
    pub fn is_bare(&self) -> bool {
        let parts = [&self.app, &self.account, &self.host];
        parts.iter().all(|part| part.is_none()) && self.methods.is_empty() && self.paths.is_empty()
    }
}

/// A caller of the store that the member may treat so.
pub async fn caller_for(
    visit: &Visit<'_>,
    ledger: &Ledger,
    name: &str,
    operation: CallerOperation,
) -> Result<StoredCaller, Trouble> {
    let Some(caller) = ledger.caller(name) else {
        return Err(match ledger.world.caller(name).is_some_and(|caller| !caller.is_stored()) {
            true => {
                Trouble::Forbidden("This caller is declared in the configuration; change it there.")
            }
            false => Trouble::NotFound,
        });
    };
    match ledger.may(&caller.name, operation) {
        true => Ok(caller.clone()),
        false => {
            tracing::debug!(member = %visit.member().id, caller = %caller.name, "refused");
            Err(Trouble::Forbidden(refusal(operation)))
        }
    }
}

fn refusal(operation: CallerOperation) -> &'static str {
    match operation {
        CallerOperation::Change => {
            "This caller uses an account that is not shared with you. Whoever may change it could use \
             that account, so it is for those who may. You can put an account of your own in its place."
        }
        CallerOperation::Revoke => {
            "Only those who may use all of this caller's accounts, and owners and admins, may revoke it."
        }
        CallerOperation::See | CallerOperation::Test | CallerOperation::SwapAccount => {
            "You may not do this."
        }
    }
}

impl From<crate::connect::callers::CallerError> for Trouble {
    fn from(error: crate::connect::callers::CallerError) -> Self {
        use crate::connect::callers::CallerError;
        match error {
            CallerError::Store(error) => Self::Store(error),
            CallerError::NoRandom(_) => Self::Store(vault::Error::no_random()),
            other => Self::Bad(other.to_string()),
        }
    }
}
