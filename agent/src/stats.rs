//! Skep's own counters, and the books that must close: the kernel numbers the turns (changes of direction) of all
//! connections, so what was lost is known and not only what was seen.
//!
//! In: the kernel side's counters, the pipeline's and the output's. Out: lines on standard error.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_common::counters::{COUNTER_NAMES, COUNTERS, Counter};
use agent_pipeline::stats::Stats;

use crate::export::otlp::stats::{ExportStats, SignalStats};
use crate::gate::LEFT_OUT;
use crate::output::OutputStats;

/// All counters of a run at one moment.
pub struct Books<'a> {
    /// Since the start of the run.
    pub elapsed: Duration,
    /// The kernel side's.
    pub kernel: [u64; COUNTERS],
    /// The pipeline's.
    pub pipeline: &'a Stats,
    /// The output's.
    pub output: OutputStats,
    /// What filters and sampler left out on purpose: stage, reason, count.
    pub left_out: [(&'static str, &'static str, u64); LEFT_OUT],
    /// The exporters'.
    pub export: &'a ExportStats,
    /// Spans of Skep's own exports, left out.
    pub own_spans: u64,
    /// Requests to change a capture mode that the kernel refused.
    pub control_failed: u64,
    /// Memory of all kernel maps.
    pub map_memory_bytes: u64,
}

/// Counters of the kernel side that are losses, not volumes.
const LOSSES: &[Counter] = &[
    Counter::RingFullData,
    Counter::RingFullConn,
    Counter::RingFullProcess,
    Counter::ConnTableFull,
    Counter::SelectTableFull,
    Counter::ThreadTableFull,
    Counter::SegmentsSkipped,
    Counter::UserFault,
    Counter::FdGone,
    Counter::SockReused,
    Counter::MessagesSkipped,
];

impl Books<'_> {
    /// The lines, without times or levels in front.
    pub fn lines(&self) -> Vec<String> {
        let kernel = |counter: Counter| self.kernel[counter as usize];
        let pipeline = self.pipeline;
        let volumes = format!(
            "stats after {:.1} s: events {}, bytes copied {} of {} seen, connections {}, requests {}, spans {} ({} \
             without a size), written {}, map memory {} kB, resident {} kB",
            self.elapsed.as_secs_f64(),
            kernel(Counter::Events),
            kernel(Counter::BytesCopied),
            kernel(Counter::BytesSeen),
            kernel(Counter::Connections),
            pipeline.requests,
            pipeline.spans,
            pipeline.spans_without_size,
            self.output.written,
            self.map_memory_bytes / 1024,
            resident_kb(),
        );
        let drops = format!("drops by stage/reason:{}", list(self.drops()));
        let left_out = format!("left out on purpose by stage/reason:{}", list(self.left_out.iter().copied()));
        let mut kinds = agent_pipeline::stats::Kinds::default();
        for (_, process) in pipeline.processes() {
            kinds.add(&process);
        }
        let kinds: Vec<String> =
            kinds.by_name().iter().map(|(name, count)| format!("{name} {count}")).collect();
        let connections = format!("connections by kind: {}", kinds.join(", "));
        let mut lines = vec![volumes, drops, left_out, connections, self.closing_line()];
        lines.extend(export_line("spans", &self.export.traces));
        lines.extend(export_line("data points", &self.export.metrics));
        if self.own_spans > 0 {
            lines.push(format!("export: {} spans of Skep's own requests left out", self.own_spans));
        }
        lines
    }

    /// Turns numbered by the kernel = turns seen + turns not captured on purpose + turns lost.
    fn closing_line(&self) -> String {
        let numbered = self.kernel[Counter::Turns as usize];
        let accounted = self.pipeline.turns.saturating_add(self.pipeline.turns_not_captured);
        let mut line = format!(
            "books: {numbered} turns in the kernel = {} seen + {} not captured on purpose + {} lost ({} of them in a \
             full ring buffer)",
            self.pipeline.turns,
            self.pipeline.turns_not_captured,
            numbered.saturating_sub(accounted),
            self.kernel[Counter::RingFullTurns as usize],
        );
        if accounted > numbered {
            let _ = write!(line, "; {} counted twice", accounted - numbered);
        }
        line
    }

    /// What was dropped: stage, reason, how often.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let kernel = LOSSES.iter().map(|&counter| {
            let index = counter as usize;
            ("kernel", COUNTER_NAMES[index], self.kernel[index])
        });
        let rest = kernel.chain(self.pipeline.drops()).chain([
            ("control", "refused", self.control_failed),
            ("output", "queue_full", self.output.queue_full),
        ]);
        let traces = self.export.traces.drops().map(|(reason, count)| ("export", reason, count));
        let metrics = self.export.metrics.drops().map(|(reason, count)| ("export_metrics", reason, count));
        rest.chain(traces).chain(metrics)
    }
}

/// Those that are not zero.
fn list(counts: impl Iterator<Item = (&'static str, &'static str, u64)>) -> String {
    let mut text = String::new();
    for (stage, reason, count) in counts.filter(|&(_, _, count)| count != 0) {
        let _ = write!(text, " {stage}/{reason} {count}");
    }
    if text.is_empty() { " none".into() } else { text }
}

/// What one signal's exporter did, where there is one: handed over = delivered + dropped + under way.
fn export_line(items: &str, stats: &SignalStats) -> Option<String> {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let handed_over = load(&stats.handed_over);
    (handed_over > 0).then(|| {
        format!(
            "export: {handed_over} {items} handed over = {} delivered + {} dropped + {} under way; {} requests, {} of \
             them failed, {} bytes sent",
            load(&stats.delivered),
            stats.drops().map(|(_, count)| count).sum::<u64>(),
            load(&stats.queued),
            load(&stats.requests),
            load(&stats.failures),
            load(&stats.sent_bytes),
        )
    })
}

/// Resident memory of Skep itself.
pub(crate) fn resident_kb() -> u64 {
    const PAGE_KB: u64 = 4;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * PAGE_KB)
}
