//! `cargo xtask bench export`: what it costs to export, to a real Collector, and what an outage costs.
//!
//! A Go server under a fixed rate is watched by Skep that exports nowhere, then in every way; the difference in CPU
//! per span is the export's. Bytes and spans are Skep's own books, which must close. Then a minute without a collector.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::agent::Agent;
use super::load::{self, Load, Protocol};
use super::process;
use crate::check::cargo;
use crate::targets::{self, Target};
use crate::{collector, setup};

const RATE: f64 = 10_000.0;
const CONNECTIONS: usize = 32;

/// Protocol, compression.
const WAYS: [(&str, &str); 6] = [
    ("http/protobuf", "none"),
    ("http/protobuf", "gzip"),
    ("http/protobuf", "zstd"),
    ("grpc", "none"),
    ("grpc", "gzip"),
    ("grpc", "zstd"),
];

/// The numbers of the closing line about spans, in its order.
struct Books {
    handed_over: u64,
    delivered: u64,
    dropped: u64,
    requests: u64,
    bytes: u64,
}

/// One run of the agent under load.
struct Sample {
    spans: u64,
    /// CPU per span, of the thread that drains and encodes.
    main_ns: f64,
    /// CPU per span, of the thread that sends.
    io_ns: f64,
    per_second: f64,
    resident_before: u64,
    resident_after: u64,
    peak: u64,
    books: Option<Books>,
}

struct Collector {
    child: Child,
    grpc: u16,
    http: u16,
}

pub(crate) fn run(root: &Path, quick: bool) -> Result<()> {
    if !setup::is_root() {
        bail!("attaching needs root: sudo env \"PATH=$PATH\" cargo xtask bench export");
    }
    if std::env::var_os("SKEP_BIN").is_none() {
        let built = cargo(root).args(["build", "--release", "--locked", "--package", "skep"]).status();
        if !built.context("run cargo")?.success() {
            bail!("skep does not build");
        }
    }
    collector::build(root)?;
    targets::catch_interrupts();
    let (window, outage) = if quick { (Duration::from_secs(3), 10) } else { (Duration::from_secs(10), 60) };
    let server = targets::start(root, "go", None)?;
    let collector = Collector::start(root)?;
    println!(
        "Go hello server at {RATE:.0} requests/s for {} s each, a Collector on the same machine.\n",
        window.as_secs()
    );
    println!(
        "| to | compression | spans/s | delivered | requests | bytes/span | CPU/span, drain thread | CPU/span, skep-io |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    let load = |rate| Load {
        protocol: Protocol::Http,
        path: "/".to_owned(),
        connections: CONNECTIONS,
        duration: window,
        rate,
    };
    load::drive(server.addr, &load(Some(RATE)))?;
    print_row("nowhere", "–", &sample(root, &server, &load(Some(RATE)), &[])?);
    for (protocol, compression) in WAYS {
        let port = if protocol == "grpc" { collector.grpc } else { collector.http };
        let flags = flags(port, protocol, compression);
        print_row(protocol, compression, &sample(root, &server, &load(Some(RATE)), &flags)?);
    }
    let flags_of = flags(collector.grpc, "grpc", "zstd");
    print_row("grpc, at saturation", "zstd", &sample(root, &server, &load(None), &flags_of)?);
    print_row("nowhere, at saturation", "–", &sample(root, &server, &load(None), &[])?);
    drop(collector);

    println!("\nNo collector for {outage} s at {RATE:.0} spans/s:\n");
    println!(
        "| compression | spans | queued to the end, then counted | counted as queue_full | resident before | after | peak |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for compression in ["none", "zstd"] {
        let load = Load { duration: Duration::from_secs(outage), ..load(Some(RATE)) };
        let (sample, drops) =
            sample_with_drops(root, &server, &load, &flags(9, "http/protobuf", compression))?;
        let books = sample.books.context("no books")?;
        if books.dropped != books.handed_over {
            bail!("{} of {} spans are not counted", books.handed_over - books.dropped, books.handed_over);
        }
        let of = |reason: &str| drop_count(&drops, reason);
        println!(
            "| {compression} | {} | {} | {} | {:.1} MB | {:.1} MB | {:.1} MB |",
            books.handed_over,
            of("export/shutdown") + of("export/retry_exhausted"),
            of("export/queue_full"),
            sample.resident_before as f64 / 1e6,
            sample.resident_after as f64 / 1e6,
            sample.peak as f64 / 1e6
        );
    }
    Ok(())
}

fn flags(port: u16, protocol: &str, compression: &str) -> Vec<String> {
    let endpoint = format!("http://127.0.0.1:{port}");
    ["--otlp-endpoint", &endpoint, "--otlp-protocol", protocol, "--otlp-compression", compression]
        .map(str::to_owned)
        .to_vec()
}

fn sample(root: &Path, server: &Target, load: &Load, flags: &[String]) -> Result<Sample> {
    Ok(sample_with_drops(root, server, load, flags)?.0)
}

fn sample_with_drops(
    root: &Path,
    server: &Target,
    load: &Load,
    flags: &[String],
) -> Result<(Sample, String)> {
    let agent = Agent::attach_with(root, server.pid(), "none", flags)?;
    let pid = agent.pid();
    let resident_before = process::memory_bytes(pid, "VmRSS")?;
    let before = process::cpu_ns_by_thread(pid)?;
    let answered = load::drive(server.addr, load)?;
    // What has not been sent yet is within the batch's delay.
    std::thread::sleep(Duration::from_millis(1200));
    let after = process::cpu_ns_by_thread(pid)?;
    let of = |io: bool| {
        let sum = |threads: &[(String, u64)]| -> u64 {
            threads.iter().filter(|(name, _)| (name == "skep-io") == io).map(|(_, ns)| ns).sum()
        };
        (sum(&after) - sum(&before)) as f64 / answered.requests as f64
    };
    let (main_ns, io_ns) = (of(false), of(true));
    let resident_after = process::memory_bytes(pid, "VmRSS")?;
    let peak = process::memory_bytes(pid, "VmHWM")?;
    let said = agent.stop()?;
    let find = |part: &str| said.iter().rev().find(|line| line.contains(part)).cloned();
    let books = match find("spans handed over") {
        Some(line) => Some(Books::read(&line)?),
        None if flags.is_empty() => None,
        None => bail!("skep said nothing about its exports"),
    };
    let sample = Sample {
        spans: answered.requests,
        main_ns,
        io_ns,
        per_second: answered.per_second,
        resident_before,
        resident_after,
        peak,
        books,
    };
    Ok((sample, find("drops by stage/reason: ").unwrap_or_default()))
}

fn print_row(to: &str, compression: &str, sample: &Sample) {
    let (delivered, requests, bytes) = match &sample.books {
        None => ("–".to_owned(), "–".to_owned(), "–".to_owned()),
        Some(Books { handed_over, delivered, dropped, requests, bytes }) => (
            if *handed_over == sample.spans && delivered + dropped == *handed_over {
                format!("{:.2} %", *delivered as f64 / *handed_over as f64 * 100.0)
            } else {
                format!("{delivered} + {dropped} of {handed_over} of {}", sample.spans)
            },
            requests.to_string(),
            format!("{:.0}", *bytes as f64 / *delivered as f64),
        ),
    };
    println!(
        "| {to} | {compression} | {:.0} | {delivered} | {requests} | {bytes} | {:.2} µs | {:.2} µs |",
        sample.per_second,
        sample.main_ns / 1e3,
        sample.io_ns / 1e3
    );
}

impl Books {
    fn read(line: &str) -> Result<Self> {
        let (_, line) = line.split_once("export: ").context("a line of books")?;
        let numbers: Vec<u64> =
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        let [handed_over, delivered, dropped, _, requests, _, bytes] = numbers[..] else {
            bail!("books that cannot be read: {line}");
        };
        Ok(Self { handed_over, delivered, dropped, requests, bytes })
    }
}

/// The number behind `stage/reason` in the line of drops.
fn drop_count(line: &str, reason: &str) -> u64 {
    let mut words = line.split_whitespace().skip_while(|word| *word != reason);
    words.nth(1).and_then(|count| count.parse().ok()).unwrap_or(0)
}

impl Collector {
    /// One that takes everything and keeps nothing.
    fn start(root: &Path) -> Result<Self> {
        let port = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let (grpc, http) = (port()?, port()?);
        let folder = root.join("target/tmp");
        fs::create_dir_all(&folder)?;
        let config = folder.join("bench-collector.yaml");
        fs::write(
            &config,
            format!(
                "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}
exporters: {{debug: {{verbosity: basic}}}}
service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}, metrics: {{receivers: [otlp], exporters: [debug]}}}}}}
"
            ),
        )?;
        let mut child = Command::new(collector::path(root))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the Collector")?;
        let mut stderr = BufReader::new(child.stderr.take().context("the Collector's stderr")?);
        let mut line = String::new();
        while !line.contains("Everything is ready") {
            line.clear();
            if stderr.read_line(&mut line)? == 0 {
                let _ = child.wait();
                bail!("the Collector ended at once");
            }
        }
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Ok(Self { child, grpc, http })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        targets::end(&mut self.child, Signal::TERM, Duration::from_secs(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_are_read_from_their_line() {
        let line = "2026 info  export: 10 spans handed over = 7 delivered + 3 dropped + 0 under way; 4 requests, 1 of \
                    them failed, 999 bytes sent";
        let books = Books::read(line).unwrap();
        assert_eq!(
            [books.handed_over, books.delivered, books.dropped, books.requests, books.bytes],
            [10, 7, 3, 4, 999]
        );
        assert_eq!(drop_count("drops by stage/reason: a/b 3 export/shutdown 12", "export/shutdown"), 12);
    }
}
