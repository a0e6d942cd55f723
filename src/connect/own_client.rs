//! OAuth clients that external users bring: each is for the accounts of the one who brought it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Connector, Error, Visit, Wish};
use crate::credentials::Registered;
use crate::ids::OAuthClientId;
use crate::inject::Properties;
use crate::secret::Secret;
use crate::vault::{self, OAuthClientDetails, OAuthClientRecord};

const MOST_UNUSED: usize = 20;

impl Connector {
    /// Keeps the client that a visitor brought for this wish. The one of the same id is renewed, so
    /// that trying again leaves nothing behind.
    ///
    /// # Errors
    /// What the store says.
    pub async fn keep_own_client(
        &self,
        visit: &Visit,
        wish: &Wish,
        client_id: &str,
        secret: Option<Secret>,
    ) -> Result<Arc<Registered>, Error> {
        let vault = self.keeper.vault();
        let secrets: Properties =
            secret.map(|secret| (Registered::SECRET.to_owned(), secret)).into_iter().collect();
        let same = |client: &OAuthClientRecord| {
            let details = &client.details;
            (&details.app, &details.auth) == (&wish.app.id, &wish.auth)
                && details.client_id == client_id
        };
        let held = vault.own_oauth_clients(&visit.user.id).await?.into_iter().find(same);
        let id = match held {
            Some(held) => {
                vault.update_oauth_client(&held.id, &held.details, Some(&secrets)).await?;
                held.id
            }
            None => {
                self.make_room(visit).await?;
                let details = OAuthClientDetails {
                    app: wish.app.id.clone(),
                    auth: wish.auth.clone(),
                    name: format!("{}, brought by its user", wish.app.name),
                    client_id: client_id.to_owned(),
                    redirect_uri: None,
                    scopes: Vec::new(),
                    fields: BTreeMap::new(),
                };
                vault.create_own_oauth_client(&visit.user.id, &details, &secrets).await?.id
            }
        };
        self.keeper.client(&id).await?.ok_or(Error::Deleted)
    }

    /// Those that no account was connected with go, where there are many: what a token's holder can
    /// fill is bounded.
    async fn make_room(&self, visit: &Visit) -> Result<(), Error> {
        let held = self.keeper.vault().own_oauth_clients(&visit.user.id).await?;
        if held.len() >= MOST_UNUSED {
            for client in held {
                self.forget_client(&client.id).await?;
            }
        }
        Ok(())
    }

    /// Deletes a client that was brought, unless accounts are connected with it.
    ///
    /// # Errors
    /// When the store does not take it.
    pub(super) async fn forget_client(&self, id: &OAuthClientId) -> Result<(), vault::Error> {
        match self.keeper.vault().delete_oauth_client(id).await {
            Ok(_) | Err(vault::Error::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The client that this visitor brought before.
    ///
    /// # Errors
    /// `Deleted` where there is none, or it is somebody else's.
    pub async fn own_client(&self, visit: &Visit, id: &str) -> Result<Arc<Registered>, Error> {
        let id: OAuthClientId = id.parse().map_err(|_| Error::Deleted)?;
        let found = self.keeper.client(&id).await?.ok_or(Error::Deleted)?;
        let own = found.record.external_user.as_ref() == Some(&visit.user.id);
        if own { Ok(found) } else { Err(Error::Deleted) }
    }
}
