//! Deleting an account: gone from the store first, then given back to the provider.

use super::Connector;
use crate::credentials::properties;
use crate::ids::AccountId;
use crate::oauth::{Revoked, Terms};
use crate::telemetry::AccountChange;
use crate::vault::{self, Account, Credentials};

/// What became of the grant at the provider. The account is gone in every case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    Revoked,
    /// The provider has nothing to call, or the account holds keys: they end in its own settings.
    NotRevocable,
    /// The provider did not take it.
    Failed {
        why: String,
    },
}

impl Connector {
    /// Deletes the account; `None` if there is none.
    ///
    /// # Errors
    /// When the store does not take it; nothing was revoked then.
    pub async fn remove(&self, id: &AccountId) -> Result<Option<Removed>, vault::Error> {
        let Some((account, credentials)) = self.keeper.vault().delete_account(id).await? else {
            return Ok(None);
        };
        let removed = match credentials {
            Some(credentials) => self.give_back(&account, &credentials).await,
            None => Removed::Failed { why: "its secrets could not be opened".to_owned() },
        };
        self.forget_brought_client(&account).await;
        let detail = match &removed {
            Removed::Revoked => "revoked at the provider",
            Removed::NotRevocable => "",
            Removed::Failed { .. } => "not revoked at the provider",
        };
        self.keeper.changed(&account, AccountChange::Deleted, detail);
        Ok(Some(removed))
    }

    /// A client that the account's user brought has nothing more to do.
    async fn forget_brought_client(&self, account: &Account) {
        let Ok(Some(client)) = self.keeper.client_of(account).await else { return };
        if client.record.external_user.is_some()
            && let Err(error) = self.forget_client(&client.record.id).await
        {
            tracing::warn!(%error, client = %client.record.id, "an OAuth client is left behind");
        }
    }

    async fn give_back(&self, account: &Account, credentials: &Credentials) -> Removed {
        let catalog = self.keeper.catalog();
        let app = catalog.app(account.app.as_str());
        let (Some(tokens), Some(app)) = (&credentials.tokens, app) else {
            return Removed::NotRevocable;
        };
        let Some(auth) = app.auth(&account.auth) else { return Removed::NotRevocable };
        let client = match self.keeper.client_of(account).await {
            Ok(client) => client,
            Err(error) => return Removed::Failed { why: error.to_string() },
        };
        let properties = properties(&account.fields, credentials);
        let terms = Terms {
            app,
            auth,
            client: client.as_deref().map(|client| &client.peer),
            properties: &properties,
            scopes: &account.scopes,
        };
        match self.keeper.engine().revoke(&terms, tokens).await {
            Ok(Revoked::Done) => Removed::Revoked,
            Ok(Revoked::NotOffered) => Removed::NotRevocable,
            Err(error) => Removed::Failed { why: error.to_string() },
        }
    }
}
