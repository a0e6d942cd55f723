//! Accounts of external users: listed, read, connected with keys, deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Response};
use serde_json::Value;

use super::connect_tokens::is_of;
use super::failure::{Failure, no_content, ok};
use super::input::{self, Page, Pairs};
use super::principal::{Principal, Tenancy};
use super::scope::Scope;
use super::{Api, present};
use crate::catalog::{App, Auth, AuthKind};
use crate::connect::{self, Checked, News, Preset, SameIdentity, Way, Wish};
use crate::credentials::State;
use crate::forward::Body;
use crate::ids::{AccountId, AppId, OAuthClientId};
use crate::secret::{Secret, TokenDigest};
use crate::telemetry::AuditEvent;
use crate::vault::{Account, ConnectToken, ExternalUser, Filter, Owner};

const DEFAULT_PAGE: u32 = 100;
const MAX_NAME_CHARS: usize = 250;

/// What a keys account is made of.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    app_slug: String,
    cfmap_json: String,
    connect_token: String,
    name: Option<String>,
    account_id: Option<String>,
    app_override_id: Option<String>,
}

impl Api {
    /// # Errors
    /// `NotFound` where somebody names a user that is not theirs.
    pub(super) async fn accounts(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        query: &Pairs,
    ) -> Result<Response<Body>, Failure> {
        principal.may(Scope::AccountsRead)?;
        let page = query.page(DEFAULT_PAGE)?;
        let secrets = self.wants_credentials(principal, query)?;
        let user = match (principal, query.one("external_user_id")?) {
            (Principal::User(own), None) => Some(own.user.clone()),
            (Principal::User(own), Some(named)) if named == own.user.external_id => {
                Some(own.user.clone())
            }
            (Principal::User(_), Some(_)) => return Err(Failure::NotFound),
            (Principal::Client(_), None) => None,
            (Principal::Client(_), Some(named)) => match self.user(tenancy, named).await? {
                Some(user) => Some(user),
                None => return Ok(ok(&present::list(&[], 0, None, None))),
            },
        };
        let mut filter = filter_of(tenancy, user.as_ref());
        if !self.narrow(&mut filter, query)? {
            return Ok(ok(&present::list(&[], 0, None, None)));
        }
        let total = self.vault().count_accounts(&filter).await?;
        let (found, more) = self.page_of(filter, &page).await?;
        let data = self.shown(principal, &found, user.as_ref(), secrets).await?;
        let first = found.first().map(|account| account.id.as_str());
        let last = found.last().map(|account| account.id.as_str()).filter(|_| more);
        Ok(ok(&present::list(&data, total, first, last)))
    }

    /// All accounts of one user: a bare list.
    pub(super) async fn accounts_of_user(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        named: &str,
        query: &Pairs,
    ) -> Result<Response<Body>, Failure> {
        principal.may(Scope::AccountsRead)?;
        let secrets = self.wants_credentials(principal, query)?;
        let user = self.user(tenancy, named).await?.filter(|user| is_visible(principal, user));
        let user = user.ok_or(Failure::NotFound)?;
        let mut filter = filter_of(tenancy, Some(&user));
        let found = match self.narrow(&mut filter, query)? {
            true => self.vault().accounts(&filter).await?,
            false => Vec::new(),
        };
        Ok(ok(&self.shown(principal, &found, Some(&user), secrets).await?.into()))
    }

    pub(super) async fn account(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        id: &str,
        query: &Pairs,
    ) -> Result<Value, Failure> {
        principal.may(Scope::AccountsRead)?;
        let secrets = self.wants_credentials(principal, query)?;
        let (account, user) = self.find(principal, tenancy, id).await?;
        self.show(principal, &account, &user, secrets).await
    }

    pub(super) async fn delete_account(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        id: &str,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::AccountsWrite)?;
        let (account, _) = self.find(principal, tenancy, id).await?;
        self.connector.remove(&account.id).await?;
        Ok(no_content())
    }

    /// All accounts of an app, or of one OAuth client, in this project and environment.
    pub(super) async fn delete_accounts_of_app(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        named: &str,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::AccountsWrite)?;
        let mut filter = filter_of(tenancy, None);
        if !self.narrow_to_app(&mut filter, named) {
            return Err(Failure::NotFound);
        }
        for account in self.vault().accounts(&filter).await? {
            self.connector.remove(&account.id).await?;
        }
        Ok(no_content())
    }

    /// Connects a keys app. Everything that can be wrong is found before the token is spent.
    pub(super) async fn create_account(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        headers: &HeaderMap,
        query: &Pairs,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::AccountsWrite)?;
        let asked: Asked = input::json(headers, &body)?;
        let digest = TokenDigest::of(asked.connect_token.as_bytes());
        let (token, user) = self.usable_token(tenancy, digest).await?;
        if query.one("external_user_id")?.is_some_and(|named| named != user.external_id) {
            return Err(Failure::bad("the connect token is for another user"));
        }
        let app = self.app_or_refuse(&asked.app_slug)?;
        if token.details.app.as_ref().is_some_and(|only| *only != app.id) {
            return Err(Failure::bad("the connect token is for another app"));
        }
        let reconnect = match asked.account_id.as_deref() {
            None => None,
            Some(id) => Some(self.own_account(&user, &app, id).await?),
        };
        let preset = match &asked.app_override_id {
            Some(named) => Some(self.preset(tenancy, &app, named).await?),
            None => match &reconnect {
                Some(account) => Preset::of_account(self.vault(), account).await?,
                None => None,
            },
        };
        let wish = Wish {
            auth: keys_of(&app, reconnect.as_ref(), preset.as_ref())?.id.clone(),
            client: None,
            preset,
            entered: entered(&asked.cfmap_json)?,
            scopes: Vec::new(),
            owner: Owner::ExternalUser(user.id.clone()),
            nickname: None,
            reconnect,
            same_identity: SameIdentity::IfKnown,
            app: app.clone(),
        };
        let name = asked.name.as_deref().map(name_of).transpose()?;
        self.connector.examine(&wish).map_err(not_connected)?;
        self.check_keys(&wish, tenancy).await?;
        let connecting = self.connector.keys_as(&wish, name);
        let connected = self.connector.spend(digest, connecting).await.map_err(not_connected)?;
        let shown = present::account(&connected.account, &user, Some(&app), None);
        if let Some(visit) = self.connector.visit(digest).await? {
            let token = Secret::from(asked.connect_token);
            self.connector.tell(&visit, &token, News::Connected(&shown)).await;
        }
        Ok(ok(&shown))
    }

    /// For keys, so it names no OAuth client.
    async fn preset(&self, tenancy: &Tenancy, app: &App, id: &str) -> Result<Preset, Failure> {
        let found = self.app_override(tenancy, id).await?;
        let unknown = || Failure::bad("there is no such app override: check app_override_id");
        let found = found.ok_or_else(unknown)?;
        match (found.app == app.id, &found.details.oauth_client) {
            (false, _) => Err(Failure::bad("app_override_id is an override of another app")),
            (true, Some(_)) => Err(Failure::bad(
                "the app override names an OAuth client, so it connects on the connect page only",
            )),
            (true, None) => Ok(Preset::of(&found)),
        }
    }

    /// The app's test request, where the project asks for it.
    async fn check_keys(&self, wish: &Wish, tenancy: &Tenancy) -> Result<(), Failure> {
        let project = self.vault().project(&tenancy.project).await?.ok_or(Failure::NotFound)?;
        if !project.details.require_key_test {
            return Ok(());
        }
        let slot = self.connector.trial(wish).await.map_err(not_connected)?;
        match connect::check(&self.forwarder.upstream, &slot).await {
            Checked::Works { .. } | Checked::NotOffered => Ok(()),
            Checked::Refused { status, why, said } => Err(Failure::bad(format!(
                "{} refused these credentials ({status}): {why}. It said: {said}",
                wish.app.name
            ))),
            Checked::Unavailable { why } | Checked::Unreachable { why } => {
                Err(Failure::bad(format!("these credentials could not be tried: {why}")))
            }
        }
    }

    async fn usable_token(
        &self,
        tenancy: &Tenancy,
        digest: TokenDigest,
    ) -> Result<(ConnectToken, ExternalUser), Failure> {
        let token = self.vault().connect_token(digest).await?.ok_or(SPENT)?;
        if token.spent_at.is_some() {
            return Err(SPENT);
        }
        let user = self.vault().external_user_by_id(&token.details.external_user).await?;
        let user = user.filter(|user| is_of(user, &tenancy.project, tenancy.environment));
        Ok((token, user.ok_or(SPENT)?))
    }

    async fn own_account(
        &self,
        user: &ExternalUser,
        app: &App,
        id: &str,
    ) -> Result<Account, Failure> {
        let id: AccountId = id.parse().map_err(|_| Failure::NotFound)?;
        let found = self.vault().account(&id).await?.filter(|account| {
            account.id == id && account.owner == Owner::ExternalUser(user.id.clone())
        });
        let account = found.ok_or(Failure::NotFound)?;
        if account.app != app.id {
            return Err(Failure::bad("account_id is an account of another app"));
        }
        Ok(account)
    }

    /// An account that who asks may see. Every other is as unknown as one that does not exist.
    pub(super) async fn find(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        id: &str,
    ) -> Result<(Account, ExternalUser), Failure> {
        let id: AccountId = id.parse().map_err(|_| Failure::NotFound)?;
        let account = self.vault().account(&id).await?;
        // A nickname is not an id: only its owner chose it.
        let account = account.filter(|account| account.id == id).ok_or(Failure::NotFound)?;
        let Owner::ExternalUser(owner) = &account.owner else { return Err(Failure::NotFound) };
        let user = self.vault().external_user_by_id(owner).await?;
        let user = user.filter(|user| {
            is_of(user, &tenancy.project, tenancy.environment) && is_visible(principal, user)
        });
        Ok((account, user.ok_or(Failure::NotFound)?))
    }

    pub(super) async fn user(
        &self,
        tenancy: &Tenancy,
        named: &str,
    ) -> Result<Option<ExternalUser>, Failure> {
        Ok(self.vault().external_user(&tenancy.project, tenancy.environment, named).await?)
    }

    fn wants_credentials(&self, principal: &Principal, query: &Pairs) -> Result<bool, Failure> {
        if !query.flag("include_credentials")? {
            return Ok(false);
        }
        match principal {
            Principal::User(_) => {
                return Err(Failure::Forbidden("a connect token never gets credentials"));
            }
            Principal::Client(_) => principal.may(Scope::CredentialsRead)?,
        }
        match self.settings.export {
            true => Ok(true),
            false => Err(Failure::Forbidden("vault.export is off: nobody gets credentials")),
        }
    }

    /// `false` when nothing can fit.
    fn narrow(&self, filter: &mut Filter, query: &Pairs) -> Result<bool, Failure> {
        if let Some(id) = query.one("oauth_app_id")? {
            let Ok(id) = id.parse() else { return Ok(false) };
            filter.oauth_client = Some(id);
        }
        match query.one("app")? {
            Some(named) => Ok(self.narrow_to_app(filter, named)),
            None => Ok(true),
        }
    }

    /// By slug or id, or by the OAuth client that stands for its app. An app whose definition is
    /// gone may still have accounts.
    fn narrow_to_app(&self, filter: &mut Filter, named: &str) -> bool {
        if let Some(client) =
            named.strip_prefix("oa_").and_then(|_| named.parse::<OAuthClientId>().ok())
        {
            filter.oauth_client = Some(client);
            return true;
        }
        let known = self.app(named).map(|app| app.id.clone());
        filter.app = known.or_else(|| named.parse::<AppId>().ok());
        filter.app.is_some()
    }

    async fn page_of(
        &self,
        mut filter: Filter,
        page: &Page,
    ) -> Result<(Vec<Account>, bool), Failure> {
        let id = |text: Option<&str>| {
            let bad = |_| Failure::bad("that cursor is none of an account");
            text.map(str::parse).transpose().map_err(bad)
        };
        filter.after = id(page.after())?;
        filter.before = id(page.before())?;
        filter.limit = Some(page.limit + 1);
        let mut found = self.vault().accounts(&filter).await?;
        let surplus = found.len() > page.limit as usize;
        match (surplus, page.before().is_some()) {
            (true, true) => drop(found.remove(0)),
            (true, false) => drop(found.pop()),
            (false, _) => {}
        }
        // Whoever came backwards came from somewhere.
        Ok((found, surplus || page.before().is_some()))
    }

    async fn shown(
        &self,
        principal: &Principal,
        accounts: &[Account],
        user: Option<&ExternalUser>,
        secrets: bool,
    ) -> Result<Vec<Value>, Failure> {
        let mut users: BTreeMap<String, ExternalUser> = BTreeMap::new();
        for account in accounts {
            let Owner::ExternalUser(id) = &account.owner else { continue };
            if users.contains_key(id.as_str()) {
                continue;
            }
            let owner = match user {
                Some(user) => Some(user.clone()),
                None => self.vault().external_user_by_id(id).await?,
            };
            users.extend(owner.map(|owner| (id.to_string(), owner)));
        }
        let owned = accounts.iter().filter_map(|account| {
            let Owner::ExternalUser(id) = &account.owner else { return None };
            Some((account, users.get(id.as_str())?))
        });
        let shown = owned.map(|(account, user)| self.show(principal, account, user, secrets));
        join_all(shown).await.into_iter().collect()
    }

    async fn show(
        &self,
        principal: &Principal,
        account: &Account,
        user: &ExternalUser,
        secrets: bool,
    ) -> Result<Value, Failure> {
        let app = self.app(account.app.as_str());
        if !secrets {
            return Ok(present::account(account, user, app.as_deref(), None));
        }
        let (account, credentials) = Box::pin(self.exported(principal, account)).await?;
        Ok(present::account(&account, user, app.as_deref(), Some(credentials)))
    }

    /// The account with what programs get that must have its secrets; `null` where there is nothing
    /// good to give: an expired token is never handed out.
    async fn exported(
        &self,
        principal: &Principal,
        account: &Account,
    ) -> Result<(Account, Value), Failure> {
        let slot = self.keeper.slot(account).await?;
        if slot.must_wait() {
            slot.renewed().await;
        }
        let opened = self.vault().open_account(&account.id).await?.ok_or(Failure::NotFound)?;
        let (account, held) = opened;
        if matches!(slot.current().state, State::Unavailable(_)) {
            return Ok((account, Value::Null));
        }
        let client = self.keeper.client_of(&account).await?;
        let client_id = client.as_ref().map(|client| client.peer.client_id.as_str());
        let value = present::credentials(&account, &held, client_id);
        self.forwarder.telemetry.event(&AuditEvent::Administered {
            what: "credential_exported",
            subject: account.id.as_str(),
            account: Some(&account.id),
            detail: account.app.as_str(),
            by: &format!("api: {}", principal.name()),
            since: Duration::ZERO,
        });
        Ok((account, value))
    }
}

const SPENT: Failure =
    Failure::Unauthorized("the connect token is not known here, has expired, or was used");

fn is_visible(principal: &Principal, user: &ExternalUser) -> bool {
    match principal {
        Principal::Client(_) => true,
        Principal::User(own) => own.user.id == user.id,
    }
}

fn filter_of(tenancy: &Tenancy, user: Option<&ExternalUser>) -> Filter {
    let project = Some((tenancy.project.clone(), tenancy.environment));
    Filter { external_user: user.map(|user| user.id.clone()), project, ..Filter::default() }
}

/// The app's first way that needs nothing but what a person enters.
fn keys_of<'a>(
    app: &'a App,
    reconnect: Option<&Account>,
    preset: Option<&Preset>,
) -> Result<&'a Auth, Failure> {
    let fits = |auth: &&Auth| Way::of(auth) == Way::Keys && auth.kind != AuthKind::None;
    let same = |auth: &&Auth| reconnect.is_none_or(|account| account.auth == auth.id);
    let decided = |auth: &&Auth| preset.is_none_or(|preset| preset.fits(auth));
    app.auths.iter().filter(fits).filter(decided).find(same).ok_or_else(|| {
        Failure::bad(format!("{} is connected on the connect page, not with keys", app.name))
    })
}

/// The text in the text: an object of names and values.
fn entered(cfmap_json: &str) -> Result<BTreeMap<String, Secret>, Failure> {
    let refused = |why: &str| Failure::bad(format!("cfmap_json: {why}"));
    let values: BTreeMap<String, Value> =
        serde_json::from_str(cfmap_json).map_err(|error| refused(&input::told(&error)))?;
    let texts = input::texts("cfmap_json", values)?;
    Ok(texts.into_iter().map(|(name, text)| (name, Secret::from(text))).collect())
}

fn name_of(name: &str) -> Result<String, Failure> {
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Failure::bad(format!("name has at most {MAX_NAME_CHARS} characters")));
    }
    Ok(present::clean(name))
}

fn not_connected(error: connect::Error) -> Failure {
    match error {
        connect::Error::Store(error) => error.into(),
        connect::Error::Deleted => Failure::NotFound,
        connect::Error::Spent => SPENT,
        other => Failure::Bad(other.to_string()),
    }
}
