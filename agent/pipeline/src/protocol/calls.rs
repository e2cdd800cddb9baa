//! Operations of a database's connection, answered in the order in which they are asked: what PostgreSQL and MySQL
//! share, their wire formats aside.
//!
//! In: where an operation begins and ends. Out: open requests. The record of an operation may come after that of its
//! answer: answers are held for a bounded time.

use crate::Sink;
use crate::connection::Link;
use crate::db_request::DbRequest;
use crate::event::{Call, Direction};
use crate::open::{NONE, Slot};
use crate::request::{ErrorType, OperationKind, SpanKind};
use crate::sql::cache::Sql;
use crate::state::State;
use crate::stats::Drop;
use crate::stream::Chunk;

/// Bytes of answers that are held until their operation is seen.
const HELD_MAX: usize = 256 * 1024;
/// How long an answer waits for the record of its operation.
const INVERSION_NS: u64 = 100_000_000;

/// Where an operation begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// The call that moved its first byte, and that byte's offset.
    pub(crate) call: Call,
    pub(crate) offset: u64,
}

/// Which end of the connection the process is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    /// Direction that carries operations.
    pub(crate) requests_in: Direction,
    pub(crate) kind: SpanKind,
}

impl Calls {
    pub(crate) fn new(requests_in: Direction) -> Self {
        let kind = if requests_in == Direction::Ingress { SpanKind::Server } else { SpanKind::Client };
        Self { requests_in, kind }
    }

    /// An operation begins: `last` moved its last byte, `fill` says what it is. [`NONE`] if there is no room.
    pub(crate) fn begin(
        self,
        begun: &Begun,
        last: &Call,
        fill: impl FnOnce(&mut DbRequest, &mut Sql),
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Slot {
        let Some(slot) = state.open.take(OperationKind::Db) else {
            state.stats.drop(Drop::RequestTableFull);
            return NONE;
        };
        let State { open, context, stats, sql, .. } = state;
        let request = &mut open.get_mut(slot).request;
        fill(request.db_mut(), sql);
        request.kind = self.kind;
        request.tgid = begun.call.tgid;
        request.tid = begun.call.tid;
        request.conn_id = link.id;
        request.tuple = link.tuple;
        request.start_ktime_ns = begun.call.ktime_ns;
        open.get_mut(slot).offset = begun.offset;
        let call = if self.kind == SpanKind::Server { last } else { &begun.call };
        context.begin(slot, call, link.peer, open, stats, sink);
        stats.requests += 1;
        slot
    }

    /// An operation is answered.
    pub(crate) fn finish(self, slot: Slot, end_ktime_ns: u64, state: &mut State, sink: &mut impl Sink) {
        if slot != NONE {
            state.open.get_mut(slot).request.end_ktime_ns = end_ktime_ns;
            state.finish(slot, sink);
        }
    }

    /// An operation will not be answered.
    pub(crate) fn fail(
        self,
        slot: Slot,
        error: ErrorType,
        ktime_ns: u64,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        if slot != NONE {
            state.open.get_mut(slot).request.error_type = Some(error);
            self.finish(slot, ktime_ns, state, sink);
        }
    }

    /// Why operations are not answered when the answers end.
    pub(crate) fn failure_at_eof(self, link: &Link, ktime_ns: u64) -> (ErrorType, u64) {
        let error = match self.kind {
            SpanKind::Server => ErrorType::Canceled,
            _ => ErrorType::ConnectionClosed,
        };
        link.failure.unwrap_or((error, ktime_ns))
    }
}

/// Says with which code a database refused an operation; the first one counts.
pub(crate) fn refuse(slot: Slot, code: &[u8], state: &mut State) {
    if slot != NONE {
        let status_code = &mut state.open.get_mut(slot).request.db_mut().response_status_code;
        if status_code.is_empty() {
            status_code.set(code);
        }
    }
}

/// Adds to the rows that were returned.
pub(crate) fn add_rows(slot: Slot, rows: u64, state: &mut State) {
    if slot != NONE {
        let returned = &mut state.open.get_mut(slot).request.db_mut().returned_rows;
        *returned = Some(returned.unwrap_or(0).saturating_add(rows));
    }
}

/// Keeps answers until their operation comes; false if they are too many.
pub(crate) fn hold(link: &mut Link, chunk: &Chunk<'_>, state: &mut State) -> bool {
    if !link.hold(chunk, HELD_MAX, state) {
        return false;
    }
    link.wake_at(chunk.call.ktime_ns.saturating_add(INVERSION_NS), state);
    true
}

/// Lets go of answers that waited long enough for their operation; whether there were some.
pub(crate) fn give_up_held(link: &mut Link, state: &mut State) -> bool {
    let Some(since) = link.held.as_ref().and_then(|held| held.since_ktime_ns()) else { return false };
    let due = since.saturating_add(INVERSION_NS);
    if due > state.now_ktime_ns {
        link.wake_at(due, state);
        return false;
    }
    link.release_held(state);
    state.stats.drop(Drop::DbAnswerWithoutRequest);
    true
}
