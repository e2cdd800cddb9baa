//! What is exposed is what happened.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::exposition::{Sample, samples, sum};
use crate::load::{Counts, ROUTES, Server, Truth, drive};
use crate::support::skep::{Skep, binary};
use crate::support::tools::have;
use crate::{Missing, http};

const DURATION: &str = "http_server_request_duration_seconds";
const OPEN_METRICS: &str = "Accept: application/openmetrics-text; version=1.0.0";

/// The agent on a server, with an endpoint, and where that is.
pub fn agent(pid: u32, more: &[&str]) -> Result<(Skep, SocketAddr)> {
    let mut arguments: Vec<String> =
        ["run", "--pid", &pid.to_string(), "--print", "json", "--prometheus-listen", "127.0.0.1:0"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend(ROUTES.iter().flat_map(|route| ["--route".to_owned(), (*route).to_owned()]));
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    let mut skep = Skep::start(&arguments)?;
    let mut address = None;
    skep.wait_lines(Duration::from_secs(5), |_, stderr| {
        address = stderr
            .iter()
            .filter_map(|line| line.split("metrics on http://").nth(1))
            .find_map(|rest| rest.split('/').next()?.parse().ok());
        address.is_some()
    });
    Ok((skep, address.context("the agent does not say where its metrics are")?))
}

/// Scrapes until as many requests are counted.
pub fn scrape_until(addr: SocketAddr, requests: u64, headers: &[&str]) -> Result<Vec<Sample>> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = http::get(addr, "/metrics", headers)?;
        ensure!(answer.status == 200, "{}", answer.head);
        let samples = samples(&answer.text()?);
        let counted = sum(&samples, &format!("{DURATION}_count"), |_| true);
        if counted >= requests as f64 || Instant::now() >= deadline {
            ensure!(counted == requests as f64, "{counted} requests are counted, {requests} were made");
            return Ok(samples);
        }
    }
}

fn total(truth: &Truth) -> u64 {
    truth.values().map(|counts| counts.requests).sum()
}

/// Every series of the server against the truth.
pub fn compare(samples: &[Sample], truth: &Truth) -> Result<()> {
    for ((route, status), expected) in truth {
        let wanted = |sample: &Sample| {
            sample.label("http_route") == route
                && sample.label("http_response_status_code") == status.to_string()
        };
        let count = |name: &str| sum(samples, name, wanted) as u64;
        let actual = Counts {
            requests: count(&format!("{DURATION}_count")),
            sent: count("http_server_request_body_size_bytes_sum"),
            received: count("http_server_response_body_size_bytes_sum"),
        };
        ensure!(actual == *expected, "{route} {status}: {actual:?}, not {expected:?}");
        let infinity = sum(samples, &format!("{DURATION}_bucket"), |sample| {
            wanted(sample) && sample.label("le") == "+Inf"
        });
        ensure!(infinity as u64 == expected.requests, "{route} {status}: {infinity} in all buckets");
        let sizes = sum(samples, "http_server_response_body_size_bytes_count", wanted);
        ensure!(sizes as u64 == expected.requests, "{route} {status}: {sizes} sizes");
    }
    Ok(())
}

/// Counts, sizes and what is open, in both formats, packed and plain.
pub fn exact_counts() -> Result<()> {
    let server = Server::start()?;
    // No request is printed: metrics must count what is not sampled.
    let (skep, addr) = agent(server.pid, &["--traces-sampler", "always_off"])?;
    let truth = drive(server.addr, 6, 100)?;
    let samples = scrape_until(addr, total(&truth), &[])?;
    compare(&samples, &truth)?;
    for headers in [&[OPEN_METRICS][..], &["Accept-Encoding: gzip"], &[OPEN_METRICS, "Accept-Encoding: gzip"]]
    {
        compare(&scrape_until(addr, total(&truth), headers)?, &truth)?;
    }
    // Slow requests are counted while they are open, and not after.
    let slow = std::thread::spawn({
        let addr = server.addr;
        move || http::get(addr, "/slow?ms=1500", &[])
    });
    let active = "http_server_active_requests";
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = BTreeSet::new();
    while !seen.contains(&1) || seen.last() != seen.first() && !slow.is_finished() {
        let samples = crate::exposition::samples(&http::get(addr, "/metrics", &[])?.text()?);
        seen.insert(sum(&samples, active, |_| true) as i64);
        ensure!(Instant::now() < deadline, "never seen open: {seen:?}");
    }
    ensure!(seen.last() == Some(&1), "more requests were open than there were: {seen:?}");
    let _ = slow.join();
    let samples = scrape_until(addr, total(&truth) + 1, &[])?;
    ensure!(sum(&samples, active, |_| true) == 0.0, "nothing is open any more");
    ensure!(samples.iter().any(|sample| sample.name == active), "there is a series that says so");
    let made = sum(&samples, "skep_spans_total", |_| true);
    ensure!(made == (total(&truth) + 1) as f64, "skep_spans_total says {made}");
    ensure!(sum(&samples, "skep_attached", |_| true) == 1.0, "one back end is attached");
    let outcome = skep.stop()?;
    ensure!(outcome.spans.is_empty() && outcome.exit == Some(0), "{}", outcome.stderr);
    Ok(())
}

/// What Prometheus' own checker says of the text.
pub fn promtool() -> Result<()> {
    if !have("promtool") {
        return Err(Missing("promtool is not installed (package prometheus)".to_owned()).into());
    }
    let server = Server::start()?;
    let (skep, addr) = agent(server.pid, &["--span-metrics", "--service-graph"])?;
    let truth = drive(server.addr, 1, 5)?;
    scrape_until(addr, total(&truth), &[])?;
    let text = http::get(addr, "/metrics", &[])?.text()?;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Tempo's names do not follow Prometheus' own advice; nothing else may be said.
    let about_us: Vec<&str> =
        said.lines().filter(|line| !line.is_empty() && !line.starts_with("traces_")).collect();
    ensure!(about_us.is_empty(), "promtool: {said}");
    skep.stop()?;
    Ok(())
}

/// Names, labels and bounds that dashboards for Beyla 2.5 use.
pub fn beyla() -> Result<()> {
    let server = Server::start()?;
    let (skep, addr) = agent(server.pid, &["--compat", "beyla"])?;
    let truth = drive(server.addr, 2, 20)?;
    let samples = scrape_until(addr, total(&truth), &[])?;
    compare(&samples, &truth)?;
    let series = samples.iter().find(|sample| sample.name == format!("{DURATION}_count")).context("none")?;
    for label in [
        "http_request_method",
        "http_response_status_code",
        "http_route",
        "service_name",
        "server_address",
        "server_port",
        "instance",
        "job",
    ] {
        ensure!(!series.label(label).is_empty(), "{label} is missing in {series:?}");
    }
    ensure!(series.label("service_name") == "shop", "{series:?}");
    let bounds = |name: &str| -> BTreeSet<String> {
        let of = |sample: &&Sample| sample.name == name;
        samples.iter().filter(of).map(|sample| sample.label("le").to_owned()).collect()
    };
    let expected = |bounds: &str| bounds.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let durations = "0 0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 +Inf";
    ensure!(bounds(&format!("{DURATION}_bucket")) == expected(durations), "bounds of durations");
    let sizes = "0 32 64 128 256 512 1024 2048 4096 8192 +Inf";
    for name in ["http_server_request_body_size_bytes", "http_server_response_body_size_bytes"] {
        ensure!(bounds(&format!("{name}_bucket")) == expected(sizes), "bounds of {name}");
    }
    skep.stop()?;
    Ok(())
}

/// Two series are allowed, seven come: nothing is lost.
pub fn overflow() -> Result<()> {
    let server = Server::start()?;
    let (skep, addr) = agent(server.pid, &["--max-series", "2"])?;
    let truth = drive(server.addr, 2, 20)?;
    let samples = scrape_until(addr, total(&truth), &[])?;
    let series: Vec<_> = samples.iter().filter(|sample| sample.name == format!("{DURATION}_count")).collect();
    ensure!(series.len() == 3, "{} series", series.len());
    let overflow: Vec<_> =
        series.iter().filter(|sample| sample.label("otel_metric_overflow") == "true").collect();
    ensure!(overflow.len() == 1 && overflow[0].value > 0.0, "{series:?}");
    let counted = sum(&samples, "skep_metrics_overflowed_total", |_| true);
    ensure!(counted == overflow[0].value, "{counted} counted as overflowed");
    skep.stop()?;
    Ok(())
}

/// What is off by default.
pub fn extras() -> Result<()> {
    let server = Server::start()?;
    let (skep, addr) = agent(
        server.pid,
        &["--span-metrics", "--service-graph", "--process-metrics", "--metrics-idle", "2s"],
    )?;
    let truth = drive(server.addr, 2, 20)?;
    let requests = total(&truth);
    let samples = scrape_until(addr, requests, &[OPEN_METRICS])?;
    for name in ["traces_spanmetrics_calls_total", "traces_spanmetrics_latency_count"] {
        let counted = sum(&samples, name, |sample| {
            sample.label("service") == "shop" && sample.label("span_kind") == "SPAN_KIND_SERVER"
        });
        ensure!(counted == requests as f64, "{name} says {counted}");
    }
    let failed: u64 = truth.iter().filter(|((_, status), _)| *status >= 500).map(|(_, c)| c.requests).sum();
    let edge = |sample: &Sample| {
        (sample.label("client"), sample.label("server"), sample.label("connection_type"))
            == ("user", "shop", "virtual_node")
    };
    let total_edges = sum(&samples, "traces_service_graph_request_total", edge);
    let failed_edges = sum(&samples, "traces_service_graph_request_failed_total", edge);
    ensure!(total_edges == requests as f64 && failed_edges == failed as f64, "{total_edges}, {failed_edges}");
    for name in
        ["process_cpu_time_seconds_total", "process_memory_usage_bytes", "process_unix_file_descriptor_count"]
    {
        ensure!(sum(&samples, name, |sample| sample.label("job") == "shop") > 0.0, "{name}");
    }
    // Idle series go; one that comes back begins anew.
    let deadline = Instant::now() + Duration::from_secs(20);
    let counted = || -> Result<f64> {
        let samples = crate::exposition::samples(&http::get(addr, "/metrics", &[])?.text()?);
        Ok(sum(&samples, &format!("{DURATION}_count"), |_| true))
    };
    while counted()? > 0.0 {
        ensure!(Instant::now() < deadline, "idle series stay");
    }
    http::get(server.addr, "/echo", &[])?;
    scrape_until(addr, 1, &[])?;
    skep.stop()?;
    Ok(())
}

/// An address that others can reach.
pub fn public_address() -> Result<()> {
    let run = |more: &[&str]| {
        let arguments = ["run", "--pid", "1", "--duration", "0.1", "--prometheus-listen", "0.0.0.0:0"];
        Command::new(binary()).args(arguments).args(more).stdin(Stdio::null()).output()
    };
    let refused = run(&[])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(2) && said.contains("--prometheus-public"), "{said}");
    let asked = run(&["--prometheus-public"])?;
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    if !said.contains("metrics on http://0.0.0.0:") {
        bail!("{said}");
    }
    Ok(())
}
