//! Metrics on their way out: the aggregation on the drain thread, the hand-over, and one form for all readers.
//!
//! `agent_pipeline::metrics` counts; [`exchange`] hands over; [`collection`] puts requests, processes and Skep's own
//! counters ([`own`]) together for `export/prometheus` and `export/otlp`.

pub mod collection;
pub mod config;
pub mod exchange;
#[cfg(test)]
pub(crate) mod fixture;
pub mod own;
pub mod processes;
pub mod push;

use std::sync::Arc;
use std::time::Instant;

use agent_pipeline::Pipeline;
use agent_pipeline::metrics::{Metrics, MetricsConfig, Now};
use agent_pipeline::span::Span;

use self::exchange::{Exchange, Moment};
use self::own::{Fixed, Own, OwnCounters};
use crate::discovery::resource::Resource;
use crate::export::otlp::stats::ExportStats;

/// The drain thread's end of metrics.
pub struct Meter {
    /// The way to readers.
    pub exchange: Arc<Exchange>,
    metrics: Metrics<Arc<Resource>>,
    with_processes: bool,
    fixed: Fixed,
    export: Arc<ExportStats>,
}

impl Meter {
    /// Begins to count. `own` is Skep itself.
    pub fn new(
        config: MetricsConfig,
        own: Arc<Resource>,
        now: Now,
        fixed: Fixed,
        export: Arc<ExportStats>,
    ) -> Self {
        Self {
            exchange: Arc::default(),
            metrics: Metrics::new(config, own, now),
            with_processes: false,
            fixed,
            export,
        }
    }

    /// Offers what watched processes use, too.
    pub fn with_processes(mut self, with_processes: bool) -> Self {
        self.with_processes = with_processes;
        self
    }

    /// Counts a finished span.
    #[inline]
    pub fn span(&mut self, span: &Span<'_>, exported: bool, resource: &Arc<Resource>) {
        self.metrics.record(span, exported, || Arc::clone(resource));
    }

    /// Lets time pass, about every second.
    pub fn every_second(&mut self, now: Now) {
        self.metrics.tick(now);
    }

    /// The process has ended for good, or runs another program.
    pub fn forget_process(&mut self, tgid: u32) {
        self.metrics.forget_process(tgid);
    }

    /// Each tick: whether somebody asks.
    #[inline]
    pub fn is_asked(&self, now: Instant) -> bool {
        self.exchange.tick(now)
    }

    /// Answers those who ask.
    pub fn answer(
        &mut self,
        now: Now,
        own: OwnCounters,
        pipeline: &Pipeline,
        selected: &[u32],
        mut resource: impl FnMut(u32) -> Arc<Resource>,
    ) {
        let exchange = Arc::clone(&self.exchange);
        exchange.answer(|reader| {
            let processes = match self.with_processes {
                true => selected.iter().map(|&tgid| (tgid, resource(tgid))).collect(),
                false => Vec::new(),
            };
            let snapshot = self.metrics.snapshot(now, reader, |visit| pipeline.visit_open(visit), resource);
            let own = Own {
                counters: own,
                usage: pipeline.usage(),
                metrics: snapshot.stats,
                processes: selected.len() as u64,
                fixed: self.fixed.clone(),
                export: Arc::clone(&self.export),
            };
            Moment { snapshot, own, processes }
        });
    }
}
