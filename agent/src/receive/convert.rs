//! OTLP spans → records of the store.
//!
//! In: an export request, untrusted. Out: chunks. Spans without usable ids are left out; attributes that are no plain
//! values become text. Events are not kept.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use agent_pipeline::request::SpanKind;
use agent_pipeline::semconv;
use agent_pipeline::span::{Link, Status, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, span};
use rustc_hash::FxHasher;

use crate::store::Source;
use crate::store::feed::CHUNK_BYTES;
use crate::store::record::{Chunk, Encoder, MAX_NAME, MAX_TEXT, Origin, Plain, cut};
use crate::ui::hub::Hub;

const MAX_RESOURCE_ATTRIBUTES: usize = 64;
/// How deep values inside values are written out.
const MAX_DEPTH: usize = 4;

/// Remembers which resources the store knows.
#[derive(Debug, Default)]
pub(super) struct Converter {
    encoder: Encoder,
    chunk: Chunk,
    retellings: u64,
}

impl Converter {
    /// Hands all spans of a request over; false if there was no room.
    pub(super) fn give(&mut self, export: &ExportTraceServiceRequest, hub: &Arc<Hub>) -> bool {
        if hub.feed.is_full() {
            return false;
        }
        let retellings = hub.feed.retellings();
        if retellings != self.retellings {
            self.retellings = retellings;
            self.encoder.forget_resources();
        }
        for group in &export.resource_spans {
            let attributes = group.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let origin = origin(attributes);
            let mut hasher = FxHasher::default();
            origin.hash(&mut hasher);
            let serial = hasher.finish();
            for span in group.scope_spans.iter().flat_map(|scope| &scope.spans) {
                self.span(span, serial, &origin);
                if self.chunk.bytes.len() >= CHUNK_BYTES {
                    hub.give(Source::Otlp, &mut self.chunk);
                }
            }
        }
        hub.give(Source::Otlp, &mut self.chunk);
        true
    }

    fn span(&mut self, span: &Span, serial: u64, origin: &Origin) {
        let (Some(trace_id), Some(span_id)) = (id(&span.trace_id), id(&span.span_id)) else { return };
        let texts: Vec<(&str, Text<'_>)> =
            span.attributes.iter().map(|pair| (pair.key.as_str(), Text::of(pair.value.as_ref()))).collect();
        let attributes: Vec<(&str, Value<'_>)> =
            texts.iter().map(|(key, value)| (*key, value.value())).collect();
        let links: Vec<Link> = span
            .links
            .iter()
            .filter_map(|link| {
                Some(Link { trace_id: id(&link.trace_id)?, span_id: id(&link.span_id)?, flags: 0 })
            })
            .collect();
        let (code, message) =
            span.status.as_ref().map_or((0, ""), |status| (status.code, status.message.as_str()));
        let plain = Plain {
            trace_id,
            span_id,
            parent_span_id: id(&span.parent_span_id),
            kind: match span.kind() {
                span::SpanKind::Server => SpanKind::Server,
                span::SpanKind::Client => SpanKind::Client,
                span::SpanKind::Producer => SpanKind::Producer,
                span::SpanKind::Consumer => SpanKind::Consumer,
                _ => SpanKind::Internal,
            },
            status: match code {
                1 => Status::Ok,
                2 => Status::Error,
                _ => Status::Unset,
            },
            message,
            name: &span.name,
            start_unix_ns: span.start_time_unix_nano,
            end_unix_ns: span.end_time_unix_nano,
            attributes: &attributes,
            links: &links,
        };
        self.encoder.plain(&mut self.chunk, &plain, serial, || origin.clone());
    }
}

/// An id of the right length that is not zero.
fn id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok().filter(|id| *id != [0; N])
}

fn origin(attributes: &[KeyValue]) -> Origin {
    let attributes: Vec<(String, String)> = attributes
        .iter()
        .take(MAX_RESOURCE_ATTRIBUTES)
        .map(|pair| {
            let text = match Text::of(pair.value.as_ref()) {
                Text::Borrowed(text) => cut(text, MAX_TEXT).to_owned(),
                Text::Owned(text) => cut(&text, MAX_TEXT).to_owned(),
                Text::Int(number) => number.to_string(),
                Text::Double(number) => number.to_string(),
                Text::Bool(truth) => truth.to_string(),
            };
            (cut(&pair.key, MAX_NAME).to_owned(), text)
        })
        .collect();
    let service = attributes
        .iter()
        .find(|(key, value)| key == semconv::SERVICE_NAME && !value.is_empty())
        .map_or("unknown_service", |(_, value)| value);
    Origin { service: cut(service, MAX_NAME).to_owned(), attributes, observed: false }
}

enum Text<'a> {
    Borrowed(&'a str),
    Owned(String),
    Int(i64),
    Double(f64),
    Bool(bool),
}

impl<'a> Text<'a> {
    fn of(value: Option<&'a AnyValue>) -> Self {
        match value.and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => Self::Borrowed(text),
            Some(any_value::Value::IntValue(number)) => Self::Int(*number),
            Some(any_value::Value::DoubleValue(number)) => Self::Double(*number),
            Some(any_value::Value::BoolValue(truth)) => Self::Bool(*truth),
            None => Self::Borrowed(""),
            Some(_) => {
                let mut text = String::new();
                write(value, &mut text, 0);
                Self::Owned(text)
            }
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Borrowed(text) => Value::Str(text),
            Self::Owned(text) => Value::Str(text),
            Self::Int(number) => Value::Int(*number),
            Self::Double(number) => Value::Double(*number),
            Self::Bool(truth) => Value::Bool(*truth),
        }
    }
}

/// Lists and maps as text, no longer than is kept.
fn write(value: Option<&AnyValue>, out: &mut String, depth: usize) {
    if out.len() > MAX_TEXT || depth > MAX_DEPTH {
        out.push('…');
        return;
    }
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::ArrayValue(list)) => {
            out.push('[');
            for (index, value) in list.values.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write(Some(value), out, depth + 1);
                if out.len() > MAX_TEXT {
                    return;
                }
            }
            out.push(']');
        }
        Some(any_value::Value::KvlistValue(map)) => {
            out.push('{');
            for (index, pair) in map.values.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                out.push_str(cut(&pair.key, MAX_NAME));
                out.push_str(": ");
                write(pair.value.as_ref(), out, depth + 1);
                if out.len() > MAX_TEXT {
                    return;
                }
            }
            out.push('}');
        }
        Some(any_value::Value::BytesValue(bytes)) => out.push_str(&format!("({} bytes)", bytes.len())),
        _ => match Text::of(value) {
            Text::Borrowed(text) => out.push_str(cut(text, MAX_TEXT)),
            Text::Owned(text) => out.push_str(&text),
            Text::Int(number) => out.push_str(&number.to_string()),
            Text::Double(number) => out.push_str(&number.to_string()),
            Text::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
        },
    }
}
