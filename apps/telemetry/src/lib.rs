//! The telemetry layer of the demo's services: OpenTelemetry set up once, and a server and a client layer that need no
//! line in the handlers.
//!
//! In: the standard `OTEL_*` variables. Out: traces, metrics and logs by OTLP over gRPC, and log lines on standard
//! error. `edge-app` uses all of it; `users-app` writes its telemetry by hand and uses only [`Telemetry`].

pub mod client;
pub mod health;
pub mod process;
pub mod server;

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result};
use opentelemetry::{KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

/// How long the last export may take when the service stops.
const LAST_EXPORT: Duration = Duration::from_secs(3);
/// The exporter's own libraries: what they log would be exported, which they would log.
const OWN_LIBRARIES: &str = "info,h2=off,hyper=off,hyper_util=off,tonic=off,tower=off,opentelemetry=off";

/// The providers of one service.
pub struct Telemetry {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: SdkLoggerProvider,
}

impl Telemetry {
    /// Starts export; a collector that is not there yet is no error.
    ///
    /// # Errors
    /// An `OTEL_*` variable that makes no sense.
    pub fn start(service_name: &'static str, version: &'static str) -> Result<Self> {
        global::set_text_map_propagator(TraceContextPropagator::new());
        let resource = resource(service_name, version);
        let spans = SpanExporter::builder().with_tonic().build().context("set up the export of spans")?;
        let metrics =
            MetricExporter::builder().with_tonic().build().context("set up the export of metrics")?;
        let logs = LogExporter::builder().with_tonic().build().context("set up the export of logs")?;
        let telemetry = Self {
            traces: SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(spans)
                .build(),
            metrics: SdkMeterProvider::builder()
                .with_resource(resource.clone())
                .with_periodic_exporter(metrics)
                .build(),
            logs: SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(logs).build(),
        };
        global::set_tracer_provider(telemetry.traces.clone());
        global::set_meter_provider(telemetry.metrics.clone());
        process::observe();
        tracing_subscriber::registry()
            .with(OpenTelemetryTracingBridge::new(&telemetry.logs).with_filter(EnvFilter::new(OWN_LIBRARIES)))
            .with(fmt::layer().json().with_writer(std::io::stderr).with_filter(log_filter()))
            .init();
        Ok(telemetry)
    }

    /// Exports what is left. Blocks: call it when the last request is answered, from a thread that may wait.
    pub fn shutdown(self) {
        // The order matters: what ends a span may still log.
        for (what, outcome) in [
            ("spans", self.traces.shutdown_with_timeout(LAST_EXPORT)),
            ("metrics", self.metrics.shutdown_with_timeout(LAST_EXPORT)),
            ("logs", self.logs.shutdown_with_timeout(LAST_EXPORT)),
        ] {
            if let Err(error) = outcome {
                tracing::warn!("export the last {what}: {error}");
            }
        }
    }
}

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are read by the SDK and win.
fn resource(service_name: &'static str, version: &'static str) -> Resource {
    let given = env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let unless_given =
        |name: &'static str, value: String| (!given.contains(name)).then(|| KeyValue::new(name, value));
    let mut builder = Resource::builder().with_attributes(
        [
            unless_given("service.version", version.to_owned()),
            unless_given("service.namespace", "demo".to_owned()),
            unless_given("service.instance.id", instance_id()),
            unless_given("deployment.environment.name", "demo".to_owned()),
        ]
        .into_iter()
        .flatten(),
    );
    if env::var_os("OTEL_SERVICE_NAME").is_none() {
        builder = builder.with_service_name(service_name);
    }
    builder.build()
}

/// One for each start of the process.
fn instance_id() -> String {
    let host = env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
    format!("{host}-{:016x}", rand::random::<u64>())
}

/// `RUST_LOG`, else what a reader of standard error wants to see.
fn log_filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(OWN_LIBRARIES))
}

/// Ends when the process is asked to: SIGTERM, or SIGINT.
pub async fn asked_to_stop() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
