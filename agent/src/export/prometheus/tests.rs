//! Collections in, text out.

use std::collections::{BTreeMap, BTreeSet};

use agent_pipeline::metrics::{MetricsConfig, Names};
use agent_pipeline::request::SpanKind;

use super::text::{Format, Writer};
use crate::metrics::fixture::Fixture;
use crate::metrics::own::OWN;

fn text(config: MetricsConfig, format: Format, piece: usize) -> String {
    let mut fixture = Fixture::new(config);
    fixture.request(SpanKind::Server, "/users/{id}", 200, 7);
    fixture.request(SpanKind::Server, "/users/{id}", 200, 3000);
    fixture.request(SpanKind::Server, "/users/{id}", 500, 1);
    fixture.request(SpanKind::Client, "", 200, 20);
    let mut writer = Writer::new(fixture.collection(0), format);
    let mut text = String::new();
    loop {
        let mut out = String::new();
        let more = writer.write(&mut out, piece);
        text.push_str(&out);
        if !more {
            return text;
        }
    }
}

fn lines_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(name)).collect()
}

const TARGET: &str = r#"job="prod/shop \"1\"\\\n",instance="i-1""#;

#[test]
fn a_histogram_is_cumulative_and_carries_exemplars_in_open_metrics_alone() {
    let labels = format!(
        "{TARGET},http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/users/{{id}}\",\
         url_scheme=\"http\",network_protocol_version=\"1.1\""
    );
    let plain = text(MetricsConfig::default(), Format::Text, 1);
    let name = "http_server_request_duration_seconds";
    let bucket = |bound: &str, count: u32| format!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
    for line in [
        bucket("0.005", 0),
        bucket("0.01", 1),
        bucket("1", 1),
        bucket("2.5", 1),
        bucket("5", 2),
        bucket("+Inf", 2),
        format!("{name}_sum{{{labels}}} 3.007"),
        format!("{name}_count{{{labels}}} 2"),
        format!("# TYPE {name} histogram"),
    ] {
        assert!(plain.lines().any(|known| known == line), "{line}\n{plain}");
    }
    assert!(!plain.contains(" # {") && !plain.contains("_created") && !plain.contains("# EOF"));

    let open = text(MetricsConfig::default(), Format::OpenMetrics, 1);
    let exemplar = format!(
        "{name}_bucket{{{labels},le=\"5.0\"}} 2 # {{trace_id=\"{}\",span_id=\"{}\"}} 3 1795608000.123",
        "ab".repeat(16),
        "cd".repeat(8)
    );
    for line in [
        exemplar,
        format!("{name}_bucket{{{labels},le=\"1.0\"}} 1"),
        format!("{name}_created{{{labels}}} 1795607996.123"),
        format!("# UNIT {name} seconds"),
    ] {
        assert!(open.lines().any(|known| known == line), "{line}\n{open}");
    }
    assert!(open.ends_with("\n# EOF\n"));
}

#[test]
fn a_target_has_all_attributes_of_its_resource_and_none_twice() {
    let text = text(MetricsConfig::default(), Format::Text, 1 << 20);
    let shop = lines_of(&text, "target_info{").into_iter().find(|line| line.contains(TARGET)).unwrap();
    for label in [r#",a_b="one;two","#, r#",exported_job="x","#, r#",gr_e="ü\n","#] {
        assert!(shop.contains(label), "{label} in {shop}");
    }
    assert!(!shop.contains("service_name") && shop.ends_with("} 1"), "{shop}");
    assert_eq!(lines_of(&text, "target_info{").len(), 2, "Skep's own is the other");
}

#[test]
fn pieces_of_any_size_make_the_same_text() {
    // What Skep uses changes from one look to the next.
    let with_pieces = |bytes| {
        let text = text(MetricsConfig::default(), Format::OpenMetrics, bytes);
        let stays = |line: &&str| !line.starts_with("skep_cpu") && !line.starts_with("skep_memory");
        text.lines().filter(stays).collect::<Vec<_>>().join("\n")
    };
    let whole = with_pieces(1 << 20);
    assert!(with_pieces(1) == whole && with_pieces(1000) == whole);
}

#[test]
fn every_family_is_one_block_and_every_series_is_there_once() {
    let config = MetricsConfig { span_metrics: true, service_graph: true, ..MetricsConfig::default() };
    for format in [Format::Text, Format::OpenMetrics] {
        let text = text(config.clone(), format, 1000);
        let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
        let mut family = String::new();
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "{family} twice");
            } else if !line.starts_with('#') {
                let name = line.split('{').next().unwrap();
                assert!(name.starts_with(&family), "{name} in {family}");
                assert!(series.insert(line.split("} ").next().unwrap()), "{line} twice");
            }
        }
    }
}

#[test]
fn tempos_names_come_out_as_they_are() {
    let config = MetricsConfig { span_metrics: true, service_graph: true, ..MetricsConfig::default() };
    for format in [Format::Text, Format::OpenMetrics] {
        let text = text(config.clone(), format, 1000);
        let calls = lines_of(&text, "traces_spanmetrics_calls_total{");
        assert!(
            calls.iter().any(|line| {
                line.contains(
                    r#",service="shop \"1\"\\\n",span_name="GET /users/{id}",span_kind="SPAN_KIND_SERVER","#,
                ) && line.ends_with(r#"status_code="STATUS_CODE_UNSET"} 2"#)
            }),
            "{calls:?}"
        );
        assert!(!lines_of(&text, "traces_spanmetrics_latency_bucket{").is_empty());
        let edges = lines_of(&text, "traces_service_graph_request_total{");
        assert!(
            edges.iter().any(|line| line
                .ends_with(r#",client="user",server="shop \"1\"\\\n",connection_type="virtual_node"} 3"#)),
            "{edges:?}"
        );
    }
}

/// Dashboards for Beyla 2.5 ask for these metrics, labels and bounds.
#[test]
fn beylas_names_labels_and_bounds_come_out() {
    let config = MetricsConfig { names: Names::Beyla, ..MetricsConfig::default() };
    let text = text(config, Format::Text, 1000);
    let bounds = |name: &str| -> Vec<String> {
        let lines = lines_of(&text, name);
        let bound = |line: &&str| Some(line.split("le=\"").nth(1)?.split('"').next()?.to_owned());
        let all: Vec<String> = lines.iter().filter_map(bound).collect();
        let end = all.iter().position(|bound| bound == "+Inf").unwrap();
        all[..end].to_vec()
    };
    let durations = [
        "0", "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5",
        "10",
    ];
    let sizes = ["0", "32", "64", "128", "256", "512", "1024", "2048", "4096", "8192"];
    for name in ["http_server_request_duration_seconds", "http_client_request_duration_seconds"] {
        assert_eq!(bounds(&format!("{name}_bucket")), durations, "{name}");
        let sample = lines_of(&text, &format!("{name}_count")).join("\n");
        for label in [
            "http_request_method=\"GET\"",
            "http_response_status_code=\"200\"",
            "service_name=\"shop",
            "service_namespace=\"prod\"",
            "server_address=\"api\"",
            "server_port=\"8080\"",
            "instance=\"i-1\"",
            "job=\"prod/shop",
        ] {
            assert!(sample.contains(label), "{label} in {sample}");
        }
    }
    assert!(text.contains("http_route=\"/users/{id}\""));
    assert_eq!(bounds("http_server_response_body_size_bytes_bucket"), sizes);
    assert_eq!(bounds("http_client_response_body_size_bytes_bucket"), sizes);
}

#[test]
fn what_is_exposed_about_skep_is_what_the_page_lists() {
    let text = text(MetricsConfig::default(), Format::Text, 1000);
    let page = include_str!("../../../../docs/metrics.md");
    let column = |line: &str| line.split('|').nth(2).unwrap().trim().trim_matches('`').to_owned();
    let listed: BTreeMap<String, &str> =
        page.lines().filter(|line| line.starts_with("| `skep.")).map(|line| (column(line), line)).collect();
    let exposed: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.starts_with("skep_"))
        .map(|line| line.split('{').next().unwrap())
        .collect();
    assert_eq!(exposed, listed.keys().map(String::as_str).collect());
    assert_eq!(listed.len(), OWN.len());
    // The attributes, too.
    for (name, line) in &listed {
        let sample = lines_of(&text, &format!("{name}{{"))[0];
        let labels = sample.split("instance=\"").nth(1).unwrap().split_once('"').unwrap().1;
        let labels: Vec<String> = labels
            .split("\",")
            .flat_map(|part| part.split(','))
            .filter_map(|part| part.split_once("=\"").map(|(label, _)| label.to_owned()))
            .collect();
        let documented: Vec<String> = line
            .split('|')
            .nth(4)
            .unwrap()
            .split(',')
            .map(|name| name.trim().trim_matches('`').replace('.', "_"))
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(labels, documented, "{name}");
    }
}
