//! What a library can tell of every request that a server answers: a SERVER span, `http.server.request.duration`,
//! `http.server.active_requests` and an access line, by the HTTP semantic conventions.

use std::sync::LazyLock;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::metrics::{Histogram, UpDownCounter};
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::HeaderExtractor;

/// Bounds that the conventions give for durations in seconds.
pub const DURATION_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

struct Instruments {
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter("demo.server");
    Instruments {
        duration: meter
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_description("Duration of HTTP server requests.")
            .with_boundaries(DURATION_BOUNDS.to_vec())
            .build(),
        active: meter
            .i64_up_down_counter("http.server.active_requests")
            .with_unit("{request}")
            .with_description("Number of active HTTP server requests.")
            .build(),
    }
});

/// The layer: `axum::middleware::from_fn(demo_telemetry::server::observe)`.
pub async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let active = [KeyValue::new("http.request.method", method), KeyValue::new("url.scheme", "http")];

    let parent =
        global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(request.headers())));
    let tracer = global::tracer("demo.server");
    let name = route.as_ref().map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("url.path", request.uri().path().to_owned()),
        KeyValue::new("url.scheme", "http"),
    ];
    attributes.extend(route.clone().map(|route| KeyValue::new("http.route", route)));
    attributes
        .extend(header(&request, "user-agent").map(|agent| KeyValue::new("user_agent.original", agent)));
    if let Some(host) = header(&request, "host") {
        let (address, port) = host.rsplit_once(':').unwrap_or((&host, "80"));
        attributes.push(KeyValue::new("server.address", address.to_owned()));
        attributes.extend(port.parse::<i64>().ok().map(|port| KeyValue::new("server.port", port)));
    }
    let builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
    let context = parent.with_span(tracer.build_with_context(builder, &parent));
    let _active = Active::new(active);

    let path = request.uri().path().to_owned();
    let response = next.run(request).with_context(context.clone()).await;

    let status = response.status();
    let span = context.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    let mut labels = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
    ];
    labels.extend(route.map(|route| KeyValue::new("http.route", route)));
    if status.is_server_error() {
        span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
        span.set_status(Status::error(""));
        labels.push(KeyValue::new("error.type", status.as_str().to_owned()));
    }
    INSTRUMENTS.duration.record(started.elapsed().as_secs_f64(), &labels);
    access_line(&context, method, &path, status.as_u16(), started);
    span.end();
    response
}

/// Counted down even if the client leaves and the request is dropped half-way.
struct Active([KeyValue; 2]);

impl Active {
    fn new(labels: [KeyValue; 2]) -> Self {
        INSTRUMENTS.active.add(1, &labels);
        Self(labels)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        INSTRUMENTS.active.add(-1, &self.0);
    }
}

/// Written while the span is current, so that the line carries its ids.
fn access_line(context: &Context, method: &str, path: &str, status: u16, started: Instant) {
    let _current = context.clone().attach();
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    if status >= 500 {
        tracing::error!(method, path, status, duration_ms, "{method} {path} answered {status}");
    } else {
        tracing::info!(method, path, status, duration_ms, "{method} {path} answered {status}");
    }
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The method, or `_OTHER`: whoever calls decides how many others there are.
pub(crate) fn method_name(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}
