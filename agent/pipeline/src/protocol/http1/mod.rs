//! HTTP/1.0 and 1.1, both ends: RFC 9110 and 9112.
//!
//! In: chunks of both directions. Out: finished requests. Each direction is read on its own (`request.rs`,
//! `response.rs`); answers meet requests first in, first out. The record of a client's request may come after
//! the answer's: the answer is held until then. Limits: header blocks of 80 KiB, 1,024 requests that wait for an
//! answer on a connection. Where bytes are missing, messages are counted and reading goes on at a later turn of
//! the connection that begins with a whole request line: nothing is guessed.

mod body;
mod head;
mod reader;
mod request;
mod response;

use agent_common::capture::{Caps, CaptureMode, MODE_CAPPED};

use crate::Sink;
use crate::connection::Link;
use crate::event::Direction;
use crate::open::{Queue, Slot};
use crate::protocol::http1::body::Framing;
use crate::protocol::http1::head::Line;
use crate::protocol::http1::reader::{At, Reader};
use crate::protocol::{Next, Parse, Parser, Sample, Verdict};
use crate::request::{ErrorType, SpanKind};
use crate::state::State;
use crate::stats::Drop;
use crate::stream::Chunk;

/// Requests that may wait for an answer on one connection.
const OUTSTANDING_MAX: u32 = 1024;
/// Bytes of a connection that are held until they can be understood.
const HELD_MAX: usize = 256 * 1024;
/// How long an answer waits for the record of its request, and a new request for the end of the last answer.
const INVERSION_NS: u64 = 100_000_000;
/// Copied bytes of a direction after which the kernel side is asked to copy less: where it wakes its reader.
const COPIED_MAX: u64 = agent_common::capture::UNDECIDED_WAKE as u64;
/// A body that is longer makes it worth a call to have less copied.
const LONG_BODY: u64 = 16 * 1024;
/// Bytes of a turn in which a header block must fit.
const HEAD_CAP: u32 = 64 * 1024;
/// Requests that came while two were not answered, after which a connection is taken to be pipelined. (One that is
/// not answered may be two records that swapped places.)
const PIPELINED: u32 = 4;

/// An HTTP/1 connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    /// Direction that carries requests.
    requests_in: Direction,
    kind: SpanKind,
    requests: Reader,
    responses: Reader,
    /// Requests whose answer is not complete, oldest first.
    queue: Queue,
    /// The request whose body is being read.
    reading: Option<Slot>,
    /// Something happened that held chunks may have waited for.
    progress: bool,
    /// A request was understood: what follows is HTTP, valid or not.
    confirmed: bool,
    switched: bool,
    /// A request that is answered as HTTP/2.
    to_http2: Option<Slot>,
    /// Longest header block of a request, and of an answer.
    longest_request: u32,
    longest_answer: u32,
    /// Header blocks did not fit into what was copied.
    wide: bool,
    /// A body was long enough to ask for less of it.
    long_body: bool,
    /// Requests that came before the one before was answered.
    pipelined: u32,
}

/// Part one: is it HTTP/1? Bias: a well-known method and a path are enough at the start of a connection; in the
/// middle, a whole request line at the start of a turn.
pub(super) fn detect(sample: &Sample<'_>) -> Verdict {
    match (head::request_line(sample.bytes), sample.mid_stream) {
        (Line::Whole, _) | (Line::Likely, false) => return Verdict::Yes(sample.direction),
        (_, true) => return Verdict::No,
        (Line::Partial, false) => return Verdict::Maybe,
        (Line::No, false) => {}
    }
    match head::status_line(sample.bytes) {
        Some(true) => Verdict::Yes(sample.direction.reverse()),
        Some(false) => Verdict::No,
        None => Verdict::Maybe,
    }
}

/// Part two: the parser.
pub(super) fn begin(requests_in: Direction, sample: &Sample<'_>) -> Parser {
    let mut http1 = Http1 {
        requests_in,
        kind: if requests_in == Direction::Ingress { SpanKind::Server } else { SpanKind::Client },
        requests: Reader::default(),
        responses: Reader::default(),
        queue: Queue::default(),
        reading: None,
        progress: false,
        confirmed: false,
        switched: false,
        to_http2: None,
        longest_request: 0,
        longest_answer: 0,
        wide: false,
        long_body: false,
        pipelined: 0,
    };
    if sample.mid_stream {
        http1.responses.at = At::Lost;
        http1.responses.lost_turn = sample.turn;
    }
    Parser::Http1(http1)
}

impl Parse for Http1 {
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
        if let Some(next) = self.read(link, chunk, state, sink) {
            return next;
        }
        while self.progress && link.held.is_some() {
            self.progress = false;
            let Some(held) = link.release_held(state) else { break };
            let mut chunks = held.chunks();
            while let Some(mut held) = chunks.next() {
                let Some(next) = self.read(link, &held, state, sink) else { continue };
                if let Next::Http2 { offset, .. } = next {
                    held.advance(offset.saturating_sub(held.offset));
                    link.hold(&held, HELD_MAX, state);
                    for held in chunks {
                        link.hold(&held, HELD_MAX, state);
                    }
                }
                return next;
            }
            let answers = self.requests_in.reverse();
            if let Some(ktime_ns) = link.stream(answers).ended_ktime_ns {
                self.on_eof(link, answers, ktime_ns, state, sink);
            }
        }
        self.tune_capture(link, sink);
        Next::Stay
    }

    /// One direction ended: no more of it will come. An ended request direction says nothing: clients may close
    /// their half and still be answered.
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
        self.end_of_answers(link.failure.unwrap_or((error, ktime_ns)), !link.broken, state, sink);
    }

    /// Candidates that waited long enough end at their last byte; chunks that waited for nothing are dropped.
    fn on_wake(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let now = state.now_ktime_ns;
        let answers = self.requests_in.reverse();
        let waiting =
            link.held.as_ref().filter(|held| held.has(answers)).and_then(|held| held.since_ktime_ns());
        if let Some(since) = waiting {
            if now.saturating_sub(since) >= INVERSION_NS {
                link.release_held(state);
                state.stats.drop(Drop::AnswerWithoutRequest);
                let turn = self.requests.begun.turn.max(self.responses.begun.turn);
                self.lose_answers(link, turn, state, sink);
            } else {
                link.wake_at(since.saturating_add(INVERSION_NS), state);
            }
        }
        if let Some(due) = self.candidate_due(state) {
            if due <= now && self.responses.swallowing {
                self.lose_answers(link, self.responses.begun.turn, state, sink);
            } else if due <= now {
                self.end_candidate(state, sink);
            } else {
                link.wake_at(due, state);
            }
        }
    }

    /// The connection is closed, although records may still be under way: its requests cause nothing any more.
    fn on_closing(&mut self, state: &mut State) {
        let State { open, context, .. } = state;
        self.queue.for_each(open, |slot, open| context.answered(slot, open));
    }

    /// The connection is closed and all its records are here.
    fn on_closed(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        if self.requests.at == At::Head {
            state.stats.drop(Drop::HeaderUnfinished);
        }
        if self.responses.swallowing {
            self.abandon(Drop::Gap, state);
        }
        let closed = link.closed_ktime_ns.unwrap_or(state.now_ktime_ns);
        let failure = link.failure.unwrap_or((ErrorType::Canceled, closed));
        self.end_of_answers(failure, !link.broken, state, sink);
        if link.release_held(state).is_some() {
            state.stats.drop(Drop::HeldAtClose);
        }
    }

    /// The run ends: what is certain leaves, the rest is counted.
    fn finish(&mut self, state: &mut State, sink: &mut impl Sink) {
        if self.candidate_due(state).is_some() && !self.responses.swallowing {
            self.end_candidate(state, sink);
        }
        self.abandon(Drop::OpenAtEnd, state);
    }

    /// Drops all open requests.
    fn abandon(&mut self, drop: Drop, state: &mut State) {
        self.reading = None;
        while let Some(slot) = self.queue.pop(&state.open) {
            state.abandon(slot, drop);
        }
    }

    /// Gives back what is gathered.
    fn release(&mut self, state: &mut State) {
        self.abandon(Drop::Gap, state);
        self.requests.take_gathered(state);
        self.responses.take_gathered(state);
    }
}

impl Http1 {
    #[inline]
    fn read(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Option<Next> {
        let direction = chunk.call.direction;
        if link.held.as_ref().is_some_and(|held| held.has(direction)) {
            self.hold(link, chunk, state, sink);
            return None;
        }
        if direction == self.requests_in {
            self.on_request_bytes(link, chunk, state, sink)
        } else {
            self.on_response_bytes(link, chunk, state, sink)
        }
    }

    /// Keeps a chunk until it can be understood.
    fn hold(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) {
        if link.hold(chunk, HELD_MAX, state) {
            link.wake_at(chunk.call.ktime_ns.saturating_add(INVERSION_NS), state);
            return;
        }
        self.lose_requests(link, chunk.call.turn, state, sink);
    }

    /// The first open request is complete, but for what only time can tell.
    fn finish_front(&mut self, state: &mut State, sink: &mut impl Sink) {
        if let Some(slot) = self.queue.pop(&state.open) {
            if self.reading == Some(slot) {
                self.reading = None;
            }
            let open = state.open.get_mut(slot);
            let asked_all = open.asked;
            let http = open.request.http_mut();
            if asked_all && http.request_body_size.is_none() {
                state.stats.drop(Drop::UnknownRequestSize);
            }
            if open.answered && open.request.http_mut().response_body_size.is_none() {
                state.stats.drop(Drop::UnknownResponseSize);
            }
            state.finish(slot, sink);
        }
    }

    /// When the first open request, whose end only time can tell, ends.
    fn candidate_due(&self, state: &State) -> Option<u64> {
        let front = self.queue.front()?;
        let open = state.open.get(front);
        if open.answered {
            // Only the end of the request is missing.
            let last = open.request.end_ktime_ns.max(self.requests.last_ktime_ns);
            return Some(last.saturating_add(state.idle_end_ns));
        }
        if self.responses.at != At::Body {
            return None;
        }
        let due = Some(self.responses.last_ktime_ns.saturating_add(state.idle_end_ns));
        match self.responses.body.framing {
            Framing::Lost(false) if self.queue.len() > 1 => due,
            Framing::Lost(true) | Framing::Unknown => due,
            _ => None,
        }
    }

    /// The first open request ended with the last byte that was seen.
    fn end_candidate(&mut self, state: &mut State, sink: &mut impl Sink) {
        let Some(front) = self.queue.front() else { return };
        if !state.open.get(front).answered {
            self.note_answer_end(front, state);
            self.responses.reset();
        }
        self.finish_front(state, sink);
    }

    /// No more answers will come: the one that is delimited by this is complete, the others failed.
    fn end_of_answers(
        &mut self,
        (error, ktime_ns): (ErrorType, u64),
        orderly: bool,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        while let Some(front) = self.queue.front() {
            if !state.open.get(front).answered {
                // A connection that broke, or whose process died, does not say that the body is whole.
                let framing = self.responses.body.framing;
                let ends_so = orderly
                    && self.responses.at == At::Body
                    && matches!(framing, Framing::UntilClose | Framing::Lost(_) | Framing::Unknown);
                if ends_so {
                    self.note_answer_end(front, state);
                } else {
                    let request = &mut state.open.get_mut(front).request;
                    request.error_type = Some(error);
                    request.end_ktime_ns = ktime_ns;
                }
                self.responses.take_gathered(state);
                self.responses.reset();
            }
            self.finish_front(state, sink);
        }
    }

    /// Neither requests nor answers can be told apart any more.
    fn lose_requests(&mut self, link: &mut Link, turn: u32, state: &mut State, sink: &mut impl Sink) {
        self.reading = None;
        self.requests.lose(turn, state);
        self.lose_answers(link, turn, state, sink);
    }

    /// Which answer belongs to which request is not known any more: those that wait are dropped.
    fn lose_answers(&mut self, link: &mut Link, turn: u32, state: &mut State, sink: &mut impl Sink) {
        while let Some(front) = self.queue.front() {
            if state.open.get(front).answered {
                self.finish_front(state, sink);
            } else if let Some(slot) = self.queue.pop(&state.open) {
                state.abandon(slot, Drop::Gap);
            }
        }
        self.reading = None;
        if link.release_held(state).is_some() {
            state.stats.drop(Drop::Gap);
        }
        self.responses.lose(turn, state);
    }

    fn is_wide(&self) -> bool {
        self.wide || self.pipelined > PIPELINED
    }

    /// Asks for fewer bytes once many came, and for more where header blocks were cut off.
    fn tune_capture(&mut self, link: &mut Link, sink: &mut impl Sink) {
        let copied = link.streams[0].copied.max(link.streams[1].copied);
        if link.captured().is_none() && copied < COPIED_MAX && !self.long_body {
            return;
        }
        // Two messages share a turn when records swapped places: the second one's header block must fit a call.
        let room = |longest: u32| longest.next_power_of_two();
        let call_cap = |longest: u32| if self.is_wide() { 2048 } else { room(longest).clamp(256, 2048) };
        let request_caps = Caps { turn_cap: HEAD_CAP, call_cap: call_cap(self.longest_request) };
        let turn_cap =
            if self.is_wide() { HEAD_CAP } else { room(2 * self.longest_answer).clamp(2048, HEAD_CAP) };
        let response_caps = Caps { turn_cap, call_cap: call_cap(self.longest_answer) };
        let mut caps = [response_caps; 2];
        caps[self.requests_in as usize] = request_caps;
        link.capture(CaptureMode { mode: MODE_CAPPED, reserved: 0, caps }, sink);
    }
}
