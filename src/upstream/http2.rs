//! One HTTP/2 connection, shared by the requests to one destination. It has a task of its own,
//! because its streams outlive each other.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

use super::Limits;
use super::body::{RequestBody, ResponseBody, Source};
use super::deadline::Deadline;
use super::error::Failure;
use super::http1::HeadWait;
use super::io::Io;
use super::message::{self, Asked};
use super::pool::Stream;

const MAX_HEADER_LIST_BYTES: u32 = 256 * 1024;
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A connection whose origin vanished is found by a PING, not by a request that waits.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs hyper's tasks where drain can wait for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// `permit` is the connection's place among those of its destination.
pub(super) async fn connect(
    io: Io,
    permit: OwnedSemaphorePermit,
    tracker: &TaskTracker,
) -> hyper::Result<SendRequest<RequestBody>> {
    let (sender, connection) = Builder::new(Tracked(tracker.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(io))
        .await?;
    tracker.spawn(async move {
        // Each stream reports its own failure; the connection's end has nobody else to tell.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "http/2 connection ended");
        }
        drop(permit);
    });
    Ok(sender)
}

pub(super) async fn exchange(
    mut stream: Stream,
    request: Request<RequestBody>,
    limits: &Limits,
) -> Result<Response<ResponseBody>, Failure> {
    let progress = request.body().progress().cloned();
    let mut answer = pin!(stream.sender().try_send_request(request));
    let mut wait = HeadWait::new(limits.first_byte_timeout, progress);
    let mut deadline = Deadline::default();
    deadline.start(limits.first_byte_timeout);
    let mut response = std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(result) = answer.as_mut().poll(cx) {
            return std::task::Poll::Ready(result.map_err(Failure::from));
        }
        wait.poll(&mut deadline, cx).map(Err)
    })
    .await?;
    deadline.stop();
    message::check_answer(&mut response, Asked::default()).map_err(Failure::Protocol)?;
    let source = Source::Http2 { _stream: stream, deadline };
    Ok(response.map(|incoming| ResponseBody::new(incoming, source, limits.idle_timeout)))
}
