//! The store: SQLite or PostgreSQL, every secret sealed.
//!
//! Everything that outlives a process is here: accounts and their tokens, who may use them, and
//! what several nodes must agree on. Both engines hold the same tables, and the same statements
//! run on both. Rules: DESIGN.md §8, §9 and §11.

mod account;
mod accounts;
mod assertions;
mod backup;
mod callers;
mod census;
mod changes;
mod clients;
mod connecting;
mod definitions;
mod duties;
mod error;
mod filter;
mod invitations;
mod key;
mod notes;
mod open;
mod outcomes;
mod overrides;
mod people;
mod pools;
mod random;
mod refresh;
mod requests;
mod rotation;
mod row;
mod seal;
mod sealing;
mod sessions;
mod sharing;
mod store;
mod tokens;

use std::sync::Arc;

pub use account::{Account, Credentials, Health, HealthError, Owner, Tokens};
pub use accounts::{NewAccount, Reconnected, Validity};
pub use assertions::{ApiClientKey, OwnLimit};
pub use backup::BackupError;
pub use callers::{Binding, CallerDetails, CallerToken, EndedBinding, StoredCaller};
pub use changes::{Change, Changes};
pub use clients::{OAuthClientDetails, OAuthClientRecord};
pub use connecting::{ConnectToken, ConnectTokenDetails, PendingFlow};
pub use definitions::AppDefinition;
pub use duties::{TOKEN_MARK, Webhook};
pub use error::Error;
pub use filter::Filter;
pub use invitations::{Invitation, InvitationDetails, InvitationKind, Newcomer};
pub use key::{KeyError, KeyId, MasterKey};
pub use notes::Note;
pub use open::{Location, OpenError};
pub use outcomes::Outcome;
pub use overrides::{AppOverride, AppOverrideDetails};
pub use people::{
    Environment, ExternalUser, Member, MemberDetails, Project, ProjectDetails, Role, UnknownWord,
    UserFilter,
};
pub use refresh::{Attempt, Claim, Claimed, Committed, Due, Failed, Renewed};
pub use requests::{MAX_REQUEST_BYTES, MAX_REQUESTS, SavedRequest};
pub use rotation::Progress;
pub use seal::SealError;
pub use sessions::{ApiClient, ApiClientDetails, Session, SessionDetails, SessionOf};
pub use sharing::{Lenders, Share, Shares};
pub use tokens::{MEMBER_TOKEN, MemberToken, MemberTokenDetails, Rights, fresh_member_token};

use crate::clock::Clock;
use store::Store;

/// What a store is opened with.
pub struct Settings {
    pub location: Location,
    /// The first seals and opens, the others only open.
    pub keys: Vec<MasterKey>,
    /// Names this node in leases; the same after a restart, and no other node's.
    pub node: String,
    pub clock: Clock,
}

/// A handle of the store; clones share its connections. Belongs to the runtime it was opened in.
#[derive(Clone)]
pub struct Vault {
    store: Arc<Store>,
}

impl Vault {
    /// Opens the store, makes it if there is none, and brings its tables up to date. Nothing is
    /// written before the master key has been proved.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_with(settings, None).await
    }

    /// With a backup the store must be new, and is filled from it.
    async fn open_with(
        settings: Settings,
        backup: Option<&backup::Backup>,
    ) -> Result<Self, OpenError> {
        let keys = seal::Keys::new(settings.keys).ok_or(OpenError::NoKey)?;
        let place = settings.location.name();
        let opening = open::Opening { place, keys: &keys, clock: &settings.clock, backup };
        let (engine, pools) = opening.open(&settings.location).await?;
        let store = Store::new(engine, pools, keys, settings.node, settings.clock);
        Ok(Self { store: Arc::new(store) })
    }

    /// From now on the first of `keys` seals, and all of them open: for a change of the master key
    /// while this node runs.
    ///
    /// # Errors
    /// When they do not open all that is stored; then those of before stay in use.
    pub async fn use_keys(&self, keys: Vec<MasterKey>) -> Result<(), Error> {
        let given: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
        let listed = self.store.all(store::sql("SELECT id FROM master_key")).await?;
        let listed = listed.iter().map(|row| row.text("id")).collect::<Result<Vec<_>, _>>()?;
        let fits = listed.iter().all(|id| given.contains(id));
        let active_is_known = given.first().is_some_and(|active| listed.contains(active));
        match seal::Keys::new(keys).filter(|_| fits && active_is_known) {
            Some(keys) => {
                self.store.use_keys(keys);
                Ok(())
            }
            None => Err(Error::conflict("the master key does not fit the store")),
        }
    }

    /// What has changed from now on, in any process.
    pub fn changes(&self) -> Changes {
        Changes::new(Arc::clone(&self.store))
    }

    /// Lets go of the database, after the writes that are under way.
    pub async fn close(&self) {
        self.store.close().await;
    }
}
