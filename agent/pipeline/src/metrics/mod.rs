//! Metrics: every finished request counted, sampled or not.
//!
//! In: finished spans, whose process they are of, and the time. Out: a [`Snapshot`], when a reader asks. What is
//! measured is a table (`family.rs`); series are bounded by instrument, and what is beyond goes into one series with
//! `otel.metric.overflow`; a series that is idle for long is forgotten, and begins anew when it comes back. The path
//! of a request whose series exists allocates and formats nothing. No clock and no output here.

pub mod distribution;
pub mod exponential;
pub mod family;
pub mod key;
pub mod resources;
pub mod rows;

mod graph;
mod table;

use std::sync::Arc;
use std::time::Duration;

use self::family::{Family, Of};
use self::graph::Graph;
use self::rows::{Cells, Series};
use self::table::Table;
use crate::request::{OperationKind, Request, SpanKind};
use crate::span::Span;

/// Which names and buckets metrics have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Those of the semantic conventions.
    #[default]
    Semconv,
    /// Those that dashboards for Beyla 2.5 use.
    Beyla,
}

/// What the aggregation is told once, at the start.
#[derive(Clone, Debug)]
pub struct MetricsConfig {
    /// Names and buckets.
    pub names: Names,
    /// Series of one instrument at a time, over all processes.
    pub max_series: usize,
    /// Processes that have series of their own at a time.
    pub max_resources: usize,
    /// How long a series without values is kept.
    pub idle: Duration,
    /// Whether somebody reads explicit buckets.
    pub explicit: bool,
    /// Whether somebody reads exponential buckets.
    pub exponential: bool,
    /// Whether each change must be read by [`Reader::Push`] before its series may be forgotten.
    pub push: bool,
    /// Tempo's span metrics.
    pub span_metrics: bool,
    /// Tempo's service graph.
    pub service_graph: bool,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            names: Names::Semconv,
            max_series: 2000,
            max_resources: 1024,
            idle: Duration::from_secs(300),
            explicit: true,
            exponential: false,
            push: false,
            span_metrics: false,
            service_graph: false,
        }
    }
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Whoever asks, as often as he likes.
    Pull,
    /// The one that must have seen each change.
    Push,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_MONOTONIC.
    pub ktime_ns: u64,
    /// Wall clock.
    pub unix_ns: u64,
}

/// A resource that has a name.
pub trait Named {
    /// `service.name`
    fn service_name(&self) -> &str;
    /// Whether both are one target to a reader: the same service and instance.
    fn is_same_target(&self, other: &Self) -> bool;
}

impl<T: Named> Named for Arc<T> {
    fn service_name(&self) -> &str {
        T::service_name(self)
    }

    fn is_same_target(&self, other: &Self) -> bool {
        Self::ptr_eq(self, other) || T::is_same_target(self, other)
    }
}

/// What the aggregation holds and what it could not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsStats {
    /// Series right now.
    pub series: u64,
    /// Resources right now, Skep's own included.
    pub resources: u64,
    /// Measurements that went into an overflow series.
    pub overflowed: u64,
    /// Ends of requests that make no edge of the service graph.
    pub unpaired: u64,
    /// Series that were forgotten because they were idle.
    pub expired: u64,
}

/// A family with the bounds of its histograms.
#[derive(Debug)]
pub struct ActiveFamily {
    /// Row of the table of instruments.
    pub family: &'static Family,
    /// Bounds by instrument; empty for what is no histogram.
    pub bounds: Box<[&'static [f64]]>,
}

/// All series at one moment.
#[derive(Debug)]
pub struct Snapshot<R> {
    /// When.
    pub now: Now,
    /// By [`Series::family`].
    pub families: Arc<[ActiveFamily]>,
    /// By [`Series::resource`].
    pub resources: Vec<Option<R>>,
    /// The series, in an order that stays.
    pub series: Vec<(Arc<Series>, Arc<Cells>)>,
    /// About the aggregation itself.
    pub stats: MetricsStats,
}

/// The aggregation. `R` says whose series they are.
#[derive(Debug)]
pub struct Metrics<R> {
    table: Table<R>,
    graph: Graph<R>,
    /// Family by kind of operation and end.
    by_span: [[Option<u8>; KINDS]; OperationKind::COUNT],
    span_metrics: Option<u8>,
    edges: Option<u8>,
}

/// Kinds of spans.
const KINDS: usize = 5;

impl<R: Clone + Named> Metrics<R> {
    /// Counts nothing yet. `own` is Skep itself.
    pub fn new(config: MetricsConfig, own: R, now: Now) -> Self {
        let table = Table::new(config, own, now);
        let index =
            |of: Of| table.families.iter().position(|active| active.family.of == of).map(|at| at as u8);
        let mut by_span = [[None; KINDS]; OperationKind::COUNT];
        for (at, active) in table.families.iter().enumerate() {
            if let Of::Spans(operation, kind) = active.family.of {
                by_span[operation as usize][kind as usize] = Some(at as u8);
            }
        }
        let (span_metrics, edges) = (index(Of::AllSpans), index(Of::Edges));
        Self { table, graph: Graph::new(), by_span, span_metrics, edges }
    }

    /// Counts a finished span. With `exemplar`, its measurement may stand for others: to be given only for spans that
    /// are exported, so that what it names can be found.
    #[inline]
    pub fn record(&mut self, span: &Span<'_>, exemplar: bool, resource: impl FnOnce() -> R) {
        let kind = span.kind();
        let family = self.by_span[span.request.operation.kind() as usize][kind as usize];
        if family.is_none() && self.span_metrics.is_none() && self.edges.is_none() {
            return;
        }
        let resource = self.table.resources.of(span.tgid, resource);
        if let Some(family) = family {
            let slot = self.table.record(family, resource, span, exemplar);
            if kind == SpanKind::Server && span.request.operation.kind() == OperationKind::Http {
                self.table.accompany(slot, resource, span);
            }
        }
        if let Some(family) = self.span_metrics {
            self.table.record(family, resource, span, exemplar);
        }
        if let Some((family, resource)) = self.edges.zip(resource)
            && let Some(resource) = self.table.resources.get(resource).cloned()
        {
            let now_ktime_ns = self.table.now.ktime_ns;
            self.graph.observe(span, &resource, now_ktime_ns, |edge| {
                self.table.record_edge(family, &edge, exemplar.then_some(span));
            });
        }
    }

    /// Lets time pass: to be called about every second.
    pub fn tick(&mut self, now: Now) {
        self.table.now = now;
        if let Some(family) = self.edges {
            self.graph.expire(now.ktime_ns, |edge| self.table.record_edge(family, &edge, None));
        }
        self.table.expire();
    }

    /// The process has ended for good, or runs another program from now on.
    pub fn forget_process(&mut self, tgid: u32) {
        self.table.resources.forget_process(tgid);
    }

    /// Everything at this moment. `visit_open` shows every request that is open, `resource` says whose a process'
    /// series are.
    pub fn snapshot(
        &mut self,
        now: Now,
        reader: Reader,
        visit_open: impl FnOnce(&mut dyn FnMut(&Request)),
        mut resource: impl FnMut(u32) -> R,
    ) -> Snapshot<R> {
        let table = &mut self.table;
        table.now = now;
        table.count_active(visit_open, &mut resource);
        if reader == Reader::Push {
            table.pushed_ktime_ns = now.ktime_ns;
        }
        Snapshot {
            now,
            families: Arc::clone(&table.families),
            resources: table.resources.values(),
            series: table.rows.iter().map(|row| (Arc::clone(&row.series), Arc::clone(&row.cells))).collect(),
            stats: self.stats(),
        }
    }

    /// About the aggregation itself.
    pub fn stats(&self) -> MetricsStats {
        MetricsStats {
            series: self.table.rows.len() as u64,
            resources: self.table.resources.len() as u64,
            overflowed: self.table.overflowed,
            unpaired: self.graph.unpaired,
            expired: self.table.expired,
        }
    }
}

#[cfg(test)]
mod tests;
