//! What every request reads: one immutable snapshot of callers, policy, apps and credentials,
//! swapped whole on reload. No request sees half of a new configuration.

use std::collections::HashMap;
use std::sync::Arc;

use super::caller::{Caller, Identity, Limits, Proof};
use crate::catalog::{App, Catalog, HostIndex, Mistake};
use crate::config::{self, Config, Token, Untouched};
use crate::credentials::{self, Slot};
use crate::ids::{AccountId, CallerId};
use crate::secret::TokenDigest;
use crate::sources;

pub struct World {
    pub unmatched: Untouched,
    pub unbound: Untouched,
    pub catalog: Arc<Catalog>,
    pub index: HostIndex,
    pub slots: Vec<Arc<Slot>>,
    callers: HashMap<CallerId, Arc<Caller>>,
    by_digest: HashMap<TokenDigest, Arc<Caller>>,
    by_certificate: HashMap<String, Arc<Caller>>,
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
    /// Reads every secret and builds the snapshot. Limits of callers that stay are kept.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub async fn build(config: &Config, before: Option<&World>) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let slots = open_slots(config, &mut errors).await;
        let index = index_of(config, &mut errors);
        let mut world = Self {
            unmatched: config.proxy.unmatched,
            unbound: config.proxy.unbound,
            catalog: config.catalog.clone(),
            index,
            slots: slots.values().cloned().collect(),
            callers: HashMap::new(),
            by_digest: HashMap::new(),
            by_certificate: HashMap::new(),
        };
        for caller in &config.callers {
            world.add(caller, &slots, before, &mut errors).await;
        }
        if errors.is_empty() { Ok(world) } else { Err(errors) }
    }

    async fn add(
        &mut self,
        caller: &config::Caller,
        slots: &HashMap<AccountId, Arc<Slot>>,
        before: Option<&World>,
        errors: &mut Vec<Error>,
    ) {
        let bound =
            caller.policy.bindings.iter().map(|binding| slots.get(&binding.account).cloned());
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
        if let Some(other) = self.by_digest.insert(digest, caller.clone())
            && other.id != caller.id
        {
            errors.push(Error::SharedToken { one: other.id.clone(), other: caller.id.clone() });
        }
    }

    /// The caller whose token has this digest. With Basic the name must be that caller's.
    pub fn by_token(
        &self,
        digest: TokenDigest,
        name: Option<&str>,
        selector: Option<&str>,
    ) -> Option<Identity> {
        let caller = self.by_digest.get(&digest)?;
        if name.is_some_and(|name| name != caller.id.as_str()) {
            return None;
        }
        self.identity(caller, Proof::Token(digest), selector)
    }

    pub fn by_certificate(&self, name: &str) -> Option<Identity> {
        let caller = self.by_certificate.get(name)?;
        self.identity(caller, Proof::Certificate(Arc::from(name)), None)
    }

    /// The identity that `proof` gives in this snapshot: how tunnels find out that a token was
    /// revoked, and which rules hold now.
    pub fn by_proof(&self, proof: &Proof) -> Option<Identity> {
        let caller = match proof {
            Proof::Token(digest) => self.by_digest.get(digest),
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
    let mut slots = HashMap::new();
    for account in &config.accounts {
        let Some(app) = config.catalog.app(account.app.as_str()) else { continue };
        match Slot::open(account, app).await {
            Ok(slot) => {
                slots.insert(account.name.clone(), Arc::new(slot));
            }
            Err(error) => errors.push(error.into()),
        }
    }
    slots
}

fn index_of(config: &Config, errors: &mut Vec<Error>) -> HostIndex {
    match config.host_index() {
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
