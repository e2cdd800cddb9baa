//! OpenTelemetry's names as Prometheus has them: dots become underscores, units and `_total` are appended.
//!
//! By OpenTelemetry's compatibility specification (Prometheus and OpenMetrics), classic names only.

use crate::metrics::collection::{Kind, Metric};

/// Name of a metric without `_total`.
pub(super) fn family_name(metric: &Metric) -> String {
    if let Some(name) = metric.prometheus_name {
        return name.strip_suffix("_total").unwrap_or(name).to_owned();
    }
    let mut name = String::with_capacity(metric.name.len() + 8);
    push_name(&mut name, metric.name);
    if let Some(unit) = unit_word(metric.unit)
        && !name.ends_with(&format!("_{unit}"))
    {
        name.push('_');
        name.push_str(unit);
    }
    // A counter whose name says total already.
    match metric.kind {
        Kind::Counter => name.strip_suffix("_total").map(str::to_owned).unwrap_or(name),
        _ => name,
    }
}

/// The unit's word in names, if it has one.
pub(super) fn unit_word(unit: &str) -> Option<&'static str> {
    match unit {
        "s" => Some("seconds"),
        "ms" => Some("milliseconds"),
        "By" => Some("bytes"),
        // Curly brackets only say what is counted.
        _ => None,
    }
}

/// Appends a name with what Prometheus does not know replaced by underscores, several of them by one.
pub(super) fn push_name(out: &mut String, name: &str) {
    let start = out.len();
    for (index, character) in name.chars().enumerate() {
        match character {
            'a'..='z' | 'A'..='Z' => out.push(character),
            '0'..='9' if index > 0 => out.push(character),
            '0'..='9' => {
                out.push('_');
                out.push(character);
            }
            _ if out.len() > start && out.ends_with('_') => {}
            _ => out.push('_'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &'static str, unit: &'static str, kind: Kind) -> Metric {
        Metric {
            name,
            prometheus_name: None,
            kind,
            unit,
            description: "",
            bounds: &[],
            resource_attributes: &[],
            points: Vec::new(),
        }
    }

    #[test]
    fn units_become_part_of_the_name() {
        let check = |name, unit, kind, expected: &str| {
            assert_eq!(family_name(&metric(name, unit, kind)), expected);
        };
        check("http.server.request.duration", "s", Kind::Histogram, "http_server_request_duration_seconds");
        check("http.server.request.body.size", "By", Kind::Histogram, "http_server_request_body_size_bytes");
        check("http.server.active_requests", "{request}", Kind::UpDownCounter, "http_server_active_requests");
        check("process.cpu.time", "s", Kind::Counter, "process_cpu_time_seconds");
        check("skep.copied", "By", Kind::Counter, "skep_copied_bytes");
        check("a.bytes", "By", Kind::Gauge, "a_bytes");
        check("a.total", "", Kind::Counter, "a");
    }

    #[test]
    fn names_have_only_what_prometheus_knows() {
        let check = |name: &str, expected: &str| {
            let mut out = String::new();
            push_name(&mut out, name);
            assert_eq!(out, expected);
        };
        check("http.route", "http_route");
        check("a..b/c", "a_b_c");
        check("0day", "_0day");
        check("größe", "gr_e");
        check("_x", "_x");
    }
}
