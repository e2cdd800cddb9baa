//! The four scenarios of README.md: what is asked of the services, and what that leaves in each part.
//!
//! Every line that is printed was asked of a part's own API. A part that is not here is left out; what should be
//! there and is not makes the scenario fail.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::parts::{PARTS, Part};
use super::processes::Processes;
use super::{ask, folder, processes, program, wait_until_ready};

/// How long what was asked for may take to arrive somewhere.
const ARRIVES: Duration = Duration::from_secs(60);
/// How long an alert may take to fire, and to be over.
const FIRES: Duration = Duration::from_secs(150);
const LOAD: Duration = Duration::from_secs(60);

pub(super) fn run(root: &Path, number: u32) -> Result<ExitCode> {
    let mut processes = Processes::open(&folder(root))?;
    for name in ["edge-app", "users-app", "golang-app", "skep", "prometheus"] {
        if !processes.is_running(name) {
            bail!("{name} does not run: cargo xtask stack up");
        }
    }
    match number {
        1 => trace("/users", &processes, &["edge-app", "users-app"])?,
        2 => trace("/albums", &processes, &["edge-app", "golang-app"])?,
        3 => load()?,
        4 => alerts(root, &mut processes)?,
        _ => bail!("there are scenarios 1 to 4"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks edge-app and looks for the trace.
fn trace(path: &str, processes: &Processes, services: &[&str]) -> Result<()> {
    // A trace of its own making is found by its id.
    let trace_id = format!("{:016x}{:016x}", std::process::id(), now_ns());
    let url = format!("http://127.0.0.1:8001{path}");
    let parent = format!("traceparent: 00-{trace_id}-00000000000000a1-01");
    let output = std::process::Command::new("curl")
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code} in %{time_total} s"])
        .args(["--header", &parent, &url])
        .output()
        .context("run curl")?;
    println!("GET {url}: {}", String::from_utf8_lossy(&output.stdout));
    println!("trace {trace_id}");
    if processes.is_running("jaeger") {
        let spans = until(ARRIVES, "Jaeger has no such trace", || {
            let answer = ask::json(&format!("http://127.0.0.2:16686/api/traces/{trace_id}"))?;
            let spans = spans_of(&answer);
            let complete = services.iter().all(|name| spans.iter().any(|span| span.service == *name));
            Ok(complete.then_some(spans))
        })?;
        print_tree(&spans, "00000000000000a1", 1);
        println!("\nhttp://127.0.0.2:16686/trace/{trace_id}");
    }
    if processes.is_running("loki") {
        let query = format!("{{service_name=~\".+\"}} | trace_id=\"{trace_id}\"");
        let lines = until(ARRIVES, "Loki has no line of this trace", || {
            let url = format!("http://127.0.0.1:3100/loki/api/v1/query_range?query={}", encoded(&query));
            let answer = ask::json(&url)?;
            let streams = answer["data"]["result"].as_array().cloned().unwrap_or_default();
            let lines: usize =
                streams.iter().filter_map(|stream| stream["values"].as_array().map(Vec::len)).sum();
            Ok((lines > 0).then_some(lines))
        })?;
        println!("Loki: {lines} lines of this trace");
    }
    Ok(())
}

struct Span {
    id: String,
    parent: String,
    service: String,
    kind: String,
    name: String,
    milliseconds: f64,
}

/// Jaeger's own JSON.
fn spans_of(answer: &Value) -> Vec<Span> {
    let trace = &answer["data"][0];
    let span = |span: &Value| {
        let tags = span["tags"].as_array()?;
        let kind = tags.iter().find(|tag| tag["key"] == "span.kind").and_then(|tag| tag["value"].as_str());
        let process = span["processID"].as_str()?;
        Some(Span {
            id: span["spanID"].as_str()?.to_owned(),
            parent: span["references"][0]["spanID"].as_str().unwrap_or_default().to_owned(),
            service: trace["processes"][process]["serviceName"].as_str()?.to_owned(),
            kind: kind.unwrap_or("internal").to_owned(),
            name: span["operationName"].as_str()?.to_owned(),
            milliseconds: span["duration"].as_f64()? / 1000.0,
        })
    };
    trace["spans"].as_array().map(|spans| spans.iter().filter_map(span).collect()).unwrap_or_default()
}

fn print_tree(spans: &[Span], parent: &str, depth: usize) {
    for span in spans.iter().filter(|span| span.parent == parent) {
        let indent = "  ".repeat(depth);
        println!("{indent}{} {} {}  {:.1} ms", span.service, span.kind, span.name, span.milliseconds);
        print_tree(spans, &span.id, depth + 1);
    }
}

/// A minute of users and albums, and what Prometheus makes of it.
fn load() -> Result<()> {
    println!("load for {} s", LOAD.as_secs());
    let workers: Vec<_> = (0..8).map(|worker| thread::spawn(move || ask_for(worker, LOAD))).collect();
    let asked: u64 = workers.into_iter().map(|worker| worker.join().unwrap_or(0)).sum();
    println!("{asked} requests");
    for (what, query) in [
        ("users-app, requests a second", "sum(rate(http_requests_total{job=\"users-app\"}[1m]))"),
        (
            "users-app, share of failures",
            "sum(rate(http_requests_total{job=\"users-app\",status=\"5xx\"}[1m])) / sum(rate(http_requests_total{job=\"users-app\"}[1m]))",
        ),
        (
            "golang-app as Skep sees it, requests a second",
            "sum(rate(http_server_request_duration_seconds_count{job=\"demo/golang-app\"}[1m]))",
        ),
        (
            "edge-app → golang-app, calls a second",
            "sum(rate(traces_service_graph_request_total{client=\"edge-app\",server=\"golang-app\"}[1m]))",
        ),
        (
            "users-app → PostgreSQL, calls a second",
            "sum(rate(traces_service_graph_request_total{client=\"users-app\",server=\"postgresql\"}[1m]))",
        ),
    ] {
        let value = until(ARRIVES, what, || Ok(ask::prometheus(query)?.first().map(|(_, value)| *value)))?;
        println!("{what:48} {value:.3}");
    }
    Ok(())
}

fn ask_for(worker: u32, duration: Duration) -> u64 {
    let (deadline, mut asked) = (Instant::now() + duration, 0);
    while Instant::now() < deadline {
        let path = if (asked + u64::from(worker)).is_multiple_of(2) { "/users" } else { "/albums" };
        if ask::get(&format!("http://127.0.0.1:8001{path}")).is_ok() {
            asked += 1;
        }
        thread::sleep(Duration::from_millis(100));
    }
    asked
}

/// users-app fails always: the alert fires and reaches the webhook; then it is as before, and the alert is over.
fn alerts(root: &Path, processes: &mut Processes) -> Result<()> {
    let file = processes::data(&folder(root), "webhook-tester").join("alerts.jsonl");
    let before = std::fs::read_to_string(&file).map_or(0, |text| text.lines().count());
    let arrived = |status: &str| -> Result<Option<()>> {
        ask_for(0, Duration::from_secs(2));
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let new = text.lines().skip(before).filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut alerts = new.flat_map(|notice| notice["alerts"].as_array().cloned().unwrap_or_default());
        Ok(alerts
            .any(|alert| alert["labels"]["alertname"] == "HighErrorRate" && alert["status"] == status)
            .then_some(()))
    };
    println!("users-app now fails every request");
    restart_users_app(root, processes, &[("FAULT_ERROR_SHARE", "1"), ("FAULT_SLOW_SHARE", "0")])?;
    let started = Instant::now();
    let outcome = until(FIRES, "HighErrorRate did not reach the webhook", || arrived("firing"));
    println!("HighErrorRate fired and arrived after {:.0} s", started.elapsed().as_secs_f64());
    restart_users_app(root, processes, &[])?;
    outcome?;
    println!("users-app is as before");
    let started = Instant::now();
    until(FIRES, "HighErrorRate is not over", || arrived("resolved"))?;
    println!("HighErrorRate was over, and that arrived, after {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn restart_users_app(root: &Path, processes: &mut Processes, variables: &[(&str, &str)]) -> Result<()> {
    let part: &Part = PARTS.iter().find(|part| part.name == "users-app").context("users-app is a part")?;
    let program = program(root, part).context("users-app is built")?;
    processes.end(part.name)?;
    processes.start_with(root, part, &program, variables)?;
    wait_until_ready(part, processes)
}

/// Asks until there is an answer.
fn until<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) if Instant::now() > deadline => bail!("{what} after {patience:?}"),
            Err(error) if Instant::now() > deadline => return Err(error.context(what.to_owned())),
            Ok(None) | Err(_) => thread::sleep(Duration::from_millis(500)),
        }
    }
}

fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |time| time.as_nanos() as u64)
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
