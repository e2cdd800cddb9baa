//! The bounded queue of one signal, between the thread that makes batches and the thread that sends them.
//!
//! In: batches, never waiting: without room a batch is dropped and counted. Out: events for `sender.rs`. The channel
//! itself has no bound; the budget has, and it holds for what waits and what is under way together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::batch::SpanBatch;
use super::sender::Attempted;
use super::stats::{ExportDrop, ExportStats, SignalStats, add, subtract};

/// Which of OTLP's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
}

impl Signal {
    /// The word in paths, variables and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// The word for what is counted.
    pub(super) fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "data points",
        }
    }
}

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Memory of all batches.
    pub bytes: u64,
    /// Spans or data points.
    pub items: u64,
}

/// An `ExportMetricsServiceRequest`, ready-made.
#[derive(Clone, Debug, Default)]
pub struct MetricsBatch {
    /// The encoded message.
    pub message: Vec<u8>,
    /// Data points in it.
    pub points: u64,
}

/// What a batch holds.
#[derive(Debug)]
pub(super) enum Content {
    Spans(SpanBatch),
    Encoded(Vec<u8>),
}

/// What the sender of a signal is told.
pub(super) enum Event {
    Batch {
        content: Content,
        claim: Claim,
    },
    /// Deliver what is there within this time, then answer.
    Finish {
        patience: Duration,
        done: std::sync::mpsc::SyncSender<()>,
    },
    /// An attempt has ended.
    Sent(Box<Attempted>),
    /// A pause is over.
    Wake,
    /// So is the time at the end.
    Deadline,
}

/// Where batches are handed over. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub(super) struct Inlet {
    events: UnboundedSender<Event>,
    budget: Budget,
}

/// The limits and counters of one signal.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    limits: QueueLimits,
    stats: Arc<ExportStats>,
    signal: Signal,
}

/// A part of the budget, held by a batch until it is delivered or dropped. Whatever happens to it, its items are
/// counted: dropped without a word, they count as not delivered by the end of the run.
#[derive(Debug)]
pub(super) struct Claim {
    budget: Budget,
    items: u64,
    bytes: u64,
    counted: bool,
}

pub(super) fn queue(
    limits: QueueLimits,
    stats: Arc<ExportStats>,
    signal: Signal,
) -> (Inlet, UnboundedSender<Event>, UnboundedReceiver<Event>) {
    let (events, receiver) = unbounded_channel();
    (Inlet { events: events.clone(), budget: Budget { limits, stats, signal } }, events, receiver)
}

impl Inlet {
    /// Hands a batch over. Without room it is counted as dropped and given back, for its buffers.
    pub(super) fn push(&self, content: Content, items: u64, bytes: usize) -> Result<(), Content> {
        let stats = self.budget.stats();
        add(&stats.handed_over, items);
        let Some(claim) = self.budget.claim(items, bytes as u64) else {
            stats.drop(ExportDrop::QueueFull, items);
            return Err(content);
        };
        // The sender lives as long as the run; after it nothing can be sent.
        self.events.send(Event::Batch { content, claim }).map_err(|error| {
            let Event::Batch { content, claim } = error.0 else { unreachable!("it was a batch") };
            drop(claim);
            content
        })
    }

    pub(super) fn finish(&self, patience: Duration) -> std::sync::mpsc::Receiver<()> {
        let (done, finished) = std::sync::mpsc::sync_channel(1);
        // Without a sender the receiver is told at once that nobody will answer.
        let _ = self.events.send(Event::Finish { patience, done });
        finished
    }

    pub(super) fn stats(&self) -> &SignalStats {
        self.budget.stats()
    }
}

impl Budget {
    fn stats(&self) -> &SignalStats {
        match self.signal {
            Signal::Traces => &self.stats.traces,
            Signal::Metrics => &self.stats.metrics,
        }
    }

    fn claim(&self, items: u64, bytes: u64) -> Option<Claim> {
        let stats = self.stats();
        let all_items = stats.queued.fetch_add(items, Ordering::Relaxed) + items;
        let all_bytes = stats.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut claim = Claim { budget: self.clone(), items, bytes, counted: false };
        if all_items > self.limits.items || all_bytes > self.limits.bytes {
            // Dropped here, it gives the budget back; the caller counts.
            claim.counted = true;
            return None;
        }
        Some(claim)
    }
}

impl Claim {
    pub(super) fn items(&self) -> u64 {
        self.items
    }

    pub(super) fn stats(&self) -> &SignalStats {
        self.budget.stats()
    }

    /// The batch takes this much memory now: it was compressed, for instance.
    pub(super) fn resize(&mut self, bytes: usize) {
        let queued = &self.budget.stats().queued_bytes;
        add(queued, bytes as u64);
        subtract(queued, self.bytes);
        self.bytes = bytes as u64;
    }

    /// The other end took all but `rejected` of it.
    pub(super) fn delivered(mut self, rejected: u64) {
        self.counted = true;
        let rejected = rejected.min(self.items);
        add(&self.stats().delivered, self.items - rejected);
        self.stats().drop(ExportDrop::PartialSuccess, rejected);
    }

    pub(super) fn drop_items(mut self, reason: ExportDrop) {
        self.counted = true;
        self.stats().drop(reason, self.items);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let stats = self.budget.stats();
        if !self.counted {
            stats.drop(ExportDrop::Shutdown, self.items);
        }
        subtract(&stats.queued, self.items);
        subtract(&stats.queued_bytes, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(limits: QueueLimits) -> (Inlet, UnboundedReceiver<Event>) {
        let (inlet, _, events) = queue(limits, Arc::default(), Signal::Metrics);
        (inlet, events)
    }

    fn push(inlet: &Inlet, items: u64, bytes: usize) -> bool {
        inlet.push(Content::Encoded(Vec::new()), items, bytes).is_ok()
    }

    fn counters(inlet: &Inlet) -> [u64; 5] {
        let stats = inlet.stats();
        let full = stats.dropped(ExportDrop::QueueFull);
        [&stats.handed_over, &stats.delivered, &stats.queued, &stats.queued_bytes]
            .map(|counter| counter.load(Ordering::Relaxed))
            .into_iter()
            .chain([full])
            .collect::<Vec<_>>()
            .try_into()
            .unwrap()
    }

    #[test]
    fn without_room_a_batch_is_counted_and_leaves_no_trace() {
        let (inlet, mut events) = metrics(QueueLimits { bytes: 100, items: 10 });
        assert!(push(&inlet, 4, 60));
        assert!(!push(&inlet, 1, 41), "too many bytes");
        assert!(!push(&inlet, 7, 1), "too many items");
        assert!(push(&inlet, 6, 40), "just fits");
        assert_eq!(counters(&inlet), [18, 0, 10, 100, 8]);
        let Ok(Event::Batch { claim, .. }) = events.try_recv() else { panic!("no batch") };
        claim.delivered(0);
        assert_eq!(counters(&inlet), [18, 4, 6, 40, 8]);
        assert!(push(&inlet, 1, 60), "there is room again");
    }

    #[test]
    fn what_was_compressed_makes_room() {
        let (inlet, mut events) = metrics(QueueLimits { bytes: 100, items: 10 });
        assert!(push(&inlet, 1, 90));
        let Ok(Event::Batch { mut claim, .. }) = events.try_recv() else { panic!("no batch") };
        claim.resize(10);
        assert!(push(&inlet, 1, 90));
        claim.drop_items(ExportDrop::Rejected);
        assert_eq!(counters(&inlet), [2, 0, 1, 90, 0]);
        assert_eq!(inlet.stats().dropped(ExportDrop::Rejected), 1);
    }

    #[test]
    fn a_server_cannot_reject_more_than_there_was() {
        let (inlet, mut events) = metrics(QueueLimits { bytes: 100, items: 10 });
        assert!(push(&inlet, 3, 1));
        let Ok(Event::Batch { claim, .. }) = events.try_recv() else { panic!("no batch") };
        claim.delivered(u64::MAX);
        assert_eq!(counters(&inlet), [3, 0, 0, 0, 0]);
        assert_eq!(inlet.stats().dropped(ExportDrop::PartialSuccess), 3);
    }

    #[test]
    fn after_the_end_everything_counts_as_shutdown() {
        let (inlet, events) = metrics(QueueLimits { bytes: 100, items: 10 });
        drop(events);
        assert!(!push(&inlet, 3, 1));
        assert_eq!(counters(&inlet), [3, 0, 0, 0, 0]);
        assert_eq!(inlet.stats().dropped(ExportDrop::Shutdown), 3);
    }
}
