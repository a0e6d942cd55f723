//! The body of an answer: countersign's own, or the origin's as it streams. An origin's body
//! carries its [`Exchange`], so that the request is recorded when its last byte has left, whether
//! it ended well, failed, or the client went away.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::exchange::Exchange;
use super::registry::InFlight;
use super::scrub::Scrub;
use crate::upstream::{BodyError, ResponseBody};

pub struct Body {
    kind: Kind,
    /// Marks its connection as busy until the last byte has left.
    busy: Option<InFlight>,
}

#[expect(clippy::large_enum_variant, reason = "nearly every body is an origin's")]
enum Kind {
    Own(Option<Bytes>),
    Origin(Origin),
}

struct Origin {
    body: ResponseBody,
    exchange: Box<Exchange>,
    scrub: Option<Box<Scrub>>,
    /// Trailers that wait for what the scrub held back.
    last: Option<Frame<Bytes>>,
}

impl Origin {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(scrub) = &mut self.scrub else { return Pin::new(&mut self.body).poll_frame(cx) };
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(last)));
        }
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(end_of(scrub)),
            };
            let mut out = match frame.into_data() {
                Ok(data) => scrub.push(data),
                Err(trailers) if scrub.held() == 0 => return Poll::Ready(Some(Ok(trailers))),
                Err(trailers) => {
                    self.last = Some(trailers);
                    return Poll::Ready(end_of(scrub));
                }
            };
            if out.is_empty() && self.body.is_end_stream() {
                out = scrub.finish();
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }

    fn held(&self) -> usize {
        self.scrub.as_ref().map_or(0, |scrub| scrub.held())
    }

    fn is_end_stream(&self) -> bool {
        self.held() == 0 && self.last.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, held) = (self.body.size_hint(), self.held() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint.set_lower(rest.lower() + held);
        hint
    }
}

fn end_of(scrub: &mut Scrub) -> Option<Result<Frame<Bytes>, BodyError>> {
    Some(scrub.finish()).filter(|held| !held.is_empty()).map(|held| Ok(Frame::data(held)))
}

impl Body {
    pub fn empty() -> Self {
        Self { kind: Kind::Own(None), busy: None }
    }

    /// `scrub` hides an echoed credential.
    pub fn origin(body: ResponseBody, exchange: Box<Exchange>, scrub: Option<Scrub>) -> Self {
        let scrub = scrub.map(Box::new);
        Self { kind: Kind::Origin(Origin { body, exchange, scrub, last: None }), busy: None }
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
            Kind::Origin(origin) => {
                let polled = origin.poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        origin.exchange.sent(frame.data_ref().map_or(0, Bytes::len));
                    }
                    Poll::Ready(Some(Err(error))) => origin.exchange.failed(error),
                    Poll::Ready(None) => origin.exchange.complete(),
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Origin(origin) => origin.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Origin(origin) => origin.size_hint(),
        }
    }
}
