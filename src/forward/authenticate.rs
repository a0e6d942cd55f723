//! Who is asking: `Proxy-Authorization` (RFC 9110 §11.7.2), a client certificate, or the listener.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::{HeaderMap, PROXY_AUTHORIZATION};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::caller::{Identity, Proof};
use super::refusal::Refusal;
use super::world::World;
use crate::secret::TokenDigest;

/// Longer than any name and token together.
const MAX_CREDENTIALS_BYTES: usize = 4096;

/// What the connection itself proves, before a request is read.
#[derive(Clone, Default)]
pub enum Channel {
    /// Nothing: each request must say who it is.
    #[default]
    Anonymous,
    /// The names in a verified client certificate.
    Certificate(Vec<String>),
    /// A loopback listener that belongs to one caller.
    Listener(crate::ids::CallerId),
}

/// What a request claims: a token, and with Basic also a name.
struct Claim {
    name: Option<String>,
    digest: TokenDigest,
}

/// The caller of a proxy request. Each request is asked: a connection is not a proof.
///
/// # Errors
/// `NoCaller` when nothing was sent, `UnknownCaller` for every kind of wrong, so that neither names
/// nor tokens can be told from the answer.
pub fn authenticate(
    world: &World,
    channel: &Channel,
    headers: &HeaderMap,
) -> Result<Identity, Refusal> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    let Some(value) = values.next() else { return by_channel(world, channel) };
    if values.next().is_some() {
        return Err(Refusal::Malformed("more than one Proxy-Authorization"));
    }
    let text = value.to_str().map_err(|_| Refusal::UnknownCaller)?;
    by_credentials(world, text).ok_or(Refusal::UnknownCaller)
}

/// What the last request of a connection proved itself with, and who that was. Clients send the
/// same bytes with every request, and nothing has to be decoded or digested twice.
#[derive(Default)]
pub struct Acquaintance(Mutex<Option<(Zeroizing<Vec<u8>>, Identity)>>);

impl Acquaintance {
    /// As [`authenticate`]. Every request must bring its credentials, and who they belong to is
    /// asked again: tokens are revoked and run out while connections are open.
    ///
    /// # Errors
    /// As [`authenticate`].
    pub fn authenticate(
        &self,
        world: &World,
        channel: &Channel,
        headers: &HeaderMap,
    ) -> Result<Identity, Refusal> {
        let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return authenticate(world, channel, headers);
        };
        if let Some(identity) = self.recall(world, value.as_bytes()) {
            return Ok(identity);
        }
        let identity = authenticate(world, channel, headers)?;
        *self.0.lock() = Some((value.as_bytes().to_vec().into(), identity.clone()));
        Ok(identity)
    }

    /// In constant time: a connection may carry the requests of several clients.
    fn recall(&self, world: &World, credentials: &[u8]) -> Option<Identity> {
        let held = self.0.lock();
        let (known, identity) = held.as_ref()?;
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(known, credentials).is_ok();
        same.then(|| world.renewed(identity))?
    }
}

/// The caller of a gateway request, whose token (`token` or `token~nickname`) stands where the
/// origin's credential would.
pub fn by_bearer(world: &World, token: &str) -> Option<Identity> {
    let whole = world.by_token(TokenDigest::of(token.as_bytes()), None, None);
    whole.or_else(|| {
        let (token, nickname) = token.rsplit_once('~')?;
        world.by_token(TokenDigest::of(token.as_bytes()), None, Some(nickname))
    })
}

fn by_channel(world: &World, channel: &Channel) -> Result<Identity, Refusal> {
    match channel {
        Channel::Anonymous => Err(Refusal::NoCaller),
        Channel::Certificate(names) => {
            names.iter().find_map(|name| world.by_certificate(name)).ok_or(Refusal::UnknownCaller)
        }
        Channel::Listener(caller) => {
            world.by_proof(&Proof::Listener(caller.clone())).ok_or(Refusal::UnknownCaller)
        }
    }
}

fn by_credentials(world: &World, text: &str) -> Option<Identity> {
    if text.len() > MAX_CREDENTIALS_BYTES {
        return None;
    }
    let (scheme, credentials) = text.split_once(' ')?;
    let credentials = credentials.trim_start_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return by_bearer(world, credentials);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = decode(credentials)?;
    let (claim, selector) = read_basic(&decoded)?;
    world.by_token(claim.digest, claim.name.as_deref(), selector)
}

/// Padding is optional: some clients leave it out.
fn decode(credentials: &str) -> Option<Zeroizing<String>> {
    let bytes = STANDARD
        .decode(credentials)
        .or_else(|_| STANDARD_NO_PAD.decode(credentials.trim_end_matches('=')))
        .ok()?;
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}

/// `caller:token` or `caller~nickname:token`. axios sends userinfo without percent-decoding it, so
/// a `~` may arrive as `%7E`.
fn read_basic(pair: &str) -> Option<(Claim, Option<&str>)> {
    let (user, token) = pair.split_once(':')?;
    let split =
        user.split_once('~').or_else(|| user.split_once("%7E")).or_else(|| user.split_once("%7e"));
    let (name, selector) = split.map_or((user, None), |(name, nickname)| (name, Some(nickname)));
    let digest = TokenDigest::of(token.as_bytes());
    Some((Claim { name: Some(name.to_owned()), digest }, selector))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::Draft;
    use crate::forward::Stored;

    const TOKEN: &str = "flow-token-0123456789abcdefghijklmnop";

    async fn world(lines: &str) -> World {
        let catalog = crate::catalog::Catalog::embedded().expect("it has no mistakes");
        let config = Draft::parse(lines, None, &[]).finish(catalog.into()).expect("it is valid");
        World::build(&config, &Stored::default(), None)
            .await
            .unwrap_or_else(|_| panic!("it can be built"))
    }

    fn asks(user: &str, token: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:{token}")));
        let value = HeaderValue::from_str(&value).expect("visible");
        HeaderMap::from_iter([(PROXY_AUTHORIZATION, value)])
    }

    #[tokio::test]
    async fn who_was_known_on_a_connection_must_still_say_so_and_still_be_known() {
        let caller = |token: &str| format!("[callers.flow]\ntoken = {{ value = \"{token}\" }}\n");
        let (before, after) =
            (world(&caller(TOKEN)).await, world(&caller("another-token-0123456789abc")).await);
        let acquaintance = Acquaintance::default();
        let ask = |world: &World, headers: &HeaderMap| {
            let known = acquaintance.authenticate(world, &Channel::Anonymous, headers);
            known.map(|identity| (identity.caller.id.to_string(), identity.selector))
        };
        for _ in 0..2 {
            let named = ask(&before, &asks("flow~work", TOKEN));
            assert_eq!(named.ok(), Some(("flow".to_owned(), Some("work".into()))));
            assert!(matches!(ask(&before, &HeaderMap::new()), Err(Refusal::NoCaller)));
            assert!(matches!(ask(&before, &asks("flow", "wrong")), Err(Refusal::UnknownCaller)));
            assert!(matches!(ask(&before, &asks("other", TOKEN)), Err(Refusal::UnknownCaller)));
        }
        let mut twice = asks("flow", TOKEN);
        twice.append(PROXY_AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert!(matches!(ask(&before, &twice), Err(Refusal::Malformed(_))));
        assert!(ask(&before, &asks("flow", TOKEN)).is_ok());
        assert!(matches!(ask(&after, &asks("flow", TOKEN)), Err(Refusal::UnknownCaller)));
    }
}
