//! Moments for tests: a few requests of two services, with known counts.

use std::sync::Arc;

use agent_pipeline::metrics::{Metrics, MetricsConfig, Now, Reader};
use agent_pipeline::request::{Request, SpanKind};
use agent_pipeline::span::{ParentRule, Span};

use super::collection::Collection;
use super::exchange::Moment;
use super::own::{Fixed, Own, OwnCounters};
use crate::discovery::resource::{Facts, Host, Identity, Resource};

/// 2026-11-25 12:00:00.123456789, the time of all fixtures.
pub(crate) const NOW: Now = Now { ktime_ns: 5_000_000_000, unix_ns: 1_795_608_000_123_456_789 };

/// The aggregation of a service `shop` whose attributes are hostile.
pub(crate) struct Fixture {
    pub(crate) metrics: Metrics<Arc<Resource>>,
    pub(crate) shop: Arc<Resource>,
}

impl Fixture {
    pub(crate) fn new(config: MetricsConfig) -> Self {
        let host = Host::read();
        let own =
            Arc::new(Resource::new(&host, &named("skep", &[]), None, (usize::MAX, &Identity::default())));
        let shop = named(
            "shop \"1\"\\\n",
            &[
                ("service.namespace", "prod"),
                ("service.instance.id", "i-1"),
                ("a.b", "one"),
                ("a_b", "two"),
                ("job", "x"),
                ("größe", "ü\n"),
            ],
        );
        let shop = Arc::new(Resource::new(&host, &shop, None, (usize::MAX, &Identity::default())));
        let start = Now { ktime_ns: 1_000_000_000, unix_ns: NOW.unix_ns - 4_000_000_000 };
        Self { metrics: Metrics::new(config, own, start), shop }
    }

    /// A request of `shop` that ended just now.
    pub(crate) fn request(&mut self, kind: SpanKind, route: &str, status_code: u16, duration_ms: u64) {
        let mut request = Request { kind, tgid: 7, ..Request::default() };
        let http = request.http_mut();
        http.set_method(b"GET");
        http.route.set(route.as_bytes());
        http.authority.set(b"api:8080");
        http.status_code = Some(status_code);
        http.response_body_size = Some(100);
        let span = Span {
            trace_id: [0xab; 16],
            span_id: [0xcd; 8],
            parent_span_id: None,
            flags: 1,
            remote_trace: false,
            trace_state: None,
            start_ktime_ns: NOW.ktime_ns - duration_ms * 1_000_000,
            end_ktime_ns: NOW.ktime_ns,
            tgid: 7,
            request: &request,
            parent_rule: ParentRule::None,
            links: &[],
        };
        let shop = Arc::clone(&self.shop);
        self.metrics.record(&span, true, || shop);
    }

    /// Everything at [`NOW`] and so many seconds.
    pub(crate) fn collection(&mut self, seconds: u64) -> Collection {
        let shop = Arc::clone(&self.shop);
        let now = Now {
            ktime_ns: NOW.ktime_ns + seconds * 1_000_000_000,
            unix_ns: NOW.unix_ns + seconds * 1_000_000_000,
        };
        let snapshot = self.metrics.snapshot(now, Reader::Push, |_| {}, |_| Arc::clone(&shop));
        let counters = OwnCounters {
            requests: 3,
            drops: vec![("http1", "gap", 2)],
            left_out: vec![("filter", "metrics", 1)],
            ..OwnCounters::default()
        };
        let fixed = Fixed { backends: vec![("fentry", false), ("syscall", true)], ..Fixed::default() };
        let own = Own { counters, fixed, ..Own::default() };
        let moment = Moment { snapshot, own, processes: Vec::new() };
        Collection::new(&moment, NOW.unix_ns - 4_000_000_000, &[("ok", 1)])
    }
}

fn named(name: &str, attributes: &[(&str, &str)]) -> Facts {
    let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    Facts {
        tgid: 7,
        service_name: Some(name.to_owned()),
        environment_attributes: attributes.iter().map(own).collect(),
        ..Facts::default()
    }
}
