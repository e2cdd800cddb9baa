//! What the exporter counts, for each signal: what was taken, sent and dropped, by reason. Read by the closing books
//! and by Skep's own metrics, written by whichever thread knows.
//!
//! At any moment: handed over = delivered + dropped (all reasons) + queued.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the reasons once: variant, name and meaning stay side by side.
macro_rules! drops {
    ($($(#[doc = $doc:literal])* $name:ident = $reason:literal;)*) => {
        /// Why a span or data point was not delivered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ExportDrop { $($(#[doc = $doc])* $name,)* }
        /// The name of each reason, in the order of the enum.
        pub const EXPORT_DROPS: &[&str] = &[$($reason,)*];
    };
}

drops! {
    /// The queue was full: the other end is down or slower than spans come.
    QueueFull = "queue_full";
    /// The other end refused the request for good (a status that is not to be retried).
    Rejected = "rejected";
    /// The other end took the request but not all of its contents (partial success).
    PartialSuccess = "partial_success";
    /// The other end said yes, but in words that are not OTLP: whatever it is, it is no collector.
    InvalidAnswer = "invalid_answer";
    /// All attempts failed until the time for retries was over.
    RetryExhausted = "retry_exhausted";
    /// The same, and the last attempt had no answer in time.
    Timeout = "timeout";
    /// A single span too large for any request.
    TooLarge = "encode_too_large";
    /// Not delivered by the end of the run.
    Shutdown = "shutdown";
}

/// The counters of one signal. Items are spans or data points.
#[derive(Debug, Default)]
pub struct SignalStats {
    /// Items handed over by whoever made them.
    pub handed_over: AtomicU64,
    /// Items that the other end took.
    pub delivered: AtomicU64,
    /// Items that wait or are under way.
    pub queued: AtomicU64,
    /// Bytes that wait or are under way.
    pub queued_bytes: AtomicU64,
    /// Requests made, each attempt.
    pub requests: AtomicU64,
    /// Requests that failed.
    pub failures: AtomicU64,
    /// Bytes of request bodies sent, each attempt, compressed as they were.
    pub sent_bytes: AtomicU64,
    drops: [AtomicU64; EXPORT_DROPS.len()],
}

/// The counters of both signals.
#[derive(Debug, Default)]
pub struct ExportStats {
    /// Spans.
    pub traces: SignalStats,
    /// Data points.
    pub metrics: SignalStats,
}

impl SignalStats {
    /// How many items were dropped for this reason.
    pub fn dropped(&self, reason: ExportDrop) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    /// Every reason with its count.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        EXPORT_DROPS.iter().zip(&self.drops).map(|(&reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    pub(super) fn drop(&self, reason: ExportDrop, items: u64) {
        add(&self.drops[reason as usize], items);
    }
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

pub(super) fn subtract(counter: &AtomicU64, count: u64) {
    counter.fetch_sub(count, Ordering::Relaxed);
}
