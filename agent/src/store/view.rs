//! What the JSON API says, field by field (docs/api.md): the contract of version 1.
//!
//! Texts that came from outside are visible here: whatever could steer a terminal or mislead a reader is escaped.
//! Durations are nanoseconds, points in time microseconds since 1970 (below 2^53, so that JavaScript reads them).

use serde::Serialize;
use serde_json::{Map, Value};

/// Rate, errors and duration of some requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Red {
    /// Requests.
    pub count: u64,
    /// Those that failed.
    pub errors: u64,
    /// Requests per second.
    pub rate: f64,
    /// `errors` ÷ `count`, 0 without requests.
    pub error_share: f64,
    /// Median duration.
    pub p50_ns: u64,
    /// 95th percentile.
    pub p95_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Average.
    pub mean_ns: u64,
}

/// The stretch of time that an answer is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Window {
    /// Now.
    pub now_unix_us: u64,
    /// Begin: a slot's begin, or that of the store if it is younger.
    pub from_unix_us: u64,
    /// End.
    pub to_unix_us: u64,
    /// Its length, by which rates are divided.
    pub seconds: f64,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceRow {
    /// `service.name`.
    pub service: String,
    /// `server`: the figures are of what it answers; `client`: it only asks, and they are of that.
    pub role: &'static str,
    /// `telemetry.sdk.language`, where known.
    pub language: Option<String>,
    /// `skep`: seen from outside; `otlp`: told by the service itself.
    pub source: &'static str,
    /// Figures.
    #[serde(flatten)]
    pub red: Red,
    /// Requests per second over the window, oldest first.
    pub spark: Vec<f32>,
}

/// One span name of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationRow {
    /// `service.name`.
    pub service: String,
    /// Span kind.
    pub kind: &'static str,
    /// Span name: method and route of servers.
    pub name: String,
    /// Figures.
    #[serde(flatten)]
    pub red: Red,
    /// Requests per second over the window, oldest first.
    pub spark: Vec<f32>,
}

/// Who calls whom.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeRow {
    /// The service that asks; nothing: somebody who is not seen.
    pub from: Option<String>,
    /// The service that is asked, or the name of a peer that is not seen.
    pub to: String,
    /// Whether `to` is a service that is seen.
    pub to_seen: bool,
    /// Figures: as the caller measured, or the server where the caller is not seen.
    #[serde(flatten)]
    pub red: Red,
}

/// All services, operations and edges of a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// What it is about.
    pub window: Window,
    /// Requests that servers answered, all services together.
    pub total: Red,
    /// Services, busiest first.
    pub services: Vec<ServiceRow>,
    /// Edges, busiest first.
    pub edges: Vec<EdgeRow>,
    /// Requests per second over the window, oldest first.
    pub spark: Vec<f32>,
}

/// Operations of a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operations {
    /// What it is about.
    pub window: Window,
    /// Operations, busiest first.
    pub operations: Vec<OperationRow>,
}

/// One point of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Begin of its stretch.
    pub at_unix_us: u64,
    /// Requests.
    pub count: u64,
    /// Those that failed.
    pub errors: u64,
    /// Requests per second.
    pub rate: f64,
    /// Median duration.
    pub p50_ns: u64,
    /// 95th percentile.
    pub p95_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
}

/// Charts of a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What it is about.
    pub window: Window,
    /// Seconds between two points.
    pub step_s: u64,
    /// Figures of the whole window.
    pub total: Red,
    /// Points, oldest first, none left out.
    pub points: Vec<Point>,
}

/// Latency over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heatmap {
    /// What it is about.
    pub window: Window,
    /// Seconds between two columns.
    pub step_s: u64,
    /// Begin of each column, oldest first.
    pub columns_unix_us: Vec<u64>,
    /// Bounds of the rows, shortest first; one more than there are rows.
    pub bounds_ns: Vec<u64>,
    /// Requests: `counts[column][row]`.
    pub counts: Vec<Vec<u64>>,
}

/// One trace in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceRow {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// Service of the root.
    pub service: String,
    /// Kind of the root.
    pub kind: &'static str,
    /// Name of the root.
    pub name: String,
    /// Begin of the earliest span.
    pub start_unix_us: u64,
    /// From there to the end of the last span.
    pub duration_ns: u64,
    /// Spans kept.
    pub spans: u32,
    /// Services in it, at most 8.
    pub services: Vec<String>,
    /// Whether any span failed.
    pub failed: bool,
    /// Whether it took longer than is common for its root.
    pub slow: bool,
    /// Duration of the span that was searched for, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_ns: Option<u64>,
}

/// Traces found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Traces {
    /// How many match, shown or not.
    pub matched: u64,
    /// How many are kept in all.
    pub held: u64,
    /// Those shown.
    pub traces: Vec<TraceRow>,
}

/// One span of a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpanRow {
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// Its parent, if it has one.
    pub parent_span_id: Option<String>,
    /// Whether its parent is in this trace as it is kept.
    pub parent_seen: bool,
    /// How deep it lies below the root.
    pub depth: u32,
    /// Service.
    pub service: String,
    /// Kind.
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// `unset`, `ok` or `error`.
    pub status: &'static str,
    /// What happened, where that is known.
    pub message: String,
    /// Begin, from that of the trace.
    pub offset_ns: u64,
    /// Duration.
    pub duration_ns: u64,
    /// Attributes.
    pub attributes: Map<String, Value>,
    /// Attributes of the process.
    pub resource: Map<String, Value>,
    /// Spans that have to do with it: trace and span ids.
    pub links: Vec<(String, String)>,
    /// `skep` or `otlp`.
    pub source: &'static str,
}

/// A whole trace: spans in the order of a waterfall.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceView {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// Begin of the earliest span.
    pub start_unix_us: u64,
    /// From there to the end of the last span.
    pub duration_ns: u64,
    /// Whether any span failed.
    pub failed: bool,
    /// Spans that were not kept because the trace has too many.
    pub spans_dropped: u32,
    /// Spans, parents before children.
    pub spans: Vec<SpanRow>,
}
