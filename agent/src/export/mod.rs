//! What leaves the host. Nothing does unless an endpoint is configured.

pub mod otlp;
pub mod prometheus;
