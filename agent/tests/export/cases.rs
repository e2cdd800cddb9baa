//! The cases: one run of the agent each.

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::certificates::Certificates;
use crate::collector::Collector;
use crate::compare::{Compared, arrived, compare};
use crate::load::{Progress, drive};
use crate::support::process::{terminate, wait_exit};
use crate::support::skep::{Outcome, Skep};
use crate::support::tools::{build_go, need, scratch, targets};

/// Requests of a case that does not say otherwise.
const REQUESTS: u64 = 400;
/// A run ends within a second, the exporters' last attempt included; a busy machine gets as much again.
const STOPS_WITHIN: Duration = Duration::from_secs(2);
const SPANS_WITHIN: Duration = Duration::from_secs(10);

pub struct Case {
    pub name: &'static str,
    pub run: fn(&World) -> Result<String>,
}

pub const CASES: &[Case] = &[
    Case { name: "http", run: |world| plain(world, "http", "none", false) },
    Case { name: "http, gzip", run: |world| plain(world, "http", "gzip", false) },
    Case { name: "http, zstd", run: |world| plain(world, "http", "zstd", false) },
    Case { name: "grpc", run: |world| plain(world, "grpc", "none", false) },
    Case { name: "grpc, gzip", run: |world| plain(world, "grpc", "gzip", false) },
    Case { name: "grpc, zstd", run: |world| plain(world, "grpc", "zstd", false) },
    Case {
        name: "https, own authority, client certificate, gzip",
        run: |world| plain(world, "http", "gzip", true),
    },
    Case {
        name: "grpc, TLS, own authority, client certificate",
        run: |world| plain(world, "grpc", "none", true),
    },
    Case { name: "http over a unix socket", run: |world| unix(world, "http") },
    Case { name: "grpc over a unix socket", run: |world| unix(world, "grpc") },
    Case { name: "https without a client certificate is refused", run: refused },
    Case { name: "http, collector restarted under load", run: |world| restarted(world, "http") },
    Case { name: "grpc, collector restarted under load", run: |world| restarted(world, "grpc") },
    Case { name: "collector killed, load goes on, started again", run: killed },
    Case { name: "collector gone for good", run: gone },
    Case { name: "collector watched as well", run: watched },
];

/// The server, the collector and the certificates that all cases share.
pub struct World {
    collector: RefCell<Collector>,
    certificates: Certificates,
    server: Child,
    addr: SocketAddr,
}

impl World {
    pub fn new() -> Result<Self> {
        let folder = scratch().join(format!("export-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let certificates = Certificates::make(&folder)?;
        let mut collector = Collector::new(&folder, &certificates)?;
        collector.start()?;
        need("go").map_err(anyhow::Error::msg)?;
        let program = build_go(&targets().join("go"), "go-target").map_err(anyhow::Error::msg)?;
        let mut server =
            Command::new(program).arg("0").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(server.stdout.take().context("no stdout")?),
            &mut line,
        )?;
        let addr = line.trim().strip_prefix("listening on ").context("where the server listens")?.parse()?;
        Ok(Self { collector: RefCell::new(collector), certificates, server, addr })
    }

    /// The agent on the server, with these flags.
    fn skep(&self, flags: &[String]) -> Result<Skep> {
        let mut arguments: Vec<String> =
            ["run", "--print", "json", "--otlp-batch-delay", "100ms", "--pid"].map(str::to_owned).to_vec();
        arguments.push(self.server.id().to_string());
        arguments.extend_from_slice(flags);
        Skep::start(&arguments)
    }

    fn arrived(&self) -> Result<Vec<serde_json::Value>> {
        arrived(&self.collector.borrow().written("traces")?)
    }

    /// Ends the agent, then compares what it printed with what arrived: equal, and what is missing is counted.
    fn settle(&self, mut skep: Skep, answered: u64) -> Result<(Outcome, Compared, Books)> {
        ensure!(
            skep.wait_spans(usize::try_from(answered)?, SPANS_WITHIN),
            "not as many spans printed as requests answered ({answered})"
        );
        let outcome = skep.stop()?;
        ensure!(outcome.exit == Some(0), "exit {:?}: {}", outcome.exit, outcome.stderr);
        ensure!(outcome.stop_after <= STOPS_WITHIN, "stopped after {:?}", outcome.stop_after);
        ensure!(
            outcome.spans.len() as u64 == answered,
            "{} spans of {answered} requests",
            outcome.spans.len()
        );
        let books = Books::read(&outcome.stderr)?;
        ensure!(books.handed_over == answered, "{books:?}, {answered} answered");
        ensure!(books.handed_over == books.delivered + books.dropped && books.under_way == 0, "{books:?}");
        // What was answered with success is in the file a moment later.
        let mut result = Ok(Compared::default());
        self.collector.borrow().wait_for("traces", |requests| {
            result = arrived(requests).and_then(|spans| compare(&outcome.spans, &spans));
            result.as_ref().map_or(true, |compared| compared.equal as u64 >= books.delivered)
        })?;
        let compared = result?;
        // Not less than was delivered; more, where an answer was lost on its way.
        ensure!(compared.equal as u64 >= books.delivered, "{compared:?}, but {books:?}");
        ensure!(compared.missing as u64 <= books.dropped, "{compared:?}, but {books:?}");
        Ok((outcome, compared, books))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        terminate(self.server.id());
        if wait_exit(&mut self.server, Duration::from_secs(5)).is_none() {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }
}

/// The line of the closing books about spans.
#[derive(Debug)]
struct Books {
    handed_over: u64,
    delivered: u64,
    dropped: u64,
    under_way: u64,
    requests: u64,
    failed: u64,
}

impl Books {
    fn read(stderr: &str) -> Result<Self> {
        let line =
            stderr.lines().rev().find(|line| line.contains("spans handed over")).context("no books")?;
        let (_, line) = line.split_once("export: ").context("no books")?;
        let numbers: Vec<u64> =
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        let [handed_over, delivered, dropped, under_way, requests, failed, _] = numbers[..] else {
            bail!("books that cannot be read: {line}");
        };
        Ok(Self { handed_over, delivered, dropped, under_way, requests, failed })
    }
}

fn flags(endpoint: &str, protocol: &str, compression: &str) -> Vec<String> {
    let protocol = if protocol == "grpc" { "grpc" } else { "http/protobuf" };
    ["--otlp-endpoint", endpoint, "--otlp-protocol", protocol, "--otlp-compression", compression]
        .map(str::to_owned)
        .to_vec()
}

fn endpoint(world: &World, protocol: &str, tls: bool) -> String {
    let collector = world.collector.borrow();
    match (protocol, tls) {
        ("grpc", false) => format!("http://127.0.0.1:{}", collector.grpc),
        ("grpc", true) => format!("https://127.0.0.1:{}", collector.grpc_tls),
        (_, false) => format!("http://127.0.0.1:{}", collector.http),
        (_, true) => format!("https://127.0.0.1:{}", collector.http_tls),
    }
}

fn plain(world: &World, protocol: &str, compression: &str, tls: bool) -> Result<String> {
    let mut flags = flags(&endpoint(world, protocol, tls), protocol, compression);
    if tls {
        let of = &world.certificates;
        for (flag, path) in [
            ("--otlp-certificate", &of.authority),
            ("--otlp-client-certificate", &of.client),
            ("--otlp-client-key", &of.client_key),
        ] {
            flags.extend([flag.to_owned(), path.display().to_string()]);
        }
    }
    all_arrive(world, &flags)
}

fn unix(world: &World, protocol: &str) -> Result<String> {
    let socket = {
        let collector = world.collector.borrow();
        if protocol == "grpc" { collector.grpc_socket.clone() } else { collector.http_socket.clone() }
    };
    all_arrive(world, &flags(&format!("unix://{}", socket.display()), protocol, "none"))
}

/// Nothing fails, nothing is lost, nothing comes twice.
fn all_arrive(world: &World, flags: &[String]) -> Result<String> {
    let skep = world.skep(flags)?;
    let answered = drive(world.addr, REQUESTS, &Progress::default())?;
    let (_, compared, books) = world.settle(skep, answered)?;
    ensure!(compared.missing == 0 && compared.doubled == 0 && books.failed == 0, "{compared:?}, {books:?}");
    Ok(format!("{} spans equal, {} requests", compared.equal, books.requests))
}

fn refused(world: &World) -> Result<String> {
    let mut flags = flags(&endpoint(world, "http", true), "http", "none");
    flags.extend(["--otlp-certificate".to_owned(), world.certificates.authority.display().to_string()]);
    let skep = world.skep(&flags)?;
    let answered = drive(world.addr, 100, &Progress::default())?;
    let (outcome, compared, books) = world.settle(skep, answered)?;
    ensure!(compared.equal == 0 && books.dropped == answered, "{compared:?}, {books:?}");
    ensure!(outcome.stderr.contains("export of traces to https://"), "no warning: {}", outcome.stderr);
    Ok(format!("{} counted", books.dropped))
}

/// Requests go on while the collector ends in order and comes back on the same ports.
fn restarted(world: &World, protocol: &str) -> Result<String> {
    let skep = world.skep(&flags(&endpoint(world, protocol, false), protocol, "gzip"))?;
    let progress = Arc::new(Progress::default());
    let (addr, shared) = (world.addr, Arc::clone(&progress));
    let load = std::thread::spawn(move || drive(addr, 2_000_000, &shared));
    let wait = |more: u64| {
        let until = progress.answered.load(std::sync::atomic::Ordering::Relaxed) + more;
        while progress.answered.load(std::sync::atomic::Ordering::Relaxed) < until && !load.is_finished() {
            std::thread::yield_now();
        }
    };
    wait(2000);
    for _ in 0..2 {
        world.collector.borrow_mut().stop();
        wait(2000);
        world.collector.borrow_mut().start()?;
        wait(2000);
    }
    progress.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let answered = load.join().unwrap()?;
    let mut skep = skep;
    // Back-off may last five seconds; the exporter says when it is through.
    skep.wait_lines(Duration::from_secs(15), |_, stderr| {
        let count = |what: &str| stderr.iter().filter(|line| line.contains(what)).count();
        count("works again") > 0 && count("works again") >= count("it is tried again")
    });
    let (_, compared, books) = world.settle(skep, answered)?;
    ensure!(books.failed > 0, "the collector was not missed: {books:?}");
    // The queue had room all the time: nothing may be missing. Twice only where an answer was lost on its way.
    ensure!(compared.missing == 0 && books.dropped == 0, "{compared:?}, {books:?}");
    Ok(format!(
        "{} spans equal, {} of them came twice; {} of {} requests failed",
        compared.equal, compared.doubled, books.failed, books.requests
    ))
}

/// SIGKILL between two loads; the second one finds nobody there at first.
fn killed(world: &World) -> Result<String> {
    let skep = world.skep(&flags(&endpoint(world, "http", false), "http", "none"))?;
    let before = world.arrived()?.len();
    let mut answered = drive(world.addr, REQUESTS, &Progress::default())?;
    let due = before + usize::try_from(answered)?;
    let there = |requests: &[serde_json::Value]| arrived(requests).is_ok_and(|spans| spans.len() >= due);
    ensure!(world.collector.borrow().wait_for("traces", there)?, "the first spans do not arrive");
    world.collector.borrow_mut().kill();
    answered += drive(world.addr, REQUESTS, &Progress::default())?;
    let mut skep = skep;
    ensure!(
        skep.wait_lines(SPANS_WITHIN, |_, stderr| stderr
            .iter()
            .any(|line| line.contains("it is tried again"))),
        "the agent does not say that the collector is gone"
    );
    world.collector.borrow_mut().start()?;
    ensure!(
        skep.wait_lines(SPANS_WITHIN, |_, stderr| stderr.iter().any(|line| line.contains("works again"))),
        "the agent does not find the new collector"
    );
    let (_, compared, books) = world.settle(skep, answered)?;
    ensure!(compared.missing == 0 && books.dropped == 0, "{compared:?}, {books:?}");
    Ok(format!("{} spans equal, {} failed requests", compared.equal, books.failed))
}

/// Nobody ever listens: everything is counted, and the end comes as soon as ever.
fn gone(world: &World) -> Result<String> {
    let mut flags = flags("http://127.0.0.1:9", "http", "none");
    flags.extend(["--otlp-queue-size", "64K", "--otlp-batch-spans", "50"].map(str::to_owned));
    let skep = world.skep(&flags)?;
    let answered = drive(world.addr, 4000, &Progress::default())?;
    let (outcome, compared, books) = world.settle(skep, answered)?;
    ensure!(compared.equal == 0 && books.dropped == answered, "{compared:?}, {books:?}");
    for reason in ["export/queue_full", "export/shutdown"] {
        ensure!(outcome.stderr.contains(reason), "{reason} is not in the books: {}", outcome.stderr);
    }
    Ok(format!("{} counted, stopped after {} ms", books.dropped, outcome.stop_after.as_millis()))
}

/// Each export is a request to a process that is watched: it must not become a span, or exports never end.
fn watched(world: &World) -> Result<String> {
    let collector = world.collector.borrow().pid().context("no collector")?;
    let mut remarks = Vec::new();
    for protocol in ["http", "grpc"] {
        let mut flags = flags(&endpoint(world, protocol, false), protocol, "none");
        flags.extend(["--pid".to_owned(), collector.to_string()]);
        let skep = world.skep(&flags)?;
        let mut answered = 0;
        for _ in 0..3 {
            // Exports must happen while the collector is watched, not only at the end.
            let due = world.arrived()?.len() + usize::try_from(REQUESTS)?;
            answered += drive(world.addr, REQUESTS, &Progress::default())?;
            let there =
                |requests: &[serde_json::Value]| arrived(requests).is_ok_and(|spans| spans.len() >= due);
            ensure!(world.collector.borrow().wait_for("traces", there)?, "the spans do not arrive");
        }
        let (outcome, compared, _) = world.settle(skep, answered)?;
        ensure!(compared.missing == 0, "{compared:?}");
        let left_out = outcome.stderr.lines().find(|line| line.contains("own requests left out"));
        remarks.push(format!(
            "{protocol}: {}",
            left_out.map_or("none seen", |line| { line.split("export: ").nth(1).unwrap_or(line) })
        ));
        ensure!(
            protocol == "grpc" || left_out.is_some(),
            "the exports were not seen at all: {}",
            outcome.stderr
        );
    }
    Ok(remarks.join("; "))
}
