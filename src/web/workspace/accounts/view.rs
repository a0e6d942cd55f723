//! Accounts as pages show them: in words, with the names of members and callers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::Trouble;
use super::super::shell::{Moment, counted};
use super::super::visit::Visit;
use crate::catalog::Catalog;
use crate::ids::{AccountId, MemberId};
use crate::policy::access::Standing;
use crate::vault::{self, Account, Binding, Member, Owner, Share, Shares};
use crate::web::html::monogram;

/// What pages about accounts read beside them.
pub struct Book {
    me: Member,
    now: SystemTime,
    catalog: Arc<Catalog>,
    pub members: HashMap<MemberId, Member>,
    pub shares: Shares,
    pub bindings: Vec<Binding>,
    /// Places in `bindings`.
    of_account: HashMap<AccountId, Vec<usize>>,
}

impl Book {
    pub async fn read(visit: &Visit<'_>) -> Result<Self, Trouble> {
        let vault = visit.vault();
        let members = vault.members().await?;
        let bindings = vault.bindings().await?;
        let mut of_account: HashMap<AccountId, Vec<usize>> = HashMap::new();
        for (at, binding) in bindings.iter().enumerate() {
            of_account.entry(binding.account.clone()).or_default().push(at);
        }
        Ok(Self {
            me: visit.member().clone(),
            now: visit.now(),
            catalog: visit.workspace.keeper.catalog(),
            members: members.into_iter().map(|member| (member.id.clone(), member)).collect(),
            shares: vault.shares().await?.into_iter().collect(),
            bindings,
            of_account,
        })
    }

    pub fn standing(&self, account: &Account) -> Standing {
        self.shares.standing(&self.me, account)
    }

    pub fn bindings_of<'b>(&'b self, account: &AccountId) -> impl Iterator<Item = &'b Binding> {
        let places = self.of_account.get(account).map_or(&[][..], Vec::as_slice);
        places.iter().map(|at| &self.bindings[*at])
    }

    /// The names of the callers that use an account.
    pub fn callers_of(&self, account: &AccountId) -> Vec<String> {
        self.bindings_of(account).map(|binding| binding.caller.to_string()).collect()
    }

    pub fn app_name(&self, account: &Account) -> String {
        let app = self.catalog.app(account.app.as_str());
        app.map_or_else(|| account.app.to_string(), |app| app.name.clone())
    }

    pub fn line(&self, account: &Account) -> Line {
        let app_name = self.app_name(account);
        let (letter, hue) = monogram(&app_name);
        let used = account.health.last_used_at.filter(|at| *at > account.created_at);
        Line {
            id: account.id.to_string(),
            nickname: account.nickname.to_string(),
            app: account.app.to_string(),
            app_name,
            letter,
            hue,
            identity: account.identity.clone().unwrap_or_default(),
            owner: self.owner(account),
            access: self.access(account),
            standing: self.standing(account),
            health: Health::of(account, self.now),
            last_used: Moment::maybe(used, self.now),
            callers: self.callers_of(&account.id),
        }
    }

    fn owner(&self, account: &Account) -> String {
        match &account.owner {
            Owner::Workspace => "The workspace".to_owned(),
            Owner::Member(id) if *id == self.me.id => "You".to_owned(),
            Owner::Member(id) => self.name(id),
            Owner::ExternalUser(_) => "A user of yours".to_owned(),
        }
    }

    pub fn name(&self, id: &MemberId) -> String {
        self.members.get(id).map_or_else(|| "A former member".to_owned(), |m| m.name.clone())
    }

    fn access(&self, account: &Account) -> String {
        match self.shares.of(&account.id) {
            [] => "Private".to_owned(),
            shares if shares.contains(&Share::Workspace) => "Whole workspace".to_owned(),
            [Share::Member(one)] if *one == self.me.id => "You".to_owned(),
            [Share::Member(one)] => self.name(one),
            shares => counted(shares.len(), "member"),
        }
    }
}

/// An account in a list.
pub struct Line {
    pub id: String,
    pub nickname: String,
    pub app: String,
    pub app_name: String,
    pub letter: String,
    pub hue: u8,
    pub identity: String,
    pub owner: String,
    pub access: String,
    pub standing: Standing,
    pub health: Health,
    pub last_used: Option<Moment>,
    pub callers: Vec<String>,
}

impl Line {
    /// Whether it has all words somewhere.
    pub fn matches(&self, words: &str) -> bool {
        let all = [&*self.nickname, &*self.app, &*self.app_name, &*self.identity, &*self.owner];
        let text = all.join("\n").to_lowercase();
        words.split_whitespace().all(|word| text.contains(&word.to_lowercase()))
    }

    pub fn is_private(&self) -> bool {
        self.access == "Private"
    }
}

/// How an account fares, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub state: State,
    /// The provider's words.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Works,
    /// The last renewals failed; what is held may still be good.
    Failing,
    /// The access token has ended and nothing renews it.
    Expired,
    Dead,
}

impl Health {
    pub fn of(account: &Account, now: SystemTime) -> Self {
        let health = &account.health;
        let ended = health.expires_at.is_some_and(|at| at <= now);
        let state = match () {
            () if health.dead => State::Dead,
            () if ended && health.next_refresh_at.is_none() => State::Expired,
            () if health.is_unhealthy() => State::Failing,
            () => State::Works,
        };
        let error = health.error.as_ref().map(|error| match error.message.as_str() {
            "" => error.code.clone(),
            message => message.to_owned(),
        });
        Self { state, error: error.filter(|_| state != State::Works) }
    }

    pub fn is_good(&self) -> bool {
        self.state == State::Works
    }

    pub fn label(&self) -> &'static str {
        match self.state {
            State::Works => "Works",
            State::Failing => "Renewal fails",
            State::Expired => "Expired",
            State::Dead => "Needs reconnecting",
        }
    }

    pub fn badge(&self) -> &'static str {
        match self.state {
            State::Works => "badge-ok",
            State::Failing => "badge-warn",
            State::Expired | State::Dead => "badge-danger",
        }
    }

    /// What helps.
    pub fn advice(&self) -> &'static str {
        match self.state {
            State::Works => "",
            State::Failing => "It is tried again by itself. What is held serves until it ends.",
            State::Expired => {
                "The provider gave nothing to renew it with. Its owner reconnects it."
            }
            State::Dead => "The provider took the grant back. Its owner reconnects it.",
        }
    }
}

/// Callers whose rules name an account, so that they mean nothing once it is called otherwise.
pub async fn named_in_rules(visit: &Visit<'_>, name: &str) -> Result<Vec<String>, vault::Error> {
    let callers = visit.vault().callers().await?;
    let names = |caller: &&vault::StoredCaller| {
        let rules = crate::config::rules_from_json(&caller.details.rules).unwrap_or_default();
        rules.iter().any(|rule| rule.account.as_deref() == Some(name))
    };
    Ok(callers.iter().filter(names).map(|caller| caller.name.to_string()).collect())
}
