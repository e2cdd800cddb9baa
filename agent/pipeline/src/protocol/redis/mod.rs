//! Redis, and what speaks its protocol (Valkey, KeyDB, Dragonfly …), both ends: RESP2 and RESP3.
//!
//! In: chunks of both directions. Out: one finished request for each command, or for each pipeline if the pipeline's
//! `Config` says so. Answers meet commands first in, first out; pushes and messages of channels answer nothing.
//! Limits: 4,096 commands that wait for an answer on a connection; MONITOR, replication and CLIENT REPLY OFF end
//! what is understood. Of a command, only the words that name its operation are kept, and the number that SELECT
//! names. Where bytes are missing, commands are counted and reading goes on at a later turn.
//! Spec: <https://redis.io/docs/latest/develop/reference/protocol-spec/>

mod command;
pub(super) mod detect;
mod fill;
mod reply;
mod request;
mod resp;

use std::collections::VecDeque;

use agent_common::capture::{Caps, CaptureMode, MAX_CALL_CAPTURE, MAX_RECORD_PAYLOAD, MODE_CAPPED};

use crate::Sink;
use crate::connection::Link;
use crate::event::{Call, Direction};
use crate::open::{NONE, Slot};
use crate::protocol::redis::command::{Command, Role};
use crate::protocol::redis::detect::{begins_command, is_type};
use crate::protocol::redis::fill::Batch;
use crate::protocol::redis::reply::{Answer, Replies};
use crate::protocol::redis::request::{Asked, Requests};
use crate::protocol::redis::resp::Stop;
use crate::protocol::{Next, Parse, Parser, Sample};
use crate::request::{ErrorType, SpanKind};
use crate::state::State;
use crate::stats::Drop;
use crate::stream::{Chunk, Front};

/// Commands that may wait for an answer on one connection.
const OUTSTANDING_MAX: usize = 4096;
/// Bytes of a connection that are held until they can be understood.
const HELD_MAX: usize = 256 * 1024;
/// How long an answer waits for the record of its command.
const INVERSION_NS: u64 = 100_000_000;
/// Copied bytes of a direction after which the kernel side is asked to copy less.
const COPIED_MAX: u64 = agent_common::capture::UNDECIDED_WAKE as u64;
/// A value that is longer makes it worth a call to have less copied.
const LONG_VALUE: u64 = 16 * 1024;
/// Commands that came while others waited, after which a connection is taken to be pipelined.
const PIPELINED: u32 = 4;
/// One command and its first values fit.
const ONE_AT_A_TIME: Caps = Caps { turn_cap: MAX_RECORD_PAYLOAD, call_cap: 512 };
/// Where commands begin anywhere.
const PIPELINE: Caps = Caps { turn_cap: 8 * MAX_CALL_CAPTURE, call_cap: MAX_CALL_CAPTURE };

/// A command that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Its request, which a batch shares; `NONE` if there was no room.
    slot: Slot,
    turn: u32,
    command: Command,
    database: Option<u16>,
    /// Its answer ends the request.
    last: bool,
}

/// A Redis connection.
#[derive(Debug)]
pub(crate) struct Redis {
    /// Direction that carries commands.
    requests_in: Direction,
    kind: SpanKind,
    requests: Requests,
    replies: Replies,
    /// Oldest first.
    queue: VecDeque<Waiting>,
    /// The pipeline that grows, if pipelines make one request each.
    batch: Option<Batch>,
    /// Database in use, if it is known, and the one that a transaction will select.
    database: Option<u16>,
    queued_database: Option<u16>,
    /// Arrays may be messages of channels.
    subscribed: bool,
    /// A later turn than this one may begin a command, or an answer.
    requests_lost: Option<u32>,
    /// Commands up to this turn are not queued: some of it were dropped, and answers to the others could not be told.
    skipped_turn: u32,
    replies_lost: Option<u32>,
    /// The answer to the only command under way goes on, nobody knows how far.
    blurred: bool,
    /// Until an exchange was seen whole, a command that meets older ones means that an answer was missed.
    strict: bool,
    /// An answer was understood: this is Redis.
    confirmed: bool,
    /// What follows cannot be understood.
    leaving: bool,
    /// A command came that held answers may have waited for.
    progress: bool,
    /// Commands that came while others waited.
    pipelined: u32,
}

/// Part two: the parser.
pub(super) fn begin(requests_in: Direction, sample: &Sample<'_>) -> Parser {
    let known = (!sample.mid_stream).then_some(0);
    Parser::Redis(Box::new(Redis {
        requests_in,
        kind: if requests_in == Direction::Ingress { SpanKind::Server } else { SpanKind::Client },
        requests: Requests::default(),
        replies: Replies::default(),
        queue: VecDeque::new(),
        batch: None,
        database: known,
        queued_database: None,
        subscribed: false,
        requests_lost: None,
        skipped_turn: 0,
        replies_lost: sample.mid_stream.then_some(sample.turn),
        blurred: false,
        strict: sample.mid_stream,
        confirmed: false,
        leaving: false,
        progress: false,
        pipelined: 0,
    }))
}

impl Parse for Redis {
    /// Takes the next chunk of one direction, and then those that had to wait for it.
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
        if direction == self.requests_in || link.held.as_ref().is_some_and(|held| held.has(direction)) {
            return;
        }
        let error = match self.kind {
            SpanKind::Server => ErrorType::Canceled,
            _ => ErrorType::ConnectionClosed,
        };
        self.end_of_answers(link.failure.unwrap_or((error, ktime_ns)), state, sink);
    }

    /// An answer that goes on nobody knows how far ends with its last byte; answers that waited for nothing go.
    fn on_wake(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let now = state.now_ktime_ns;
        if let Some(since) = link.held.as_ref().and_then(|held| held.since_ktime_ns()) {
            let due = since.saturating_add(INVERSION_NS);
            if due <= now {
                link.release_held(state);
                state.stats.drop(Drop::RedisAnswerWithoutRequest);
                self.lose(self.replies.last.turn.max(self.requests.begun.turn), state);
            } else {
                link.wake_at(due, state);
            }
        }
        if self.blurred {
            let due = self.replies.last.ktime_ns.saturating_add(state.idle_end_ns);
            if due <= now {
                self.end_blurred(state, sink);
            } else {
                link.wake_at(due, state);
            }
        }
    }

    fn on_closing(&mut self, state: &mut State) {
        let State { open, context, .. } = state;
        for waiting in self.queue.iter().filter(|waiting| waiting.slot != NONE) {
            context.answered(waiting.slot, open);
        }
    }

    fn on_closed(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        if !self.requests.is_between() && self.requests_lost.is_none() {
            state.stats.drop(Drop::RedisUnfinished);
        }
        let closed = link.closed_ktime_ns.unwrap_or(state.now_ktime_ns);
        let failure = link.failure.unwrap_or((ErrorType::Canceled, closed));
        self.end_of_answers(failure, state, sink);
        if link.release_held(state).is_some() {
            state.stats.drop(Drop::RedisAnswerWithoutRequest);
        }
    }

    fn finish(&mut self, state: &mut State, sink: &mut impl Sink) {
        if self.blurred {
            self.end_blurred(state, sink);
        }
        self.abandon(Drop::RedisOpenAtEnd, state);
    }

    fn abandon(&mut self, drop: Drop, state: &mut State) {
        self.batch = None;
        self.blurred = false;
        while let Some(waiting) = self.queue.pop_front() {
            if waiting.last && waiting.slot != NONE {
                state.abandon(waiting.slot, drop);
            }
        }
    }

    fn release(&mut self, state: &mut State) {
        self.abandon(Drop::RedisGap, state);
    }
}

impl Redis {
    #[inline]
    fn read(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) -> Next {
        if chunk.call.direction == self.requests_in {
            self.on_request_bytes(link, chunk, state, sink)
        } else if link.held.is_some() {
            self.hold(link, chunk, state);
            Next::Stay
        } else {
            self.on_reply_bytes(link, chunk, state, sink)
        }
    }

    /// Keeps answers until their command comes.
    fn hold(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State) {
        if link.hold(chunk, HELD_MAX, state) {
            link.wake_at(chunk.call.ktime_ns.saturating_add(INVERSION_NS), state);
        } else {
            link.release_held(state);
            self.lose(chunk.call.turn, state);
        }
    }

    fn on_request_bytes(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let turn = chunk.call.turn;
        if let Some(lost) = self.requests_lost {
            if turn <= lost {
                return Next::Stay;
            }
            if chunk.gap > 0 || !begins_command(chunk.bytes()) {
                state.stats.drop(Drop::RedisMidStream);
                self.requests_lost = Some(turn);
                return Next::Stay;
            }
            self.requests_lost = None;
            self.requests.reset();
        } else if chunk.gap > 0 && !self.requests.skip(chunk.gap) {
            self.lose_turn(turn, state);
            return Next::Stay;
        }
        if self.blurred && turn > self.replies.last.turn {
            self.end_blurred(state, sink);
        }
        let mut chunk = *chunk;
        loop {
            match self.requests.next(&mut chunk) {
                // Any line could be that of an unknown command.
                Ok(asked) if asked.inline && !self.confirmed && !asked.command.is_known() => {
                    return Next::NotOurs;
                }
                Ok(asked) => {
                    self.ask(&asked, link, &chunk.call, state, sink);
                    if self.leaving {
                        return self.leave(state);
                    }
                    if self.requests_lost.is_some() {
                        return Next::Stay;
                    }
                }
                Err(Stop::More) => return Next::Stay,
                Err(Stop::Hole) => {
                    // More commands may be hidden behind this one: how many answers come is not known.
                    state.stats.drop(Drop::RedisTruncated);
                    if let Some(asked) = self.requests.cut_off() {
                        self.ask(&asked, link, &chunk.call, state, sink);
                    }
                    self.pipelined = self.pipelined.saturating_add(PIPELINED);
                    self.requests_lost = Some(turn);
                    return Next::Stay;
                }
                Err(Stop::Invalid) if !self.confirmed => return Next::NotOurs,
                Err(Stop::Invalid) => {
                    state.stats.drop(Drop::RedisInvalid);
                    self.lose_turn(turn, state);
                    return Next::Stay;
                }
            }
        }
    }

    /// Queues a command.
    fn ask(&mut self, asked: &Asked, link: &mut Link, call: &Call, state: &mut State, sink: &mut impl Sink) {
        if call.turn <= self.skipped_turn {
            state.stats.drop(Drop::RedisGap);
            return;
        }
        let older = self.queue.back().is_some_and(|waiting| waiting.turn < call.turn);
        if self.strict && older {
            return self.lose_turn(call.turn, state);
        }
        if asked.silent {
            self.leaving = true;
            return;
        }
        if self.queue.len() >= OUTSTANDING_MAX {
            state.stats.drop(Drop::RedisTooManyOutstanding);
            return self.lose_turn(call.turn, state);
        }
        if !self.queue.is_empty() {
            self.pipelined = self.pipelined.saturating_add(1);
        }
        let joins = state.redis_batches
            && self.batch.as_ref().is_some_and(|batch| batch.turn == call.turn)
            && self.queue.back().is_some_and(|waiting| waiting.last);
        let slot = match self.queue.back_mut() {
            Some(before) if joins => {
                before.last = false;
                before.slot
            }
            _ => self.begin_request(asked, link, call, state, sink),
        };
        if slot != NONE {
            if joins && let Some(batch) = &mut self.batch {
                batch.add(asked, &mut state.open.get_mut(slot).request);
            } else {
                self.batch = state.redis_batches.then(|| Batch::new(asked, call.turn));
            }
        }
        let database = asked.database;
        self.queue.push_back(Waiting { slot, turn: call.turn, command: asked.command, database, last: true });
        self.progress = true;
    }

    fn on_reply_bytes(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let call = chunk.call;
        if let Some(lost) = self.replies_lost {
            if call.turn <= lost {
                return Next::Stay;
            }
            if self.queue.front().is_some_and(|waiting| waiting.turn >= call.turn) {
                // It came before: an answer to something else.
                self.replies_lost = Some(call.turn);
                return Next::Stay;
            }
            if self.queue.is_empty()
                || chunk.gap > 0
                || chunk.bytes().first().is_none_or(|byte| !is_type(*byte))
            {
                self.lose(call.turn, state);
                return Next::Stay;
            }
            self.replies_lost = None;
            self.replies.reset();
        } else if self.blurred {
            self.replies.last = call;
            return Next::Stay;
        } else if chunk.gap > 0 && !self.replies.skip(chunk.gap) {
            self.blur(link, &call, state);
            return Next::Stay;
        }
        let mut chunk = *chunk;
        loop {
            if self.replies.is_between() {
                let Front::Bytes([first, ..]) = chunk.front() else {
                    if chunk.len > 0 {
                        self.blur(link, &call, state);
                    }
                    break;
                };
                let may_push = *first == b'>' || (self.subscribed && *first == b'*');
                if self.queue.is_empty() && !may_push {
                    if self.requests_lost.is_some() {
                        // It answers a command that was not seen.
                        self.lose(call.turn, state);
                    } else {
                        self.hold(link, &chunk, state);
                    }
                    break;
                }
            }
            match self.replies.next(&mut chunk) {
                Ok(answer) => {
                    self.replies.last = call;
                    let more = chunk.bytes().first().is_some_and(|&byte| byte != b'>');
                    if self.strict && more && self.queue.len() == 1 {
                        // More answers than commands: those of some that were not seen.
                        state.stats.drop(Drop::RedisMismatch);
                        self.lose(call.turn, state);
                        break;
                    }
                    self.on_answer(&answer, state, sink);
                    if self.leaving {
                        return self.leave(state);
                    }
                    if self.replies_lost.is_some() {
                        break;
                    }
                }
                Err(Stop::More) => break,
                Err(Stop::Hole) => {
                    self.blur(link, &call, state);
                    break;
                }
                Err(Stop::Invalid) if !self.confirmed => return Next::NotOurs,
                Err(Stop::Invalid) => {
                    state.stats.drop(Drop::RedisInvalid);
                    self.lose(call.turn, state);
                    break;
                }
            }
        }
        if self.strict && self.queue.is_empty() && self.replies.is_between() && self.replies_lost.is_none() {
            self.strict = false;
        }
        Next::Stay
    }

    /// One answer, or what the server sends of its own accord.
    fn on_answer(&mut self, answer: &Answer, state: &mut State, sink: &mut impl Sink) {
        self.confirmed = true;
        if self.is_unasked(answer) {
            return;
        }
        let Some(waiting) = self.queue.pop_front() else {
            state.stats.drop(Drop::RedisAnswerWithoutRequest);
            return;
        };
        let queued = answer.kind == b'+' && answer.word() == b"QUEUED";
        if !queued && !waiting.command.may_be_answered_by(answer.kind) {
            // An answer was missed: whose the following ones are is not known.
            state.stats.drop(Drop::RedisMismatch);
            self.queue.push_front(waiting);
            self.lose(self.replies.last.turn, state);
            return;
        }
        if !answer.is_error() {
            self.note_role(&waiting, answer, queued);
        }
        if waiting.slot == NONE {
            return;
        }
        let request = &mut state.open.get_mut(waiting.slot).request;
        if answer.is_error() {
            fill::error(answer.word(), request);
        }
        if waiting.last {
            request.end_ktime_ns = self.replies.last.ktime_ns;
            self.finish_request(waiting.slot, state, sink);
        }
    }

    /// Pushes of RESP3, and in RESP2 messages and all confirmations but the one that answers the command.
    fn is_unasked(&self, answer: &Answer) -> bool {
        let word = answer.word();
        let confirms = self.queue.front().is_some_and(|waiting| {
            let known = waiting.command.known();
            known.role == Role::Subscribe && word.eq_ignore_ascii_case(known.name.as_bytes())
        });
        if answer.is_push() {
            return !confirms;
        }
        if !self.subscribed || answer.kind != b'*' || confirms {
            return false;
        }
        let message = matches!((word, answer.count), (b"message" | b"smessage", 3) | (b"pmessage", 4));
        message || (answer.count == 3 && Command::find(word).known().role == Role::Subscribe)
    }

    /// What an answered command changes for those that follow.
    fn note_role(&mut self, waiting: &Waiting, answer: &Answer, queued: bool) {
        match waiting.command.known().role {
            Role::Select if queued => self.queued_database = waiting.database,
            Role::Select => self.database = waiting.database,
            Role::Exec => {
                let selected = self.queued_database.take();
                if answer.count >= 0 && selected.is_some() {
                    self.database = selected;
                }
            }
            Role::Discard => self.queued_database = None,
            Role::Reset => {
                self.database = Some(0);
                self.queued_database = None;
                self.subscribed = false;
            }
            Role::Subscribe => self.subscribed = true,
            Role::Takeover => self.leaving = true,
            Role::Plain | Role::Multi | Role::Last | Role::Client => {}
        }
    }

    /// Part of an answer is missing. If only one command is under way, it is its answer until the next command.
    fn blur(&mut self, link: &mut Link, call: &Call, state: &mut State) {
        let kind = self.replies.unfinished().kind;
        // Of a line or an attribute, what matters may be in the part that is missing.
        let told = matches!(kind, b'$' | b'=' | b'*' | b'%' | b'~');
        let fits = self.queue.front().is_some_and(|front| front.command.may_be_answered_by(kind));
        if self.queue.len() == 1 && told && fits && !self.replies.is_between() {
            self.blurred = true;
            self.replies.last = *call;
            link.wake_at(call.ktime_ns.saturating_add(state.idle_end_ns), state);
        } else {
            self.pipelined = self.pipelined.saturating_add(PIPELINED);
            self.lose(call.turn, state);
        }
    }

    /// The answer whose end was not seen ended with its last byte.
    fn end_blurred(&mut self, state: &mut State, sink: &mut impl Sink) {
        self.blurred = false;
        let answer = self.replies.unfinished();
        self.replies.reset();
        let Some(waiting) = self.queue.pop_front() else { return };
        self.note_role(&waiting, &answer, false);
        if waiting.slot != NONE {
            state.open.get_mut(waiting.slot).request.end_ktime_ns = self.replies.last.ktime_ns;
            self.finish_request(waiting.slot, state, sink);
        }
    }

    fn finish_request(&mut self, slot: Slot, state: &mut State, sink: &mut impl Sink) {
        let request = &mut state.open.get_mut(slot).request;
        fill::namespace(self.database, request);
        state.finish(slot, sink);
    }

    /// No more answers will come.
    fn end_of_answers(
        &mut self,
        (error, ktime_ns): (ErrorType, u64),
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        if self.blurred {
            self.end_blurred(state, sink);
        }
        while let Some(waiting) = self.queue.pop_front() {
            if waiting.slot == NONE || !waiting.last {
                continue;
            }
            let request = &mut state.open.get_mut(waiting.slot).request;
            request.end_ktime_ns = ktime_ns;
            // Closing is what QUIT and SHUTDOWN ask for.
            if waiting.command.known().role != Role::Last {
                request.error_type = Some(error);
            }
            self.finish_request(waiting.slot, state, sink);
        }
    }

    /// As [`Self::lose`], and what else this turn asks for is not known: an answer to it could not be told.
    fn lose_turn(&mut self, turn: u32, state: &mut State) {
        self.requests.reset();
        self.requests_lost = Some(turn);
        self.lose(turn, state);
    }

    /// Which answer belongs to which command is not known any more.
    fn lose(&mut self, turn: u32, state: &mut State) {
        state.stats.drop(Drop::RedisGap);
        self.abandon(Drop::RedisGap, state);
        self.skipped_turn = self.skipped_turn.max(self.requests.begun.turn);
        self.replies.reset();
        self.replies_lost = Some(self.replies_lost.unwrap_or(0).max(turn));
        self.strict = true;
        self.database = None;
        self.queued_database = None;
    }

    fn leave(&mut self, state: &mut State) -> Next {
        self.abandon(Drop::RedisUnanswered, state);
        Next::Leave
    }

    /// Asks for fewer bytes once many came.
    fn tune_capture(&mut self, link: &mut Link, sink: &mut impl Sink) {
        let copied = link.streams[0].copied.max(link.streams[1].copied);
        let longest = self.requests.longest.max(self.replies.longest);
        if link.captured().is_none() && copied < COPIED_MAX && longest < LONG_VALUE {
            return;
        }
        let caps = if self.pipelined > PIPELINED { PIPELINE } else { ONE_AT_A_TIME };
        link.capture(CaptureMode { mode: MODE_CAPPED, reserved: 0, caps: [caps; 2] }, sink);
    }
}
