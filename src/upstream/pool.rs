//! Connections kept for the next request, per destination.
//!
//! A request takes the idle connection that was used last (it is the least likely to be dead), and
//! gives it back when the answer has ended. The lock of a destination is held for a push or a pop,
//! never while a connection is polled or opened. The number of HTTP/1.1 exchanges at once is the
//! number of permits, so open connections never exceed it: one is only opened when none is idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::HashMap;
use http::HeaderValue;
use http::uri::Scheme;
use hyper::client::conn::http2::SendRequest;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::body::RequestBody;
use super::http1::Connection;
use super::{Destination, Limits};
use crate::host::Authority;

/// Streams that one HTTP/2 connection carries before another is opened: what most servers allow.
pub(super) const STREAMS_PER_CONNECTION: usize = 100;

pub(super) struct Pool {
    origins: RwLock<HashMap<Destination, Arc<Origin>>>,
    limits: Arc<Limits>,
}

impl Pool {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self { origins: RwLock::default(), limits }
    }

    pub(super) fn origin(&self, to: &Destination) -> Arc<Origin> {
        if let Some(origin) = self.origins.read().get(to) {
            return origin.clone();
        }
        let new = || Arc::new(Origin::new(to.clone(), self.limits.clone()));
        self.origins.write().entry(to.clone()).or_insert_with(new).clone()
    }

    /// Closes what was idle for too long or has died, and forgets destinations with nothing left.
    pub(super) fn sweep(&self) {
        let origins: Vec<_> = self.origins.read().values().cloned().collect();
        let mut vacant = false;
        for origin in origins {
            vacant |= origin.sweep();
        }
        if vacant {
            // With one owner left nobody is about to use it, and nobody can start to while the
            // map is locked.
            self.origins
                .write()
                .retain(|_, origin| Arc::strong_count(origin) > 1 || !origin.is_vacant());
        }
    }

    pub(super) fn idle_connections(&self) -> u64 {
        let origins = self.origins.read();
        origins.values().map(|origin| origin.state.lock().idle.len() as u64).sum()
    }

    pub(super) fn clear(&self) {
        let origins = std::mem::take(&mut *self.origins.write());
        for origin in origins.into_values() {
            let mut state = origin.state.lock();
            state.retired = true;
            let idle = std::mem::take(&mut state.idle);
            let shared = std::mem::take(&mut state.shared);
            drop(state);
            drop((idle, shared));
        }
    }
}

/// One destination: what is known of it, and its connections.
pub(super) struct Origin {
    pub(super) destination: Destination,
    pub(super) authority: Authority,
    pub(super) scheme: Scheme,
    /// As it stands in `:authority` and `Host`: without the scheme's own port.
    pub(super) uri_authority: http::uri::Authority,
    pub(super) host_header: HeaderValue,
    /// One dial at a time while the answer may be a connection that all can share.
    pub(super) dialling: tokio::sync::Mutex<()>,
    permits: Arc<Semaphore>,
    /// A connection that can be shared was opened: who waits for a permit needs none.
    shared_opened: Notify,
    limits: Arc<Limits>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Last used last.
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    /// The last connection spoke HTTP/1.1, so the next will not be shared either.
    http1: bool,
    /// The client is closing: nothing is kept any more.
    retired: bool,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

struct Shared {
    sender: SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
    idle_since: Option<Instant>,
}

/// What a request can have at once.
pub(super) enum Taken {
    Stream(Stream),
    Lease(Lease),
    /// None is idle, but one more may be opened.
    MayOpen(OwnedSemaphorePermit),
    AllBusy,
}

impl Origin {
    fn new(destination: Destination, limits: Arc<Limits>) -> Self {
        let scheme = if destination.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let default_port = if destination.tls { 443 } else { 80 };
        let authority = Authority { host: destination.host.clone(), port: destination.port };
        let text = match destination.port {
            port if port == default_port => authority.host.to_string(),
            _ => authority.to_string(),
        };
        let host_header = HeaderValue::from_str(&text).expect("a host has no control characters");
        let uri_authority = text.parse().expect("a host and a port are an authority");
        let may_share = destination.tls && !destination.http1_only && limits.http2;
        Self {
            destination,
            authority,
            scheme,
            uri_authority,
            host_header,
            dialling: tokio::sync::Mutex::default(),
            permits: Arc::new(Semaphore::new(limits.max_connections_per_host)),
            shared_opened: Notify::new(),
            limits,
            state: Mutex::new(State { http1: !may_share, ..State::default() }),
        }
    }

    /// `fresh`: no connection that may be as dead as the one before.
    pub(super) fn take(self: &Arc<Self>, fresh: bool) -> Taken {
        if let Some(stream) = self.stream(STREAMS_PER_CONNECTION) {
            return Taken::Stream(stream);
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            // Better to queue for a stream than for a connection that can never be opened.
            return self.stream(usize::MAX).map_or(Taken::AllBusy, Taken::Stream);
        };
        self.take_with(permit, fresh)
    }

    /// Waits in line. Cancel-safe; the caller sets the deadline.
    pub(super) async fn wait(self: &Arc<Self>, fresh: bool) -> Taken {
        loop {
            let opened = self.shared_opened.notified();
            if let Some(stream) = self.stream(usize::MAX) {
                return Taken::Stream(stream);
            }
            tokio::select! {
                permit = self.permits.clone().acquire_owned() => {
                    return permit.map_or(Taken::AllBusy, |permit| self.take_with(permit, fresh));
                }
                () = opened => {}
            }
        }
    }

    fn take_with(self: &Arc<Self>, permit: OwnedSemaphorePermit, fresh: bool) -> Taken {
        if fresh {
            return Taken::MayOpen(permit);
        }
        loop {
            let Some(idle) = self.state.lock().idle.pop() else { return Taken::MayOpen(permit) };
            let mut connection = idle.connection;
            if idle.since.elapsed() < self.limits.keep_alive && connection.takes_request() {
                return Taken::Lease(Lease::new(connection, permit, self.clone()));
            }
        }
    }

    /// A stream of the connection with the fewest, if that has less than `below`.
    pub(super) fn stream(&self, below: usize) -> Option<Stream> {
        let mut state = self.state.lock();
        if state.shared.is_empty() {
            return None;
        }
        state.shared.retain(|shared| !shared.sender.is_closed());
        let active = |shared: &&mut Shared| shared.streams.load(Ordering::Relaxed);
        let shared = state.shared.iter_mut().min_by_key(active)?;
        (shared.streams.load(Ordering::Relaxed) < below).then(|| shared.stream())
    }

    pub(super) fn may_share(&self) -> bool {
        !self.state.lock().http1
    }

    pub(super) fn opened_http1(
        self: &Arc<Self>,
        connection: Connection,
        permit: OwnedSemaphorePermit,
    ) -> Lease {
        self.state.lock().http1 = true;
        Lease::new(Box::new(connection), permit, self.clone())
    }

    pub(super) fn opened_http2(&self, sender: SendRequest<RequestBody>) -> Stream {
        let mut shared = Shared { sender, streams: Arc::default(), idle_since: None };
        let stream = shared.stream();
        let mut state = self.state.lock();
        state.http1 = false;
        if !state.retired {
            state.shared.push(shared);
        }
        drop(state);
        self.shared_opened.notify_waiters();
        stream
    }

    /// Whether nothing is left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut dead = Vec::new();
        let mut kept = Vec::with_capacity(state.idle.len());
        for mut idle in state.idle.drain(..) {
            let young = now.duration_since(idle.since) < self.limits.keep_alive;
            let alive = young && idle.connection.is_usable();
            if alive { kept.push(idle) } else { dead.push(idle) }
        }
        state.idle = kept;
        state.shared.retain_mut(|shared| shared.is_worth_keeping(now, &self.limits));
        let vacant = state.idle.is_empty() && state.shared.is_empty();
        drop(state);
        drop(dead);
        vacant
    }

    fn is_vacant(&self) -> bool {
        let state = self.state.lock();
        state.idle.is_empty() && state.shared.is_empty()
    }

    fn keep(&self, mut connection: Box<Connection>) {
        if !connection.stays_open() {
            return;
        }
        let since = Instant::now();
        let mut state = self.state.lock();
        if !state.retired && state.idle.len() < self.limits.max_idle_per_host {
            state.idle.push(Idle { connection, since });
        }
    }
}

impl Shared {
    fn stream(&mut self) -> Stream {
        self.idle_since = None;
        self.streams.fetch_add(1, Ordering::Relaxed);
        Stream { sender: self.sender.clone(), streams: self.streams.clone() }
    }

    fn is_worth_keeping(&mut self, now: Instant, limits: &Limits) -> bool {
        if self.streams.load(Ordering::Relaxed) > 0 {
            self.idle_since = None;
        }
        let busy = self.streams.load(Ordering::Relaxed) > 0;
        let since = *self.idle_since.get_or_insert(now);
        !self.sender.is_closed() && (busy || now.duration_since(since) < limits.keep_alive)
    }
}

/// An HTTP/1.1 connection for one exchange. Dropped, it is closed.
pub(super) struct Lease {
    connection: Box<Connection>,
    permit: OwnedSemaphorePermit,
    origin: Arc<Origin>,
}

impl Lease {
    fn new(connection: Box<Connection>, permit: OwnedSemaphorePermit, origin: Arc<Origin>) -> Self {
        Self { connection, permit, origin }
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(super) fn map(self, change: impl FnOnce(Connection) -> Connection) -> Self {
        Self { connection: Box::new(change(*self.connection)), ..self }
    }

    pub(super) fn into_connection(self) -> (Connection, OwnedSemaphorePermit) {
        (*self.connection, self.permit)
    }

    /// First the connection, then the permit: who waits for the permit finds the connection.
    pub(super) fn give_back(self) {
        self.origin.keep(self.connection);
        drop(self.permit);
    }
}

/// A place on an HTTP/2 connection.
pub(super) struct Stream {
    sender: SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
}

impl Stream {
    pub(super) fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.sender
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
