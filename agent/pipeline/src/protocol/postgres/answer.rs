//! The direction that carries what servers answer.
//!
//! In: its chunks. Out: requests that are finished, in the order in which they were asked.

use agent_common::capture::TAIL_LEN;

use crate::Sink;
use crate::connection::Link;
use crate::db_request::{DbRequest, DbSystem};
use crate::open::{NONE, Slot};
use crate::protocol::Next;
use crate::protocol::calls::{add_rows, refuse};
use crate::protocol::frames::{Frame, Step, Why};
use crate::protocol::postgres::request::encrypted;
use crate::protocol::postgres::wire::{self, Consent, Server};
use crate::protocol::postgres::{Copying, Parsed, Phase, Postgres, Wait};
use crate::request::ErrorType;
use crate::sql::cache::Sql;
use crate::state::State;
use crate::stats::{Drop, Kind};
use crate::stream::Chunk;

impl Postgres {
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
            if self.blind.is_some() && self.answers.is_lost() && !self.see_again(last_bytes, &mut chunk) {
                return Next::Stay;
            }
            if !self.answers.is_inside() && !self.answers.is_lost() {
                let Some(&first) = chunk.bytes().first() else {
                    if chunk.len > 0 && self.waits.is_empty() {
                        self.lose_answers(link, chunk.call.turn, state, sink);
                        return Next::Stay;
                    }
                    if chunk.len == 0 {
                        return Next::Stay;
                    }
                    // A hole: the reader says that it is lost.
                    self.blind.get_or_insert_default();
                    let _ = self.answers.next(&mut chunk, &Server, state);
                    continue;
                };
                let waited_for = !self.waits.is_empty() || self.phase == Phase::Consent;
                if !waited_for && self.requests.is_lost() {
                    // It answers a question that was not seen.
                    self.answers.lose(chunk.call.turn, state);
                    return Next::Stay;
                }
                if !waited_for && !is_unasked(first, last_bytes) && chunk.gap == 0 {
                    self.hold(link, &chunk, state, sink);
                    return Next::Stay;
                }
            }
            let step = match self.phase {
                Phase::Consent => self.answers.next(&mut chunk, &Consent, state),
                Phase::Startup | Phase::Session => self.answers.next(&mut chunk, &Server, state),
            };
            match step {
                Step::More => return Next::Stay,
                Step::Found => {}
                Step::Lost(Why::Hole) if !self.waits.is_empty() => {
                    self.blind.get_or_insert_default();
                }
                Step::Lost(Why::Invalid) if !self.confirmed => return Next::NotOurs,
                Step::Lost(_) => {
                    self.lose_answers(link, chunk.call.turn, state, sink);
                    return Next::Stay;
                }
                Step::Frame(frame) if self.phase == Phase::Consent => {
                    match frame.header[0] {
                        b'S' => return encrypted(link, state),
                        b'G' => {
                            link.set_kind(Kind::Other, &mut state.stats);
                            return Next::Leave;
                        }
                        // No; or a server that does not know the question, which then ends.
                        _ => self.phase = Phase::Startup,
                    }
                }
                Step::Frame(frame) => {
                    if self.on_answer(&frame, link, state, sink) == Next::Leave {
                        return Next::Leave;
                    }
                }
            }
        }
    }

    /// After a hole: whether the end of the call tells where the answer ends.
    fn see_again(&mut self, last_bytes: &[u8], chunk: &mut Chunk<'_>) -> bool {
        let Some(tail) = wire::tail(last_bytes, &self.call_end) else {
            let from = last_bytes.len().saturating_sub(TAIL_LEN as usize);
            self.call_end.clear();
            self.call_end.extend_from_slice(&last_bytes[from..]);
            return false;
        };
        self.blind = Some(Some(tail));
        chunk.len > 0 && self.answers.find_in_tail(chunk, &Server)
    }

    #[inline]
    fn on_answer(
        &mut self,
        frame: &Frame<'_>,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let ktime_ns = frame.last.ktime_ns;
        let kind = frame.header[0];
        match kind {
            b'R' | b'K' | b'v' | b'N' | b'A' | b't' | b'V' | b'c' => return Next::Stay,
            b'S' => {
                if frame.payload.starts_with(b"standard_conforming_strings\0off\0") {
                    self.dialect.backslash = true;
                }
                return Next::Stay;
            }
            b'E' => {
                self.on_error(wire::sqlstate(&frame.payload), ktime_ns, link, state, sink);
                return Next::Stay;
            }
            _ => {}
        }
        self.finish_done(state, sink);
        let fits = match kind {
            b'Z' => {
                self.on_ready(link, ktime_ns, frame.payload.first() == Some(&b'I'), state, sink);
                true
            }
            b'D' | b'd' => {
                self.rows += 1;
                true
            }
            b'1' => self.pop(|wait| matches!(wait, Wait::Parse(_))),
            b'2' => self.pop(|wait| matches!(wait, Wait::Bind)),
            b'3' => self.pop(|wait| matches!(wait, Wait::Close)),
            b'n' => self.pop(|wait| matches!(wait, Wait::Describe)),
            b'T' => {
                if !self.pop(|wait| matches!(wait, Wait::Describe)) {
                    self.described = true;
                }
                true
            }
            b'G' => {
                self.copying = Copying::In;
                // The server reads and ignores the Sync that follows an Execute which copies.
                if matches!(self.waits.front(), Some(Wait::Execute(_)))
                    && matches!(self.waits.get(1), Some(Wait::Sync))
                {
                    self.waits.remove(1);
                    self.syncs -= 1;
                }
                true
            }
            b'H' => {
                self.copying = Copying::Out;
                self.described = true;
                true
            }
            // Both directions copy: replication.
            b'W' => return Next::Leave,
            b'C' => self.on_complete(&frame.payload, ktime_ns, state, sink),
            b's' => self.end_statement(Some(self.rows), ktime_ns, state, sink),
            b'I' => self.end_statement(None, ktime_ns, state, sink),
            _ => true,
        };
        if !fits {
            state.stats.drop(Drop::DbMismatch);
            self.lose_answers(link, frame.last.turn, state, sink);
        }
        Next::Stay
    }

    /// The first wait, if it is such a one, is over.
    fn pop(&mut self, is_it: impl FnOnce(&Wait) -> bool) -> bool {
        let is_it = self.waits.front().is_some_and(is_it);
        if is_it {
            self.waits.pop_front();
        }
        is_it
    }

    /// A statement is done; false if none was under way.
    fn on_complete(
        &mut self,
        payload: &[u8],
        ktime_ns: u64,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> bool {
        let (word, count) = wire::tag(payload);
        let counted = if self.blind.is_some() { count } else { Some(self.rows) };
        let rows = match word {
            b"SELECT" | b"FETCH" => counted,
            b"COPY" if self.copying == Copying::Out => count.or(counted),
            b"COPY" => None,
            // What was inserted or updated is not returned, unless rows came.
            _ if self.rows > 0 || self.described => counted,
            _ => None,
        };
        self.end_statement(rows, ktime_ns, state, sink)
    }

    fn end_statement(
        &mut self,
        rows: Option<u64>,
        ktime_ns: u64,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> bool {
        let (slot, is_query) = match self.waits.front() {
            Some(&Wait::Query(slot)) => (slot, true),
            Some(&Wait::Execute(slot)) => (slot, false),
            _ => return false,
        };
        if let Some(rows) = rows {
            add_rows(slot, rows, state);
        }
        self.end_result();
        if is_query {
            return true;
        }
        self.waits.pop_front();
        self.confirmed = true;
        if slot != NONE && matches!(self.waits.front(), Some(Wait::Sync)) {
            // The transaction that it makes by itself is committed at the Sync, which may fail.
            self.done = Some((slot, ktime_ns));
        } else {
            self.calls.finish(slot, ktime_ns, state, sink);
        }
        true
    }

    fn end_result(&mut self) {
        (self.rows, self.described, self.copying) = (0, false, Copying::No);
    }

    /// ReadyForQuery: everything up to the next Sync is over.
    fn on_ready(
        &mut self,
        link: &mut Link,
        ktime_ns: u64,
        idle: bool,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        self.confirmed = true;
        let blind = self.blind.take();
        if blind.is_some() && self.syncs > 1 {
            // Which of them it answers was not copied.
            self.pipelined = self.pipelined.saturating_add(super::PIPELINED);
            self.lose_answers(link, self.answer_turn, state, sink);
            return;
        }
        self.end_result();
        if idle {
            self.portals.clear(state);
        }
        while let Some(wait) = self.waits.pop_front() {
            match wait {
                Wait::Query(slot) => {
                    note_tail(slot, blind, state);
                    self.calls.finish(slot, ktime_ns, state, sink);
                }
                Wait::Execute(slot) if blind.is_some() => {
                    note_tail(slot, blind, state);
                    self.calls.finish(slot, ktime_ns, state, sink);
                    continue;
                }
                Wait::Execute(slot) => {
                    if slot != NONE {
                        state.abandon(slot, Drop::DbMismatch);
                    }
                    continue;
                }
                Wait::Session | Wait::Sync | Wait::Function => {}
                Wait::Parse(_) | Wait::Bind | Wait::Describe | Wait::Close => continue,
            }
            self.syncs -= 1;
            break;
        }
    }

    /// A new question came and the end of the last answer was not seen: it ended with its last byte.
    pub(super) fn end_blind(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        if self.syncs <= 1 {
            self.on_ready(link, self.answer_ktime_ns, false, state, sink);
        } else {
            self.lose_answers(link, self.answer_turn, state, sink);
        }
        self.blind = None;
    }

    fn on_error(
        &mut self,
        code: &[u8],
        ktime_ns: u64,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        match self.waits.front() {
            // Of its own accord: the server goes down, or the session was idle for too long.
            None | Some(Wait::Session | Wait::Function) => {}
            Some(&Wait::Query(slot)) => {
                refuse(slot, code, state);
                self.end_result();
            }
            Some(Wait::Sync) => {
                if let Some((slot, _)) = self.done.take() {
                    refuse(slot, code, state);
                    self.calls.finish(slot, ktime_ns, state, sink);
                }
            }
            Some(_) => {
                self.finish_done(state, sink);
                self.fail_group(code, ktime_ns, link, state, sink);
            }
        }
    }

    /// A message of the extended protocol failed: the server skips the others up to the next Sync.
    fn fail_group(
        &mut self,
        code: &[u8],
        ktime_ns: u64,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        self.end_result();
        let mut failed = false;
        let mut preparing: Option<Box<Parsed>> = None;
        let mut front = true;
        while !matches!(self.waits.front(), None | Some(Wait::Sync)) {
            match self.waits.pop_front() {
                Some(Wait::Execute(slot)) if !failed => {
                    failed = true;
                    refuse(slot, code, state);
                    self.calls.finish(slot, ktime_ns, state, sink);
                }
                Some(Wait::Execute(slot)) => {
                    self.calls.fail(slot, ErrorType::Aborted, ktime_ns, state, sink);
                }
                Some(Wait::Parse(parsed)) => {
                    // It was not prepared; what another of that name was is not known.
                    if parsed.name.is_empty() {
                        self.unnamed = None;
                    } else {
                        self.statements.remove(&parsed.name, state);
                    }
                    if front {
                        preparing = Some(parsed);
                    }
                }
                _ => {}
            }
            front = false;
        }
        if let (false, Some(parsed)) = (failed, preparing) {
            // Only a preparation was asked for, and it failed: that is what the client sees.
            let Parsed { begun, statement, .. } = *parsed;
            let namespace = &self.namespace;
            let fill = |db: &mut DbRequest, _: &mut Sql| {
                db.system = DbSystem::PostgreSql;
                db.namespace.push_clean(namespace.as_str());
                statement.fill(db);
            };
            let slot = self.calls.begin(&begun, &begun.call, fill, link, state, sink);
            refuse(slot, code, state);
            self.calls.finish(slot, ktime_ns, state, sink);
        }
        self.first = None;
        if self.waits.is_empty() {
            self.skipping = true;
        }
    }
}

/// What the end of an answer says whose middle was not copied.
fn note_tail(slot: Slot, blind: Option<Option<wire::Tail>>, state: &mut State) {
    let Some(Some(tail)) = blind else { return };
    if tail.failed && slot != NONE {
        state.open.get_mut(slot).request.error_type = Some(ErrorType::Other);
    } else if let Some(rows) = tail.rows {
        add_rows(slot, rows, state);
    }
}

/// Whether a server may say this without being asked. (An error is an answer if the server is ready after it.)
fn is_unasked(first: u8, last_bytes: &[u8]) -> bool {
    match first {
        b'N' | b'A' | b'S' => true,
        b'E' => wire::tail(last_bytes, b"").is_none(),
        _ => false,
    }
}
