//! HTTP/2 in clear text, both ends: RFC 9113, with prior knowledge or after an upgrade from HTTP/1.1.
//!
//! In: chunks of both directions. Out: finished requests, gRPC calls among them. Each direction is read frame by frame
//! on its own; streams meet by their number, whichever direction is seen first. Limits: header blocks of 80 KiB,
//! 4,096 open streams on a connection; a pushed answer makes no span, because nobody asked for it; what flows through
//! a CONNECT tunnel is not looked at. Where bytes are missing, reading goes on at a later turn that begins with
//! frames; header fields that refer to what was missed are left out, and the span says so.

mod exchange;
mod field;
mod fields;
mod frame;
mod hpack;
mod huffman;
mod streams;
mod table;

use crate::Sink;
use crate::connection::Link;
use crate::event::{Call, Direction};
use crate::open::Slot;
use crate::protocol::frames::{Frame, Frames, Step};
use crate::protocol::http2::exchange::{Exchange, Exchanges};
use crate::protocol::http2::frame::Header;
use crate::protocol::http2::table::Table;
use crate::protocol::{Next, Parse, Parser, Sample, Verdict};
use crate::request::{ErrorType, SpanKind};
use crate::state::State;
use crate::stats::Drop;
use crate::stream::{Chunk, Front};
use agent_common::capture::{CaptureMode, MODE_STREAM, UNDECIDED_WAKE};

pub(crate) use crate::protocol::http2::fields::Fields;

/// Beginning of [`PREFACE`].
pub(super) const OPENING: [u8; 16] = *b"PRI * HTTP/2.0\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams that may be open on one connection.
const STREAMS_MAX: usize = 4096;
/// How long an answer waits for the record of its request.
const INVERSION_NS: u64 = 100_000_000;

/// An HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    /// Direction that carries requests.
    requests_in: Direction,
    kind: SpanKind,
    /// By [`Direction`].
    sides: [Side; 2],
    exchanges: Exchanges,
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    /// Newest stream whose request was seen.
    last_stream: u32,
    /// Nothing was missed so far.
    whole: bool,
    /// Thread that sent the last request, and whether several threads do.
    caller: Option<u32>,
    shared: bool,
    /// Streams finished only with time: somebody has to look.
    waiting: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    frames: Frames,
    table: Table,
    /// Bytes that are counted for the table.
    reserved: usize,
    /// A header block whose end has not come.
    block: Option<Box<Block>>,
}

/// A header block that several frames carry.
#[derive(Debug)]
struct Block {
    /// Of the first frame.
    header: Header,
    begun: Call,
    bytes: Vec<u8>,
    cut: bool,
}

/// Part one: is it HTTP/2? The client's preface, or settings with which a server may begin; in the middle, frames one
/// of which begins as only requests or answers do.
pub(super) fn detect(sample: &Sample<'_>) -> Verdict {
    if sample.mid_stream {
        return match frame::joins(sample.bytes) {
            Some(true) => Verdict::Yes(sample.direction),
            Some(false) => Verdict::Yes(sample.direction.reverse()),
            None => Verdict::No,
        };
    }
    let len = sample.bytes.len().min(PREFACE.len());
    if sample.bytes[..len] == PREFACE[..len] {
        return if len == PREFACE.len() { Verdict::Yes(sample.direction) } else { Verdict::Maybe };
    }
    match frame::begins_with_settings(sample.bytes) {
        Some(true) => Verdict::Yes(sample.direction.reverse()),
        Some(false) => Verdict::No,
        None => Verdict::Maybe,
    }
}

/// Part two: the parser.
pub(super) fn begin(requests_in: Direction, sample: &Sample<'_>) -> Parser {
    let mut http2 = Http2::new(requests_in);
    if sample.mid_stream {
        http2.whole = false;
        http2.preface_left = 0;
        for side in &mut http2.sides {
            side.table.forget();
        }
        // This direction begins with a frame; the other one has to show that.
        http2.sides[sample.direction.reverse() as usize].frames = Frames::lost(sample.turn);
    }
    Parser::Http2(Box::new(http2))
}

/// The connection was HTTP/1.1 until this request, which is answered as HTTP/2.
pub(super) fn upgrade(requests_in: Direction, slot: Slot, state: &State) -> Parser {
    let mut http2 = Http2::new(requests_in);
    let request = &state.open.get(slot).request;
    let mut exchange = Exchange::new(slot, &Call { ktime_ns: request.start_ktime_ns, ..Call::default() });
    exchange.request.headed = true;
    exchange.request.ended = true;
    if let crate::request::Operation::Http(http) = &request.operation {
        exchange.request.size = http.request_body_size;
    }
    http2.exchanges.insert(1, exchange);
    http2.last_stream = 1;
    Parser::Http2(Box::new(http2))
}

impl Http2 {
    fn new(requests_in: Direction) -> Self {
        Self {
            requests_in,
            kind: if requests_in == Direction::Ingress { SpanKind::Server } else { SpanKind::Client },
            sides: Default::default(),
            exchanges: Exchanges::default(),
            preface_left: PREFACE.len(),
            last_stream: 0,
            whole: true,
            caller: None,
            shared: false,
            waiting: false,
        }
    }

    /// Passes over the preface; false if what is there is something else.
    fn pass_preface(&mut self, chunk: &mut Chunk<'_>) -> bool {
        while let (1.., Front::Bytes(bytes)) = (self.preface_left, chunk.front()) {
            let rest = &PREFACE[PREFACE.len() - self.preface_left..];
            let count = rest.len().min(bytes.len());
            if bytes[..count] != rest[..count] {
                return false;
            }
            self.preface_left -= count;
            chunk.advance(count as u64);
        }
        true
    }

    /// One frame, passed to its end.
    fn on_frame(
        &mut self,
        direction: Direction,
        frame: &Frame<'_>,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let Some(header) = Header::read(&frame.header) else { return };
        let requests = direction == self.requests_in;
        match header.kind {
            frame::DATA => self.on_data(requests, &header, frame, state, sink),
            frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => {
                self.on_block_part(direction, &header, frame, link, state, sink);
            }
            frame::RST_STREAM => self.on_reset(&header, frame, state, sink),
            frame::GOAWAY if !requests => self.on_go_away(frame, state, sink),
            // Settings bound what the encoder of the other end may use; what it does use, it says in its blocks.
            _ => {}
        }
    }

    /// Gathers header blocks.
    fn on_block_part(
        &mut self,
        direction: Direction,
        header: &Header,
        frame: &Frame<'_>,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let side = &mut self.sides[direction as usize];
        let ends = header.flags & frame::END_HEADERS != 0;
        if header.kind == frame::CONTINUATION {
            let Some(block) = side.block.as_mut().filter(|block| block.header.stream == header.stream) else {
                // Its beginning was missed.
                state.stats.drop(Drop::Http2HeaderBlock);
                side.table.forget();
                self.whole = false;
                return;
            };
            block.cut |= frame.cut;
            if block.bytes.len() + frame.payload.len() <= frame::BLOCK_MAX
                && state.reserve(frame.payload.len())
            {
                block.bytes.extend_from_slice(&frame.payload);
            } else {
                block.cut = true;
            }
            if ends && let Some(block) = side.block.take() {
                state.unreserve(block.bytes.len());
                let Block { header, begun, bytes, cut } = *block;
                let whole = Whole { header, begun: &begun, last: &frame.last, cut };
                self.on_block(direction, &whole, &bytes, link, state, sink);
            }
            return;
        }
        if let Some(block) = side.block.take() {
            // It never ended: what it would have added is not known.
            state.unreserve(block.bytes.len());
            state.stats.drop(Drop::Http2HeaderBlock);
            side.table.forget();
            self.whole = false;
        }
        let payload = match header.kind {
            frame::HEADERS => frame::block(header, &frame.payload),
            _ => frame::unpadded(header, &frame.payload).and_then(|(promise, _)| promise.get(4..)),
        };
        let (payload, cut) = match payload {
            Some(payload) => (payload, frame.cut),
            None => (&[][..], true),
        };
        if ends {
            let whole = Whole { header: *header, begun: &frame.begun, last: &frame.last, cut };
            return self.on_block(direction, &whole, payload, link, state, sink);
        }
        let room = state.reserve(payload.len());
        side.block = Some(Box::new(Block {
            header: *header,
            begun: frame.begun,
            bytes: if room { payload.to_vec() } else { Vec::new() },
            cut: cut || !room,
        }));
    }

    /// A header block is here: decoded in order, whatever it belongs to.
    fn on_block(
        &mut self,
        direction: Direction,
        whole: &Whole<'_>,
        block: &[u8],
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let mut fields = std::mem::take(&mut state.fields);
        let side = &mut self.sides[direction as usize];
        if !fields.decode(block, &mut side.table) || whole.cut {
            state.stats.drop(Drop::Http2HeaderBlock);
            side.table.forget();
            self.whole = false;
        }
        let cost = side.table.cost();
        state.unreserve(side.reserved);
        side.reserved = 0;
        if state.reserve(cost) {
            side.reserved = cost;
        } else {
            side.table.forget();
            self.whole = false;
        }
        if whole.header.kind == frame::HEADERS {
            if direction == self.requests_in {
                self.on_request_fields(whole, &fields, link, state, sink);
            } else {
                self.on_answer_fields(whole, &fields, state, sink);
            }
        }
        fields.shrink();
        state.fields = fields;
    }

    /// Frames of one direction were lost.
    fn lose(&mut self, direction: Direction, state: &mut State) {
        let side = &mut self.sides[direction as usize];
        side.table.forget();
        if let Some(block) = side.block.take() {
            state.unreserve(block.bytes.len());
        }
        self.whole = false;
        let requests = direction == self.requests_in;
        let State { open, context, .. } = state;
        for exchange in self.exchanges.values_mut() {
            exchange.half_mut(requests).lose();
            if exchange.is_begun() && requests {
                // Where its end was, nobody knows: nothing needs to wait for it.
                exchange.request.ended = true;
            } else if exchange.is_begun() && exchange.answer.doubtful {
                context.answered(exchange.slot, open);
            }
        }
    }
}

/// A header block and the frames that carried it.
struct Whole<'a> {
    header: Header,
    begun: &'a Call,
    last: &'a Call,
    /// Part of it was not seen.
    cut: bool,
}

impl Parse for Http2 {
    fn on_chunk(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let mut chunk = *chunk;
        let direction = chunk.call.direction;
        let requests = direction == self.requests_in;
        if requests && self.preface_left > 0 && !self.pass_preface(&mut chunk) {
            return Next::NotOurs;
        }
        loop {
            let layout =
                frame::Frames { exchanges: &self.exchanges, requests, last_stream: self.last_stream };
            match self.sides[direction as usize].frames.next(&mut chunk, &layout, state) {
                Step::Frame(frame) => self.on_frame(direction, &frame, link, state, sink),
                Step::Lost(_) => self.lose(direction, state),
                Step::Found => {}
                Step::More => break,
            }
        }
        let copied = link.streams[0].copied.max(link.streams[1].copied);
        if copied >= u64::from(UNDECIDED_WAKE) || !link.from_start {
            link.capture(CaptureMode { mode: MODE_STREAM, ..CaptureMode::default() }, sink);
        }
        if std::mem::take(&mut self.waiting) {
            let wait = if self.kind == SpanKind::Client { INVERSION_NS } else { state.idle_end_ns };
            link.wake_at(chunk.call.ktime_ns.saturating_add(wait), state);
        }
        Next::Stay
    }

    fn on_eof(
        &mut self,
        link: &mut Link,
        direction: Direction,
        ktime_ns: u64,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        if direction != self.requests_in {
            let error = match self.kind {
                SpanKind::Server => ErrorType::Canceled,
                _ => ErrorType::ConnectionClosed,
            };
            self.end_all(link.failure.unwrap_or((error, ktime_ns)), state, sink);
        }
    }

    /// Answers whose request never ended have waited long enough, and so have answers without a request.
    fn on_wake(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let mut next = u64::MAX;
        let mut due = Vec::new();
        for (&stream, exchange) in &self.exchanges {
            let wait = match (exchange.is_begun(), exchange.answer.ended) {
                (false, _) => INVERSION_NS,
                (true, true) => state.idle_end_ns,
                (true, false) => continue,
            };
            let at = exchange.last_ktime_ns.saturating_add(wait);
            if at <= state.now_ktime_ns { due.push(stream) } else { next = next.min(at) }
        }
        due.sort_unstable();
        for stream in due {
            self.close(stream, None, state, sink);
        }
        if next < u64::MAX {
            link.wake_at(next, state);
        }
    }

    fn on_closing(&mut self, state: &mut State) {
        let State { open, context, .. } = state;
        for exchange in self.exchanges.values().filter(|exchange| exchange.is_begun()) {
            context.answered(exchange.slot, open);
        }
    }

    fn on_closed(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let closed = link.closed_ktime_ns.unwrap_or(state.now_ktime_ns);
        self.end_all(link.failure.unwrap_or((ErrorType::Canceled, closed)), state, sink);
    }

    fn finish(&mut self, state: &mut State, sink: &mut impl Sink) {
        for stream in self.streams() {
            if self.exchanges.get(&stream).is_some_and(|exchange| exchange.answer.ended) {
                self.close(stream, None, state, sink);
            }
        }
        self.abandon(Drop::Http2OpenAtEnd, state);
    }

    fn abandon(&mut self, drop: Drop, state: &mut State) {
        for (_, exchange) in self.exchanges.drain() {
            if exchange.is_begun() {
                state.abandon(exchange.slot, drop);
            } else {
                state.stats.drop(Drop::Http2AnswerWithoutRequest);
            }
        }
    }

    fn release(&mut self, state: &mut State) {
        self.abandon(Drop::Http2Gap, state);
        for side in &mut self.sides {
            side.frames.release(state);
            state.unreserve(side.reserved);
            side.reserved = 0;
            if let Some(block) = side.block.take() {
                state.unreserve(block.bytes.len());
            }
        }
    }
}
