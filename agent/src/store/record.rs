//! Finished spans as compact bytes: written by whoever sees a span, kept like that, read when somebody looks.
//!
//! In: spans of the pipeline ([`Encoder::span`]) or of another source ([`Encoder::plain`]). Out: a [`Chunk`] of
//! records; [`Head`] and [`Body`] read one. Attribute names of the semantic conventions are numbers. Texts are cut at
//! a bound, and cuts are counted. The resources that a chunk's records name come with the first chunk that names
//! them.

use std::sync::Arc;

use agent_pipeline::address::socket_ip;
use agent_pipeline::request::SpanKind;
use agent_pipeline::semconv;
use agent_pipeline::span::{Link, Span, Status, Value};
use rustc_hash::FxHashMap;

use crate::discovery::resource::{Resource, ResourceValue};

/// Longest text of an attribute; longer ones are cut.
pub const MAX_TEXT: usize = 1024;
/// Longest name of a span.
pub const MAX_NAME: usize = 256;
/// Most attributes of a span from outside; the pipeline has fewer.
const MAX_ATTRIBUTES: usize = 64;
const MAX_LINKS: usize = 16;
const MAX_LIST: usize = 32;
/// Longest record. A span that is longer loses attributes.
const MAX_RECORD: usize = 16 * 1024;
/// Resources remembered by an encoder.
const MAX_RESOURCES: usize = 512;
/// Number that says that the attribute's name follows.
const SPELLED: u16 = u16::MAX;

/// Bytes of a record before its body: length, trace, far end of the connection, resource.
pub(super) const HEAD: usize = 4 + 16 + 18 + 4;
/// Bytes of a body before its name: ids, times, kind, status, flags.
const FIXED: usize = 8 + 8 + 8 + 8 + 1 + 1 + 1;

/// A peer or listening address, IPv4 as mapped IPv6; all zero if there is none.
pub(super) type Endpoint = [u8; 18];

/// Records on their way to the store.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// Records, one after the other.
    pub bytes: Vec<u8>,
    /// How many.
    pub spans: u32,
    /// Texts cut and attributes left out in them.
    pub cut: u64,
    /// Resources that are named for the first time.
    pub resources: Vec<(u32, Arc<Origin>)>,
}

/// Where a span comes from: the process, or what a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `service.name`.
    pub service: String,
    /// Attributes in order; numbers as text.
    pub attributes: Vec<(String, String)>,
    /// Seen from outside by Skep, rather than told by an SDK.
    pub observed: bool,
}

impl Origin {
    /// Bytes that it takes, about.
    pub(super) fn memory(&self) -> usize {
        self.service.len()
            + 64
            + self.attributes.iter().map(|(key, value)| key.len() + value.len() + 48).sum::<usize>()
    }
}

/// A span that is not the pipeline's.
#[derive(Clone, Debug)]
pub struct Plain<'a> {
    /// Trace.
    pub trace_id: [u8; 16],
    /// This span.
    pub span_id: [u8; 8],
    /// Its parent.
    pub parent_span_id: Option<[u8; 8]>,
    /// Kind.
    pub kind: SpanKind,
    /// Status.
    pub status: Status,
    /// Status message.
    pub message: &'a str,
    /// Name.
    pub name: &'a str,
    /// Start, wall clock.
    pub start_unix_ns: u64,
    /// End, wall clock.
    pub end_unix_ns: u64,
    /// Attributes.
    pub attributes: &'a [(&'a str, Value<'a>)],
    /// Links.
    pub links: &'a [Link],
}

/// Writes records.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Numbers of attribute names, by where the text lies: names are static, so it always lies there.
    keys: FxHashMap<(usize, usize), u16>,
    resources: FxHashMap<u64, u32>,
    next_resource: u32,
    name: String,
}

impl Encoder {
    /// Appends a span of the pipeline.
    pub fn span(
        &mut self,
        chunk: &mut Chunk,
        span: &Span<'_>,
        resource: &Resource,
        unix_ns: impl Fn(u64) -> u64,
    ) {
        let resource = self.resource(chunk, resource.serial, || Origin {
            service: cut(&resource.service_name, MAX_NAME).to_owned(),
            attributes: resource
                .attributes
                .iter()
                .map(|(name, value)| {
                    let text = match value {
                        ResourceValue::Text(text) => cut(text, MAX_TEXT).to_owned(),
                        ResourceValue::Int(number) => number.to_string(),
                    };
                    (name.to_string(), text)
                })
                .collect(),
            observed: true,
        });
        let tuple = &span.request.tuple;
        let end = if span.kind() == SpanKind::Server { &tuple.local } else { &tuple.peer };
        let endpoint = socket_ip(end).map_or([0; 18], |ip| endpoint(ip, end.port));
        let (status, message) = span.status();
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        span.write_name(&mut name);
        let mut record = Record::begin(&mut chunk.bytes, span.trace_id, &endpoint, resource);
        record.fixed(
            span.span_id,
            span.parent_span_id,
            unix_ns(span.start_ktime_ns),
            unix_ns(span.end_ktime_ns),
            (span.kind(), status),
            &name,
            message.unwrap_or_default(),
        );
        let keys = &mut self.keys;
        span.attributes(&mut |name, value| {
            let at = (name.as_ptr() as usize, name.len());
            let key = match keys.get(&at) {
                Some(&key) => key,
                None => {
                    let key = key_number(name);
                    keys.insert(at, key);
                    key
                }
            };
            record.attribute(key, name, &value);
        });
        record.links(span.links);
        chunk.cut += record.end();
        chunk.spans += 1;
        self.name = name;
    }

    /// Appends a span from outside; `serial` tells its resource apart from others of this encoder.
    pub fn plain(
        &mut self,
        chunk: &mut Chunk,
        span: &Plain<'_>,
        serial: u64,
        origin: impl FnOnce() -> Origin,
    ) {
        let resource = self.resource(chunk, serial, origin);
        let mut record = Record::begin(&mut chunk.bytes, span.trace_id, &[0; 18], resource);
        record.fixed(
            span.span_id,
            span.parent_span_id,
            span.start_unix_ns,
            span.end_unix_ns,
            (span.kind, span.status),
            span.name,
            span.message,
        );
        for (name, value) in span.attributes {
            record.attribute(key_number(name), name, value);
        }
        record.links(span.links);
        chunk.cut += record.end();
        chunk.spans += 1;
    }

    /// Tells every resource anew from now on.
    pub fn forget_resources(&mut self) {
        self.resources.clear();
    }

    fn resource(&mut self, chunk: &mut Chunk, serial: u64, origin: impl FnOnce() -> Origin) -> u32 {
        if let Some(&number) = self.resources.get(&serial) {
            return number;
        }
        if self.resources.len() >= MAX_RESOURCES {
            // They are told anew with the next span of each.
            self.resources.clear();
        }
        let number = self.next_resource;
        self.next_resource = self.next_resource.wrapping_add(1);
        self.resources.insert(serial, number);
        chunk.resources.push((number, Arc::new(origin())));
        number
    }
}

fn key_number(name: &str) -> u16 {
    semconv::NAMES.iter().position(|(known, _)| *known == name).map_or(SPELLED, |index| index as u16)
}

fn endpoint(ip: std::net::IpAddr, port: u16) -> Endpoint {
    let octets = match ip {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(ip) => ip.octets(),
    };
    let mut endpoint = [0; 18];
    endpoint[..16].copy_from_slice(&octets);
    endpoint[16..].copy_from_slice(&port.to_be_bytes());
    endpoint
}

/// At most `max` bytes of a text, whole characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

struct Record<'a> {
    out: &'a mut Vec<u8>,
    begin: usize,
    attributes_at: usize,
    attributes: usize,
    cut: u64,
}

impl<'a> Record<'a> {
    fn begin(out: &'a mut Vec<u8>, trace_id: [u8; 16], endpoint: &Endpoint, resource: u32) -> Self {
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&trace_id);
        out.extend_from_slice(endpoint);
        out.extend_from_slice(&resource.to_le_bytes());
        Self { out, begin, attributes_at: 0, attributes: 0, cut: 0 }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a span, once, side by side")]
    fn fixed(
        &mut self,
        span_id: [u8; 8],
        parent: Option<[u8; 8]>,
        start_unix_ns: u64,
        end_unix_ns: u64,
        (kind, status): (SpanKind, Status),
        name: &str,
        message: &str,
    ) {
        let mut fixed = [0_u8; FIXED];
        fixed[..8].copy_from_slice(&span_id);
        fixed[8..16].copy_from_slice(&parent.unwrap_or_default());
        fixed[16..24].copy_from_slice(&start_unix_ns.to_le_bytes());
        fixed[24..32].copy_from_slice(&end_unix_ns.saturating_sub(start_unix_ns).to_le_bytes());
        fixed[32] = match kind {
            SpanKind::Internal => 0,
            SpanKind::Server => 1,
            SpanKind::Client => 2,
            SpanKind::Producer => 3,
            SpanKind::Consumer => 4,
        };
        fixed[33] = match status {
            Status::Unset => 0,
            Status::Ok => 1,
            Status::Error => 2,
        };
        fixed[34] = u8::from(parent.is_some());
        self.out.extend_from_slice(&fixed);
        self.text(name, MAX_NAME);
        self.text(message, MAX_NAME);
        self.attributes_at = self.out.len();
        self.out.push(0);
    }

    #[inline]
    fn text(&mut self, text: &str, max: usize) {
        let kept = cut(text, max);
        self.cut += u64::from(kept.len() < text.len());
        self.out.extend_from_slice(&(kept.len() as u16).to_le_bytes());
        self.out.extend_from_slice(kept.as_bytes());
    }

    #[inline]
    fn attribute(&mut self, key: u16, name: &str, value: &Value<'_>) {
        let before = self.out.len();
        if self.attributes >= MAX_ATTRIBUTES {
            self.cut += 1;
            return;
        }
        self.out.extend_from_slice(&key.to_le_bytes());
        if key == SPELLED {
            self.text(name, MAX_NAME);
        }
        match value {
            Value::Str(text) => {
                self.out.push(0);
                self.text(text, MAX_TEXT);
            }
            Value::Int(number) => match u16::try_from(*number) {
                Ok(small) => {
                    self.out.push(1);
                    self.out.extend_from_slice(&small.to_le_bytes());
                }
                Err(_) => {
                    self.out.push(2);
                    self.out.extend_from_slice(&number.to_le_bytes());
                }
            },
            Value::Double(number) => {
                self.out.push(3);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            Value::Bool(truth) => self.out.extend_from_slice(&[4, u8::from(*truth)]),
            Value::StrArray(texts) => {
                let kept = &texts[..texts.len().min(MAX_LIST)];
                self.cut += u64::from(kept.len() < texts.len());
                self.out.extend_from_slice(&[5, kept.len() as u8]);
                for text in kept {
                    self.text(text, MAX_TEXT);
                }
            }
        }
        if self.out.len() - self.begin > MAX_RECORD {
            self.out.truncate(before);
            self.cut += 1;
        } else {
            self.attributes += 1;
        }
    }

    fn links(&mut self, links: &[Link]) {
        let kept = &links[..links.len().min(MAX_LINKS)];
        self.cut += (links.len() - kept.len()) as u64;
        self.out.push(kept.len() as u8);
        for link in kept {
            self.out.extend_from_slice(&link.trace_id);
            self.out.extend_from_slice(&link.span_id);
        }
    }

    fn end(self) -> u64 {
        self.out[self.attributes_at] = self.attributes as u8;
        let length = (self.out.len() - self.begin) as u32;
        self.out[self.begin..self.begin + 4].copy_from_slice(&length.to_le_bytes());
        self.cut
    }
}

/// The beginning of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) endpoint: Endpoint,
    pub(super) resource: u32,
    pub(super) body: &'a [u8],
}

/// Takes one record off the front of a chunk.
#[inline]
pub(super) fn split<'a>(bytes: &mut &'a [u8]) -> Option<Head<'a>> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let record = bytes.get(..length)?;
    let head = record.get(..HEAD)?;
    *bytes = &bytes[length..];
    Some(Head {
        trace_id: head[4..20].try_into().ok()?,
        endpoint: head[20..38].try_into().ok()?,
        resource: u32::from_le_bytes(head[38..42].try_into().ok()?),
        body: &record[HEAD..],
    })
}

/// A span as it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    pub(super) span_id: [u8; 8],
    pub(super) parent_span_id: Option<[u8; 8]>,
    pub(super) start_unix_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) kind: SpanKind,
    pub(super) failed: bool,
    pub(super) status: &'static str,
    pub(super) name: &'a str,
    pub(super) message: &'a str,
    rest: &'a [u8],
}

/// An attribute's value as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kept<'a> {
    Text(&'a str),
    Int(i64),
    Double(f64),
    Bool(bool),
    List(Vec<&'a str>),
}

impl<'a> Body<'a> {
    /// Reads the fixed part and the name.
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        let number = |at: usize| fixed[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let mut rest = &bytes[FIXED..];
        let name = text(&mut rest)?;
        let message = text(&mut rest)?;
        Some(Self {
            span_id: fixed[..8].try_into().ok()?,
            parent_span_id: if fixed[34] & 1 == 1 { fixed[8..16].try_into().ok() } else { None },
            start_unix_ns: number(16)?,
            duration_ns: number(24)?,
            kind: match fixed[32] {
                1 => SpanKind::Server,
                2 => SpanKind::Client,
                3 => SpanKind::Producer,
                4 => SpanKind::Consumer,
                _ => SpanKind::Internal,
            },
            failed: fixed[33] == 2,
            status: ["unset", "ok", "error"].get(usize::from(fixed[33])).copied().unwrap_or("unset"),
            name,
            message,
            rest,
        })
    }

    pub(super) fn end_unix_ns(&self) -> u64 {
        self.start_unix_ns.saturating_add(self.duration_ns)
    }

    /// Shows every attribute; returns the links.
    pub(super) fn attributes(&self, mut visit: impl FnMut(&'a str, Kept<'a>)) -> Vec<([u8; 16], [u8; 8])> {
        let mut rest = self.rest;
        let mut links = Vec::new();
        // The bytes are our own; were they not, the loop would end early.
        let mut read = || -> Option<()> {
            for _ in 0..take(&mut rest, 1)?[0] {
                let key = u16::from_le_bytes(take(&mut rest, 2)?.try_into().ok()?);
                let name: &'a str = match key {
                    SPELLED => text(&mut rest)?,
                    key => semconv::NAMES.get(usize::from(key))?.0,
                };
                let value = match take(&mut rest, 1)?[0] {
                    0 => Kept::Text(text(&mut rest)?),
                    1 => Kept::Int(u16::from_le_bytes(take(&mut rest, 2)?.try_into().ok()?).into()),
                    2 => Kept::Int(i64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
                    3 => Kept::Double(f64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
                    4 => Kept::Bool(take(&mut rest, 1)?[0] == 1),
                    _ => {
                        let count = take(&mut rest, 1)?[0];
                        let mut list = Vec::with_capacity(count.into());
                        for _ in 0..count {
                            list.push(text(&mut rest)?);
                        }
                        Kept::List(list)
                    }
                };
                visit(name, value);
            }
            for _ in 0..take(&mut rest, 1)?[0] {
                links.push((take(&mut rest, 16)?.try_into().ok()?, take(&mut rest, 8)?.try_into().ok()?));
            }
            Some(())
        };
        let _ = read();
        links
    }
}

#[inline]
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[inline]
fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = u16::from_le_bytes(take(bytes, 2)?.try_into().ok()?);
    std::str::from_utf8(take(bytes, length.into())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_comes_back_as_it_was() {
        let long = "é".repeat(MAX_TEXT);
        let attributes = [
            (semconv::URL_PATH, Value::Str("/a")),
            ("my.own", Value::Int(-5)),
            ("big", Value::Int(70_000)),
            ("small", Value::Int(7)),
            ("half", Value::Double(0.5)),
            ("yes", Value::Bool(true)),
            ("list", Value::StrArray(&["a", "b"])),
            ("long", Value::Str(&long)),
        ];
        let plain = Plain {
            trace_id: [1; 16],
            span_id: [2; 8],
            parent_span_id: Some([3; 8]),
            kind: SpanKind::Consumer,
            status: Status::Error,
            message: "bad",
            name: "take",
            start_unix_ns: 1000,
            end_unix_ns: 5000,
            attributes: &attributes,
            links: &[Link { trace_id: [4; 16], span_id: [5; 8], flags: 1 }],
        };
        let mut chunk = Chunk::default();
        let origin = || Origin { service: "s".into(), attributes: Vec::new(), observed: false };
        let mut encoder = Encoder::default();
        encoder.plain(&mut chunk, &plain, 9, origin);
        encoder.plain(&mut chunk, &plain, 9, origin);
        assert_eq!((chunk.spans, chunk.resources.len(), chunk.cut), (2, 1, 2));
        let mut bytes = &chunk.bytes[..];
        for _ in 0..2 {
            let head = split(&mut bytes).unwrap();
            assert_eq!((head.trace_id, head.resource), ([1; 16], 0));
            let body = Body::read(head.body).unwrap();
            assert_eq!((body.name, body.message, body.failed), ("take", "bad", true));
            assert_eq!((body.start_unix_ns, body.end_unix_ns()), (1000, 5000));
            assert_eq!((body.span_id, body.parent_span_id), ([2; 8], Some([3; 8])));
            let mut seen = Vec::new();
            let links = body.attributes(|name, value| seen.push((name.to_owned(), value)));
            assert_eq!(links, [([4; 16], [5; 8])]);
            assert_eq!(seen.len(), 8);
            assert_eq!(seen[1], ("my.own".into(), Kept::Int(-5)));
            assert_eq!(seen[2].1, Kept::Int(70_000));
            assert_eq!(seen[6].1, Kept::List(vec!["a", "b"]));
            assert!(
                matches!(&seen[7].1, Kept::Text(text) if text.len() == MAX_TEXT && long.starts_with(text))
            );
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_record_is_bounded_whatever_its_attributes() {
        let text = "x".repeat(5000);
        let attributes: Vec<_> = (0..100).map(|_| ("k", Value::Str(&text))).collect();
        let plain = Plain {
            trace_id: [1; 16],
            span_id: [2; 8],
            parent_span_id: None,
            kind: SpanKind::Client,
            status: Status::Unset,
            message: &text,
            name: &text,
            start_unix_ns: 5000,
            end_unix_ns: 1000,
            attributes: &attributes,
            links: &[],
        };
        let mut chunk = Chunk::default();
        Encoder::default().plain(&mut chunk, &plain, 0, || Origin {
            service: String::new(),
            attributes: Vec::new(),
            observed: false,
        });
        assert!(chunk.bytes.len() <= MAX_RECORD + 1024, "{}", chunk.bytes.len());
        assert!(chunk.cut > 100);
        let head = split(&mut &chunk.bytes[..]).unwrap();
        assert_eq!(Body::read(head.body).unwrap().duration_ns, 0);
    }
}
