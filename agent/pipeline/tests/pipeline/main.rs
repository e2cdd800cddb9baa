//! Tests of the whole pipeline: records in, spans out. One binary, so that it is linked once.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

mod datagrams;
mod fuzz;
mod h2;
mod http2;
mod parents;
mod properties;
mod redis;
mod support;
mod transcripts;
