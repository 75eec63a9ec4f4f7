//! Which traces are recorded, and the queue of spans that wait for the collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{
    RandomIdGenerator, Sampler, SamplingDecision, ShouldSample, SpanData,
};
use tokio::sync::{mpsc, oneshot};

use crate::export::Exporter;
use crate::options::{TraceError, TraceOptions};

/// Spans of one request to the collector.
const BATCH: usize = 512;

/// How long the first span of a batch waits for further ones.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// How often a batch is sent before it is dropped.
const ATTEMPTS: u32 = 5;

/// The longest wait between two attempts, whatever the collector asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What became of spans, since the start of the program.
#[derive(Debug, Default)]
pub struct TraceCounts {
    exported: AtomicU64,
    overflowed: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
}

impl TraceCounts {
    /// Spans that a collector has accepted.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans that were dropped because too many waited.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Spans that were dropped because the collector could not be reached, or failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Spans that the collector has rejected.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }
}

fn add(count: &AtomicU64, spans: usize) {
    count.fetch_add(spans as u64, Ordering::Relaxed);
}

enum Message {
    Span(Box<SpanData>),
    /// Send what waits, and answer.
    Flush(oneshot::Sender<()>),
}

pub(crate) struct Recorder {
    pub(crate) ids: RandomIdGenerator,
    pub(crate) scope: InstrumentationScope,
    sampler: Sampler,
    queue: mpsc::Sender<Message>,
    counts: Arc<TraceCounts>,
}

impl Recorder {
    /// Starts to send what is added to it.
    pub(crate) fn start(
        options: &TraceOptions,
        counts: Arc<TraceCounts>,
    ) -> Result<Arc<Self>, TraceError> {
        let exporter = Exporter::new(options)?;
        let (queue, waiting) = mpsc::channel(options.queue);
        tokio::spawn(run(
            waiting,
            exporter,
            options.retry_after,
            Arc::clone(&counts),
        ));
        Ok(Arc::new(Self {
            ids: RandomIdGenerator::default(),
            scope: InstrumentationScope::builder("stockade")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            sampler: Sampler::TraceIdRatioBased(options.ratio),
            queue,
            counts,
        }))
    }

    /// Sends what waits, and returns when that is done.
    pub(crate) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            // The answer is dropped only where the task is gone.
            let _ = is_done.await;
        }
    }

    /// Whether a trace that begins here is recorded.
    pub(crate) fn samples(&self, trace_id: TraceId) -> bool {
        let sampled = self
            .sampler
            .should_sample(None, trace_id, "", &SpanKind::Server, &[], &[]);
        sampled.decision == SamplingDecision::RecordAndSample
    }

    /// Adds a span that is over; drops it where too many wait.
    pub(crate) fn add(&self, span: SpanData) {
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            add(&self.counts.overflowed, 1);
        }
    }
}

/// Sends batches until nobody can add spans any more and all are sent.
async fn run(
    mut waiting: mpsc::Receiver<Message>,
    exporter: Exporter,
    retry_after: Duration,
    counts: Arc<TraceCounts>,
) {
    let mut reachable = true;
    while let Some(first) = waiting.recv().await {
        let (mut batch, mut flushes) = (Vec::new(), Vec::new());
        collect(first, &mut waiting, &mut batch, &mut flushes).await;
        if !batch.is_empty() {
            send(&exporter, batch, retry_after, &counts, &mut reachable).await;
        }
        for flushed in flushes {
            // The one that asked may not wait any more.
            let _ = flushed.send(());
        }
    }
}

/// Fills a batch: until it is full, its first span has waited long enough, or it is to be sent at once.
async fn collect(
    first: Message,
    waiting: &mut mpsc::Receiver<Message>,
    batch: &mut Vec<SpanData>,
    flushes: &mut Vec<oneshot::Sender<()>>,
) {
    let deadline = Instant::now() + BATCH_WAIT;
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Span(span) => batch.push(*span),
            Message::Flush(done) => {
                flushes.push(done);
                return;
            }
        }
        if batch.len() == BATCH {
            return;
        }
        let received = tokio::time::timeout_at(deadline.into(), waiting.recv()).await;
        next = received.ok().flatten();
    }
}

/// Sends a batch, several times if need be.
async fn send(
    exporter: &Exporter,
    batch: Vec<SpanData>,
    retry_after: Duration,
    counts: &TraceCounts,
    reachable: &mut bool,
) {
    let spans = batch.len();
    let body = exporter.encode(batch);
    let mut wait = retry_after.min(LONGEST_WAIT);
    for attempt in 1.. {
        let failure = match exporter.send(body.clone()).await {
            Ok(rejected) => {
                let rejected = usize::try_from(rejected).unwrap_or(spans).min(spans);
                add(&counts.exported, spans - rejected);
                add(&counts.rejected, rejected);
                if !std::mem::replace(reachable, true) {
                    tracing::info!("spans reach the collector again");
                }
                return;
            }
            Err(failure) => failure,
        };
        // One line when it begins; the metric counts the rest.
        if std::mem::replace(reachable, false) {
            tracing::warn!(
                "spans do not reach the collector, and are dropped when too many wait: {failure}"
            );
        }
        if attempt == ATTEMPTS || !failure.may_pass {
            add(&counts.failed, spans);
            return;
        }
        let asked = failure.retry_after.unwrap_or(wait);
        tokio::time::sleep(asked.clamp(wait, LONGEST_WAIT)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
