//! A visit with a connect token: whose it is, what may be connected with it, and that it is spent
//! once. One place for the page and the API.

use std::future::Future;
use std::sync::Arc;

use super::{Connected, Connector, Error, Preset, SameIdentity, Way, Wish, again, scopes};
use crate::catalog::{App, Auth, AuthKind};
use crate::credentials::Registered;
use crate::ids::{AccountId, AppOverrideId, OAuthClientId};
use crate::secret::TokenDigest;
use crate::vault::{
    self, Account, AppOverride, ConnectToken, ExternalUser, Filter, OAuthClientRecord, Owner,
    Project,
};

/// Somebody who came with a connect token, whatever became of it.
pub struct Visit {
    pub token: ConnectToken,
    pub user: ExternalUser,
    pub project: Project,
    pub standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may still connect an account.
    Open,
    Spent,
    Expired,
}

/// What a visitor asks for beside the token. Nothing of it is believed.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// By slug, or by the id that the API shows.
    pub app: Option<String>,
    pub oauth_client: Option<String>,
    /// The account that is connected anew.
    pub account: Option<String>,
    /// A named selection of scopes.
    pub profile: Option<String>,
    pub app_override: Option<String>,
    /// The visitor has registered a client of their own, and enters it.
    pub own_client: bool,
}

/// What may be connected, and in which ways; never none.
pub struct Offer {
    pub app: Arc<App>,
    pub reconnect: Option<Account>,
    pub preset: Option<Preset>,
    pub ways: Vec<OfferedWay>,
}

/// One way, with everything that it needs but what a person brings.
pub struct OfferedWay {
    pub auth: String,
    pub way: Way,
    pub client: Option<Arc<Registered>>,
    /// The visitor has to enter the id and secret of a client first.
    pub brings_client: bool,
    /// Asked for beside those that the app always asks.
    pub scopes: Vec<String>,
}

/// Why nothing can be connected.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("no such app: check the app's name")]
    NoApp,
    #[error("this token is for another app")]
    OtherApp,
    #[error("no such account: check the account's id")]
    NoAccount,
    #[error("the account is one of another app")]
    OtherAccount,
    #[error("no such OAuth client for this app")]
    NoClient,
    #[error("this token is for another OAuth client")]
    OtherClient,
    #[error("no such app override in this project: check its id")]
    NoOverride,
    #[error("the app override is one of another app")]
    OtherOverride,
    #[error("{app} needs an OAuth client, and none is set up here")]
    NotSetUp { app: String },
    #[error("{app} cannot be connected on this page")]
    NotHere { app: String },
    #[error("there are {MOST_ACCOUNTS} accounts already; delete one first")]
    TooMany,
    #[error(transparent)]
    Store(#[from] vault::Error),
}

/// Of one external user: far more than anybody has, and a bound on what a token's holder can fill.
pub const MOST_ACCOUNTS: u64 = 1000;

impl Connector {
    /// Whoever the token is for; `None` for one that was never given out, or long ago.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn visit(&self, token: TokenDigest) -> Result<Option<Visit>, vault::Error> {
        let vault = self.keeper.vault();
        let Some(token) = vault.any_connect_token(token).await? else { return Ok(None) };
        let user = vault.external_user_by_id(&token.details.external_user).await?;
        let Some(user) = user else { return Ok(None) };
        let Some(project) = vault.project(&user.project).await? else { return Ok(None) };
        let ended = token.details.expires_at <= self.keeper.clock().now();
        let standing = match (token.spent_at, ended) {
            (Some(_), _) => Standing::Spent,
            (None, true) => Standing::Expired,
            (None, false) => Standing::Open,
        };
        Ok(Some(Visit { token, user, project, standing }))
    }

    /// The ways to connect what is asked for.
    ///
    /// # Errors
    /// When there is none.
    pub async fn offer(&self, visit: &Visit, asked: &Asked) -> Result<Offer, Refused> {
        let chosen = self.chosen_override(visit, asked).await?;
        let reconnect = match &asked.account {
            None => None,
            Some(id) => Some(self.own_account(visit, id).await?),
        };
        let only = visit.token.details.app.as_ref();
        let named = asked.app.as_deref().or(reconnect.as_ref().map(|account| account.app.as_str()));
        let named = named.or(chosen.as_ref().map(|chosen| chosen.app.as_str()));
        let named = named.or(only.map(|app| app.as_str())).ok_or(Refused::NoApp)?;
        let app = self.app(named).ok_or(Refused::NoApp)?;
        if only.is_some_and(|only| *only != app.id) {
            return Err(Refused::OtherApp);
        }
        if reconnect.as_ref().is_some_and(|account| account.app != app.id) {
            return Err(Refused::OtherAccount);
        }
        if chosen.as_ref().is_some_and(|chosen| chosen.app != app.id) {
            return Err(Refused::OtherOverride);
        }
        if reconnect.is_none() {
            self.has_room(visit).await?;
        }
        let preset = match (&chosen, &reconnect) {
            (Some(chosen), _) => Some(Preset::of(chosen)),
            (None, Some(account)) => Preset::of_account(self.keeper.vault(), account).await?,
            (None, None) => None,
        };
        // Without being named again it decides values; the account goes on with its own client.
        let named = Named::of(visit, asked, preset.as_ref().filter(|_| chosen.is_some()))?;
        let clients = self.clients(visit, &named, &app, reconnect.as_ref()).await?;
        let same = |auth: &&Auth| {
            reconnect.as_ref().is_none_or(|account| account.auth == auth.id)
                && preset.as_ref().is_none_or(|preset| preset.fits(auth))
        };
        let mut ways = Vec::new();
        for auth in app.auths.iter().filter(same) {
            ways.extend(self.way(auth, &clients, asked, &named).await?);
        }
        if ways.is_empty() {
            let by_browser =
                app.auths.iter().filter(same).any(|auth| Way::of(auth) == Way::Browser);
            let app = app.name.clone();
            return Err(match by_browser {
                true => Refused::NotSetUp { app },
                false => Refused::NotHere { app },
            });
        }
        Ok(Offer { app, reconnect, preset, ways })
    }

    /// Of the visitor's project only: an id alone proves nothing.
    async fn chosen_override(
        &self,
        visit: &Visit,
        asked: &Asked,
    ) -> Result<Option<AppOverride>, Refused> {
        let Some(named) = &asked.app_override else { return Ok(None) };
        let id: AppOverrideId = named.parse().map_err(|_| Refused::NoOverride)?;
        let found = self.keeper.vault().app_override(&id).await?;
        let own = found.filter(|found| found.project == visit.project.id);
        own.ok_or(Refused::NoOverride).map(Some)
    }

    /// By slug, or by the id that the API shows.
    pub fn app(&self, named: &str) -> Option<Arc<App>> {
        let catalog = self.keeper.catalog();
        let by_id = || named.strip_prefix("app_").and_then(|slug| catalog.app(slug));
        catalog.app(named).or_else(by_id).cloned()
    }

    async fn own_account(&self, visit: &Visit, named: &str) -> Result<Account, Refused> {
        let id: AccountId = named.parse().map_err(|_| Refused::NoAccount)?;
        let found = self.keeper.vault().account(&id).await?;
        // A nickname is not an id: only its owner chose it.
        let own = |account: &Account| {
            account.id == id && account.owner == Owner::ExternalUser(visit.user.id.clone())
        };
        found.filter(own).ok_or(Refused::NoAccount)
    }

    async fn has_room(&self, visit: &Visit) -> Result<(), Refused> {
        let own = Filter { external_user: Some(visit.user.id.clone()), ..Filter::default() };
        let held = self.keeper.vault().count_accounts(&own).await?;
        if held < MOST_ACCOUNTS { Ok(()) } else { Err(Refused::TooMany) }
    }

    /// Of this app: the one that is named or that the account has, else all, the oldest first.
    /// One that a visitor brought is for that visitor's accounts alone.
    async fn clients(
        &self,
        visit: &Visit,
        named: &Named,
        app: &App,
        reconnect: Option<&Account>,
    ) -> Result<Vec<OAuthClientRecord>, Refused> {
        let vault = self.keeper.vault();
        let mut clients = match named {
            Named::Own => vault.own_oauth_clients(&visit.user.id).await?,
            _ => vault.oauth_clients().await?,
        };
        let before = reconnect.and_then(|account| account.oauth_client.as_ref());
        if matches!(named, Named::Any) && before.is_some() {
            clients.extend(vault.own_oauth_clients(&visit.user.id).await?);
            clients.retain(|client| client.external_user.is_none() || Some(&client.id) == before);
        }
        clients.retain(|client| client.details.app == app.id);
        if let Named::One(named) = named {
            clients.retain(|client| client.id == *named);
            return if clients.is_empty() { Err(Refused::NoClient) } else { Ok(clients) };
        }
        clients.sort_by_key(|client| Some(&client.id) != before);
        Ok(clients)
    }

    /// `None` where something is missing that a person cannot bring.
    async fn way(
        &self,
        auth: &Auth,
        clients: &[OAuthClientRecord],
        asked: &Asked,
        named: &Named,
    ) -> Result<Option<OfferedWay>, vault::Error> {
        let brings_client = matches!(named, Named::Own);
        let fits = |client: &&OAuthClientRecord| client.details.auth == auth.id;
        // What was brought once is not used again unasked: it may be why this is tried again.
        let client = clients.iter().find(fits).filter(|_| !brings_client);
        let way = Way::of(auth);
        let by_code = auth.oauth2.as_ref().is_some_and(|oauth2| oauth2.authorize_url.is_some());
        let free = matches!(named, Named::Any);
        let possible = match way {
            Way::Browser => by_code && (client.is_some() || brings_client),
            Way::Keys => auth.kind != AuthKind::None && free,
            Way::Grant => free || client.is_some(),
        };
        if !possible {
            return Ok(None);
        }
        let registered = match client {
            Some(client) => self.keeper.client(&client.id).await?,
            None => None,
        };
        let scopes = scopes::usual(auth, client, asked.profile.as_deref());
        let auth = auth.id.clone();
        Ok(Some(OfferedWay { auth, way, client: registered, brings_client, scopes }))
    }

    /// What a visitor chose, as something that can be connected. What they enter is still missing.
    ///
    /// # Errors
    /// When the store cannot be read, or the account has gone.
    pub async fn wish(
        &self,
        visit: &Visit,
        offer: &Offer,
        chosen: &OfferedWay,
    ) -> Result<Wish, Error> {
        let wish = match &offer.reconnect {
            Some(account) => again(&self.keeper, account, SameIdentity::IfKnown).await?,
            None => Wish {
                app: offer.app.clone(),
                auth: chosen.auth.clone(),
                client: None,
                preset: None,
                entered: std::collections::BTreeMap::new(),
                scopes: Vec::new(),
                owner: Owner::ExternalUser(visit.user.id.clone()),
                nickname: None,
                reconnect: None,
                same_identity: SameIdentity::IfKnown,
            },
        };
        Ok(Wish {
            client: chosen.client.clone(),
            scopes: chosen.scopes.clone(),
            preset: offer.preset.clone(),
            ..wish
        })
    }

    /// Connects with a token, which is spent first, so that of several who try at once one gets an
    /// account. When nothing comes of it, it may be tried again.
    ///
    /// # Errors
    /// `Spent`, and whatever `connecting` fails with.
    pub async fn spend(
        &self,
        token: TokenDigest,
        connecting: impl Future<Output = Result<Connected, Error>>,
    ) -> Result<Connected, Error> {
        let vault = self.keeper.vault();
        if !vault.spend_connect_token(token).await? {
            return Err(Error::Spent);
        }
        let connected = connecting.await;
        if connected.is_err()
            && let Err(error) = vault.unspend_connect_token(token).await
        {
            tracing::warn!(%error, "a connect token stays spent, though nothing came of it");
        }
        connected
    }
}

/// Which OAuth clients may be used.
enum Named {
    /// Whatever the operator has registered.
    Any,
    One(OAuthClientId),
    /// One that the visitor enters.
    Own,
}

impl Named {
    /// The address, the token and the override may each name one, and have to agree.
    fn of(visit: &Visit, asked: &Asked, preset: Option<&Preset>) -> Result<Self, Refused> {
        let only = visit.token.details.oauth_client.as_ref();
        let named = asked.oauth_client.as_deref().map(str::parse).transpose();
        let named: Option<OAuthClientId> = named.map_err(|_| Refused::NoClient)?;
        let pinned = preset.and_then(|preset| preset.oauth_client.as_ref());
        let mut all = [named.as_ref(), only, pinned].into_iter().flatten();
        let Some(first) = all.next() else {
            return Ok(if asked.own_client { Self::Own } else { Self::Any });
        };
        match asked.own_client || all.any(|other| other != first) {
            true => Err(Refused::OtherClient),
            false => Ok(Self::One(first.clone())),
        }
    }
}
