//! `cargo xtask bench overhead`: what it costs to be watched, and to watch.
//!
//! A server runs under one load without Skep, with it, without, with …, all in one run; every ratio is taken against
//! the two neighbours without Skep, and the ratios of those neighbours to each other are the noise, printed beside it.
//! Then what one agent needs, what it loses at saturation, and what a process pays that nobody watches.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::agent::Agent;
use super::load::{self, Answered, Load, Protocol};
use super::process;
use crate::check::cargo;
use crate::setup;
use crate::targets::{self, Target};

/// Target and its name in the table, by protocol.
fn servers(protocol: Protocol) -> &'static [(&'static str, &'static str)] {
    match protocol {
        Protocol::Http => &[("go", "Go net/http"), ("rust", "axum")],
        Protocol::Redis => &[("redis", "redis-server")],
    }
}

/// Path or key of a request, and what it stands for, by protocol.
fn paths(protocol: Protocol) -> &'static [(&'static str, &'static str)] {
    match protocol {
        Protocol::Http => &[("/", "hello"), ("/work?us=100", "100 µs of work")],
        Protocol::Redis => &[(targets::REDIS_KEY, "GET, one at a time")],
    }
}

/// Enough to saturate two cores, far from a server's limits.
const CONNECTIONS: usize = 32;

/// A fixed rate is this part of what the server can do without Skep.
const FIXED_RATE_SHARE: f64 = 0.4;

/// Requests per second for what the views cost.
const VIEWS_RATE: f64 = 5000.0;

/// Calls of the bystander per measurement.
const BYSTANDER_CALLS: u32 = 1_000_000;

struct Plan {
    window: Duration,
    pairs: usize,
}

impl Plan {
    fn load(&self, protocol: Protocol, path: &str) -> Load {
        let (path, connections) = (path.to_owned(), CONNECTIONS);
        Load { protocol, path, connections, duration: self.window, rate: None }
    }
}

/// One window: a load on a server, without or with an agent.
struct Sample {
    answered: Answered,
    server_ns: f64,
    agent_ns: Option<f64>,
}

/// What was seen of the agents beside the ratios.
#[derive(Default)]
struct AgentFigures {
    ready_ms: Vec<f64>,
    steady_bytes: u64,
    peak_bytes: u64,
    map_bytes: u64,
}

pub(crate) fn run(root: &Path, quick: bool, protocol: Protocol) -> Result<()> {
    if !setup::is_root() {
        bail!("attaching needs root: sudo env \"PATH=$PATH\" cargo xtask bench overhead");
    }
    if std::env::var_os("SKEP_BIN").is_none() {
        let built = cargo(root).args(["build", "--release", "--locked", "--package", "skep"]).status();
        if !built.context("run cargo")?.success() {
            bail!("skep does not build");
        }
    }
    targets::catch_interrupts();
    let plan = if quick {
        Plan { window: Duration::from_secs(1), pairs: 2 }
    } else {
        Plan { window: Duration::from_secs(2), pairs: 10 }
    };
    println!("{}", machine());
    println!(
        "Each ratio: with Skep ÷ without, median of {} alternating pairs of {} s; in brackets the middle \
         half of without ÷ without.\n",
        plan.pairs,
        plan.window.as_secs()
    );
    println!(
        "| server | handler | load | requests/s | CPU/request | CPU ratio | throughput | p50 | p99 | agent CPU/request |"
    );
    println!("|---|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let mut figures = AgentFigures::default();
    let mut server = None;
    for &(name, label) in servers(protocol) {
        let target = match targets::start(root, name, None) {
            Ok(target) => target,
            Err(error) => {
                println!("| {label} | left out: {error:#} |");
                continue;
            }
        };
        for (path, handler) in paths(protocol) {
            let load = plan.load(protocol, path);
            compare(root, &plan, &target, &format!("{label} | {handler}"), load, &mut figures)?;
        }
        server = Some(target);
    }
    let server = server.context("no server could be started: `cargo xtask setup` says what is missing")?;
    println!("\n| what | figure |\n|---|--:|");
    let (path, _) = paths(protocol)[0];
    agent_rows(root, &plan, &server, &plan.load(protocol, path), &figures)?;
    views(root, &plan, &server, &plan.load(protocol, path))?;
    bystander(root, &plan, &server)
}

/// Saturation, then a fixed rate below it.
fn compare(
    root: &Path,
    plan: &Plan,
    target: &Target,
    label: &str,
    mut load: Load,
    figures: &mut AgentFigures,
) -> Result<()> {
    // The first second of a server is not like the others.
    load::drive(target.addr, &load)?;
    let saturated = alternate(root, plan, target, &load, figures)?;
    print_row(label, "saturation", &saturated);
    let free: Vec<f64> = saturated.iter().map(|(without, _)| without.answered.per_second).collect();
    let rate = (median(free) * FIXED_RATE_SHARE / 100.0).round().max(1.0) * 100.0;
    load.rate = Some(rate);
    let fixed = alternate(root, plan, target, &load, figures)?;
    print_row(label, &format!("{rate:.0}/s"), &fixed);
    Ok(())
}

/// Without, with, without, with, …, without: pairs of (without, the with that follows it); the last has none.
fn alternate(
    root: &Path,
    plan: &Plan,
    target: &Target,
    load: &Load,
    figures: &mut AgentFigures,
) -> Result<Vec<(Sample, Option<Sample>)>> {
    let mut samples = Vec::with_capacity(plan.pairs + 1);
    for _ in 0..plan.pairs {
        let without = sample(target, load, None)?;
        let agent = Agent::attach(root, target.pid(), "none")?;
        let with = sample(target, load, Some(agent.pid()))?;
        figures.ready_ms.push(agent.ready_after.as_secs_f64() * 1e3);
        figures.steady_bytes = figures.steady_bytes.max(process::memory_bytes(agent.pid(), "VmRSS")?);
        figures.peak_bytes = figures.peak_bytes.max(process::memory_bytes(agent.pid(), "VmHWM")?);
        figures.map_bytes = figures.map_bytes.max(process::map_bytes(agent.pid())?);
        agent.stop()?;
        samples.push((without, Some(with)));
        if targets::interrupted() {
            bail!("interrupted");
        }
    }
    samples.push((sample(target, load, None)?, None));
    Ok(samples)
}

fn sample(target: &Target, load: &Load, agent: Option<u32>) -> Result<Sample> {
    let agent_cpu = || agent.map(process::cpu_ns).transpose();
    let (server_before, agent_before) = (process::cpu_ns(target.pid())?, agent_cpu()?);
    let answered = load::drive(target.addr, load)?;
    let (server_after, agent_after) = (process::cpu_ns(target.pid())?, agent_cpu()?);
    let requests = answered.requests as f64;
    let agent_ns = agent_before.zip(agent_after).map(|(before, after)| (after - before) as f64 / requests);
    Ok(Sample { answered, server_ns: (server_after - server_before) as f64 / requests, agent_ns })
}

fn print_row(label: &str, load: &str, samples: &[(Sample, Option<Sample>)]) {
    let of = |value: fn(&Sample) -> f64| median(samples.iter().map(|(without, _)| value(without)).collect());
    let agent = median(samples.iter().filter_map(|(_, with)| with.as_ref()?.agent_ns).collect());
    println!(
        "| {label} | {load} | {:.0} | {:.1} µs | {} | {} | {} | {} | {:.2} µs |",
        of(|sample| sample.answered.per_second),
        of(|sample| sample.server_ns) / 1e3,
        ratio(samples, |sample| sample.server_ns),
        ratio(samples, |sample| sample.answered.per_second),
        ratio(samples, |sample| sample.answered.p50_ns),
        ratio(samples, |sample| sample.answered.p99_ns),
        agent / 1e3,
    );
}

/// `1.082 (0.99–1.01)`: the median ratio with ÷ without, and the middle half of the neighbours' own ratios.
fn ratio(samples: &[(Sample, Option<Sample>)], value: fn(&Sample) -> f64) -> String {
    let (mut ratios, mut noise) = (Vec::new(), Vec::new());
    for pair in samples.windows(2) {
        let (before, after) = (value(&pair[0].0), value(&pair[1].0));
        noise.push(after / before);
        if let Some(with) = &pair[0].1 {
            ratios.push(value(with) / f64::midpoint(before, after));
        }
    }
    noise.sort_by(f64::total_cmp);
    let quarter = noise.len() / 4;
    let (low, high) = (noise[quarter], noise[noise.len() - 1 - quarter]);
    format!("**{:.3}** ({low:.3}–{high:.3})", median(ratios))
}

fn agent_rows(root: &Path, plan: &Plan, server: &Target, load: &Load, figures: &AgentFigures) -> Result<()> {
    println!(
        "| exec to ready, median of {} | {:.0} ms |",
        figures.ready_ms.len(),
        median(figures.ready_ms.clone())
    );
    let mut first = Vec::new();
    for _ in 0..plan.pairs {
        first.push(first_span_ms(root, server, load)?);
    }
    println!("| exec to first span on a busy server, median of {} | {:.0} ms |", first.len(), median(first));
    println!("| resident after a load, most | {:.1} MB |", figures.steady_bytes as f64 / 1e6);
    println!("| resident at the peak, most | {:.1} MB |", figures.peak_bytes as f64 / 1e6);
    println!("| memory of all BPF maps | {:.2} MB |", figures.map_bytes as f64 / 1e6);
    let (sent, spans, drops) = losses(root, plan, server, load)?;
    println!("| requests at saturation, spans printed as JSON | {sent} |");
    println!(
        "| of these without a span (negative: too many) | {} |",
        sent.cast_signed() - spans.cast_signed()
    );
    println!("| what Skep says it dropped | {drops} |");
    Ok(())
}

fn first_span_ms(root: &Path, server: &Target, load: &Load) -> Result<f64> {
    let load = Load { connections: 1, duration: Duration::from_secs(2), rate: Some(1000.0), ..load.clone() };
    let addr = server.addr;
    let busy = thread::spawn(move || load::drive(addr, &load));
    let mut agent = Agent::attach(root, server.pid(), "json")?;
    let after = agent.first_span_after();
    agent.stop()?;
    if busy.join().is_err() {
        bail!("the load generator died");
    }
    Ok(after?.as_secs_f64() * 1e3)
}

/// Every span goes through a pipe as JSON: a request counts as lost if its line does not come out.
fn losses(root: &Path, plan: &Plan, server: &Target, load: &Load) -> Result<(u64, u64, String)> {
    let mut agent = Agent::attach(root, server.pid(), "json")?;
    let mut stdout = agent.spans()?;
    let lines = thread::spawn(move || {
        let mut buffer = vec![0_u8; 1 << 20];
        let mut lines = 0_u64;
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            lines += buffer[..count].iter().filter(|&&byte| byte == b'\n').count() as u64;
        }
        lines
    });
    let load = Load { duration: plan.window * 2, ..load.clone() };
    let sent = load::drive(server.addr, &load)?.requests;
    let said = agent.stop()?;
    let drops =
        said.iter().rev().find_map(|line| Some(line.split_once("drops by stage/reason: ")?.1.to_owned()));
    match lines.join() {
        Ok(spans) => Ok((sent, spans, drops.unwrap_or_else(|| "not told".to_owned()))),
        Err(_) => bail!("the reader of the spans died"),
    }
}

/// What the store costs the agent, and a reader of the live stream on top, at a fixed rate.
fn views(root: &Path, plan: &Plan, server: &Target, load: &Load) -> Result<()> {
    let load = Load { duration: plan.window * 2, rate: Some(VIEWS_RATE), ..load.clone() };
    let keep = ["--keep".to_owned()];
    let cases: [(&str, &[String], bool); 3] =
        [("", &[], false), (", store", &keep, false), (", store and an open page", &keep, true)];
    let mut samples: [Vec<f64>; 3] = Default::default();
    let mut resident = [0_u64; 3];
    for _ in 0..plan.pairs.clamp(3, 5) {
        for (index, (_, flags, open)) in cases.iter().enumerate() {
            let agent = Agent::attach_with(root, server.pid(), "none", flags)?;
            let page = if *open { Some(open_page(agent.pid())?) } else { None };
            samples[index].extend(sample(server, &load, Some(agent.pid()))?.agent_ns);
            resident[index] = resident[index].max(process::memory_bytes(agent.pid(), "VmRSS")?);
            agent.stop()?;
            if let Some(page) = page {
                // It ends with the run.
                let _ = page.join();
            }
        }
    }
    for ((name, ..), (samples, resident)) in cases.iter().zip(samples.into_iter().zip(resident)) {
        let agent_ns = median(samples);
        println!(
            "| agent at {VIEWS_RATE:.0} requests/s{name}: CPU a request, of one core, resident | {:.2} µs, {:.1} %, {:.1} MB |",
            agent_ns / 1e3,
            agent_ns * VIEWS_RATE / 1e7,
            resident as f64 / 1e6
        );
    }
    Ok(())
}

/// A reader that does what the open overview does: takes the live stream as it comes.
fn open_page(agent: u32) -> Result<thread::JoinHandle<()>> {
    let path = format!("/run/skep/{agent}.sock");
    let mut stream = UnixStream::connect(&path).with_context(|| format!("connect to {path}"))?;
    stream.write_all(b"GET /api/v1/live?window=300 HTTP/1.1\r\nhost: skep\r\n\r\n")?;
    Ok(thread::spawn(move || {
        let mut buffer = vec![0_u8; 1 << 16];
        while let Ok(1..) = stream.read(&mut buffer) {}
    }))
}

/// A loop of getppid in this process, which nobody watches, without and with Skep on the server.
fn bystander(root: &Path, plan: &Plan, server: &Target) -> Result<()> {
    let (mut added, mut without, mut noise) = (Vec::new(), Vec::new(), Vec::new());
    getppid_ns();
    let mut before = getppid_ns();
    for _ in 0..plan.pairs.max(5) {
        let agent = Agent::attach(root, server.pid(), "none")?;
        let with = getppid_ns();
        agent.stop()?;
        let after = getppid_ns();
        added.push(with - f64::midpoint(before, after));
        noise.push((after - before).abs());
        without.push(after);
        before = after;
    }
    let noise = noise.iter().copied().fold(0.0, f64::max);
    println!(
        "| a syscall (getppid) of an unselected process, without | {:.0} ns |\n\
         | added to it while Skep watches another process | {:.0} ns (without − without: ≤ {noise:.0} ns) |",
        median(without),
        median(added),
    );
    Ok(())
}

fn getppid_ns() -> f64 {
    let begin = Instant::now();
    for _ in 0..BYSTANDER_CALLS {
        std::hint::black_box(rustix::process::getppid());
    }
    begin.elapsed().as_nanos() as f64 / f64::from(BYSTANDER_CALLS)
}

fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Kernel {}, {}, {cores} cores; {CONNECTIONS} connections.", kernel.trim(), std::env::consts::ARCH)
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}
