//! Datagram sockets: which of them carry DNS, and its messages.
//!
//! In: records of datagram sockets, connected or not. Out: queries and answers; the sockets that carry something else
//! are not copied any more. Multicast DNS (RFC 6762), LLMNR (RFC 4795) and NetBIOS look alike and are left alone: what
//! they ask for has no one server. Bounds: as many sockets as connections; a socket is let go after 8 strange datagrams.

use agent_common::capture::{CaptureMode, MODE_NONE};
use agent_common::conn::ConnTuple;
use rustc_hash::FxHashMap;

use crate::Sink;
use crate::address::socket_ip;
use crate::event::{Closed, Datagram, Failed, Opened};
use crate::protocol::dns::message::{Message, is_common_type};
use crate::protocol::dns::queries::{self, Place};
use crate::request::{AF_UNIX, ErrorType};
use crate::state::State;
use crate::stats::Drop;

/// Strange datagrams in a row after which a socket is let go: servers are sent anything.
const STRANGE_MAX: u8 = 8;
const MDNS_PORT: u16 = 5353;
const LLMNR_PORT: u16 = 5355;
const NETBIOS_PORT: u16 = 137;

#[derive(Clone, Copy, Debug, Default)]
struct Socket {
    sock: u64,
    tuple: ConnTuple,
    strange: u8,
    ignored: bool,
    failure: Option<ErrorType>,
}

/// All datagram sockets.
#[derive(Debug)]
pub(crate) struct Datagrams {
    sockets: FxHashMap<u64, Socket>,
    /// Connection by address of its sock: one that is used again belongs to a new socket.
    by_sock: FxHashMap<u64, u64>,
    max: usize,
}

impl Datagrams {
    pub(crate) fn new(max: usize) -> Self {
        Self { sockets: FxHashMap::default(), by_sock: FxHashMap::default(), max }
    }

    /// How many sockets are known.
    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.sockets.clear();
        self.by_sock.clear();
    }

    /// A socket is used for the first time.
    pub(crate) fn open(&mut self, opened: &Opened, state: &mut State, sink: &mut impl Sink) {
        if let Some(before) =
            self.by_sock.insert(opened.sock, opened.conn_id).filter(|&id| id != opened.conn_id)
        {
            self.close(before, opened.ktime_ns, state, sink);
        }
        let mut socket = Socket { sock: opened.sock, tuple: opened.tuple, ..Socket::default() };
        if opened.tuple.local.family == AF_UNIX {
            socket.ignore(opened.conn_id, sink);
        }
        self.insert(opened.conn_id, socket, state, sink);
    }

    /// One message.
    pub(crate) fn on_datagram(&mut self, datagram: &Datagram<'_>, state: &mut State, sink: &mut impl Sink) {
        let call = &datagram.call;
        if !self.sockets.contains_key(&call.conn_id) {
            self.insert(call.conn_id, Socket::default(), state, sink);
        }
        let Some(socket) = self.sockets.get_mut(&call.conn_id).filter(|socket| !socket.ignored) else {
            state.stats.drop(Drop::Datagram);
            return;
        };
        let mut tuple = socket.tuple;
        if datagram.peer.family != 0 {
            tuple.peer = datagram.peer;
        }
        // A socket that is bound to no address says nothing about its own.
        if socket_ip(&tuple.local).is_some_and(|ip| ip.is_unspecified()) {
            tuple.local.family = 0;
        }
        let message = Message::read(datagram.bytes)
            .filter(|message| message.is_whole(datagram.len) && is_common_type(message))
            .filter(|_| !is_local_naming(&tuple));
        let Some(message) = message else {
            state.stats.drop(Drop::Datagram);
            socket.strange += 1;
            if socket.strange >= STRANGE_MAX || is_local_naming(&tuple) {
                socket.ignore(call.conn_id, sink);
            }
            return;
        };
        socket.strange = 0;
        let place = Place { call, tuple: &tuple, peer: None, offset: u64::from(message.id) };
        queries::on_message(&message, &place, state, sink);
    }

    /// A socket is gone; false if it was none of these.
    pub(crate) fn on_closed(&mut self, closed: &Closed, state: &mut State, sink: &mut impl Sink) -> bool {
        self.close(closed.conn_id, closed.ktime_ns, state, sink)
    }

    /// A call on a socket failed: the server's host said that nobody listens, or cannot be reached.
    pub(crate) fn on_error(&mut self, failed: &Failed) {
        if let Some(socket) = self.sockets.get_mut(&failed.conn_id) {
            socket.failure = Some(ErrorType::from_errno(failed.errno));
        }
    }

    fn close(&mut self, conn_id: u64, ktime_ns: u64, state: &mut State, sink: &mut impl Sink) -> bool {
        let Some(socket) = self.sockets.remove(&conn_id) else { return false };
        if self.by_sock.get(&socket.sock) == Some(&conn_id) {
            self.by_sock.remove(&socket.sock);
        }
        queries::on_closed(conn_id, socket.failure, ktime_ns, state, sink);
        true
    }

    fn insert(&mut self, conn_id: u64, socket: Socket, state: &mut State, sink: &mut impl Sink) {
        if self.sockets.len() >= self.max {
            state.stats.drop(Drop::ConnectionEvicted);
            let any = self.sockets.keys().next().copied();
            if let Some(any) = any {
                self.close(any, state.now_ktime_ns, state, sink);
            }
        }
        self.sockets.insert(conn_id, socket);
    }
}

impl Socket {
    /// From now on, the socket costs nothing.
    fn ignore(&mut self, conn_id: u64, sink: &mut impl Sink) {
        if !self.ignored && self.sock != 0 {
            sink.set_capture(conn_id, self.sock, CaptureMode { mode: MODE_NONE, ..CaptureMode::default() });
        }
        self.ignored = true;
    }
}

/// Names of the local network, which anyone may answer.
fn is_local_naming(tuple: &ConnTuple) -> bool {
    let ports = [tuple.local.port, tuple.peer.port];
    socket_ip(&tuple.peer).is_some_and(|ip| ip.is_multicast())
        || ports.contains(&LLMNR_PORT)
        || ports.contains(&NETBIOS_PORT)
        || ports == [MDNS_PORT; 2]
}
