//! Spans in, series out.

use std::collections::BTreeMap;

use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::metrics::key::AttributeValue;
use crate::metrics::rows::Cell;
use crate::request::ErrorType;
use crate::span::ParentRule;

impl Named for &'static str {
    fn service_name(&self) -> &str {
        self
    }

    fn is_same_target(&self, other: &Self) -> bool {
        self == other
    }
}

const SECOND: u64 = 1_000_000_000;

fn now(second: u64) -> Now {
    Now { ktime_ns: second * SECOND, unix_ns: (1_000 + second) * SECOND }
}

fn request(kind: SpanKind, method: &str, route: &str, status_code: u16) -> Request {
    let mut request = Request { kind, tgid: 7, ..Request::default() };
    let http = request.http_mut();
    http.set_method(method.as_bytes());
    http.route.set(route.as_bytes());
    http.status_code = Some(status_code);
    http.request_body_size = Some(0);
    http.response_body_size = Some(12);
    request
}

fn span(request: &Request, end_ktime_ns: u64, duration_ns: u64) -> Span<'_> {
    Span {
        trace_id: [1; 16],
        span_id: [2; 8],
        parent_span_id: None,
        flags: 1,
        remote_trace: false,
        trace_state: None,
        start_ktime_ns: end_ktime_ns - duration_ns,
        end_ktime_ns,
        tgid: request.tgid,
        request,
        parent_rule: ParentRule::None,
        links: &[],
    }
}

fn record(metrics: &mut Metrics<&'static str>, request: &Request, second: u64, duration_ns: u64) {
    metrics.record(&span(request, second * SECOND, duration_ns), true, || "shop");
}

fn take(metrics: &mut Metrics<&'static str>, second: u64) -> Snapshot<&'static str> {
    metrics.snapshot(now(second), Reader::Pull, |_| {}, |_| "shop")
}

/// `name{resource,attribute=value,…} value` of every instrument that has a value.
fn lines(snapshot: &Snapshot<&'static str>) -> Vec<String> {
    let mut lines = Vec::new();
    for (series, cells) in &snapshot.series {
        let family = &snapshot.families[usize::from(series.family)].family;
        let mut labels = vec![snapshot.resources[series.resource as usize].unwrap().to_owned()];
        if series.overflow {
            labels.push("overflow".to_owned());
        }
        for (attribute, value) in family.attributes.iter().zip(series.values()) {
            match value {
                None => {}
                Some(AttributeValue::Text(text)) => labels.push(format!("{}={text}", attribute.name)),
                Some(AttributeValue::Int(int)) => labels.push(format!("{}={int}", attribute.name)),
            }
        }
        for (instrument, cell) in family.instruments.iter().zip(&cells.cells) {
            let value = match cell {
                Cell::Distribution(distribution) => {
                    format!("count {} sum {}", distribution.count, distribution.sum)
                }
                Cell::Sum(sum) => sum.to_string(),
                Cell::Level(level) => level.to_string(),
            };
            lines.push(format!("{}{{{}}} {value}", instrument.name, labels.join(",")));
        }
    }
    lines.sort();
    lines
}

fn metrics(config: MetricsConfig) -> Metrics<&'static str> {
    Metrics::new(config, "skep", now(0))
}

#[test]
fn a_server_request_is_counted_with_its_attributes() {
    let mut metrics = metrics(MetricsConfig::default());
    let get = request(SpanKind::Server, "GET", "/users/{id}", 200);
    record(&mut metrics, &get, 1, SECOND / 4);
    record(&mut metrics, &get, 1, SECOND / 2);
    let failed =
        Request { error_type: Some(ErrorType::Timeout), ..request(SpanKind::Server, "BREW", "", 500) };
    record(&mut metrics, &failed, 1, SECOND);
    let get = "shop,http.request.method=GET,http.response.status_code=200,http.route=/users/{id},url.scheme=http,\
               network.protocol.version=1.1";
    let failed = "shop,http.request.method=_OTHER,http.response.status_code=500,error.type=timeout,url.scheme=http,\
                  network.protocol.version=1.1";
    let mut expected = vec![
        "http.server.active_requests{shop,http.request.method=GET,url.scheme=http} 0".to_owned(),
        "http.server.active_requests{shop,http.request.method=_OTHER,url.scheme=http} 0".to_owned(),
        format!("http.server.request.body.size{{{failed}}} count 1 sum 0"),
        format!("http.server.request.body.size{{{get}}} count 2 sum 0"),
        format!("http.server.request.duration{{{failed}}} count 1 sum 1"),
        format!("http.server.request.duration{{{get}}} count 2 sum 0.75"),
        format!("http.server.response.body.size{{{failed}}} count 1 sum 12"),
        format!("http.server.response.body.size{{{get}}} count 2 sum 24"),
    ];
    expected.sort();
    assert_eq!(lines(&take(&mut metrics, 2)), expected);
}

#[test]
fn a_client_request_names_its_server() {
    let mut metrics = metrics(MetricsConfig::default());
    let mut get = request(SpanKind::Client, "GET", "", 404);
    get.observe_header(b"host", b"api.example:8080");
    record(&mut metrics, &get, 1, SECOND);
    let lines = lines(&take(&mut metrics, 2));
    assert_eq!(
        lines[1],
        "http.client.request.duration{shop,http.request.method=GET,http.response.status_code=404,error.type=404,\
         server.address=api.example,server.port=8080,url.scheme=http,network.protocol.version=1.1} count 1 sum 1"
    );
    assert_eq!(lines.len(), 3);
}

#[test]
fn what_is_beyond_the_limit_goes_into_one_series_of_its_resource() {
    let mut metrics = metrics(MetricsConfig { max_series: 10, max_resources: 3, ..MetricsConfig::default() });
    for tgid in [7, 8, 9] {
        for index in 0..20 {
            let get = Request { tgid, ..request(SpanKind::Server, "GET", &format!("/{index}"), 200) };
            metrics.record(&span(&get, SECOND, 1), false, || ["a", "b", "c"][tgid as usize - 7]);
        }
    }
    let snapshot = take(&mut metrics, 2);
    let lines = lines(&snapshot);
    let counts: BTreeMap<&str, &str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("http.server.request.duration{")?.split_once("} count "))
        .map(|(labels, count)| (labels, count.split(' ').next().unwrap()))
        .collect();
    assert_eq!(counts["a,overflow"], "10");
    assert_eq!(counts["b,overflow"], "20");
    // The third process has no resource of its own any more.
    assert_eq!(counts["skep,overflow"], "20");
    assert_eq!(counts.len(), 13);
    let total: u64 = counts.values().map(|count| count.parse::<u64>().unwrap()).sum();
    assert_eq!(total, 60);
    assert_eq!(snapshot.stats.overflowed, 50);
}

#[test]
fn an_idle_series_is_forgotten_and_begins_anew() {
    let mut metrics = metrics(MetricsConfig { idle: Duration::from_secs(60), ..MetricsConfig::default() });
    let get = request(SpanKind::Server, "GET", "/", 200);
    metrics.tick(now(10));
    record(&mut metrics, &get, 10, 1);
    metrics.tick(now(69));
    let before = take(&mut metrics, 69);
    assert_eq!(before.series.len(), 2);
    metrics.tick(now(71));
    assert_eq!(take(&mut metrics, 71).series.len(), 0, "the series of active requests goes with it");
    metrics.tick(now(80));
    record(&mut metrics, &get, 80, 1);
    let after = take(&mut metrics, 81);
    let start = |snapshot: &Snapshot<_>| (snapshot.series[0].0.id, snapshot.series[0].0.start_unix_ns);
    assert_eq!(start(&before).1, now(10).unix_ns);
    assert_eq!(start(&after).1, now(80).unix_ns);
    assert_ne!(start(&before).0, start(&after).0);
    assert_eq!(after.stats.expired, 2);
}

#[test]
fn room_is_used_again() {
    let mut metrics = metrics(MetricsConfig { max_series: 5, ..MetricsConfig::default() });
    for round in 0..100 {
        let second = round * 1000;
        metrics.tick(now(second));
        for index in 0..5 {
            let get = request(SpanKind::Server, "GET", &format!("/{round}/{index}"), 200);
            record(&mut metrics, &get, second + 1, 1);
        }
    }
    let snapshot = take(&mut metrics, 99_002);
    assert_eq!((snapshot.stats.overflowed, snapshot.series.len()), (0, 6));
}

#[test]
fn nothing_is_forgotten_before_it_was_pushed() {
    let idle = Duration::from_secs(60);
    let mut metrics = metrics(MetricsConfig { idle, push: true, ..MetricsConfig::default() });
    let get = request(SpanKind::Client, "GET", "", 200);
    record(&mut metrics, &get, 1, 1);
    metrics.tick(now(500));
    assert_eq!(take(&mut metrics, 500).series.len(), 1);
    let pushed = metrics.snapshot(now(501), Reader::Push, |_| {}, |_| "shop");
    assert_eq!(pushed.series.len(), 1);
    metrics.tick(now(502));
    assert_eq!(take(&mut metrics, 502).series.len(), 0);
}

#[test]
fn active_requests_are_those_that_are_open() {
    let mut metrics = metrics(MetricsConfig::default());
    let open = [
        request(SpanKind::Server, "GET", "/a", 0),
        request(SpanKind::Server, "GET", "/b", 0),
        request(SpanKind::Server, "POST", "/b", 0),
        request(SpanKind::Client, "POST", "/b", 0),
    ];
    let mut check = |open: &[Request], second, expected: &[&str]| {
        let snapshot =
            metrics.snapshot(now(second), Reader::Pull, |visit| open.iter().for_each(visit), |_| "shop");
        let lines = lines(&snapshot);
        let actual: Vec<&str> = lines
            .iter()
            .map(|line| line.strip_prefix("http.server.active_requests{shop,http.request.method=").unwrap())
            .collect();
        assert_eq!(actual, expected);
    };
    check(&open, 1, &["GET,url.scheme=http} 2", "POST,url.scheme=http} 1"]);
    check(&open[1..2], 2, &["GET,url.scheme=http} 1", "POST,url.scheme=http} 0"]);
    check(&[], 3, &["GET,url.scheme=http} 0", "POST,url.scheme=http} 0"]);
}

#[test]
fn a_process_that_runs_another_program_is_another_resource() {
    let mut metrics = metrics(MetricsConfig::default());
    let get = request(SpanKind::Client, "GET", "", 200);
    metrics.record(&span(&get, SECOND, 1), false, || "before");
    metrics.forget_process(7);
    metrics.record(&span(&get, SECOND, 1), false, || "after");
    let lines = lines(&take(&mut metrics, 2));
    assert!(lines[0].contains("{after,") && lines[1].contains("{before,"), "{lines:?}");
}

#[test]
fn a_snapshot_does_not_change_afterwards() {
    let mut metrics = metrics(MetricsConfig::default());
    let get = request(SpanKind::Client, "GET", "", 200);
    record(&mut metrics, &get, 1, SECOND);
    let (first, expected) = (take(&mut metrics, 1), lines(&take(&mut metrics, 1)));
    record(&mut metrics, &get, 2, SECOND);
    assert_eq!(lines(&first), expected);
    assert_ne!(lines(&take(&mut metrics, 2)), expected);
}

#[test]
fn exemplars_are_the_newest_of_their_bucket() {
    let mut metrics = metrics(MetricsConfig::default());
    let get = request(SpanKind::Client, "GET", "", 200);
    for (id, duration_ns, exemplar) in
        [(1, 1_000_000, true), (2, 2_000_000, true), (3, SECOND, true), (4, 1, false)]
    {
        let span = Span { trace_id: [id; 16], ..span(&get, SECOND, duration_ns) };
        metrics.record(&span, exemplar, || "shop");
    }
    let snapshot = take(&mut metrics, 2);
    let exemplars = &snapshot.series[0].1.exemplars;
    let ids: Vec<(u8, u8)> =
        exemplars.iter().map(|exemplar| (exemplar.bucket, exemplar.trace_id[0])).collect();
    assert_eq!(ids, [(0, 2), (9, 3)]);
    assert_eq!(exemplars[0].unix_ns, now(1).unix_ns);
}

#[test]
fn span_metrics_have_the_names_of_tempo() {
    let mut metrics = metrics(MetricsConfig { span_metrics: true, ..MetricsConfig::default() });
    record(&mut metrics, &request(SpanKind::Server, "GET", "/a", 500), 1, SECOND);
    let lines = lines(&take(&mut metrics, 2));
    let labels = "{shop,span_name=GET /a,span_kind=SPAN_KIND_SERVER,status_code=STATUS_CODE_ERROR}";
    assert!(lines.contains(&format!("traces_spanmetrics_latency{labels} count 1 sum 1")), "{lines:?}");
    assert!(lines.contains(&format!("traces_spanmetrics_calls_total{labels} 1")), "{lines:?}");
}

#[test]
fn edges_join_both_ends_in_any_order() {
    let mut metrics = metrics(MetricsConfig { service_graph: true, ..MetricsConfig::default() });
    let mut client = request(SpanKind::Client, "GET", "", 500);
    client.observe_header(b"host", b"cart.local");
    let server = Request { tgid: 8, ..request(SpanKind::Server, "GET", "/", 500) };
    let name = |tgid| if tgid == 7 { "shop" } else { "cart" };
    for (id, client_first) in [(1, true), (2, false)] {
        let client = Span { span_id: [id; 8], ..span(&client, SECOND, SECOND / 2) };
        let server =
            Span { span_id: [9; 8], parent_span_id: Some([id; 8]), ..span(&server, SECOND, SECOND / 4) };
        for span in if client_first { [client, server] } else { [server, client] } {
            metrics.record(&span, false, || name(span.tgid));
        }
    }
    // No server end was seen, and no client end.
    metrics.record(&Span { span_id: [3; 8], ..span(&client, SECOND, SECOND) }, false, || "shop");
    metrics.record(&span(&server, SECOND, SECOND), false, || "cart");
    // The parent of this one is never seen: nobody knows whose it is.
    metrics.record(&Span { parent_span_id: Some([4; 8]), ..span(&server, SECOND, SECOND) }, false, || "cart");
    metrics.tick(now(60));
    let snapshot = take(&mut metrics, 61);
    let lines = lines(&snapshot);
    let expected = [
        "request_failed_total{skep,client=shop,server=cart} 2",
        "request_failed_total{skep,client=shop,server=cart.local,connection_type=virtual_node} 1",
        "request_failed_total{skep,client=user,server=cart,connection_type=virtual_node} 1",
        "request_server_seconds{skep,client=shop,server=cart} count 2 sum 0.5",
        "request_client_seconds{skep,client=shop,server=cart} count 2 sum 1",
        "request_total{skep,client=shop,server=cart} 2",
    ];
    for line in expected {
        let line = format!("traces_service_graph_{line}");
        assert!(lines.contains(&line), "{line} in {lines:#?}");
    }
    assert_eq!(snapshot.stats.unpaired, 1);
}

#[test]
fn databases_are_nodes_of_the_graph() {
    let mut metrics = metrics(MetricsConfig { service_graph: true, ..MetricsConfig::default() });
    let mut query = Request { kind: SpanKind::Client, tgid: 7, ..Request::default() };
    query.db_mut().namespace.set(b"orders");
    record(&mut metrics, &query, 1, SECOND);
    let lines = lines(&take(&mut metrics, 2));
    let edge =
        "traces_service_graph_request_total{skep,client=shop,server=orders,connection_type=database} 1";
    assert!(lines.iter().any(|line| line == edge), "{lines:#?}");
    assert!(
        lines.contains(
            &"db.client.operation.duration{shop,db.system.name=other_sql,db.namespace=orders} count 1 sum 1"
                .into()
        ),
        "{lines:#?}"
    );
}

proptest! {
    #[test]
    fn nothing_is_lost_whatever_comes(
        spans in proptest::collection::vec((0..4_u32, 0..6_u8, 200..205_u16, 0..20 * SECOND), 0..300),
        max_series in 0..40_usize,
    ) {
        let config = MetricsConfig { max_series, max_resources: 3, exponential: true, ..MetricsConfig::default() };
        let mut metrics = metrics(config);
        let mut sum_ns = 0;
        for &(tgid, route, status_code, duration_ns) in &spans {
            let request = Request { tgid, ..request(SpanKind::Server, "GET", &format!("/{route}"), status_code) };
            metrics.record(&span(&request, 100 * SECOND, duration_ns), true, || ["a", "b", "c", "d"][tgid as usize]);
            sum_ns += duration_ns;
        }
        let snapshot = take(&mut metrics, 101);
        let (mut count, mut buckets, mut exponential, mut sum) = (0, 0, 0, 0.0);
        for (series, cells) in &snapshot.series {
            if let (0, Cell::Distribution(distribution)) = (series.family, &cells.cells[0]) {
                count += distribution.count;
                sum += distribution.sum;
                buckets += distribution.explicit.iter().sum::<u64>();
                let histogram = distribution.exponential.as_ref().unwrap();
                exponential += histogram.zero_count() + histogram.buckets().1.iter().sum::<u64>();
            }
        }
        let expected = spans.len() as u64;
        prop_assert_eq!((count, buckets, exponential), (expected, expected, expected));
        prop_assert!((sum - sum_ns as f64 / 1e9).abs() < 1e-6);
        let series = snapshot.series.iter().filter(|(series, _)| series.family == 0 && !series.overflow);
        prop_assert!(series.count() <= max_series);
    }
}
