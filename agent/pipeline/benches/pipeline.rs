//! Captured records in, finished spans out, on one core: requests per second, time and allocations per request.
//!
//! The sink looks at the name and at every attribute, as an exporter would, and keeps nothing. Records are made
//! beforehand in batches of the size of a ring buffer, untimed; each batch goes on where the last one ended.
//! `cargo bench -p agent-pipeline -- [http|redis|dns]`
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod harness;

use std::hint::black_box;

use agent_common::capture::CaptureMode;
use agent_pipeline::span::{Span, Value};
use agent_pipeline::{ProcessEvent, Sink};
use harness::Taker;

fn main() {
    harness::run_all(Visitor::default);
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
