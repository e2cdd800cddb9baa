//! Metrics against the truth: a real server under load, the real agent, a real Prometheus, and scrapers that mean harm.
//!
//! `cargo test --release -p skep --test metrics -- [PART OF CASE]…`, as root. The agent is `SKEP_BIN` or the one that
//! cargo built. Counts are compared with what the client did, exactly. What a machine does not have is skipped,
//! loudly. The last line is `metrics: N passed, N failed, N skipped`.
#![expect(clippy::print_stdout, unreachable_pub, reason = "a test program that reports to a terminal")]

mod cases;
mod exposition;
mod hostile;
mod http;
mod load;
mod prometheus;
mod push;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with other test programs, which use more of it")]
mod support;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// The machine does not have what a case needs.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// A case: its name and what it does.
type Case = (&'static str, fn() -> Result<()>);

const CASES: &[Case] = &[
    ("counts are exactly what the client did", cases::exact_counts),
    ("promtool accepts the text", cases::promtool),
    ("Prometheus scrapes, answers queries and finds exemplars", prometheus::scrapes),
    ("dashboards for Beyla find their names", cases::beyla),
    ("beyond the limit everything is still counted", cases::overflow),
    ("span metrics, service graph and processes", cases::extras),
    ("what is pushed over OTLP is exact at the end", push::pushed),
    ("hostile scrapers hurt nobody", hostile::hostile),
    ("a public address must be asked for", cases::public_address),
];

fn main() -> ExitCode {
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    exposition::check_itself();
    // SAFETY: geteuid always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        println!("metrics need root to attach: skipped\nmetrics: 0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    println!("agent {}", support::skep::binary());
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, run) in CASES {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let began = Instant::now();
        let outcome = run();
        let seconds = began.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("{name:<60} ok, {seconds:.1} s");
            }
            Err(error) => match error.downcast::<Missing>() {
                Ok(Missing(reason)) => {
                    skipped += 1;
                    println!("{name:<60} SKIPPED: {reason}");
                }
                Err(error) => {
                    failed += 1;
                    println!("{name:<60} FAILED, {seconds:.1} s\n    {error:#}");
                }
            },
        }
    }
    println!("\nmetrics: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
