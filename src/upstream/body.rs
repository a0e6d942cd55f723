//! The two bodies of an exchange, streamed: the client's on its way out, the origin's on its way
//! back. Neither is collected, but for a signature that covers it.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::deadline::Deadline;
use super::pool::{Lease, Stream};
use super::{BodyError, http1};

/// How long a client that asked `100-continue` is kept waiting for an origin that says nothing
/// (RFC 9110 §10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Why a client's body could not be read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectError {
    TooLarge,
    Broken,
    Idle,
}

/// What is sent to the origin after the head.
pub struct RequestBody(Kind);

enum Kind {
    Empty,
    Full(Bytes),
    Stream(Box<Upload>),
}

struct Upload {
    incoming: Incoming,
    progress: Arc<Progress>,
    counter: Option<Arc<AtomicU64>>,
    kept: Option<Box<dyn Any + Send + Sync>>,
    /// Runs while the origin's 100 is awaited.
    patience: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    pub fn full(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    pub fn stream(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self(Kind::Stream(Box::new(Upload {
            incoming,
            progress: Arc::default(),
            counter: None,
            kept: None,
            patience: None,
        })))
    }

    /// Adds the bytes that are streamed to `counter`.
    pub fn counted(mut self, counter: Arc<AtomicU64>) -> Self {
        if let Kind::Stream(upload) = &mut self.0 {
            upload.counter = Some(counter);
        }
        self
    }

    /// Drops `guard` when the body is gone, and not before.
    pub fn keeping(mut self, guard: impl Send + Sync + 'static) -> Self {
        if let Kind::Stream(upload) = &mut self.0 {
            upload.kept = Some(Box::new(guard));
        }
        self
    }

    /// Nothing is read from the client until the origin said 100, or said nothing for a second.
    pub fn after_continue(self) -> Self {
        if let Kind::Stream(upload) = &self.0 {
            upload.progress.gate.store(CLOSED, Ordering::Relaxed);
        }
        self
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    /// All of it, for whoever has to see it before the origin does. Asks a client that waits for
    /// 100 to go on.
    ///
    /// # Errors
    /// When it has more than `max_bytes`, breaks off, or brings nothing for `idle_timeout`.
    pub async fn collect(
        mut self,
        max_bytes: usize,
        idle_timeout: Duration,
    ) -> Result<Bytes, CollectError> {
        if let Some(progress) = self.progress() {
            progress.open_gate();
        }
        if let Kind::Full(bytes) = &mut self.0 {
            let bytes = std::mem::take(bytes);
            return if bytes.len() > max_bytes { Err(CollectError::TooLarge) } else { Ok(bytes) };
        }
        let known = usize::try_from(self.size_hint().lower()).unwrap_or(usize::MAX);
        if known > max_bytes {
            return Err(CollectError::TooLarge);
        }
        let mut all = BytesMut::with_capacity(known);
        loop {
            let frame = tokio::time::timeout(idle_timeout, self.frame()).await;
            let Some(frame) = frame.map_err(|_| CollectError::Idle)? else { break };
            let Ok(data) = frame.map_err(|_| CollectError::Broken)?.into_data() else { continue };
            if all.len() + data.len() > max_bytes {
                return Err(CollectError::TooLarge);
            }
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    }

    /// The same once more; `None` for what comes from a client and is gone when it was sent.
    pub(super) fn again(&self) -> Option<Self> {
        match &self.0 {
            Kind::Empty => Some(Self::empty()),
            Kind::Full(bytes) => Some(Self(Kind::Full(bytes.clone()))),
            Kind::Stream(_) => None,
        }
    }

    /// `None` for a body that is sent in one piece.
    pub(super) fn progress(&self) -> Option<&Arc<Progress>> {
        match &self.0 {
            Kind::Stream(upload) => Some(&upload.progress),
            Kind::Empty | Kind::Full(_) => None,
        }
    }
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
/// The answer came before the 100: the body is never read.
const SHUT: u8 = 2;

/// How far an upload is, seen from outside the connection that it is sent on.
#[derive(Default)]
pub(super) struct Progress {
    bytes: AtomicU64,
    complete: AtomicBool,
    /// The last thing that happened was that the client had nothing to give.
    starved: AtomicBool,
    gate: AtomicU8,
    waker: AtomicWaker,
}

impl Progress {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    pub(super) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    pub(super) fn awaits_continue(&self) -> bool {
        self.gate.load(Ordering::Acquire) == CLOSED
    }

    pub(super) fn open_gate(&self) {
        let _ = self.gate.compare_exchange(CLOSED, OPEN, Ordering::AcqRel, Ordering::Relaxed);
        self.waker.wake();
    }

    pub(super) fn shut_gate(&self) {
        self.gate.store(SHUT, Ordering::Release);
    }
}

impl Upload {
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.progress.waker.register(cx.waker());
        match self.progress.gate.load(Ordering::Acquire) {
            OPEN => return Poll::Ready(()),
            SHUT => return Poll::Pending,
            _ => {}
        }
        let patience =
            self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(CONTINUE_WAIT)));
        ready!(patience.as_mut().poll(cx));
        self.progress.open_gate();
        Poll::Ready(())
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.progress.gate.load(Ordering::Relaxed) != OPEN {
            ready!(self.poll_gate(cx));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.progress.starved.store(polled.is_pending(), Ordering::Relaxed);
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => self.count(frame),
            Some(Err(_)) => {}
            None => self.progress.complete.store(true, Ordering::Release),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
    }

    fn count(&self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(counter) = &self.counter {
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
        if frame.is_trailers() || self.incoming.is_end_stream() {
            self.progress.complete.store(true, Ordering::Release);
        }
    }
}

/// Shows no content.
impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Empty => "RequestBody(empty)",
            Kind::Full(_) => "RequestBody(full)",
            Kind::Stream(_) => "RequestBody(stream)",
        })
    }
}

/// Shows no content.
impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseBody({} bytes so far)", self.received)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Stream(upload) => upload.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(upload) => upload.incoming.size_hint(),
        }
    }
}

/// What the origin answers after the head. Holds the connection until its end, then gives it back
/// to the pool; dropped earlier, it closes the connection.
pub struct ResponseBody {
    incoming: Option<Incoming>,
    source: Source,
    idle_timeout: Duration,
    received: u64,
}

/// What has to be polled, or kept alive, for the body to go on.
pub(super) enum Source {
    /// Nothing more comes.
    Ended,
    /// The connection has no task of its own: whoever reads the body drives it.
    Http1(Lease),
    /// The upload was not finished when the answer began, so the connection got a task.
    Detached {
        _task: http1::Detached,
        deadline: Deadline,
    },
    Http2 {
        _stream: Stream,
        deadline: Deadline,
    },
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, source: Source, idle_timeout: Duration) -> Self {
        let mut body = Self { incoming: Some(incoming), source, idle_timeout, received: 0 };
        if body.incoming.as_ref().is_some_and(Body::is_end_stream) {
            body.finish();
        }
        body
    }

    /// Bytes of content so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The clean end. An HTTP/1.1 connection goes back to the pool here, which may be before the
    /// last piece reached the client.
    fn finish(&mut self) {
        self.incoming = None;
        if let Source::Http1(lease) = std::mem::replace(&mut self.source, Source::Ended) {
            lease.give_back();
        }
    }

    fn fail(&mut self) {
        self.incoming = None;
        self.source = Source::Ended;
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = self.source.poll(Pin::new(incoming), cx);
        let deadline = match &mut self.source {
            Source::Ended => return Poll::Ready(None),
            Source::Http1(lease) => &mut lease.connection().deadline,
            Source::Detached { deadline, .. } | Source::Http2 { deadline, .. } => deadline,
        };
        if let Poll::Ready(frame) = polled {
            deadline.stop();
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        deadline.start_unless_running(self.idle_timeout);
        ready!(deadline.poll(cx));
        Poll::Ready(Some(Err(BodyError::Idle(self.idle_timeout))))
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

impl Source {
    fn poll(&mut self, mut incoming: Pin<&mut Incoming>, cx: &mut Context<'_>) -> Polled {
        let Self::Http1(lease) = self else { return incoming.poll_frame(cx) };
        // Only driving the connection brings something, and that happens right here: the body's
        // own waker would wake this very task once more for nothing.
        let nobody = &mut Context::from_waker(Waker::noop());
        let connection = lease.connection();
        if let Poll::Ready(frame) =
            connection.knock.unheard(|| incoming.as_mut().poll_frame(nobody))
        {
            return Poll::Ready(frame);
        }
        connection.drive(cx);
        connection.knock.attend(cx, || incoming.poll_frame(nobody))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_incoming(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.incoming.as_ref().is_some_and(Body::is_end_stream) {
                    self.finish();
                }
            }
            Some(Err(_)) => self.fail(),
            None if self.size_hint().lower() > 0 => {
                self.fail();
                return Poll::Ready(Some(Err(BodyError::Truncated)));
            }
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
