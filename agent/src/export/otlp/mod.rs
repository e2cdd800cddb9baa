//! OTLP: spans and metrics to a Collector or a back end, over gRPC or HTTP with protobuf.
//!
//! The drain thread encodes, the thread `skep-io` sends; between them is a bounded queue for each signal. Whatever
//! the other end does, capture never waits: what finds no room, or is not taken in time, is counted by reason.

pub mod batch;
pub mod encode;
pub mod queue;
pub mod stats;
pub mod wire;
