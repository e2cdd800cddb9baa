//! A real Prometheus that scrapes the agent: queries, staleness, exemplars.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cases::agent;
use crate::load::{Server, drive};
use crate::support::process::{terminate, wait_exit};
use crate::support::tools::{have, scratch};
use crate::{Missing, http};

struct Prometheus {
    child: Child,
    addr: SocketAddr,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Result<Self> {
        if !have("prometheus") {
            return Err(Missing("prometheus is not installed (package prometheus)".to_owned()).into());
        }
        let folder = scratch().join("prometheus");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: skep\n  honor_labels: true\n  \
                 static_configs: [{{targets: ['{target}']}}]\n"
            ),
        )?;
        // Whoever had the port before is gone; nobody else takes it in the meantime, or the test says so.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--enable-feature=exemplar-storage")
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start prometheus")?;
        Ok(Self { child, addr })
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let answer = http::get(self.addr, path, &[])?;
        ensure!(answer.status == 200, "{path}: {}", answer.head);
        let answer: Value = serde_json::from_slice(&answer.body)?;
        Ok(answer["data"].clone())
    }

    /// The value of a query that gives one number; 0 without a series.
    fn number(&self, query: &str) -> Result<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.ask(&format!("/api/v1/query?query={encoded}"))?;
        let text = data["result"][0]["value"][1].as_str().unwrap_or("0");
        Ok(text.parse()?)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        terminate(self.child.id());
        if wait_exit(&mut self.child, Duration::from_secs(10)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(45);
    let mut last = None;
    while Instant::now() < deadline {
        match done() {
            Ok(true) => return Ok(()),
            Ok(false) => last = None,
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("{what}, within 45 s: {last:?}")
}

/// Scrapes, queries, exemplars that name spans which were printed.
pub fn scrapes() -> Result<()> {
    let server = Server::start()?;
    let (skep, addr) = agent(server.pid, &["--metrics-idle", "3s"])?;
    let prometheus = Prometheus::start(addr)?;
    wait_for("Prometheus scrapes", || Ok(prometheus.number("up{job=\"skep\"}")? == 1.0))?;
    let truth = drive(server.addr, 4, 50)?;
    let total: u64 = truth.values().map(|counts| counts.requests).sum();
    let all = "sum(http_server_request_duration_seconds_count{job=\"shop\"})";
    wait_for("Prometheus has all requests", || Ok(prometheus.number(all)? == total as f64))?;
    for ((route, status), counts) in &truth {
        let query = format!(
            "sum(http_server_request_duration_seconds_count{{http_route=\"{route}\",\
             http_response_status_code=\"{status}\"}})"
        );
        let counted = prometheus.number(&query)?;
        ensure!(counted == counts.requests as f64, "{query}: {counted}, not {}", counts.requests);
    }
    let slow = prometheus.number(
        "histogram_quantile(0.5, sum by (le) (http_server_request_duration_seconds_bucket{http_route=\"/slow\"}))",
    )?;
    ensure!(slow > 0.005, "half of the slow requests took {slow} s, each of them at least 0.007 s");
    let joined = prometheus.number(
        "count(http_server_active_requests * on (job, instance) group_left (process_executable_name) target_info)",
    )?;
    ensure!(joined >= 1.0, "target_info joins with its series");

    let mut traces = BTreeSet::new();
    wait_for("Prometheus has exemplars", || {
        let query = "/api/v1/query_exemplars?query=http_server_request_duration_seconds_bucket&start=0&end=9999999999";
        for series in prometheus.ask(query)?.as_array().into_iter().flatten() {
            for exemplar in series["exemplars"].as_array().into_iter().flatten() {
                let labels = &exemplar["labels"];
                let id = |name| labels[name].as_str().unwrap_or_default().to_owned();
                traces.insert((id("trace_id"), id("span_id")));
            }
        }
        Ok(!traces.is_empty())
    })?;
    // Idle series go: Prometheus sees them end.
    wait_for("idle series are gone", || Ok(prometheus.number(&format!("{all} or vector(-1)"))? == -1.0))?;
    let errors =
        prometheus.number("sum(increase(prometheus_target_scrapes_sample_duplicate_timestamp_total[5m]))")?;
    ensure!(errors == 0.0, "{errors} samples came twice");
    drop(prometheus);
    let outcome = skep.stop()?;
    let printed: BTreeSet<(String, String)> = outcome
        .spans
        .iter()
        .map(|span| {
            let id = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
            (id("trace_id"), id("span_id"))
        })
        .collect();
    let unknown: Vec<_> = traces.difference(&printed).collect();
    ensure!(unknown.is_empty(), "exemplars of spans that were never printed: {unknown:?}");
    Ok(())
}
