//! The page, the API, the store and `skep top` with real captured traffic: a real Chromium, a real terminal.
//!
//! `cargo test --release -p skep --test ui [-- PART OF NAME]…`, as root. The agent is `SKEP_BIN` or the one that cargo
//! built. What cannot be had (Chromium, Node.js, tmux) is skipped loudly. The last line is
//! `ui: N passed, N failed, N skipped`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "a test program that reports to a terminal"
)]

mod api;
mod browser;
mod memory;
mod own;
mod safety;
mod terminal;
mod truth;

use std::process::ExitCode;

use anyhow::Result;

/// What came of the checks.
#[derive(Default)]
pub struct Report {
    passed: u32,
    failed: u32,
    skipped: u32,
    filters: Vec<String>,
}

impl Report {
    /// A check that is a function.
    pub fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        if !self.wanted(name) {
            return;
        }
        match work() {
            Ok(()) => self.pass(name),
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    pub fn wanted(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }

    pub fn pass(&mut self, name: &str) {
        self.passed += 1;
        println!("ok      {name}");
    }

    pub fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        println!("FAILED  {name}: {why}");
    }

    pub fn skip(&mut self, name: &str, why: &str) {
        if self.wanted(name) {
            self.skipped += 1;
            println!("SKIPPED {name}: {why}");
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "connect") {
        return safety::connect(arguments.get(1));
    }
    let filters = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut report = Report { filters, ..Report::default() };
    memory::all(&mut report);
    // SAFETY: geteuid always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        report.skip("everything with captured traffic", "needs root to attach");
    } else if let Err(error) = with_traffic(&mut report) {
        report.fail("the test itself", &format!("{error:#}"));
    }
    let Report { passed, failed, skipped, .. } = report;
    println!("ui: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn with_traffic(report: &mut Report) -> Result<()> {
    let scene = own::Scene::start()?;
    truth::all(report, &scene);
    browser::all(report, &scene)?;
    terminal::all(report, &scene);
    safety::all(report, &scene);
    scene.end(report)
}
