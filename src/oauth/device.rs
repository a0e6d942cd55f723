//! The device grant (RFC 8628): a person confirms a short code in any browser, and one step after
//! the other asks whether they did. No step waits, so that a restart loses nothing.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::answer::{Class, TokenError, TokenSet};
use super::engine::{Engine, definition};
use super::reply::Reply;
use super::wire::Urgency;
use super::{Terms, classify, grant};
use crate::secret::Secret;

/// RFC 8628 §3.2: what the person needs to see, and what the next steps need.
#[derive(Clone)]
pub struct DeviceAuthorization {
    pub user_code: String,
    pub verification_uri: String,
    /// The same with the code in it, for a link or a QR code.
    pub verification_uri_complete: Option<String>,
    /// Between two steps; [`Poll::SlowDown`] adds five seconds to it.
    pub interval: Duration,
    pub expires_at: SystemTime,
    pub device_code: Secret,
}

/// What one step found (RFC 8628 §3.5).
pub enum Poll {
    Pending,
    /// Ask less often from now on.
    SlowDown,
    Done(Box<TokenSet>),
}

/// §3.2: the interval when the server says none.
const USUAL_INTERVAL: u64 = 5;
/// Answers that say nothing of an end are given up after this.
const USUAL_LIFE: u64 = 900;

impl Engine {
    /// # Errors
    /// When the server refuses, or its answer lacks what a person needs.
    pub async fn begin_device(
        &self,
        terms: &Terms<'_>,
        scopes: &[String],
    ) -> Result<DeviceAuthorization, TokenError> {
        let oauth2 = definition(terms)?;
        let call = grant::device_start(terms, oauth2, scopes, self.now())?;
        let secrets = call.secrets.clone();
        let reply = self.wire().send(call, oauth2.max_concurrency, Urgency::Once).await?;
        match classify::failure(oauth2, &reply, &secrets) {
            Some(failure) => Err(failure),
            None => read(&reply),
        }
    }

    /// One step. The caller keeps to the interval and to `expires_at`.
    ///
    /// # Errors
    /// When the person declined, the code expired, or the server fails.
    pub async fn poll_device(
        &self,
        terms: &Terms<'_>,
        device: &DeviceAuthorization,
    ) -> Result<Poll, TokenError> {
        let oauth2 = definition(terms)?;
        let call = grant::device_poll(terms, oauth2, &device.device_code, self.now())?;
        match self.tokens(terms, oauth2, call, None, Urgency::Once).await {
            Ok(tokens) => Ok(Poll::Done(Box::new(self.complete(terms, oauth2, tokens).await?))),
            Err(error) => match error.code.as_str() {
                "authorization_pending" => Ok(Poll::Pending),
                "slow_down" => Ok(Poll::SlowDown),
                "access_denied" | "expired_token" => {
                    Err(TokenError { class: Class::Dead, ..error })
                }
                _ => Err(error),
            },
        }
    }
}

fn read(reply: &Reply) -> Result<DeviceAuthorization, TokenError> {
    let body = reply.document.value();
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    let number = |name: &str| match body.get(name)? {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_u64(),
    };
    // Some servers still write `verification_url`, as drafts of the norm did.
    let uri = text("verification_uri").or_else(|| text("verification_url"));
    let complete = text("verification_uri_complete").or_else(|| text("verification_url_complete"));
    let (Some(device_code), Some(user_code), Some(uri)) =
        (text("device_code"), text("user_code"), uri)
    else {
        let message = "the server's answer to the device request is not complete";
        return Err(TokenError::sent(Class::Transient, "unreadable", message));
    };
    let life = Duration::from_secs(number("expires_in").unwrap_or(USUAL_LIFE).min(24 * 3600));
    Ok(DeviceAuthorization {
        user_code: classify::cleaned(user_code),
        verification_uri: page(uri)?,
        verification_uri_complete: complete.map(page).transpose()?,
        interval: Duration::from_secs(number("interval").unwrap_or(USUAL_INTERVAL).clamp(1, 300)),
        expires_at: reply.sent_at + life,
        device_code: Secret::from(device_code.to_owned()),
    })
}

/// A person will open it, so it is a web page and nothing else.
fn page(uri: &str) -> Result<String, TokenError> {
    let parsed = url::Url::parse(uri).ok();
    let usable = parsed.filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
    usable.map(String::from).ok_or_else(|| {
        let message = "the server's answer to the device request names no web page";
        TokenError::sent(Class::Transient, "unreadable", message)
    })
}
