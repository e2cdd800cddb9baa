//! Skep and a real OpenTelemetry Collector: real requests to a real server, traced by the real agent, exported over
//! every way that there is; what the Collector wrote to its file is compared one to one with what Skep printed.
//!
//! `cargo test -p skep --test export -- [PART OF A CASE]…`, as root. The Collector is `SKEP_COLLECTOR` or
//! target/tools/bin/skep-collector, which `cargo xtask setup` builds. The last line is
//! `export: N passed, N failed, N skipped`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test program that reports to a terminal"
)]
#![expect(dead_code, reason = "the modules shared with other test programs offer more than is used here")]

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod certificates;
mod collector;
mod compare;
mod load;

use std::process::ExitCode;

use cases::CASES;

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    // SAFETY: geteuid always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        println!("export needs root to attach: skipped\nexport: 0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    let world = match cases::World::new() {
        Ok(world) => world,
        Err(reason) => {
            println!("SKIPPED, all of it: {reason:#}\nexport: 0 passed, 0 failed, {} skipped", CASES.len());
            return ExitCode::SUCCESS;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for case in CASES {
        if !filters.is_empty() && !filters.iter().any(|filter| case.name.contains(filter.as_str())) {
            continue;
        }
        match (case.run)(&world) {
            Ok(remark) => {
                passed += 1;
                println!("{:<52} ok  {remark}", case.name);
            }
            Err(error) => {
                failed += 1;
                println!("{:<52} FAILED  {error:#}", case.name);
            }
        }
    }
    println!("export: {passed} passed, {failed} failed, 0 skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
