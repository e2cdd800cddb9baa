//! The embedded store: the last traces, whole, and rate, errors and duration of the last hour, in bounded memory.
//!
//! In: chunks of records ([`record`]) from the drain thread and from other sources, and the time. Out: what both views
//! and the JSON API show ([`query`]). No I/O, no clock, no thread: [`feed`] is the hand-over between threads. What does
//! not fit is counted, see [`Counts`].

mod arena;
pub mod feed;
pub mod histogram;
mod names;
mod peers;
#[cfg(test)]
mod properties;
pub mod query;
pub mod record;
mod series;
mod traces;
pub mod view;

use std::sync::Arc;

use agent_pipeline::request::SpanKind;
use agent_pipeline::semconv;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use self::names::Names;
use self::peers::{NOBODY, OUTSIDE, Peers};
use self::record::{Body, Chunk, Kept, Origin};
use self::series::{Key, SeriesTable};
use self::traces::{Arrival, Root, Traces};

/// Memory of a store unless something else is asked for.
pub const DEFAULT_BYTES: usize = 8 << 20;
/// Least that makes sense.
pub const MIN_BYTES: usize = 1 << 20;
/// Resources at the same time.
const MAX_ORIGINS: usize = 1024;
/// Before the body of a kept span: its length, resource, peer.
const PREFIX: usize = 6;
/// Spans of a trace that are searched for the other end of a request.
const SEARCHED: usize = 64;
const SWEEP_S: u64 = 10;

/// What was kept and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Spans that came.
    pub spans: u64,
    /// Spans that the hand-over had no room for: neither counted nor kept.
    pub spans_queue_full: u64,
    /// Traces that are there.
    pub traces_held: u64,
    /// Spans in them.
    pub spans_held: u64,
    /// Traces that made room for others.
    pub traces_evicted: u64,
    /// Their spans.
    pub spans_evicted: u64,
    /// Spans that came after their trace had been evicted.
    pub spans_late: u64,
    /// Spans beyond what is kept of one trace.
    pub spans_over_cap: u64,
    /// Requests whose series is `(other)` because there are too many.
    pub series_overflow: u64,
    /// Texts (names, peers) that are `(other)` because there are too many.
    pub names_overflow: u64,
    /// Slots of the last hour that were dropped early.
    pub slots_dropped: u64,
    /// Texts that were cut and attributes that were left out.
    pub texts_cut: u64,
    /// Resources that were replaced by a nameless one because there are too many.
    pub resources_overflow: u64,
    /// Memory taken, in bytes.
    pub memory_bytes: u64,
    /// Memory that may be taken.
    pub budget_bytes: u64,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    traces: Traces,
    series: SeriesTable,
    names: Names,
    peers: Peers,
    origins: Vec<Option<Arc<Origin>>>,
    origin_ids: FxHashMap<Arc<Origin>, u16>,
    origin_bytes: usize,
    max_origin_bytes: usize,
    /// A source named a resource that is not known (any more).
    untold: bool,
    /// Services that are seen from outside, by name.
    observed: FxHashSet<u16>,
    /// By source, the numbers that its encoder uses.
    sources: [FxHashMap<u32, u16>; SOURCES],
    budget: usize,
    now_unix_ns: u64,
    began_unix_ns: u64,
    swept_s: u64,
    spans: u64,
    spans_queue_full: u64,
    cut: u64,
    resources_overflow: u64,
    scratch: Vec<u8>,
}

/// Who hands chunks over; each has an encoder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The pipeline.
    Capture = 0,
    /// Services that tell themselves.
    Otlp = 1,
}

const SOURCES: usize = 2;

impl Store {
    /// An empty store that takes at most so much memory.
    pub fn new(budget: usize, now_unix_ns: u64) -> Self {
        let budget = budget.max(MIN_BYTES);
        // What each part may take; what is left over in them is slack.
        let part = budget / 64;
        let figures = size_of::<histogram::Figures>() + 4 * histogram::BUCKETS;
        let max_series = (8 * part / (3 * figures)).clamp(24, 1024);
        let nobody =
            Arc::new(Origin { service: "(other)".to_owned(), attributes: Vec::new(), observed: true });
        Self {
            traces: Traces::new(34 * part),
            series: SeriesTable::new(8 * part, max_series),
            names: Names::new(3 * part),
            peers: Peers::new((part / 128).clamp(16, 2048)),
            origins: vec![Some(Arc::clone(&nobody))],
            origin_ids: FxHashMap::from_iter([(nobody, 0)]),
            origin_bytes: 0,
            max_origin_bytes: 4 * part,
            untold: false,
            observed: FxHashSet::default(),
            sources: Default::default(),
            budget,
            now_unix_ns,
            began_unix_ns: now_unix_ns,
            swept_s: 0,
            spans: 0,
            spans_queue_full: 0,
            cut: 0,
            resources_overflow: 0,
            scratch: Vec::new(),
        }
    }

    /// From now on spans come; before, there was nobody to send them.
    pub fn begin(&mut self, now_unix_ns: u64) {
        self.began_unix_ns = now_unix_ns;
    }

    /// Tells the time: wall clock. To be called several times a second, before what has come since is taken.
    pub fn tick(&mut self, now_unix_ns: u64) {
        self.now_unix_ns = now_unix_ns;
        self.series.tick(now_unix_ns / 1_000_000_000);
    }

    /// Whether sources had better tell all their resources anew.
    pub fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// Spans that did not reach the store.
    pub fn missed(&mut self, spans: u64) {
        self.spans_queue_full += spans;
    }

    /// Takes what a source hands over.
    pub fn ingest(&mut self, source: Source, chunk: &Chunk) {
        for (number, origin) in &chunk.resources {
            let id = self.origin(origin);
            let map = &mut self.sources[source as usize];
            if map.len() >= MAX_ORIGINS {
                // A source's numbers grow: the smallest are the oldest.
                let newest = *number;
                map.retain(|&old, _| newest.wrapping_sub(old) < MAX_ORIGINS as u32 / 2);
            }
            map.insert(*number, id);
        }
        self.cut += chunk.cut;
        let mut bytes = &chunk.bytes[..];
        while let Some(head) = record::split(&mut bytes) {
            let origin = self.sources[source as usize].get(&head.resource).copied();
            self.untold |= origin.is_none();
            let origin = origin.unwrap_or(0);
            if let Some(body) = Body::read(head.body) {
                self.add(&head, &body, origin);
            }
        }
    }

    fn add(&mut self, head: &record::Head<'_>, body: &Body<'_>, origin: u16) {
        self.spans += 1;
        let service = match &self.origins[usize::from(origin)] {
            Some(origin) => self.names.intern(&origin.service),
            None => names::OTHER,
        };
        let name = self.names.intern(body.name);
        let kind = kind_number(body.kind);
        let peer = match body.kind {
            SpanKind::Server | SpanKind::Consumer => {
                self.peers.listens(&head.endpoint, service);
                if body.parent_span_id.is_none() { OUTSIDE } else { NOBODY }
            }
            SpanKind::Client | SpanKind::Producer => {
                self.peers.find(&head.endpoint, &mut self.names, || peer_label(body))
            }
            SpanKind::Internal => NOBODY,
        };
        if matches!(body.kind, SpanKind::Client | SpanKind::Producer) {
            if self.peers.service(peer).is_none()
                && let Some(service) = self.server_of(&head.trace_id, &body.span_id)
            {
                self.peers.serves(peer, service);
            }
        } else if head.endpoint == [0; 18]
            && let Some(parent) = body.parent_span_id
            && let Some(peer) = self.client_of(&head.trace_id, &parent)
            && self.peers.service(peer).is_none()
        {
            self.peers.serves(peer, service);
        }
        let observed = self.origins[usize::from(origin)].as_ref().is_none_or(|origin| origin.observed);
        if observed {
            self.observed.insert(service);
        }
        let mut slow = false;
        // What Skep sees of a service itself is not counted again when the service tells it.
        if body.kind != SpanKind::Internal && (observed || !self.observed.contains(&service)) {
            let now_s = self.now_unix_ns / 1_000_000_000;
            let other = Key { service: names::OTHER, kind, name: names::OTHER, peer: NOBODY };
            let id = self.series.id(Key { service, kind, name, peer }, other, now_s);
            slow = body.duration_ns > self.series.slow_ns(id);
            self.series.add(id, body.end_unix_ns() / 1_000_000_000, body.duration_ns, body.failed);
        }
        let mut kept = std::mem::take(&mut self.scratch);
        kept.clear();
        kept.extend_from_slice(&(head.body.len() as u16).to_le_bytes());
        kept.extend_from_slice(&origin.to_le_bytes());
        kept.extend_from_slice(&peer.to_le_bytes());
        kept.extend_from_slice(head.body);
        self.traces.add(&Arrival {
            trace_id: head.trace_id,
            bytes: &kept,
            failed: body.failed,
            slow,
            root: Root {
                certain: body.parent_span_id.is_none(),
                service,
                name,
                kind,
                start_unix_ns: body.start_unix_ns,
                duration_ns: body.duration_ns,
            },
        });
        self.scratch = kept;
    }

    /// The service that answers a client's span, if its end of the request is there already.
    fn server_of(&self, trace_id: &[u8; 16], client: &[u8; 8]) -> Option<u16> {
        self.search(trace_id, |span, body| {
            let server = matches!(body.kind, SpanKind::Server | SpanKind::Consumer);
            (server && body.parent_span_id == Some(*client)).then_some(span.origin)
        })
        .and_then(|origin| self.names.find(&self.origins[usize::from(origin)].as_ref()?.service))
    }

    /// The peer of the client's span that a server's one names as its parent.
    fn client_of(&self, trace_id: &[u8; 16], client: &[u8; 8]) -> Option<u16> {
        self.search(trace_id, |span, body| {
            let asks = matches!(body.kind, SpanKind::Client | SpanKind::Producer);
            (asks && body.span_id == *client).then_some(span.peer)
        })
    }

    fn search<T>(
        &self,
        trace_id: &[u8; 16],
        mut found: impl FnMut(&KeptSpan<'_>, &Body<'_>) -> Option<T>,
    ) -> Option<T> {
        let trace = self.traces.get(trace_id)?;
        if usize::from(trace.spans) > SEARCHED {
            return None;
        }
        let mut bytes = Vec::new();
        self.traces.read(trace, &mut bytes);
        KeptSpans(&bytes).find_map(|span| found(&span, &Body::read(span.body)?))
    }

    fn origin(&mut self, origin: &Arc<Origin>) -> u16 {
        if let Some(&id) = self.origin_ids.get(origin) {
            return id;
        }
        let full = |store: &Self| {
            store.origin_ids.len() >= MAX_ORIGINS || store.origin_bytes >= store.max_origin_bytes
        };
        if full(self) {
            self.sweep();
            if full(self) {
                self.resources_overflow += 1;
                return 0;
            }
        }
        let id = match self.origins.iter().skip(1).position(Option::is_none) {
            Some(index) => index + 1,
            None => {
                self.origins.push(None);
                self.origins.len() - 1
            }
        };
        self.origins[id] = Some(Arc::clone(origin));
        self.origin_bytes += origin.memory();
        self.origin_ids.insert(Arc::clone(origin), id as u16);
        id as u16
    }

    /// Forgets names, peers and resources that nothing refers to any more. Called when one of them is full.
    fn sweep(&mut self) {
        let now_s = self.now_unix_ns / 1_000_000_000;
        if now_s < self.swept_s + SWEEP_S {
            return;
        }
        self.swept_s = now_s;
        let mut origins = vec![false; self.origins.len()];
        let mut names = vec![false; self.names.len()];
        let mut peers = vec![false; self.peers.len()];
        let mut bytes = Vec::new();
        for trace in self.traces.iter() {
            names[usize::from(trace.root.service)] = true;
            names[usize::from(trace.root.name)] = true;
            self.traces.read(trace, &mut bytes);
            for span in KeptSpans(&bytes) {
                origins[usize::from(span.origin)] = true;
                peers[usize::from(span.peer)] = true;
            }
        }
        for key in self.series.keys() {
            names[usize::from(key.service)] = true;
            names[usize::from(key.name)] = true;
            if matches!(key.kind, 2 | 3) {
                peers[usize::from(key.peer)] = true;
            }
        }
        // What a source may still name stays, unless resources are the reason; then they are told anew.
        if self.origin_ids.len() < MAX_ORIGINS && self.origin_bytes < self.max_origin_bytes {
            for &origin in self.sources.iter().flat_map(FxHashMap::values) {
                origins[usize::from(origin)] = true;
            }
        }
        self.peers.keep(&peers);
        for name in self.peers.names() {
            names[usize::from(name)] = true;
        }
        self.names.keep(&names);
        // Whoever is still seen is noted again with its next span.
        self.observed.retain(|&service| names[usize::from(service)]);
        for (index, used) in origins.iter().enumerate().skip(1) {
            if !used && let Some(origin) = self.origins[index].take() {
                self.origin_bytes -= origin.memory();
                self.origin_ids.remove(&origin);
            }
        }
        let origins = &self.origins;
        for map in &mut self.sources {
            map.retain(|_, id| origins[usize::from(*id)].is_some());
        }
    }

    /// Tidies up if need be; once a second is enough.
    pub fn every_second(&mut self) {
        if self.names.is_full() || self.peers.is_full() {
            self.sweep();
        }
    }

    /// What was kept and what was not.
    pub fn counts(&self) -> Counts {
        let traces = self.traces.counts;
        Counts {
            spans: self.spans,
            spans_queue_full: self.spans_queue_full,
            traces_held: traces.traces,
            spans_held: traces.spans,
            traces_evicted: traces.traces_evicted,
            spans_evicted: traces.spans_evicted,
            spans_late: traces.spans_late,
            spans_over_cap: traces.spans_over_cap,
            series_overflow: self.series.overflow,
            names_overflow: self.names.overflow,
            slots_dropped: self.series.slots_dropped,
            texts_cut: self.cut,
            resources_overflow: self.resources_overflow,
            memory_bytes: self.memory() as u64,
            budget_bytes: self.budget as u64,
        }
    }

    /// Memory taken, in bytes.
    pub fn memory(&self) -> usize {
        self.traces.memory()
            + self.series.memory()
            + self.names.memory()
            + self.peers.memory()
            + self.origin_bytes
            + self.observed.capacity() * 3
            + self.sources.iter().map(|map| map.capacity() * 8).sum::<usize>()
            + self.scratch.capacity()
    }
}

/// A span as it is kept, not yet read.
#[derive(Clone, Copy, Debug)]
struct KeptSpan<'a> {
    origin: u16,
    peer: u16,
    body: &'a [u8],
}

struct KeptSpans<'a>(&'a [u8]);

impl<'a> Iterator for KeptSpans<'a> {
    type Item = KeptSpan<'a>;

    fn next(&mut self) -> Option<KeptSpan<'a>> {
        let prefix = self.0.get(..PREFIX)?;
        let number = |at: usize| u16::from_le_bytes([prefix[at], prefix[at + 1]]);
        let end = PREFIX + usize::from(number(0));
        let body = self.0.get(PREFIX..end)?;
        let span = KeptSpan { origin: number(2), peer: number(4), body };
        self.0 = &self.0[end..];
        Some(span)
    }
}

fn kind_number(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 0,
        SpanKind::Server => 1,
        SpanKind::Client => 2,
        SpanKind::Producer => 3,
        SpanKind::Consumer => 4,
    }
}

/// What a peer is called: as the client named it, else by its address.
fn peer_label(body: &Body<'_>) -> String {
    let (mut host, mut port, mut address) = (String::new(), None, String::new());
    body.attributes(|name, value| match (name, value) {
        (semconv::SERVER_ADDRESS, Kept::Text(text)) => host = record::cut(text, 128).to_owned(),
        (semconv::SERVER_PORT, Kept::Int(number)) => port = Some(number),
        (semconv::NETWORK_PEER_ADDRESS, Kept::Text(text)) => address = record::cut(text, 128).to_owned(),
        _ => {}
    });
    let host = if host.is_empty() { address } else { host };
    match port {
        _ if host.is_empty() => "unknown".to_owned(),
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}
