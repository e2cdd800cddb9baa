//! Queries that wait for their answer, over all sockets of all processes.
//!
//! In: messages of any transport. Out: one finished request for each query. A query is told by process, id and
//! question: a resolver that asks again, over another socket, of another server or over TCP after a truncated
//! answer, makes one request as long as it keeps the id (glibc, c-ares and Go's change to TCP do). What gets no
//! answer within 10 s of the last attempt, or until its socket is closed, has timed out.

use agent_common::conn::{ConnTuple, SockAddr};
use rustc_hash::FxHashMap;

use crate::Sink;
use crate::event::{Call, Direction};
use crate::open::Slot;
use crate::protocol::dns::message::Message;
use crate::request::{ErrorType, OperationKind, SpanKind};
use crate::state::State;
use crate::stats::Drop;

/// How long an answer is waited for, from the last attempt on; resolvers ask again after 5 s at most.
const ANSWER_WAIT_NS: u64 = 10_000_000_000;
/// How long a truncated answer waits for the query over TCP.
const TCP_WAIT_NS: u64 = 1_000_000_000;
/// Between two looks for queries that have timed out.
const SWEEP_NS: u64 = 250_000_000;

/// What tells a query from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    tgid: u32,
    id: u16,
    question: u64,
    /// Of servers: who asks.
    client: Option<([u8; 16], u16)>,
}

#[derive(Clone, Copy, Debug)]
struct Query {
    slot: Slot,
    /// Socket of the last attempt, and when it was made.
    conn_id: u64,
    ktime_ns: u64,
    /// When the last answer came, if it was truncated.
    truncated_ktime_ns: Option<u64>,
}

/// All open queries.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    open: FxHashMap<Key, Query>,
    swept_ktime_ns: u64,
}

/// Where a message was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) call: &'a Call,
    pub(super) tuple: &'a ConnTuple,
    /// The connection of the other end, if it is seen too.
    pub(super) peer: Option<u64>,
    /// Offset in the stream; of datagrams, anything that tells one from the next.
    pub(super) offset: u64,
}

impl Place<'_> {
    /// The end that asks: the process that sends a query, and that is sent an answer.
    fn kind(&self, message: &Message<'_>) -> SpanKind {
        let sent = self.call.direction == Direction::Egress;
        if sent == message.is_response { SpanKind::Server } else { SpanKind::Client }
    }

    fn key(&self, message: &Message<'_>) -> Key {
        let SockAddr { addr, port, .. } = self.tuple.peer;
        let client = (self.kind(message) == SpanKind::Server).then_some((addr, port));
        Key { tgid: self.call.tgid, id: message.id, question: message.question_hash(), client }
    }
}

/// A message was sent or received.
pub(super) fn on_message(message: &Message<'_>, place: &Place<'_>, state: &mut State, sink: &mut impl Sink) {
    if message.is_response {
        on_answer(message, place, state, sink);
    } else {
        on_query(message, place, state, sink);
    }
}

fn on_query(message: &Message<'_>, place: &Place<'_>, state: &mut State, sink: &mut impl Sink) {
    let call = place.call;
    let key = place.key(message);
    if let Some(query) = state.queries.open.get_mut(&key) {
        query.conn_id = call.conn_id;
        query.ktime_ns = call.ktime_ns;
        query.truncated_ktime_ns = None;
        state.open.get_mut(query.slot).request.tuple = *place.tuple;
        return;
    }
    let Some(slot) = state.open.take(OperationKind::Dns) else {
        state.stats.drop(Drop::RequestTableFull);
        return;
    };
    let open = state.open.get_mut(slot);
    open.offset = place.offset;
    let request = &mut open.request;
    request.kind = place.kind(message);
    request.tgid = call.tgid;
    request.tid = call.tid;
    request.conn_id = call.conn_id;
    request.tuple = *place.tuple;
    request.start_ktime_ns = call.ktime_ns;
    message.fill_question(request.dns_mut());
    state.context.begin(slot, call, place.peer, &mut state.open, &mut state.stats, sink);
    state.stats.requests += 1;
    let query = Query { slot, conn_id: call.conn_id, ktime_ns: call.ktime_ns, truncated_ktime_ns: None };
    state.queries.open.insert(key, query);
}

fn on_answer(message: &Message<'_>, place: &Place<'_>, state: &mut State, sink: &mut impl Sink) {
    let call = place.call;
    let key = place.key(message);
    let Some(query) = state.queries.open.get_mut(&key) else {
        // Of a zone transfer, the first message is the answer. Answers that come twice are no news either.
        if !message.is_transfer() {
            state.stats.drop(Drop::DnsAnswerWithoutQuery);
        }
        return;
    };
    let request = &mut state.open.get_mut(query.slot).request;
    request.end_ktime_ns = call.ktime_ns;
    request.tuple = *place.tuple;
    message.fill_answers(request.dns_mut());
    if message.is_truncated && key.client.is_none() {
        query.truncated_ktime_ns = Some(call.ktime_ns);
        return;
    }
    let slot = query.slot;
    state.queries.open.remove(&key);
    state.finish(slot, sink);
}

/// A socket is closed: queries that were sent over it last get no answer any more.
pub(super) fn on_closed(
    conn_id: u64,
    failure: Option<ErrorType>,
    ktime_ns: u64,
    state: &mut State,
    sink: &mut impl Sink,
) {
    if state.queries.open.is_empty() {
        return;
    }
    let gone: Vec<Key> = state
        .queries
        .open
        .iter()
        .filter(|(_, query)| query.conn_id == conn_id && query.truncated_ktime_ns.is_none())
        .map(|(&key, _)| key)
        .collect();
    for key in gone {
        give_up(&key, failure.unwrap_or(ErrorType::Timeout), ktime_ns, state, sink);
    }
}

/// Lets time pass.
pub(super) fn on_tick(state: &mut State, sink: &mut impl Sink) {
    let now = state.now_ktime_ns;
    if state.queries.open.is_empty() || now.saturating_sub(state.queries.swept_ktime_ns) < SWEEP_NS {
        return;
    }
    state.queries.swept_ktime_ns = now;
    let due: Vec<(Key, u64)> = state
        .queries
        .open
        .iter()
        .map(|(&key, query)| match query.truncated_ktime_ns {
            Some(answered) => (key, answered.saturating_add(TCP_WAIT_NS)),
            None => (key, query.ktime_ns.saturating_add(ANSWER_WAIT_NS)),
        })
        .filter(|&(_, due)| due <= now)
        .collect();
    for (key, due) in due {
        give_up(&key, ErrorType::Timeout, due, state, sink);
    }
}

/// The run ends.
pub(super) fn finish(state: &mut State, sink: &mut impl Sink) {
    for (_, query) in std::mem::take(&mut state.queries.open) {
        if query.truncated_ktime_ns.is_some() {
            state.finish(query.slot, sink);
        } else {
            state.abandon(query.slot, Drop::DnsOpenAtEnd);
        }
    }
}

/// No answer comes; a truncated one has to do.
fn give_up(key: &Key, error: ErrorType, ktime_ns: u64, state: &mut State, sink: &mut impl Sink) {
    let Some(query) = state.queries.open.remove(key) else { return };
    if query.truncated_ktime_ns.is_none() {
        let request = &mut state.open.get_mut(query.slot).request;
        request.end_ktime_ns = ktime_ns;
        request.error_type = Some(error);
        request.dns_mut().clear_answers();
        request.dns_mut().response_code = None;
    }
    state.finish(query.slot, sink);
}
