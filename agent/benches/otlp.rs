//! Captured records in, encoded OTLP out, on one core: as `cargo bench -p agent-pipeline`, with the exporter's encoder
//! as the sink.
//!
//! First what the drain thread does, then with the requests put together as well, which in the agent is the work of
//! `skep-io`. Nothing is compressed or sent. `cargo bench -p skep --bench otlp`
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "../pipeline/benches/harness/mod.rs"]
mod harness;

use std::hint::black_box;
use std::sync::Arc;

use agent_common::capture::CaptureMode;
use agent_pipeline::span::Span;
use agent_pipeline::{ProcessEvent, Sink};
use harness::Taker;
use skep::clock::Clock;
use skep::discovery::resource::{Facts, Host, Identity, Resource};
use skep::export::otlp::batch::SpanBatch;
use skep::export::otlp::encode::put_span;

/// A request is complete at this size, as in the agent.
const REQUEST_BYTES: usize = 256 << 10;

/// Encodes, and puts requests together where asked to.
struct Encoder {
    assembles: bool,
    clock: Clock,
    resource: Arc<[u8]>,
    name: String,
    batch: SpanBatch,
    request: Vec<u8>,
    spans: u64,
}

impl Encoder {
    fn new(assembles: bool) -> Self {
        let resource = Resource::new(&Host::read(), &Facts::default(), None, (0, &Identity::default()));
        Self {
            assembles,
            clock: Clock::start(),
            resource: resource.protobuf,
            name: String::new(),
            batch: SpanBatch::default(),
            request: Vec::new(),
            spans: 0,
        }
    }
}

impl Sink for Encoder {
    fn span(&mut self, span: &Span<'_>) {
        self.spans += 1;
        self.name.clear();
        span.write_name(&mut self.name);
        let (start, end) = (self.clock.unix_ns(span.start_ktime_ns), self.clock.unix_ns(span.end_ktime_ns));
        self.batch.push(&self.resource, usize::MAX, |out| put_span(out, span, &self.name, start, end));
        if self.batch.bytes() >= REQUEST_BYTES {
            self.finish_batch();
        }
    }

    fn set_capture(&mut self, _conn_id: u64, _sock: u64, _mode: CaptureMode) {}

    fn process(&mut self, _event: ProcessEvent) {}

    fn thread_is_event_loop(&mut self, _tgid: u32, _tid: u32) -> bool {
        false
    }
}

impl Taker for Encoder {
    fn spans(&self) -> u64 {
        self.spans
    }

    fn finish_batch(&mut self) {
        if self.assembles {
            self.request.clear();
            self.batch.assemble(&mut self.request);
            black_box(self.request.as_slice());
        }
        black_box(self.batch.bytes());
        self.batch.clear();
    }
}

fn main() {
    println!("spans encoded:");
    harness::run_all(|| Encoder::new(false));
    println!("spans encoded, requests put together:");
    harness::run_all(|| Encoder::new(true));
}
