//! What holds whatever is fed: memory bounded, every span accounted for, no trace torn, counts exact.

use std::collections::HashMap;

use agent_pipeline::request::SpanKind;
use agent_pipeline::span::{Status, Value};
use proptest::prelude::*;

use super::query::{Filter, Subject};
use super::record::{Chunk, Encoder, Origin, Plain};
use super::{MIN_BYTES, Source, Store};

const SECOND: u64 = 1_000_000_000;
const BEGIN: u64 = 1_700_000_000 * SECOND;

/// One span of a trace that has `of` of them.
#[derive(Clone, Debug)]
struct Fed {
    trace: u64,
    index: u8,
    service: u8,
    name: u16,
    failed: bool,
    duration_us: u32,
    text: u16,
}

fn trace_id(trace: u64) -> [u8; 16] {
    (u128::from(trace) * 0x9e37_79b9_7f4a_7c15_f39c_0c3b + 1).to_be_bytes()
}

fn span_id(trace: u64, index: u8) -> [u8; 8] {
    (trace * 256 + u64::from(index) + 1).to_be_bytes()
}

/// A feeder with a clock of its own.
struct Feeder {
    store: Store,
    encoder: Encoder,
    now: u64,
}

impl Feeder {
    fn new(budget: usize) -> Self {
        let mut store = Store::new(budget, BEGIN);
        store.tick(BEGIN);
        Self { store, encoder: Encoder::default(), now: BEGIN }
    }

    fn feed(&mut self, spans: &[Fed]) {
        let mut chunk = Chunk::default();
        for fed in spans {
            let text = "x".repeat(usize::from(fed.text));
            let name = format!("GET /route/{}", fed.name);
            let duration = u64::from(fed.duration_us) * 1000;
            let span = Plain {
                trace_id: trace_id(fed.trace),
                span_id: span_id(fed.trace, fed.index),
                parent_span_id: (fed.index > 0).then(|| span_id(fed.trace, fed.index - 1)),
                kind: if fed.index % 2 == 0 { SpanKind::Server } else { SpanKind::Client },
                status: if fed.failed { Status::Error } else { Status::Unset },
                message: "",
                name: &name,
                start_unix_ns: self.now - duration,
                end_unix_ns: self.now,
                attributes: &[("url.path", Value::Str(&text)), ("server.address", Value::Str("db"))],
                links: &[],
            };
            let service = format!("service-{}", fed.service);
            self.encoder.plain(&mut chunk, &span, fed.service.into(), || Origin {
                service,
                attributes: vec![("process.pid".into(), "1".into())],
                observed: true,
            });
        }
        self.store.ingest(Source::Capture, &chunk);
    }

    fn pass(&mut self, ns: u64) {
        self.now += ns;
        self.store.tick(self.now);
        self.store.every_second();
    }
}

fn spans() -> impl Strategy<Value = Vec<Vec<Fed>>> {
    let fed =
        (0_u64..400, 0_u8..6, 0_u8..8, 0_u16..40, prop::bool::weighted(0.1), 1_u32..3_000_000, 0_u16..1500)
            .prop_map(|(trace, index, service, name, failed, duration_us, text)| Fed {
                trace,
                index,
                service,
                name,
                failed,
                duration_us,
                text,
            });
    prop::collection::vec(prop::collection::vec(fed, 1..80), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_bounded_every_span_is_accounted_for_and_no_trace_is_torn(batches in spans()) {
        let mut feeder = Feeder::new(MIN_BYTES);
        // Spans fed of each trace since it was last not there.
        let mut fed: HashMap<u64, u32> = HashMap::new();
        let (mut count, mut failed) = (0_u64, 0_u64);
        for batch in &batches {
            for span in batch {
                feeder.feed(std::slice::from_ref(span));
                *fed.entry(span.trace).or_default() += 1;
                count += 1;
                failed += u64::from(span.failed);
                let counts = feeder.store.counts();
                prop_assert!(counts.memory_bytes <= counts.budget_bytes, "{counts:?}");
                prop_assert_eq!(
                    counts.spans,
                    counts.spans_held + counts.spans_evicted + counts.spans_late + counts.spans_over_cap
                );
            }
            feeder.pass(SECOND / 4);
        }
        let (mut held, mut spans_held) = (0, 0);
        for (&trace, &spans) in &fed {
            if let Some(view) = feeder.store.trace(&trace_id(trace)) {
                held += 1;
                spans_held += view.spans.len() as u64;
                prop_assert_eq!(view.spans.len() as u32 + view.spans_dropped, spans, "trace {} is torn", trace);
            }
        }
        let counts = feeder.store.counts();
        prop_assert_eq!((counts.traces_held, counts.spans_held), (held, spans_held));
        // What servers and clients did is counted exactly, whatever was evicted.
        let operations = feeder.store.operations(3600, &Subject::default()).operations;
        let sums = operations.iter().fold((0, 0), |sum, row| (sum.0 + row.red.count, sum.1 + row.red.errors));
        prop_assert_eq!(sums, (count, failed));
        let found = feeder.store.find(&Filter { limit: 500, ..Filter::default() });
        prop_assert_eq!(found.matched, held);
    }
}

fn one(trace: u64, name: u16, failed: bool, duration_us: u32) -> Fed {
    Fed { trace, index: 0, service: 1, name, failed, duration_us, text: 100 }
}

#[test]
fn errors_slow_ones_and_rare_routes_outlive_common_ones() {
    let mut feeder = Feeder::new(MIN_BYTES);
    let mut kept = Vec::new();
    for trace in 0..40_000_u64 {
        let fed = match trace {
            500 => one(trace, 1, true, 1000),
            600 => one(trace, 77, false, 1000),
            // The histogram has to have seen what is common before.
            20_000 => one(trace, 1, false, 900_000),
            _ => one(trace, 1, false, 1000 + (trace % 7) as u32),
        };
        if matches!(trace, 500 | 600 | 20_000) {
            kept.push(trace);
        }
        feeder.feed(&[fed]);
        feeder.pass(SECOND / 1000);
    }
    for trace in kept {
        assert!(feeder.store.trace(&trace_id(trace)).is_some(), "{trace} has gone");
    }
    assert!(feeder.store.trace(&trace_id(21_000)).is_none());
    assert!(feeder.store.trace(&trace_id(39_999)).is_some());
}

#[test]
fn a_span_that_comes_after_its_trace_has_gone_does_not_start_it_anew() {
    let mut feeder = Feeder::new(MIN_BYTES);
    for trace in 0..2_500 {
        feeder.feed(&[one(trace, 1, false, 1000)]);
    }
    assert!(feeder.store.trace(&trace_id(0)).is_none());
    let late = feeder.store.counts().spans_late;
    feeder.feed(&[Fed { index: 1, ..one(0, 1, false, 1000) }]);
    assert!(feeder.store.trace(&trace_id(0)).is_none());
    assert_eq!(feeder.store.counts().spans_late, late + 1);
}

#[test]
fn much_later_memory_is_what_it_was() {
    let mut feeder = Feeder::new(super::DEFAULT_BYTES);
    let mut after_warm_up = 0;
    let mut batch = Vec::new();
    for trace in 0..150_000_u64 {
        batch.push(one(trace, (trace % 50) as u16, trace % 97 == 0, 1000 + (trace % 1000) as u32));
        if batch.len() == 100 {
            feeder.feed(&batch);
            batch.clear();
            // An hour and a half in all; the million is in tests/ui.
            feeder.pass(5400 * SECOND / 1_500);
        }
        if trace == 60_000 {
            after_warm_up = feeder.store.counts().memory_bytes;
        }
    }
    let counts = feeder.store.counts();
    assert!(counts.memory_bytes <= counts.budget_bytes, "{counts:?}");
    assert!(counts.memory_bytes <= after_warm_up + after_warm_up / 50, "{after_warm_up} then {counts:?}");
    assert_eq!((counts.spans, counts.slots_dropped), (150_000, 0));
    let total = feeder.store.overview(300).total;
    assert!((total.rate - 150_000.0 / 5400.0).abs() < 5.0, "{total:?}");
}

#[test]
fn hostile_names_cost_no_more_than_their_bound_and_come_out_visible() {
    let mut feeder = Feeder::new(MIN_BYTES);
    let mut chunk = Chunk::default();
    for index in 0..20_000_u64 {
        let name = format!("\u{1b}]52;c;{index}\u{7} <script>{}", "\u{202e}".repeat(20));
        let span = Plain {
            trace_id: trace_id(index),
            span_id: span_id(index, 0),
            parent_span_id: None,
            kind: SpanKind::Client,
            status: Status::Unset,
            message: "",
            name: &name,
            start_unix_ns: BEGIN,
            end_unix_ns: u64::MAX,
            attributes: &[("server.address", Value::Str(&name)), (&name, Value::Str(&name))],
            links: &[],
        };
        let service = name.clone();
        feeder.encoder.plain(&mut chunk, &span, index, || Origin {
            service,
            attributes: vec![(name.clone(), name.clone())],
            observed: false,
        });
        if index % 64 == 63 {
            feeder.store.ingest(Source::Otlp, &std::mem::take(&mut chunk));
            feeder.pass(SECOND / 100);
        }
    }
    let counts = feeder.store.counts();
    assert!(counts.memory_bytes <= counts.budget_bytes, "{counts:?}");
    assert!(counts.names_overflow > 0 && counts.series_overflow > 0, "{counts:?}");
    let text = serde_json::to_string(&feeder.store.find(&Filter { limit: 50, ..Filter::default() })).unwrap();
    assert!(text.contains("u{1b}]52;c;") && text.contains("<script>"), "{text}");
    assert!(!text.contains("\\u001b") && !text.contains('\u{202e}'), "{text}");
    let trace = feeder.store.trace(&trace_id(19_967)).unwrap();
    assert!(trace.spans[0].attributes.keys().any(|name| name.starts_with("\\u{1b}]52")));
}

#[test]
fn edges_know_the_service_behind_an_address_from_the_trace() {
    let mut feeder = Feeder::new(MIN_BYTES);
    let span = |index: u8, service: u8| Fed { index, service, ..one(7, u16::from(index), false, 1000) };
    // front (server) → front (client) → back (server), ends first; then a client whose server is not seen.
    feeder.feed(&[span(2, 2), span(1, 1), span(0, 1)]);
    let overview = feeder.store.overview(300);
    let edges: Vec<_> =
        overview.edges.iter().map(|edge| (edge.from.as_deref(), edge.to.as_str(), edge.to_seen)).collect();
    assert_eq!(edges, [(None, "service-1", true), (Some("service-1"), "service-2", true)]);
    assert_eq!(overview.total.count, 2);
    feeder.feed(&[Fed { trace: 8, ..span(1, 2) }]);
    assert!(!feeder.store.trace(&trace_id(8)).unwrap().spans[0].parent_seen);
}
