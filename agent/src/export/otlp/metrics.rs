//! Metrics as OTLP wants them: an `ExportMetricsServiceRequest`, grouped by resource, in pieces of bounded size.
//!
//! In: a [`Collection`] and, for deltas, the one that was exported before. Out: encoded requests. Message and field
//! numbers are those of opentelemetry-proto 1.7, `metrics/v1/metrics.proto`; the tests decode with the reference
//! implementation.

use std::collections::HashMap;

use agent_pipeline::metrics::distribution::Distribution;
use agent_pipeline::metrics::exponential::Exponential;
use agent_pipeline::metrics::key::AttributeValue;
use agent_pipeline::metrics::rows::Exemplar;
use agent_pipeline::semconv;

use super::batch::scope_field;
use super::queue::MetricsBatch;
use super::wire::{
    LEN, put_bool_attribute, put_bytes, put_fixed64, put_int_attribute, put_message, put_tag,
    put_text_attribute, put_uint, put_varint,
};
use crate::discovery::resource::Resource;
use crate::metrics::collection::{Collection, Kind, Metric, Number, Point, PointValue};
use crate::metrics::config::Temporality;

/// A request is closed when it is larger than this: collectors take 4 MiB.
const ENOUGH_BYTES: usize = 1 << 20;
/// `AGGREGATION_TEMPORALITY_DELTA`
const DELTA: u64 = 1;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;

/// Encodes one collection after the other.
pub struct MetricsEncoder {
    temporality: Temporality,
    /// What was encoded last, where deltas are wanted.
    before: Option<Collection>,
    /// When that was.
    before_unix_ns: u64,
}

/// Points of the collection before, by metric and series.
type Before<'a> = HashMap<(&'static str, u64), &'a Point>;

impl MetricsEncoder {
    /// Has encoded nothing yet.
    pub fn new(temporality: Temporality) -> Self {
        Self { temporality, before: None, before_unix_ns: 0 }
    }

    /// The requests of a collection.
    pub fn encode(&mut self, collection: Collection) -> Vec<MetricsBatch> {
        let before: Before<'_> = self
            .before
            .iter()
            .flat_map(|before| &before.metrics)
            .flat_map(|metric| metric.points.iter().map(|point| ((metric.name, point.id), point)))
            .collect();
        let mut request = Request {
            scope: scope_field(),
            temporality: self.temporality,
            before: &before,
            before_unix_ns: self.before_unix_ns,
            unix_ns: collection.now.unix_ns,
            batch: MetricsBatch::default(),
            batches: Vec::new(),
        };
        for (index, resource) in collection.resources.iter().enumerate() {
            if let Some(resource) = resource {
                request.add_resource(index as u32, resource, &collection.metrics);
            }
        }
        let batches = request.finish();
        self.before_unix_ns = collection.now.unix_ns;
        self.before = (self.temporality != Temporality::Cumulative).then_some(collection);
        batches
    }
}

/// Requests in the making.
struct Request<'a> {
    scope: Vec<u8>,
    temporality: Temporality,
    before: &'a Before<'a>,
    before_unix_ns: u64,
    unix_ns: u64,
    batch: MetricsBatch,
    batches: Vec<MetricsBatch>,
}

impl Request<'_> {
    fn add_resource(&mut self, index: u32, resource: &Resource, metrics: &[Metric]) {
        // `Metric` messages, as fields of `ScopeMetrics`.
        let mut encoded = Vec::new();
        for metric in metrics {
            let mut points = metric.points.iter().filter(|point| point.resource == index).peekable();
            while points.peek().is_some() {
                let count = self.put_metric(&mut encoded, metric, resource, &mut points);
                self.batch.points += count;
                if encoded.len() >= ENOUGH_BYTES {
                    self.close_resource(resource, &mut encoded);
                }
            }
        }
        self.close_resource(resource, &mut encoded);
    }

    /// Appends a `Metric` with as many points as have room. Says how many; one without points is taken back.
    fn put_metric<'p>(
        &self,
        out: &mut Vec<u8>,
        metric: &Metric,
        resource: &Resource,
        points: &mut impl Iterator<Item = &'p Point>,
    ) -> u64 {
        let start = out.len();
        let mut count = 0;
        put_message(out, 2, |out| {
            put_bytes(out, 1, metric.name.as_bytes());
            put_bytes(out, 2, metric.description.as_bytes());
            put_bytes(out, 3, metric.unit.as_bytes());
            let mut data = Vec::new();
            let (mut delta, mut exponential) = (false, false);
            for point in points {
                let is_delta = self.is_delta(metric.kind, point);
                // All points of a metric are alike in both.
                delta = is_delta;
                exponential = is_exponential(point);
                count += u64::from(self.put_point(&mut data, metric, resource, point, is_delta));
                if start + data.len() >= ENOUGH_BYTES {
                    break;
                }
            }
            let temporality = if delta { DELTA } else { CUMULATIVE };
            let field = match metric.kind {
                Kind::Gauge => 5,
                Kind::Counter | Kind::UpDownCounter => 7,
                Kind::Histogram if exponential => 10,
                Kind::Histogram => 9,
            };
            put_message(out, field, |out| {
                out.extend_from_slice(&data);
                if metric.kind != Kind::Gauge {
                    put_uint(out, 2, temporality);
                }
                put_uint(out, 3, u64::from(metric.kind == Kind::Counter));
            });
        });
        if count == 0 {
            out.truncate(start);
        }
        count
    }

    fn is_delta(&self, kind: Kind, point: &Point) -> bool {
        match (self.temporality, kind) {
            (Temporality::Cumulative, _) | (_, Kind::Gauge | Kind::UpDownCounter) => false,
            (Temporality::Delta, _) => true,
            (Temporality::LowMemory, _) => !point.is_observed(),
        }
    }

    /// Appends a data point, unless it is a delta of nothing.
    fn put_point(
        &self,
        out: &mut Vec<u8>,
        metric: &Metric,
        resource: &Resource,
        point: &Point,
        delta: bool,
    ) -> bool {
        let earlier = if delta { self.before.get(&(metric.name, point.id)) } else { None };
        let start_unix_ns = if earlier.is_some() { self.before_unix_ns } else { point.start_unix_ns };
        match (point.value(), earlier.map(|point| point.value())) {
            (PointValue::Number(number), earlier) => {
                let number = match earlier {
                    Some(PointValue::Number(earlier)) => minus(number, earlier),
                    _ => number,
                };
                if delta && is_zero(number) {
                    return false;
                }
                put_message(out, 1, |out| {
                    put_attributes(out, 7, metric, resource, point);
                    if metric.kind != Kind::Gauge {
                        put_fixed64(out, 2, start_unix_ns);
                    }
                    put_fixed64(out, 3, self.unix_ns);
                    match number {
                        Number::Double(number) => put_fixed64(out, 4, number.to_bits()),
                        Number::Int(number) => put_fixed64(out, 6, number.cast_unsigned()),
                    }
                });
            }
            (PointValue::Distribution(distribution, exemplars), earlier) => {
                let since;
                let (distribution, with_extremes) = match earlier {
                    Some(PointValue::Distribution(earlier, _)) => {
                        since = distribution.since(earlier);
                        (&since, false)
                    }
                    _ => (distribution, true),
                };
                if delta && distribution.count == 0 {
                    return false;
                }
                put_message(out, 1, |out| {
                    put_fixed64(out, 2, start_unix_ns);
                    put_fixed64(out, 3, self.unix_ns);
                    put_fixed64(out, 4, distribution.count);
                    put_fixed64(out, 5, distribution.sum.to_bits());
                    let extremes = with_extremes.then_some([distribution.min, distribution.max]);
                    let exemplars =
                        exemplars.iter().filter(|exemplar| exemplar.unix_ns > self.before_unix_ns);
                    match &distribution.exponential {
                        Some(exponential) => {
                            put_attributes(out, 1, metric, resource, point);
                            put_exponential(out, exponential);
                            exemplars.for_each(|exemplar| put_exemplar(out, 11, exemplar));
                            put_extremes(out, 12, extremes);
                        }
                        None => {
                            put_attributes(out, 9, metric, resource, point);
                            put_explicit(out, metric.bounds, distribution);
                            exemplars.for_each(|exemplar| put_exemplar(out, 8, exemplar));
                            put_extremes(out, 11, extremes);
                        }
                    }
                });
            }
        }
        true
    }

    /// Closes the `ResourceMetrics` of a resource, and the request if it is large enough.
    fn close_resource(&mut self, resource: &Resource, encoded: &mut Vec<u8>) {
        if encoded.is_empty() {
            return;
        }
        put_message(&mut self.batch.message, 1, |out| {
            put_bytes(out, 1, &resource.protobuf);
            put_message(out, 2, |out| {
                out.extend_from_slice(&self.scope);
                out.append(encoded);
                put_bytes(out, 3, semconv::SCHEMA_URL.as_bytes());
            });
            put_bytes(out, 3, semconv::SCHEMA_URL.as_bytes());
        });
        if self.batch.message.len() >= ENOUGH_BYTES {
            self.batches.push(std::mem::take(&mut self.batch));
        }
    }

    fn finish(mut self) -> Vec<MetricsBatch> {
        if self.batch.points > 0 {
            self.batches.push(self.batch);
        }
        self.batches
    }
}

fn put_attributes(out: &mut Vec<u8>, field: u32, metric: &Metric, resource: &Resource, point: &Point) {
    for &(name, of_resource) in metric.resource_attributes {
        if let Some(text) = resource.text(of_resource) {
            put_text_attribute(out, field, name, text);
        }
    }
    if point.is_overflow() {
        return put_bool_attribute(out, field, semconv::OTEL_METRIC_OVERFLOW, true);
    }
    point.attributes(|name, value| match value {
        AttributeValue::Text(text) => put_text_attribute(out, field, name, text),
        AttributeValue::Int(number) => put_int_attribute(out, field, name, number),
    });
}

fn put_explicit(out: &mut Vec<u8>, bounds: &[f64], distribution: &Distribution) {
    put_packed(out, 6, distribution.explicit.iter().copied());
    if !distribution.explicit.is_empty() {
        put_packed(out, 7, bounds.iter().map(|bound| bound.to_bits()));
    }
}

/// A packed list of fields of eight bytes.
fn put_packed(out: &mut Vec<u8>, field: u32, values: impl ExactSizeIterator<Item = u64>) {
    if values.len() == 0 {
        return;
    }
    put_tag(out, field, LEN);
    put_varint(out, 8 * values.len() as u64);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_exponential(out: &mut Vec<u8>, exponential: &Exponential) {
    put_uint(out, 6, zigzag(exponential.scale()));
    put_fixed64(out, 7, exponential.zero_count());
    let (offset, counts) = exponential.buckets();
    if !counts.is_empty() {
        put_message(out, 8, |out| {
            put_uint(out, 1, zigzag(offset));
            put_message(out, 2, |out| counts.iter().for_each(|&count| put_varint(out, count)));
        });
    }
}

fn put_extremes(out: &mut Vec<u8>, field: u32, extremes: Option<[f64; 2]>) {
    if let Some([min, max]) = extremes {
        put_fixed64(out, field, min.to_bits());
        put_fixed64(out, field + 1, max.to_bits());
    }
}

fn put_exemplar(out: &mut Vec<u8>, field: u32, exemplar: &Exemplar) {
    put_message(out, field, |out| {
        put_fixed64(out, 2, exemplar.unix_ns);
        put_fixed64(out, 3, exemplar.value.to_bits());
        put_bytes(out, 4, &exemplar.span_id);
        put_bytes(out, 5, &exemplar.trace_id);
    });
}

/// `sint32`
fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)).cast_unsigned())
}

fn is_exponential(point: &Point) -> bool {
    matches!(point.value(), PointValue::Distribution(distribution, _) if distribution.exponential.is_some())
}

fn minus(number: Number, earlier: Number) -> Number {
    match (number, earlier) {
        (Number::Int(number), Number::Int(earlier)) => Number::Int(number.saturating_sub(earlier)),
        (Number::Double(number), Number::Double(earlier)) => Number::Double(number - earlier),
        _ => number,
    }
}

fn is_zero(number: Number) -> bool {
    match number {
        Number::Int(number) => number == 0,
        Number::Double(number) => number == 0.0,
    }
}

#[cfg(test)]
mod tests;
