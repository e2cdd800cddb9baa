//! Metrics as text: Prometheus' format 0.0.4, and OpenMetrics 1.0 with exemplars and start times.
//!
//! In: a [`Collection`]. Out: text, a piece at a time, so that a response of any size is never whole in memory. One
//! family is one block; series are told apart by `job` and `instance`, whose resource `target_info` describes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use agent_pipeline::metrics::distribution::Distribution;
use agent_pipeline::metrics::key::AttributeValue;
use agent_pipeline::metrics::rows::Exemplar;
use agent_pipeline::semconv;

use super::names::{family_name, push_name, unit_word};
use crate::discovery::resource::{Resource, ResourceValue};
use crate::metrics::collection::{Collection, Kind, Metric, Number, Point, PointValue};

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes a collection piece by piece.
pub struct Writer {
    collection: Collection,
    format: Format,
    /// `job` and `instance` of each resource.
    targets: Vec<String>,
    stage: Stage,
    /// Name of the family that is being written.
    name: String,
    labels: String,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Targets,
    Points { metric: usize, point: usize },
    Done,
}

impl Writer {
    /// At the beginning.
    pub fn new(collection: Collection, format: Format) -> Self {
        let target = |resource: &Option<_>| resource.as_deref().map(target_labels).unwrap_or_default();
        Self {
            targets: collection.resources.iter().map(target).collect(),
            collection,
            format,
            stage: Stage::Targets,
            name: String::new(),
            labels: String::new(),
        }
    }

    /// Appends more until there are at least `enough` bytes; says whether there is more to come.
    pub fn write(&mut self, out: &mut String, enough: usize) -> bool {
        while out.len() < enough {
            match self.stage {
                Stage::Targets => {
                    self.write_targets(out);
                    self.stage = Stage::Points { metric: 0, point: 0 };
                }
                Stage::Points { metric, point } => match self.collection.metrics.get(metric) {
                    None => {
                        if self.format == Format::OpenMetrics {
                            out.push_str("# EOF\n");
                        }
                        self.stage = Stage::Done;
                    }
                    Some(current) if point >= current.points.len() => {
                        self.stage = Stage::Points { metric: metric + 1, point: 0 };
                    }
                    Some(_) => {
                        if point == 0 {
                            self.write_head(out, metric);
                        }
                        self.write_point(out, metric, point);
                        self.stage = Stage::Points { metric, point: point + 1 };
                    }
                },
                Stage::Done => return false,
            }
        }
        self.stage != Stage::Done
    }

    /// `target_info` of every resource that has data points.
    fn write_targets(&self, out: &mut String) {
        let mut used = vec![false; self.collection.resources.len()];
        for point in self.collection.metrics.iter().flat_map(|metric| &metric.points) {
            if let Some(used) = used.get_mut(point.resource as usize) {
                *used = true;
            }
        }
        match self.format {
            Format::Text => {
                out.push_str("# HELP target_info Attributes of the resource.\n# TYPE target_info gauge\n");
            }
            Format::OpenMetrics => {
                out.push_str("# TYPE target info\n# HELP target Attributes of the resource.\n");
            }
        }
        let resources = self.collection.resources.iter().zip(&self.targets).zip(used);
        for ((resource, target), _) in resources.filter(|(_, used)| *used) {
            let Some(resource) = resource else { continue };
            let _ = write!(out, "target_info{{{target}");
            for (name, value) in info_labels(resource) {
                let _ = write!(out, ",{name}=\"");
                push_escaped(out, &value);
                out.push('"');
            }
            out.push_str("} 1\n");
        }
    }

    fn write_head(&mut self, out: &mut String, metric: usize) {
        let metric = &self.collection.metrics[metric];
        self.name = family_name(metric);
        let kind = match (metric.kind, self.format) {
            (Kind::Counter, _) => "counter",
            (Kind::Gauge | Kind::UpDownCounter, _) => "gauge",
            (Kind::Histogram, _) => "histogram",
        };
        // In the older format, `_total` belongs to the family's name.
        let total = if metric.kind == Kind::Counter && self.format == Format::Text { "_total" } else { "" };
        let name = &self.name;
        let _ = write!(out, "# HELP {name}{total} ");
        push_help(out, metric.description, self.format);
        let _ = writeln!(out, "\n# TYPE {name}{total} {kind}");
        if let Some(unit) = unit_word(metric.unit)
            && self.format == Format::OpenMetrics
            && name.ends_with(&format!("_{unit}"))
        {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
    }

    fn write_point(&mut self, out: &mut String, metric: usize, point: usize) {
        let metric = &self.collection.metrics[metric];
        let point = &metric.points[point];
        self.labels.clear();
        if let Some(target) = self.targets.get(point.resource as usize) {
            self.labels.push_str(target);
        }
        let resource = self.collection.resources.get(point.resource as usize).and_then(Option::as_deref);
        push_labels(&mut self.labels, metric, point, resource);
        let (name, labels) = (self.name.as_str(), self.labels.as_str());
        match point.value() {
            PointValue::Number(number) => {
                let total = if metric.kind == Kind::Counter { "_total" } else { "" };
                let _ = write!(out, "{name}{total}{{{labels}}} ");
                push_number(out, number);
                out.push('\n');
                if metric.kind == Kind::Counter {
                    self.write_created(out, point);
                }
            }
            PointValue::Distribution(distribution, exemplars) => {
                self.write_histogram(out, metric.bounds, distribution, exemplars);
                self.write_created(out, point);
            }
        }
    }

    fn write_histogram(
        &self,
        out: &mut String,
        bounds: &[f64],
        distribution: &Distribution,
        exemplars: &[Exemplar],
    ) {
        let (name, labels) = (self.name.as_str(), self.labels.as_str());
        let mut below = 0;
        for (index, count) in distribution.explicit.iter().enumerate() {
            below += count;
            let _ = write!(out, "{name}_bucket{{{labels},le=\"");
            match (bounds.get(index), self.format) {
                (None, _) => out.push_str("+Inf"),
                (Some(bound), Format::Text) => {
                    let _ = write!(out, "{bound}");
                }
                // OpenMetrics wants a fraction in any case.
                (Some(bound), Format::OpenMetrics) => {
                    let _ = write!(out, "{bound:?}");
                }
            }
            let _ = write!(out, "\"}} {below}");
            let exemplar = exemplars.iter().find(|exemplar| usize::from(exemplar.bucket) == index);
            if let Some(exemplar) = exemplar.filter(|_| self.format == Format::OpenMetrics) {
                push_exemplar(out, exemplar);
            }
            out.push('\n');
        }
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", distribution.sum);
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", distribution.count);
    }

    fn write_created(&self, out: &mut String, point: &Point) {
        if self.format == Format::OpenMetrics {
            let _ = write!(out, "{}_created{{{}}} ", self.name, self.labels);
            push_time(out, point.start_unix_ns);
            out.push('\n');
        }
    }
}

/// `job` and `instance`, as the compatibility specification makes them of a resource.
fn target_labels(resource: &Resource) -> String {
    let mut labels = String::from("job=\"");
    if let Some(namespace) = resource.text(semconv::SERVICE_NAMESPACE) {
        push_escaped(&mut labels, namespace);
        labels.push('/');
    }
    push_escaped(&mut labels, &resource.service_name);
    labels.push_str("\",instance=\"");
    push_escaped(&mut labels, resource.text(semconv::SERVICE_INSTANCE_ID).unwrap_or_default());
    labels.push('"');
    labels
}

/// All other attributes of a resource by label; those that share one are joined.
fn info_labels(resource: &Resource) -> BTreeMap<String, String> {
    const IN_TARGET: &[&str] =
        &[semconv::SERVICE_NAME, semconv::SERVICE_NAMESPACE, semconv::SERVICE_INSTANCE_ID];
    let mut labels = BTreeMap::<String, String>::new();
    for (name, value) in &resource.attributes {
        if IN_TARGET.contains(&name.as_ref()) {
            continue;
        }
        let mut label = String::new();
        push_label_name(&mut label, name);
        let value = match value {
            ResourceValue::Text(text) => text.clone(),
            ResourceValue::Int(number) => number.to_string(),
        };
        labels.entry(label).and_modify(|known| *known = format!("{known};{value}")).or_insert(value);
    }
    labels
}

fn push_labels(out: &mut String, metric: &Metric, point: &Point, resource: Option<&Resource>) {
    for &(label, name) in metric.resource_attributes {
        if let Some(text) = resource.and_then(|resource| resource.text(name)) {
            push_label(out, label, text);
        }
    }
    if point.is_overflow() {
        push_label(out, semconv::OTEL_METRIC_OVERFLOW, "true");
        return;
    }
    point.attributes(|name, value| match value {
        AttributeValue::Text(text) => push_label(out, name, text),
        AttributeValue::Int(number) => {
            out.push(',');
            push_label_name(out, name);
            let _ = write!(out, "=\"{number}\"");
        }
    });
}

fn push_label(out: &mut String, name: &str, value: &str) {
    out.push(',');
    push_label_name(out, name);
    out.push_str("=\"");
    push_escaped(out, value);
    out.push('"');
}

/// Names of labels that begin with two underscores are Prometheus' own.
fn push_label_name(out: &mut String, name: &str) {
    let start = out.len();
    push_name(out, name);
    match &out[start..] {
        "job" | "instance" | "le" => out.insert_str(start, "exported_"),
        label if label.starts_with("__") => out.insert_str(start, "key"),
        _ => {}
    }
}

fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            _ => out.push(character),
        }
    }
}

fn push_help(out: &mut String, text: &str, format: Format) {
    match format {
        Format::OpenMetrics => push_escaped(out, text),
        Format::Text => out.push_str(&text.replace('\\', "\\\\").replace('\n', "\\n")),
    }
}

fn push_number(out: &mut String, number: Number) {
    let _ = match number {
        Number::Int(number) => write!(out, "{number}"),
        Number::Double(number) => write!(out, "{number}"),
    };
}

/// Seconds with milliseconds.
fn push_time(out: &mut String, unix_ns: u64) {
    let ms = unix_ns / 1_000_000;
    let _ = write!(out, "{}.{:03}", ms / 1000, ms % 1000);
}

fn push_exemplar(out: &mut String, exemplar: &Exemplar) {
    out.push_str(" # {trace_id=\"");
    push_hex(out, &exemplar.trace_id);
    out.push_str("\",span_id=\"");
    push_hex(out, &exemplar.span_id);
    let _ = write!(out, "\"}} {} ", exemplar.value);
    push_time(out, exemplar.unix_ns);
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}
