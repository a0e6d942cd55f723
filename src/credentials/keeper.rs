//! Stored accounts in memory, and who refreshes them: the request that finds a token expired, the
//! origin that refuses one, and the schedule all come here, and one flight serves them all.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::faults::Faults;
use super::flight::{self, Reason};
use super::links::Links;
use super::refused::Reaction;
use super::registered::Registered;
use super::stored::{gone, version_of};
use super::{Error, Slot, Unavailable};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::ids::{AccountId, AppId, OAuthClientId};
use crate::oauth::Engine;
use crate::telemetry::Telemetry;
use crate::vault::{Account, Change, Credentials, Vault};

/// How long a request waits for a token that has expired.
const DEMAND_PATIENCE: Duration = Duration::from_secs(15);
/// Calls that one endpoint gets at a time, where the definition does not say; see [`Engine`].
const USUAL_CALLS: u16 = 8;
/// Refresh tokens die when they are not used: after 30 days at the strictest of the big providers,
/// a week at some. Once a day is far from that.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Settings {
    pub vault: Vault,
    pub engine: Engine,
    pub telemetry: Arc<Telemetry>,
    pub clock: Clock,
    pub catalog: Arc<Catalog>,
    /// Who is told of changes of an account's health.
    pub webhook: Option<String>,
    /// Where owners connect dead accounts anew.
    pub links: Option<Arc<Links>>,
    pub record: Record,
}

/// Where a process records what happens to accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// In its own audit. A server also takes the notes of others into it.
    Audit { takes_notes: bool },
    /// In notes, which a server takes into its audit: a command.
    Notes { by: String },
}

/// Looks after the accounts of one vault.
pub struct Keeper {
    pub(super) vault: Vault,
    pub(super) engine: Engine,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) clock: Clock,
    pub(super) webhook: Option<String>,
    links: Option<Arc<Links>>,
    pub(super) record: Record,
    catalog: ArcSwap<Catalog>,
    /// Those that requests may use.
    pub(super) slots: Mutex<HashMap<AccountId, Weak<Slot>>>,
    /// Those that requests might use, had they been readable: a change may mend them.
    left_out: Mutex<HashSet<AccountId>>,
    /// Under way in this process, with what wakes those who wait.
    pub(super) flights: Mutex<HashMap<AccountId, UnderWay>>,
    /// For refreshes that nobody waits for, by app.
    turns: Mutex<HashMap<AppId, Arc<Semaphore>>>,
    pub(super) clients: Mutex<HashMap<OAuthClientId, Arc<Registered>>>,
    pub(super) faults: Mutex<Faults>,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

impl Keeper {
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            vault: settings.vault,
            engine: settings.engine,
            telemetry: settings.telemetry,
            clock: settings.clock,
            webhook: settings.webhook,
            links: settings.links,
            record: settings.record,
            catalog: ArcSwap::new(settings.catalog),
            slots: Mutex::default(),
            left_out: Mutex::default(),
            flights: Mutex::default(),
            turns: Mutex::default(),
            clients: Mutex::default(),
            faults: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn links(&self) -> Option<&Arc<Links>> {
        self.links.as_ref()
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// After a reload.
    pub fn use_catalog(&self, catalog: Arc<Catalog>) {
        self.catalog.store(catalog);
    }

    /// The account as requests use it. One that did not change is the same slot as before.
    ///
    /// # Errors
    /// When the row cannot be read or opened, or its app is not known.
    pub async fn slot(self: &Arc<Self>, account: &Account) -> Result<Arc<Slot>, Error> {
        let found = self.find_slot(account).await;
        let mut left_out = self.left_out.lock();
        match &found {
            Ok(_) => drop(left_out.remove(&account.id)),
            Err(_) => drop(left_out.insert(account.id.clone())),
        }
        drop(left_out);
        found
    }

    async fn find_slot(self: &Arc<Self>, account: &Account) -> Result<Arc<Slot>, Error> {
        let catalog = self.catalog();
        let app = catalog.app(account.app.as_str());
        let held = self.held(&account.id).filter(|slot| {
            slot.describes(account) && app.is_some_and(|app| Arc::ptr_eq(&slot.app, app))
        });
        if let Some(slot) = &held
            && slot.current().version >= version_of(account)
        {
            return Ok(slot.clone());
        }
        let app = app.ok_or_else(|| Error::Definition {
            account: account.nickname.clone(),
            text: format!("there is no app \"{}\"", account.app),
        })?;
        let failed = |source| Error::Vault { account: account.nickname.clone(), source };
        let opened = self.vault.open_account(&account.id).await.map_err(failed)?;
        let (account, credentials) = opened.ok_or_else(|| Error::Definition {
            account: account.nickname.clone(),
            text: "it was deleted".to_owned(),
        })?;
        // Requests under way wait for the slot that they have, so a new credential goes there.
        if let Some(slot) = held.filter(|slot| slot.describes(&account)) {
            slot.adopt(&account, &credentials);
            return Ok(slot);
        }
        let slot = Arc::new(Slot::stored(&account, &credentials, app, self)?);
        self.slots.lock().insert(account.id, Arc::downgrade(&slot));
        Ok(slot)
    }

    fn held(&self, id: &AccountId) -> Option<Arc<Slot>> {
        self.slots.lock().get(id)?.upgrade()
    }

    /// Takes in what another node or process changed. True when more than credentials did, so that
    /// the snapshot of callers and accounts has to be made anew.
    pub async fn take_in(&self, change: &Change) -> bool {
        match change {
            Change::Account(id) => self.read_again(id).await,
            Change::OAuthClient(id) => {
                self.clients.lock().remove(id);
                self.faults.lock().forget(id);
                self.look_again();
                false
            }
            Change::Access | Change::Apps => true,
            Change::Everything => {
                self.clients.lock().clear();
                self.faults.lock().forget_all();
                true
            }
        }
    }

    async fn read_again(&self, id: &AccountId) -> bool {
        // An account that no caller may use concerns no request, whatever happens to it.
        let Some(slot) = self.held(id) else { return self.left_out.lock().contains(id) };
        match self.vault.account(id).await {
            Ok(Some(account)) if !slot.describes(&account) => true,
            Ok(Some(account)) if version_of(&account) <= slot.current().version => false,
            Ok(Some(_)) => {
                self.adopt_stored(id).await;
                false
            }
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(account = %slot.account, %error, "change could not be read");
                false
            }
        }
    }

    /// Whoever could not be renewed may be now.
    fn look_again(&self) {
        let slots: Vec<_> = self.slots.lock().values().filter_map(Weak::upgrade).collect();
        slots.iter().for_each(|slot| slot.look_again());
    }

    /// The row as it is now, also in the slot if there is one.
    pub(super) async fn adopt_stored(&self, id: &AccountId) -> Option<Account> {
        let opened = self.vault.open_account(id).await;
        let (account, credentials) = opened.ok().flatten()?;
        self.adopt(&account, &credentials);
        Some(account)
    }

    pub(super) fn adopt(&self, account: &Account, credentials: &Credentials) {
        if let Some(slot) = self.held(&account.id) {
            slot.adopt(account, credentials);
        }
    }

    /// Callers of an account whose token has expired are told why there is no other.
    pub(super) fn withhold(&self, account: &Account, reason: Unavailable, for_now: Duration) {
        let Some(slot) = self.held(&account.id) else { return };
        if slot.current().has_ended(&self.clock) {
            slot.withhold(version_of(account), reason, for_now);
        }
    }

    /// Starts a refresh of `seen`, or joins the one that is under way. The task belongs to nobody
    /// who waits for it: a client that hangs up does not lose a token that is spent already.
    pub(super) fn refresh(
        self: &Arc<Self>,
        id: &AccountId,
        seen: u64,
        reason: Reason,
    ) -> watch::Receiver<()> {
        self.start(id, seen, reason, None)
    }

    pub(super) fn start(
        self: &Arc<Self>,
        id: &AccountId,
        seen: u64,
        reason: Reason,
        turns: Option<Arc<Semaphore>>,
    ) -> watch::Receiver<()> {
        let mut flights = self.flights.lock();
        if let Some(under_way) = flights.get(id) {
            if reason != Reason::Scheduled {
                under_way.wanted.notify_one();
            }
            return under_way.waiting.clone();
        }
        let ((landed, waiting), wanted) = (watch::channel(()), Arc::new(Notify::new()));
        let under_way = UnderWay { waiting: waiting.clone(), wanted: wanted.clone() };
        flights.insert(id.clone(), under_way);
        let (keeper, id) = (self.clone(), id.clone());
        self.tasks.spawn(async move {
            let entry = Entry { keeper: &keeper, id: &id };
            let turn = tokio::select! {
                turn = turn(turns) => turn,
                () = wanted.notified() => None,
                () = keeper.closing.cancelled(), if reason == Reason::Scheduled => return,
            };
            flight::fly(&keeper, &id, seen, reason, landed).await;
            drop((entry, turn));
        });
        waiting
    }

    pub(super) fn turns_of(&self, app: &AppId) -> Arc<Semaphore> {
        let mut turns = self.turns.lock();
        let known = || {
            let catalog = self.catalog();
            let app = catalog.app(app.as_str());
            let most = app.into_iter().flat_map(|app| &app.auths);
            let most = most.filter_map(|auth| auth.oauth2.as_ref()?.max_concurrency).min();
            Arc::new(Semaphore::new((usize::from(most.unwrap_or(USUAL_CALLS)) * 3 / 4).max(1)))
        };
        turns.entry(app.clone()).or_insert_with(known).clone()
    }

    pub(super) async fn renew_on_demand(self: &Arc<Self>, slot: &Slot) {
        let version = slot.current().version;
        let flight = self.refresh(&slot.id, version, Reason::Demand);
        landed(flight).await;
        if slot.current().has_ended(&self.clock) {
            let why = "its token has expired, and the provider did not give a new one in time";
            let reason = Unavailable::for_now(why.to_owned(), 5);
            slot.withhold(version, reason, Duration::from_secs(1));
        }
    }

    pub(super) async fn renew_after_refusal(self: &Arc<Self>, slot: &Slot, used: u64) -> bool {
        let Some(stored) = slot.as_stored() else { return false };
        let reaction = {
            // Looked at under the lock: a version that another request's refresh has just brought
            // must not be taken for one that was refused.
            let mut refused = stored.refused.lock();
            let current = slot.current().version;
            if used == current && !stored.is_renewable() {
                return false;
            }
            refused.react(used, current, self.clock.uptime())
        };
        match reaction {
            Reaction::UseNewer => return true,
            Reaction::PassOn => return false,
            Reaction::Refresh => {}
        }
        landed(self.refresh(&slot.id, used, Reason::Refused)).await;
        let (now, uptime) = (slot.current().version, self.clock.uptime());
        let mut refused = stored.refused.lock();
        if now > used {
            refused.refreshed(now, uptime);
        } else {
            refused.failed(uptime);
        }
        now > used
    }

    /// Whoever needs a renewal is told about the store, and tries again soon.
    pub(super) fn store_is_down(&self, id: &AccountId, error: &crate::vault::Error) {
        let Some(slot) = self.held(id) else { return };
        let current = slot.current();
        if current.has_ended(&self.clock) {
            let why = format!("its token has expired, and {error}");
            let reason = Unavailable::for_now(why, 1);
            slot.withhold(current.version, reason, Duration::from_secs(1));
        }
    }

    /// The credential was refused, and there will be no other.
    pub(super) fn drop_credential(&self, account: &Account, reason: Unavailable) {
        if let Some(slot) = self.held(&account.id) {
            slot.withhold(version_of(account), reason, KEEP_ALIVE);
        }
    }

    /// What callers of a dead account are told. A link is given only where it is known who the
    /// account is at the provider: whoever follows it has to be the same.
    pub(super) fn gone(&self, account: &Account) -> Unavailable {
        let links = self.links.as_ref().filter(|_| account.identity.is_some());
        gone(account, links.map(|links| links.reconnect(&account.id, self.clock.now())))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// A dead account's slot says so as soon as its token is refused or has expired.
    pub(super) fn tell_dead(&self, account: &Account) {
        self.withhold(account, self.gone(account), KEEP_ALIVE);
    }
}

/// A refresh in this process.
pub(super) struct UnderWay {
    /// Wakes those who wait for it.
    waiting: watch::Receiver<()>,
    /// Somebody does, so that it must not wait for its turn.
    wanted: Arc<Notify>,
}

/// A flight's entry in the list goes also when the flight panics: an account must never be stuck.
struct Entry<'k> {
    keeper: &'k Keeper,
    id: &'k AccountId,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.keeper.flights.lock().remove(self.id);
    }
}

/// The turn of a refresh that needs one.
async fn turn(turns: Option<Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    turns?.acquire_owned().await.ok()
}

/// Until the flight has an outcome, or patience ends.
async fn landed(mut flight: watch::Receiver<()>) {
    let _ = tokio::time::timeout(DEMAND_PATIENCE, flight.changed()).await;
}
