//! DNS over TCP, both ends: messages with two bytes of length in front (RFC 1035 4.2.2, RFC 7766).
//!
//! In: chunks of both directions. Out: queries and answers. Answers may come in any order.

use crate::Sink;
use crate::connection::Link;
use crate::event::Direction;
use crate::protocol::dns::message::{Message, is_common_type};
use crate::protocol::dns::queries::{self, Place};
use crate::protocol::frames::{Frames, Layout, Shape, Step};
use crate::protocol::{Next, Parse, Parser, Sample, Verdict};
use crate::request::ErrorType;
use crate::state::State;
use crate::stats::Drop;
use crate::stream::Chunk;

/// Bytes of a message that are read.
const KEPT: usize = 4096;
/// Header, the root's name, type and class.
const SHORTEST: usize = 17;
/// Messages in a row that are none, after which it was no DNS.
const STRANGE_MAX: u32 = 4;

/// A DNS connection.
#[derive(Debug, Default)]
pub(crate) struct DnsTcp {
    /// By [`Direction`].
    frames: [Frames; 2],
    strange: u32,
    confirmed: bool,
}

struct TwoBytes;

impl Layout for TwoBytes {
    const HEADER_LEN: usize = 2;

    fn shape(&self, header: &[u8]) -> Option<Shape> {
        let len = u16::from_be_bytes([*header.first()?, *header.get(1)?]);
        (usize::from(len) >= SHORTEST).then_some(Shape { len: u64::from(len), keep: KEPT })
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        whole(bytes).is_some()
    }
}

/// The message that bytes begin with.
fn whole(bytes: &[u8]) -> Option<Message<'_>> {
    let (&[high, low], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let message = Message::read(rest.get(..len)?)?;
    message.is_whole(len as u64).then_some(message)
}

/// Part one: is it DNS? Bias: only a whole message is.
pub(in crate::protocol) fn detect(sample: &Sample<'_>) -> Verdict {
    let bytes = sample.bytes;
    if let Some(message) = whole(bytes) {
        if !is_common_type(&message) {
            return Verdict::No;
        }
        let direction = if message.is_response { sample.direction.reverse() } else { sample.direction };
        return Verdict::Yes(direction);
    }
    if sample.mid_stream {
        return Verdict::No;
    }
    // Length, id, flags (opcode QUERY, no reserved bit), one question.
    let len = bytes.first_chunk().map(|&two| u16::from_be_bytes(two));
    let fits = [
        len.is_none_or(|len| usize::from(len) >= SHORTEST && bytes.len() < usize::from(len) + 2),
        bytes.get(4).is_none_or(|flags| flags & 0x78 == 0),
        bytes.get(5).is_none_or(|flags| flags & 0x40 == 0),
        bytes.get(6).is_none_or(|&high| high == 0),
        bytes.get(7).is_none_or(|&low| low == 1),
    ];
    if fits.iter().all(|&fits| fits) { Verdict::Maybe } else { Verdict::No }
}

/// Part two: the parser.
pub(in crate::protocol) fn begin(_requests_in: Direction, sample: &Sample<'_>) -> Parser {
    let mut dns = DnsTcp::default();
    if sample.mid_stream {
        dns.frames[sample.direction.reverse() as usize] = Frames::lost(sample.turn);
    }
    Parser::Dns(Box::new(dns))
}

impl Parse for DnsTcp {
    fn on_chunk(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let mut chunk = *chunk;
        loop {
            let frame = match self.frames[chunk.call.direction as usize].next(&mut chunk, &TwoBytes, state) {
                Step::Frame(frame) => frame,
                Step::Found => continue,
                Step::More => return Next::Stay,
                Step::Lost(_) if !self.confirmed => return Next::NotOurs,
                Step::Lost(_) => return Next::Stay,
            };
            let Some(message) = Message::read(&frame.payload) else {
                state.stats.drop(Drop::DnsInvalid);
                self.strange += 1;
                if self.strange > STRANGE_MAX {
                    return if self.confirmed { Next::Leave } else { Next::NotOurs };
                }
                continue;
            };
            self.confirmed = true;
            self.strange = 0;
            let call = if message.is_response { &frame.last } else { &frame.begun };
            let place = Place { call, tuple: &link.tuple, peer: link.peer, offset: frame.offset };
            queries::on_message(&message, &place, state, sink);
        }
    }

    fn on_eof(
        &mut self,
        link: &mut Link,
        direction: Direction,
        ktime_ns: u64,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        // A server's clients may close their half and still be answered.
        if direction == Direction::Ingress && link.role != Some(crate::request::SpanKind::Server) {
            let error = link.failure.map_or(ErrorType::ConnectionClosed, |(error, _)| error);
            queries::on_closed(link.id, Some(error), ktime_ns, state, sink);
        }
    }

    fn on_closed(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let closed = link.closed_ktime_ns.unwrap_or(state.now_ktime_ns);
        let (error, ktime_ns) = link.failure.unwrap_or((ErrorType::Canceled, closed));
        queries::on_closed(link.id, Some(error), ktime_ns, state, sink);
    }

    fn finish(&mut self, _state: &mut State, _sink: &mut impl Sink) {}

    /// Its queries are those of the process; they time out.
    fn abandon(&mut self, _drop: Drop, _state: &mut State) {}

    fn release(&mut self, state: &mut State) {
        self.frames.iter_mut().for_each(|frames| frames.release(state));
    }
}
