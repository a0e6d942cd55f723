//! One HTTP/1.1 connection, driven by the request that uses it.
//!
//! hyper splits a connection into a handle and a future that somebody has to poll. The usual way
//! is a task per connection; then every request wakes that task, and that task wakes the request.
//! Here the future stays beside its handle and is polled by whoever sends the request and reads
//! the answer, so one task does it all. An idle connection is polled by nobody: what its origin
//! sent meanwhile (an end, surplus bytes) is found when it is taken out again, before a request
//! is written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::header::CONNECTION;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use super::body::{Progress, RequestBody, ResponseBody, Source};
use super::deadline::Deadline;
use super::error::Failure;
use super::io::Io;
use super::knock::Knock;
use super::message::{self, Asked};
use super::pool::Lease;
use super::{Limits, Phase};
use crate::stream::Gate;

/// Also the limit of a response's head. The read buffer starts at 8 KiB and grows towards this
/// only while an origin keeps filling it. Of lines a head may have 100, as with Envoy: hyper has
/// room for that many on the stack, and would allocate for more with every answer.
const MAX_BUFFER_BYTES: usize = 128 * 1024;

pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    /// Gone when it has finished, and with it a request that it did not take any more.
    driver: Option<Driver>,
    pub(super) knock: Knock,
    /// The last answer is of the kind after which a connection stays open.
    persists: bool,
    pub(super) deadline: Deadline,
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;
type Plain = hyper::client::conn::http1::Connection<TokioIo<Gate<Io>>, RequestBody>;

/// hyper's type for a connection that can be upgraded has no name, so it is boxed, and only for
/// the requests that need it.
#[expect(clippy::large_enum_variant, reason = "nearly every connection is the large one")]
enum Driver {
    Plain(Plain),
    Upgradable(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
}

impl Driver {
    fn upgradable(self) -> Self {
        match self {
            Self::Plain(connection) => Self::Upgradable(Box::pin(connection.with_upgrades())),
            upgradable @ Self::Upgradable(_) => upgradable,
        }
    }
}

impl Future for Driver {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Plain(connection) => Pin::new(connection).poll(cx),
            Self::Upgradable(connection) => connection.as_mut().poll(cx),
        }
    }
}

impl Connection {
    pub(super) async fn over(io: Io) -> hyper::Result<Self> {
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_BUFFER_BYTES)
            .handshake(TokioIo::new(Gate::new(io)))
            .await?;
        Ok(Self {
            sender,
            driver: Some(Driver::Plain(connection)),
            knock: Knock::default(),
            persists: false,
            deadline: Deadline::default(),
        })
    }

    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        let Some(driver) = &mut self.driver else { return };
        if Pin::new(driver).poll(&mut self.knock.context(cx)).is_ready() {
            self.driver = None;
        }
    }

    fn upgradable(self) -> Self {
        Self { driver: self.driver.map(Driver::upgradable), ..self }
    }

    /// Leaves a request for the driver, which takes it when it is driven next.
    fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        let Self { sender, knock, .. } = self;
        knock.unheard(|| sender.try_send_request(request))
    }

    /// Whether it is worth keeping. Polled only where the answer leaves that open, so that a
    /// connection that is to be closed is closed now: the poll that counts comes when it is taken
    /// out again.
    pub(super) fn stays_open(&mut self) -> bool {
        self.driver.is_some() && (self.persists || self.is_usable())
    }

    /// Whether the next request may be given to it: the last exchange is over on both sides. What
    /// the origin did since then is seen when the request is sent, before a byte of it is written.
    pub(super) fn takes_request(&mut self) -> bool {
        self.driver.is_some() && self.sender.is_ready() || self.is_usable()
    }

    /// The same, and the origin did not close it, nor sent what no request asked for.
    pub(super) fn is_usable(&mut self) -> bool {
        self.drive(&Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// A connection with a task of its own, which ends with this value.
pub(super) struct Detached {
    task: Option<AbortHandle>,
    _sender: SendRequest<RequestBody>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Sends one request and waits for the head of its answer. The request is on its way before the
/// future is made, which therefore has no room for it.
pub(super) fn exchange<'a>(
    mut lease: Lease,
    request: Request<RequestBody>,
    asked: Asked,
    limits: &'a Limits,
    tracker: &'a TaskTracker,
) -> impl Future<Output = Result<Response<ResponseBody>, Failure>> + use<'a> {
    let progress = request.body().progress().cloned();
    if asked.upgrade {
        lease = lease.map(Connection::upgradable);
    }
    let answer = lease.connection().send(request);
    lease.connection().deadline.start(limits.first_byte_timeout);
    let wait = HeadWait::new(limits.first_byte_timeout, progress);
    Exchange { lease: Some(lease), answer, wait, asked, limits, tracker }
}

pin_project! {
    /// Written out, because an `async` block would hold its future twice: where it was made, and
    /// where it is awaited.
    struct Exchange<'a, A> {
        // Gone when it is over.
        lease: Option<Lease>,
        #[pin]
        answer: A,
        wait: HeadWait,
        asked: Asked,
        limits: &'a Limits,
        tracker: &'a TaskTracker,
    }
}

impl<A: Future<Output = Sent>> Future for Exchange<'_, A> {
    type Output = Result<Response<ResponseBody>, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(lease) = this.lease else { return Poll::Pending };
        let connection = lease.connection();
        connection.drive(cx);
        // As for the body: what completes the answer has just been polled.
        let nobody = &mut Context::from_waker(Waker::noop());
        let answered = match this.answer.poll(nobody) {
            Poll::Ready(answered) => answered.map_err(Failure::from),
            Poll::Pending => Err(ready!(this.wait.poll(&mut connection.deadline, cx))),
        };
        connection.deadline.stop();
        let Some(lease) = this.lease.take() else { return Poll::Pending };
        let progress = this.wait.progress.as_deref();
        Poll::Ready(answered.and_then(|response| {
            arrive(response, lease, *this.asked, progress, this.limits, this.tracker)
        }))
    }
}

/// The head of the answer is here: what becomes of its connection.
fn arrive(
    mut response: Response<Incoming>,
    mut lease: Lease,
    asked: Asked,
    progress: Option<&Progress>,
    limits: &Limits,
    tracker: &TaskTracker,
) -> Result<Response<ResponseBody>, Failure> {
    message::check_answer(&mut response, asked).map_err(Failure::Protocol)?;
    // RFC 9112 §9.3.
    lease.connection().persists =
        response.version() == Version::HTTP_11 && !response.headers().contains_key(CONNECTION);
    let source = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (connection, _) = lease.into_connection();
        if let Some(driver) = connection.driver {
            tracker.spawn(driver);
        }
        Source::Ended
    } else {
        source(lease, progress, tracker)
    };
    Ok(response.map(|incoming| ResponseBody::new(incoming, source, limits.idle_timeout)))
}

/// The limit for the head counts from the last byte of the request: an upload may take hours.
pub(super) struct HeadWait {
    limit: Duration,
    progress: Option<Arc<Progress>>,
    seen: u64,
}

impl HeadWait {
    pub(super) fn new(limit: Duration, progress: Option<Arc<Progress>>) -> Self {
        Self { limit, progress, seen: 0 }
    }

    pub(super) fn poll(&mut self, deadline: &mut Deadline, cx: &mut Context<'_>) -> Poll<Failure> {
        while deadline.poll(cx).is_ready() {
            if !self.has_moved() {
                return Poll::Ready(Failure::Timeout(self.phase(), self.limit));
            }
            deadline.start(self.limit);
        }
        Poll::Pending
    }

    fn has_moved(&mut self) -> bool {
        let bytes = self.progress.as_ref().map_or(0, |progress| progress.bytes());
        std::mem::replace(&mut self.seen, bytes) != bytes
    }

    fn phase(&self) -> Phase {
        let is_starved =
            |progress: &Arc<Progress>| !progress.is_complete() && progress.is_starved();
        let starved = self.progress.as_ref().is_some_and(is_starved);
        if starved { Phase::RequestBody } else { Phase::FirstByte }
    }
}

/// An answer may begin before the request's body has ended. Then the connection gets a task, so
/// that the upload goes on even while nobody reads the answer, and is not used again; a body that
/// still waits for its 100 is never sent (RFC 9110 §10.1.1).
fn source(lease: Lease, progress: Option<&Progress>, tracker: &TaskTracker) -> Source {
    match progress {
        Some(progress) if progress.awaits_continue() => {
            progress.shut_gate();
            Source::Http1(lease)
        }
        Some(progress) if !progress.is_complete() => {
            let (connection, permit) = lease.into_connection();
            let Connection { sender, driver, deadline, .. } = connection;
            let task = driver.map(|driver| tracker.spawn(driver).abort_handle());
            let detached = Detached { task, _sender: sender, _permit: permit };
            Source::Detached { _task: detached, deadline }
        }
        _ => Source::Http1(lease),
    }
}
