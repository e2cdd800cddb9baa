//! Which metrics there are, and who reads them.

use std::time::Duration;

use crate::metrics::config;
use crate::settings::kind::{Kind, Unit};
use crate::settings::{ROW, Setting, section};

section! {
    PROMETHEUS_LISTEN = Setting {
        key: "prometheus.listen",
        flag: "prometheus-listen",
        kind: Kind::Text(config::check_listen),
        value_name: "ADDRESS",
        help: "Serve metrics to Prometheus there, such as 127.0.0.1:9464, or 9464 for short\n\n\
            /metrics in Prometheus' text format or OpenMetrics, whatever the scraper asks for; /healthz and /readyz. An \
            address that other machines reach needs --prometheus-public as well",
        ..ROW
    };
    PROMETHEUS_PUBLIC = Setting {
        key: "prometheus.public",
        flag: "prometheus-public",
        default: Some("false"),
        help: "Let other machines reach the Prometheus endpoint, which asks for no password",
        rare: true,
        ..ROW
    };
    COMPAT = Setting {
        key: "metrics.compat",
        flag: "compat",
        kind: Kind::Choice(&[
            ("none", "Names and buckets of the semantic conventions"),
            ("beyla", "Names, labels and buckets that dashboards for Beyla 2.5 use"),
        ]),
        default: Some("none"),
        value_name: "NAMES",
        help: "Whose names metrics have",
        rare: true,
        ..ROW
    };
    MAX_SERIES = Setting {
        key: "metrics.max_series",
        flag: "max-series",
        kind: Kind::Integer { min: 1, max: 100_000 },
        default: Some("2000"),
        value_name: "N",
        help: "Series of one metric at the same time; what is beyond goes into one series\n\n\
            That series has no attribute but otel.metric.overflow",
        rare: true,
        ..ROW
    };
    IDLE = Setting {
        key: "metrics.idle",
        flag: "metrics-idle",
        kind: Kind::Duration {
            bare: Unit::Seconds,
            min: Duration::from_secs(1),
            max: Duration::from_secs(30 * 86_400),
        },
        default: Some("5m"),
        value_name: "TIME",
        help: "Forget a series that had no request for so long",
        rare: true,
        ..ROW
    };
    SPAN_METRICS = Setting {
        key: "metrics.spans",
        flag: "span-metrics",
        default: Some("false"),
        help: "Metrics of spans, with the names of Grafana Tempo's metrics generator",
        rare: true,
        ..ROW
    };
    SERVICE_GRAPH = Setting {
        key: "metrics.service_graph",
        flag: "service-graph",
        default: Some("false"),
        help: "Metrics of who calls whom, with the names of Grafana Tempo's metrics generator",
        rare: true,
        ..ROW
    };
    PROCESSES = Setting {
        key: "metrics.processes",
        flag: "process-metrics",
        default: Some("false"),
        help: "CPU time, memory and file descriptors of the watched processes",
        rare: true,
        ..ROW
    };
    EXPORT_INTERVAL = Setting {
        key: "metrics.export_interval",
        flag: "metric-export-interval",
        otel: Some("OTEL_METRIC_EXPORT_INTERVAL"),
        kind: Kind::Duration {
            bare: Unit::Milliseconds,
            min: Duration::from_millis(100),
            max: Duration::from_secs(86_400),
        },
        default: Some("60s"),
        value_name: "TIME",
        help: "Between two exports of metrics over OTLP",
        rare: true,
        ..ROW
    };
    TEMPORALITY = Setting {
        key: "metrics.temporality",
        flag: "metrics-temporality",
        otel: Some("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"),
        kind: Kind::Choice(&[
            ("cumulative", "Counts since the start of each series"),
            ("delta", "Counts since the export before; levels as they are"),
            ("lowmemory", "As delta, but for counters that are only looked at"),
        ]),
        default: Some("cumulative"),
        value_name: "KIND",
        help: "What counts and histograms of metrics over OTLP cover",
        rare: true,
        ..ROW
    };
    HISTOGRAMS = Setting {
        key: "metrics.histograms",
        flag: "metrics-histograms",
        otel: Some("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"),
        kind: Kind::Choice(&[
            ("explicit_bucket_histogram", "The bounds of the semantic conventions"),
            ("base2_exponential_bucket_histogram", "Buckets that fit the values, at most 160"),
        ]),
        default: Some("explicit_bucket_histogram"),
        value_name: "KIND",
        help: "Buckets of histograms over OTLP",
        rare: true,
        ..ROW
    };
}
