//! The clients that the operator registered with providers (RFC 6749 §2), opened.

use std::sync::Arc;

use super::keeper::Keeper;
use crate::ids::OAuthClientId;
use crate::inject::Properties;
use crate::oauth::OAuthClient;
use crate::vault::{Account, OAuthClientRecord};

/// One of them.
pub struct Registered {
    pub record: OAuthClientRecord,
    pub peer: OAuthClient,
}

impl Registered {
    /// The names under which a client's secrets are kept.
    pub const SECRET: &str = "secret";
    pub const PRIVATE_KEY: &str = "private_key";
    /// And a value that is none.
    pub const KEY_ID: &str = "key_id";

    fn of(record: OAuthClientRecord, secrets: &Properties) -> Self {
        let peer = OAuthClient {
            client_id: record.details.client_id.clone(),
            secret: secrets.get(Self::SECRET).cloned(),
            private_key: secrets.get(Self::PRIVATE_KEY).cloned(),
            key_id: record.details.fields.get(Self::KEY_ID).cloned(),
        };
        Self { record, peer }
    }
}

impl Keeper {
    /// The operator's client for an account, if it has one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn client_of(
        &self,
        account: &Account,
    ) -> Result<Option<Arc<Registered>>, crate::vault::Error> {
        match &account.oauth_client {
            Some(id) => self.client(id).await,
            None => Ok(None),
        }
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn client(
        &self,
        id: &OAuthClientId,
    ) -> Result<Option<Arc<Registered>>, crate::vault::Error> {
        if let Some(client) = self.clients.lock().get(id) {
            return Ok(Some(client.clone()));
        }
        let Some((record, secrets)) = self.vault.open_oauth_client(id).await? else {
            return Ok(None);
        };
        let client = Arc::new(Registered::of(record, &secrets));
        self.clients.lock().insert(id.clone(), client.clone());
        Ok(Some(client))
    }
}
