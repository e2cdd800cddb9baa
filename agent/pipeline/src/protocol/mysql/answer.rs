//! The direction that carries what servers answer.
//!
//! In: its chunks. Out: requests that are finished, in the order in which they were asked.

use std::sync::Arc;

use crate::Sink;
use crate::address::decimal;
use crate::connection::Link;
use crate::db_request::{DbRequest, DbSystem};
use crate::open::NONE;
use crate::protocol::Next;
use crate::protocol::calls::{add_rows, refuse};
use crate::protocol::frames::{Frame, Step, Why};
use crate::protocol::mysql::wire::{self, FULL, Packets, Status};
use crate::protocol::mysql::{Answer, Asked, MySql, Phase, Wait};
use crate::sql::cache::Sql;
use crate::state::State;
use crate::stats::Drop;
use crate::stream::Chunk;

/// A greeting's version, an OK packet, an error's number.
const ANSWERS: Packets = Packets { keep: 64, requests: false };

impl MySql {
    #[inline]
    pub(super) fn on_answer_bytes(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let mut chunk = *chunk;
        (self.answer_turn, self.answer_ktime_ns) = (chunk.call.turn, chunk.call.ktime_ns);
        let last_bytes = chunk.last_bytes();
        loop {
            if self.blind && self.answers.is_lost() {
                if let Some(status) = wire::end_of_rows(last_bytes) {
                    self.answers.resume(&mut chunk, 0);
                    self.end_result(status, state, sink);
                }
                return Next::Stay;
            }
            let waited_for = self.phase != Phase::Commands || !self.waits.is_empty() || self.may_end;
            if !waited_for
                && !self.answers.is_inside()
                && !self.answers.is_lost()
                && chunk.len > 0
                && chunk.gap == 0
            {
                if self.requests.is_lost() {
                    self.answers.lose(chunk.call.turn, state);
                } else {
                    self.hold(link, &chunk, state);
                }
                return Next::Stay;
            }
            match self.answers.next(&mut chunk, &ANSWERS, state) {
                Step::More => return Next::Stay,
                Step::Found => {}
                Step::Lost(Why::Hole) if self.waits.len() == 1 => self.blind = true,
                Step::Lost(_) => {
                    self.lose_answers(link, chunk.call.turn, state);
                    return Next::Stay;
                }
                Step::Frame(frame) => match self.on_answer(&frame, link, state, sink) {
                    Next::Stay => {}
                    next => return next,
                },
            }
        }
    }

    #[inline]
    fn on_answer(
        &mut self,
        frame: &Frame<'_>,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let payload = &*frame.payload;
        match self.phase {
            Phase::Greeting => {
                if let Some(greeting) = wire::greeting(payload) {
                    if greeting.is_mariadb {
                        self.system = DbSystem::MariaDb;
                    }
                    self.phase = Phase::Login;
                }
                return Next::Stay;
            }
            Phase::Login => return Next::Stay,
            Phase::Auth => {
                if payload.first() == Some(&0) {
                    self.note_status(wire::ok(payload).unwrap_or_default());
                    self.phase = Phase::Commands;
                    self.progress = true;
                    if self.compresses {
                        state.stats.drop(Drop::DbCompressed);
                        return Next::Leave;
                    }
                }
                return Next::Stay;
            }
            Phase::Commands => {}
        }
        let may_end = std::mem::take(&mut self.may_end);
        if may_end && frame.header[3] > 1 && wire::eof(payload, frame.len).is_some() {
            return Next::Stay;
        }
        let goes_on = std::mem::replace(&mut self.row_goes_on, frame.len == FULL);
        if goes_on {
            return Next::Stay;
        }
        let ktime_ns = frame.last.ktime_ns;
        let Some(first) = payload.first().copied() else { return Next::Stay };
        match self.answer {
            Answer::First => self.on_first(frame, link, state, sink),
            Answer::Columns(1) => self.answer = Answer::Described,
            Answer::Columns(left) => self.answer = Answer::Columns(left - 1),
            Answer::Described | Answer::Rows => {
                let described = self.answer == Answer::Described;
                self.answer = Answer::Rows;
                if first == 0xff {
                    self.on_error(payload, ktime_ns, state, sink);
                } else if let Some(status) = wire::eof(payload, frame.len) {
                    if !described || status.has_cursor() {
                        self.end_result(status, state, sink);
                    }
                } else if first == 0xfe && frame.len < FULL {
                    self.end_result(wire::ok(payload).unwrap_or_default(), state, sink);
                } else {
                    self.rows += 1;
                }
            }
            Answer::Prepared(left) => {
                if wire::eof(payload, frame.len).is_some() {
                    // The one between parameters and columns.
                } else if left > 1 {
                    self.answer = Answer::Prepared(left - 1);
                } else {
                    self.may_end = true;
                    self.end_answer(ktime_ns, state, sink);
                }
            }
        }
        Next::Stay
    }

    /// The first packet of an answer, or of one of its results.
    fn on_first(&mut self, frame: &Frame<'_>, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let payload = &*frame.payload;
        let ktime_ns = frame.last.ktime_ns;
        let Some(wait) = self.waits.front_mut() else { return };
        match (payload[0], &wait.kind) {
            (0xff, Asked::Prepare(_)) => self.on_refused(payload, ktime_ns, link, state, sink),
            (0xff, _) => self.on_error(payload, ktime_ns, state, sink),
            (_, Asked::Word) => self.end_answer(ktime_ns, state, sink),
            (0, Asked::Prepare(prepared)) => {
                let statement = Arc::clone(&prepared.1);
                let [0, a, b, c, d, columns @ ..] = payload else { return };
                let id = u32::from_le_bytes([*a, *b, *c, *d]);
                self.last_prepared = id;
                self.statements.insert(id, 0, statement, state);
                let counts = columns.first_chunk().map_or(0, |&[a, b, c, d]| {
                    u64::from(u16::from_le_bytes([a, b])) + u64::from(u16::from_le_bytes([c, d]))
                });
                match counts {
                    0 => self.end_answer(ktime_ns, state, sink),
                    counts => self.answer = Answer::Prepared(counts),
                }
            }
            (0, kind) => {
                if let Asked::Database(name) = kind {
                    self.namespace.set(name);
                }
                let status = wire::ok(payload).unwrap_or_default();
                self.note_status(status);
                if !status.has_more_results() {
                    self.end_answer(ktime_ns, state, sink);
                }
            }
            // The client sends a file; what comes then is a first packet again.
            (0xfb, _) => {}
            (0xfe, _) if frame.len < 9 => self.end_answer(ktime_ns, state, sink),
            _ => match wire::number(payload) {
                Some((count, rest)) if count > 0 => {
                    // MariaDB leaves descriptions out that the client has.
                    self.answer = if rest == [0] { Answer::Described } else { Answer::Columns(count) };
                }
                _ => {
                    state.stats.drop(Drop::DbMismatch);
                    self.lose_answers(link, frame.last.turn, state);
                }
            },
        }
    }

    fn note_status(&mut self, status: Status) {
        self.dialect.backslash = status.escapes();
        self.confirmed = true;
    }

    /// A result set ends.
    fn end_result(&mut self, status: Status, state: &mut State, sink: &mut impl Sink) {
        self.note_status(status);
        if let Some(&Wait { slot, .. }) = self.waits.front()
            && !self.blind
        {
            add_rows(slot, self.rows, state);
        } else if let Some(&Wait { slot, .. }) = self.waits.front()
            && slot != NONE
        {
            // How many there were is not known.
            state.open.get_mut(slot).request.db_mut().returned_rows = None;
        }
        if status.has_more_results() && !self.blind {
            (self.answer, self.rows) = (Answer::First, 0);
        } else if status.has_more_results() {
            // The next result begins with the next packet; its rows say nothing of all.
            self.answer = Answer::First;
        } else {
            self.end_answer(self.answer_ktime_ns, state, sink);
        }
    }

    /// The answer to the first command ends.
    pub(super) fn end_answer(&mut self, ktime_ns: u64, state: &mut State, sink: &mut impl Sink) {
        if let Some(wait) = self.waits.pop_front() {
            self.calls.finish(wait.slot, ktime_ns, state, sink);
        }
        self.begin_answer();
    }

    fn on_error(&mut self, payload: &[u8], ktime_ns: u64, state: &mut State, sink: &mut impl Sink) {
        if let (Some(wait), Some(number)) = (self.waits.front(), wire::error(payload)) {
            refuse(wait.slot, decimal(number, &mut [0; 5]).as_bytes(), state);
        }
        self.end_answer(ktime_ns, state, sink);
    }

    /// What cannot be prepared is an operation that failed.
    fn on_refused(
        &mut self,
        payload: &[u8],
        ktime_ns: u64,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let Some(Wait { kind: Asked::Prepare(prepared), .. }) = self.waits.pop_front() else { return };
        let (begun, statement) = *prepared;
        let fill = |db: &mut DbRequest, _: &mut Sql| statement.fill(db);
        let slot = self.begin_operation(&begun, &begun.call, fill, link, state, sink);
        if let Some(number) = wire::error(payload) {
            refuse(slot, decimal(number, &mut [0; 5]).as_bytes(), state);
        }
        self.calls.finish(slot, ktime_ns, state, sink);
        self.begin_answer();
    }
}
