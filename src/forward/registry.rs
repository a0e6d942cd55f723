//! Every open connection and tunnel: when it last moved, whose it is, and how to end it.
//!
//! One sweep a second over plain numbers stands in for a timer per connection and per request
//! head: a timer would cost each request more than the rest of its bookkeeping.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::caller::Identity;
use super::world::World;
use crate::ids::AccountId;

/// All that is open. Entries remove themselves.
#[derive(Default)]
pub struct Registry {
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    next: AtomicU64,
}

/// One connection or tunnel.
pub struct Activity {
    epoch: Instant,
    /// Bytes have moved since somebody looked. Reads and writes only set this, because they are
    /// many; who looks (the sweep, once a second) reads the clock for them.
    moved: AtomicBool,
    last_ms: AtomicU64,
    /// When the first byte of a head came; 0 while none is being read, [`JUST_NOW`] until somebody
    /// has looked.
    head_since_ms: AtomicU64,
    in_flight: AtomicU32,
    /// Past HTTP/1.1 heads: a tunnel, TLS or HTTP/2, where bytes between requests are no head.
    opaque: AtomicBool,
    /// The peer takes nothing more for now, so something of ours is still to be written.
    blocked: AtomicBool,
    /// Nothing happens, and what serves it could do with less meanwhile.
    may_rest: AtomicBool,
    claim: Mutex<Option<Claim>>,
    killed: AtomicBool,
    kill: Notify,
}

/// On whose behalf something stays open without asking again.
pub struct Claim {
    pub identity: Identity,
    /// The id of the account whose credential opened it.
    pub account: Option<AccountId>,
}

/// Keeps an entry in the registry for as long as it lives.
pub struct Registered {
    registry: Arc<Registry>,
    id: u64,
    pub activity: Arc<Activity>,
}

/// When something has been quiet for too long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub idle: Duration,
    pub head: Duration,
}

impl Registry {
    pub fn register(self: &Arc<Self>) -> Registered {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::new(Activity::new());
        self.open.lock().insert(id, activity.clone());
        Registered { registry: self.clone(), id, activity }
    }

    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends what has been quiet for too long, and puts to rest what has nothing to do.
    pub fn sweep(&self, patience: Patience) {
        for activity in self.open.lock().values() {
            if activity.is_stuck(patience) {
                activity.end();
            } else if activity.is_between_requests() && activity.quiet() >= REST_AFTER {
                activity.rest();
            }
        }
    }

    /// Ends what the new snapshot would not have let open: a revoked token, an account that is no
    /// longer bound.
    pub fn recheck(&self, world: &World) {
        for activity in self.open.lock().values() {
            activity.recheck(world);
        }
    }

    pub fn end_all(&self) {
        for activity in self.open.lock().values() {
            activity.end();
        }
    }
}

impl Claim {
    fn holds(&self, world: &World) -> bool {
        let Some(now) = world.renewed(&self.identity) else { return false };
        let bound = |account: &AccountId| {
            now.caller.policy.bindings.iter().any(|binding| binding.id == *account)
        };
        self.account.as_ref().is_none_or(bound)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.open.lock().remove(&self.id);
    }
}

impl Activity {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            moved: AtomicBool::new(false),
            last_ms: AtomicU64::new(0),
            head_since_ms: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            opaque: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            may_rest: AtomicBool::new(false),
            claim: Mutex::new(None),
            killed: AtomicBool::new(false),
            kill: Notify::new(),
        }
    }

    /// From here on bytes are not HTTP/1.1 heads in clear.
    pub fn becomes_opaque(&self) {
        self.opaque.store(true, Ordering::Relaxed);
        self.head_since_ms.store(0, Ordering::Relaxed);
    }

    /// From here on bytes between requests are heads (again). The first is due at once: its
    /// beginning may have come with the end of the TLS handshake and been read already.
    pub fn reads_heads(&self) {
        self.opaque.store(false, Ordering::Relaxed);
        self.head_since_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// A later claim is the narrower one: a WebSocket inside a tunnel.
    pub fn claimed(&self, claim: Claim) {
        *self.claim.lock() = Some(claim);
    }

    /// A request's head has been read; its end is when the guard drops.
    pub fn request_begins(self: &Arc<Self>) -> InFlight {
        self.head_since_ms.store(0, Ordering::Relaxed);
        self.busy()
    }

    /// Something of a request is still going on, until the guard drops.
    pub fn busy(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// The last request and its answer are over and out, and no byte of another one has come.
    pub fn is_between_requests(&self) -> bool {
        !self.opaque.load(Ordering::Relaxed)
            && self.in_flight.load(Ordering::Relaxed) == 0
            && self.head_since_ms.load(Ordering::Relaxed) == 0
            && !self.blocked.load(Ordering::Relaxed)
    }

    /// Once after the sweep has found that there is nothing to do.
    pub fn takes_a_rest(&self) -> bool {
        self.may_rest.load(Ordering::Relaxed) && self.may_rest.swap(false, Ordering::Relaxed)
    }

    fn rest(&self) {
        if !self.may_rest.swap(true, Ordering::Relaxed) {
            // Whoever waits to be killed looks at this too.
            self.kill.notify_one();
        }
    }

    fn now_ms(&self) -> u64 {
        // 0 means "never".
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn touch(&self) {
        self.moved.store(true, Ordering::Relaxed);
    }

    fn has_written(&self, taken: bool) {
        if taken {
            self.touch();
        }
        // It is nearly always the same as before, and loads are cheaper than stores.
        if self.blocked.load(Ordering::Relaxed) == taken {
            self.blocked.store(!taken, Ordering::Relaxed);
        }
    }

    fn has_read(&self) {
        self.touch();
        let reading_a_head = !self.opaque.load(Ordering::Relaxed)
            && self.in_flight.load(Ordering::Relaxed) == 0
            && self.head_since_ms.load(Ordering::Relaxed) == 0;
        if reading_a_head {
            self.head_since_ms.store(JUST_NOW, Ordering::Relaxed);
        }
    }

    /// Puts the present time to what happened since the last look, and returns it.
    fn look(&self) -> u64 {
        let now = self.now_ms();
        if self.moved.swap(false, Ordering::Relaxed) {
            self.last_ms.store(now, Ordering::Relaxed);
        }
        // Only if it is still that head: a request may have begun meanwhile.
        let head = &self.head_since_ms;
        let _ = head.compare_exchange(JUST_NOW, now, Ordering::Relaxed, Ordering::Relaxed);
        now
    }

    /// How long nothing has moved, as far as the looks so far can tell.
    pub fn quiet(&self) -> Duration {
        let now = self.look();
        Duration::from_millis(now.saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    /// Ends this if `world` would not have let it open.
    pub fn recheck(&self, world: &World) {
        let gone = self.claim.lock().as_ref().is_some_and(|claim| !claim.holds(world));
        if gone {
            self.end();
        }
    }

    fn is_stuck(&self, patience: Patience) -> bool {
        let now = self.look();
        let since = |ms: u64| Duration::from_millis(now.saturating_sub(ms));
        let head = self.head_since_ms.load(Ordering::Relaxed);
        let slow_head = head != 0 && since(head) > patience.head;
        slow_head || self.quiet() > patience.idle
    }

    fn end(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.kill.notify_one();
    }

    /// Resolves when this is to end now.
    pub async fn killed(&self) {
        while !self.killed.load(Ordering::Relaxed) {
            self.kill.notified().await;
        }
    }
}

const JUST_NOW: u64 = u64::MAX;
/// Agents pause between requests. Shorter, and one that goes on would pay for new buffers each time.
const REST_AFTER: Duration = Duration::from_secs(2);

/// One request in flight on a connection.
pub struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// A stream that notes when it moves.
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.has_read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.has_written(polled.is_ready());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.activity.has_written(polled.is_ready());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
