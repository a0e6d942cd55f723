//! Agreeing on another device (RFC 8628): the page shows a code and where to enter it, and looks now
//! and then whether that was done. Whoever looks, the provider is asked no more often than it wants.

use std::time::{Duration, SystemTime};

use askama::Template;
use http::Response;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::Trouble;
use super::super::shell::{Section, Shell};
use super::super::visit::{Flash, Visit};
use super::{OfMember, done, sentence};
use crate::clock::unix_ms;
use crate::connect::{self, Polled, Wish};
use crate::forward::Body;
use crate::oauth::DeviceAuthorization;
use crate::random;
use crate::secret::TokenDigest;
use crate::vault::PendingFlow;
use crate::web::flow::{entered_of, sealed};

/// The name of what is kept sealed beside the fields.
const CODE: &str = "device_code";
/// RFC 8628 §3.5.
const SLOWER: Duration = Duration::from_secs(5);

/// A code that was given out, until the person has agreed.
#[derive(Serialize, Deserialize)]
struct Given {
    of: OfMember,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    interval_ms: u64,
    /// The provider is not asked before.
    next_at_ms: u64,
    expires_at_ms: u64,
}

#[derive(Template)]
#[template(path = "workspace/device.html")]
struct DevicePage<'a> {
    shell: Shell<'a>,
    app: &'a str,
    code: &'a str,
    /// Shown, and where to go: the same, or one that has the code in it.
    address: &'a str,
    go: &'a str,
    action: String,
    /// Seconds between two looks.
    pause: u64,
    minutes: u64,
}

/// Asks the provider for a code, and leads to the page that shows it.
pub async fn begin(visit: &Visit<'_>, wish: &Wish) -> Result<Response<Body>, connect::Error> {
    let workspace = visit.workspace;
    let device = workspace.connector.begin_device(wish).await?;
    let token = random::token("", 16)?;
    let state = TokenDigest::of(token.expose().as_bytes());
    let given = Given {
        of: OfMember::of(visit.member(), wish),
        user_code: device.user_code,
        verification_uri: device.verification_uri,
        verification_uri_complete: device.verification_uri_complete,
        interval_ms: ms(device.interval),
        next_at_ms: unix_ms(workspace.now()) + ms(device.interval),
        expires_at_ms: unix_ms(device.expires_at),
    };
    let mut secrets = sealed(wish, None);
    secrets.insert(CODE.to_owned(), device.device_code);
    let details = serde_json::to_string(&given).unwrap_or_default();
    let flow = PendingFlow { details, secrets, expires_at: device.expires_at };
    workspace.vault().begin_flow(state, &flow).await?;
    Ok(visit.go(&format!("/accounts/connect/code/{}", token.expose()), None))
}

/// The page with the code, and each look whether the person has agreed.
pub async fn page(visit: &Visit<'_>, token: &str) -> Result<Response<Body>, Trouble> {
    let state = TokenDigest::of(token.as_bytes());
    let over = || Trouble::Bad("This code is over: it was used, or took too long.".to_owned());
    let flow = visit.vault().flow(state).await?.ok_or_else(over)?;
    let given: Given = serde_json::from_str(&flow.details).map_err(|_| over())?;
    if !given.of.is_of(visit.member()) {
        return Err(Trouble::NotFound);
    }
    if !visit.is_post() {
        return shown(visit, token, &given);
    }
    match look(visit, state, &flow, given).await? {
        Seen::Waiting(given) if wants_json(visit) => {
            Ok(as_json(visit.go("", None), &json!({ "after": given.interval_ms.div_ceil(1000) })))
        }
        Seen::Waiting(given) => shown(visit, token, &given),
        Seen::Over(response) if wants_json(visit) => {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let said = json!({ "to": to.unwrap_or("/accounts") });
            Ok(as_json(*response, &said))
        }
        Seen::Over(response) => Ok(*response),
    }
}

enum Seen {
    Waiting(Box<Given>),
    /// It leads to where the person sees what came of it.
    Over(Box<Response<Body>>),
}

async fn look(
    visit: &Visit<'_>,
    state: TokenDigest,
    flow: &PendingFlow,
    mut given: Given,
) -> Result<Seen, Trouble> {
    let now = unix_ms(visit.now());
    if now < given.next_at_ms {
        return Ok(Seen::Waiting(Box::new(given)));
    }
    given.next_at_ms = now + given.interval_ms;
    let details = serde_json::to_string(&given).unwrap_or_default();
    // Another look is under way: of several only one asks.
    if !visit.vault().change_flow(state, &flow.details, &details).await? {
        return Ok(Seen::Waiting(Box::new(given)));
    }
    let wish = given.of.wish(visit, entered_of(&flow.secrets)).await?;
    let device = given.device(flow);
    match visit.workspace.connector.poll_device(&wish, &device).await {
        Ok(Polled::Pending) => Ok(Seen::Waiting(Box::new(given))),
        Ok(Polled::SlowDown) => {
            given.interval_ms += ms(SLOWER);
            given.next_at_ms = now + given.interval_ms;
            let slower = serde_json::to_string(&given).unwrap_or_default();
            visit.vault().change_flow(state, &details, &slower).await?;
            Ok(Seen::Waiting(Box::new(given)))
        }
        Ok(Polled::Connected(connected)) => {
            visit.vault().take_flow(state).await?;
            Ok(Seen::Over(Box::new(done(visit, &wish, &connected))))
        }
        Err(error @ connect::Error::Store(_)) => Err(error.into()),
        Err(error) => {
            visit.vault().take_flow(state).await?;
            let said = match &error {
                connect::Error::Provider(said) => format!("{} says: {said}", wish.app.name),
                other => sentence(other),
            };
            let flash = Flash::warning(format!("Nothing was connected. {said}"));
            Ok(Seen::Over(Box::new(visit.go(&given.of.page(), Some(flash)))))
        }
    }
}

fn shown(visit: &Visit<'_>, token: &str, given: &Given) -> Result<Response<Body>, Trouble> {
    let catalog = visit.workspace.keeper.catalog();
    let app = catalog.app(given.of.app()).ok_or(Trouble::NotFound)?;
    let title = format!("Connect {}", app.name);
    let left = given.expires_at_ms.saturating_sub(unix_ms(visit.now()));
    Ok(visit.page(&DevicePage {
        shell: visit.shell(Section::Connect, &title),
        app: &app.name,
        code: &given.user_code,
        address: &given.verification_uri,
        go: given.verification_uri_complete.as_deref().unwrap_or(&given.verification_uri),
        action: format!("/accounts/connect/code/{token}"),
        pause: given.interval_ms.div_ceil(1000),
        minutes: left.div_ceil(60_000),
    }))
}

impl Given {
    fn device(&self, flow: &PendingFlow) -> DeviceAuthorization {
        DeviceAuthorization {
            user_code: self.user_code.clone(),
            verification_uri: self.verification_uri.clone(),
            verification_uri_complete: self.verification_uri_complete.clone(),
            interval: Duration::from_millis(self.interval_ms),
            expires_at: SystemTime::UNIX_EPOCH + Duration::from_millis(self.expires_at_ms),
            device_code: flow.secrets.get(CODE).cloned().unwrap_or_else(|| String::new().into()),
        }
    }
}

/// Our own script asks so.
fn wants_json(visit: &Visit<'_>) -> bool {
    visit.headers.get(ACCEPT).is_some_and(|accept| accept == "application/json")
}

/// The cookies of a response, with a body in the place of its redirect.
fn as_json(mut response: Response<Body>, said: &serde_json::Value) -> Response<Body> {
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().remove(LOCATION);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.map(|_| Body::from(said.to_string()))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
