//! Collections in, requests out, decoded with the reference implementation.

use std::collections::BTreeMap;

use agent_pipeline::metrics::{MetricsConfig, Names};
use agent_pipeline::request::SpanKind;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, exponential_histogram_data_point::Buckets, metric, number_data_point,
};
use prost::Message as _;

use super::{CUMULATIVE, DELTA, MetricsEncoder};
use crate::export::otlp::queue::MetricsBatch;
use crate::metrics::config::Temporality;
use crate::metrics::fixture::{Fixture, NOW};

fn push() -> MetricsConfig {
    MetricsConfig { push: true, ..MetricsConfig::default() }
}

fn decode(batches: Vec<MetricsBatch>) -> Vec<(ExportMetricsServiceRequest, u64)> {
    let decode = |batch: MetricsBatch| {
        (ExportMetricsServiceRequest::decode(&batch.message[..]).unwrap(), batch.points)
    };
    batches.into_iter().map(decode).collect()
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::BoolValue(truth) => truth.to_string(),
        other => panic!("{other:?}"),
    };
    let all: BTreeMap<_, _> =
        attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect();
    assert_eq!(all.len(), attributes.len(), "an attribute comes twice: {attributes:?}");
    all
}

/// Metrics by name of the service, in one request.
fn of(batches: Vec<MetricsBatch>, service: &str) -> BTreeMap<String, Metric> {
    let [(request, _)] = &decode(batches)[..] else { panic!("not one request") };
    let mut found = BTreeMap::new();
    for resource in &request.resource_metrics {
        let named = attributes(&resource.resource.as_ref().unwrap().attributes);
        let [scope] = &resource.scope_metrics[..] else { panic!("not one scope") };
        assert_eq!(scope.scope.as_ref().unwrap().name, "skep");
        assert!(resource.schema_url.ends_with("/1.41.0") && scope.schema_url == resource.schema_url);
        if named["service.name"] == service {
            for metric in &scope.metrics {
                assert!(found.insert(metric.name.clone(), metric.clone()).is_none(), "{} twice", metric.name);
            }
        }
    }
    found
}

const SHOP: &str = "shop \"1\"\\\n";

#[test]
fn a_histogram_arrives_whole() {
    let mut fixture = Fixture::new(push());
    fixture.request(SpanKind::Server, "/users/{id}", 200, 7);
    fixture.request(SpanKind::Server, "/users/{id}", 200, 3000);
    let metrics = of(MetricsEncoder::new(Temporality::Cumulative).encode(fixture.collection(1)), SHOP);
    let duration = &metrics["http.server.request.duration"];
    assert_eq!(duration.unit, "s");
    let Some(metric::Data::Histogram(histogram)) = &duration.data else { panic!("{duration:?}") };
    assert_eq!(histogram.aggregation_temporality as u64, CUMULATIVE);
    let [point] = &histogram.data_points[..] else { panic!("{histogram:?}") };
    assert_eq!((point.count, point.sum), (2, Some(3.007)));
    assert_eq!((point.min, point.max), (Some(0.007), Some(3.0)));
    assert_eq!(point.explicit_bounds.len() + 1, point.bucket_counts.len());
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 2);
    assert_eq!((point.bucket_counts[1], point.bucket_counts[11]), (1, 1));
    assert_eq!(point.start_time_unix_nano, NOW.unix_ns - 4_000_000_000);
    assert_eq!(point.time_unix_nano, NOW.unix_ns + 1_000_000_000);
    let attributes = attributes(&point.attributes);
    assert_eq!(attributes["http.route"], "/users/{id}");
    assert_eq!(attributes["http.response.status_code"], "200");
    let ids: Vec<_> =
        point.exemplars.iter().map(|exemplar| (&exemplar.trace_id[..], &exemplar.span_id[..])).collect();
    assert_eq!(ids, [(&[0xab; 16][..], &[0xcd; 8][..]); 2]);

    let active = &metrics["http.server.active_requests"];
    let Some(metric::Data::Sum(sum)) = &active.data else { panic!("{active:?}") };
    assert!(!sum.is_monotonic && sum.aggregation_temporality as u64 == CUMULATIVE);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(0)));
}

#[test]
fn skep_tells_about_itself() {
    let mut fixture = Fixture::new(push());
    let metrics = of(MetricsEncoder::new(Temporality::Cumulative).encode(fixture.collection(1)), "skep");
    let dropped = &metrics["skep.dropped"];
    let Some(metric::Data::Sum(sum)) = &dropped.data else { panic!("{dropped:?}") };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(2)));
    assert_eq!(attributes(&sum.data_points[0].attributes)["reason"], "gap");
    let info = &metrics["skep.build.info"];
    assert!(
        matches!(&info.data, Some(metric::Data::Gauge(gauge)) if gauge.data_points.len() == 1),
        "{info:?}"
    );
}

#[test]
fn exponential_buckets_hold_every_value() {
    let mut fixture = Fixture::new(MetricsConfig { exponential: true, explicit: false, ..push() });
    for duration_ms in [0, 1, 7, 3000] {
        fixture.request(SpanKind::Client, "", 200, duration_ms);
    }
    let metrics = of(MetricsEncoder::new(Temporality::Cumulative).encode(fixture.collection(1)), SHOP);
    let duration = &metrics["http.client.request.duration"];
    let Some(metric::Data::ExponentialHistogram(histogram)) = &duration.data else { panic!("{duration:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.zero_count), (4, 1));
    let Some(Buckets { offset, bucket_counts }) = &point.positive else { panic!("{point:?}") };
    assert_eq!(bucket_counts.iter().sum::<u64>(), 3);
    assert!(bucket_counts.len() <= 160);
    // The first bucket holds the smallest value.
    let base = (-f64::from(point.scale)).exp2();
    let low = (f64::from(*offset) * base).exp2();
    let high = (f64::from(*offset + 1) * base).exp2();
    assert!(low < 0.001 && 0.001 <= high, "{low} {high}");
    assert_eq!(attributes(&point.attributes)["server.address"], "api");
}

#[test]
fn deltas_are_what_came_since_the_export_before() {
    for (exponential, temporality) in [(false, Temporality::Delta), (true, Temporality::LowMemory)] {
        let mut fixture = Fixture::new(MetricsConfig { exponential, ..push() });
        let mut encoder = MetricsEncoder::new(temporality);
        let counts = |batches: Vec<MetricsBatch>| -> Option<(u64, u64, usize)> {
            let metrics = of(batches, SHOP);
            match &metrics.get("http.client.request.duration")?.data {
                Some(metric::Data::Histogram(histogram)) => {
                    assert_eq!(histogram.aggregation_temporality as u64, DELTA);
                    let point = &histogram.data_points[0];
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                    Some((point.count, point.start_time_unix_nano, point.exemplars.len()))
                }
                Some(metric::Data::ExponentialHistogram(histogram)) => {
                    assert_eq!(histogram.aggregation_temporality as u64, DELTA);
                    let point = &histogram.data_points[0];
                    let buckets = point.positive.as_ref().unwrap();
                    assert_eq!(buckets.bucket_counts.iter().sum::<u64>(), point.count);
                    Some((point.count, point.start_time_unix_nano, point.exemplars.len()))
                }
                other => panic!("{other:?}"),
            }
        };
        fixture.request(SpanKind::Client, "", 200, 1);
        fixture.request(SpanKind::Client, "", 200, 2);
        let start = NOW.unix_ns - 4_000_000_000;
        assert_eq!(counts(encoder.encode(fixture.collection(1))), Some((2, start, 1)));
        fixture.request(SpanKind::Client, "", 200, 3000);
        let before = NOW.unix_ns + 1_000_000_000;
        // The exemplar is older than the export before: its time is that of the fixture.
        assert_eq!(counts(encoder.encode(fixture.collection(2))), Some((1, before, 0)));
        let nothing = encoder.encode(fixture.collection(3));
        let metrics = of(nothing.clone(), SHOP);
        assert!(!metrics.contains_key("http.client.request.duration"), "{metrics:?}");
        // Counters of Skep itself are only looked at.
        let own = of(nothing, "skep");
        assert_eq!(own.contains_key("skep.requests"), temporality == Temporality::LowMemory);
    }
}

#[test]
fn large_collections_become_several_requests() {
    let mut fixture = Fixture::new(push());
    for index in 0..1990 {
        fixture.request(SpanKind::Server, &format!("/{index}/{}", "x".repeat(200)), 200, 1);
    }
    let requests = decode(MetricsEncoder::new(Temporality::Cumulative).encode(fixture.collection(1)));
    assert!(requests.len() > 1, "{}", requests.len());
    let mut routes = BTreeMap::<String, u64>::new();
    for (request, points) in &requests {
        let mut counted = 0;
        for metric in request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics)
        {
            counted += match metric.data.as_ref().unwrap() {
                metric::Data::Histogram(histogram) => {
                    for point in &histogram.data_points {
                        if metric.name == "http.server.request.duration" {
                            *routes
                                .entry(attributes(&point.attributes)["http.route"].clone())
                                .or_default() += 1;
                        }
                    }
                    histogram.data_points.len()
                }
                metric::Data::Sum(sum) => sum.data_points.len(),
                metric::Data::Gauge(gauge) => gauge.data_points.len(),
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(counted as u64, *points);
        assert!(request.encoded_len() < 4 << 20);
    }
    assert_eq!(routes.len(), 1990);
    assert!(routes.values().all(|&count| count == 1));
}

#[test]
fn beyla_and_overflow_have_their_attributes() {
    let mut fixture = Fixture::new(MetricsConfig { names: Names::Beyla, max_series: 1, ..push() });
    fixture.request(SpanKind::Server, "/a", 200, 1);
    fixture.request(SpanKind::Server, "/b", 200, 1);
    let metrics = of(MetricsEncoder::new(Temporality::Cumulative).encode(fixture.collection(1)), SHOP);
    let Some(metric::Data::Histogram(histogram)) = &metrics["http.server.request.duration"].data else {
        panic!("no histogram")
    };
    let all: Vec<_> = histogram.data_points.iter().map(|point| attributes(&point.attributes)).collect();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|attributes| attributes["service.namespace"] == "prod"));
    assert!(all.iter().any(|attributes| attributes.get("http.route").is_some_and(|route| route == "/a")));
    assert!(
        all.iter()
            .any(|attributes| attributes.get("otel.metric.overflow").is_some_and(|text| text == "true"))
    );
}
