//! What all connections share: counters, open requests, their context, and the way out.
//!
//! In: requests that are finished. Out: spans, at once, or a little later when their trace is not certain yet.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::context::Context;
use crate::open::{OpenRequests, Slot};
use crate::protocol::dns::Queries;
use crate::protocol::http2::Fields;
use crate::request::Operation;
use crate::route::Router;
use crate::span::Span;
use crate::sql::cache::Sql;
use crate::stats::{Drop, Stats};
use crate::{Config, Sink};

/// Everything that a connection needs and does not own.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) stats: Stats,
    pub(crate) open: OpenRequests,
    pub(crate) context: Context,
    /// DNS queries that wait for their answer.
    pub(crate) queries: Queries,
    pub(crate) sql: Sql,
    /// The newest moment that a record or a tick told of.
    pub(crate) now_ktime_ns: u64,
    /// Room for the fields of one header block.
    pub(crate) fields: Fields,
    pub(crate) idle_end_ns: u64,
    pub(crate) redis_batches: bool,
    pub(crate) router: Router,
    /// Finished requests whose trace is not certain yet.
    settling: VecDeque<Slot>,
    /// Connections that want to be looked at, the soonest first.
    wakes: BinaryHeap<Reverse<(u64, u64)>>,
    buffered: usize,
    max_buffered: usize,
}

impl State {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            stats: Stats::new(),
            open: OpenRequests::new(config.max_requests),
            context: Context::new(config.seed),
            queries: Queries::default(),
            sql: Sql::default(),
            now_ktime_ns: 0,
            fields: Fields::default(),
            idle_end_ns: u64::try_from(config.idle_end.as_nanos()).unwrap_or(u64::MAX),
            redis_batches: config.redis_batches,
            router: Router::new(&config.routes),
            settling: VecDeque::new(),
            wakes: BinaryHeap::new(),
            buffered: 0,
            max_buffered: config.max_buffered_bytes,
        }
    }

    /// A request is finished: its span leaves as soon as its trace is certain.
    #[inline]
    pub(crate) fn finish(&mut self, slot: Slot, sink: &mut impl Sink) {
        let open = self.open.get_mut(slot);
        open.finished = true;
        open.request.end_ktime_ns = open.request.end_ktime_ns.max(open.request.start_ktime_ns);
        open.request.complete(&mut self.router);
        self.context.answered(slot, &mut self.open);
        if self.context.is_pending(slot, &self.open, self.now_ktime_ns) {
            self.settling.push_back(slot);
        } else {
            self.emit(slot, sink);
        }
    }

    /// A request cannot become a span.
    pub(crate) fn abandon(&mut self, slot: Slot, drop: Drop) {
        self.stats.drop(drop);
        self.context.end(slot, &mut self.open);
        self.open.give_back(slot);
    }

    /// Looks again at the spans whose trace was not certain; at the end of the run, all leave.
    pub(crate) fn settle(&mut self, all: bool, sink: &mut impl Sink) {
        for _ in 0..self.settling.len() {
            let Some(slot) = self.settling.pop_front() else { break };
            if !all && self.context.is_pending(slot, &self.open, self.now_ktime_ns) {
                self.settling.push_back(slot);
            } else {
                self.emit(slot, sink);
            }
        }
    }

    /// Asks that a connection be looked at.
    pub(crate) fn wake_at(&mut self, ktime_ns: u64, conn_id: u64) {
        self.wakes.push(Reverse((ktime_ns, conn_id)));
    }

    /// The next connection to be looked at by now, and the time for which it asked.
    pub(crate) fn next_wake(&mut self) -> Option<(u64, u64)> {
        let &Reverse(wake) = self.wakes.peek()?;
        if wake.0 > self.now_ktime_ns {
            return None;
        }
        self.wakes.pop();
        Some(wake)
    }

    /// Reserves room in the buffers; false if there is none.
    pub(crate) fn reserve(&mut self, bytes: usize) -> bool {
        if self.buffered + bytes > self.max_buffered {
            self.stats.drop(Drop::BuffersFull);
            return false;
        }
        self.buffered += bytes;
        true
    }

    /// Gives room in the buffers back.
    pub(crate) fn unreserve(&mut self, bytes: usize) {
        self.buffered = self.buffered.saturating_sub(bytes);
    }

    /// Open requests, bytes that are held, and spans that wait.
    pub(crate) fn usage(&self) -> (usize, usize, usize) {
        (self.open.len(), self.buffered, self.settling.len())
    }

    #[inline]
    fn emit(&mut self, slot: Slot, sink: &mut impl Sink) {
        let open = self.open.get(slot);
        let (trace_id, flags) = self.context.traces.give_out(open.identity.trace);
        let request = &open.request;
        let span = Span {
            trace_id,
            span_id: open.identity.span_id,
            parent_span_id: open.identity.parent_span_id,
            flags,
            remote_trace: self.context.traces.is_remote(open.identity.trace),
            trace_state: request.trace_headers.trace_state(),
            start_ktime_ns: request.start_ktime_ns,
            end_ktime_ns: request.end_ktime_ns,
            tgid: request.tgid,
            request,
            parent_rule: open.identity.rule,
            links: &[],
        };
        sink.span(&span);
        self.stats.spans += 1;
        if let Operation::Http(http) = &request.operation
            && (http.request_body_size.is_none() || http.response_body_size.is_none())
        {
            self.stats.spans_without_size += 1;
        }
        self.context.end(slot, &mut self.open);
        self.open.give_back(slot);
    }
}
