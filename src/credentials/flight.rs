//! One refresh of one account, over all nodes: claim, ask the provider, write down, use.
//!
//! The order is the point. The claim is a write, so a store that cannot be written to is found out
//! before a one-time refresh token is spent. The new refresh token is durable before anybody uses
//! the new access token. Every write is fenced by the credential's version, so that a reconnection
//! or deletion meanwhile makes this flight's result void. A claim without a result, as `kill -9`
//! leaves it, says that the token may be spent: then it is tried once more at once, while providers
//! still forgive that, and a refusal is told for what it is.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::Unavailable;
use super::faults;
use super::keeper::Keeper;
use super::retry::backoff;
use super::stored::properties;
use crate::catalog::{App, Auth};
use crate::ids::AccountId;
use crate::oauth::{Class, OAuthClient, Terms, TokenError, TokenSet, schedule};
use crate::random;
use crate::telemetry::{AccountChange, AuditEvent, Refresh};
use crate::vault::{
    self, Account, Claim, Claimed, Committed, Credentials, Failed, Health, HealthError, Renewed,
    Tokens,
};

/// Lengthened for as long as the provider is waited for.
const LEASE: Duration = Duration::from_secs(30);
/// Who finds the lease taken looks again this often.
const POLL: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];
/// Requests are refused for this long before one of them asks the provider again.
const LONGEST_REFUSAL: Duration = Duration::from_secs(30);

/// Who asked for a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Scheduled,
    /// A request found the token expired.
    Demand,
    /// An origin answered 401.
    Refused,
}

/// Flies until the account has a new credential or there is none to have.
pub(super) async fn fly(
    keeper: &Arc<Keeper>,
    id: &AccountId,
    seen: u64,
    reason: Reason,
    landed: watch::Sender<()>,
) {
    let mut looks = POLL.iter().chain(std::iter::repeat(&POLL[3]));
    let claimed = loop {
        match keeper.vault.claim(id, i64::try_from(seen).unwrap_or(i64::MAX), LEASE).await {
            Ok(Claim::Yours(claimed)) => break claimed,
            Ok(Claim::Held { .. }) => {
                let wait = looks.next().copied().unwrap_or(POLL[3]);
                tokio::time::sleep(wait).await;
            }
            Ok(Claim::Moved(_) | Claim::Gone) => {
                keeper.adopt_stored(id).await;
                return;
            }
            Ok(Claim::Dead) => {
                if let Some(account) = keeper.adopt_stored(id).await {
                    keeper.tell_dead(&account);
                    if reason == Reason::Refused {
                        keeper.drop_credential(&account, keeper.gone(&account));
                    }
                }
                return;
            }
            Err(error) => return not_claimed(keeper, id, &error),
        }
    };
    Flight { keeper, claimed: *claimed, reason, begun: Instant::now(), landed }.go().await;
}

/// What cannot be written down is not started: a one-time refresh token is spent once only.
fn not_claimed(keeper: &Keeper, id: &AccountId, error: &vault::Error) {
    tracing::warn!(account = %id, %error, "not refreshed");
    keeper.store_is_down(id, error);
}

struct Flight<'k> {
    keeper: &'k Arc<Keeper>,
    claimed: Claimed,
    reason: Reason,
    begun: Instant,
    /// Wakes those who wait; dropping it does so too.
    landed: watch::Sender<()>,
}

impl Flight<'_> {
    async fn go(self) {
        let catalog = self.keeper.catalog();
        let account = &self.claimed.account;
        let app = catalog.app(account.app.as_str()).cloned();
        let auth = app.as_ref().and_then(|app| app.auth(&account.auth));
        let (Some(app), Some(auth)) = (&app, auth) else {
            let text = format!("there is no app \"{}\" any more", account.app);
            return self.failed(own_fault("no_such_app", text)).await;
        };
        let client = match self.keeper.client_of(account).await {
            Ok(client) => client,
            Err(error) => return self.failed(own_fault("store", error.to_string())).await,
        };
        let client = client.as_deref().map(|client| &client.peer);
        if let Some(error) = self.fault_of_client() {
            return self.failed(Failure { error, spent_perhaps: false }).await;
        }
        match self.holding(self.ask(app, auth, client)).await {
            Ok(set) => self.renewed(app, auth, client, set).await,
            Err(failure) => {
                self.note_fault(&failure.error);
                self.failed(failure).await;
            }
        }
    }

    fn fault_of_client(&self) -> Option<TokenError> {
        let client = self.claimed.account.oauth_client.as_ref()?;
        self.keeper.faults.lock().of(client, self.keeper.clock().uptime())
    }

    fn note_fault(&self, error: &TokenError) {
        if let Some(client) = &self.claimed.account.oauth_client {
            self.keeper.faults.lock().note(client, error, self.keeper.clock().uptime());
        }
    }

    /// The account stays ours while `work` takes its time.
    async fn holding<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(LEASE / 3, &mut work).await {
                return done;
            }
            if let Err(error) = self.keeper.vault.extend(&self.claimed.attempt, LEASE).await {
                tracing::debug!(%error, "a lease could not be lengthened");
            }
        }
    }

    /// Asks the provider; once more at once when it cannot be known whether it has answered.
    async fn ask(
        &self,
        app: &App,
        auth: &Auth,
        client: Option<&OAuthClient>,
    ) -> Result<TokenSet, Failure> {
        let first = self.ask_once(app, auth, client).await;
        match first {
            Err(error) if outcome_unknown(&error) => {
                let again = self.ask_once(app, auth, client).await;
                again.map_err(Failure::after_silence)
            }
            Err(error) if self.claimed.unfinished => Err(Failure::after_silence(error)),
            asked => asked.map_err(|error| Failure { error, spent_perhaps: false }),
        }
    }

    async fn ask_once(
        &self,
        app: &App,
        auth: &Auth,
        client: Option<&OAuthClient>,
    ) -> Result<TokenSet, TokenError> {
        let Claimed { account, credentials, .. } = &self.claimed;
        let properties = properties(&account.fields, credentials);
        let terms = Terms { app, auth, client, properties: &properties, scopes: &account.scopes };
        self.keeper.engine.renew(&terms, credentials.tokens.as_ref()).await
    }

    /// Written down first, used then.
    async fn renewed(self, app: &App, auth: &Auth, client: Option<&OAuthClient>, set: TokenSet) {
        let renewed = merged(&self.claimed, auth, set);
        let mut tries = 0;
        loop {
            match self.keeper.vault.commit(&self.claimed.attempt, &renewed).await {
                Ok(Committed::Done { .. }) => break,
                Ok(Committed::Superseded) => {
                    return self.superseded(app, auth, client, &renewed).await;
                }
                Err(error) => {
                    tries += 1;
                    self.not_written(&renewed, &error, tries);
                    if self.keeper.is_closing() && tries > 20 {
                        return;
                    }
                    tokio::time::sleep(backoff(tries.min(2), None, 1.0)).await;
                }
            }
        }
        self.use_now(&renewed);
        if tries > 0 {
            self.keeper.telemetry.metrics.accounts.rotation_persisted();
        }
        self.tell_renewed(&renewed);
    }

    /// The old pair is spent, so the new one is used from memory, and written as soon as the store
    /// takes it again.
    fn not_written(&self, renewed: &Renewed, error: &vault::Error, tries: u32) {
        if tries > 1 {
            return;
        }
        let account = &self.claimed.account.nickname;
        tracing::error!(%account, %error, "new tokens are not written yet, and kept in memory");
        self.keeper.telemetry.metrics.accounts.rotation_unpersisted();
        self.use_now(renewed);
    }

    fn use_now(&self, renewed: &Renewed) {
        let account = after(&self.claimed.account, renewed);
        self.keeper.adopt(&account, &renewed.credentials);
        self.landed.send_replace(());
    }

    /// Somebody reconnected or deleted the account meanwhile: what came is revoked, not used.
    async fn superseded(
        self,
        app: &App,
        auth: &Auth,
        client: Option<&OAuthClient>,
        renewed: &Renewed,
    ) {
        let account = &self.claimed.account;
        tracing::info!(account = %account.nickname, "refresh came too late and is not used");
        self.keeper.telemetry.metrics.accounts.superseded();
        self.keeper.adopt_stored(&account.id).await;
        let deleted = matches!(self.keeper.vault.account(&account.id).await, Ok(None));
        let Some(tokens) = renewed.credentials.tokens.as_ref().filter(|_| deleted) else { return };
        let properties = properties(&account.fields, &renewed.credentials);
        let terms = Terms { app, auth, client, properties: &properties, scopes: &account.scopes };
        let revoked = self.keeper.engine.revoke(&terms, tokens).await;
        if let Err(error) = revoked {
            tracing::warn!(account = %account.nickname, %error, "could not be revoked");
        }
    }

    fn tell_renewed(&self, renewed: &Renewed) {
        let account = &self.claimed.account;
        let telemetry = &self.keeper.telemetry;
        let (app, took) = (&account.app, self.begun.elapsed());
        let named = account.named();
        telemetry.event(&AuditEvent::CredentialRefreshed { app, account: named, took });
        let lead =
            account.health.expires_at.and_then(|at| at.duration_since(renewed.obtained_at).ok());
        telemetry.metrics.accounts.renewed(lead.unwrap_or_default());
        if unwell(&account.health) {
            self.changed(AccountChange::Recovered, "");
        }
        tracing::debug!(account = %account.nickname, reason = ?self.reason, "refreshed");
    }

    async fn failed(self, failure: Failure) {
        let Failure { error, spent_perhaps } = &failure;
        if error.class == Class::Dead && self.lost_a_race().await {
            return;
        }
        let account = &self.claimed.account;
        let failures = account.health.failures.saturating_add(1);
        let wait = self.wait_after(error, failures);
        let now = self.keeper.clock().now();
        let dead = error.class == Class::Dead;
        let failed = Failed {
            dead,
            error: HealthError {
                code: code_of(error, &account.health, now).to_owned(),
                message: error.message.clone(),
                at: now,
            },
            next_refresh_at: (!dead).then(|| now + wait),
            keep_attempt: !dead && (*spent_perhaps || self.claimed.unfinished),
        };
        match self.keeper.vault.fail(&self.claimed.attempt, &failed).await {
            Ok(true) => self.tell_failed(error, &failed, failures, wait),
            Ok(false) => drop(self.keeper.adopt_stored(&account.id).await),
            Err(store) => {
                tracing::warn!(account = %account.nickname, %store, "failure is not written");
                self.tell_failed(error, &failed, failures, wait);
            }
        }
    }

    /// Dead is final, so the store is asked once more: another writer may have been faster.
    async fn lost_a_race(&self) -> bool {
        let account = &self.claimed.account;
        let opened = self.keeper.vault.open_account(&account.id).await;
        match opened {
            Ok(Some((now, credentials))) if now.version != account.version => {
                self.keeper.adopt(&now, &credentials);
                true
            }
            _ => false,
        }
    }

    fn wait_after(&self, error: &TokenError, failures: u32) -> Duration {
        if error.class == Class::Client {
            return faults::PAUSE;
        }
        let now = self.keeper.clock().now();
        let expires_at = self.claimed.account.health.expires_at;
        let left = expires_at.and_then(|at| at.duration_since(now).ok());
        let wait = backoff(failures, left, random::share());
        wait.max(error.retry_after.unwrap_or_default().min(Duration::from_secs(3600)))
    }

    fn tell_failed(&self, error: &TokenError, failed: &Failed, failures: u32, wait: Duration) {
        let account = &self.claimed.account;
        let (app, took) = (&account.app, self.begun.elapsed());
        let result = if failed.dead { Refresh::Denied } else { Refresh::Transient };
        self.keeper.telemetry.event(&AuditEvent::CredentialFailed {
            app,
            account: account.named(),
            result,
            took,
            error: &error.message,
        });
        let mut now = account.clone();
        now.health.failures = failures;
        now.health.error = Some(failed.error.clone());
        now.health.dead = failed.dead;
        if failed.dead {
            self.changed(AccountChange::Dead, &failed.error.code);
            self.keeper.tell_dead(&now);
            self.refuse_at_once(&now);
        } else {
            if unwell(&now.health) && !unwell(&account.health) {
                self.changed(AccountChange::Unhealthy, &failed.error.code);
            }
            let why = format!("its token has expired, and could not be renewed: {error}");
            let wait = wait_of_requests(error, wait);
            self.keeper.withhold(account, Unavailable::for_now(why, wait.as_secs().max(1)), wait);
        }
    }

    /// A 401 on a token of an account that turns out dead: nothing will make it good again.
    fn refuse_at_once(&self, account: &Account) {
        if self.reason == Reason::Refused {
            self.keeper.drop_credential(account, self.keeper.gone(account));
        }
    }

    fn changed(&self, change: AccountChange, code: &str) {
        let account = &self.claimed.account;
        self.keeper.changed(account, change, code);
    }
}

/// Why there are no new tokens, and whether the old refresh token may be spent all the same.
struct Failure {
    error: TokenError,
    spent_perhaps: bool,
}

impl Failure {
    /// Of an attempt that follows one without an answer: only a refusal tells what became of that.
    fn after_silence(error: TokenError) -> Self {
        match dead(&error) {
            true => Self { error: lost(error), spent_perhaps: false },
            false => Self { error, spent_perhaps: true },
        }
    }
}

/// The row as the commit leaves it.
fn after(account: &Account, renewed: &Renewed) -> Account {
    let mut account = account.clone();
    account.version += 1;
    account.fields = renewed.fields.clone();
    account.scopes = renewed.scopes.clone();
    account.health.dead = false;
    account.health.failures = 0;
    account.health.error = None;
    account.health.expires_at = renewed.expires_at;
    account.health.obtained_at = Some(renewed.obtained_at);
    account
}

/// What is held, with what the answer brought: a refresh token that it does not repeat stays (RFC
/// 6749 §6), and so do captured values.
fn merged(claimed: &Claimed, auth: &Auth, set: TokenSet) -> Renewed {
    let Claimed { account, credentials, .. } = claimed;
    let held = credentials.tokens.as_ref().and_then(|tokens| tokens.refresh.clone());
    let mut secrets = credentials.secrets.clone();
    secrets.extend(set.secrets);
    let mut fields = account.fields.clone();
    fields.extend(set.fields);
    let tokens = Tokens { access: set.access, refresh: set.refresh.or(held) };
    let (at, expires) = (set.obtained_at, set.expires);
    let next = schedule::of_new_tokens(auth, &tokens, at, expires, random::share());
    let absolute = auth.oauth2.as_ref().is_some_and(|oauth2| oauth2.refresh.absolute_ttl.is_some());
    let before = account.health.refresh_expires_at;
    Renewed {
        credentials: Credentials { secrets, tokens: Some(tokens) },
        fields,
        scopes: set.scopes.unwrap_or_else(|| account.scopes.clone()),
        expires_at: set.expires.at(),
        refresh_expires_at: match absolute {
            // No answer moves an end that counts from the consent.
            true => set.refresh_expires_at.into_iter().chain(before).min(),
            false => set.refresh_expires_at.or(before),
        },
        obtained_at: set.obtained_at,
        next_refresh_at: next,
        last_used_at: account.health.last_used_at,
    }
}

/// The schedule may back off for a quarter of an hour; who sends requests should not have to wait so
/// long once the provider is back. What the provider itself asked for is kept.
fn wait_of_requests(error: &TokenError, wait: Duration) -> Duration {
    match error.class {
        Class::Transient => wait.min(LONGEST_REFUSAL.max(error.retry_after.unwrap_or_default())),
        Class::Client | Class::Dead => wait,
    }
}

fn unwell(health: &Health) -> bool {
    health.dead || health.is_unhealthy()
}

fn dead(error: &TokenError) -> bool {
    error.class == Class::Dead
}

/// The request went out and nothing readable came back: the token may be spent.
fn outcome_unknown(error: &TokenError) -> bool {
    error.class == Class::Transient && error.sent && error.status.is_none()
}

/// The provider refuses a token that an attempt without an answer may have spent.
fn lost(mut error: TokenError) -> TokenError {
    error.code = ROTATION_LOST.to_owned();
    error.message = format!(
        "an answer of the provider was lost, and it takes a refresh token once only: {}",
        error.message
    );
    error
}

const ROTATION_LOST: &str = "rotation_lost";

/// The stable codes of an account's error.
fn code_of(error: &TokenError, health: &Health, now: SystemTime) -> &'static str {
    let grant_has_ended = health.refresh_expires_at.is_some_and(|at| at <= now);
    match error.class {
        Class::Dead if error.code == ROTATION_LOST => ROTATION_LOST,
        Class::Dead if error.code == "no_refresh_token" => "no_refresh_token",
        Class::Dead if grant_has_ended => "rt_expired",
        Class::Dead => "revoked",
        Class::Client => HealthError::APP_CREDENTIALS,
        Class::Transient => "provider_unavailable",
    }
}

/// Nobody was asked.
fn own_fault(code: &str, message: String) -> Failure {
    let (class, code) = (Class::Client, code.to_owned());
    let error = TokenError { class, code, message, status: None, retry_after: None, sent: false };
    Failure { error, spent_perhaps: false }
}
