//! Skep's pipeline: socket bytes and timestamps in, spans out.
//!
//! Pure and synchronous: no I/O, no clock, no threads, no logging. In: records of the ring buffer, untrusted, and
//! a tick about every 10 ms. Out: finished spans, wishes about what to capture and facts about processes, through
//! a [`Sink`]. The way of the data, top to bottom:
//! record → `event` → `connection` → `stream` → `protocol` → `request` → `context` → `span`.
#![forbid(unsafe_code)]

pub mod address;
pub mod http_request;
pub mod id;
pub mod redact;
pub mod request;
pub mod route;
pub mod semconv;
pub mod span;
pub mod stats;
pub mod text;
pub mod trace_context;

use std::time::Duration;

use agent_common::capture::CaptureMode;

use crate::span::Span;
use crate::stats::Stats;

/// What the pipeline is told once, at the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// An answer whose end is only a candidate ends after this time without a byte, at its last byte.
    pub idle_end: Duration,
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
            idle_end: Duration::from_secs(2),
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

/// Socket bytes in, spans out.
#[derive(Debug)]
pub struct Pipeline {
    stats: Stats,
}

impl Pipeline {
    /// An empty pipeline.
    pub fn new(config: Config) -> Self {
        let _ = config;
        Self { stats: Stats::new() }
    }

    /// Takes one record of the ring buffer, untrusted.
    pub fn on_record(&mut self, record: &[u8], sink: &mut impl Sink) {
        let _ = (record, sink);
        self.stats.records += 1;
    }

    /// Lets time pass: to be called about every 10 ms.
    pub fn on_tick(&mut self, now_ktime_ns: u64, sink: &mut impl Sink) {
        let _ = (now_ktime_ns, sink);
    }

    /// Ends the run: what is certain becomes spans, the rest is counted.
    pub fn finish(&mut self, now_ktime_ns: u64, sink: &mut impl Sink) {
        let _ = (now_ktime_ns, sink);
    }

    /// Says whether a process' threads tell which request a call belongs to; unknown processes are `Never`.
    pub fn set_thread_context(&mut self, tgid: u32, policy: ThreadContext) {
        let _ = (tgid, policy);
    }

    /// Forgets what is kept about a process that is gone.
    pub fn forget_process(&mut self, tgid: u32) {
        let _ = tgid;
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}
