//! What every request reads: one immutable snapshot of callers, policy, apps and credentials,
//! swapped whole on reload. No request sees half of a new configuration.

use std::sync::Arc;
use std::time::SystemTime;

use super::caller::{Caller, Identity, Limits, Proof};
use super::stored::Stored;
use crate::catalog::{App, Catalog, HostIndex, Mistake};
use crate::clock::Clock;
use crate::config::{self, Config, Token, Untouched};
use crate::credentials::{self, Slot};
use crate::ids::{AccountId, CallerId};
use crate::secret::TokenDigest;
use crate::sources;
use foldhash::HashMap;

pub struct World {
    pub unmatched: Untouched,
    pub unbound: Untouched,
    pub catalog: Arc<Catalog>,
    pub index: HostIndex,
    pub slots: Vec<Arc<Slot>>,
    callers: HashMap<CallerId, Arc<Caller>>,
    by_digest: HashMap<TokenDigest, Holder>,
    by_certificate: HashMap<String, Arc<Caller>>,
}

/// Whose a token is, and how long.
#[derive(Clone)]
struct Holder {
    caller: Arc<Caller>,
    until: Option<SystemTime>,
}

impl Holder {
    fn has_expired(&self) -> bool {
        self.caller.has_expired() || self.until.is_some_and(|until| until <= SystemTime::now())
    }
}

/// Why a configuration that reads well cannot be put into use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Account(#[from] credentials::Error),
    #[error("callers.{caller}.token: {source}")]
    Token { caller: CallerId, source: sources::Error },
    #[error(
        "callers.{caller}.token is shorter than {MIN_TOKEN_BYTES} characters; `countersign token` \
             makes a good one"
    )]
    ShortToken { caller: CallerId },
    #[error("callers.{one} and callers.{other} have the same token")]
    SharedToken { one: CallerId, other: CallerId },
    #[error("{0}")]
    Overlap(String),
}

impl Error {
    /// As `countersign check` shows it.
    pub fn as_mistake(&self, file: &str) -> Mistake {
        let text = self.to_string();
        match text.split_once(": ") {
            Some((key, rest)) if !key.contains(' ') => Mistake::new(file, None, key, rest),
            _ => Mistake::new(file, None, "", text),
        }
    }
}

/// 128 bits in hexadecimal: what cannot be guessed needs no slow hash.
const MIN_TOKEN_BYTES: usize = 24;

impl World {
    /// Reads every secret of the configuration and builds the snapshot, with what is `stored`.
    /// Limits of callers that stay are kept.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub async fn build(
        config: &Config,
        stored: &Stored,
        before: Option<&World>,
    ) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let slots = open_slots(config, &mut errors).await;
        let index = index_of(config, stored, &mut errors);
        let mut world = Self {
            unmatched: config.proxy.unmatched,
            unbound: config.proxy.unbound,
            catalog: config.catalog.clone(),
            index,
            slots: slots.values().cloned().collect(),
            callers: HashMap::default(),
            by_digest: HashMap::default(),
            by_certificate: HashMap::default(),
        };
        for caller in &config.callers {
            world.add(caller, &slots, before, &mut errors).await;
        }
        world.add_all(stored, before).await;
        if errors.is_empty() { Ok(world) } else { Err(errors) }
    }

    /// This snapshot with what is `stored` now. Nothing of the configuration is read again: a
    /// command that gives a token is not run because somebody added a caller.
    ///
    /// # Errors
    /// When accounts of two apps bring the same host.
    pub async fn with(&self, config: &Config, stored: &Stored) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let index = index_of(config, stored, &mut errors);
        let declared = |caller: &Caller| !caller.is_stored();
        let callers = self.callers.iter().filter(|(_, caller)| declared(caller));
        let tokens = self.by_digest.iter().filter(|(_, holder)| declared(&holder.caller));
        let mut world = Self {
            unmatched: self.unmatched,
            unbound: self.unbound,
            catalog: self.catalog.clone(),
            index,
            slots: self.slots.iter().filter(|slot| !slot.is_stored()).cloned().collect(),
            callers: callers.map(|(id, caller)| (id.clone(), caller.clone())).collect(),
            by_digest: tokens.map(|(digest, holder)| (*digest, holder.clone())).collect(),
            by_certificate: self.by_certificate.clone(),
        };
        world.add_all(stored, Some(self)).await;
        if errors.is_empty() { Ok(world) } else { Err(errors) }
    }

    async fn add_all(&mut self, stored: &Stored, before: Option<&World>) {
        self.slots.extend(stored.slots.values().cloned());
        for caller in &stored.callers {
            self.add_stored(caller, stored, before).await;
        }
        for (digest, until) in &stored.token_ends {
            if let Some(holder) = self.by_digest.get_mut(digest) {
                holder.until = Some(*until);
            }
        }
    }

    /// What is wrong with a stored caller concerns nobody else: it is left out, and logged.
    async fn add_stored(
        &mut self,
        caller: &config::Caller,
        stored: &Stored,
        before: Option<&World>,
    ) {
        if self.callers.contains_key(&caller.id) {
            let name = &caller.id;
            tracing::warn!(caller = %name, "in the configuration too, which counts; rename one");
            return;
        }
        let mut errors = Vec::new();
        self.add(caller, &stored.slots, before, &mut errors).await;
        for error in errors {
            tracing::warn!(caller = %caller.id, %error, "part of a stored caller is left out");
        }
    }

    async fn add(
        &mut self,
        caller: &config::Caller,
        slots: &HashMap<AccountId, Arc<Slot>>,
        before: Option<&World>,
        errors: &mut Vec<Error>,
    ) {
        let bound = caller.policy.bindings.iter().map(|binding| slots.get(&binding.id).cloned());
        // A slot that is missing has its own error already.
        let Some(bound) = bound.collect::<Option<Vec<_>>>() else { return };
        let entry = Arc::new(Caller {
            id: caller.id.clone(),
            policy: caller.policy.clone(),
            slots: bound,
            expires_at: caller.expires_at,
            limits: limits_of(caller, before),
        });
        for token in &caller.tokens {
            match digest_of(caller, token).await {
                Ok(digest) => self.add_token(digest, &entry, errors),
                Err(error) => errors.push(error),
            }
        }
        if let Some(name) = &caller.certificate {
            self.by_certificate.insert(name.clone(), entry.clone());
        }
        self.callers.insert(caller.id.clone(), entry);
    }

    fn add_token(&mut self, digest: TokenDigest, caller: &Arc<Caller>, errors: &mut Vec<Error>) {
        if let Some(other) = self.by_digest.get(&digest)
            && other.caller.id != caller.id
        {
            let (one, other) = (other.caller.id.clone(), caller.id.clone());
            errors.push(Error::SharedToken { one, other });
            return;
        }
        self.by_digest.insert(digest, Holder { caller: caller.clone(), until: None });
    }

    /// The caller whose token has this digest. With Basic the name must be that caller's.
    pub fn by_token(
        &self,
        digest: TokenDigest,
        name: Option<&str>,
        selector: Option<&str>,
    ) -> Option<Identity> {
        let holder = self.by_digest.get(&digest).filter(|holder| !holder.has_expired())?;
        if name.is_some_and(|name| name != holder.caller.id.as_str()) {
            return None;
        }
        self.identity(&holder.caller, Proof::Token(digest), selector)
    }

    pub fn by_certificate(&self, name: &str) -> Option<Identity> {
        let caller = self.by_certificate.get(name)?;
        self.identity(caller, Proof::Certificate(Arc::from(name)), None)
    }

    /// The identity that `proof` gives in this snapshot: how tunnels find out that a token was
    /// revoked, and which rules hold now.
    pub fn by_proof(&self, proof: &Proof) -> Option<Identity> {
        let caller = match proof {
            Proof::Token(digest) => {
                let holder = self.by_digest.get(digest).filter(|holder| !holder.has_expired());
                holder.map(|holder| &holder.caller)
            }
            Proof::Certificate(name) => self.by_certificate.get(&**name),
            Proof::Listener(id) => self.callers.get(id),
        };
        self.identity(caller?, proof.clone(), None)
    }

    /// `identity` as of now, or nothing if it was revoked or has expired.
    pub fn renewed(&self, identity: &Identity) -> Option<Identity> {
        let now = self.by_proof(&identity.proof)?;
        let same = now.caller.id == identity.caller.id;
        same.then(|| Identity { selector: identity.selector.clone(), ..now })
    }

    fn identity(
        &self,
        caller: &Arc<Caller>,
        proof: Proof,
        selector: Option<&str>,
    ) -> Option<Identity> {
        if caller.has_expired() {
            return None;
        }
        let selector = selector.filter(|name| !name.is_empty()).map(Arc::from);
        Some(Identity { caller: caller.clone(), proof, selector })
    }

    /// Whether the time of some caller or token is over, so that what they opened has to be closed.
    pub fn any_expired(&self) -> bool {
        self.callers.values().any(|caller| caller.has_expired())
            || self.by_digest.values().any(Holder::has_expired)
    }

    pub fn caller(&self, name: &str) -> Option<&Arc<Caller>> {
        self.callers.get(name)
    }

    pub fn callers(&self) -> impl Iterator<Item = &Arc<Caller>> {
        self.callers.values()
    }

    pub fn app(&self, id: &str) -> Option<&Arc<App>> {
        self.catalog.app(id)
    }
}

async fn open_slots(config: &Config, errors: &mut Vec<Error>) -> HashMap<AccountId, Arc<Slot>> {
    let mut slots = HashMap::default();
    for account in &config.accounts {
        let Some(app) = config.catalog.app(account.app.as_str()) else { continue };
        match Slot::declared(account, app, Clock::System).await {
            Ok(slot) => {
                slots.insert(account.id.clone(), Arc::new(slot));
            }
            Err(error) => errors.push(error.into()),
        }
    }
    slots
}

fn index_of(config: &Config, stored: &Stored, errors: &mut Vec<Error>) -> HostIndex {
    match config.host_index_with(stored.brought.clone()) {
        Ok(index) => index,
        Err(mistakes) => {
            errors.extend(mistakes.iter().map(|mistake| Error::Overlap(mistake.to_string())));
            config.catalog.index().clone()
        }
    }
}

fn limits_of(caller: &config::Caller, before: Option<&World>) -> Arc<Limits> {
    let held = before.and_then(|world| world.caller(caller.id.as_str())).map(|held| &held.limits);
    match held {
        Some(held) if held.rate == caller.rate && held.max_concurrent == caller.max_concurrent => {
            held.clone()
        }
        _ => Arc::new(Limits::new(caller.rate, caller.max_concurrent)),
    }
}

async fn digest_of(caller: &config::Caller, token: &Token) -> Result<TokenDigest, Error> {
    let reference = match token {
        Token::Digest(digest) => return Ok(*digest),
        Token::Reference(reference) => reference,
    };
    let failed = |source| Error::Token { caller: caller.id.clone(), source };
    let token = sources::read(reference).await.map_err(failed)?;
    if token.expose().len() < MIN_TOKEN_BYTES {
        return Err(Error::ShortToken { caller: caller.id.clone() });
    }
    Ok(TokenDigest::of(token.expose().as_bytes()))
}
