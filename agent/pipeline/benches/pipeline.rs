//! Captured records in, finished spans out, on one core: requests per second, time and allocations per request.
//!
//! The sink looks at the name and at every attribute, as an exporter would, and keeps nothing; the second table adds the
//! metrics of each request. Records are made
//! beforehand in batches of the size of a ring buffer, untimed; each batch goes on where the last one ended.
//! `cargo bench -p agent-pipeline -- [http|redis|dns]`
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod harness;

use std::hint::black_box;

use agent_common::capture::CaptureMode;
use agent_pipeline::metrics::{Metrics, MetricsConfig, Named, Now};
use agent_pipeline::span::{Span, Value};
use agent_pipeline::{ProcessEvent, Sink};
use harness::Taker;

fn main() {
    println!("spans");
    harness::run_all(Visitor::default);
    println!("\nspans, and metrics with explicit buckets and exemplars");
    harness::run_all(|| Measured::new(MetricsConfig::default()));
    println!("\nspans, and metrics with exponential buckets too, span metrics and service graph");
    harness::run_all(|| {
        Measured::new(MetricsConfig {
            exponential: true,
            span_metrics: true,
            service_graph: true,
            ..MetricsConfig::default()
        })
    });
}

/// Also counts each request, as the agent does.
struct Measured {
    visitor: Visitor,
    metrics: Metrics<Service>,
}

/// Whose requests they are.
#[derive(Clone, Copy)]
struct Service(&'static str);

impl Named for Service {
    fn service_name(&self) -> &str {
        self.0
    }

    fn is_same_target(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Measured {
    fn new(config: MetricsConfig) -> Self {
        let metrics = Metrics::new(config, Service("skep"), Now::default());
        Self { visitor: Visitor::default(), metrics }
    }
}

impl Sink for Measured {
    fn span(&mut self, span: &Span<'_>) {
        self.visitor.span(span);
        self.metrics.record(span, true, || Service(if span.tgid == 200 { "server" } else { "client" }));
    }

    fn set_capture(&mut self, _conn_id: u64, _sock: u64, _mode: CaptureMode) {}

    fn process(&mut self, _event: ProcessEvent) {}

    fn thread_is_event_loop(&mut self, _tgid: u32, _tid: u32) -> bool {
        false
    }
}

impl Taker for Measured {
    fn spans(&self) -> u64 {
        self.visitor.spans
    }
}

/// Looks at everything and keeps nothing.
#[derive(Default)]
struct Visitor {
    spans: u64,
    name: String,
}

impl Sink for Visitor {
    fn span(&mut self, span: &Span<'_>) {
        self.spans += 1;
        self.name.clear();
        span.write_name(&mut self.name);
        black_box(self.name.as_str());
        black_box(span.status());
        span.attributes(&mut |name: &'static str, value: Value<'_>| {
            black_box((name, value));
        });
    }

    fn set_capture(&mut self, _conn_id: u64, _sock: u64, _mode: CaptureMode) {}

    fn process(&mut self, _event: ProcessEvent) {}

    fn thread_is_event_loop(&mut self, _tgid: u32, _tid: u32) -> bool {
        false
    }
}

impl Taker for Visitor {
    fn spans(&self) -> u64 {
        self.spans
    }
}
