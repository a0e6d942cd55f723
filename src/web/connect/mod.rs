//! Connecting accounts in the browser: the page for a product's users, the page that the refusal of a
//! dead account leads to, the way to the provider, and the way back.
//!
//! A page knows its connect token and nothing else; what it may do follows from that. Every form is
//! taken from our own pages only, a flow is bound to the browser that began it, and its state is used
//! once (RFC 6749 §10.12). Nothing here shows a credential.

mod arrival;
mod keys;
mod page;
mod params;
mod problem;
mod request;
mod ticket;
mod view;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{Method, Request, Response};
use hyper::body::Incoming;

pub use arrival::OfPage;

use super::browser::is_from_here;
use super::flow::{CALLBACK, Departure, Flows, Purpose};
use crate::connect::{self, Connector, Wish};
use crate::credentials::{Keeper, Links};
use crate::forward::{Body, Forwarder};
use crate::secret::{Secret, TokenDigest};
use crate::vault::Vault;
use problem::{Kind, Problem};
use request::Asking;

/// The pages below `/connect/` and [`params::PAGE`].
pub struct Connect {
    keeper: Arc<Keeper>,
    connector: Connector,
    links: Arc<Links>,
    forwarder: Arc<Forwarder>,
    /// Where browsers find this server, if that is configured: `web.public_url`.
    url: Option<String>,
    /// The listener speaks TLS itself.
    secure: bool,
    tries: DefaultKeyedRateLimiter<TokenDigest>,
}

const PREFIX: &str = "/connect/";
/// Forms that may be sent with one connect token: each may ask the provider something.
const TRIES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("it is not 0");
/// More keys than this are looked through for those that have rested.
const MAX_KEYS: usize = 10_000;

impl Connect {
    /// `None` where there are no pages.
    pub fn of(
        keeper: Arc<Keeper>,
        forwarder: Arc<Forwarder>,
        url: Option<String>,
        secure: bool,
    ) -> Option<Self> {
        let links = keeper.links()?.clone();
        let connector = Connector::new(keeper.clone());
        let tries = RateLimiter::keyed(Quota::per_minute(TRIES_PER_MINUTE));
        Some(Self { keeper, connector, links, forwarder, url, secure, tries })
    }

    /// Whether a path is this room's.
    pub fn owns(path: &str) -> bool {
        path == params::PAGE || path.starts_with(PREFIX)
    }

    pub async fn answer(
        &self,
        client: std::net::IpAddr,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let asking = match Asking::read(client, request).await {
            Ok(asking) => asking,
            Err(refusal) => return refusal,
        };
        let method = &asking.head.method;
        let step = asking.head.uri.path().strip_prefix(PREFIX);
        match (step, method == Method::POST) {
            (None, false) => self.page(&asking).await,
            (Some("reconnect"), false) => self.ask_by_ticket(&asking).await,
            (Some("start"), false) => self.start_by_ticket(&asking).await,
            (Some("callback"), false) => Box::pin(self.callback(&asking)).await,
            (Some("begin"), true) => self.begin(&asking).await,
            (Some("keys"), true) => self.keys(&asking).await,
            (Some("state"), true) => self.state(&asking).await,
            _ => request::nothing_here(),
        }
    }

    fn vault(&self) -> &Vault {
        self.keeper.vault()
    }

    fn now(&self) -> SystemTime {
        self.keeper.clock().now()
    }

    fn flows(&self) -> Flows<'_> {
        Flows { keeper: &self.keeper, connector: &self.connector }
    }

    /// Where providers send browsers back to, unless a client says otherwise.
    fn redirect_uri(&self, asking: &Asking) -> String {
        format!("{}{CALLBACK}", self.base(asking))
    }

    /// Off to the provider. `token` is the connect token, if the purpose has one.
    async fn depart(
        &self,
        asking: &Asking,
        wish: &Wish,
        purpose: Purpose,
        token: Option<&Secret>,
    ) -> Result<Response<Body>, connect::Error> {
        let redirect_uri = self.redirect_uri(asking);
        let departure = Departure { wish, purpose, token, redirect_uri };
        self.flows().depart(&asking.head.headers, departure).await
    }

    /// As configured, else as this request found it: a cookie set at `localhost` does not come to
    /// `127.0.0.1`, so the way back must lead to the very same name.
    fn base(&self, asking: &Asking) -> String {
        if let Some(url) = &self.url {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.secure { "https" } else { "http" };
        match asking.host() {
            Some(host) => format!("{scheme}://{host}"),
            None => self.links.base().to_owned(),
        }
    }

    /// A form changes something, so it must come from a page of ours; and not too often.
    fn admit(&self, asking: &Asking, token: TokenDigest) -> Result<(), Problem> {
        if !is_from_here(&asking.head.headers, self.url.as_deref()) {
            return Err(Problem::new(Kind::Foreign, None));
        }
        if self.tries.len() > MAX_KEYS {
            self.tries.retain_recent();
        }
        let throttled = |_| Problem::new(Kind::Throttled, None);
        self.tries.check_key(&token).map_err(throttled)
    }
}
