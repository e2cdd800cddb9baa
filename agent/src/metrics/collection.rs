//! All metrics of a moment in one form, whoever reads them.
//!
//! In: a [`Moment`], which the drain thread handed over. Out: metrics with their data points, for Prometheus and for
//! OTLP. Made on the reader's thread; the values themselves are shared with the drain thread, not copied.

use std::sync::Arc;

use agent_pipeline::metrics::family::{Family, Shape};
use agent_pipeline::metrics::key::AttributeValue;
use agent_pipeline::metrics::resources::OWN as OWN_RESOURCE;
use agent_pipeline::metrics::rows::{Cell, Cells, Exemplar, Series};
use agent_pipeline::metrics::{Now, distribution::Distribution};

use super::exchange::Moment;
use super::own::{OWN, OwnProcess, Sources};
use super::processes;
use crate::discovery::resource::Resource;

/// What a metric's values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grow.
    Counter,
    /// Go up and down, and add up over series.
    UpDownCounter,
    /// Go up and down.
    Gauge,
    /// Are distributions.
    Histogram,
}

/// A single number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Whole.
    Int(i64),
    /// Any.
    Double(f64),
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Name.
    pub name: &'static str,
    /// Name in Prometheus, where it does not follow from name and unit.
    pub prometheus_name: Option<&'static str>,
    /// What its values do.
    pub kind: Kind,
    /// Unit, in UCUM.
    pub unit: &'static str,
    /// What it is.
    pub description: &'static str,
    /// Bounds of the explicit buckets.
    pub bounds: &'static [f64],
    /// Attributes of the resource that each data point repeats: name in the point, name in the resource.
    pub resource_attributes: &'static [(&'static str, &'static str)],
    /// Data points.
    pub points: Vec<Point>,
}

/// One data point.
#[derive(Debug)]
pub struct Point {
    /// Index in [`Collection::resources`].
    pub resource: u32,
    /// Of one series the same for as long as it lives, never used again.
    pub id: u64,
    /// Since when it counts.
    pub start_unix_ns: u64,
    labels: Labels,
    value: Stored,
}

#[derive(Debug)]
enum Labels {
    Series(Arc<Series>, &'static Family),
    Own(Box<[(&'static str, Box<str>)]>),
}

#[derive(Debug)]
enum Stored {
    Cell(Arc<Cells>, u8),
    Number(Number),
}

/// The value of a data point.
#[derive(Clone, Copy, Debug)]
pub enum PointValue<'a> {
    /// A number.
    Number(Number),
    /// A distribution and measurements that stand for others.
    Distribution(&'a Distribution, &'a [Exemplar]),
}

/// All metrics of a moment.
#[derive(Debug)]
pub struct Collection {
    /// When.
    pub now: Now,
    /// Whose; those that are used have data points.
    pub resources: Vec<Option<Arc<Resource>>>,
    /// The metrics, each once.
    pub metrics: Vec<Metric>,
}

impl Collection {
    /// Puts a moment's metrics together. `scrapes` are the counters of the Prometheus endpoint.
    pub fn new(moment: &Moment, started_unix_ns: u64, scrapes: &[(&'static str, u64)]) -> Self {
        let snapshot = &moment.snapshot;
        let mut collection = Self {
            now: snapshot.now,
            resources: snapshot.resources.clone(),
            metrics: Vec::with_capacity(snapshot.families.len() * 3 + OWN.len()),
        };
        collection.add_requests(moment);
        processes::add(&moment.processes, &mut collection);
        collection.add_own(moment, started_unix_ns, scrapes);
        collection.metrics.retain(|metric| !metric.points.is_empty());
        collection
    }

    fn add_requests(&mut self, moment: &Moment) {
        for (index, active) in moment.snapshot.families.iter().enumerate() {
            let family = active.family;
            let first = self.metrics.len();
            for (instrument, &bounds) in family.instruments.iter().zip(&active.bounds) {
                self.metrics.push(Metric {
                    name: instrument.name,
                    prometheus_name: instrument.prometheus_name,
                    kind: match instrument.shape {
                        Shape::Histogram(_) => Kind::Histogram,
                        Shape::Counter => Kind::Counter,
                        Shape::UpDownCounter => Kind::UpDownCounter,
                    },
                    unit: instrument.unit,
                    description: instrument.description,
                    bounds,
                    resource_attributes: family.resource_attributes,
                    points: Vec::new(),
                });
            }
            let series =
                moment.snapshot.series.iter().filter(|(series, _)| usize::from(series.family) == index);
            for (series, cells) in series {
                for (cell, metric) in self.metrics[first..].iter_mut().enumerate() {
                    if matches!(&cells.cells[cell], Cell::Distribution(distribution) if distribution.count == 0)
                    {
                        continue;
                    }
                    metric.points.push(Point {
                        resource: series.resource,
                        id: series.id,
                        start_unix_ns: series.start_unix_ns,
                        labels: Labels::Series(Arc::clone(series), family),
                        value: Stored::Cell(Arc::clone(cells), cell as u8),
                    });
                }
            }
        }
    }

    fn add_own(&mut self, moment: &Moment, started_unix_ns: u64, scrapes: &[(&'static str, u64)]) {
        let sources = Sources { own: &moment.own, process: OwnProcess::read(), scrapes };
        for own in OWN {
            let mut points = Vec::new();
            (own.read)(&sources, &mut |labels, number| {
                let id = own_id(points.len());
                points.push(own_point(OWN_RESOURCE, id, started_unix_ns, labels, number));
            });
            self.metrics.push(Metric {
                name: own.name,
                prometheus_name: None,
                kind: own.kind,
                unit: own.unit,
                description: own.description,
                bounds: &[],
                resource_attributes: &[],
                points,
            });
        }
    }
}

/// Ids of points that are no series of the aggregation: apart from those, and the same at each reading.
fn own_id(index: usize) -> u64 {
    1 << 63 | index as u64
}

pub(super) fn own_point(
    resource: u32,
    id: u64,
    start_unix_ns: u64,
    labels: &[(&'static str, &str)],
    number: Number,
) -> Point {
    let labels = labels.iter().map(|&(name, value)| (name, value.into())).collect();
    Point { resource, id, start_unix_ns, labels: Labels::Own(labels), value: Stored::Number(number) }
}

impl Point {
    /// Shows each attribute.
    pub fn attributes(&self, mut visit: impl FnMut(&'static str, AttributeValue<'_>)) {
        match &self.labels {
            Labels::Series(series, family) => {
                for (attribute, value) in family.attributes.iter().zip(series.values()) {
                    if let Some(value) = value {
                        visit(attribute.name, value);
                    }
                }
            }
            Labels::Own(labels) => {
                labels.iter().for_each(|(name, value)| visit(name, AttributeValue::Text(value)));
            }
        }
    }

    /// Whether its value is only looked at when somebody asks, rather than added up here.
    pub fn is_observed(&self) -> bool {
        matches!(self.labels, Labels::Own(_))
    }

    /// Whether it stands for all series beyond the limit.
    pub fn is_overflow(&self) -> bool {
        matches!(&self.labels, Labels::Series(series, _) if series.overflow)
    }

    /// Its value. Exemplars are those of the first instrument of the series.
    pub fn value(&self) -> PointValue<'_> {
        match &self.value {
            Stored::Number(number) => PointValue::Number(*number),
            Stored::Cell(cells, index) => match &cells.cells[usize::from(*index)] {
                Cell::Distribution(distribution) => {
                    let exemplars = if *index == 0 { &cells.exemplars[..] } else { &[] };
                    PointValue::Distribution(distribution, exemplars)
                }
                Cell::Sum(sum) => PointValue::Number(Number::Double(*sum)),
                Cell::Level(level) => PointValue::Number(Number::Int(*level)),
            },
        }
    }
}
