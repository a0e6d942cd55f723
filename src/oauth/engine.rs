//! One place that talks to authorization servers: builds, sends, reads, and says what came of it.
//! It keeps no account: terms come in, tokens or a [`TokenError`] go out.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::answer::{Class, Expiry, TokenError, TokenSet};
use super::authorize::{self, Authorization, Callback};
use super::grant::{self, Code};
use super::request::Call;
use super::values::Values;
use super::wire::{Urgency, Wire};
use super::{Error, Terms, classify, follow_up, jwt, revoke, tokens};
use crate::catalog::{AuthKind, FollowUp, Jwt, OAuth2, Site};
use crate::clock::Clock;
use crate::inject::Properties;
use crate::secret::Secret;
use crate::upstream;
use crate::vault::Tokens;

/// Cheap to share behind an `Arc`; one for the whole process, because it counts calls per endpoint.
pub struct Engine {
    wire: Wire,
}

/// What became of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    Done,
    /// The provider has nothing to call: the grant ends in its own settings.
    NotOffered,
}

impl Engine {
    pub fn new(upstream: upstream::Client, clock: Clock) -> Self {
        Self { wire: Wire::new(upstream, clock) }
    }

    /// Where the resource owner's browser has to go. `scopes` beside those that are always asked.
    ///
    /// # Errors
    /// When the definition, the OAuth client or the account's fields lack something.
    pub fn authorize(
        &self,
        terms: &Terms<'_>,
        redirect_uri: &str,
        scopes: &[String],
    ) -> Result<Authorization, Error> {
        let oauth2 = definition(terms)?;
        authorize::authorization(terms, oauth2, redirect_uri, scopes, self.wire.now())
    }

    /// Trades the code of a callback for tokens, and learns what the definition wants to know.
    ///
    /// # Errors
    /// When the callback or the answer is not in order. The code is spent once this was tried.
    pub async fn exchange(
        &self,
        terms: &Terms<'_>,
        callback: &Callback,
    ) -> Result<TokenSet, TokenError> {
        let oauth2 = definition(terms)?;
        let code = authorize::code(terms, oauth2, callback, self.wire.now())?;
        let (fields, secrets) = captured_of_callback(terms, oauth2, callback)?;
        let properties = with(terms.properties, &fields, &secrets);
        let terms = Terms { properties: &properties, ..*terms };
        let redirect_uri = callback.redirect_uri.as_str();
        let state = callback.params.get(authorize::state_param(oauth2)).map(String::as_str);
        let code = Code { code, state, redirect_uri, verifier: callback.verifier.as_ref() };
        let call = grant::code(&terms, oauth2, &code, self.wire.now())?;
        let mut tokens = self.tokens(&terms, oauth2, call, None, Urgency::Once).await?;
        tokens.fields.extend(fields);
        tokens.secrets.extend(secrets);
        self.complete(&terms, oauth2, tokens).await
    }

    /// The first tokens of a grant that needs no person.
    ///
    /// # Errors
    /// When the server gives none.
    pub async fn obtain(&self, terms: &Terms<'_>) -> Result<TokenSet, TokenError> {
        if let Some(rules) = self_signed(terms) {
            return self.sign(terms, rules);
        }
        let oauth2 = definition(terms)?;
        let call = grant::without_person(terms, oauth2, self.wire.now())?;
        let tokens = self.tokens(terms, oauth2, call, None, Urgency::Once).await?;
        self.complete(terms, oauth2, tokens).await
    }

    /// Fresh tokens, in whatever way the definition says: by the refresh token, by the access
    /// token, or by the grant once more.
    ///
    /// # Errors
    /// See [`TokenError`]; after one that was `sent`, a one-time refresh token may be spent.
    pub async fn renew(
        &self,
        terms: &Terms<'_>,
        held: Option<&Tokens>,
    ) -> Result<TokenSet, TokenError> {
        if let Some(rules) = self_signed(terms) {
            return self.sign(terms, rules);
        }
        let oauth2 = definition(terms)?;
        let call = grant::renewal(terms, oauth2, held, self.wire.now())?;
        let access = held.map(|tokens| &tokens.access);
        let tokens = self.tokens(terms, oauth2, call, access, Urgency::Again).await?;
        self.follow_renewal(terms, oauth2, tokens).await
    }

    /// By now a one-time refresh token is spent: a step that only looks something up must not lose
    /// its successor by failing.
    async fn follow_renewal(
        &self,
        terms: &Terms<'_>,
        oauth2: &OAuth2,
        mut tokens: TokenSet,
    ) -> Result<TokenSet, TokenError> {
        for step in oauth2.post_exchange.iter().filter(|step| step.always) {
            let followed = self.follow(terms, oauth2, std::iter::once(step), tokens.clone()).await;
            match followed {
                Ok(more) => tokens = more,
                Err(error) if step.replaces_tokens => return Err(error),
                Err(error) => tracing::warn!(app = %terms.app.id, %error, "a follow-up failed"),
            }
        }
        Ok(tokens)
    }

    /// Gives the tokens back to the provider.
    ///
    /// # Errors
    /// When the server says that it did not work; the grant may still be alive there.
    pub async fn revoke(&self, terms: &Terms<'_>, tokens: &Tokens) -> Result<Revoked, TokenError> {
        let Some(oauth2) = &terms.auth.oauth2 else { return Ok(Revoked::NotOffered) };
        let calls = revoke::calls(terms, oauth2, tokens, self.wire.now())?;
        if calls.is_empty() {
            return Ok(Revoked::NotOffered);
        }
        let mut first_failure = None;
        for call in calls {
            if let Err(failure) = self.give_back(oauth2, call).await {
                first_failure.get_or_insert(failure);
            }
        }
        match first_failure {
            Some(failure) => Err(failure),
            None => Ok(Revoked::Done),
        }
    }

    /// A token that the server does not know is as good as revoked (RFC 7009 §2.2).
    async fn give_back(&self, oauth2: &OAuth2, call: Call) -> Result<(), TokenError> {
        let secrets = call.secrets.clone();
        let reply = self.wire.send(call, oauth2.max_concurrency, Urgency::Once).await?;
        match classify::failure(oauth2, &reply, &secrets) {
            Some(failure) if failure.class == Class::Dead || failure.code == "invalid_token" => {
                Ok(())
            }
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    pub(super) async fn tokens(
        &self,
        terms: &Terms<'_>,
        oauth2: &OAuth2,
        call: Call,
        held: Option<&Secret>,
        urgency: Urgency,
    ) -> Result<TokenSet, TokenError> {
        let secrets = call.secrets.clone();
        let reply = self.wire.send(call, oauth2.max_concurrency, urgency).await?;
        tokens::read(terms, oauth2, &reply, held, &secrets)
    }

    /// The follow-ups of a first exchange, and the check that nothing is missing after them.
    pub(super) async fn complete(
        &self,
        terms: &Terms<'_>,
        oauth2: &OAuth2,
        tokens: TokenSet,
    ) -> Result<TokenSet, TokenError> {
        let tokens = self.follow(terms, oauth2, oauth2.post_exchange.iter(), tokens).await?;
        let has = |name: &str| {
            tokens.fields.contains_key(name)
                || tokens.secrets.contains_key(name)
                || terms.properties.contains_key(name)
        };
        match tokens::missing_field(terms.auth, has) {
            Some(name) => {
                let message = format!("the provider's answers have no \"{name}\"");
                Err(TokenError::sent(Class::Client, "incomplete", message))
            }
            None => Ok(tokens),
        }
    }

    async fn follow<'s>(
        &self,
        terms: &Terms<'_>,
        oauth2: &OAuth2,
        steps: impl Iterator<Item = &'s FollowUp>,
        mut tokens: TokenSet,
    ) -> Result<TokenSet, TokenError> {
        for step in steps {
            let call = follow_up::call(terms, step, &tokens, self.wire.now())?;
            let secrets = call.secrets.clone();
            let reply = self.wire.send(call, oauth2.max_concurrency, Urgency::Once).await?;
            if let Some(failure) = classify::failure(oauth2, &reply, &secrets) {
                return Err(failure);
            }
            tokens::capture(terms.auth, &step.capture, reply.document.value(), &mut tokens)?;
            if step.replaces_tokens {
                let new = tokens::read(terms, oauth2, &reply, None, &secrets)?;
                follow_up::replace(&mut tokens, new);
            }
        }
        Ok(tokens)
    }

    /// A token that needs no server (RFC 7519).
    fn sign(&self, terms: &Terms<'_>, rules: &Jwt) -> Result<TokenSet, TokenError> {
        let now = self.wire.now();
        let values = Values::of(terms, now);
        let access = jwt::own(rules, &values, now).map_err(Error::from)?;
        Ok(TokenSet { expires: Expiry::At(jwt::expiry(rules, now)), ..TokenSet::bare(access, now) })
    }

    pub(super) fn now(&self) -> SystemTime {
        self.wire.now()
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }
}

pub(super) fn definition<'a>(terms: &Terms<'a>) -> Result<&'a OAuth2, Error> {
    let app = || terms.app.id.to_string();
    terms.auth.oauth2.as_ref().ok_or_else(|| Error::NotDefined { app: app(), what: "oauth2" })
}

fn self_signed<'a>(terms: &Terms<'a>) -> Option<&'a Jwt> {
    let alone = terms.auth.oauth2.is_none() && terms.auth.kind == AuthKind::Jwt;
    terms.auth.jwt.as_ref().filter(|_| alone)
}

pub(super) type Captured = (BTreeMap<String, String>, Properties);

/// Some servers say in the callback which of their hosts has the code.
pub(super) fn captured_of_callback(
    terms: &Terms<'_>,
    oauth2: &OAuth2,
    callback: &Callback,
) -> Result<Captured, TokenError> {
    let mut captured = Captured::default();
    for capture in &oauth2.capture {
        let Site::CallbackParam(param) = &capture.site else { continue };
        let Some(value) = callback.params.get(param).filter(|value| !value.is_empty()) else {
            continue;
        };
        tokens::check_captured(terms.auth, &capture.name, value)?;
        if capture.secret {
            captured.1.insert(capture.name.clone(), Secret::from(value.clone()));
        } else {
            captured.0.insert(capture.name.clone(), value.clone());
        }
    }
    Ok(captured)
}

fn with(
    properties: &Properties,
    fields: &BTreeMap<String, String>,
    secrets: &Properties,
) -> Properties {
    let mut all = properties.clone();
    all.extend(fields.iter().map(|(name, value)| (name.clone(), Secret::from(value.clone()))));
    all.extend(secrets.clone());
    all
}
