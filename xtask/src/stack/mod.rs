//! `cargo xtask stack up|down|status|scenario N`: the demo's stack without Docker, with the very config files of deploy/.
//!
//! In: the programs that are on this machine or are built here. Out: their processes, each with a log and a folder under
//! target/stack, and what a scenario leaves in them. Names of parts lead to loopback addresses by a hosts file that only
//! the stack's own processes see (a mount namespace each), so that not a line of the configuration differs. A part
//! whose program is not here is left out and said so.

mod ask;
mod forward;
mod parts;
mod processes;
mod scenario;
mod webhook;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::setup;
use parts::{Build, PARTS, Part, Program, Ready};
use processes::Processes;

/// What can be done with the stack.
#[derive(Subcommand)]
pub(crate) enum Stack {
    /// Build what is missing, start all parts that are here, wait until they are ready
    Up,
    /// End all parts
    Down,
    /// Which parts run, and where to look
    Status,
    /// Drive one of the scenarios of README.md and show what it left where
    Scenario {
        /// 1 users, 2 albums, 3 load, 4 alerts
        number: u32,
    },
    /// Take what Alertmanager sends, for `up`
    #[command(hide = true)]
    Webhook {
        #[arg(long)]
        listen: String,
        #[arg(long)]
        file: PathBuf,
    },
    /// Run a program and hand its log to the Collector, for `up`
    #[command(hide = true)]
    Forward {
        #[arg(long)]
        tag: String,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// How long a part may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn run(root: &Path, stack: Stack) -> Result<ExitCode> {
    match stack {
        Stack::Webhook { listen, file } => webhook::serve(&listen, &file)?,
        Stack::Forward { tag, command } => return forward::run(&tag, &command),
        Stack::Up => up(root)?,
        Stack::Down => down(root)?,
        Stack::Status => status(root),
        Stack::Scenario { number } => return scenario::run(root, number),
    }
    Ok(ExitCode::SUCCESS)
}

fn folder(root: &Path) -> PathBuf {
    root.join("target/stack")
}

fn up(root: &Path) -> Result<()> {
    if !setup::is_root() {
        bail!("the stack attaches to processes and needs root: run this as root or with sudo");
    }
    build(root)?;
    let mut processes = Processes::open(&folder(root))?;
    let mut left_out = Vec::new();
    for part in &PARTS {
        if processes.is_running(part.name) {
            continue;
        }
        let Some(program) = program(root, part) else {
            left_out.push(part.name);
            continue;
        };
        prepare(root, part, &program)?;
        processes.start(root, part, &program)?;
        wait_until_ready(part, &processes)?;
        println!("{:17} ready", part.name);
    }
    status(root);
    if !left_out.is_empty() {
        println!("\nleft out, because their programs are not on this machine: {}", left_out.join(", "));
    }
    println!("\nnow: cargo xtask stack scenario 1   (… 4), and cargo xtask stack down");
    Ok(())
}

fn down(root: &Path) -> Result<()> {
    let mut processes = Processes::open(&folder(root))?;
    for part in PARTS.iter().rev() {
        if processes.end(part.name)? {
            println!("{:17} ended", part.name);
        }
    }
    Ok(())
}

fn status(root: &Path) {
    let Ok(processes) = Processes::open(&folder(root)) else { return };
    for part in &PARTS {
        let state = if processes.is_running(part.name) { "runs" } else { "-" };
        println!("{:17} {state:5} {}", part.name, part.page.unwrap_or_default());
    }
}

/// The program of a part, if there is one here.
fn program(root: &Path, part: &Part) -> Option<PathBuf> {
    match part.program {
        Program::Built(build) => Some(Part::built(root, part.name, build)).filter(|path| path.is_file()),
        Program::Found(name) => {
            let ours = root.join("target/tools/bin").join(name);
            if ours.is_file() { Some(ours) } else { setup::which(name) }
        }
        Program::Postgres => postgres("postgres"),
        Program::Myself => std::env::current_exe().ok(),
    }
}

/// A program of PostgreSQL's, which Debian keeps off PATH, one folder a version.
fn postgres(name: &str) -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    versions.into_iter().rev().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What a part needs before its first start.
fn prepare(root: &Path, part: &Part, program: &Path) -> Result<()> {
    let data = processes::data(&folder(root), part.name);
    fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
    if !matches!(part.program, Program::Postgres) || data.join("PG_VERSION").exists() {
        return Ok(());
    }
    // PostgreSQL refuses to run as root.
    let owner = Command::new("chown").arg("postgres:").arg(&data).status();
    if !owner.is_ok_and(|status| status.success()) {
        bail!("there is no user postgres: apt-get install postgresql");
    }
    let initdb = program.with_file_name("initdb");
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(initdb).arg("-D").arg(&data);
    command.args(["-A", "trust", "-U", "user"]).stdout(std::process::Stdio::null());
    let made = command.status().context("run initdb")?;
    if !made.success() {
        bail!("initdb in {}: {made}", data.display());
    }
    Ok(())
}

/// Waits; PostgreSQL then gets its database.
fn wait_until_ready(part: &Part, processes: &Processes) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let is_ready = || match part.ready {
        Ready::Http(_, path) => ask::get(&part.url(path)).is_ok_and(|(status, _)| status == 200),
        Ready::Tcp(port) => std::net::TcpStream::connect((part.address, port)).is_ok(),
    };
    while !is_ready() {
        if !processes.is_running(part.name) {
            bail!("{} ended at once: see {}", part.name, processes.log(part.name).display());
        }
        if Instant::now() > deadline {
            bail!(
                "{} is not ready after {PATIENCE:?}: see {}",
                part.name,
                processes.log(part.name).display()
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
    if matches!(part.program, Program::Postgres) {
        // It may be there from the last time.
        let mut create = Command::new("createdb");
        create.args(["-h", "127.0.0.1", "-U", "user", "db"]).stderr(std::process::Stdio::null());
        let _ = create.status();
    }
    Ok(())
}

/// Builds what this repository can build and has not built yet.
fn build(root: &Path) -> Result<()> {
    let cargo = || {
        let mut command = Command::new(setup::cargo());
        command.current_dir(root);
        command
    };
    run_step(
        "the services",
        cargo().args(["build", "--quiet", "--locked", "--manifest-path", "apps/Cargo.toml", "--workspace"]),
    )?;
    run_step("Skep", cargo().args(["build", "--quiet", "--locked", "--release", "--package", "skep"]))?;
    if !setup::on_path("go") {
        bail!("golang-app needs Go: apt-get install golang-go");
    }
    run_step(
        "golang-app",
        go(root, "apps/golang-app", &Part::built(root, "golang-app", Build::Go)).as_mut(),
    )?;
    let collector = Part::built(root, "", Build::Collector);
    if !collector.is_file() {
        println!("building the Collector from its Go modules: about ten minutes, once");
        run_step("the Collector", go(root, "apps/stack-collector", &collector).as_mut())?;
    }
    Ok(())
}

fn go(root: &Path, folder: &str, output: &Path) -> Box<Command> {
    let mut command = Command::new("go");
    command.current_dir(root.join(folder)).env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    command.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(output).arg(".");
    Box::new(command)
}

fn run_step(what: &str, command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("build {what}"))?;
    if status.success() { Ok(()) } else { bail!("build {what}: {status}") }
}
