//! The span view of a finished request: names, kind, status and attributes by the semantic conventions.
//!
//! In: a [`Request`] and the ids that `context.rs` gave it. Out: a borrowed [`Span`] that an exporter visits;
//! making and visiting it allocates nothing.

use crate::request::{Request, SpanKind};

/// Status of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nothing to say.
    #[default]
    Unset,
    /// Explicitly good; the pipeline never sets it.
    Ok,
    /// Failed.
    Error,
}

/// Which rule gave the span its parent (`skep.parent.rule`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ParentRule {
    /// No parent: a root, or not certain.
    #[default]
    None,
    /// The request's own trace headers name it.
    Header,
    /// An open server request of the process came with the same header, which was passed through.
    PassedThrough,
    /// The thread had exactly one open server request.
    Thread,
    /// The client end of the same connection and stream offset.
    ClientEnd,
}

/// Another span that has to do with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its id.
    pub span_id: [u8; 8],
    /// W3C trace flags.
    pub flags: u8,
}

/// One attribute value, borrowed for the visit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Str(&'a str),
    /// Integer.
    Int(i64),
    /// Floating point.
    Double(f64),
    /// Truth.
    Bool(bool),
    /// List of texts.
    StrArray(&'a [&'a str]),
}

/// A finished span, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Trace.
    pub trace_id: [u8; 16],
    /// This span.
    pub span_id: [u8; 8],
    /// Its parent, if certain.
    pub parent_span_id: Option<[u8; 8]>,
    /// W3C trace flags.
    pub flags: u8,
    /// W3C `tracestate`, as it came.
    pub trace_state: Option<&'a str>,
    /// CLOCK_MONOTONIC.
    pub start_ktime_ns: u64,
    /// CLOCK_MONOTONIC; never before the start.
    pub end_ktime_ns: u64,
    /// Process.
    pub tgid: u32,
    /// The request that it stands for.
    pub request: &'a Request,
    /// Which rule gave the parent.
    pub parent_rule: ParentRule,
    /// Possible relatives.
    pub links: &'a [Link],
}

impl Span<'_> {
    /// Kind.
    pub fn kind(&self) -> SpanKind {
        self.request.kind
    }
}
