//! Skep's pipeline: socket bytes and timestamps in, spans out.
//!
//! Pure and synchronous: no I/O, no clock, no threads, no logging. In: records of the ring buffer, untrusted, and
//! a tick about every 10 ms. Out: finished spans, wishes about what to capture and facts about processes, through
//! a [`Sink`]. The way of the data, top to bottom:
//! record → `event` → `connection` → `stream` → `protocol` → `request` → `context` → `span`.
#![forbid(unsafe_code)]

pub mod address;
pub mod db_request;
pub mod dns_request;
pub mod filter;
pub mod glob;
pub mod http_request;
pub mod id;
pub mod metrics;
pub mod redact;
pub mod request;
pub mod route;
pub mod rpc_request;
pub mod sampling;
pub mod semconv;
pub mod span;
pub mod stats;
pub mod text;
pub mod trace_context;

mod connection;
mod context;
mod event;
mod exits;
mod open;
mod protocol;

mod sql;
mod state;
mod stream;
mod traces;

use std::time::Duration;

use agent_common::capture::{CaptureMode, Openings};
use agent_common::event::FLAG_RESET;

use crate::connection::{Connection, Connections};
use crate::event::{Closed, Data, Direction, Eof, Event, Failed};
use crate::exits::Exits;
use crate::protocol::dns::{self, Datagrams};
use crate::request::{ErrorType, Request};
use crate::route::RouteConfig;

use crate::span::Span;
use crate::state::State;
use crate::stats::Stats;

/// How long records of a closed connection that are still under way are waited for.
const CLOSE_WAIT_NS: u64 = 10_000_000;

/// What the pipeline is told once, at the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Route patterns and how routes are learned.
    pub routes: RouteConfig,
    /// An answer whose end is only a candidate ends after this time without a byte, at its last byte.
    pub idle_end: Duration,
    /// Redis commands that are sent together make one span instead of one each.
    pub redis_batches: bool,
    /// Randomness for ids.
    pub seed: [u64; 2],
    /// Connections that are known at a time.
    pub max_connections: usize,
    /// Requests that are open at a time, over all connections.
    pub max_requests: usize,
    /// Bytes of unfinished messages that are held at a time, over all connections.
    pub max_buffered_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            routes: RouteConfig::default(),
            idle_end: Duration::from_secs(2),
            redis_batches: false,
            seed: [0; 2],
            max_connections: 65_536,
            max_requests: 65_536,
            max_buffered_bytes: 8 << 20,
        }
    }
}

/// Whether a process' threads tell which request a call belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThreadContext {
    /// Go, event loops, async runtimes, virtual threads, and everything that is not known.
    #[default]
    Never,
    /// One thread works on one request at a time.
    Threads,
}

/// Something that happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// A selected process made a child, which is selected too.
    Fork {
        /// The process that forked.
        parent: u32,
        /// The new process.
        child: u32,
    },
    /// A process replaced its program.
    Exec {
        /// Process.
        tgid: u32,
    },
    /// A selected process ended.
    Exit {
        /// Process.
        tgid: u32,
    },
    /// A process listens on a port that a rule names.
    Listen {
        /// Process.
        tgid: u32,
        /// Port.
        port: u16,
    },
    /// A selected process does something that this back end cannot see.
    Unseen {
        /// Process.
        tgid: u32,
        /// `agent_common::event::UNSEEN_*`
        what: u32,
    },
}

/// Where the pipeline's results go.
pub trait Sink {
    /// A finished span.
    fn span(&mut self, span: &Span<'_>);
    /// Asks the kernel side to copy more or less of a connection; costs a system call.
    fn set_capture(&mut self, conn_id: u64, sock: u64, mode: CaptureMode);
    /// Something happened to a process.
    fn process(&mut self, event: ProcessEvent);
    /// Whether a thread runs many requests at a time after all (a carrier of virtual threads); asked rarely.
    fn thread_is_event_loop(&mut self, tgid: u32, tid: u32) -> bool;
}

/// First bytes of connections that the kernel side is to copy whole without waiting to be asked.
pub fn openings() -> Openings {
    let mut openings = Openings::default();
    for (slot, opening) in openings.iter_mut().zip(protocol::OPENINGS) {
        let (words, _) = opening.as_chunks::<8>();
        *slot = [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])];
    }
    openings
}

/// What the pipeline holds at a moment; each is bounded by [`Config`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections that are known.
    pub connections: usize,
    /// Requests that are open, finished spans that wait included.
    pub requests: usize,
    /// Bytes of unfinished messages.
    pub buffered_bytes: usize,
    /// Finished spans whose trace is not certain yet.
    pub waiting_spans: usize,
}

/// Socket bytes in, spans out.
#[derive(Debug)]
pub struct Pipeline {
    connections: Connections,
    datagrams: Datagrams,
    state: State,
    exits: Exits,
}

impl Pipeline {
    /// An empty pipeline.
    pub fn new(config: Config) -> Self {
        Self {
            connections: Connections::new(config.max_connections),
            datagrams: Datagrams::new(config.max_connections),
            exits: Exits::default(),
            state: State::new(&config),
        }
    }

    /// Takes one record of the ring buffer, untrusted.
    pub fn on_record(&mut self, record: &[u8], sink: &mut impl Sink) {
        self.state.stats.records += 1;
        if let Some(Ok(data)) = event::decode_data(record) {
            return self.on_data(&data, sink);
        }
        match event::decode(record) {
            Ok(Event::Data(data)) => self.on_data(&data, sink),
            Ok(Event::Opened(opened)) => self.connections.open(&opened, &mut self.state),
            Ok(Event::DatagramSocket(opened)) => self.datagrams.open(&opened, &mut self.state, sink),
            Ok(Event::Datagram(datagram)) => {
                let state = &mut self.state;
                state.now_ktime_ns = state.now_ktime_ns.max(datagram.call.ktime_ns);
                state.stats.bytes += datagram.bytes.len() as u64;
                self.datagrams.on_datagram(&datagram, state, sink);
            }
            Ok(Event::Closed(closed)) => self.on_closed(&closed, sink),
            Ok(Event::Eof(eof)) => self.on_eof(&eof, sink),
            Ok(Event::Error(failed)) => self.on_error(&failed),
            Ok(Event::Process(event, ktime_ns)) => self.on_process(event, ktime_ns, sink),
            Err(drop) => self.state.stats.drop(drop),
        }
    }

    /// Lets time pass: to be called about every 10 ms.
    pub fn on_tick(&mut self, now_ktime_ns: u64, sink: &mut impl Sink) {
        let state = &mut self.state;
        state.now_ktime_ns = state.now_ktime_ns.max(now_ktime_ns);
        while let Some((due, conn_id)) = state.next_wake() {
            let Some(connection) = self.connections.get(conn_id) else { continue };
            if !connection.link.is_awake(due) {
                continue;
            }
            if connection.link.closed_ktime_ns.is_some() {
                connection.parser.on_closed(&mut connection.link, state, sink);
                self.connections.remove(conn_id, state);
            } else {
                connection.parser.on_wake(&mut connection.link, state, sink);
            }
        }
        dns::on_tick(state, sink);
        state.settle(false, sink);
        self.exits.forget_old(state.now_ktime_ns);
    }

    /// Ends the run: what is certain becomes spans, the rest is counted.
    pub fn finish(&mut self, now_ktime_ns: u64, sink: &mut impl Sink) {
        self.on_tick(now_ktime_ns, sink);
        for conn_id in self.connections.ids() {
            if let Some(connection) = self.connections.get(conn_id) {
                if connection.link.closed_ktime_ns.is_some() {
                    connection.parser.on_closed(&mut connection.link, &mut self.state, sink);
                } else {
                    connection.parser.finish(&mut self.state, sink);
                }
            }
            self.connections.remove(conn_id, &mut self.state);
        }
        dns::finish(&mut self.state, sink);
        self.datagrams.clear();
        self.state.settle(true, sink);
    }

    /// Says whether a process' threads tell which request a call belongs to; unknown processes are `Never`.
    pub fn set_thread_context(&mut self, tgid: u32, policy: ThreadContext) {
        self.state.context.set_policy(tgid, policy);
    }

    /// Other route patterns from now on; which process has which set is to be said anew.
    pub fn set_routes(&mut self, routes: &RouteConfig) {
        self.state.router.reconfigure(routes);
    }

    /// A process has a set of route patterns of its own ([`RouteConfig::sets`]), or none.
    pub fn set_route_set(&mut self, tgid: u32, set: Option<usize>) {
        self.state.router.set_process(tgid, set);
    }

    /// Forgets what is kept about a process that is gone.
    pub fn forget_process(&mut self, tgid: u32) {
        self.state.router.set_process(tgid, None);
        self.state.context.set_policy(tgid, ThreadContext::Never);
        self.state.stats.forget_process(tgid);
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.state.stats
    }

    /// Shows every request that is under way.
    pub fn visit_open(&self, visit: &mut dyn FnMut(&Request)) {
        self.state.open.under_way().for_each(visit);
    }

    /// What is held right now.
    pub fn usage(&self) -> Usage {
        let (requests, buffered_bytes, waiting_spans) = self.state.usage();
        Usage {
            connections: self.connections.len() + self.datagrams.len(),
            requests,
            buffered_bytes,
            waiting_spans,
        }
    }

    #[inline]
    fn on_data(&mut self, data: &Data<'_>, sink: &mut impl Sink) {
        let state = &mut self.state;
        state.now_ktime_ns = state.now_ktime_ns.max(data.call.ktime_ns);
        state.stats.bytes += (data.head.len() + data.tail.len()) as u64;
        let Connection { link, parser } = self.connections.touch(&data.call, state);
        link.observe(&data.call, &mut state.stats);
        if let Some(chunk) = link.stream(data.call.direction).place(data, &mut state.stats) {
            parser.on_chunk(link, &chunk, state, sink);
        }
    }

    /// Late records of a closed connection are waited for until the next tick.
    fn on_closed(&mut self, closed: &Closed, sink: &mut impl Sink) {
        let state = &mut self.state;
        state.now_ktime_ns = state.now_ktime_ns.max(closed.ktime_ns);
        if self.datagrams.on_closed(closed, state, sink) {
            return;
        }
        let Some(Connection { link, parser }) = self.connections.get(closed.conn_id) else { return };
        parser.on_closing(state);
        link.close_books(closed.turns, &mut state.stats);
        link.closed_ktime_ns = Some(closed.ktime_ns);
        if let Some(ktime_ns) = self.exits.at(link.tgid).filter(|&exit| exit <= closed.ktime_ns) {
            link.break_with(ErrorType::ProcessExit, ktime_ns);
        } else if closed.errno != 0 {
            link.break_with(ErrorType::from_errno(closed.errno), closed.ktime_ns);
        } else if closed.flags & FLAG_RESET != 0 {
            link.break_with(ErrorType::ConnectionReset, closed.ktime_ns);
        }
        link.wake_at(closed.ktime_ns.saturating_add(CLOSE_WAIT_NS), state);
    }

    fn on_eof(&mut self, eof: &Eof, sink: &mut impl Sink) {
        let state = &mut self.state;
        let Some(Connection { link, parser }) = self.connections.get(eof.conn_id) else { return };
        link.stream(eof.direction).ended_ktime_ns.get_or_insert(eof.ktime_ns);
        if eof.direction == Direction::Ingress {
            link.fail(ErrorType::ConnectionClosed, eof.ktime_ns);
        }
        parser.on_eof(link, eof.direction, eof.ktime_ns, state, sink);
    }

    fn on_error(&mut self, failed: &Failed) {
        if let Some(Connection { link, .. }) = self.connections.get(failed.conn_id) {
            link.break_with(ErrorType::from_errno(failed.errno), failed.ktime_ns);
        }
        self.datagrams.on_error(failed);
    }

    fn on_process(&mut self, event: ProcessEvent, ktime_ns: u64, sink: &mut impl Sink) {
        if let ProcessEvent::Exit { tgid } = event {
            self.exits.note(tgid, ktime_ns);
        }
        sink.process(event);
    }
}
