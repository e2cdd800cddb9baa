//! The series of all families, and how spans, edges and open requests change them.
//!
//! In: what `Metrics` has sorted out. Out: changed series. The path of a series that exists is: write the key, find
//! the row, add the values.

use std::sync::Arc;

use crate::metrics::distribution::{Distribution, bucket_of};
use crate::metrics::family::{self, Family, Shape, duration_s};
use crate::metrics::graph::{Edge, Node};
use crate::metrics::key::Key;
use crate::metrics::resources::{OWN, Resources};
use crate::metrics::rows::{Cell, Cells, Exemplar, Row, Rows};
use crate::metrics::{ActiveFamily, MetricsConfig, Named, Names, Now};
use crate::request::{OperationKind, Request, SpanKind};
use crate::span::{ParentRule, Span};

#[derive(Debug)]
pub(crate) struct Table<R> {
    pub(crate) families: Arc<[ActiveFamily]>,
    pub(crate) rows: Rows,
    pub(crate) resources: Resources<R>,
    pub(crate) now: Now,
    /// When [`crate::metrics::Reader::Push`] last read.
    pub(crate) pushed_ktime_ns: u64,
    /// Measurements that went into an overflow series.
    pub(crate) overflowed: u64,
    /// Series that were forgotten.
    pub(crate) expired: u64,
    /// Family of the active requests.
    active: u8,
    config: MetricsConfig,
    key: Key,
}

impl<R: Clone + Named> Table<R> {
    pub(crate) fn new(config: MetricsConfig, own: R, now: Now) -> Self {
        let table = match config.names {
            Names::Semconv => family::SEMCONV,
            Names::Beyla => family::BEYLA,
        };
        let extra = [
            config.span_metrics.then_some(&family::SPAN_METRICS),
            config.service_graph.then_some(&family::SERVICE_GRAPH),
        ];
        let chosen = table.iter().chain([&family::ACTIVE_REQUESTS]).chain(extra.into_iter().flatten());
        Self {
            families: chosen.map(|family| activate(family, config.names)).collect(),
            rows: Rows::default(),
            resources: Resources::new(own, config.max_resources),
            now,
            pushed_ktime_ns: 0,
            overflowed: 0,
            expired: 0,
            active: table.len() as u8,
            config,
            key: Key::default(),
        }
    }

    /// Adds a span's values to its series. Says which row.
    #[inline]
    pub(crate) fn record(
        &mut self,
        family: u8,
        resource: Option<u32>,
        span: &Span<'_>,
        exemplar: bool,
    ) -> u32 {
        let active = &self.families[usize::from(family)];
        self.key.begin(family, resource.unwrap_or(OWN));
        for attribute in active.family.attributes {
            (attribute.write)(span, &mut self.key);
        }
        let slot = self.find_or_insert(family, resource);
        let active = &self.families[usize::from(family)];
        let Some(row) = self.rows.get_mut(slot) else { return slot };
        row.last_ktime_ns = self.now.ktime_ns.max(span.end_ktime_ns);
        self.overflowed += u64::from(row.series.overflow);
        let cells = Arc::make_mut(&mut row.cells);
        let instruments = active.family.instruments.iter().zip(&active.bounds);
        for (cell, (instrument, bounds)) in cells.cells.iter_mut().zip(instruments) {
            if let Some(value) = (instrument.value)(span) {
                cell.add(value, bounds);
            }
        }
        if exemplar {
            cells.keep(exemplar_of(self.now, span, duration_s(span), active.bounds.first()));
        }
        slot
    }

    /// Adds an edge's values to its series.
    pub(crate) fn record_edge(&mut self, family: u8, edge: &Edge<'_, R>, exemplar: Option<&Span<'_>>) {
        self.key.begin(family, OWN);
        for node in [&edge.client, &edge.server] {
            self.key.text(Some(match node {
                Node::Seen(resource) => resource.service_name(),
                Node::Named(name) => name,
            }));
        }
        self.key.text(Some(edge.connection_type));
        let slot = self.find_or_insert(family, Some(OWN));
        let bounds = &self.families[usize::from(family)].bounds;
        let Some(row) = self.rows.get_mut(slot) else { return };
        row.last_ktime_ns = self.now.ktime_ns;
        self.overflowed += u64::from(row.series.overflow);
        let cells = Arc::make_mut(&mut row.cells);
        let [server_s, client_s] = edge.durations_s;
        let values = [server_s, client_s, 1.0, f64::from(u8::from(edge.failed))];
        for (cell, (value, bounds)) in cells.cells.iter_mut().zip(values.into_iter().zip(bounds)) {
            cell.add(value, bounds);
        }
        if let Some(span) = exemplar {
            cells.keep(exemplar_of(self.now, span, server_s, bounds.first()));
        }
    }

    /// Makes sure that a server that has answered requests has a series of active ones, be it to say that there are
    /// none.
    #[inline]
    pub(crate) fn accompany(&mut self, slot: u32, resource: Option<u32>, span: &Span<'_>) {
        if self.rows.get_mut(slot).is_some_and(|row| row.companion.is_none()) {
            let companion = self.active_row(resource, span);
            if let Some(row) = self.rows.get_mut(slot) {
                row.companion = companion;
            }
        }
    }

    /// Sets the series of active requests to what is open now.
    pub(crate) fn count_active(
        &mut self,
        visit_open: impl FnOnce(&mut dyn FnMut(&Request)),
        resource: &mut impl FnMut(u32) -> R,
    ) {
        let active = self.active;
        for row in self.rows.iter_mut().filter(|row| row.series.family == active) {
            change_level(row, |_| 0);
        }
        let now_ktime_ns = self.now.ktime_ns;
        visit_open(&mut |request| {
            if request.kind != SpanKind::Server || request.operation.kind() != OperationKind::Http {
                return;
            }
            let owner = self.resources.of(request.tgid, || resource(request.tgid));
            let Some((slot, _)) = self.active_row(owner, &unfinished(request)) else { return };
            if let Some(row) = self.rows.get_mut(slot) {
                row.last_ktime_ns = now_ktime_ns;
                change_level(row, |level| level + 1);
            }
        });
    }

    /// Forgets series that have had no values for long.
    pub(crate) fn expire(&mut self) {
        let companions: Vec<(u32, u64, u64)> = self
            .rows
            .iter()
            .filter_map(|row| row.companion.map(|(slot, id)| (slot, id, row.last_ktime_ns)))
            .collect();
        for (slot, id, last_ktime_ns) in companions {
            if let Some(row) = self.rows.get_mut(slot).filter(|row| row.series.id == id) {
                row.last_ktime_ns = row.last_ktime_ns.max(last_ktime_ns);
            }
        }
        let idle_ns = u64::try_from(self.config.idle.as_nanos()).unwrap_or(u64::MAX);
        let (now, push, pushed) = (self.now.ktime_ns, self.config.push, self.pushed_ktime_ns);
        let (resources, expired) = (&mut self.resources, &mut self.expired);
        let unread = |row: &Row| push && row.last_ktime_ns >= pushed;
        self.rows.retain(
            |row| now.saturating_sub(row.last_ktime_ns) < idle_ns || unread(row),
            |resource| {
                *expired += 1;
                resources.remove_series(resource);
            },
        );
    }

    /// Slot and id of the series of active requests that a request belongs to.
    fn active_row(&mut self, resource: Option<u32>, span: &Span<'_>) -> Option<(u32, u64)> {
        self.key.begin(self.active, resource.unwrap_or(OWN));
        for attribute in family::ACTIVE_REQUESTS.attributes {
            (attribute.write)(span, &mut self.key);
        }
        let slot = self.find_or_insert(self.active, resource);
        Some((slot, self.rows.get_mut(slot)?.series.id))
    }

    /// The row of the key, or a new one; a process without a resource has only the overflow series.
    #[inline]
    fn find_or_insert(&mut self, family: u8, resource: Option<u32>) -> u32 {
        match self.rows.find(self.key.as_bytes()) {
            Some(slot) if resource.is_some() => slot,
            _ => self.insert(family, resource),
        }
    }

    /// A new series for the key, or the overflow series if there is no room for it.
    #[cold]
    fn insert(&mut self, family: u8, resource: Option<u32>) -> u32 {
        let overflow = self.rows.count(family) >= self.config.max_series || resource.is_none();
        let resource = resource.unwrap_or(OWN);
        if overflow {
            self.key.begin(family, resource);
            if let Some(slot) = self.rows.find(self.key.as_bytes()) {
                return slot;
            }
        }
        let cells = empty_cells(&self.families[usize::from(family)], &self.config);
        self.resources.add_series(resource);
        let start = (self.now.unix_ns, self.now.ktime_ns);
        self.rows.insert(self.key.as_bytes(), overflow, start, cells)
    }
}

impl Cell {
    #[inline]
    fn add(&mut self, value: f64, bounds: &[f64]) {
        match self {
            Self::Distribution(distribution) => distribution.record(value, bounds),
            Self::Sum(sum) => *sum += value,
            Self::Level(_) => {}
        }
    }
}

fn change_level(row: &mut Row, change: impl Fn(i64) -> i64) {
    if let [Cell::Level(level)] = &row.cells.cells[..]
        && change(*level) == *level
    {
        return;
    }
    if let [Cell::Level(level)] = &mut Arc::make_mut(&mut row.cells).cells[..] {
        *level = change(*level);
    }
}

fn exemplar_of(now: Now, span: &Span<'_>, value: f64, bounds: Option<&&[f64]>) -> Exemplar {
    Exemplar {
        bucket: bounds.map_or(0, |bounds| bucket_of(value, bounds)) as u8,
        value,
        unix_ns: (now.unix_ns.saturating_add(span.end_ktime_ns)).saturating_sub(now.ktime_ns),
        trace_id: span.trace_id,
        span_id: span.span_id,
    }
}

/// A request that has no span yet, to be asked for its attributes.
fn unfinished(request: &Request) -> Span<'_> {
    Span {
        trace_id: [0; 16],
        span_id: [0; 8],
        parent_span_id: None,
        flags: 0,
        remote_trace: false,
        trace_state: None,
        start_ktime_ns: request.start_ktime_ns,
        end_ktime_ns: request.start_ktime_ns,
        tgid: request.tgid,
        request,
        parent_rule: ParentRule::None,
        links: &[],
    }
}

fn activate(family: &'static Family, names: Names) -> ActiveFamily {
    let bounds = |shape| match (shape, names) {
        (Shape::Histogram(bounds), Names::Semconv) => bounds.semconv(),
        (Shape::Histogram(bounds), Names::Beyla) => bounds.beyla(),
        _ => &[],
    };
    let bounds = family.instruments.iter().map(|instrument| bounds(instrument.shape)).collect();
    ActiveFamily { family, bounds }
}

fn empty_cells(active: &ActiveFamily, config: &MetricsConfig) -> Cells {
    let cell = |(shape, bounds): (Shape, &&[f64])| match shape {
        Shape::Histogram(_) => {
            let bounds = config.explicit.then_some(bounds.len());
            Cell::Distribution(Distribution::new(bounds, config.exponential))
        }
        Shape::Counter => Cell::Sum(0.0),
        Shape::UpDownCounter => Cell::Level(0),
    };
    let shapes = active.family.instruments.iter().map(|instrument| instrument.shape);
    Cells { cells: shapes.zip(&active.bounds).map(cell).collect(), exemplars: Vec::new() }
}
