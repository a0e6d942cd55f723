//! Connecting accounts: from what a person enters or agrees to, to an account in the store. One
//! place for the terminal, the pages and the API.

pub mod callers;
mod check;
mod held;
mod news;
mod own_client;
pub mod preset;
mod remove;
pub mod scopes;
mod visit;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use check::{Checked, check};
pub use news::{News, return_address};
pub use preset::Preset;
pub use remove::Removed;
pub use visit::{Asked, MOST_ACCOUNTS, Offer, OfferedWay, Refused, Standing, Visit};
pub use webhooks::Webhooks;

use crate::catalog::{App, Auth, AuthKind, Field, InvalidValue};
use crate::config;
use crate::credentials::{Keeper, Registered, Slot, try_out};
use crate::ids::{AccountId, OAuthClientId};
use crate::oauth::{
    self, Authorization, Callback, DeviceAuthorization, Poll, TokenError, TokenSet, schedule,
};
use crate::random::{self, NoRandom};
use crate::secret::Secret;
use crate::telemetry::AccountChange;
use crate::vault::{self, Account, Credentials, NewAccount, Owner, Reconnected, Tokens, Validity};
use held::{Held, auth_of};

/// What somebody wants to connect.
#[derive(Clone)]
pub struct Wish {
    pub app: Arc<App>,
    /// The app's `[auth.<id>]`.
    pub auth: String,
    pub client: Option<Arc<Registered>>,
    /// What was decided before anybody entered anything, and cannot be changed by entering it.
    pub preset: Option<Preset>,
    /// What a person entered, by field.
    pub entered: BTreeMap<String, Secret>,
    /// Beside those that the app always asks.
    pub scopes: Vec<String>,
    pub owner: Owner,
    pub nickname: Option<AccountId>,
    /// The account that gets a new credential, and keeps its id and everything else.
    pub reconnect: Option<Account>,
    pub same_identity: SameIdentity,
}

/// Whether reconnecting may change who an account is at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameIdentity {
    /// Not even where the provider does not say who it is.
    Required,
    /// Not where both are known.
    IfKnown,
    Any,
}

/// The wish to connect an account of the store anew, with what a person entered once.
///
/// # Errors
/// When the store or the app does not have it any more.
pub async fn again(
    keeper: &Keeper,
    account: &Account,
    same_identity: SameIdentity,
) -> Result<Wish, Error> {
    let app = keeper.catalog().app(account.app.as_str()).cloned();
    let no_auth = || Error::NoSuchAuth { app: account.app.to_string(), auth: account.auth.clone() };
    let app = app.ok_or_else(no_auth)?;
    let auth = app.auth(&account.auth).ok_or_else(no_auth)?;
    let opened = keeper.vault().open_account(&account.id).await?;
    let (account, credentials) = opened.ok_or(Error::Deleted)?;
    Ok(Wish {
        auth: auth.id.clone(),
        preset: Preset::of_account(keeper.vault(), &account).await?,
        client: keeper.client_of(&account).await?,
        entered: entered_before(auth, &account, &credentials),
        scopes: account.scopes.clone(),
        owner: account.owner.clone(),
        nickname: None,
        reconnect: Some(account),
        same_identity,
        app,
    })
}

/// Keys are not among them: they are most likely why an account is connected anew.
fn entered_before(
    auth: &Auth,
    account: &Account,
    credentials: &Credentials,
) -> BTreeMap<String, Secret> {
    let is_key = Way::of(auth) == Way::Keys;
    let value = |field: &Field| match field.secret {
        true => credentials.secrets.get(&field.name).cloned().filter(|_| !is_key),
        false => account.fields.get(&field.name).cloned().map(Secret::from),
    };
    let asked = auth.fields.iter().filter(|field| field.is_asked());
    asked.filter_map(|field| Some((field.name.clone(), value(field)?))).collect()
}

impl Wish {
    fn client_id(&self) -> Option<OAuthClientId> {
        self.client.as_ref().map(|client| client.record.id.clone())
    }
}

/// How an account of an app comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Keys and passwords that a person enters.
    Keys,
    /// A person agrees in the browser.
    Browser,
    /// A grant that needs no person: client credentials, a service account.
    Grant,
}

/// Why an account was not connected. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{app} has no way to authenticate \"{auth}\"")]
    NoSuchAuth { app: String, auth: String },
    #[error("\"{field}\" is needed: {label}")]
    Missing { field: String, label: String },
    #[error("{app} has no field \"{field}\"")]
    UnknownField { app: String, field: String },
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    #[error(transparent)]
    Terms(#[from] oauth::Error),
    #[error("{0}")]
    Provider(#[from] TokenError),
    #[error(
        "this is {found} at the provider, and the account was {expected}: connect a new account, or \
         say that another identity is meant"
    )]
    OtherIdentity { expected: String, found: String },
    #[error("the connect token has expired, or was used")]
    Spent,
    #[error("the account was deleted meanwhile; what the provider gave is not kept")]
    Deleted,
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    #[error(transparent)]
    Store(#[from] vault::Error),
    #[error("{0}")]
    NotAttachable(String),
}

/// Connects accounts of one store.
#[derive(Clone)]
pub struct Connector {
    keeper: Arc<Keeper>,
}

impl Connector {
    pub fn new(keeper: Arc<Keeper>) -> Self {
        Self { keeper }
    }

    /// Where the browser goes, and what has to be kept until it comes back.
    ///
    /// # Errors
    /// When something is missing that the URL needs.
    pub fn authorize(&self, wish: &Wish, redirect_uri: &str) -> Result<Authorization, Error> {
        let held = Held::of(wish)?;
        Ok(self.keeper.engine().authorize(&held.terms(wish), redirect_uri, &wish.scopes)?)
    }

    /// Trades what the browser brought back for tokens, and stores the account.
    ///
    /// # Errors
    /// When the provider gives none; the code is spent then.
    pub async fn exchange(&self, wish: &Wish, callback: &Callback) -> Result<Connected, Error> {
        let held = Held::of(wish)?;
        let set = self.keeper.engine().exchange(&held.terms(wish), callback).await?;
        self.store_tokens(wish, held, set).await
    }

    /// RFC 8628: what the person has to enter, and where.
    ///
    /// # Errors
    /// When the provider has no such flow, or refuses.
    pub async fn begin_device(&self, wish: &Wish) -> Result<DeviceAuthorization, Error> {
        let held = Held::of(wish)?;
        Ok(self.keeper.engine().begin_device(&held.terms(wish), &wish.scopes).await?)
    }

    /// One look whether the person has agreed. `Ok(None)`: not yet; `slower` says to ask less often.
    ///
    /// # Errors
    /// When the person refused, or took too long.
    pub async fn poll_device(
        &self,
        wish: &Wish,
        device: &DeviceAuthorization,
    ) -> Result<Polled, Error> {
        let held = Held::of(wish)?;
        match self.keeper.engine().poll_device(&held.terms(wish), device).await? {
            Poll::Pending => Ok(Polled::Pending),
            Poll::SlowDown => Ok(Polled::SlowDown),
            Poll::Done(set) => {
                let connected = self.store_tokens(wish, held, *set).await?;
                Ok(Polled::Connected(Box::new(connected)))
            }
        }
    }

    /// A grant without a person.
    ///
    /// # Errors
    /// When the provider gives no token.
    pub async fn obtain(&self, wish: &Wish) -> Result<Connected, Error> {
        let held = Held::of(wish)?;
        let set = self.keeper.engine().obtain(&held.terms(wish)).await?;
        self.store_tokens(wish, held, set).await
    }

    /// Keys: as they were entered.
    ///
    /// # Errors
    /// When one is missing or does not fit.
    pub async fn keys(&self, wish: &Wish) -> Result<Connected, Error> {
        self.keys_as(wish, None).await
    }

    /// The same, with a name that tells the account from others: what a person or program calls it
    /// whom no provider calls anything.
    ///
    /// # Errors
    /// When a value is missing or does not fit.
    pub async fn keys_as(&self, wish: &Wish, name: Option<String>) -> Result<Connected, Error> {
        let held = Held::of(wish)?;
        let credentials = Credentials { secrets: held.secrets, tokens: None };
        let outcome = Outcome {
            fields: held.fields,
            scopes: Vec::new(),
            identity: name,
            validity: Validity::default(),
        };
        let account = self.store(wish, outcome, credentials).await?;
        Ok(Connected { account, warning: None })
    }

    /// Whether [`Self::keys`] would take what was entered. Stores nothing.
    ///
    /// # Errors
    /// The same.
    pub fn examine(&self, wish: &Wish) -> Result<(), Error> {
        let held = Held::of(wish)?;
        let credentials = Credentials { secrets: held.secrets, tokens: None };
        try_out(held.auth, &held.fields, &credentials)
            .map_err(|error| Error::NotAttachable(error.to_string()))
    }

    /// Keys as an account that is nowhere stored, for a [`check`] before they are.
    ///
    /// # Errors
    /// When a value is missing or does not fit.
    pub async fn trial(&self, wish: &Wish) -> Result<Slot, Error> {
        let held = Held::of(wish)?;
        let inline = |(name, value): (String, Secret)| {
            let place = config::Place::Inline(value);
            (name, config::SecretRef { place, ttl: None, failure_ttl: Duration::ZERO })
        };
        let name = wish.app.id.as_str();
        let name: AccountId =
            name.parse().map_err(|_| Error::NotAttachable("it has no name".to_owned()))?;
        let account = config::Account {
            id: name.clone(),
            name,
            app: wish.app.id.clone(),
            auth: wish.auth.clone(),
            fields: held.fields,
            secrets: held.secrets.into_iter().map(inline).collect(),
        };
        let slot = Slot::declared(&account, &wish.app, self.keeper.clock().clone()).await;
        slot.map_err(|error| Error::NotAttachable(error.to_string()))
    }

    async fn store_tokens(
        &self,
        wish: &Wish,
        held: Held<'_>,
        set: TokenSet,
    ) -> Result<Connected, Error> {
        same_identity(wish, &set)?;
        let warning = held.auth.oauth2.as_ref().filter(|oauth2| set.lacks_refresh(oauth2));
        let warning = warning.map(|_| NO_REFRESH_TOKEN);
        let kept = self.kept_refresh(wish, &set).await?;
        let refresh_expires_at = grant_ends(held.auth, &set);
        let (mut fields, mut secrets) = (held.fields, held.secrets);
        fields.extend(set.fields);
        secrets.extend(set.secrets);
        let tokens = Tokens { access: set.access, refresh: set.refresh.or(kept) };
        let validity = Validity {
            obtained_at: Some(set.obtained_at),
            expires_at: set.expires.at(),
            refresh_expires_at,
            next_refresh_at: schedule::of_new_tokens(
                held.auth,
                &tokens,
                set.obtained_at,
                set.expires,
                random::share(),
            ),
        };
        let scopes = set.scopes.unwrap_or_else(|| asked_scopes(held.auth, &wish.scopes));
        let credentials = Credentials { secrets, tokens: Some(tokens) };
        let outcome = Outcome { fields, scopes, identity: set.identity, validity };
        let account = self.store(wish, outcome, credentials).await?;
        Ok(Connected { account, warning })
    }

    /// Google gives a refresh token with the first consent only: reconnecting the same identity by
    /// the same client keeps the one that is there.
    async fn kept_refresh(&self, wish: &Wish, set: &TokenSet) -> Result<Option<Secret>, Error> {
        let Some(before) = wish.reconnect.as_ref().filter(|_| set.refresh.is_none()) else {
            return Ok(None);
        };
        let same_client = before.oauth_client == wish.client_id();
        let same_person = before.identity.is_some() && before.identity == set.identity;
        if !(same_client && same_person) {
            return Ok(None);
        }
        let opened = self.keeper.vault().open_account(&before.id).await?;
        Ok(opened.and_then(|(_, credentials)| credentials.tokens?.refresh))
    }

    async fn store(
        &self,
        wish: &Wish,
        outcome: Outcome,
        credentials: Credentials,
    ) -> Result<Account, Error> {
        let auth = auth_of(wish)?;
        try_out(auth, &outcome.fields, &credentials)
            .map_err(|error| Error::NotAttachable(error.to_string()))?;
        let client = wish.client_id();
        let app_override = wish.preset.as_ref().map(|preset| preset.id.clone());
        let vault = self.keeper.vault();
        let (account, change) = match &wish.reconnect {
            Some(before) => {
                let reconnected = Reconnected {
                    oauth_client: client,
                    app_override,
                    fields: outcome.fields,
                    scopes: outcome.scopes,
                    identity: outcome.identity.or_else(|| before.identity.clone()),
                    credentials,
                    validity: outcome.validity,
                };
                let account = vault.reconnect_account(&before.id, reconnected).await?;
                (account.ok_or(Error::Deleted)?, AccountChange::Reconnected)
            }
            None => {
                let new = NewAccount {
                    nickname: wish.nickname.clone(),
                    app: wish.app.id.clone(),
                    auth: wish.auth.clone(),
                    owner: wish.owner.clone(),
                    oauth_client: client,
                    app_override,
                    fields: outcome.fields,
                    scopes: outcome.scopes,
                    identity: outcome.identity,
                    validity: outcome.validity,
                };
                (vault.create_account(&new, &credentials).await?, AccountChange::Connected)
            }
        };
        self.keeper.changed(&account, change, "");
        if wish.reconnect.as_ref().is_some_and(|before| before.health.dead) {
            self.keeper.changed(&account, AccountChange::Recovered, "reconnected");
        }
        Ok(account)
    }
}

/// An account that was connected, and what its owner should know about it.
pub struct Connected {
    pub account: Account,
    pub warning: Option<&'static str>,
}

/// What a look at a device flow finds.
pub enum Polled {
    Pending,
    SlowDown,
    Connected(Box<Connected>),
}

const NO_REFRESH_TOKEN: &str = "the provider gave no refresh token, so this account stops working \
     when its access token expires; look at the scopes and the app's settings there";

/// What came of connecting, beside the secrets.
struct Outcome {
    fields: BTreeMap<String, String>,
    scopes: Vec<String>,
    identity: Option<String>,
    validity: Validity,
}

/// Somebody else's grant under the same account would change whose data its callers see.
fn same_identity(wish: &Wish, set: &TokenSet) -> Result<(), Error> {
    let before = wish.reconnect.as_ref().and_then(|account| account.identity.clone());
    let nobody = || "nobody that it tells of".to_owned();
    match (wish.same_identity, before, &set.identity) {
        (SameIdentity::Any, ..) => Ok(()),
        (_, Some(expected), Some(found)) if expected == *found => Ok(()),
        (SameIdentity::IfKnown, None, _) | (SameIdentity::IfKnown, _, None) => Ok(()),
        (_, expected, found) => Err(Error::OtherIdentity {
            expected: expected.unwrap_or_else(nobody),
            found: found.clone().unwrap_or_else(nobody),
        }),
    }
}

/// What comes first: the end that the answer tells, or the one that counts from the consent.
fn grant_ends(auth: &Auth, set: &TokenSet) -> Option<SystemTime> {
    let life = auth.oauth2.as_ref().and_then(|oauth2| oauth2.refresh.absolute_ttl);
    let absolute = life.and_then(|life| set.obtained_at.checked_add(life));
    set.refresh_expires_at.into_iter().chain(absolute).min()
}

fn asked_scopes(auth: &Auth, beside: &[String]) -> Vec<String> {
    let always = auth.oauth2.iter().flat_map(|oauth2| &oauth2.default_scopes);
    let mut all: Vec<String> = always.chain(beside).cloned().collect();
    all.dedup();
    all
}

impl Way {
    pub fn of(auth: &Auth) -> Self {
        let by_code = auth.oauth2.as_ref().is_some_and(|oauth2| oauth2.authorize_url.is_some());
        let device =
            auth.oauth2.as_ref().is_some_and(|oauth2| oauth2.device_authorization_url.is_some());
        match auth.kind {
            AuthKind::Oauth2 if by_code || device => Self::Browser,
            AuthKind::Oauth2
            | AuthKind::Oauth2ClientCredentials
            | AuthKind::Oauth2Password
            | AuthKind::Jwt
            | AuthKind::TokenExchange => Self::Grant,
            _ => Self::Keys,
        }
    }

    /// The same by the kind alone, for lists of apps whose definitions are not read. `None`: there
    /// is nothing to connect.
    pub fn of_kind(kind: &str) -> Option<Self> {
        match kind {
            "none" => None,
            "oauth2" => Some(Self::Browser),
            "oauth2_client_credentials" | "oauth2_password" | "jwt" | "token_exchange" => {
                Some(Self::Grant)
            }
            _ => Some(Self::Keys),
        }
    }
}
