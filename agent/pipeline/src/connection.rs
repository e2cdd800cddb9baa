//! Connections: who talks to whom, where each direction stands, and what the bytes turned out to be.
//!
//! In: events of one connection. Out: chunks for its parser. The table is bounded: when it is full, the connection
//! that was idle longest among a few is forgotten, and counted. The two ends of one connection, when both are
//! seen, know each other.

use agent_common::capture::{CaptureMode, MODE_NONE};
use agent_common::conn::{ConnTuple, SockAddr};
use agent_common::event::{FLAG_ACCEPTED, FLAG_CONNECTED, FLAG_FROM_START};
use rustc_hash::FxHashMap;

use crate::Sink;
use crate::event::{Call, Direction, Opened};
use crate::protocol::Parser;
use crate::request::{ErrorType, SpanKind};
use crate::state::State;
use crate::stats::{Drop, Kind, Stats};
use crate::stream::{Held, Stream};

/// How many connections are compared to find one to forget.
const EVICTION_SAMPLE: usize = 32;
/// The kernel's `AF_INET` and `AF_INET6`.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// What is known of a connection, whatever it speaks.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) tuple: ConnTuple,
    /// Connection of the other end, if it is seen too.
    pub(crate) peer: Option<u64>,
    /// Nothing had moved before the first record.
    pub(crate) from_start: bool,
    /// Which end the process is, if the kernel saw it accept or connect.
    pub(crate) role: Option<SpanKind>,
    /// By [`Direction`].
    pub(crate) streams: [Stream; 2],
    /// Chunks that cannot be understood yet.
    pub(crate) held: Option<Box<Held>>,
    /// Why and when the connection broke or its peer ended it, whichever was first.
    pub(crate) failure: Option<(ErrorType, u64)>,
    /// It did not end in order: a body that its end delimits may not be whole.
    pub(crate) broken: bool,
    /// When the last process of this host let go of it.
    pub(crate) closed_ktime_ns: Option<u64>,
    /// The process that moved the last bytes.
    pub(crate) tgid: u32,
    sock: u64,
    kind: Kind,
    kind_tgid: u32,
    last_turn: u32,
    last_ktime_ns: u64,
    wake_ktime_ns: Option<u64>,
    captured: Option<CaptureMode>,
}

/// A connection and its parser.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) parser: Parser,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections {
    by_id: FxHashMap<u64, u32>,
    slots: Vec<Connection>,
    free: Vec<u32>,
    by_ends: FxHashMap<Ends, u64>,
    max: usize,
    hand: usize,
}

/// Both ends in a form that is the same wherever they are seen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    local: ([u8; 16], u16),
    peer: ([u8; 16], u16),
    /// Of loopback addresses only: others mean the same everywhere on a host.
    netns: u32,
}

impl Link {
    pub(crate) fn stream(&mut self, direction: Direction) -> &mut Stream {
        &mut self.streams[direction as usize]
    }

    /// Notes which call moved bytes.
    #[inline]
    pub(crate) fn observe(&mut self, call: &Call, stats: &mut Stats) {
        self.last_ktime_ns = call.ktime_ns;
        self.tgid = call.tgid;
        if call.turn > self.last_turn {
            stats.turns += 1;
            let missed = u64::from(call.turn - self.last_turn - 1);
            if missed > 0 && (self.last_turn > 0 || self.from_start) {
                stats.drop_many(Drop::LostTurns, missed);
            }
            self.last_turn = call.turn;
        }
    }

    /// Takes what a ConnOpened says; it may come again, and late.
    fn open(&mut self, opened: &Opened) {
        self.sock = opened.sock;
        self.tuple = opened.tuple;
        self.last_ktime_ns = self.last_ktime_ns.max(opened.ktime_ns);
        if self.last_turn == 0 {
            self.from_start = opened.flags & FLAG_FROM_START != 0;
            self.tgid = opened.tgid;
        }
        self.role = match opened.flags {
            flags if flags & FLAG_ACCEPTED != 0 => Some(SpanKind::Server),
            flags if flags & FLAG_CONNECTED != 0 => Some(SpanKind::Client),
            _ => None,
        };
        for (stream, offset) in self.streams.iter_mut().zip(opened.offsets) {
            stream.begin_at(offset);
        }
    }

    /// The kernel counted so many turns in all.
    pub(crate) fn close_books(&mut self, turns: u32, stats: &mut Stats) {
        let unseen = u64::from(turns.saturating_sub(self.last_turn));
        if self.captured.is_some_and(|mode| mode.mode == MODE_NONE) {
            stats.turns_not_captured += unseen;
        } else if self.last_turn > 0 || self.from_start {
            stats.drop_many(Drop::LostTurns, unseen);
        }
        self.last_turn = self.last_turn.max(turns);
    }

    /// Says what the connection speaks.
    pub(crate) fn set_kind(&mut self, kind: Kind, stats: &mut Stats) {
        if self.kind != kind {
            stats.recount(self.kind_tgid, Some(self.kind), Some(kind));
            self.kind = kind;
        }
    }

    /// The first reason counts: what comes after follows from it.
    pub(crate) fn fail(&mut self, error: ErrorType, ktime_ns: u64) {
        self.failure.get_or_insert((error, ktime_ns));
    }

    /// As [`Self::fail`], and what was under way may not be whole.
    pub(crate) fn break_with(&mut self, error: ErrorType, ktime_ns: u64) {
        self.broken = true;
        self.fail(error, ktime_ns);
    }

    /// Asks the kernel side to copy this much, unless it does already.
    pub(crate) fn capture(&mut self, mode: CaptureMode, sink: &mut impl Sink) {
        if self.captured != Some(mode) && self.sock != 0 {
            self.captured = Some(mode);
            sink.set_capture(self.id, self.sock, mode);
        }
    }

    /// What the kernel side was asked to copy.
    pub(crate) fn captured(&self) -> Option<CaptureMode> {
        self.captured
    }

    /// Asks to be looked at by then.
    pub(crate) fn wake_at(&mut self, ktime_ns: u64, state: &mut State) {
        if self.wake_ktime_ns.is_none_or(|wake| ktime_ns < wake) {
            self.wake_ktime_ns = Some(ktime_ns);
            state.wake_at(ktime_ns, self.id);
        }
    }

    /// Whether this is the look that was asked for last.
    pub(crate) fn is_awake(&mut self, ktime_ns: u64) -> bool {
        let awake = self.wake_ktime_ns == Some(ktime_ns);
        if awake {
            self.wake_ktime_ns = None;
        }
        awake
    }

    /// Keeps a chunk for later; false if it is too much.
    pub(crate) fn hold(&mut self, chunk: &crate::stream::Chunk<'_>, max: usize, state: &mut State) -> bool {
        let cost = Held::cost_of(chunk);
        let held = self.held.get_or_insert_default();
        if held.cost() + cost > max || !state.reserve(cost) {
            return false;
        }
        held.push(chunk);
        true
    }

    /// Takes what was kept.
    pub(crate) fn release_held(&mut self, state: &mut State) -> Option<Box<Held>> {
        let held = self.held.take()?;
        state.unreserve(held.cost());
        Some(held)
    }
}

impl Connections {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            by_id: FxHashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            by_ends: FxHashMap::default(),
            max: max.clamp(1, u32::MAX as usize),
            hand: 0,
        }
    }

    #[inline]
    pub(crate) fn get(&mut self, conn_id: u64) -> Option<&mut Connection> {
        let index = *self.by_id.get(&conn_id)?;
        Some(&mut self.slots[index as usize])
    }

    /// The connection of a call; one whose opening was lost begins here.
    #[inline]
    pub(crate) fn touch(&mut self, call: &Call, state: &mut State) -> &mut Connection {
        let index = match self.by_id.get(&call.conn_id) {
            Some(&index) => index,
            None => {
                state.stats.drop(Drop::ConnectionUnopened);
                self.insert(call.conn_id, call.tgid, state)
            }
        };
        &mut self.slots[index as usize]
    }

    /// A connection is seen for the first time, or its addresses are told again.
    pub(crate) fn open(&mut self, opened: &Opened, state: &mut State) {
        let index = match self.by_id.get(&opened.conn_id) {
            Some(&index) => index,
            None => self.insert(opened.conn_id, opened.tgid, state),
        };
        let link = &mut self.slots[index as usize].link;
        link.open(opened);
        let Some(ends) = Ends::of(&opened.tuple) else { return };
        self.by_ends.insert(ends, opened.conn_id);
        let Some(&peer) = self.by_ends.get(&ends.reverse()) else { return };
        if peer != opened.conn_id {
            link.peer = Some(peer);
            if let Some(other) = self.get(peer) {
                other.link.peer = Some(opened.conn_id);
            }
        }
    }

    /// Forgets a connection. Its parser must be at its end.
    pub(crate) fn remove(&mut self, conn_id: u64, state: &mut State) {
        let Some(index) = self.by_id.remove(&conn_id) else { return };
        let mut connection = std::mem::take(&mut self.slots[index as usize]);
        connection.parser.release(state);
        let link = &mut connection.link;
        link.release_held(state);
        if matches!(link.kind, Kind::Undecided) {
            // The other kinds count all connections so far, this one only those that are open.
            state.stats.recount(link.kind_tgid, Some(link.kind), None);
        }
        if let Some(ends) = Ends::of(&link.tuple).filter(|ends| self.by_ends.get(ends) == Some(&conn_id)) {
            self.by_ends.remove(&ends);
        }
        self.free.push(index);
    }

    /// All connections that are known.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.by_id.keys().copied().collect()
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn insert(&mut self, conn_id: u64, tgid: u32, state: &mut State) -> u32 {
        if self.by_id.len() >= self.max {
            self.evict(state);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Connection::default());
            (self.slots.len() - 1) as u32
        });
        let link = &mut self.slots[index as usize].link;
        link.id = conn_id;
        link.tgid = tgid;
        link.kind_tgid = tgid;
        link.last_ktime_ns = state.now_ktime_ns;
        state.stats.connections += 1;
        state.stats.recount(tgid, None, Some(Kind::Undecided));
        self.by_id.insert(conn_id, index);
        index
    }

    /// Forgets the connection that was idle longest among the next few.
    fn evict(&mut self, state: &mut State) {
        let count = self.slots.len();
        let oldest = (0..EVICTION_SAMPLE.min(count))
            .map(|step| (self.hand + step) % count)
            .min_by_key(|&index| self.slots[index].link.last_ktime_ns);
        self.hand = (self.hand + EVICTION_SAMPLE) % count.max(1);
        if let Some(index) = oldest {
            state.stats.drop(Drop::ConnectionEvicted);
            let conn_id = self.slots[index].link.id;
            self.slots[index].parser.abandon(state);
            self.remove(conn_id, state);
        }
    }
}

impl Ends {
    fn of(tuple: &ConnTuple) -> Option<Self> {
        let (local, peer) = (address(&tuple.local)?, address(&tuple.peer)?);
        let netns = if is_loopback(&local.0) || is_loopback(&peer.0) { tuple.netns } else { 0 };
        Some(Self { local, peer, netns })
    }

    fn reverse(self) -> Self {
        Self { local: self.peer, peer: self.local, netns: self.netns }
    }
}

/// An IP address, IPv4 as mapped IPv6, and a port.
fn address(end: &SockAddr) -> Option<([u8; 16], u16)> {
    match end.family {
        AF_INET6 if end.port != 0 => Some((end.addr, end.port)),
        AF_INET if end.port != 0 => {
            let mut mapped = [0; 16];
            mapped[10..12].fill(0xff);
            mapped[12..].copy_from_slice(&end.addr[..4]);
            Some((mapped, end.port))
        }
        _ => None,
    }
}

fn is_loopback(address: &[u8; 16]) -> bool {
    let ip = std::net::Ipv6Addr::from(*address);
    ip.to_ipv4_mapped().map_or_else(|| ip.is_loopback(), |ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // Thousands of connections are kept alive at a time.
        assert!(size_of::<Connection>() <= 640, "{}", size_of::<Connection>());
    }
}
