//! The command as a user meets it: exit codes, messages, output formats, selection. Tests that load kernel programs
//! need root and say so where they are skipped. No sleeps: every wait is for a condition, with a deadline.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails there")]

mod config;
mod harness;
mod rights;
mod run;
mod selection;
mod traces;
mod usage;
