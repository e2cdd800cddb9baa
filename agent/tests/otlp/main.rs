//! The exporter against servers that misbehave: what arrives, what is retried, what is counted. No kernel, no rights.
//!
//! Spans are made by hand, sent by the real exporter on its real thread to a server of the test's. No sleeps: every
//! wait is for a counter or a request, with a deadline.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails there")]

mod delivery;
mod grpc;
mod hostile;
mod server;
mod support;
