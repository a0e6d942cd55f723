//! Telling the operator's own server what becomes of accounts. What is to be told is in the store
//! first, so that a restart loses nothing, and one node takes each; a server that does not answer is
//! asked again for a day. Addresses are guarded like an origin's: no webhook goes to a private one
//! unless the configuration allows that.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{HeaderName, Method, Request, Uri};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, unix_ms};
use crate::credentials::retry_wait;
use crate::host::Authority;
use crate::secret::{Secret, hex};
use crate::upstream::{Client, Destination, RequestBody};
use crate::vault::{TOKEN_MARK, Vault, Webhook};

/// `t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`, as Pipedream signs.
const SIGNATURE: HeaderName = HeaderName::from_static("x-pd-signature");
const TICK: Duration = Duration::from_secs(1);
const BATCH: u32 = 20;
/// Who takes a webhook and is never heard of again leaves it to others after this.
const TAKEN_FOR: Duration = Duration::from_secs(60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Delivers what is queued.
pub struct Webhooks {
    pub vault: Vault,
    pub upstream: Client,
    /// Signs each; unset: they are not signed.
    pub secret: Option<Secret>,
    pub clock: Clock,
}

/// Why a webhook did not arrive.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the URL is not one that can be called")]
    Url,
    #[error("the answer was {0}")]
    Status(http::StatusCode),
    #[error("there was no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    #[error(transparent)]
    Upstream(#[from] crate::upstream::Error),
}

impl Webhooks {
    /// Until `closing` is cancelled.
    pub async fn run(self, closing: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = closing.cancelled() => return,
            }
            let until = self.clock.now() + TAKEN_FOR;
            for webhook in self.vault.take_webhooks(BATCH, until).await.unwrap_or_default() {
                self.deliver(&webhook).await;
            }
        }
    }

    async fn deliver(&self, webhook: &Webhook) {
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, self.send(webhook)).await;
        let settled = match sent.unwrap_or(Err(Error::Timeout)) {
            Ok(()) => self.vault.finish_webhook(&webhook.id).await,
            Err(error) => self.not_delivered(webhook, &error).await,
        };
        if let Err(error) = settled {
            tracing::warn!(%error, "a webhook may be sent twice");
        }
    }

    async fn not_delivered(
        &self,
        webhook: &Webhook,
        error: &Error,
    ) -> Result<bool, crate::vault::Error> {
        let now = self.clock.now();
        let age = now.duration_since(webhook.created_at).unwrap_or_default();
        let (event, attempts) = (&webhook.event, webhook.attempts);
        if age > GIVE_UP_AFTER {
            tracing::error!(%event, attempts, %error, "a webhook was given up");
            return self.vault.finish_webhook(&webhook.id).await;
        }
        tracing::warn!(%event, attempts, %error, "a webhook did not arrive; it is sent again");
        let next = now + retry_wait(attempts);
        self.vault.postpone_webhook(&webhook.id, next, &error.to_string()).await
    }

    async fn send(&self, webhook: &Webhook) -> Result<(), Error> {
        let uri: Uri = webhook.url.parse().map_err(|_| Error::Url)?;
        let tls = uri.scheme_str() == Some("https");
        let authority = uri.authority().ok_or(Error::Url)?.as_str();
        let Authority { host, port } =
            Authority::parse(authority, if tls { 443 } else { 80 }).map_err(|_| Error::Url)?;
        let target = uri.path_and_query().ok_or(Error::Url)?.clone();
        let body = body(webhook);
        let mut request = Request::new(RequestBody::full(Bytes::from(body.clone())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.into();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(authority).map_err(|_| Error::Url)?);
        headers.insert(USER_AGENT, HeaderValue::from_static("countersign"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(signature) = self.signature(&body) {
            headers.insert(SIGNATURE, signature);
        }
        let destination = Destination { host, port, tls, http1_only: false };
        let response = self.upstream.send(&destination, request).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(Error::Status(status)),
        }
    }

    fn signature(&self, body: &str) -> Option<HeaderValue> {
        sign(self.secret.as_ref()?, body, self.clock.now())
    }
}

/// With the connect token that is kept apart from it.
fn body(webhook: &Webhook) -> String {
    match &webhook.token {
        Some(token) => webhook.body.replace(TOKEN_MARK, token.expose()),
        None => webhook.body.clone(),
    }
}

fn sign(secret: &Secret, body: &str, now: SystemTime) -> Option<HeaderValue> {
    let seconds = unix_ms(now) / 1000;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    HeaderValue::from_str(&format!("t={seconds},v1={}", hex(tag.as_ref()))).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_signature_is_over_time_and_body() {
        let secret = Secret::from("whsec".to_owned());
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let signed = sign(&secret, "{}", at).expect("visible");
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac whsec
        let expected =
            "t=1700000000,v1=7d44587dddbaf4c7f70fef20f48cd594834ffea1641e3ac227b84408298738af";
        assert_eq!(signed, expected);
        assert_ne!(sign(&secret, "{} ", at), Some(signed));
    }
}
