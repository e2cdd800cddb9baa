//! Trace context that a request carries: W3C `traceparent`/`tracestate`, B3 (single and multi), `uber-trace-id`.
//!
//! In: header names and values as they were on the wire. Out: a [`TraceContext`] if they are valid, else nothing.

/// Longest `tracestate` that is kept.
pub const TRACE_STATE_MAX: usize = 512;

/// The span that sent a request, as its headers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Never all zero.
    pub trace_id: [u8; 16],
    /// Never all zero.
    pub span_id: [u8; 8],
    /// W3C trace flags; bit 0 is `sampled`.
    pub flags: u8,
    /// Which header said so.
    pub format: ContextFormat,
}

/// Header family that a [`TraceContext`] came from, the preferred one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContextFormat {
    /// `traceparent`
    W3c,
    /// `b3`
    B3Single,
    /// `x-b3-traceid` and its fellows
    B3Multi,
    /// `uber-trace-id`
    Jaeger,
}
