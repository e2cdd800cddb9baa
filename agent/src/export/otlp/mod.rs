//! OTLP: spans and metrics to a Collector or a back end, over gRPC or HTTP with protobuf.
//!
//! The drain thread encodes, the thread `skep-io` sends; between them is a bounded queue for each signal. Whatever
//! the other end does, capture never waits: what finds no room, or is not taken in time, is counted by reason.
//! docs/export.md tells what is retried and what is counted.

mod answer;
pub mod batch;
mod compress;
pub mod encode;
pub mod metrics;
pub mod queue;
mod sender;
pub mod settings;
pub mod stats;
mod tls;
mod transport;
pub mod wire;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use agent_pipeline::id::Ids;
use agent_pipeline::span::Span;

use self::batch::SpanBatch;
use self::compress::Compressor;
use self::queue::{Content, Inlet, MetricsBatch, Signal, queue};
use self::sender::{Parts, Sender};
use self::settings::{BatchLimits, OtlpConfig, SignalConfig};
use self::stats::{ExportDrop, ExportStats, SignalStats, add};
pub use self::tls::TlsError;
use self::transport::Transport;
use crate::clock::Clock;
use crate::discovery::resource::Resource;
use crate::runtime::Runtime;

/// A span longer than this would hardly fit into any request; the pipeline's bounds keep spans far below.
const MAX_SPAN_BYTES: usize = 1 << 20;
/// Emptied batches that are kept for the next spans.
const SPARE_BATCHES: usize = 2;
/// What the sender may take beyond its patience to say that it is over.
const GRACE: Duration = Duration::from_millis(200);

/// The exporter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Anything else.
    #[error("prepare the export to {url}: {error}")]
    Prepare {
        /// The endpoint.
        url: String,
        /// What is wrong.
        error: std::io::Error,
    },
}

/// Where spans and metrics go, if an endpoint is configured for them.
pub struct Exporter {
    traces: Option<Traces>,
    metrics: Option<MetricsSender>,
    stats: Arc<ExportStats>,
    /// In the headers of each request, not sampled.
    trace_id: [u8; 16],
}

/// The drain thread's end of the export of spans.
struct Traces {
    inlet: Inlet,
    limits: BatchLimits,
    batch: SpanBatch,
    /// When the first span of the batch came.
    begun: Instant,
    now: Instant,
    name: String,
    spares: Receiver<SpanBatch>,
}

/// Where metrics are handed over, ready-made. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct MetricsSender(Inlet);

/// What is still to be delivered at the end.
#[must_use]
pub struct Finishing {
    deadline: Instant,
    done: Vec<Receiver<()>>,
}

impl Exporter {
    /// Reads certificates and starts what sends; connects only when there is something to send. `seed` is random.
    pub fn start(config: &OtlpConfig, runtime: &Runtime, seed: [u64; 2]) -> Result<Self, ExportError> {
        let mut ids = Ids::new(seed);
        let trace_id = ids.trace_id();
        let [trace, span] = [u128::from_be_bytes(trace_id), u64::from_be_bytes(ids.span_id()).into()];
        let traceparent = format!("00-{trace:032x}-{span:016x}-00");
        let stats = Arc::new(ExportStats::default());
        let mut start = |signal: Signal, of: &Option<SignalConfig>| {
            let Some(of) = of else { return Ok(None) };
            let tls = of.endpoint.tls.then(|| tls::client_config(&of.tls, of.protocol)).transpose()?;
            let url = of.endpoint.url();
            let failed = |error| ExportError::Prepare { url: url.clone(), error };
            let transport = Transport::new(of, tls, &traceparent).map_err(failed)?;
            let compressor = Compressor::new(of.compression).map_err(failed)?;
            let (inlet, events, receiver) = queue(config.queue, Arc::clone(&stats), signal);
            let (spares, emptied) = sync_channel(SPARE_BATCHES);
            let sender = Sender::new(Parts {
                signal,
                url: url.clone(),
                protocol: of.protocol,
                compression: of.compression,
                timeout: of.timeout,
                retry_for: config.retry_for,
                transport,
                compressor,
                events,
                receiver,
                spares,
                seed: u64::from_be_bytes(ids.span_id()),
            });
            runtime.handle().spawn(sender.run());
            Ok::<_, ExportError>(Some((inlet, emptied)))
        };
        let now = Instant::now();
        let traces = start(Signal::Traces, &config.traces)?.map(|(inlet, spares)| Traces {
            inlet,
            limits: config.batch,
            batch: SpanBatch::default(),
            begun: now,
            now,
            name: String::new(),
            spares,
        });
        let metrics = start(Signal::Metrics, &config.metrics)?.map(|(inlet, _)| MetricsSender(inlet));
        Ok(Self { traces, metrics, stats, trace_id })
    }

    /// Takes a finished span.
    #[inline]
    pub fn span(&mut self, span: &Span<'_>, resource: &Resource, clock: &Clock) {
        let Some(traces) = &mut self.traces else { return };
        if traces.batch.spans() == 0 {
            traces.begun = traces.now;
        }
        traces.name.clear();
        span.write_name(&mut traces.name);
        let (start, end) = (clock.unix_ns(span.start_ktime_ns), clock.unix_ns(span.end_ktime_ns));
        let name = traces.name.as_str();
        let fits = traces.batch.push(&resource.protobuf, MAX_SPAN_BYTES, |out| {
            encode::put_span(out, span, name, start, end);
        });
        if !fits {
            let stats = traces.inlet.stats();
            add(&stats.handed_over, 1);
            stats.drop(ExportDrop::TooLarge, 1);
        }
        if traces.batch.bytes() >= traces.limits.bytes || traces.batch.spans() >= traces.limits.spans {
            traces.hand_over();
        }
    }

    /// Time goes on: hands over what has waited long enough.
    pub fn tick(&mut self, now: Instant) {
        let Some(traces) = &mut self.traces else { return };
        traces.now = now;
        if traces.batch.spans() > 0 && now.duration_since(traces.begun) >= traces.limits.delay {
            traces.hand_over();
        }
    }

    /// Whether a trace is that of this exporter's own requests, which carry its id: a collector may be watched too,
    /// and each export would make the next one necessary.
    #[inline]
    pub fn is_own(&self, trace_id: [u8; 16]) -> bool {
        self.trace_id == trace_id
    }

    /// Where metrics are handed over, if they are exported.
    pub fn metrics(&self) -> Option<MetricsSender> {
        self.metrics.clone()
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<ExportStats> {
        &self.stats
    }

    /// Nothing comes after this: what is there is delivered within this time, or counted. Does not wait.
    pub fn begin_finish(&mut self, patience: Duration) -> Finishing {
        let mut done = Vec::new();
        if let Some(traces) = &mut self.traces {
            traces.hand_over();
            done.push(traces.inlet.finish(patience));
        }
        if let Some(metrics) = &self.metrics {
            done.push(metrics.0.finish(patience));
        }
        Finishing { deadline: Instant::now() + patience + GRACE, done }
    }
}

impl Traces {
    #[cold]
    fn hand_over(&mut self) {
        if self.batch.spans() == 0 {
            return;
        }
        let (spans, bytes) = (self.batch.spans(), self.batch.bytes());
        let batch = std::mem::take(&mut self.batch);
        self.batch = match self.inlet.push(Content::Spans(batch), spans, bytes) {
            Ok(()) => self.spares.try_recv().unwrap_or_default(),
            Err(Content::Spans(mut refused)) => {
                refused.clear();
                refused
            }
            Err(Content::Encoded(_)) => SpanBatch::default(),
        };
    }
}

impl MetricsSender {
    /// Hands a request over. Without room it is counted as dropped; says whether there was room.
    pub fn send(&self, batch: MetricsBatch) -> bool {
        let bytes = batch.message.len();
        self.0.push(Content::Encoded(batch.message), batch.points, bytes).is_ok()
    }

    /// The counters of this signal.
    pub fn stats(&self) -> &SignalStats {
        self.0.stats()
    }
}

impl Finishing {
    /// Waits until everything is delivered or counted.
    pub fn wait(self) {
        for done in self.done {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if let Err(RecvTimeoutError::Timeout) = done.recv_timeout(left) {
                log::warn!("the exporter does not come to its end in time");
            }
        }
    }
}
