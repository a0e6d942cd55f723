//! The body of an answer: countersign's own, or the origin's as it streams. An origin's body
//! carries its [`Exchange`], so that the request is recorded when its last byte has left, whether
//! it ended well, failed, or the client went away.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::exchange::Exchange;
use super::registry::InFlight;
use crate::upstream::{BodyError, ResponseBody};

pub struct Body {
    kind: Kind,
    /// Marks its connection as busy until the last byte has left.
    busy: Option<InFlight>,
}

enum Kind {
    Own(Option<Bytes>),
    Origin { body: ResponseBody, exchange: Box<Exchange> },
}

impl Body {
    pub fn empty() -> Self {
        Self { kind: Kind::Own(None), busy: None }
    }

    pub fn origin(body: ResponseBody, exchange: Box<Exchange>) -> Self {
        Self { kind: Kind::Origin { body, exchange }, busy: None }
    }

    pub fn busy(mut self, busy: InFlight) -> Self {
        self.busy = Some(busy);
        self
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self { kind: Kind::Own(bytes), busy: None }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Origin { body, exchange } => {
                let polled = Pin::new(body).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        exchange.sent(frame.data_ref().map_or(0, Bytes::len));
                    }
                    Poll::Ready(Some(Err(error))) => exchange.failed(error),
                    Poll::Ready(None) => exchange.complete(),
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Origin { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Origin { body, .. } => body.size_hint(),
        }
    }
}
