//! The log on standard error: one canonical line per request, and `tracing` events as lines of the
//! same form, through one queue, so that no two lines interleave.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use prometheus::IntCounter;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry};

use super::lines::{Batch, Queue, Take, Writer};
use super::text::{self, Fields, Stamp};
use super::{Metrics, RequestRecord, SetupError};

pub struct LogSettings {
    pub style: Style,
    /// A `tracing` filter: `info`, `countersign=debug`.
    pub filter: String,
    /// Whether every request gets a line.
    pub requests: bool,
    pub sink: Sink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `2026-01-02T03:04:05.678Z info request req_id=… status=200 …`
    Text,
    Json,
}

impl Style {
    /// Text for a person who watches, JSON for everything else.
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Where lines go.
#[derive(Clone)]
pub enum Sink {
    Stderr,
    /// For tests.
    Memory(Arc<Mutex<Vec<u8>>>),
}

impl Sink {
    fn write(&self, batch: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Stderr => std::io::stderr().lock().write_all(batch),
            Self::Memory(memory) => {
                memory.lock().extend_from_slice(batch);
                Ok(())
            }
        }
    }
}

pub(super) struct Log {
    out: Lines,
    requests: bool,
    filter: String,
    _writer: Writer,
}

/// The queue and how lines look.
#[derive(Clone)]
struct Lines {
    queue: Arc<Queue>,
    style: Style,
    dropped: IntCounter,
}

impl Log {
    pub(super) fn open(settings: LogSettings, metrics: &Metrics) -> Result<Self, SetupError> {
        check(&settings.filter)?;
        let queue = Queue::new(MAX_LINES, MAX_BYTES);
        let LogSettings { style, filter, requests, sink } = settings;
        let thread_queue = queue.clone();
        let writer = Writer::start("log", queue.clone(), move || write(&thread_queue, &sink))
            .map_err(SetupError::Thread)?;
        let out = Lines { queue, style, dropped: metrics.log_dropped.clone() };
        Ok(Self { out, requests, filter, _writer: writer })
    }

    pub(super) fn requests(&self) -> bool {
        self.requests
    }

    #[cfg(test)]
    pub(super) fn set_requests(&mut self, requests: bool) {
        self.requests = requests;
    }

    pub(super) fn style(&self) -> Style {
        self.out.style
    }

    /// `json` has the fields already, for the audit needs them in that form too.
    pub(super) fn request(&self, record: &RequestRecord<'_>, stamp: &Stamp, json: &[u8]) {
        match self.out.style {
            Style::Json => self.out.push(stamp, "info", b"request", json),
            Style::Text => text::with_buffer(|fields| {
                record.write_fields(&mut Fields::new(fields, Style::Text));
                self.out.push(stamp, "info", b"request", fields);
            }),
        }
    }

    pub(super) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        let filter = EnvFilter::try_new(&self.filter).unwrap_or_default();
        Registry::default().with(filter).with(self.out.clone())
    }

    pub(super) async fn flush(&self) {
        self.out.queue.flush().await;
    }
}

fn check(filter: &str) -> Result<(), SetupError> {
    let wrong = |source| SetupError::Filter { filter: filter.to_owned(), source };
    EnvFilter::try_new(filter).map(drop).map_err(wrong)
}

impl Lines {
    /// `message` is escaped already.
    fn push(&self, stamp: &Stamp, level: &str, message: &[u8], fields: &[u8]) {
        let level = level.as_bytes();
        let taken = match self.style {
            Style::Json => self.queue.push(&[
                b"{\"ts\":\"",
                stamp,
                b"\",\"level\":\"",
                level,
                b"\",\"msg\":\"",
                message,
                b"\"",
                fields,
                b"}",
            ]),
            Style::Text => self.queue.push(&[stamp, b" ", level, b" ", message, fields]),
        };
        if !taken {
            self.dropped.inc();
        }
    }
}

fn write(queue: &Queue, sink: &Sink) {
    let mut batch = Batch::default();
    loop {
        let notice = queue.next(&mut batch, Take::All, IDLE);
        // There is nowhere to report that standard error is gone.
        let _ = sink.write(&batch.lines);
        batch.lines.clear();
        batch.waiters.drain(..).for_each(|waiter| drop(waiter.send(Ok(()))));
        if notice.closed {
            return;
        }
    }
}

/// `tracing` events as our lines, with the fields of the spans around them.
impl<S> Layer<S> for Lines
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let Some(span) = context.span(id) else { return };
        let mut event = Event::new(self.style);
        attributes.record(&mut event);
        span.extensions_mut().insert(SpanFields(event.fields));
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut event = Event::new(self.style);
        values.record(&mut event);
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut() {
            fields.append(&mut event.fields);
        }
    }

    fn on_event(&self, tracing_event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut event = Event::new(self.style);
        tracing_event.record(&mut event);
        for span in context.event_scope(tracing_event).into_iter().flatten() {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                event.fields.extend_from_slice(fields);
            }
        }
        let level = level(*tracing_event.metadata().level());
        let stamp = text::stamp(SystemTime::now());
        self.push(&stamp, level, &event.message, &event.fields);
    }
}

struct SpanFields(Vec<u8>);

/// One event while its fields are visited.
struct Event {
    style: Style,
    message: Vec<u8>,
    fields: Vec<u8>,
}

impl Event {
    fn new(style: Style) -> Self {
        Self { style, message: Vec::new(), fields: Vec::new() }
    }

    fn fields(&mut self) -> Fields<'_> {
        Fields::new(&mut self.fields, self.style)
    }
}

impl Visit for Event {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => text::escape(&mut self.message, value),
            name => self.fields().text(name, value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields().number(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields().integer(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields().boolean(field.name(), value);
    }

    /// The whole chain of causes on one line: "could not connect: connection refused".
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.fields().text(field.name(), &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => text::escape(&mut self.message, &format!("{value:?}")),
            name => self.fields().printed(name, format_args!("{value:?}")),
        }
    }
}

fn level(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warn",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG => "debug",
        tracing::Level::TRACE => "trace",
    }
}

const MAX_LINES: usize = 16_384;
const MAX_BYTES: usize = 8 << 20;
const IDLE: Duration = Duration::from_secs(60);
