//! Spans of many processes, encoded one behind the other as they come, and put together by resource when sent.
//!
//! In: one encoded span at a time, with the encoded resource of its process. Out: an `ExportTraceServiceRequest`
//! (`resource_spans` = 1) of `ResourceSpans` (`resource` = 1, `scope_spans` = 2, `schema_url` = 3) of `ScopeSpans`
//! (`scope` = 1, `spans` = 2, `schema_url` = 3). A batch is cleared and used again.

use std::sync::Arc;

use agent_pipeline::semconv::SCHEMA_URL;
use rustc_hash::FxHashMap;

use super::wire::{LEN, put_bytes, put_tag, put_varint, varint_len};

/// `InstrumentationScope.name`.
const SCOPE_NAME: &str = "skep";

/// Spans on their way.
#[derive(Debug, Default)]
pub struct SpanBatch {
    /// `spans` fields, tag and length included.
    bytes: Vec<u8>,
    runs: Vec<Run>,
    resources: Vec<Arc<[u8]>>,
    /// Index in `resources` by address: equal resources are one object.
    indexes: FxHashMap<usize, u32>,
    resource_bytes: usize,
    spans: u64,
}

/// Spans of one resource that came one after the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    resource: u32,
    end: usize,
}

impl SpanBatch {
    /// Spans in it.
    pub fn spans(&self) -> u64 {
        self.spans
    }

    /// About the size of the request, and of the memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.resource_bytes
    }

    /// Forgets everything but the allocations.
    pub fn clear(&mut self) {
        let Self { bytes, runs, resources, indexes, resource_bytes, spans } = self;
        bytes.clear();
        runs.clear();
        resources.clear();
        indexes.clear();
        *resource_bytes = 0;
        *spans = 0;
    }

    /// Adds what `write` appends: one span of the process whose `Resource` message this is. What is longer than
    /// `max_bytes` is taken back, and `false` told.
    #[inline]
    pub fn push(&mut self, resource: &Arc<[u8]>, max_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.bytes.len();
        write(&mut self.bytes);
        if self.bytes.len() - start > max_bytes {
            self.bytes.truncate(start);
            return false;
        }
        self.spans += 1;
        let end = self.bytes.len();
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&self.resources[run.resource as usize], resource) => run.end = end,
            _ => self.begin_run(resource, end),
        }
        true
    }

    fn begin_run(&mut self, resource: &Arc<[u8]>, end: usize) {
        let Self { resources, indexes, resource_bytes, .. } = self;
        let index = *indexes.entry(Arc::as_ptr(resource).cast::<u8>().addr()).or_insert_with(|| {
            *resource_bytes += resource.len() + overhead();
            resources.push(Arc::clone(resource));
            resources.len() as u32 - 1
        });
        self.runs.push(Run { resource: index, end });
    }

    /// Appends the request.
    pub fn assemble(&self, out: &mut Vec<u8>) {
        let scope = scope_field();
        let mut sizes = vec![0; self.resources.len()];
        // Each with its beginning, in the order of resources and, within each, of time.
        let mut runs: Vec<(Run, usize)> = Vec::with_capacity(self.runs.len());
        let mut start = 0;
        for &run in &self.runs {
            sizes[run.resource as usize] += run.end - start;
            runs.push((run, start));
            start = run.end;
        }
        runs.sort_by_key(|&(Run { resource, .. }, _)| resource);
        let mut runs = runs.into_iter().peekable();
        out.reserve(self.bytes());
        for (index, (resource, spans_len)) in self.resources.iter().zip(sizes).enumerate() {
            let schema_len = field_len(SCHEMA_URL.len());
            let scope_spans_len = scope.len() + spans_len + schema_len;
            let resource_spans_len = field_len(resource.len()) + field_len(scope_spans_len) + schema_len;
            put_tag(out, 1, LEN);
            put_varint(out, resource_spans_len as u64);
            put_bytes(out, 1, resource);
            put_tag(out, 2, LEN);
            put_varint(out, scope_spans_len as u64);
            out.extend_from_slice(&scope);
            while let Some((run, start)) = runs.next_if(|(run, _)| run.resource as usize == index) {
                out.extend_from_slice(&self.bytes[start..run.end]);
            }
            put_bytes(out, 3, SCHEMA_URL.as_bytes());
            put_bytes(out, 3, SCHEMA_URL.as_bytes());
        }
    }
}

/// The `scope` field that traces and metrics share: `InstrumentationScope` (`name` = 1, `version` = 2).
pub fn scope_field() -> Vec<u8> {
    let mut scope = Vec::new();
    put_bytes(&mut scope, 1, SCOPE_NAME.as_bytes());
    put_bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
    let mut field = Vec::new();
    put_bytes(&mut field, 1, &scope);
    field
}

/// A field of that many bytes, its number below 16.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// What each resource adds to a request beside itself and its spans, roughly from above.
fn overhead() -> usize {
    2 * field_len(SCHEMA_URL.len()) + 48
}
