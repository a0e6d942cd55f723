//! What is done last to a request that is ready to go: a credential in its body, a signature. Where
//! the body matters, it is read first: bounded for each request, and for all of them together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errand::{Credential, Errand};
use super::refusal::Refusal;
use crate::credentials::State;
use crate::inject::{Finished, Head, Moment, Prepared, SignError};
use crate::random;
use crate::upstream::{CollectError, RequestBody};

/// The largest body that is read for its signature. What AWS's APIs take as one request is smaller,
/// but for S3, which takes bodies that are not signed.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// All bodies that are read at one time.
const MAX_TOTAL_KIB: usize = 256 * 1024;

/// The memory for bodies that are signed.
pub struct Room(Arc<Semaphore>);

/// A part of the [`Room`], until it is dropped.
pub(super) struct Reserved(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_TOTAL_KIB)))
    }
}

impl Room {
    /// Waits its turn.
    async fn reserve(&self, bytes: usize, patience: Duration) -> Result<Reserved, Refusal> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let permit = tokio::time::timeout(patience, self.0.clone().acquire_many_owned(kib)).await;
        permit.ok().and_then(Result::ok).map(Reserved).ok_or(Refusal::BodiesBusy)
    }
}

impl Errand {
    /// Whatever its app wants beyond the head's own values.
    pub(super) async fn finish(&mut self, room: &Room, patience: Duration) -> Result<(), Refusal> {
        let needs_body = self.with_head(|prepared, head| prepared.needs_body(head))?;
        let body = match needs_body {
            Some(true) => self.whole_body(room, patience).await?,
            _ => Bytes::new(),
        };
        self.finish_with(&body)
    }

    /// `body` is all of it, or nothing where it does not matter.
    pub(super) fn finish_with(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let finished = self.with_head(|prepared, head| {
            let nonce = format!("{:016x}{:016x}", random::bits(), random::bits());
            prepared.finish(head, body, &Moment { now: SystemTime::now(), nonce })
        })?;
        let Some(Finished { mask, body }) = finished else { return Ok(()) };
        if self.mask.is_some() {
            self.mask = Some(mask);
        }
        if let Some(body) = body {
            self.parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            self.body = Some(RequestBody::full(body.into()));
        }
        Ok(())
    }

    fn with_head<T>(
        &mut self,
        act: impl FnOnce(&Prepared, &mut Head<'_>) -> Result<T, SignError>,
    ) -> Result<Option<T>, Refusal> {
        let (Some(choice), Some(credential)) = (self.unfinished, &self.credential) else {
            return Ok(None);
        };
        let Credential { slot, current } = credential;
        let State::Ready(attachable) = &current.state else { return Ok(None) };
        let Some(prepared) = attachable.of(choice) else { return Ok(None) };
        let mut head = Head {
            method: &self.parts.method,
            host: &self.destination.host,
            headers: &mut self.parts.headers,
            target: &mut self.target,
            secure: self.destination.tls,
        };
        let unsignable = |source| Refusal::Unsignable { account: slot.account.clone(), source };
        act(prepared, &mut head).map(Some).map_err(unsignable)
    }

    /// The body, of which the origin gets exactly what was signed.
    async fn whole_body(&mut self, room: &Room, patience: Duration) -> Result<Bytes, Refusal> {
        let body = self.body.take().unwrap_or_else(RequestBody::empty);
        if body.is_empty() {
            return Ok(Bytes::new());
        }
        let at_most = usize::try_from(body.size_hint().upper().unwrap_or(u64::MAX));
        let bytes = at_most.unwrap_or(usize::MAX).min(MAX_BODY_BYTES);
        self.room = Some(room.reserve(bytes, patience).await?);
        let read = body.collect(MAX_BODY_BYTES, patience).await;
        let bytes = read.map_err(|error| self.unreadable(error))?;
        // The client has been told to go on already.
        self.parts.headers.remove(EXPECT);
        self.body = Some(RequestBody::full(bytes.clone()));
        Ok(bytes)
    }

    fn unreadable(&self, error: CollectError) -> Refusal {
        match (error, &self.credential) {
            (CollectError::TooLarge, Some(Credential { slot, .. })) => {
                let account = slot.account.clone();
                Refusal::BodyTooLarge { account, max_bytes: MAX_BODY_BYTES }
            }
            (CollectError::Idle, _) => Refusal::BodyLate,
            _ => Refusal::Malformed("the body broke off"),
        }
    }
}
