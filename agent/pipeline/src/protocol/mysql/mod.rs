//! MySQL and MariaDB, both ends: the client/server protocol.
//!
//! In: chunks of both directions. Out: one finished request for each COM_QUERY (its statements together, as the
//! client sent them), for each execution of a prepared statement and each fetch of its cursor. Other commands (ping,
//! choice of a database, preparing, closing) are read and make no request; preparing what cannot be prepared does.
//! Authentication, values and LOCAL INFILE's data are skipped; binlog, encryption and compression end what is
//! understood. Rows are counted as long as they are copied: 64 KiB of an answer. In the middle of a connection,
//! statements and database are not known and left out.
//! Spec: <https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>,
//! <https://mariadb.com/kb/en/clientserver-protocol/>

mod answer;
mod request;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;

use agent_common::capture::{Caps, CaptureMode, MODE_CAPPED, UNDECIDED_WAKE};

use crate::Sink;
use crate::connection::Link;
use crate::db_request::{DbRequest, DbSystem};
use crate::event::{Call, Direction};
use crate::open::{NONE, Slot};
use crate::protocol::calls::{self, Begun, Calls};
use crate::protocol::frames::Frames;
use crate::protocol::prepared::Prepared;
use crate::protocol::{Next, Parse, Parser, Sample, Verdict};
use crate::request::ErrorType;
use crate::sql::cache::Sql;
use crate::sql::{Dialect, Statement};
use crate::state::State;
use crate::stats::Drop;
use crate::stream::Chunk;
use crate::text::Text;

/// Commands that may wait for an answer.
const WAITING_MAX: usize = 1024;
/// Copied bytes of a direction after which the kernel side is asked to copy less.
const COPIED_MAX: u64 = UNDECIDED_WAKE as u64;
/// Texts are copied whole, values as far as a call's limit.
const REQUESTS: Caps = Caps { turn_cap: u32::MAX, call_cap: u32::MAX };
/// Rows are counted as far as this; behind it, each call's end tells whether it is the last.
const ANSWERS: Caps = Caps { turn_cap: 64 * 1024, call_cap: 64 };

/// A command that waits for its answer.
#[derive(Debug)]
struct Wait {
    /// [`NONE`] if it makes no request.
    slot: Slot,
    kind: Asked,
}

/// What is to be done with an answer.
#[derive(Debug)]
enum Asked {
    /// OK, an error, or results.
    Results,
    /// A number under which the statement is run, and what describes it.
    Prepare(Box<(Begun, Arc<Statement>)>),
    /// Rows alone.
    Rows,
    /// A new database.
    Database(Box<[u8]>),
    /// One packet of text.
    Word,
}

/// Where the answer to the first command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Its first packet comes, or that of its next result.
    First,
    /// So many descriptions of columns come.
    Columns(u64),
    /// They may end with an EOF packet.
    Described,
    Rows,
    /// So many descriptions of a prepared statement come.
    Prepared(u64),
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    /// The client answers the greeting.
    Login,
    /// Both authenticate.
    Auth,
    Commands,
}

/// A MySQL connection.
#[derive(Debug)]
pub(crate) struct MySql {
    calls: Calls,
    phase: Phase,
    requests: Frames,
    answers: Frames,
    waits: VecDeque<Wait>,
    answer: Answer,
    /// The last packet of a direction was full: the next one goes on with it.
    request_goes_on: bool,
    row_goes_on: bool,
    /// What described a prepared statement may end with an EOF packet.
    may_end: bool,
    /// Part of the rows was not copied.
    blind: bool,
    answer_turn: u32,
    answer_ktime_ns: u64,
    rows: u64,
    system: DbSystem,
    dialect: Dialect,
    namespace: Text<256>,
    compresses: bool,
    attributes: bool,
    statements: Prepared<u32>,
    last_prepared: u32,
    progress: bool,
    confirmed: bool,
}

/// Part one: is it MySQL? At the start, the server's greeting; in the middle, a whole query.
pub(super) fn detect(sample: &Sample<'_>) -> Verdict {
    if sample.mid_stream {
        return if wire::is_whole_command(sample.bytes) {
            Verdict::Yes(sample.direction)
        } else {
            Verdict::No
        };
    }
    match wire::begins_session(sample.bytes) {
        Some(true) => Verdict::Yes(sample.direction.reverse()),
        None if sample.turn <= 1 => Verdict::Maybe,
        _ => Verdict::No,
    }
}

/// Part two: the parser.
pub(super) fn begin(requests_in: Direction, sample: &Sample<'_>) -> Parser {
    let (phase, answers) = match sample.mid_stream {
        true => (Phase::Commands, Frames::lost(sample.turn)),
        false => (Phase::Greeting, Frames::default()),
    };
    Parser::MySql(Box::new(MySql {
        calls: Calls::new(requests_in),
        phase,
        requests: Frames::default(),
        answers,
        waits: VecDeque::new(),
        answer: Answer::First,
        request_goes_on: false,
        row_goes_on: false,
        may_end: false,
        blind: false,
        answer_turn: 0,
        answer_ktime_ns: 0,
        rows: 0,
        system: DbSystem::MySql,
        dialect: Dialect::MYSQL,
        namespace: Text::new(),
        compresses: false,
        attributes: false,
        statements: Prepared::default(),
        last_prepared: 0,
        progress: false,
        confirmed: false,
    }))
}

impl Parse for MySql {
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
        for wait in self.waits.iter().filter(|wait| wait.slot != NONE) {
            context.answered(wait.slot, open);
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

    fn finish(&mut self, state: &mut State, _sink: &mut impl Sink) {
        self.abandon(Drop::DbOpenAtEnd, state);
    }

    fn abandon(&mut self, drop: Drop, state: &mut State) {
        while let Some(wait) = self.waits.pop_front() {
            if wait.slot != NONE {
                state.abandon(wait.slot, drop);
            }
        }
        self.begin_answer();
    }

    fn release(&mut self, state: &mut State) {
        self.abandon(Drop::DbGap, state);
        self.statements.clear(state);
        self.requests.release(state);
        self.answers.release(state);
    }
}

impl MySql {
    #[inline]
    fn read(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) -> Next {
        if chunk.call.direction == self.calls.requests_in {
            self.on_request_bytes(link, chunk, state, sink)
        } else if link.held.is_some() {
            self.hold(link, chunk, state);
            Next::Stay
        } else {
            self.on_answer_bytes(link, chunk, state, sink)
        }
    }

    /// Keeps answers until their command comes.
    fn hold(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State) {
        if !calls::hold(link, chunk, state) {
            self.lose_answers(link, chunk.call.turn, state);
        }
    }

    /// An operation begins.
    fn begin_operation(
        &self,
        begun: &Begun,
        last: &Call,
        fill: impl FnOnce(&mut DbRequest, &mut Sql),
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Slot {
        let fill = |db: &mut DbRequest, sql: &mut Sql| {
            db.system = self.system;
            db.namespace.push_clean(self.namespace.as_str());
            fill(db, sql);
        };
        self.calls.begin(begun, last, fill, link, state, sink)
    }

    fn begin_answer(&mut self) {
        self.answer = match self.waits.front() {
            Some(Wait { kind: Asked::Rows, .. }) => Answer::Rows,
            _ => Answer::First,
        };
        (self.rows, self.blind, self.row_goes_on) = (0, false, false);
    }

    /// No more answers will come.
    fn end_of_answers(
        &mut self,
        (error, ktime_ns): (ErrorType, u64),
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        while let Some(wait) = self.waits.pop_front() {
            self.calls.fail(wait.slot, error, ktime_ns, state, sink);
        }
        self.begin_answer();
    }

    /// Which answer belongs to which command is not known any more: those that wait are dropped.
    fn lose_answers(&mut self, link: &mut Link, turn: u32, state: &mut State) {
        self.abandon(Drop::DbGap, state);
        self.answers.lose(turn, state);
        if link.release_held(state).is_some() {
            state.stats.drop(Drop::DbAnswerWithoutRequest);
        }
    }

    /// Asks for fewer bytes once many came.
    fn tune_capture(&mut self, link: &mut Link, sink: &mut impl Sink) {
        let copied = link.streams[0].copied.max(link.streams[1].copied);
        if link.captured().is_none() && copied < COPIED_MAX {
            return;
        }
        let mut caps = [ANSWERS; 2];
        caps[self.calls.requests_in as usize] = REQUESTS;
        link.capture(CaptureMode { mode: MODE_CAPPED, reserved: 0, caps }, sink);
    }
}
