//! The boards of the demo, as data.

use super::model::{Board, Form, Panel, Query, Row, Source, Variable, panel, query, query_of};

const GOOD_IS_HIGH: &[(f64, &str)] = &[(0.0, "red"), (0.8, "orange"), (0.95, "green")];
const BAD_IS_HIGH: &[(f64, &str)] = &[(0.0, "green"), (0.1, "orange"), (0.2, "red")];
const SLOW_IS_BAD: &[(f64, &str)] = &[(0.0, "green"), (0.5, "orange"), (1.0, "red")];
const ANY_IS_BAD: &[(f64, &str)] = &[(0.0, "green"), (0.001, "red")];
const BUDGET: &[(f64, &str)] = &[(-1e9, "red"), (0.0, "green")];

pub(super) fn all() -> Vec<Board> {
    vec![
        users_red(),
        users_observability(),
        server_red("edge-red", "edge-app RED", "demo/edge-app"),
        server_red("golang-red", "golang-app RED, as Skep sees it", "demo/golang-app"),
        slo_list(),
        slo_detail(),
        skep_health(),
        resources(),
        service_map(),
        collector(),
        logs(),
        load(),
        alerts(),
    ]
}

fn board(uid: &'static str, title: &'static str, rows: Vec<Row>) -> Board {
    Board { uid, title, tags: &["demo"], from: "now-15m", refresh: "5s", variables: Vec::new(), rows }
}

fn row(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, panels }
}

/// users-app's own metrics: what its code counts by hand.
fn users_red() -> Board {
    const REQUESTS: &str = "http_requests_total{job=\"users-app\"";
    const COUNT: &str = "http_request_duration_seconds_count{job=\"users-app\"";
    let share_of = |status: &str| {
        format!(
            "sum by (handler) (rate({REQUESTS},status=\"{status}\"}}[$__rate_interval])) / sum by (handler) (rate({REQUESTS}}}[$__rate_interval]))"
        )
    };
    let quantile = |quantile: &str| {
        format!(
            "histogram_quantile({quantile}, sum by (handler, le) (rate(http_request_duration_seconds_bucket{{job=\"users-app\"}}[$__rate_interval])))"
        )
    };
    let rate = vec![
        panel(
            "Good and failing requests per minute",
            "short",
            vec![
                query(format!("60 * sum(rate({REQUESTS},status!=\"5xx\"}}[$__rate_interval]))"), "good")
                    .color("green"),
                query(format!("60 * sum(rate({REQUESTS},status=\"5xx\"}}[$__rate_interval]))"), "failing")
                    .color("red"),
            ],
        ),
        panel(
            "Requests per second by class of status",
            "reqps",
            vec![query(format!("sum by (status) (rate({REQUESTS}}}[$__rate_interval]))"), "{{status}}")],
        )
        .form(Form::Bars),
        panel("Share of 2xx", "percentunit", vec![query(share_of("2xx"), "{{handler}}")])
            .share()
            .thresholds(&[(0.0, "red"), (0.8, "green")]),
        panel("Share of 5xx", "percentunit", vec![query(share_of("5xx"), "{{handler}}")])
            .share()
            .thresholds(&[(0.0, "green"), (0.1, "red")]),
    ];
    let latency = vec![
        panel(
            "Mean duration",
            "s",
            vec![query(
                format!(
                    "sum by (method, handler) (rate(http_request_duration_seconds_sum{{job=\"users-app\"}}[5m])) / sum by (method, handler) (rate({COUNT}}}[5m]))"
                ),
                "{{method}} {{handler}}",
            )],
        )
        .form(Form::Gauge)
        .thresholds(SLOW_IS_BAD),
        panel("Median duration", "s", vec![query(quantile("0.5"), "{{handler}}")]),
        panel("p90", "s", vec![query(quantile("0.9"), "{{handler}}")]).thresholds(SLOW_IS_BAD),
        panel(
            "Mean duration over time",
            "s",
            vec![query(
                format!(
                    "sum by (handler) (rate(http_request_duration_seconds_sum{{job=\"users-app\"}}[$__rate_interval])) / sum by (handler) (rate({COUNT}}}[$__rate_interval]))"
                ),
                "{{handler}}",
            )],
        ),
        panel(
            "Share under 100 ms",
            "percentunit",
            vec![query(
                format!(
                    "sum by (handler) (rate(http_request_duration_seconds_bucket{{job=\"users-app\",le=\"0.1\"}}[$__rate_interval])) / sum by (handler) (rate({COUNT}}}[$__rate_interval]))"
                ),
                "{{handler}}",
            )],
        )
        .share(),
        panel(
            "Durations",
            "s",
            vec![query(
                "sum by (le) (increase(http_request_duration_seconds_bucket{job=\"users-app\"}[$__rate_interval]))",
                "{{le}}",
            )],
        )
        .what("A cell is a number of requests; the dots are traces.")
        .form(Form::Heatmap),
    ];
    let profile = vec![
        panel("CPU profile", "short", vec![query_of(Source::Pyroscope, "{service_name=\"users-app\"}")])
            .what("do_long_work is what burns on purpose.")
            .form(Form::FlameGraph)
            .width(24)
            .height(12),
    ];
    board(
        "users-red",
        "users-app RED",
        vec![row("Count", rate), row("Latency", latency), row("Where the time goes", profile)],
    )
}

fn users_observability() -> Board {
    const REQUESTS: &str = "http_requests_total{job=\"$job\"";
    let share_of = |status: &str| {
        format!(
            "sum by (handler) (rate({REQUESTS},status=\"{status}\"}}[$__rate_interval])) / sum by (handler) (rate({REQUESTS}}}[$__rate_interval]))"
        )
    };
    let panels = vec![
        panel("Requests in 24 hours", "short", vec![query(format!("sum(increase({REQUESTS}}}[24h]))"), "requests")])
            .form(Form::Stat)
            .width(8),
        panel(
            "Requests in 24 hours, by endpoint",
            "short",
            vec![query(
                format!("sum by (method, handler) (increase({REQUESTS}}}[24h]))"),
                "{{method}} {{handler}}",
            )],
        )
        .form(Form::Stat)
        .width(16),
        panel(
            "Mean duration",
            "s",
            vec![query(
                "sum by (method, handler) (rate(http_request_duration_seconds_sum{job=\"$job\"}[5m])) / sum by (method, handler) (rate(http_request_duration_seconds_count{job=\"$job\"}[5m]))",
                "{{method}} {{handler}}",
            )],
        )
        .form(Form::Gauge)
        .width(8)
        .thresholds(SLOW_IS_BAD),
        panel("Share of 2xx", "percentunit", vec![query(share_of("2xx"), "{{handler}}")])
            .share()
            .width(8)
            .thresholds(&[(0.0, "red"), (0.8, "green")]),
        panel("Share of 5xx", "percentunit", vec![query(share_of("5xx"), "{{handler}}")])
            .share()
            .width(8)
            .thresholds(&[(0.0, "green"), (0.1, "red")]),
        panel(
            "p99",
            "s",
            vec![query(
                "histogram_quantile(0.99, sum by (handler, le) (rate(http_request_duration_seconds_bucket{job=\"$job\"}[$__rate_interval])))",
                "{{handler}}",
            )],
        ),
        panel(
            "Requests per second",
            "reqps",
            vec![query(
                format!("sum by (method, handler, status) (rate({REQUESTS}}}[$__rate_interval]))"),
                "{{method}} {{handler}} {{status}}",
            )],
        ),
    ];
    let mut board = board("users-observability", "users-app observability", vec![row("Requests", panels)]);
    board.variables =
        vec![Variable { name: "job", label: "Name", metric: "http_requests_total", value_of: "job" }];
    board
}

/// A service whose metrics have the names of the semantic conventions, whoever made them.
fn server_red(uid: &'static str, title: &'static str, job: &str) -> Board {
    let server = |name: &str, more: &str| {
        format!("http_server_request_duration_seconds_{name}{{job=\"{job}\"{more}}}")
    };
    let client = |name: &str| format!("http_client_request_duration_seconds_{name}{{job=\"{job}\"}}");
    let quantile = |quantile: &str| {
        format!(
            "histogram_quantile({quantile}, sum by (http_route, le) (rate({}[$__rate_interval])))",
            server("bucket", "")
        )
    };
    let failing = format!(
        "sum(rate({}[$__rate_interval])) or vector(0)",
        server("count", ",http_response_status_code=~\"5..\"")
    );
    let red = vec![
        panel(
            "Requests per second",
            "reqps",
            vec![query(
                format!("sum by (http_route) (rate({}[$__rate_interval]))", server("count", "")),
                "{{http_route}}",
            )],
        )
        .width(8),
        panel("Failing requests per second", "reqps", vec![query(failing, "5xx").color("red")]).width(8),
        panel(
            "Active requests",
            "short",
            vec![query(format!("sum(http_server_active_requests{{job=\"{job}\"}})"), "active")],
        )
        .width(8),
        panel("Median duration", "s", vec![query(quantile("0.5"), "{{http_route}}")]).width(8),
        panel("p95", "s", vec![query(quantile("0.95"), "{{http_route}}")]).width(8),
        panel(
            "By status",
            "reqps",
            vec![query(
                format!(
                    "sum by (http_response_status_code) (rate({}[$__rate_interval]))",
                    server("count", "")
                ),
                "{{http_response_status_code}}",
            )],
        )
        .form(Form::Bars)
        .width(8),
        panel(
            "Durations",
            "s",
            vec![query(
                format!("sum by (le) (increase({}[$__rate_interval]))", server("bucket", "")),
                "{{le}}",
            )],
        )
        .what("A cell is a number of requests; the dots are traces.")
        .form(Form::Heatmap)
        .width(24),
    ];
    let calls = vec![
        panel(
            "Calls per second",
            "reqps",
            vec![query(
                format!("sum by (server_address) (rate({}[$__rate_interval]))", client("count")),
                "{{server_address}}",
            )],
        ),
        panel(
            "p95 of calls",
            "s",
            vec![query(
                format!(
                    "histogram_quantile(0.95, sum by (server_address, le) (rate({}[$__rate_interval])))",
                    client("bucket")
                ),
                "{{server_address}}",
            )],
        ),
    ];
    board(uid, title, vec![row("Requests", red), row("Calls to others", calls)])
}

fn slo_list() -> Board {
    let budget = "(pyrra_availability - on (slo) pyrra_objective) / on (slo) (1 - pyrra_objective)";
    let panels = vec![
        panel("Objective", "percentunit", vec![query("sum by (slo) (pyrra_objective)", "{{slo}}")])
            .form(Form::Gauge)
            .share()
            .width(6),
        panel("Window", "s", vec![query("sum by (slo) (pyrra_window)", "{{slo}}")])
            .form(Form::Gauge)
            .width(6),
        panel("Availability", "percentunit", vec![query("sum by (slo) (pyrra_availability)", "{{slo}}")])
            .form(Form::Gauge)
            .share()
            .thresholds(GOOD_IS_HIGH)
            .width(6),
        panel("Error budget left", "percentunit", vec![query(budget, "{{slo}}")])
            .form(Form::Gauge)
            .signed()
            .thresholds(BUDGET)
            .width(6),
    ];
    let mut board = board("slo-list", "SLOs", vec![row("Service level objectives", panels)]);
    board.from = "now-6h";
    board
}

fn slo_detail() -> Board {
    let budget = "(pyrra_availability{slo=\"$slo\"} - on (slo) pyrra_objective) / on (slo) (1 - pyrra_objective{slo=\"$slo\"})";
    let stat = |title, unit, expr: &str| panel(title, unit, vec![query(expr, "")]).form(Form::Stat).width(6);
    let panels = vec![
        stat("Objective", "percentunit", "pyrra_objective{slo=\"$slo\"}"),
        stat("Window", "s", "pyrra_window{slo=\"$slo\"}"),
        stat("Availability", "percentunit", "pyrra_availability{slo=\"$slo\"}").thresholds(GOOD_IS_HIGH),
        stat("Error budget left", "percentunit", budget).signed().thresholds(BUDGET),
        panel("Error budget", "percentunit", vec![query(budget, "left")])
            .signed()
            .thresholds(BUDGET)
            .width(24),
        // Since Pyrra 0.9 these two are rates already.
        panel(
            "Requests per second",
            "reqps",
            vec![query("sum(pyrra_requests:rate5m{slo=\"$slo\"})", "requests")],
        ),
        panel(
            "Errors per second",
            "reqps",
            vec![query("sum(pyrra_errors:rate5m{slo=\"$slo\"})", "errors").color("red")],
        ),
    ];
    let mut board = board("slo-detail", "SLO detail", vec![row("$slo", panels)]);
    board.from = "now-24h";
    board.refresh = "10s";
    board.variables =
        vec![Variable { name: "slo", label: "SLO", metric: "pyrra_objective", value_of: "slo" }];
    board
}

fn skep_health() -> Board {
    let rate = |metric: &str| format!("rate({metric}[$__rate_interval])");
    let state = vec![
        panel("Attached", "short", vec![query("skep_attached", "{{backend}}")]).form(Form::Stat).width(6),
        panel("Processes watched", "short", vec![query("skep_processes", "processes")])
            .form(Form::Stat)
            .width(6),
        panel("Spans per second", "short", vec![query(rate("skep_spans_total"), "spans")])
            .form(Form::Stat)
            .width(6),
        panel(
            "Lost in the last hour",
            "short",
            vec![query(
                "sum(increase(skep_dropped_total{stage=~\"kernel|stream|request|output|export.*\"}[1h]))",
                "lost",
            )],
        )
        .form(Form::Stat)
        .thresholds(ANY_IS_BAD)
        .width(6),
    ];
    let flow = vec![
        panel(
            "Requests and spans",
            "short",
            vec![query(rate("skep_requests_total"), "requests"), query(rate("skep_spans_total"), "spans")],
        ),
        panel(
            "Dropped, by stage and reason",
            "short",
            vec![query(
                "sum by (stage, reason) (rate(skep_dropped_total[$__rate_interval]) > 0)",
                "{{stage}}/{{reason}}",
            )],
        )
        .what("Empty is good. What filters and samplers leave out on purpose is beside it."),
        panel(
            "Left out on purpose",
            "short",
            vec![query(
                "sum by (stage, reason) (rate(skep_left_out_total[$__rate_interval]))",
                "{{stage}}/{{reason}}",
            )],
        ),
        panel(
            "Bytes seen and copied",
            "Bps",
            vec![
                query(rate("skep_seen_bytes_total"), "seen"),
                query(rate("skep_copied_bytes_total"), "copied"),
            ],
        ),
    ];
    let export = vec![
        panel(
            "Export queue",
            "short",
            vec![query("sum by (signal) (skep_export_queue_items)", "{{signal}}")],
        ),
        panel(
            "Export",
            "short",
            vec![
                query(
                    "sum by (signal) (rate(skep_export_delivered_total[$__rate_interval]))",
                    "delivered {{signal}}",
                ),
                query(
                    "sum by (signal) (rate(skep_export_failures_total[$__rate_interval]))",
                    "failed requests {{signal}}",
                )
                .color("red"),
            ],
        ),
    ];
    let cost = vec![
        panel(
            "CPU",
            "percentunit",
            vec![query("sum(rate(skep_cpu_time_seconds_total[$__rate_interval]))", "of one CPU")],
        )
        .width(8),
        panel(
            "Memory",
            "bytes",
            vec![
                query("skep_memory_resident_bytes", "resident"),
                query("skep_maps_memory_bytes", "kernel maps"),
                query("skep_ring_buffer_size_bytes", "ring buffer"),
            ],
        )
        .width(8),
        panel("Tables", "percentunit", vec![query("skep_pipeline_usage / skep_pipeline_limit", "{{table}}")])
            .share()
            .width(8),
    ];
    board(
        "skep-health",
        "Skep",
        vec![row("State", state), row("Flow", flow), row("Export", export), row("Cost", cost)],
    )
}

fn resources() -> Board {
    let both = |theirs: &str, collector: &str, skep: &str, ours: &str| -> Vec<Query> {
        vec![
            query(theirs, "{{job}}"),
            query(collector, "otel-collector"),
            query(skep, "skep"),
            query(ours, "{{job}}"),
        ]
    };
    let panels = vec![
        panel(
            "CPU",
            "percentunit",
            both(
                "sum by (job) (rate(process_cpu_seconds_total[$__rate_interval]))",
                "sum(rate(otelcol_process_cpu_seconds_total[$__rate_interval]))",
                "sum(rate(skep_cpu_time_seconds_total[$__rate_interval]))",
                "sum by (job) (rate(process_cpu_time_seconds_total[$__rate_interval]))",
            ),
        )
        .what("Of one CPU.")
        .form(Form::Stacked)
        .height(10),
        panel(
            "Resident memory",
            "bytes",
            both(
                "sum by (job) (process_resident_memory_bytes)",
                "sum(otelcol_process_memory_rss_bytes)",
                "sum(skep_memory_resident_bytes)",
                "sum by (job) (process_memory_usage_bytes)",
            ),
        )
        .form(Form::Stacked)
        .height(10),
        panel(
            "Open files",
            "short",
            vec![
                query("sum by (job) (process_open_fds)", "{{job}}"),
                query("sum by (job) (process_unix_file_descriptor_count)", "{{job}}"),
            ],
        ),
        panel("Series in Prometheus", "short", vec![query("prometheus_tsdb_head_series", "series")]),
    ];
    board("resources", "Resources", vec![row("Per service", panels)])
}

fn service_map() -> Board {
    let edge = |expr: &str| query(expr.to_owned(), "{{client}} → {{server}}");
    let panels = vec![
        panel("Who calls whom", "short", vec![query_of(Source::Tempo, "serviceMap")])
            .form(Form::NodeGraph)
            .width(24)
            .height(14),
        panel(
            "Calls per second",
            "reqps",
            vec![edge("sum by (client, server) (rate(traces_service_graph_request_total[$__rate_interval]))")],
        )
        .width(8),
        panel(
            "Failing calls per second",
            "reqps",
            vec![edge("sum by (client, server) (rate(traces_service_graph_request_failed_total[$__rate_interval]))")],
        )
        .width(8),
        panel(
            "p95 as the client sees it",
            "s",
            vec![edge(
                "histogram_quantile(0.95, sum by (client, server, le) (rate(traces_service_graph_request_client_seconds_bucket[$__rate_interval])))",
            )],
        )
        .width(8),
        panel(
            "Spans per second",
            "short",
            vec![query(
                "sum by (service_name, span_name) (rate(traces_span_metrics_calls_total[$__rate_interval]))",
                "{{service_name}} {{span_name}}",
            )],
        ),
        panel(
            "p95 of spans",
            "s",
            vec![query(
                "histogram_quantile(0.95, sum by (service_name, span_name, le) (rate(traces_span_metrics_duration_seconds_bucket[$__rate_interval])))",
                "{{service_name}} {{span_name}}",
            )],
        ),
    ];
    board("service-map", "Service map", vec![row("Calls", panels)])
}

fn collector() -> Board {
    let flow = |title, parts: [(&str, &'static str); 3]| {
        let queries =
            parts.map(|(metric, legend)| query(format!("sum(rate({metric}[$__rate_interval]))"), legend));
        panel(title, "short", queries.into())
    };
    let panels = vec![
        flow(
            "Spans",
            [
                ("otelcol_receiver_accepted_spans_total", "accepted"),
                ("otelcol_exporter_sent_spans_total", "sent"),
                ("otelcol_exporter_send_failed_spans_total", "failed"),
            ],
        ),
        flow(
            "Log records",
            [
                ("otelcol_receiver_accepted_log_records_total", "accepted"),
                ("otelcol_exporter_sent_log_records_total", "sent"),
                ("otelcol_exporter_send_failed_log_records_total", "failed"),
            ],
        ),
        panel(
            "Refused spans",
            "short",
            vec![
                query("sum(rate(otelcol_receiver_refused_spans_total[$__rate_interval]))", "refused")
                    .color("red"),
            ],
        )
        .width(8),
        panel(
            "Queues",
            "short",
            vec![query("sum by (exporter) (otelcol_exporter_queue_size)", "{{exporter}}")],
        )
        .width(8),
        panel("Memory", "bytes", vec![query("otelcol_process_memory_rss_bytes", "resident")]).width(8),
    ];
    board("collector", "OpenTelemetry Collector", vec![row("Pipelines", panels)])
}

fn logs() -> Board {
    let panels = vec![
        panel(
            "Lines per minute",
            "short",
            vec![query_of(Source::Loki, "sum by (service_name) (count_over_time({service_name=~\".+\"}[1m]))")],
        )
        .form(Form::Bars),
        panel(
            "Warnings and errors per minute",
            "short",
            vec![query_of(
                Source::Loki,
                "sum by (service_name, severity_text) (count_over_time({service_name=~\".+\"} | severity_text=~\"(?i)warn|error\" [1m]))",
            )],
        )
        .form(Form::Bars),
        panel("Lines", "", vec![query_of(Source::Loki, "{service_name=~\"edge-app|users-app|golang-app\"}")])
            .form(Form::Logs)
            .width(24)
            .height(16),
    ];
    board("logs", "Logs", vec![row("All services", panels)])
}

fn load() -> Board {
    let edge = |name: &str| format!("http_server_request_duration_seconds_{name}{{job=\"demo/edge-app\"}}");
    let panels = vec![
        panel(
            "Requests per second that arrive",
            "reqps",
            vec![query(format!("sum by (http_route) (rate({}[$__rate_interval]))", edge("count")), "{{http_route}}")],
        )
        .form(Form::Stacked),
        panel(
            "Share that fails",
            "percentunit",
            vec![query(
                "sum(rate(http_server_request_duration_seconds_count{job=\"demo/edge-app\",http_response_status_code=~\"5..\"}[$__rate_interval])) / sum(rate(http_server_request_duration_seconds_count{job=\"demo/edge-app\"}[$__rate_interval]))",
                "5xx",
            )],
        )
        .share()
        .thresholds(BAD_IS_HIGH),
        panel(
            "Durations, as a client of edge-app feels them",
            "s",
            [("0.5", "median"), ("0.9", "p90"), ("0.99", "p99")]
                .map(|(quantile, legend)| {
                    query(
                        format!("histogram_quantile({quantile}, sum by (le) (rate({}[$__rate_interval])))", edge("bucket")),
                        legend,
                    )
                })
                .into(),
        ),
        panel(
            "Requests in work",
            "short",
            vec![query("sum(http_server_active_requests{job=\"demo/edge-app\"})", "edge-app")],
        ),
    ];
    board("load", "Load test", vec![row("While k6 runs", panels)])
}

fn alerts() -> Board {
    let panels = vec![
        panel("Now", "", Vec::new()).form(Form::Alerts).width(8).height(14),
        panel(
            "Firing",
            "short",
            vec![query(
                "sum by (alertname, service) (ALERTS{alertstate=\"firing\"})",
                "{{alertname}} {{service}}",
            )],
        )
        .form(Form::Bars)
        .width(8)
        .height(14),
        panel("Targets", "short", vec![query("min by (job) (up)", "{{job}}")])
            .form(Form::Gauge)
            .share()
            .thresholds(&[(0.0, "red"), (1.0, "green")])
            .width(8)
            .height(14),
    ];
    board("alerts", "Alerts", vec![row("Alerts", panels)])
}
