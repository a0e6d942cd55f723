//! A bounded queue of lines with one thread that writes them.
//!
//! A line is appended to a shared buffer that the writer swaps for an empty one. That is a lock, but
//! it is only ever held to copy a few hundred bytes, and it costs less than a queue of allocated
//! lines: nothing is allocated, and the writer gets one contiguous batch. It lets a few milliseconds
//! of lines gather, and while lines keep coming it is woken by the time alone, so a busy process
//! makes a hundred wake-ups and writes a second instead of one per request.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::audit::AuditUnavailable;

/// Told when the lines that were queued before it are written, or why they could not be.
pub(super) type Waiter = oneshot::Sender<Result<(), AuditUnavailable>>;

pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    max_lines: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    batch: Batch,
    lost: u64,
    closed: bool,
    /// The writer waits for a first line.
    idle: bool,
    /// The last batch had lines, so more are likely to come.
    busy: bool,
}

/// What the writer takes at once. Every line ends with a line feed and has no other.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<u8>,
    line_count: usize,
    /// Lines that somebody waits for.
    pub(super) urgent: Vec<u8>,
    pub(super) waiters: Vec<Waiter>,
}

/// Which lines the writer wants.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    All,
    /// The others stay queued, within its bounds, because they could not be written now.
    Urgent,
}

/// What the queue says besides the lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Notice {
    /// Lines that found the queue full since the last notice.
    pub(super) lost: u64,
    /// No line will follow.
    pub(super) closed: bool,
}

impl Queue {
    pub(super) fn new(max_lines: usize, max_bytes: usize) -> Arc<Self> {
        let (state, wake) = (Mutex::default(), Condvar::new());
        Arc::new(Self { state, wake, max_lines, max_bytes })
    }

    /// Appends one line, given in parts; the line feed is added. False if there was no room: the
    /// line is lost and counted.
    pub(super) fn push(&self, parts: &[&[u8]]) -> bool {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let mut state = self.state.lock();
        let batch = &mut state.batch;
        if batch.line_count >= self.max_lines || batch.lines.len() + bytes >= self.max_bytes {
            state.lost += 1;
            return false;
        }
        batch.line_count += 1;
        super::text::put(&mut batch.lines, parts);
        batch.lines.push(b'\n');
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.wake.notify_one();
        }
        true
    }

    /// Appends a line that `waiter` waits for; an empty line only waits. Gives the reason if the
    /// line is not taken.
    pub(super) fn push_urgent(
        &self,
        parts: &[&[u8]],
        waiter: Waiter,
    ) -> Result<(), AuditUnavailable> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let mut state = self.state.lock();
        if state.closed {
            return Err(AuditUnavailable::Closed);
        }
        let batch = &mut state.batch;
        let full = batch.waiters.len() >= self.max_lines;
        if full || batch.urgent.len() + bytes >= self.max_bytes {
            return Err(AuditUnavailable::Full);
        }
        if bytes > 0 {
            super::text::put(&mut batch.urgent, parts);
            batch.urgent.push(b'\n');
        }
        batch.waiters.push(waiter);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits up to `patience` for something to write and moves it into `batch`, which must be empty
    /// in the parts that are taken.
    pub(super) fn next(&self, batch: &mut Batch, take: Take, patience: Duration) -> Notice {
        let mut state = self.state.lock();
        if state.busy {
            self.gather(&mut state);
        }
        if !state.has_work(take) {
            state.idle = take == Take::All;
            self.wake.wait_for(&mut state, patience);
            state.idle = false;
            if state.has_work(take) {
                self.gather(&mut state);
            }
        }
        if take == Take::All {
            std::mem::swap(&mut state.batch.lines, &mut batch.lines);
            state.batch.line_count = 0;
        }
        state.busy = !batch.lines.is_empty();
        std::mem::swap(&mut state.batch.urgent, &mut batch.urgent);
        std::mem::swap(&mut state.batch.waiters, &mut batch.waiters);
        let lost = if take == Take::All { std::mem::take(&mut state.lost) } else { 0 };
        Notice { lost, closed: state.closed }
    }

    /// Nothing but an urgent line cuts it short.
    fn gather(&self, state: &mut MutexGuard<'_, State>) {
        if state.batch.waiters.is_empty() && !state.closed {
            self.wake.wait_for(state, GATHER);
        }
    }

    /// Refuses urgent lines from now on and tells the writer to end after the next batch.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Returns when what is queued now was written, or could not be.
    pub(super) async fn flush(&self) {
        let (waiter, written) = oneshot::channel();
        if self.push_urgent(&[], waiter).is_ok() {
            let _ = written.await;
        }
    }
}

impl State {
    fn has_work(&self, take: Take) -> bool {
        let lines = take == Take::All && !self.batch.lines.is_empty();
        lines || !self.batch.waiters.is_empty() || self.closed
    }
}

/// The thread behind a queue. When dropped, it gets a moment to write what is left.
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    /// Locked only to be shareable: nobody but `drop` receives.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Writer {
    pub(super) fn start(
        name: &str,
        queue: Arc<Queue>,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (end, ended) = mpsc::sync_channel(1);
        let body = move || {
            run();
            let _ = end.send(());
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { queue, thread: Some(thread), ended: Mutex::new(ended) })
    }
}

impl Drop for Writer {
    /// A terminal that nobody reads must not keep the process from ending.
    fn drop(&mut self) {
        self.queue.close();
        let ended = self.ended.lock().recv_timeout(PARTING);
        if !matches!(ended, Err(mpsc::RecvTimeoutError::Timeout))
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// How long lines gather before they are written.
const GATHER: Duration = Duration::from_millis(10);
const PARTING: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_lines_and_counts_them() {
        let queue = Queue::new(2, 1000);
        let taken: Vec<bool> = (0..4).map(|_| queue.push(&[b"a", b"b"])).collect();
        assert_eq!(taken, [true, true, false, false]);
        let mut batch = Batch::default();
        let notice = queue.next(&mut batch, Take::All, Duration::ZERO);
        assert_eq!((batch.lines.as_slice(), notice.lost), (b"ab\nab\n".as_slice(), 2));
        assert!(queue.push(&[b"c"]), "there is room again");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = Queue::new(100, 10);
        assert!(queue.push(&[b"12345678"]));
        assert!(!queue.push(&[b"12345678"]));
    }

    #[test]
    fn what_cannot_be_written_now_stays_queued() {
        let queue = Queue::new(10, 1000);
        queue.push(&[b"later"]);
        let (waiter, _written) = oneshot::channel();
        queue.push_urgent(&[b"now"], waiter).expect("room");
        let mut batch = Batch::default();
        queue.next(&mut batch, Take::Urgent, Duration::ZERO);
        assert_eq!((batch.lines.as_slice(), batch.urgent.as_slice()), (&b""[..], &b"now\n"[..]));
        batch = Batch::default();
        queue.next(&mut batch, Take::All, Duration::ZERO);
        assert_eq!(batch.lines, b"later\n");
    }

    #[test]
    fn a_closed_queue_takes_nothing_that_is_waited_for() {
        let queue = Queue::new(10, 1000);
        queue.close();
        let (waiter, _written) = oneshot::channel();
        assert!(matches!(queue.push_urgent(&[b"x"], waiter), Err(AuditUnavailable::Closed)));
    }
}
