//! The direction that carries answers.
//!
//! In: its chunks. Out: the oldest open request is answered. An answer cannot be read before its request is known:
//! the method decides where it ends.

use crate::Sink;
use crate::connection::Link;
use crate::open::Slot;
use crate::protocol::Next;
use crate::protocol::http1::body::{Body, Framing};
use crate::protocol::http1::head::{self, Parsed};
use crate::protocol::http1::reader::{At, Found};
use crate::protocol::http1::{Http1, LONG_BODY};
use crate::request::{ErrorType, SpanKind};
use crate::state::State;
use crate::stats::Drop;
use crate::stream::{Chunk, Front};

impl Http1 {
    /// Reads answers; `Some` if the connection is to be left.
    #[inline]
    pub(super) fn on_response_bytes(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Option<Next> {
        if !self.can_read_response(link, chunk, state, sink) {
            return None;
        }
        let mut chunk = *chunk;
        let call = chunk.call;
        let last_bytes = chunk.last_bytes();
        loop {
            match (self.responses.at, chunk.front()) {
                (_, Front::Empty) | (At::Lost, _) => break,
                (At::Start, front) => {
                    if let Front::Bytes(bytes) = front {
                        let skipped = head::line_ends(bytes);
                        if skipped > 0 {
                            chunk.advance(skipped as u64);
                            continue;
                        }
                    }
                    if self.answering(state).is_none() {
                        self.no_request(link, &chunk, state, sink);
                        break;
                    }
                    self.responses.begin(&call, chunk.offset);
                    self.responses.last_ktime_ns = call.ktime_ns;
                }
                (At::Head, Front::Bytes(bytes)) => {
                    self.responses.last_ktime_ns = call.ktime_ns;
                    if !self.responses.is_gathering()
                        && let Some(len) = self.begin_response(link, bytes, false, call.turn, state, sink)
                    {
                        chunk.advance(len as u64);
                    } else {
                        match self.responses.gather(bytes, state) {
                            Found::More => chunk.advance(bytes.len() as u64),
                            Found::End(end) => {
                                chunk.advance(end as u64);
                                let gathered = self.responses.take_gathered(state);
                                self.begin_response(link, &gathered, false, call.turn, state, sink);
                            }
                            Found::TooLong => self.truncate_response(link, call.turn, state, sink),
                        }
                    }
                }
                (At::Head, Front::Hole(_)) => self.truncate_response(link, call.turn, state, sink),
                (At::Body, front) => {
                    self.responses.last_ktime_ns = call.ktime_ns;
                    let count = match front {
                        Front::Bytes(bytes) => self.responses.body.take(bytes) as u64,
                        Front::Hole(hole) => self.responses.body.skip(hole),
                        Front::Empty => break,
                    };
                    chunk.advance(count);
                    self.end_response_if_done(state, sink);
                    if self.swallows_answers(front) {
                        self.lose_answers(link, call.turn, state, sink);
                    }
                }
            }
            if self.switched {
                return Some(Next::Leave);
            }
            if let Some(request) = self.to_http2.take() {
                return Some(Next::Http2 { request, requests_in: self.requests_in, offset: chunk.offset });
            }
        }
        self.responses.body.look_at_end(last_bytes);
        if let Some(due) = self.candidate_due(state) {
            link.wake_at(due, state);
        }
        None
    }

    /// Deals with what comes before the chunk: lost bytes, and an answer whose end nobody knows.
    #[inline]
    fn can_read_response(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> bool {
        let turn = chunk.call.turn;
        match self.responses.at {
            At::Lost => {
                if turn <= self.responses.lost_turn {
                    return false;
                }
                let whole = chunk.gap == 0 && head::status_line(chunk.bytes()) == Some(true);
                if !whole || self.answering(state).is_none() {
                    self.lose_answers(link, turn, state, sink);
                    return false;
                }
                self.responses.reset();
                true
            }
            At::Start | At::Head if chunk.gap > 0 => {
                state.stats.drop(Drop::Gap);
                self.lose_answers(link, turn, state, sink);
                false
            }
            At::Body if chunk.gap > 0 => {
                let skipped = self.responses.body.skip(chunk.gap);
                if !self.responses.body.is_done() {
                    let swallowed = self.responses.body.is_open() && self.queue.len() > 1;
                    if swallowed {
                        self.lose_answers(link, turn, state, sink);
                    }
                    return !swallowed;
                }
                // It ended in the gap, nobody knows when.
                self.responses.reset();
                if skipped < chunk.gap {
                    self.lose_answers(link, turn, state, sink);
                    return false;
                }
                if let Some(slot) = self.queue.pop(&state.open) {
                    if self.reading == Some(slot) {
                        self.reading = None;
                    }
                    state.abandon(slot, Drop::Gap);
                }
                true
            }
            At::Body if self.responses.body.is_open() && self.queue.len() > 1 => {
                // Only the first chunk since the next request came is certain to begin or to end at an answer's end.
                let first = !self.responses.swallowing;
                self.responses.swallowing = true;
                if first
                    && chunk.bytes().starts_with(b"HTTP/1.")
                    && head::status_line(chunk.bytes()) == Some(true)
                {
                    self.end_candidate(state, sink);
                } else if first {
                    self.responses.body.look_at_end(chunk.last_bytes());
                    if self.responses.body.framing == Framing::Lost(true) {
                        self.responses.last_ktime_ns = chunk.call.ktime_ns;
                        self.end_candidate(state, sink);
                        return false;
                    }
                }
                true
            }
            _ => true,
        }
    }

    /// Whether a hole may hold the beginning of the next answer.
    fn swallows_answers(&self, front: Front<'_>) -> bool {
        matches!(front, Front::Hole(_))
            && self.responses.at == At::Body
            && self.responses.body.is_open()
            && self.queue.len() > 1
    }

    /// The request that the next answer belongs to.
    #[inline]
    fn answering(&self, state: &State) -> Option<Slot> {
        self.queue.front().filter(|&slot| !state.open.get(slot).answered)
    }

    /// An answer to nothing: a client's request may still come, unless requests may have been passed over; a
    /// server's request cannot.
    fn no_request(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) {
        let passed_over = match self.requests.at {
            At::Lost => true,
            At::Body => self.requests.body.is_open(),
            At::Start | At::Head => false,
        };
        if self.kind == SpanKind::Client && !passed_over {
            self.hold(link, chunk, state, sink);
        } else {
            state.stats.drop(Drop::AnswerWithoutRequest);
            self.lose_answers(link, chunk.call.turn, state, sink);
        }
    }

    fn truncate_response(&mut self, link: &mut Link, turn: u32, state: &mut State, sink: &mut impl Sink) {
        state.stats.drop(Drop::HeaderTruncated);
        self.wide = true;
        if self.queue.len() > 1 {
            // The next answer may begin in what was cut off.
            self.lose_answers(link, turn, state, sink);
            return;
        }
        let gathered = self.responses.take_gathered(state);
        self.begin_response(link, &gathered, true, turn, state, sink);
    }

    /// Begins the answer that `bytes` begin with, if its header block is whole, or all that there is; returns the
    /// block's length.
    #[inline]
    fn begin_response(
        &mut self,
        link: &mut Link,
        bytes: &[u8],
        truncated: bool,
        turn: u32,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Option<usize> {
        let slot = self.answering(state)?;
        let (head, len) = match head::parse_response(bytes) {
            Parsed::Whole(head, len) => (head, len),
            Parsed::Part(head) if truncated => (head, bytes.len()),
            // A line that is not whole yet may look invalid, and says nothing.
            _ if !truncated && head::find_end(bytes, 0).is_none() => return None,
            _ => {
                if !truncated {
                    self.refuse_response(slot, state, sink);
                }
                self.lose_answers(link, turn, state, sink);
                return Some(bytes.len());
            }
        };
        self.longest_answer = self.longest_answer.max(len as u32);
        let open = state.open.get_mut(slot);
        let status = head.status_code;
        if (100..200).contains(&status) && status != 101 {
            self.responses.reset();
            return Some(len);
        }
        if status == 101 && open.to_http2 && open.asked {
            // The answer itself comes as HTTP/2.
            self.to_http2 = self.queue.pop(&state.open);
            self.responses.reset();
            return Some(len);
        }
        open.request.http_mut().status_code = Some(status);
        let switches = status == 101 || open.is_connect && (200..300).contains(&status);
        let framing = if switches || open.is_head || matches!(status, 204 | 304) {
            Framing::Length(0)
        } else if truncated {
            Framing::Unknown
        } else {
            head.framing
        };
        if matches!(framing, Framing::Length(left) if left > LONG_BODY) {
            self.long_body = true;
        }
        self.responses.body = Body::new(framing);
        self.responses.at = At::Body;
        if switches {
            open.asked = true;
            self.switched = true;
        }
        self.end_response_if_done(state, sink);
        Some(len)
    }

    /// The answer is not HTTP/1: the request failed with that.
    fn refuse_response(&mut self, slot: Slot, state: &mut State, sink: &mut impl Sink) {
        let open = state.open.get_mut(slot);
        open.request.error_type = Some(ErrorType::InvalidResponse);
        open.request.end_ktime_ns = self.responses.last_ktime_ns;
        self.finish_front(state, sink);
    }

    #[inline]
    fn end_response_if_done(&mut self, state: &mut State, sink: &mut impl Sink) {
        if !self.responses.body.is_done() {
            return;
        }
        self.responses.reset();
        let Some(slot) = self.queue.front() else { return };
        self.note_answer_end(slot, state);
        self.progress = true;
        if state.open.get(slot).asked {
            self.finish_front(state, sink);
        }
    }

    /// The answer ended with the last byte that was seen.
    pub(super) fn note_answer_end(&mut self, slot: Slot, state: &mut State) {
        let open = state.open.get_mut(slot);
        open.answered = true;
        open.request.end_ktime_ns = self.responses.last_ktime_ns;
        open.request.http_mut().response_body_size = self.responses.body.size();
        state.context.answered(slot, &mut state.open);
    }
}
