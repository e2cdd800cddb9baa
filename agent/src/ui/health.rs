//! How the agent itself is doing: counters of the drain thread, CPU time and memory of the process.

use std::time::Instant;

use agent_common::counters::Counter;
use serde::Serialize;

use crate::stats::Books;

/// Where something was lost, and how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drop {
    /// Stage.
    pub stage: &'static str,
    /// Reason.
    pub reason: &'static str,
    /// How often.
    pub count: u64,
}

/// The drain thread's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The back end at work.
    pub backend: String,
    /// Processes watched now.
    pub processes: u64,
    /// Records of the kernel side.
    pub events: u64,
    /// Bytes of payload seen and copied.
    pub bytes_seen: u64,
    /// Bytes of payload copied.
    pub bytes_copied: u64,
    /// Connections seen.
    pub connections: u64,
    /// Requests understood.
    pub requests: u64,
    /// Spans made.
    pub spans: u64,
    /// Memory of the kernel side's tables.
    pub map_memory_bytes: u64,
    /// Turns of all connections, numbered by the kernel.
    pub turns: u64,
    /// Turns that nobody saw, though they should have been seen.
    pub turns_lost: u64,
    /// What was dropped, by reason; reasons without any are left out.
    pub drops: Vec<Drop>,
}

impl Health {
    /// From all counters of this moment.
    pub fn new(backend: &str, processes: usize, books: &Books<'_>) -> Self {
        let kernel = |counter: Counter| books.kernel[counter as usize];
        let turns = kernel(Counter::Turns);
        Self {
            backend: backend.to_owned(),
            processes: processes as u64,
            events: kernel(Counter::Events),
            bytes_seen: kernel(Counter::BytesSeen),
            bytes_copied: kernel(Counter::BytesCopied),
            connections: kernel(Counter::Connections),
            requests: books.pipeline.requests,
            spans: books.pipeline.spans,
            map_memory_bytes: books.map_memory_bytes,
            turns,
            turns_lost: kernel(Counter::RingFullTurns),
            drops: books
                .drops()
                .filter(|&(_, _, count)| count > 0)
                .map(|(stage, reason, count)| Drop { stage, reason, count })
                .collect(),
        }
    }
}

/// CPU time and memory of this process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// CPU time per second of the last second: 1.0 is one core.
    pub cpu: f64,
    /// CPU time since the start.
    pub cpu_s: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    #[serde(skip)]
    measured: Option<Instant>,
}

impl Usage {
    /// Reads the process's own figures.
    pub fn measure(&mut self) {
        let now = Instant::now();
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to a live rusage.
        if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } == 0 {
            // SAFETY: zeroed is a valid rusage, and getrusage has filled it.
            let usage = unsafe { usage.assume_init() };
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
            let cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
            if let Some(before) = self.measured {
                self.cpu = (cpu_s - self.cpu_s) / now.duration_since(before).as_secs_f64().max(1e-3);
            }
            self.cpu_s = cpu_s;
        }
        self.resident_bytes = crate::stats::resident_kb() * 1024;
        self.measured = Some(now);
    }
}
