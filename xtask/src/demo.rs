//! `cargo xtask demo`: real, uninstrumented services in whichever languages this machine has, and Skep on them.
//!
//! Sets up and builds what is missing, starts apps/targets, attaches `skep run` to their pids, drives a little traffic
//! so that spans scroll by, and lets Skep end with its table. Everything that it started is ended by pid, on Ctrl-C too.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::check::cargo;
use crate::setup;
use crate::targets::{self, Target};

const TARGETS: [&str; 7] = ["go", "python-http", "python-wsgi", "python-asgi", "node", "java", "rust"];

/// One request about every so often: slow enough to read along.
const PACE: Duration = Duration::from_millis(60);

pub(crate) fn run(root: &Path, seconds: u32) -> Result<()> {
    if let Some(reason) = setup::no_privileges() {
        bail!("{reason}");
    }
    println!("1/4 what is needed");
    println!("    kernel programs: {}", setup::kernel_toolchain(root)?);
    for runtime in &setup::RUNTIMES {
        if let Err(error) = setup::program(runtime) {
            println!("    left out: {error:#}");
        }
    }

    println!("2/4 target/release/skep");
    let mut build = cargo(root);
    let built = build.args(["build", "--release", "--locked", "--package", "skep"]).status();
    if !built.context("run cargo")?.success() {
        bail!("skep does not build");
    }

    println!("3/4 services without any instrumentation");
    targets::catch_interrupts();
    let services = start_services(root);
    if services.is_empty() {
        bail!("no service could be started: `cargo xtask setup` says what is missing");
    }

    println!("4/4 skep attaches; every line is a span, seen from outside the process");
    let mut skep = start_skep(root, &services, seconds)?;
    let outcome = watch(&mut skep, &services, seconds);
    if matches!(skep.try_wait(), Ok(None)) {
        // It flushes, detaches and prints its table.
        targets::end(&mut skep, Signal::TERM, Duration::from_secs(10));
    }
    drop(services);
    outcome?;
    let status = skep.wait().context("wait for skep")?;
    if !status.success() {
        bail!("skep ended with {status}: `target/release/skep check` says what this machine allows");
    }
    println!();
    println!(
        "Next: sudo target/release/skep run --pid PID           any process of yours, nothing to prepare"
    );
    println!("      sudo target/release/skep run --port 8080 --summary --print json | jq .name");
    Ok(())
}

fn start_services(root: &Path) -> Vec<Target> {
    let mut services: Vec<Target> = Vec::new();
    for name in TARGETS.into_iter().chain(["nginx"]) {
        if targets::interrupted() {
            break;
        }
        // nginx passes calls on to Flask, if that runs, so that a request crosses three services.
        let upstream = upstream(&services);
        match targets::start(root, name, upstream) {
            Ok(target) => {
                println!("    {name:<12} pid {:<8} http://{}", target.pid(), target.addr);
                services.push(target);
            }
            Err(error) => println!("    {name:<12} left out: {error:#}"),
        }
    }
    services
}

fn upstream(services: &[Target]) -> Option<SocketAddr> {
    let wsgi = services.iter().find(|service| service.name == "python-wsgi");
    wsgi.or(services.first()).map(|service| service.addr)
}

fn start_skep(root: &Path, services: &[Target], seconds: u32) -> Result<Child> {
    let mut command = setup::privileged(root.join("target/release/skep"));
    command.args(["run", "--print", "text", "--summary", "--duration", &seconds.to_string()]);
    for service in services {
        command.args(["--pid", &service.pid().to_string()]);
    }
    command.stderr(Stdio::piped()).spawn().context("start target/release/skep")
}

/// Drives traffic from the moment Skep is ready until it ends, or Ctrl-C.
fn watch(skep: &mut Child, services: &[Target], seconds: u32) -> Result<()> {
    let ready = forward_stderr(skep)?;
    let patience = Instant::now() + Duration::from_secs(60);
    while ready.try_recv() == Err(mpsc::TryRecvError::Empty) {
        if targets::interrupted() || !matches!(skep.try_wait(), Ok(None)) {
            return Ok(());
        }
        if Instant::now() > patience {
            bail!("skep is not ready after a minute");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let requests = requests(services);
    // The last second belongs to what is still on its way.
    let end = Instant::now() + Duration::from_secs(u64::from(seconds).saturating_sub(1));
    for (addr, path) in requests.iter().cycle() {
        if targets::interrupted() || Instant::now() > end || !matches!(skep.try_wait(), Ok(None)) {
            break;
        }
        // A service that failed to answer shows as such in the spans.
        let _ = get(*addr, path);
        thread::sleep(PACE);
    }
    let patience = Instant::now() + Duration::from_secs(15);
    while matches!(skep.try_wait(), Ok(None)) && Instant::now() < patience && !targets::interrupted() {
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Passes Skep's log on and reports the line that says that capture is live.
fn forward_stderr(skep: &mut Child) -> Result<Receiver<()>> {
    let stderr = skep.stderr.take().context("skep's stderr")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("{line}");
            if line.contains("ready") {
                // Nobody listens once the traffic runs.
                let _ = sender.send(());
            }
        }
    });
    Ok(receiver)
}

/// A round of requests: every service, several routes, an error or two, and calls from one service to the next.
fn requests(services: &[Target]) -> Vec<(SocketAddr, String)> {
    let mut round = Vec::new();
    for turn in 0..4 {
        for (index, service) in services.iter().enumerate() {
            let next = services[(index + 1) % services.len()].addr;
            let path = match (turn, service.name) {
                (0, _) => format!("/users/{}", 17 + index),
                (1, "nginx") => format!("/call/call?url=http://{}/hello/nginx", services[0].addr),
                (1, _) => format!("/call?url=http://{next}/hello/{}", service.name),
                (2, "nginx") => "/".to_owned(),
                (2, _) => format!("/work?us={}", 500 * (index + 1)),
                (_, _) if index == 0 => "/status/500".to_owned(),
                (_, _) => "/status/404".to_owned(),
            };
            round.push((service.addr, path));
        }
    }
    round
}

fn get(addr: SocketAddr, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: skep-demo\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    Ok(())
}
