//! An HTTP client that tells of every request it makes: a CLIENT span, `http.client.request.duration`, and trace
//! headers on the wire, by the HTTP semantic conventions. Connections are kept and used again.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry::metrics::Histogram;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::HeaderInjector;

use crate::server::DURATION_BOUNDS;

/// Longest answer that is taken.
const MAX_ANSWER_BYTES: usize = 1 << 20;

static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    global::meter("demo.client")
        .f64_histogram("http.client.request.duration")
        .with_unit("s")
        .with_description("Duration of HTTP client requests.")
        .with_boundaries(DURATION_BOUNDS.to_vec())
        .build()
});

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The server could not be reached, or broke off.
    Unreachable,
    /// The server did not answer in time.
    Timeout,
}

impl Failure {
    /// The value of `error.type`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "connection_error",
            Self::Timeout => "timeout",
        }
    }
}

/// A client with a limit of time.
#[derive(Clone)]
pub struct Client {
    inner: HyperClient<HttpConnector, Empty<Bytes>>,
    timeout: Duration,
}

impl Client {
    /// Whose requests take `timeout` at most, answer included.
    pub fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let inner = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Self { inner, timeout }
    }

    /// Gets a resource.
    ///
    /// # Errors
    /// [`Failure`]; an error status is an answer like any other.
    pub async fn get(&self, uri: Uri) -> Result<(StatusCode, Bytes), Failure> {
        let started = Instant::now();
        let tracer = global::tracer("demo.client");
        let host = uri.host().unwrap_or_default().to_owned();
        let port = i64::from(uri.port_u16().unwrap_or(80));
        let mut labels = vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("server.address", host),
            KeyValue::new("server.port", port),
        ];
        let mut attributes = labels.clone();
        attributes.push(KeyValue::new("url.full", uri.to_string()));
        let builder = tracer.span_builder("GET").with_kind(SpanKind::Client).with_attributes(attributes);
        let context = Context::current_with_span(tracer.build_with_context(builder, &Context::current()));

        let outcome = self.send(uri, &context).await;

        let span = context.span();
        let error_type = match &outcome {
            Ok((status, _)) => {
                let code = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
                span.set_attribute(code.clone());
                labels.push(code);
                (status.as_u16() >= 400).then(|| status.as_str().to_owned())
            }
            Err(failure) => Some(failure.as_str().to_owned()),
        };
        if let Some(error_type) = error_type {
            span.set_attribute(KeyValue::new("error.type", error_type.clone()));
            span.set_status(Status::error(""));
            labels.push(KeyValue::new("error.type", error_type));
        }
        DURATION.record(started.elapsed().as_secs_f64(), &labels);
        span.end();
        outcome
    }

    async fn send(&self, uri: Uri, context: &Context) -> Result<(StatusCode, Bytes), Failure> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("edge-app"));
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(context, &mut HeaderInjector(request.headers_mut()));
        });
        let exchange = async {
            let response = self.inner.request(request).await.map_err(|_| Failure::Unreachable)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
            let body = body.collect().await.map_err(|_| Failure::Unreachable)?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(Err(Failure::Timeout))
    }
}
