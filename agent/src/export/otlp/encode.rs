//! A span as OTLP wants it, written straight into the batch: no intermediate message, no allocation.
//!
//! In: a borrowed [`Span`] from the pipeline. Out: the fields of OTLP's `Span` (opentelemetry-proto 1.7,
//! `trace/v1/trace.proto`): `trace_id` = 1, `span_id` = 2, `trace_state` = 3, `parent_span_id` = 4, `name` = 5,
//! `kind` = 6, `start_time_unix_nano` = 7, `end_time_unix_nano` = 8, `attributes` = 9, `links` = 13, `status` = 15,
//! `flags` = 16. The tests decode it with the reference implementation.

use agent_pipeline::request::SpanKind;
use agent_pipeline::span::{ParentRule, Span, Status, Value};

use super::wire::{
    put_bool_attribute, put_bytes, put_double_attribute, put_fixed32, put_fixed64, put_int_attribute,
    put_message, put_text_attribute, put_texts_attribute, put_uint,
};
use crate::discovery::resource::ResourceValue;

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`: whether the parent is of another process is known …
const FLAG_HAS_IS_REMOTE: u32 = 0x100;
/// … and it is (`SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`).
const FLAG_IS_REMOTE: u32 = 0x200;

/// `ScopeSpans.spans`.
const SPANS: u32 = 2;
const ATTRIBUTES: u32 = 9;

/// Appends a span as a `spans` field of `ScopeSpans`.
#[inline]
pub fn put_span(out: &mut Vec<u8>, span: &Span<'_>, name: &str, start_unix_ns: u64, end_unix_ns: u64) {
    put_message(out, SPANS, |out| {
        put_bytes(out, 1, &span.trace_id);
        put_bytes(out, 2, &span.span_id);
        if let Some(trace_state) = span.trace_state.filter(|text| !text.is_empty()) {
            put_bytes(out, 3, trace_state.as_bytes());
        }
        if let Some(parent) = &span.parent_span_id {
            put_bytes(out, 4, parent);
        }
        put_bytes(out, 5, name.as_bytes());
        put_uint(out, 6, kind_number(span.kind()));
        put_fixed64(out, 7, start_unix_ns);
        put_fixed64(out, 8, end_unix_ns);
        span.attributes(&mut |key, value| match value {
            Value::Str(text) => put_text_attribute(out, ATTRIBUTES, key, text),
            Value::Int(number) => put_int_attribute(out, ATTRIBUTES, key, number),
            Value::Double(number) => put_double_attribute(out, ATTRIBUTES, key, number),
            Value::Bool(truth) => put_bool_attribute(out, ATTRIBUTES, key, truth),
            Value::StrArray(texts) => put_texts_attribute(out, ATTRIBUTES, key, texts),
        });
        for link in span.links {
            // `Link`: `trace_id` = 1, `span_id` = 2, `flags` = 6.
            put_message(out, 13, |out| {
                put_bytes(out, 1, &link.trace_id);
                put_bytes(out, 2, &link.span_id);
                put_fixed32(out, 6, u32::from(link.flags));
            });
        }
        let (status, message) = span.status();
        if status != Status::Unset {
            // `Status`: `message` = 2, `code` = 3.
            put_message(out, 15, |out| {
                if let Some(message) = message {
                    put_bytes(out, 2, message.as_bytes());
                }
                put_uint(out, 3, if status == Status::Ok { 1 } else { 2 });
            });
        }
        put_fixed32(out, 16, flags(span));
    });
}

/// A `Resource` message (`attributes` = 1).
pub fn resource_message<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a ResourceValue)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    for (key, value) in attributes {
        match value {
            ResourceValue::Text(text) => put_text_attribute(&mut out, 1, key, text),
            ResourceValue::Int(number) => put_int_attribute(&mut out, 1, key, *number),
        }
    }
    out
}

/// `SpanKind`.
fn kind_number(kind: SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

/// The W3C flags, and whether the parent came over the network.
fn flags(span: &Span<'_>) -> u32 {
    let incoming = matches!(span.kind(), SpanKind::Server | SpanKind::Consumer);
    let remote = match (span.parent_span_id, span.parent_rule) {
        (None, _) => 0,
        (Some(_), ParentRule::Header | ParentRule::ClientEnd) if incoming => {
            FLAG_HAS_IS_REMOTE | FLAG_IS_REMOTE
        }
        (Some(_), ParentRule::PassedThrough | ParentRule::Thread) => FLAG_HAS_IS_REMOTE,
        (Some(_), _) => 0,
    };
    u32::from(span.flags) | remote
}

#[cfg(test)]
mod tests;
