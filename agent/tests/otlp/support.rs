//! An exporter with short patience, spans for it, and its counters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_pipeline::request::{Request, SpanKind};
use agent_pipeline::span::{ParentRule, Span};
use skep::clock::Clock;
use skep::discovery::resource::{Facts, Host, Identity, Resource};
use skep::export::otlp::Exporter;
use skep::export::otlp::queue::QueueLimits;
use skep::export::otlp::settings::{
    BatchLimits, Compression, Endpoint, OtlpConfig, Protocol, SignalConfig, Target, TlsFiles,
};
use skep::export::otlp::stats::{EXPORT_DROPS, ExportStats};
use skep::runtime::Runtime;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A configuration of traces and metrics for a server of this machine.
pub(crate) fn config(protocol: Protocol, addr: SocketAddr) -> OtlpConfig {
    let signal = |path: &str| SignalConfig {
        endpoint: Endpoint {
            target: Target::Tcp(addr.ip().to_string(), addr.port()),
            tls: false,
            authority: addr.to_string(),
            path: path.to_owned(),
        },
        protocol,
        headers: Vec::new(),
        timeout: Duration::from_secs(5),
        compression: Compression::None,
        tls: TlsFiles::default(),
    };
    let [traces, metrics] = match protocol {
        Protocol::Http => ["/v1/traces", "/v1/metrics"],
        Protocol::Grpc => [
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        ],
    };
    OtlpConfig {
        traces: Some(signal(traces)),
        metrics: Some(signal(metrics)),
        batch: BatchLimits { bytes: 64 << 10, spans: 10, delay: Duration::from_secs(3600) },
        queue: QueueLimits { bytes: 1 << 20, items: u64::MAX },
        retry_for: Duration::from_secs(60),
    }
}

pub(crate) struct Export {
    pub(crate) exporter: Exporter,
    pub(crate) stats: Arc<ExportStats>,
    resource: Resource,
    clock: Clock,
    made: u64,
    _runtime: Runtime,
}

impl Export {
    pub(crate) fn start(config: &OtlpConfig) -> Self {
        let runtime = Runtime::start().unwrap();
        let exporter = Exporter::start(config, &runtime, [1, 2]).unwrap();
        Self {
            stats: Arc::clone(exporter.stats()),
            exporter,
            resource: Resource::new(&Host::read(), &Facts::default(), None, (0, &Identity::default())),
            clock: Clock::start(),
            made: 0,
            _runtime: runtime,
        }
    }

    /// That many spans, each with an id of its own; the configuration makes a batch of ten.
    pub(crate) fn spans(&mut self, count: u64) {
        let mut request = Request { kind: SpanKind::Server, ..Request::default() };
        request.http_mut().set_method(b"GET");
        request.http_mut().set_target(b"/users/7", Default::default());
        request.http_mut().status_code = Some(200);
        for _ in 0..count {
            self.made += 1;
            let span = Span {
                trace_id: [1; 16],
                span_id: self.made.to_be_bytes(),
                parent_span_id: None,
                flags: 1,
                remote_trace: false,
                trace_state: None,
                start_ktime_ns: 1,
                end_ktime_ns: 2,
                tgid: 1,
                request: &request,
                parent_rule: ParentRule::None,
                links: &[],
            };
            self.exporter.span(&span, &self.resource, &self.clock);
        }
    }

    /// Waits until nothing is under way any more.
    pub(crate) fn settle(&self) {
        wait("nothing is under way", || load(&self.stats.traces.queued) == 0);
    }

    /// `delivered`, then `reason count` of what was dropped. Nothing may be missing.
    pub(crate) fn outcome(&self) -> String {
        let traces = &self.stats.traces;
        let dropped: u64 = traces.drops().map(|(_, count)| count).sum();
        let known = load(&traces.delivered) + dropped + load(&traces.queued);
        assert_eq!(load(&traces.handed_over), known, "the books close");
        let mut text = format!("delivered {}", load(&traces.delivered));
        for (reason, count) in traces.drops().filter(|&(_, count)| count > 0) {
            assert!(EXPORT_DROPS.contains(&reason));
            text.push_str(&format!(", {reason} {count}"));
        }
        text
    }

    /// Ends the export; how long that took.
    pub(crate) fn finish(&mut self, patience: Duration) -> Duration {
        let began = Instant::now();
        self.exporter.begin_finish(patience).wait();
        began.elapsed()
    }
}

pub(crate) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits for a condition.
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
