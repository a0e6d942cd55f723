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

enum Kind {
    Own(Option<Bytes>),
    Origin(Origin),
}

struct Origin {
    body: ResponseBody,
    exchange: Box<Exchange>,
    /// Boxed with what only it needs: an answer is moved often on its way to hyper.
    scrub: Option<Box<Scrubbing>>,
}

struct Scrubbing {
    scrub: Scrub,
    /// They wait for what the scrub held back.
    trailers: Option<Frame<Bytes>>,
    /// The scrub has given out everything.
    ended: bool,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl Origin {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        match &mut self.scrub {
            None => Pin::new(&mut self.body).poll_frame(cx),
            Some(scrubbing) => scrubbing.poll_frame(&mut self.body, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(Scrubbing { scrub, trailers, ended }) = self.scrub.as_deref() else {
            return self.body.is_end_stream();
        };
        let nothing_left = || scrub.surplus() == Some(0) && self.body.is_end_stream();
        trailers.is_none() && (*ended || nothing_left())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        let Some(scrubbing) = &self.scrub else { return rest };
        let Some(surplus) = scrubbing.scrub.surplus() else { return SizeHint::new() };
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + surplus as u64);
        }
        hint.set_lower(rest.lower() + surplus as u64);
        hint
    }
}

impl Scrubbing {
    /// Gives out all that the scrub has before it asks the origin for more.
    fn poll_frame(&mut self, body: &mut ResponseBody, cx: &mut Context<'_>) -> Polled {
        if self.ended {
            return Poll::Ready(self.trailers.take().map(Ok));
        }
        loop {
            let out = self.scrub.pull().map_err(BodyError::Coding)?;
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
            let frame = ready!(Pin::new(&mut *body).poll_frame(cx)).transpose()?;
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => self.scrub.push(data),
                Some(Err(trailers)) => self.trailers = Some(trailers),
                None => break,
            }
        }
        self.ended = true;
        let held = self.scrub.finish().map_err(BodyError::Coding)?;
        if held.is_empty() {
            return Poll::Ready(self.trailers.take().map(Ok));
        }
        Poll::Ready(Some(Ok(Frame::data(held))))
    }
}

impl Body {
    pub fn empty() -> Self {
        Self { kind: Kind::Own(None), busy: None }
    }

    /// `scrub` hides an echoed credential.
    pub fn origin(body: ResponseBody, exchange: Box<Exchange>, scrub: Option<Scrub>) -> Self {
        let scrubbing = |scrub| Box::new(Scrubbing { scrub, trailers: None, ended: false });
        let origin = Origin { body, exchange, scrub: scrub.map(scrubbing) };
        Self { kind: Kind::Origin(origin), busy: None }
    }

    /// How long the origin took to begin its answer; nothing if it is our own.
    pub fn waited(&self) -> Option<std::time::Duration> {
        match &self.kind {
            Kind::Own(_) => None,
            Kind::Origin(origin) => origin.exchange.waited(),
        }
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
