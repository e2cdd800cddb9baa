//! Which protocol a connection speaks, and its parser.
//!
//! In: chunks of both directions of one connection. Out: what the parser makes of them. A new protocol is a file
//! beside this one with three parts (detect, parse, fill the request), a row in [`PROTOCOLS`], a [`Parser`]
//! variant and its arm in `parse!`. Bias of detection: a connection that might still be ours is held; once its
//! first bytes cannot be ours, it is let go for good. Bytes decide, not ports.

mod calls;
pub(crate) mod dns;
mod frames;
mod grpc;
mod http1;
pub(crate) mod http2;
mod mysql;
mod postgres;
mod prepared;
mod redis;
mod tls;

use agent_common::capture::{CaptureMode, MODE_NONE};

use crate::Sink;
use crate::connection::Link;
use crate::event::Direction;
use crate::open::Slot;
use crate::protocol::dns::DnsTcp;
use crate::protocol::http1::Http1;
use crate::protocol::http2::Http2;
use crate::protocol::mysql::MySql;
use crate::protocol::postgres::Postgres;
use crate::protocol::redis::Redis;
use crate::state::State;
use crate::stats::{Drop, Kind};
use crate::stream::Chunk;

/// One protocol: how it is recognised and what happens then.
struct Protocol {
    kind: Kind,
    detect: fn(&Sample<'_>) -> Verdict,
    /// None: it is recognised and not parsed.
    begin: Option<fn(Direction, &Sample<'_>) -> Parser>,
}

/// In the order in which they are tried.
const PROTOCOLS: &[Protocol] = &[
    Protocol { kind: Kind::Http1, detect: http1::detect, begin: Some(http1::begin) },
    Protocol { kind: Kind::Tls, detect: tls::detect, begin: None },
    Protocol { kind: Kind::Http2, detect: http2::detect, begin: Some(http2::begin) },
    Protocol { kind: Kind::MySql, detect: mysql::detect, begin: Some(mysql::begin) },
    Protocol { kind: Kind::PostgreSql, detect: postgres::detect, begin: Some(postgres::begin) },
    Protocol { kind: Kind::Redis, detect: redis::detect::detect, begin: Some(redis::begin) },
    Protocol { kind: Kind::Dns, detect: dns::detect, begin: Some(dns::begin) },
];

/// First bytes of connections on which every byte may matter from the start.
pub(crate) const OPENINGS: &[[u8; 16]] = &[http2::OPENING];

/// Bytes that are held at most until the protocol is known.
const OPENING_MAX: usize = 96 * 1024;
/// Turns after which a connection that was joined in the middle is let go.
const MID_STREAM_TURNS: u32 = 64;

/// First bytes of a direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) direction: Direction,
    /// The turn that they belong to.
    pub(crate) turn: u32,
    /// The connection was joined in the middle: bytes may be anything, and only what is whole counts.
    pub(crate) mid_stream: bool,
}

/// What a protocol says of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    No,
    /// It may be; more bytes will tell.
    Maybe,
    /// It is, and this direction carries the requests.
    Yes(Direction),
}

/// What a parser wants after a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stay,
    /// The rest of the connection is none of its business.
    Leave,
    /// It was another protocol after all.
    NotOurs,
    /// The connection goes on as HTTP/2 from this stream offset of the answers on, which begin with that of this request.
    Http2 {
        request: Slot,
        requests_in: Direction,
        offset: u64,
    },
}

/// The parser of a connection.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all connections are HTTP/1: a box would be an allocation for each"
)]
pub(crate) enum Parser {
    /// Not known yet.
    Opening(Opening),
    /// HTTP/1.0 and 1.1.
    Http1(Http1),
    /// HTTP/2 in clear text.
    Http2(Box<Http2>),
    /// Redis and its kin.
    Redis(Box<Redis>),
    /// DNS over TCP.
    Dns(Box<DnsTcp>),
    /// PostgreSQL.
    Postgres(Box<Postgres>),
    /// MySQL and MariaDB.
    MySql(Box<MySql>),
    /// Nothing to parse.
    Ignored,
}

/// What the parser of every protocol offers; who has nothing to do leaves a method as it is.
pub(crate) trait Parse {
    /// Takes the next chunk of one direction.
    fn on_chunk(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next;

    /// One direction ended: no more of it will come.
    fn on_eof(
        &mut self,
        _link: &mut Link,
        _direction: Direction,
        _ktime_ns: u64,
        _state: &mut State,
        _sink: &mut impl Sink,
    ) {
    }

    /// The time came for which the connection asked.
    fn on_wake(&mut self, _link: &mut Link, _state: &mut State, _sink: &mut impl Sink) {}

    /// The connection is closed, although records may still be under way: its requests cause nothing any more.
    fn on_closing(&mut self, _state: &mut State) {}

    /// The connection is closed and all its records are here.
    fn on_closed(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink);

    /// The run ends: what is certain leaves, the rest is counted.
    fn finish(&mut self, state: &mut State, sink: &mut impl Sink);

    /// Drops all open requests.
    fn abandon(&mut self, drop: Drop, state: &mut State);

    /// Gives back all that is held: open requests and buffered bytes.
    fn release(&mut self, state: &mut State);
}

/// Calls the parser of whichever protocol it is, if any.
macro_rules! parse {
    ($parser:expr, $each:ident => $call:expr) => {
        match $parser {
            Parser::Http1($each) => $call,
            Parser::Http2($each) => $call,
            Parser::Redis($each) => $call,
            Parser::Dns($each) => $call,
            Parser::Postgres($each) => $call,
            Parser::MySql($each) => $call,
            Parser::Opening(_) | Parser::Ignored => {}
        }
    };
}

/// A connection whose protocol is not known yet.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    mid_stream: bool,
    tried_turn: u32,
    tries: u32,
}

impl Default for Parser {
    fn default() -> Self {
        Self::Opening(Opening::default())
    }
}

impl Parser {
    /// Takes the next chunk of one direction.
    #[inline]
    pub(crate) fn on_chunk(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        if let Self::Opening(_) = self {
            return self.open(link, chunk, state, sink);
        }
        let mut next = Next::Stay;
        parse!(self, parser => next = parser.on_chunk(link, chunk, state, sink));
        match next {
            Next::Http2 { request, requests_in, offset } => {
                let parser = http2::upgrade(requests_in, request, state);
                // Of a chunk of requests, what was not read is held, and so are answers that waited for it.
                let answers = chunk.call.direction != requests_in;
                let read = if answers { offset.saturating_sub(chunk.offset) } else { chunk.len };
                self.upgrade(parser, read, link, chunk, state, sink);
            }
            _ => self.follow(next, link, state, sink),
        }
    }

    /// The connection goes on as another protocol, behind so many bytes of this chunk.
    fn upgrade(
        &mut self,
        parser: Self,
        read: u64,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        self.release(state);
        *self = parser;
        link.set_kind(Kind::Http2, &mut state.stats);
        let held = link.release_held(state);
        let mut rest = *chunk;
        rest.advance(read);
        self.on_chunk(link, &rest, state, sink);
        for held in held.iter().flat_map(|held| held.chunks()) {
            self.on_chunk(link, &held, state, sink);
        }
    }

    /// One direction ended.
    pub(crate) fn on_eof(
        &mut self,
        link: &mut Link,
        direction: Direction,
        ktime_ns: u64,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        parse!(self, parser => parser.on_eof(link, direction, ktime_ns, state, sink));
    }

    /// The time came for which the connection asked.
    pub(crate) fn on_wake(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        parse!(self, parser => parser.on_wake(link, state, sink));
    }

    /// The connection is closed, although records may still be under way.
    pub(crate) fn on_closing(&mut self, state: &mut State) {
        parse!(self, parser => parser.on_closing(state));
    }

    /// The connection is closed and nothing more will come.
    pub(crate) fn on_closed(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        parse!(self, parser => parser.on_closed(link, state, sink));
    }

    /// The run ends.
    pub(crate) fn finish(&mut self, state: &mut State, sink: &mut impl Sink) {
        parse!(self, parser => parser.finish(state, sink));
    }

    /// The connection is forgotten, its requests with it.
    pub(crate) fn abandon(&mut self, state: &mut State) {
        parse!(self, parser => parser.abandon(Drop::ConnectionEvicted, state));
    }

    /// Gives back what the parser still holds.
    pub(crate) fn release(&mut self, state: &mut State) {
        parse!(self, parser => parser.release(state));
    }

    fn follow(&mut self, next: Next, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        match next {
            Next::Stay | Next::Http2 { .. } => return,
            Next::Leave => {}
            Next::NotOurs => link.set_kind(Kind::Other, &mut state.stats),
        }
        self.ignore(link, state, sink);
    }

    /// From now on, the connection costs nothing.
    fn ignore(&mut self, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        self.release(state);
        link.release_held(state);
        *self = Self::Ignored;
        link.capture(CaptureMode { mode: MODE_NONE, ..CaptureMode::default() }, sink);
    }

    fn open(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) {
        let Self::Opening(opening) = self else { return };
        let gap = chunk.gap > 0 || chunk.bytes().is_empty();
        if !opening.mid_stream && (!link.from_start || gap) {
            opening.mid_stream = true;
            link.release_held(state);
            link.set_kind(Kind::MidStream, &mut state.stats);
        }
        if opening.mid_stream {
            self.join(link, chunk, state, sink);
        } else {
            self.decide(link, chunk, state, sink);
        }
    }

    /// A connection seen from its start: its first bytes decide, once there are enough of them.
    fn decide(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) {
        let direction = chunk.call.direction;
        let mut joined = Vec::new();
        let mut bytes = chunk.bytes();
        if let Some(held) = link.held.as_ref().filter(|held| held.has(direction)) {
            held.opening(direction, &mut joined);
            joined.extend_from_slice(bytes);
            bytes = &joined;
        }
        let sample = Sample { bytes, direction, turn: chunk.call.turn, mid_stream: false };
        match judge(&sample) {
            Some((protocol, Verdict::Yes(requests))) => self.begin(protocol, requests, &sample, link, state),
            Some(_) => {
                if !link.hold(chunk, OPENING_MAX, state) {
                    state.stats.drop(Drop::OpeningTooLong);
                    link.set_kind(Kind::Other, &mut state.stats);
                    self.ignore(link, state, sink);
                }
                return;
            }
            None => {
                link.set_kind(Kind::Other, &mut state.stats);
                *self = Self::Ignored;
            }
        }
        if matches!(self, Self::Ignored) {
            self.ignore(link, state, sink);
            return;
        }
        if let Some(held) = link.release_held(state) {
            for held in held.chunks() {
                self.on_chunk(link, &held, state, sink);
            }
        }
        self.on_chunk(link, chunk, state, sink);
    }

    /// A connection joined in the middle: only a turn that begins with a whole message tells.
    fn join(&mut self, link: &mut Link, chunk: &Chunk<'_>, state: &mut State, sink: &mut impl Sink) {
        let Self::Opening(opening) = self else { return };
        let turn = chunk.call.turn;
        if turn <= opening.tried_turn {
            return;
        }
        opening.tried_turn = turn;
        opening.tries += 1;
        let too_often = opening.tries > MID_STREAM_TURNS;
        let sample = Sample { bytes: chunk.bytes(), direction: chunk.call.direction, turn, mid_stream: true };
        match judge(&sample) {
            Some((protocol, Verdict::Yes(requests))) if chunk.gap == 0 => {
                self.begin(protocol, requests, &sample, link, state);
                match self {
                    Self::Ignored => self.ignore(link, state, sink),
                    _ => self.on_chunk(link, chunk, state, sink),
                }
            }
            _ => {
                state.stats.drop(Drop::MidStream);
                if too_often {
                    link.set_kind(Kind::Other, &mut state.stats);
                    self.ignore(link, state, sink);
                }
            }
        }
    }

    fn begin(
        &mut self,
        protocol: &Protocol,
        requests: Direction,
        sample: &Sample<'_>,
        link: &mut Link,
        state: &mut State,
    ) {
        link.set_kind(protocol.kind, &mut state.stats);
        *self = protocol.begin.map_or(Self::Ignored, |begin| begin(requests, sample));
    }
}

/// The first protocol that is sure, else one that may be.
fn judge(sample: &Sample<'_>) -> Option<(&'static Protocol, Verdict)> {
    let mut maybe = None;
    for protocol in PROTOCOLS {
        match (protocol.detect)(sample) {
            Verdict::No => {}
            Verdict::Maybe => maybe = maybe.or(Some((protocol, Verdict::Maybe))),
            yes @ Verdict::Yes(_) => return Some((protocol, yes)),
        }
    }
    maybe
}
