//! The direction that carries requests.
//!
//! In: its chunks. Out: open requests, in the order in which they were asked.

use crate::Sink;
use crate::connection::Link;
use crate::event::Call;
use crate::open::Slot;
use crate::protocol::Next;
use crate::protocol::http1::body::{Body, Framing};
use crate::protocol::http1::head::{self, Line, Parsed};
use crate::protocol::http1::reader::{At, Found};
use crate::protocol::http1::{Http1, LONG_BODY, OUTSTANDING_MAX};
use crate::request::{OperationKind, SpanKind};
use crate::state::State;
use crate::stats::Drop;
use crate::stream::{Chunk, Front};

/// What became of bytes that begin a request.
enum Begun {
    /// The header block is whole, and so long.
    Whole(usize),
    /// It is not.
    Part,
    /// The connection is to be left.
    Next(Next),
}

impl Http1 {
    /// Reads requests; `Some` if the connection is to be left.
    #[inline]
    pub(super) fn on_request_bytes(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Option<Next> {
        if !self.can_read_request(link, chunk, state, sink) {
            return None;
        }
        let mut chunk = *chunk;
        let call = chunk.call;
        self.requests.last_ktime_ns = call.ktime_ns;
        if let (Some(slot), SpanKind::Server) = (self.reading, self.kind) {
            state.context.read_on(slot, &call, &mut state.open);
        }
        loop {
            match (self.requests.at, chunk.front()) {
                (_, Front::Empty) | (At::Lost, _) => break,
                (At::Start, Front::Bytes(bytes)) => {
                    if self.waits_for_switch(state) {
                        self.hold(link, &chunk, state, sink);
                        break;
                    }
                    let skipped = head::line_ends(bytes);
                    if skipped > 0 {
                        chunk.advance(skipped as u64);
                        continue;
                    }
                    self.requests.begin(&call, chunk.offset);
                }
                (At::Start, Front::Hole(_)) => {
                    // A message that begins in a hole: its capture was cut off.
                    state.stats.drop(Drop::HeaderTruncated);
                    self.wide = true;
                    self.lose_requests(link, call.turn, state, sink);
                }
                (At::Head, Front::Bytes(bytes)) => {
                    if !self.requests.is_gathering() {
                        match self.begin_request(link, bytes, false, &call, state, sink) {
                            Begun::Whole(len) => {
                                chunk.advance(len as u64);
                                continue;
                            }
                            Begun::Next(next) => return Some(next),
                            Begun::Part => {}
                        }
                    }
                    match self.requests.gather(bytes, state) {
                        Found::More => chunk.advance(bytes.len() as u64),
                        Found::TooLong => return self.begin_gathered(link, true, &call, state, sink),
                        Found::End(end) => {
                            chunk.advance(end as u64);
                            if let Some(next) = self.begin_gathered(link, false, &call, state, sink) {
                                return Some(next);
                            }
                        }
                    }
                }
                (At::Head, Front::Hole(_)) => return self.begin_gathered(link, true, &call, state, sink),
                (At::Body, Front::Bytes(bytes)) => {
                    let count = self.requests.body.take(bytes);
                    chunk.advance(count as u64);
                    self.end_request_if_done(state, sink);
                }
                (At::Body, Front::Hole(hole)) => {
                    let count = self.requests.body.skip(hole);
                    chunk.advance(count);
                    self.end_request_if_done(state, sink);
                }
            }
        }
        None
    }

    /// Deals with what comes before the chunk: lost bytes, and messages whose end nobody knows.
    #[inline]
    fn can_read_request(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> bool {
        let turn = chunk.call.turn;
        let first_of_turn = turn > std::mem::replace(&mut self.requests.turn, turn);
        match self.requests.at {
            At::Lost => {
                if turn <= self.requests.lost_turn {
                    return false;
                }
                if chunk.gap > 0 || head::request_line(chunk.bytes()) != Line::Whole {
                    state.stats.drop(Drop::MidStream);
                    self.requests.lost_turn = turn;
                    return false;
                }
                self.requests.reset();
                true
            }
            At::Start | At::Head if chunk.gap > 0 => {
                state.stats.drop(Drop::Gap);
                self.lose_requests(link, turn, state, sink);
                false
            }
            At::Body => {
                let skipped = self.requests.body.skip(chunk.gap);
                if self.requests.body.is_done() {
                    self.end_request_if_done(state, sink);
                    if skipped < chunk.gap {
                        state.stats.drop(Drop::Gap);
                        self.lose_requests(link, turn, state, sink);
                        return false;
                    }
                } else if first_of_turn && chunk.gap == 0 && self.begins_next_request(chunk, state) {
                    self.end_request(state, sink);
                }
                true
            }
            _ => true,
        }
    }

    /// Whether a new turn begins a new request although the body of the last one has not ended.
    fn begins_next_request(&self, chunk: &Chunk<'_>, state: &State) -> bool {
        if chunk.call.turn <= self.requests.begun.turn {
            return false;
        }
        let line = head::request_line(chunk.bytes());
        match self.reading.map(|slot| state.open.get(slot)) {
            // Answered, and where its body ends is not known: most likely it has ended.
            None => self.requests.body.is_open() && line != Line::No,
            // The client was answered before it sent the body that it had announced.
            Some(open) if open.expects_continue && open.answered && self.requests.body.is_untouched() => {
                line == Line::Whole
            }
            Some(_) => self.requests.body.is_open() && line == Line::Whole,
        }
    }

    /// Whether what follows may not be HTTP: the last request asks for that and is not answered yet.
    fn waits_for_switch(&self, state: &State) -> bool {
        self.queue.back().is_some_and(|slot| {
            let open = state.open.get(slot);
            open.may_switch && !open.answered
        })
    }

    /// A header block that was gathered is here, or all of it that was copied.
    fn begin_gathered(
        &mut self,
        link: &mut Link,
        truncated: bool,
        call: &Call,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Option<Next> {
        if truncated {
            state.stats.drop(Drop::HeaderTruncated);
            self.wide = true;
        }
        let gathered = self.requests.take_gathered(state);
        match self.begin_request(link, &gathered, truncated, call, state, sink) {
            Begun::Next(next) => Some(next),
            Begun::Whole(_) | Begun::Part => None,
        }
    }

    /// Begins the request that `bytes` begin with, if its header block is whole, or all that there is.
    #[inline]
    fn begin_request(
        &mut self,
        link: &mut Link,
        bytes: &[u8],
        truncated: bool,
        call: &Call,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Begun {
        let Some(slot) = self.take_slot(state) else {
            self.lose_requests(link, call.turn, state, sink);
            return Begun::Whole(bytes.len());
        };
        let open = state.open.get_mut(slot);
        let (head, len) = match head::parse_request(bytes, &mut open.request) {
            Parsed::Whole(head, len) => (head, len),
            Parsed::Part(head) if truncated => (head, bytes.len()),
            // A line that is not whole yet may look invalid, and says nothing.
            _ if !truncated && head::find_end(bytes, 0).is_none() => {
                state.open.give_back(slot);
                return Begun::Part;
            }
            _ => {
                state.open.give_back(slot);
                if !self.confirmed && self.queue.len() == 0 {
                    return Begun::Next(Next::NotOurs);
                }
                state.stats.drop(Drop::InvalidRequest);
                self.lose_requests(link, call.turn, state, sink);
                return Begun::Whole(bytes.len());
            }
        };
        self.longest_request = self.longest_request.max(len as u32);
        let begun = &self.requests.begun;
        let request = &mut open.request;
        request.kind = self.kind;
        request.tgid = begun.tgid;
        request.tid = begun.tid;
        request.conn_id = link.id;
        request.tuple = link.tuple;
        request.start_ktime_ns = begun.ktime_ns;
        open.offset = self.requests.offset;
        open.may_switch = head.may_switch;
        open.to_http2 = head.to_http2;
        open.expects_continue = head.expects_continue;
        open.truncated = truncated;
        open.is_head = head.is_head;
        open.is_connect = head.is_connect;
        let call = if self.kind == SpanKind::Server { call } else { begun };
        state.context.begin(slot, call, link.peer, &mut state.open, &mut state.stats, sink);
        state.stats.requests += 1;
        self.confirmed = true;
        self.progress = true;
        let framing = if truncated { Framing::Unknown } else { head.framing };
        if matches!(framing, Framing::Length(left) if left > LONG_BODY) {
            self.long_body = true;
        }
        self.requests.body = Body::new(framing);
        self.requests.at = At::Body;
        self.reading = Some(slot);
        let turn = call.turn;
        self.queue_request(link, slot, turn, state, sink);
        self.end_request_if_done(state, sink);
        Begun::Whole(len)
    }

    fn take_slot(&mut self, state: &mut State) -> Option<Slot> {
        if self.queue.len() >= OUTSTANDING_MAX {
            state.stats.drop(Drop::TooManyOutstanding);
            return None;
        }
        let slot = state.open.take(OperationKind::Http);
        if slot.is_none() {
            state.stats.drop(Drop::RequestTableFull);
        }
        slot
    }

    /// Queues a request behind those that are not answered yet.
    #[inline]
    fn queue_request(
        &mut self,
        link: &mut Link,
        slot: Slot,
        turn: u32,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        if self.queue.len() > 0 {
            self.meet_older(link, state, sink);
        }
        self.queue.push(slot, &mut state.open);
        // Until one exchange was seen whole, two requests at once may mean that an answer was missed.
        if self.responses.at == At::Lost && self.queue.len() > 1 {
            self.lose_requests(link, turn, state, sink);
        }
    }

    /// A new request came while an older one is open: what was a candidate for its end is the end. On servers the
    /// last bytes of the answer may still be under way, so that time has to tell when its end was not seen.
    fn meet_older(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let Some(front) = self.queue.front() else { return };
        if state.open.get(front).answered {
            self.finish_front(state, sink);
        } else if self.responses.at == At::Body && self.responses.body.is_open() {
            if self.responses.swallowing {
                self.lose_answers(link, self.responses.begun.turn, state, sink);
            } else if self.kind == SpanKind::Client || self.responses.body.framing == Framing::Lost(true) {
                self.end_candidate(state, sink);
            } else {
                let due = self.responses.last_ktime_ns.saturating_add(state.idle_end_ns);
                link.wake_at(due, state);
            }
        } else if self.queue.len() > 1 {
            self.pipelined = self.pipelined.saturating_add(1);
        }
    }

    #[inline]
    fn end_request_if_done(&mut self, state: &mut State, sink: &mut impl Sink) {
        if self.requests.at != At::Body {
            return;
        }
        if self.requests.body.is_done() {
            self.end_request(state, sink);
        } else if let (true, Some(slot)) = (self.requests.body.is_open(), self.reading) {
            // Where it ends will not be known: nothing needs to wait for that.
            state.open.get_mut(slot).asked = true;
            self.finish_if_complete(slot, state, sink);
        }
    }

    /// The request ends here.
    #[inline]
    fn end_request(&mut self, state: &mut State, sink: &mut impl Sink) {
        let size = self.requests.body.size();
        self.requests.reset();
        let Some(slot) = self.reading.take() else { return };
        let open = state.open.get_mut(slot);
        open.asked = true;
        open.request.http_mut().request_body_size = size;
        self.finish_if_complete(slot, state, sink);
    }

    #[inline]
    fn finish_if_complete(&mut self, slot: Slot, state: &mut State, sink: &mut impl Sink) {
        let open = state.open.get(slot);
        if open.answered && open.asked && self.queue.front() == Some(slot) {
            self.finish_front(state, sink);
        }
    }
}
