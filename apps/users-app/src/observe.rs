//! Around every request: its SERVER span, its metrics with that span as example, its access line, `X-Process-Time`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::HeaderExtractor;

use crate::App;
use crate::metrics::Example;
use crate::profile;

/// The layer.
pub(crate) async fn request(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_name(request.method());
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let context = begin(&request, method, route.as_deref());

    let mut response = next.run(request).with_context(context.clone()).await;

    let seconds = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    let handler = route.as_deref().unwrap_or("none");
    app.metrics.observe(handler, method, status, seconds, example(&context));
    if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.6}")) {
        response.headers_mut().insert("x-process-time", value);
    }
    {
        let _current = context.clone().attach();
        tracing::info!(method, path, status, "{method} {path} answered {status} in {seconds:.3} s");
    }
    end(&context, status);
    response
}

fn begin(request: &Request, method: &'static str, route: Option<&str>) -> Context {
    let parent =
        global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(request.headers())));
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("url.path", request.uri().path().to_owned()),
        KeyValue::new("url.scheme", "http"),
    ];
    let mut name = method.to_owned();
    if let Some(route) = route {
        attributes.push(KeyValue::new("http.route", route.to_owned()));
        name = format!("{method} {route}");
    }
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(host) = header("host") {
        let (address, port) = host.rsplit_once(':').unwrap_or((host, "80"));
        attributes.push(KeyValue::new("server.address", address.to_owned()));
        attributes.extend(port.parse::<i64>().ok().map(|port| KeyValue::new("server.port", port)));
    }
    if let Some(agent) = header("user-agent") {
        attributes.push(KeyValue::new("user_agent.original", agent.to_owned()));
    }
    let tracer = global::tracer("users-app");
    let builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
    let context = parent.with_span(tracer.build_with_context(builder, &parent));
    let span = context.span();
    // Pyroscope's samples carry the same value: a span's profile is found by it.
    span.set_attribute(KeyValue::new(profile::SPAN_ATTRIBUTE, span.span_context().span_id().to_string()));
    context
}

fn end(context: &Context, status: u16) {
    let span = context.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    if status >= 500 {
        span.set_attribute(KeyValue::new("error.type", status.to_string()));
        span.set_status(Status::error(""));
    }
    span.end();
}

/// Only spans that are kept make good examples.
fn example(context: &Context) -> Option<Example> {
    let span = context.span();
    let span = span.span_context();
    span.is_sampled()
        .then(|| Example { trace_id: span.trace_id().to_string(), span_id: span.span_id().to_string() })
}

/// The method, or `_OTHER`: whoever calls decides how many others there are.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}
