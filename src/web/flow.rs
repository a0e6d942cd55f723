//! By way of a provider: off with a state that is used once and a cookie that names the browser, and
//! back with a code (RFC 6749 §10.12). One engine for the connect page, the links of refusals and
//! the workspace; what a flow is for is kept with it, and its own room goes on when it comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use serde::{Deserialize, Serialize};

use super::browser::{append_cookie, cookie, see_other};
use super::connect::OfPage;
use super::workspace::OfMember;
use crate::catalog::{Auth, Card};
use crate::connect::{self, Connector, Wish};
use crate::credentials::Keeper;
use crate::forward::Body;
use crate::inject::Properties;
use crate::oauth::{self, Callback};
use crate::random;
use crate::secret::{Secret, TokenDigest};
use crate::vault::{self, PendingFlow};

/// Where providers send browsers back to: the one address that operators register with them.
pub const CALLBACK: &str = "/connect/callback";
/// How long a person may take to agree.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Names of what is kept sealed.
const VERIFIER: &str = "verifier";
const TOKEN: &str = "token";
const FIELD: &str = "field.";

/// What a flow is for.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A refusal's link.
    Ticket { account: String },
    /// A connect token, which is kept sealed.
    Page(OfPage),
    /// A member of the workspace.
    Member(OfMember),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    purpose: Purpose,
    browser: String,
    redirect_uri: String,
}

/// A flow that is about to begin.
pub struct Departure<'a> {
    pub wish: &'a Wish,
    pub purpose: Purpose,
    /// The connect token, if the purpose has one.
    pub token: Option<&'a Secret>,
    /// The way back, unless the OAuth client is registered with another one.
    pub redirect_uri: String,
}

/// A flow that a callback belongs to. It has not ended yet.
pub struct Waiting {
    state: TokenDigest,
    kept: Kept,
}

/// A flow that came back.
pub struct Flow {
    pub purpose: Purpose,
    pub callback: Callback,
    pub state: TokenDigest,
    /// The digest of the browser's mark.
    pub browser: String,
    secrets: Properties,
}

/// Why a callback leads to no flow.
#[derive(Debug, thiserror::Error)]
pub enum Stray {
    #[error("there is no state in it")]
    NoState,
    #[error("its state was used already, has ended, or was never given out")]
    Over(TokenDigest),
    #[error("another browser began it")]
    OtherBrowser,
    #[error(transparent)]
    Store(#[from] vault::Error),
}

/// Begins flows and ends them.
pub struct Flows<'a> {
    pub keeper: &'a Keeper,
    pub connector: &'a Connector,
}

impl Flows<'_> {
    /// Off to the provider.
    ///
    /// # Errors
    /// When something is missing that the URL needs, and what the store says.
    pub async fn depart(
        &self,
        headers: &HeaderMap,
        departure: Departure<'_>,
    ) -> Result<Response<Body>, connect::Error> {
        let Departure { wish, purpose, token, redirect_uri } = departure;
        let registered = wish.client.as_ref().and_then(|c| c.record.details.redirect_uri.clone());
        // One that leads to a terminal's port is for the terminal.
        let registered = registered.filter(|uri| uri.ends_with(CALLBACK));
        let redirect_uri = registered.unwrap_or(redirect_uri);
        let authorization = self.connector.authorize(wish, &redirect_uri)?;
        if HeaderValue::from_str(&authorization.url).is_err() {
            return Err(oauth::Error::Url(authorization.url).into());
        }
        // Two flows at a time in two tabs have the same mark.
        let mark = mark(headers).map_or_else(|| random::token("", MARK_BYTES), Ok)?;
        let off = off_to(&authorization.url, &mark, redirect_uri.starts_with("https:"));
        let kept = Kept { purpose, browser: digest(&mark), redirect_uri };
        let mut secrets = sealed(wish, token);
        secrets.extend(authorization.verifier.map(|verifier| (VERIFIER.to_owned(), verifier)));
        let flow = PendingFlow {
            details: serde_json::to_string(&kept).unwrap_or_default(),
            secrets,
            expires_at: self.keeper.clock().now() + PATIENCE,
        };
        let state = TokenDigest::of(authorization.state.expose().as_bytes());
        self.keeper.vault().begin_flow(state, &flow).await?;
        Ok(off)
    }

    /// The flow that a callback belongs to, if it has not ended.
    ///
    /// # Errors
    /// When there is none.
    pub async fn waiting(&self, returned: &BTreeMap<String, String>) -> Result<Waiting, Stray> {
        let state = self.state_of(returned).ok_or(Stray::NoState)?;
        let details = self.keeper.vault().flow_details(state).await?;
        let kept = details.and_then(|details| serde_json::from_str(&details).ok());
        Ok(Waiting { state, kept: kept.ok_or(Stray::Over(state))? })
    }

    /// Ends a flow, once. Who comes from another browser does not end the flow of its owner.
    ///
    /// # Errors
    /// When it is another browser's, or has ended meanwhile.
    pub async fn take(
        &self,
        waiting: Waiting,
        headers: &HeaderMap,
        returned: &BTreeMap<String, String>,
    ) -> Result<Flow, Stray> {
        let Waiting { state, kept } = waiting;
        if browser(headers).as_ref() != Some(&kept.browser) {
            return Err(Stray::OtherBrowser);
        }
        let taken = self.keeper.vault().take_flow(state).await?.ok_or(Stray::Over(state))?;
        let verifier = taken.secrets.get(VERIFIER).cloned();
        let (params, redirect_uri) = (returned.clone(), kept.redirect_uri);
        Ok(Flow {
            purpose: kept.purpose,
            callback: Callback { params, verifier, redirect_uri },
            state,
            browser: kept.browser,
            secrets: taken.secrets,
        })
    }

    /// By whatever name the provider sends it back.
    fn state_of(&self, returned: &BTreeMap<String, String>) -> Option<TokenDigest> {
        let catalog = self.keeper.catalog();
        let names = catalog.cards().flat_map(Card::state_params);
        let value = std::iter::once("state").chain(names).find_map(|name| returned.get(name))?;
        Some(TokenDigest::of(value.as_bytes()))
    }
}

impl Waiting {
    pub fn purpose(&self) -> &Purpose {
        &self.kept.purpose
    }
}

impl Flow {
    /// What the person entered before leaving, by field.
    pub fn entered(&self) -> BTreeMap<String, Secret> {
        entered_of(&self.secrets)
    }

    /// The connect token with which it began.
    pub fn token(&self) -> Option<&Secret> {
        self.secrets.get(TOKEN)
    }
}

/// Of what was kept sealed, the fields.
pub fn entered_of(secrets: &Properties) -> BTreeMap<String, Secret> {
    let field = |(name, value): (&String, &Secret)| {
        Some((name.strip_prefix(FIELD)?.to_owned(), value.clone()))
    };
    secrets.iter().filter_map(field).collect()
}

/// What is kept of a wish until the person comes back.
pub fn sealed(wish: &Wish, token: Option<&Secret>) -> Properties {
    let fields = wish.entered.iter().map(|(name, value)| (format!("{FIELD}{name}"), value.clone()));
    let token = token.map(|token| (TOKEN.to_owned(), token.clone()));
    fields.chain(token).collect()
}

const COOKIE_NAME: &str = "countersign_flow";
/// Browsers take a cookie of this name only over TLS and from this very host.
const SECURE_COOKIE_NAME: &str = "__Host-countersign_flow";
const MARK_BYTES: usize = 32;

/// What this browser was given when it first began a flow.
fn mark(headers: &HeaderMap) -> Option<Secret> {
    let value = cookie(headers, SECURE_COOKIE_NAME).or_else(|| cookie(headers, COOKIE_NAME))?;
    (value.len() == 2 * MARK_BYTES).then(|| Secret::from(value.to_owned()))
}

/// The same as a digest, which is what flows are stored with.
pub fn browser(headers: &HeaderMap) -> Option<String> {
    mark(headers).map(|mark| digest(&mark))
}

fn digest(mark: &Secret) -> String {
    TokenDigest::of(mark.expose().as_bytes()).to_hex()
}

/// With the cookie that binds the flow to this browser.
fn off_to(url: &str, mark: &Secret, secure: bool) -> Response<Body> {
    let (name, secure) = if secure { (SECURE_COOKIE_NAME, "; Secure") } else { (COOKIE_NAME, "") };
    let (mark, age) = (mark.expose(), PATIENCE.as_secs());
    let cookie = format!("{name}={mark}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    let mut response = see_other(url);
    append_cookie(&mut response, &cookie);
    response
}

/// Where the form of a provider's consent leads to, by way of a redirect, as a CSP source.
pub fn provider_of(auth: &Auth) -> Option<String> {
    let url = auth.oauth2.as_ref()?.authorize_url.as_ref()?.source();
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", "{"));
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if !authority.contains('{') {
        return Some(format!("{scheme}://{authority}"));
    }
    let (hole, after) = authority.split_once('}').unwrap_or_default();
    let one_label = hole.starts_with('{') && after.starts_with('.') && !after.contains('{');
    Some(if one_label { format!("{scheme}://*{after}") } else { format!("{scheme}:") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn a_browser_is_known_by_a_whole_cookie_only() {
        let asking = |cookie: &str| {
            let value = HeaderValue::from_str(cookie).expect("a header value");
            HeaderMap::from_iter([(http::header::COOKIE, value)])
        };
        let written = "a".repeat(64);
        let cookie = format!("x=1; countersign_flow={written}; y=2");
        let known = mark(&asking(&cookie)).expect("it is there");
        assert_eq!(known.expose(), written);
        for other in ["countersign_flow=short", "xcountersign_flow=1", ""] {
            assert!(mark(&asking(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn a_form_may_lead_to_its_provider_and_nowhere_else() {
        let catalog = Catalog::embedded().expect("the catalog is sound");
        for (app, target) in
            [("slack", Some("https://slack.com")), ("zendesk", Some("https://*.zendesk.com"))]
        {
            let auth = catalog.app(app).expect(app).default_auth();
            assert_eq!(provider_of(auth).as_deref(), target, "{app}");
        }
    }
}
