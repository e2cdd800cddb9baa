//! Metrics over OTLP: what the other end has at the end is exactly what happened, cumulative and as deltas.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;

use crate::load::{ROUTES, Server, drive};
use crate::support::skep::Skep;

/// Route and status → requests.
type Counts = BTreeMap<(String, String), u64>;

pub fn pushed() -> Result<()> {
    for temporality in ["cumulative", "delta"] {
        for histograms in ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"] {
            one(temporality, histograms).with_context(|| format!("{temporality}, {histograms}"))?;
        }
    }
    Ok(())
}

fn one(temporality: &str, histograms: &str) -> Result<()> {
    let server = Server::start()?;
    let (addr, requests) = collector()?;
    let mut arguments: Vec<String> = ["run", "--print", "none", "--pid"].map(str::to_owned).to_vec();
    arguments.push(server.pid.to_string());
    arguments.extend(ROUTES.iter().flat_map(|route| ["--route".to_owned(), (*route).to_owned()]));
    for (flag, value) in [
        ("--otlp-metrics-endpoint", format!("http://{addr}/v1/metrics").as_str()),
        ("--otlp-metrics-protocol", "http/protobuf"),
        ("--metric-export-interval", "200ms"),
        ("--metrics-temporality", temporality),
        ("--metrics-histograms", histograms),
    ] {
        arguments.extend([flag.to_owned(), value.to_owned()]);
    }
    let skep = Skep::start(&arguments)?;
    let truth = drive(server.addr, 4, 60)?;
    // No wait: what came after the last interval must leave at the end.
    let outcome = skep.stop()?;
    ensure!(outcome.exit == Some(0), "{}", outcome.stderr);
    let mut counted = Counts::new();
    while let Ok(request) = requests.recv_timeout(Duration::from_millis(500)) {
        let points = durations(&request);
        if temporality == "delta" {
            points.into_iter().for_each(|(key, count)| *counted.entry(key).or_default() += count);
        } else if !points.is_empty() {
            counted = points;
        }
    }
    let expected: Counts = truth
        .iter()
        .map(|((route, status), counts)| ((route.clone(), status.to_string()), counts.requests))
        .collect();
    ensure!(counted == expected, "{counted:?}, not {expected:?}");
    Ok(())
}

/// Counts of the server's durations.
fn durations(request: &ExportMetricsServiceRequest) -> Counts {
    let mut counts = Counts::new();
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        if metric.name != "http.server.request.duration" {
            continue;
        }
        let points: Vec<_> = match &metric.data {
            Some(Data::Histogram(histogram)) => {
                histogram.data_points.iter().map(|point| (&point.attributes, point.count)).collect()
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                histogram.data_points.iter().map(|point| (&point.attributes, point.count)).collect()
            }
            _ => Vec::new(),
        };
        for (attributes, count) in points {
            let text = |name: &str| {
                let found = attributes.iter().find(|attribute| attribute.key == name);
                match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
                    Some(Value::StringValue(text)) => text.clone(),
                    Some(Value::IntValue(number)) => number.to_string(),
                    _ => String::new(),
                }
            };
            *counts.entry((text("http.route"), text("http.response.status_code"))).or_default() += count;
        }
    }
    counts
}

/// Says yes to everything, and hands it on.
fn collector() -> Result<(SocketAddr, Receiver<ExportMetricsServiceRequest>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let Ok(mut answers) = stream.try_clone() else { return };
                let mut requests = BufReader::new(stream);
                while let Some(request) = read_request(&mut requests) {
                    let _ = sender.send(request);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                    if answers.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok((addr, receiver))
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<ExportMetricsServiceRequest> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|&count| count > 0)?;
        let lower = line.trim().to_ascii_lowercase();
        if lower.is_empty() {
            break;
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    ExportMetricsServiceRequest::decode(&body[..]).ok()
}
