//! Skep's pipeline: socket bytes and timestamps in, spans out.
#![forbid(unsafe_code)]

pub mod id;
pub mod redact;
pub mod request;
pub mod route;
pub mod semconv;
pub mod span;
pub mod text;
pub mod trace_context;
