//! The accounts that a member may send a request with: those of the store that they may bind, and,
//! for owners and admins, those of the configuration, which are the operator's.

use std::sync::Arc;

use super::super::Trouble;
use super::super::visit::Visit;
use crate::catalog::Catalog;
use crate::config;
use crate::credentials::{self, Keeper, Slot};
use crate::ids::AppId;
use crate::policy::access::{Operation, may};
use crate::vault::{Account, Filter, Shares};

/// An account that may be chosen.
#[derive(Clone)]
pub struct Candidate {
    /// `apn_…`
    pub id: String,
    pub nickname: String,
    pub app: AppId,
    pub app_name: String,
    /// Who it is at the provider, where that is known.
    pub identity: Option<String>,
    of: Of,
}

#[derive(Clone)]
enum Of {
    Stored(Box<Account>),
    Declared(Arc<Slot>),
}

/// By app and name.
pub async fn candidates(visit: &Visit<'_>, catalog: &Catalog) -> Result<Vec<Candidate>, Trouble> {
    let (vault, member) = (visit.vault(), visit.member());
    let shares: Shares = vault.shares().await?.into_iter().collect();
    let filter = Filter { no_external_users: true, ..Filter::default() };
    let accounts = vault.accounts(&filter).await?.into_iter();
    let may_bind = |account: &Account| may(shares.standing(member, account), Operation::Bind);
    let stored = accounts.filter(may_bind).map(|account| Candidate::stored_one(catalog, account));
    let mut found: Vec<Candidate> = stored.collect();
    if member.role.administers() {
        let world = visit.workspace.forwarder.world();
        let declared = world.slots.iter().filter(|slot| !slot.is_stored());
        found.extend(declared.cloned().map(Candidate::declared));
    }
    found.sort_by_cached_key(|one| (one.app_name.to_lowercase(), one.nickname.to_lowercase()));
    Ok(found)
}

impl Candidate {
    fn stored_one(catalog: &Catalog, account: Account) -> Self {
        let app = catalog.app(account.app.as_str());
        Self {
            id: account.id.to_string(),
            nickname: account.nickname.to_string(),
            app_name: app.map_or_else(|| account.app.to_string(), |app| app.name.clone()),
            app: account.app.clone(),
            identity: account.identity.clone(),
            of: Of::Stored(Box::new(account)),
        }
    }

    fn declared(slot: Arc<Slot>) -> Self {
        Self {
            id: slot.id.to_string(),
            nickname: slot.account.to_string(),
            app: slot.app.id.clone(),
            app_name: slot.app.name.clone(),
            identity: Some("in the configuration".to_owned()),
            of: Of::Declared(slot),
        }
    }

    /// The account, unless it stands in the configuration.
    pub fn stored(&self) -> Option<&Account> {
        match &self.of {
            Of::Stored(account) => Some(account),
            Of::Declared(_) => None,
        }
    }

    /// # Errors
    /// When its credential cannot be opened.
    pub async fn slot(&self, keeper: &Arc<Keeper>) -> Result<Arc<Slot>, credentials::Error> {
        match &self.of {
            Of::Stored(account) => keeper.slot(account).await,
            Of::Declared(slot) => Ok(slot.clone()),
        }
    }

    /// Whether it has all words somewhere.
    pub fn matches(&self, words: &str) -> bool {
        let identity = self.identity.as_deref().unwrap_or_default();
        let all = [&*self.nickname, self.app.as_str(), &*self.app_name, identity];
        let text = all.join("\n").to_lowercase();
        words.split_whitespace().all(|word| text.contains(&word.to_lowercase()))
    }

    /// Whether a URL is on one of its hosts.
    pub fn reaches(&self, catalog: &Catalog, url: &str) -> bool {
        let Ok(url) = url::Url::parse(url) else { return false };
        let origins = match &self.of {
            Of::Declared(slot) => config::origins(slot.auth(), slot.fields()),
            Of::Stored(account) => {
                let app = catalog.app(account.app.as_str());
                let Some(auth) = app.and_then(|app| app.auth(&account.auth)) else { return false };
                config::origins(auth, &account.fields)
            }
        };
        let origins = origins.unwrap_or_default();
        let mut hosts = origins.iter().map(|origin| origin.host.as_str());
        url.host_str().is_some_and(|host| hosts.any(|own| own == host))
    }
}
