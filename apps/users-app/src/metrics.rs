//! What is counted: requests and their durations, by handler, method and class of status, each with the trace id of a
//! request as exemplar. Shown on `/metrics` as OpenMetrics text.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::exemplar::{CounterWithExemplar, HistogramWithExemplars};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the buckets; 0.1 and 1.0 are those that objectives speak of.
const BOUNDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What tells one series from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    handler: String,
    method: &'static str,
    status: &'static str,
}

/// One request as an example.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Example {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
}

/// All series.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, CounterWithExemplar<Example>>,
    durations: Family<Labels, HistogramWithExemplars<Example>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Labels, CounterWithExemplar<Example>>::default();
        registry.register("http_requests", "Requests that were answered", requests.clone());
        let durations = Family::<Labels, HistogramWithExemplars<Example>>::new_with_constructor(|| {
            HistogramWithExemplars::new(BOUNDS.into_iter())
        });
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request to its answer",
            Unit::Seconds,
            durations.clone(),
        );
        Self { registry, requests, durations }
    }

    /// Counts one answered request. `handler` is the route's pattern.
    pub(crate) fn observe(
        &self,
        handler: &str,
        method: &'static str,
        status: u16,
        seconds: f64,
        example: Option<Example>,
    ) {
        let labels = Labels { handler: handler.to_owned(), method, status: class(status) };
        self.requests.get_or_create(&labels).inc_by(1, example.clone(), None);
        self.durations.get_or_create(&labels).observe(seconds, example, None);
    }

    /// The page.
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_what_objectives_ask_for() {
        let metrics = Metrics::new();
        let example = Example { trace_id: "aa".into(), span_id: "bb".into() };
        metrics.observe("/users", "GET", 200, 0.05, Some(example.clone()));
        metrics.observe("/users", "GET", 503, 10.0, Some(example));
        let page = metrics.render().expect("writes to a string");
        for line in [
            r#"http_requests_total{handler="/users",method="GET",status="2xx"} 1 # {trace_id="aa",span_id="bb"}"#,
            r#"http_requests_total{handler="/users",method="GET",status="5xx"} 1"#,
            r#"http_request_duration_seconds_bucket{le="0.1",handler="/users",method="GET",status="2xx"} 1"#,
            r#"http_request_duration_seconds_bucket{le="1.0",handler="/users",method="GET",status="5xx"} 0"#,
            "# EOF",
        ] {
            assert!(page.contains(line), "{line}\nis not in\n{page}");
        }
    }
}
