//! Ground truth of the protocols beside HTTP/1: real servers and clients, the real agent, one operation, one span.
//!
//! `cargo test --release -p skep --test protocols -- [--full] [PART OF CASE]…`, as root. The agent is `SKEP_BIN` or the
//! one that cargo built; `PROTOCOLS_KEEP=DIR` keeps what the agent printed. A case is a row in `cases/mod.rs`. What a
//! machine does not have is skipped, loudly; `--full` adds the slow cases. The last line is
//! `protocols: N passed, N failed, N skipped`.
#![expect(clippy::print_stdout, unreachable_pub, reason = "a test program that reports to a terminal")]

mod cases;
mod expect;
mod harness;
mod programs;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Instant;

use cases::CASES;
use harness::{Missing, Run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let full = arguments.iter().any(|argument| argument == "--full");
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    expect::check_itself();
    // SAFETY: geteuid always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        println!("protocols need root to attach: skipped\nprotocols: 0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    println!("agent {}", support::skep::binary());
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in CASES {
        if !filters.is_empty() && !filters.iter().any(|filter| case.name.contains(filter.as_str())) {
            continue;
        }
        let began = Instant::now();
        let run = Run::new(case.name, full);
        let outcome = if case.slow && !full {
            Err(Missing("only with --full".to_owned()).into())
        } else {
            (case.run)(&run)
        };
        let (expected, mut faults) = run.result();
        let missing = match outcome {
            Ok(()) => None,
            Err(error) => match error.downcast::<Missing>() {
                Ok(Missing(reason)) => Some(reason),
                Err(error) => {
                    faults.push(format!("the case itself: {error:#}"));
                    None
                }
            },
        };
        let seconds = began.elapsed().as_secs_f32();
        match missing {
            Some(reason) if faults.is_empty() => {
                skipped += 1;
                println!("{:<40} SKIPPED: {reason}", case.name);
            }
            _ if faults.is_empty() => {
                passed += 1;
                println!("{:<40} ok, {expected} spans, {seconds:.1} s", case.name);
            }
            _ => {
                failed += 1;
                println!("{:<40} FAILED, {expected} spans, {seconds:.1} s", case.name);
                faults.iter().take(12).for_each(|fault| println!("    {fault}"));
                if faults.len() > 12 {
                    println!("    … {} in all", faults.len());
                }
            }
        }
    }
    println!("\nprotocols: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
