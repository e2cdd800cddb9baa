//! Spans against truths, one to one.
//!
//! In: what the test knows to have happened and what the agent printed. Out: per case and column how many requests
//! there were, how many spans are missing, extra or wrong, and a line about each.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::truth::{Kind, Parent, Truth, Want, token_of};

/// A server's last write may return this long after its client has read it.
const LATE_NS: u64 = 25_000_000;
/// Both clocks are the same clock, read at different moments of its discipline.
const CLOCK_NS: u64 = 200_000;

/// What came of one case on one server.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: usize,
    pub missing: usize,
    pub extra: usize,
    pub wrong: usize,
    /// Why it was not run.
    pub skipped: Option<String>,
    pub details: Vec<String>,
}

impl Tally {
    pub fn failed(&self) -> bool {
        self.missing + self.extra + self.wrong > 0
    }

    pub fn note(&mut self, line: String) {
        const LINES: usize = 6;
        if self.details.len() < LINES {
            self.details.push(line);
        }
    }
}

/// By case and column.
pub type Tallies = BTreeMap<(String, String), Tally>;

/// Index of the span that each truth is about.
pub fn assign(truths: &[Truth], spans: &[Value]) -> Vec<Option<usize>> {
    let mut by_path: HashMap<(&str, String), Vec<usize>> = HashMap::new();
    let mut by_port: HashMap<(&str, u64), Vec<usize>> = HashMap::new();
    for (index, span) in spans.iter().enumerate().rev() {
        let kind = span["kind"].as_str().unwrap_or("");
        by_path.entry((kind, path_of(span))).or_default().push(index);
        if let Some(port) = span["attributes"]["network.peer.port"].as_u64() {
            by_port.entry((kind, port)).or_default().push(index);
        }
    }
    truths
        .iter()
        .map(|truth| match (&truth.path, truth.peer_port) {
            (Some(path), _) => by_path.get_mut(&(truth.kind.as_str(), path.clone()))?.pop(),
            (None, Some(port)) => by_port.get_mut(&(truth.kind.as_str(), port.into()))?.pop(),
            (None, None) => None,
        })
        .collect()
}

/// Compares everything that one run of the agent printed. `extra_case` gets the spans that belong to no case.
pub fn compare(truths: &[Truth], spans: &[Value], extra_case: (&str, &str), tallies: &mut Tallies) {
    let assigned = assign(truths, spans);
    let by_token: HashMap<(Kind2, &str), usize> = truths
        .iter()
        .zip(&assigned)
        .filter_map(|(truth, index)| Some(((truth.kind.as_str(), truth.token()?), (*index)?)))
        .collect();
    for (truth, index) in truths.iter().zip(&assigned) {
        let tally = tallies.entry((truth.case.clone(), truth.column.clone())).or_default();
        tally.requests += 1;
        let Some(index) = index else {
            if !truth.optional {
                tally.missing += 1;
                tally.note(format!("missing: {} span of {}", truth.kind.as_str(), describe(truth)));
            }
            continue;
        };
        let faults = faults(truth, &spans[*index], spans, &by_token);
        if !faults.is_empty() {
            tally.wrong += 1;
            tally.note(format!(
                "wrong: {} span of {}: {}",
                truth.kind.as_str(),
                describe(truth),
                faults.join("; ")
            ));
        }
    }
    for (index, span) in spans.iter().enumerate() {
        if assigned.contains(&Some(index)) {
            continue;
        }
        let path = path_of(span);
        let owner = token_of(&path)
            .and_then(|token| truths.iter().find(|truth| truth.token() == Some(token)))
            .or_else(|| truths.iter().find(|truth| same_family(truth, &path)))
            .map_or((extra_case.0.to_owned(), extra_case.1.to_owned()), |t| {
                (t.case.clone(), t.column.clone())
            });
        let tally = tallies.entry(owner).or_default();
        tally.extra += 1;
        tally.note(format!("extra: {span}"));
    }
}

type Kind2 = &'static str;

/// Tokens of one case begin alike: `~case.`
fn same_family(truth: &Truth, path: &str) -> bool {
    let family = |token: &str| token.split('.').next().map(str::to_owned);
    match (truth.token().and_then(family), token_of(path).and_then(family)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => false,
    }
}

fn describe(truth: &Truth) -> String {
    match (&truth.path, truth.peer_port) {
        (Some(path), Some(port)) => format!("{path} from port {port}"),
        (Some(path), None) => path.clone(),
        (None, port) => format!("the request from port {port:?}"),
    }
}

/// Path of a span, clients' too.
pub fn path_of(span: &Value) -> String {
    if let Some(path) = span["attributes"]["url.path"].as_str() {
        return path.to_owned();
    }
    let full = span["attributes"]["url.full"].as_str().unwrap_or("");
    let rest = full.split_once("://").map_or(full, |(_, rest)| rest);
    let path = &rest[rest.find('/').unwrap_or(rest.len())..];
    path.split('?').next().unwrap_or(path).to_owned()
}

fn faults(
    truth: &Truth,
    span: &Value,
    spans: &[Value],
    by_token: &HashMap<(Kind2, &str), usize>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, want) in &truth.attributes {
        let got = span["attributes"].get(name);
        if !meets(want, got) {
            let got = got.map_or("absent".to_owned(), Value::to_string);
            faults.push(format!("{name} is {got}, not {}", show(want)));
        }
    }
    let status = span["status"].as_str().unwrap_or("");
    if !truth.status.contains(&status) {
        faults.push(format!("status is {status}, not {:?}", truth.status));
    }
    let method = span["attributes"]["http.request.method"].as_str().unwrap_or("");
    let method = if method == "_OTHER" { "HTTP" } else { method };
    let name = match (truth.kind, span["attributes"]["http.route"].as_str()) {
        (Kind::Server, Some(route)) => format!("{method} {route}"),
        _ => method.to_owned(),
    };
    if span["name"].as_str() != Some(&name) {
        faults.push(format!("name is {}, not {name:?}", span["name"]));
    }
    let pid = span["resource"]["process.pid"].as_u64().unwrap_or(0);
    if !truth.pids.is_empty() && !truth.pids.iter().any(|want| u64::from(*want) == pid) {
        faults.push(format!("process.pid is {pid}, not {:?}", truth.pids));
    }
    for (name, want) in &truth.resource {
        if span["resource"][name].as_str() != Some(want) {
            faults.push(format!("resource {name} is {}, not {want:?}", span["resource"][name]));
        }
    }
    for name in ["service.name", "service.instance.id", "host.name", "process.executable.name"] {
        if span["resource"][name].as_str().is_none_or(str::is_empty) {
            faults.push(format!("resource {name} is absent"));
        }
    }
    times(truth, span, &mut faults);
    parent(truth, span, spans, by_token, &mut faults);
    faults
}

fn times(truth: &Truth, span: &Value, faults: &mut Vec<String>) {
    let start = span["start_unix_ns"].as_u64().unwrap_or(0);
    let end = span["end_unix_ns"].as_u64().unwrap_or(0);
    let us = |a: u64, b: u64| (i128::from(a) - i128::from(b)) / 1000;
    if start + CLOCK_NS < truth.start_ns {
        faults.push(format!("starts {} µs before its client did", us(truth.start_ns, start)));
    }
    if end > truth.end_ns + LATE_NS {
        faults.push(format!("ends {} µs after its client did", us(end, truth.end_ns)));
    }
    if end < start {
        faults.push(format!("ends {} µs before it starts", us(start, end)));
    }
    if end - start.min(end) + CLOCK_NS < truth.min_ns {
        faults.push(format!("lasts {} µs, at least {} are certain", us(end, start), truth.min_ns / 1000));
    }
}

fn parent(
    truth: &Truth,
    span: &Value,
    spans: &[Value],
    by_token: &HashMap<(Kind2, &str), usize>,
    faults: &mut Vec<String>,
) {
    let got = span["parent_span_id"].as_str();
    let other = |kind: &Kind, token: &str| by_token.get(&(kind.as_str(), token)).map(|index| &spans[*index]);
    match &truth.parent {
        Parent::None => {
            if let Some(got) = got {
                faults.push(format!("has the parent {} but none is certain", name_of(got, spans)));
            }
        }
        Parent::Remote { trace_id, span_id, trace_state, flags } => {
            if span["trace_id"].as_str() != Some(trace_id) || got != Some(span_id) {
                faults.push(format!("is in {} under {got:?}, not {trace_id} {span_id}", span["trace_id"]));
            }
            if span["trace_state"].as_str() != trace_state.as_deref() {
                faults.push(format!("trace_state is {}, not {trace_state:?}", span["trace_state"]));
            }
            // All are sampled (see harness.rs), whatever the caller did.
            let flags = flags | 1;
            if span["flags"].as_u64().map(|got| got & 0xff) != Some(flags) {
                faults.push(format!("flags are {}, not {flags}", span["flags"]));
            }
        }
        Parent::Span(kind, token) | Parent::SpanOrNone(kind, token) => {
            let Some(other) = other(kind, token) else { return };
            let optional = matches!(truth.parent, Parent::SpanOrNone(..));
            if got.is_none() && optional {
                return;
            }
            if got.is_none() || got != other["span_id"].as_str() {
                let got = got.map_or("no parent".to_owned(), |got| name_of(got, spans));
                faults.push(format!("has {got}, not the {} span {token}", kind.as_str()));
            } else if span["trace_id"] != other["trace_id"] {
                faults.push("has the right parent but another trace_id".to_owned());
            }
        }
    }
}

fn name_of(span_id: &str, spans: &[Value]) -> String {
    match spans.iter().find(|span| span["span_id"].as_str() == Some(span_id)) {
        Some(span) => format!("{} {}", span["kind"], path_of(span)),
        None => span_id.to_owned(),
    }
}

fn meets(want: &Want, got: Option<&Value>) -> bool {
    match want {
        Want::Str(want) => got.and_then(Value::as_str) == Some(want),
        Want::Int(want) => got.and_then(Value::as_u64) == Some(*want),
        Want::Absent => got.is_none(),
        Want::Present => got.is_some(),
        Want::Either(wants) => wants.iter().any(|want| meets(want, got)),
    }
}

fn show(want: &Want) -> String {
    match want {
        Want::Str(want) => format!("{want:?}"),
        Want::Int(want) => want.to_string(),
        Want::Absent => "absent".to_owned(),
        Want::Present => "present".to_owned(),
        Want::Either(wants) => wants.iter().map(show).collect::<Vec<_>>().join(" or "),
    }
}
