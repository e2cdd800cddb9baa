//! Which request caused which.
//!
//! In: requests that begin, are answered and are emitted. Out: an [`Identity`] for each. The rules, in this order;
//! a wrong parent is worse than none, so every rule asks for certainty:
//! 1. a server request's own trace headers name its parent;
//! 2. a server request without them, whose client end is seen too (same connection, same stream offset), is that
//!    client request's child, whichever of the two was seen first;
//! 3. a client request that carries trace headers is the child of the span that they name, unless exactly one
//!    open server request of its process came with the same headers: then of that one;
//! 4. a client request of a thread with exactly one open server request is its child, if the thread has not
//!    waited for other connections since it read it, and only in processes whose threads tell (`ThreadContext`).

use agent_common::event::Waits;
use rustc_hash::FxHashMap;

use crate::event::Call;
use crate::id::Ids;
use crate::open::{OpenRequests, Slot};
use crate::request::{Operation, Request, SpanKind};
use crate::span::ParentRule;
use crate::stats::{Drop, Stats};
use crate::traces::{TraceRef, Traces};
use crate::{Sink, ThreadContext};

/// How long a server span waits for the record of its client end.
pub(crate) const CLIENT_END_WAIT_NS: u64 = 50_000_000;

/// A request's place in traces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) trace: TraceRef,
    pub(crate) span_id: [u8; 8],
    pub(crate) parent_span_id: Option<[u8; 8]>,
    pub(crate) rule: ParentRule,
    /// Thread that reads the request, on servers whose threads tell.
    thread: Option<(u32, u32)>,
    waits: u32,
    /// Key in `inbound`.
    inbound: Option<Inbound>,
    /// Key in `ends`.
    end: Option<(u64, u64)>,
}

/// Trace headers that a process was sent: tgid, trace id, span id.
type Inbound = (u32, [u8; 16], [u8; 8]);

/// Open server requests that may be the parent: how many, and all their slots XORed, so that the last one left is
/// known.
#[derive(Clone, Copy, Debug, Default)]
struct Candidates {
    count: u32,
    slots: u32,
}

/// What is known of the requests that are open.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) traces: Traces,
    policies: FxHashMap<u32, ThreadContext>,
    threads: FxHashMap<(u32, u32), Candidates>,
    inbound: FxHashMap<Inbound, Candidates>,
    /// Requests on connections both of whose ends are seen: connection and stream offset.
    ends: FxHashMap<(u64, u64), Slot>,
}

impl Context {
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        Self {
            traces: Traces::new(Ids::new(seed)),
            policies: FxHashMap::default(),
            threads: FxHashMap::default(),
            inbound: FxHashMap::default(),
            ends: FxHashMap::default(),
        }
    }

    pub(crate) fn set_policy(&mut self, tgid: u32, policy: ThreadContext) {
        match policy {
            ThreadContext::Never => self.policies.remove(&tgid),
            ThreadContext::Threads => self.policies.insert(tgid, policy),
        };
    }

    /// A request began: `call` read or wrote the end of its header block, `peer` is the other end's connection.
    pub(crate) fn begin(
        &mut self,
        slot: Slot,
        call: &Call,
        peer: Option<u64>,
        open: &mut OpenRequests,
        stats: &mut Stats,
        sink: &mut impl Sink,
    ) {
        let request = &open.get(slot).request;
        let (kind, named) = (request.kind, request.context());
        let span_id = self.traces.span_id();
        open.get_mut(slot).identity.span_id = span_id;
        match named {
            Some(context) => {
                let trace = self.traces.begin(Some((context.trace_id, context.flags)));
                let identity = &mut open.get_mut(slot).identity;
                identity.trace = trace;
                identity.parent_span_id = Some(context.span_id);
                identity.rule = ParentRule::Header;
                let key = (call.tgid, context.trace_id, context.span_id);
                match kind {
                    SpanKind::Server => {
                        identity.inbound = Some(key);
                        add(&mut self.inbound, key, slot);
                        self.note_thread(slot, call, open);
                    }
                    _ => self.adopt_passed_through(slot, key, open, stats),
                }
            }
            None if kind == SpanKind::Server => {
                open.get_mut(slot).identity.trace = self.traces.begin(None);
                self.note_thread(slot, call, open);
                self.find_client_end(slot, call, peer, open);
            }
            None => {
                let parent = self.thread_parent(call, open, stats, sink);
                let trace = match parent {
                    Some(parent) => self.traces.share(open.get(parent).identity.trace),
                    None => self.traces.begin(None),
                };
                let parent = parent.map(|parent| open.get(parent).identity.span_id);
                let identity = &mut open.get_mut(slot).identity;
                identity.trace = trace;
                if parent.is_some() {
                    identity.parent_span_id = parent;
                    identity.rule = ParentRule::Thread;
                }
                self.find_server_end(slot, peer, open);
            }
        }
    }

    /// More of a request was read: the thread still works on it. Another thread: nobody knows whose it is.
    #[inline]
    pub(crate) fn read_on(&mut self, slot: Slot, call: &Call, open: &mut OpenRequests) {
        let identity = &mut open.get_mut(slot).identity;
        match identity.thread {
            Some((_, tid)) if tid == call.tid => identity.waits = call.waits,
            Some(_) => self.leave_thread(slot, open),
            None => {}
        }
    }

    /// A server request was answered: it causes nothing any more.
    #[inline]
    pub(crate) fn answered(&mut self, slot: Slot, open: &mut OpenRequests) {
        self.leave_thread(slot, open);
        if let Some(key) = open.get_mut(slot).identity.inbound.take() {
            remove(&mut self.inbound, key, slot);
        }
    }

    /// Whether the span must wait, because its trace may still turn out to be another one.
    #[inline]
    pub(crate) fn is_pending(&self, slot: Slot, open: &OpenRequests, now_ktime_ns: u64) -> bool {
        self.traces.pending(open.get(slot).identity.trace, now_ktime_ns)
    }

    /// A request is about to be given back.
    #[inline]
    pub(crate) fn end(&mut self, slot: Slot, open: &mut OpenRequests) {
        self.answered(slot, open);
        let identity = &mut open.get_mut(slot).identity;
        if let Some(end) = identity.end.take() {
            // A later request at the same place (a count that lied) may have taken the entry over.
            if self.ends.get(&end) == Some(&slot) {
                self.ends.remove(&end);
            }
        }
        self.traces.release(std::mem::take(&mut identity.trace));
    }

    fn note_thread(&mut self, slot: Slot, call: &Call, open: &mut OpenRequests) {
        let tells = call.waits & Waits::EVENT_LOOP == 0 && self.policies.contains_key(&call.tgid);
        if tells {
            let thread = (call.tgid, call.tid);
            let identity = &mut open.get_mut(slot).identity;
            identity.thread = Some(thread);
            identity.waits = call.waits;
            add(&mut self.threads, thread, slot);
        }
    }

    fn leave_thread(&mut self, slot: Slot, open: &mut OpenRequests) {
        if let Some(thread) = open.get_mut(slot).identity.thread.take() {
            remove(&mut self.threads, thread, slot);
        }
    }

    fn adopt_passed_through(&mut self, slot: Slot, key: Inbound, open: &mut OpenRequests, stats: &mut Stats) {
        match self.inbound.get(&key) {
            Some(&Candidates { count: 1, slots: parent }) => {
                let parent = open.get(parent).identity.span_id;
                let identity = &mut open.get_mut(slot).identity;
                identity.parent_span_id = Some(parent);
                identity.rule = ParentRule::PassedThrough;
            }
            // The named span caused all of them: that much is certain.
            Some(_) => stats.drop(Drop::AmbiguousParent),
            None => {}
        }
    }

    /// The only open server request of the calling thread, if the thread tells and has not waited since.
    fn thread_parent(
        &self,
        call: &Call,
        open: &OpenRequests,
        stats: &mut Stats,
        sink: &mut impl Sink,
    ) -> Option<Slot> {
        // UNKNOWN has the bit set too.
        if call.waits & Waits::EVENT_LOOP != 0 || !self.policies.contains_key(&call.tgid) {
            return None;
        }
        let candidates = self.threads.get(&(call.tgid, call.tid))?;
        if candidates.count > 1 {
            stats.drop(Drop::AmbiguousParent);
            return None;
        }
        let parent = candidates.slots;
        let certain = open.get(parent).identity.waits == call.waits
            && open.get(parent).request.start_ktime_ns <= call.ktime_ns
            && !sink.thread_is_event_loop(call.tgid, call.tid);
        certain.then_some(parent)
    }

    fn find_client_end(&mut self, slot: Slot, call: &Call, peer: Option<u64>, open: &mut OpenRequests) {
        let Some(peer) = peer else { return };
        let server = open.get(slot);
        if server.truncated {
            return; // The part that was cut off may hold a trace header.
        }
        let (own, offset, trace) = (server.request.conn_id, server.offset, server.identity.trace);
        match self.ends.get(&(peer, offset)) {
            Some(&client) => self.adopt_end(slot, client, open),
            None => {
                self.traces.wait_until(trace, call.ktime_ns.saturating_add(CLIENT_END_WAIT_NS));
                self.ends.insert((own, offset), slot);
                open.get_mut(slot).identity.end = Some((own, offset));
            }
        }
    }

    fn find_server_end(&mut self, slot: Slot, peer: Option<u64>, open: &mut OpenRequests) {
        let client = open.get(slot);
        let (own, offset) = (client.request.conn_id, client.offset);
        // A first request can be written before the server has accepted: then its other end is not known yet.
        if let Some(&server) = peer.and_then(|peer| self.ends.get(&(peer, offset))) {
            self.adopt_end(server, slot, open);
            return;
        }
        self.ends.insert((own, offset), slot);
        open.get_mut(slot).identity.end = Some((own, offset));
    }

    fn adopt_end(&mut self, server: Slot, client: Slot, open: &mut OpenRequests) {
        let (from, to) = (open.get(client), open.get(server));
        let fits = from.request.kind == SpanKind::Client
            && to.request.kind == SpanKind::Server
            && to.identity.parent_span_id.is_none()
            && same_target(&from.request, &to.request);
        if fits && self.traces.join(to.identity.trace, from.identity.trace) {
            let parent = from.identity.span_id;
            let identity = &mut open.get_mut(server).identity;
            identity.parent_span_id = Some(parent);
            identity.rule = ParentRule::ClientEnd;
        }
    }
}

/// Both ends see the same bytes: a cheap guard against offsets that do not mean the same at both.
fn same_target(one: &Request, other: &Request) -> bool {
    match (&one.operation, &other.operation) {
        (Operation::Http(one), Operation::Http(other)) => {
            one.method == other.method && one.path == other.path
        }
        (Operation::Db(one), Operation::Db(other)) => {
            one.system == other.system && one.operation_name == other.operation_name
        }
        (Operation::Dns(one), Operation::Dns(other)) => one.question_name == other.question_name,
        (Operation::Rpc(one), Operation::Rpc(other)) => one.method == other.method,
        _ => false,
    }
}

fn add<K: Eq + std::hash::Hash>(candidates: &mut FxHashMap<K, Candidates>, key: K, slot: Slot) {
    let entry = candidates.entry(key).or_default();
    entry.count += 1;
    entry.slots ^= slot;
}

fn remove<K: Eq + std::hash::Hash>(candidates: &mut FxHashMap<K, Candidates>, key: K, slot: Slot) {
    if let Some(entry) = candidates.get_mut(&key) {
        entry.count -= 1;
        entry.slots ^= slot;
        if entry.count == 0 {
            candidates.remove(&key);
        }
    }
}
