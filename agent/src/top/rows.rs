//! The lists: an answer of the API → cells, the numbers that sort them, and what Enter opens.

use serde_json::Value;

use super::app::Screen;
use crate::output::text::Duration;

/// A list.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Titles; a width of 0 takes what is left; negative: to the right.
    pub columns: Vec<(&'static str, i16)>,
    /// Rows.
    pub rows: Vec<Row>,
    /// Whether the keys that sort do something.
    pub sortable: bool,
}

/// One row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What tells it apart.
    pub key: String,
    /// Texts.
    pub cells: Vec<String>,
    /// What a column is sorted by, where that is a number.
    pub numbers: Vec<Option<f64>>,
    /// Where Enter goes.
    pub open: Option<Screen>,
    /// Whether anything failed.
    pub failed: bool,
}

const RED: [(&str, i16); 6] =
    [("RATE", -8), ("ERRORS", -7), ("P50", -8), ("P95", -8), ("P99", -8), ("TREND", 0)];

/// The list of a screen.
pub fn rows(screen: &Screen, data: &Value) -> Rows {
    match screen {
        Screen::Services => services(data),
        Screen::Operations(service) => operations(data, service.is_some()),
        Screen::Edges => edges(data),
        Screen::Traces(..) => traces(data),
        Screen::Trace(_) => spans(data),
        Screen::Agent => agent(data),
    }
}

fn services(data: &Value) -> Rows {
    let row = |value: &Value| {
        let service = text(&value["service"]);
        red(value, vec![service.clone()], service.clone(), Some(Screen::Operations(Some(service))))
    };
    list([&[("SERVICE", 22)][..], &RED].concat(), &data["services"], row)
}

fn operations(data: &Value, of_one: bool) -> Rows {
    let columns: &[_] =
        if of_one { &[("OPERATION", 26), ("KIND", 8)] } else { &[("OPERATION", 20), ("SERVICE", 14)] };
    let row = |value: &Value| {
        let [service, kind, name] = ["service", "kind", "name"].map(|field| text(&value[field]));
        let second = if of_one { kind.clone() } else { service.clone() };
        let key = format!("{service} {kind} {name}");
        red(value, vec![name.clone(), second], key, Some(Screen::Traces(service, kind, name)))
    };
    list([columns, &RED].concat(), &data["operations"], row)
}

fn edges(data: &Value) -> Rows {
    let row = |value: &Value| {
        let from = value["from"].as_str().unwrap_or("(outside)").to_owned();
        let to = text(&value["to"]);
        let open = (value["to_seen"] == true).then(|| Screen::Operations(Some(to.clone())));
        red(value, vec![from.clone(), to.clone()], format!("{from} {to}"), open)
    };
    list([&[("FROM", 17), ("TO", 21)][..], &RED[..5]].concat(), &data["edges"], row)
}

fn traces(data: &Value) -> Rows {
    let columns =
        vec![("DURATION", -9), ("SPANS", -5), ("BEGIN", 12), ("", 6), ("ROOT", 0), ("TRACE ID", 12)];
    let row = |value: &Value| {
        let id = text(&value["trace_id"]);
        let duration =
            number(if value["match_ns"].is_null() { &value["duration_ns"] } else { &value["match_ns"] });
        let failed = value["failed"] == true;
        let note = match (failed, value["slow"] == true) {
            (true, _) => "failed",
            (false, true) => "slow",
            _ => "",
        };
        Row {
            cells: vec![
                time(duration),
                number(&value["spans"]).to_string(),
                clock(number(&value["start_unix_us"])),
                note.to_owned(),
                format!("{} {}", text(&value["service"]), text(&value["name"])),
                id.get(..12).unwrap_or(&id).to_owned(),
            ],
            numbers: vec![
                Some(duration),
                Some(number(&value["spans"])),
                Some(number(&value["start_unix_us"])),
            ],
            open: Some(Screen::Trace(id.clone())),
            key: id,
            failed,
        }
    };
    let mut rows = list(columns, &data["traces"], row);
    // They come in the order that was asked for: slowest first.
    rows.sortable = false;
    rows
}

fn spans(data: &Value) -> Rows {
    let row = |value: &Value| {
        let indent = "  ".repeat(number(&value["depth"]).min(12.0) as usize);
        let failed = value["status"] == "error";
        Row {
            key: text(&value["span_id"]),
            cells: vec![
                format!("{indent}{} {}", text(&value["service"]), text(&value["name"])),
                time(number(&value["duration_ns"])),
                String::new(),
            ],
            numbers: vec![None, Some(number(&value["duration_ns"])), Some(number(&value["offset_ns"]))],
            open: None,
            failed,
        }
    };
    let mut rows = list(vec![("SPAN", 34), ("DURATION", -9), ("", 0)], &data["spans"], row);
    rows.sortable = false;
    rows
}

fn agent(data: &Value) -> Rows {
    let mut rows =
        Rows { columns: vec![("WHAT", 36), ("VALUE", -16), ("", 0)], rows: Vec::new(), sortable: false };
    let mut add = |name: &str, value: String, failed: bool| {
        rows.rows.push(Row {
            key: name.to_owned(),
            cells: vec![name.to_owned(), value],
            failed,
            ..Row::default()
        });
    };
    if data.is_null() {
        return rows;
    }
    let megabytes = |value: &Value| format!("{:.1} MB", number(value) / 1e6);
    add("back end", text(&data["backend"]), false);
    add("CPU, of one core", format!("{:.1} %", number(&data["usage"]["cpu"]) * 100.0), false);
    add("resident memory", megabytes(&data["usage"]["resident_bytes"]), false);
    add("kernel maps", megabytes(&data["map_memory_bytes"]), false);
    add("processes watched", number(&data["processes"]).to_string(), false);
    add("running for", format!("{:.0} s", number(&data["uptime_s"])), false);
    for drop in data["drops"].as_array().into_iter().flatten() {
        let name = format!("dropped: {}/{}", text(&drop["stage"]), text(&drop["reason"]));
        add(&name, number(&drop["count"]).to_string(), true);
    }
    if data["drops"].as_array().is_some_and(Vec::is_empty) {
        add("dropped", "nothing".to_owned(), false);
    }
    for name in
        ["events", "connections", "requests", "spans", "bytes_seen", "bytes_copied", "turns", "turns_lost"]
    {
        add(&name.replace('_', " "), number(&data[name]).to_string(), false);
    }
    for (name, value) in data["store"].as_object().into_iter().flatten() {
        add(&format!("store: {}", name.replace('_', " ")), number(value).to_string(), false);
    }
    rows
}

fn list(columns: Vec<(&'static str, i16)>, values: &Value, row: impl Fn(&Value) -> Row) -> Rows {
    Rows { columns, rows: values.as_array().into_iter().flatten().map(row).collect(), sortable: true }
}

/// A row of names, then rate, errors and latencies.
fn red(value: &Value, names: Vec<String>, key: String, open: Option<Screen>) -> Row {
    let share = number(&value["error_share"]);
    let mut numbers: Vec<Option<f64>> = names.iter().map(|_| None).collect();
    numbers.extend(
        ["rate", "error_share", "p50_ns", "p95_ns", "p99_ns"].map(|field| Some(number(&value[field]))),
    );
    let mut cells = names;
    cells.push(rate(number(&value["rate"])));
    cells.push(if share == 0.0 { "0".to_owned() } else { format!("{:.1}%", share * 100.0) });
    cells.extend(["p50_ns", "p95_ns", "p99_ns"].map(|field| time(number(&value[field]))));
    cells.push(spark(&value["spark"]));
    Row { key, cells, numbers, open, failed: share > 0.0 }
}

fn spark(values: &Value) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<f64> = values.as_array().into_iter().flatten().map(number).collect();
    let top = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    values.iter().map(|value| LEVELS[((value / top * 7.0).round() as usize).min(7)]).collect()
}

/// Requests per second.
pub fn rate(value: f64) -> String {
    match value {
        0.0 => "0/s".to_owned(),
        ..10.0 => format!("{value:.2}/s"),
        ..100.0 => format!("{value:.1}/s"),
        ..10_000.0 => format!("{value:.0}/s"),
        _ => format!("{:.1}k/s", value / 1000.0),
    }
}

/// A duration in nanoseconds.
pub fn time(ns: f64) -> String {
    if ns == 0.0 { "-".to_owned() } else { Duration(ns as u64).to_string() }
}

/// The time of day, UTC unless the machine says otherwise.
fn clock(unix_us: f64) -> String {
    let ms = (unix_us as i64 / 1000 + crate::output::text::utc_offset_s() * 1000).rem_euclid(86_400_000);
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

/// Text of a JSON value.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Number of a JSON value.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
