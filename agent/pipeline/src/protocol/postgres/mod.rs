//! PostgreSQL, and what speaks its protocol (PgBouncer, CockroachDB …), both ends: the frontend/backend protocol 3.
//!
//! In: chunks of both directions. Out: one finished request for each Query message (its statements together, as
//! the client sent them) and for each Execute message, which begins with the first message of its Parse, Bind,
//! Execute. A statement that cannot be prepared is a request too; empty texts, which only ask whether the server is
//! there, are none. What is skipped: authentication, values, rows (they are counted), notices, notifications,
//! function calls, cancel requests. A session that is encrypted or replicates is left alone. Limits: 4,096 messages that wait for an
//! answer. In the middle of a connection, names and database are not known and left out. Of an answer whose middle
//! was not copied, the end of its last call tells the end and the number of rows.
//! Spec: <https://www.postgresql.org/docs/current/protocol.html>

mod answer;
mod request;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;

use agent_common::capture::{Caps, CaptureMode, MODE_CAPPED, UNDECIDED_WAKE};

use crate::Sink;
use crate::connection::Link;
use crate::event::Direction;
use crate::open::{NONE, Slot};
use crate::protocol::calls::{self, Begun, Calls};
use crate::protocol::frames::Frames;
use crate::protocol::prepared::Prepared;
use crate::protocol::{Next, Parse, Parser, Sample, Verdict};
use crate::request::ErrorType;
use crate::sql::{Dialect, Statement};
use crate::state::State;
use crate::stats::Drop;
use crate::stream::Chunk;
use crate::text::Text;

/// Messages that may wait for an answer.
const WAITING_MAX: usize = 4096;
/// Copied bytes of a direction after which the kernel side is asked to copy less.
const COPIED_MAX: u64 = UNDECIDED_WAKE as u64;
/// All of a direction.
const WHOLE: Caps = Caps { turn_cap: u32::MAX, call_cap: u32::MAX };
/// Rows are not looked at: the beginning of an answer, and the end of each of its calls, are enough.
const ROWS: Caps = Caps { turn_cap: 2048, call_cap: 64 };
/// Syncs that waited together, after which answers are copied whole: their borders may lie anywhere.
const PIPELINED: u32 = 4;

/// What a message of the client waits for, in order.
#[derive(Debug)]
enum Wait {
    /// ReadyForQuery of a new session.
    Session,
    /// A Query; [`NONE`] if it makes no request.
    Query(Slot),
    Parse(Box<Parsed>),
    Bind,
    Describe,
    Execute(Slot),
    Close,
    Sync,
    Function,
}

/// A statement that is being prepared.
#[derive(Debug)]
struct Parsed {
    begun: Begun,
    statement: Arc<Statement>,
    /// Empty: the unnamed one.
    name: Box<[u8]>,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first message comes.
    Startup,
    /// Encryption was asked for.
    Consent,
    Session,
}

/// COPY under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    No,
    In,
    Out,
}

/// A PostgreSQL connection.
#[derive(Debug)]
pub(crate) struct Postgres {
    calls: Calls,
    phase: Phase,
    requests: Frames,
    answers: Frames,
    waits: VecDeque<Wait>,
    /// Waits that ReadyForQuery answers.
    syncs: u32,
    /// An Execute that is answered, but may still fail when its transaction is committed; and when it ended.
    done: Option<(Slot, u64)>,
    /// First message of the operation that is being put together.
    first: Option<Begun>,
    /// The server skips everything up to the next Sync.
    skipping: bool,
    copying: Copying,
    /// Part of the answer under way was not copied, and what the last call's end said.
    blind: Option<Option<wire::Tail>>,
    /// The end of the last call, while the answer is not seen.
    call_end: Vec<u8>,
    /// Turn and time of the last answer's call.
    answer_turn: u32,
    answer_ktime_ns: u64,
    /// Rows of the result under way; whether it was announced.
    rows: u64,
    described: bool,
    dialect: Dialect,
    namespace: Text<256>,
    unnamed: Option<Arc<Statement>>,
    statements: Prepared<Box<[u8]>>,
    /// What the unnamed portal, and the named ones, run.
    portal: Option<Arc<Statement>>,
    portals: Prepared<Box<[u8]>>,
    /// A message came that held answers may have waited for.
    progress: bool,
    /// A whole exchange was understood.
    confirmed: bool,
    pipelined: u32,
}

/// Part one: is it PostgreSQL? At the start, a first message with a version or a code that nothing else has; in the
/// middle, a turn of whole messages.
pub(super) fn detect(sample: &Sample<'_>) -> Verdict {
    if sample.mid_stream {
        return if wire::is_whole_turn(sample.bytes) { Verdict::Yes(sample.direction) } else { Verdict::No };
    }
    match wire::begins_session(sample.bytes) {
        Some(true) => Verdict::Yes(sample.direction),
        None if sample.turn <= 1 => Verdict::Maybe,
        _ => Verdict::No,
    }
}

/// Part two: the parser.
pub(super) fn begin(requests_in: Direction, sample: &Sample<'_>) -> Parser {
    let (phase, answers) = match sample.mid_stream {
        true => (Phase::Session, Frames::lost(sample.turn)),
        false => (Phase::Startup, Frames::default()),
    };
    Parser::Postgres(Box::new(Postgres {
        calls: Calls::new(requests_in),
        phase,
        requests: Frames::default(),
        answers,
        waits: VecDeque::new(),
        syncs: 0,
        done: None,
        first: None,
        skipping: false,
        copying: Copying::No,
        blind: None,
        call_end: Vec::new(),
        answer_turn: 0,
        answer_ktime_ns: 0,
        rows: 0,
        described: false,
        dialect: Dialect::POSTGRESQL,
        namespace: Text::new(),
        unnamed: None,
        statements: Prepared::default(),
        portal: None,
        portals: Prepared::default(),
        progress: false,
        confirmed: false,
        pipelined: 0,
    }))
}

impl Parse for Postgres {
    /// Takes the next chunk of one direction, and then the answers that had to wait for it.
    #[inline]
    fn on_chunk(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        self.progress = false;
        let mut next = self.read(link, chunk, state, sink);
        while next == Next::Stay && self.progress && link.held.is_some() {
            self.progress = false;
            let Some(held) = link.release_held(state) else { break };
            for held in held.chunks() {
                next = self.read(link, &held, state, sink);
                if next != Next::Stay {
                    break;
                }
            }
        }
        if next == Next::Stay {
            self.tune_capture(link, sink);
        }
        next
    }

    fn on_eof(
        &mut self,
        link: &mut Link,
        direction: Direction,
        ktime_ns: u64,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        if direction == self.calls.requests_in || link.held.as_ref().is_some_and(|held| held.has(direction)) {
            return;
        }
        let failure = self.calls.failure_at_eof(link, ktime_ns);
        self.end_of_answers(failure, state, sink);
    }

    fn on_wake(&mut self, link: &mut Link, state: &mut State, _sink: &mut impl Sink) {
        if calls::give_up_held(link, state) {
            self.answers.lose(self.answer_turn, state);
        }
    }

    fn on_closing(&mut self, state: &mut State) {
        let State { open, context, .. } = state;
        for wait in &self.waits {
            if let Wait::Query(slot) | Wait::Execute(slot) = *wait
                && slot != NONE
            {
                context.answered(slot, open);
            }
        }
    }

    fn on_closed(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let closed = link.closed_ktime_ns.unwrap_or(state.now_ktime_ns);
        let failure = link.failure.unwrap_or((ErrorType::Canceled, closed));
        self.end_of_answers(failure, state, sink);
        if link.release_held(state).is_some() {
            state.stats.drop(Drop::DbAnswerWithoutRequest);
        }
    }

    fn finish(&mut self, state: &mut State, sink: &mut impl Sink) {
        self.finish_done(state, sink);
        self.abandon(Drop::DbOpenAtEnd, state);
    }

    fn abandon(&mut self, drop: Drop, state: &mut State) {
        if let Some((slot, _)) = self.done.take() {
            state.abandon(slot, drop);
        }
        while let Some(wait) = self.waits.pop_front() {
            if let Wait::Query(slot) | Wait::Execute(slot) = wait
                && slot != NONE
            {
                state.abandon(slot, drop);
            }
        }
        self.syncs = 0;
    }

    fn release(&mut self, state: &mut State) {
        self.abandon(Drop::DbGap, state);
        self.forget_names(state);
        self.requests.release(state);
        self.answers.release(state);
    }
}

impl Postgres {
    #[inline]
    fn read(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) -> Next {
        if chunk.call.direction == self.calls.requests_in {
            self.on_request_bytes(link, chunk, state, sink)
        } else if link.held.is_some() {
            self.hold(link, chunk, state, sink);
            Next::Stay
        } else {
            self.on_answer_bytes(link, chunk, state, sink)
        }
    }

    /// Keeps answers until their operation comes.
    fn hold(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) {
        if !calls::hold(link, chunk, state) {
            link.release_held(state);
            self.lose_answers(link, chunk.call.turn, state, sink);
        }
    }

    /// What was answered and might have failed afterwards has not.
    #[inline]
    fn finish_done(&mut self, state: &mut State, sink: &mut impl Sink) {
        if let Some((slot, ktime_ns)) = self.done.take() {
            self.calls.finish(slot, ktime_ns, state, sink);
        }
    }

    /// No more answers will come.
    fn end_of_answers(
        &mut self,
        (error, ktime_ns): (ErrorType, u64),
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        self.finish_done(state, sink);
        while let Some(wait) = self.waits.pop_front() {
            if let Wait::Query(slot) | Wait::Execute(slot) = wait {
                self.calls.fail(slot, error, ktime_ns, state, sink);
            }
        }
        self.syncs = 0;
    }

    /// Which answer belongs to which operation is not known any more: those that wait are dropped.
    fn lose_answers(&mut self, link: &mut Link, turn: u32, state: &mut State, sink: &mut impl Sink) {
        self.finish_done(state, sink);
        self.abandon(Drop::DbGap, state);
        self.answers.lose(turn, state);
        if link.release_held(state).is_some() {
            state.stats.drop(Drop::DbAnswerWithoutRequest);
        }
        (self.rows, self.described, self.blind) = (0, false, None);
        (self.skipping, self.copying) = (false, Copying::No);
    }

    /// What names stand for is not known any more.
    fn forget_names(&mut self, state: &mut State) {
        (self.unnamed, self.portal) = (None, None);
        self.statements.clear(state);
        self.portals.clear(state);
    }

    /// Asks for fewer bytes once many came.
    fn tune_capture(&mut self, link: &mut Link, sink: &mut impl Sink) {
        let copied = link.streams[0].copied.max(link.streams[1].copied);
        if link.captured().is_none() && copied < COPIED_MAX {
            return;
        }
        let answers = if self.pipelined > PIPELINED { WHOLE } else { ROWS };
        let mut caps = [answers; 2];
        let requests = if self.copying == Copying::In { ROWS } else { WHOLE };
        caps[self.calls.requests_in as usize] = requests;
        link.capture(CaptureMode { mode: MODE_CAPPED, reserved: 0, caps }, sink);
    }
}
