//! Which metrics a query names, and which metrics something of the demo produces.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Functions, operators and words of PromQL, which look like names of metrics.
const WORDS: &[&str] = &[
    "abs",
    "absent",
    "and",
    "avg",
    "bool",
    "by",
    "clamp_max",
    "clamp_min",
    "count",
    "group_left",
    "histogram_quantile",
    "ignoring",
    "increase",
    "inf",
    "label_replace",
    "max",
    "min",
    "nan",
    "on",
    "or",
    "rate",
    "sum",
    "time",
    "topk",
    "unless",
    "vector",
    "without",
];

/// Metrics of programs that are not ours; each was seen on the program's own page (docs/verification.md).
const OF_OTHERS: &[&str] = &[
    // Prometheus itself.
    "ALERTS",
    "up",
    "scrape_samples_scraped",
    "prometheus_tsdb_head_series",
    // The process collector that Prometheus, Loki, Tempo, Alertmanager, Grafana, Pyroscope and Jaeger share.
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    // The Collector about itself, and what its connectors count in spans.
    "otelcol_receiver_accepted_spans_total",
    "otelcol_receiver_refused_spans_total",
    "otelcol_receiver_accepted_log_records_total",
    "otelcol_receiver_accepted_metric_points_total",
    "otelcol_exporter_sent_spans_total",
    "otelcol_exporter_send_failed_spans_total",
    "otelcol_exporter_queue_size",
    "otelcol_exporter_sent_log_records_total",
    "otelcol_exporter_send_failed_log_records_total",
    "otelcol_process_cpu_seconds_total",
    "otelcol_process_memory_rss_bytes",
    "traces_span_metrics_calls_total",
    "traces_span_metrics_duration_seconds_bucket",
    "traces_service_graph_request_total",
    "traces_service_graph_request_failed_total",
    "traces_service_graph_request_client_seconds_bucket",
    "traces_service_graph_request_server_seconds_bucket",
    // Pyrra's generic rules, by the names that they have since 0.9.
    "pyrra_objective",
    "pyrra_window",
    "pyrra_availability",
    "pyrra_requests:rate5m",
    "pyrra_errors:rate5m",
];

/// Metrics of edge-app, which the Collector shows, and of users-app, on its own page.
const OF_SERVICES: &[&str] = &[
    "http_server_request_duration_seconds",
    "http_server_active_requests",
    "http_client_request_duration_seconds",
    "http_requests_total",
    "http_request_duration_seconds",
];

/// Everything that is produced, with the endings of histograms.
pub(super) fn produced(root: &Path) -> BTreeSet<String> {
    let page = fs::read_to_string(root.join("docs/metrics.md")).unwrap_or_default();
    // In the table of Skep's own: | `skep.build.info` | `skep_build_info` | …
    let own =
        page.lines().filter_map(|line| line.strip_prefix("| `skep.")?.split('`').nth(2)).map(str::to_owned);
    let of_processes = [
        "process_cpu_time_seconds_total",
        "process_memory_usage_bytes",
        "process_unix_file_descriptor_count",
    ];
    let mut names: BTreeSet<String> = own.collect();
    names.extend(OF_OTHERS.iter().chain(OF_SERVICES).chain(&of_processes).map(|&name| name.to_owned()));
    for name in OF_SERVICES {
        names.extend(["_bucket", "_count", "_sum"].map(|ending| format!("{name}{ending}")));
    }
    names
}

/// The metrics that a query names.
pub(super) fn metrics(query: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // What stands in braces, brackets, quotes or behind `by` is no metric.
    let (mut word, mut depth, mut quoted, mut labels) = (String::new(), 0_u32, false, false);
    let mut after_by = false;
    for character in query.chars().chain([' ']) {
        if quoted {
            quoted = character != '"';
            continue;
        }
        if character.is_ascii_alphanumeric() || matches!(character, '_' | ':') {
            word.push(character);
            continue;
        }
        if !word.is_empty() {
            let name = std::mem::take(&mut word);
            let is_number = name.starts_with(|first: char| first.is_ascii_digit());
            let is_variable = labels || depth > 0;
            if matches!(name.as_str(), "by" | "without" | "on" | "ignoring" | "group_left") {
                after_by = true;
            } else if !is_number && !is_variable && !WORDS.contains(&name.as_str()) && character != '(' {
                names.insert(name);
            }
        }
        match character {
            '"' => quoted = true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '(' if after_by => (labels, after_by) = (true, false),
            ')' => labels = false,
            _ => {}
        }
    }
    names
}

/// The queries of a rule file of Prometheus or an objective of Pyrra: `expr:` and `metric:`, on one line or several.
pub(super) fn queries_of_rules(text: &str) -> impl Iterator<Item = String> + '_ {
    let lines: Vec<&str> = text.lines().collect();
    let mut queries = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((before, value)) = line.split_once("expr: ").or_else(|| line.split_once("metric: ")) else {
            continue;
        };
        let value = value.trim().trim_end_matches('}').trim();
        if value == "|" {
            let indent = before.len() - before.trim_start().len();
            let body =
                lines[index + 1..].iter().take_while(|line| line.len() - line.trim_start().len() > indent);
            queries.push(body.copied().collect::<Vec<_>>().join("\n"));
        } else {
            queries.push(value.trim_matches('\'').to_owned());
        }
    }
    queries.into_iter()
}

#[test]
fn names_are_told_from_words_and_labels() {
    let check = |query: &str, expected: &[&str]| {
        assert_eq!(metrics(query).into_iter().collect::<Vec<_>>(), expected, "{query}");
    };
    check("up == 0", &["up"]);
    check(
        "sum by (job, le) (rate(a_bucket{job=~\"x|y\", le=\"1.0\"}[1m])) / on (job) b > 0.3",
        &["a_bucket", "b"],
    );
    check("histogram_quantile(0.9, sum by (le) (rate(c_bucket[$__rate_interval])))", &["c_bucket"]);
    check("pyrra_requests:rate5m{slo=\"$slo\"}", &["pyrra_requests:rate5m"]);
}

#[test]
fn queries_of_rules_are_found_on_one_line_and_on_several() {
    let text = "- expr: up == 0\n- alert: a\n  expr: |\n    sum(x)\n      / y\n  for: 1m\n  total: { metric: 'z{a=\"b\"}' }\n";
    assert_eq!(
        queries_of_rules(text).collect::<Vec<_>>(),
        ["up == 0", "    sum(x)\n      / y", "z{a=\"b\"}"]
    );
}
