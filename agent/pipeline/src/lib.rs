//! Skep's pipeline: socket bytes and timestamps in, spans out.
#![forbid(unsafe_code)]
