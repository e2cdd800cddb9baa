//! A million requests into the store, directly: memory stays what it was, counts are exact, and what it costs.

use std::time::Instant;

use agent_pipeline::request::SpanKind;
use agent_pipeline::span::{Status, Value};
use anyhow::bail;
use skep::store::record::{Chunk, Encoder, Origin, Plain};
use skep::store::{DEFAULT_BYTES, Source, Store};

use crate::Report;

const REQUESTS: u64 = 1_000_000;
const BEGIN: u64 = 1_700_000_000_000_000_000;
/// At 5,000 requests a second.
const STEP_NS: u64 = 200_000;

pub fn all(report: &mut Report) {
    report.check("a million requests later the store's memory is flat and every one is counted", || {
        let mut store = Store::new(DEFAULT_BYTES, BEGIN);
        let (mut encoder, mut chunk) = (Encoder::default(), Chunk::default());
        let (mut resident, mut now, mut spent) = (0, BEGIN, 0_u128);
        for index in 0..REQUESTS {
            now += STEP_NS;
            let id = u128::from(index) * 0x9e37_79b9_7f4a_7c15_f39c_0c3b + 1;
            let path = format!("/users/{}", index % 5000);
            let name = format!("GET /route/{}", index % 60);
            encoder.plain(
                &mut chunk,
                &Plain {
                    trace_id: id.to_be_bytes(),
                    span_id: (index + 1).to_be_bytes(),
                    parent_span_id: None,
                    kind: SpanKind::Server,
                    status: if index % 100 == 0 { Status::Error } else { Status::Unset },
                    message: "",
                    name: &name,
                    start_unix_ns: now - 1_000_000 - index % 1000 * 5000,
                    end_unix_ns: now,
                    attributes: &[
                        ("http.request.method", Value::Str("GET")),
                        ("url.path", Value::Str(&path)),
                        ("http.response.status_code", Value::Int(200)),
                        ("user_agent.original", Value::Str("Mozilla/5.0 (X11; Linux x86_64)")),
                        ("server.address", Value::Str("127.0.0.1")),
                        ("server.port", Value::Int(8080)),
                    ],
                    links: &[],
                },
                index % 8,
                || Origin { service: format!("s{}", index % 8), attributes: Vec::new(), observed: true },
            );
            if index % 500 == 499 {
                let began = Instant::now();
                store.tick(now);
                store.ingest(Source::Capture, &chunk);
                store.every_second();
                spent += began.elapsed().as_nanos();
                chunk.bytes.clear();
                chunk.resources.clear();
                (chunk.spans, chunk.cut) = (0, 0);
            }
            if index == REQUESTS / 4 {
                resident = resident_kb();
            }
        }
        let counts = store.counts();
        let total = store.overview(3600).total;
        println!(
            "        store: {} ns a span, {} traces, {counts:?}",
            spent / u128::from(REQUESTS),
            counts.traces_held
        );
        if counts.memory_bytes > counts.budget_bytes {
            bail!("{counts:?}");
        }
        if (total.count, total.errors) != (REQUESTS, REQUESTS / 100) {
            bail!("{total:?}");
        }
        let grown = resident_kb().saturating_sub(resident);
        if grown > 1024 {
            bail!("{grown} kB more are resident after three quarters of a million further requests");
        }
        Ok(())
    });
}

fn resident_kb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}
