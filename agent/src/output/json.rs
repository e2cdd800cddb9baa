//! One JSON object a line: the contract for scripts. Written by hand, without allocation: field order is fixed and
//! the resource object is ready-made.

use std::io::Write;

use agent_pipeline::request::SpanKind;
use agent_pipeline::span::{Link, Span, Status, Value};

use crate::discovery::resource::Resource;

/// A span with everything around it that an output prints.
pub struct Line<'a, 's> {
    /// The span.
    pub span: &'a Span<'s>,
    /// The process that it was seen in.
    pub resource: &'a Resource,
    /// Start, wall clock.
    pub start_unix_ns: u64,
    /// End, wall clock.
    pub end_unix_ns: u64,
    /// The span's name.
    pub name: &'a str,
}

/// Appends the span and a line break.
pub fn write_span(out: &mut Vec<u8>, line: &Line<'_, '_>) {
    let span = line.span;
    out.extend_from_slice(b"{\"trace_id\":");
    write_hex(out, &span.trace_id);
    out.extend_from_slice(b",\"span_id\":");
    write_hex(out, &span.span_id);
    if let Some(parent) = &span.parent_span_id {
        out.extend_from_slice(b",\"parent_span_id\":");
        write_hex(out, parent);
    }
    out.extend_from_slice(b",\"name\":");
    write_string(out, line.name);
    out.extend_from_slice(b",\"kind\":\"");
    out.extend_from_slice(kind_name(span.kind()).as_bytes());
    let (status, message) = span.status();
    let status = match status {
        Status::Unset => "unset",
        Status::Ok => "ok",
        Status::Error => "error",
    };
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "\",\"start_unix_ns\":{},\"end_unix_ns\":{},\"status\":\"{status}\"",
        line.start_unix_ns, line.end_unix_ns
    );
    if let Some(message) = message {
        out.extend_from_slice(b",\"status_message\":");
        write_string(out, message);
    }
    let _ = write!(out, ",\"flags\":{}", span.flags);
    if let Some(trace_state) = span.trace_state {
        out.extend_from_slice(b",\"trace_state\":");
        write_string(out, trace_state);
    }
    out.extend_from_slice(b",\"attributes\":{");
    let mut first = true;
    span.attributes(&mut |name, value| {
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(out, name);
        out.push(b':');
        write_value(out, &value);
    });
    out.extend_from_slice(b"},\"resource\":");
    out.extend_from_slice(&line.resource.json);
    out.extend_from_slice(b",\"links\":[");
    for (index, link) in span.links.iter().enumerate() {
        if index != 0 {
            out.push(b',');
        }
        write_link(out, link);
    }
    out.extend_from_slice(b"]}\n");
}

/// The word for a span's kind.
pub fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Internal => "internal",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

/// Appends a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean_from = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(&bytes[clean_from..index]);
        clean_from = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
    }
    out.extend_from_slice(&bytes[clean_from..]);
    out.push(b'"');
}

fn write_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Str(text) => write_string(out, text),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        // JSON has no word for infinities and NaN.
        Value::Double(number) if number.is_finite() => {
            let _ = write!(out, "{number}");
        }
        Value::Double(_) => out.extend_from_slice(b"null"),
        Value::Bool(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Value::StrArray(texts) => {
            out.push(b'[');
            for (index, text) in texts.iter().enumerate() {
                if index != 0 {
                    out.push(b',');
                }
                write_string(out, text);
            }
            out.push(b']');
        }
    }
}

fn write_link(out: &mut Vec<u8>, link: &Link) {
    out.extend_from_slice(b"{\"trace_id\":");
    write_hex(out, &link.trace_id);
    out.extend_from_slice(b",\"span_id\":");
    write_hex(out, &link.span_id);
    let _ = write!(out, ",\"flags\":{}}}", link.flags);
}

fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_survives() {
        let every: String = (0..0x500).filter_map(char::from_u32).chain(['\u{2028}', '😀']).collect();
        let mut out = Vec::new();
        write_string(&mut out, &every);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), every);
        assert!(!out.iter().any(|byte| byte.is_ascii_control()));
    }

    #[test]
    fn ids_are_lower_case_hex() {
        let mut out = Vec::new();
        write_hex(&mut out, &[0, 0x0f, 0xab]);
        assert_eq!(out, b"\"000fab\"");
    }
}
