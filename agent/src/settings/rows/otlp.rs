//! Where spans and metrics are exported to: OpenTelemetry's own variables, for both signals and for each.

use std::time::Duration;

use crate::export::otlp::settings::{check_endpoint, check_header};
use crate::settings::kind::{Kind, Unit, any_text};
use crate::settings::{ROW, Setting, section};

const PROTOCOLS: Kind = Kind::Choice(&[
    ("http/protobuf", "HTTP POST, port 4318 as a rule"),
    ("grpc", "gRPC, port 4317 as a rule"),
]);
const COMPRESSIONS: Kind = Kind::Choice(&[
    ("none", "Not compressed"),
    ("gzip", "What every receiver takes"),
    ("zstd", "Smaller for less CPU; collectors take it"),
]);
const EXPORTERS: Kind =
    Kind::Choice(&[("otlp", "To the endpoint, which is on localhost if none is set"), ("none", "Nowhere")]);
const TIMEOUT: Kind = Kind::Duration {
    bare: Unit::Milliseconds,
    min: Duration::from_millis(1),
    max: Duration::from_secs(3600),
};

const TRACES_ONLY: &str = "The same, for spans only";
const METRICS_ONLY: &str = "The same, for metrics only";

const fn row(
    key: &'static str,
    flag: &'static str,
    otel: &'static str,
    kind: Kind,
    value_name: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, flag, otel: Some(otel), kind, value_name, help, rare: true, ..ROW }
}

section! {
    ENDPOINT = Setting {
        rare: false,
        ..row("otlp.endpoint", "otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", Kind::Text(check_endpoint), "URL",
            "Export spans and metrics to this collector, such as http://localhost:4318\n\n\
             To HTTP endpoints `/v1/traces` and `/v1/metrics` are appended. https://… speaks TLS, unix:///run/otlp.sock \
             a unix socket. Without an endpoint nothing leaves this host")
    };
    PROTOCOL = Setting {
        default: Some("http/protobuf"),
        rare: false,
        ..row("otlp.protocol", "otlp-protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOLS, "PROTOCOL",
            "What the collector is spoken to in")
    };
    HEADERS = Setting {
        secret: true,
        rare: false,
        ..row("otlp.headers", "otlp-headers", "OTEL_EXPORTER_OTLP_HEADERS", Kind::Map(check_header), "NAME=VALUE,…",
            "Headers of each request, an API key for instance; values percent-encoded")
    };
    COMPRESSION = Setting {
        default: Some("none"),
        ..row("otlp.compression", "otlp-compression", "OTEL_EXPORTER_OTLP_COMPRESSION", COMPRESSIONS, "METHOD",
            "How request bodies are compressed")
    };
    TIMEOUT_OF_REQUEST = Setting {
        default: Some("10s"),
        ..row("otlp.timeout", "otlp-timeout", "OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT, "TIME",
            "How long one attempt may take, connecting included")
    };
    INSECURE = Setting {
        default: Some("false"),
        ..row("otlp.insecure", "otlp-insecure", "OTEL_EXPORTER_OTLP_INSECURE", Kind::Bool, "BOOL",
            "Speak plain gRPC to an endpoint without a scheme, rather than TLS")
    };
    CERTIFICATE = row("otlp.certificate", "otlp-certificate", "OTEL_EXPORTER_OTLP_CERTIFICATE", Kind::Text(any_text),
        "FILE", "Who may sign the collector's certificate (PEM), instead of the system's roots");
    CLIENT_CERTIFICATE = row("otlp.client_certificate", "otlp-client-certificate",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", Kind::Text(any_text), "FILE",
        "Certificate chain to show to the collector (PEM)");
    CLIENT_KEY = row("otlp.client_key", "otlp-client-key", "OTEL_EXPORTER_OTLP_CLIENT_KEY", Kind::Text(any_text),
        "FILE", "Key of the client certificate (PEM)");

    TRACES_EXPORTER = row("otlp.traces.exporter", "otlp-traces-exporter", "OTEL_TRACES_EXPORTER", EXPORTERS, "WHERE",
        "Whether spans are exported; without this, they are if there is an endpoint");
    TRACES_ENDPOINT = row("otlp.traces.endpoint", "otlp-traces-endpoint", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        Kind::Text(check_endpoint), "URL", "The endpoint for spans only; its path is taken as it is");
    TRACES_PROTOCOL = row("otlp.traces.protocol", "otlp-traces-protocol", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        PROTOCOLS, "PROTOCOL", TRACES_ONLY);
    TRACES_HEADERS = Setting {
        secret: true,
        ..row("otlp.traces.headers", "otlp-traces-headers", "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            Kind::Map(check_header), "NAME=VALUE,…", TRACES_ONLY)
    };
    TRACES_COMPRESSION = row("otlp.traces.compression", "otlp-traces-compression",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", COMPRESSIONS, "METHOD", TRACES_ONLY);
    TRACES_TIMEOUT = row("otlp.traces.timeout", "otlp-traces-timeout", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", TIMEOUT,
        "TIME", TRACES_ONLY);
    TRACES_INSECURE = row("otlp.traces.insecure", "otlp-traces-insecure", "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        Kind::Bool, "BOOL", TRACES_ONLY);
    TRACES_CERTIFICATE = row("otlp.traces.certificate", "otlp-traces-certificate",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", Kind::Text(any_text), "FILE", TRACES_ONLY);
    TRACES_CLIENT_CERTIFICATE = row("otlp.traces.client_certificate", "otlp-traces-client-certificate",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", Kind::Text(any_text), "FILE", TRACES_ONLY);
    TRACES_CLIENT_KEY = row("otlp.traces.client_key", "otlp-traces-client-key",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", Kind::Text(any_text), "FILE", TRACES_ONLY);

    METRICS_EXPORTER = row("otlp.metrics.exporter", "otlp-metrics-exporter", "OTEL_METRICS_EXPORTER", EXPORTERS,
        "WHERE", "Whether metrics are exported; without this, they are if there is an endpoint");
    METRICS_ENDPOINT = row("otlp.metrics.endpoint", "otlp-metrics-endpoint", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        Kind::Text(check_endpoint), "URL", "The endpoint for metrics only; its path is taken as it is");
    METRICS_PROTOCOL = row("otlp.metrics.protocol", "otlp-metrics-protocol", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        PROTOCOLS, "PROTOCOL", METRICS_ONLY);
    METRICS_HEADERS = Setting {
        secret: true,
        ..row("otlp.metrics.headers", "otlp-metrics-headers", "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
            Kind::Map(check_header), "NAME=VALUE,…", METRICS_ONLY)
    };
    METRICS_COMPRESSION = row("otlp.metrics.compression", "otlp-metrics-compression",
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", COMPRESSIONS, "METHOD", METRICS_ONLY);
    METRICS_TIMEOUT = row("otlp.metrics.timeout", "otlp-metrics-timeout", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
        TIMEOUT, "TIME", METRICS_ONLY);
    METRICS_INSECURE = row("otlp.metrics.insecure", "otlp-metrics-insecure", "OTEL_EXPORTER_OTLP_METRICS_INSECURE",
        Kind::Bool, "BOOL", METRICS_ONLY);
    METRICS_CERTIFICATE = row("otlp.metrics.certificate", "otlp-metrics-certificate",
        "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", Kind::Text(any_text), "FILE", METRICS_ONLY);
    METRICS_CLIENT_CERTIFICATE = row("otlp.metrics.client_certificate", "otlp-metrics-client-certificate",
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", Kind::Text(any_text), "FILE", METRICS_ONLY);
    METRICS_CLIENT_KEY = row("otlp.metrics.client_key", "otlp-metrics-client-key",
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", Kind::Text(any_text), "FILE", METRICS_ONLY);

    BATCH_DELAY = Setting {
        default: Some("1s"),
        ..row("otlp.batch.delay", "otlp-batch-delay", "OTEL_BSP_SCHEDULE_DELAY",
            Kind::Duration {
                bare: Unit::Milliseconds,
                min: Duration::from_millis(1),
                max: Duration::from_secs(60),
            },
            "TIME", "How long a span waits for others, at most")
    };
    BATCH_SPANS = Setting {
        default: Some("4096"),
        ..row("otlp.batch.spans", "otlp-batch-spans", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            Kind::Integer { min: 1, max: 1 << 20 }, "N", "Spans in a request, at most; it ends at 256 KiB as well")
    };
    QUEUE_SPANS = Setting {
        default: Some("1048576"),
        ..row("otlp.queue.spans", "otlp-queue-spans", "OTEL_BSP_MAX_QUEUE_SIZE",
            Kind::Integer { min: 1, max: 1 << 30 }, "N", "Spans that wait for the collector, at most")
    };
    QUEUE_SIZE = Setting {
        key: "otlp.queue.size",
        flag: "otlp-queue-size",
        kind: Kind::Size { min: 64 << 10, max: 1 << 30, power_of_two: false },
        default: Some("8M"),
        value_name: "SIZE",
        help: "Memory of what waits for the collector, compressed as it will be sent; more is dropped and counted",
        rare: true,
        ..ROW
    };
    RETRY_FOR = Setting {
        key: "otlp.retry_for",
        flag: "otlp-retry-for",
        kind: Kind::Duration {
            bare: Unit::Seconds,
            min: Duration::from_secs(1),
            max: Duration::from_secs(86_400),
        },
        default: Some("5m"),
        value_name: "TIME",
        help: "How long a request that failed is tried again",
        rare: true,
        ..ROW
    };
}
