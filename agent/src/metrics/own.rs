//! What Skep tells about itself: the table of `skep.*` metrics.
//!
//! In: counters, copied on the drain thread, and what this process can read of itself. Out: data points. The names
//! are listed in docs/metrics.md; a test compares the page with this table, another one with what is exposed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_common::counters::Counter;
use agent_pipeline::metrics::MetricsStats;
use agent_pipeline::{Usage, semconv};

use super::collection::{Kind, Number};
use crate::export::otlp::stats::{ExportStats, SignalStats};
use crate::kernel::clock_ticks_per_second;
use crate::stats::Books;

/// What Skep knows of itself at one moment.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Counters.
    pub counters: OwnCounters,
    /// What the pipeline holds.
    pub usage: Usage,
    /// About the aggregation of metrics.
    pub metrics: MetricsStats,
    /// Watched processes.
    pub processes: u64,
    /// What does not change during a run.
    pub fixed: Fixed,
    /// The exporter's counters.
    pub export: Arc<ExportStats>,
}

/// Counters of a run, copied at one moment.
#[derive(Clone, Debug, Default)]
pub struct OwnCounters {
    /// The kernel side's.
    pub kernel: Vec<u64>,
    /// Records taken from the ring buffer.
    pub records: u64,
    /// Requests whose beginning was understood.
    pub requests: u64,
    /// Spans made.
    pub spans: u64,
    /// Spans without a size.
    pub spans_without_size: u64,
    /// Spans written to standard output.
    pub written: u64,
    /// Every reason for which something was dropped: stage, reason, how often.
    pub drops: Vec<(&'static str, &'static str, u64)>,
    /// What filters and samplers left out: stage, reason, how often.
    pub left_out: Vec<(&'static str, &'static str, u64)>,
    /// Kernel memory of all maps.
    pub map_memory_bytes: u64,
    /// Most bytes that one look found in the ring buffer since the last reading.
    pub ring_most_bytes: u64,
}

/// What does not change during a run.
#[derive(Clone, Debug, Default)]
pub struct Fixed {
    /// Every back end, and whether it is the one at work.
    pub backends: Vec<(&'static str, bool)>,
    /// Size of the ring buffer.
    pub ring_bytes: u64,
    /// Most connections that the pipeline knows at a time.
    pub max_connections: u64,
    /// Most requests that are open at a time.
    pub max_requests: u64,
    /// Most bytes that the pipeline holds.
    pub max_buffered_bytes: u64,
}

impl OwnCounters {
    /// Copies the books.
    pub fn new(books: &Books<'_>) -> Self {
        let pipeline = books.pipeline;
        Self {
            kernel: books.kernel.to_vec(),
            records: pipeline.records,
            requests: pipeline.requests,
            spans: pipeline.spans,
            spans_without_size: pipeline.spans_without_size,
            written: books.output.written,
            drops: books.drops().collect(),
            left_out: books.left_out.to_vec(),
            map_memory_bytes: books.map_memory_bytes,
            ring_most_bytes: 0,
        }
    }
}

/// One metric about Skep itself.
pub struct OwnMetric {
    /// Name.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Unit, in UCUM.
    pub unit: &'static str,
    /// What it is.
    pub description: &'static str,
    /// Adds its data points.
    pub(crate) read: fn(&Sources<'_>, &mut Points<'_>),
}

/// Where data points are added: attributes and value.
pub(crate) type Points<'a> = dyn FnMut(&[(&'static str, &str)], Number) + 'a;

/// What a metric may read.
pub(crate) struct Sources<'a> {
    pub(crate) own: &'a Own,
    pub(crate) process: OwnProcess,
    pub(crate) scrapes: &'a [(&'static str, u64)],
}

/// What this process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnProcess {
    user_s: f64,
    system_s: f64,
    resident_bytes: u64,
}

impl OwnProcess {
    /// Asks the kernel.
    pub(crate) fn read() -> Self {
        const PAGE_BYTES: u64 = 4096;
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The program's name, in brackets, may hold anything; user and system time are fields 14 and 15.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let (user, system) = (ticks(), ticks());
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        Self { user_s: seconds(user), system_s: seconds(system), resident_bytes: pages * PAGE_BYTES }
    }
}

macro_rules! own {
    ($($name:literal $kind:ident $unit:literal $description:literal => $read:expr;)*) => {
        &[$(OwnMetric {
            name: $name, kind: Kind::$kind, unit: $unit, description: $description, read: $read,
        },)*]
    };
}

/// All of them.
pub const OWN: &[OwnMetric] = own! {
    "skep.build.info" Gauge "" "Version of Skep; always 1." => |_, points| {
        points(&[("version", env!("CARGO_PKG_VERSION")), ("semconv", semconv::VERSION)], Number::Int(1));
    };
    "skep.attached" Gauge "" "Whether a back end is the one that is attached to the kernel." => |sources, points| {
        for &(backend, attached) in &sources.own.fixed.backends {
            points(&[("backend", backend)], int(attached.into()));
        }
    };
    "skep.processes" Gauge "{process}" "Processes that are watched." => |sources, points| {
        points(&[], int(sources.own.processes));
    };
    "skep.events" Counter "{event}" "Records that the kernel side handed over." => |sources, points| {
        points(&[], kernel(sources, Counter::Events));
    };
    "skep.records" Counter "{event}" "Records that were taken from the ring buffer." => |sources, points| {
        points(&[], int(sources.own.counters.records));
    };
    "skep.seen" Counter "By" "Bytes that watched processes moved on sockets." => |sources, points| {
        points(&[], kernel(sources, Counter::BytesSeen));
    };
    "skep.copied" Counter "By" "Bytes of them that were copied." => |sources, points| {
        points(&[], kernel(sources, Counter::BytesCopied));
    };
    "skep.turns" Counter "{turn}" "Changes of direction on all connections." => |sources, points| {
        points(&[], kernel(sources, Counter::Turns));
    };
    "skep.connections" Counter "{connection}" "Connections that were seen." => |sources, points| {
        points(&[], kernel(sources, Counter::Connections));
    };
    "skep.requests" Counter "{request}" "Requests whose beginning was understood." => |sources, points| {
        points(&[], int(sources.own.counters.requests));
    };
    "skep.spans" Counter "{span}" "Spans that were made." => |sources, points| {
        points(&[], int(sources.own.counters.spans));
    };
    "skep.spans.without_size" Counter "{span}" "Spans of them without the size of a body." => |sources, points| {
        points(&[], int(sources.own.counters.spans_without_size));
    };
    "skep.spans.written" Counter "{span}" "Spans that were written to standard output." => |sources, points| {
        points(&[], int(sources.own.counters.written));
    };
    "skep.dropped" Counter "" "What was seen and lost, by stage and reason; bytes where the reason says so." =>
        |sources, points| {
            for &(stage, reason, count) in &sources.own.counters.drops {
                points(&[("stage", stage), ("reason", reason)], int(count));
            }
        };
    "skep.left_out" Counter "{request}" "Requests that filters and samplers left out on purpose, by stage and reason." =>
        |sources, points| {
            for &(stage, reason, count) in &sources.own.counters.left_out {
                points(&[("stage", stage), ("reason", reason)], int(count));
            }
        };
    "skep.ring_buffer.size" Gauge "By" "Size of the ring buffer." => |sources, points| {
        points(&[], int(sources.own.fixed.ring_bytes));
    };
    "skep.ring_buffer.fill" Gauge "By" "Most bytes that one look found in the ring buffer since the last reading." =>
        |sources, points| points(&[], int(sources.own.counters.ring_most_bytes));
    "skep.maps.memory" Gauge "By" "Kernel memory of all maps, the ring buffer included." => |sources, points| {
        points(&[], int(sources.own.counters.map_memory_bytes));
    };
    "skep.pipeline.usage" Gauge "" "What the pipeline holds." => |sources, points| {
        let usage = &sources.own.usage;
        points(&[("table", "connections")], int(usage.connections as u64));
        points(&[("table", "requests")], int(usage.requests as u64));
        points(&[("table", "buffered_bytes")], int(usage.buffered_bytes as u64));
        points(&[("table", "waiting_spans")], int(usage.waiting_spans as u64));
    };
    "skep.pipeline.limit" Gauge "" "What the pipeline may hold." => |sources, points| {
        let fixed = &sources.own.fixed;
        points(&[("table", "connections")], int(fixed.max_connections));
        points(&[("table", "requests")], int(fixed.max_requests));
        points(&[("table", "buffered_bytes")], int(fixed.max_buffered_bytes));
    };
    "skep.metrics.series" Gauge "{series}" "Series of metrics about requests." => |sources, points| {
        points(&[], int(sources.own.metrics.series));
    };
    "skep.metrics.resources" Gauge "{resource}" "Resources that have series." => |sources, points| {
        points(&[], int(sources.own.metrics.resources));
    };
    "skep.metrics.expired" Counter "{series}" "Series that were forgotten because they were idle." => |sources, points| {
        points(&[], int(sources.own.metrics.expired));
    };
    "skep.metrics.overflowed" Counter "{measurement}" "Measurements that had no room for a series of their own." =>
        |sources, points| points(&[], int(sources.own.metrics.overflowed));
    "skep.metrics.unpaired" Counter "{span}" "Spans that make no edge of the service graph." => |sources, points| {
        points(&[], int(sources.own.metrics.unpaired));
    };
    "skep.prometheus.requests" Counter "{request}" "Requests to the Prometheus endpoint, by what came of them." =>
        |sources, points| {
            for &(outcome, count) in sources.scrapes {
                points(&[("outcome", outcome)], int(count));
            }
        };
    "skep.export.queue.items" Gauge "{item}" "Spans or data points that wait for export." =>
        |sources, points| by_signal(sources, points, |signal| signal.queued.load(Ordering::Relaxed));
    "skep.export.queue.size" Gauge "By" "Bytes that wait for export." =>
        |sources, points| by_signal(sources, points, |signal| signal.queued_bytes.load(Ordering::Relaxed));
    "skep.export.items" Counter "{item}" "Spans or data points that were handed over for export." =>
        |sources, points| by_signal(sources, points, |signal| signal.handed_over.load(Ordering::Relaxed));
    "skep.export.delivered" Counter "{item}" "Spans or data points that the other end took." =>
        |sources, points| by_signal(sources, points, |signal| signal.delivered.load(Ordering::Relaxed));
    "skep.export.requests" Counter "{request}" "Export requests, each attempt." =>
        |sources, points| by_signal(sources, points, |signal| signal.requests.load(Ordering::Relaxed));
    "skep.export.failures" Counter "{request}" "Export requests that failed." =>
        |sources, points| by_signal(sources, points, |signal| signal.failures.load(Ordering::Relaxed));
    "skep.export.sent" Counter "By" "Bytes of export requests." =>
        |sources, points| by_signal(sources, points, |signal| signal.sent_bytes.load(Ordering::Relaxed));
    "skep.cpu.time" Counter "s" "CPU time of Skep itself." => |sources, points| {
        points(&[(semconv::CPU_MODE, "user")], Number::Double(sources.process.user_s));
        points(&[(semconv::CPU_MODE, "system")], Number::Double(sources.process.system_s));
    };
    "skep.memory.resident" Gauge "By" "Resident memory of Skep itself." => |sources, points| {
        points(&[], int(sources.process.resident_bytes));
    };
};

fn by_signal(sources: &Sources<'_>, points: &mut Points<'_>, read: impl Fn(&SignalStats) -> u64) {
    let export = &sources.own.export;
    points(&[("signal", "traces")], int(read(&export.traces)));
    points(&[("signal", "metrics")], int(read(&export.metrics)));
}

fn kernel(sources: &Sources<'_>, counter: Counter) -> Number {
    int(sources.own.counters.kernel.get(counter as usize).copied().unwrap_or(0))
}

fn int(value: u64) -> Number {
    Number::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in the first column of the page's table about Skep itself.
    fn listed() -> Vec<&'static str> {
        let page = include_str!("../../../docs/metrics.md");
        page.lines()
            .filter_map(|line| line.strip_prefix("| `skep."))
            .filter_map(|rest| rest.split('`').next())
            .collect()
    }

    #[test]
    fn the_page_lists_every_name_and_no_other() {
        let mut names: Vec<&str> =
            OWN.iter().map(|metric| metric.name.strip_prefix("skep.").unwrap()).collect();
        let mut listed = listed();
        names.sort_unstable();
        listed.sort_unstable();
        assert_eq!(names, listed);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(OwnProcess::read().resident_bytes > 100_000);
    }
}
