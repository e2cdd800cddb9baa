//! `cargo xtask demo`: real, uninstrumented services in whichever languages this machine has, and Skep on them.
//!
//! Sets up and builds what is missing, starts apps/targets, attaches `skep run --ui` to their pids, prints the page's
//! link, drives a little traffic, shows the picture of `skep top` and lets Skep end with its table. With `--shots` a
//! browser takes pictures of the page meanwhile. Everything that it started is ended by pid, on Ctrl-C too.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
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

pub(crate) fn run(root: &Path, seconds: u32, shots: Option<&Path>) -> Result<()> {
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

    if shots.is_some() {
        println!("    {}", setup::browser(root)?);
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

    println!("4/4 skep attaches, and sees them from outside");
    let mut skep = start_skep(root, &services, seconds)?;
    let outcome = watch(root, &mut skep, &services, seconds, shots);
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
        "Next: cargo xtask demo --seconds 3600                    the same, with time to look at the page"
    );
    println!(
        "      sudo target/release/skep run --ui --pid PID        any process of yours, nothing to prepare"
    );
    println!("      sudo target/release/skep top                       the same in the terminal");
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
    command.args(["run", "--ui", "--print", "none", "--summary", "--duration", &seconds.to_string()]);
    for service in services {
        command.args(["--pid", &service.pid().to_string()]);
    }
    command.stderr(Stdio::piped()).spawn().context("start target/release/skep")
}

/// Drives traffic from the moment Skep is ready until it ends, or Ctrl-C.
fn watch(
    root: &Path,
    skep: &mut Child,
    services: &[Target],
    seconds: u32,
    shots: Option<&Path>,
) -> Result<()> {
    let links = forward_stderr(skep)?;
    let patience = Instant::now() + Duration::from_secs(60);
    let link = loop {
        match links.recv_timeout(Duration::from_millis(10)) {
            Ok(link) => break link,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if targets::interrupted() || !matches!(skep.try_wait(), Ok(None)) {
            return Ok(());
        }
        if Instant::now() > patience {
            bail!("skep is not ready after a minute");
        }
    };
    println!("\n    Open  {link}\n    for {seconds} s, while traffic runs; Ctrl-C ends it sooner.\n");
    let requests = requests(services);
    let begin = Instant::now();
    // The last seconds belong to what is still on its way, and to the picture.
    let end = begin + Duration::from_secs(u64::from(seconds).saturating_sub(2));
    let pictures_at = begin + Duration::from_secs(u64::from(seconds) * 2 / 3);
    let mut pictures = None;
    for (addr, path) in requests.iter().cycle() {
        if targets::interrupted() || Instant::now() > end || !matches!(skep.try_wait(), Ok(None)) {
            break;
        }
        if let Some(folder) = shots
            && pictures.is_none()
            && Instant::now() > pictures_at
        {
            pictures = Some(take_pictures(root, &link, folder)?);
        }
        // A service that failed to answer shows as such in the figures.
        let _ = get(*addr, path);
        thread::sleep(PACE);
    }
    if !targets::interrupted() && matches!(skep.try_wait(), Ok(None)) {
        // The picture of `skep top`, for whoever has no browser.
        let mut top = setup::privileged(root.join("target/release/skep"));
        let _ = top.args(["top", "--once"]).stdin(Stdio::null()).status();
    }
    if let Some(mut pictures) = pictures {
        let status = pictures.wait().context("wait for the browser")?;
        if !status.success() {
            bail!("the browser took no pictures: {status}");
        }
    }
    let patience = Instant::now() + Duration::from_secs(15);
    while matches!(skep.try_wait(), Ok(None)) && Instant::now() < patience && !targets::interrupted() {
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A browser on the page, in the background: traffic goes on meanwhile.
fn take_pictures(root: &Path, link: &str, folder: &Path) -> Result<Child> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let folder = folder.canonicalize().with_context(|| format!("find {}", folder.display()))?;
    let mut node = Command::new("node");
    node.arg("shots.mjs")
        .current_dir(setup::browser_folder(root))
        .env("LINK", link)
        .env("CHROMIUM", setup::which("chromium").context("chromium is not installed")?)
        .env("SHOTS", folder);
    node.stdin(Stdio::null()).spawn().context("start node")
}

/// Passes Skep's log on and reports the link that it prints once capture is live.
fn forward_stderr(skep: &mut Child) -> Result<Receiver<String>> {
    let stderr = skep.stderr.take().context("skep's stderr")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            match line.split_once("page: ") {
                // Nobody listens once the traffic runs.
                Some((_, link)) => drop(sender.send(link.to_owned())),
                None => eprintln!("{line}"),
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
